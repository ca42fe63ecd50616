package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Planner makes successive plans. Each depends on its snapshot alone, as with Make, and on which
// addresses are new since the last one. It reuses the results of the last plan as long as the
// snapshot's version is the same: a changed claim, the most frequent change, then costs only the
// work for one address.
type Planner struct {
	// The inputs of the reused results.
	version uint64
	node    string
	joined  bool

	assigned []lb.Assignment    // not modified
	targets  []target           // of assigned
	standby  []string           // interfaces on which this node could announce one of them
	indexOf  map[netip.Addr]int // address -> index of its target
	claims   []election.Claim   // by target
	outcomes []Outcome          // by target
	load     election.Load      // as claimed
	lastTake netip.Addr         // Take of the last snapshot
	routes   []lb.BGPRoute
	// Indexes of targets. Most addresses are settled: their owner is a good candidate, so other
	// addresses do not influence the outcome.
	settledOwn  map[int]bool // settled, and announced by this node
	unsettled   map[int]bool // not settled
	settledPlan *Plan        // the announcements of settledOwn; nil if that changed
}

// Make decides what this node announces.
func (p *Planner) Make(s Snapshot) Plan {
	switch {
	case s.Version == 0 || s.Version != p.version || s.Node != p.node:
		unknown := !same(p.assigned, s.Assignments)
		if unknown {
			known, were := p.indexOf, p.targets
			p.assigned = s.Assignments
			p.targets, p.indexOf = s.targets()
			p.inherit(known, were)
		}
		p.readClaims(&s, unknown || s.Version == 0)
		s.findCandidates(p.targets)
		p.setIntroduced(&s)
		p.routes = s.routes(p.targets)
		p.rebuild(&s)
	case s.Joined != p.joined:
		p.readClaims(&s, false)
		p.rebuild(&s)
	default:
		for _, a := range slices.Concat(s.Moved, []netip.Addr{p.lastTake, s.Take}) {
			if i, assigned := p.indexOf[a]; assigned {
				p.setClaim(&s, i, s.Claims[a])
			}
		}
	}
	p.lastTake = s.Take
	if p.settledPlan == nil {
		p.settledPlan = new(Plan)
		for i := range p.settledOwn {
			s.outcome(&p.targets[i], p.claims[i], p.claims[i].Owner, p.settledPlan)
		}
		p.settledPlan.sort()
	}
	plan := Plan{
		Announcements: p.settledPlan.Announcements, Users: p.settledPlan.Users, Standby: p.standby,
		Claims: map[netip.Addr]election.Claim{}, Outcomes: p.outcomes, Routes: p.routes,
	}
	if len(p.unsettled) > 0 {
		load, more := election.Load{Of: maps.Clone(p.load.Of), Most: p.load.Most}, Plan{Claims: plan.Claims}
		for _, i := range slices.Sorted(maps.Keys(p.unsettled)) {
			p.outcomes[i] = s.place(&p.targets[i], p.claims[i], load, &more)
		}
		plan.add(&more)
	}
	return plan
}

// Has reports whether the last snapshot assigned the address.
func (p *Planner) Has(a netip.Addr) bool {
	_, has := p.indexOf[a]
	return has
}

// HasFamily reports whether the last snapshot assigned an address of the family.
func (p *Planner) HasFamily(f lb.Family) bool {
	return slices.ContainsFunc(p.targets, func(sp target) bool { return lb.FamilyOf(sp.Addr) == f })
}

// inherit copies introduced from the former targets.
func (p *Planner) inherit(known map[netip.Addr]int, were []target) {
	for i := range p.targets {
		sp := &p.targets[i]
		if known == nil { // this speaker starts: the owner may have announced the address for long
			sp.introduced = firstEpoch
		} else if last, had := known[sp.Addr]; had {
			sp.introduced = were[last].introduced
		}
	}
}

// setIntroduced records the epoch with which a target is introduced to the network, once a node
// can announce it. A foreign host may have started to use an address that was released and
// assigned again: it is introduced by the last owner's claim or, if that must be replaced, by the
// next one.
func (p *Planner) setIntroduced(s *Snapshot) {
	for i := range p.targets {
		sp := &p.targets[i]
		if sp.introduced != 0 || sp.candidates.Reason != 0 {
			continue
		}
		c := s.Claims[sp.Addr]
		if sp.introduced = c.Epoch; !sp.settled(c) {
			sp.introduced++
		}
	}
}

// readClaims reads the claims on the targets: all, or those that changed since the last snapshot.
func (p *Planner) readClaims(s *Snapshot, all bool) {
	if all {
		p.claims = zeroed(p.claims, len(p.targets))
		for i := range p.targets {
			p.claims[i] = s.Claims[p.targets[i].Addr]
		}
		return
	}
	for _, a := range s.Moved {
		if i, assigned := p.indexOf[a]; assigned {
			p.claims[i] = s.Claims[a]
		}
	}
}

// rebuild computes the outcomes of all targets again.
func (p *Planner) rebuild(s *Snapshot) {
	p.version, p.node, p.joined = s.Version, s.Node, s.Joined
	p.outcomes = zeroed(p.outcomes, len(p.targets))
	p.load, p.standby = s.load(len(p.targets)), s.standby(p.targets)
	p.settledOwn, p.unsettled, p.settledPlan = map[int]bool{}, map[int]bool{}, nil
	for i := range p.targets {
		p.count(i, 1)
		p.settle(s, i)
	}
}

// zeroed returns n zero values, and reuses the memory of old if it suffices.
func zeroed[T any](old []T, n int) []T {
	s := slices.Grow(old[:0], n)[:n]
	clear(s)
	return s
}

// same reports whether the two are one slice, and not only equal.
func same(x, y []lb.Assignment) bool { return len(x) == len(y) && len(x) > 0 && &x[0] == &y[0] }

// standby returns the interfaces on which this node could announce an IPv4 address.
func (s *Snapshot) standby(targets []target) []string {
	names, seen := map[string]bool{}, map[*Candidates]bool{}
	for i := range targets {
		if c := targets[i].candidates; targets[i].Addr.Is4() && !seen[c] {
			seen[c] = true
			for _, name := range c.Able[s.Node] {
				names[name] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// setClaim sets the claim on a target.
func (p *Planner) setClaim(s *Snapshot, i int, c election.Claim) {
	p.count(i, -1)
	p.claims[i] = c
	p.count(i, 1)
	if p.settledOwn[i] {
		delete(p.settledOwn, i)
		p.settledPlan = nil
	}
	delete(p.unsettled, i)
	p.settle(s, i)
}

// count adds to the load of a target's owner.
func (p *Planner) count(i, more int) {
	if owner := p.claims[i].Owner; owner != "" {
		p.load.Of[owner] += more
	}
}

// settle computes the outcome of a target, or adds it to the unsettled ones.
func (p *Planner) settle(s *Snapshot, i int) {
	c := p.claims[i]
	if !p.targets[i].settled(c) || s.mustClaim(&p.targets[i], c) {
		p.unsettled[i] = true
		return
	}
	p.outcomes[i] = s.outcome(&p.targets[i], c, c.Owner, &Plan{})
	if p.outcomes[i].Reason == lb.ReasonAnnounced {
		p.settledOwn[i], p.settledPlan = true, nil
	}
}

// settled reports whether the outcome depends on the claim alone: there is no candidate, or the
// owner stays.
func (sp *target) settled(c election.Claim) bool {
	if sp.candidates.Reason != 0 {
		return true
	}
	_, stays := slices.BinarySearch(sp.candidates.Good, c.Owner)
	return stays
}
