package election

import (
	"fmt"
	"net/netip"
	"testing"
)

var vip = netip.MustParseAddr("192.0.2.10")

func TestOwner(t *testing.T) {
	all := []string{"n1", "n2", "n3"}
	first := Owner(vip, all, all, Claim{})
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
			if got := Owner(vip, all, tt.candidates, tt.current); got != tt.want {
				t.Errorf("Owner = %q, want %q", got, tt.want)
			}
		})
	}
}

func TestClaimCompareOrdersAnyTwoNodesAlike(t *testing.T) {
	claims := []Claim{{}, {Owner: "n2", Epoch: 1}, {Owner: "n1", Epoch: 1}, {Owner: "n3", Epoch: 2}}
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
// address of a node that stays may move.
func TestOwnerSpreadsAndMovesOnlyWhatItMust(t *testing.T) {
	const addresses = 3000
	nodes := []string{"node-1", "node-2", "node-3", "node-4"}
	got := map[string]int{}
	addr := netip.MustParseAddr("10.0.0.0")
	for range addresses {
		addr = addr.Next()
		before := Owner(addr, nodes, nodes, Claim{})
		got[before]++
		after := Owner(addr, nodes[:3], nodes[:3], Claim{})
		if before != "node-4" && after != before {
			t.Fatalf("%s moved from %s to %s though %s stayed", addr, before, after, before)
		}
	}
	for _, n := range nodes {
		if share := float64(got[n]) / (addresses / float64(len(nodes))); share < 0.85 || share > 1.15 {
			t.Errorf("%s owns %.2f of its fair share: %s", n, share, fmt.Sprint(got))
		}
	}
}
