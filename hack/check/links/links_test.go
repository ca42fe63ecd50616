package links

import (
	"strings"
	"testing"
	"testing/fstest"
)

// site has a page with the link, and something to link to.
func site(link string) fstest.MapFS {
	return fstest.MapFS{
		"README.md":           {Data: []byte("# It\n\n[here](" + link + ")\n\n    [not](a-link.md)\n\n`[nor](this.md)`\n")},
		"docs/page.md":        {Data: []byte("# A page\n\n## Who, and `why`?\n\n## Twice\n\ntext\n\n## Twice\n\nback to [it](../README.md#it)\n")},
		"docs/picture.svg":    {Data: []byte("<svg/>")},
		"bin/notes.md":        {Data: []byte("[what others wrote](nowhere.md)")},
		".git/description.md": {Data: []byte("[nor that](nowhere.md)")},
	}
}

func TestCheck(t *testing.T) {
	tests := []struct {
		why, link string
		want      string // words of the problem; none if there is none
	}{
		{"a page", "docs/page.md", ""},
		{"a folder", "docs", ""},
		{"a picture", "docs/picture.svg", ""},
		{"a heading of the page itself", "#it", ""},
		{"a heading with marks in it", "docs/page.md#who-and-why", ""},
		{"the second heading of the same words", "docs/page.md#twice-1", ""},
		{"another site", "https://example.com/a#b", ""},
		{"a mailbox", "mailto:someone@example.com", ""},

		{"no such page", "docs/pages.md", "README.md: link to docs/pages.md: there is no docs/pages.md"},
		{"no such heading", "docs/page.md#which", `docs/page.md has no heading "which"; it has a-page, who-and-why, twice, twice-1`},
		{"no such heading here", "#that", `README.md has no heading "that"`},
		{"a heading of what has none", "docs/picture.svg#a", `docs/picture.svg has no heading "a"`},
		{"out of the repository", "../other/README.md", "it leads out of the repository"},
		{"from the root of a site", "/docs/page.md", ""},
		{"no host", "https:///page", "it names no host"},
		{"a scheme that no browser opens", "htps://example.com", "write https://"},
		{"not a URL", "https://exa%zzmple.com", "invalid URL escape"},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			got, err := Check(site(tt.link))
			if err != nil {
				t.Fatal(err)
			}
			switch {
			case tt.want == "" && len(got) > 0:
				t.Errorf("got %q, want nothing", got)
			case tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)):
				t.Errorf("got %q, want one with %q", got, tt.want)
			}
		})
	}
}

func TestCheckOfNothing(t *testing.T) {
	if _, err := Check(fstest.MapFS{"README.txt": {}}); err == nil {
		t.Error("a tree without Markdown is fine")
	}
}
