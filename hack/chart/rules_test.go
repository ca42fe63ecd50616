package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

const (
	rulesFile = chartDir + "/files/rules.yaml"
	rulesTest = "testdata/rules.test.yaml"
)

// alerts returns the names of the alerts that there are.
func alerts(t *testing.T) (names []string) {
	t.Helper()
	var rules struct {
		Groups []struct{ Rules []struct{ Alert string } }
	}
	if err := yaml.Unmarshal(read(t, rulesFile), &rules); err != nil {
		t.Fatal(err)
	}
	for _, g := range rules.Groups {
		for _, r := range g.Rules {
			names = append(names, r.Alert)
		}
	}
	return names
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestRules runs the cases of the alerts by Prometheus's own tool.
func TestRules(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Skip("there is no promtool; Debian's package prometheus brings it (make deps)")
	}
	for _, args := range [][]string{{"check", "rules", rulesFile}, {"test", "rules", rulesTest}} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// TestEveryAlertHasACase: of each alert one where it is raised.
func TestEveryAlertHasACase(t *testing.T) {
	var cases struct {
		Tests []struct {
			Cases []struct {
				Alert    string           `json:"alertname"`
				Expected []map[string]any `json:"exp_alerts"`
			} `json:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal(read(t, rulesTest), &cases); err != nil {
		t.Fatal(err)
	}
	raised := map[string]bool{}
	for _, test := range cases.Tests {
		for _, c := range test.Cases {
			raised[c.Alert] = raised[c.Alert] || len(c.Expected) > 0
		}
	}
	names := alerts(t)
	if len(names) < 10 {
		t.Errorf("found only %d alerts", len(names))
	}
	for _, name := range names {
		if !raised[name] {
			t.Errorf("no case of %s raises %s", rulesTest, name)
		}
	}
}

// TestMetricsInUseAreThere compares what alerts and dashboards are made of with
// docs/metrics.md, which is written from the code.
func TestMetricsInUseAreThere(t *testing.T) {
	known := regexp.MustCompile("`([a-z0-9_]+)` \\|").FindAllStringSubmatch(string(read(t, "../../docs/metrics.md")), -1)
	files, err := filepath.Glob(chartDir + "/dashboards/*.json")
	if err != nil || len(files) == 0 {
		t.Fatalf("no dashboards: %v", err)
	}
	for _, file := range append(files, rulesFile) {
		used := regexp.MustCompile(`\b(?:fairlead|leader_election)_[a-z0-9_]+`).FindAllString(string(read(t, file)), -1)
		if len(used) < 10 {
			t.Errorf("found only %d metrics in use in %s", len(used), file)
		}
		for _, name := range used {
			name = strings.TrimSuffix(name, "_bucket") // of a histogram
			if !slices.ContainsFunc(known, func(m []string) bool { return m[1] == name }) {
				t.Errorf("%s uses %s, which is not in docs/metrics.md", file, name)
			}
		}
	}
}
