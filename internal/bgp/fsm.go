package bgp

import (
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// fsm is the finite state machine of one connection (RFC 4271, 8), from when the
// connection is there and this node's OPEN is sent: OpenSent, OpenConfirm, Established.
// It decides only: it is given messages and expired timers, and says what follows. The
// first error ends it.
type fsm struct {
	peer  lb.BGPPeer
	state State
	// router is what its OPEN says, from OpenConfirm on.
	router opening
}

// action is what follows from a message.
type action uint8

const (
	nothing        action = iota
	confirmOpen           // send KEEPALIVEs; the router's OPEN is good
	advertiseAll          // send all routes; the session is established
	advertiseAgain        // send the routes once more (RFC 2918)
	countUpdate           // an UPDATE came, whose routes are not wanted
)

func newFSM(p lb.BGPPeer) fsm { return fsm{peer: p, state: OpenSent} }

// receive takes a message whose header is good. The error is a NOTIFICATION, either
// what the router sent or what it gets.
func (f *fsm) receive(m message) (action, error) {
	if m.kind() == gobgp.BGP_MSG_NOTIFICATION {
		return nothing, &notifiedError{notification: newNotification(m)}
	}
	switch f.state {
	case OpenSent:
		if m.kind() == gobgp.BGP_MSG_OPEN {
			return f.receiveOpen(m)
		}
	case OpenConfirm:
		if m.kind() == gobgp.BGP_MSG_KEEPALIVE {
			f.state = Established
			return advertiseAll, nil
		}
	case Established:
		switch m.kind() {
		case gobgp.BGP_MSG_KEEPALIVE:
			return nothing, nil
		case gobgp.BGP_MSG_UPDATE:
			return countUpdate, checkUpdate(m)
		case gobgp.BGP_MSG_ROUTE_REFRESH:
			return f.receiveRefresh(m), nil
		}
	}
	return nothing, refuse(gobgp.BGP_ERROR_FSM_ERROR, unexpected[f.state], m.kind())
}

// unexpected are the subcodes for a message that a state does not allow (RFC 6608, 3).
var unexpected = map[State]uint8{
	OpenSent:    gobgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENSENT_STATE,
	OpenConfirm: gobgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_OPENCONFIRM_STATE,
	Established: gobgp.BGP_ERROR_SUB_RECEIVE_UNEXPECTED_MESSAGE_IN_ESTABLISHED_STATE,
}

func (f *fsm) receiveOpen(m message) (action, error) {
	o, err := parseOpen(m)
	f.router = o // also for the words about the error
	if err == nil {
		err = o.accept(&f.peer)
	}
	if err != nil {
		return nothing, err
	}
	f.state = OpenConfirm
	return confirmOpen, nil
}

// receiveRefresh answers a ROUTE-REFRESH (RFC 2918, 4), unless it is for a family that
// the session does not have. Whichever it is for, the routes of both are sent again:
// routers ask for both in a row.
func (f *fsm) receiveRefresh(m message) action {
	switch familyOf(m.body()) {
	case gobgp.RF_IPv4_UC, gobgp.RF_IPv6_UC:
		return advertiseAgain
	}
	return nothing
}

// restarts reports whether the router keeps routes over the end of the session (RFC
// 4724), and also after a NOTIFICATION (RFC 8538).
func (f *fsm) restarts() (restart, notified bool) {
	restart = f.peer.GracefulRestart && f.router.restart
	return restart, restart && f.peer.Watched && f.router.restartNotified
}

const (
	// openTimeout is how long a router may take for its OPEN, and again for the KEEPALIVE
	// that confirms this node's. RFC 4271 (8.2.2) suggests 4 minutes, for the links of
	// its time.
	openTimeout = 20 * time.Second
	// sendHoldTime is how long a router without a hold time may accept no data (RFC 9687).
	sendHoldTime = 8 * time.Minute
)

// holdTime returns the hold time that was agreed on; 0 is none.
func (f *fsm) holdTime() time.Duration { return min(f.peer.HoldTime, f.router.hold) }

// holdTimer returns how long the router may be silent now; 0 is for ever.
func (f *fsm) holdTimer() time.Duration {
	switch hold := f.holdTime(); {
	case f.state == Established:
		return hold
	case f.state == OpenConfirm && hold != 0:
		return min(hold, openTimeout)
	}
	return openTimeout
}

// sendHoldTimer returns how long the router may accept no data (RFC 9687, 3.1): then
// it would not see withdrawals either.
func (f *fsm) sendHoldTimer() time.Duration {
	if hold := f.holdTime(); hold != 0 {
		return 2 * hold
	}
	return sendHoldTime
}

// keepaliveTimer returns how often a KEEPALIVE is sent; 0 is never.
func (f *fsm) keepaliveTimer() time.Duration {
	interval := f.holdTime() / 3
	if f.peer.KeepaliveTime != 0 {
		interval = min(interval, f.peer.KeepaliveTime)
	}
	return interval
}

// expire is what follows when the hold timer has expired: the cause of the session's
// end, and the NOTIFICATION for the router.
func (f *fsm) expire() error {
	switch f.state {
	case OpenSent:
		return errNoOpen
	case OpenConfirm:
		return errNoKeepalive
	default:
		return refuse(gobgp.BGP_ERROR_HOLD_TIMER_EXPIRED, unspecific)
	}
}

// A collision is what becomes of two connections with one router (RFC 4271, 6.8).
type collision uint8

const (
	keepOld collision = iota + 1
	keepNew
)

// collide decides between the connection that has the session and a new one, whose OPEN
// is good. Only a passive peer can have two, and the router has begun both: so the
// comparison of BGP identifiers, which is for connections that each side has begun,
// decides nothing. restart is whether graceful restart was agreed on: then the router
// has restarted (RFC 4724, 4.2). Otherwise it must first lose the session that it has.
func collide(old State, restart bool) collision {
	if old == Established && !restart {
		return keepOld
	}
	return keepNew
}
