package allocator

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/lb"
)

// Allocator holds the pools, what each Service has of them, and the Services
// that wait. The zero value is not usable; see New.
type Allocator struct {
	pools    map[string]*pool
	order    []*pool // in the order in which they are asked
	services map[lb.ServiceKey]*holding
	owners   map[netip.Addr]lb.ServiceKey
	waiting  []*holding // incomplete, in order of age
}

// pool is a Pool with its bookkeeping.
type pool struct {
	lb.Pool
	overlaps string // the older pool that has some of the same addresses, or ""
	free     map[lb.Family]*freeSet
	assigned map[lb.Family]int
	retiring map[netip.Addr]bool // assigned, but no longer in the ranges
}

// holding is a Service's request and the answer to it.
type holding struct {
	request  lb.Request
	decision lb.Decision
}

// New returns an Allocator without pools.
func New() *Allocator {
	return &Allocator{
		pools:    map[string]*pool{},
		services: map[lb.ServiceKey]*holding{},
		owners:   map[netip.Addr]lb.ServiceKey{},
	}
}

// SetPools replaces the pools. No Service loses an address: one that its pool
// no longer has is retiring until it is released. SetPools returns the Services
// whose address is now counted to another pool. Serve must follow, when those
// that have addresses of new pools already are restored.
func (a *Allocator) SetPools(pools []lb.Pool) []lb.ServiceKey {
	overlaps := Overlaps(pools)
	next := make(map[string]*pool, len(pools))
	for _, p := range pools {
		np := a.pools[p.Name]
		if np == nil || !reflect.DeepEqual(np.Pool, p) {
			np = a.build(p)
		}
		np.overlaps = overlaps[p.Name]
		next[p.Name] = np
	}
	a.pools = next
	a.order = slices.SortedFunc(maps.Values(next), askedBefore)
	return a.attribute()
}

// attribute counts every grant to its pool. A grant whose pool no longer has
// the address moves to the pool that has it now, as when a pool is split or
// renamed; where none has, it is retiring in the pool that gave it. The Services of grants
// that moved are returned, sorted.
func (a *Allocator) attribute() (moved []lb.ServiceKey) {
	for _, p := range a.pools {
		p.assigned = map[lb.Family]int{}
		p.retiring = map[netip.Addr]bool{}
	}
	for _, h := range a.services {
		for i, g := range h.decision.Grants {
			p := a.pools[g.Pool]
			if p == nil || !p.Contains(g.Addr) || p.overlaps != "" {
				if other := a.poolOf(g.Addr); other != nil && other != p {
					p = other
					grants := slices.Clone(h.decision.Grants) // decisions handed out stay as they were
					grants[i].Pool = p.Name
					h.decision.Grants = grants
					moved = append(moved, h.request.Service)
				}
			}
			if p != nil {
				p.count(g.Addr)
			}
		}
	}
	slices.SortFunc(moved, lb.ServiceKey.Compare)
	return slices.Compact(moved)
}

// count records that addr is assigned from the pool.
func (p *pool) count(addr netip.Addr) {
	p.assigned[lb.FamilyOf(addr)]++
	if !p.Contains(addr) {
		p.retiring[addr] = true
	}
}

// build makes a pool whose free addresses are its ranges less what is in use.
// Addresses that cool down in the pool's predecessor are free at once.
func (a *Allocator) build(p lb.Pool) *pool {
	np := &pool{Pool: p, free: map[lb.Family]*freeSet{}}
	for _, r := range p.Ranges {
		f := lb.FamilyOf(r.From)
		if np.free[f] == nil {
			np.free[f] = newFreeSet(p.AvoidBuggyIPs)
		}
		np.free[f].addRange(r)
	}
	for addr := range a.owners {
		if p.Contains(addr) {
			np.free[lb.FamilyOf(addr)].take(addr)
		}
	}
	return np
}

// Overlaps returns the pools that are not in force because they share an address
// with an older one that is, each with that one's name.
func Overlaps(pools []lb.Pool) map[string]string {
	byAge := slices.SortedFunc(slices.Values(pools), func(x, y lb.Pool) int {
		return cmp.Or(x.Created.Compare(y.Created), cmp.Compare(x.Name, y.Name))
	})
	out := map[string]string{}
	for i, p := range byAge {
		for _, older := range byAge[:i] {
			if out[older.Name] == "" && share(p, older) {
				out[p.Name] = older.Name
				break
			}
		}
	}
	return out
}

