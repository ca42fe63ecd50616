package importer

import (
	"fmt"
	"io"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/yaml"
)

// write prints the translation as YAML, with the remarks as comments. Passwords are
// left out unless they are asked for: what is printed ends up in files.
func (t *translation) write(w io.Writer, from *system, passwords bool) error {
	var out strings.Builder
	fmt.Fprintf(&out, "# Fairlead's objects for the configuration of %s. Read the comments: they describe the differences.\n", from.name)
	comment(&out, t.remarks)
	for _, i := range t.items {
		out.WriteString("---\n")
		if i.object == nil {
			comment(&out, i.remarks)
			continue
		}
		comment(&out, append([]string{"From " + i.from + "."}, i.remarks...))
		if s, ok := i.object.(*corev1.Secret); ok && !passwords {
			comment(&out, []string{fmt.Sprintf("Secret %s/%s is not printed, as a password is in it. --apply creates it; --passwords prints it.", s.Namespace, s.Name)})
			continue
		}
		o, err := bare(i.object)
		if err != nil {
			return err
		}
		text, err := yaml.Marshal(o.Object)
		if err != nil {
			return err
		}
		out.Write(text)
	}
	_, err := io.WriteString(w, out.String())
	return err
}

// comment writes lines as comments. What is said of an object may have text of its
// in it, which must not end the comment.
func comment(out *strings.Builder, lines []string) {
	for _, l := range lines {
		fmt.Fprintf(out, "# %s\n", strings.Join(strings.FieldsFunc(l, isBreak), " "))
	}
}

// isBreak reports whether YAML may take a character for the end of a line.
func isBreak(r rune) bool {
	return r == '\n' || r == '\r' || r == '\u0085' || r == '\u2028' || r == '\u2029'
}

// bare returns an object as a user would write it: without a status, and without
// what the server fills in.
func bare(o object) (*unstructured.Unstructured, error) {
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(o)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", kindOf(o), o.GetName(), err)
	}
	delete(content, "status")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	return &unstructured.Unstructured{Object: content}, nil
}
