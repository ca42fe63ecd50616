// Package nodecheck finds kernel settings and network conditions that interfere with
// announcing: a kernel that answers for addresses that another node announces, or drops
// packets that it should forward, and DHCP servers that lease addresses of pools.
//
// Check is pure; Read gets the facts from the kernel.
package nodecheck

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// ipvsInterface is the interface to which kube-proxy in IPVS mode adds the addresses of all
// Services.
const ipvsInterface = "kube-ipvs0"

// Facts are the kernel's settings and what was observed on the network. Maps by name have
// the interfaces that can announce.
type Facts struct {
	netif.Host
	ARPIgnore   map[string]int     // net.ipv4.conf.*.arp_ignore, the effective value
	ReversePath map[string]int     // net.ipv4.conf.*.rp_filter, the effective value
	Forwarding  map[lb.Family]bool // whether the node forwards packets
	Wireless    map[string]bool
	Own         []netip.Addr // addresses in the Node's status
	Leases      []lb.Lease   // DHCP leases of pools' addresses; sorted
	Rival       Rival        // another machine with this node's name
}

// Rival has the addresses of this speaker and of another one with the same node name; the zero
// value means that there is no other.
type Rival struct{ Own, Other string }

// Kind is the kind of a finding; the zero Kind is none.
type Kind uint8

// The kinds of findings, the most severe first.
const (
	StrictARPMissing  Kind = iota + 1 // IPVS without strictARP: the kernel answers for the addresses of all Services
	AddressHeld                       // an interface of the node has a Service's address
	DuplicateNodeName                 // another machine runs a speaker with this node's name
	DHCPInPool                        // a DHCP server leases addresses of a pool
	NotForwarding                     // the kernel does not forward packets
	StrictReversePath                 // the kernel drops packets from clients whose replies would leave by another interface
	BridgeKeepsARP                    // a bridge port does not forward gratuitous ARP
	Wireless                          // the address is announced on Wi-Fi
)

// Finding is one problem.
type Finding struct {
	Kind    Kind
	Message string // the problem, with the setting or the observation, and the fix
}

// Services are the addresses of the Services.
type Services interface {
	Has(netip.Addr) bool
	HasFamily(lb.Family) bool
}

// Check returns the problems of a node whose candidate interfaces are given, the most severe
// first.
func Check(f Facts, s Services, interfaces []string) []Finding {
	out := slices.Concat(heldAddresses(f, s, interfaces), duplicateName(f), leasesInPools(f), forwarding(f, s), reversePath(f, interfaces), suppressingPorts(f, interfaces), wireless(f, interfaces))
	slices.SortStableFunc(out, func(x, y Finding) int { return cmp.Compare(x.Kind, y.Kind) })
	return out
}

// heldAddresses finds addresses of Services that are configured on the node. Its kernel
// answers for them by ARP on every interface whose arp_ignore permits it, and by NDP only on
// the interface that has the address; no client can send a solicitation to kube-ipvs0.
func heldAddresses(f Facts, s Services, interfaces []string) (out []Finding) {
	var byIPVS []netip.Addr
	for _, a := range slices.SortedFunc(maps.Keys(f.Held), netip.Addr.Compare) {
		on := f.Held[a].Interface
		switch {
		case !s.Has(a):
		case on == ipvsInterface:
			if a.Is4() {
				byIPVS = append(byIPVS, a)
			}
		default:
			out = append(out, Finding{AddressHeld, fmt.Sprintf("%s is configured on %s: the kernel answers for it even if another node announces it; %s", a, on, f.removalAdvice(a))})
		}
	}
	answers := slices.DeleteFunc(slices.Clone(interfaces), func(i string) bool { return f.ARPIgnore[i] > 0 })
	if len(byIPVS) > 0 && len(answers) > 0 {
		out = append(out, Finding{StrictARPMissing, fmt.Sprintf(
			"kube-proxy in IPVS mode has %s (%d addresses of Services) on %s, and net.ipv4.conf.%s.arp_ignore is 0: the kernel answers for them even if another node announces them; "+
				"set ipvs.strictARP: true in kube-proxy's configuration, and restart kube-proxy", byIPVS[0], len(byIPVS), ipvsInterface, answers[0])})
	}
	return out
}

// removalAdvice returns the fix for an address of a Service that is configured on the node. It
// never advises to remove the node's own address, as the node would become unreachable.
func (f Facts) removalAdvice(a netip.Addr) string {
	const exclude = "add it to spec.excludes of the pool, and request another address for the Service"
	if f.isOwn(a) {
		return "it is the node's own address: " + exclude
	}
	return fmt.Sprintf("if no program on the node needs it, remove it: ip addr del %s dev %s; otherwise %s",
		netip.PrefixFrom(a, f.Held[a].Bits), f.Held[a].Interface, exclude)
}

