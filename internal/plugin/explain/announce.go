package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// Advert is an advertisement and whether it chooses an address.
type Advert struct {
	Name    string `json:"name"`
	Chooses bool   `json:"chooses"`
	Words   string `json:"words,omitempty"` // why it does not
}

// Verdict is what a node has to do with an address.
type Verdict string

// What a node has to do with an address.
const (
	Announces Verdict = "Announces" // it tells the network that the address is here
	Can       Verdict = "Can"       // it would take over
	Avoided   Verdict = "Avoided"   // it can, and others are better
	Silent    Verdict = "Silent"    // it should tell routers, and has no session
	Cannot    Verdict = "Cannot"
)

// Candidate is a node and what it has to do with an address.
type Candidate struct {
	Node    string   `json:"node"`
	Verdict Verdict  `json:"verdict"`
	On      []string `json:"on,omitempty"` // interfaces, or routers
	Reason  string   `json:"reason,omitempty"`
	Words   string   `json:"words,omitempty"`
}

// Way is one way to announce an address: layer 2 or BGP.
type Way struct {
	Adverts    []Advert    `json:"advertisements,omitempty"`
	Chosen     bool        `json:"chosen"` // by an advertisement
	Announced  bool        `json:"announced"`
	Reason     string      `json:"reason,omitempty"` // why it is not
	Since      string      `json:"since,omitempty"`  // how long the owner has had it
	Moved      string      `json:"moved,omitempty"`  // by whose order it went there, if by anybody's
	Candidates []Candidate `json:"candidates,omitempty"`
	Conflicts  []string    `json:"conflicts,omitempty"`

	why      lb.Reason
	family   lb.Family // of the address
	noSubnet string    // says so, where that is why
	rejected []plan.Rejection
}

// AddressPart is one address: where it is from, and who announces it.
type AddressPart struct {
	Address  netip.Addr `json:"address"`
	Pool     string     `json:"pool"`
	Claim    string     `json:"claim,omitempty"`
	Retiring bool       `json:"retiring,omitempty"` // its pool no longer has it
	Shared   []string   `json:"sharedBy,omitempty"` // all Services that have it, if several
	Why      string     `json:"why,omitempty"`      // this address and no other
	Blocked  string     `json:"blocked,omitempty"`  // what else has it
	Layer2   Way        `json:"layer2"`
	BGP      Way        `json:"bgp"`

	block *lb.Blocked
}

// announced reports whether somebody tells the network about the address.
func (a *AddressPart) announced() bool { return a.Layer2.Announced || a.BGP.Announced }

// ways are those that advertisements chose; layer 2 where none did.
func (a *AddressPart) ways() []*Way {
	switch {
	case a.BGP.Chosen && a.Layer2.Chosen:
		return []*Way{&a.Layer2, &a.BGP}
	case a.BGP.Chosen:
		return []*Way{&a.BGP}
	default:
		return []*Way{&a.Layer2}
	}
}

// addressPart tells of one address that Services of ours have.
func addressPart(c *cluster.Cluster, g lb.Grant) AddressPart {
	found := c.Announcement(g)
	p := AddressPart{Address: g.Addr, Pool: g.Pool, Retiring: !c.PoolHas(g.Pool, g.Addr)}
	if claim := c.ClaimOf(g.Addr); claim != nil {
		p.Claim = claim.Namespace + "/" + claim.Name
	}
	if len(found.Users) > 1 {
		for _, u := range found.Users {
			p.Shared = append(p.Shared, u.Service.String())
		}
	}
	for _, u := range found.Users {
		for _, b := range c.Blocked(u.Service) {
			if b.Addr == g.Addr {
				p.Blocked, p.block = b.String(), &b
			}
		}
	}
	p.Layer2, p.BGP = layer2(c, &found), routes(c, &found)
	return p
}

// wayOf begins what there is to say of a way: why it is not taken, or 0.
func wayOf(f lb.Family, why lb.Reason, rejected []plan.Rejection, chosen bool) Way {
	w := Way{Chosen: chosen, Announced: why == 0, why: why, family: f, rejected: rejected}
	if why != 0 {
		w.Reason = why.String()
	}
	return w
}

