package netif

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/vishvananda/netlink"
)

// List returns the interfaces that can announce, sorted by name: those with an Ethernet
// address and broadcast that are not ports of a bridge or bond, whose traffic belongs to the
// bridge or bond. rest are the addresses on all other interfaces, sorted, without those that
// no other host can have (127.0.0.0/8, link-local) and those that a service proxy adds.
func List() (list []Interface, rest []Address, err error) {
	links, addrs, err := linksAndAddresses()
	if err != nil {
		return nil, nil, err
	}
	kinds := kindsOf(links)
	var out []Interface
	for _, l := range links {
		a := l.Attrs()
		ethernet := len(a.HardwareAddr) == 6 && a.Flags&net.FlagBroadcast != 0 && a.Flags&net.FlagLoopback == 0
		port := a.MasterIndex != 0 && kinds[a.MasterIndex] != "vrf"
		if !ethernet || port {
			continue
		}
		out = append(out, Interface{
			Name: a.Name, Index: a.Index, MAC: a.HardwareAddr.String(), Prefixes: prefixesOf(a.Index, addrs), Up: isUp(a), Internal: isInternal(a.Name, l.Type(), a.RawFlags),
		})
	}
	slices.SortFunc(out, func(x, y Interface) int { return strings.Compare(x.Name, y.Name) })
	return out, restOf(addrs, out, namesOf(links)), nil
}

// serviceInterfaces are the interfaces to which service proxies (kube-proxy in IPVS mode,
// kube-router) add the addresses of all Services.
var serviceInterfaces = []string{"kube-ipvs0", "kube-dummy-if"}

// restOf returns the addresses that are on none of the interfaces, each once, sorted.
func restOf(addrs []netlink.Addr, list []Interface, names map[int]string) (out []Address) {
	listed := map[int]bool{}
	for _, i := range list {
		listed[i.Index] = true
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); !ok || listed[a.LinkIndex] || ip.IsLoopback() || ip.IsLinkLocalUnicast() || slices.Contains(serviceInterfaces, names[a.LinkIndex]) {
			continue
		}
		out = append(out, Address{Addr: ip, Interface: names[a.LinkIndex]})
	}
	slices.SortFunc(out, func(x, y Address) int { return cmp.Or(x.Compare(y.Addr), cmp.Compare(x.Interface, y.Interface)) })
	return slices.CompactFunc(out, func(x, y Address) bool { return x.Addr == y.Addr })
}

// ReadHost reads the host's network configuration from the kernel.
func ReadHost() (h Host, err error) {
	links, addrs, err := linksAndAddresses()
	if err != nil {
		return h, err
	}
	names := namesOf(links)
	h.Held, h.Suppressing = held(addrs, names), portsThatSuppressARP(links, names)
	h.DefaultRoute, err = defaultRoutes(names)
	return h, err
}

func held(addrs []netlink.Addr, names map[int]string) map[netip.Addr]Held {
	out := make(map[netip.Addr]Held, len(addrs))
	for _, a := range addrs {
		if ip, ok := netip.AddrFromSlice(a.IP); ok {
			ones, _ := a.Mask.Size()
			out[ip.Unmap()] = Held{names[a.LinkIndex], ones}
		}
	}
	return out
}

func defaultRoutes(names map[int]string) (map[string]bool, error) {
	routes, err := dump(func(h *netlink.Handle) ([]netlink.Route, error) { return h.RouteList(nil, netlink.FAMILY_V4) })
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	out := map[string]bool{}
	for _, r := range routes {
		if !isDefault(r) {
			continue
		}
		for _, hop := range append(r.MultiPath, &netlink.NexthopInfo{LinkIndex: r.LinkIndex}) {
			if name, ok := names[hop.LinkIndex]; ok {
				out[name] = true
			}
		}
	}
	return out, nil
}

func portsThatSuppressARP(links []netlink.Link, names map[int]string) map[string][]string {
	kinds, out := kindsOf(links), map[string][]string{}
	for _, l := range links {
		master := l.Attrs().MasterIndex
		if kinds[master] != "bridge" {
			continue
		}
		options, err := netlink.LinkGetProtinfo(l)
		if err != nil { // the interface was removed meanwhile
			continue
		}
		if options.NeighSuppress {
			out[names[master]] = append(out[names[master]], l.Attrs().Name)
		}
	}
	return out
}

func isDefault(r netlink.Route) bool {
	if r.Dst == nil {
		return true
	}
	ones, _ := r.Dst.Mask.Size()
	return ones == 0
}

func linksAndAddresses() ([]netlink.Link, []netlink.Addr, error) {
	links, err := dump((*netlink.Handle).LinkList)
	if err != nil {
		return nil, nil, fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := dump(func(h *netlink.Handle) ([]netlink.Addr, error) { return h.AddrList(nil, netlink.FAMILY_ALL) })
	if err != nil {
		return nil, nil, fmt.Errorf("list addresses: %w", err)
	}
	return links, addrs, nil
}

func namesOf(links []netlink.Link) map[int]string {
	out := make(map[int]string, len(links))
	for _, l := range links {
		out[l.Attrs().Index] = l.Attrs().Name
	}
	return out
}

func kindsOf(links []netlink.Link) map[int]string {
	out := make(map[int]string, len(links))
	for _, l := range links {
		out[l.Attrs().Index] = l.Type()
	}
	return out
}

// dump calls list until the kernel returns a consistent list. A list is inconsistent if
// interfaces change meanwhile, which is just when this program reads it.
func dump[T any](list func(*netlink.Handle) ([]T, error)) ([]T, error) {
	const attempts = 10
	h, err := handle()
	if err != nil {
		return nil, err
	}
	var out []T
	for range attempts {
		if out, err = list(h); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return out, err
		}
	}
	return nil, err
}

