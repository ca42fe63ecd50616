package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"path/filepath"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// examples says of each file of examples/ what comes of it. The lab has its networks
// and routers where the examples have theirs, so they are applied as they are.
var examples = map[string]struct {
	on    *shared
	with  []string // what is to be applied before
	check func(*testing.T, *corner)
}{
	"layer2.yaml":         {&cluster, nil, exampleLayer2},
	"web.yaml":            {&cluster, []string{"layer2.yaml"}, exampleWeb},
	"homelab.yaml":        {&cluster, nil, exampleHomelab},
	"dual-stack.yaml":     {&cluster, nil, exampleDualStack},
	"tenants.yaml":        {&cluster, nil, exampleTenants},
	"shared-ingress.yaml": {&cluster, nil, exampleSharedIngress},
	"sharing.yaml":        {&cluster, []string{"layer2.yaml"}, exampleSharing},
	"claim.yaml":          {&cluster, []string{"layer2.yaml"}, exampleClaim},
	"bgp.yaml":            {&routed, nil, exampleBGP},
	"two-routers.yaml":    {&routed, nil, exampleTwoRouters},
}

func TestExamples(t *testing.T) {
	files, err := filepath.Glob("../../examples/*")
	must(t, err)
	if len(files) != len(examples) {
		t.Errorf("there are %d examples, and %d are tested", len(files), len(examples))
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(name, func(t *testing.T) {
			e, ok := examples[name]
			if !ok {
				t.Fatal("nothing tests this example; add what comes of it to the table")
			}
			c := e.on.corner(t)
			for _, f := range append(e.with, name) {
				c.example(t, "../../examples/"+f)
			}
			e.check(t, c)
		})
	}
}

// example applies a file as a newcomer does. What it made goes when the test ends,
// the last first, but for namespaces: nobody in the lab ends those.
func (c *corner) example(t *testing.T, file string) {
	t.Helper()
	for _, o := range documents(t, file) {
		if o.GetKind() == "Service" && o.GetNamespace() == "" {
			o.SetNamespace("default") // kubectl's own
		}
		if o.GetKind() != "Namespace" {
			t.Cleanup(func() { c.remove(t, o) })
		}
	}
	_, err := c.Kubectl(t.Context(), "apply", "-f", file)
	must(t, err)
}

// exampleService is a Service of an example, which has addresses between the first
// and the last, one of each pair.
func (c *corner) exampleService(t *testing.T, namespace, name string, pairs ...string) *corev1.Service {
	t.Helper()
	svc := &corev1.Service{ObjectMeta: meta1(name)}
	svc.Namespace = namespace
	got := c.addresses(t, svc)
	if 2*len(got) != len(pairs) {
		t.Fatalf("%s has %v, want one of each of %v", name, got, pairs)
	}
	for i, a := range got {
		first, last := netip.MustParseAddr(pairs[2*i]), netip.MustParseAddr(pairs[2*i+1])
		if a.Less(first) || last.Less(a) {
			t.Errorf("%s has %s, want one between %s and %s", name, a, first, last)
		}
	}
	return svc
}

// reached gives a Service of an example backends, and checks that each of its
// addresses is announced by one node, and that a client gets an answer.
func (c *corner) reached(t *testing.T, svc *corev1.Service) {
	t.Helper()
	c.backends(t, svc)
	c.untilService(t, svc, announced, true, "Announced")
	for _, a := range ingress(svc) {
		c.owner(t, a)
		served(t, c.Client, a)
	}
}

