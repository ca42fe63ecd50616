package plan

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// owned is a plan in which these nodes own the addresses .1, .2 ..., and every
// node could.
func owned(owners ...string) (p Plan) {
	for i, o := range owners {
		p.Outcomes = append(p.Outcomes, Outcome{Addr: addr(i + 1), Owner: o, Reason: lb.ReasonNotOwner, Best: []string{"n1", "n2", "n3"}})
	}
	return p
}

func addr(i int) netip.Addr { return netip.MustParseAddr(fmt.Sprint("192.0.2.", i)) }

func TestNextMove(t *testing.T) {
	take := func(a ...netip.Addr) Orders { return Orders{Take: a} }
	others := owned("n2", "n2", "n2")
	for i := range others.Outcomes {
		others.Outcomes[i].Best = []string{"n2", "n3"}
	}
	for _, c := range []struct {
		name    string
		orders  Orders
		plan    Plan
		want    Move
		refused []Refusal
	}{
		{"nothing is wanted", Orders{}, owned("n2"), Move{}, nil},
		{"the first that it does not own", take(addr(1), addr(3), addr(2)), owned("n1", "n2", "n3"), Move{addr(3), "n3", "n1"}, nil},
		{"all are its own", take(addr(1)), owned("n1"), Move{}, nil},
		{"nobody has it", take(addr(9)), owned("n2"), Move{}, []Refusal{{addr(9), lb.ReasonNotAssigned}}},
		{"of the one with the most", Orders{Rebalance: true}, owned("n2", "n2", "n3", "n3", "n3"), Move{addr(3), "n3", "n1"}, nil},
		{"until the difference is one", Orders{Rebalance: true}, owned("n1", "n2", "n2"), Move{To: "n1"}, nil},
		{"of none that others are preferred for", Orders{Rebalance: true}, others, Move{To: "n1"}, nil},
		{"first what is named", Orders{Take: []netip.Addr{addr(5)}, Rebalance: true}, owned("n2", "n2", "n2", "n2", "n3"), Move{addr(5), "n3", "n1"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := cluster(nil)
			s.Assignments[0].Grants = nil
			for _, o := range c.plan.Outcomes {
				s.Assignments[0].Grants = append(s.Assignments[0].Grants, lb.Grant{Addr: o.Addr, Pool: "lan"})
			}
			got, refused := c.orders.Next(&s, c.plan)
			if got.From == "" {
				got = Move{To: got.To}
			}
			if diff := cmp.Diff(c.want, got, compared); diff != "" {
				t.Errorf("move (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.refused, refused, compared); diff != "" {
				t.Errorf("refused (-want +got):\n%s", diff)
			}
		})
	}
}

// What this node cannot have is refused, with the reason.
func TestMoveRefused(t *testing.T) {
	for _, c := range []struct {
		change func(*Snapshot)
		want   lb.Reason
	}{
		{func(s *Snapshot) { s.Speakers["n1"].Interfaces[0].Up = false }, lb.ReasonInterfaceDown},
		{func(s *Snapshot) { s.Nodes["n1"] = lb.Node{Name: "n1", Avoid: []lb.Reason{lb.ReasonNodeCordoned}} }, lb.ReasonNodeCordoned},
		{func(s *Snapshot) { s.Assignments[0].Ready = lb.ReadyNodes{} }, lb.ReasonNoEndpoints},
		{func(s *Snapshot) { s.Assignments = nil }, lb.ReasonNotAssigned},
	} {
		s := cluster(c.change)
		move, refused := Orders{Take: []netip.Addr{vip}}.Next(&s, Make(s))
		if diff := cmp.Diff([]Refusal{{vip, c.want}}, refused, compared); diff != "" || move.From != "" {
			t.Errorf("moves %v; refused (-want +got):\n%s", move, diff)
		}
	}
}

// Rebalancing ends, with a fair spread.
func TestRebalanceEnds(t *testing.T) {
	p := owned("n2", "n2", "n2", "n2", "n2", "n3", "n3", "n3", "n2", "n2")
	moves := 0
	for ; ; moves++ {
		m, _ := Orders{Rebalance: true}.Next(&Snapshot{Node: "n1"}, p)
		if m.From == "" {
			break
		}
		for i := range p.Outcomes {
			if p.Outcomes[i].Addr == m.Addr {
				p.Outcomes[i].Owner = "n1"
			}
		}
	}
	if moves != 3 {
		t.Errorf("%d of ten addresses moved to the third node, want 3", moves)
	}
}
