package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"
)

const (
	tableBegin = "<!-- values: written by `make generate` from values.yaml -->\n"
	tableEnd   = "<!-- end of values -->\n"
)

// writeTable replaces the table of values in a README.
func writeTable(values, readme string) error {
	raw, err := os.ReadFile(values)
	if err != nil {
		return err
	}
	var doc yaml.Node
	if err := yaml.Unmarshal(raw, &doc); err != nil {
		return fmt.Errorf("%s: %w", values, err)
	}
	rows, err := rows("", doc.Content[0])
	if err != nil {
		return fmt.Errorf("%s: %w", values, err)
	}
	old, err := os.ReadFile(readme)
	if err != nil {
		return err
	}
	before, rest, ok := strings.Cut(string(old), tableBegin)
	_, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok || !ok2 {
		return fmt.Errorf("%s: no place for the table, which is between %q and %q", readme, tableBegin, tableEnd)
	}
	table := "\n| value | default | |\n|---|---|---|\n" + strings.Join(rows, "") + "\n"
	return os.WriteFile(readme, []byte(before+tableBegin+table+tableEnd+after), 0o644)
}

// rows returns a line for each value that has a comment, in the file's order. What
// has neither a comment nor commented values within is a mistake.
func rows(path string, m *yaml.Node) ([]string, error) {
	var found []string
	var errs []error
	for i := 0; i < len(m.Content); i += 2 {
		key, value := m.Content[i], m.Content[i+1]
		name := strings.TrimPrefix(path+"."+key.Value, ".")
		switch says := about(key.HeadComment); {
		case says != "":
			found = append(found, fmt.Sprintf("| `%s` | `%s` | %s |\n", name, compact(value), says))
		case value.Kind == yaml.MappingNode && len(value.Content) > 0:
			more, err := rows(name, value)
			found, errs = append(found, more...), append(errs, err)
		default:
			errs = append(errs, fmt.Errorf("line %d: %s has no comment that says what it is", key.Line, name))
		}
	}
	return found, errors.Join(errs...)
}

// about returns a comment's last paragraph, in one line.
func about(comment string) string {
	paragraphs := strings.Split(comment, "\n\n")
	var words []string
	for line := range strings.Lines(paragraphs[len(paragraphs)-1]) {
		words = append(words, strings.Fields(strings.TrimPrefix(strings.TrimSpace(line), "#"))...)
	}
	return strings.ReplaceAll(strings.Join(words, " "), "|", `\|`)
}

func compact(n *yaml.Node) string {
	var v any
	if n.Decode(&v) != nil {
		return "?"
	}
	out, err := json.Marshal(v)
	if err != nil {
		return "?"
	}
	return string(out)
}