func layer2(c *cluster.Cluster, a *view.Announcement) Way {
	l := &a.Layer2
	w := wayOf(lb.FamilyOf(a.Grant.Addr), l.Why(), l.Rejected, len(l.Adverts) > 0)
	for i := range c.View.Advertisements {
		advert := &c.View.Advertisements[i]
		w.Adverts = append(w.Adverts, judge(advert.Name, &advert.Scope, l.Adverts, a.Grant))
	}
	w.noSubnet = c.View.NoSubnet(a.Grant.Addr)
	if w.Announced {
		w.Since, w.Moved = c.Age(l.Owner.Since), ordered(c, l.Owner.Node, a.Grant.Addr)
	}
	for _, n := range l.Good {
		can := Candidate{Node: n, Verdict: Can, On: l.Able[n]}
		if n == l.Owner.Node {
			can.Verdict, can.On = Announces, l.Owner.Interfaces
		}
		can.Reason, can.Words = reasonOf(l.Strained, n)
		w.Candidates = append(w.Candidates, can)
	}
	for _, r := range l.Avoided {
		can := Candidate{Node: r.Node, Verdict: Avoided, On: l.Able[r.Node], Reason: r.Reason.String(), Words: r.Reason.Words()}
		if r.Node == l.Owner.Node { // until its successor has claimed the address
			can.Verdict = Announces
		}
		w.Candidates = append(w.Candidates, can)
	}
	w.reject(l.Rejected)
	for _, f := range l.Conflicts {
		words := fmt.Sprintf("%s, seen by %s on %s", f.MAC, f.Node, f.Interface)
		if f.Defended {
			words += ", which defends the address"
		}
		w.Conflicts = append(w.Conflicts, words)
	}
	return w
}

// ordered says that a user had the owner take the address over, if the owner's last
// orders were about it.
func ordered(c *cluster.Cluster, owner string, a netip.Addr) string {
	sp := c.Speaker(owner)
	if sp == nil {
		return ""
	}
	said := meta.FindStatusCondition(sp.Status.Conditions, v1alpha1.ConditionMoved)
	if said == nil || !slices.Contains(sp.Status.MovedAddresses, a.String()) {
		return ""
	}
	return fmt.Sprintf("%s ago: %s, as a user asked for: %s", c.Age(said.LastTransitionTime), owner, said.Message)
}

func routes(c *cluster.Cluster, a *view.Announcement) Way {
	b := &a.BGP
	w := wayOf(lb.FamilyOf(a.Grant.Addr), b.Why(), b.Rejected, len(b.Adverts) > 0)
	for i := range c.View.BGPAdvertisements {
		advert := &c.View.BGPAdvertisements[i]
		w.Adverts = append(w.Adverts, judge(advert.Name, &advert.Scope, b.Adverts, a.Grant))
	}
	for _, n := range b.Nodes {
		can := Candidate{Node: n, Verdict: Announces}
		can.Reason, can.Words = reasonOf(b.Strained, n)
		for _, peer := range b.Peers[n] {
			if slices.Contains(c.View.Up[n], peer) {
				can.On = append(can.On, peer)
			}
		}
		if slices.Contains(b.Silent, n) {
			can.Verdict, can.On = Silent, b.Peers[n]
			can.Reason, can.Words = lb.ReasonNotEstablished.String(), silence(c, n, b.Peers[n])
		}
		w.Candidates = append(w.Candidates, can)
	}
	for _, r := range b.Avoided {
		w.Candidates = append(w.Candidates, Candidate{Node: r.Node, Verdict: Avoided, On: b.Peers[r.Node], Reason: r.Reason.String(), Words: r.Reason.Words()})
	}
	w.reject(b.Rejected)
	return w
}

// silence says why a node has no session with any of the routers.
func silence(c *cluster.Cluster, node string, peers []string) string {
	var why []string
	for _, peer := range peers {
		for _, s := range c.Sessions(peer) {
			if s.Node == node {
				why = append(why, fmt.Sprintf("%s: %s", peer, s.Words))
			}
		}
	}
	return strings.Join(why, "; ")
}

func (w *Way) reject(list []plan.Rejection) {
	for _, r := range list {
		w.Candidates = append(w.Candidates, Candidate{Node: r.Node, Verdict: Cannot, Reason: r.Reason.String(), Words: r.Reason.WordsFor(w.family)})
	}
}

func reasonOf(list []plan.Rejection, node string) (reason, words string) {
	for _, r := range list {
		if r.Node == node {
			return r.Reason.String(), r.Reason.Words()
		}
	}
	return "", ""
}

