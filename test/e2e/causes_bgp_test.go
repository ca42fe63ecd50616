package e2e

import (
	"context"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// A router that is not told of an address, or not as a person thinks. Of more of them
// TestPluginExplainsRouters tells.
func TestCauseOfRoutersSilenceIsNamed(t *testing.T) {
	c := &bgpCorner{corner: routed.corner(t)}
	c.plugin(t, "version") // which builds it
	c.pool(t, c.freshName("bgp"), "10.30.0.0/16")
	all := c.advertise(t, "all")
	c.create(t, &v1alpha1.BFDProfile{ObjectMeta: meta1("fast")})
	c.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "hush"}, Data: map[string][]byte{"password": []byte("hush")}})
	svc := c.service(t, "web")
	c.backends(t, svc)
	c.addresses(t, svc)
	r2 := c.Routers()[0]
	frr := func(line, undo string) func(*testing.T) {
		return func(t *testing.T) {
			c.tellFRR(t, line)
			t.Cleanup(func() { c.tellFRR(t, undo) })
		}
	}

	for _, b := range []struct {
		name   string
		breaks func(*testing.T) // at the router
		peer   func(*v1alpha1.BGPPeer)
		reason string // of the peer; NotEstablished where it is empty
		says   string // by everybody
		up     bool   // the session is up all the same
	}{
		{
			name: "another password", breaks: frr("neighbor fairlead password other", "no neighbor fairlead password"),
			peer: func(p *v1alpha1.BGPPeer) { p.Spec.PasswordSecret = &v1alpha1.PasswordSecret{Name: "hush"} },
			says: "a wrong password has the same effect",
		},
		{
			name: "password that only the router has", breaks: frr("neighbor fairlead password other", "no neighbor fairlead password"),
			says: "if the router requires a TCP MD5 password, set passwordSecret",
		},
		{
			name:   "key that the Secret lacks",
			peer:   func(p *v1alpha1.BGPPeer) { p.Spec.PasswordSecret = &v1alpha1.PasswordSecret{Name: "hush", Key: "key"} },
			reason: v1alpha1.ReasonSecretNotFound, says: `has no key "key" with a password, but password`,
		},
		{
			name: "port filtered", breaks: func(t *testing.T) { c.filterBGP(t, r2) },
			says: "no answer from 172.30.0.2:179: check that it is up and that nothing filters TCP to it",
		},
		{
			name: "address of nobody", peer: func(p *v1alpha1.BGPPeer) { p.Spec.PeerAddress = "172.30.0.99" },
			says: "no route to 172.30.0.99:179: check the address, and that the router is up",
		},
		{
			name: "address of the node itself", peer: func(p *v1alpha1.BGPPeer) { p.Spec.PeerAddress = "127.0.0.1" },
			says: "peerAddress 127.0.0.1 is this node itself, so that a route would have the router's own address as its next hop",
		},
		{
			name: "source address of nobody", peer: func(p *v1alpha1.BGPPeer) { p.Spec.SourceAddress = "172.30.0.90" },
			says: "this node does not have the address 172.30.0.90; correct sourceAddress",
		},
		{
			name: "VRF that no node has", peer: func(p *v1alpha1.BGPPeer) { p.Spec.VRF = "red" },
			says: `this node has no VRF "red"; correct vrf`,
		},
		{
			name: "BFD on this side only", breaks: frr("no neighbor fairlead bfd", "neighbor fairlead bfd profile fairlead"), up: true,
			peer: watchedByBFD, reason: v1alpha1.ReasonEstablished, says: "BFD is not up, so nothing watches the path; is it on for this node on the router?",
		},
		{
			name: "BFD profile that is not there", up: true, peer: func(p *v1alpha1.BGPPeer) { p.Spec.BFDProfile = "missing" },
			reason: v1alpha1.ReasonBFDProfileNotFound, says: `there is no BFDProfile "missing"`,
		},
	} {
		t.Run(b.name, func(t *testing.T) {
			if b.breaks != nil {
				b.breaks(t)
			}
			p := c.peer(t, c.freshName("router"), r2.IPv4)
			if b.peer != nil {
				c.change(t, p, func() { b.peer(p) })
			}
			if b.reason == "" {
				b.reason = v1alpha1.ReasonNotEstablished
			}
			c.untilPeer(t, p, b.reason == v1alpha1.ReasonEstablished, b.reason, b.says)
			if b.up {
				c.explain(t, svc, "Announced", "by BGP from n1, n2, n3")
			} else {
				c.explain(t, svc, "NotAnnounced", "no BGP session is up", p.Name, b.says)
			}
			c.doctor(t, "BGPPeer "+p.Name, b.says)
			if text := c.plugin(t, "explain", "peer", p.Name); !hasAll(text, b.says) {
				t.Errorf("it says\n%s", text)
			}
		})
	}

	t.Run("peer of no node", func(t *testing.T) {
		p := c.peer(t, c.freshName("router"), r2.IPv4, func(p *v1alpha1.BGPPeer) { p.Spec.NodeSelectors = matching("rack", "9") })
		c.untilPeer(t, p, false, v1alpha1.ReasonNoNodes, "spec.nodeSelectors: no node with a speaker matches")
		c.isSilent(t, svc, "NoCandidate", "n1, n2, n3 has no BGPPeer that the advertisement selects")
		c.doctor(t, "BGPPeer "+p.Name, "no node with a speaker has a session with it", "spec.nodeSelectors")
	})
	r := c.peer(t, "r2", r2.IPv4)
	c.untilPeer(t, r, true, v1alpha1.ReasonEstablished, "Established 3/3")
	t.Run("router that another peer is", func(t *testing.T) {
		nextSecond(t, r)
		twin := c.peer(t, c.freshName("twin"), r2.IPv4)
		const why = `the older BGPPeer "r2" is the same router`
		c.untilPeer(t, twin, false, v1alpha1.ReasonPeerConflict, why)
		c.doctor(t, "BGPPeer "+twin.Name, why)
	})
	t.Run("peer of no advertisement", func(t *testing.T) {
		c.changeAdvert(t, all, func(s *v1alpha1.BGPAdvertisementSpec) { s.Peers = []v1alpha1.ObjectName{"r9"} })
		c.untilAdvert(t, all, v1alpha1.ReasonPeerNotFound, `spec.peers: there is no "r9"`)
		c.isSilent(t, svc, "NoCandidate", "n1, n2, n3 has no BGPPeer that the advertisement selects")
		c.doctor(t, "BGPAdvertisement all", `spec.peers: there is no "r9"`, "create the BGPPeer, or correct its name")
		if text := c.plugin(t, "explain", "peer", "r2"); !hasAll(text, "no BGPAdvertisement selects it, so no address is advertised to it") {
			t.Errorf("it says\n%s", text)
		}
	})
	t.Run("community that is not there", func(t *testing.T) {
		c.changeAdvert(t, all, func(s *v1alpha1.BGPAdvertisementSpec) { s.Communities = []v1alpha1.CommunityReference{"cheap"} })
		c.untilAdvert(t, all, v1alpha1.ReasonCommunityNotFound, `spec.communities: there is no "cheap"`)
		c.doctor(t, "BGPAdvertisement all", `spec.communities: there is no "cheap"`, "create a Community")
	})
	t.Run("advertisements that contradict each other", func(t *testing.T) {
		nextSecond(t, all)
		c.changeAdvert(t, all, func(s *v1alpha1.BGPAdvertisementSpec) { s.MED = ptr.To(int64(5)) })
		newer := c.advertise(t, "newer", func(s *v1alpha1.BGPAdvertisementSpec) { s.MED = ptr.To(int64(10)) })
		const why = `med of BGPAdvertisement "newer" is not that of the older "all"`
		c.untilAdvert(t, newer, v1alpha1.ReasonContradiction, why)
		c.doctor(t, "BGPAdvertisement newer", why, "set the same value in both")
		c.untilService(t, svc, announced, true, "Announced", `med of BGPAdvertisement "newer"`)
	})
	t.Run("advertisement of no node", func(t *testing.T) {
		c.changeAdvert(t, all, func(s *v1alpha1.BGPAdvertisementSpec) { s.NodeSelectors = matching("rack", "9") })
		c.isSilent(t, svc, "NoCandidate", "n1, n2, n3 not selected by the advertisement's nodeSelectors")
		c.doctor(t, "BGPAdvertisement all", "spec.nodeSelectors: no node matches")
	})
}

