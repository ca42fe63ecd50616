package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// An address that the network does not hear of.
func TestCauseOfSilenceIsNamed(t *testing.T) {
	c := cluster.corner(t)
	c.plugin(t, "version") // which builds it
	for _, b := range []struct {
		name    string
		advert  v1alpha1.L2AdvertisementSpec
		breaks  func(*testing.T, *lab.Backend)
		reason  string
		says    []string
		about   string   // what else the doctor finds wrong
		because []string // and why
		text    string   // what else explain prints
	}{
		{
			name: "advertisement of another pool", reason: "NoAdvertisement", says: []string{"no L2Advertisement or BGPAdvertisement selects the Service"},
			advert: v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{"lna"}}, text: "is not for pool",
			about: "L2Advertisement broken", because: []string{`spec.ipAddressPools: there is no "lna"`, "correct its name"},
		},
		{
			name: "advertisement of pools with labels", reason: "NoAdvertisement", says: []string{"no L2Advertisement or BGPAdvertisement selects the Service"},
			advert: v1alpha1.L2AdvertisementSpec{IPAddressPoolSelectors: matching("tier", "edge")}, text: "is not for pool",
			about: "IPAddressPool", because: []string{"no advertisement selects it"},
		},
		{
			name: "interfaces that no node has", reason: "NoCandidate", says: []string{"n1, n2, n3 has no interface in the address's subnet, or that the advertisement names"},
			advert: v1alpha1.L2AdvertisementSpec{Interfaces: []v1alpha1.InterfacePattern{"bond*"}},
			about:  "L2Advertisement broken", because: []string{"spec.interfaces: no node has an interface bond*", "eth0"},
		},
		{
			name: "nodes that there are not", reason: "NoCandidate", says: []string{"n1, n2, n3 not selected by the advertisement's nodeSelectors"},
			advert: v1alpha1.L2AdvertisementSpec{NodeSelectors: matching("rack", "9")},
			about:  "L2Advertisement broken", because: []string{"spec.nodeSelectors: no node matches"},
		},
		{
			name: "pods that are not ready", reason: "NoEndpoints", says: []string{"the Service has no ready IPv4 endpoint"}, text: "1, and none is ready",
			breaks: func(t *testing.T, pod *lab.Backend) { must(t, pod.SetReady(t.Context(), false)) },
		},
	} {
		t.Run(b.name, func(t *testing.T) {
			c.pool(t, c.freshName("lan"), somePool)
			c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("broken"), Spec: b.advert})
			svc := c.service(t, "broken")
			pod := c.backend(t, svc, "n1")
			if b.breaks != nil {
				b.breaks(t, pod)
			}
			c.addresses(t, svc)
			c.isSilent(t, svc, b.reason, b.says...)
			if b.about != "" {
				c.doctor(t, b.about, b.because...)
			}
			if text := c.plugin(t, "explain", "service", "broken", "-n", c.namespace); !strings.Contains(text, b.text) {
				t.Errorf("it does not say %q:\n%s", b.text, text)
			}
		})
	}
}

// networkUnavailable has a node say so until the test ends.
func (c *corner) networkUnavailable(t *testing.T, node string) {
	t.Helper()
	say := func(status corev1.ConditionStatus) {
		patch := fmt.Sprintf(`{"status": {"conditions": [{"type": "NetworkUnavailable", "status": %q, "reason": "Test"}]}}`, status)
		_, err := c.Kubectl(context.Background(), "patch", "node", node, "--subresource=status", "-p", patch)
		must(t, err)
	}
	say(corev1.ConditionTrue)
	t.Cleanup(func() { say(corev1.ConditionFalse) })
}

