package members

import (
	"net"
	"net/netip"
	"slices"
	"sync"
)

// A connection that has not proved the key costs some KiB, for at most a second. If there are too
// many, the oldest is closed: a flood closes its own connections, and a speaker's handshake, which
// takes milliseconds, succeeds.
const (
	mostUnproven         = 256 // of all addresses that are not known as speakers'
	mostUnprovenOfSource = 8
	mostUnprovenOfKnown  = 64 // of one speaker's address
)

// admission is the accepted connections that have not proved the key.
type admission struct {
	mu      sync.Mutex // guards the fields below
	waiting []guest    // the oldest first
}

// guest is one of them.
type guest struct {
	conn   net.Conn
	source netip.Addr
	known  bool // the source is a speaker's address
}

// enter adds a connection, and closes another one if there are too many.
func (a *admission) enter(g guest) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = append(a.waiting, g)
	most := mostUnprovenOfSource
	if g.known {
		most = mostUnprovenOfKnown
	}
	if a.limit(most, func(o guest) bool { return o.source == g.source }) || g.known {
		return
	}
	a.limit(mostUnproven, func(o guest) bool { return !o.known })
}

// limit closes the oldest connection that counts, if more than most of them do.
func (a *admission) limit(most int, counts func(guest) bool) bool {
	oldest, count := -1, 0
	for i, g := range a.waiting {
		if !counts(g) {
			continue
		}
		if count++; oldest < 0 {
			oldest = i
		}
	}
	if count <= most {
		return false
	}
	_ = a.waiting[oldest].conn.Close()
	a.waiting = slices.Delete(a.waiting, oldest, oldest+1)
	return true
}

// leave removes a connection that has proved the key, or ended.
func (a *admission) leave(conn net.Conn) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.waiting = slices.DeleteFunc(a.waiting, func(g guest) bool { return g.conn == conn })
}
