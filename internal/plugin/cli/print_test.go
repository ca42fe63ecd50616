package cli

import (
	"strings"
	"testing"

	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// greeting is a report.
type greeting struct {
	To    string `json:"to"`
	Count int64  `json:"count"`
}

func (g *greeting) Kind() string { return "Greeting" }

func (g *greeting) Text(p *term.Page, wide bool) { p.Line(term.Say("hello %s, wide: %t", g.To, wide)) }

func TestPrint(t *testing.T) {
	for format, want := range map[string]string{
		"":                                  "hello you, wide: false\n",
		"wide":                              "hello you, wide: true\n",
		"json":                              `"kind": "Greeting"`,
		"yaml":                              "apiVersion: plugin.fairlead.dev/v1alpha1\ncount: 3\nkind: Greeting\nto: you\n",
		"jsonpath={.to}":                    "you",
		"go-template={{.count}} of {{.to}}": "3 of you",
	} {
		streams, _, out, _ := genericiooptions.NewTestIOStreams()
		o := New(genericclioptions.NewConfigFlags(false), streams)
		o.Format = format
		if err := o.Print(&greeting{To: "you", Count: 3}); err != nil {
			t.Errorf("-o %s: %v", format, err)
		}
		if got := out.String(); !strings.Contains(got, want) {
			t.Errorf("-o %s writes %q, want %q", format, got, want)
		}
	}
}

func TestPrintInNoFormat(t *testing.T) {
	o := New(genericclioptions.NewConfigFlags(false), genericiooptions.NewTestIOStreamsDiscard())
	o.Format = "xml"
	if err := o.Print(&greeting{}); err == nil || !strings.Contains(err.Error(), "write json, yaml, wide") {
		t.Errorf("got %v, want the formats that there are", err)
	}
}
