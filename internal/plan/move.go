package plan

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Orders are what a user wants this node to take over from others.
type Orders struct {
	Take      []netip.Addr // these addresses
	Rebalance bool         // of those that have more, until this node has its share
}

// Move is an address that goes from one node to another.
type Move struct {
	Addr     netip.Addr
	From, To string
}

// Refusal is an address that this node cannot take over.
type Refusal struct {
	Addr   netip.Addr
	Reason lb.Reason
}

// Next returns what this node is to take over next, given a plan and what it was
// made from; a Move without an address when nothing is left to do. Refused are
// those to be taken that it cannot have.
func (o Orders) Next(s *Snapshot, p Plan) (next Move, refused []Refusal) {
	of := make(map[netip.Addr]*Outcome, len(p.Outcomes))
	for i := range p.Outcomes {
		of[p.Outcomes[i].Addr] = &p.Outcomes[i]
	}
	for _, a := range o.Take {
		out := of[a]
		reason := lb.ReasonNotAssigned
		if out != nil {
			reason = s.refuses(out)
		}
		switch {
		case reason != 0:
			refused = append(refused, Refusal{a, reason})
		case out.Owner != s.Node && next.Addr == (netip.Addr{}):
			next = Move{Addr: a, From: out.Owner, To: s.Node}
		}
	}
	if next.Addr == (netip.Addr{}) && o.Rebalance {
		next = share(s.Node, p)
	}
	return next, refused
}

// share returns an address of the node that has the most, of those that this node
// may be chosen for, if that one would still have as many as this node.
func share(node string, p Plan) Move {
	has := map[string]int{}
	for i := range p.Outcomes {
		has[p.Outcomes[i].Owner]++
	}
	best := Move{To: node}
	for i := range p.Outcomes {
		o := &p.Outcomes[i]
		if o.Owner == "" || o.Owner == node || has[o.Owner] < has[node]+2 || !slices.Contains(o.Best, node) {
			continue
		}
		if best.From == "" || cmp.Or(cmp.Compare(has[o.Owner], has[best.From]), -o.Addr.Compare(best.Addr)) > 0 {
			best.Addr, best.From = o.Addr, o.Owner
		}
	}
	return best
}

// refuses returns why this node cannot have the address of the outcome, or 0.
func (s *Snapshot) refuses(o *Outcome) lb.Reason {
	var users []lb.Assignment
	var grant lb.Grant
	s.grants(func(as *lb.Assignment, g lb.Grant) {
		if g.Addr == o.Addr {
			users, grant = append(users, *as), g
		}
	})
	c := s.Candidates(users, grant)
	for _, r := range slices.Concat(c.Rejected, c.Avoided) {
		if r.Node == s.Node {
			return r.Reason
		}
	}
	return c.Reason
}
