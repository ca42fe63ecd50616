package explain

import (
	"cmp"
	"fmt"
	"slices"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// PeerReport is what the nodes have to do with a router.
type PeerReport struct {
	Peer     string    `json:"peer"`
	Router   string    `json:"router"`
	Ready    bool      `json:"ready"`
	Says     string    `json:"says"`
	Wanted   int       `json:"sessionsWanted"`
	Up       int       `json:"sessionsEstablished"`
	Sessions []Session `json:"sessions"`
	Adverts  []Advert  `json:"advertisements,omitempty"`
	Notes    []string  `json:"notes,omitempty"`
	Next     []string  `json:"next,omitempty"`
}

// Session is what one node has to do with a router.
type Session struct {
	Node     string `json:"node"`
	Wanted   bool   `json:"wanted"`
	Up       bool   `json:"up"`
	State    string `json:"state,omitempty"`
	Since    string `json:"since,omitempty"`
	Prefixes int32  `json:"prefixes"`
	BFD      string `json:"bfd,omitempty"`
	Words    string `json:"words,omitempty"`
}

// Kind names the report.
func (r *PeerReport) Kind() string { return "PeerExplanation" }

// Peer explains a BGPPeer.
func Peer(c *cluster.Cluster, name string) (*PeerReport, error) {
	i := slices.IndexFunc(c.BGPPeers, func(p v1alpha1.BGPPeer) bool { return p.Name == name })
	if i < 0 {
		return nil, fmt.Errorf("there is no BGPPeer %q", name)
	}
	peer := &c.BGPPeers[i]
	r := &PeerReport{Peer: name, Router: router(peer), Notes: slices.Clone(c.Unread)}
	if ready, known := cluster.Ready(peer.Status.Conditions); known {
		r.Ready, r.Says = ready.Status == metav1.ConditionTrue, ready.Message
	} else {
		r.Says = "the controller has not looked at it yet"
	}
	for _, s := range c.Sessions(name) {
		out := Session{Node: s.Node, Wanted: s.Wanted, Up: s.Up(), State: string(s.State), Prefixes: s.Prefixes, BFD: string(s.BFD), Words: s.Words}
		if !s.Since.IsZero() {
			out.Since = c.Age(s.Since)
		}
		if s.Wanted {
			r.Wanted++
		}
		if s.Up() {
			r.Up++
		}
		r.Sessions = append(r.Sessions, out)
	}
	for i := range c.View.BGPAdvertisements {
		a := Advert{Name: c.View.BGPAdvertisements[i].Name, Chooses: c.View.BGPAdvertisements[i].SelectsPeer(name)}
		if !a.Chooses {
			a.Words = "is for other peers"
		}
		r.Adverts = append(r.Adverts, a)
	}
	r.advise()
	return r, nil
}

// router says in a line which router it is.
func router(p *v1alpha1.BGPPeer) string {
	s := &p.Spec
	at := cmp.Or(string(s.PeerAddress), "found on "+string(s.Interface))
	if s.PeerPort != 0 {
		at += fmt.Sprintf(", port %d", s.PeerPort)
	}
	as := fmt.Sprintf("AS %d", s.PeerASN)
	if s.DynamicASN != "" {
		as = string(s.DynamicASN) + " AS"
	}
	return fmt.Sprintf("%s, %s; this cluster is AS %d", at, as, cmp.Or(s.LocalASN, s.MyASN))
}

// advise says what to do. What a speaker says of a session that is not up names the
// fix itself.
func (r *PeerReport) advise() {
	for _, s := range r.Sessions {
		if s.Wanted && s.Words != "" && !slices.Contains(r.Next, s.Words) {
			r.Next = append(r.Next, s.Words)
		}
	}
	if r.Wanted == 0 {
		r.Next = append(r.Next, "have spec.nodeSelectors select nodes that run a speaker")
	}
	if !slices.ContainsFunc(r.Adverts, func(a Advert) bool { return a.Chooses }) {
		r.Notes = append(r.Notes, "no BGPAdvertisement selects it, so no address is advertised to it")
		r.Next = append(r.Next, "create a BGPAdvertisement, or name the peer in one's spec.peers")
	}
	if len(r.Next) == 0 {
		r.Next = []string{"nothing"}
	}
}

// Text writes the report.
func (r *PeerReport) Text(p *term.Page, _ bool) {
	tone := term.Good
	if !r.Ready {
		tone = term.Bad
	}
	p.Line(term.In(term.Strong, "BGPPeer %s", r.Peer), term.In(tone, "%s", r.Says))
	p.Line()
	p.Field("Router", term.Say("%s", r.Router))
	adverts(p, "Adverts", "selects it", r.Adverts)
	p.Field("Sessions", term.Say("%d of %d are up", r.Up, r.Wanted))
	var rows [][]term.Text
	for _, s := range r.Sessions {
		rows = append(rows, s.row())
	}
	p.Table(2, []string{"", "NODE", "STATE", "SINCE", "ROUTES", "BFD", ""}, rows)
	p.Line()
	list(p, "Note", r.Notes)
	list(p, "Next step", r.Next)
}

func (s *Session) row() []term.Text {
	mark, words := term.In(term.Faint, "·"), term.In(term.Faint, "%s", s.Words)
	switch {
	case s.Wanted && s.Up && s.Words == "":
		mark = term.In(term.Good, "✓")
	case s.Wanted && s.Up:
		mark, words.Tone = term.In(term.Warn, "~"), term.Warn
	case s.Wanted:
		mark, words.Tone = term.In(term.Bad, "✗"), term.Bad
	}
	return []term.Text{
		mark, term.Say("%s", s.Node), term.Say("%s", cmp.Or(s.State, "none")), term.Say("%s", cmp.Or(s.Since, "-")),
		term.Say("%d", s.Prefixes), term.Say("%s", cmp.Or(s.BFD, "-")), words,
	}
}
