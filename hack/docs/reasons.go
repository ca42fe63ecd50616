package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// reasonFiles are where reasons are defined.
var reasonFiles = []string{"internal/lb/reason.go", "api/v1alpha1/names.go"}

// reason is a documented constant.
type reason struct {
	constant, name   string
	on, meaning, fix string
}

// section is a block of constants.
type section struct {
	title   string
	reasons []reason
}

// reasonsPage returns docs/reasons.md.
func reasonsPage(root string) (string, error) {
	var out strings.Builder
	out.WriteString(`# Reasons

What the reasons of conditions and events mean, and what to do about each. Written by ` + "`make generate`" + ` from the constants
in [internal/lb/reason.go](../internal/lb/reason.go) and [api/v1alpha1/names.go](../api/v1alpha1/names.go).

A condition's message has the particulars: which pool, which node, which field.
`)
	for _, file := range reasonFiles {
		sections, err := reasonsOf(filepath.Join(root, file))
		if err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		for _, s := range sections {
			s.write(&out)
		}
	}
	return out.String(), nil
}

// write writes a table. What all of its reasons are on is said once, above it.
func (s section) write(out *strings.Builder) {
	fmt.Fprintf(out, "\n## %s\n\n", s.title)
	on, column, rule := s.reasons[0].on, "", ""
	if slices.ContainsFunc(s.reasons, func(r reason) bool { return r.on != on }) {
		column, rule = " on |", "---|"
	} else {
		fmt.Fprintf(out, "On: %s.\n\n", on)
	}
	fmt.Fprintf(out, "| reason |%s what it means | what to do |\n|---|---|---|%s\n", column, rule)
	for _, r := range s.reasons {
		if column != "" {
			column = " " + r.on + " |"
		}
		fmt.Fprintf(out, "| `%s` |%s %s | %s |\n", r.name, column, r.meaning, r.fix)
	}
}

// reasonsOf returns the blocks of reasons in a Go file.
func reasonsOf(file string) (out []section, err error) {
	f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
	if err != nil {
		return nil, err
	}
	names := namesOf(f)
	for _, d := range f.Decls {
		g, ok := d.(*ast.GenDecl)
		if !ok || g.Tok != token.CONST {
			continue
		}
		s := section{title: strings.TrimSuffix(sentence(g.Doc), ".")}
		for _, spec := range g.Specs {
			v := spec.(*ast.ValueSpec)
			if id := v.Names[0].Name; strings.HasPrefix(id, "Reason") || strings.HasPrefix(id, "Event") {
				r, err := reasonOf(v, names, paragraph(g.Doc, "On:"))
				if err != nil {
					return nil, fmt.Errorf("%s: %w", id, err)
				}
				s.reasons = append(s.reasons, r)
			}
		}
		if len(s.reasons) > 0 {
			out = append(out, s)
		}
	}
	return out, nil
}

// namesOf returns the names that a map in the file gives constants.
func namesOf(f *ast.File) map[string]string {
	out := map[string]string{}
	ast.Inspect(f, func(n ast.Node) bool {
		if kv, ok := n.(*ast.KeyValueExpr); ok {
			id, isIdent := kv.Key.(*ast.Ident)
			value, isLiteral := kv.Value.(*ast.BasicLit)
			if isIdent && isLiteral {
				out[id.Name], _ = strconv.Unquote(value.Value)
			}
		}
		return true
	})
	return out
}

// reasonOf reads one constant. on is what its block says.
func reasonOf(v *ast.ValueSpec, names map[string]string, on string) (reason, error) {
	r := reason{constant: v.Names[0].Name, on: paragraph(v.Doc, "On:"), fix: paragraph(v.Doc, "Fix:")}
	r.meaning = paragraph(v.Doc, r.constant+":")
	r.name = names[r.constant]
	if len(v.Values) == 1 {
		if literal, ok := v.Values[0].(*ast.BasicLit); ok {
			r.name, _ = strconv.Unquote(literal.Value)
		}
	}
	if r.on == "" {
		r.on = on
	}
	for what, text := range map[string]string{"name": r.name, "meaning": r.meaning, `"On:"`: r.on, `"Fix:"`: r.fix} {
		if text == "" {
			return r, fmt.Errorf("it has no %s; write a comment as the others have", what)
		}
	}
	return r, nil
}

// paragraph returns the paragraph of a comment that begins with a word, without
// that word and in one line.
func paragraph(doc *ast.CommentGroup, begin string) string {
	for p := range strings.SplitSeq(doc.Text(), "\n\n") {
		if text, ok := strings.CutPrefix(p, begin); ok {
			return strings.ReplaceAll(strings.Join(strings.Fields(text), " "), "|", `\|`)
		}
	}
	return ""
}

// sentence returns the first sentence of a comment.
func sentence(doc *ast.CommentGroup) string {
	text := strings.Join(strings.Fields(doc.Text()), " ")
	if n := strings.Index(text, ". "); n >= 0 {
		text = text[:n]
	}
	text, _, _ = strings.Cut(text, " On:")
	return text
}
