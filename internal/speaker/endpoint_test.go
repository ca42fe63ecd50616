package speaker

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// Both say which the other is, and what to do.
func TestADuplicateIsNamedOnBoth(t *testing.T) {
	endpoint := netip.MustParseAddrPort("10.0.2.15:7946")
	for _, s := range []plan.Standing{{Same: []string{"n2"}}, {Out: true, Same: []string{"n2"}}} {
		f := standingFault(endpoint, s)
		for _, words := range []string{"10.0.2.15:7946", "n2", "--node-ip"} {
			if f.Reason != v1alpha1.ReasonDuplicateEndpoint || !strings.Contains(f.Message, words) {
				t.Errorf("%s: %q lacks %q", f.Reason, f.Message, words)
			}
		}
	}
}

// A mistake in the Node does not take a speaker down whose own address still works.
func TestAnAddressThatTheMachineLacksChangesNothing(t *testing.T) {
	tests := []struct {
		name   string
		own    string
		follow bool
		moves  bool
		reason string
	}{
		{"its own", "127.0.0.1", true, false, ""},
		{"another that it has", "127.0.0.2", true, true, ""},
		{"one that it has not", "192.0.2.77", true, false, v1alpha1.ReasonAddressNotLocal},
		{"the user set it", "127.0.0.2", false, false, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := &Speaker{Deps: Deps{Interfaces: interfaces{}}, cfg: Config{Node: "n1", Bind: netip.MustParseAddr("127.0.0.1"), Port: 7946, Follow: tt.follow}}
			if err := s.checkAddress(netip.MustParseAddr(tt.own)); (err != nil) != tt.moves {
				t.Errorf("moves: %v", err)
			}
			if got := s.endpointFault().Reason; got != tt.reason {
				t.Errorf("reason %q, want %q", got, tt.reason)
			}
		})
	}
}
