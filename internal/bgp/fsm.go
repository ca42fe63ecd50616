package bgp

import (
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// fsm is the finite state machine of one connection (RFC 4271, 8) after it was opened and
// this node's OPEN was sent: OpenSent, OpenConfirm, Established. It is pure: for a message or
// an expired timer it returns the action. The first error ends it.
type fsm struct {
	peer  lb.BGPPeer
	state State
	// router is the content of the router's OPEN, from OpenConfirm on.
	router openInfo
}

// action is the action after a message.
type action uint8

const (
	nothing        action = iota
	confirmOpen           // send KEEPALIVEs; the router's OPEN is accepted
	advertiseAll          // send all routes; the session is established
	advertiseAgain        // send all routes again (RFC 2918)
	countUpdate           // an UPDATE was received, whose routes are ignored
)

func newFSM(p lb.BGPPeer) fsm { return fsm{peer: p, state: OpenSent} }

// receive handles a message whose header is valid. The error is a NOTIFICATION, received from
// the router or to be sent to it.
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
	f.router = o // also needed to describe the error
	if err == nil {
		err = o.accept(&f.peer)
	}
	if err != nil {
		return nothing, err
	}
	f.state = OpenConfirm
	return confirmOpen, nil
}

// receiveRefresh handles a ROUTE-REFRESH (RFC 2918, 4). It ignores families that the session
// does not have. For either family the routes of both are sent again, as routers request
// both one after the other.
func (f *fsm) receiveRefresh(m message) action {
	switch familyOf(m.body()) {
	case gobgp.RF_IPv4_UC, gobgp.RF_IPv6_UC:
		return advertiseAgain
	}
	return nothing
}

// restarts reports whether the router keeps routes after the session ends (RFC 4724), and
// whether also after a NOTIFICATION (RFC 8538).
func (f *fsm) restarts() (restart, notified bool) {
	restart = f.peer.GracefulRestart && f.router.restart
	return restart, restart && f.peer.Watched && f.router.restartNotified
}

const (
	// openTimeout is how long a router may take to send its OPEN, and then the KEEPALIVE that
	// confirms this node's OPEN. RFC 4271 (8.2.2) suggests 4 minutes, for slower links.
	openTimeout = 20 * time.Second
	// sendHoldTime is how long a router may accept no data if there is no hold time (RFC 9687).
	sendHoldTime = 8 * time.Minute
)

// holdTime returns the negotiated hold time; 0 is none.
func (f *fsm) holdTime() time.Duration { return min(f.peer.HoldTime, f.router.hold) }

// holdTimer returns how long to wait for the next message in this state; 0 is without limit.
func (f *fsm) holdTimer() time.Duration {
	switch hold := f.holdTime(); {
	case f.state == Established:
		return hold
	case f.state == OpenConfirm && hold != 0:
		return min(hold, openTimeout)
	}
	return openTimeout
}

// sendHoldTimer returns how long the router may accept no data (RFC 9687, 3.1). Such a router
// does not receive withdrawals either.
func (f *fsm) sendHoldTimer() time.Duration {
	if hold := f.holdTime(); hold != 0 {
		return 2 * hold
	}
	return sendHoldTime
}

// keepaliveTimer returns the interval of KEEPALIVEs; 0 is never.
func (f *fsm) keepaliveTimer() time.Duration {
	interval := f.holdTime() / 3
	if f.peer.KeepaliveTime != 0 {
		interval = min(interval, f.peer.KeepaliveTime)
	}
	return interval
}

// expire returns the error with which an expired hold timer ends the session; lastNotification
// returns the NOTIFICATION for it.
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

// A collision is the decision about two connections with one router (RFC 4271, 6.8).
type collision uint8

const (
	keepOld collision = iota + 1
	keepNew
)

// collide decides between the session's connection and a new one whose OPEN is accepted. Only
// a passive peer can have two connections, both initiated by the router. Therefore comparing
// the BGP identifiers, which is for connections initiated by different sides, does not apply.
// restart says that graceful restart was negotiated: then the router has restarted (RFC 4724,
// 4.2). Otherwise its former session must end first.
func collide(old State, restart bool) collision {
	if old == Established && !restart {
		return keepOld
	}
	return keepNew
}
