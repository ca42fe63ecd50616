package ui

import (
	"net/netip"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/explain"
)

// strange returns addresses that no Service or claim of ours has, and that are not to
// be given all the same: nodes' own, those of other controllers' Services, and
// those that foreign hosts have.
func strange(c *cluster.Cluster) (out []Address) {
	for text, heard := range c.View.Conflicts {
		if a, err := netip.ParseAddr(text); err == nil && len(c.Users[a]) == 0 {
			out = append(out, Address{Address: a, State: Conflict, Why: foreign(heard[0].MAC, heard[0].Node)})
		}
	}
	for _, a := range suspects(c) {
		if r := explain.Address(c, a); r.State == explain.NotOurs {
			out = append(out, Address{Address: a, State: Withheld, Services: r.Services, Why: r.Cause})
		}
	}
	return out
}

// suspects are addresses of pools that may be somebody's who is none of ours.
func suspects(c *cluster.Cluster) (out []netip.Addr) {
	add := func(list []netip.Addr) {
		for _, a := range list {
			if _, pooled := c.PoolSet.Of(a); pooled && len(c.Users[a]) == 0 {
				out = append(out, a)
			}
		}
	}
	for i := range c.Nodes {
		add(kube.InternalIPs(&c.Nodes[i]))
	}
	for i := range c.Services {
		if !c.Class.Handles(&c.Services[i]) {
			add(kube.IngressAddresses(&c.Services[i]))
		}
	}
	return out
}
