package explain

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// PoolReport is what a pool has, for whom, and who has it.
type PoolReport struct {
	Pool     string   `json:"pool"`
	Ready    bool     `json:"ready"`
	Says     string   `json:"says"`
	Ranges   []string `json:"ranges"`
	Use      []Use    `json:"use,omitempty"`
	For      []string `json:"for"` // who may have an address of it
	Used     []Holder `json:"used,omitempty"`
	Layer2   []Advert `json:"l2Advertisements,omitempty"`
	BGP      []Advert `json:"bgpAdvertisements,omitempty"`
	Retiring []string `json:"retiring,omitempty"`
	Waiting  []string `json:"waiting,omitempty"` // Services that it refused
	Notes    []string `json:"notes,omitempty"`
	Next     []string `json:"next,omitempty"`
}

// Use is how much of a family is in use.
type Use struct {
	Family string `json:"family"`
	Used   int64  `json:"used"`
	Free   int64  `json:"free"`
}

// Holder is an address and who has it.
type Holder struct {
	Address string   `json:"address"`
	By      []string `json:"by"`
}

// Kind names the report.
func (r *PoolReport) Kind() string { return "PoolExplanation" }

// Pool explains a pool.
func Pool(c *cluster.Cluster, name string) (*PoolReport, error) {
	p := c.Pool(name)
	if p == nil {
		return nil, fmt.Errorf("there is no IPAddressPool %q", name)
	}
	r := &PoolReport{Pool: name, Notes: slices.Clone(c.Unread), For: admits(p)}
	r.condition(c, p)
	parsed, err := kube.Pool(p)
	for _, rng := range parsed.Ranges {
		r.Ranges = append(r.Ranges, rng.String())
	}
	if err != nil {
		r.Says, r.Ready = err.Error(), false
	}
	r.Use = uses(p)
	for _, a := range c.Addresses() {
		if g, _ := c.Grant(a); g.Pool == name {
			h := Holder{Address: a.String()}
			for _, u := range c.Users[a] {
				h.By = append(h.By, u.Service.String())
			}
			r.Used = append(r.Used, h)
		}
	}
	for _, x := range p.Status.Retiring {
		r.Retiring = append(r.Retiring, fmt.Sprintf("%s, until %s releases it", x.Address, x.Service))
	}
	for i := range c.View.Advertisements {
		a := &c.View.Advertisements[i]
		r.Layer2 = append(r.Layer2, poolAdvert(a.Name, &a.Scope, name))
	}
	for i := range c.View.BGPAdvertisements {
		a := &c.View.BGPAdvertisements[i]
		r.BGP = append(r.BGP, poolAdvert(a.Name, &a.Scope, name))
	}
	r.waiting(c)
	r.advise(p)
	return r, nil
}

func (r *PoolReport) condition(c *cluster.Cluster, p *v1alpha1.IPAddressPool) {
	ready, known := cluster.Ready(p.Status.Conditions)
	if !known {
		r.Says = "the controller has not looked at it yet"
		r.Next = append(r.Next, controllerFix(c))
		return
	}
	r.Ready, r.Says = ready.Status == metav1.ConditionTrue, ready.Message
}

// uses are how much is in use of the families that the pool has.
func uses(p *v1alpha1.IPAddressPool) (out []Use) {
	s := &p.Status
	for _, u := range []Use{{"IPv4", s.AssignedIPv4, s.AvailableIPv4}, {"IPv6", s.AssignedIPv6, s.AvailableIPv6}} {
		if u.Used+u.Free != 0 {
			out = append(out, u)
		}
	}
	return out
}

// admits says who may have an address of the pool.
func admits(p *v1alpha1.IPAddressPool) (out []string) {
	a := p.Spec.ServiceAllocation
	var whom []string
	if a != nil {
		for _, n := range a.Namespaces {
			whom = append(whom, "namespace "+string(n))
		}
		for i := range a.NamespaceSelectors {
			whom = append(whom, "namespaces with "+selected(&a.NamespaceSelectors[i]))
		}
	}
	if len(whom) == 0 {
		whom = []string{"all namespaces"}
	}
	out = append(out, "Services of "+strings.Join(whom, ", "))
	if a != nil {
		for i := range a.ServiceSelectors {
			out = append(out, "those with "+selected(&a.ServiceSelectors[i]))
		}
		if a.Priority > 0 {
			out = append(out, fmt.Sprintf("priority %d: 1 is asked first, and those without one last", a.Priority))
		}
	}
	if p.Spec.AutoAssign != nil && !*p.Spec.AutoAssign {
		out = append(out, "only those that name the pool, or an address of it (autoAssign is false)")
	}
	if p.Spec.MaxPerNamespace > 0 {
		out = append(out, fmt.Sprintf("at most %d addresses for a namespace", p.Spec.MaxPerNamespace))
	}
	return out
}

