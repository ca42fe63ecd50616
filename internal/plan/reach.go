package plan

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// chosen reports whether the advertisement has the address announced on an interface, which
// is one of own, those of a node: on those that it names, else on those where hosts ask for
// the address by ARP or NDP. subnets are those of the live nodes that have the address.
func chosen(i netif.Interface, a *lb.L2Advertisement, own []netif.Interface, addr netip.Addr, subnets []netip.Prefix) bool {
	if len(a.Interfaces) > 0 {
		return i.MatchesAny(a.Interfaces)
	}
	return !i.Internal && (i.Has(addr) || uplinkReaches(i, own, addr, subnets))
}

// uplinkReaches reports whether the address can be announced on an interface that has no
// subnet for it to be in, but only single addresses (/32, /128): the node's uplink, unless the
// node has the address's subnet elsewhere. Where another node knows the subnet, the uplink is
// taken to be in it if its own address is. Where no node does, nothing tells what is beyond
// the uplink, except that private addresses are not reached over a public network, nor public
// ones over a private one.
func uplinkReaches(i netif.Interface, own []netif.Interface, addr netip.Addr, subnets []netip.Prefix) bool {
	f := lb.FamilyOf(addr)
	if !slices.Contains(i.Uplink, f) {
		return false
	}
	elsewhere := func(o netif.Interface) bool { return !o.Internal && o.Has(addr) }
	if slices.ContainsFunc(own, elsewhere) {
		return false
	}
	return slices.ContainsFunc(i.Single(f), func(single netip.Addr) bool {
		if len(subnets) == 0 {
			return private(single) == private(addr)
		}
		return slices.ContainsFunc(subnets, func(p netip.Prefix) bool { return p.Contains(single) })
	})
}

// shared is the address space between a provider and its customers (RFC 6598).
var shared = netip.MustParsePrefix("100.64.0.0/10")

// private reports whether the address is not of the public Internet (RFC 1918, RFC 4193,
// RFC 6598).
func private(a netip.Addr) bool { return a.IsPrivate() || shared.Contains(a) }

// bySubnet reports whether one of the advertisements names no interfaces.
func bySubnet(adverts []*lb.L2Advertisement) bool {
	return slices.ContainsFunc(adverts, func(a *lb.L2Advertisement) bool { return len(a.Interfaces) == 0 })
}

// InReach reports whether some node could announce the address without being told the
// interface, if its interfaces were up.
func (s *Snapshot) InReach(addr netip.Addr) bool {
	subnets, any := s.subnetsWith(addr), &lb.L2Advertisement{}
	for _, sp := range s.Speakers {
		for _, i := range sp.Interfaces {
			if chosen(i, any, sp.Interfaces, addr, subnets) {
				return true
			}
		}
	}
	return false
}

// subnetsWith returns the subnets of live nodes that have the address.
func (s *Snapshot) subnetsWith(addr netip.Addr) []netip.Prefix {
	return slices.DeleteFunc(s.Subnets(lb.FamilyOf(addr)), func(p netip.Prefix) bool { return !p.Contains(addr) })
}

// Subnets returns the subnets of the family in which live nodes can announce addresses
// without being told the interface, sorted.
func (s *Snapshot) Subnets(f lb.Family) []netip.Prefix {
	found := map[netip.Prefix]bool{}
	for _, sp := range s.Speakers {
		for _, i := range sp.Interfaces {
			if i.Internal {
				continue
			}
			for p := range i.Subnets {
				if lb.FamilyOf(p.Addr()) == f {
					found[p] = true
				}
			}
		}
	}
	return slices.SortedFunc(maps.Keys(found), netip.Prefix.Compare)
}