// shared is opened on first use and kept: opening a socket for each request costs more than
// the request.
var shared struct {
	sync.Mutex
	handle *netlink.Handle
}

func handle() (*netlink.Handle, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.handle == nil {
		h, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("open a netlink socket: %w", err)
		}
		shared.handle = h
	}
	return shared.handle, nil
}

// isUp reports whether the interface can send frames. Some drivers leave the operational
// state unknown; then only the administrative state counts.
func isUp(a *netlink.LinkAttrs) bool {
	return a.Flags&net.FlagUp != 0 && (a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown)
}

// prefixesOf returns the addresses of an interface with their subnets, sorted. It leaves out
// link-local addresses, which do not show where a Service's address belongs, and addresses
// that failed duplicate address detection (RFC 4862, 5.4.5).
func prefixesOf(index int, addrs []netlink.Addr) []netip.Prefix {
	var out []netip.Prefix
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		ones, _ := a.Mask.Size()
		p := netip.PrefixFrom(ip.Unmap(), ones)
		if a.LinkIndex != index || !ok || !p.IsValid() || p.Addr().IsLinkLocalUnicast() || a.Flags&duplicate != 0 {
			continue
		}
		out = append(out, p)
	}
	slices.SortFunc(out, comparePrefixes)
	return slices.Compact(out)
}

// Flags of addresses (rtnetlink(7)). On an IPv4 address the flag "temporary" means that it is
// a secondary address of its subnet.
const (
	temporary  = 0x01
	duplicate  = 0x08 // IFA_F_DADFAILED
	deprecated = 0x20
	tentative  = 0x40
)

// Addresses returns the host's addresses, sorted.
func Addresses() ([]Address, error) {
	links, addrs, err := linksAndAddresses()
	if err != nil {
		return nil, err
	}
	names := namesOf(links)
	var out []Address
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		transient := duplicate | deprecated | tentative
		if ip = ip.Unmap(); ip.Is6() {
			transient |= temporary
		}
		out = append(out, Address{Addr: ip, Interface: names[a.LinkIndex], Stable: a.Flags&transient == 0})
	}
	slices.SortFunc(out, func(x, y Address) int { return x.Compare(y.Addr) })
	return out, nil
}

func comparePrefixes(x, y netip.Prefix) int {
	if c := x.Addr().Compare(y.Addr()); c != 0 {
		return c
	}
	return x.Bits() - y.Bits()
}

// Watch calls changed once at the start, and whenever links or addresses may have changed,
// until ctx ends. It fails if it cannot subscribe to the kernel's notifications.
func Watch(ctx context.Context, changed func()) error {
	for ctx.Err() == nil {
		if err := watch(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

// watch is Watch until the kernel ends a subscription, as it does if the receiver is too slow.
// The call of changed at the next start makes up for missed notifications.
func watch(ctx context.Context, changed func()) error {
	done := make(chan struct{})
	defer close(done)
	links := make(chan netlink.LinkUpdate, 64)
	if err := netlink.LinkSubscribe(links, done); err != nil {
		return fmt.Errorf("subscribe to interfaces: %w", err)
	}
	addrs := make(chan netlink.AddrUpdate, 64)
	if err := netlink.AddrSubscribe(addrs, done); err != nil {
		return fmt.Errorf("subscribe to addresses: %w", err)
	}
	for ok := true; ok; {
		changed()
		select {
		case <-ctx.Done():
			return nil
		case _, ok = <-links:
		case _, ok = <-addrs:
		}
	}
	return nil
}

// Gateway returns the IPv4 default gateway of an interface from the kernel's neighbour table. ok
// is false if there is none, or no entry for it.
func Gateway(index int) (addr netip.Addr, mac net.HardwareAddr, ok bool) {
	routes, err := dump(func(h *netlink.Handle) ([]netlink.Route, error) {
		return h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{LinkIndex: index}, netlink.RT_FILTER_OIF)
	})
	if err != nil {
		return addr, nil, false
	}
	for _, r := range routes {
		if ones, _ := r.Dst.Mask.Size(); r.Gw == nil || ones != 0 {
			continue
		}
		neighbours, err := dump(func(h *netlink.Handle) ([]netlink.Neigh, error) { return h.NeighList(index, netlink.FAMILY_V4) })
		if err != nil {
			return addr, nil, false
		}
		for _, n := range neighbours {
			if a, is := netip.AddrFromSlice(n.IP.To4()); is && n.IP.Equal(r.Gw) && len(n.HardwareAddr) == 6 {
				return a, n.HardwareAddr, true
			}
		}
	}
	return addr, nil, false
}
