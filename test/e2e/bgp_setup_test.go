package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// routed has three nodes with Fairlead running, and two routers with the recipes
// of docs/recipes: r2 is FRR, r3 is BIRD.
var routed = shared{prepare: func(l *lab.Lab, ctx context.Context) error {
	if err := l.Install(ctx); err != nil {
		return err
	}
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		if _, err := l.AddRouter(ctx, lab.RouterSpec{Kind: kind}); err != nil {
			return err
		}
	}
	return l.StartFairlead(ctx)
}}

const (
	// established is how soon sessions are up, which routers also try to make by
	// themselves.
	established = 20 * time.Second
	// goesSoon asks routers to prefer others before a route goes (RFC 8326).
	goesSoon = "65535:0"
)

// allNodes are those of the lab.
var allNodes = []string{"n1", "n2", "n3"}

// bgpCorner is a corner in which routers are peers of nodes.
type bgpCorner struct {
	*corner
	peers []*v1alpha1.BGPPeer
}

// unpeered is a corner that has a pool which only routers lead to, and no peer.
func unpeered(t *testing.T) *bgpCorner {
	t.Helper()
	c := &bgpCorner{corner: routed.corner(t)}
	c.pool(t, c.freshName("bgp"), "10.30.0.0/16", "fd10:30::/64")
	c.create(t, &v1alpha1.BFDProfile{ObjectMeta: meta1("fast")})
	return c
}

// peered is that, with both routers as peers of all nodes over IPv4 and IPv6, each
// changed as told, and all sessions up.
func peered(t *testing.T, changes ...func(*v1alpha1.BGPPeer)) *bgpCorner {
	t.Helper()
	c := unpeered(t)
	for _, r := range c.Routers() {
		c.peer(t, r.Name, r.IPv4, changes...)
		c.peer(t, r.Name+"-6", r.IPv6, changes...)
	}
	for _, p := range c.peers {
		c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 3/3")
	}
	return c
}

// Routers are the two on the LAN.
func (c *bgpCorner) Routers() []*lab.Router { return c.Lab.Routers()[:2] }

// peer makes a router a peer of all nodes, changed as told.
func (c *bgpCorner) peer(t *testing.T, name string, a netip.Addr, changes ...func(*v1alpha1.BGPPeer)) *v1alpha1.BGPPeer {
	t.Helper()
	p := &v1alpha1.BGPPeer{ObjectMeta: meta1(name), Spec: v1alpha1.BGPPeerSpec{
		MyASN: lab.ClusterASN, PeerASN: lab.RouterASN, PeerAddress: v1alpha1.IPAddress(a.String()),
		HoldTime: &metav1.Duration{Duration: 9 * time.Second}, ConnectTime: &metav1.Duration{Duration: time.Second},
	}}
	for _, change := range changes {
		change(p)
	}
	c.create(t, p)
	c.peers = append(c.peers, p)
	return p
}

func watchedByBFD(p *v1alpha1.BGPPeer) { p.Spec.BFDProfile = "fast" }

// ofNodes makes the peer one of these nodes only.
func ofNodes(nodes ...string) func(*v1alpha1.BGPPeer) {
	return func(p *v1alpha1.BGPPeer) { p.Spec.NodeSelectors = named(nodes...) }
}

// named selects nodes by their names.
func named(nodes ...string) (out []v1alpha1.LabelSelector) {
	for _, n := range nodes {
		out = append(out, selects(corev1.LabelHostname, n))
	}
	return out
}

func selects(key, value string) v1alpha1.LabelSelector {
	return v1alpha1.LabelSelector{MatchLabels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}
}

// untilPeer waits for what a peer's Ready condition says, which may take as long as
// sessions do to come up.
func (c *bgpCorner) untilPeer(t *testing.T, p *v1alpha1.BGPPeer, ok bool, reason string, words ...string) {
	t.Helper()
	lab.Eventually(t, established, func() error {
		if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
			return err
		}
		return says(p.Status.Conditions, ready, ok, reason, words...)
	})
}

// advertise creates an advertisement, changed as told.
func (c *bgpCorner) advertise(t *testing.T, name string, changes ...func(*v1alpha1.BGPAdvertisementSpec)) *v1alpha1.BGPAdvertisement {
	t.Helper()
	a := &v1alpha1.BGPAdvertisement{ObjectMeta: meta1(name)}
	for _, change := range changes {
		change(&a.Spec)
	}
	c.create(t, a)
	return a
}

// serve creates a Service with a backend on every node, and returns it with its
// first address.
func (c *bgpCorner) serve(t *testing.T, changes ...func(*corev1.Service)) (*corev1.Service, netip.Addr) {
	t.Helper()
	svc := c.service(t, "web", changes...)
	c.backends(t, svc)
	return svc, c.addresses(t, svc)[0]
}

// web does so, and waits until both routers lead to it by all nodes.
func (c *bgpCorner) web(t *testing.T, changes ...func(*corev1.Service)) (*corev1.Service, netip.Addr) {
	t.Helper()
	svc, a := c.serve(t, changes...)
	c.untilVia(t, soon, c.Routers(), host(a), allNodes...)
	return svc, a
}

