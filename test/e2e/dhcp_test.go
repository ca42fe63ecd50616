package e2e

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"testing"

	"github.com/mdlayher/packet"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// A DHCP server whose range overlaps a pool is named by every node as soon as it gives
// one of the pool's addresses, until the pool has it no more; what it gives besides is
// nobody's business.
func TestDHCPServerInAPoolIsNamed(t *testing.T) {
	c := cluster.corner(t)
	c.plugin(t, "version") // which builds it: that takes longer than any answer
	pool := c.listeningPool(t)

	const within, outside = "172.30.0.78", "172.30.0.90"
	c.lease(t, outside)
	c.lease(t, within)
	c.networkIs(t, v1alpha1.ReasonDHCPInPool, fmt.Sprintf("DHCP server %s leases %s of IPAddressPool %s to %s (seen on eth0)",
		c.Router.IPv4, within, pool.Name, c.Observer.MAC))
	for _, n := range c.Nodes {
		if said := c.network(t, n.Name).Message; !hasAll(said, "spec.excludes") || hasAll(said, outside) {
			t.Errorf("%s says %q, want the fix in it, and nothing of %s", n.Name, said, outside)
		}
	}
	c.doctor(t, "node n1, node n2, node n3", "DHCP server "+c.Router.IPv4.String()+" leases "+within, "remove the pool's addresses from the range of the DHCP server")

	c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Excludes = []v1alpha1.AddressRange{within + "/32"} })
	c.networkIs(t, v1alpha1.ReasonChecksPassed)
}

// A host that asks for what it had is taken at its word, and one of another VLAN is not
// heard: it is in another network.
func TestDHCPOfAnotherVLANIsNotHeard(t *testing.T) {
	c := cluster.corner(t)
	pool := c.listeningPool(t)
	const here, there = "172.30.0.76", "172.30.0.77"
	lab.Eventually(t, 2*soon, func() (err error) { // a packet that nobody hears is lost
		c.asksAgain(t, there, 5)
		c.asksAgain(t, here, 0)
		for _, n := range c.Nodes {
			err = errors.Join(err, c.networkSays(t, n.Name, v1alpha1.ReasonDHCPInPool, fmt.Sprintf(
				"a DHCP server leased %s of IPAddressPool %s to %s, according to a request of that host (seen on eth0)", here, pool.Name, c.Observer.MAC)))
		}
		return err
	})
	for _, n := range c.Nodes {
		if said := c.network(t, n.Name).Message; hasAll(said, there) {
			t.Errorf("%s says %q, and %s was asked for in another VLAN", n.Name, said, there)
		}
	}
}

// listeningPool creates a pool, of which the nodes announce an address: they listen to
// DHCP from then on.
func (c *corner) listeningPool(t *testing.T) *v1alpha1.IPAddressPool {
	t.Helper()
	pool := c.pool(t, c.freshName("lan"), "172.30.0.70-172.30.0.79")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1(pool.Name)})
	web := c.service(t, "web")
	a := c.addresses(t, web)[0]
	c.backend(t, web, "n1")
	c.owner(t, a)
	c.networkIs(t, v1alpha1.ReasonChecksPassed)
	return pool
}

// asksAgain has the observer ask by DHCP for an address that it says it had (RFC 2131,
// 4.3.2: INIT-REBOOT), in a VLAN, or in none.
func (c *corner) asksAgain(t *testing.T, address string, vlan uint16) {
	t.Helper()
	ip := netip.MustParseAddr(address)
	bootp := make([]byte, 236)
	copy(bootp, []byte{1, 1, 6}) // a request, by Ethernet
	copy(bootp[28:], c.Observer.MAC)
	bootp = slices.Concat(bootp, []byte{99, 130, 83, 99, 53, 1, 3, 50, 4}, ip.AsSlice(), []byte{255})
	udp := binary.BigEndian.AppendUint16([]byte{0, 68, 0, 67}, uint16(8+len(bootp)))
	header := make([]byte, 20)
	header[0], header[8], header[9] = 0x45, 64, 17
	binary.BigEndian.PutUint16(header[2:], uint16(len(header)+8+len(bootp)))
	copy(header[16:], []byte{255, 255, 255, 255})
	binary.BigEndian.PutUint16(header[10:], checksum(header)) // bridges may look at it
	c.shout(t, vlan, 0x0800, slices.Concat(header, udp, []byte{0, 0}, bootp))
}

// shout sends everybody a packet from the observer, in a VLAN, or in none.
func (c *corner) shout(t *testing.T, vlan, etherType uint16, payload []byte) {
	t.Helper()
	everybody := net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame := slices.Concat(everybody, c.Observer.MAC)
	if vlan != 0 {
		frame = binary.BigEndian.AppendUint16(append(frame, 0x81, 0x00), vlan)
	}
	frame = append(binary.BigEndian.AppendUint16(frame, etherType), payload...)
	must(t, c.Observer.Do(func() error {
		eth0, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		conn, err := packet.Listen(eth0, packet.Raw, 0, nil)
		if err != nil {
			return err
		}
		defer conn.Close()
		_, err = conn.WriteTo(frame, &packet.Addr{HardwareAddr: everybody})
		return err
	}))
}

// checksum is that of an IPv4 header which has none yet (RFC 1071).
func checksum(header []byte) uint16 {
	var sum uint32
	for pair := range slices.Chunk(header, 2) {
		sum += uint32(binary.BigEndian.Uint16(pair))
	}
	return ^uint16(sum>>16 + sum)
}

// lease has a DHCP server on the router give the observer this address. The observer
// does not use it.
func (c *corner) lease(t *testing.T, address string) {
	t.Helper()
	for _, program := range []string{"dnsmasq", "busybox"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Fatalf("there is no %s to speak DHCP; make deps installs it", program)
		}
	}
	server, err := c.Router.Start("dnsmasq", "dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--bind-interfaces",
		"--leasefile-ro", "--no-ping", "--dhcp-authoritative", fmt.Sprintf("--dhcp-range=%s,%s,255.255.255.0,1h", address, address))
	must(t, err)
	defer func() { must(t, server.Stop(context.Background())) }()
	// It asks again every second, until the server has started.
	_, err = c.Observer.Exec(t.Context(), "busybox", "udhcpc", "-i", "eth0", "-f", "-n", "-q", "-t", "10", "-T", "1", "-s", "/bin/true")
	if err != nil {
		t.Fatalf("%v\n%s", err, server.Tail(10))
	}
}

// network is what a node's speaker says of its kernel and network.
func (c *corner) network(t *testing.T, node string) metav1.Condition {
	t.Helper()
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
	must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(sp), sp))
	if said := meta.FindStatusCondition(sp.Status.Conditions, v1alpha1.ConditionNetworkReady); said != nil {
		return *said
	}
	return metav1.Condition{}
}

// networkIs waits until all speakers say this of their nodes' kernels and networks.
func (c *corner) networkIs(t *testing.T, reason string, words ...string) {
	t.Helper()
	for _, n := range c.Nodes {
		lab.Eventually(t, 2*soon, func() error { // the first look at the kernel takes its time
			return c.networkSays(t, n.Name, reason, words...)
		})
	}
}

// networkSays checks what a speaker says of its node's kernel and network.
func (c *corner) networkSays(t *testing.T, node, reason string, words ...string) error {
	t.Helper()
	return says([]metav1.Condition{c.network(t, node)}, v1alpha1.ConditionNetworkReady, reason == v1alpha1.ReasonChecksPassed, reason, words...)
}
