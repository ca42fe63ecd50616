package allocator

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Allocate answers a request. What the holder has already it keeps, unless it
// asks for something else that can be given; a request that is not met in full
// waits until it is, is released, or is recreated. What it releases is not free
// before Written. The second result names others whose answer changed by this.
func (a *Allocator) Allocate(req lb.Request, now time.Time) (lb.Decision, []lb.Holder) {
	h := a.enter(req.Holder)
	d, changed := a.decide(h, &req, now)
	if req.Claim != "" && !d.Complete() {
		for g := range h.grants { // its claim may wait for just that
			changed = append(changed, topic{addr: g.addr})
		}
	}
	a.dismiss(h)
	woken := a.serve(changed, now)
	if i := slices.Index(woken, req.Holder); i >= 0 {
		woken = slices.Delete(woken, i, i+1)
		d, _ = a.decide(h, &req, now)
	}
	return d, woken
}

// Written says that the holder's status has what the last decision gave it, and
// no longer has what it gave up. That goes to those who waited for it longest;
// they are returned. Not before can a claim lend what it was given: a restart
// would not know that it is the claim's.
func (a *Allocator) Written(key lb.Holder, now time.Time) []lb.Holder {
	h := a.find(key)
	if h == nil || h.more == nil {
		return nil
	}
	left := h.more.leaving
	h.more.leaving, h.more.story = nil, nil
	var freed []topic
	if h.more.unsaid {
		h.more.unsaid = false
		freed = append(freed, topic{space: h.space, claim: h.name})
	}
	for _, g := range left {
		freed = append(freed, a.take(h, g, now)...)
	}
	if plain(&h.more.request) && !h.more.second.addr.IsValid() && len(h.more.refusals) == 0 {
		h.more = nil
	}
	return a.serve(freed, now)
}

// Release forgets the holder. The addresses it had go to those who waited for
// them longest; they are returned. What a claim has lent to a Service stays with
// that Service, which is returned too.
func (a *Allocator) Release(key lb.Holder, now time.Time) []lb.Holder {
	h := a.find(key)
	if h == nil {
		return nil
	}
	a.stopWaiting(h)
	had := make([]grant, 0, 2)
	for g := range h.everything {
		had = append(had, *g)
	}
	a.leave(h)
	heir := h.extra().lentTo
	h.first = grant{}
	if h.more != nil {
		h.more.second, h.more.leaving = grant{}, nil
	}
	var freed []topic
	for _, g := range had {
		freed = append(freed, a.take(h, g, now)...)
	}
	if key.Kind == lb.KindClaim {
		freed = append(freed, topic{space: h.space, claim: h.name})
	}
	if heir == nil {
		return a.serve(freed, now)
	}
	_, more := a.retry(heir, now) // it misses its claim now
	a.touched = append(a.touched, heir.holder())
	return a.serve(append(freed, more...), now)
}

// decide brings the holding as near to the request as the pools allow, and
// returns what others may have waited for.
func (a *Allocator) decide(h *holding, req *lb.Request, now time.Time) (lb.Decision, []topic) {
	a.stopWaiting(h)
	last := h.extra()
	a.inherit(h, req)
	d := lb.Decision{Asked: req.Addresses}
	for _, addr := range req.Addresses {
		if f := lb.FamilyOf(addr); !slices.Contains(req.Families, f) {
			d.Refusals = append(d.Refusals, lb.Refusal{Family: f, Reason: lb.ReasonFamilyMismatch, Addr: addr})
		}
	}
	next := make([]grant, 0, 2)
	for _, f := range req.Families {
		have, has := h.grantOf(f)
		may := has
		if has {
			if r := a.clash(h, req, have.addr, staying); r != nil {
				may = false
				r.Pool, r.Family = have.pool.Name, f
				d.Conflicts = append(d.Conflicts, *r)
			}
		}
		if may && !a.asksForOther(h, req, have, last) {
			next, d.Picked = append(next, have), append(d.Picked, lb.ReasonKept)
			continue
		}
		g, why, refusals := a.pick(h, req, f, next, now)
		switch {
		case why != 0:
			next, d.Picked = append(next, g), append(d.Picked, why)
			d.Passed = append(d.Passed, refusals...)
		case may: // an address never goes away before its successor is there
			next, d.Picked = append(next, have), append(d.Picked, lb.ReasonKept)
			fallthrough
		default:
			d.Refusals = append(d.Refusals, refusals...)
		}
	}
	if req.RequireAll && len(next) < len(req.Families) && !h.first.addr.IsValid() {
		next, d.Picked, d.Passed = nil, nil, nil // all or none
	}
	changed := a.become(h, req, next, d.Refusals)
	d.Grants, d.Blocked = a.granted(h), a.blocks(h)
	if last.story != nil && slices.Equal(last.story.Grants, d.Grants) {
		d.Picked, d.Passed = last.story.Picked, last.story.Passed
	}
	d.Met = a.met(req, &d)
	a.startWaiting(h)
	return d, changed
}

