// Package nodecheck finds what in a node's kernel or on its network defeats
// announcing: what makes the node answer for addresses that another announces, or
// drop what it should forward, and who else gives the addresses away.
//
// Check is pure; Read is where the kernel is asked.
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

// ipvsInterface is where kube-proxy in IPVS mode puts the addresses of all Services.
const ipvsInterface = "kube-ipvs0"

// Facts is what the kernel says, and what was heard. By the names of interfaces are those that can
// announce.
type Facts struct {
	netif.Host
	ARPIgnore   map[string]int     // net.ipv4.conf.*.arp_ignore, as it is in force
	ReversePath map[string]int     // net.ipv4.conf.*.rp_filter, as it is in force
	Forwarding  map[lb.Family]bool // whether the node forwards
	Wireless    map[string]bool
	Own         []netip.Addr // those that Kubernetes knows the node by
	Leases      []lb.Lease   // of pools' addresses, by DHCP servers; sorted
	Rival       Rival        // another machine with this node's name
}

// Rival is another machine that runs a speaker with this node's name; the zero Rival is none.
type Rival struct{ Own, Other string }

// Kind is what is wrong. The zero Kind is nothing.
type Kind uint8

// What can be wrong, the worst first.
const (
	StrictARPMissing  Kind = iota + 1 // IPVS without strictARP: the node answers for every Service's address
	AddressHeld                       // an interface of the node has a Service's address
	DuplicateNodeName                 // another machine runs a speaker with this node's name
	DHCPInPool                        // a DHCP server gives a pool's addresses to hosts
	NotForwarding                     // the node does not forward
	StrictReversePath                 // the node drops what does not come from where answers would go
	BridgeKeepsARP                    // a bridge keeps gratuitous ARP from what is behind one of its ports
	Wireless                          // the address is announced on Wi-Fi
)

// Finding is something that is wrong.
type Finding struct {
	Kind  Kind
	Words string // what, as the kernel says it or it was heard, and the fix
}

// Services are the addresses that Services have.
type Services interface {
	Has(netip.Addr) bool
	HasFamily(lb.Family) bool
}

// Check finds what is wrong on a node that announces on these interfaces, or could;
// the worst first.
func Check(f Facts, s Services, interfaces []string) []Finding {
	out := slices.Concat(held(f, s, interfaces), duplicate(f), leased(f), forwarding(f, s), reversePath(f, interfaces), bridges(f, interfaces), wireless(f, interfaces))
	slices.SortStableFunc(out, func(x, y Finding) int { return cmp.Compare(x.Kind, y.Kind) })
	return out
}

// held finds addresses of Services that the node has itself. Its kernel answers for
// them by ARP on every interface where arp_ignore lets it; by NDP only on the one that
// has the address, which for kube-ipvs0 is none that anybody asks on.
func held(f Facts, s Services, interfaces []string) (out []Finding) {
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
			out = append(out, Finding{AddressHeld, fmt.Sprintf("%s is configured on %s: the kernel answers for it, whichever node announces it; %s", a, on, f.release(a))})
		}
	}
	answers := slices.DeleteFunc(slices.Clone(interfaces), func(i string) bool { return f.ARPIgnore[i] > 0 })
	if len(byIPVS) > 0 && len(answers) > 0 {
		out = append(out, Finding{StrictARPMissing, fmt.Sprintf(
			"kube-proxy in IPVS mode has %s (%d addresses of Services) on %s, and net.ipv4.conf.%s.arp_ignore is 0: the kernel answers for them, whoever announces them; "+
				"set ipvs.strictARP: true in kube-proxy's configuration, and restart it", byIPVS[0], len(byIPVS), ipvsInterface, answers[0])})
	}
	return out
}

// release says what to do about an address of a Service that the node has too. The node's own
// address stays: without it the node is lost.
func (f Facts) release(a netip.Addr) string {
	const exclude = "add it to spec.excludes of the pool, and ask for another address for the Service"
	if f.isOwn(a) {
		return "it is the node's own address: " + exclude
	}
	return fmt.Sprintf("if nothing on the node needs it there, remove it: ip addr del %s dev %s; otherwise %s",
		netip.PrefixFrom(a, f.Held[a].Bits), f.Held[a].Interface, exclude)
}

