package bfd

import (
	"time"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

const (
	// retry is how long to wait before sockets are opened again, or given up as
	// broken.
	retry = time.Second

	// farewells is how often a peer is told that a session is over. One packet may
	// be lost, and to go on for a detection time, as RFC 5880, 6.8.16 would have
	// it, is more than who stops a program has patience for.
	farewells = 3

	// The time between two farewells is what the peer can take, within these.
	shortestFarewell, longestFarewell = 10 * time.Millisecond, 100 * time.Millisecond
)

// peer is a session with what it has of the kernel. The loop owns it.
type peer struct {
	key     Key
	spec    SessionSpec // with defaults
	path    path
	session *session.Session
	since   time.Time
	Counters

	sender  sender // nil until it could be opened
	port    uint16 // of the sender, kept for the next one (RFC 5881, 4)
	ifindex int    // of path.device
	err     error
	broken  time.Time // since when err has lasted
	retryAt time.Time // when the sockets are to be opened; zero when they are open

	farewells int // still to be sent; the session is over when it is not zero
	goodbye   []byte

	deadline time.Time
	index    int // in the schedule; -1 when not there
}

// next returns when the peer wants attention.
func (p *peer) next(now time.Time) (time.Time, bool) {
	if p.farewells > 0 {
		gap := p.session.Remote().RequiredMinRx
		return now.Add(min(max(gap, shortestFarewell), longestFarewell)), true
	}
	at, ok := p.session.Deadline()
	if !p.retryAt.IsZero() && (!ok || p.retryAt.Before(at)) {
		return p.retryAt, true
	}
	return at, ok
}
