package bgp

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// State is how far a session has come (RFC 4271, 8.2.2). The zero State is none.
type State uint8

// The states of a session. It is Connect until an attempt has failed, and Active
// while attempts fail or a passive peer's router has not come: so a router that is
// away is no news every few seconds.
const (
	Idle State = iota + 1 // nothing is tried: see LastError
	Connect
	Active
	OpenSent
	OpenConfirm
	Established
)

// String returns the name that RFC 4271 has for it.
func (s State) String() string {
	switch s {
	case Idle:
		return "Idle"
	case Connect:
		return "Connect"
	case Active:
		return "Active"
	case OpenSent:
		return "OpenSent"
	case OpenConfirm:
		return "OpenConfirm"
	case Established:
		return "Established"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// Session is how a session is.
type Session struct {
	Peer      string // name
	State     State
	Since     time.Time // of the state
	LastError string    // why it is not established, with the likely fix; empty when it is

	// What is known once the router has said who it is.
	Router          netip.AddrPort
	Local           netip.Addr
	RouterASN       uint32
	RouterID        netip.Addr
	HoldTime        time.Duration // agreed on
	GracefulRestart bool          // agreed on
	Note            string        // why routes of a family are not announced

	PrefixesIPv4, PrefixesIPv6 int // announced

	Counters
}

// Counters only grow, as long as the peer is there.
type Counters struct {
	UpdatesSent, UpdatesReceived          uint64
	PrefixesAnnounced, PrefixesWithdrawn  uint64 // in UPDATEs
	TimesEstablished, TimesLost           uint64
	NotificationsSent, NotificationsReceived uint64
}

// status is a Session that is written by one and read by others.
type status struct {
	changed func()
	mu      sync.Mutex // guards the field below
	s       Session
}

// edit changes the status, and tells of it when a person would see it.
func (st *status) edit(f func(*Session)) {
	st.mu.Lock()
	before := st.s
	f(&st.s)
	if st.s.State != before.State {
		st.s.Since = time.Now()
	}
	news := st.s != before
	st.mu.Unlock()
	if news {
		st.changed()
	}
}

func (st *status) get(c *counters) Session {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.s
	s.TimesLost = s.TimesEstablished
	if s.State == Established {
		s.TimesLost--
	}
	s.UpdatesSent, s.UpdatesReceived = c.updatesSent.Load(), c.updatesReceived.Load()
	s.PrefixesAnnounced, s.PrefixesWithdrawn = c.announced.Load(), c.withdrawn.Load()
	s.NotificationsSent = c.notificationsSent.Load()
	return s
}

// failing reports whether attempts have failed.
func (st *status) failing() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.s.State == Active
}
