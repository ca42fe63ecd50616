package plugin

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericiooptions"
)

// run runs the plugin and returns what it printed.
func run(t *testing.T, args ...string) (out string, err error) {
	t.Helper()
	streams, _, stdout, _ := genericiooptions.NewTestIOStreams()
	root := Command(streams)
	root.SetArgs(args)
	err = root.ExecuteContext(t.Context())
	return stdout.String(), err
}

func TestHelpNamesEveryCommand(t *testing.T) {
	out, err := run(t, "--help")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"status", "addresses", "explain", "doctor", "ui", "drain", "undrain", "move", "rebalance", "drill", "bundle", "version", "completion", "--context", "--namespace"} {
		if !strings.Contains(out, name) {
			t.Errorf("help does not mention %s:\n%s", name, out)
		}
	}
	if !strings.Contains(out, "kubectl fairlead [command]") {
		t.Errorf("help does not call it what a person types:\n%s", out)
	}
}

// Every command says what it does, and that in one line.
func TestEveryCommandHasASummary(t *testing.T) {
	var walk func(c *cobra.Command)
	walk = func(c *cobra.Command) {
		if c.Short == "" || strings.HasSuffix(c.Short, ".") || len(c.Short) > 90 {
			t.Errorf("%s has the summary %q", c.CommandPath(), c.Short)
		}
		for _, sub := range c.Commands() {
			walk(sub)
		}
	}
	walk(Command(genericiooptions.NewTestIOStreamsDiscard()))
}

func TestErrorsSayWhatToWrite(t *testing.T) {
	empty := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(empty, []byte("apiVersion: v1\nkind: Config\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ args, want string }{
		{"explain service", "accepts 1 arg"},
		{"explain address 1.2.3", `"1.2.3" is not an IP address`},
		{"move 192.0.2.1", `"to" not set`},
		{"status --kubeconfig /does/not/exist", "/does/not/exist"},
		{"status --kubeconfig " + empty + " --context other", `"other" does not exist`},
		{"statsu", "unknown command"},
	} {
		if _, err := run(t, strings.Fields(c.args)...); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q", c.args, err, c.want)
		}
	}
}

func TestVersionNeedsNoCluster(t *testing.T) {
	out, err := run(t, "version", "--client", "-o", "jsonpath={.plugin}")
	if err != nil || out == "" {
		t.Errorf("got %q, %v", out, err)
	}
}

func TestCompletion(t *testing.T) {
	for args, want := range map[string]string{
		"dra":                  "drain",
		"explain ":             "service",
		"addresses --sort-by ": "since",
		"status -o ":           "yaml",
	} {
		words := strings.Split(args, " ")
		out, err := run(t, append([]string{cobra.ShellCompRequestCmd}, words...)...)
		if err != nil {
			t.Fatal(err)
		}
		offered := strings.Split(out, "\n")
		if !slices.ContainsFunc(offered, func(line string) bool { return strings.HasPrefix(line, want) }) {
			t.Errorf("of %q it offers %q, want %s", args, offered, want)
		}
	}
}
