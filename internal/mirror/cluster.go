// Package mirror keeps what the API server says about the cluster, as a plan needs it.
package mirror

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/notify"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// Cluster is what the API server said last. It stays as it is while the API server is
// away.
type Cluster struct {
	class   kube.Class
	node    string // this node
	changed notify.Signal
	listed  chan struct{} // closed when everything was taken in once

	mu        sync.Mutex // guards the fields below
	services  map[lb.ServiceKey]service
	endpoints map[lb.ServiceKey][]endpointSlice      // few of each Service
	serviceOf map[types.NamespacedName]lb.ServiceKey // by EndpointSlice
	pools     map[string]v1alpha1.IPAddressPool
	adverts   map[string]v1alpha1.L2Advertisement
	nodes     map[string]lb.Node
	speakers  map[string]netip.AddrPort // node -> gossip endpoint
	gossip    gossipPlaces
	macs      macs
	disputed  map[string][]netip.Addr // node -> what its speaker does not announce, as a foreign host has it
	wanted    kube.SpeakerOrders      // what a user wants of this one
	names     map[string]string       // of nodes, to keep one of each
	routers   routerObjects

	gossipTerm string // annotation of the gossip Secret; the last one if that is gone

	// What fill found out the last time, and what has changed since. What it gave
	// out is never written to again.
	version     uint64 // of the three below; incremented on every change
	assignments []lb.Assignment
	parsed      []lb.L2Advertisement
	known       map[string]lb.Node
	set         kube.PoolSet
	facts       routerFacts
	changes     changes
}

// changes is what differs from what fill gave out.
type changes struct {
	services map[lb.ServiceKey]bool
	pools    bool
	adverts  bool
	nodes    bool
	routers  bool // what is about BGP
}

// service is what matters of a Service of ours that has an address.
type service struct {
	labels lb.Labels
	policy lb.TrafficPolicy
	addrs  []netip.Addr
	pools  []string // of addrs, as recorded when they were assigned; "" where that is unknown
}

// endpointSlice is what matters of an EndpointSlice.
type endpointSlice struct {
	name string
	kube.EndpointNodes
}

// New returns the Cluster for the speaker of this node, which prefers this family for the gossip.
func New(class kube.Class, node string, family lb.Family) *Cluster {
	return &Cluster{
		class:     class,
		node:      node,
		changed:   notify.New(),
		listed:    make(chan struct{}),
		services:  map[lb.ServiceKey]service{},
		endpoints: map[lb.ServiceKey][]endpointSlice{},
		serviceOf: map[types.NamespacedName]lb.ServiceKey{},
		pools:     map[string]v1alpha1.IPAddressPool{},
		adverts:   map[string]v1alpha1.L2Advertisement{},
		nodes:     map[string]lb.Node{},
		speakers:  map[string]netip.AddrPort{},
		gossip:    newGossipPlaces(family),
		macs:      macs{of: map[string][]string{}},
		disputed:  map[string][]netip.Addr{},
		names:     map[string]string{},
		routers:   newRouterObjects(),
		version:   1, // 0 means that changes are not counted
		set:       kube.NewPoolSet(nil),
		changes:   changes{services: map[lb.ServiceKey]bool{}},
	}
}

// Changed receives after a change that can alter what is announced.
func (w *Cluster) Changed() <-chan struct{} { return w.changed }

// Listed is closed when all kinds of objects were listed once.
func (w *Cluster) Listed() <-chan struct{} { return w.listed }

// The setters take in an object, of which only the name is known when it is gone,
// and report whether that can change what is announced: most of what happens in a
// cluster cannot.

func (w *Cluster) setService(svc *corev1.Service, gone bool) bool {
	key := kube.Key(svc)
	before, had := w.services[key]
	var record kube.Record
	var addrs []netip.Addr
	if !gone && w.class.Handles(svc) {
		record = kube.RecordOf(svc)
		addrs = assignedAddresses(svc, record, before.addrs)
	}
	if len(addrs) == 0 {
		delete(w.services, key)
		return had && w.changes.service(key)
	}
	after := service{labels: lb.LabelsOf(svc.Labels), policy: kube.TrafficPolicy(svc), addrs: addrs, pools: make([]string, len(addrs))}
	for i, a := range addrs {
		e, _ := record.Of(a)
		after.pools[i] = e.Pool
	}
	w.services[key] = after
	return (!had || !reflect.DeepEqual(before, after)) && w.changes.service(key)
}

