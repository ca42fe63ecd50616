package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// ways are the ways in which a client can ask.
var ways = []struct {
	name  string
	probe func(*lab.Host, netip.AddrPort, ...lab.ProbeOptions) *lab.Probe
	how   lab.ProbeOptions
}{
	{"TCP", (*lab.Host).ProbeHTTP, calmly},
	{"UDP", (*lab.Host).ProbeUDP, patiently},
}

// everyWay asks from the LAN and from behind the router, by TCP and UDP, at each
// of the addresses, until check is content with what came back.
func (c *corner) everyWay(t *testing.T, addresses []netip.Addr, check func(from *lab.Host, to netip.Addr, r lab.ProbeReport) error) {
	t.Helper()
	for _, from := range []*lab.Host{c.Client, c.Far} {
		for _, to := range addresses {
			served(t, from, to)
			for _, way := range ways {
				p := way.probe(from, netip.AddrPortFrom(to, 80), way.how)
				lab.Eventually(t, soon, func() error {
					if err := check(from, to, p.Report()); err != nil {
						return fmt.Errorf("%s from %s to %s: %w: %v", way.name, from.Name, to, err, p.Report())
					}
					return nil
				})
				if r := p.Stop(); r.Answered < r.Sent {
					t.Errorf("%s from %s to %s: %v", way.name, from.Name, to, r)
				}
			}
		}
	}
}

// With externalTrafficPolicy Cluster every node, with an endpoint or without,
// takes traffic in and spreads it over all endpoints.
func TestTrafficReachesAllBackends(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "web", "172.30.0.60-172.30.0.69", "fd30::60-fd30::69")
	advert := &v1alpha1.L2Advertisement{ObjectMeta: meta1("one-node")}
	c.create(t, advert)
	web := c.service(t, "web", dualStack)
	c.backend(t, web, "n1")
	c.backend(t, web, "n2")
	addresses := c.addresses(t, web)
	for _, node := range c.Nodes {
		t.Run("by "+node.Name, func(t *testing.T) {
			c.change(t, advert, func() {
				advert.Spec.NodeSelectors = []v1alpha1.LabelSelector{{
					MatchLabels: map[string]v1alpha1.LabelValue{"kubernetes.io/hostname": v1alpha1.LabelValue(node.Name)},
				}}
			})
			for _, a := range addresses {
				c.untilOwner(t, a, node.Name)
			}
			c.everyWay(t, addresses, func(_ *lab.Host, _ netip.Addr, r lab.ProbeReport) error {
				if len(r.Nodes) != 2 || r.Nodes["n1"] == 0 || r.Nodes["n2"] == 0 {
					return fmt.Errorf("want answers from n1 and n2 alone")
				}
				return nil
			})
		})
	}
}

// With externalTrafficPolicy Local backends see who asked, and the address is on
// a node with a ready endpoint, whichever that is.
func TestLocalTrafficKeepsTheSource(t *testing.T) {
	c := cluster.corner(t)
	// Not the addresses of the test before: kube-proxy needs up to a second to forget their Service.
	c.pool(t, "web", "172.30.0.70-172.30.0.79", "fd30::70-fd30::79")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("all-nodes")})
	web := c.service(t, "web", dualStack, localTraffic)
	backends := map[string]*lab.Backend{"n1": c.backend(t, web, "n1"), "n2": c.backend(t, web, "n2")}
	addresses := c.addresses(t, web)
	for _, move := range []struct{ from, to string }{{"n2", "n1"}, {"n1", "n2"}} {
		must(t, backends[move.to].SetReady(t.Context(), true))
		must(t, backends[move.from].SetReady(t.Context(), false))
		for _, a := range addresses {
			c.untilOwner(t, a, move.to)
		}
		c.everyWay(t, addresses, func(from *lab.Host, to netip.Addr, r lab.ProbeReport) error {
			source := from.IPv4
			if to.Is6() {
				source = from.IPv6
			}
			if n := r.Answered; n < 20 || r.Nodes[move.to] != n || r.Sources[source] != n {
				return fmt.Errorf("want 20 answers, all from %s to %s", move.to, source)
			}
			return nil
		})
	}
	must(t, backends["n2"].SetReady(t.Context(), false))
	c.untilService(t, web, announced, false, "NoEndpoints")
	c.untilOwner(t, addresses[0])
}

// The endpoints of one address family say nothing about the address of the other.
func TestEachFamilyIsServedByItsOwnEndpoints(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "web", "172.30.0.80-172.30.0.89", "fd30::80-fd30::89")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("all-nodes")})
	byFamily := func(svc *corev1.Service) (v4, v6 netip.Addr) {
		t.Helper()
		for _, a := range c.addresses(t, svc) {
			if a.Is4() {
				v4 = a
			} else {
				v6 = a
			}
		}
		return v4, v6
	}

	local := c.service(t, "local", dualStack, localTraffic)
	v4, v6 := byFamily(local)
	c.backendOf(t, corev1.IPv4Protocol, local, "n1")
	on6 := c.backendOf(t, corev1.IPv6Protocol, local, "n2")
	c.untilOwner(t, v4, "n1")
	c.untilOwner(t, v6, "n2")
	served(t, c.Client, v4)
	served(t, c.Client, v6)
	must(t, on6.SetTerminating(t.Context(), true)) // the last of its family serves to the end, ready ones of the other do not matter
	c.untilOwner(t, v6, "n2")
	must(t, on6.SetReady(t.Context(), false))
	c.untilService(t, local, announced, false, "NoEndpoints", v4.String()+" by layer 2 from n1", v6.String()+" is not announced: the Service has no ready IPv6 endpoint")
	c.untilOwner(t, v6)
	c.untilOwner(t, v4, "n1")

	anywhere := c.service(t, "anywhere", dualStack)
	w4, w6 := byFamily(anywhere)
	c.backendOf(t, corev1.IPv6Protocol, anywhere, "n3")
	c.untilService(t, anywhere, announced, false, "NoEndpoints", w4.String()+" is not announced: the Service has no ready IPv4 endpoint", w6.String()+" by layer 2 from")
	served(t, c.Client, w6)
	c.untilOwner(t, w4)
	c.explain(t, anywhere, "NotAnnounced", "the Service has no ready IPv4 endpoint")
}

// untilOwner waits until exactly these nodes answer for the address.
func (c *corner) untilOwner(t *testing.T, a netip.Addr, want ...string) {
	t.Helper()
	w, err := c.Observer.WatchNeighbour(a)
	must(t, err)
	defer w.Stop()
	began := time.Now()
	lab.Eventually(t, soon, func() error {
		if got := w.Answering(100 * time.Millisecond); !slices.Equal(got, want) || time.Since(began) < 100*time.Millisecond {
			return fmt.Errorf("%v answer for %s, want %v", got, a, want)
		}
		return nil
	})
}
