package allocator

import (
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// space is a namespace with something of ours in it.
type space struct {
	name     string
	services map[string]*holding
	claims   map[string]*holding
}

// of returns the namespace's holdings of a kind, by name.
func (s *space) of(k lb.HolderKind) map[string]*holding {
	if k == lb.KindClaim {
		return s.claims
	}
	return s.services
}

// grant is one address and the pool it counts to.
type grant struct {
	addr netip.Addr // not valid: none
	pool *pool
}

// holding is what a Service or a claim has. Nearly all are Services with one
// address that asked for nothing in particular, and there may be a hundred
// thousand of them: what only others need is in more.
type holding struct {
	space *space
	name  string
	first grant
	more  *more // nil for a Service that has the one address it asked for, of any pool
}

// more is what not every holding has.
type more struct {
	request  lb.Request // the last one that was decided
	second   grant      // of the other family
	leaving  []grant    // given up; not free until the holder's status says so
	refusals []lb.Refusal
	topics   []topic  // what the holder waits for
	lentTo   *holding // the Service that has a claim's addresses
	unsaid   bool     // a claim's status does not have its addresses yet
	// story is the decision that was made while the holder waited, until its
	// status has it: asked again, it keeps what it was given then.
	story *lb.Decision
}

func (h *holding) kind() lb.HolderKind {
	if h.more == nil {
		return lb.KindService
	}
	return h.more.request.Holder.Kind
}

// nothing is the more of a holding without; it is only read.
var nothing = &more{}

// extra returns more to read from.
func (h *holding) extra() *more {
	if h.more == nil {
		return nothing
	}
	return h.more
}

func (h *holding) holder() lb.Holder {
	return lb.Holder{Kind: h.kind(), Namespace: h.space.name, Name: h.name}
}

// grants yields what the holder has, in the order of its request.
func (h *holding) grants(yield func(*grant) bool) {
	if h.first.addr.IsValid() && !yield(&h.first) || h.more == nil {
		return
	}
	if h.more.second.addr.IsValid() {
		yield(&h.more.second)
	}
}

// everything yields also what the holder is about to lose.
func (h *holding) everything(yield func(*grant) bool) {
	for g := range h.grants {
		if !yield(g) {
			return
		}
	}
	if h.more == nil {
		return
	}
	for i := range h.more.leaving {
		if !yield(&h.more.leaving[i]) {
			return
		}
	}
}

// grantOf returns the holder's address of the family.
func (h *holding) grantOf(f lb.Family) (grant, bool) {
	for g := range h.grants {
		if lb.FamilyOf(g.addr) == f {
			return *g, true
		}
	}
	return grant{}, false
}

// arrange makes gs what the holder has, in this order.
func (h *holding) arrange(gs []grant) {
	h.first = grant{}
	if h.more != nil {
		h.more.second = grant{}
	}
	if len(gs) > 0 {
		h.first = gs[0]
	}
	if len(gs) > 1 {
		h.more.second = gs[1]
	}
}

// plain reports whether it is a Service that asks for nothing in particular.
func plain(req *lb.Request) bool {
	return req.Holder.Kind != lb.KindClaim && req.Pool == "" && req.Claim == "" && req.ShareKey == ""
}

// granted returns what the holder has.
func (a *Allocator) granted(h *holding) []lb.Grant {
	out := make([]lb.Grant, 0, 1)
	for g := range h.grants {
		grant := lb.Grant{Addr: g.addr, Pool: g.pool.Name}
		if lender := a.lender(h, g.addr); lender != nil {
			grant.Claim = lender.name
		}
		out = append(out, grant)
	}
	return slices.Clip(out)
}

// find returns the holding, or nil.
func (a *Allocator) find(key lb.Holder) *holding {
	s := a.spaces[key.Namespace]
	if s == nil {
		return nil
	}
	return s.of(key.Kind)[key.Name]
}

// enter returns the holding of the key, made if need be.
func (a *Allocator) enter(key lb.Holder) *holding {
	s := a.spaces[key.Namespace]
	if s == nil {
		s = &space{name: key.Namespace, services: map[string]*holding{}, claims: map[string]*holding{}}
		a.spaces[s.name] = s
	}
	of := s.of(key.Kind)
	h := of[key.Name]
	if h == nil {
		h = &holding{space: s, name: key.Name}
		if key.Kind == lb.KindClaim {
			h.more = &more{request: lb.Request{Holder: key}}
		}
		of[h.name] = h
	}
	return h
}

// dismiss forgets a holding that has nothing and lacks nothing.
func (a *Allocator) dismiss(h *holding) {
	if h.more == nil && !h.first.addr.IsValid() {
		a.leave(h)
	}
}

// leave forgets a holding that has nothing.
func (a *Allocator) leave(h *holding) {
	delete(h.space.of(h.kind()), h.name)
	if len(h.space.services)+len(h.space.claims) == 0 {
		delete(a.spaces, h.space.name)
	}
}

// holdings yields all.
func (a *Allocator) holdings(yield func(*holding) bool) {
	for _, s := range a.spaces {
		for _, of := range []map[string]*holding{s.services, s.claims} {
			for _, h := range of {
				if !yield(h) {
					return
				}
			}
		}
	}
}
