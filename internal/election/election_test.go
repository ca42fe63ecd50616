package election

import (
	"maps"
	"net/netip"
	"slices"
	"testing"
)

var vip = netip.MustParseAddr("192.0.2.10")

func TestOwner(t *testing.T) {
	all := []string{"n1", "n2", "n3"}
	first := Owner(vip, all, all, Claim{}, Load{})
	tests := []struct {
		name       string
		candidates []string
		current    Claim
		want       string
	}{
		{"no candidate, no owner", nil, Claim{Owner: "n9", Epoch: 4}, ""},
		{"the order of candidates does not matter", []string{"n3", "n2", "n1"}, Claim{}, first},
		{"an owner that may stay stays", all, Claim{Owner: "n2", Epoch: 1}, "n2"},
		{"even if it would not be chosen anew", []string{"n3"}, Claim{Owner: "n1", Epoch: 1}, "n1"},
		{"an owner that may not stay is replaced", all, Claim{Owner: "n9", Epoch: 7}, first},
		{"a single candidate owns", []string{"n3"}, Claim{}, "n3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := Owner(vip, all, tt.candidates, tt.current, Load{}); got != tt.want {
				t.Errorf("Owner = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestClaimCompareOrdersAnyTwoNodesAlike(t *testing.T) {
	claims := []Claim{
		{}, {Owner: "n2", Epoch: 1, Minor: true}, {Owner: "n1", Epoch: 1, Minor: true}, {Owner: "n2", Epoch: 1}, {Owner: "n1", Epoch: 1},
		{Owner: "n3", Epoch: 2, Minor: true},
	}
	for i, a := range claims {
		for j, b := range claims {
			got := a.Compare(b)
			if got != -b.Compare(a) {
				t.Errorf("%v and %v: not antisymmetric", a, b)
			}
			if (i < j) != (got < 0) {
				t.Errorf("Compare(%v, %v) = %d; the list is in rising order", a, b, got)
			}
		}
	}
}

// A lost node's addresses must spread over all others, not fall on one, and no
// address of a node that stays may move. Nobody ends with more than 1.25 x the
// fair share, and one (invariant L3).
func TestOwnerSpreadsAndMovesOnlyWhatItMust(t *testing.T) {
	for _, addresses := range []int{1, 7, 30, 500, 3000} {
		nodes := []string{"node-1", "node-2", "node-3", "node-4"}
		claims := map[netip.Addr]Claim{}
		place := func(alive []string) map[string]int {
			load := NewLoad(addresses, len(alive))
			for _, c := range claims {
				load.Of[c.Owner]++
			}
			addr := netip.MustParseAddr("10.0.0.0")
			for range addresses {
				addr = addr.Next()
				was := claims[addr]
				owner := Owner(addr, alive, alive, was, load)
				if owner != was.Owner {
					if slices.Contains(alive, was.Owner) {
						t.Fatalf("%s moved from %s to %s though %s stayed", addr, was.Owner, owner, was.Owner)
					}
					load.Of[owner]++
					claims[addr] = Claim{Owner: owner, Epoch: was.Epoch + 1}
				}
			}
			for _, n := range alive {
				if load.Of[n] > load.Most {
					t.Errorf("%d addresses on %d nodes: %s owns %d, at most %d is fair", addresses, len(alive), n, load.Of[n], load.Most)
				}
			}
			return load.Of
		}
		if got := place(nodes); addresses >= 4 && slices.Max(slices.Collect(maps.Values(got))) > addresses/4+1 {
			t.Errorf("new addresses do not go to the node with the fewest: %v", got)
		}
		place(nodes[:3])
		place(nodes[1:3])
	}
}

// A node that joins gets the next addresses, and none that another has.
func TestNewNodeGetsTheNextAddresses(t *testing.T) {
	load := NewLoad(40, 2)
	load.Of["old"] = 30
	both := []string{"old", "new"}
	addr := netip.MustParseAddr("10.0.0.0")
	for range 30 {
		addr = addr.Next()
		owner := Owner(addr, both, both, Claim{}, load)
		if owner != "new" {
			t.Fatalf("%s goes to %s: %v", addr, owner, load.Of)
		}
		load.Of[owner]++
	}
	if got := Owner(addr, both, both, Claim{Owner: "old", Epoch: 3}, load); got != "old" {
		t.Errorf("an address of a node that stays moves to %s", got)
	}
}

func TestEpochsDoNotWrapAround(t *testing.T) {
	held := Claim{Owner: "n1", Epoch: 7}
	for _, c := range []struct {
		next Claim
		want bool
		why  string
	}{
		{held.Next("n2", false), true, "a takeover"},
		{Claim{Owner: "n2", Epoch: 7 + maxJump}, true, "many takeovers"},
		{Claim{Owner: "n2", Epoch: 8 + maxJump}, false, "a jump"},
		{Claim{Owner: "n2", Epoch: MaxEpoch, Term: 1}, true, "a later term"},
		{Claim{Owner: "n2", Epoch: MaxEpoch + 1, Term: 1}, false, "too high"},
		{Claim{Epoch: 8}, false, "no owner"},
		{Claim{Owner: "n2", Epoch: 1}, true, "an earlier one"},
	} {
		if got := held.Plausible(c.next); got != c.want {
			t.Errorf("%s: %+v is plausible: %t", c.why, c.next, got)
		}
	}
	if !(Claim{}).Plausible(Claim{Owner: "n2", Epoch: MaxEpoch}) {
		t.Error("a speaker that has just started hears nothing")
	}
	highest := Claim{Owner: "n1", Epoch: MaxEpoch}
	if next := highest.Next("n2", false); next.Epoch != MaxEpoch {
		t.Errorf("after the highest epoch comes %d", next.Epoch)
	}
	if again := highest.InTerm(3); again.Compare(highest) <= 0 || again.Epoch != 2 {
		t.Errorf("in a later term it is %+v", again)
	}
	if same := highest.InTerm(0); same != highest {
		t.Errorf("in the same term it is %+v", same)
	}
}
