package kube

import (
	"fmt"
	"net/netip"
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// ClaimHolder returns the claim as one that can have addresses.
func ClaimHolder(c *v1alpha1.IPAddressClaim) lb.Holder { return lb.Claim(c.Namespace, c.Name) }

// ClaimRequest returns what the claim asks for. A pool's serviceSelectors are held
// against the claim's own labels. The error names the field that cannot be
// understood.
func ClaimRequest(c *v1alpha1.IPAddressClaim, namespaceLabels map[string]string) (lb.Request, error) {
	r := lb.Request{
		Holder:          ClaimHolder(c),
		Created:         c.CreationTimestamp.Time,
		Labels:          lb.LabelsOf(c.Labels),
		NamespaceLabels: lb.LabelsOf(namespaceLabels),
		RequireAll:      true,
		Pool:            string(c.Spec.Pool),
		Deleting:        c.DeletionTimestamp != nil,
	}
	for _, f := range c.Spec.Families {
		r.Families = append(r.Families, family(string(f)))
	}
	for i, s := range c.Spec.Addresses {
		a, err := config.Address(string(s))
		if err != nil {
			return r, fmt.Errorf("spec.addresses[%d]: %w", i, err)
		}
		r.Addresses = append(r.Addresses, a)
		if f := lb.FamilyOf(a); len(c.Spec.Families) == 0 && !slices.Contains(r.Families, f) {
			r.Families = append(r.Families, f)
		}
	}
	if len(r.Families) == 0 {
		r.Families = []lb.Family{lb.IPv4}
	}
	return r, nil
}

// ClaimAddresses returns the addresses that the claim's status says it keeps, and
// their pools.
func ClaimAddresses(c *v1alpha1.IPAddressClaim) (addrs []netip.Addr, pools map[netip.Addr]string) {
	for _, s := range c.Status.Addresses {
		if a, err := config.Address(s); err == nil {
			addrs = append(addrs, a)
		}
	}
	switch r := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady); {
	case len(c.Status.Pools) > 0:
		pools = map[netip.Addr]string{}
		for i, a := range addrs {
			pools[a] = c.Status.Pools[min(i, len(c.Status.Pools)-1)]
		}
	case r != nil:
		pools = poolsInMessage(r.Message)
	}
	return addrs, pools
}
