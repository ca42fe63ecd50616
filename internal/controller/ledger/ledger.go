// Package ledger is the allocator as the controllers share it: safe for
// concurrent use, restored from the API server, and telling who is to look again.
package ledger

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/allocator"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/lb"
)

// Ledger guards an allocator. Its listeners are called with the lock held and
// must not call back.
type Ledger struct {
	reader client.Reader // asks the API server, not a cache
	class  kube.Class
	now    func() time.Time

	mu       sync.Mutex // guards the fields below
	restored bool
	alloc    *allocator.Allocator
	pools    map[string]lb.Pool // the last version of each pool that could be parsed
	invalid  map[string]error
	// strangers are the Services of ours with addresses that no pool has. When
	// one has, they keep them.
	strangers map[lb.ServiceKey]*corev1.Service
	onWake    func(lb.ServiceKey)
	onUse     func(pool string)
}

// New returns a Ledger that is empty until Restore. reader must read from the
// API server itself: a cache may not have the last leader's writes yet.
func New(reader client.Reader, class kube.Class, now func() time.Time) *Ledger {
	return &Ledger{
		reader: reader, class: class, now: now,
		alloc: allocator.New(), pools: map[string]lb.Pool{}, invalid: map[string]error{},
		strangers: map[lb.ServiceKey]*corev1.Service{},
		onWake:    func(lb.ServiceKey) {}, onUse: func(string) {},
	}
}

// OnWake sets who is told of a Service that was waiting and whose decision
// changed.
func (l *Ledger) OnWake(f func(lb.ServiceKey)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onWake = f
}

