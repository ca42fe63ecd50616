// Package ledger is the allocator as the controllers share it: safe for
// concurrent use, restored from the API server, and telling who is to look again.
package ledger

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"golang.org/x/time/rate"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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

// More addresses a second than crowd, after the first few, and everything that
// can wait gives way to them; but not for longer than pause each time, so that it
// goes on at a walk.
const (
	crowd = 100
	few   = 20
	pause = 500 * time.Millisecond
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
	occupied  occupants
	hosts     hosts                      // outside of the cluster, for which some of these are blocked
	given     map[netip.Addr]bool        // addresses that Services had not had before
	conflicts map[lb.Holder][]lb.Refusal // addresses that their Services cannot keep, until that is written
	waiting   map[lb.Holder]lb.Reason    // who lacks an address, and why
	onWake    map[lb.HolderKind]func(lb.Holder)
	onUse     func(pool string)
	pace      *rate.Limiter // of the addresses given
	crowded   time.Time     // when there last were too many for its pace
}

// New returns a Ledger that is empty until Restore. reader must read from the
// API server itself: a cache may not have the last leader's writes yet.
func New(reader client.Reader, class kube.Class, now func() time.Time) *Ledger {
	return &Ledger{
		reader: reader, class: class, now: now,
		alloc: allocator.New(), pools: map[string]lb.Pool{}, invalid: map[string]error{},
		strangers: map[lb.ServiceKey]*corev1.Service{}, conflicts: map[lb.Holder][]lb.Refusal{}, waiting: map[lb.Holder]lb.Reason{}, given: map[netip.Addr]bool{},
		occupied: newOccupants(), hosts: hosts{},
		onWake: map[lb.HolderKind]func(lb.Holder){}, onUse: func(string) {},
		pace: rate.NewLimiter(crowd, few),
	}
}

// Woken is a source of those Services or claims whose decision changed, or whose
// loan did, by what another asked for or gave up.
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

// OnUse sets who is told of a pool whose use changed.
func (l *Ledger) OnUse(f func(pool string)) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.onUse = f
}

// Restore reads all pools and all addresses in the status of claims and Services,
// once, before the first is given (invariant A2). Later calls do nothing.
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
	var claims v1alpha1.IPAddressClaimList
	var services corev1.ServiceList
	var namespaces corev1.NamespaceList
	var nodes corev1.NodeList
	var speakers v1alpha1.SpeakerList
	var peers v1alpha1.BGPPeerList
	for _, list := range []client.ObjectList{&pools, &claims, &services, &namespaces, &nodes, &speakers, &peers} {
		if err := l.reader.List(ctx, list); err != nil {
			return fmt.Errorf("restore assignments: list %T: %w", list, err)
		}
	}
	l.setPools(pools.Items)
	retiring := map[netip.Addr]string{}
	for i := range pools.Items {
		for _, a := range kube.Retiring(&pools.Items[i]) {
			retiring[a] = pools.Items[i].Name
		}
	}
	kube.Oldest(claims.Items)
	for i := range claims.Items {
		l.adoptClaim(&claims.Items[i], retiring)
	}
	l.observe(services.Items, nodes.Items, speakers.Items, peers.Items)
	// One that is no longer ours and says that it has an address of ours is to be
	// cleaned first.
	ours := slices.DeleteFunc(services.Items, func(s corev1.Service) bool { return !l.class.Handles(&s) && kube.AssignedCondition(&s) == nil })
	kube.Oldest(ours)
	for i := range ours {
		l.adopt(&ours[i], retiring)
	}
	l.queue(ours, claims.Items, namespaces.Items) // setPools has told of every pool's use already
	l.restored = true
	return nil
}

// observe records the addresses that are in use already, by what can be read of them.
func (l *Ledger) observe(services []corev1.Service, nodes []corev1.Node, speakers []v1alpha1.Speaker, peers []v1alpha1.BGPPeer) {
	for i := range services {
		l.occupy(serviceSource(kube.Key(&services[i])), l.class.Occupied(&services[i]))
	}
	of := map[string]*v1alpha1.Speaker{}
	for i := range speakers {
		of[speakers[i].Name] = &speakers[i]
	}
	for i := range nodes {
		name := nodes[i].Name
		l.occupy(nodeSource(name), kube.NodeOccupied(name, &nodes[i], of[name]))
		delete(of, name)
	}
	for name, s := range of {
		l.occupy(nodeSource(name), kube.NodeOccupied(name, nil, s))
	}
	for i := range peers {
		l.occupy(peerSource(peers[i].Name), kube.PeerOccupied(&peers[i]))
	}
}

