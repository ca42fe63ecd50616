package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// Both routers lead to a Service by every node, over IPv4 and IPv6, and clients
// behind them reach every backend.
func TestBGPReachesBackends(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	web := c.service(t, "web", dualStack)
	addresses := c.addresses(t, web)
	c.untilService(t, web, announced, false, "NoEndpoints")
	c.backends(t, web)
	for _, a := range addresses {
		c.untilVia(t, soon, c.Routers(), host(a), allNodes...)
		c.untilService(t, web, announced, true, "Announced", a.String()+" by BGP from n1, n2, n3 to r2, r2-6, r3, r3-6")
		for _, r := range c.Routers() {
			servedByAll(t, r.Client, a)
			p := r.Client.ProbeHTTP(netip.AddrPortFrom(a, 80), calmly)
			lab.Eventually(t, soon, func() error {
				if r := p.Report(); len(r.Nodes) != 3 {
					return fmt.Errorf("want answers from three nodes: %v", r)
				}
				return nil
			})
			if r := p.Stop(); r.Answered < r.Sent {
				t.Errorf("to %s: %v", a, r)
			}
		}
	}
	sp := &v1alpha1.Speaker{ObjectMeta: meta1("n1")}
	c.until(t, sp, func() error {
		if s := sp.Status; s.Sessions != "4/4" || len(s.BGPSessions) != 4 || s.BGPSessions[0].Prefixes != 1 {
			return fmt.Errorf("n1 says %q %+v", s.Sessions, s.BGPSessions)
		}
		return nil
	})
}

// With externalTrafficPolicy Local only nodes with a ready endpoint are led to, and
// backends see who asked.
func TestBGPLocalTraffic(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	web := c.service(t, "web", dualStack, localTraffic)
	backends := map[string]*lab.Backend{"n1": c.backend(t, web, "n1"), "n2": c.backend(t, web, "n2")}
	addresses := c.addresses(t, web)
	for _, a := range addresses {
		c.untilVia(t, soon, c.Routers(), host(a), "n1", "n2")
		for _, r := range c.Routers() {
			servedByAll(t, r.Client, a)
			source := r.Client.IPv4
			if a.Is6() {
				source = r.Client.IPv6
			}
			lab.Eventually(t, soon, func() error { // kube-proxies may need a moment
				p := r.Client.ProbeHTTP(netip.AddrPortFrom(a, 80), calmly)
				answered(t, p, 20)
				if r := p.Stop(); len(r.Nodes) != 2 || r.Sources[source] != r.Answered {
					return fmt.Errorf("want answers from n1 and n2 to %s: %v", source, r)
				}
				return nil
			})
		}
	}
	watches := c.watch(t)
	for i, ready := range []bool{false, true} {
		ways := i + 1
		since := time.Now()
		must(t, backends["n1"].SetReady(t.Context(), ready))
		for _, a := range addresses {
			c.untilVia(t, soon, c.Routers(), host(a), slices.Sorted(slices.Values([]string{"n2", "n1"}[:ways]))...)
			for r, w := range watches {
				t.Logf("%s leads to %s by %d nodes after %v", r.Name, a, ways, w.When(host(a), ways, since).Sub(since).Round(time.Millisecond))
			}
		}
	}
	must(t, backends["n1"].SetReady(t.Context(), false))
	// The last one serves to the end.
	must(t, backends["n2"].SetTerminating(t.Context(), true))
	c.untilService(t, web, announced, true, "Announced", "by BGP from n2 to")
	must(t, backends["n2"].SetReady(t.Context(), false))
	for _, a := range addresses {
		c.untilVia(t, soon, c.Routers(), host(a))
	}
	c.untilService(t, web, announced, false, "NoEndpoints")
}

