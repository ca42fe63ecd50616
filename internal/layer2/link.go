package layer2

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
)

// announceAt is when an address is announced after this node began to answer
// for it: at once, then often enough to outlive a lost frame, a switch port that
// is still learning, or a neighbour that locks a fresh entry for a second.
var announceAt = []time.Duration{
	0, 50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 4 * time.Second,
}

// announceEvery is how often it is announced after that, give or take a tenth,
// for neighbours and switches that missed all of these.
const announceEvery = time.Minute

// link answers for addresses in one protocol on one interface.
type link struct {
	log  logr.Logger
	wire wire
	// answers is what the link answers for, and since when. It is replaced as a
	// whole, so that the answering loop reads it without a lock.
	answers atomic.Pointer[map[netip.Addr]time.Time]
	wake    chan struct{} // has room for one; due changed
	ended   chan struct{} // closed when the answering loop has ended

	mu  sync.Mutex // guards due
	due agenda
}

func newLink(w wire, log logr.Logger) *link {
	l := &link{log: log, wire: w, wake: make(chan struct{}, 1), ended: make(chan struct{})}
	l.answers.Store(&map[netip.Addr]time.Time{})
	return l
}

// set makes addrs what the link answers for.
func (l *link) set(addrs map[netip.Addr]struct{}) error {
	before := *l.answers.Load()
	after := make(map[netip.Addr]time.Time, len(addrs))
	gained := map[netip.Addr]time.Time{}
	now := time.Now()
	var errs []error
	for a := range addrs {
		since, had := before[a]
		if !had {
			if err := l.wire.Listen(a); err != nil {
				errs = append(errs, fmt.Errorf("listen for %s: %w", a, err))
				continue // the next call tries again
			}
			since = now
			gained[a] = now
		}
		after[a] = since
	}
	l.answers.Store(&after)
	for a := range before {
		if _, keep := after[a]; !keep {
			errs = append(errs, l.wire.Ignore(a))
		}
	}
	l.schedule(gained)
	return errors.Join(errs...)
}

// again announces anew those of the addresses that the link answers for.
func (l *link) again(addrs []netip.Addr) {
	after := maps.Clone(*l.answers.Load())
	due := map[netip.Addr]time.Time{}
	for _, a := range addrs {
		if _, ours := after[a]; ours {
			after[a] = time.Now() // what was scheduled for the time before is void
			due[a] = after[a]
		}
	}
	l.answers.Store(&after)
	l.schedule(due)
}

// schedule begins to announce addresses that are answered for since these times.
func (l *link) schedule(since map[netip.Addr]time.Time) {
	l.mu.Lock()
	for a, at := range since {
		heap.Push(&l.due, announcement{addr: a, start: at, at: at})
	}
	l.mu.Unlock()
	select {
	case l.wake <- struct{}{}:
	default: // one is waiting already
	}
}

// answer answers questions until the wire is closed or fails.
func (l *link) answer() {
	defer close(l.ended)
	for {
		q, err := l.wire.Next()
		if err != nil {
			l.log.V(1).Info("stopped answering", "cause", err.Error())
			return
		}
		if _, ours := (*l.answers.Load())[q.Target]; !ours {
			continue
		}
		if err := l.wire.Answer(q); err != nil {
			l.log.V(1).Info("cannot answer", "address", q.Target.String(), "error", err.Error())
		}
	}
}

// announce sends the announcements as they fall due, until ctx or the answering
// loop ends.
func (l *link) announce(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-l.ended:
			return
		case <-timer.C:
		case <-l.wake:
		}
		timer.Reset(l.announceDue())
	}
}

// announceDue sends what is due and returns how long to wait for the next.
func (l *link) announceDue() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.due.Len() > 0 {
		next := l.due[0]
		if wait := time.Until(next.at); wait > 0 {
			return wait
		}
		if since, ours := (*l.answers.Load())[next.addr]; !ours || !since.Equal(next.start) {
			heap.Pop(&l.due)
			continue
		}
		if err := l.wire.Announce(next.addr); err != nil {
			l.log.V(1).Info("cannot announce", "address", next.addr.String(), "error", err.Error())
		}
		l.due[0] = next.following()
		heap.Fix(&l.due, 0)
	}
	return announceEvery
}

// dead reports whether the answering loop has ended, so that the link must be
// opened anew.
func (l *link) dead() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func (l *link) close() {
	if err := l.wire.Close(); err != nil {
		l.log.V(1).Info("cannot close", "error", err.Error())
	}
}

// announcement is the next time an address is to be announced.
type announcement struct {
	addr      netip.Addr
	start, at time.Time
	sent      int
}

// following returns the announcement after this one.
func (n announcement) following() announcement {
	n.sent++
	if n.sent < len(announceAt) {
		n.at = n.start.Add(announceAt[n.sent])
	} else {
		jitter := rand.N(announceEvery/5) - announceEvery/10
		n.at = n.at.Add(announceEvery + jitter)
	}
	return n
}

// agenda is a heap of announcements, the earliest first.
type agenda []announcement

func (s agenda) Len() int           { return len(s) }
func (s agenda) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s agenda) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *agenda) Push(x any)        { *s = append(*s, x.(announcement)) }
func (s *agenda) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}
