package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	restclient "k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/importer"
	"github.com/fairlead-lb/fairlead/test/lab"
)

const importerData = "../../internal/plugin/importer/testdata"

// documents returns the objects in a YAML file.
func documents(t *testing.T, file string) (out []*unstructured.Unstructured) {
	t.Helper()
	b, err := os.ReadFile(file)
	must(t, err)
	for doc := range strings.SplitSeq("\n"+string(b), "\n---\n") {
		o := &unstructured.Unstructured{}
		must(t, yaml.Unmarshal([]byte(doc), &o.Object))
		if o.Object != nil {
			out = append(out, o)
		}
	}
	return out
}

// TestImportsAreTaken: what the importer writes, of whatever it is given, is what
// the API server takes: schema and rules.
func TestImportsAreTaken(t *testing.T) {
	api := client.NewDryRunClient(admin(t))
	files, err := filepath.Glob(filepath.Join(importerData, "*.golden.yaml"))
	must(t, err)
	count := 0
	for _, file := range files {
		for _, o := range documents(t, file) {
			count++
			if err := api.Create(t.Context(), o); err != nil {
				t.Errorf("%s: %s %s: %v", filepath.Base(file), o.GetKind(), o.GetName(), err)
			}
		}
	}
	if count < 30 {
		t.Errorf("found only %d objects", count)
	}
}

// importing runs `kubectl fairlead import` against the lab.
func (c *corner) importing(t *testing.T, args ...string) (string, error) {
	t.Helper()
	var out bytes.Buffer
	kubeconfig := c.Kubeconfig(lab.Admin)
	flags := genericclioptions.NewConfigFlags(true).WithWrapConfigFn(func(r *restclient.Config) *restclient.Config {
		r.Dial = c.ControlPlane.Dial
		return r
	})
	flags.KubeConfig = &kubeconfig
	command := importer.Command(flags, genericiooptions.IOStreams{In: os.Stdin, Out: &out, ErrOut: &out})
	flags.AddFlags(command.PersistentFlags())
	command.SetArgs(args)
	command.SetOut(&out)
	command.SetErr(&out)
	err := command.ExecuteContext(t.Context())
	return out.String(), err
}

// metallbFolder is where MetalLB's source is, fetched if need be, at the version that
// test/metallb asks for.
func metallbFolder(t *testing.T) string {
	t.Helper()
	cmd := exec.Command("go", "mod", "download", "-json", "go.universe.tf/metallb")
	cmd.Dir = "../metallb"
	out, err := cmd.Output()
	must(t, err)
	var module struct{ Dir string }
	must(t, json.Unmarshal(out, &module))
	return module.Dir
}

// installMetalLB makes MetalLB's kinds and its namespace.
func (c *corner) installMetalLB(t *testing.T) {
	t.Helper()
	crds, err := filepath.Glob(filepath.Join(metallbFolder(t), "config", "crd", "bases", "*.yaml"))
	must(t, err)
	for _, file := range crds {
		crd := documents(t, file)[0]
		dropFormats(crd.Object)
		must(t, client.IgnoreAlreadyExists(c.api.Create(t.Context(), crd)))
	}
	_, err = c.Kubectl(t.Context(), "wait", "--for=condition=Established", "--timeout=10s", "crd", "--all")
	must(t, err)
	ns := &corev1.Namespace{ObjectMeta: meta1("metallb-system")}
	must(t, client.IgnoreAlreadyExists(c.api.Create(t.Context(), ns)))
}

// dropFormats removes the format from numbers that may be larger than it has room
// for: MetalLB's AS numbers are int32 with a maximum of 4294967295, and an API server
// of today refuses all objects with one.
func dropFormats(schema any) {
	switch s := schema.(type) {
	case map[string]any:
		if s["format"] == "int32" && s["maximum"] != nil {
			delete(s, "format")
		}
		for _, v := range s {
			dropFormats(v)
		}
	case []any:
		for _, v := range s {
			dropFormats(v)
		}
	}
}

// lines are the lines with one of the words.
func lines(text string, words ...string) (out []string) {
	for line := range strings.Lines(text) {
		if slices.ContainsFunc(words, func(w string) bool { return strings.Contains(line, w) }) {
			out = append(out, strings.TrimSpace(line))
		}
	}
	return out
}