func selected(s *v1alpha1.LabelSelector) string {
	selector, err := s.Selector()
	if err != nil {
		return "a selector that cannot be understood: " + err.Error()
	}
	if selector.Empty() {
		return "any labels"
	}
	return "the labels " + selector.String()
}

func poolAdvert(name string, s *lb.Scope, pool string) Advert {
	switch {
	case !s.SelectsPool(pool):
		return Advert{Name: name, Words: "is for other pools"}
	case len(s.ServiceSelectors) > 0:
		return Advert{Name: name, Chooses: true, Words: "for some Services, by their labels"}
	default:
		return Advert{Name: name, Chooses: true}
	}
}

// waiting finds the Services without an address that the pool refuses.
func (r *PoolReport) waiting(c *cluster.Cluster) {
	for i := range c.Services {
		svc := &c.Services[i]
		if condition := kube.AssignedCondition(svc); condition == nil || condition.Status != metav1.ConditionFalse {
			continue
		}
		if slices.ContainsFunc(c.Refusals(svc), func(f lb.Refusal) bool { return f.Pool == r.Pool }) {
			r.Waiting = append(r.Waiting, kube.Key(svc).String())
		}
	}
}

func (r *PoolReport) advise(p *v1alpha1.IPAddressPool) {
	chooses := func(a Advert) bool { return a.Chooses }
	if !slices.ContainsFunc(r.Layer2, chooses) && !slices.ContainsFunc(r.BGP, chooses) {
		r.Notes = append(r.Notes, "no advertisement selects it: its addresses are assigned, but not announced")
		r.Next = append(r.Next, "create an L2Advertisement or a BGPAdvertisement for it")
	}
	for _, u := range r.Use {
		if u.Free == 0 && !p.Spec.Disabled {
			r.Notes = append(r.Notes, fmt.Sprintf("it has no free %s address", u.Family))
			r.Next = append(r.Next, lb.ReasonExhausted.Fix())
		}
	}
	if c, _ := cluster.Ready(p.Status.Conditions); c.Reason == v1alpha1.ReasonOverlap {
		r.Next = append(r.Next, lb.ReasonPoolOverlap.Fix())
	}
	if len(r.Next) == 0 {
		r.Next = []string{"nothing"}
	}
}

// barWidth is that of a bar of use.
const barWidth = 30

// Text writes the report.
func (r *PoolReport) Text(p *term.Page, wide bool) {
	tone := term.Good
	if !r.Ready {
		tone = term.Bad
	}
	p.Line(term.In(term.Strong, "IPAddressPool %s", r.Pool), term.In(tone, "%s", r.Says))
	p.Line()
	list(p, "Addresses", r.Ranges)
	label := "Use"
	for _, u := range r.Use {
		used, whole := float64(u.Used), float64(u.Used)+float64(u.Free)
		p.Field(label, term.Say("%s", u.Family), term.Say("%s", term.Bar(used, whole, barWidth)), term.Say("%d used, %d free", u.Used, u.Free))
		label = ""
	}
	list(p, "For", r.For)
	adverts(p, "Layer 2", "announces it", r.Layer2)
	adverts(p, "BGP", "announces it", r.BGP)
	r.holders(p, wide)
	list(p, "Retiring", r.Retiring)
	if len(r.Waiting) > 0 {
		p.Field("Refused", term.Say("%s", some(r.Waiting)))
	}
	p.Line()
	list(p, "Note", r.Notes)
	list(p, "Next step", r.Next)
}

// adverts lists advertisements, and what those do that choose what the report is
// about.
func adverts(p *term.Page, label, do string, all []Advert) {
	for _, a := range all {
		mark, tone, words := term.In(term.Faint, "·"), term.Faint, a.Name+" "+a.Words
		if a.Chooses {
			mark, tone = term.In(term.Good, "✓"), term.Plain
			words = strings.TrimSpace(a.Name + " " + do + " " + a.Words)
		}
		p.Field(label, mark, term.In(tone, "%s", words))
		label = ""
	}
}

// holders lists the holders of the pool's addresses, the first few unless all are wanted.
func (r *PoolReport) holders(p *term.Page, wide bool) {
	const few = 10
	shown := r.Used
	if !wide {
		shown = shown[:min(few, len(shown))]
	}
	label := "In use"
	for _, h := range shown {
		p.Field(label, term.Say("%s", h.Address), term.Say("by %s", strings.Join(h.By, ", ")))
		label = ""
	}
	if more := len(r.Used) - len(shown); more > 0 {
		p.Field("", term.In(term.Faint, "and %d more: -o wide, or kubectl fairlead addresses", more))
	}
}
