package kube

import (
	"fmt"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// L2Advertisement returns the advertisement, parsed, with the pools that it
// chooses by label resolved to names. The error names the field.
func L2Advertisement(a *v1alpha1.L2Advertisement, pools []v1alpha1.IPAddressPool) (lb.L2Advertisement, error) {
	in, err := scope(pools, texts(a.Spec.IPAddressPools), a.Spec.IPAddressPoolSelectors, a.Spec.ServiceSelectors, a.Spec.NodeSelectors)
	out := lb.L2Advertisement{Name: a.Name, Scope: in, Interfaces: texts(a.Spec.Interfaces)}
	if err != nil {
		return out, err
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