// Routers lead to the nodes with endpoints of the address's own family.
func TestBGPLocalTrafficOfEachFamily(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	web := c.service(t, "web", dualStack, localTraffic)
	c.backendOf(t, corev1.IPv4Protocol, web, "n1")
	on6 := c.backendOf(t, corev1.IPv6Protocol, web, "n2")
	addresses := c.addresses(t, web)
	v4, v6 := addresses[0], addresses[1]
	if v4.Is6() {
		v4, v6 = v6, v4
	}
	c.untilVia(t, soon, c.Routers(), host(v4), "n1")
	c.untilVia(t, soon, c.Routers(), host(v6), "n2")
	for _, r := range c.Routers() {
		served(t, r.Client, v4)
		served(t, r.Client, v6)
	}
	must(t, on6.SetReady(t.Context(), false))
	c.untilVia(t, soon, c.Routers(), host(v6))
	c.untilVia(t, soon, c.Routers(), host(v4), "n1")
	c.untilService(t, web, announced, false, "NoEndpoints", "the Service has no ready IPv6 endpoint", v4.String()+" by BGP from n1")
}

// Routers see the attributes that advertisements have, and a prefix for many
// addresses. Of two that contradict the older one counts, and both say so.
func TestBGPAttributes(t *testing.T) {
	c := peered(t)
	c.create(t, &v1alpha1.Community{ObjectMeta: meta1("names"), Spec: v1alpha1.CommunitySpec{
		Communities: []v1alpha1.CommunityAlias{{Name: "backup", Value: "65000:80"}},
	}})
	all := c.advertise(t, "all", func(s *v1alpha1.BGPAdvertisementSpec) {
		s.Communities = []v1alpha1.CommunityReference{"65000:1", "large:65000:1:2", "backup"}
		s.MED, s.ASPathPrepend = ptr.To[int64](50), 2
	})
	c.advertise(t, "whole", func(s *v1alpha1.BGPAdvertisementSpec) {
		s.AggregationLength, s.AggregationLengthV6 = ptr.To[int32](24), ptr.To[int32](80)
	})
	web, a := c.web(t)
	prefix := host(a)
	want := func(r *lab.Router, check func(lab.BGPPath) bool) {
		t.Helper()
		lab.Eventually(t, soon, func() error {
			paths, err := c.paths(t.Context(), r, prefix)
			for _, node := range allNodes {
				if p, ok := paths[node]; err == nil && (!ok || !check(p)) {
					err = fmt.Errorf("%s has of %s by %s %+v", r.Name, prefix, node, p)
				}
			}
			return err
		})
	}
	for _, r := range c.Routers() {
		want(r, func(p lab.BGPPath) bool {
			return same(p.Communities, "65000:1", "65000:80") && same(p.LargeCommunities, "65000:1:2") &&
				p.MED != nil && *p.MED == 50 && p.ASPath == "64513 64513 64513"
		})
		c.untilVia(t, soon, []*lab.Router{r}, netip.PrefixFrom(a, 24).Masked(), allNodes...)
	}
	c.until(t, all, func() error { return says(all.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })

	nextSecond(t, all)
	newer := c.advertise(t, "newer", func(s *v1alpha1.BGPAdvertisementSpec) {
		s.MED, s.Communities = ptr.To[int64](7), []v1alpha1.CommunityReference{"65000:2", "missing"}
	})
	for _, r := range c.Routers() {
		want(r, func(p lab.BGPPath) bool { return same(p.Communities, "65000:1", "65000:2", "65000:80") && *p.MED == 50 })
	}
	c.until(t, newer, func() error {
		return says(newer.Status.Conditions, ready, false, v1alpha1.ReasonCommunityNotFound, `there is no "missing"`)
	})
	c.change(t, newer, func() { newer.Spec.Communities = nil })
	for _, o := range []*v1alpha1.BGPAdvertisement{newer, all} {
		c.until(t, o, func() error {
			return says(o.Status.Conditions, ready, false, v1alpha1.ReasonContradiction, `med of BGPAdvertisement "newer" is not that of the older "all"`)
		})
	}
	c.untilService(t, web, announced, true, "Announced", `med of BGPAdvertisement "newer"`)

	// Local preference is for routers of the same AS.
	r2 := c.Routers()[0]
	t.Cleanup(func() { c.tellFRR(t, "neighbor fairlead remote-as 64513") })
	c.tellFRR(t, "neighbor fairlead remote-as 64512")
	c.change(t, c.peers[0], func() { c.peers[0].Spec.MyASN = lab.RouterASN })
	c.change(t, all, func() { all.Spec.LocalPref = ptr.To[int64](333) })
	want(r2, func(p lab.BGPPath) bool {
		return p.LocalPref != nil && *p.LocalPref == 333 && (p.ASPath == "" || p.ASPath == "Local")
	})
}

// same reports whether the list has just these, in any order.
func same(list []string, want ...string) bool {
	return slices.Equal(slices.Sorted(slices.Values(list)), slices.Sorted(slices.Values(want)))
}

// BFD has a node that is cut off out of the routes long before the session's hold
// time is over, and back when it is back. Its intervals change without a flap.
func TestBGPWithBFD(t *testing.T) {
	c := peered(t, watchedByBFD)
	c.advertise(t, "all")
	_, a := c.web(t)
	prefix := host(a)
	for _, r := range c.Routers() {
		c.untilPathsUp(t, r)
	}
	sp := &v1alpha1.Speaker{ObjectMeta: meta1("n1")}
	c.until(t, sp, func() error {
		for _, s := range sp.Status.BGPSessions {
			if s.BFD != v1alpha1.BFDSessionUp {
				return fmt.Errorf("BFD with %s is %q", s.Peer, s.BFD)
			}
		}
		return nil
	})
	before, downs := c.resets(t), c.bfdDowns(t)
	fast := &v1alpha1.BFDProfile{ObjectMeta: meta1("fast")}
	for _, slower := range []bool{true, false} {
		want := 300 * time.Millisecond
		if slower {
			want = 400 * time.Millisecond
		}
		c.change(t, fast, func() {
			fast.Spec.TransmitInterval, fast.Spec.ReceiveInterval = int32(want.Milliseconds()), int32(want.Milliseconds())
		})
		for _, r := range c.Routers() {
			c.untilInterval(t, r, want)
		}
	}
	if now := c.bfdDowns(t); now != downs {
		t.Errorf("%d BFD sessions went down while intervals changed", now-downs)
	}
	if after := c.resets(t); !maps.Equal(after, before) {
		t.Errorf("sessions were lost while intervals changed: %v, then %v", before, after)
	}

	watches := c.watch(t)
	n1 := c.Node("n1")
	t.Cleanup(func() { must(t, n1.PlugCable()) })
	since := time.Now()
	must(t, n1.PullCable())
	for r, w := range watches {
		lab.Eventually(t, soon, func() error {
			at := w.When(prefix, 2, since)
			if at.IsZero() {
				return fmt.Errorf("%s still leads there by three nodes", r.Name)
			}
			t.Logf("%s: %v", r.Name, at.Sub(since).Round(time.Millisecond))
			if at.Sub(since) > 3*time.Second { // the hold time is 9 s
				t.Errorf("%s led to a node that was cut off for %v", r.Name, at.Sub(since))
			}
			return nil
		})
	}
	after := c.resets(t)
	maps.DeleteFunc(after, func(session string, n int) bool { return before[session] == n })
	if len(after) > 4 {
		t.Errorf("the sessions %v were lost, want the 4 of n1", after)
	}
	must(t, n1.PlugCable())
	c.untilVia(t, 40*time.Second, c.Routers(), prefix, allNodes...)
}

// bfdDowns is how often paths went down, as the routers count.
func (c *bgpCorner) bfdDowns(t *testing.T) (n int) {
	t.Helper()
	for _, r := range c.Routers() {
		sessions, err := r.BFD(t.Context())
		must(t, err)
		for _, s := range sessions {
			n += s.Downs
		}
	}
	return n
}

// untilInterval waits until the router sends BFD packets so far apart, and waits for
// three.
func (c *bgpCorner) untilInterval(t *testing.T, r *lab.Router, want time.Duration) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		sessions, err := r.BFD(t.Context())
		for _, s := range sessions {
			if s.Interval != want || s.Detect != 3*want {
				err = errors.Join(err, fmt.Errorf("%s sends to %s every %v and waits for %v, want %v and %v", r.Name, s.Peer, s.Interval, s.Detect, want, 3*want))
			}
		}
		return err
	})
}

