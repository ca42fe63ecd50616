package bgp

import (
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// State is the state of a session (RFC 4271, 8.2.2). The zero State is not valid.
type State uint8

// The states of a session. Unlike in RFC 4271 a session is Connect until the first attempt has
// failed, and then Active while attempts fail or a passive peer's router does not connect. So
// the status does not change every few seconds while a router is down.
const (
	Idle State = iota + 1 // the session is kept down: see LastError
	Connect
	Active
	OpenSent
	OpenConfirm
	Established
)

// String returns the state's name in RFC 4271.
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

// Session is the status of a session.
type Session struct {
	Peer      string // name
	State     State
	Since     time.Time // of the state
	LastError string    // why it is not established, with the likely fix; empty when it is

	// Set once the router's OPEN was accepted.
	Router          netip.AddrPort
	Local           netip.Addr
	RouterASN       uint32
	RouterID        netip.Addr
	HoldTime        time.Duration // negotiated
	GracefulRestart bool          // negotiated
	Note            string        // why routes of a family are not advertised

	PrefixesIPv4, PrefixesIPv6 int // advertised

	Counters
}

// Counters start at 0 when the peer is added.
type Counters struct {
	UpdatesSent, UpdatesReceived             uint64
	PrefixesAnnounced, PrefixesWithdrawn     uint64 // in UPDATEs
	TimesEstablished, TimesLost              uint64
	NotificationsSent, NotificationsReceived uint64
}

// status is a Session that other goroutines read.
type status struct {
	changed func()
	mu      sync.Mutex // guards the field below
	s       Session
}

// edit changes the status, and calls changed if it differs.
func (st *status) edit(f func(*Session)) {
	st.mu.Lock()
	before := st.s
	f(&st.s)
	if st.s.State != before.State {
		st.s.Since = time.Now()
	}
	differs := st.s != before
	st.mu.Unlock()
	if differs {
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
