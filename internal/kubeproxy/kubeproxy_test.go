package kubeproxy

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"sync/atomic"
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

// Run follows what kube-proxy answers, also where it listens on the second address only.
func TestRun(t *testing.T) {
	var status atomic.Int32
	status.Store(http.StatusOK)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) }))
	defer server.Close()
	closed := httptest.NewServer(http.NotFoundHandler())
	closed.Close()
	w := New(netip.Addr{})
	w.hosts = []netip.AddrPort{
		netip.MustParseAddrPort(closed.Listener.Addr().String()), netip.MustParseAddrPort(server.Listener.Addr().String()),
	}
	if w.Health() != "" || w.Failing() {
		t.Errorf("before the first answer: %q", w.Health())
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	ended := make(chan struct{})
	go func() { w.Run(ctx); close(ended) }()
	defer func() { cancel(); <-ended }()
	for _, step := range []struct {
		status  int32
		health  string
		failing bool
	}{{http.StatusOK, "Healthy", false}, {http.StatusServiceUnavailable, "Unhealthy", true}} {
		status.Store(step.status)
		select {
		case <-w.Changed():
		case <-ctx.Done():
			t.Fatal("nothing changed")
		}
		if w.Health() != step.health || w.Failing() != step.failing {
			t.Errorf("%d: %q, failing %v", step.status, w.Health(), w.Failing())
		}
	}
}
