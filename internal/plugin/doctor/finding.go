// Package doctor looks for what is wrong, or will be: it is a list of checks, each
// a pure function from a cluster's objects to findings with evidence and the fix.
package doctor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// Severity is how much a finding matters.
type Severity string

// How much a finding matters.
const (
	Problem Severity = "Problem" // something does not work
	Warning Severity = "Warning" // something will not, or only just does
	Note    Severity = "Note"    // good to know
)

// order is the order in which findings are told.
var order = []Severity{Problem, Warning, Note}

// Finding is something that a person should know.
type Finding struct {
	Severity Severity `json:"severity"`
	Check    string   `json:"check"`
	About    []string `json:"about"` // the objects: "Service shop/web"
	Says     string   `json:"says"`
	Evidence []string `json:"evidence,omitempty"`
	Fix      string   `json:"fix,omitempty"`
}

// check looks for one kind of trouble.
type check struct {
	name string
	find func(*cluster.Cluster) []Finding
}

// checks are all there are, those first that explain others.
var checks = []check{
	{"controller", controller},
	{"deletion", deletions},
	{"speaker", speakers},
	{"gossip", gossip},
	{"gossip-keys", gossipKeys},
	{"interfaces", interfaces},
	{"kube-proxy", kubeProxy},
	{"kernel", kernels},
	{"clock", clocks},
	{"conflict", conflicts},
	{"two-owners", twoOwners},
	{"pending", pending},
	{"unassigned", unassigned},
	{"blocked", blocked},
	{"announced", announced},
	{"peer", peers},
	{"object", objects},
	{"advertisement", advertisements},
	{"overlap", overlaps},
	{"withheld", withheld},
	{"pool-subnet", poolSubnet},
	{"pool-use", poolUse},
	{"pool-announced", poolAnnounced},
	{"excluded", excluded},
	{"drained", drained},
	{"balance", balance},
	{"versions", versions},
	{"retiring", retiring},
}

// Examine returns all findings, the gravest first.
func Examine(c *cluster.Cluster) (out []Finding) {
	for _, k := range checks {
		for _, f := range k.find(c) {
			f.Check = k.name
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(x, y Finding) int { return slices.Index(order, x.Severity) - slices.Index(order, y.Severity) })
	return out
}

// few is how many objects a finding names.
const few = 5

// Subject names what the finding is about.
func (f *Finding) Subject() string { return kube.Some(f.About, few) }

// marks show a severity at a glance.
var marks = map[Severity]term.Text{
	Problem: term.In(term.Bad, "✗"),
	Warning: term.In(term.Warn, "!"),
	Note:    term.In(term.Faint, "·"),
}

// Text writes the finding: what is wrong, with its evidence if that is wanted, and
// the fix.
func (f *Finding) Text(p *term.Page, evidence bool) {
	says := term.Say("%s: %s", f.Subject(), f.Says)
	if len(f.About) == 0 {
		says = term.Say("%s", f.Says)
	}
	p.Line(marks[f.Severity], says)
	if evidence {
		for _, e := range f.Evidence {
			p.Line(term.Say("   "), term.In(term.Faint, "%s", e))
		}
	}
	if f.Fix != "" {
		p.Line(term.Say("  →"), term.Say("%s", f.Fix))
	}
}

// gather makes one finding of those that differ only in what they are about: a
// thousand Services have one trouble.
type gathered struct {
	list  []Finding
	index map[string]int
}

func (g *gathered) add(f Finding) {
	key := fmt.Sprint(f.Severity, "\x00", f.Says, "\x00", f.Fix)
	if g.index == nil {
		g.index = map[string]int{}
	}
	i, known := g.index[key]
	if !known {
		g.index[key] = len(g.list)
		g.list = append(g.list, f)
		return
	}
	was := &g.list[i]
	for _, a := range f.About {
		if !slices.Contains(was.About, a) {
			was.About = append(was.About, a)
		}
	}
	was.Evidence = append(was.Evidence, f.Evidence[:min(len(f.Evidence), max(0, few-len(was.Evidence)))]...)
}

// joined joins what is not empty to a sentence.
func joined(parts ...string) string {
	return strings.Join(slices.DeleteFunc(parts, func(s string) bool { return s == "" }), "; ")
}
