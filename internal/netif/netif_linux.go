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

// List returns the interfaces that can announce, sorted by name: those with an
// Ethernet address and broadcast that are not ports of a bridge or bond (their
// master has the traffic). rest are the addresses on all other interfaces, sorted, but for
// those that no other host can have (127.0.0.0/8, link-local) and those that kube-proxy puts
// there for Services.
func List() (list []Interface, rest []Address, err error) {
	links, addrs, err := linksAndAddresses()
	if err != nil {
		return nil, nil, err
	}
	kind := kindOf(links)
	var out []Interface
	for _, l := range links {
		a := l.Attrs()
		ethernet := len(a.HardwareAddr) == 6 && a.Flags&net.FlagBroadcast != 0 && a.Flags&net.FlagLoopback == 0
		port := a.MasterIndex != 0 && kind[a.MasterIndex] != "vrf"
		if !ethernet || port {
			continue
		}
		out = append(out, Interface{
			Name: a.Name, Index: a.Index, MAC: a.HardwareAddr.String(), Prefixes: prefixesOf(a.Index, addrs), Up: isUp(a), Internal: isInternal(a.Name, l.Type(), a.RawFlags),
		})
	}
	slices.SortFunc(out, func(x, y Interface) int { return strings.Compare(x.Name, y.Name) })
	return out, restOf(addrs, out, nameOf(links)), nil
}

// forServices are interfaces on which service proxies (kube-proxy in IPVS mode, kube-router)
// put the addresses of all Services.
var forServices = []string{"kube-ipvs0", "kube-dummy-if"}

// restOf returns the addresses that are on none of the interfaces, each once, sorted.
func restOf(addrs []netlink.Addr, list []Interface, names map[int]string) (out []Address) {
	listed := map[int]bool{}
	for _, i := range list {
		listed[i.Index] = true
	}
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if ip = ip.Unmap(); !ok || listed[a.LinkIndex] || ip.IsLoopback() || ip.IsLinkLocalUnicast() || slices.Contains(forServices, names[a.LinkIndex]) {
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
	names := nameOf(links)
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
	kind, out := kindOf(links), map[string][]string{}
	for _, l := range links {
		master := l.Attrs().MasterIndex
		if kind[master] != "bridge" {
			continue
		}
		options, err := netlink.LinkGetProtinfo(l)
		if err != nil { // it has gone
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

func nameOf(links []netlink.Link) map[int]string {
	out := make(map[int]string, len(links))
	for _, l := range links {
		out[l.Attrs().Index] = l.Attrs().Name
	}
	return out
}

func kindOf(links []netlink.Link) map[int]string {
	out := make(map[int]string, len(links))
	for _, l := range links {
		out[l.Attrs().Index] = l.Type()
	}
	return out
}

// dump calls list until the kernel's answer is of one piece: it is not while
// interfaces come and go, which is when one asks.
func dump[T any](list func(*netlink.Handle) ([]T, error)) ([]T, error) {
	const attempts = 10
	h, err := asker()
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

// asked is open from the first question on: opening a socket for each costs more than
// to answer it.
var asked struct {
	sync.Mutex
	handle *netlink.Handle
}

func asker() (*netlink.Handle, error) {
	asked.Lock()
	defer asked.Unlock()
	if asked.handle == nil {
		h, err := netlink.NewHandle(syscall.NETLINK_ROUTE)
		if err != nil {
			return nil, fmt.Errorf("ask the kernel: %w", err)
		}
		asked.handle = h
	}
	return asked.handle, nil
}

// isUp reports whether frames can leave. Some drivers leave the operational
// state unknown; for those the administrative state must do.
func isUp(a *netlink.LinkAttrs) bool {
	return a.Flags&net.FlagUp != 0 && (a.OperState == netlink.OperUp || a.OperState == netlink.OperUnknown)
}

// prefixesOf returns the addresses of an interface with their subnets, sorted. Link-local
// ones are left out: they say nothing about where a Service's address belongs. So are
// addresses that another host has (RFC 4862, 5.4.5).
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

// Flags of addresses (rtnetlink(7)). That of temporary ones says of IPv4 that the
// interface has another in the same subnet.
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
	names := nameOf(links)
	var out []Address
	for _, a := range addrs {
		ip, ok := netip.AddrFromSlice(a.IP)
		if !ok {
			continue
		}
		passing := duplicate | deprecated | tentative
		if ip = ip.Unmap(); ip.Is6() {
			passing |= temporary
		}
		out = append(out, Address{Addr: ip, Interface: names[a.LinkIndex], Lasting: a.Flags&passing == 0})
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

// Watch calls changed once at the start and whenever links or addresses may
// have changed, until ctx ends. It fails when the kernel cannot be asked at all.
func Watch(ctx context.Context, changed func()) error {
	for ctx.Err() == nil {
		if err := watch(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

// watch is Watch until the kernel ends a subscription, as it does with one that
// does not keep up. What was missed is made good by the call at the next start.
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

// Gateway returns the IPv4 router by which an interface reaches the rest of the
// world, as the kernel knows it; ok is false when there is none, or the kernel has
// not spoken with it lately.
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
