package importer

import (
	"bytes"
	"context"
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

var update = flag.Bool("update", false, "write the golden files again")

// run runs the command as a user does.
func run(t *testing.T, stdin string, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	flags := genericclioptions.NewConfigFlags(true)
	c := Command(flags, genericiooptions.IOStreams{In: strings.NewReader(stdin), Out: &out, ErrOut: &out})
	flags.AddFlags(c.PersistentFlags())
	c.SetArgs(args)
	c.SetOut(&out)
	c.SetErr(&out)
	err := c.ExecuteContext(context.Background())
	return out.String(), err
}

// What comes out of these files is in the golden files beside them. That an API
// server takes it is for test/e2e to show.
func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for _, input := range inputs {
		if strings.HasSuffix(input, ".golden.yaml") {
			continue
		}
		n++
		name := strings.TrimSuffix(filepath.Base(input), ".yaml")
		t.Run(name, func(t *testing.T) {
			got, err := run(t, "", systemOf(t, name), "--passwords", "-f", input)
			if err != nil {
				t.Fatal(err)
			}
			golden := strings.TrimSuffix(input, ".yaml") + ".golden.yaml"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(got, "\n")); diff != "" {
				t.Errorf("not what %s says; look at it, and if it is meant run this with -update\n%s", golden, diff)
			}
		})
	}
	if n < 3 {
		t.Errorf("found only %d inputs", n)
	}
}

func systemOf(t *testing.T, file string) string {
	for _, s := range systems {
		if strings.HasPrefix(file, s.command+"-") {
			return s.command
		}
	}
	t.Fatalf("%s begins with no system's name", file)
	return ""
}

func TestPasswordsAreNotPrintedUnasked(t *testing.T) {
	got, err := run(t, "", "metallb", "-f", "testdata/metallb-everything.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range []string{"c2VjcmV0", "secret\n", "hunter2", "aHVudGVyMg"} {
		if strings.Contains(got, word) {
			t.Errorf("%q is in\n%s", word, got)
		}
	}
	if !strings.Contains(got, "# Secret fairlead-system/tor-a is not printed") {
		t.Errorf("it does not say that a Secret is left out:\n%s", got)
	}
}

func TestRefusals(t *testing.T) {
	pool := func(namespace string) string {
		return "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {name: lan, namespace: " + namespace + "}\nspec: {addresses: [192.0.2.0/24]}\n"
	}
	tests := []struct {
		why   string
		stdin string
		args  []string
		want  []string
	}{
		{"nothing of the system", "kind: ConfigMap\napiVersion: v1\nmetadata: {name: other}\n", []string{"kube-vip", "-f", "-"}, []string{"nothing of kube-vip is in -"}},
		{"no YAML", "a: [", []string{"metallb", "-f", "-"}, []string{"-: document 1:"}},
		{"no object", "a: 1", []string{"metallb", "-f", "-"}, []string{"-: document 1: it has no kind"}},
		{"no such file", "", []string{"metallb", "-f", "testdata/absent"}, []string{"testdata/absent"}},
		{"two MetalLBs", pool("one") + "---\n" + pool("two"), []string{"metallb", "-f", "-"}, []string{"namespaces one, two", "--namespace"}},
		{"neither of them", pool("one") + "---\n" + pool("two"), []string{"metallb", "-f", "-", "-n", "three"}, []string{"nothing of MetalLB is in -"}},
	}
	for _, test := range tests {
		t.Run(test.why, func(t *testing.T) {
			_, err := run(t, test.stdin, test.args...)
			if err == nil {
				t.Fatal("no error")
			}
			for _, w := range test.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("%q is not in %q", w, err)
				}
			}
		})
	}
	if got, err := run(t, pool("one")+"---\n"+pool("two"), "metallb", "-f", "-", "-n", "two"); err != nil || strings.Contains(got, "one/lan") || !strings.Contains(got, "two/lan") {
		t.Errorf("with -n two: %v\n%s", err, got)
	}
}

// objects parses YAML.
func objects(t *testing.T, text string) []unstructured.Unstructured {
	t.Helper()
	out, err := readObjects(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestGlobs(t *testing.T) {
	tests := []struct {
		expression string
		want       []string // nil: none
	}{
		{"^eth0$", []string{"eth0"}},
		{"^eth0", []string{"eth0*"}},
		{"eth0$", []string{"*eth0"}},
		{"eth", []string{"*eth*"}},
		{"", []string{"*"}},
		{".*", []string{"*"}},
		{"^en.*$", []string{"en*"}},
		{"^en.+$", []string{"en?*"}},
		{"^eth.$", []string{"eth?"}},
		{"^eth[0-9]$", []string{"eth[0-9]"}},
		{"^eth[0-9]+", []string{"eth[0-9]*"}},
		{"^eth[0-9]*", []string{"eth*"}},
		{"^eth[0-9]+$", []string{"eth[0-9]", "eth[0-9][0-9]", "eth[0-9][0-9][0-9]"}},
		{"^e[a-z]*$", []string{"e", "e[a-z]", "e[a-z][a-z]", "e[a-z][a-z][a-z]"}},
		{`^eth0\.100$`, []string{"eth0.100"}},
		{"^(eth|en)0$", nil},
		{"^eth0?$", nil},
		{`^eth\d+$`, nil},
		{"^eth[0-9]{2}$", nil},
		{"^eth0|en0$", nil},
		{"^" + strings.Repeat("[0-9]*", 20) + "$", nil},
	}
	for _, test := range tests {
		got, ok := globs(test.expression)
		if ok != (test.want != nil) || !slices.Equal(got, test.want) {
			t.Errorf("globs(%q) = %q, %t; want %q", test.expression, got, ok, test.want)
		}
	}
}

func TestPeersOn(t *testing.T) {
	got, err := run(t, "", "metallb", "-f", "testdata/metallb-everything.yaml", "--peers-on", "moved=yes")
	if err != nil {
		t.Fatal(err)
	}
	const only = "    - key: moved\n      operator: In\n      values:\n      - \"yes\"\n"
	if n := strings.Count(got, only); n != 3 {
		t.Errorf("%d peers are kept to the nodes, want all 3, in\n%s", n, got)
	}
	if !strings.Contains(got, only+"    matchLabels:\n      kubernetes.io/hostname: n1\n") {
		t.Errorf("what a peer selects by is lost in\n%s", got)
	}
	if _, err := run(t, "", "metallb", "-f", "testdata/metallb-everything.yaml", "--peers-on", "moved"); err == nil || !strings.Contains(err.Error(), "--peers-on") {
		t.Errorf("of a label without a value: %v", err)
	}
}

// TestNamesDoNotEndComments: a name may be anything in a file.
func TestNamesDoNotEndComments(t *testing.T) {
	evil := `{apiVersion: metallb.io/v1beta1, kind: IPAddressPool, metadata: {name: "x\nkind: Secret\r\u2028y"}, spec: {}}`
	got, err := run(t, evil, "metallb", "-f", "-")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(got) {
		if !strings.HasPrefix(line, "#") && line != "---\n" {
			t.Errorf("%q is no comment, in\n%s", line, got)
		}
	}
}

func TestAliasNames(t *testing.T) {
	for s, want := range map[string]string{
		"backup": "backup", "Backup_Path": "backup-path", "80": "c-80", "no-export": "no-export-alias", "-x-": "x", "ä": "c", "": "c",
	} {
		if got := aliasName(s); got != want {
			t.Errorf("aliasName(%q) = %q, want %q", s, got, want)
		}
	}
}