// A speaker that is restarted loses no packet: routers keep its routes (RFC 4724).
func TestBGPSpeakerRestart(t *testing.T) {
	for name, change := range map[string]func(*v1alpha1.BGPPeer){"without BFD": func(*v1alpha1.BGPPeer) {}, "with BFD": watchedByBFD} {
		t.Run(name, func(t *testing.T) {
			c := peered(t, change)
			c.advertise(t, "all")
			_, a := c.web(t, localTraffic)
			if name == "with BFD" {
				for _, r := range c.Routers() {
					c.untilPathsUp(t, r)
				}
			}
			watches, probes := c.watch(t), c.asking(t, a)
			must(t, c.Process("speaker-n1").Stop(t.Context()))
			c.startSpeaker(t, "n1")
			for _, r := range c.Routers() {
				untilSession(t, r, c.Node("n1").IPv4)
				answered(t, probes[r], 100)
				got := probes[r].Stop()
				changes := watches[r].Changes(host(a))
				mayLose := 0
				if r.Kind == lab.BIRD && name == "with BFD" {
					mayLose = len(changes) // it takes the end of BFD for that of the node
				} else if len(changes) > 0 {
					t.Errorf("%s changed its route: %v", r.Name, changes)
				}
				if got.Sent-got.Answered > mayLose {
					t.Errorf("behind %s, which changed its route %d times: %v", r.Name, len(changes), got)
				}
			}
			c.untilVia(t, soon, c.Routers(), host(a), allNodes...)
		})
	}
}