// isOwn reports whether the node may be reached at the address: it is in the Node's status,
// has a subnet, or is the interface's only address of its family.
func (f Facts) isOwn(a netip.Addr) bool {
	held := f.Held[a]
	if slices.Contains(f.Own, a) || held.Bits < a.BitLen() {
		return true
	}
	for other, h := range f.Held {
		if other != a && h.Interface == held.Interface && lb.FamilyOf(other) == lb.FamilyOf(a) && !other.IsLinkLocalUnicast() {
			return false
		}
	}
	return true
}

// duplicateName finds another machine with this node's name.
func duplicateName(f Facts) []Finding {
	if f.Rival == (Rival{}) {
		return nil
	}
	return []Finding{{DuplicateNodeName, fmt.Sprintf(
		"another machine, at %s, runs a speaker with this node's name; this speaker, at %s, started first and announces, the other does not; "+
			"give the other machine a unique hostname, and restart its kubelet and its speaker", f.Rival.Other, f.Rival.Own)}}
}

// maxNamedLeases is how many leases the message names; it counts the others.
const maxNamedLeases = 3

// leasesInPools finds addresses of pools that DHCP servers lease: sooner or later a host and
// a Service use the same address.
func leasesInPools(f Facts) []Finding {
	var list []string
	for _, l := range f.Leases[:min(maxNamedLeases, len(f.Leases))] {
		list = append(list, describeLease(l))
	}
	switch more := len(f.Leases) - maxNamedLeases; {
	case len(list) == 0:
		return nil
	case more > 0:
		list = append(list, fmt.Sprintf("and %d more addresses", more))
	}
	return []Finding{{DHCPInPool, strings.Join(list, "; ") + ": remove the pool's addresses from the server's range, or add them to the pool's spec.excludes"}}
}

func describeLease(l lb.Lease) string {
	if !l.Server.IsValid() {
		return fmt.Sprintf("a DHCP server leased %s of IPAddressPool %s to %s, according to a request of that host (seen on %s)", l.Addr, l.Pool, l.Client, l.Interface)
	}
	return fmt.Sprintf("DHCP server %s leases %s of IPAddressPool %s to %s (seen on %s)", l.Server, l.Addr, l.Pool, l.Client, l.Interface)
}

// forwarding finds families whose packets the kernel does not forward, so that clients do
// not reach pods on other nodes.
func forwarding(f Facts, s Services) (out []Finding) {
	for _, x := range []struct {
		family lb.Family
		key    string
	}{{lb.IPv4, "net.ipv4.ip_forward"}, {lb.IPv6, "net.ipv6.conf.all.forwarding"}} {
		if on, known := f.Forwarding[x.family]; known && !on && s.HasFamily(x.family) {
			out = append(out, Finding{NotForwarding, fmt.Sprintf("%s is 0: the kernel drops packets for pods on other nodes; set it to 1: sysctl -w %s=1", x.key, x.key)})
		}
	}
	return out
}

// strict is the value of rp_filter with which the kernel accepts a packet only on the
// interface by which the reply would leave (RFC 3704).
const strict = 1

// reversePath finds interfaces on which the kernel drops packets from other networks, as
// the replies would leave by another interface.
func reversePath(f Facts, interfaces []string) (out []Finding) {
	if len(f.DefaultRoute) == 0 {
		return nil
	}
	for _, i := range interfaces {
		if f.ReversePath[i] == strict && !f.DefaultRoute[i] {
			out = append(out, Finding{StrictReversePath, fmt.Sprintf(
				"net.ipv4.conf.%s.rp_filter is 1, and the default route leaves by %s: the kernel drops packets from clients outside of %s's network; set it to 2 (loose)",
				i, strings.Join(slices.Sorted(maps.Keys(f.DefaultRoute)), ", "), i)})
		}
	}
	return out
}

// suppressingPorts finds bridge ports that do not forward gratuitous ARP, so that hosts
// behind them keep sending to the former owner of an address.
func suppressingPorts(f Facts, interfaces []string) (out []Finding) {
	for _, i := range interfaces {
		for _, port := range f.Suppressing[i] {
			out = append(out, Finding{BridgeKeepsARP, fmt.Sprintf(
				"port %s of bridge %s has neigh_suppress on: hosts behind it do not receive gratuitous ARP and notice a failover late; turn it off: bridge link set dev %s neigh_suppress off",
				port, i, port)})
		}
	}
	return out
}

func wireless(f Facts, interfaces []string) (out []Finding) {
	for _, i := range interfaces {
		if f.Wireless[i] {
			out = append(out, Finding{Wireless, fmt.Sprintf(
				"%s is Wi-Fi: many access points drop gratuitous ARP, so that hosts notice a failover late; select a wired interface in spec.interfaces of the L2Advertisement", i)})
		}
	}
	return out
}
