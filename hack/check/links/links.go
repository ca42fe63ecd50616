// Package links finds links in Markdown that lead nowhere. A page that sends its
// reader to what was renamed a year ago is worse than one that says nothing.
package links

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path"
	"slices"
	"strings"
	"unicode"

	"github.com/yuin/goldmark"
	"github.com/yuin/goldmark/ast"
	"github.com/yuin/goldmark/extension"
	"github.com/yuin/goldmark/text"
)

// page is what of a Markdown file is of interest.
type page struct {
	anchors []string
	links   []string
}

// Check returns a line for each link of a Markdown file in the tree that leads
// nowhere: to a file or a heading that is not there, or to what is no URL. Other
// sites are not asked, as there may be no network.
func Check(tree fs.FS) (problems []string, err error) {
	pages, err := read(tree)
	if err != nil {
		return nil, err
	}
	for name, p := range pages {
		for _, link := range p.links {
			if err := follow(tree, pages, name, link); err != nil {
				problems = append(problems, fmt.Sprintf("%s: link to %s: %v", name, link, err))
			}
		}
	}
	slices.Sort(problems)
	return problems, nil
}

// read reads all Markdown files but those of what is built or hidden.
func read(tree fs.FS) (map[string]page, error) {
	pages := map[string]page{}
	err := fs.WalkDir(tree, ".", func(name string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (name == "bin" || strings.HasPrefix(name, ".") && name != "."):
			return fs.SkipDir
		case d.IsDir() || path.Ext(name) != ".md":
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		pages[name] = parse(source)
		return err
	})
	if err == nil && len(pages) == 0 {
		err = errors.New("there is no Markdown file")
	}
	return pages, err
}

func parse(source []byte) (p page) {
	root := goldmark.New(goldmark.WithExtensions(extension.GFM)).Parser().Parse(text.NewReader(source))
	ast.Walk(root, func(n ast.Node, entering bool) (ast.WalkStatus, error) { //nolint:errcheck // ours returns none
		if !entering {
			return ast.WalkContinue, nil
		}
		switch n := n.(type) {
		case *ast.Heading:
			p.anchors = append(p.anchors, anchor(words(n, source), p.anchors))
		case *ast.Link:
			p.links = append(p.links, string(n.Destination))
		case *ast.Image:
			p.links = append(p.links, string(n.Destination))
		case *ast.AutoLink:
			p.links = append(p.links, string(n.URL(source)))
		}
		return ast.WalkContinue, nil
	})
	return p
}

// words returns the text of a node without its marks.
func words(n ast.Node, source []byte) string {
	var out strings.Builder
	for c := n.FirstChild(); c != nil; c = c.NextSibling() {
		if t, ok := c.(*ast.Text); ok {
			out.Write(t.Segment.Value(source))
		} else {
			out.WriteString(words(c, source))
		}
	}
	return out.String()
}

// anchor returns what GitHub calls a heading, in a page that has some already.
func anchor(heading string, taken []string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r == ' ':
			return '-'
		case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
			return unicode.ToLower(r)
		}
		return -1
	}, heading)
	unique := name
	for n := 1; slices.Contains(taken, unique); n++ {
		unique = fmt.Sprintf("%s-%d", name, n)
	}
	return unique
}

// follow says why a link of a page leads nowhere, or nothing if it does not.
func follow(tree fs.FS, pages map[string]page, from, link string) error {
	u, err := url.Parse(link)
	if err != nil {
		return err
	}
	if u.Scheme != "" || u.Host != "" {
		return elsewhere(u)
	}
	to := from
	if u.Path != "" {
		to = path.Join(path.Dir(from), u.Path)
	}
	if !fs.ValidPath(to) {
		return errors.New("it leads out of the repository")
	}
	if _, err := fs.Stat(tree, to); err != nil {
		return fmt.Errorf("there is no %s", to)
	}
	if u.Fragment != "" && !slices.Contains(pages[to].anchors, u.Fragment) {
		return fmt.Errorf("%s has no heading %q; it has %s", to, u.Fragment, strings.Join(pages[to].anchors, ", "))
	}
	return nil
}

func elsewhere(u *url.URL) error {
	switch {
	case u.Scheme == "mailto" && strings.Contains(u.Opaque, "@"):
		return nil
	case u.Scheme != "https" && u.Scheme != "http":
		return fmt.Errorf("%q is no scheme for a page; write https://", u.Scheme)
	case u.Hostname() == "":
		return errors.New("it names no host")
	}
	return nil
}
