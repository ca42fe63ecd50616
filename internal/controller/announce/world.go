package announce

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/internal/lb"
	"github.com/fairlead/fairlead/internal/speaker"
)

// world is what the API server told. It stays as it is while the API server is
// away.
type world struct {
	class   kube.Class
	node    string        // this node
	changed chan struct{} // has room for one

	mu        sync.Mutex // guards the fields below
	services  map[lb.ServiceKey]service
	endpoints map[lb.ServiceKey]map[string]discoveryv1.EndpointSlice // by name of the slice
	pools     map[string]v1alpha1.IPAddressPool
	adverts   map[string]v1alpha1.L2Advertisement
	nodes     map[string]lb.Node
	speakers  map[string]netip.AddrPort // node -> gossip endpoint
	wanted    kube.SpeakerOrders        // what a user wants of this one

	// lastPool is the pool that each assigned address was last seen in. An
	// address that a pool edit took out stays announced in the moment before
	// the controller lists it as retiring.
	lastPool map[netip.Addr]string
}

// service is what matters of a Service of ours that has an address.
type service struct {
	labels map[string]string
	policy lb.TrafficPolicy
	addrs  []netip.Addr
}

func newWorld(class kube.Class, node string) *world {
	return &world{
		class:     class,
		node:      node,
		changed:   make(chan struct{}, 1),
		services:  map[lb.ServiceKey]service{},
		endpoints: map[lb.ServiceKey]map[string]discoveryv1.EndpointSlice{},
		pools:     map[string]v1alpha1.IPAddressPool{},
		adverts:   map[string]v1alpha1.L2Advertisement{},
		nodes:     map[string]lb.Node{},
		speakers:  map[string]netip.AddrPort{},
		lastPool:  map[netip.Addr]string{},
	}
}

// watch follows every kind that the world is made of and returns when the first
// lists are in.
func (w *world) watch(ctx context.Context, c cache.Cache) error {
	follow := []struct {
		kind client.Object
		set  func(obj any, gone bool) (matters bool)
	}{
		{&corev1.Service{}, on(w.setService)},
		{&discoveryv1.EndpointSlice{}, on(w.setEndpoints)},
		{&corev1.Node{}, on(w.setNode)},
		{&v1alpha1.IPAddressPool{}, on(w.setPool)},
		{&v1alpha1.L2Advertisement{}, on(w.setAdvertisement)},
		{&v1alpha1.Speaker{}, on(w.setSpeaker)},
	}
	var synced []toolscache.InformerSynced
	for _, f := range follow {
		informer, err := c.GetInformer(ctx, f.kind, cache.BlockUntilSynced(false))
		if err != nil {
			return fmt.Errorf("watch %T: %w", f.kind, err)
		}
		set := func(obj any, gone bool) {
			w.mu.Lock()
			matters := f.set(obj, gone)
			w.mu.Unlock()
			if matters {
				poke(w.changed)
			}
		}
		registration, err := informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
			AddFunc:    func(obj any) { set(obj, false) },
			UpdateFunc: func(_, obj any) { set(obj, false) },
			DeleteFunc: func(obj any) {
				if last, ok := obj.(toolscache.DeletedFinalStateUnknown); ok {
					obj = last.Obj
				}
				set(obj, true)
			},
		})
		if err != nil {
			return fmt.Errorf("watch %T: %w", f.kind, err)
		}
		synced = append(synced, registration.HasSynced)
	}
	if !toolscache.WaitForCacheSync(ctx.Done(), synced...) {
		return fmt.Errorf("wait for the first lists: %w", context.Cause(ctx))
	}
	return nil
}

// on adapts a setter of one kind to any object.
func on[T client.Object](set func(obj T, gone bool) bool) func(any, bool) bool {
	return func(obj any, gone bool) bool { return set(obj.(T), gone) }
}

// The setters take in an object and report whether that can change what is
// announced: most of what happens in a cluster cannot.

func (w *world) setService(svc *corev1.Service, gone bool) bool {
	key := kube.Key(svc)
	addrs := kube.IngressAddresses(svc)
	before, had := w.services[key]
	if gone || !w.class.Handles(svc) || len(addrs) == 0 {
		delete(w.services, key)
		return had
	}
	after := service{labels: svc.Labels, policy: kube.TrafficPolicy(svc), addrs: addrs}
	w.services[key] = after
	return !had || !reflect.DeepEqual(before, after)
}

