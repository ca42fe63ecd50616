package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Planner makes one plan after the other, each from its snapshot alone, as Make
// does, but that it knows which addresses were not in the last one. It keeps what the
// last one found out for as long as the snapshot says that it is so still: a claim,
// which is what changes most often, then costs as much as the one address.
type Planner struct {
	// What the kept things were found out from.
	version uint64
	node    string
	joined  bool

	assigned []lb.Assignment    // nobody writes to it
	spots    []spot             // of these
	standby  []string           // interfaces on which this node could announce one of them
	seats    map[netip.Addr]int // address -> index of its spot
	claims   []election.Claim   // by spot
	outcomes []Outcome          // by spot
	load     election.Load      // as claimed
	took     netip.Addr         // what was to be taken over in the last plan
	routes   []lb.BGPRoute
	// Indexes of spots. Of most addresses the owner is among the good candidates:
	// these are settled, as no other address has a say in who that is.
	mine map[int]bool // settled, and announced by this node
	open map[int]bool // not settled
	kept *Plan        // what follows from mine; nil when that has changed since
}

// Make decides what this node announces.
func (p *Planner) Make(s Snapshot) Plan {
	switch {
	case s.Version == 0 || s.Version != p.version || s.Node != p.node:
		unknown := !same(p.assigned, s.Assignments)
		if unknown {
			known, were := p.seats, p.spots
			p.assigned = s.Assignments
			p.spots, p.seats = s.spots()
			p.inherit(known, were)
		}
		p.hear(&s, unknown || s.Version == 0)
		s.look(p.spots)
		p.date(&s)
		p.routes = s.routes(p.spots)
		p.begin(&s)
	case s.Joined != p.joined:
		p.hear(&s, false)
		p.begin(&s)
	default:
		for _, a := range slices.Concat(s.Moved, []netip.Addr{p.took, s.Take}) {
			if i, assigned := p.seats[a]; assigned {
				p.claimed(&s, i, s.Claims[a])
			}
		}
	}
	p.took = s.Take
	if p.kept == nil {
		p.kept = new(Plan)
		for i := range p.mine {
			s.outcome(&p.spots[i], p.claims[i], p.claims[i].Owner, p.kept)
		}
		p.kept.sort()
	}
	plan := Plan{
		Announcements: p.kept.Announcements, Users: p.kept.Users, Standby: p.standby,
		Claims: map[netip.Addr]election.Claim{}, Outcomes: p.outcomes, Routes: p.routes,
	}
	if len(p.open) > 0 {
		load, more := election.Load{Of: maps.Clone(p.load.Of), Most: p.load.Most}, Plan{Claims: plan.Claims}
		for _, i := range slices.Sorted(maps.Keys(p.open)) {
			p.outcomes[i] = s.place(&p.spots[i], p.claims[i], load, &more)
		}
		plan.add(&more)
	}
	return plan
}

// Has reports whether the last snapshot assigned the address.
func (p *Planner) Has(a netip.Addr) bool {
	_, has := p.seats[a]
	return has
}

// HasFamily reports whether the last snapshot assigned an address of the family.
func (p *Planner) HasFamily(f lb.Family) bool {
	return slices.ContainsFunc(p.spots, func(sp spot) bool { return lb.FamilyOf(sp.Addr) == f })
}

// inherit takes over with which claims spots came to the network that were there before.
func (p *Planner) inherit(known map[netip.Addr]int, were []spot) {
	for i := range p.spots {
		sp := &p.spots[i]
		if known == nil { // this speaker starts: who has the address may have announced it for long
			sp.debut = firstEpoch
		} else if last, had := known[sp.Addr]; had {
			sp.debut = were[last].debut
		}
	}
}

// date notes with which claim a spot comes to the network, as soon as some node
// could announce it. An address that is given out again, which may have been a foreign
// host's meanwhile, comes with the claim of who had it last, or of who takes over from
// that one.
func (p *Planner) date(s *Snapshot) {
	for i := range p.spots {
		sp := &p.spots[i]
		if sp.debut != 0 || sp.candidates.Reason != 0 {
			continue
		}
		c := s.Claims[sp.Addr]
		if sp.debut = c.Epoch; !sp.settled(c) {
			sp.debut++
		}
	}
}

// hear takes in the claims on the spots: all, or those that were others in the last
// snapshot.
func (p *Planner) hear(s *Snapshot, all bool) {
	if all {
		p.claims = anew(p.claims, len(p.spots))
		for i := range p.spots {
			p.claims[i] = s.Claims[p.spots[i].Addr]
		}
		return
	}
	for _, a := range s.Moved {
		if i, assigned := p.seats[a]; assigned {
			p.claims[i] = s.Claims[a]
		}
	}
}

// begin looks at all spots anew.
func (p *Planner) begin(s *Snapshot) {
	p.version, p.node, p.joined = s.Version, s.Node, s.Joined
	p.outcomes = anew(p.outcomes, len(p.spots))
	p.load, p.standby = s.load(len(p.spots)), s.standby(p.spots)
	p.mine, p.open, p.kept = map[int]bool{}, map[int]bool{}, nil
	for i := range p.spots {
		p.count(i, 1)
		p.settle(s, i)
	}
}

// anew returns n zero values, where the old ones were if there is room.
func anew[T any](old []T, n int) []T {
	s := slices.Grow(old[:0], n)[:n]
	clear(s)
	return s
}

// same reports whether the two are one slice, and not only equal.
func same(x, y []lb.Assignment) bool { return len(x) == len(y) && len(x) > 0 && &x[0] == &y[0] }

// standby returns the interfaces on which this node could announce an IPv4 address.
func (s *Snapshot) standby(spots []spot) []string {
	names, seen := map[string]bool{}, map[*Candidates]bool{}
	for i := range spots {
		if c := spots[i].candidates; spots[i].Addr.Is4() && !seen[c] {
			seen[c] = true
			for _, name := range c.Able[s.Node] {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// claimed takes in the claim on a spot.
func (p *Planner) claimed(s *Snapshot, i int, c election.Claim) {
	p.count(i, -1)
	p.claims[i] = c
	p.count(i, 1)
	if p.mine[i] {
		delete(p.mine, i)
		p.kept = nil
	}
	delete(p.open, i)
	p.settle(s, i)
}

// count adds to the load of a spot's owner.
func (p *Planner) count(i, more int) {
	if owner := p.claims[i].Owner; owner != "" {
		p.load.Of[owner] += more
	}
}

// settle finds what follows from the claim on a spot, or leaves it open.
func (p *Planner) settle(s *Snapshot, i int) {
	c := p.claims[i]
	if !p.spots[i].settled(c) || s.insists(&p.spots[i], c) {
		p.open[i] = true
		return
	}
	p.outcomes[i] = s.outcome(&p.spots[i], c, c.Owner, &Plan{})
	if p.outcomes[i].Reason == lb.ReasonAnnounced {
		p.mine[i], p.kept = true, nil
	}
}

// settled reports whether the outcome depends on the claim alone: there is no
// one to choose from, or nothing to choose.
func (sp *spot) settled(c election.Claim) bool {
	if sp.candidates.Reason != 0 {
		return true
	}
	_, stays := slices.BinarySearch(sp.candidates.Good, c.Owner)
	return stays
}