// cable connects a router and a node directly until the test ends.
func (c *bgpCorner) cable(t *testing.T, r *lab.Router, n *lab.Host) {
	t.Helper()
	must(t, r.Cable(t.Context(), n))
	t.Cleanup(func() {
		_, err := n.Exec(context.Background(), "ip", "link", "delete", r.Name)
		must(t, err)
	})
}

// via is the nodes that the router's kernel has as next hops.
func (c *bgpCorner) via(r *lab.Router, p netip.Prefix) ([]string, error) {
	fib, err := r.FIB()
	var nodes []string
	for _, hop := range fib[p] {
		nodes = append(nodes, c.NodeByIP(hop))
	}
	slices.Sort(nodes)
	return nodes, err
}

// untilVia waits until the routers lead to the prefix by just these nodes.
func (c *bgpCorner) untilVia(t *testing.T, within time.Duration, routers []*lab.Router, p netip.Prefix, nodes ...string) {
	t.Helper()
	for _, r := range routers {
		lab.Eventually(t, within, func() error {
			got, err := c.via(r, p)
			if err == nil && !slices.Equal(got, nodes) {
				err = fmt.Errorf("%s leads to %s by %v, want %v", r.Name, p, got, nodes)
			}
			return err
		})
	}
}

// watch watches what both routers lead to until the test ends.
func (c *bgpCorner) watch(t *testing.T) map[*lab.Router]*lab.RouteWatch {
	t.Helper()
	watches := map[*lab.Router]*lab.RouteWatch{}
	for _, r := range c.Routers() {
		w, err := r.WatchRoutes()
		must(t, err)
		t.Cleanup(w.Stop)
		watches[r] = w
	}
	return watches
}

// paths returns the router's paths to the prefix by node.
func (c *bgpCorner) paths(ctx context.Context, r *lab.Router, p netip.Prefix) (map[string]lab.BGPPath, error) {
	routes, err := r.Routes(ctx)
	out := map[string]lab.BGPPath{}
	for _, path := range routes[p].Paths {
		out[c.NodeByIP(path.Peer)] = path
	}
	return out, err
}

// resets is how often routers have lost sessions, by router and what it calls them.
func (c *bgpCorner) resets(t *testing.T) map[string]int {
	t.Helper()
	n := map[string]int{}
	for _, r := range c.Routers() {
		sessions, err := r.Sessions(t.Context())
		must(t, err)
		for _, s := range sessions {
			n[r.Name+" "+s.Name] = s.Resets
		}
	}
	return n
}

// untilPathsUp waits until the router's BFD sessions are all up.
func (c *bgpCorner) untilPathsUp(t *testing.T, r *lab.Router) {
	t.Helper()
	lab.Eventually(t, established, func() error {
		sessions, err := r.BFD(t.Context())
		if err == nil && len(sessions) < 6 {
			err = fmt.Errorf("%s has %d BFD sessions", r.Name, len(sessions))
		}
		for _, s := range sessions {
			if !s.Up {
				err = errors.Join(err, fmt.Errorf("BFD of %s with %s is %s", r.Name, s.Peer, s.State))
			}
		}
		return err
	})
}

// untilSession waits until the router has a session with the address.
func untilSession(t *testing.T, r *lab.Router, with netip.Addr) {
	t.Helper()
	lab.Eventually(t, established, func() error {
		s, err := r.Session(t.Context(), with)
		if err == nil && !s.Established {
			err = fmt.Errorf("%s's session with %s is %s", r.Name, with, s.State)
		}
		return err
	})
}

// tellFRR gives r2, which is FRR, lines of its configuration of BGP.
func (c *bgpCorner) tellFRR(t *testing.T, lines ...string) {
	t.Helper()
	commands := append([]string{"configure terminal", fmt.Sprintf("router bgp %d", lab.RouterASN)}, lines...)
	_, err := c.Routers()[0].Command(context.Background(), commands...) // cleanups tell it, too
	must(t, err)
}

// startSpeaker starts a node's speaker, and waits until it works.
func (c *bgpCorner) startSpeaker(t *testing.T, node string, extra ...string) {
	t.Helper()
	ctx := context.Background() // cleanups do it, too
	p, err := c.StartSpeaker(ctx, node, extra...)
	must(t, err)
	must(t, p.Ready(ctx))
}

// servedByAll waits until the address is served on every way there is: kube-proxies
// hear of a Service one after the other.
func servedByAll(t *testing.T, from *lab.Host, to netip.Addr) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		for range 30 {
			if _, err := ask(from, to); err != nil {
				return err
			}
		}
		return nil
	})
}

// asking asks for the address from behind each router.
func (c *bgpCorner) asking(t *testing.T, a netip.Addr) map[*lab.Router]*lab.Probe {
	t.Helper()
	probes := map[*lab.Router]*lab.Probe{}
	for _, r := range c.Routers() {
		servedByAll(t, r.Client, a)
		p := r.Client.ProbeHTTP(netip.AddrPortFrom(a, 80), calmly)
		t.Cleanup(func() { p.Stop() })
		probes[r] = p
	}
	return probes
}

func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
