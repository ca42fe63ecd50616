package metrics

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// gathered returns the metrics of these names, sorted, as "name labels value".
func gathered(t *testing.T, r *prometheus.Registry, names ...string) (out []string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if slices.Contains(names, f.GetName()) {
				line := f.GetName()
				for _, l := range m.GetLabel() {
					line += " " + l.GetValue()
				}
				out = append(out, fmt.Sprint(line, " ", m.GetGauge().GetValue()+m.GetCounter().GetValue()))
			}
		}
	}
	return out
}

func TestSessions(t *testing.T) {
	r := prometheus.NewRegistry()
	s := NewSpeaker(r)
	names := []string{"fairlead_bfd_session_up", "fairlead_bgp_prefixes_announced", "fairlead_bgp_session_losses_total", "fairlead_bgp_session_up"}
	if got := gathered(t, r, names...); got != nil {
		t.Errorf("metrics without peers: %v", got)
	}
	s.Sessions(func() []Session {
		return []Session{{Peer: "r1", Up: true, Watched: true, Prefixes: 3}, {Peer: "r2", Lost: 2}}
	})
	want := []string{
		"fairlead_bfd_session_up r1 0",
		"fairlead_bgp_prefixes_announced r1 3", "fairlead_bgp_prefixes_announced r2 0",
		"fairlead_bgp_session_losses_total r1 0", "fairlead_bgp_session_losses_total r2 2",
		"fairlead_bgp_session_up r1 1", "fairlead_bgp_session_up r2 0",
	}
	if diff := cmp.Diff(want, gathered(t, r, names...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestQueries(t *testing.T) {
	r := prometheus.NewRegistry()
	NewSpeaker(r).Layer2(func() []Queries {
		return []Queries{{Protocol: "arp", Answered: 5, Probing: 1, Disputed: 2, Stalled: 3, Failed: 4, Rivals: 6}}
	})
	want := []string{
		"fairlead_layer2_drops_total arp disputed 2", "fairlead_layer2_drops_total arp failed 4",
		"fairlead_layer2_drops_total arp probing 1", "fairlead_layer2_drops_total arp stalled 3",
		"fairlead_layer2_replies_total arp 5", "fairlead_layer2_rival_claims_total arp 6",
	}
	if diff := cmp.Diff(want, gathered(t, r, "fairlead_layer2_replies_total", "fairlead_layer2_drops_total", "fairlead_layer2_rival_claims_total")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// The counters of all reasons exist from the start, so that Prometheus sees the first increase.
func TestTakeoversStartAtZero(t *testing.T) {
	r := prometheus.NewRegistry()
	NewSpeaker(r)
	want := []string{
		"fairlead_layer2_takeovers_total asked 0", "fairlead_layer2_takeovers_total dead 0",
		"fairlead_layer2_takeovers_total ineligible 0", "fairlead_layer2_takeovers_total leaving 0",
	}
	if diff := cmp.Diff(want, gathered(t, r, "fairlead_layer2_takeovers_total")); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestState(t *testing.T) {
	r := prometheus.NewRegistry()
	c := NewController(r)
	names := []string{"fairlead_pool_assigned_addresses", "fairlead_pool_available_addresses", "fairlead_services_not_announced", "fairlead_speakers", "fairlead_waiting_for_address"}
	if got := gathered(t, r, names...); got != nil {
		t.Errorf("metrics of a standby: %v", got)
	}
	c.Read(func() State {
		return State{
			Pools:    []Pool{{Name: "lan", Family: "IPv4", Assigned: 3, Available: 7}},
			Waiting:  []Why{{Kind: "Service", Reason: "Exhausted", Count: 2}},
			Silent:   []Why{{Kind: "Service", Reason: "NoCandidate", Count: 1}},
			Speakers: 3,
		}
	})
	want := []string{
		"fairlead_pool_assigned_addresses IPv4 lan 3", "fairlead_pool_available_addresses IPv4 lan 7",
		"fairlead_services_not_announced NoCandidate 1", "fairlead_speakers 3", "fairlead_waiting_for_address Service Exhausted 2",
	}
	if diff := cmp.Diff(want, gathered(t, r, names...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// Each description belongs to a registered metric.
func TestDescriptions(t *testing.T) {
	r := prometheus.NewRegistry()
	NewController(r)
	NewSpeaker(r)
	controller, speaker := Descriptions()
	for _, d := range append(controller, speaker...) {
		if d.Help == "" || d.Kind == 0 {
			t.Errorf("%s has no description", d.Name)
		}
		// Registering the same name with another help must fail.
		other := prometheus.NewCounterFunc(prometheus.CounterOpts{Name: d.Name, Help: "other"}, func() float64 { return 0 })
		if err := r.Register(other); err == nil {
			t.Errorf("%s is described but not registered", d.Name)
		}
	}
}
