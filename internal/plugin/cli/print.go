package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/printers"

	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// apiVersion is that of reports, for those who read them by a program.
const apiVersion = "plugin.fairlead.dev/v1alpha1"

// Report is what a command found out: a value that can be JSON, and its text.
type Report interface {
	// Kind names the report: "StatusReport".
	Kind() string
	// Text writes it for a person. With wide it says more.
	Text(p *term.Page, wide bool)
}

// Print prints the report in the format that the flag says.
func (o *Options) Print(r Report) error {
	if o.Format == "" || o.Format == "wide" {
		page := term.NewPage(o.Out)
		r.Text(page, o.Format == "wide")
		return page.Err()
	}
	return printObject(o.Out, r, o.Format)
}

// Machine reports whether what is printed is for a program, and not to be mixed
// with words.
func (o *Options) Machine() bool { return o.Format != "" && o.Format != "wide" }

// printObject prints the report as an object, as kubectl get does.
func printObject(w io.Writer, r Report, format string) error {
	body, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("%s: %w", r.Kind(), err)
	}
	object := &unstructured.Unstructured{}
	if err := json.Unmarshal(body, &object.Object); err != nil {
		return fmt.Errorf("%s: %w", r.Kind(), err)
	}
	object.SetAPIVersion(apiVersion)
	object.SetKind(r.Kind())
	printer, err := printerOf(format)
	if err != nil {
		return err
	}
	return printer.PrintObj(object, w)
}

func printerOf(format string) (printers.ResourcePrinter, error) {
	for _, family := range []interface {
		ToPrinter(string) (printers.ResourcePrinter, error)
	}{genericclioptions.NewJSONYamlPrintFlags(), genericclioptions.NewKubeTemplatePrintFlags()} {
		printer, err := family.ToPrinter(format)
		var unknown genericclioptions.NoCompatiblePrinterError
		if !errors.As(err, &unknown) {
			return printer, err
		}
	}
	return nil, fmt.Errorf("-o %s: write json, yaml, wide, jsonpath=… or go-template=…", format)
}

// clear clears the terminal's screen, and does nothing where there is none.
func (o *Options) clear() {
	if printers.AllowsColorOutput(o.Out) {
		fmt.Fprint(o.Out, "\x1b[H\x1b[2J\x1b[3J")
	} else {
		fmt.Fprintln(o.Out)
	}
}
