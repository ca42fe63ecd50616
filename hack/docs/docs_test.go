package main

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const root = "../.."

func TestPagesAreUpToDate(t *testing.T) {
	for name, page := range pages {
		want, err := page(root)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(root, "docs", name))
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, string(got)); diff != "" {
			t.Errorf("docs/%s is out of date; run `make generate`\n%s", name, diff)
		}
	}
}

// TestReasonsAreTold: a reason without a name, a meaning or a mend is one that
// somebody meets at night and finds nothing about.
func TestReasonsAreTold(t *testing.T) {
	count := 0
	for _, file := range reasonFiles {
		sections, err := reasonsOf(filepath.Join(root, file))
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		for _, s := range sections {
			count += len(s.reasons)
		}
	}
	if count < 70 {
		t.Errorf("found only %d reasons", count)
	}
	undocumented := filepath.Join(t.TempDir(), "undocumented.go")
	if err := os.WriteFile(undocumented, []byte("package x\n\nconst (\n\t// ReasonX: it is so.\n\tReasonX = \"X\"\n)\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := reasonsOf(undocumented); err == nil {
		t.Error("a constant without a mend is taken")
	}
}
