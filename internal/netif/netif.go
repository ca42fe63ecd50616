// Package netif lists the host's interfaces that can announce addresses, and notifies
// callers of changes.
//
// No other package uses netlink.
package netif

import (
	"net/netip"
	"path"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Interface is a network interface that can carry ARP and NDP.
type Interface struct {
	Name  string `json:"n"`
	Index int    `json:"-"`           // meaningful on this host only
	MAC   string `json:"m,omitempty"` // "02:00:00:00:00:01"
	// Prefixes are the interface's addresses with the lengths of their subnets, without
	// link-local ones. A prefix of one address (/32, /128) has no subnet.
	Prefixes []netip.Prefix `json:"p,omitempty"`
	OnLink   []netip.Prefix `json:"o,omitempty"` // other networks that the host has a route to without a gateway; sorted
	Uplink   []lb.Family    `json:"r,omitempty"` // families whose default route leaves by the interface
	Gateways []netip.Addr   `json:"-"`           // of these routes, sorted; not needed by other nodes
	Internal bool           `json:"c,omitempty"` // the interface leads to containers or into a tunnel
	Up       bool           `json:"u,omitempty"` // administratively and by carrier
	Fails    []lb.Family    `json:"x,omitempty"` // families for which the speaker could not open the interface
}

// Subnets yields the networks, masked, whose hosts are on the interface's link.
func (i Interface) Subnets(yield func(netip.Prefix) bool) {
	for _, p := range i.Prefixes {
		if !p.IsSingleIP() && !yield(p.Masked()) {
			return
		}
	}
	for _, p := range i.OnLink {
		if !yield(p) {
			return
		}
	}
}

// Has reports whether addr is in one of the interface's subnets.
func (i Interface) Has(addr netip.Addr) bool {
	for p := range i.Subnets {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// Single returns the interface's addresses of the family if the host has no subnet of the
// family on the interface; nil otherwise.
func (i Interface) Single(f lb.Family) (out []netip.Addr) {
	if slices.ContainsFunc(i.OnLink, func(p netip.Prefix) bool { return lb.FamilyOf(p.Addr()) == f }) {
		return nil
	}
	for _, p := range i.Prefixes {
		switch {
		case lb.FamilyOf(p.Addr()) != f:
		case p.IsSingleIP():
			out = append(out, p.Addr())
		default:
			return nil
		}
	}
	return out
}

// Holds reports whether addr is one of the interface's own addresses.
func (i Interface) Holds(addr netip.Addr) bool {
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// Equal reports whether the interfaces are the same in every respect.
func (i Interface) Equal(o Interface) bool {
	return i.Name == o.Name && i.Index == o.Index && i.MAC == o.MAC && i.Up == o.Up && i.Internal == o.Internal &&
		slices.Equal(i.Prefixes, o.Prefixes) && slices.Equal(i.OnLink, o.OnLink) && slices.Equal(i.Uplink, o.Uplink) &&
		slices.Equal(i.Gateways, o.Gateways) && slices.Equal(i.Fails, o.Fails)
}

// MatchesAny reports whether the interface's name is one of the names or globs
// (path.Match). A malformed glob matches nothing.
func (i Interface) MatchesAny(globs []string) bool {
	return slices.ContainsFunc(globs, func(g string) bool {
		ok, err := path.Match(g, i.Name)
		return ok && err == nil
	})
}

// Address is an address of the host.
type Address struct {
	netip.Addr
	Interface string
	// Stable says that the address may be advertised: it is not tentative, a detected
	// duplicate, deprecated or temporary (RFC 4862, RFC 8981).
	Stable bool
}

// Held is the interface and the prefix length of an address of the host.
type Held struct {
	Interface string
	Bits      int // length of the address's subnet
}

// Host is the host's network configuration, by names of interfaces.
type Host struct {
	Held         map[netip.Addr]Held // addresses of the host
	DefaultRoute map[string]bool     // interfaces of IPv4 default routes
	Suppressing  map[string][]string // bridge -> ports with neigh_suppress (bridge(8)), which do not forward gratuitous ARP
}
