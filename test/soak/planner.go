package soak

import (
	"cmp"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"time"
)

// Scheduled is a fault, and when in its round it begins and ends.
type Scheduled struct {
	Fault
	From, To time.Duration
}

// Round is a number of faults, which all end with it.
type Round struct {
	Number int
	Faults []Scheduled
	// Planned rounds have one fault, a move that a user or an upgrade asks for. No
	// client may lose a packet to it.
	Planned bool
}

func (r Round) String() string {
	var parts []string
	for _, f := range r.Faults {
		parts = append(parts, fmt.Sprintf("%v from %.1f s to %.1f s", f.Fault, f.From.Seconds(), f.To.Seconds()))
	}
	return fmt.Sprintf("round %d: %s", r.Number, strings.Join(parts, ", "))
}

// step is one thing to do in a round.
type step struct {
	at    time.Duration
	heals bool
	Fault
}

func (s step) String() string {
	if s.heals {
		return fmt.Sprintf("heal %v", s.Fault)
	}
	return fmt.Sprintf("break %v", s.Fault)
}

// steps are what there is to do in the round, in order.
func (r Round) steps() []step {
	var out []step
	for _, f := range r.Faults {
		out = append(out, step{f.From, false, f.Fault}, step{f.To, true, f.Fault})
	}
	slices.SortStableFunc(out, func(a, b step) int { return cmp.Compare(a.at, b.at) })
	return out
}

// Site is what there is to break.
type Site struct {
	Nodes       []string
	Routers     []string
	Controllers int
	Services    int // of each kind: layer 2, BGP
}

// Planner decides what breaks. Its decisions are a pure function of the seed, the site
// and the kinds that are left out.
type Planner struct {
	seed  uint64
	site  Site
	kinds []kind
	round int
}

// NewPlanner returns a planner of faults of all kinds but those named.
func NewPlanner(seed uint64, site Site, without ...string) (*Planner, error) {
	p := &Planner{seed: seed, site: site}
	for _, name := range without {
		if !slices.ContainsFunc(allKinds, func(k kind) bool { return k.name == name }) {
			return nil, fmt.Errorf("no kind of fault is called %q; there are %s", name, strings.Join(kindNames(), ", "))
		}
	}
	for _, k := range allKinds {
		if !slices.Contains(without, k.name) {
			p.kinds = append(p.kinds, k)
		}
	}
	return p, nil
}

const (
	fewestFaults = 2
	mostFaults   = 5
	plannedEvery = 5 // one round of so many is a planned move
	latestStart  = 3 * time.Second
	shortest     = 500 * time.Millisecond
	longest      = 8 * time.Second
)

// Next returns the next round.
func (p *Planner) Next() Round {
	p.round++
	rng := rand.New(rand.NewPCG(p.seed, uint64(p.round)))
	r := Round{Number: p.round, Planned: rng.IntN(plannedEvery) == 0}
	if r.Planned {
		r.Faults = []Scheduled{p.plannedMove(rng)}
		return r
	}
	broken := map[string]bool{}
	for range fewestFaults + rng.IntN(mostFaults-fewestFaults+1) {
		f := p.pick(rng).make(rng, p.site)
		from := between(rng, 0, latestStart)
		to := from + between(rng, shortest, longest)
		if slices.ContainsFunc(f.Targets(), func(t string) bool { return broken[t] }) {
			continue // what is broken already is not broken twice
		}
		for _, t := range f.Targets() {
			broken[t] = true
		}
		r.Faults = append(r.Faults, Scheduled{f, from, to})
	}
	return r
}

// plannedMove is a restart of a speaker or a drain of a node.
func (p *Planner) plannedMove(rng *rand.Rand) Scheduled {
	node := p.site.node(rng)
	var f Fault = StopSpeaker{node}
	if rng.IntN(3) == 0 {
		f = Drain{node}
	}
	from := time.Second // clients have their first answers
	return Scheduled{f, from, from + between(rng, 3*time.Second, 6*time.Second)}
}

func (p *Planner) pick(rng *rand.Rand) kind {
	total := 0
	for _, k := range p.kinds {
		total += k.weight
	}
	n := rng.IntN(total)
	for _, k := range p.kinds {
		if n -= k.weight; n < 0 {
			return k
		}
	}
	panic("soak: weights do not add up")
}

// between is a duration from low to below high, to a tenth of a second.
func between(rng *rand.Rand, low, high time.Duration) time.Duration {
	const grain = 100 * time.Millisecond
	return low + time.Duration(rng.Int64N(int64((high-low)/grain)))*grain
}

func (s Site) node(rng *rand.Rand) string { return s.Nodes[rng.IntN(len(s.Nodes))] }

// split returns two groups of nodes, neither empty. Some nodes may be in none.
func (s Site) split(rng *rand.Rand) (one, other []string) {
	nodes := slices.Clone(s.Nodes)
	rng.Shuffle(len(nodes), func(i, j int) { nodes[i], nodes[j] = nodes[j], nodes[i] })
	n := 1 + rng.IntN(len(nodes)-1)
	m := n + 1 + rng.IntN(len(nodes)-n)
	one, other = nodes[:n], nodes[n:m]
	slices.Sort(one)
	slices.Sort(other)
	return one, other
}
