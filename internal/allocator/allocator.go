package allocator

import (
	"cmp"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Allocator holds the pools, what each holder has of them, and the holders that
// wait. The zero value is not usable; see New.
type Allocator struct {
	pools   map[string]*pool
	order   []*pool // in the order in which they are asked
	inForce []span  // sorted by address
	spaces  map[string]*space
	owners  map[netip.Addr]*holding // the holder of an address; of several the one that has held it longest
	sharers map[netip.Addr]*sharing // all who have an address, where they share it by key
	queues  map[topic]queue
	blocked map[netip.Addr][]lb.Block // what else has an address; never empty slices
	touched []lb.Holder               // whose answer or loan changed since the last call returned
}

// New returns an Allocator without pools.
func New() *Allocator {
	return &Allocator{
		pools:   map[string]*pool{},
		spaces:  map[string]*space{},
		owners:  map[netip.Addr]*holding{},
		sharers: map[netip.Addr]*sharing{},
		queues:  map[topic]queue{},
		blocked: map[netip.Addr][]lb.Block{},
	}
}

// SetPools replaces the pools. No holder loses an address: one that its pool
// no longer has is retiring until it is released. SetPools returns the holders
// whose address is now counted to another pool. Serve must follow, when those
// that have addresses of new pools already are restored.
func (a *Allocator) SetPools(pools []lb.Pool) []lb.Holder {
	overlaps := Overlaps(pools)
	next := make(map[string]*pool, len(pools))
	for _, spec := range pools {
		p := a.pools[spec.Name]
		if p == nil {
			p = &pool{}
		}
		same := reflect.DeepEqual(p.Pool, spec) && (p.overlaps == "") == (overlaps[spec.Name] == "")
		p.Pool, p.overlaps = spec, overlaps[spec.Name]
		if !same {
			p.fill(maps.Keys(a.owners), maps.Keys(a.blocked))
		}
		next[p.Name] = p
	}
	for name, p := range a.pools {
		p.gone = next[name] == nil
	}
	a.pools = next
	a.order = slices.SortedFunc(maps.Values(next), askedBefore)
	a.inForce = spans(a.order)
	return a.recount()
}

// recount recounts every address. One whose pool no longer has it moves to the
// pool that has it now, as when a pool is split or renamed; where none has, it
// is retiring in the pool that gave it. The holders of addresses that moved are
// returned, sorted.
func (a *Allocator) recount() (moved []lb.Holder) {
	for _, p := range a.pools {
		p.forget()
	}
	counted := make(map[netip.Addr]bool, len(a.owners))
	for h := range a.holdings {
		for g := range h.everything {
			if p := a.rightful(*g); p != g.pool {
				g.pool = p
				moved = append(moved, h.holder())
			}
			if a.lender(h, g.addr) != nil {
				continue
			}
			g.pool.seat(h.space, g.addr)
			if !counted[g.addr] {
				counted[g.addr] = true
				g.pool.count(g.addr)
			}
		}
	}
	for addr, s := range a.sharers {
		a.regroup(addr, s, addrSet.with)
	}
	for addr := range a.blocked {
		a.withhold(addr, 1)
	}
	slices.SortFunc(moved, lb.Holder.Compare)
	return slices.Compact(moved)
}

// rightful returns the pool that a granted address counts to.
func (a *Allocator) rightful(g grant) *pool {
	p := g.pool
	if p.gone && a.pools[p.Name] != nil {
		p = a.pools[p.Name] // recreated under the same name
	}
	if !p.gone && p.overlaps == "" && p.Contains(g.addr) {
		return p
	}
	if other := a.poolOf(g.addr); other != nil {
		return other
	}
	return p
}

// Restore records that the holder has these addresses already, before anything
// new is given. Of two Services that have one address and do not share it the
// older keeps it. Restore returns which of the addresses it accepted: those that
// a pool has, or had (retiring names the pool by address), and no older Service
// holds; and why not those that one does. Call it once per holder: claims first,
// then Services, oldest first.
func (a *Allocator) Restore(req lb.Request, addrs []netip.Addr, retiring map[netip.Addr]string) ([]lb.Grant, []lb.Refusal) {
	h := a.enter(req.Holder)
	var had []grant
	var conflicts []lb.Refusal
	for _, addr := range addrs {
		second := slices.ContainsFunc(had, func(g grant) bool { return lb.FamilyOf(g.addr) == lb.FamilyOf(addr) })
		p := a.origin(addr, retiring)
		if second || p == nil {
			continue
		}
		if r := a.conflict(h, &req, addr); r != nil {
			r.Pool, r.Family = p.Name, lb.FamilyOf(addr)
			conflicts = append(conflicts, *r)
			continue
		}
		had = append(had, grant{addr, p})
	}
	a.become(h, &req, had, nil)
	if h.more != nil {
		h.more.unsaid = false
	}
	a.touched = nil
	if !h.first.addr.IsValid() {
		a.leave(h)
	}
	return a.granted(h), conflicts
}

// conflict says why the holder cannot have an address that it says it has: it is
// neither free, nor shared, nor lent to it by a claim of its namespace.
func (a *Allocator) conflict(h *holding, req *lb.Request, addr netip.Addr) *lb.Refusal {
	owner := a.owners[addr]
	if owner == nil {
		return nil
	}
	if owner.kind() == lb.KindClaim {
		lent := owner.more.lentTo
		if owner.space == h.space && req.Holder.Kind == lb.KindService && (lent == nil || lent == h) {
			return nil
		}
		return &lb.Refusal{Reason: lb.ReasonAddressInUse, Addr: addr, By: owner.holder()}
	}
	return a.clash(h, req, addr, staying)
}

// origin returns the pool that an address in use is counted to: the active one
// that has it, else the one it is retiring from, else one that would have it if
// it did not overlap another.
func (a *Allocator) origin(addr netip.Addr, retiring map[netip.Addr]string) *pool {
	if p := a.poolOf(addr); p != nil {
		return p
	}
	if name, ok := retiring[addr]; ok && a.pools[name] != nil {
		return a.pools[name]
	}
	for _, p := range a.order {
		if p.Contains(addr) {
			return p
		}
	}
	return nil
}

// poolOf returns the active pool whose ranges have addr, or nil.
func (a *Allocator) poolOf(addr netip.Addr) *pool {
	i, found := slices.BinarySearchFunc(a.inForce, addr, func(s span, addr netip.Addr) int { return s.From.Compare(addr) })
	if !found {
		i--
	}
	if i >= 0 && a.inForce[i].Contains(addr) {
		return a.inForce[i].pool
	}
	return nil
}

// Usage is what a pool has given and can still give.
type Usage struct {
	Assigned  map[lb.Family]int
	Available map[lb.Family]uint64 // saturating: a /64 and more say 2^64-1
	Blocked   map[lb.Family]int    // neither assigned nor available, as something else has them
	Retiring  []Retiring           // sorted by address, then holder
	Overlaps  string               // the older pool that has some of the same addresses, or ""
}

// Retiring is an address in use that its pool no longer has.
type Retiring struct {
	Addr   netip.Addr
	Holder lb.Holder
}

// Usage returns the use of the pool and whether there is such a pool.
func (a *Allocator) Usage(name string) (Usage, bool) {
	p := a.pools[name]
	if p == nil {
		return Usage{}, false
	}
	u := Usage{Assigned: map[lb.Family]int{}, Available: map[lb.Family]uint64{}, Blocked: map[lb.Family]int{}, Overlaps: p.overlaps}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		u.Assigned[f], u.Blocked[f] = p.assigned[f], p.withheld[f]
		if p.free[f] != nil {
			u.Available[f] = p.free[f].available()
		}
	}
	for addr := range p.retiring {
		for _, h := range a.users(addr) {
			u.Retiring = append(u.Retiring, Retiring{addr, h.holder()})
		}
	}
	slices.SortFunc(u.Retiring, func(x, y Retiring) int {
		return cmp.Or(x.Addr.Compare(y.Addr), x.Holder.Compare(y.Holder))
	})
	return u, true
}

