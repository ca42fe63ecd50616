package layer2

import (
	"container/heap"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/notify"
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

// probeAt is when an address that is new to the network is probed before this
// node answers for it, and probed says when it has been for long enough. RFC 5227
// takes seconds for this (2.1.1), as its hosts have nobody waiting.
var probeAt = []time.Duration{0, 60 * time.Millisecond, 120 * time.Millisecond}

const (
	probed = 200 * time.Millisecond
	// probeAgain is how long after a conflict the address is probed once more.
	probeAgain = 10 * time.Second
	// verifyPoll is how often an address whose probes are over waits for the end of a
	// verification.
	verifyPoll = 20 * time.Millisecond
)

// Of many addresses that are due together, as after a node's death, a few at a time
// are seen to: who is to hear of them, and of what else is asked meanwhile, has room
// for some hundred frames. It would lose the same ones each time.
const (
	atOnce   = 16
	breather = 2 * time.Millisecond // from these to the next
)

// maybeLater is how long the link waits before it asks again whether it may speak.
const maybeLater = 50 * time.Millisecond

// phase is where a link stands with an address.
type phase uint8

const (
	probing   phase = iota + 1 // asks whether a foreign host has it
	answering                  // answers for it
	quiet                      // was never announced: leaves it to a foreign host, for a while
)

// tenure is an address's phase and its beginning, which tells one tenure of an
// address from another.
type tenure struct {
	phase phase
	since time.Time
}

// link answers for addresses in one protocol on one interface.
type link struct {
	log     logr.Logger
	name    string // of the interface
	mac     net.HardwareAddr
	wire    wire
	friends *atomic.Pointer[map[string]bool] // MACs of the cluster's nodes
	counts  *counters
	may     func() bool   // whether to say anything now
	changed func()        // called when a phase changed by itself
	wake    notify.Signal // due changed
	ended   chan struct{} // closed when the answering loop has ended
	askers  askers
	gateway func() (heard, bool) // a question of the IPv4 router's, as it may have asked before this node listened

	// addrs is what the link has to do with. It is replaced as a whole, so that
	// the answering loop reads it without a lock.
	addrs atomic.Pointer[map[netip.Addr]tenure]

	mu       sync.Mutex // guards changes of addrs, and the fields below
	due      agenda
	disputes map[netip.Addr]*dispute
	rivals   map[netip.Addr]time.Time // address -> when another node of the cluster claimed it last
	draft    map[netip.Addr]tenure    // what addrs is to be, nil while it is that
}

func newLink(name string, mac net.HardwareAddr, w wire, friends *atomic.Pointer[map[string]bool], counts *counters, may func() bool, changed func(), gateway func() (heard, bool), log logr.Logger) *link {
	l := &link{
		log: log, name: name, mac: mac, wire: w, friends: friends, counts: counts, may: may, changed: changed, gateway: gateway,
		wake: notify.New(), ended: make(chan struct{}), disputes: map[netip.Addr]*dispute{}, rivals: map[netip.Addr]time.Time{},
		askers: askers{of: map[netip.Addr]map[netip.Addr]net.HardwareAddr{}},
	}
	l.addrs.Store(&map[netip.Addr]tenure{})
	return l
}

// set makes addrs what the link answers for. Those for which it is true and that
// are new are probed first.
func (l *link) set(addrs map[netip.Addr]bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := *l.addrs.Load()
	l.draft = make(map[netip.Addr]tenure, len(addrs))
	var errs []error
	for a, probe := range addrs {
		t, had := before[a]
		switch {
		case had && t.phase == probing && !probe:
			l.turn(a, answering, time.Now()) // it is a take-over now: somebody waits for it
		case had:
			l.draft[a] = t
		default:
			if err := l.wire.Listen(a); err != nil {
				errs = append(errs, fmt.Errorf("listen for %s: %w", a, err))
				continue // the next call tries again
			}
			first := answering
			if probe {
				first = probing
			}
			l.turn(a, first, time.Now())
		}
	}
	for a := range before {
		if _, keep := l.draft[a]; !keep {
			delete(l.disputes, a)
			delete(l.rivals, a)
			errs = append(errs, l.wire.Ignore(a))
		}
	}
	l.publish()
	return errors.Join(errs...)
}

// again announces anew those of the addresses that the link answers for.
func (l *link) again(addrs []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range addrs {
		if l.tenureOf(a).phase == answering {
			l.turn(a, answering, time.Now()) // what was scheduled for the time before is void
		}
	}
	l.publish()
}

// turn begins another tenure of an address, whose first appointment is at this
// time. The caller holds mu, and publishes.
func (l *link) turn(a netip.Addr, p phase, at time.Time) {
	if l.draft == nil {
		l.draft = maps.Clone(*l.addrs.Load())
	}
	l.draft[a] = tenure{phase: p, since: time.Now()}
	if d := l.disputes[a]; d != nil { // what was scheduled for it is void
		d.suspect, d.inTenure = nil, 0
		if p == answering && d.mac != nil {
			d.Announced, d.Defended = true, true
		}
	}
	heap.Push(&l.due, appointment{addr: a, tenure: l.draft[a], at: at})
}

// publish puts the draft in force and wakes who keeps the appointments.
func (l *link) publish() {
	if next := l.draft; next != nil {
		l.addrs.Store(&next)
		l.draft = nil
	}
	l.wake.Poke()
}

// tenureOf returns where the link stands with the address; the zero tenure for
// one that it does not have. The caller holds mu.
func (l *link) tenureOf(a netip.Addr) tenure {
	if l.draft != nil {
		return l.draft[a]
	}
	return (*l.addrs.Load())[a]
}

// answers reports whether the link answers for the address.
func (l *link) answers(a netip.Addr) bool { return (*l.addrs.Load())[a].phase == answering }

// listen answers questions, and sees who else has an address, until the wire is
// closed or fails.
func (l *link) listen() {
	defer close(l.ended)
	for {
		h, err := l.wire.Next()
		if err != nil {
			l.log.V(1).Info("stopped answering", "cause", err.Error())
			return
		}
		addrs := *l.addrs.Load()
		if !l.may() {
			if _, ours := addrs[h.Target]; ours {
				l.counts.stalled.Add(1)
			}
			continue
		}
		if _, ours := addrs[h.Has]; ours {
			l.claimed(h, h.Has)
		}
		l.asked(h, addrs[h.Target].phase)
		l.askers.note(h)
	}
}

// asked answers a question for an address that the link is in this phase with, if
// it is to be answered.
func (l *link) asked(h heard, p phase) {
	switch p {
	case answering:
		if err := l.wire.Answer(h); err != nil {
			l.counts.failed.Add(1)
			l.log.V(1).Info("cannot answer", "address", h.Target.String(), "error", err.Error())
			return
		}
		l.counts.answered.Add(1)
	case probing:
		l.counts.probing.Add(1)
		if h.From.IsUnspecified() { // it wants the address as well (RFC 5227, 2.1.1)
			l.claimed(h, h.Target)
		}
	case quiet:
		l.counts.disputed.Add(1)
	}
}

// announce probes and announces as it falls due, until ctx or the answering loop
// ends.
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
		timer.Reset(l.keepAppointments())
	}
}

