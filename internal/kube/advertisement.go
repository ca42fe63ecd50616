package kube

import (
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/lb"
)

// L2Advertisement returns the advertisement, parsed, with the pools that it
// chooses by label resolved to names. The error names the field.
func L2Advertisement(a *v1alpha1.L2Advertisement, pools []v1alpha1.IPAddressPool) (lb.L2Advertisement, error) {
	out := lb.L2Advertisement{Name: a.Name, Pools: texts(a.Spec.IPAddressPools), Interfaces: texts(a.Spec.Interfaces)}
	out.AllPools = len(a.Spec.IPAddressPools)+len(a.Spec.IPAddressPoolSelectors) == 0
	bySelector, err := selectors(a.Spec.IPAddressPoolSelectors)
	if err != nil {
		return out, fmt.Errorf("spec.ipAddressPoolSelectors%w", err)
	}
	for _, p := range pools {
		if lb.MatchesAny(bySelector, p.Labels) {
			out.Pools = append(out.Pools, p.Name)
		}
	}
	slices.Sort(out.Pools)
	out.Pools = slices.Compact(out.Pools)
	if out.ServiceSelectors, err = selectors(a.Spec.ServiceSelectors); err != nil {
		return out, fmt.Errorf("spec.serviceSelectors%w", err)
	}
	if out.NodeSelectors, err = selectors(a.Spec.NodeSelectors); err != nil {
		return out, fmt.Errorf("spec.nodeSelectors%w", err)
	}
	for i, p := range a.Spec.PreferredNodeSelectors {
		s, err := selector(&p.Preference)
		if err != nil {
			return out, fmt.Errorf("spec.preferredNodeSelectors[%d].preference%w", i, err)
		}
		out.Preferred = append(out.Preferred, lb.Preference{Weight: int(p.Weight), Selector: s})
	}
	return out, nil
}
