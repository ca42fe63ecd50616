package bfd

import (
	"context"
	crand "crypto/rand"
	"encoding/binary"
	"maps"
	"math/rand/v2"
	"time"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

const (
	// changesPerTurn is how many sessions are added, changed or removed before the
	// timers are looked after again. Each takes a few system calls.
	changesPerTurn = 16

	// packetsPerTurn is how many packets are read from a socket before the timers
	// are looked after: far more than a socket's buffer holds, so that only a flood
	// gets there.
	packetsPerTurn = 100_000
)

// loop is all that the timers' goroutine owns.
type loop struct {
	*Engine
	priority  Priority
	current   *map[Key]SessionSpec // what todo was made of
	todo      []Key                // sessions that are not as they should be
	peers     map[Key]*peer
	leaving   map[Key]*peer // being told AdminDown
	listeners map[socketKey]listener
	directory directory
	schedule  schedule
	received  time.Time // when all sockets were last read
	refused   map[session.Fault]uint64
	late      time.Duration
	lateEver  time.Duration
	buf       []byte
}

func newLoop(e *Engine, p Priority) *loop {
	return &loop{
		Engine: e, priority: p, peers: map[Key]*peer{}, leaving: map[Key]*peer{}, listeners: map[socketKey]listener{},
		directory: newDirectory(), refused: map[session.Fault]uint64{}, received: time.Now(), buf: make([]byte, 0, session.PacketLen),
	}
}

// run turns until ctx is done and all peers know. Each turn reads what has
// arrived by its begin before it looks for what is overdue at its begin.
func (l *loop) run(ctx context.Context) {
	for {
		now := time.Now()
		l.receive(now)
		l.reconcile(now, ctx.Err() != nil)
		l.fire(now)
		l.answer()
		if ctx.Err() != nil && len(l.peers)+len(l.leaving) == 0 {
			return
		}
		l.net.Wait(l.until(now))
	}
}

func (l *loop) until(now time.Time) time.Time {
	if len(l.todo) > 0 {
		return now
	}
	if p := l.schedule.first(); p != nil {
		if p.deadline.IsZero() {
			return now // of a session that has sent nothing yet
		}
		return p.deadline
	}
	return time.Time{}
}

// receive reads all packets that arrived before now.
func (l *loop) receive(now time.Time) {
	for key, listener := range l.listeners {
		for range packetsPerTurn {
			d, ok := listener.Next(l.received, now)
			if !ok {
				break
			}
			l.take(key, d)
			if d.At.After(now) {
				break
			}
		}
	}
	l.received = now
}

// take hands a packet to the session that it is for, unless there is a reason to
// discard it (RFC 5880, 6.8.6; RFC 5881, 5; RFC 5883, 5).
func (l *loop) take(key socketKey, d datagram) {
	if !key.multiHop && d.TTL != maxTTL {
		l.discard(session.FaultTTL)
		return
	}
	packet, err := session.Parse(d.Payload)
	if fault, bad := err.(session.Fault); bad { //nolint:errorlint // it is promised to be a Fault itself
		l.discard(fault)
		return
	}
	p := l.directory.find(key, d, packet.YourDiscriminator)
	if p == nil {
		l.discard(session.FaultNoSession)
		l.suspect(key, d)
		return
	}
	if key.multiHop && d.TTL < int(p.spec.MinimumTTL) {
		p.Refused++
		l.discard(session.FaultTTL)
		return
	}
	p.Received++
	l.handle(p, p.session.Receive(d.At, packet), d.At)
}

// suspect looks, in a while, for the interfaces of the sessions that a packet would be
// for if it had come by theirs: one may be another by the same name now, and who waits
// to be spoken to has sent nothing that would have failed.
func (l *loop) suspect(key socketKey, d datagram) {
	for _, p := range l.directory.byAddress[addressKey{key, d.From}] {
		if state, _ := p.session.State(); state == session.Down && p.path.device != "" && p.ifindex != d.Interface && p.retryAt.IsZero() {
			p.retryAt = d.At.Add(retry)
			l.handle(p, session.Output{}, d.At)
		}
	}
}

// fire does what is due at now.
func (l *loop) fire(now time.Time) {
	for {
		p := l.schedule.first()
		if p == nil || p.deadline.After(now) {
			return
		}
		if !p.deadline.IsZero() {
			l.late = max(l.late, now.Sub(p.deadline))
		}
		switch {
		case p.farewells > 0:
			l.bid(p, now)
		case !p.retryAt.IsZero() && !p.retryAt.After(now):
			l.open(p, now)
			fallthrough
		default:
			l.handle(p, p.session.Tick(now), now)
		}
	}
}

// handle does what a session wants done.
func (l *loop) handle(p *peer, out session.Output, now time.Time) {
	if out.Send {
		l.send(p, out.Packet.Append(l.buf), now)
	}
	for _, c := range out.Changes {
		p.since = c.At
		p.count(c)
		l.news.add(item{Event: Event{
			Key: p.key, State: c.To, Diag: c.Diag, RemoteState: c.Remote.State, RemoteDiag: c.Remote.Diag, Since: c.At,
		}})
	}
	at, ok := p.next(now)
	l.schedule.set(p, at, ok)
}

func (p *peer) count(c session.Change) {
	if c.To == session.Up {
		p.Ups++
	}
	if c.From == session.Up {
		p.Downs++
		if c.Diag == session.DiagTimeout {
			p.Timeouts++
		}
	}
}

// answer replies to requests for the state of the sessions.
func (l *loop) answer() {
	for {
		select {
		case to := <-l.queries:
			to <- l.status()
		default:
			return
		}
	}
}

func (l *loop) status() Status {
	l.lateEver = max(l.lateEver, l.late)
	s := Status{
		Priority: l.priority, Late: l.late, LateEver: l.lateEver, Refused: maps.Clone(l.refused), Sessions: make([]SessionStatus, 0, len(l.peers)),
	}
	l.late = 0
	for _, p := range l.peers {
		s.Sessions = append(s.Sessions, p.status())
	}
	return s
}

// discriminator returns one that is unique here and cannot be guessed, so
// that no distant host can impersonate a peer (RFC 5880, 9).
func (l *loop) discriminator() uint32 {
	for {
		var b [4]byte
		_, _ = crand.Read(b[:]) // never fails
		if d := binary.BigEndian.Uint32(b[:]); d != 0 && l.directory.byDiscriminator[d] == nil {
			return d
		}
	}
}

func (l *loop) newSession(s SessionSpec) *session.Session {
	return session.New(l.discriminator(), s.params(), rand.Float64)
}