// become makes next what the holder has, and the request the last one that was
// decided. What it had and is not in next leaves it. It returns what others may
// have waited for.
func (a *Allocator) become(h *holding, req *lb.Request, next []grant, refusals []lb.Refusal) (changed []topic) {
	in := func(gs []grant, addr netip.Addr) bool {
		return slices.ContainsFunc(gs, func(g grant) bool { return g.addr == addr })
	}
	had := make([]grant, 0, 2)
	var leaving []grant
	for g := range h.everything {
		had = append(had, *g)
		if !in(next, g.addr) {
			leaving = append(leaving, *g)
		}
	}
	last := h.extra()
	h.more = nil
	if !plain(req) || len(next) > 1 || len(leaving)+len(refusals) > 0 || last.story != nil {
		h.more = &more{request: *req, leaving: leaving, refusals: refusals, lentTo: last.lentTo, unsaid: last.unsaid, story: last.story}
	}
	h.arrange(next)
	news := false
	var kept []grant
	for _, g := range next {
		if in(had, g.addr) {
			kept = append(kept, g)
			continue
		}
		news = true
		a.give(h, g)
		if req.ShareKey != "" {
			changed = append(changed, topic{pool: g.pool, group: g.pool.groupOf(h.space, req.ShareKey)})
		}
	}
	if req.Holder.Kind == lb.KindClaim {
		h.more.unsaid = h.more.unsaid || news // waiting holders are retried when it is written
		if req.Deleting != last.request.Deleting {
			changed = append(changed, topic{space: h.space, claim: h.name})
		}
	}
	return append(changed, a.rekey(h, kept, &last.request)...)
}

// met reports whether the request has what it must have: something, and of what
// was refused nothing that it requires or names. An address that a foreign host has is
// met too, where there is no other to replace it: the holder has an address.
func (a *Allocator) met(req *lb.Request, d *lb.Decision) bool {
	required := func(r lb.Refusal) bool {
		_, named := req.Exact(r.Family)
		i := slices.IndexFunc(d.Grants, func(g lb.Grant) bool { return lb.FamilyOf(g.Addr) == r.Family })
		if i >= 0 && a.conflicts(d.Grants[i].Addr) {
			return false
		}
		replaces := i >= 0
		return req.RequireAll || named || replaces
	}
	return len(d.Grants) > 0 && !slices.ContainsFunc(d.Refusals, required)
}

// asksForOther reports whether the request asks for another address in place of
// g. Another claim does, or none any more, and so does an exact address; so does
// the name of another pool, but only when the user wrote it since: a pool edit
// that moves the address to another pool, or no longer admits the Service,
// changes nothing. What a claim has lent it keeps. An address that was never
// announced, as a foreign host has it, is exchanged for another.
func (a *Allocator) asksForOther(h *holding, req *lb.Request, g grant, last *more) bool {
	lender := a.lender(h, g.addr)
	switch {
	case last.lentTo != nil:
		return false
	case req.Claim != "":
		return lender == nil || lender.name != req.Claim
	case lender != nil:
		return true
	}
	f := lb.FamilyOf(g.addr)
	if want, ok := req.Exact(f); ok {
		return want != g.addr
	}
	if a.conflicts(g.addr) && req.Holder.Kind == lb.KindService {
		return true
	}
	if req.Pool == "" || req.Pool == g.pool.Name {
		return false
	}
	refusedBefore := slices.ContainsFunc(last.refusals, func(r lb.Refusal) bool { return r.Family == f })
	return req.Pool != last.request.Pool || refusedBefore
}

