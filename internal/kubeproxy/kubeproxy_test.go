package kubeproxy

import (
	"testing"
	"time"
)

func TestHealth(t *testing.T) {
	now := time.Unix(1000, 0)
	var h state
	for i, step := range []struct {
		after  time.Duration
		status int
		want   string
	}{
		{0, 0, ""}, // there is none, or none that answers
		{time.Hour, 0, ""},
		{0, 200, "Healthy"},
		{absence, 0, "Healthy"}, // it restarts
		{time.Second, 0, "NoAnswer"},
		{time.Second, 200, "Healthy"},
		{time.Second, 503, "Unhealthy"},
		{time.Second, 0, "Unhealthy"},
		{time.Second, 200, "Healthy"},
		{time.Second, 404, "Healthy"}, // something else listens there
	} {
		now = now.Add(step.after)
		if h = h.after(step.status, now); h.reason != step.want {
			t.Errorf("step %d: %q, want %q", i, h.reason, step.want)
		}
	}
}
