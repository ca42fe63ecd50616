// Package netif tells which of the host's interfaces can announce addresses,
// and when that changes.
//
// It is the only package that speaks netlink.
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
	// Prefixes are its own addresses with the lengths of their subnets, without link-local
	// ones. One of a single address (/32, /128) has no subnet.
	Prefixes []netip.Prefix `json:"p,omitempty"`
	OnLink   []netip.Prefix `json:"o,omitempty"` // other networks that the host has a route to without a gateway; sorted
	Uplink   []lb.Family    `json:"r,omitempty"` // for which the default route leaves by it
	Gateways []netip.Addr   `json:"-"`           // of these routes, sorted; other nodes need not know
	Internal bool           `json:"c,omitempty"` // it leads to containers or into a tunnel
	Up       bool           `json:"u,omitempty"` // administratively and by carrier
	Fails    []lb.Family    `json:"x,omitempty"` // for which the speaker could not open it
}

// Subnets yields the networks whose hosts are reached on the interface directly, masked.
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

// Single returns its addresses of the family, if there are any and the host knows no subnet
// of the family there; nil otherwise.
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

// Address is one that the host has.
type Address struct {
	netip.Addr
	Interface string
	// Lasting says that it can be told to others: it is not tentative, refused as a
	// duplicate, deprecated, or temporary (RFC 4862, RFC 8981).
	Lasting bool
}

// Held is where the host has an address.
type Held struct {
	Interface string
	Bits      int // length of the address's subnet
}

// Host is what the kernel says of the host's network, by names of interfaces.
type Host struct {
	Held         map[netip.Addr]Held // addresses that the host has
	DefaultRoute map[string]bool     // interfaces by which IPv4 leaves for what is in no other route
	Suppressing  map[string][]string // bridge -> ports by which gratuitous ARP does not leave: neigh_suppress (bridge(8))
}
