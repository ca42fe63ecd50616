package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// A pool in nobody's subnet is the most common mistake: nothing asks for its addresses. It is
// said of the Service, with the subnets that there are, and nothing is announced until the
// L2Advertisement names the interface.
func TestPoolInNobodysSubnet(t *testing.T) {
	c := cluster.corner(t)
	c.plugin(t, "version") // which builds it
	pool := c.pool(t, "far", "192.168.88.100-192.168.88.109", "fd88::100-fd88::109")
	l2 := &v1alpha1.L2Advertisement{ObjectMeta: meta1("far")}
	c.create(t, l2)
	svc := c.service(t, "far", dualStack)
	addrs := c.addresses(t, svc)
	c.backends(t, svc)
	for i, have := range []string{"172.30.0.0/24): no host asks for it by ARP", "fd30::/64): no host asks for it by NDP"} {
		words := "no node has a subnet with the address (the nodes have " + have
		c.untilService(t, svc, announced, false, "NoSubnet", addrs[i].String()+" is not announced: "+words, "name spec.interfaces in the L2Advertisement")
		c.explain(t, svc, "NotAnnounced", addrs[i].String()+" is not announced: "+words)
		c.doctor(t, "Service "+svc.Namespace+"/"+svc.Name, "is not announced: "+words)
	}
	c.doctor(t, "IPAddressPool "+pool.Name, "192.168.88.100 of 192.168.88.100-192.168.88.109 cannot be announced")
	for _, n := range c.Nodes {
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(n.Name)}
		c.until(t, sp, func() error { return nil })
		for _, x := range sp.Status.Layer2 {
			if x.Address == addrs[0].String() {
				t.Errorf("%s announces %s", n.Name, x.Address)
			}
		}
	}

	c.change(t, l2, func() { l2.Spec.Interfaces = []v1alpha1.InterfacePattern{"eth0"} })
	c.untilService(t, svc, announced, true, "Announced", addrs[0].String()+" by layer 2 from", addrs[1].String()+" by layer 2 from")
}

// Of a dual-stack Service the family that has a subnet is announced, and the message says
// which one has none.
func TestOneFamilyHasASubnet(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "half", "172.30.0.66/32", "fd88::66/128")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("half")})
	svc := c.service(t, "half", dualStack)
	a := c.addresses(t, svc)[0]
	c.backends(t, svc)
	c.untilService(t, svc, announced, false, "NoSubnet", a.String()+" by layer 2 from", "fd88::66 is not announced: no node has a subnet with the address")
	served(t, c.Client, a)
}

// The bridge of a node's containers is not a place to announce on by itself.
func TestBridgeOfContainersIsNoCandidate(t *testing.T) {
	c := cluster.corner(t)
	sh := c.shell("n2")
	must(t, sh("ip link add cni0 type bridge; ip link set cni0 up; ip address add 172.31.78.1/24 dev cni0"))
	t.Cleanup(func() { must(t, sh("ip link del cni0")) })
	c.pool(t, "pods", "172.31.78.100/32")
	l2 := &v1alpha1.L2Advertisement{ObjectMeta: meta1("pods")}
	c.create(t, l2)
	svc := c.service(t, "pods")
	c.addresses(t, svc)
	c.backends(t, svc)
	c.untilService(t, svc, announced, false, "NoSubnet", "the nodes have 172.30.0.0/24")
	sp := &v1alpha1.Speaker{ObjectMeta: meta1("n2")}
	c.until(t, sp, func() error {
		if !slices.Contains(sp.Status.HostAddresses, v1alpha1.SpeakerHostAddress{Address: "172.31.78.1", Interface: "cni0"}) {
			return fmt.Errorf("Speaker n2 has %+v", sp.Status.HostAddresses)
		}
		return nil
	})
	c.change(t, l2, func() { l2.Spec.Interfaces = []v1alpha1.InterfacePattern{"cni*"} })
	sp = &v1alpha1.Speaker{ObjectMeta: meta1("n2")}
	c.until(t, sp, func() error {
		if !slices.ContainsFunc(sp.Status.Interfaces, func(i v1alpha1.SpeakerInterface) bool { return i.Name == "cni0" && i.Internal }) {
			return fmt.Errorf("Speaker n2 has %+v", sp.Status.Interfaces)
		}
		return nil
	})
}

// single makes the node's IPv4 address one without a subnet, as at providers that give each
// machine only its own; it reaches the others by way of its gateway.
func (c *corner) single(t *testing.T, node string) {
	t.Helper()
	n, sh := c.Node(node), c.shell(node)
	must(t, sh(fmt.Sprintf("ip address add %[1]s/32 dev eth0; ip route add 172.30.0.1 dev eth0 scope link; ip route replace default via 172.30.0.1 dev eth0; ip address del %[1]s/24 dev eth0", n.IPv4)))
	t.Cleanup(func() {
		must(t, sh(fmt.Sprintf("ip address add %[1]s/24 dev eth0; ip address del %[1]s/32 dev eth0; ip route replace default via 172.30.0.1 dev eth0; ip route del 172.30.0.1 dev eth0 scope link", n.IPv4)))
	})
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
	c.until(t, sp, func() error {
		for _, i := range sp.Status.Interfaces {
			if i.Name == "eth0" && slices.Contains(i.Addresses, n.IPv4.String()+"/32") && !slices.Contains(i.Addresses, n.IPv4.String()+"/24") && slices.Contains(i.UplinkFor, "IPv4") {
				return nil
			}
		}
		return fmt.Errorf("Speaker %s has %+v", node, sp.Status.Interfaces)
	})
}

// A node whose address becomes a single one keeps announcing what it announced, as long as
// the others know the subnet, and also when none does any more: its uplink is where it was.
func TestNodesAddressesBecomeSingle(t *testing.T) {
	f := newFailover(t)
	a := f.addresses[0]
	f.untilWhole(t)
	w, err := f.Observer.WatchNeighbour(a)
	must(t, err)
	t.Cleanup(w.Stop)
	owner := onlyOwner(t, w, soon)
	began := time.Now()
	f.single(t, owner)
	f.untilWhole(t)
	f.untilService(t, f.web, announced, true, "Announced", fmt.Sprintf("%s by layer 2 from %s (eth0)", a, owner))
	for _, n := range f.Nodes {
		if n.Name != owner {
			f.single(t, n.Name)
		}
	}
	f.untilWhole(t)
	f.untilService(t, f.web, announced, true, "Announced", fmt.Sprintf("%s by layer 2 from %s (eth0)", a, owner))
	if doubt := w.Doubt(began, owner); doubt > 0 {
		t.Errorf("another than %s answered until %v after\n%v", owner, doubt, w)
	}
	lab.Eventually(t, soon, func() error {
		who, err := ask(f.Client, a)
		if err == nil && !strings.HasPrefix(who, "n") {
			err = fmt.Errorf("%s answers", who)
		}
		return err
	})
	// A new address is announced too, though no node knows a subnet.
	late := f.service(t, "late")
	f.corner.backends(t, late)
	f.untilService(t, late, announced, true, "Announced", "by layer 2 from")
}
