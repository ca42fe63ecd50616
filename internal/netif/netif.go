// Package netif tells which of the host's interfaces can announce addresses,
// and when that changes.
//
// It is the only package that speaks netlink.
package netif

import (
	"net/netip"
	"path"
	"slices"

	"github.com/fairlead/fairlead/internal/lb"
)

// Interface is a network interface that can carry ARP and NDP.
type Interface struct {
	Name     string         `json:"n"`
	Index    int            `json:"-"`           // meaningful on this host only
	MAC      string         `json:"m,omitempty"` // "02:00:00:00:00:01"
	Prefixes []netip.Prefix `json:"p,omitempty"` // own addresses with their subnets' lengths
	Up       bool           `json:"u,omitempty"` // administratively and by carrier
	Fails    []lb.Family    `json:"x,omitempty"` // for which the speaker could not open it
}

// Has reports whether addr is in one of the interface's subnets.
func (i Interface) Has(addr netip.Addr) bool {
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// Holds reports whether addr is one of the interface's own addresses.
func (i Interface) Holds(addr netip.Addr) bool {
	return slices.ContainsFunc(i.Prefixes, func(p netip.Prefix) bool { return p.Addr() == addr })
}

// Equal reports whether the interfaces are the same in every respect.
func (i Interface) Equal(o Interface) bool {
	return i.Name == o.Name && i.Index == o.Index && i.MAC == o.MAC && i.Up == o.Up && slices.Equal(i.Prefixes, o.Prefixes) && slices.Equal(i.Fails, o.Fails)
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

// Host is what the kernel says of the host's network, by names of interfaces.
type Host struct {
	Held         map[netip.Addr]string // addresses that the host has, and on which interface
	DefaultRoute map[string]bool       // interfaces by which IPv4 leaves for what is in no other route
	Suppressing  map[string][]string   // bridge -> ports by which gratuitous ARP does not leave: neigh_suppress (bridge(8))
}
