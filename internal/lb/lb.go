package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// ServiceKey names a Kubernetes Service.
type ServiceKey struct {
	Namespace string
	Name      string
}

// String returns "namespace/name".
func (k ServiceKey) String() string { return k.Namespace + "/" + k.Name }

// Compare orders keys by namespace, then name.
func (k ServiceKey) Compare(o ServiceKey) int {
	return cmp.Or(cmp.Compare(k.Namespace, o.Namespace), cmp.Compare(k.Name, o.Name))
}

// Family is an IP address family. The zero Family is not one.
type Family uint8

// The two address families.
const (
	IPv4 Family = iota + 1
	IPv6
)

// FamilyOf returns the family of a, which must be valid and unmapped.
func FamilyOf(a netip.Addr) Family {
	if a.Is4() {
		return IPv4
	}
	return IPv6
}

// String returns "IPv4" or "IPv6", the names Kubernetes uses.
func (f Family) String() string {
	switch f {
	case IPv4:
		return "IPv4"
	case IPv6:
		return "IPv6"
	default:
		return fmt.Sprintf("Family(%d)", uint8(f))
	}
}

// Range is the addresses From to To, both included and of one family.
type Range struct {
	From, To netip.Addr
}

// Contains reports whether a is in the range.
func (r Range) Contains(a netip.Addr) bool {
	return a.BitLen() == r.From.BitLen() && r.From.Compare(a) <= 0 && a.Compare(r.To) <= 0
}

// Overlaps reports whether the ranges have an address in common.
func (r Range) Overlaps(o Range) bool {
	return r.From.BitLen() == o.From.BitLen() && r.From.Compare(o.To) <= 0 && o.From.Compare(r.To) <= 0
}

// String returns "first-last", or the one address of a range of one.
func (r Range) String() string {
	if r.From == r.To {
		return r.From.String()
	}
	return r.From.String() + "-" + r.To.String()
}