// TestImportFromTheCluster reads MetalLB's real kinds from the API server and writes
// Fairlead's, once and again.
func TestImportFromTheCluster(t *testing.T) {
	c := control.corner(t)
	if out, err := c.importing(t, "cilium"); err == nil || !strings.Contains(err.Error(), "none of Cilium's kinds") {
		t.Errorf("without Cilium: %v\n%s", err, out)
	}
	c.installMetalLB(t)
	if out, err := c.importing(t, "metallb"); err == nil || !strings.Contains(err.Error(), "nothing of MetalLB") {
		t.Errorf("without objects: %v\n%s", err, out)
	}
	c.apply(t, filepath.Join(importerData, "metallb-everything.yaml"))
	names := []string{
		"bfdprofile.fairlead.dev/fast", "bgpadvertisement.fairlead.dev/bgp", "bgppeer.fairlead.dev/old", "bgppeer.fairlead.dev/tor-a",
		"bgppeer.fairlead.dev/unnumbered", "community.fairlead.dev/names", "ipaddresspool.fairlead.dev/public", "l2advertisement.fairlead.dev/l2",
		"secret/bgppeer-old", "secret/tor-a",
	}
	t.Cleanup(func() {
		args := append([]string{"delete", "--ignore-not-found", "--namespace", lab.Namespace}, names...)
		if _, err := c.Kubectl(context.Background(), args...); err != nil {
			t.Error(err)
		}
	})

	did := func(args ...string) map[string]int {
		t.Helper()
		out, err := c.importing(t, append([]string{"metallb", "--apply"}, args...)...)
		must(t, err)
		count := map[string]int{}
		for _, l := range lines(out, "(from ") {
			count[strings.Fields(l)[1]]++
		}
		if len(lines(out, "note: BFDProfile metallb-system/fast: spec.echoMode")) != 1 {
			t.Errorf("it does not say that there are no echo packets:\n%s", out)
		}
		return count
	}
	printed, err := c.importing(t, "metallb")
	must(t, err)
	var pools v1alpha1.IPAddressPoolList
	must(t, c.api.List(t.Context(), &pools))
	if len(pools.Items) > 0 {
		t.Errorf("printing made pools: %v", pools.Items)
	}
	for _, want := range []map[string]int{{"created": len(names)}, {"unchanged": len(names)}} {
		if diff := cmp.Diff(want, did()); diff != "" {
			t.Errorf("(-want +got):\n%s\nprinted:\n%s", diff, printed)
		}
	}
	var secret corev1.Secret
	must(t, c.api.Get(t.Context(), client.ObjectKey{Namespace: lab.Namespace, Name: "tor-a"}, &secret))
	if got := string(secret.Data["password"]); got != "secret" {
		t.Errorf("the password is %q", got)
	}

	// Somebody else's choice is not overwritten in silence, and nothing else is
	// written then.
	_, err = c.Kubectl(t.Context(), "patch", "ipaddresspool.fairlead.dev", "public", "--type=merge", "-p", `{"spec":{"sharing":"Never"}}`)
	must(t, err)
	_, err = c.Kubectl(t.Context(), "delete", "community.fairlead.dev", "names")
	must(t, err)
	if out, err := c.importing(t, "metallb", "--apply"); err == nil || !strings.Contains(err.Error(), "nothing was changed") || !strings.Contains(err.Error(), "--force-conflicts") {
		t.Errorf("over somebody else's choice: %v\n%s", err, out)
	}
	if err := c.api.Get(t.Context(), client.ObjectKey{Name: "names"}, &v1alpha1.Community{}); err == nil {
		t.Error("the Community was written although the pool was refused")
	}
	want := map[string]int{"created": 1, "configured": 1, "unchanged": len(names) - 2}
	if diff := cmp.Diff(want, did("--force-conflicts")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestImportOfKubeVip reads the ConfigMap of kube-vip's cloud provider.
func TestImportOfKubeVip(t *testing.T) {
	c := control.corner(t)
	system := &corev1.Namespace{ObjectMeta: meta1("kube-system")}
	must(t, client.IgnoreAlreadyExists(c.api.Create(t.Context(), system)))
	if out, err := c.importing(t, "kube-vip"); err == nil || !strings.Contains(err.Error(), "nothing of kube-vip is in the cluster") {
		t.Errorf("without its ConfigMap: %v\n%s", err, out)
	}
	c.apply(t, filepath.Join(importerData, "kube-vip-everything.yaml"))
	out, err := c.importing(t, "kube-vip")
	must(t, err)
	want, err := os.ReadFile(filepath.Join(importerData, "kube-vip-everything.golden.yaml"))
	must(t, err)
	if diff := cmp.Diff(string(want), out); diff != "" {
		t.Errorf("from the cluster comes something else than from a file (-file +cluster):\n%s", diff)
	}
}

// TestFieldsOfMetalLB compares the list that the importer is tested with to the CRDs
// of the MetalLB that the migration is tested with.
func TestFieldsOfMetalLB(t *testing.T) {
	text, err := os.ReadFile(filepath.Join(importerData, "metallb-fields.txt"))
	must(t, err)
	listed := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		listed[strings.TrimSpace(line)] = true
	}
	crds, err := filepath.Glob(filepath.Join(metallbFolder(t), "config", "crd", "bases", "*.yaml"))
	must(t, err)
	count := 0
	for _, crd := range crds {
		for field := range specFields(t, crd) {
			count++
			if !listed[field] {
				t.Errorf("%s is not in metallb-fields.txt; have the importer translate it or remark on it", field)
			}
		}
	}
	if count < 40 {
		t.Errorf("found only %d fields", count)
	}
}

// specFields returns the fields of the spec of a kind that users write, as "Kind
// spec.field".
func specFields(t *testing.T, crd string) map[string]bool {
	t.Helper()
	o := documents(t, crd)[0]
	kind, _, err := unstructured.NestedString(o.Object, "spec", "names", "kind")
	must(t, err)
	versions, _, err := unstructured.NestedSlice(o.Object, "spec", "versions")
	must(t, err)
	out := map[string]bool{}
	if strings.HasSuffix(kind, "Status") || strings.HasSuffix(kind, "State") {
		return out // MetalLB's own reports
	}
	for _, v := range versions {
		spec, _, err := unstructured.NestedMap(v.(map[string]any), "schema", "openAPIV3Schema", "properties", "spec")
		must(t, err)
		for _, f := range leaves("spec", spec) {
			out[fmt.Sprint(kind, " ", f)] = true
		}
	}
	return out
}

// leaves returns the paths of the fields in a schema; a label selector is one.
func leaves(path string, schema map[string]any) (out []string) {
	if strings.HasSuffix(path, "Selectors") {
		return []string{path}
	}
	if items, ok := schema["items"].(map[string]any); ok && items["properties"] != nil {
		path, schema = path+"[]", items
	}
	properties, _ := schema["properties"].(map[string]any)
	if len(properties) == 0 {
		return []string{path}
	}
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		out = append(out, leaves(path+"."+name, properties[name].(map[string]any))...)
	}
	return out
}
