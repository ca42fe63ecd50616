package metrics

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
)

// told returns the metrics of these names, sorted, as "name peer value".
func told(t *testing.T, r *prometheus.Registry, names ...string) (out []string) {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if slices.Contains(names, f.GetName()) {
				out = append(out, fmt.Sprint(f.GetName(), " ", m.GetLabel()[0].GetValue(), " ", m.GetGauge().GetValue()+m.GetCounter().GetValue()))
			}
		}
	}
	return out
}

func TestSessions(t *testing.T) {
	r := prometheus.NewRegistry()
	s := NewSpeaker(r)
	names := []string{"fairlead_bfd_session_up", "fairlead_bgp_prefixes_announced", "fairlead_bgp_session_losses_total", "fairlead_bgp_session_up"}
	if got := told(t, r, names...); got != nil {
		t.Errorf("without peers there is %v", got)
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
	if diff := cmp.Diff(want, told(t, r, names...)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