// assignedAddresses returns the addresses of a Service: those in its status, and those of before
// that its record still lists. Of the latter another controller has overwritten the
// status; when the controller releases an address it removes both at once (ADR 0050).
func assignedAddresses(svc *corev1.Service, record kube.Record, before []netip.Addr) []netip.Addr {
	addrs := kube.IngressAddresses(svc)
	for _, a := range record.Addresses() {
		if slices.Contains(before, a) && !slices.Contains(addrs, a) {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

func (w *Cluster) setEndpoints(s *discoveryv1.EndpointSlice, gone bool) (matters bool) {
	name := nameOf(s)
	key := lb.ServiceKey{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	if before, had := w.serviceOf[name]; had && (gone || before != key) {
		delete(w.serviceOf, name)
		matters = w.dropSlice(before, s.Name)
	}
	if !gone {
		w.serviceOf[name] = key
		matters = w.putSlice(key, s) || matters
	}
	return matters
}

func (w *Cluster) dropSlice(of lb.ServiceKey, name string) bool {
	if left := slices.DeleteFunc(w.endpoints[of], func(e endpointSlice) bool { return e.name == name }); len(left) > 0 {
		w.endpoints[of] = left
	} else {
		delete(w.endpoints, of)
	}
	return w.endpointsChanged(of)
}

func (w *Cluster) putSlice(of lb.ServiceKey, s *discoveryv1.EndpointSlice) bool {
	all := w.endpoints[of]
	after := endpointSlice{name: s.Name, EndpointNodes: kube.Endpoints(s)}
	w.intern(after.Ready)
	w.intern(after.Serving)
	switch before := slices.IndexFunc(all, func(e endpointSlice) bool { return e.name == s.Name }); {
	case before < 0:
		w.endpoints[of] = append(slices.Clip(all), after)
	case reflect.DeepEqual(all[before], after):
		return false
	default:
		all[before] = after
	}
	return w.endpointsChanged(of)
}

// endpointsChanged notes that the endpoints of a Service are not what they were,
// and reports whether that matters: under externalTrafficPolicy Cluster, pods come
// and go without a difference to what is announced.
func (w *Cluster) endpointsChanged(of lb.ServiceKey) bool {
	svc, ours := w.services[of]
	if !ours {
		return false
	}
	i, given := slices.BinarySearchFunc(w.assignments, of, func(a lb.Assignment, key lb.ServiceKey) int { return a.Service.Compare(key) })
	if given && !w.changes.services[of] && w.assignments[i].Ready.Equal(w.readyNodes(of, svc.policy)) {
		return false
	}
	return w.changes.service(of)
}

// anywhere are the ready nodes of a Service where it does not matter which they are.
var anywhere = []string{lb.AnyNode}

// readyNodes returns Assignment.Ready of a Service.
func (w *Cluster) readyNodes(of lb.ServiceKey, policy lb.TrafficPolicy) lb.ReadyNodes {
	nodes := make([]kube.EndpointNodes, len(w.endpoints[of]))
	for i, e := range w.endpoints[of] {
		nodes[i] = e.EndpointNodes
	}
	ready := kube.MayGetTraffic(nodes)
	if policy == lb.TrafficCluster {
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			if len(ready.Of(f)) > 0 {
				ready.Set(f, anywhere)
			}
		}
	}
	return ready
}

// intern has the names share the memory of those seen before: there are many
// endpoints, and few nodes.
func (w *Cluster) intern(names []string) {
	for i, n := range names {
		if _, ok := w.names[n]; !ok {
			w.names[n] = n
		}
		names[i] = w.names[n]
	}
}

func (w *Cluster) setNode(n *corev1.Node, gone bool) bool {
	matters := note(w.nodes, n.Name, kube.Node(n), gone, func(x, y lb.Node) bool { return reflect.DeepEqual(x, y) })
	if n.Name == w.node {
		w.setOwnNode(n, gone)
	}
	w.changes.nodes = w.changes.nodes || matters
	return w.gossip.setNode(n, gone) || matters
}

func (w *Cluster) setPool(p *v1alpha1.IPAddressPool, gone bool) bool {
	matters := note(w.pools, p.Name, *p, gone, func(x, y v1alpha1.IPAddressPool) bool {
		return sameSpec(&x, &y) && maps.Equal(x.Labels, y.Labels) && slices.Equal(x.Status.Retiring, y.Status.Retiring)
	})
	w.changes.pools = w.changes.pools || matters
	return matters
}

func (w *Cluster) setAdvertisement(a *v1alpha1.L2Advertisement, gone bool) bool {
	matters := noteSpec(w.adverts, a, gone)
	w.changes.adverts = w.changes.adverts || matters
	return matters
}

// note takes in an object of a map and reports whether that is news.
func note[T any](m map[string]T, name string, after T, gone bool, same func(before, after T) bool) bool {
	before, had := m[name]
	if gone {
		delete(m, name)
		return had
	}
	m[name] = after
	return !had || !same(before, after)
}

// noteSpec is note for an object of which only the spec matters.
func noteSpec[T any, P interface {
	*T
	client.Object
}](m map[string]T, o P, gone bool) bool {
	return note(m, o.GetName(), *o, gone, func(x, y T) bool { return sameSpec(P(&x), P(&y)) })
}

// sameSpec reports whether both are one object, whose spec has not changed.
func sameSpec(x, y client.Object) bool {
	return x.GetUID() == y.GetUID() && x.GetGeneration() == y.GetGeneration()
}

// service notes that the Service is not what it was, and returns that this
// matters.
func (c *changes) service(key lb.ServiceKey) bool {
	c.services[key] = true
	return true
}

// GossipSecret returns the data of the gossip Secret, nil if it is not there, and its term.
func (w *Cluster) GossipSecret() (data map[string][]byte, term string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routers.secrets.Data[kube.GossipSecret], w.gossipTerm
}

// setSpeaker matters where a user wants something of this one. Who looks for lost
// speakers looks by itself.
func (w *Cluster) setSpeaker(s *v1alpha1.Speaker, gone bool) bool {
	matters := false
	if s.Name == w.node {
		orders := kube.SpeakerOrders{}
		if !gone {
			orders = kube.Orders(s)
		}
		matters = orders.Drain != w.wanted.Drain || !maps.Equal(orders.Once, w.wanted.Once)
		w.wanted = orders
	}
	w.macs.set(s)
	w.setDisputed(s)
	matters = w.gossip.setSpeaker(s, gone) || matters
	endpoint, err := netip.ParseAddrPort(s.Status.GossipEndpoint)
	if gone || err != nil {
		delete(w.speakers, s.Name)
		return matters
	}
	w.speakers[s.Name] = endpoint
	return matters
}

// setDisputed notes what a speaker has not announced for a foreign host's sake.
func (w *Cluster) setDisputed(s *v1alpha1.Speaker) {
	delete(w.disputed, s.Name)
	for _, c := range s.Status.Conflicts {
		if a, err := netip.ParseAddr(c.Address); err == nil && !c.Announced {
			w.disputed[s.Name] = append(w.disputed[s.Name], a)
		}
	}
}

// DisputedAddresses returns the addresses that speakers do not announce, as foreign hosts
// have them.
func (w *Cluster) DisputedAddresses() map[netip.Addr]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[netip.Addr]bool{}
	for _, addrs := range w.disputed {
		for _, a := range addrs {
			out[a] = true
		}
	}
	return out
}

// Orders returns what a user wants of this speaker.
func (w *Cluster) Orders() kube.SpeakerOrders {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted
}

// Others returns where the speakers of other nodes are to be reached.
func (w *Cluster) Others() map[string]netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := maps.Clone(w.speakers)
	maps.DeleteFunc(out, func(node string, e netip.AddrPort) bool { return !w.isOther(node, e) })
	return out
}

// SpeakerCount returns how many speakers there are, this one too, alive or not.
func (w *Cluster) SpeakerCount() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	n := 1
	for node, e := range w.speakers {
		if w.isOther(node, e) {
			n++
		}
	}
	return n
}

