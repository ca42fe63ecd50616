package kube

import (
	"path/filepath"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/schema"
	"os"
	"strings"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// The mapper must say what the API server would, which has it from the CRDs.
func TestRESTMapperKnowsOurKinds(t *testing.T) {
	m, err := RESTMapper(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("../../config/crd/fairlead.dev_*.yaml")
	if err != nil || len(files) != len(ownKinds) {
		t.Fatalf("%d CRDs and %d kinds: %v", len(files), len(ownKinds), err)
	}
	var crds strings.Builder
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		crds.Write(b)
	}
	for kind, scope := range ownKinds {
		mapping, err := m.RESTMapping(schema.GroupKind{Group: v1alpha1.GroupVersion.Group, Kind: kind})
		if err != nil {
			t.Fatal(err)
		}
		at := strings.Index(crds.String(), "name: "+mapping.Resource.Resource+".fairlead.dev\n")
		want := "scope: Cluster"
		if scope.Name() == "namespace" {
			want = "scope: Namespaced"
		}
		if at < 0 {
			t.Errorf("%s: no CRD of %s", kind, mapping.Resource.Resource)
		} else if _, rest, _ := strings.Cut(crds.String()[at:], "\n  scope: "); !strings.HasPrefix("scope: "+rest, want) {
			t.Errorf("%s is not of %s", kind, want)
		}
	}
}
