package kube

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/allocator"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// PoolSet tells whose an address is.
type PoolSet struct {
	pools    []lb.Pool // active ones before those that overlap one
	retiring map[netip.Addr]string
}

// NewPoolSet returns the pools that parse, and what their status says is
// retiring. Pools that do not parse have no addresses but retiring ones.
func NewPoolSet(pools []v1alpha1.IPAddressPool) PoolSet {
	s := PoolSet{retiring: map[netip.Addr]string{}}
	for i := range pools {
		for _, a := range Retiring(&pools[i]) {
			s.retiring[a] = pools[i].Name
		}
		if p, err := Pool(&pools[i]); err == nil {
			s.pools = append(s.pools, p)
		}
	}
	overlaps := allocator.Overlaps(s.pools)
	slices.SortStableFunc(s.pools, func(x, y lb.Pool) int {
		return cmp.Or(cmp.Compare(overlaps[x.Name], overlaps[y.Name]), cmp.Compare(x.Name, y.Name))
	})
	return s
}

// Of returns the name of the pool that has the address: the active one whose
// spec does, else another whose spec does, else the one that it is retiring from.
func (s PoolSet) Of(a netip.Addr) (string, bool) {
	if name, ok := s.Holder(a); ok {
		return name, true
	}
	name, ok := s.retiring[a]
	return name, ok
}

// OfService returns the name of the pool that has an address of the Service's status: as
// Of, else the one that is recorded on the Service.
func (s PoolSet) OfService(svc *corev1.Service, a netip.Addr) (string, bool) {
	if name, ok := s.Of(a); ok {
		return name, true
	}
	name, ok := RecordedPools(svc)[a]
	return name, ok
}

// Holder returns the name of the pool whose spec has the address: the active one
// before another.
func (s PoolSet) Holder(a netip.Addr) (string, bool) {
	for i := range s.pools {
		if s.pools[i].Contains(a) {
			return s.pools[i].Name, true
		}
	}
	return "", false
}

// Assignment returns what speakers are to do for the Service: the addresses in
// its status that are from our pools, or were when they were assigned.
func Assignment(svc *corev1.Service, endpoints []discoveryv1.EndpointSlice, pools PoolSet) lb.Assignment {
	out := lb.Assignment{
		Service: Key(svc),
		Labels:  lb.LabelsOf(svc.Labels),
		Policy:  TrafficPolicy(svc),
		Ready:   ReadyNodes(endpoints),
	}
	for _, a := range IngressAddresses(svc) {
		if name, ok := pools.OfService(svc, a); ok {
			out.Grants = append(out.Grants, lb.Grant{Addr: a, Pool: name})
		}
	}
	return out
}

// ReadyNodes returns, for each address family, the sorted names of the nodes with an
// endpoint that may get traffic: those ready and, only where none of the family is ready
// anywhere, those that still serve while they terminate (KEP-1669). An endpoint outside
// of the cluster has no node and counts under the name "".
func ReadyNodes(endpoints []discoveryv1.EndpointSlice) lb.ReadyNodes {
	each := make([]EndpointNodes, len(endpoints))
	for i := range endpoints {
		each[i] = Endpoints(&endpoints[i])
	}
	return MayGetTraffic(each)
}

// EndpointNodes is what matters of an EndpointSlice: its address family, and the nodes,
// sorted, that have an endpoint which is ready, or which still serves while it
// terminates. Family is 0 for a slice without IP addresses (addressType FQDN), which
// kube-proxy ignores.
type EndpointNodes struct {
	Family         lb.Family
	Ready, Serving []string
}

// Endpoints returns what matters of the EndpointSlice.
func Endpoints(s *discoveryv1.EndpointSlice) EndpointNodes {
	var out EndpointNodes
	switch s.AddressType {
	case discoveryv1.AddressTypeIPv4:
		out.Family = lb.IPv4
	case discoveryv1.AddressTypeIPv6:
		out.Family = lb.IPv6
	default:
		return out
	}
	for i := range s.Endpoints {
		e := &s.Endpoints[i]
		node := ptr.Deref(e.NodeName, "")
		switch {
		case ptr.Deref(e.Conditions.Ready, true):
			out.Ready = append(out.Ready, node)
		case ptr.Deref(e.Conditions.Serving, false) && ptr.Deref(e.Conditions.Terminating, false):
			out.Serving = append(out.Serving, node)
		}
	}
	out.Ready, out.Serving = sorted(out.Ready), sorted(out.Serving)
	return out
}

// MayGetTraffic is as ReadyNodes, of the EndpointSlices of one Service.
func MayGetTraffic(endpoints []EndpointNodes) (out lb.ReadyNodes) {
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		var ready, serving []string
		for _, e := range endpoints {
			if e.Family == f {
				ready, serving = append(ready, e.Ready...), append(serving, e.Serving...)
			}
		}
		if len(ready) == 0 {
			ready = serving
		}
		out.Set(f, sorted(ready))
	}
	return out
}

// sorted sorts names and leaves each once, in place.
func sorted(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}
