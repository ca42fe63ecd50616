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

// Serve decides anew for every waiting Service and returns those whose decision
// changed, oldest first.
func (a *Allocator) Serve(now time.Time) []lb.ServiceKey {
	due := make(map[*holding]bool, len(a.waiting))
	for _, h := range a.waiting {
		due[h] = true
	}
	return a.serve(due, nil, now)
}

// handOn offers the freed addresses to the waiting Services. This happens here
// and now: a Service created later cannot come in between. It returns the
// Services whose decision changed.
func (a *Allocator) handOn(freed []lb.Grant, now time.Time) []lb.ServiceKey {
	if len(freed) == 0 {
		return nil
	}
	return a.serve(nil, freed, now)
}

// serve decides anew, oldest first, for the waiting Services that are due and
// those that a freed address fits, and so on with what those give up in turn.
func (a *Allocator) serve(due map[*holding]bool, freed []lb.Grant, now time.Time) []lb.ServiceKey {
	var changed []lb.ServiceKey
	for i := 0; i < len(a.waiting); {
		h := a.waiting[i]
		if !due[h] && !slices.ContainsFunc(freed, func(g lb.Grant) bool { return a.fits(h, g.Addr) }) {
			i++
			continue
		}
		delete(due, h)
		differs, gaveUp := a.retry(h, now)
		if differs {
			changed = append(changed, h.request.Service)
		}
		freed = slices.DeleteFunc(slices.Concat(freed, gaveUp), func(g lb.Grant) bool {
			_, taken := a.owners[g.Addr]
			return taken
		})
		switch {
		case len(gaveUp) > 0:
			i = 0 // it may fit one that was passed over
		case i < len(a.waiting) && a.waiting[i] == h:
			i++ // it waits on
		}
	}
	return changed
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
	freed = a.decide(h, h.request, now)
	a.startWaiting(h)
	return !reflect.DeepEqual(before, h.decision), freed
}
