package layers

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// parsers of text that people wrote: each entry says for whom.
var mayParse = map[string]string{
	"internal/kube/compat.go":          "what earlier versions wrote for people; there are fields now",
	"internal/plugin/importer/glob.go": "patterns in another load balancer's configuration",
}

// TestNoProseIsReadBack: what Fairlead writes for people (messages of conditions, notes of
// events) no program of Fairlead takes apart. There are fields for programs.
func TestNoProseIsReadBack(t *testing.T) {
	files := 0
	for _, root := range []string{"../../internal", "../../cmd"} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			name := strings.TrimPrefix(path, "../../")
			files++
			set := token.NewFileSet()
			f, err := parser.ParseFile(set, path, nil, parser.SkipObjectResolution)
			if err != nil {
				return err
			}
			if mayParse[name] == "" {
				for _, p := range prose(f) {
					t.Errorf("%s: %s; put what the program needs into a field", set.Position(p.pos), p.what)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if files < 100 {
		t.Fatalf("found only %d files", files)
	}
}

type parsed struct {
	pos  token.Pos
	what string
}

// prose returns where a file takes text for people apart: by regular expressions, by
// scanning, or by looking into a field called Message or Note.
func prose(f *ast.File) (found []parsed) {
	for _, i := range f.Imports {
		if i.Path.Value == `"regexp"` {
			found = append(found, parsed{i.Pos(), "regular expressions"})
		}
	}
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok {
			return true
		}
		function, ok := call.Fun.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		switch of, _ := function.X.(*ast.Ident); {
		case of == nil:
		case of.Name == "fmt" && strings.HasPrefix(function.Sel.Name, "Sscan"):
			found = append(found, parsed{call.Pos(), "fmt." + function.Sel.Name})
		case of.Name == "strings" && !slices.Contains([]string{"Join", "TrimSpace"}, function.Sel.Name) && slices.ContainsFunc(call.Args, forPeople):
			found = append(found, parsed{call.Pos(), "strings." + function.Sel.Name + " of a message"})
		}
		return true
	})
	return found
}

// forPeople reports whether the expression has a field of text for people in it.
func forPeople(e ast.Expr) (is bool) {
	ast.Inspect(e, func(n ast.Node) bool {
		s, ok := n.(*ast.SelectorExpr)
		is = is || ok && (s.Sel.Name == "Message" || s.Sel.Name == "Note")
		return !is
	})
	return is
}

func TestProseIsFound(t *testing.T) {
	const source = `package p
import ("fmt"; "regexp"; "strings")
func f() {
	fmt.Sscanf(s, "%d", &n)
	strings.Contains(c.Message, "x")
	strings.Cut(e.Note+" ", "x")
	strings.Contains(s, "x")
	fmt.Sprint(c.Message)
}`
	f, err := parser.ParseFile(token.NewFileSet(), "p.go", source, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range prose(f) {
		got = append(got, p.what)
	}
	if want := []string{"regular expressions", "fmt.Sscanf", "strings.Contains of a message", "strings.Cut of a message"}; !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
