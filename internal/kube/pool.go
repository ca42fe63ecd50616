package kube

import (
	"fmt"
	"net/netip"

	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Pool returns the IPAddressPool, parsed. The error names the field.
func Pool(p *v1alpha1.IPAddressPool) (lb.Pool, error) {
	ranges, err := config.PoolRanges(texts(p.Spec.Addresses), texts(p.Spec.Excludes))
	if err != nil {
		return lb.Pool{}, err
	}
	out := lb.Pool{
		Name:            p.Name,
		Created:         p.CreationTimestamp.Time,
		Ranges:          ranges,
		AutoAssign:      ptr.Deref(p.Spec.AutoAssign, true),
		AvoidBuggyIPs:   p.Spec.AvoidBuggyIPs,
		Disabled:        p.Spec.Disabled,
		Deleting:        p.DeletionTimestamp != nil,
		MaxPerNamespace: int(p.Spec.MaxPerNamespace),
		Sharing:         sharing(p.Spec.Sharing),
	}
	if a := p.Spec.ServiceAllocation; a != nil {
		out.Priority = int(a.Priority)
		for _, n := range a.Namespaces {
			out.Namespaces = append(out.Namespaces, string(n))
		}
		if out.NamespaceSelectors, err = selectors(a.NamespaceSelectors); err != nil {
			return lb.Pool{}, fmt.Errorf("spec.serviceAllocation.namespaceSelectors%w", err)
		}
		if out.ServiceSelectors, err = selectors(a.ServiceSelectors); err != nil {
			return lb.Pool{}, fmt.Errorf("spec.serviceAllocation.serviceSelectors%w", err)
		}
	}
	return out, nil
}

func sharing(s v1alpha1.SharingPolicy) lb.Sharing {
	switch s {
	case v1alpha1.SharingCluster:
		return lb.SharingCluster
	case v1alpha1.SharingNever:
		return lb.SharingNever
	default:
		return lb.SharingNamespace
	}
}

// Retiring returns the addresses that are in use and no longer in the pool's
// spec, as its status has them.
func Retiring(p *v1alpha1.IPAddressPool) []netip.Addr {
	var out []netip.Addr
	for _, r := range p.Status.Retiring {
		if a, err := config.Address(r.Address); err == nil {
			out = append(out, a)
		}
	}
	return out
}

func texts[S ~string](in []S) []string {
	out := make([]string, len(in))
	for i, s := range in {
		out[i] = string(s)
	}
	return out
}