// Nodes that announce only because there is no better one, and what is wrong beside
// an address that is announced.
func TestCauseOfTroubleIsNamed(t *testing.T) {
	f := newFailover(t)
	f.plugin(t, "version") // which builds it
	f.untilService(t, f.web, announced, true, "Announced")
	a := f.addresses[0]
	strained := func(t *testing.T, words string) {
		t.Helper()
		f.untilService(t, f.web, announced, true, "Announced", "no better node is available: ", words)
		f.explain(t, f.web, "Announced", a.String()+" is announced")
		if text := f.plugin(t, "explain", "service", "web", "-n", f.namespace); !hasAll(text, "no better node is available: ", words) {
			t.Errorf("it says\n%s", text)
		}
		f.doctor(t, "Service "+f.namespace+"/web", "no better node is available", words)
	}

	t.Run("all nodes excluded", func(t *testing.T) {
		for _, n := range f.Nodes {
			f.labelNode(t, n.Name, corev1.LabelNodeExcludeBalancers)
		}
		strained(t, "has the label node.kubernetes.io/exclude-from-external-load-balancers")
		f.doctor(t, "node n1, node n2, node n3", "kubectl label node n1 n2 n3 node.kubernetes.io/exclude-from-external-load-balancers-")
	})
	t.Run("all nodes cordoned", func(t *testing.T) {
		f.cordon(t, true, allNodes...)
		t.Cleanup(func() { f.cordon(t, false, allNodes...) })
		strained(t, "is cordoned")
	})
	t.Run("all nodes drained", func(t *testing.T) {
		t.Cleanup(func() { f.undrain(t, allNodes...) })
		for _, n := range f.Nodes {
			f.annotate(t, n.Name, v1alpha1.AnnotationDrain+"=all of them")
		}
		strained(t, "is drained")
		f.doctor(t, "node n2", `is drained ("all of them")`, "kubectl fairlead undrain n2")
	})
	t.Run("all nodes without their network", func(t *testing.T) {
		for _, n := range f.Nodes {
			f.networkUnavailable(t, n.Name)
		}
		strained(t, "has the condition NetworkUnavailable")
	})
	t.Run("foreign host on an address in use", func(t *testing.T) {
		mac, _ := f.occupy(t, a.String())
		_, err := f.Observer.Exec(t.Context(), "ip", "neigh", "flush", "all")
		must(t, err)
		// It asks for a node's MAC as one who has the address. Nobody serves the port.
		_, _ = f.Observer.Exec(t.Context(), "curl", "--max-time", "1", "--interface", a.String(), "http://"+f.Nodes[0].IPv4.String()+":9")
		f.doctor(t, "address "+a.String(), "a host outside of the cluster has it too; Fairlead announces it all the same", mac)
		if text := f.plugin(t, "explain", "service", "web", "-n", f.namespace); !hasAll(text, "a host outside of the cluster has "+a.String()+" too", mac) {
			t.Errorf("it says\n%s", text)
		}
	})
	for _, o := range []struct {
		name   string
		ranges v1alpha1.AddressRange
		says   []string
	}{
		{"pool with addresses of pods", "10.244.2.128/25", []string{"has addresses of the pods of the cluster", "spec.podCIDRs"}},
		{"pool with addresses of Services", "10.96.128.0/24", []string{"has addresses of the cluster's Services (ClusterIP)", "ServiceCIDR"}},
		{"pool with the broadcast address", "172.30.0.250-172.30.0.255", []string{"172.30.0.255: it is the broadcast address of the nodes' subnet 172.30.0.0/24", "spec.excludes"}},
	} {
		t.Run(o.name, func(t *testing.T) {
			p := f.pool(t, f.freshName("wrong"), o.ranges)
			f.doctor(t, "IPAddressPool "+p.Name, o.says...)
		})
	}
	t.Run("node without a speaker", func(t *testing.T) {
		t.Cleanup(func() { f.heal(t) })
		must(t, f.speaker("n3").Stop(t.Context()))
		f.doctor(t, "node n3", "its speaker is not ready: the speaker has stopped", "see the speaker's log on the node")
	})
	t.Run("speaker killed", func(t *testing.T) {
		f.untilWhole(t)
		t.Cleanup(func() { f.heal(t) })
		must(t, f.speaker("n3").Kill())
		f.doctor(t, "speaker n3", "the other speakers receive nothing from it", "see whether it runs")
	})
	t.Run("node cut off from the others", func(t *testing.T) {
		f.untilWhole(t)
		t.Cleanup(func() { f.heal(t) })
		must(t, f.Partition([]string{"n3"}, []string{"n1", "n2"}))
		f.doctor(t, "speaker n3", "open port 7946 (TCP and UDP)")
	})
	t.Run("gossip port filtered between two nodes", func(t *testing.T) {
		f.untilWhole(t)
		f.filterGossip(t, "n1", "n2")
		for node, other := range map[string]string{"n1": "n2", "n2": "n1"} {
			sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
			lab.Eventually(t, 2*soon, func() error { // one packet that is lost is not worth a word
				if err := f.api.Get(t.Context(), client.ObjectKeyFromObject(sp), sp); err != nil {
					return err
				}
				return says(sp.Status.Conditions, ready, true, v1alpha1.ReasonAnnouncing, "3 speakers connected; no heartbeats, although others receive them, from "+other)
			})
			f.doctor(t, "speaker "+node, "receives no heartbeats from "+other+", and others do", "open port 7946 (TCP and UDP)")
		}
	})
	f.untilWhole(t)
	t.Run("gossip key too short", func(t *testing.T) {
		f.patchKeys(t, `{"next": "c2hvcnQ="}`)
		t.Cleanup(func() { f.dropNextKey(t) })
		f.doctor(t, "speaker n1, speaker n2, speaker n3", "not all gossip keys are in use", "data.next has 5 bytes; write 32 random ones")
	})
	t.Run("kube-proxy hangs", func(t *testing.T) {
		sp := &v1alpha1.Speaker{ObjectMeta: meta1("n2")}
		f.until(t, sp, func() error {
			return says(sp.Status.Conditions, v1alpha1.ConditionKubeProxyHealthy, true, v1alpha1.ReasonHealthy)
		})
		proxy := f.Process("kube-proxy-n2")
		must(t, proxy.Freeze())
		t.Cleanup(func() { must(t, proxy.Thaw()) })
		lab.Eventually(t, 3*soon, func() error {
			if err := f.api.Get(t.Context(), client.ObjectKeyFromObject(sp), sp); err != nil {
				return err
			}
			return says(sp.Status.Conditions, v1alpha1.ConditionKubeProxyHealthy, false, v1alpha1.ReasonNoAnswer, "port 10256")
		})
		f.doctor(t, "node n2", "kube-proxy, which answered before, does not answer", "check that kube-proxy runs")
	})
}

// filterGossip drops what a node and these others say to each other by gossip, and
// nothing else, until the test ends.
func (c *corner) filterGossip(t *testing.T, one string, others ...string) {
	t.Helper()
	n, from := c.Node(one), []string(nil)
	for _, other := range others {
		from = append(from, c.Node(other).IPv4.String())
	}
	set := strings.Join(from, ", ")
	_, err := n.Exec(t.Context(), "nft", fmt.Sprintf("table ip gossip_filter { "+
		"chain in { type filter hook input priority 0; ip saddr { %s } th dport 7946 drop; }; "+
		"chain out { type filter hook output priority 0; ip daddr { %s } th dport 7946 drop; }; }", set, set))
	must(t, err)
	t.Cleanup(func() {
		_, err := n.Exec(context.Background(), "nft", "delete", "table", "ip", "gossip_filter")
		must(t, err)
	})
}

// dropNextKey takes the next gossip key out of the Secret.
func (c *corner) dropNextKey(t *testing.T) {
	t.Helper()
	_, err := c.Kubectl(context.Background(), "-n", lab.Namespace, "patch", "secret", kube.GossipSecret, "-p", `{"data": {"next": null}}`)
	must(t, err)
}