// Pool is an IPAddressPool, parsed.
type Pool struct {
	Name    string
	Created time.Time // breaks ties between overlapping pools: the older goes on

	// Ranges is what the pool may give: sorted, disjoint, excludes taken out.
	Ranges []Range

	AutoAssign    bool // gives addresses to Services that did not name the pool
	AvoidBuggyIPs bool // never gives an IPv4 address ending in .0 or .255
	Disabled      bool // keeps what is assigned, gives nothing new
	Deleting      bool // like Disabled, until the last address is back

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

// Request is what a Service asks for.
type Request struct {
	Service         ServiceKey
	Created         time.Time // waiting Services are served in this order
	Labels          map[string]string
	NamespaceLabels map[string]string

	// Families are the families wanted, the first one first. RequireAll says
	// that some of them are not enough (RequireDualStack and SingleStack).
	Families   []Family
	RequireAll bool

	Pool      string       // the only pool to take from; "" for any that fits
	Addresses []netip.Addr // the exact addresses wanted, at most one per family
}

// Exact returns the address that the request names for the family, if any.
func (r *Request) Exact(f Family) (netip.Addr, bool) {
	for _, a := range r.Addresses {
		if FamilyOf(a) == f {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// Grant is one address of a Service and the pool it is from.
type Grant struct {
	Addr netip.Addr
	Pool string
}

// Refusal says why a pool did not give an address of a family.
type Refusal struct {
	Pool   string // "" when no one pool refused, as with ReasonNoPool
	Family Family
	Reason Reason
	Detail string // what the reason's text needs: the other Service, the count
}

// String returns a phrase such as `pool "a": no free IPv4 address (50 in use)`.
func (r Refusal) String() string {
	s := r.Reason.text(r.Family)
	if r.Detail != "" {
		s += " (" + r.Detail + ")"
	}
	if r.Pool == "" {
		return s
	}
	return fmt.Sprintf("pool %q: %s", r.Pool, s)
}

// Decision is the allocator's answer to a Request: what the Service has, and
// for each family that it lacks every pool considered and why it refused.
type Decision struct {
	Grants   []Grant
	Refusals []Refusal
	Asked    []netip.Addr // the exact addresses that the request named
	// Met says that the Service has what it must have. A second family that is
	// only preferred may be missing still.
	Met bool
}

// Complete reports whether nothing that was asked for is missing.
func (d Decision) Complete() bool { return len(d.Refusals) == 0 }

// Addresses returns the granted addresses in the order of the request.
func (d Decision) Addresses() []netip.Addr {
	as := make([]netip.Addr, len(d.Grants))
	for i, g := range d.Grants {
		as[i] = g.Addr
	}
	return as
}

// Reason returns the reason to show: ReasonAssigned when the request is
// met, else the one that all refusals have, or ReasonNoPoolFits when they differ.
func (d Decision) Reason() Reason {
	if d.Met {
		return ReasonAssigned
	}
	reason := d.Refusals[0].Reason
	for _, r := range d.Refusals {
		if r.Reason != reason {
			return ReasonNoPoolFits
		}
	}
	return reason
}

// String tells the decision in one line for a person, the same for the same
// decision.
func (d Decision) String() string {
	var parts []string
	for _, g := range d.Grants {
		parts = append(parts, fmt.Sprintf("%s from pool %q", g.Addr, g.Pool))
	}
	if len(d.Refusals) > 0 {
		head := "no address"
		if len(d.Asked) > 0 {
			head = "cannot give " + joinAddrs(d.Asked)
		} else if len(d.Grants) > 0 {
			head = fmt.Sprintf("no %s address", d.Refusals[0].Family)
		}
		var why []string
		for _, r := range d.Refusals {
			if text := r.String(); !slices.Contains(why, text) { // some are the same for both families
				why = append(why, text)
			}
		}
		parts = append(parts, head+": "+strings.Join(why, "; "))
	}
	return strings.Join(parts, ", ")
}

func joinAddrs(as []netip.Addr) string {
	s := make([]string, len(as))
	for i, a := range as {
		s[i] = a.String()
	}
	return strings.Join(s, ", ")
}

// TrafficPolicy is a Service's externalTrafficPolicy. The zero value is none.
type TrafficPolicy uint8

// The two traffic policies.
const (
	TrafficCluster TrafficPolicy = iota + 1 // any node forwards to any endpoint
	TrafficLocal                            // a node serves its own endpoints only
)

// String returns "Cluster" or "Local".
func (p TrafficPolicy) String() string {
	switch p {
	case TrafficCluster:
		return "Cluster"
	case TrafficLocal:
		return "Local"
	default:
		return fmt.Sprintf("TrafficPolicy(%d)", uint8(p))
	}
}

// Assignment is a Service with addresses that speakers are to announce.
type Assignment struct {
	Service ServiceKey
	Labels  map[string]string
	Grants  []Grant
	Policy  TrafficPolicy
	// ReadyNodes are the nodes with an endpoint that may get traffic, sorted.
	ReadyNodes []string
}

// Node is a Kubernetes node as a place to announce from.
type Node struct {
	Name   string
	Labels map[string]string
	// Avoid are the reasons to prefer other nodes. They are soft: when every
	// node that can announce has one, those nodes announce all the same.
	Avoid []Reason
}

// L2Advertisement says which addresses are announced at layer 2, and where.
type L2Advertisement struct {
	Name string
	// AllPools or Pools say whose addresses are announced: pools chosen by
	// label are among the names.
	AllPools bool
	Pools    []string
	// Empty lists of selectors do not narrow.
	ServiceSelectors []Selector
	NodeSelectors    []Selector
	Preferred        []Preference
	Interfaces       []string // names or globs; empty: those in the address's subnet
}

// Preference gives the nodes that it selects a weight, 1 to 100.
type Preference struct {
	Weight   int
	Selector Selector
}

// Selects reports whether the advertisement is for this grant of a Service with
// these labels.
func (a *L2Advertisement) Selects(g Grant, labels map[string]string) bool {
	return (a.AllPools || slices.Contains(a.Pools, g.Pool)) &&
		(len(a.ServiceSelectors) == 0 || MatchesAny(a.ServiceSelectors, labels))
}

// SelectsNode reports whether the advertisement lets the node announce.
func (a *L2Advertisement) SelectsNode(n Node) bool {
	return len(a.NodeSelectors) == 0 || MatchesAny(a.NodeSelectors, n.Labels)
}

// L2Announcement is an address that a node answers ARP or NDP for.
type L2Announcement struct {
	Addr       netip.Addr
	Interfaces []string // sorted names of the node's interfaces that answer
}