// filterBGP has a router drop connections to its BGP port until the test ends.
func (c *bgpCorner) filterBGP(t *testing.T, r *lab.Router) {
	t.Helper()
	_, err := r.Exec(t.Context(), "nft", "table inet bgp_filter { chain in { type filter hook input priority 0; tcp dport 179 drop; }; chain out { type filter hook output priority 0; tcp dport 179 drop; }; }")
	must(t, err)
	t.Cleanup(func() {
		_, err := r.Exec(context.Background(), "nft", "delete", "table", "inet", "bgp_filter")
		must(t, err)
	})
}

// changeAdvert changes an advertisement until the test ends.
func (c *bgpCorner) changeAdvert(t *testing.T, a *v1alpha1.BGPAdvertisement, f func(*v1alpha1.BGPAdvertisementSpec)) {
	t.Helper()
	was := a.Spec.DeepCopy()
	c.change(t, a, func() { f(&a.Spec) })
	t.Cleanup(func() {
		lab.Eventually(t, soon, func() error {
			patch := a.DeepCopy()
			if err := c.api.Get(context.Background(), client.ObjectKeyFromObject(a), patch); err != nil {
				return err
			}
			patch.Spec = *was
			return c.api.Update(context.Background(), patch)
		})
		must(t, c.api.Get(context.Background(), client.ObjectKeyFromObject(a), a))
	})
}

// untilAdvert waits until the advertisement says that something is wrong with it.
func (c *bgpCorner) untilAdvert(t *testing.T, a *v1alpha1.BGPAdvertisement, reason string, words ...string) {
	t.Helper()
	c.until(t, a, func() error {
		if err := says(a.Status.Conditions, ready, false, reason, words...); err != nil {
			return fmt.Errorf("BGPAdvertisement %s: %w", a.Name, err)
		}
		return nil
	})
}