// isOther reports whether a Speaker object is another node's. One that gives this
// node's own endpoint is left over from a renamed node.
func (w *Cluster) isOther(node string, endpoint netip.AddrPort) bool {
	return node != w.node && endpoint != w.speakers[w.node]
}

// NodeMACs returns the hardware addresses that speakers have written down: also
// those that are not in touch yet.
func (w *Cluster) NodeMACs() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Concat(slices.Collect(maps.Values(w.macs.of))...)
}

// MACsVersion is another one when nodesMACs returns others.
func (w *Cluster) MACsVersion() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.macs.version
}

// macs are the hardware addresses of nodes' interfaces, as speakers wrote them down.
type macs struct {
	version uint64 // incremented on every change
	of      map[string][]string
}

func (m *macs) set(s *v1alpha1.Speaker) {
	var now []string
	for _, i := range s.Status.Interfaces {
		now = append(now, i.MAC)
	}
	if !slices.Equal(m.of[s.Name], now) {
		m.of[s.Name] = now
		m.version++
	}
}

// SpeakerMissing reports whether this node has no Speaker object, as after its
// Node was deleted and recreated.
func (w *Cluster) SpeakerMissing() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, there := w.speakers[w.node]
	return !there
}

// Fill adds to the snapshot what the cluster has, and returns which version of it
// that is. It recomputes what has changed since the last time.
func (w *Cluster) Fill(s *plan.Snapshot) uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	c := w.changes
	if c.pools || c.adverts {
		w.parse()
	}
	if c.pools || len(c.services) > 0 {
		w.assign()
	}
	if c.nodes {
		w.known = maps.Clone(w.nodes)
	}
	if c.pools || c.nodes || c.routers {
		w.facts = w.routers.facts(w.node, w.known, w.pools)
	}
	if c.pools || c.adverts || c.nodes || c.routers || len(c.services) > 0 {
		w.version++
		w.changes = changes{services: map[lb.ServiceKey]bool{}}
	}
	s.Assignments, s.Advertisements, s.Nodes = w.assignments, w.parsed, w.known
	s.BGPAdvertisements, s.Peers = w.facts.adverts, w.facts.peersOf
	return w.version
}

