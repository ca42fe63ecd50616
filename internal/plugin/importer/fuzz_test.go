package importer

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzImport: whatever is in a user's files, nothing worse than an error comes of it,
// and what comes out can be read.
func FuzzImport(f *testing.F) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, input := range inputs {
		b, err := os.ReadFile(input)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(b))
		for doc := range strings.SplitSeq(string(b), "\n---\n") {
			f.Add(doc)
		}
	}
	f.Fuzz(func(t *testing.T, text string) {
		objects, err := readObjects(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, s := range systems {
			if s.check(objects) != nil {
				continue
			}
			var out bytes.Buffer
			result := s.translate(objects, "fairlead-system")
			if err := result.write(&out, s, true); err != nil {
				t.Fatalf("%s: %v", s.name, err)
			}
			if _, err := readObjects(&out); err != nil {
				t.Fatalf("%s: what comes out cannot be read: %v\n%s", s.name, err, out.String())
			}
		}
	})
}