// Routers that cannot keep the routes of a speaker that stops are asked to prefer
// others before it does, and so are all when the node goes for good.
func TestBGPSpeakerStops(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*v1alpha1.BGPPeer)
		goes   bool
	}{
		{"without graceful restart", func(p *v1alpha1.BGPPeer) { p.Spec.GracefulRestart = ptr.To(false) }, false},
		{"for good", func(*v1alpha1.BGPPeer) {}, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := peered(t, tt.change)
			c.advertise(t, "all")
			_, a := c.web(t)
			r2 := c.Routers()[0]
			p := c.asking(t, a)[r2]
			if tt.goes {
				n1 := &corev1.Node{ObjectMeta: meta1("n1")}
				taint := corev1.Taint{Key: corev1.TaintNodeOutOfService, Effect: corev1.TaintEffectNoExecute}
				c.change(t, n1, func() { n1.Spec.Taints = append(n1.Spec.Taints, taint) })
				t.Cleanup(func() {
					must(t, c.api.Get(context.Background(), client.ObjectKeyFromObject(n1), n1))
					n1.Spec.Taints = nil
					must(t, c.api.Update(context.Background(), n1))
				})
			}
			t.Cleanup(func() { c.startSpeaker(t, "n1") })
			asked := func() {
				t.Helper()
				lab.Eventually(t, soon, func() error {
					paths, err := c.paths(t.Context(), r2, host(a))
					if err == nil && !slices.Contains(paths["n1"].Communities, goesSoon) {
						err = fmt.Errorf("%s has %+v", r2.Name, paths)
					}
					return err
				})
			}
			if tt.goes {
				asked()
			}
			stopped := make(chan error, 1)
			go func() { stopped <- c.Process("speaker-n1").Stop(context.Background()) }()
			if !tt.goes {
				asked()
			}
			must(t, <-stopped)
			c.untilVia(t, soon, c.Routers(), host(a), "n2", "n3")
			lab.Eventually(t, soon, func() error {
				s, err := r2.Session(t.Context(), c.Node("n1").IPv4)
				if err == nil && !strings.Contains(s.LastError, "Cease") {
					err = fmt.Errorf("n1 left without saying so: %+v", s)
				}
				return err
			})
			answered(t, p, 50)
			lostNoMore(t, p, 1)
		})
	}
}

