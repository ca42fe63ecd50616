package lb

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
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

// HolderKind is a kind of Holder. The zero HolderKind is none.
type HolderKind uint8

// The kinds of holder.
const (
	KindService HolderKind = iota + 1
	KindClaim
)

// String returns the kind as Kubernetes writes it.
func (k HolderKind) String() string { return [...]string{"", "Service", "IPAddressClaim"}[k] }

// Holder is what can have addresses: a Service, or an IPAddressClaim, which
// keeps them for one.
type Holder struct {
	Kind            HolderKind
	Namespace, Name string
}

// Holder returns the Service as one that can have addresses.
func (k ServiceKey) Holder() Holder { return Holder{KindService, k.Namespace, k.Name} }

// Claim returns the IPAddressClaim of this name.
func Claim(namespace, name string) Holder { return Holder{KindClaim, namespace, name} }

// String returns "namespace/name" of a Service and "IPAddressClaim
// namespace/name" of a claim.
func (h Holder) String() string {
	name := h.Namespace + "/" + h.Name
	if h.Kind == KindClaim {
		return "IPAddressClaim " + name
	}
	return name
}

// Compare orders holders by namespace, then name, then kind.
func (h Holder) Compare(o Holder) int {
	return cmp.Or(cmp.Compare(h.Namespace, o.Namespace), cmp.Compare(h.Name, o.Name), cmp.Compare(h.Kind, o.Kind))
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
	Labels  Labels
	Grants  []Grant
	Policy  TrafficPolicy
	Ready   ReadyNodes
}

// ReadyNodes are, for each address family, the nodes with an endpoint that may get
// traffic, sorted. The endpoints of one family say nothing about the other: kube-proxy
// forwards IPv6 traffic to IPv6 endpoints only. With TrafficCluster it is enough that
// there is one: AnyNode may stand for them.
type ReadyNodes struct{ IPv4, IPv6 []string }

// Of returns the nodes of one family.
func (r ReadyNodes) Of(f Family) []string {
	switch f {
	case IPv4:
		return r.IPv4
	case IPv6:
		return r.IPv6
	default:
		return nil
	}
}

// Set makes nodes those of one family. A family that is neither IPv4 nor IPv6 is ignored.
func (r *ReadyNodes) Set(f Family, nodes []string) {
	switch f {
	case IPv4:
		r.IPv4 = nodes
	case IPv6:
		r.IPv6 = nodes
	}
}

// Equal reports whether the nodes of both families are the same.
func (r ReadyNodes) Equal(o ReadyNodes) bool {
	return slices.Equal(r.IPv4, o.IPv4) && slices.Equal(r.IPv6, o.IPv6)
}

// AnyNode stands for nodes where it does not matter which they are.
const AnyNode = "*"

// Node is a Kubernetes node as a place to announce from.
type Node struct {
	Name   string
	Labels Labels
	// Avoid are the reasons to prefer other nodes. They are soft: when every
	// node that can announce has one, those nodes announce all the same.
	Avoid []Reason
}

// L2Advertisement says which addresses are announced at layer 2, and where.
type L2Advertisement struct {
	Name string
	Scope
	Preferred  []Preference
	Interfaces []string // names or globs; empty: those in the address's subnet
}

// Preference gives the nodes that it selects a weight, 1 to 100.
type Preference struct {
	Weight   int
	Selector Selector
}

// L2Announcement is an address that a node answers ARP or NDP for.
type L2Announcement struct {
	Addr       netip.Addr
	Interfaces []string // sorted names of the node's interfaces that answer
	// Probe says that the address is new to the network: before it is answered
	// for, the network is asked whether a foreign host has it.
	Probe bool
}
