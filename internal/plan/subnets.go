package plan

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// onePerSubnet returns those of the interfaces of this node, sorted by name, on which it
// announces the address: one of those in the same subnet. Neighbours keep the MAC of
// whichever answers, and would go on with it when that interface loses its cable. The
// interface stays while it can serve, so that a flapping cable moves nothing; otherwise it
// is the first by name.
//
// Interfaces that are pinned are used in any case.
func (s *Snapshot) onePerSubnet(names []string, pinned map[string]bool, addr netip.Addr) []string {
	if len(names) < 2 {
		return names
	}
	interfaces := map[string]netif.Interface{}
	for _, i := range s.Speakers[s.Node].Interfaces {
		interfaces[i.Name] = i
	}
	rank := func(name string) int {
		switch {
		case pinned[name]:
			return 0
		case slices.Contains(s.AnnouncedOn[addr], name):
			return 1
		default:
			return 2
		}
	}
	byRank := slices.Clone(names)
	slices.SortStableFunc(byRank, func(x, y string) int { return rank(x) - rank(y) })
	var kept []string
	for _, name := range byRank {
		taken := slices.ContainsFunc(kept, func(k string) bool { return sameSubnet(interfaces[k], interfaces[name]) })
		if pinned[name] || !taken {
			kept = append(kept, name)
		}
	}
	slices.Sort(kept)
	return kept
}

// sameSubnet reports whether both interfaces are in one subnet, and so in one broadcast
// domain, as far as can be known.
func sameSubnet(x, y netif.Interface) bool {
	for p := range x.Subnets {
		for q := range y.Subnets {
			if p == q {
				return true
			}
		}
	}
	return false
}

// pinned returns the interfaces that an advertisement for the node names together with
// others, each by its full name: who does so says that they are separate networks, even
// where they have one prefix. A pattern says no such thing.
func pinned(adverts []*lb.L2Advertisement, node lb.Node) map[string]bool {
	var out map[string]bool
	for _, a := range adverts {
		full := slices.DeleteFunc(slices.Clone(a.Interfaces), func(i string) bool { return strings.ContainsAny(i, `*?[\`) })
		if len(full) < 2 || !a.SelectsNode(node.Labels) {
			continue
		}
		for _, name := range full {
			if out == nil {
				out = map[string]bool{}
			}
			out[name] = true
		}
	}
	return out
}