// A cordoned node first asks routers to prefer the others, then it withdraws; no
// new connection is lost. The last node goes on.
func TestBGPCordon(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	web, a := c.web(t)
	r2 := c.Routers()[0]
	p := c.asking(t, a)[r2]
	t.Cleanup(func() { c.cordon(t, false, allNodes...) })
	c.cordon(t, true, "n1")
	unasked := c.Routers()
	lab.Eventually(t, soon, func() (all error) { // n1 asks for some seconds only: of both at a time
		unasked = slices.DeleteFunc(unasked, func(r *lab.Router) bool {
			paths, err := c.paths(t.Context(), r, host(a))
			if err == nil && (!slices.Contains(paths["n1"].Communities, goesSoon) || slices.Contains(paths["n2"].Communities, goesSoon)) {
				err = fmt.Errorf("%s has %+v", r.Name, paths)
			} else if err == nil && (paths["n1"].LocalPref == nil || *paths["n1"].LocalPref != 0) {
				err = fmt.Errorf("%s does not heed the wish: %+v", r.Name, paths["n1"])
			}
			all = errors.Join(all, err)
			return err == nil
		})
		return all
	})
	c.untilVia(t, soon, c.Routers(), host(a), "n2", "n3")
	answered(t, p, 50)
	c.cordon(t, true, "n2", "n3")
	c.untilVia(t, soon, c.Routers(), host(a), allNodes...)
	c.untilService(t, web, announced, true, "Announced", "no better node is available: n1, n2, n3 is cordoned")
	c.cordon(t, false, allNodes...)
	lab.Eventually(t, soon, func() error {
		paths, err := c.paths(t.Context(), r2, host(a))
		for node, p := range paths {
			if slices.Contains(p.Communities, goesSoon) {
				err = errors.Join(err, fmt.Errorf("%s still says %v", node, p.Communities))
			}
		}
		return err
	})
	answered(t, p, 50)
	lostNoMore(t, p, 3)
}

// lostNoMore checks that no more connections were lost than routers changed their
// ways: one that is just being made then comes to a node that does not know it.
func lostNoMore(t *testing.T, p *lab.Probe, changes int) {
	t.Helper()
	if r := p.Stop(); r.Sent-r.Answered > changes {
		t.Errorf("lost: %v", r)
	}
}

// cordon marks nodes as unschedulable, or not.
func (c *corner) cordon(t *testing.T, on bool, nodes ...string) {
	t.Helper()
	for _, name := range nodes {
		n := &corev1.Node{ObjectMeta: meta1(name)}
		verb := "uncordon"
		if on {
			verb = "cordon"
		}
		_, err := c.Kubectl(context.Background(), verb, n.Name)
		must(t, err)
	}
}

