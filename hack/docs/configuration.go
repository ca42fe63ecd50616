package main

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// kind is what of a CRD is told.
type kind struct {
	Spec struct {
		Names struct {
			Kind       string
			ShortNames []string
		}
		Scope    string
		Versions []struct {
			Name   string
			Schema struct{ OpenAPIV3Schema field }
		}
	}
}

// field is a schema, of a field or of the elements of a list.
type field struct {
	Type               string
	Description        string
	Default            any
	Enum               []any
	Minimum, Maximum   *float64
	MinItems, MaxItems *float64
	Required           []string
	Properties         map[string]field
	Items              *field
}

// configurationPage returns docs/configuration.md.
func configurationPage(root string) (string, error) {
	files, err := filepath.Glob(filepath.Join(root, "config", "crd", "fairlead.dev_*.yaml"))
	if err != nil || len(files) == 0 {
		return "", errors.Join(errors.New("config/crd has no CRDs"), err)
	}
	var out strings.Builder
	out.WriteString(`# Configuration

Every field of every kind. Written by ` + "`make generate`" + ` from the CRDs in [config/crd](../config/crd); ` + "`kubectl explain`" + ` says the same,
for example ` + "`kubectl explain ipaddresspool.spec`" + `. [examples/](../examples) has whole objects, [concepts.md](concepts.md) what
they are for, and [the chart's README](../charts/fairlead/README.md) the settings of the programs.

A field is named by its path; ` + "`[]`" + ` stands for each element of a list. What breaks a rule beyond those in the tables is refused by the
API server, which says how to fix it. Selectors of labels are Kubernetes' own, with ` + "`matchLabels` and `matchExpressions`" + `.
`)
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		var k kind
		if err := yaml.Unmarshal(text, &k); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
		if err := k.write(&out); err != nil {
			return "", fmt.Errorf("%s: %w", file, err)
		}
	}
	return out.String(), nil
}

func (k kind) write(out *strings.Builder) error {
	if len(k.Spec.Versions) != 1 {
		return fmt.Errorf("%s has %d versions, and the page is made for one", k.Spec.Names.Kind, len(k.Spec.Versions))
	}
	version := k.Spec.Versions[0]
	schema := version.Schema.OpenAPIV3Schema
	fmt.Fprintf(out, "\n## %s\n\n%s\n\n`apiVersion: fairlead.dev/%s`, %s", k.Spec.Names.Kind, inLine(schema.Description), version.Name, strings.ToLower(k.Spec.Scope))
	if short := k.Spec.Names.ShortNames; len(short) > 0 {
		fmt.Fprintf(out, "; for short: `%s`", strings.Join(short, "`, `"))
	}
	out.WriteString(".\n")
	for _, part := range []string{"spec", "status"} {
		top, ok := schema.Properties[part]
		if !ok {
			continue
		}
		if part == "spec" {
			out.WriteString("\n| field | type | default | allowed | what it is |\n|---|---|---|---|---|\n")
		} else {
			out.WriteString("\nWritten by Fairlead:\n\n| field | type | what it is |\n|---|---|---|\n")
		}
		if err := top.writeFields(out, part); err != nil {
			return err
		}
	}
	return nil
}

// writeFields writes a row for each field below this one: those that are required
// first, then by name.
func (f field) writeFields(out *strings.Builder, path string) error {
	names := slices.SortedFunc(maps.Keys(f.Properties), func(a, b string) int {
		if r := slices.Contains(f.Required, a); r != slices.Contains(f.Required, b) {
			if r {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for _, name := range names {
		if err := f.Properties[name].writeField(out, path+"."+name, slices.Contains(f.Required, name)); err != nil {
			return err
		}
	}
	return nil
}

func (f field) writeField(out *strings.Builder, path string, required bool) error {
	meaning, without, _ := strings.Cut(inLine(f.Description), " Default: ")
	if meaning == "" {
		return fmt.Errorf("%s has no description; write a comment on the field", path)
	}
	if strings.HasPrefix(path, "status.") {
		fmt.Fprintf(out, "| `%s` | %s | %s |\n", path, f.typeName(), meaning)
	} else {
		fmt.Fprintf(out, "| `%s` | %s | %s | %s | %s |\n", path, f.typeName(), f.defaultValue(strings.TrimSuffix(without, "."), required), f.allowed(), meaning)
	}
	within := f
	if f.Items != nil {
		within, path = *f.Items, path+"[]"
	}
	if within.isKubernetes() {
		return nil
	}
	return within.writeFields(out, path)
}

// isKubernetes is true of what Kubernetes defines and its users know: selectors of
// labels and conditions.
func (f field) isKubernetes() bool {
	_, selector := f.Properties["matchLabels"]
	_, condition := f.Properties["lastTransitionTime"]
	return selector || condition
}

func (f field) typeName() string {
	switch {
	case f.Type == "array" && f.Items != nil:
		return "list of " + f.Items.plural()
	case f.isKubernetes():
		return "selector"
	}
	return f.Type
}

func (f field) plural() string {
	if _, ok := f.Properties["lastTransitionTime"]; ok {
		return "conditions"
	}
	return f.typeName() + "s"
}

// defaultValue is what counts without the field: in the words of its description,
// or what the API server fills in.
func (f field) defaultValue(words string, required bool) string {
	switch {
	case required:
		return "required"
	case words != "":
		return words
	case f.Default != nil:
		return fmt.Sprint(f.Default)
	}
	return ""
}

// allowed says which values the schema takes.
func (f field) allowed() string {
	var parts []string
	values := f.Enum
	if f.Items != nil {
		values = f.Items.Enum
	}
	for _, v := range values {
		parts = append(parts, fmt.Sprintf("`%v`", v))
	}
	if text := span(f.Minimum, f.Maximum, ""); text != "" {
		parts = append(parts, text)
	}
	if text := span(f.MinItems, f.MaxItems, " elements"); text != "" {
		parts = append(parts, text)
	}
	return strings.Join(parts, ", ")
}

// span says between which numbers something may be.
func span(low, high *float64, unit string) string {
	text := func(n *float64) string { return strconv.FormatFloat(*n, 'f', -1, 64) + unit }
	switch {
	case low != nil && high != nil:
		return strconv.FormatFloat(*low, 'f', -1, 64) + " to " + text(high)
	case low != nil:
		return "at least " + text(low)
	case high != nil:
		return "at most " + text(high)
	}
	return ""
}

// inLine returns a description in one line, as a cell of a table takes it.
func inLine(description string) string {
	return strings.NewReplacer("|", `\|`, "<", "&lt;").Replace(strings.Join(strings.Fields(description), " "))
}
