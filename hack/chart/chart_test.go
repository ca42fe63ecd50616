package main

import (
	"bytes"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v4/pkg/chart/common"
	"helm.sh/helm/v4/pkg/chart/common/util"
	"helm.sh/helm/v4/pkg/chart/v2/lint"
	"helm.sh/helm/v4/pkg/chart/v2/lint/support"
	"helm.sh/helm/v4/pkg/chart/v2/loader"
	chartutil "helm.sh/helm/v4/pkg/chart/v2/util"
	"helm.sh/helm/v4/pkg/engine"
	"sigs.k8s.io/kustomize/api/krusty"
	"sigs.k8s.io/kustomize/kyaml/filesys"
	"sigs.k8s.io/yaml"
)

var update = flag.Bool("update", false, "write the golden files and config/deploy anew")

const (
	chartDir  = "../../charts/fairlead"
	deployed  = "../../config/deploy/fairlead.yaml"
	release   = "fairlead"
	namespace = "fairlead-system"
)

// rendered is what `helm template --include-crds` prints, by template.
type rendered struct {
	crds      []string
	templates map[string]string
}

// render does what `helm template` does, by Helm's own packages: to build the
// whole of Helm for that would take minutes.
func render(t *testing.T, values string) (rendered, error) {
	t.Helper()
	var v map[string]any
	if err := yaml.Unmarshal([]byte(values), &v); err != nil {
		t.Fatal(err)
	}
	chart, err := loader.LoadDir(chartDir)
	if err != nil {
		t.Fatal(err)
	}
	if err := chartutil.ProcessDependencies(chart, v); err != nil {
		t.Fatal(err)
	}
	options := common.ReleaseOptions{Name: release, Namespace: namespace, Revision: 1, IsInstall: true}
	all, err := util.ToRenderValues(chart, v, options, common.DefaultCapabilities.Copy())
	if err != nil {
		return rendered{}, err
	}
	out, err := engine.Render(chart, all)
	if err != nil {
		return rendered{}, err
	}
	r := rendered{templates: map[string]string{}}
	for _, c := range chart.CRDObjects() {
		r.crds = append(r.crds, string(c.File.Data))
	}
	for name, text := range out {
		if strings.HasSuffix(name, ".yaml") && strings.TrimSpace(text) != "" {
			r.templates[name] = text
		}
	}
	return r, nil
}

func (r rendered) String() string {
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.templates)) {
		fmt.Fprintf(&out, "# Source: %s\n%s\n", name, strings.Trim(r.templates[name], "\n"))
	}
	return out.String()
}

// objects returns the objects in YAML documents, by kind, namespace and name.
func objects(t *testing.T, texts ...string) map[string]map[string]any {
	t.Helper()
	found := map[string]map[string]any{}
	for _, text := range texts {
		for doc := range strings.SplitSeq("\n"+text, "\n---\n") {
			var o map[string]any
			if err := yaml.Unmarshal([]byte(doc), &o); err != nil {
				t.Fatalf("%v in\n%s", err, doc)
			}
			if o == nil {
				continue
			}
			m := o["metadata"].(map[string]any)
			key := fmt.Sprint(o["kind"], " ", m["namespace"], "/", m["name"])
			if found[key] != nil {
				t.Errorf("%s is there twice", key)
			}
			found[key] = o
		}
	}
	return found
}

func TestGolden(t *testing.T) {
	inputs, err := filepath.Glob("testdata/*.values.yaml")
	if err != nil || len(inputs) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, input := range inputs {
		name := strings.TrimSuffix(filepath.Base(input), ".values.yaml")
		t.Run(name, func(t *testing.T) {
			values, err := os.ReadFile(input)
			if err != nil {
				t.Fatal(err)
			}
			r, err := render(t, string(values))
			if err != nil {
				t.Fatal(err)
			}
			objects(t, slices.Collect(maps.Values(r.templates))...) // it is YAML, and each object is there once
			compare(t, filepath.Join("testdata", name+".golden.yaml"), []byte(r.String()))
		})
	}
}

func compare(t *testing.T, file string, got []byte) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, got, 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; `make golden` writes it", err)
	}
	if diff := cmp.Diff(strings.Split(string(want), "\n"), strings.Split(string(got), "\n")); diff != "" {
		t.Errorf("%s is not what the chart makes; look at the difference, and if it is meant: make golden\n%s", file, diff)
	}
}

// TestLargeNumbersStayWhole: Helm reads all numbers as floating point.
func TestLargeNumbersStayWhole(t *testing.T) {
	r, err := render(t, `{bgpPeers: {tor: {myASN: 4200000000, peerASN: 65001, peerAddress: 192.0.2.1}}}`)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.String(); !strings.Contains(got, "myASN: 4200000000\n") {
		t.Errorf("no \"myASN: 4200000000\" in\n%s", got)
	}
}

