package main

import (
	"cmp"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
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
		if diff := gocmp.Diff(want, string(got)); diff != "" {
			t.Errorf("docs/%s is out of date; run `make generate`\n%s", name, diff)
		}
	}
}

// fine are the reasons about which there is nothing to do: they say how it is, or end by
// themselves.
var fine = []string{
	"Assigned", "Kept", "LowestFree", "FreedLongest", "Named", "Shared", "Claimed", "Announced", "NodeLeaving",
	"Accepted", "Established", "Announcing", "Stopping", "Valid", "Moving", "Moved", "Healthy", "ChecksPassed", "InSync", "Released", "Retiring", "Bound", "Reserved",
}

// Every reason that is declared has one entry in the tables, with a meaning and, unless there
// is nothing to do, a fix: an operator may meet any of them at night.
func TestEveryReasonIsInATable(t *testing.T) {
	entries := map[string]int{}
	for _, s := range slices.Concat(lb.ReasonSections(), kube.ReasonSections) {
		for _, r := range s.Reasons {
			entries[r.Name]++
			if r.Meaning == "" || cmp.Or(r.On, s.On) == "" || strings.HasSuffix(r.Meaning, ".") || strings.HasSuffix(r.Fix, ".") {
				t.Errorf("%s: what it is on, or its meaning, is missing, or a text ends with a full stop: %+v", r.Name, r)
			}
			if (r.Fix == "") != slices.Contains(fine, r.Name) {
				t.Errorf("%s: the fix is %q", r.Name, r.Fix)
			}
		}
	}
	declared := map[string]int{}
	for _, d := range constants(t, "internal/lb/reason.go") {
		declared[d.name]++
	}
	inLB := map[string]bool{}
	for r := lb.Reason(1); r != 0; r++ { // it is a byte
		if name := r.Text().Name; name != "" {
			inLB[name] = true
		}
	}
	if len(inLB) != len(declared) {
		t.Errorf("%d reasons are declared in package lb, and %d have an entry", len(declared), len(inLB))
	}
	for _, d := range constants(t, "api/v1alpha1/names.go") {
		if entries[d.value] == 0 {
			t.Errorf("%s has no entry", d.name)
		}
	}
	if len(entries) < 70 {
		t.Errorf("found only %d reasons", len(entries))
	}
}

type constant struct{ name, value string }

// constants returns the constants of a Go file that are reasons of conditions or events.
func constants(t *testing.T, file string) (out []constant) {
	f, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, file), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	ast.Inspect(f, func(n ast.Node) bool {
		v, ok := n.(*ast.ValueSpec)
		if !ok || !strings.HasPrefix(v.Names[0].Name, "Reason") && !strings.HasPrefix(v.Names[0].Name, "Event") {
			return true
		}
		c := constant{name: v.Names[0].Name}
		if len(v.Values) == 1 {
			if literal, ok := v.Values[0].(*ast.BasicLit); ok {
				c.value, _ = strconv.Unquote(literal.Value)
			}
		}
		out = append(out, c)
		return true
	})
	return out
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
			if diff := gocmp.Diff(tt.want, out.String()); diff != "" {
				t.Error(diff)
			}
		})
	}
}
