package allocator

import (
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// group is who may share addresses: the Services with one key in a namespace
// or, where the pool's sharing is Cluster, in all; then namespace is "".
type group struct {
	namespace, key string
}

// groupOf returns the group that a Service of the namespace with the key belongs
// to in the pool.
func (p *pool) groupOf(s *space, key string) group {
	g := group{key: key}
	if p.Sharing == lb.SharingNamespace {
		g.namespace = s.name
	}
	return g
}

// sharing is an address with a key. All that stay there have the same key; one
// that is about to leave may have another by now.
type sharing struct {
	key   string     // "" when only those about to leave had one
	users []*holding // never none
}

// share records that the holder shares the address by its key, if it has one.
func (a *Allocator) share(h *holding, addr netip.Addr) {
	key := h.extra().request.ShareKey
	if key == "" {
		return
	}
	s := a.sharers[addr]
	if s == nil {
		s = &sharing{key: key}
		a.sharers[addr] = s
	}
	s.users = append(s.users, h)
	a.regroup(addr, s, addrSet.with)
}

// part is the reverse of share. It returns the group that shared the address.
func (a *Allocator) part(h *holding, addr netip.Addr) (of group) {
	s := a.sharers[addr]
	if s == nil {
		return group{}
	}
	of = a.regroup(addr, s, addrSet.without)
	s.users = slices.DeleteFunc(s.users, func(o *holding) bool { return o == h })
	if len(s.users) == 0 {
		delete(a.sharers, addr)
		return of
	}
	a.regroup(addr, s, addrSet.with)
	return of
}

// regroup lets op enter or remove the address for the group that shares it.
func (a *Allocator) regroup(addr netip.Addr, s *sharing, op func(addrSet, netip.Addr) addrSet) group {
	p := a.poolOf(addr)
	if p == nil || p.Sharing == lb.SharingNever || s.key == "" {
		return group{}
	}
	g := p.groupOf(s.users[0].space, s.key)
	if p.groups[g] = op(p.groups[g], addr); len(p.groups[g]) == 0 {
		delete(p.groups, g)
	}
	return g
}

// rekey enters what the holder kept under the key of its new request. It returns
// what others may have waited for.
func (a *Allocator) rekey(h *holding, kept []grant, last *lb.Request) (changed []topic) {
	req := &h.extra().request
	if last.ShareKey == req.ShareKey && last.Backends == req.Backends && slices.Equal(last.Ports, req.Ports) {
		return nil
	}
	for _, g := range kept {
		if a.lender(h, g.addr) != nil {
			continue
		}
		changed = append(changed, topic{addr: g.addr})
		s := a.sharers[g.addr]
		if s == nil {
			a.share(h, g.addr)
			s = &sharing{users: []*holding{h}, key: req.ShareKey}
		} else {
			changed = append(changed, topic{pool: g.pool, group: a.regroup(g.addr, s, addrSet.without)})
			if s.key = req.ShareKey; s.key == "" && len(s.users) == 1 {
				delete(a.sharers, g.addr)
			}
			a.regroup(g.addr, s, addrSet.with)
		}
		changed = append(changed, topic{pool: g.pool, group: g.pool.groupOf(s.users[0].space, s.key)})
	}
	return changed
}

// presence is how a holder is at an address.
type presence uint8

const (
	staying presence = iota + 1 // it has the address: those about to leave do not matter
	coming                      // it wants to
)

// clash says why the holder cannot be at an address together with those who
// are, or nil.
func (a *Allocator) clash(h *holding, req *lb.Request, addr netip.Addr, as presence) *lb.Refusal {
	users, owner := a.sharing(addr), a.owners[addr]
	if owner == nil || owner == h && len(users) == 0 || as == staying && a.lender(h, addr) != nil {
		return nil
	}
	if len(users) == 0 || req.Holder.Kind == lb.KindClaim {
		return &lb.Refusal{Reason: lb.ReasonAddressInUse, Addr: addr, By: owner.holder()}
	}
	for _, other := range users {
		stays := other.stays(addr)
		switch {
		case other == h || as == staying && !stays:
			continue
		case !stays: // by what terms it shared the address is forgotten
			return &lb.Refusal{Reason: lb.ReasonAddressInUse, Addr: addr, By: other.holder()}
		}
		if r := differs(req, other, addr); r != nil {
			return r
		}
	}
	if as == coming && !h.has(addr) {
		return a.forbids(h, users, addr)
	}
	return nil
}

// sharing returns the holders of an address that has a sharing key.
func (a *Allocator) sharing(addr netip.Addr) []*holding {
	if s := a.sharers[addr]; s != nil {
		return s.users
	}
	return nil
}

// forbids says why the pool lets the holder not share the address.
func (a *Allocator) forbids(h *holding, users []*holding, addr netip.Addr) *lb.Refusal {
	sharing := lb.SharingNever
	if p := a.poolOf(addr); p != nil {
		sharing = p.Sharing
	}
	for _, other := range users {
		if sharing == lb.SharingNever || sharing == lb.SharingNamespace && other.space != h.space {
			return &lb.Refusal{Reason: lb.ReasonSharingNotAllowed, Addr: addr, By: other.holder(), Other: sharing.String()}
		}
	}
	return nil
}

// differs says why two Services cannot share the address, whatever the pool
// allows.
func differs(mine *lb.Request, other *holding, addr netip.Addr) *lb.Refusal {
	theirs := &other.extra().request
	r := lb.Refusal{Addr: addr, By: other.holder()}
	switch {
	case mine.ShareKey == "":
		r.Reason = lb.ReasonAddressInUse
		return &r
	case mine.ShareKey != theirs.ShareKey:
		r.Reason = lb.ReasonKeyDiffers
		return &r
	}
	for _, port := range mine.Ports {
		if slices.Contains(theirs.Ports, port) {
			r.Reason, r.Port = lb.ReasonPortConflict, port
			return &r
		}
	}
	if mine.Backends != theirs.Backends {
		r.Reason = lb.ReasonBackendsDiffer
		return &r
	}
	return nil
}

// join finds the lowest address of the pool that others have and the holder can
// share; when the namespace's quota is full, one that the namespace has. The
// refusal says why one cannot be shared that its key is for.
func (a *Allocator) join(p *pool, h *holding, req *lb.Request, f lb.Family, full bool) (netip.Addr, *lb.Refusal) {
	if req.ShareKey == "" {
		return netip.Addr{}, nil
	}
	var refusal *lb.Refusal
	for _, addr := range p.groups[p.groupOf(h.space, req.ShareKey)] {
		if lb.FamilyOf(addr) != f || full && p.seats[h.space][addr] == 0 {
			continue
		}
		r := a.clash(h, req, addr, coming)
		if b := a.blockFor(h, addr); r == nil && b != nil {
			r = &lb.Refusal{Reason: b.Reason, Addr: addr, Other: b.Holder}
		}
		if r == nil {
			return addr, nil
		}
		if refusal == nil {
			refusal = r
		}
	}
	return netip.Addr{}, refusal
}

// has reports whether the address is the holder's, if only until it leaves.
func (h *holding) has(addr netip.Addr) bool {
	for g := range h.everything {
		if g.addr == addr {
			return true
		}
	}
	return false
}

// stays reports whether the holder has the address and is not about to lose it.
func (h *holding) stays(addr netip.Addr) bool {
	for g := range h.grants {
		if g.addr == addr {
			return true
		}
	}
	return false
}
