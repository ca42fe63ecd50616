package soak

import (
	"cmp"
	"errors"
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
	// Lossless rounds have one fault, to which no client may lose a packet: a planned
	// move, or something that announcing does not depend on.
	Lossless bool
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
	seed     uint64
	site     Site
	kinds    []kind
	lossless []kind // those of them to which no client may lose a packet
	round    int
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
		if slices.Contains(without, k.name) {
			continue
		}
		p.kinds = append(p.kinds, k)
		if k.lossless {
			p.lossless = append(p.lossless, k)
		}
	}
	if len(p.lossless) == 0 {
		return nil, errors.New("at least one kind of fault to which no packet may be lost has to stay")
	}
	return p, nil
}

const (
	fewestFaults  = 2
	mostFaults    = 5
	losslessEvery = 4 // one round of so many is lossless
	latestStart   = 3 * time.Second
	shortest      = 500 * time.Millisecond
	longest       = 8 * time.Second
)

// Next returns the next round.
func (p *Planner) Next() Round {
	p.round++
	rng := rand.New(rand.NewPCG(p.seed, uint64(p.round)))
	r := Round{Number: p.round, Lossless: rng.IntN(losslessEvery) == 0}
	if r.Lossless {
		from := time.Second // clients have their first answers
		r.Faults = []Scheduled{{pick(p.lossless, rng).make(rng, p.site), from, from + between(rng, 3*time.Second, 6*time.Second)}}
		return r
	}
	broken := map[string]bool{}
	for range fewestFaults + rng.IntN(mostFaults-fewestFaults+1) {
		f := pick(p.kinds, rng).make(rng, p.site)
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

// pick chooses one of the kinds by their weights.
func pick(kinds []kind, rng *rand.Rand) kind {
	total := 0
	for _, k := range kinds {
		total += k.weight
	}
	n := rng.IntN(total)
	for _, k := range kinds {
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
