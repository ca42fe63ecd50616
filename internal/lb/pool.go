package lb

import (
	"fmt"
	"net/netip"
	"slices"
	"time"
)

// Sharing is which Services a pool lets share an address. The zero Sharing is
// SharingNamespace, the API's default.
type Sharing uint8

// Who may share an address, given the same key and different ports.
const (
	SharingNamespace Sharing = iota // Services of one namespace
	SharingCluster                  // any Services
	SharingNever                    // nobody
)

// String returns the name that the API has for it.
func (s Sharing) String() string {
	switch s {
	case SharingNamespace:
		return "Namespace"
	case SharingCluster:
		return "Cluster"
	case SharingNever:
		return "Never"
	default:
		return fmt.Sprintf("Sharing(%d)", uint8(s))
	}
}

// Pool is an IPAddressPool, parsed.
type Pool struct {
	Name    string
	Created time.Time // breaks ties between overlapping pools: the older goes on

	// Ranges is what the pool may give: sorted, disjoint, excludes taken out.
	Ranges []Range

	AutoAssign      bool // gives addresses to Services that did not name the pool
	AvoidBuggyIPs   bool // never gives an IPv4 address ending in .0 or .255
	Disabled        bool // keeps what is assigned, gives nothing new
	Deleting        bool // like Disabled, until the last address is back
	MaxPerNamespace int  // addresses that one namespace can have; 0 is no limit
	Sharing         Sharing

	// Priority is 1 for the pool asked first; 0 is asked last.
	Priority int
	// Namespaces and the selectors narrow who may take an address. Empty lists
	// do not narrow; where both name namespaces, either admits one.
	Namespaces         []string
	NamespaceSelectors []Selector
	ServiceSelectors   []Selector
}

// Contains reports whether a is in the pool's ranges.
func (p *Pool) Contains(a netip.Addr) bool {
	i, found := slices.BinarySearchFunc(p.Ranges, a, func(r Range, a netip.Addr) int { return r.From.Compare(a) })
	return found || i > 0 && p.Ranges[i-1].Contains(a)
}

// Buggy reports whether a ends in .0 or .255, which some old clients take for
// a network or broadcast address of the class C network around it.
func Buggy(a netip.Addr) bool {
	if !a.Is4() {
		return false
	}
	last := a.As4()[3]
	return last == 0 || last == 255
}
