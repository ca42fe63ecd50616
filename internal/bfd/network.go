package bfd

import (
	"net/netip"
	"time"
)

// Ports (RFC 5881, 4; RFC 5883, 5).
const (
	singleHopPort   = 3784
	multiHopPort    = 4784
	firstSourcePort = 49152
	lastSourcePort  = 65535
)

// maxTTL is what we send with, and what a neighbour's packets must arrive with
// (RFC 5881, 5): a packet from further away cannot have it.
const maxTTL = 255

// network is the kernel. All but Wake is called by one goroutine, between Open
// and Close.
type network interface {
	// Open prepares the goroutine that calls it for its timers.
	Open() (Priority, error)
	// Listen opens a receiving socket.
	Listen(socketKey) (listener, error)
	// Dial opens a session's sending socket, from that source port if it is free;
	// zero is any.
	Dial(path, uint16) (sender, error)
	// Wait waits until a packet has arrived, Wake is called, or that time; the
	// zero time never comes.
	Wait(until time.Time)
	Wake()
	Close()
}

type listener interface {
	// Next returns the next packet that is waiting, without waiting for one. It
	// arrived after the time since; when it cannot be known when, it was at now.
	Next(since, now time.Time) (datagram, bool)
	// Stale is whether the device that it was opened for is no more.
	Stale() bool
	Close()
}

type sender interface {
	Send([]byte) error
	Port() uint16
	// Interface returns the index of the interface that it is bound to; zero is
	// none.
	Interface() int
	Close()
}

// datagram is a packet that arrived.
type datagram struct {
	Payload   []byte // until the next is asked for
	From, To  netip.Addr
	Interface int // by which it came
	TTL       int
	At        time.Time
}

// Priority is how the timers' thread is scheduled.
type Priority uint8

// Priorities.
const (
	PriorityNormal   Priority = iota + 1 // like any other
	PriorityNice                         // with the best nice value
	PriorityRealTime                     // before all that is not real-time
)

func (p Priority) String() string {
	switch p {
	case PriorityNormal:
		return "normal"
	case PriorityNice:
		return "nice"
	case PriorityRealTime:
		return "real-time"
	default:
		return "not running"
	}
}
