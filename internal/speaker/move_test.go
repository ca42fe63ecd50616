package speaker

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// One address after the other is taken, each order is heeded once, and what
// became of it is told.
func TestMover(t *testing.T) {
	one, two := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	now := time.Unix(1000, 0)
	m := mover{now: func() time.Time { return now }}
	lan := plan.Speaker{Joined: true, Interfaces: []netif.Interface{{Name: "eth0", Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}}}
	s := plan.Snapshot{
		Node: "n1", Joined: true, Nodes: map[string]lb.Node{"n1": {Name: "n1"}}, Speakers: map[string]plan.Speaker{"n1": lan},
		Advertisements: []lb.L2Advertisement{{Name: "all", Scope: lb.Scope{AllPools: true}}},
		Assignments:    []lb.Assignment{{Grants: []lb.Grant{{Addr: one}, {Addr: two}}, Ready: lb.ReadyNodes{IPv4: []string{"n1"}}}},
	}
	plan := plan.Plan{Outcomes: []plan.Outcome{{Addr: one, Owner: "n2"}, {Addr: two, Owner: "n3"}}}
	orders := kube.SpeakerOrders{Take: []netip.Addr{one, two}, Once: map[string]string{v1alpha1.AnnotationTake: "192.0.2.1,192.0.2.2"}}

	step := func(want netip.Addr, reason, message string) {
		t.Helper()
		got, _ := m.next(orders, &s, plan)
		if got != want || m.result.Reason != reason || m.result.Message != message {
			t.Errorf("takes %v, says %s %q; want %v, %s %q", got, m.result.Reason, m.result.Message, want, reason, message)
		}
	}
	step(one, "Moving", "taking over 192.0.2.1 from n2")
	plan.Outcomes[0].Owner = "n1"
	step(netip.Addr{}, "Moving", "taking over 192.0.2.1 from n2") // too soon for the next
	now = now.Add(moveEvery)
	step(two, "Moving", "taking over 192.0.2.1 from n2, 192.0.2.2 from n3")
	plan.Outcomes[1].Owner = "n1"
	now = now.Add(moveEvery)
	done := "took over 192.0.2.1 from n2, 192.0.2.2 from n3"
	step(netip.Addr{}, "Moved", done)
	if diff := cmp.Diff(orders.Once, m.result.Heeded); diff != "" {
		t.Errorf("annotations to remove (-want +got):\n%s", diff)
	}
	plan.Outcomes[0].Owner = "n2" // it fails over before the annotation is gone
	now = now.Add(time.Hour)
	step(netip.Addr{}, "Moved", done)
	orders = kube.SpeakerOrders{}
	step(netip.Addr{}, "Moved", done)
	if m.result.Heeded != nil {
		t.Errorf("still to remove %v, which is not there any more", m.result.Heeded)
	}
	orders = kube.SpeakerOrders{
		Take: []netip.Addr{netip.MustParseAddr("192.0.2.9")}, Invalid: errors.New(`annotation fairlead.dev/take: "x" is not an IP address`),
		Once: map[string]string{v1alpha1.AnnotationTake: "192.0.2.9,x"},
	}
	step(netip.Addr{}, "Refused", `cannot take 192.0.2.9: no Service has it; annotation fairlead.dev/take: "x" is not an IP address`)
}
