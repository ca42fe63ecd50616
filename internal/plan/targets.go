package plan

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// target is an assigned address with the nodes that can announce it.
type target struct {
	lb.Grant
	first      *lb.Assignment  // the Service that has it
	others     []lb.Assignment // further Services that have it
	sharers    []lb.ServiceKey // the names of others
	introduced uint64          // the epoch of the claim that first announces it: a later one takes over an announced address, without a probe; 0 until a node can announce it

	candidates *Candidates // without Rejected; shared by many targets
	portion    *portion    // what this node advertises of it by BGP, nil for nothing; shared by many targets
}

// targets returns the assigned addresses in the order of the assignments, without candidates, and
// the index of each.
func (s *Snapshot) targets() ([]target, map[netip.Addr]int) {
	all := make([]target, 0, len(s.Assignments))
	indexOf := make(map[netip.Addr]int, len(s.Assignments))
	s.grants(func(as *lb.Assignment, g lb.Grant) {
		i, known := indexOf[g.Addr]
		if !known {
			indexOf[g.Addr] = len(all)
			all = append(all, target{Grant: g, first: as})
			return
		}
		if sp := &all[i]; as.Service != sp.first.Service { // else it names the address twice
			sp.others, sp.sharers = append(sp.others, *as), append(sp.sharers, as.Service)
		}
	})
	return all, indexOf
}

// findCandidates sets the candidates of the targets. There may be tens of thousands of targets,
// but few kinds: candidates are computed once for each kind.
func (s *Snapshot) findCandidates(targets []target) {
	k, b := newKinds(s), newBGPKinds(s)
	for i := range targets {
		sp := &targets[i]
		users := append([]lb.Assignment{*sp.first}, sp.others...)
		sp.candidates, sp.portion = k.candidates(users, sp.Grant), b.portion(users, sp.Grant)
	}
}

// grants calls do for each address of each Service.
func (s *Snapshot) grants(do func(*lb.Assignment, lb.Grant)) {
	for i := range s.Assignments {
		for _, g := range s.Assignments[i].Grants {
			do(&s.Assignments[i], g)
		}
	}
}

// kind has the inputs that determine the candidates for an address within one snapshot.
type kind struct {
	adverts *advertSet
	subnet  netip.Prefix // the smallest subnet of a live node that contains the address; subnets of one address are nested
	family  lb.Family
	private bool
	policy  lb.TrafficPolicy
	served  bool   // a node has a ready endpoint of the address's family
	ready   string // with policy Local, the names of these nodes
}

// advertSet is a set of advertisements. There is one of each, so that pointers
// can be compared.
type advertSet struct{ list []*lb.L2Advertisement }

// kinds computes the candidates of addresses, once for each kind.
type kinds struct {
	s       *Snapshot
	nodes   []string // sorted
	known   map[kind]*Candidates
	last    kind // most addresses are of the same kind as the one before
	lastFor *Candidates

	pools   map[string]*poolAdverts
	sets    map[string]*advertSet // by the indexes of their advertisements
	subnets map[netip.Prefix]bool
	lengths map[lb.Family][]int // of the subnets, longest first
}

// poolAdverts are the advertisements of one pool.
type poolAdverts struct {
	list []int      // indexes
	all  *advertSet // for every Service; nil if some select Services by label
}

func newKinds(s *Snapshot) *kinds {
	k := &kinds{
		s: s, nodes: slices.Sorted(maps.Keys(s.Nodes)), known: map[kind]*Candidates{},
		pools: map[string]*poolAdverts{}, sets: map[string]*advertSet{},
		subnets: map[netip.Prefix]bool{}, lengths: map[lb.Family][]int{},
	}
	for _, sp := range s.Speakers {
		for _, i := range sp.Interfaces {
			if i.Internal {
				continue
			}
			for p := range i.Subnets {
				k.subnets[p] = true
			}
		}
	}
	for p := range k.subnets {
		f := lb.FamilyOf(p.Addr())
		if !slices.Contains(k.lengths[f], p.Bits()) {
			k.lengths[f] = append(k.lengths[f], p.Bits())
		}
	}
	for _, lengths := range k.lengths {
		slices.SortFunc(lengths, func(x, y int) int { return y - x })
	}
	return k
}

// candidates returns the same as Snapshot.Candidates, without Rejected: with
// externalTrafficPolicy Local these are many, and differ between Services.
func (k *kinds) candidates(users []lb.Assignment, g lb.Grant) *Candidates {
	as := union(users)
	family := lb.FamilyOf(g.Addr)
	ready := as.Ready.Of(family)
	of := kind{
		adverts: k.adverts(users, g), subnet: k.subnet(g.Addr), family: family, private: private(g.Addr),
		policy: as.Policy, served: len(ready) > 0,
	}
	among := k.nodes
	if as.Policy == lb.TrafficLocal {
		of.ready = strings.Join(ready, "\x00")
		among = ready
	}
	if k.lastFor != nil && of == k.last {
		return k.lastFor
	}
	c := k.known[of]
	if c == nil {
		found := k.s.candidates(among, as, g.Addr, of.adverts.list, k.subnetsWith(g.Addr))
		found.Rejected = nil
		c = &found
		k.known[of] = c
	}
	k.last, k.lastFor = of, c
	return c
}

// adverts returns the advertisements that select one of the Services.
func (k *kinds) adverts(users []lb.Assignment, g lb.Grant) *advertSet {
	p := k.pools[g.Pool]
	if p == nil {
		p = k.pool(g.Pool)
		k.pools[g.Pool] = p
	}
	if p.all != nil {
		return p.all
	}
	var chosen []int
	for _, i := range p.list {
		if selects(&k.s.Advertisements[i], users, g) {
			chosen = append(chosen, i)
		}
	}
	return k.set(chosen)
}

func (k *kinds) pool(name string) *poolAdverts {
	p, selective := &poolAdverts{}, false
	for i := range k.s.Advertisements {
		a := &k.s.Advertisements[i]
		if a.SelectsPool(name) {
			p.list = append(p.list, i)
			selective = selective || len(a.ServiceSelectors) > 0
		}
	}
	if !selective {
		p.all = k.set(p.list)
	}
	return p
}

// set returns the one set of these advertisements.
func (k *kinds) set(indexes []int) *advertSet {
	name := make([]byte, 0, 64)
	for _, i := range indexes {
		name = append(name, byte(i>>16), byte(i>>8), byte(i))
	}
	set := k.sets[string(name)]
	if set == nil {
		set = &advertSet{}
		for _, i := range indexes {
			set.list = append(set.list, &k.s.Advertisements[i])
		}
		k.sets[string(name)] = set
	}
	return set
}

// subnet returns the smallest subnet of a live node that contains the address; the zero Prefix
// if there is none.
func (k *kinds) subnet(a netip.Addr) netip.Prefix {
	for _, bits := range k.lengths[lb.FamilyOf(a)] {
		if p, err := a.Prefix(bits); err == nil && k.subnets[p] {
			return p
		}
	}
	return netip.Prefix{}
}

// subnetsWith returns the subnets of live nodes that contain the address, the smallest first.
func (k *kinds) subnetsWith(a netip.Addr) (out []netip.Prefix) {
	for _, bits := range k.lengths[lb.FamilyOf(a)] {
		if p, err := a.Prefix(bits); err == nil && k.subnets[p] {
			out = append(out, p)
		}
	}
	return out
}
