package doctor

import (
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// Report is all that was found.
type Report struct {
	Findings []Finding `json:"findings"`
	Checks   int       `json:"checks"` // how many were made
	Unread   []string  `json:"unread,omitempty"`
}

// New examines a cluster.
func New(c *cluster.Cluster) *Report {
	return &Report{Findings: Examine(c), Checks: len(checks), Unread: c.Unread}
}

// Kind names the report.
func (r *Report) Kind() string { return "DoctorReport" }

// Text writes the report.
func (r *Report) Text(p *term.Page, _ bool) {
	for i := range r.Findings {
		r.Findings[i].Text(p, true)
	}
	if len(r.Findings) > 0 {
		p.Line()
	}
	p.Line(term.Say("%d checks: %s", r.Checks, count(r.Findings)))
	for _, u := range r.Unread {
		p.Line(term.In(term.Warn, "could not read %s", u))
	}
}

// count says how many findings there are of each severity.
func count(findings []Finding) string {
	n := map[Severity]int{}
	for i := range findings {
		n[findings[i].Severity]++
	}
	if len(findings) == 0 {
		return "nothing is wrong"
	}
	return strings.Join([]string{
		term.Count(n[Problem], "problem", "problems"), term.Count(n[Warning], "warning", "warnings"), term.Count(n[Note], "note", "notes"),
	}, ", ")
}

// Command returns the command.
func Command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := cli.New(flags, streams)
	cmd := &cobra.Command{
		Use: "doctor", Args: cobra.NoArgs,
		Short: "Look for what is wrong, with evidence and the fix",
		Long:  "Find problems from the cluster's objects, each with evidence and a fix. Nothing is changed.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.Cluster(cmd.Context())
			if err != nil {
				return err
			}
			return o.Print(New(c))
		},
	}
	o.Register(cmd)
	o.RegisterFormat(cmd)
	return cmd
}
