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

// announceAt are the times at which an address is announced since this node began to
// answer for it. The repetitions make up for a lost frame, a switch port that is still
// learning, and neighbours that lock a fresh cache entry for a second.
var announceAt = []time.Duration{
	0, 50 * time.Millisecond, 200 * time.Millisecond, 500 * time.Millisecond,
	time.Second, 2 * time.Second, 4 * time.Second,
}

// announceEvery is the interval of later announcements, with a jitter of ±10 %, for
// neighbours and switches that missed all the first ones.
const announceEvery = time.Minute

// probeAt are the times at which an address that is new to the network is probed. This node
// answers for it after probeDuration. RFC 5227 probes for seconds (2.1.1), which is too
// long for the clients of a new Service.
var probeAt = []time.Duration{0, 60 * time.Millisecond, 120 * time.Millisecond}

const (
	probeDuration = 200 * time.Millisecond
	// reprobeAfter is how long after a conflict the address is probed again.
	reprobeAfter = 10 * time.Second
	// verifyPoll is how often an address whose probes are over checks whether the
	// verification of a claim has ended.
	verifyPoll = 20 * time.Millisecond
)

// Many addresses may be due at the same time, as after a node failure. They are announced in
// batches: receivers queue some hundred frames, and would drop the same ones each time.
const (
	batchSize     = 16
	batchInterval = 2 * time.Millisecond
)

// stallPoll is how often the link checks whether it may send again.
const stallPoll = 50 * time.Millisecond

// phase is the state of an address on a link.
type phase uint8

const (
	probing   phase = iota + 1 // the link asks whether a foreign host uses the address
	answering                  // the link answers for the address
	yielded                    // the address was never announced and a foreign host uses it; it is probed again later
)

// ownership is the phase of an address and when it began, which distinguishes it from an
// earlier ownership of the same address.
type ownership struct {
	phase phase
	since time.Time
}

// link answers for addresses in one protocol on one interface.
type link struct {
	log         logr.Logger
	name        string // of the interface
	mac         net.HardwareAddr
	conn        conn
	clusterMACs *atomic.Pointer[map[string]bool] // MACs of the cluster's nodes
	counts      *counters
	mayAnswer   func() bool   // whether the link may send now
	changed     func()        // called when a phase changed other than by Apply
	wake        notify.Signal // receives when due has changed
	ended       chan struct{} // closed when the receive loop has ended
	queriers    queriers
	gateway     func() (frame, bool) // a query by the IPv4 router, which may have queried before this node listened

	// addrs are the link's addresses. The map is replaced as a whole, so that the receive
	// loop reads it without a lock.
	addrs atomic.Pointer[map[netip.Addr]ownership]

	mu       sync.Mutex // guards changes of addrs, and the fields below
	due      schedule
	disputes map[netip.Addr]*dispute
	// verifications are those started so far. They are numbered by link and not by dispute: a
	// dispute that begins after another one ended must not continue the tasks of that one.
	verifications int
	rivals        map[netip.Addr]time.Time // address -> the last claim by another node of the cluster
	draft         map[netip.Addr]ownership // the next value of addrs; nil if nothing changed
}

func newLink(name string, mac net.HardwareAddr, c conn, clusterMACs *atomic.Pointer[map[string]bool], counts *counters, mayAnswer func() bool, changed func(), gateway func() (frame, bool), log logr.Logger) *link {
	l := &link{
		log: log, name: name, mac: mac, conn: c, clusterMACs: clusterMACs, counts: counts, mayAnswer: mayAnswer, changed: changed, gateway: gateway,
		wake: notify.New(), ended: make(chan struct{}), disputes: map[netip.Addr]*dispute{}, rivals: map[netip.Addr]time.Time{},
		queriers: queriers{byAddress: map[netip.Addr]map[netip.Addr]net.HardwareAddr{}},
	}
	l.addrs.Store(&map[netip.Addr]ownership{})
	return l
}