// A peer that cannot be had says why, with the fix; the others go on.
func TestBGPMistakes(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	_, a := c.web(t)
	w, before := c.watch(t)[c.Routers()[1]], c.resets(t)
	r2 := c.peers[0]
	nextSecond(t, c.peers[len(c.peers)-1])
	down := func(words ...string) {
		t.Helper()
		c.untilPeer(t, r2, false, v1alpha1.ReasonNotEstablished, append([]string{"Established 0/3: n1, n2, n3"}, words...)...)
	}
	c.change(t, r2, func() { r2.Spec.PeerASN = 64999 })
	down("the router is in AS 64512, and 64999 is expected; set peerASN to 64512")
	c.change(t, r2, func() { r2.Spec.PeerASN, r2.Spec.MyASN = lab.RouterASN, 64999 })
	down("it expects another AS number than 64999, which this node sent; set myASN to the number")
	c.change(t, r2, func() { r2.Spec.MyASN, r2.Spec.SourceAddress = lab.ClusterASN, "172.30.0.90" })
	down("this node does not have the address 172.30.0.90; correct sourceAddress")
	c.change(t, r2, func() { r2.Spec.SourceAddress, r2.Spec.PeerPort = "", 1790 })
	down("connection refused by 172.30.0.2:1790")
	c.change(t, r2, func() { r2.Spec.PeerPort, r2.Spec.VRF = 179, "red" })
	down(`this node has no VRF "red"; correct vrf`)
	c.change(t, r2, func() {
		r2.Spec.VRF, r2.Spec.PasswordSecret = "", &v1alpha1.PasswordSecret{Name: "r2", Key: "password"}
	})
	c.untilPeer(t, r2, false, v1alpha1.ReasonSecretNotFound, "there is no Secret fairlead-system/r2")
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "r2"}, Data: map[string][]byte{"pass": []byte("wrong")}}
	c.create(t, secret)
	c.untilPeer(t, r2, false, v1alpha1.ReasonSecretNotFound, `has no key "password" with a password, but pass`)
	c.change(t, secret, func() { secret.Data["password"] = []byte("wrong") })
	down("a wrong password has the same effect")
	c.change(t, secret, func() { secret.Data["password"] = []byte("hush\n") })
	c.untilPeer(t, r2, false, v1alpha1.ReasonInvalid, "Secret fairlead-system/r2", "ends with a newline")
	t.Cleanup(func() { c.tellFRR(t, "no neighbor fairlead password") })
	c.tellFRR(t, "neighbor fairlead password hush")
	c.change(t, secret, func() { secret.Data["password"] = []byte("hush") })
	c.untilPeer(t, r2, true, v1alpha1.ReasonEstablished, "Established 3/3")
	c.tellFRR(t, "no neighbor fairlead password")
	c.change(t, r2, func() { r2.Spec.PasswordSecret, r2.Spec.BFDProfile = nil, "missing" })
	c.untilPeer(t, r2, false, v1alpha1.ReasonBFDProfileNotFound, "Established 3/3", `there is no BFDProfile "missing"`)
	c.change(t, r2, func() { r2.Spec.BFDProfile = "" })
	twin := c.peer(t, "twin", c.Routers()[0].IPv4)
	c.untilPeer(t, twin, false, v1alpha1.ReasonPeerConflict, `the older BGPPeer "r2" is the same router`)
	c.untilPeer(t, r2, true, v1alpha1.ReasonEstablished)
	c.untilVia(t, soon, c.Routers(), host(a), allNodes...)
	if changes := w.Changes(host(a)); len(changes) > 0 {
		t.Errorf("r3, of which nothing was changed, changed its route: %v", changes)
	}
	for session, n := range c.resets(t) {
		if !strings.HasPrefix(session, "r2 172.30.0.") && n != before[session] {
			t.Errorf("%s, of which nothing was changed, was lost %d times", session, n-before[session])
		}
	}
}

// Without the API server a router that was away gets all routes again.
func TestBGPWithoutAPI(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	_, a := c.web(t)
	t.Cleanup(func() {
		must(t, c.ThawAPI())
		c.reviveController(t)
	})
	must(t, c.FreezeAPI())
	for _, r := range c.Routers() {
		must(t, r.Stop(t.Context()))
		c.untilVia(t, soon, []*lab.Router{r}, host(a))
		must(t, r.Start(t.Context()))
	}
	c.untilVia(t, established, c.Routers(), host(a), allNodes...)
	for _, r := range c.Routers() {
		served(t, r.Client, a)
	}
}

