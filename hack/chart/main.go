// Command chart writes those parts of the Helm chart that follow from something
// else: CRDs and roles from config/, the schema of the objects in values from the
// CRDs, and the README's table from the comments in values.yaml.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

func main() {
	root := "../.."
	if len(os.Args) > 1 {
		root = os.Args[1]
	}
	if err := generate(root); err != nil {
		fmt.Fprintln(os.Stderr, "chart:", err)
		os.Exit(1)
	}
}

func generate(root string) error {
	chart := filepath.Join(root, "charts", "fairlead")
	crds, err := filepath.Glob(filepath.Join(root, "config", "crd", "fairlead.dev_*.yaml"))
	if err != nil || len(crds) == 0 {
		return fmt.Errorf("no CRDs in config/crd: %w", err)
	}
	if err := os.WriteFile(filepath.Join(root, "config", "crd", "kustomization.yaml"), kustomization(crds), 0o644); err != nil {
		return err
	}
	specs := map[string]any{}
	for _, path := range crds {
		crd, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		marked, err := mark(string(crd))
		if err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
		if err := os.WriteFile(filepath.Join(chart, "charts", "crds", "crds", filepath.Base(path)), []byte(marked), 0o644); err != nil {
			return err
		}
		if err := addSpec(specs, crd); err != nil {
			return fmt.Errorf("%s: %w", path, err)
		}
	}
	for _, program := range []string{"controller", "speaker"} {
		role, err := os.ReadFile(filepath.Join(root, "config", "rbac", program, "role.yaml"))
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(chart, "files", "rbac", program+".yaml"), role, 0o644); err != nil {
			return err
		}
	}
	if err := writeSchema(filepath.Join(root, "hack", "chart", "values.schema.yaml"), specs, filepath.Join(chart, "values.schema.json")); err != nil {
		return err
	}
	return writeTable(filepath.Join(chart, "values.yaml"), filepath.Join(chart, "README.md"))
}

func kustomization(crds []string) []byte {
	out := "# The kinds. Written by `make generate`.\nresources:\n"
	for _, path := range crds {
		out += "  - " + filepath.Base(path) + "\n"
	}
	return []byte(out)
}

// mark makes a CRD one that Helm takes for an object of the release "fairlead" in
// "fairlead-system", and keeps; charts/crds/templates/crds.yaml says why.
func mark(crd string) (string, error) {
	const (
		before = "\nmetadata:\n  annotations:\n"
		after  = before + `    helm.sh/resource-policy: keep
    meta.helm.sh/release-name: fairlead
    meta.helm.sh/release-namespace: fairlead-system
`
		labels = "  labels:\n    app.kubernetes.io/managed-by: Helm\n"
	)
	if strings.Count(crd, before) != 1 {
		return "", fmt.Errorf("want one %q", before)
	}
	crd = strings.Replace(crd, before, after, 1)
	return strings.Replace(crd, "\n  name: ", "\n"+labels+"  name: ", 1), nil
}
