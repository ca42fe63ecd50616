package allocator

import (
	"cmp"
	"iter"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// perFamily is a value for each address family.
type perFamily[T any] [lb.IPv6 + 1]T

// pool is a Pool with its bookkeeping. It is the same pool as long as there is
// one of its name.
type pool struct {
	lb.Pool
	gone     bool
	overlaps string              // the older pool that has some of the same addresses, or ""
	free     perFamily[*freeSet] // nil for a family that it lacks, and when it overlaps
	assigned perFamily[int]      // addresses
	withheld perFamily[int]      // addresses that are blocked and not assigned
	retiring map[netip.Addr]bool // assigned, but no longer in the ranges

	seats  map[*space]map[netip.Addr]int // how many holders each address has; only with a quota
	groups map[group]addrSet             // addresses that Services share by key
}

// span is a range of an active pool.
type span struct {
	lb.Range
	pool *pool
}

// spans returns the ranges of those pools that are active, sorted.
func spans(pools []*pool) (out []span) {
	for _, p := range pools {
		for _, r := range p.Ranges {
			if p.overlaps == "" {
				out = append(out, span{r, p})
			}
		}
	}
	slices.SortFunc(out, func(x, y span) int { return x.From.Compare(y.From) })
	return out
}

// fill makes the pool's free addresses its ranges less what is in use. Addresses
// that were cooling down are free at once.
func (p *pool) fill(inUse ...iter.Seq[netip.Addr]) {
	p.free = perFamily[*freeSet]{}
	if p.overlaps != "" {
		return
	}
	for _, r := range p.Ranges {
		f := lb.FamilyOf(r.From)
		if p.free[f] == nil {
			p.free[f] = newFreeSet(p.AvoidBuggyIPs)
		}
		p.free[f].addRange(r)
	}
	for _, addrs := range inUse {
		for addr := range addrs {
			if p.Contains(addr) {
				p.free[lb.FamilyOf(addr)].take(addr)
			}
		}
	}
}

// forget makes all counts zero.
func (p *pool) forget() {
	p.assigned, p.withheld = perFamily[int]{}, perFamily[int]{}
	p.retiring = map[netip.Addr]bool{}
	p.seats = map[*space]map[netip.Addr]int{}
	p.groups = map[group]addrSet{}
}

// count records that addr is assigned from the pool.
func (p *pool) count(addr netip.Addr) {
	p.assigned[lb.FamilyOf(addr)]++
	if !p.Contains(addr) {
		p.retiring[addr] = true
	}
}

// uncount is the reverse of count.
func (p *pool) uncount(addr netip.Addr) {
	p.assigned[lb.FamilyOf(addr)]--
	delete(p.retiring, addr)
}

// seat records that a holder of the namespace has addr.
func (p *pool) seat(s *space, addr netip.Addr) {
	if p.MaxPerNamespace == 0 {
		return
	}
	if p.seats[s] == nil {
		p.seats[s] = map[netip.Addr]int{}
	}
	p.seats[s][addr]++
}

// unseat is the reverse of seat.
func (p *pool) unseat(s *space, addr netip.Addr) {
	of := p.seats[s]
	if of == nil {
		return
	}
	if of[addr]--; of[addr] <= 0 {
		delete(of, addr)
	}
	if len(of) == 0 {
		delete(p.seats, s)
	}
}

// admits returns the reason why the pool gives nothing to the request, or 0.
// Who asks for an exact address or names the pool may have one of a pool that is
// not autoAssign.
func (p *pool) admits(req *lb.Request, exact bool) lb.Reason {
	switch {
	case p.Deleting:
		return lb.ReasonPoolDeleting
	case p.Disabled:
		return lb.ReasonPoolDisabled
	case p.overlaps != "":
		return lb.ReasonPoolOverlap
	case !p.AutoAssign && req.Pool != p.Name && !exact:
		return lb.ReasonNotAutoAssign
	case !p.admitsNamespace(req):
		return lb.ReasonNamespaceNotAllowed
	case len(p.ServiceSelectors) > 0 && !lb.MatchesAny(p.ServiceSelectors, req.Labels):
		return lb.ReasonServiceNotSelected
	}
	return 0
}

func (p *pool) admitsNamespace(req *lb.Request) bool {
	if len(p.Namespaces)+len(p.NamespaceSelectors) == 0 {
		return true
	}
	return slices.Contains(p.Namespaces, req.Holder.Namespace) ||
		lb.MatchesAny(p.NamespaceSelectors, req.NamespaceLabels)
}

// askedBefore orders pools by priority (1 first, 0 last), then the narrower
// one, then by name.
func askedBefore(x, y *pool) int {
	last := func(p *pool) int {
		if p.Priority == 0 {
			return 1
		}
		return 0
	}
	return cmp.Or(
		cmp.Compare(last(x), last(y)),
		cmp.Compare(x.Priority, y.Priority),
		cmp.Compare(y.narrowness(), x.narrowness()),
		cmp.Compare(x.Name, y.Name),
	)
}

// narrowness is higher for a pool that admits fewer Services.
func (p *pool) narrowness() int {
	n := 0
	if len(p.Namespaces)+len(p.NamespaceSelectors) > 0 {
		n++
	}
	if len(p.ServiceSelectors) > 0 {
		n++
	}
	return n
}

// Overlaps returns the pools that are inactive because they share an address
// with an older one that is, each with that one's name. One that is being deleted
// makes way for all others: so a pool is renamed.
func Overlaps(pools []lb.Pool) map[string]string {
	deleting := func(p lb.Pool) int {
		if p.Deleting {
			return 1
		}
		return 0
	}
	byAge := slices.SortedFunc(slices.Values(pools), func(x, y lb.Pool) int {
		return cmp.Or(cmp.Compare(deleting(x), deleting(y)), x.Created.Compare(y.Created), cmp.Compare(x.Name, y.Name))
	})
	out := map[string]string{}
	for i, p := range byAge {
		for _, older := range byAge[:i] {
			if out[older.Name] == "" && intersect(p, older) {
				out[p.Name] = older.Name
				break
			}
		}
	}
	return out
}

// intersect reports whether the pools have an address in common.
func intersect(p, q lb.Pool) bool {
	return slices.ContainsFunc(p.Ranges, func(r lb.Range) bool { return slices.ContainsFunc(q.Ranges, r.Overlaps) })
}

// addrSet is a small sorted set of addresses.
type addrSet []netip.Addr

func (s addrSet) with(a netip.Addr) addrSet {
	i, found := slices.BinarySearchFunc(s, a, netip.Addr.Compare)
	if found {
		return s
	}
	return slices.Insert(s, i, a)
}

func (s addrSet) without(a netip.Addr) addrSet {
	i, found := slices.BinarySearchFunc(s, a, netip.Addr.Compare)
	if !found {
		return s
	}
	return slices.Delete(s, i, i+1)
}
