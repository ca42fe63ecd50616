package allocator

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/google/btree"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// topic is what a holder waits for. The zero topic is that anything changes:
// everybody waits for that.
type topic struct {
	pool   *pool
	family lb.Family  // with pool: an address becomes free
	space  *space     // with pool: the namespace has fewer of its addresses; with claim: see there
	group  group      // with pool: an address of the group becomes easier to share
	addr   netip.Addr // it is in less use
	claim  string     // with space: its addresses can be had
}

// waiter is a holding in a queue.
type waiter struct {
	created time.Time
	key     lb.Holder
	*holding
}

// queue is who waits for a topic, in order of age.
type queue = *btree.BTreeG[waiter]

func waiterOf(h *holding) waiter { return waiter{h.more.request.Created, h.holder(), h} }

func (w waiter) olderThan(o waiter) bool {
	return cmp.Or(w.created.Compare(o.created), w.key.Compare(o.key)) < 0
}

// startWaiting queues a holding that lacks something.
func (a *Allocator) startWaiting(h *holding) {
	if len(h.extra().refusals) == 0 {
		return
	}
	h.more.topics = a.awaited(h)
	for _, t := range h.more.topics {
		if a.queues[t] == nil {
			a.queues[t] = btree.NewG(16, waiter.olderThan)
		}
		a.queues[t].ReplaceOrInsert(waiterOf(h))
	}
}

func (a *Allocator) stopWaiting(h *holding) {
	for _, t := range h.extra().topics { // one may be in it twice, for two families
		if q := a.queues[t]; q != nil {
			if q.Delete(waiterOf(h)); q.Len() == 0 {
				delete(a.queues, t)
			}
		}
	}
	if h.more != nil {
		h.more.topics = nil
	}
}

// awaited returns what has to happen for any of the refusals to go. What only an
// edit of pools or of the request can fix is under the zero topic alone.
func (a *Allocator) awaited(h *holding) []topic {
	out := []topic{{}}
	key := h.more.request.ShareKey
	inPool := func(t topic) {
		out = append(out, t)
		if key != "" {
			out = append(out, topic{pool: t.pool, group: t.pool.groupOf(h.space, key)})
		}
	}
	for _, r := range h.more.refusals {
		p := a.pools[r.Pool]
		_, exact := h.more.request.Exact(r.Family)
		switch r.Reason {
		case lb.ReasonClaimNotFound, lb.ReasonClaimInUse, lb.ReasonClaimPending, lb.ReasonClaimDeleting, lb.ReasonClaimLacksFamily:
			out = append(out, topic{space: h.space, claim: r.Other})
		case lb.ReasonQuota:
			inPool(topic{pool: p, space: h.space})
		case lb.ReasonExhausted, lb.ReasonAddressInUse,
			lb.ReasonPortConflict, lb.ReasonKeyDiffers, lb.ReasonSharingNotAllowed, lb.ReasonBackendsDiffer,
			lb.ReasonAddressOfNode, lb.ReasonAddressOfRouter, lb.ReasonSubnetAddress, lb.ReasonAddressOfService, lb.ReasonConflict:
			if exact {
				out = append(out, topic{addr: r.Addr})
				continue
			}
			inPool(topic{pool: p, family: r.Family})
		}
	}
	for g := range h.grants {
		if lender := a.lender(h, g.addr); lender != nil { // it is the Service's own when the claim goes
			out = append(out, topic{space: h.space, claim: lender.name})
		}
	}
	return out
}

// over reports whether what those who wait for the topic could have is gone.
func (a *Allocator) over(t topic) bool {
	switch {
	case t.pool != nil && t.family != 0:
		free := t.pool.free[t.family]
		return free == nil || free.available() == 0
	case t.pool != nil && t.space != nil:
		most := t.pool.MaxPerNamespace
		return most > 0 && len(t.pool.seats[t.space]) > most // one of them may be for exchange
	default:
		return false
	}
}

// Serve retries all waiting holders and returns those whose decision
// changed.
func (a *Allocator) Serve(now time.Time) []lb.Holder { return a.serve([]topic{{}}, now) }

// serve retries, oldest first, the holders that wait for what has happened. This
// is done synchronously: no later request can come in between. It returns
// those whose answer or loan changed.
func (a *Allocator) serve(happened []topic, now time.Time) []lb.Holder {
	var last waiter
	for {
		w, ok := a.next(happened, last)
		if !ok {
			touched := a.touched
			a.touched = nil
			return touched
		}
		last = w
		differs, more := a.retry(w.holding, now)
		if differs && !slices.Contains(a.touched, w.key) {
			a.touched = append(a.touched, w.key)
		}
		if len(more) > 0 {
			happened = append(happened, more...)
			last = waiter{} // an older holder may have waited for this
		}
	}
}

// next returns the oldest of those who wait for one of the topics and are
// younger than last.
func (a *Allocator) next(topics []topic, last waiter) (oldest waiter, found bool) {
	for _, t := range topics {
		q := a.queues[t]
		if q == nil || a.over(t) {
			continue
		}
		q.AscendGreaterOrEqual(last, func(w waiter) bool {
			if !last.olderThan(w) {
				return true // last itself
			}
			if !found || w.olderThan(oldest) {
				oldest, found = w, true
			}
			return false
		})
	}
	return oldest, found
}

// retry decides again for a waiting holder. It reports whether the answer
// changed, and what others may have waited for.
func (a *Allocator) retry(h *holding, now time.Time) (changed bool, happened []topic) {
	had, refused := a.granted(h), h.more.refusals
	req := h.more.request
	d, happened := a.decide(h, &req, now)
	if !slices.Equal(had, d.Grants) {
		if h.more == nil {
			h.more = &more{request: req}
		}
		h.more.story = &d
	}
	return !slices.Equal(had, d.Grants) || !slices.Equal(refused, d.Refusals), happened
}
