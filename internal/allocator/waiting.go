package allocator

import (
	"cmp"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/lb"
)

// byAge orders holdings by the creation of their Services.
func byAge(x, y *holding) int {
	return cmp.Or(x.request.Created.Compare(y.request.Created), x.request.Service.Compare(y.request.Service))
}

func (a *Allocator) startWaiting(h *holding) {
	if h.decision.Complete() {
		return
	}
	i, _ := slices.BinarySearchFunc(a.waiting, h, byAge)
	a.waiting = slices.Insert(a.waiting, i, h)
}

func (a *Allocator) stopWaiting(h *holding) {
	if i, ok := slices.BinarySearchFunc(a.waiting, h, byAge); ok && a.waiting[i] == h {
		a.waiting = slices.Delete(a.waiting, i, i+1)
	}
}

// serveWaiting decides anew for every waiting Service, oldest first, and
// returns those whose decision changed.
func (a *Allocator) serveWaiting(now time.Time) []lb.ServiceKey {
	var changed []lb.ServiceKey
	var freed []lb.Grant
	for _, h := range slices.Clone(a.waiting) {
		differs, gaveUp := a.retry(h, now)
		if differs {
			changed = append(changed, h.request.Service)
		}
		freed = append(freed, gaveUp...)
	}
	return append(changed, a.handOn(freed, now)...)
}

// handOn offers each freed address to the waiting Services, oldest first, until
// one takes it, and so on with what that one gave up. The hand-over happens
// here and now: a Service created later cannot come in between.
func (a *Allocator) handOn(freed []lb.Grant, now time.Time) []lb.ServiceKey {
	var served []lb.ServiceKey
	for len(freed) > 0 {
		addr := freed[0].Addr
		freed = freed[1:]
		for _, h := range a.waiting {
			if !a.fits(h, addr) {
				continue
			}
			if differs, gaveUp := a.retry(h, now); differs {
				served = append(served, h.request.Service)
				freed = append(freed, gaveUp...)
				break // a.waiting may have changed
			}
		}
	}
	return served
}

// fits reports whether a freed address could serve the waiting Service: a
// cheap test that spares deciding anew for thousands that it cannot help.
func (a *Allocator) fits(h *holding, addr netip.Addr) bool {
	f := lb.FamilyOf(addr)
	if want, ok := h.request.Exact(f); ok && want != addr {
		return false
	}
	return slices.ContainsFunc(h.decision.Refusals, func(r lb.Refusal) bool {
		p := a.pools[r.Pool]
		return r.Family == f && p != nil && p.Contains(addr)
	})
}

// retry decides anew for a waiting Service. It reports whether the answer
// changed, and what the Service gave up for it.
func (a *Allocator) retry(h *holding, now time.Time) (changed bool, freed []lb.Grant) {
	before := h.decision
	a.stopWaiting(h)
	freed = a.decide(h, now)
	a.startWaiting(h)
	return !reflect.DeepEqual(before, h.decision), freed
}