// accepted waits until a pool is fine as it is written.
func (c *corner) accepted(t *testing.T, pool string) {
	t.Helper()
	p := &v1alpha1.IPAddressPool{ObjectMeta: meta1(pool)}
	c.until(t, p, func() error { return says(p.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })
}

func exampleLayer2(t *testing.T, c *corner) {
	c.accepted(t, "lan")
	svc := c.service(t, "web", dualStack)
	c.exampleService(t, svc.Namespace, svc.Name, "172.30.0.100", "172.30.0.149", "fd30::100", "fd30::149")
	c.reached(t, svc)
}

func exampleWeb(t *testing.T, c *corner) {
	c.reached(t, c.exampleService(t, "default", "web", "172.30.0.100", "172.30.0.149", "fd30::100", "fd30::149"))
}

func exampleHomelab(t *testing.T, c *corner) {
	c.accepted(t, "home")
	c.reached(t, c.exampleService(t, "default", "photos", "172.30.0.100", "172.30.0.119"))
	dns := c.exampleService(t, "default", "dns", "172.30.0.110", "172.30.0.110")
	c.backends(t, dns)
	c.owner(t, ingress(dns)[0])
}

func exampleDualStack(t *testing.T, c *corner) {
	shop := c.exampleService(t, "default", "shop", "fd30::120", "fd30::139", "172.30.0.120", "172.30.0.139")
	c.reached(t, shop)
}

// exampleTenants: each tenant has what it may, and no more; who is none has nothing.
func exampleTenants(t *testing.T, c *corner) {
	c.accepted(t, "tenants")
	c.reached(t, c.exampleService(t, "red", "web", "172.30.0.100", "172.30.0.119"))
	c.exampleService(t, "red", "api", "172.30.0.100", "172.30.0.119")
	c.exampleService(t, "blue", "web", "172.30.0.120", "172.30.0.120")

	red, blue, none := *c, *c, c
	red.namespace, blue.namespace = "red", "blue"
	c.refused(t, red.service(t, "third"), "NoPoolFits", `pool "tenants": the namespace has all 2 addresses that it can have`)
	blue.service(t, "second")
	second := c.exampleService(t, "blue", "second", "172.30.0.100", "172.30.0.119")
	c.refused(t, blue.service(t, "greedy", exactly(ingress(second)[0].String())), "AddressInUse", "blue/second")
	c.refused(t, red.service(t, "thief", exactly("172.30.0.120")), "NamespaceNotAllowed", `pool "blue"`)
	c.refused(t, none.service(t, "stranger"), "NamespaceNotAllowed", `pool "tenants": not for this namespace`)
}

// exampleSharedIngress: both are on one address, by a port each; a third that wants a
// port that is taken, or comes from elsewhere, is told so.
func exampleSharedIngress(t *testing.T, c *corner) {
	web := c.exampleService(t, "ingress", "web", "172.30.0.140", "172.30.0.140")
	ssh := c.exampleService(t, "git", "ssh", "172.30.0.140", "172.30.0.140")
	c.reached(t, web)
	c.backends(t, ssh)
	c.untilService(t, ssh, announced, true, "Announced")

	git, other := *c, c
	git.namespace = "git"
	asks := func(svc *corev1.Service) {
		annotated(v1alpha1.AnnotationAddressPool, "public")(svc)
		annotated(v1alpha1.AnnotationAllowSharedIP, "front-door")(svc)
	}
	c.refused(t, git.service(t, "pages", asks, ports("TCP/443")), "PortConflict", "ingress/web", "443")
	c.refused(t, other.service(t, "pages", asks, ports("TCP/8443")), "NamespaceNotAllowed", `pool "public"`)
}

func exampleSharing(t *testing.T, c *corner) {
	tcp := c.exampleService(t, "default", "dns-tcp", "172.30.0.100", "172.30.0.149")
	udp := c.exampleService(t, "default", "dns-udp", "172.30.0.100", "172.30.0.149")
	if !slices.Equal(ingress(tcp), ingress(udp)) {
		t.Errorf("dns-tcp has %v, dns-udp has %v", ingress(tcp), ingress(udp))
	}
	c.backends(t, tcp)
	c.owner(t, ingress(tcp)[0])
}

// exampleClaim: the claim keeps the address while its Service is away.
func exampleClaim(t *testing.T, c *corner) {
	inDefault := *c
	inDefault.namespace = "default"
	kept := &v1alpha1.IPAddressClaim{ObjectMeta: meta1("web")}
	preview := &v1alpha1.IPAddressClaim{ObjectMeta: meta1("preview")}
	kept.Namespace, preview.Namespace = "default", "default"
	c.reserved(t, preview, "lan", "172.30.0.149")

	web := c.exampleService(t, "default", "web", "172.30.0.100", "172.30.0.149")
	c.reached(t, web)
	a := ingress(web)[0].String()
	c.bound(t, kept, "web", "lan", a)
	c.remove(t, web)
	c.reserved(t, kept, "lan", a)
	c.has(t, inDefault.service(t, "web", claims("web")), a)
}

func exampleBGP(t *testing.T, c *corner) {
	b := &bgpCorner{corner: c}
	r2 := b.Routers()[:1]
	b.untilExamplePeers(t, "router", "router-v6")
	svc := c.service(t, "web", dualStack)
	c.exampleService(t, svc.Namespace, svc.Name, "10.30.0.0", "10.30.255.255", "fd10:30::", "fd10:30::ffff:ffff:ffff:ffff")
	c.backends(t, svc)
	for _, a := range ingress(svc) {
		b.untilVia(t, soon, r2, host(a), allNodes...)
	}
	b.untilWatched(t, r2[0])
}

// exampleTwoRouters: both routers lead to the nodes that have a backend, and only to
// those.
func exampleTwoRouters(t *testing.T, c *corner) {
	b := &bgpCorner{corner: c}
	b.untilExamplePeers(t, "left", "right")
	store := c.exampleService(t, "default", "store", "10.30.0.0", "10.30.0.255")
	c.backend(t, store, "n1")
	c.backend(t, store, "n3")
	a := ingress(store)[0]
	b.untilVia(t, soon, b.Routers(), host(a), "n1", "n3")
	for _, r := range b.Routers() {
		b.untilWatched(t, r)
		servedByAll(t, r.Client, a)
	}
}

// untilExamplePeers waits until all nodes have sessions with the peers.
func (c *bgpCorner) untilExamplePeers(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		c.untilPeer(t, &v1alpha1.BGPPeer{ObjectMeta: meta1(name)}, true, v1alpha1.ReasonEstablished, "Established 3/3")
	}
}

// untilWatched waits until the router's BFD has every node's IPv4 address up.
func (c *bgpCorner) untilWatched(t *testing.T, r *lab.Router) {
	t.Helper()
	lab.Eventually(t, established, func() error {
		sessions, err := r.BFD(context.Background())
		for _, n := range c.Nodes {
			up := slices.ContainsFunc(sessions, func(s lab.BFDSession) bool { return s.Up && s.Peer == n.IPv4 })
			if err == nil && !up {
				err = fmt.Errorf("BFD of %s with %s is not up: %v", r.Name, n.Name, sessions)
			}
		}
		return err
	})
}