// PoolSet returns the pools as fill last found them.
func (w *Cluster) PoolSet() kube.PoolSet {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.set
}

// NamedInterfaces returns the names of interfaces that advertisements have, and patterns.
func (w *Cluster) NamedInterfaces() (out []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.parsed {
		out = append(out, w.parsed[i].Interfaces...)
	}
	return out
}

// parse reads the pools and the advertisements.
func (w *Cluster) parse() {
	pools := slices.Collect(maps.Values(w.pools))
	w.set = kube.NewPoolSet(pools)
	w.parsed = nil
	for _, name := range slices.Sorted(maps.Keys(w.adverts)) {
		advert := w.adverts[name]
		// One that does not parse has a condition that says so, and no effect.
		if a, err := kube.L2Advertisement(&advert, pools); err == nil {
			w.parsed = append(w.parsed, a)
		}
	}
}

// assign brings the assignments, which are sorted, in line with the changes: of
// the Services that changed, or of all when the pools did.
func (w *Cluster) assign() {
	keys := w.changes.services
	if w.changes.pools {
		keys = make(map[lb.ServiceKey]bool, len(w.services))
		for key := range w.services {
			keys[key] = true
		}
		for key := range w.changes.services {
			keys[key] = true // also those that are gone
		}
	}
	var changed []lb.Assignment
	for _, key := range slices.SortedFunc(maps.Keys(keys), lb.ServiceKey.Compare) {
		if svc, there := w.services[key]; there {
			changed = append(changed, w.assignment(key, svc))
		}
	}
	merged := make([]lb.Assignment, 0, len(w.services))
	for i := range w.assignments {
		as := &w.assignments[i]
		for len(changed) > 0 && changed[0].Service.Compare(as.Service) < 0 {
			merged, changed = append(merged, changed[0]), changed[1:]
		}
		if !keys[as.Service] {
			merged = append(merged, *as)
		}
	}
	merged = append(merged, changed...)
	w.assignments = merged
}

// assignment returns what speakers are to do for the Service.
func (w *Cluster) assignment(key lb.ServiceKey, svc service) lb.Assignment {
	as := lb.Assignment{Service: key, Labels: svc.labels, Policy: svc.policy}
	for i, a := range svc.addrs {
		pool, ok := w.set.Of(a)
		if !ok {
			pool = svc.pools[i]
		}
		if pool != "" {
			as.Grants = append(as.Grants, lb.Grant{Addr: a, Pool: pool})
		}
	}
	as.Ready = w.readyNodes(key, svc.policy)
	return as
}