// pick finds an address of the family, without taking it, and says why it is
// that one; the reason is 0 if there is none. The refusals are of the pools
// asked before. next is what the request is given for other families.
func (a *Allocator) pick(h *holding, req *lb.Request, f lb.Family, next []grant, now time.Time) (grant, lb.Reason, []lb.Refusal) {
	switch {
	case req.Claim != "":
		return a.borrow(h, req, f)
	case req.Deleting:
		return grant{}, 0, []lb.Refusal{{Family: f, Reason: lb.ReasonClaimDeleting, Other: h.name}}
	}
	var refusals []lb.Refusal
	for _, p := range a.order {
		if req.Pool != "" && req.Pool != p.Name {
			continue
		}
		addr, why, refusal := a.pickFrom(p, h, req, f, next, now)
		if why != 0 {
			return grant{addr, p}, why, refusals
		}
		refusal.Pool, refusal.Family = p.Name, f
		refusals = append(refusals, refusal)
	}
	switch {
	case len(refusals) > 0:
	case req.Pool != "":
		refusals = []lb.Refusal{{Pool: req.Pool, Family: f, Reason: lb.ReasonUnknownPool}}
	default:
		refusals = []lb.Refusal{{Family: f, Reason: lb.ReasonNoPool}}
	}
	return grant{}, 0, refusals
}

// pickFrom finds an address of the family in one pool, or says why not.
func (a *Allocator) pickFrom(p *pool, h *holding, req *lb.Request, f lb.Family, next []grant, now time.Time) (netip.Addr, lb.Reason, lb.Refusal) {
	no := netip.Addr{}
	want, exact := req.Exact(f)
	if exact && !p.Contains(want) {
		return no, 0, lb.Refusal{Reason: lb.ReasonAddressNotInPool}
	}
	if r := p.admits(req, exact); r != 0 {
		return no, 0, lb.Refusal{Reason: r, Other: p.overlaps}
	}
	free := p.free[f]
	if free == nil {
		return no, 0, lb.Refusal{Reason: lb.ReasonFamilyAbsent}
	}
	if exact {
		if refusal := a.obstacle(p, h, req, want, next); refusal != nil {
			return no, 0, *refusal
		}
		return want, lb.ReasonNamed, lb.Refusal{}
	}
	if addr := a.regain(p, h, req, f); addr.IsValid() {
		return addr, lb.ReasonKept, lb.Refusal{}
	}
	full := a.full(p, h, f, next)
	addr, refusal := a.join(p, h, req, f, full)
	switch {
	case addr.IsValid():
		return addr, lb.ReasonShared, lb.Refusal{}
	case full:
		return no, 0, lb.Refusal{Reason: lb.ReasonQuota, Count: p.MaxPerNamespace}
	}
	if addr, ok := free.lowest(now); ok {
		if free.cools(addr) {
			return addr, lb.ReasonFreedLongest, lb.Refusal{}
		}
		return addr, lb.ReasonLowest, lb.Refusal{}
	}
	if refusal != nil {
		return no, 0, *refusal
	}
	return no, 0, lb.Refusal{Reason: lb.ReasonExhausted, Count: p.assigned[f], Blocked: p.withheld[f]}
}

// regain finds an address of the pool that the holder is about to lose, and can
// keep after all.
func (a *Allocator) regain(p *pool, h *holding, req *lb.Request, f lb.Family) netip.Addr {
	for _, g := range h.extra().leaving {
		if p.Contains(g.addr) && lb.FamilyOf(g.addr) == f && a.lender(h, g.addr) == nil && a.clash(h, req, g.addr, coming) == nil {
			return g.addr
		}
	}
	return netip.Addr{}
}