// queue decides for those that lack something, oldest first: they waited in that
// order before, and are reconciled in any.
func (l *Ledger) queue(services []corev1.Service, claims []v1alpha1.IPAddressClaim, namespaces []corev1.Namespace) {
	labels := map[string]map[string]string{}
	for _, n := range namespaces {
		labels[n.Name] = n.Labels
	}
	var lacking []lb.Request
	recorded := map[lb.Holder][]netip.Addr{} // what other controllers removed from the status
	for i := range claims {
		req, err := kube.ClaimRequest(&claims[i], labels[claims[i].Namespace])
		if err == nil && !req.Deleting && len(l.alloc.Holds(req.Holder)) < len(req.Families) {
			lacking = append(lacking, req)
		}
	}
	for i := range services {
		svc := &services[i]
		req, err := kube.Request(svc, labels[svc.Namespace])
		switch {
		case !l.class.Handles(svc):
		case l.foreign(svc):
			l.strangers[kube.Key(svc)] = svc
		case err == nil && len(l.alloc.Holds(req.Holder)) < len(req.Families):
			lacking = append(lacking, req)
			if kube.Overwritten(svc) && len(req.Addresses) == 0 && req.Claim == "" {
				recorded[req.Holder] = kube.RecordOf(svc).Addresses()
			}
		}
	}
	slices.SortFunc(lacking, func(x, y lb.Request) int {
		return cmp.Or(x.Created.Compare(y.Created), x.Holder.Compare(y.Holder))
	})
	// A tenant can write a record: what it lists is asked for, like a named address.
	for _, req := range lacking {
		if addrs := recorded[req.Holder]; addrs != nil {
			req.Addresses = addrs
			l.alloc.Allocate(req, l.now())
		}
	}
	for _, req := range lacking {
		l.alloc.Allocate(req, l.now())
	}
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
	l.restore(req, addrs, retiring, kube.RecordedPools(svc))
}

// adoptClaim records the addresses that the claim has in its status.
func (l *Ledger) adoptClaim(c *v1alpha1.IPAddressClaim, retiring map[netip.Addr]string) {
	if addrs, pools := kube.ClaimAddresses(c); len(addrs) > 0 {
		req, _ := kube.ClaimRequest(c, nil)
		l.restore(req, addrs, retiring, pools)
	}
}

// restore records what a holder has. Of an address that no pool has any more,
// the pool is the one that says it is retiring or, when nobody ran to write that
// down, the one that was said to have given it.
func (l *Ledger) restore(req lb.Request, addrs []netip.Addr, retiring, said map[netip.Addr]string) {
	from := map[netip.Addr]string{}
	maps.Copy(from, said)
	maps.Copy(from, retiring)
	grants, conflicts := l.alloc.Restore(req, addrs, from)
	l.used(grants)
	if len(conflicts) > 0 {
		l.conflicts[req.Holder] = conflicts
	}
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
func (l *Ledger) welcome() []lb.Holder {
	var oldest []corev1.Service
	for _, svc := range l.strangers {
		oldest = append(oldest, *svc)
	}
	kube.Oldest(oldest)
	var known []lb.Holder
	for i := range oldest {
		if key := kube.Key(&oldest[i]); !l.foreign(&oldest[i]) {
			l.adopt(&oldest[i], nil)
			delete(l.strangers, key)
			known = append(known, key.Holder())
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
	key := kube.Key(svc)
	if l.meet(svc) {
		// It may have waited here until somebody else gave it an address.
		l.wake(l.alloc.Release(req.Holder, l.now()))
		l.strangers[key] = svc.DeepCopy()
		delete(l.waiting, req.Holder)
		return lb.Decision{}, true
	}
	delete(l.strangers, key)
	held, had := l.alloc.Holds(req.Holder), kube.IngressAddresses(svc)
	d = l.decide(req, l.alloc.Allocate)
	for _, g := range d.Grants {
		if !slices.Contains(held, g) {
			l.given[g.Addr] = !slices.Contains(had, g.Addr)
		}
	}
	return d, false
}

// Keep answers a Service whose request cannot be understood: it keeps what it has.
// foreign says that this is not ours to touch.
func (l *Ledger) Keep(svc *corev1.Service, req lb.Request) (d lb.Decision, foreign bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.meet(svc) {
		return lb.Decision{}, true
	}
	if len(l.alloc.Holds(req.Holder)) == 0 {
		l.wake(l.alloc.Release(req.Holder, l.now())) // with nothing, it is not served when there is something either
		l.waiting[req.Holder] = lb.ReasonInvalidRequest
		return lb.Decision{}, false
	}
	return l.decide(req, l.alloc.Keep), false
}

// meet adopts what a Service has that is new to the ledger, and reports whether it
// is foreign.
func (l *Ledger) meet(svc *corev1.Service) (foreign bool) {
	if !l.alloc.Knows(kube.Key(svc).Holder()) {
		l.adopt(svc, nil)
	}
	return l.foreign(svc)
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

// decide has the request answered and tells whom that concerns.
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
		if now := l.now(); !l.pace.AllowN(now, 1) {
			l.crowded = now
		}
	}
	if d.Conflicts = append(l.conflicts[req.Holder], d.Conflicts...); len(d.Conflicts) > 0 {
		l.conflicts[req.Holder] = d.Conflicts
	}
	return d
}

// GiveWay returns when few addresses are being given, or after a short pause. What
// has time calls it before it writes to the API server.
func (l *Ledger) GiveWay(ctx context.Context) {
	l.mu.Lock()
	wait := l.crowded.Add(pause).Sub(l.now())
	l.mu.Unlock()
	if wait <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}

// ObserveService records the addresses that the Service has in fields which Fairlead does
// not assign.
func (l *Ledger) ObserveService(svc *corev1.Service) {
	l.Occupy(serviceSource(kube.Key(svc)), l.class.Occupied(svc))
}

func serviceSource(key lb.ServiceKey) Source { return Source{"Service", key.Namespace, key.Name} }

// ObserveNode records the addresses that a node has, by its Node and its Speaker; each may
// be nil.
func (l *Ledger) ObserveNode(name string, n *corev1.Node, s *v1alpha1.Speaker) {
	l.Occupy(nodeSource(name), kube.NodeOccupied(name, n, s))
}

func nodeSource(name string) Source { return Source{Kind: "Node", Name: name} }

// ObservePeer records the address of the router that a BGPPeer names; nil when the peer is
// gone.
func (l *Ledger) ObservePeer(name string, p *v1alpha1.BGPPeer) {
	l.Occupy(peerSource(name), kube.PeerOccupied(p))
}

func peerSource(name string) Source { return Source{Kind: "BGPPeer", Name: name} }

// shunFor is how long an address that a foreign host has is given to nobody.
const shunFor = time.Hour

// block has the address, which a foreign host has, assigned to nobody for a while.
func (l *Ledger) block(addr netip.Addr) {
	from := hostSource(addr)
	if l.occupied.of[from] != nil {
		return
	}
	time.AfterFunc(shunFor, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.hosts.expire(addr)
		l.unblock(addr)
	})
	l.occupy(from, []lb.Blocked{{Addr: addr, Block: lb.Block{Reason: lb.ReasonConflict, Holder: "a host outside of the cluster"}}})
}

func (l *Ledger) unblock(addr netip.Addr) { l.occupy(hostSource(addr), nil) }

func hostSource(a netip.Addr) Source { return Source{Kind: "host", Name: a.String()} }

// Written says that the API server has what was decided last. What the holder
// gave up for it is free from now on.
func (l *Ledger) Written(key lb.Holder) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.conflicts, key)
	l.wake(l.alloc.Written(key, l.now()))
}