// OnUse sets who is told of a pool whose use changed.
func (l *Ledger) OnUse(f func(pool string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onUse = f
}

// Restore reads all pools and all addresses in Services' status, once, before
// the first is given (invariant A2). Later calls do nothing.
//
// Call it from a reconciler, when the watches are registered already: what is
// deleted after the list was made then comes as an event.
func (l *Ledger) Restore(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored {
		return nil
	}
	var pools v1alpha1.IPAddressPoolList
	if err := l.reader.List(ctx, &pools); err != nil {
		return fmt.Errorf("restore pools: %w", err)
	}
	var services corev1.ServiceList
	if err := l.reader.List(ctx, &services); err != nil {
		return fmt.Errorf("restore assignments: %w", err)
	}
	var namespaces corev1.NamespaceList
	if err := l.reader.List(ctx, &namespaces); err != nil {
		return fmt.Errorf("restore assignments: %w", err)
	}
	l.setPools(pools.Items)
	retiring := map[netip.Addr]string{}
	for i := range pools.Items {
		for _, a := range kube.Retiring(&pools.Items[i]) {
			retiring[a] = pools.Items[i].Name
		}
	}
	// One that is no longer ours and says that it has an address of ours is to be
	// cleaned first.
	ours := slices.DeleteFunc(services.Items, func(s corev1.Service) bool { return !l.class.Handles(&s) && kube.AssignedCondition(&s) == nil })
	oldestFirst(ours)
	for i := range ours {
		l.adopt(&ours[i], retiring)
	}
	l.queue(ours, namespaces.Items) // setPools has told of every pool's use already
	l.restored = true
	return nil
}

// queue decides for the Services that lack something, oldest first: they waited
// in that order before, and are reconciled in any.
func (l *Ledger) queue(services []corev1.Service, namespaces []corev1.Namespace) {
	labels := map[string]map[string]string{}
	for _, n := range namespaces {
		labels[n.Name] = n.Labels
	}
	for i := range services {
		svc := &services[i]
		req, err := kube.Request(svc, labels[svc.Namespace])
		switch {
		case !l.class.Handles(svc):
		case l.foreign(svc):
			l.strangers[req.Service] = svc
		case err == nil && len(l.alloc.Holds(req.Service)) < len(req.Families):
			l.alloc.Allocate(req, l.now())
		}
	}
}

// oldestFirst sorts Services by creation, then name: of two that have the same
// address the older one keeps it.
func oldestFirst(services []corev1.Service) {
	slices.SortFunc(services, func(a, b corev1.Service) int {
		if c := a.CreationTimestamp.Compare(b.CreationTimestamp.Time); c != 0 {
			return c
		}
		return kube.Key(&a).Compare(kube.Key(&b))
	})
}

// adopt records the addresses that the Service has in its status.
func (l *Ledger) adopt(svc *corev1.Service, retiring map[netip.Addr]string) {
	addrs := kube.IngressAddresses(svc)
	if len(addrs) == 0 {
		return
	}
	// A request that cannot be understood still has its key and families.
	req, _ := kube.Request(svc, nil)
	if c := kube.AssignedCondition(svc); c != nil && c.Status == metav1.ConditionFalse {
		req.Pool = "" // what it has is not what it asks for: it goes on asking
	}
	l.used(l.alloc.Restore(req, addrs, retiring))
}

// SetPools makes pools the pools. Of one that does not parse any more the last
// good version stays in force.
func (l *Ledger) SetPools(pools []v1alpha1.IPAddressPool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored {
		l.setPools(pools)
	}
}

func (l *Ledger) setPools(pools []v1alpha1.IPAddressPool) {
	next := make(map[string]lb.Pool, len(pools))
	clear(l.invalid)
	for i := range pools {
		name := pools[i].Name
		p, err := kube.Pool(&pools[i])
		if err != nil {
			l.invalid[name] = err
			last, ok := l.pools[name]
			if !ok {
				continue
			}
			p = last
		}
		next[name] = p
	}
	l.pools = next
	all := make([]lb.Pool, 0, len(next))
	for _, p := range next {
		all = append(all, p)
	}
	moved := l.alloc.SetPools(all)
	l.wake(append(moved, l.welcome()...))
	l.wake(l.alloc.Serve(l.now()))
	for _, p := range pools {
		l.onUse(p.Name)
	}
}

// welcome adopts the strangers whose addresses a pool has now, oldest first, and
// returns them.
func (l *Ledger) welcome() []lb.ServiceKey {
	var oldest []corev1.Service
	for _, svc := range l.strangers {
		oldest = append(oldest, *svc)
	}
	oldestFirst(oldest)
	var known []lb.ServiceKey
	for i := range oldest {
		if key := kube.Key(&oldest[i]); !l.foreign(&oldest[i]) {
			l.adopt(&oldest[i], nil)
			delete(l.strangers, key)
			known = append(known, key)
		}
	}
	return known
}

// Decide answers the Service's request. foreign says that the Service has
// addresses that are not ours to touch: no pool has them and we did not give
// them.
func (l *Ledger) Decide(svc *corev1.Service, req lb.Request) (d lb.Decision, foreign bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.alloc.Knows(req.Service) {
		l.adopt(svc, nil)
	}
	if l.foreign(svc) {
		// It may have waited here until somebody else gave it an address.
		l.wake(l.alloc.Release(req.Service, l.now()))
		l.strangers[req.Service] = svc.DeepCopy()
		return lb.Decision{}, true
	}
	delete(l.strangers, req.Service)
	before := l.alloc.Holds(req.Service)
	d, woken := l.alloc.Allocate(req, l.now())
	l.wake(woken)
	if !slices.Equal(before, d.Grants) {
		l.used(before)
		l.used(d.Grants)
	}
	return d, false
}

// foreign reports whether the Service has addresses, none of which we gave or
// have in a pool.
func (l *Ledger) foreign(svc *corev1.Service) bool {
	addrs := kube.IngressAddresses(svc)
	if len(addrs) == 0 || len(l.alloc.Holds(kube.Key(svc))) > 0 {
		return false
	}
	for _, p := range l.pools {
		if slices.ContainsFunc(addrs, p.Contains) {
			return false
		}
	}
	return true
}

// Release forgets the Service and returns what it had.
func (l *Ledger) Release(key lb.ServiceKey) []lb.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := l.alloc.Holds(key)
	l.wake(l.alloc.Release(key, l.now()))
	l.used(had)
	delete(l.strangers, key)
	return had
}

// Holds returns what the Service has.
func (l *Ledger) Holds(key lb.ServiceKey) []lb.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alloc.Holds(key)
}

// Usage returns the use of a pool and, if it cannot be parsed, why. ok is false
// for a pool that is not in force and never was.
func (l *Ledger) Usage(pool string) (u allocator.Usage, invalid error, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, ok = l.alloc.Usage(pool)
	return u, l.invalid[pool], ok
}

// Users returns the Services that have addresses of the pool, sorted.
func (l *Ledger) Users(pool string) []lb.ServiceKey {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alloc.Users(pool)
}

func (l *Ledger) wake(keys []lb.ServiceKey) {
	for _, k := range keys {
		l.used(l.alloc.Holds(k))
		l.onWake(k)
	}
}

func (l *Ledger) used(grants []lb.Grant) {
	for _, g := range grants {
		l.onUse(g.Pool)
	}
}
