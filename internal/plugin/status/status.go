// Package status shows the whole of Fairlead on one screen, what is wrong first.
package status

import (
	"cmp"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/doctor"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// Report is the whole of Fairlead at a glance.
type Report struct {
	Services   int              `json:"services"`  // that are Fairlead's
	Addresses  int              `json:"addresses"` // that they have
	Controller string           `json:"controller,omitempty"`
	Findings   []doctor.Finding `json:"findings"`
	Pools      []Pool           `json:"pools"`
	Speakers   []Speaker        `json:"speakers"`
	Peers      []Peer           `json:"peers,omitempty"`
	Unread     []string         `json:"unread,omitempty"`
}

// Pool is how much of a pool is in use, of one family.
type Pool struct {
	Name   string `json:"name"`
	Family string `json:"family"`
	Used   int64  `json:"used"`
	Free   int64  `json:"free"`
	Ready  bool   `json:"ready"`
	Says   string `json:"says"`
}

// Speaker is a node and what it announces.
type Speaker struct {
	Node      string `json:"node"`
	Ready     bool   `json:"ready"`
	Addresses int32  `json:"addresses"`
	Sessions  string `json:"sessions,omitempty"`
	Version   string `json:"version,omitempty"`
	Endpoint  string `json:"endpoint,omitempty"`
	Says      string `json:"says"`
	Drained   bool   `json:"drained,omitempty"`
}

// Peer is a router and how many of its sessions are up.
type Peer struct {
	Name   string `json:"name"`
	Router string `json:"router"`
	ASN    int64  `json:"asn,omitempty"`
	Wanted int32  `json:"sessionsWanted"`
	Up     int32  `json:"sessionsEstablished"`
	Routes int32  `json:"routes"`
}

// New makes the report.
func New(c *cluster.Cluster) *Report {
	r := &Report{Addresses: len(c.Users), Findings: doctor.Examine(c), Unread: c.Unread}
	if c.Lease != nil && c.Lease.Spec.HolderIdentity != nil {
		r.Controller = *c.Lease.Spec.HolderIdentity
	}
	for i := range c.Services {
		if c.Class.Handles(&c.Services[i]) {
			r.Services++
		}
	}
	for i := range c.Pools {
		r.Pools = append(r.Pools, pools(c, i)...)
	}
	r.speakers(c)
	r.peers(c)
	return r
}

// pools returns a row for each family that a pool has.
func pools(c *cluster.Cluster, i int) (out []Pool) {
	p := &c.Pools[i]
	ready, known := cluster.Ready(p.Status.Conditions)
	row := Pool{Name: p.Name, Ready: ready.Status == metav1.ConditionTrue, Says: ready.Message}
	if !known {
		row.Says = "the controller has not looked at it yet"
	}
	s := &p.Status
	for _, f := range []Pool{{Family: "IPv4", Used: s.AssignedIPv4, Free: s.AvailableIPv4}, {Family: "IPv6", Used: s.AssignedIPv6, Free: s.AvailableIPv6}} {
		if f.Used+f.Free != 0 {
			row.Family, row.Used, row.Free = f.Family, f.Used, f.Free
			out = append(out, row)
		}
	}
	if len(out) == 0 {
		out = append(out, row)
	}
	return out
}

func (r *Report) speakers(c *cluster.Cluster) {
	for i := range c.Nodes {
		row := Speaker{Node: c.Nodes[i].Name, Says: "no speaker"}
		if s := c.Speaker(row.Node); s != nil {
			ready, _ := cluster.Ready(s.Status.Conditions)
			_, row.Ready = c.View.Speakers[s.Name]
			row.Addresses, row.Sessions, row.Version, row.Endpoint = s.Status.OwnedAddresses, s.Status.Sessions, s.Status.Version, s.Status.GossipEndpoint
			row.Drained, row.Says = kube.Orders(s).Drain, ready.Message
		}
		if kube.NodeDown(&c.Nodes[i]) {
			row.Says = "the node is not ready"
		}
		r.Speakers = append(r.Speakers, row)
	}
}

func (r *Report) peers(c *cluster.Cluster) {
	for i := range c.BGPPeers {
		p := &c.BGPPeers[i]
		row := Peer{
			Name: p.Name, Router: cmp.Or(string(p.Spec.PeerAddress), "on "+string(p.Spec.Interface)), ASN: int64(p.Spec.PeerASN),
			Wanted: p.Status.SessionsWanted, Up: p.Status.SessionsEstablished,
		}
		for _, s := range c.Sessions(p.Name) {
			row.Routes += s.Prefixes
		}
		r.Peers = append(r.Peers, row)
	}
}

// Kind names the report.
func (r *Report) Kind() string { return "StatusReport" }

// How much there is room for on one screen.
const (
	someFindings = 8
	someSpeakers = 20
	barWidth     = 20
)

// active names the active controller.
func (r *Report) active() string {
	if r.Controller == "" {
		return "no active controller"
	}
	return "active controller: " + r.Controller
}

// Text writes the report, with all there is if wide.
func (r *Report) Text(p *term.Page, wide bool) {
	p.Line(term.In(term.Strong, "Fairlead"), term.Say("%s, %s, %s with %s; %s",
		term.Count(len(r.Speakers), "node", "nodes"), term.Count(distinct(r.Pools), "pool", "pools"),
		term.Count(r.Services, "Service", "Services"), term.Count(r.Addresses, "address", "addresses"), r.active()))
	r.findings(p, wide)
	r.poolTable(p)
	r.speakerTable(p, wide)
	r.peerTable(p)
	for _, u := range r.Unread {
		p.Line(term.In(term.Warn, "could not read %s", u))
	}
}

func distinct(pools []Pool) int {
	names := map[string]bool{}
	for _, p := range pools {
		names[p.Name] = true
	}
	return len(names)
}

func (r *Report) findings(p *term.Page, wide bool) {
	p.Line()
	if len(r.Findings) == 0 {
		p.Line(term.In(term.Good, "Nothing is wrong."))
		return
	}
	shown := r.Findings
	if !wide {
		shown = shown[:min(len(shown), someFindings)]
	}
	for i := range shown {
		shown[i].Text(p, false)
	}
	if more := len(r.Findings) - len(shown); more > 0 {
		p.Line(term.In(term.Faint, "and %d more: kubectl fairlead doctor", more))
	}
}

func (r *Report) poolTable(p *term.Page) {
	if len(r.Pools) == 0 {
		return
	}
	var rows [][]term.Text
	for _, x := range r.Pools {
		used, whole := float64(x.Used), float64(x.Used)+float64(x.Free)
		bar := term.Say("%s", term.Bar(used, whole, barWidth))
		percent := "-"
		if whole > 0 {
			percent = fmt.Sprintf("%.0f%%", 100*used/whole)
			bar.Tone = toneOf(used / whole)
		}
		says := term.In(term.Faint, "%s", x.Says)
		if !x.Ready {
			says.Tone = term.Bad
		}
		rows = append(rows, []term.Text{term.Say("%s", x.Name), term.Say("%s", cmp.Or(x.Family, "-")), bar, term.Say("%s", percent), term.Say("%d", x.Used), term.Say("%s", count(x.Free)), says})
	}
	p.Line()
	p.Table(0, []string{"POOL", "FAMILY", "USE", "", "USED", "FREE", ""}, rows)
}

// toneOf is how worrying a pool's use is.
func toneOf(use float64) term.Tone {
	switch {
	case use >= 1:
		return term.Bad
	case use >= doctor.NearlyFull:
		return term.Warn
	default:
		return term.Good
	}
}

// count writes a number that may be large beyond meaning: a /64 has 2^64 addresses.
func count(n int64) string {
	const many = 1e9
	if n < many {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%.1e", float64(n))
}

func (r *Report) speakerTable(p *term.Page, wide bool) {
	if len(r.Speakers) == 0 {
		return
	}
	shown, more := r.Speakers, 0
	if !wide && len(shown) > someSpeakers {
		more = len(shown) - someSpeakers
		shown = shown[:someSpeakers]
	}
	most := int32(1)
	for _, s := range r.Speakers {
		most = max(most, s.Addresses)
	}
	header := []string{"", "NODE", "L2", "", "BGP", ""}
	if wide {
		header = []string{"", "NODE", "L2", "", "BGP", "VERSION", "GOSSIP", ""}
	}
	var rows [][]term.Text
	for _, s := range shown {
		mark, says := term.In(term.Good, "✓"), term.In(term.Faint, "%s", s.Says)
		switch {
		case !s.Ready:
			mark, says.Tone = term.In(term.Bad, "✗"), term.Bad
		case s.Drained:
			mark, says = term.In(term.Warn, "~"), term.In(term.Warn, "drained; %s", s.Says)
		}
		row := []term.Text{mark, term.Say("%s", s.Node), term.Say("%d", s.Addresses), term.Say("%s", term.Bar(float64(s.Addresses), float64(most), barWidth/2)), term.Say("%s", cmp.Or(s.Sessions, "-"))}
		if wide {
			row = append(row, term.Say("%s", cmp.Or(s.Version, "-")), term.Say("%s", cmp.Or(s.Endpoint, "-")))
		}
		rows = append(rows, append(row, says))
	}
	p.Line()
	p.Table(0, header, rows)
	if more > 0 {
		p.Line(term.In(term.Faint, "and %d more: -o wide", more))
	}
}

func (r *Report) peerTable(p *term.Page) {
	if len(r.Peers) == 0 {
		return
	}
	var rows [][]term.Text
	for _, x := range r.Peers {
		mark := term.In(term.Good, "✓")
		if x.Up < x.Wanted || x.Wanted == 0 {
			mark = term.In(term.Bad, "✗")
		}
		as := "-"
		if x.ASN != 0 {
			as = fmt.Sprint(x.ASN)
		}
		rows = append(rows, []term.Text{mark, term.Say("%s", x.Name), term.Say("%s", x.Router), term.Say("%s", as), term.Say("%d/%d", x.Up, x.Wanted), term.Say("%d", x.Routes)})
	}
	p.Line()
	p.Table(0, []string{"", "PEER", "ROUTER", "AS", "UP", "ROUTES"}, rows)
}

// Command returns the command.
func Command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := cli.New(flags, streams)
	watch, every := false, 2*time.Second
	cmd := &cobra.Command{
		Use: "status", Args: cobra.NoArgs,
		Short: "Show everything on one screen: problems first, then pools, speakers, sessions",
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := o.Client()
			if err != nil {
				return err
			}
			report := func() (cli.Report, error) {
				read, err := o.Read(cmd.Context(), c)
				if err != nil {
					return nil, err
				}
				return New(read), nil
			}
			if watch {
				return o.Watch(cmd.Context(), every, report)
			}
			r, err := report()
			if err != nil {
				return err
			}
			return o.Print(r)
		},
	}
	o.Register(cmd)
	o.RegisterFormat(cmd)
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "keep running, and refresh the report")
	cmd.Flags().DurationVar(&every, "interval", every, "how often to look, with --watch")
	return cmd
}