func TestMistakesInValuesAreRefused(t *testing.T) {
	tests := []struct {
		why    string
		values string
		want   []string // words of the refusal
	}{
		{"a misspelled value", `{controler: {replicas: 1}}`, []string{"additional properties 'controler' not allowed"}},
		{"a misspelled value within", `{speaker: {resource: {}}}`, []string{"'/speaker'", "additional properties 'resource' not allowed"}},
		{"a word that is not one of the choices", `{failover: quick}`, []string{"'/failover'", "'fast', 'default', 'relaxed'"}},
		{"a log level that there is not", `{logLevel: loud}`, []string{"'/logLevel'", "'debug', 'info', 'warn', 'error'"}},
		{"not a port", `{gossip: {port: 79460}}`, []string{"'/gossip/port'", "maximum: got 79,460, want 65,535"}},
		{"text for a number", `{controller: {replicas: two}}`, []string{"'/controller/replicas'", "got string, want integer"}},
		{"a tag in place of a digest", `{image: {digest: v1.2.3}}`, []string{"'/image/digest'", "does not match pattern"}},
		{"a capability that nothing needs", `{speaker: {extraCapabilities: [NET_ADMIN]}}`, []string{"'/speaker/extraCapabilities/0'", "'SYS_NICE', 'NET_BIND_SERVICE'"}},
		{"too short for a hand-over", `{speaker: {terminationGracePeriodSeconds: 1}}`, []string{"'/speaker/terminationGracePeriodSeconds'", "minimum: got 1, want 5"}},
		{"a pool as a list", `{pools: [192.0.2.0/24]}`, []string{"'/pools'", "got array, want object"}},
		{"a pool without addresses", `{pools: {lan: {}}}`, []string{"'/pools/lan'", "missing property 'addresses'"}},
		{"a misspelled field of a pool", `{pools: {lan: {adresses: ["192.0.2.0/24"]}}}`, []string{"'/pools/lan'", "additional properties 'adresses' not allowed"}},
		{"a choice in a pool", `{pools: {lan: {addresses: ["192.0.2.0/24"], sharing: Maybe}}}`, []string{"'/pools/lan/sharing'", "'Namespace', 'Cluster', 'Never'"}},
		{"a peer's port", `{bgpPeers: {tor: {myASN: 65000, peerASN: 65001, peerAddress: 192.0.2.1, peerPort: 0}}}`, []string{"'/bgpPeers/tor/peerPort'", "minimum"}},
		{"more speakers at once than none", `{speaker: {maxUnavailable: 0}}`, []string{"'/speaker/maxUnavailable'"}},
	}
	for _, tt := range tests {
		t.Run(tt.why, func(t *testing.T) {
			_, err := render(t, tt.values)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, w := range tt.want {
				if !strings.Contains(err.Error(), w) {
					t.Errorf("got %v, want words like %q", err, w)
				}
			}
		})
	}
}

// TestSchemaKnowsEveryValue: what is in values.yaml must be in the schema, or
// nobody could set it.
func TestSchemaKnowsEveryValue(t *testing.T) {
	values, err := os.ReadFile(filepath.Join(chartDir, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := render(t, string(values)); err != nil {
		t.Error(err)
	}
}

func TestLint(t *testing.T) {
	l := lint.RunAll(chartDir, nil, namespace)
	for _, m := range l.Messages {
		if m.Severity > support.InfoSev {
			t.Error(m)
		}
	}
}

func TestCRDsCanBeLeftOut(t *testing.T) {
	for values, want := range map[string]bool{`{}`: true, `{crds: {enabled: false}}`: false} {
		r, err := render(t, values)
		if err != nil {
			t.Fatal(err)
		}
		if got := len(r.crds) > 0; got != want {
			t.Errorf("%s: CRDs there: %t, want %t", values, got, want)
		}
	}
}

// TestPlainManifestsAreTheChart holds config/default equal to what the chart makes
// of its default values, object by object.
func TestPlainManifestsAreTheChart(t *testing.T) {
	r, err := render(t, `{}`)
	if err != nil {
		t.Fatal(err)
	}
	compare(t, deployed, deploy(t, r))

	k := krusty.MakeKustomizer(krusty.MakeDefaultOptions())
	built, err := k.Run(filesys.MakeFsOnDisk(), "../../config/default")
	if err != nil {
		t.Fatal(err)
	}
	text, err := built.AsYaml()
	if err != nil {
		t.Fatal(err)
	}
	plain := objects(t, string(text))
	delete(plain, "Namespace <nil>/"+namespace) // a chart does not make its own
	chart := objects(t, append(slices.Collect(maps.Values(r.templates)), r.crds...)...)
	for _, all := range []map[string]map[string]any{plain, chart} {
		for _, o := range all {
			unmark(o)
		}
	}
	if diff := cmp.Diff(plain, chart); diff != "" {
		t.Errorf("config/default (-) and the chart (+) differ:\n%s", diff)
	}
}

// unmark takes away the labels and annotations by which an object is known for
// Helm's or for a part of something: nothing acts on them. Those of pods stay.
func unmark(o map[string]any) {
	m := o["metadata"].(map[string]any)
	for _, field := range []string{"labels", "annotations"} {
		marks, _ := m[field].(map[string]any)
		maps.DeleteFunc(marks, func(k string, _ any) bool {
			return strings.HasPrefix(k, "app.kubernetes.io/") || strings.Contains(k, "helm.sh/")
		})
		if len(marks) == 0 {
			delete(m, field)
		}
	}
}

// deploy returns what the chart has that config/crd and config/rbac have not.
func deploy(t *testing.T, r rendered) []byte {
	t.Helper()
	out := bytes.NewBufferString("# What the Helm chart makes of its default values; written by `make golden`.\n")
	for _, name := range slices.Sorted(maps.Keys(r.templates)) {
		if strings.HasSuffix(name, "/rbac.yaml") {
			continue
		}
		all := objects(t, r.templates[name])
		for _, key := range slices.Sorted(maps.Keys(all)) {
			labels := all[key]["metadata"].(map[string]any)["labels"].(map[string]any)
			delete(labels, "helm.sh/chart")
			delete(labels, "app.kubernetes.io/managed-by")
			text, err := yaml.Marshal(all[key])
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(out, "---\n%s", text)
		}
	}
	return out.Bytes()
}