// judge says whether an advertisement is among those that choose an address, or why
// it is not.
func judge(name string, s *lb.Scope, chosen []string, g lb.Grant) Advert {
	a := Advert{Name: name, Chooses: slices.Contains(chosen, name)}
	switch {
	case a.Chooses:
	case !s.SelectsPool(g.Pool):
		a.Words = fmt.Sprintf("is not for pool %q", g.Pool)
	default:
		a.Words = "its serviceSelectors do not match the Service's labels"
	}
	return a
}

// fixes are what to do so that the address is announced in this way.
func (w *Way) fixes() (out []string) {
	if w.why != lb.ReasonNoCandidate {
		return []string{w.why.Fix()}
	}
	nodes := map[lb.Reason][]string{}
	var order []lb.Reason
	for _, r := range w.rejected {
		if nodes[r.Reason] == nil {
			order = append(order, r.Reason)
		}
		nodes[r.Reason] = append(nodes[r.Reason], r.Node)
	}
	for _, r := range order {
		if fix := r.Fix(); fix != "" {
			out = append(out, some(nodes[r])+": "+fix)
		}
	}
	return out
}

// cause says in one sentence why the address is not announced in this way.
func (w *Way) cause() string {
	switch w.why {
	case lb.ReasonNotOwner:
		return "no node reports yet that it announces it"
	case lb.ReasonConflict:
		return w.why.WordsFor(w.family) + ": " + strings.Join(w.Conflicts, "; ")
	case lb.ReasonNotEstablished:
		return "no BGP session is up: " + w.grouped(Silent)
	case lb.ReasonNoSubnet:
		return w.noSubnet
	case lb.ReasonNoCandidate:
		return w.why.WordsFor(w.family) + ": " + w.grouped(Cannot)
	default:
		return w.why.WordsFor(w.family)
	}
}

// grouped names the nodes with a verdict by what is said of them.
func (w *Way) grouped(v Verdict) string {
	nodes := map[string][]string{}
	var order []string
	for _, c := range w.Candidates {
		if c.Verdict != v {
			continue
		}
		if nodes[c.Words] == nil {
			order = append(order, c.Words)
		}
		nodes[c.Words] = append(nodes[c.Words], c.Node)
	}
	var parts []string
	for _, words := range order {
		parts = append(parts, some(nodes[words])+" "+words)
	}
	return strings.Join(parts, "; ")
}

// marks show a verdict at a glance.
var marks = map[Verdict]term.Text{
	Announces: term.In(term.Good, "●"),
	Can:       term.In(term.Good, "✓"),
	Avoided:   term.In(term.Warn, "~"),
	Silent:    term.In(term.Bad, "✗"),
	Cannot:    term.In(term.Bad, "✗"),
}

// text writes the way below its label.
func (w *Way) text(p *term.Page, label string) {
	for _, a := range w.Adverts {
		if a.Chooses {
			p.Field(label, term.In(term.Good, "✓"), term.Say("%s selects it", a.Name))
		} else {
			p.Field(label, term.In(term.Faint, "·"), term.In(term.Faint, "%s %s", a.Name, a.Words))
		}
		label = ""
	}
	if !w.Chosen {
		return
	}
	for _, c := range w.Candidates {
		p.Field(label, term.Say(" "), marks[c.Verdict], term.Say("%s", c.words(w.Since)))
	}
	for _, f := range w.Conflicts {
		p.Field("", term.Say(" "), term.In(term.Bad, "!"), term.Say("a host outside of the cluster has it too: %s", f))
	}
}

func (c *Candidate) words(since string) string {
	on := ""
	if len(c.On) > 0 {
		on = " (" + strings.Join(c.On, ", ") + ")"
	}
	switch c.Verdict {
	case Announces:
		s := c.Node + on + " announces it"
		if since != "" {
			s += ", since " + since
		}
		if c.Words != "" {
			s += "; no better node is available: " + c.Words
		}
		return s
	case Can:
		if c.Words != "" {
			return c.Node + on + " can: " + c.Words
		}
		return c.Node + on + " can"
	case Avoided:
		return c.Node + on + " can, and others are better: " + c.Words
	case Silent:
		return c.Node + " has no session that is up with " + c.Words
	default:
		return c.Node + " " + c.Words
	}
}