// keepAppointments does what is due, if that is not too much at once, and returns how
// long to wait for the next.
func (l *link) keepAppointments() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.may() {
		return maybeLater
	}
	gateway := sync.OnceValues(l.gateway) // one look serves all that is due
	wait := announceEvery
	for kept := 0; l.due.Len() > 0; {
		next := l.due[0]
		if wait = time.Until(next.at); wait > 0 {
			break
		}
		if wait = breather; kept == atOnce {
			break
		}
		heap.Pop(&l.due)
		if l.tenureOf(next.addr) == next.tenure { // otherwise it is void
			l.keep(next, gateway)
			kept++
		}
	}
	if l.draft != nil {
		l.publish()
		l.changed()
	}
	return max(wait, 0)
}

// keep does what is due for one address, and makes the next appointment. The
// caller holds mu.
func (l *link) keep(n appointment, gateway func() (heard, bool)) {
	var err error
	switch {
	case n.verification > 0:
		l.keepVerification(n)
		return
	case n.phase == quiet:
		l.turn(n.addr, probing, time.Now())
		return
	case n.phase == probing && n.sent == len(probeAt) && l.isVerifying(n.addr):
		n.at = time.Now().Add(verifyPoll)
		heap.Push(&l.due, n)
		return
	case n.phase == probing && n.sent == len(probeAt):
		delete(l.disputes, n.addr)
		l.turn(n.addr, answering, time.Now())
		return
	case n.phase == probing:
		err = l.wire.Probe(n.addr)
	default:
		err = l.wire.Announce(n.addr)
		if n.sent == 0 || n.sent == refreshedAt {
			err = errors.Join(err, l.refresh(n.addr, gateway))
		}
		if n.looksForRivals() {
			err = errors.Join(err, l.wire.Probe(n.addr))
		}
	}
	if err != nil {
		l.log.V(1).Info("cannot announce", "address", n.addr.String(), "error", err.Error())
	}
	heap.Push(&l.due, n.following())
}

// refresh answers those who asked for the address before, and the router, as if
// they asked again.
func (l *link) refresh(a netip.Addr, gateway func() (heard, bool)) error {
	var errs []error
	questions := l.askers.questions(a)
	if q, ok := gateway(); ok && !slices.ContainsFunc(questions, func(h heard) bool { return h.From == q.From }) {
		q.Target = a
		questions = append(questions, q)
	}
	for _, q := range questions {
		errs = append(errs, l.wire.Answer(q))
	}
	return errors.Join(errs...)
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

// appointment is the next time that something is to be done about an address.
type appointment struct {
	addr netip.Addr
	tenure
	at           time.Time
	sent         int // probes, announcements, or questions of a verification
	verification int // the dispute's verification that this belongs to; 0 for none
}

// looksForRivals reports whether an announcement is followed by a probe, so that a host
// that has the address and says nothing by itself is found: a takeover is not probed
// before, and the node that knew of a conflict may be dead. The node that had the
// address before is given half a second to stop.
func (n appointment) looksForRivals() bool { return n.sent == 3 || n.sent >= len(announceAt)-1 }

// following returns the appointment after this one.
func (n appointment) following() appointment {
	n.sent++
	switch {
	case n.phase == probing && n.sent == len(probeAt):
		n.at = n.since.Add(probed)
	case n.phase == probing:
		n.at = n.since.Add(probeAt[n.sent])
	case n.sent < len(announceAt):
		n.at = n.since.Add(announceAt[n.sent])
	default:
		jitter := rand.N(announceEvery/5) - announceEvery/10
		n.at = n.at.Add(announceEvery + jitter)
	}
	return n
}

// agenda is a heap of appointments, the earliest first.
type agenda []appointment

func (s agenda) Len() int           { return len(s) }
func (s agenda) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s agenda) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *agenda) Push(x any)        { *s = append(*s, x.(appointment)) }
func (s *agenda) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}
