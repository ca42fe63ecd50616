package e2e

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// Advertisements choose pools, Services, nodes and peers: each router hears what is
// for it, from whom it is for. Routers are not the peers of all nodes either.
func TestBGPSelectors(t *testing.T) {
	c := &bgpCorner{corner: routed.corner(t)}
	r2, r3 := c.Routers()[0], c.Routers()[1]
	c.peer(t, "r2", r2.IPv4, ofNodes("n1", "n2"))
	c.peer(t, "r3", r3.IPv4, ofNodes("n2", "n3"))
	edge := &v1alpha1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: c.freshName("edge"), Labels: map[string]string{"tier": "edge"}},
		Spec:       v1alpha1.IPAddressPoolSpec{Addresses: []v1alpha1.AddressRange{"10.30.1.0/24"}},
	}
	c.create(t, edge)
	inner := c.pool(t, c.freshName("inner"), "10.30.2.0/24")
	address := func(name string, pool *v1alpha1.IPAddressPool) (*corev1.Service, netip.Prefix) {
		svc := c.service(t, name, fromPool(pool.Name), labelled("app", name))
		c.backends(t, svc)
		return svc, host(c.addresses(t, svc)[0])
	}
	_, web := address("web", edge)
	_, shop := address("shop", inner)
	mailer, mail := address("mail", inner)
	byTier := c.advertise(t, "by-tier", func(s *v1alpha1.BGPAdvertisementSpec) {
		s.IPAddressPoolSelectors, s.Peers = []v1alpha1.LabelSelector{selects("tier", "edge")}, []v1alpha1.ObjectName{"r2"}
	})
	c.advertise(t, "by-app", func(s *v1alpha1.BGPAdvertisementSpec) {
		s.IPAddressPools = []v1alpha1.ObjectName{v1alpha1.ObjectName(inner.Name)}
		s.ServiceSelectors, s.NodeSelectors = []v1alpha1.LabelSelector{selects("app", "shop")}, named("n3")
	})
	only := func(r *lab.Router) []*lab.Router { return []*lab.Router{r} }
	c.untilVia(t, established, only(r2), web, "n1", "n2")
	c.untilVia(t, established, only(r3), shop, "n3")
	c.untilService(t, mailer, announced, false, "NoAdvertisement")
	c.untilVia(t, soon, only(r3), web)
	c.untilVia(t, soon, only(r2), shop)
	c.untilVia(t, soon, c.Routers(), mail)
	c.change(t, byTier, func() { byTier.Spec.Peers = []v1alpha1.ObjectName{"r3"} })
	c.untilVia(t, soon, only(r3), web, "n2", "n3")
	c.untilVia(t, soon, only(r2), web)
}

// Two Services on one address are announced as long as one of them has an endpoint.
func TestBGPSharedAddress(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	web := c.service(t, "web", shares("k"), ports("TCP/80"))
	prefix := host(c.addresses(t, web)[0])
	dns := c.service(t, "dns", shares("k"), ports("UDP/53"))
	c.has(t, dns, prefix.Addr().String())
	b := c.backend(t, web, "n1")
	c.untilVia(t, soon, c.Routers(), prefix, allNodes...)
	must(t, b.SetReady(t.Context(), false))
	c.untilVia(t, soon, c.Routers(), prefix)
	c.backend(t, dns, "n2")
	c.untilVia(t, soon, c.Routers(), prefix, allNodes...)
	must(t, b.SetReady(t.Context(), true))
	watches := c.watch(t)
	must(t, b.SetReady(t.Context(), false))
	c.untilService(t, web, announced, true, "Announced")
	c.remove(t, web)
	c.untilService(t, dns, announced, true, "Announced", "by BGP from n1, n2, n3")
	c.untilVia(t, soon, c.Routers(), prefix, allNodes...)
	for r, w := range watches {
		if changes := w.Changes(prefix); len(changes) > 0 {
			t.Errorf("%s changed its route when one of two Services went: %v", r.Name, changes)
		}
	}
}

// A pool may be announced in both ways.
func TestBGPBesideLayer2(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("lan"), Spec: v1alpha1.L2AdvertisementSpec{Interfaces: []v1alpha1.InterfacePattern{"eth0"}}})
	web, a := c.web(t)
	owner := c.owner(t, a)
	c.untilService(t, web, announced, true, "Announced",
		fmt.Sprintf("%s by layer 2 from %s (eth0)", a, owner), fmt.Sprintf("%s by BGP from n1, n2, n3", a))
	for _, r := range c.Routers() {
		servedByAll(t, r.Client, a)
	}
}