// obstacle says why the holder cannot have an address of the pool that it names.
func (a *Allocator) obstacle(p *pool, h *holding, req *lb.Request, want netip.Addr, next []grant) *lb.Refusal {
	owner := a.owners[want]
	if refusal := a.clash(h, req, want, coming); refusal != nil && !h.mayAdopt(owner, want) {
		return refusal
	}
	if b := a.blockFor(h, want); b != nil && b.Reason != lb.ReasonConflict {
		return &lb.Refusal{Reason: b.Reason, Addr: want, Other: b.Holder}
	}
	switch {
	case p.seats[h.space][want] > 0:
		return nil // the namespace has it
	case a.full(p, h, lb.FamilyOf(want), next):
		return &lb.Refusal{Reason: lb.ReasonQuota, Count: p.MaxPerNamespace}
	case owner == nil && !p.free[lb.FamilyOf(want)].has(want) && !a.isBlocked(want):
		return &lb.Refusal{Reason: lb.ReasonAddressNotInPool, Other: "avoidBuggyIPs"}
	}
	return nil
}

// full reports whether the namespace can have no more addresses of the pool.
// What the holder has of the family does not count: it gives that up.
func (a *Allocator) full(p *pool, h *holding, f lb.Family, next []grant) bool {
	if p.MaxPerNamespace == 0 {
		return false
	}
	of := p.seats[h.space]
	n := len(of)
	for g := range h.everything {
		if g.pool == p && lb.FamilyOf(g.addr) == f && of[g.addr] == 1 && a.lender(h, g.addr) == nil {
			n--
		}
	}
	for _, g := range next {
		if g.pool == p && of[g.addr] == 0 {
			n++
		}
	}
	return n >= p.MaxPerNamespace
}

// give records that the holder has g.
func (a *Allocator) give(h *holding, g grant) {
	switch owner := a.owners[g.addr]; {
	case owner == nil:
		a.withhold(g.addr, -1)
		a.owners[g.addr] = h
		g.pool.count(g.addr)
		if p := a.poolOf(g.addr); p != nil {
			p.free[lb.FamilyOf(g.addr)].take(g.addr)
		}
	case owner.kind() == lb.KindClaim:
		a.lend(owner, h)
		return
	case h.kind() == lb.KindClaim:
		a.owners[g.addr] = h
		a.lend(h, owner)
		return
	}
	g.pool.seat(h.space, g.addr)
	a.share(h, g.addr)
}

// take records that the holder has g no more, and returns what others may have
// waited for.
func (a *Allocator) take(h *holding, g grant, now time.Time) []topic {
	if lender := a.lender(h, g.addr); lender != nil {
		return a.giveBack(h, lender)
	}
	if heir := h.extra().lentTo; heir != nil && heir.has(g.addr) {
		a.bequeath(heir, g.addr)
		return nil
	}
	group := a.part(h, g.addr)
	g.pool.unseat(h.space, g.addr)
	others := a.sharing(g.addr)
	if len(others) > 0 {
		a.owners[g.addr] = others[0]
	} else {
		a.free(g, now)
	}
	if len(a.queues) == 0 {
		return nil
	}
	freed := []topic{{addr: g.addr}, {pool: g.pool, space: h.space}}
	if p := a.poolOf(g.addr); p != nil && len(others) == 0 {
		return append(freed, topic{pool: p, family: lb.FamilyOf(g.addr)})
	}
	return append(freed, topic{pool: g.pool, group: group})
}

// free frees an address that has no holder any more.
func (a *Allocator) free(g grant, now time.Time) {
	delete(a.owners, g.addr)
	g.pool.uncount(g.addr)
	if p := a.poolOf(g.addr); p != nil && !a.isBlocked(g.addr) {
		p.free[lb.FamilyOf(g.addr)].put(g.addr, now)
	}
	a.withhold(g.addr, 1)
}