// foreign reports whether the Service has addresses, none of which we gave or
// have in a pool.
func (l *Ledger) foreign(svc *corev1.Service) bool {
	addrs := kube.IngressAddresses(svc)
	if len(addrs) == 0 || len(l.alloc.Holds(kube.Key(svc).Holder())) > 0 {
		return false
	}
	if kube.Overwritten(svc) {
		return false
	}
	given := kube.RecordedPools(svc)
	if slices.ContainsFunc(addrs, func(a netip.Addr) bool { return given[a] != "" }) {
		return false
	}
	for _, p := range l.pools {
		if slices.ContainsFunc(addrs, p.Contains) {
			return false
		}
	}
	return true
}

// Release forgets the Service or claim and returns what it had.
func (l *Ledger) Release(key lb.Holder) []lb.Grant {
	l.mu.Lock()
	defer l.mu.Unlock()
	had := l.alloc.Holds(key)
	for _, g := range had {
		delete(l.given, g.Addr)
		l.hosts.release(g.Addr)
	}
	delete(l.conflicts, key)
	delete(l.waiting, key)
	l.wake(l.alloc.Release(key, l.now()))
	l.used(had)
	if key.Kind == lb.KindService {
		delete(l.strangers, lb.ServiceKey{Namespace: key.Namespace, Name: key.Name})
	}
	return had
}

// Gone forgets a Service that is deleted, ours or not.
func (l *Ledger) Gone(key lb.ServiceKey) {
	l.Release(key.Holder())
	l.Occupy(serviceSource(key), nil)
}

// Holds returns what the Service or claim has.
func (l *Ledger) Holds(key lb.Holder) []lb.Grant {
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

// Census is how many addresses there are, and who lacks one.
type Census struct {
	Pools   map[string]allocator.Usage
	Waiting map[Lack]int
}

// Lack is a kind of holder that lacks an address, and why.
type Lack struct {
	Kind   lb.HolderKind
	Reason lb.Reason
}

// Census counts. Before Restore there is nothing to count.
func (l *Ledger) Census() Census {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Census{Pools: map[string]allocator.Usage{}, Waiting: map[Lack]int{}}
	for name := range l.pools {
		if u, ok := l.alloc.Usage(name); ok {
			c.Pools[name] = u
		}
	}
	for h, reason := range l.waiting {
		c.Waiting[Lack{h.Kind, reason}]++
	}
	return c
}

// Users returns who has addresses of the pool, sorted.
func (l *Ledger) Users(pool string) []lb.Holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alloc.Users(pool)
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
