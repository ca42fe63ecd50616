package bgp

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// nextHops are the next hops of routes in one session. If one is not valid, routes of its family
// cannot be advertised.
type nextHops struct {
	v4, v6 netip.Addr // v4 is for IPv4 routes; it may be an IPv6 address (RFC 8950)
	// note says why a family cannot be advertised.
	note string
}

func (h nextHops) of(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return h.v4
	}
	return h.v6
}

// nextHopsOf returns the next hops: always addresses of this node, preferably that of the
// session. siblings are the other addresses of the session's interface.
func nextHopsOf(p *lb.BGPPeer, local netip.Addr, o openInfo, siblings []netip.Addr) nextHops {
	other := func(is func(netip.Addr) bool) netip.Addr {
		if i := slices.IndexFunc(siblings, is); i >= 0 {
			return siblings[i]
		}
		return netip.Addr{}
	}
	var h nextHops
	if local.Is4() {
		h.v4 = first(p.NextHop4, local)
		h.v6 = first(p.NextHop6, other(netip.Addr.Is6))
	} else {
		h.v6 = first(p.NextHop6, local)
		h.v4 = first(p.NextHop4, other(netip.Addr.Is4))
		if o.extendedNextHop && !p.NextHop4.IsValid() {
			h.v4 = local // the router advertised the capability
		}
	}
	switch {
	case !o.ipv4:
		h.v4, h.note = netip.Addr{}, "the router does not accept IPv4 routes in this session; activate the address family there for this neighbour"
	case !o.ipv6:
		h.v6, h.note = netip.Addr{}, "the router does not accept IPv6 routes in this session; activate the address family there for this neighbour"
	case !h.v4.IsValid():
		h.note = "there is no next hop for IPv4 routes: the session's interface has no IPv4 address, and the router does not support extended next hops (RFC 8950)"
	case !h.v6.IsValid():
		h.note = "there is no next hop for IPv6 routes: the session's interface has no IPv6 address"
	}
	return h
}

func first(addrs ...netip.Addr) netip.Addr { return cmp.Or(addrs...) }

// siblingAddresses returns the other stable addresses of the interface that has local, without
// link-local ones.
func siblingAddresses(local netip.Addr) (out []netip.Addr, err error) {
	all, err := netif.Addresses()
	if err != nil {
		return nil, err
	}
	name := local.Zone()
	if i := slices.IndexFunc(all, func(a netif.Address) bool { return a.Addr == local }); i >= 0 {
		name = all[i].Interface
	}
	for _, a := range all {
		if a.Interface == name && a.Addr != local && a.Stable && a.IsGlobalUnicast() {
			out = append(out, a.Addr)
		}
	}
	return out, nil
}

// checkNotOwn refuses a peer that is this node itself: the next hop would be the router's own
// address, or 127.0.0.1, and routers ignore such routes.
func checkNotOwn(p *lb.BGPPeer) error {
	if !p.Address.IsValid() || p.NextHop4.IsValid() || p.NextHop6.IsValid() {
		return nil
	}
	own := p.Address.IsLoopback()
	if !own {
		all, err := netif.Addresses()
		if err != nil {
			return nil // the session reads the addresses too and reports the error
		}
		own = slices.ContainsFunc(all, func(a netif.Address) bool { return a.Addr == p.Address })
	}
	if !own {
		return nil
	}
	return &plainError{fmt.Sprintf("peerAddress %s is this node itself, so that a route would have the router's own address as its next hop; set peerAddress to an address of another machine, or exclude this node with nodeSelectors", p.Address)}
}