func (w *world) setEndpoints(s *discoveryv1.EndpointSlice, gone bool) bool {
	key := lb.ServiceKey{Namespace: s.Namespace, Name: s.Labels[discoveryv1.LabelServiceName]}
	if gone {
		delete(w.endpoints[key], s.Name)
		if len(w.endpoints[key]) == 0 {
			delete(w.endpoints, key)
		}
	} else {
		if w.endpoints[key] == nil {
			w.endpoints[key] = map[string]discoveryv1.EndpointSlice{}
		}
		w.endpoints[key][s.Name] = *s
	}
	_, ours := w.services[key]
	return ours
}

func (w *world) setNode(n *corev1.Node, gone bool) bool {
	before, had := w.nodes[n.Name]
	if gone {
		delete(w.nodes, n.Name)
		return had
	}
	after := kube.Node(n)
	w.nodes[n.Name] = after
	return !had || !reflect.DeepEqual(before, after)
}

func (w *world) setPool(p *v1alpha1.IPAddressPool, gone bool) bool {
	before, had := w.pools[p.Name]
	if gone {
		delete(w.pools, p.Name)
		return had
	}
	w.pools[p.Name] = *p
	return !had || before.Generation != p.Generation || !maps.Equal(before.Labels, p.Labels) ||
		!slices.Equal(before.Status.Retiring, p.Status.Retiring)
}

func (w *world) setAdvertisement(a *v1alpha1.L2Advertisement, gone bool) bool {
	before, had := w.adverts[a.Name]
	if gone {
		delete(w.adverts, a.Name)
		return had
	}
	w.adverts[a.Name] = *a
	return !had || before.Generation != a.Generation
}

// setSpeaker matters where a user wants something of this one. Who looks for lost
// speakers looks by itself.
func (w *world) setSpeaker(s *v1alpha1.Speaker, gone bool) bool {
	matters := false
	if s.Name == w.node {
		orders := kube.SpeakerOrders{}
		if !gone {
			orders = kube.Orders(s)
		}
		matters = orders.Drain != w.wanted.Drain || !maps.Equal(orders.Once, w.wanted.Once)
		w.wanted = orders
	}
	endpoint, err := netip.ParseAddrPort(s.Status.GossipEndpoint)
	if gone || err != nil {
		delete(w.speakers, s.Name)
		return matters
	}
	w.speakers[s.Name] = endpoint
	return matters
}

// orders returns what a user wants of this speaker.
func (w *world) orders() kube.SpeakerOrders {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wanted
}

// others returns where the speakers of other nodes are to be reached. An object
// that gives this node's own endpoint is left over from a renamed node.
func (w *world) others() map[string]netip.AddrPort {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := maps.Clone(w.speakers)
	maps.DeleteFunc(out, func(node string, e netip.AddrPort) bool { return node == w.node || e == w.speakers[w.node] })
	return out
}

// speakerIsGone reports whether this node has no Speaker object, as after its
// Node was deleted and made anew.
func (w *world) speakerIsGone() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, there := w.speakers[w.node]
	return !there
}

// fill adds to the snapshot what the world knows, and returns the Services of
// each assigned address.
func (w *world) fill(s *speaker.Snapshot) map[netip.Addr][]lb.ServiceKey {
	w.mu.Lock()
	defer w.mu.Unlock()
	pools := slices.Collect(maps.Values(w.pools))
	set := kube.NewPoolSet(pools)
	users := make(map[netip.Addr][]lb.ServiceKey, len(w.services))
	seen := make(map[netip.Addr]string, len(w.services))
	for _, key := range slices.SortedFunc(maps.Keys(w.services), lb.ServiceKey.Compare) {
		svc := w.services[key]
		as := lb.Assignment{Service: key, Labels: svc.labels, Policy: svc.policy}
		for _, a := range svc.addrs {
			pool, ok := set.Of(a)
			if !ok {
				pool, ok = w.lastPool[a]
			}
			if ok {
				as.Grants = append(as.Grants, lb.Grant{Addr: a, Pool: pool})
				users[a] = append(users[a], key)
				seen[a] = pool
			}
		}
		as.ReadyNodes = kube.ReadyNodes(slices.Collect(maps.Values(w.endpoints[key])))
		s.Assignments = append(s.Assignments, as)
	}
	w.lastPool = seen
	for _, name := range slices.Sorted(maps.Keys(w.adverts)) {
		advert := w.adverts[name]
		// One that does not parse has a condition that says so, and no effect.
		if a, err := kube.L2Advertisement(&advert, pools); err == nil {
			s.Advertisements = append(s.Advertisements, a)
		}
	}
	s.Nodes = maps.Clone(w.nodes)
	return users
}
