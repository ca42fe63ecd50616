package plugin

import (
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
	"github.com/fairlead-lb/fairlead/internal/version"
)

// versions is which versions there are.
type versions struct {
	Plugin   string         `json:"plugin"`
	Speakers map[string]int `json:"speakers,omitempty"` // version -> how many
	nodes    map[string][]string
}

// Kind names the report.
func (v *versions) Kind() string { return "VersionReport" }

// Text writes the report.
func (v *versions) Text(p *term.Page, _ bool) {
	p.Field("Plugin", term.Say("%s", v.Plugin))
	var rows []string
	for number, nodes := range v.nodes {
		rows = append(rows, fmt.Sprintf("%s on %s", number, kube.Some(nodes, 5)))
	}
	label := "Speakers"
	for _, row := range slices.Sorted(slices.Values(rows)) {
		p.Field(label, term.Say("%s", row))
		label = ""
	}
}

func versionCommand(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := cli.New(flags, streams)
	clientOnly := false
	cmd := &cobra.Command{
		Use: "version", Args: cobra.NoArgs,
		Short: "Say the versions of the plugin and of the speakers",
		RunE: func(cmd *cobra.Command, _ []string) error {
			v := &versions{Plugin: version.String()}
			if clientOnly {
				return o.Print(v)
			}
			c, err := o.Client()
			if err != nil {
				return err
			}
			var speakers v1alpha1.SpeakerList
			if err := c.List(cmd.Context(), &speakers); err != nil {
				return fmt.Errorf("list Speakers: %w (--client leaves them out)", err)
			}
			v.count(speakers.Items)
			return o.Print(v)
		},
	}
	cmd.Flags().BoolVar(&clientOnly, "client", false, "of the plugin only")
	o.RegisterFormat(cmd)
	return cmd
}

func (v *versions) count(speakers []v1alpha1.Speaker) {
	v.Speakers, v.nodes = map[string]int{}, map[string][]string{}
	for i := range speakers {
		number := speakers[i].Status.Version
		v.Speakers[number]++
		v.nodes[number] = append(v.nodes[number], speakers[i].Name)
	}
}
