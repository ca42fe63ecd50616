package bgp

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/lb"
)

// nextHops are what routes point to in one session; not valid: routes of that
// family cannot be announced in it.
type nextHops struct {
	v4, v6 netip.Addr // v4: of IPv4 routes, and an IPv6 address with RFC 8950
	// note says why a family cannot be announced.
	note string
}

func (h nextHops) of(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		return h.v4
	}
	return h.v6
}

// nextHopsOf decides what routes point to: always an address of this node, best
// that of the session. neighbours are the other addresses of the session's
// interface.
func nextHopsOf(p *lb.BGPPeer, local netip.Addr, o opening, neighbours []netip.Addr) nextHops {
	other := func(is func(netip.Addr) bool) netip.Addr {
		if i := slices.IndexFunc(neighbours, is); i >= 0 {
			return neighbours[i]
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
			h.v4 = local // the router asks for it
		}
	}
	switch {
	case !o.ipv4:
		h.v4, h.note = netip.Addr{}, "the router takes no IPv4 routes in this session; activate the address family there for this neighbour"
	case !o.ipv6:
		h.v6, h.note = netip.Addr{}, "the router takes no IPv6 routes in this session; activate the address family there for this neighbour"
	case !h.v4.IsValid():
		h.note = "there is no next hop for IPv4 routes: the session's interface has no IPv4 address, and the router has no extended next hops (RFC 8950)"
	case !h.v6.IsValid():
		h.note = "there is no next hop for IPv6 routes: the session's interface has no IPv6 address"
	}
	return h
}

func first(addrs ...netip.Addr) netip.Addr { return cmp.Or(addrs...) }

// neighboursOf returns the addresses of the interface that has local, without
// local and link-local ones.
func neighboursOf(local netip.Addr) ([]netip.Addr, error) {
	interfaces, err := net.Interfaces()
	if err != nil {
		return nil, fmt.Errorf("list interfaces: %w", err)
	}
	for _, i := range interfaces {
		prefixes, err := i.Addrs()
		if err != nil {
			continue // it went away
		}
		var addrs []netip.Addr
		has := i.Name == local.Zone()
		for _, a := range prefixes {
			p, err := netip.ParsePrefix(a.String())
			if err != nil {
				continue
			}
			addr := p.Addr().Unmap()
			has = has || addr == local
			if addr != local && addr.IsGlobalUnicast() {
				addrs = append(addrs, addr)
			}
		}
		if has {
			return addrs, nil
		}
	}
	return nil, nil
}
