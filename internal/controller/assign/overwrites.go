package assign

import (
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const (
	// quickRewrites is how many times a status that another controller overwrote is
	// restored at once. From then on the two are in conflict.
	quickRewrites = 3
	// minRewriteDelay is the delay before the next restoration. It doubles with each, up
	// to maxRewriteDelay.
	minRewriteDelay = time.Second
	maxRewriteDelay = time.Minute
	// settlePeriod is how long a status must stay as we wrote it until the conflict
	// counts as ended. It is longer than the longest delay, so that a conflict is not
	// forgotten between two restorations.
	settlePeriod = 2 * time.Minute
)

// overwrites counts, for each Service, how often another controller overwrote
// status.loadBalancer, and delays the next restoration: two controllers that undo each
// other's writes at once load the API server, and each undoes the other's announcement.
type overwrites struct {
	mu sync.Mutex // guards the field below
	of map[lb.ServiceKey]*overwritten
}

// overwritten is the conflict over the status of one Service.
type overwritten struct {
	times   int       // restorations
	last    time.Time // the last of them
	manager string    // field manager of the other controller, "" if the API server did not record it
}

func newOverwrites() *overwrites { return &overwrites{of: map[lb.ServiceKey]*overwritten{}} }

// current returns the conflict over a Service's status; nil if there is none, or if the last
// one has ended. The lock is held.
func (o *overwrites) current(key lb.ServiceKey, now time.Time) *overwritten {
	w := o.of[key]
	if w != nil && now.Sub(w.last) >= settlePeriod {
		delete(o.of, key)
		return nil
	}
	return w
}

// delay returns how long to wait before a status that was overwritten is restored; 0 for
// now.
func (o *overwrites) delay(key lb.ServiceKey, now time.Time) time.Duration {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.current(key, now)
	if w == nil || w.times < quickRewrites {
		return 0
	}
	wait := maxRewriteDelay
	if doubled := w.times - quickRewrites; doubled < 6 {
		wait = min(wait, minRewriteDelay<<doubled)
	}
	return max(0, w.last.Add(wait).Sub(now))
}

// restored records that the status is restored now, after manager overwrote it.
func (o *overwrites) restored(key lb.ServiceKey, manager string, now time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.current(key, now)
	if w == nil {
		w = &overwritten{}
		o.of[key] = w
	}
	w.times++
	w.last, w.manager = now, manager
}

// conflict returns the field manager with which there is a conflict over the Service's
// status, and how long the status must stay as it is until the conflict counts as ended.
func (o *overwrites) conflict(key lb.ServiceKey, now time.Time) (manager string, left time.Duration, is bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	w := o.current(key, now)
	if w == nil {
		return "", 0, false
	}
	return w.manager, w.last.Add(settlePeriod).Sub(now), w.times >= quickRewrites
}

// forget drops what is recorded of a Service that is gone.
func (o *overwrites) forget(key lb.ServiceKey) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.of, key)
}
