// Package kubeproxy watches whether the node's kube-proxy keeps its rules up to date.
package kubeproxy

import (
	"context"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

const (
	// port is where kube-proxy serves its health (--healthz-bind-address).
	port = 10256
	// interval is the time between two probes.
	interval = 2 * time.Second
	// absence is how long a kube-proxy that answered before may fail to answer without a
	// fault: the rules that it wrote stay in effect while it restarts.
	absence = 15 * time.Second
)

// state is what is known of the node's kube-proxy: one of the reasons of
// ConditionKubeProxyHealthy, or "" when there is none that answers, as where
// something else does its work.
type state struct {
	reason   string
	answered time.Time
}

// after returns the state after a probe; status is the HTTP status of the answer, or 0 without one.
func (h state) after(status int, now time.Time) state {
	switch {
	case status == http.StatusOK:
		return state{v1alpha1.ReasonHealthy, now}
	case status == http.StatusServiceUnavailable:
		return state{v1alpha1.ReasonUnhealthy, now}
	case h.reason != "" && now.Sub(h.answered) > absence:
		return state{v1alpha1.ReasonNoAnswer, h.answered}
	default:
		return h
	}
}

// Watch probes the node's kube-proxy.
type Watch struct {
	hosts   []netip.AddrPort // where it may listen
	reason  atomic.Pointer[string]
	changed notify.Signal
}

// New returns a Watch of the kube-proxy on this node, which may listen on the given address.
func New(node netip.Addr) *Watch {
	w := &Watch{hosts: []netip.AddrPort{
		netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), port), netip.AddrPortFrom(node, port),
	}, changed: notify.New()}
	w.reason.Store(new(string))
	return w
}

// Health returns the reason of ConditionKubeProxyHealthy, or "".
func (w *Watch) Health() string { return *w.reason.Load() }

// Changed receives after Health has changed.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Failing reports whether kube-proxy has a fault, so that other nodes are preferred.
func (w *Watch) Failing() bool {
	h := w.Health()
	return h != "" && h != v1alpha1.ReasonHealthy
}

// Run probes kube-proxy until ctx ends.
func (w *Watch) Run(ctx context.Context) {
	var h state
	client := http.Client{Timeout: interval / 2}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		h = h.after(w.probe(ctx, &client), time.Now())
		if reason := h.reason; reason != w.Health() { // a copy, as h changes
			w.reason.Store(&reason)
			w.changed.Poke()
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// probe returns the HTTP status with which one of the hosts answers, or 0.
func (w *Watch) probe(ctx context.Context, client *http.Client) int {
	for _, host := range w.hosts {
		url := "http://" + host.String() + "/healthz"
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			continue
		}
		if resp, err := client.Do(req); err == nil {
			_ = resp.Body.Close() // only the status matters
			return resp.StatusCode
		}
	}
	return 0
}
