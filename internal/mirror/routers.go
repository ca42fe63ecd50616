package mirror

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// routerObjects is the part of the Cluster that is about BGP.
type routerObjects struct {
	peers       map[string]v1alpha1.BGPPeer
	adverts     map[string]v1alpha1.BGPAdvertisement
	communities map[string]v1alpha1.Community
	profiles    map[string]kube.BFDProfile
	secrets     kube.Secrets

	// Of this node, as last seen: a session does not end because its Node object
	// is replaced.
	own   lb.Node
	addrs []netip.Addr // from which its router ID is made
	goes  bool         // it was deleted, is about to be, or is not ready: a kubelet that shuts its node down says so first
}

func newRouterObjects() routerObjects {
	return routerObjects{
		peers: map[string]v1alpha1.BGPPeer{}, adverts: map[string]v1alpha1.BGPAdvertisement{}, communities: map[string]v1alpha1.Community{},
		profiles: map[string]kube.BFDProfile{}, secrets: kube.Secrets{Data: map[string]map[string][]byte{}},
	}
}

// Routers is what this node is to have with routers.
type Routers struct {
	Peers  []lb.BGPPeer
	BFD    map[string]kube.BFDProfile // by peer: how its path is watched
	Faults map[string]*kube.Fault     // by peer: why this node has no session, or not as written
}

// routerFacts is what follows from that for this node.
type routerFacts struct {
	adverts []lb.BGPAdvertisement
	peersOf map[string][]string // node -> its peers, sorted

	Routers
}

func (o *routerObjects) facts(node string, nodes map[string]lb.Node, pools map[string]v1alpha1.IPAddressPool) routerFacts {
	out := routerFacts{peersOf: map[string][]string{}, Routers: Routers{BFD: map[string]kube.BFDProfile{}}}
	if len(o.peers) == 0 {
		return out
	}
	aliases := kube.Aliases(slices.Collect(maps.Values(o.communities)))
	out.adverts = kube.BGPAdvertisements(slices.Collect(maps.Values(o.adverts)), slices.Collect(maps.Values(pools)), aliases)
	all, _ := kube.NewPeers(slices.Collect(maps.Values(o.peers))) // those that do not parse have a condition
	for name, n := range nodes {
		out.peersOf[name] = all.Names(n.Labels)
	}
	mine, faults := all.Of(o.own.Labels)
	out.Faults = faults
	for _, p := range mine {
		profile, watched := o.profiles[p.BFD]
		as, fault := p.On(node, o.addrs, o.secrets)
		as.Watched = watched
		if fault == nil {
			out.Peers = append(out.Peers, as)
			fault = p.ProfileFault(o.profiles)
		}
		if fault != nil {
			out.Faults[p.Name] = fault
		}
		if watched {
			out.BFD[p.Name] = profile
		}
	}
	return out
}

func (w *Cluster) routersChanged(matters bool) bool {
	w.changes.routers = w.changes.routers || matters
	return matters
}

func (w *Cluster) setBGPPeer(p *v1alpha1.BGPPeer, gone bool) bool {
	return w.routersChanged(noteSpec(w.routers.peers, p, gone))
}

func (w *Cluster) setBGPAdvertisement(a *v1alpha1.BGPAdvertisement, gone bool) bool {
	return w.routersChanged(noteSpec(w.routers.adverts, a, gone))
}

func (w *Cluster) setCommunity(c *v1alpha1.Community, gone bool) bool {
	return w.routersChanged(noteSpec(w.routers.communities, c, gone))
}

func (w *Cluster) setBFDProfile(p *v1alpha1.BFDProfile, gone bool) bool {
	return w.routersChanged(note(w.routers.profiles, p.Name, kube.Profile(p), gone, func(x, y kube.BFDProfile) bool { return x == y }))
}

func (w *Cluster) setSecret(s *corev1.Secret, gone bool) bool {
	w.routers.secrets.Namespace = s.Namespace
	matters := w.routersChanged(note(w.routers.secrets.Data, s.Name, s.Data, gone, func(x, y map[string][]byte) bool { return reflect.DeepEqual(x, y) }))
	if term := s.Annotations[kube.GossipTermAnnotation]; s.Name == kube.GossipSecret && !gone && term != w.gossipTerm {
		w.gossipTerm, matters = term, true
	}
	return matters
}

func (w *Cluster) setOwnNode(n *corev1.Node, gone bool) {
	w.routers.goes = gone || n.DeletionTimestamp != nil || kube.NodeDown(n)
	if gone {
		return
	}
	if a, ok := kube.GossipAddress(n, w.gossip.family); ok {
		w.gossip.own = a
	}
	addrs := kube.InternalIPs(n)
	if len(addrs) == 0 {
		addrs = w.routers.addrs
	}
	own := kube.Node(n)
	if !slices.Equal(w.routers.own.Labels, own.Labels) || !slices.Equal(w.routers.addrs, addrs) {
		w.routersChanged(true)
	}
	w.routers.own, w.routers.addrs = own, addrs
}

// Routers returns what is to be had with routers, as it was when fill was last
// called.
func (w *Cluster) Routers() Routers {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.facts.Routers
}

// NodeAddresses returns the InternalIPs of this node.
func (w *Cluster) NodeAddresses() []netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routers.addrs
}

// NodeLeaving reports whether this node is on its way out for good, and not only for
// a restart of what runs on it.
func (w *Cluster) NodeLeaving() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.routers.goes || slices.Contains(w.routers.own.Avoid, lb.ReasonNodeShutdown)
}

// NodeDeprioritized reports whether Kubernetes says that the node is better left out.
func (w *Cluster) NodeDeprioritized() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.routers.own.Avoid) > 0
}