// A router is found at the other end of a cable that has no addresses, and its path
// watched; IPv4 routes have IPv6 next hops (RFC 8950).
func TestBGPUnnumbered(t *testing.T) {
	c := unpeered(t)
	c.advertise(t, "all")
	r2 := c.Routers()[0]
	c.cable(t, r2, c.Node("n1"))
	t.Cleanup(func() { c.tellFRR(t, "no neighbor n1 interface remote-as 64513") })
	lines := []string{
		"neighbor n1 interface remote-as 64513", "neighbor n1 bfd", "neighbor n1 bfd profile fairlead", "neighbor n1 timers 3 9", "neighbor n1 timers connect 1",
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		lines = append(lines, "address-family "+family+" unicast", "neighbor n1 activate", "neighbor n1 route-map fairlead-in in",
			"neighbor n1 route-map nothing out", "exit-address-family")
	}
	c.tellFRR(t, lines...)
	p := c.peer(t, "cable", netip.Addr{}, watchedByBFD, ofNodes("n1"), func(p *v1alpha1.BGPPeer) {
		p.Spec.PeerAddress, p.Spec.Interface = "", v1alpha1.InterfaceName(r2.Name)
	})
	c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 1/1")
	web, _ := c.serve(t, dualStack)
	for _, a := range ingress(web) {
		lab.Eventually(t, soon, func() error {
			routes, err := r2.Routes(t.Context())
			if got := routes[host(a)]; err == nil && (len(got.NextHops) != 1 || !got.NextHops[0].Is6()) {
				err = fmt.Errorf("%s has of %s %+v", r2.Name, a, got)
			}
			return err
		})
		servedByAll(t, r2.Client, a)
	}
	sp := &v1alpha1.Speaker{ObjectMeta: meta1("n1")}
	c.until(t, sp, func() error {
		if s := sp.Status.BGPSessions; len(s) != 1 || s[0].BFD != v1alpha1.BFDSessionUp {
			return fmt.Errorf("n1 says %+v", s)
		}
		return nil
	})
}

// However much changes in a short time, no session is lost, and in the end each
// route is where it should be.
func TestBGPChangesDisturbNoSession(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	before := c.resets(t)
	endpoints, want := map[netip.Addr]*discoveryv1.EndpointSlice{}, map[netip.Addr]string{}
	var addresses []netip.Addr
	for i := range 60 {
		svc := c.service(t, fmt.Sprintf("web-%d", i), localTraffic)
		a := c.addresses(t, svc)[0]
		s := &discoveryv1.EndpointSlice{
			ObjectMeta:  metav1.ObjectMeta{Namespace: c.namespace, Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
			AddressType: discoveryv1.AddressTypeIPv4,
			Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.244.1.250"}, NodeName: ptr.To("n1")}},
		}
		c.create(t, s)
		addresses, endpoints[a], want[a] = append(addresses, a), s, "n1"
	}
	for range 400 {
		a := addresses[rand.IntN(len(addresses))]
		s := endpoints[a]
		node := rand.IntN(len(allNodes) + 1)
		s.Endpoints[0].Conditions.Ready, want[a] = ptr.To(node < len(allNodes)), ""
		if node < len(allNodes) {
			s.Endpoints[0].NodeName, want[a] = &allNodes[node], allNodes[node]
		}
		must(t, c.api.Update(t.Context(), s))
	}
	for _, r := range c.Routers() {
		lab.Eventually(t, soon, func() error {
			fib, err := r.FIB()
			for _, a := range addresses {
				got := ""
				for _, hop := range fib[host(a)] {
					got += c.NodeByIP(hop)
				}
				if err == nil && got != want[a] {
					err = fmt.Errorf("%s leads to %s by %q, want %q", r.Name, a, got, want[a])
				}
			}
			return err
		})
	}
	if after := c.resets(t); !maps.Equal(after, before) {
		t.Errorf("sessions were lost: %v, then %v", before, after)
	}
}