// Whatever is edited, at no moment is a router without a way to the address: what
// is new is announced before what is old goes, and a session that must be reset
// leaves its routes behind.
func TestBGPEditsLeaveNoHole(t *testing.T) {
	c := peered(t)
	one := c.advertise(t, "one")
	_, a := c.web(t)
	before := map[*lab.Router]map[netip.Prefix][]netip.Addr{}
	watches := c.watch(t)
	for r, w := range watches {
		before[r] = w.Now()
	}
	wide := netip.PrefixFrom(a, 24).Masked()
	length := func(bits int32) {
		c.change(t, one, func() { one.Spec.AggregationLength = ptr.To(bits) })
	}
	length(24)
	c.untilVia(t, soon, c.Routers(), host(a))
	c.untilVia(t, soon, c.Routers(), wide, allNodes...)
	length(32)
	c.untilVia(t, soon, c.Routers(), wide)
	c.untilVia(t, soon, c.Routers(), host(a), allNodes...)
	c.change(t, one, func() { one.Spec.Communities = []v1alpha1.CommunityReference{"65000:1", "no-export"} })
	for _, r := range c.Routers() {
		lab.Eventually(t, soon, func() error {
			paths, err := c.paths(t.Context(), r, host(a))
			if got := paths["n3"]; err == nil && !same(got.Communities, "65000:1", "65535:65281") {
				err = fmt.Errorf("%s has %+v", r.Name, got)
			}
			return err
		})
	}
	two := c.advertise(t, "two")
	c.remove(t, one)
	c.until(t, two, func() error { return says(two.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })
	sessions := c.resets(t)
	for _, p := range c.peers {
		c.change(t, p, func() { p.Spec.HoldTime = &metav1.Duration{Duration: 8 * time.Second} })
	}
	lab.Eventually(t, established, func() error {
		for session, n := range c.resets(t) {
			if n == sessions[session] {
				return fmt.Errorf("%s was not reset by another hold time", session)
			}
		}
		return nil
	})
	for _, p := range c.peers {
		c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 3/3")
	}
	for r, w := range watches {
		must(t, w.Err())
		for _, at := range holes(before[r], w.Changes(), a) {
			t.Errorf("%s had no way to %s at %s:\n%v", r.Name, a, at.Format("15:04:05.000"), w)
		}
	}
}

// holes are the moments from which on no route led to the address.
func holes(routes map[netip.Prefix][]netip.Addr, changes []lab.RouteChange, a netip.Addr) (when []time.Time) {
	covered := func() bool {
		for p, hops := range routes {
			if p.Contains(a) && len(hops) > 0 {
				return true
			}
		}
		return false
	}
	for _, c := range changes {
		was := covered()
		routes[c.Prefix] = c.NextHops
		if was && !covered() {
			when = append(when, c.At)
		}
	}
	return when
}

// What a speaker counts of its sessions is there for Prometheus, by peer.
func TestBGPMetrics(t *testing.T) {
	c := peered(t, watchedByBFD)
	c.advertise(t, "all")
	c.web(t)
	n1 := c.Node("n1")
	must(t, c.Process("speaker-n1").Stop(t.Context()))
	t.Cleanup(func() {
		must(t, c.Process("speaker-n1").Stop(context.Background()))
		c.startSpeaker(t, "n1")
	})
	c.startSpeaker(t, "n1", "--metrics-bind-address", "127.0.0.1:7474")
	want := map[string]string{}
	for _, p := range c.peers {
		want[fmt.Sprintf("fairlead_bgp_session_up{peer=%q}", p.Name)] = "1"
		want[fmt.Sprintf("fairlead_bfd_session_up{peer=%q}", p.Name)] = "1"
		want[fmt.Sprintf("fairlead_bgp_session_losses_total{peer=%q}", p.Name)] = "0"
	}
	for _, r := range c.Routers() { // the recipes take IPv4 routes over IPv4
		want[fmt.Sprintf("fairlead_bgp_prefixes_announced{peer=%q}", r.Name)] = "1"
	}
	lab.Eventually(t, established, func() error {
		got, err := metrics(n1, "127.0.0.1:7474")
		if err != nil {
			return err
		}
		maps.DeleteFunc(got, func(name, _ string) bool { return want[name] == "" })
		if !maps.Equal(got, want) {
			return fmt.Errorf("metrics are %v, want %v", got, want)
		}
		return nil
	})
}

// metrics are what a program on a host tells Prometheus.
func metrics(on *lab.Host, address string) (map[string]string, error) {
	web := &http.Client{Transport: &http.Transport{DialContext: on.Dial, DisableKeepAlives: true}, Timeout: time.Second}
	res, err := web.Get("http://" + address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	out := map[string]string{}
	for line := range strings.Lines(string(b)) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), " "); ok {
			out[name] = value
		}
	}
	return out, err
}