// isOwn reports whether the node is reached at the address: Kubernetes knows it, it has a
// subnet, or it is the interface's only one of its family.
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

// duplicate finds another machine with this node's name.
func duplicate(f Facts) []Finding {
	if f.Rival == (Rival{}) {
		return nil
	}
	return []Finding{{DuplicateNodeName, fmt.Sprintf(
		"another machine, at %s, runs a speaker with this node's name; this one, at %s, was there first and announces, the other does not; "+
			"give the other machine a hostname of its own, and restart its kubelet and its speaker", f.Rival.Other, f.Rival.Own)}}
}

// few is how many leases are named; the others are counted.
const few = 3

// leased finds addresses of pools that DHCP servers give to hosts: sooner or later a
// host and a Service have the same.
func leased(f Facts) []Finding {
	var words []string
	for _, l := range f.Leases[:min(few, len(f.Leases))] {
		words = append(words, inWords(l))
	}
	switch more := len(f.Leases) - few; {
	case len(words) == 0:
		return nil
	case more > 0:
		words = append(words, fmt.Sprintf("and %d more such addresses", more))
	}
	return []Finding{{DHCPInPool, strings.Join(words, "; ") + ": take the pool's addresses out of the server's range, or add them to the pool's spec.excludes"}}
}

func inWords(l lb.Lease) string {
	if !l.Server.IsValid() {
		return fmt.Sprintf("a DHCP server gave %s, which IPAddressPool %s holds, to %s, as that host says (seen on %s)", l.Addr, l.Pool, l.Client, l.Interface)
	}
	return fmt.Sprintf("the DHCP server %s gives %s, which IPAddressPool %s holds, to %s (seen on %s)", l.Server, l.Addr, l.Pool, l.Client, l.Interface)
}

// forwarding finds that the node does not forward, without which kube-proxy leads
// nobody to pods on other nodes.
func forwarding(f Facts, s Services) (out []Finding) {
	for _, x := range []struct {
		family lb.Family
		key    string
	}{{lb.IPv4, "net.ipv4.ip_forward"}, {lb.IPv6, "net.ipv6.conf.all.forwarding"}} {
		if on, known := f.Forwarding[x.family]; known && !on && s.HasFamily(x.family) {
			out = append(out, Finding{NotForwarding, fmt.Sprintf("%s is 0: what is for pods on other nodes is dropped; set it to 1: sysctl -w %s=1", x.key, x.key)})
		}
	}
	return out
}

// strict is rp_filter's value that asks for the very interface.
const strict = 1

// reversePath finds interfaces on which questions from elsewhere are dropped, as
// the answers would leave by another.
func reversePath(f Facts, interfaces []string) (out []Finding) {
	if len(f.DefaultRoute) == 0 {
		return nil
	}
	for _, i := range interfaces {
		if f.ReversePath[i] == strict && !f.DefaultRoute[i] {
			out = append(out, Finding{StrictReversePath, fmt.Sprintf(
				"net.ipv4.conf.%s.rp_filter is 1, and the default route is by %s: the kernel drops what clients beyond %s's network ask; set it to 2 (loose)",
				i, strings.Join(slices.Sorted(maps.Keys(f.DefaultRoute)), ", "), i)})
		}
	}
	return out
}

// bridges finds ports by which gratuitous ARP does not leave, so that who is behind them
// goes on to send to the node that had an address before.
func bridges(f Facts, interfaces []string) (out []Finding) {
	for _, i := range interfaces {
		for _, port := range f.Suppressing[i] {
			out = append(out, Finding{BridgeKeepsARP, fmt.Sprintf(
				"port %s of the bridge %s has neigh_suppress on: who is behind it does not hear gratuitous ARP, and notices a failover late; bridge link set dev %s neigh_suppress off",
				port, i, port)})
		}
	}
	return out
}

func wireless(f Facts, interfaces []string) (out []Finding) {
	for _, i := range interfaces {
		if f.Wireless[i] {
			out = append(out, Finding{Wireless, fmt.Sprintf(
				"%s is Wi-Fi: many access points keep gratuitous ARP from others, so that they notice a failover late; announce on a cable, by spec.interfaces of the L2Advertisement", i)})
		}
	}
	return out
}
