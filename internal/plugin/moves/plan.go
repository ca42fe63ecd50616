// Package moves moves addresses on purpose: it says what will happen, has the
// speakers do it, and shows it happen.
//
// What will happen is what the speakers' own code decides on what the objects say.
package moves

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
)

// Plan is what will happen.
type Plan struct {
	Moves  []Move `json:"moves"`
	Stays  []Stay `json:"stays,omitempty"`
	Routes Routes `json:"routes,omitzero"`
}

// Move is an address that another node will announce by layer 2.
type Move struct {
	Address  netip.Addr `json:"address"`
	From     string     `json:"from"`
	To       string     `json:"to"`
	Services []string   `json:"services,omitempty"`
}

// Stay is an address that a node goes on announcing, though it is to be left out.
type Stay struct {
	Address netip.Addr `json:"address"`
	Why     string     `json:"why"`
}

// Routes is how many prefixes a node announces by BGP, and how many it will.
type Routes struct {
	Before int `json:"before"`
	After  int `json:"after"`
	// after is how many each router will have from the node.
	after map[string]int
}

// drain says what happens when the node is drained.
func drain(c *cluster.Cluster, node string) Plan {
	s := c.View.Snapshot
	s.Speakers = maps.Clone(s.Speakers)
	leaving, alive := s.Speakers[node]
	if !alive {
		return Plan{Moves: []Move{}}
	}
	leaving.Avoid = append(slices.Clone(leaving.Avoid), lb.ReasonNodeDrained)
	s.Speakers[node] = leaving
	p := Plan{Moves: takenFrom(c, s, node)}
	for a, claim := range s.Claims {
		moves := slices.ContainsFunc(p.Moves, func(m Move) bool { return m.Address == a })
		if claim.Owner == node && !moves {
			p.Stays = append(p.Stays, Stay{a, nobodyElse(c, s, a, node)})
		}
	}
	slices.SortFunc(p.Stays, func(x, y Stay) int { return x.Address.Compare(y.Address) })
	p.Routes = routes(c, s, node)
	return p
}

// takenFrom has every other speaker decide, and returns what they take from the
// node.
func takenFrom(c *cluster.Cluster, s plan.Snapshot, node string) []Move {
	out := []Move{}
	for _, other := range slices.Sorted(maps.Keys(s.Speakers)) {
		if other == node {
			continue
		}
		s.Node = other
		for a := range plan.Make(s).Claims {
			if s.Claims[a].Owner == node {
				out = append(out, move(c, plan.Move{Addr: a, From: node, To: other}))
			}
		}
	}
	slices.SortFunc(out, func(x, y Move) int { return x.Address.Compare(y.Address) })
	return out
}

func move(c *cluster.Cluster, m plan.Move) Move {
	out := Move{Address: m.Addr, From: m.From, To: m.To}
	for _, u := range c.Users[m.Addr] {
		out.Services = append(out.Services, u.Service.String())
	}
	return out
}

// nobodyElse says why no other node takes an address.
func nobodyElse(c *cluster.Cluster, s plan.Snapshot, a netip.Addr, node string) string {
	g, _ := c.Grant(a)
	found := s.Candidates(c.Users[a], g)
	var why []string
	for _, r := range slices.Concat(found.Rejected, found.Avoided, found.Strained) {
		if r.Node != node {
			why = append(why, r.Node+" "+r.Reason.WordsFor(lb.FamilyOf(a)))
		}
	}
	return cmp.Or(kube.Some(why, 3), "there is no other node")
}

// routes counts what the node announces by BGP now and in the snapshot.
func routes(c *cluster.Cluster, s plan.Snapshot, node string) Routes {
	s.Node = node
	r := Routes{Before: prefixes(c.Plan(node).Routes), after: map[string]int{}}
	var stay []lb.BGPRoute
	for _, row := range plan.Make(s).Routes {
		if row.Drain {
			continue
		}
		stay = append(stay, row)
		for _, peer := range row.Peers {
			r.after[peer]++
		}
	}
	r.After = prefixes(stay)
	return r
}

func prefixes(rows []lb.BGPRoute) int {
	seen := map[netip.Prefix]bool{}
	for _, r := range rows {
		if !r.Drain {
			seen[r.Prefix] = true
		}
	}
	return len(seen)
}

// take says what happens when the node is to take addresses over, or why it
// cannot.
func take(c *cluster.Cluster, node string, addrs []netip.Addr) (Plan, error) {
	p := Plan{Moves: []Move{}}
	if _, alive := c.View.Speakers[node]; !alive {
		return p, fmt.Errorf("the speaker of node %s is not alive; see kubectl fairlead status", node)
	}
	s := c.View.Snapshot
	s.Node = node
	made := plan.Make(s)
	for _, a := range addrs {
		next, refused := plan.Orders{Take: []netip.Addr{a}}.Next(&s, made)
		if len(refused) > 0 {
			return p, refuse(c, node, refused[0])
		}
		if next.From != "" {
			p.Moves = append(p.Moves, move(c, next))
		}
	}
	return p, nil
}

// refuse says why a node cannot have an address, and who can.
func refuse(c *cluster.Cluster, node string, r plan.Refusal) error {
	g, assigned := c.Grant(r.Addr)
	if !assigned {
		return fmt.Errorf("%s: no Service of Fairlead's has it", r.Addr)
	}
	found := c.Announcement(g)
	switch {
	case !slices.Contains(slices.Collect(maps.Keys(c.View.Nodes)), node):
		return fmt.Errorf("there is no node %q", node)
	case len(found.Layer2.Adverts) == 0 && len(found.BGP.Adverts) > 0:
		return fmt.Errorf("%s is announced by BGP only, from every node that can: there is nothing to move; to leave a node out, drain it", r.Addr)
	case len(found.Layer2.Good) > 0:
		return fmt.Errorf("%s cannot take %s: it %s; who can: %s", node, r.Addr, r.Reason.WordsFor(lb.FamilyOf(r.Addr)), strings.Join(found.Layer2.Good, ", "))
	default:
		return fmt.Errorf("%s cannot take %s: %s", node, r.Addr, r.Reason.WordsFor(lb.FamilyOf(r.Addr)))
	}
}

// rebalance says what happens when these nodes take their share, one after the
// other. The nodes with the fewest begin.
func rebalance(c *cluster.Cluster, nodes []string) (plan Plan, order []string) {
	plan.Moves = []Move{}
	s := c.View.Snapshot
	s.Claims = maps.Clone(s.Claims)
	has := map[string]int{}
	for _, claim := range s.Claims {
		has[claim.Owner]++
	}
	nodes = slices.Clone(nodes)
	slices.SortFunc(nodes, func(x, y string) int { return cmp.Or(cmp.Compare(has[x], has[y]), cmp.Compare(x, y)) })
	for _, node := range nodes {
		moves := shareOf(&s, node)
		for _, m := range moves {
			plan.Moves = append(plan.Moves, move(c, m))
		}
		if len(moves) > 0 {
			order = append(order, node)
		}
	}
	return plan, order
}

// shareOf has a node take its share in the snapshot, and returns what it took.
func shareOf(s *plan.Snapshot, node string) (out []plan.Move) {
	var planner plan.Planner
	s.Node, s.Version, s.Moved = node, 1, nil
	for {
		next, _ := plan.Orders{Rebalance: true}.Next(s, planner.Make(*s))
		if !next.Addr.IsValid() {
			return out
		}
		out = append(out, next)
		s.Claims[next.Addr] = s.Claims[next.Addr].Next(node, false)
		s.Moved = []netip.Addr{next.Addr}
	}
}
