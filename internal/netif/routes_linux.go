package netif

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"syscall"

	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Routes has the routes of the main routing table, by the interface's index.
type Routes struct {
	Count    int                    // of all routes, which decides how expensive reading them is
	onLink   map[int][]netip.Prefix // networks that are reached without a gateway
	defaults map[lb.Family]defaultRoute
}

// defaultRoute is the default route with the lowest metric.
type defaultRoute struct {
	metric   int
	gateways map[int][]netip.Addr // by the interface by which the route leaves
}

// ListRoutes reads the main routing table.
func ListRoutes() (r Routes, err error) {
	h, err := handle()
	if err != nil {
		return r, err
	}
	const attempts = 10 // the list is inconsistent while routes change
	for range attempts {
		r = Routes{onLink: map[int][]netip.Prefix{}, defaults: map[lb.Family]defaultRoute{}}
		if err = r.read(h); !errors.Is(err, netlink.ErrDumpInterrupted) {
			break
		}
	}
	if err != nil {
		return r, fmt.Errorf("list routes: %w", err)
	}
	return r, nil
}

func (r *Routes) read(h *netlink.Handle) error {
	for _, family := range []int{netlink.FAMILY_V4, netlink.FAMILY_V6} {
		err := h.RouteListFilteredIter(family, &netlink.Route{}, 0, func(route netlink.Route) bool { // of the main table
			r.add(&route)
			return true
		})
		if err != nil && (family == netlink.FAMILY_V4 || !errors.Is(err, syscall.EAFNOSUPPORT)) {
			return err
		}
	}
	return nil
}

func (r *Routes) add(route *netlink.Route) {
	r.Count++
	if route.Type != syscall.RTN_UNICAST {
		return
	}
	if isDefault(*route) {
		r.addDefault(route)
		return
	}
	addr, ok := netip.AddrFromSlice(route.Dst.IP)
	bits, _ := route.Dst.Mask.Size()
	p := netip.PrefixFrom(addr.Unmap(), bits)
	direct := route.Gw == nil && route.Via == nil && route.Encap == nil && len(route.MultiPath) == 0
	if ok && direct && p.IsValid() && !p.IsSingleIP() && !addr.IsLinkLocalUnicast() && !addr.IsMulticast() {
		r.onLink[route.LinkIndex] = append(r.onLink[route.LinkIndex], p.Masked())
	}
}

func (r *Routes) addDefault(route *netlink.Route) {
	f := lb.IPv4
	if route.Family == netlink.FAMILY_V6 {
		f = lb.IPv6
	}
	d, known := r.defaults[f]
	if known && d.metric < route.Priority {
		return
	}
	if !known || d.metric > route.Priority {
		d = defaultRoute{metric: route.Priority, gateways: map[int][]netip.Addr{}}
		r.defaults[f] = d
	}
	hops := route.MultiPath
	if len(hops) == 0 {
		hops = []*netlink.NexthopInfo{{LinkIndex: route.LinkIndex, Gw: route.Gw}}
	}
	for _, hop := range hops {
		d.gateways[hop.LinkIndex] = append(d.gateways[hop.LinkIndex], gateway(hop)...)
	}
}

func gateway(hop *netlink.NexthopInfo) []netip.Addr {
	if a, ok := netip.AddrFromSlice(hop.Gw); ok {
		return []netip.Addr{a.Unmap()}
	}
	return nil
}

// Apply sets the fields of the interfaces that follow from the routes.
func (r *Routes) Apply(list []Interface) {
	for i := range list {
		in := &list[i]
		in.OnLink, in.Uplink, in.Gateways = nil, nil, nil
		for _, p := range r.onLink[in.Index] {
			own := func(q netip.Prefix) bool { return q.Masked() == p }
			if !slices.ContainsFunc(in.Prefixes, own) && !slices.Contains(in.OnLink, p) {
				in.OnLink = append(in.OnLink, p)
			}
		}
		slices.SortFunc(in.OnLink, comparePrefixes)
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			if gateways, by := r.defaults[f].gateways[in.Index]; by {
				in.Uplink = append(in.Uplink, f)
				in.Gateways = append(in.Gateways, gateways...)
			}
		}
		slices.SortFunc(in.Gateways, netip.Addr.Compare)
		in.Gateways = slices.Compact(in.Gateways)
	}
}
