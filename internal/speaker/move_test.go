package speaker

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/lb"
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
	rejected := owned("n2", "n2")
	rejected.Outcomes[0].Rejected = []Rejection{{"n1", lb.ReasonNoInterface}}
	rejected.Outcomes[1].Avoided = []Rejection{{"n1", lb.ReasonNodeCordoned}}
	unserved := Plan{Outcomes: []Outcome{{Addr: addr(1), Reason: lb.ReasonNoEndpoints}}}
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
		{"who cannot, and who is better left out", take(addr(1), addr(2)), rejected, Move{}, []Refusal{{addr(1), lb.ReasonNoInterface}, {addr(2), lb.ReasonNodeCordoned}}},
		{"nobody can", take(addr(1)), unserved, Move{}, []Refusal{{addr(1), lb.ReasonNoEndpoints}}},
		{"nobody has it", take(addr(9)), owned("n2"), Move{}, []Refusal{{addr(9), lb.ReasonNotAssigned}}},
		{"of the one with the most", Orders{Rebalance: true}, owned("n2", "n2", "n3", "n3", "n3"), Move{addr(3), "n3", "n1"}, nil},
		{"until the difference is one", Orders{Rebalance: true}, owned("n1", "n2", "n2"), Move{To: "n1"}, nil},
		{"of none that others are preferred for", Orders{Rebalance: true}, others, Move{To: "n1"}, nil},
		{"first what is named", Orders{Take: []netip.Addr{addr(5)}, Rebalance: true}, owned("n2", "n2", "n2", "n2", "n3"), Move{addr(5), "n3", "n1"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, refused := c.orders.Next("n1", c.plan)
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

// Rebalancing ends, with a fair spread.
func TestRebalanceEnds(t *testing.T) {
	p := owned("n2", "n2", "n2", "n2", "n2", "n3", "n3", "n3", "n2", "n2")
	moves := 0
	for ; ; moves++ {
		m, _ := Orders{Rebalance: true}.Next("n1", p)
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
