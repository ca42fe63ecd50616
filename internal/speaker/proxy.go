package speaker

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
	// proxyPort is where kube-proxy tells of its health (--healthz-bind-address).
	proxyPort = 10256
	// askProxyEvery is how often it is asked.
	askProxyEvery = 2 * time.Second
	// proxyMayBeAway is how long one that answered before may be silent: the rules
	// that it wrote stay in force while it restarts.
	proxyMayBeAway = 15 * time.Second
)

// proxyHealth is what is known of the node's kube-proxy: one of the reasons of
// ConditionKubeProxyHealthy, or "" when there is none that answers, as where
// something else does its work.
type proxyHealth struct {
	reason   string
	answered time.Time
}

// heard returns what is known after it was asked; status is what it answered, or 0.
func (h proxyHealth) heard(status int, now time.Time) proxyHealth {
	switch {
	case status == http.StatusOK:
		return proxyHealth{v1alpha1.ReasonHealthy, now}
	case status == http.StatusServiceUnavailable:
		return proxyHealth{v1alpha1.ReasonUnhealthy, now}
	case h.reason != "" && now.Sub(h.answered) > proxyMayBeAway:
		return proxyHealth{v1alpha1.ReasonNoAnswer, h.answered}
	default:
		return h
	}
}

// proxyWatch asks the node's kube-proxy how it is.
type proxyWatch struct {
	hosts   []netip.Addr // where it may listen
	reason  atomic.Pointer[string]
	changed notify.Signal
}

func newProxyWatch(node netip.Addr) *proxyWatch {
	w := &proxyWatch{hosts: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), node}, changed: notify.New()}
	w.reason.Store(new(string))
	return w
}

// health returns the reason of ConditionKubeProxyHealthy, or "".
func (w *proxyWatch) health() string { return *w.reason.Load() }

// failing reports whether addresses are better announced by another node.
func (w *proxyWatch) failing() bool {
	h := w.health()
	return h != "" && h != v1alpha1.ReasonHealthy
}

// run asks until ctx ends.
func (w *proxyWatch) run(ctx context.Context) {
	var h proxyHealth
	client := http.Client{Timeout: askProxyEvery / 2}
	defer client.CloseIdleConnections()
	tick := time.NewTicker(askProxyEvery)
	defer tick.Stop()
	for {
		h = h.heard(w.ask(ctx, &client), time.Now())
		if reason := h.reason; reason != w.health() { // a copy, as h changes
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

// ask returns the status with which one of the hosts answers, or 0.
func (w *proxyWatch) ask(ctx context.Context, client *http.Client) int {
	for _, host := range w.hosts {
		url := "http://" + netip.AddrPortFrom(host, proxyPort).String() + "/healthz"
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
