package cluster

import (
	"net/netip"
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/duration"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// Cluster is what was read of a cluster and what follows from it.
type Cluster struct {
	Objects
	Install
	// View is the snapshot that speakers decide on, with those that announce an
	// address by layer 2 as its owners.
	View    view.View
	PoolSet kube.PoolSet
	Users   map[netip.Addr][]lb.Assignment // the Services of ours that have an address

	services  map[lb.ServiceKey]*corev1.Service
	endpoints map[lb.ServiceKey][]discoveryv1.EndpointSlice

	mu    sync.Mutex
	book  *ledger.Ledger                   // guarded by mu: restored from the objects; nil before it is asked
	found map[netip.Addr]view.Announcement // guarded by mu: several reports of one cluster ask for the same
}

// New returns what follows from the objects.
func New(o Objects, in Install) *Cluster {
	o.Speakers = slices.Clone(o.Speakers)
	for i := range o.Speakers {
		o.Speakers[i] = *kube.UpgradeSpeaker(&o.Speakers[i])
	}
	c := &Cluster{
		Objects: o, Install: in, PoolSet: kube.NewPoolSet(o.Pools), Users: map[netip.Addr][]lb.Assignment{},
		services: map[lb.ServiceKey]*corev1.Service{}, endpoints: map[lb.ServiceKey][]discoveryv1.EndpointSlice{}, found: map[netip.Addr]view.Announcement{},
	}
	c.View = view.New(view.Objects{
		Pools: o.Pools, L2Advertisements: o.L2Advertisements, BGPAdvertisements: o.BGPAdvertisements, BGPPeers: o.BGPPeers,
		Nodes: o.Nodes, Speakers: o.Speakers,
	})
	for i := range o.Endpoints {
		key := lb.ServiceKey{Namespace: o.Endpoints[i].Namespace, Name: o.Endpoints[i].Labels[discoveryv1.LabelServiceName]}
		c.endpoints[key] = append(c.endpoints[key], o.Endpoints[i])
	}
	for i := range o.Services {
		svc := &o.Services[i]
		c.services[kube.Key(svc)] = svc
		if !in.Class.Handles(svc) {
			continue
		}
		if as := kube.Assignment(svc, c.endpoints[kube.Key(svc)], c.PoolSet); len(as.Grants) > 0 {
			c.View.Assignments = append(c.View.Assignments, as)
		}
	}
	slices.SortFunc(c.View.Assignments, func(x, y lb.Assignment) int { return x.Service.Compare(y.Service) })
	for i := range c.View.Assignments {
		as := &c.View.Assignments[i]
		for _, g := range as.Grants {
			c.Users[g.Addr] = append(c.Users[g.Addr], *as)
		}
	}
	c.View.Joined, c.View.Known, c.View.Claims = true, len(c.View.Speakers), c.claims()
	return c
}

// claims are what the owners say, as claims. Of one that can announce its address no
// longer nobody has heard, or it would not say so; it is a claim all the same, as
// that of a node that died.
func (c *Cluster) claims() map[netip.Addr]election.Claim {
	out := map[netip.Addr]election.Claim{}
	for a := range c.Users {
		if o, ok := c.View.Owners[a.String()]; ok {
			out[a] = election.Claim{Owner: o.Node, Epoch: 1}
		}
	}
	return out
}

// Service returns the Service, or nil.
func (c *Cluster) Service(key lb.ServiceKey) *corev1.Service { return c.services[key] }

// EndpointsOf returns the EndpointSlices of a Service.
func (c *Cluster) EndpointsOf(key lb.ServiceKey) []discoveryv1.EndpointSlice { return c.endpoints[key] }

// Age says how long ago that was when the cluster was read, in the words of
// kubectl: "5m". What a node whose clock is ahead says of the future was just now.
func (c *Cluster) Age(t metav1.Time) string {
	if t.IsZero() {
		return "an unknown time"
	}
	return duration.HumanDuration(max(0, c.Read.Sub(t.Time)))
}

// Speaker returns the Speaker of a node, or nil.
func (c *Cluster) Speaker(node string) *v1alpha1.Speaker {
	i := slices.IndexFunc(c.Speakers, func(s v1alpha1.Speaker) bool { return s.Name == node })
	if i < 0 {
		return nil
	}
	return &c.Speakers[i]
}

// Pool returns the IPAddressPool, or nil.
func (c *Cluster) Pool(name string) *v1alpha1.IPAddressPool {
	i := slices.IndexFunc(c.Pools, func(p v1alpha1.IPAddressPool) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return &c.Pools[i]
}

// Addresses returns the addresses that Services of ours have, sorted.
func (c *Cluster) Addresses() []netip.Addr {
	out := make([]netip.Addr, 0, len(c.Users))
	for a := range c.Users {
		out = append(out, a)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return out
}

// Grant returns the address as a Service of ours has it.
func (c *Cluster) Grant(a netip.Addr) (lb.Grant, bool) {
	for _, as := range c.Users[a] {
		for _, g := range as.Grants {
			if g.Addr == a {
				return g, true
			}
		}
	}
	return lb.Grant{}, false
}

// PoolHas reports whether the spec of the pool has the address.
func (c *Cluster) PoolHas(pool string, a netip.Addr) bool {
	if p := c.Pool(pool); p != nil {
		if parsed, err := kube.Pool(p); err == nil {
			return parsed.Contains(a)
		}
	}
	return false
}

// ClaimOf returns the claim that keeps the address, or nil.
func (c *Cluster) ClaimOf(a netip.Addr) *v1alpha1.IPAddressClaim {
	for i := range c.Claims {
		if addrs, _ := kube.ClaimAddresses(&c.Claims[i]); slices.Contains(addrs, a) {
			return &c.Claims[i]
		}
	}
	return nil
}

// Announcement finds who announces an address that Services of ours have. Callers must not
// change it: it is kept for the next one.
func (c *Cluster) Announcement(g lb.Grant) view.Announcement {
	c.mu.Lock()
	defer c.mu.Unlock()
	a, known := c.found[g.Addr]
	if !known {
		a = c.View.Announcement(c.Users[g.Addr], g)
		c.found[g.Addr] = a
	}
	return a
}

// Plan returns what the speaker of a node would do now.
func (c *Cluster) Plan(node string) plan.Plan {
	s := c.View.Snapshot
	s.Node = node
	return plan.Make(s)
}
