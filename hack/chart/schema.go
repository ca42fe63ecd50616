package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"

	"sigs.k8s.io/yaml"
)

// addSpec adds the schema of a kind's spec, for values that hold one.
func addSpec(specs map[string]any, raw []byte) error {
	var crd struct {
		Spec struct {
			Names    struct{ Kind string }
			Versions []struct {
				Schema struct {
					OpenAPIV3Schema struct{ Properties map[string]any }
				}
			}
		}
	}
	if err := yaml.Unmarshal(raw, &crd); err != nil {
		return err
	}
	if len(crd.Spec.Versions) != 1 {
		return fmt.Errorf("%d versions; say here which one values are written in", len(crd.Spec.Versions))
	}
	spec, ok := crd.Spec.Versions[0].Schema.OpenAPIV3Schema.Properties["spec"].(map[string]any)
	if !ok {
		return nil // only a status
	}
	spec = strict(spec).(map[string]any)
	properties := spec["properties"].(map[string]any)
	properties["labels"] = map[string]any{"description": "Labels of the object.", "type": "object", "additionalProperties": map[string]any{"type": "string"}}
	specs[crd.Spec.Names.Kind] = spec
	return nil
}

// strict returns a schema without Kubernetes' extensions, which refuses fields
// that it does not know: the API server would drop a misspelled one silently.
func strict(schema any) any {
	switch s := schema.(type) {
	case map[string]any:
		out := map[string]any{}
		for k, v := range s {
			if len(k) < 2 || k[:2] != "x-" {
				out[k] = strict(v)
			}
		}
		if _, isObject := s["properties"].(map[string]any); isObject && s["type"] == "object" {
			out["additionalProperties"] = false
		}
		return out
	case []any:
		out := make([]any, len(s))
		for i, v := range s {
			out[i] = strict(v)
		}
		return out
	default:
		return schema
	}
}

// writeSchema writes the schema of the values: what is written by hand, with the
// kinds' specs as definitions.
func writeSchema(from string, specs map[string]any, to string) error {
	raw, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	var schema map[string]any
	if err := yaml.UnmarshalStrict(raw, &schema); err != nil {
		return fmt.Errorf("%s: %w", from, err)
	}
	definitions := schema["$defs"].(map[string]any)
	for kind, spec := range specs {
		definitions[kind] = spec
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	if err := e.Encode(schema); err != nil {
		return err
	}
	return os.WriteFile(to, out.Bytes(), 0o644)
}
