package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// holds gives a node an address of its own, until the test ends or release is called.
func (c *corner) holds(t *testing.T, node, address, dev string) (release func()) {
	t.Helper()
	n, held := c.Node(node), true
	_, err := n.Exec(t.Context(), "ip", "address", "add", address, "dev", dev)
	must(t, err)
	release = func() {
		if held {
			held = false
			_, err := n.Exec(context.Background(), "ip", "address", "del", address, "dev", dev)
			must(t, err)
		}
	}
	t.Cleanup(release)
	return release
}

// An address that a node, a router, another Service or nothing on a subnet can have is not
// assigned to any Service, and the message says what has it.
func TestAddressInUseIsNotAssigned(t *testing.T) {
	c := cluster.corner(t)
	c.plugin(t, "version")                                // which builds it
	release := c.holds(t, "n1", "172.30.0.60/32", "eth0") // as a control plane's virtual address
	c.holds(t, "n2", "172.30.0.61/32", "lo")
	c.service(t, "external", func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{"172.30.0.62"}
	})
	setIngress(t, c.api, c.service(t, "theirs", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = ptr.To("example.com/other") }), "172.30.0.63")
	for node, address := range map[string]string{"n1": "172.30.0.60/32", "n2": "172.30.0.61"} {
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
		c.until(t, sp, func() error {
			for _, h := range sp.Status.HostAddresses {
				if h.Address == address {
					return nil
				}
			}
			for _, i := range sp.Status.Interfaces {
				if slices.Contains(i.Addresses, address) {
					return nil
				}
			}
			return fmt.Errorf("Speaker %s does not have %s: %+v", node, address, sp.Status)
		})
	}
	pool := c.pool(t, "covers", "172.30.0.0-172.30.0.1", "172.30.0.11-172.30.0.13", "172.30.0.60-172.30.0.64", "172.30.0.255/32", "fd30::-fd30::1", "fd30::11-fd30::13")

	first := c.service(t, "first")
	c.has(t, first, "172.30.0.64")
	waits := c.service(t, "waits")
	c.refused(t, waits, "Exhausted", "no free IPv4 address (1 in use; nodes, other hosts or other Services have 10)")
	c.until(t, pool, func() error {
		if s := pool.Status; s.AvailableIPv4 != 0 || s.AvailableIPv6 != 0 || s.AssignedIPv4 != 1 {
			return fmt.Errorf("the pool has %+v", s)
		}
		return says(pool.Status.Conditions, ready, true, v1alpha1.ReasonAccepted, "not assigned: 172.30.0.0 (it is the network address of the nodes' subnet 172.30.0.0/24)", "more")
	})
	for _, x := range []struct{ addr, reason, says string }{
		{"172.30.0.0", "SubnetAddress", "it is the network address of the nodes' subnet 172.30.0.0/24"},
		{"172.30.0.255", "SubnetAddress", "it is the broadcast address of the nodes' subnet 172.30.0.0/24"},
		{"172.30.0.1", "AddressOfRouter", "the default gateway of node n1 has the address"},
		{"172.30.0.12", "AddressOfNode", "node n2 (eth0) has the address"},
		{"172.30.0.60", "AddressOfNode", "node n1 (eth0) has the address"},
		{"172.30.0.61", "AddressOfNode", "node n2 (lo) has the address"},
		{"172.30.0.62", "AddressOfService", "Service " + c.namespace + "/external (spec.externalIPs) has the address"},
		{"172.30.0.63", "AddressOfService", "Service " + c.namespace + "/theirs (status.loadBalancer) has the address"},
		{"fd30::", "SubnetAddress", "it is the Subnet-Router anycast address of the nodes' subnet fd30::/64"},
		{"fd30::13", "AddressOfNode", "node n3 (eth0) has the address"},
	} {
		t.Run(x.addr, func(t *testing.T) {
			svc := c.service(t, c.freshName("wants"), exactly(x.addr), func(svc *corev1.Service) {
				if netip.MustParseAddr(x.addr).Is6() {
					svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
				}
			})
			c.refused(t, svc, x.reason, x.says, "ask for another address")
			c.explain(t, svc, "Pending", x.says)
			c.remove(t, svc)
		})
	}

	release() // the control plane has its address elsewhere now
	c.has(t, waits, "172.30.0.60")
}

// An address that is assigned stays with its Service when something else gets it too, and
// is reported where a person looks.
func TestAssignedAddressIsInUseElsewhere(t *testing.T) {
	f := newFailover(t)
	f.plugin(t, "version") // which builds it
	f.untilService(t, f.web, announced, true, "Announced")
	a := f.addresses[0]
	other := f.other(f.owner(t, a))
	release := f.holds(t, other, a.String()+"/32", "lo")
	words := fmt.Sprintf("%s cannot be used: node %s (lo) has the address; ask for another address, and add this one to spec.excludes of the pool", a, other)
	f.untilService(t, f.web, announced, false, "AddressOfNode", words)
	f.untilService(t, f.web, assigned, true, "Assigned", a.String(), words)
	f.explain(t, f.web, "NotAnnounced", words)
	f.doctor(t, "Service "+f.namespace+"/web", fmt.Sprintf("%s cannot be used: node %s (lo) has the address", a, other))
	if got := ingress(f.web); !slices.Equal(got, f.addresses) {
		t.Errorf("it has %v, had %v", got, f.addresses)
	}
	release()
	f.untilService(t, f.web, announced, true, "Announced", a.String())

	// A field of another Service takes only its ports.
	f.service(t, "external", func(svc *corev1.Service) {
		svc.Spec.Type, svc.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{a.String()}
		svc.Spec.Ports[0].Port = 8443
	})
	words = fmt.Sprintf("%s is in use elsewhere too: Service %s/external (spec.externalIPs) has the address", a, f.namespace)
	f.untilService(t, f.web, announced, true, "Announced", words)
}
