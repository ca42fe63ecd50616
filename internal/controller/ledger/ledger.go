// Package ledger is the allocator as the controllers share it: safe for concurrent use and
// restored from the API server. It queues the Services and claims that a change affects.
package ledger

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/allocator"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Ledger guards an allocator. Its listeners are called with the lock held and
// must not call back.
type Ledger struct {
	reader client.Reader // asks the API server, not a cache
	class  kube.Class
	now    func() time.Time
	pace   *pacer // has a lock of its own

	mu        sync.Mutex // guards the fields below
	restored  bool
	alloc     *allocator.Allocator
	pools     pools
	unmanaged unmanaged
	occupied  occupants
	hosts     hosts                      // outside of the cluster, because of which addresses are blocked
	blocks    map[netip.Addr]*time.Timer // those addresses, until when
	fresh     map[netip.Addr]bool        // whether the address is new to the Service that has it
	conflicts map[lb.Holder][]lb.Refusal // addresses that their Services cannot keep, until that is written
	waiting   map[lb.Holder]lb.Reason    // the Services and claims that lack an address, and why
	onWake    map[lb.HolderKind]func(lb.Holder)
	onUse     func(pool string)
}

// New returns a Ledger that is empty until Restore. reader must read from the
// API server itself: a cache may not have the last leader's writes yet.
func New(reader client.Reader, class kube.Class, now func() time.Time) *Ledger {
	return &Ledger{
		reader: reader, class: class, now: now,
		pace: newPacer(), alloc: allocator.New(), unmanaged: unmanaged{}, occupied: newOccupants(), hosts: hosts{},
		blocks: map[netip.Addr]*time.Timer{}, fresh: map[netip.Addr]bool{}, conflicts: map[lb.Holder][]lb.Refusal{}, waiting: map[lb.Holder]lb.Reason{},
		onWake: map[lb.HolderKind]func(lb.Holder){}, onUse: func(string) {},
	}
}

// Woken is a source of the Services or claims whose assignment changed because of another
// Service or claim.
func (l *Ledger) Woken(kind lb.HolderKind) source.Source {
	return source.Func(func(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.onWake[kind] = func(k lb.Holder) {
			q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Namespace: k.Namespace, Name: k.Name}})
		}
		return nil
	})
}

// OnUse sets the function that is called with each pool whose use changed.
func (l *Ledger) OnUse(f func(pool string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onUse = f
}

// Decide answers the Service's request. isUnmanaged reports that no pool has the Service's
// addresses and Fairlead did not assign them: then they are not changed.
func (l *Ledger) Decide(svc *corev1.Service, req lb.Request) (d lb.Decision, isUnmanaged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	key := kube.Key(svc)
	if l.adoptNew(svc); l.isUnmanaged(svc) {
		// It may have waited for an address until another controller assigned one.
		l.wake(l.alloc.Release(req.Holder, l.now()))
		l.unmanaged.add(svc.DeepCopy())
		delete(l.waiting, req.Holder)
		return lb.Decision{}, true
	}
	l.unmanaged.remove(key)
	d = l.decide(req, l.alloc.Allocate)
	// Not by what it held before: an address may have been set aside for it while it waited.
	had := kube.IngressAddresses(svc)
	for _, g := range d.Grants {
		if slices.Contains(had, g.Addr) {
			continue
		}
		if _, overwritten := kube.RecordOf(svc).Of(g.Addr); !overwritten {
			l.fresh[g.Addr] = true
		}
	}
	return d, false
}

// Keep answers a Service whose request is invalid: it keeps the addresses that it has.
// isUnmanaged is as in Decide.
func (l *Ledger) Keep(svc *corev1.Service, req lb.Request) (d lb.Decision, isUnmanaged bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.adoptNew(svc); l.isUnmanaged(svc) {
		return lb.Decision{}, true
	}
	if len(l.alloc.Holds(req.Holder)) == 0 {
		l.wake(l.alloc.Release(req.Holder, l.now())) // or a freed address would be assigned to it
		l.waiting[req.Holder] = lb.ReasonInvalidRequest
		return lb.Decision{}, false
	}
	return l.decide(req, l.alloc.Keep), false
}

// DecideClaim answers the claim's request. boundTo is the Service that has its
// addresses, or "".
func (l *Ledger) DecideClaim(c *v1alpha1.IPAddressClaim, req lb.Request) (d lb.Decision, boundTo string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.alloc.Knows(req.Holder) {
		l.adoptClaim(c, nil)
	}
	d = l.decide(req, l.alloc.Allocate)
	user, _ := l.alloc.LentTo(req.Holder)
	return d, user.Name
}

// decide has the allocator answer the request, and queues the Services and claims that the
// answer affects.
func (l *Ledger) decide(req lb.Request, answer func(lb.Request, time.Time) (lb.Decision, []lb.Holder)) lb.Decision {
	before := l.alloc.Holds(req.Holder)
	d, woken := answer(req, l.now())
	l.wake(woken)
	if l.waiting[req.Holder] = d.Reason(); d.Met {
		delete(l.waiting, req.Holder)
	}
	if !slices.Equal(before, d.Grants) {
		for _, g := range before {
			if !slices.Contains(d.Grants, g) {
				l.hosts.release(g.Addr)
			}
		}
		l.used(before)
		l.used(d.Grants)
		l.pace.countAssignment(l.now())
	}
	if d.Conflicts = append(l.conflicts[req.Holder], d.Conflicts...); len(d.Conflicts) > 0 {
		l.conflicts[req.Holder] = d.Conflicts
	}
	return d
}

// Written records that the API server has the last decision. The addresses that the holder
// released for it are free from now on.
func (l *Ledger) Written(key lb.Holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conflicts, key)
	l.wake(l.alloc.Written(key, l.now()))
}

// Release forgets the Service or claim and returns the addresses that it had.
func (l *Ledger) Release(key lb.Holder) []lb.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := l.alloc.Holds(key)
	for _, g := range had {
		delete(l.fresh, g.Addr)
		l.hosts.release(g.Addr)
	}
	delete(l.conflicts, key)
	delete(l.waiting, key)
	l.wake(l.alloc.Release(key, l.now()))
	l.used(had)
	if key.Kind == lb.KindService {
		l.unmanaged.remove(lb.ServiceKey{Namespace: key.Namespace, Name: key.Name})
	}
	return had
}

// Gone forgets a Service that is deleted, ours or not.
func (l *Ledger) Gone(key lb.ServiceKey) {
	l.Release(key.Holder())
	l.Occupy(serviceSource(key), nil)
}

// Holds returns the addresses of the Service or claim.
func (l *Ledger) Holds(key lb.Holder) []lb.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alloc.Holds(key)
}

func (l *Ledger) wake(keys []lb.Holder) {
	for _, k := range keys {
		l.used(l.alloc.Holds(k))
		if f := l.onWake[k.Kind]; f != nil {
			f(k)
		}
	}
}

func (l *Ledger) used(grants []lb.Grant) {
	for _, g := range grants {
		l.onUse(g.Pool)
	}
}