// users returns who uses an address: the Services that have it, or the claim
// that keeps it for none at present.
func (a *Allocator) users(addr netip.Addr) []*holding {
	if s := a.sharing(addr); s != nil {
		return s
	}
	h := a.owners[addr]
	if h.kind() == lb.KindClaim && h.more.lentTo != nil {
		h = h.more.lentTo
	}
	return []*holding{h}
}

// Knows reports whether the holder has or waits for something.
func (a *Allocator) Knows(key lb.Holder) bool { return a.find(key) != nil }

// Holds returns what the holder has.
func (a *Allocator) Holds(key lb.Holder) []lb.Grant {
	if h := a.find(key); h != nil {
		return a.granted(h)
	}
	return nil
}

// Keep answers a holder whose request cannot be understood, but for what it would
// share an address by: it keeps what it has, or an address in its place when those
// who share it cannot bear it any more, and is given nothing else.
func (a *Allocator) Keep(req lb.Request, now time.Time) (lb.Decision, []lb.Holder) {
	h := a.find(req.Holder)
	if h == nil {
		return lb.Decision{}, nil
	}
	last := h.extra().request
	last.Holder, last.Created, last.Labels, last.NamespaceLabels = req.Holder, req.Created, req.Labels, req.NamespaceLabels
	last.ShareKey, last.Ports, last.Backends = req.ShareKey, req.Ports, req.Backends
	last.Families, last.Addresses, last.RequireAll = nil, nil, false
	for g := range h.grants {
		last.Families = append(last.Families, lb.FamilyOf(g.addr))
	}
	return a.Allocate(last, now)
}

// LentTo returns the Service that has the claim's addresses, if one has.
func (a *Allocator) LentTo(claim lb.Holder) (lb.Holder, bool) {
	if h := a.find(claim); h != nil && h.extra().lentTo != nil {
		return h.more.lentTo.holder(), true
	}
	return lb.Holder{}, false
}

// Users returns the holders of addresses of the pool, sorted: Services, and claims that
// keep an address for none at present.
func (a *Allocator) Users(pool string) []lb.Holder {
	var out []lb.Holder
	for addr, owner := range a.owners {
		for g := range owner.everything {
			if g.addr == addr && g.pool.Name == pool {
				for _, h := range a.users(addr) {
					out = append(out, h.holder())
				}
			}
		}
	}
	slices.SortFunc(out, lb.Holder.Compare)
	return slices.Compact(out)
}
