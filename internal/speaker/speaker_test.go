package speaker

import (
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// The reason of a takeover is counted by what the former owner's state is.
func TestTakeOverReason(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	s := plan.Snapshot{
		Claims:   map[netip.Addr]election.Claim{},
		Speakers: map[string]plan.Speaker{"leaving": {Joined: true, Leaving: true}, "alive": {Joined: true}},
	}
	for _, tt := range []struct {
		name, from string
		take       netip.Addr
		want       string
	}{
		{"a user asked for it", "alive", addr, metrics.TakenByRequest},
		{"the owner is dead", "dead", netip.Addr{}, metrics.TakenFromDead},
		{"the owner is shutting down", "leaving", netip.Addr{}, metrics.TakenFromLeaving},
		{"the owner cannot announce it", "alive", netip.Addr{}, metrics.TakenFromIneligible},
	} {
		s.Take = tt.take
		if got := takeoverReason(&s, addr, tt.from); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.name, got, tt.want)
		}
	}
}

// The version of the speakers changes only with what a plan depends on.
func TestVersionOfSpeakers(t *testing.T) {
	facts := map[string]members.Facts{"n1": {Joined: true}, "n2": {Joined: true}}
	both := members.View{Alive: []string{"n1", "n2"}, Facts: facts, FactsVersion: 1}
	drained := members.View{Alive: both.Alive, FactsVersion: 3, Facts: map[string]members.Facts{"n1": {Joined: true}, "n2": {Joined: true, Drained: true}}}
	one := drained
	one.Alive = []string{"n1"}
	irrelevant := both
	irrelevant.FactsVersion = 2
	var p peers
	var in inputs
	versions := map[uint64]bool{}
	for _, step := range []struct {
		name     string
		view     members.View
		cluster  uint64
		speakers int
		changed  bool
	}{
		{"first", both, 1, 2, true},
		{"nothing new", both, 1, 2, false},
		{"facts that no plan depends on", irrelevant, 1, 2, false},
		{"a node is drained", drained, 1, 2, true},
		{"a speaker is dead", one, 1, 1, true},
		{"the cluster changed", one, 2, 1, true},
	} {
		speakers, of := p.of(step.view)
		version := in.at(step.cluster, of)
		if version == 0 || versions[version] == step.changed || len(speakers) != step.speakers {
			t.Errorf("%s: version %d with %d speakers, changed must be %v", step.name, version, len(speakers), step.changed)
		}
		versions[version] = true
	}
}

// The hand-over continues only while another node is preferred for an address that this
// node still announces.
func TestHasSuccessor(t *testing.T) {
	s := &Speaker{cfg: Config{Node: "n1"}}
	own, other := []plan.Rejection{{Node: "n1"}}, []plan.Rejection{{Node: "n2"}}
	for _, tt := range []struct {
		name    string
		outcome plan.Outcome
		want    bool
	}{
		{"there is a successor", plan.Outcome{Reason: lb.ReasonAnnounced, Avoided: own}, true},
		{"there is no successor", plan.Outcome{Reason: lb.ReasonAnnounced}, false},
		{"another node is not preferred", plan.Outcome{Reason: lb.ReasonAnnounced, Avoided: other}, false},
		{"it is handed over", plan.Outcome{Owner: "n2", Avoided: own}, false},
	} {
		if got := s.hasSuccessor(plan.Plan{Outcomes: []plan.Outcome{tt.outcome}}); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}

// An address that several interfaces have is listed once.
func TestHostAddressesAreListedOnce(t *testing.T) {
	addr := func(a, name string) netif.Address {
		return netif.Address{Addr: netip.MustParseAddr(a), Interface: name}
	}
	got := hostAddresses([]netif.Address{addr("10.0.0.2", "b"), addr("10.0.0.1", "b"), addr("10.0.0.1", "a")})
	if len(got) != 2 || got[0].Address != "10.0.0.1" || got[0].Interface != "a" || got[1].Address != "10.0.0.2" {
		t.Errorf("got %+v", got)
	}
}
