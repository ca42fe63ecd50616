package doctor

import (
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
)

// advertisements finds those that no node can heed: each of their fields is fine, and
// nothing in the cluster is like that.
func advertisements(c *cluster.Cluster) (out []Finding) {
	for i := range c.View.Advertisements {
		a := &c.View.Advertisements[i]
		about := "L2Advertisement " + a.Name
		switch names := interfaceNames(c); {
		case !choosesNode(c, &a.Scope):
			out = append(out, choosesNone(about))
		case len(a.Interfaces) > 0 && !slices.ContainsFunc(names, func(n string) bool { return (&netif.Interface{Name: n}).MatchesAny(a.Interfaces) }):
			out = append(out, Finding{
				Severity: Problem, About: []string{about}, Says: "spec.interfaces: no node has an interface " + strings.Join(a.Interfaces, " or "),
				Evidence: []string{"the nodes have " + strings.Join(names, ", ")}, Fix: "name one that the nodes have, or leave spec.interfaces out",
			})
		}
	}
	for i := range c.View.BGPAdvertisements {
		if a := &c.View.BGPAdvertisements[i]; !choosesNode(c, &a.Scope) {
			out = append(out, choosesNone("BGPAdvertisement "+a.Name))
		}
	}
	return out
}

func choosesNone(about string) Finding {
	return Finding{
		Severity: Problem, About: []string{about}, Says: "spec.nodeSelectors: no node matches",
		Fix: "label a node, or change spec.nodeSelectors",
	}
}

// choosesNode reports whether the scope has a node; where none may be read, that it
// has is taken for granted.
func choosesNode(c *cluster.Cluster, s *lb.Scope) bool {
	for _, n := range c.View.Nodes {
		if s.SelectsNode(n.Labels) {
			return true
		}
	}
	return len(c.View.Nodes) == 0
}

// interfaceNames returns the names of the interfaces that speakers can announce on.
func interfaceNames(c *cluster.Cluster) (names []string) {
	for _, sp := range c.View.Speakers {
		for _, i := range sp.Interfaces {
			if !slices.Contains(names, i.Name) {
				names = append(names, i.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}
