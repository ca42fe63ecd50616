package servicestatus

import (
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// announceDelay is how long an announcement may take until the Service's condition says
// that it is missing: speakers write at most once a second what they announce.
const announceDelay = 3 * time.Second

// history is what earlier reconciliations found out about Services.
type history struct {
	mu sync.Mutex // guards the field below
	of map[types.NamespacedName]past
}

type past struct {
	missingSince time.Time // since when an announcement has been missing; zero when none is
	reason       lb.Reason // why the Service is not announced; 0 when it is
	contested    bool      // it is announced, and a foreign host claims one of its addresses
}

func newHistory() *history { return &history{of: map[types.NamespacedName]past{}} }

// missing records whether an announcement is missing that a node should make in a moment. It
// returns for how long that is normal; nothing is said of it until then.
func (h *history) missing(svc types.NamespacedName, is bool, now time.Time) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.of[svc]
	switch {
	case !is:
		p.missingSince = time.Time{}
	case p.missingSince.IsZero():
		p.missingSince = now
	}
	h.of[svc] = p
	if !is {
		return 0
	}
	return max(0, p.missingSince.Add(announceDelay).Sub(now))
}

// record records why the Service is not announced, 0 when it is, and whether a foreign host
// claims an address that is announced. It reports whether such a claim is new.
func (h *history) record(svc types.NamespacedName, reason lb.Reason, contested bool) (isNew bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p := h.of[svc]
	isNew = contested && !p.contested
	p.reason, p.contested = reason, contested
	h.of[svc] = p
	return isNew
}

// forget drops what is known of the Service.
func (h *history) forget(svc types.NamespacedName) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.of, svc)
}

// reasons returns how many Services are not announced, by reason.
func (h *history) reasons() map[lb.Reason]int {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := map[lb.Reason]int{}
	for _, p := range h.of {
		if p.reason != 0 {
			out[p.reason]++
		}
	}
	return out
}
