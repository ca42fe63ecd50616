package bfd

import (
	"time"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

// Status is how an Engine does.
type Status struct {
	Priority Priority // of the timers' thread
	// Late is how late the timers were at worst since the last Status, and ever.
	Late, LateEver time.Duration
	// Refused counts packets by why they were discarded (RFC 5880, 6.8.6).
	Refused  map[session.Fault]uint64
	Sessions []SessionStatus // sorted by peer
}

// SessionStatus is how a session does.
type SessionStatus struct {
	Key         Key
	State       State
	Diag        Diag // why it was last down, in our own words
	RemoteState State
	RemoteDiag  Diag      // and in the peer's
	Since       time.Time // when it came to this state
	Err         string    // what keeps it from sending or receiving

	Discriminator       uint32
	RemoteDiscriminator uint32 // zero: no packet of the peer was received
	SourcePort          uint16

	TransmitInterval       time.Duration // as negotiated (RFC 5880, 6.8.2)
	DetectionTime          time.Duration // as negotiated (RFC 5880, 6.8.4); zero while no packets arrive
	RemoteTransmitInterval time.Duration // what the peer offers
	RemoteReceiveInterval  time.Duration // what the peer takes
	RemoteMultiplier       uint8

	Counters
}

// Counters count from when the session was added.
type Counters struct {
	Sent, Received uint64 // packets; those received were valid
	SendErrors     uint64
	Refused        uint64 // packets of too low a TTL
	Ups            uint64 // times that it came up
	Downs          uint64 // times that it went down from Up
	Timeouts       uint64 // of those, because no packet arrived
}

func (p *peer) status() SessionStatus {
	state, diag := p.session.State()
	remote := p.session.Remote()
	s := SessionStatus{
		Key: p.key, State: state, Diag: diag, RemoteState: remote.State, RemoteDiag: remote.Diag, Since: p.since,
		Discriminator: p.session.Discriminator(), RemoteDiscriminator: remote.Discriminator, SourcePort: p.port,
		TransmitInterval: p.session.TransmitInterval(), DetectionTime: p.session.DetectionTime(),
		RemoteTransmitInterval: remote.DesiredMinTx, RemoteReceiveInterval: remote.RequiredMinRx, RemoteMultiplier: remote.DetectMult,
		Counters: p.Counters,
	}
	if p.err != nil {
		s.Err = p.err.Error()
	}
	return s
}
