package main

import (
	"os"
	"path/filepath"
	"strings"
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

// TestReasonsAreTold: a reason without a name, a meaning or a fix is one that
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
		t.Error("a constant without a fix is taken")
	}
}

// TestFieldsAreTold: a field that only its name explains is not in the reference.
func TestFieldsAreTold(t *testing.T) {
	told := field{Type: "integer", Description: "size is\nhow large | wide it is. Default: 3, as many.", Minimum: new(float64)}
	tests := []struct {
		why    string
		fields map[string]field
		want   string
		err    string
	}{
		{"words and bounds", map[string]field{"size": told}, "| `spec.size` | integer | 3, as many | at least 0 | size is how large \\| wide it is. |\n", ""},
		{"what is in a list", map[string]field{"a": {Type: "array", Description: "a is more.", Items: &field{Type: "object", Properties: map[string]field{"size": told}}}},
			"| `spec.a` | list of objects |  |  | a is more. |\n| `spec.a[].size` | integer | 3, as many | at least 0 | size is how large \\| wide it is. |\n", ""},
		{"no comment", map[string]field{"size": {Type: "integer"}}, "", "spec.size has no description"},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			var out strings.Builder
			err := field{Properties: tt.fields}.writeFields(&out, "spec")
			if (err != nil) != (tt.err != "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