// setAddresses sets the addresses that the link answers for. New ones for which the value is
// true are probed first.
func (l *link) setAddresses(addrs map[netip.Addr]bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	before := *l.addrs.Load()
	l.draft = make(map[netip.Addr]ownership, len(addrs))
	var errs []error
	for a, probe := range addrs {
		t, had := before[a]
		switch {
		case had && t.phase == probing && !probe:
			l.setPhase(a, answering, time.Now()) // a takeover: clients are waiting, so do not probe further
		case had:
			l.draft[a] = t
		default:
			if err := l.conn.Listen(a); err != nil {
				errs = append(errs, fmt.Errorf("listen for %s: %w", a, err))
				continue // the next call retries
			}
			first := answering
			if probe {
				first = probing
			}
			l.setPhase(a, first, time.Now())
		}
	}
	for a := range before {
		if _, keep := l.draft[a]; !keep {
			delete(l.disputes, a)
			delete(l.rivals, a)
			errs = append(errs, l.conn.Ignore(a))
		}
	}
	l.publish()
	return errors.Join(errs...)
}

// reannounce restarts the announcements of those addresses that the link answers for.
func (l *link) reannounce(addrs []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, a := range addrs {
		if l.ownershipOf(a).phase == answering {
			l.setPhase(a, answering, time.Now()) // voids the tasks of the former ownership
		}
	}
	l.publish()
}

// setPhase begins a new ownership of an address and schedules its first task. The caller
// holds mu and calls publish.
func (l *link) setPhase(a netip.Addr, p phase, at time.Time) {
	if l.draft == nil {
		l.draft = maps.Clone(*l.addrs.Load())
	}
	l.draft[a] = ownership{phase: p, since: time.Now()}
	if d := l.disputes[a]; d != nil { // a running verification is void
		d.suspect, d.inPhase = nil, 0
		if p == answering && d.mac != nil {
			d.Announced, d.Defended = true, true
		}
	}
	heap.Push(&l.due, task{addr: a, ownership: l.draft[a], at: at})
}

// publish replaces addrs by the draft and wakes the goroutine that runs the tasks.
func (l *link) publish() {
	if next := l.draft; next != nil {
		l.addrs.Store(&next)
		l.draft = nil
	}
	l.wake.Poke()
}

// ownershipOf returns the ownership of the address; the zero value if the link does not have
// it. The caller holds mu.
func (l *link) ownershipOf(a netip.Addr) ownership {
	if l.draft != nil {
		return l.draft[a]
	}
	return (*l.addrs.Load())[a]
}

// answers reports whether the link answers for the address.
func (l *link) answers(a netip.Addr) bool { return (*l.addrs.Load())[a].phase == answering }

// listen answers queries and detects claims of other hosts until the connection is closed
// or fails.
func (l *link) listen() {
	defer close(l.ended)
	for {
		f, err := l.conn.Next()
		if err != nil {
			l.log.V(1).Info("stopped receiving", "cause", err.Error())
			return
		}
		addrs := *l.addrs.Load()
		if !l.mayAnswer() {
			if _, ours := addrs[f.Target]; ours {
				l.counts.stalled.Add(1)
			}
			continue
		}
		if _, ours := addrs[f.Claimed]; ours {
			l.handleClaim(f, f.Claimed)
		}
		l.answerQuery(f, addrs[f.Target].phase)
		l.queriers.record(f)
	}
}

// answerQuery answers a query for an address that is in this phase, or counts why it is
// dropped.
func (l *link) answerQuery(f frame, p phase) {
	switch p {
	case answering:
		if err := l.conn.Answer(f); err != nil {
			l.counts.failed.Add(1)
			l.log.V(1).Info("answering a query failed", "address", f.Target.String(), "error", err.Error())
			return
		}
		l.counts.answered.Add(1)
	case probing:
		l.counts.probing.Add(1)
		if f.Sender.IsUnspecified() { // the other host probes for the same address (RFC 5227, 2.1.1)
			l.handleClaim(f, f.Target)
		}
	case yielded:
		l.counts.disputed.Add(1)
	}
}

// announce sends the probes and announcements that are due, until ctx or the receive loop
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
		timer.Reset(l.runDueTasks())
	}
}

