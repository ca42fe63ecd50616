package lab

import (
	"fmt"
	"net"
	"net/netip"
)

// The address plan. Every lab has the same one; namespaces keep them apart.
// The last part of a host's IPv4 address, IPv6 address (read as digits) and
// MAC (in hexadecimal) is one and the same number, so that a capture can be
// read without a table.
var (
	LAN4 = netip.MustParsePrefix("172.30.0.0/24")
	LAN6 = netip.MustParsePrefix("fd30::/64")
	Far4 = netip.MustParsePrefix("172.31.0.0/24") // behind the router
	Far6 = netip.MustParsePrefix("fd31::/64")     // both for BGP router r2 are 172.31.2.0/24, fd31:0:0:2::/64

	// By convention pools take their addresses from these ranges of the LAN.
	LoadBalancers4 = "172.30.0.100-172.30.0.149"
	LoadBalancers6 = "fd30::100-fd30::149"

	// Pools for BGP take theirs from these, which are on nobody's wire: only who
	// has learned a route gets there. The recipes accept nothing else.
	BGPLoadBalancers4 = netip.MustParsePrefix("10.30.0.0/16")
	BGPLoadBalancers6 = netip.MustParsePrefix("fd10:30::/64")
)

// The AS numbers of the recipes, and so by convention of the lab.
const (
	RouterASN  = 64512
	ClusterASN = 64513
)

const (
	routerNumber       = 1
	firstBGPNumber     = 2 // r2; `router` is the first router
	lastBGPNumber      = controlPlaneNumber - 1
	controlPlaneNumber = 10
	firstNodeNumber    = 11
	clientNumber       = 200
	observerNumber     = 201

	// maxNodes keeps node addresses below those of load balancers.
	maxNodes = 100 - firstNodeNumber

	podCIDRs     = "10.244.0.0/16,fd00:10:244::/48"
	serviceCIDRs = "10.96.0.0/16,fd00:10:96::/112"

	// apiServerPort is the port on the control plane's addresses.
	apiServerPort = 6443
)

func lan4(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("172.30.0.%d", n)) }
func lan6(n int) netip.Addr { return netip.MustParseAddr(fmt.Sprintf("fd30::%d", n)) }

// far4 is host n on the network behind a router: 0 is the one behind `router`.
func far4(network, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("172.31.%d.%d", network, n))
}

func far6(network, n int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd31:0:0:%d::%d", network, n))
}

// mac is the address of host n on a segment: 0 is the LAN, 1+i the network
// behind a router, 0x10+i the pods of node i and 0x80+i the node's ends of
// their cables.
func mac(segment, n int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0, 0, 0, byte(segment), byte(n)}
}

// linkLocal is the address that the kernel makes of a MAC (RFC 4291, appendix A).
func linkLocal(m net.HardwareAddr) netip.Addr {
	return netip.AddrFrom16([16]byte{0: 0xfe, 1: 0x80, 8: m[0] ^ 2, m[1], m[2], 0xff, 0xfe, m[3], m[4], m[5]})
}

func podCIDR4(node int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("10.244.%d.0/24", node))
}

func podCIDR6(node int) netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("fd00:10:244:%d::/64", node))
}

func pod4(node, pod int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("10.244.%d.%d", node, pod))
}

func pod6(node, pod int) netip.Addr {
	return netip.MustParseAddr(fmt.Sprintf("fd00:10:244:%d::%d", node, pod))
}
