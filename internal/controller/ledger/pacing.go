package ledger

import (
	"context"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead-lb/fairlead/internal/retry"
)

const (
	// burstRate is how many addresses a second, after the first burstSize, make a burst: then
	// what is not urgent is deferred, as it would take the API server's time.
	burstRate = 100
	burstSize = 20
	// deferFor is how long something is deferred each time, so that the longest burst slows
	// it down and does not stop it.
	deferFor = 500 * time.Millisecond
)

// pacer recognises bursts of assignments.
type pacer struct {
	limit *rate.Limiter

	mu    sync.Mutex // guards the field below
	burst time.Time  // when the limit was exceeded last
}

func newPacer() *pacer { return &pacer{limit: rate.NewLimiter(burstRate, burstSize)} }

// countAssignment records that an address was assigned or released.
func (p *pacer) countAssignment(now time.Time) {
	if p.limit.AllowN(now, 1) {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.burst = now
}

// inBurst reports whether the limit was exceeded less than deferFor ago.
func (p *pacer) inBurst(now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return now.Before(p.burst.Add(deferFor))
}

// WaitForBurst returns at once unless many addresses are being assigned; then it returns
// after a short pause. What is not urgent calls it before it writes to the API server.
func (l *Ledger) WaitForBurst(ctx context.Context) {
	if !l.pace.inBurst(l.now()) {
		return
	}
	_ = retry.Sleep(ctx, deferFor)
}