// runDueTasks runs at most batchSize of the tasks that are due and returns the time until
// the next one.
func (l *link) runDueTasks() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.mayAnswer() {
		return stallPoll
	}
	gateway := sync.OnceValues(l.gateway) // one lookup for all tasks that are due
	wait := announceEvery
	for kept := 0; l.due.Len() > 0; {
		next := l.due[0]
		if wait = time.Until(next.at); wait > 0 {
			break
		}
		if wait = batchInterval; kept == batchSize {
			break
		}
		heap.Pop(&l.due)
		if l.ownershipOf(next.addr) == next.ownership { // otherwise it is void
			l.runTask(next, gateway)
			kept++
		}
	}
	if l.draft != nil {
		l.publish()
		l.changed()
	}
	return max(wait, 0)
}

// runTask runs the task that is due for one address and schedules the next. The caller holds
// mu.
func (l *link) runTask(n task, gateway func() (frame, bool)) {
	var err error
	switch {
	case n.verification > 0:
		l.continueVerification(n)
		return
	case n.phase == yielded:
		l.setPhase(n.addr, probing, time.Now())
		return
	case n.phase == probing && n.sent == len(probeAt) && l.isVerifying(n.addr):
		n.at = time.Now().Add(verifyPoll)
		heap.Push(&l.due, n)
		return
	case n.phase == probing && n.sent == len(probeAt):
		delete(l.disputes, n.addr)
		l.setPhase(n.addr, answering, time.Now())
		return
	case n.phase == probing:
		err = l.conn.Probe(n.addr)
	default:
		err = l.conn.Announce(n.addr)
		if n.sent == 0 || n.sent == refreshAfter {
			err = errors.Join(err, l.refresh(n.addr, gateway))
		}
		if n.probesForConflict() {
			err = errors.Join(err, l.conn.Probe(n.addr))
		}
	}
	if err != nil {
		l.log.V(1).Info("announcing the address failed", "address", n.addr.String(), "error", err.Error())
	}
	heap.Push(&l.due, n.next())
}

// refresh sends a reply to the hosts that queried the address before, and to the router, as
// if they queried again.
func (l *link) refresh(a netip.Addr, gateway func() (frame, bool)) error {
	var errs []error
	queries := l.queriers.queries(a)
	if q, ok := gateway(); ok && !slices.ContainsFunc(queries, func(f frame) bool { return f.Sender == q.Sender }) {
		q.Target = a
		queries = append(queries, q)
	}
	for _, q := range queries {
		errs = append(errs, l.conn.Answer(q))
	}
	return errors.Join(errs...)
}

// hasEnded reports whether the receive loop has ended, so that the link must be reopened.
func (l *link) hasEnded() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}

func (l *link) close() {
	if err := l.conn.Close(); err != nil {
		l.log.V(1).Info("closing the link failed", "error", err.Error())
	}
}

// task is the next scheduled packet, or change of phase, of an address.
type task struct {
	addr netip.Addr
	ownership
	at           time.Time
	sent         int // probes, announcements, or queries of a verification
	verification int // the dispute's verification that the task belongs to; 0 for none
}

// probesForConflict reports whether an announcement is followed by a probe, which finds a
// host that uses the address without announcing it. A takeover is not probed before, and the
// node that knew about a conflict may have failed. The first probe comes after half a
// second, so that the former owner has time to stop.
func (n task) probesForConflict() bool { return n.sent == 3 || n.sent >= len(announceAt)-1 }

// next returns the task after this one.
func (n task) next() task {
	n.sent++
	switch {
	case n.phase == probing && n.sent == len(probeAt):
		n.at = n.since.Add(probeDuration)
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

// schedule is a heap of tasks, ordered by time.
type schedule []task

func (s schedule) Len() int           { return len(s) }
func (s schedule) Less(i, j int) bool { return s[i].at.Before(s[j].at) }
func (s schedule) Swap(i, j int)      { s[i], s[j] = s[j], s[i] }
func (s *schedule) Push(x any)        { *s = append(*s, x.(task)) }
func (s *schedule) Pop() any {
	last := len(*s) - 1
	x := (*s)[last]
	*s = (*s)[:last]
	return x
}