// share reports whether the pools have an address in common.
func share(p, q lb.Pool) bool {
	return slices.ContainsFunc(p.Ranges, func(r lb.Range) bool { return slices.ContainsFunc(q.Ranges, r.Overlaps) })
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

// Restore records that the Service has these addresses already, before anything
// new is given. Of two Services that have one address the older keeps it.
// Restore reports which of the addresses it accepted: those that a pool has, or
// had (retiring names the pool by address) and no older Service holds.
// Call it once per Service, oldest first.
func (a *Allocator) Restore(req lb.Request, addrs []netip.Addr, retiring map[netip.Addr]string) []lb.Grant {
	h := &holding{request: req}
	for _, addr := range addrs {
		if _, second := h.grantOf(lb.FamilyOf(addr)); second {
			continue // a Service has one of each family
		}
		name, ok := a.origin(addr, retiring)
		if _, taken := a.owners[addr]; taken || !ok {
			continue
		}
		a.grant(h, lb.Grant{Addr: addr, Pool: name})
	}
	if len(h.decision.Grants) > 0 {
		a.services[req.Service] = h
	}
	return h.decision.Grants
}

// origin returns the pool that an address in use is counted to: the one in force
// that has it, else the one it is retiring from, else one that would have it if
// it did not overlap another.
func (a *Allocator) origin(addr netip.Addr, retiring map[netip.Addr]string) (string, bool) {
	if p := a.poolOf(addr); p != nil {
		return p.Name, true
	}
	if name, ok := retiring[addr]; ok {
		return name, true
	}
	for _, p := range a.order {
		if p.Contains(addr) {
			return p.Name, true
		}
	}
	return "", false
}

// poolOf returns the pool in force whose ranges have addr, or nil.
func (a *Allocator) poolOf(addr netip.Addr) *pool {
	for _, p := range a.pools {
		if p.overlaps == "" && p.Contains(addr) {
			return p
		}
	}
	return nil
}

// Usage is what a pool has given and can still give.
type Usage struct {
	Assigned  map[lb.Family]int
	Available map[lb.Family]uint64 // saturating: a /64 and more say 2^64-1
	Retiring  []Retiring           // sorted by address
	Overlaps  string               // the older pool that has some of the same addresses, or ""
}

// Retiring is an address in use that its pool no longer has.
type Retiring struct {
	Addr    netip.Addr
	Service lb.ServiceKey
}

// Usage returns the use of the pool and whether there is such a pool.
func (a *Allocator) Usage(name string) (Usage, bool) {
	p := a.pools[name]
	if p == nil {
		return Usage{}, false
	}
	u := Usage{Assigned: maps.Clone(p.assigned), Available: map[lb.Family]uint64{}, Overlaps: p.overlaps}
	for f, free := range p.free {
		u.Available[f] = free.available()
	}
	for _, addr := range slices.SortedFunc(maps.Keys(p.retiring), netip.Addr.Compare) {
		u.Retiring = append(u.Retiring, Retiring{Addr: addr, Service: a.owners[addr]})
	}
	return u, true
}

// Knows reports whether the Service has or waits for something.
func (a *Allocator) Knows(key lb.ServiceKey) bool { return a.services[key] != nil }

// Holds returns what the Service has.
func (a *Allocator) Holds(key lb.ServiceKey) []lb.Grant {
	if h := a.services[key]; h != nil {
		return h.decision.Grants
	}
	return nil
}

// Users returns the Services that have addresses of the pool, sorted.
func (a *Allocator) Users(pool string) []lb.ServiceKey {
	var out []lb.ServiceKey
	for key, h := range a.services {
		if slices.ContainsFunc(h.decision.Grants, func(g lb.Grant) bool { return g.Pool == pool }) {
			out = append(out, key)
		}
	}
	slices.SortFunc(out, lb.ServiceKey.Compare)
	return out
}

// Allocate answers a request. What the Service has already it keeps, unless it
// asks for something else that can be given; a request that is not met in full
// waits until it is, is released, or is made anew. The second result names
// Services that got an address which this request gave up.
func (a *Allocator) Allocate(req lb.Request, now time.Time) (lb.Decision, []lb.ServiceKey) {
	h := a.services[req.Service]
	if h == nil {
		h = &holding{request: lb.Request{Service: req.Service}}
		a.services[req.Service] = h
	}
	a.stopWaiting(h)
	given := a.decide(h, req, now)
	a.startWaiting(h)
	return h.decision, a.handOn(given, now)
}

// Release forgets the Service. The addresses it had go to the oldest waiting
// Services that they fit; those are returned.
func (a *Allocator) Release(key lb.ServiceKey, now time.Time) []lb.ServiceKey {
	h := a.services[key]
	if h == nil {
		return nil
	}
	delete(a.services, key)
	a.stopWaiting(h)
	grants := h.decision.Grants
	for _, g := range slices.Clone(grants) {
		a.ungrant(h, g, now)
	}
	return a.handOn(grants, now)
}

// decide brings the holding as near to the request as the pools allow and
// returns the grants given up for it.
func (a *Allocator) decide(h *holding, req lb.Request, now time.Time) (freed []lb.Grant) {
	var taken []lb.Grant    // in the order of the request's families
	var fresh []lb.Grant    // those of taken that the Service did not have
	var replaced []lb.Grant // those that taken replaces
	var refusals []lb.Refusal
	for _, addr := range req.Addresses {
		if f := lb.FamilyOf(addr); !slices.Contains(req.Families, f) {
			refusals = append(refusals, lb.Refusal{Family: f, Reason: lb.ReasonFamilyMismatch, Detail: addr.String()})
		}
	}
	for _, f := range req.Families {
		have, has := h.grantOf(f)
		if has && !h.asksForOther(have, &req) {
			taken = append(taken, have)
			continue
		}
		g, why := a.pick(&req, f, now)
		switch {
		case why == nil:
			taken, fresh = append(taken, g), append(fresh, g)
			if has {
				replaced = append(replaced, have)
			}
		case has: // an address never goes away before its successor is there
			taken = append(taken, have)
			refusals = append(refusals, why...)
		default:
			refusals = append(refusals, why...)
		}
	}
	hadAny := len(h.decision.Grants) > 0
	if req.RequireAll && len(taken) < len(req.Families) && !hadAny {
		taken, fresh = nil, nil // all or none
	}
	for _, g := range h.decision.Grants {
		if !slices.Contains(req.Families, lb.FamilyOf(g.Addr)) {
			replaced = append(replaced, g)
		}
	}
	for _, g := range replaced {
		a.ungrant(h, g, now)
	}
	for _, g := range fresh {
		a.grant(h, g)
	}
	h.request = req
	h.decision = lb.Decision{Grants: taken, Refusals: refusals, Asked: req.Addresses, Met: met(req, taken, refusals)}
	return replaced
}

// met reports whether the request has what it must have: something, and of what
// was refused nothing that it requires or names.
func met(req lb.Request, taken []lb.Grant, refusals []lb.Refusal) bool {
	required := func(r lb.Refusal) bool {
		_, named := req.Exact(r.Family)
		replaces := slices.ContainsFunc(taken, func(g lb.Grant) bool { return lb.FamilyOf(g.Addr) == r.Family })
		return req.RequireAll || named || replaces
	}
	return len(taken) > 0 && !slices.ContainsFunc(refusals, required)
}

// asksForOther reports whether the request asks for another address in place of
// g. An exact address does; so does the name of another pool, but only when the
// user wrote it since: a pool edit that moves the address to another pool, or no
// longer admits the Service, changes nothing.
func (h *holding) asksForOther(g lb.Grant, req *lb.Request) bool {
	f := lb.FamilyOf(g.Addr)
	if want, ok := req.Exact(f); ok {
		return want != g.Addr
	}
	if req.Pool == "" || req.Pool == g.Pool {
		return false
	}
	refusedBefore := slices.ContainsFunc(h.decision.Refusals, func(r lb.Refusal) bool { return r.Family == f })
	return req.Pool != h.request.Pool || refusedBefore
}

// pick finds an address of the family for the request, without taking it.
func (a *Allocator) pick(req *lb.Request, f lb.Family, now time.Time) (lb.Grant, []lb.Refusal) {
	var why []lb.Refusal
	for _, p := range a.order {
		if req.Pool != "" && req.Pool != p.Name {
			continue
		}
		addr, refusal := a.pickFrom(p, req, f, now)
		if refusal == nil {
			return lb.Grant{Addr: addr, Pool: p.Name}, nil
		}
		why = append(why, *refusal)
	}
	switch {
	case len(why) > 0:
		return lb.Grant{}, why
	case req.Pool != "":
		return lb.Grant{}, []lb.Refusal{{Pool: req.Pool, Family: f, Reason: lb.ReasonUnknownPool}}
	default:
		return lb.Grant{}, []lb.Refusal{{Family: f, Reason: lb.ReasonNoPool}}
	}
}

// pickFrom finds an address of the family in one pool, or says why not.
func (a *Allocator) pickFrom(p *pool, req *lb.Request, f lb.Family, now time.Time) (netip.Addr, *lb.Refusal) {
	refuse := func(r lb.Reason, detail string) (netip.Addr, *lb.Refusal) {
		return netip.Addr{}, &lb.Refusal{Pool: p.Name, Family: f, Reason: r, Detail: detail}
	}
	want, exact := req.Exact(f)
	if exact && !p.Contains(want) {
		return refuse(lb.ReasonAddressNotInPool, "")
	}
	if r, detail := p.admits(req, exact); r != 0 {
		return refuse(r, detail)
	}
	free := p.free[f]
	if free == nil {
		return refuse(lb.ReasonFamilyAbsent, "")
	}
	if exact {
		switch owner, taken := a.owners[want]; {
		case taken && owner != req.Service:
			return refuse(lb.ReasonAddressInUse, "by "+owner.String())
		case !free.has(want):
			return refuse(lb.ReasonAddressNotInPool, "avoidBuggyIPs")
		}
		return want, nil
	}
	addr, ok := free.lowest(now)
	if !ok {
		return refuse(lb.ReasonExhausted, fmt.Sprintf("%d in use", p.assigned[f]))
	}
	return addr, nil
}

// admits returns the reason why the pool gives nothing to the request, or 0.
// A Service that asks for an exact address or names the pool may have one of a
// pool that is not autoAssign.
func (p *pool) admits(req *lb.Request, exact bool) (lb.Reason, string) {
	switch {
	case p.Deleting:
		return lb.ReasonPoolDeleting, ""
	case p.Disabled:
		return lb.ReasonPoolDisabled, ""
	case p.overlaps != "":
		return lb.ReasonPoolOverlap, fmt.Sprintf("%q", p.overlaps)
	case !p.AutoAssign && req.Pool != p.Name && !exact:
		return lb.ReasonNotAutoAssign, ""
	case !p.admitsNamespace(req):
		return lb.ReasonNamespaceNotAllowed, ""
	case len(p.ServiceSelectors) > 0 && !lb.MatchesAny(p.ServiceSelectors, req.Labels):
		return lb.ReasonServiceNotSelected, ""
	}
	return 0, ""
}

func (p *pool) admitsNamespace(req *lb.Request) bool {
	if len(p.Namespaces)+len(p.NamespaceSelectors) == 0 {
		return true
	}
	return slices.Contains(p.Namespaces, req.Service.Namespace) ||
		lb.MatchesAny(p.NamespaceSelectors, req.NamespaceLabels)
}

// grant gives g to the holding.
func (a *Allocator) grant(h *holding, g lb.Grant) {
	a.owners[g.Addr] = h.request.Service
	// Clipped, so that grants handed out before stay as they were.
	h.decision.Grants = append(slices.Clip(h.decision.Grants), g)
	f := lb.FamilyOf(g.Addr)
	if p := a.pools[g.Pool]; p != nil {
		p.count(g.Addr)
	}
	for _, p := range a.pools {
		if free := p.free[f]; free != nil {
			free.take(g.Addr)
		}
	}
}

// ungrant takes g from the holding and gives it back to every pool that has it.
func (a *Allocator) ungrant(h *holding, g lb.Grant, now time.Time) {
	delete(a.owners, g.Addr)
	h.decision.Grants = slices.DeleteFunc(slices.Clone(h.decision.Grants), func(o lb.Grant) bool { return o == g })
	f := lb.FamilyOf(g.Addr)
	if p := a.pools[g.Pool]; p != nil {
		p.assigned[f]--
		delete(p.retiring, g.Addr)
	}
	for _, p := range a.pools {
		if p.Contains(g.Addr) {
			p.free[f].put(g.Addr, now)
		}
	}
}

// grantOf returns the Service's address of the family.
func (h *holding) grantOf(f lb.Family) (lb.Grant, bool) {
	for _, g := range h.decision.Grants {
		if lb.FamilyOf(g.Addr) == f {
			return g, true
		}
	}
	return lb.Grant{}, false
}
