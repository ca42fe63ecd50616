package members

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

const (
	fullSync   = 10 * time.Second // with one random member
	tcpTimeout = time.Second      // of a full sync

	// retransmitMult x log10(nodes+1), rounded up, is how often each node that has
	// news passes it on. With memberlist's usual 4, one delivery in a hundred among
	// seven nodes came only with the next full sync, without any packet lost: some
	// are sent to nodes that are dead, and who has the news already has it again.
	retransmitMult = 12

	// repeatMult is the same for what its sender has told all others already: for the few
	// who missed that. It is memberlist's usual one.
	repeatMult = 4

	// largestDatagram is what one of memberlist's packets has with its envelope.
	largestDatagram = 1400

	// maxPacket is what fits into one of memberlist's packets beside its own headers.
	maxPacket = 1200

	// maxAtOnce is how many packets a speaker sends at once.
	maxAtOnce = 1000

	// claimIsFresh is how long the owner of a claim has to be heard of. Speakers
	// that meet again tell their claims at once; that those they took for dead
	// are alive takes a few gossip intervals more.
	claimIsFresh = 400 * time.Millisecond

	// What others settle between them is looked at together: whom watchers hear, which
	// may be one that was dead, and claims, which tell this node nothing to do.
	opinionsTogether = 100 * time.Millisecond
	claimsTogether   = 500 * time.Millisecond
)

// Config is what a member needs to know.
type Config struct {
	Node string     // this node's name
	Bind netip.Addr // the address to listen on and to be reached at
	Port uint16     // UDP and TCP
	// Keys are those that this speaker understands, each of 16, 24 or 32 bytes. What it
	// says it encrypts with the first.
	Keys [][]byte
	// Generation must be higher at each start of the same node's speaker, so
	// that its facts replace those of the run before: the start time in ns.
	Generation uint64
	// Term is that of what this speaker says, as SetTerm.
	Term     uint64
	Failover Failover
	Log      logr.Logger
}

// Members is this speaker's place in the gossip.
type Members struct {
	cfg     Config
	timers  timers
	state   *state
	changed notify.Signal
	queue   *memberlist.TransmitLimitedQueue // of what goes from one to the next
	repeats *memberlist.TransmitLimitedQueue // of what all were told

	born    time.Time
	beating atomic.Int64 // when after born this speaker's heart last beat; -1 while it has lapsed
	lapsed  notify.Signal
	heart   *tasks // sends heartbeats
	tasks   *tasks // all else that this member does in goroutines

	transport *transport
	keys      keyring

	mu     sync.Mutex // guards the fields below
	list   *memberlist.Memberlist
	facts  versioned // this node's
	roster roster
	nodes  map[string]netip.AddrPort // where members are, and were
	pulses pulses
	outbox outbox
	due    map[time.Duration]bool // after born: when notifyEvery notifies
}

// New returns a member that does nothing until Start.
func New(cfg Config) *Members {
	t := cfg.Failover.timers()
	m := &Members{
		cfg: cfg, timers: t, state: newState(time.Now, cfg.Node), facts: versioned{Version: cfg.Generation},
		born: time.Now(), heart: newTasks(), tasks: newTasks(), changed: notify.New(), lapsed: notify.New(),
		roster: newRoster(time.Now, t.silence), nodes: map[string]netip.AddrPort{}, pulses: newPulses(cfg.Node, t), outbox: newOutbox(), due: map[time.Duration]bool{},
	}
	m.state.term, m.facts.Term = cfg.Term, cfg.Term
	m.queue = &memberlist.TransmitLimitedQueue{RetransmitMult: retransmitMult, NumNodes: m.count}
	m.repeats = &memberlist.TransmitLimitedQueue{RetransmitMult: repeatMult, NumNodes: m.count}
	return m
}

// Start begins to listen and to gossip. Stop must follow.
func (m *Members) Start() error {
	if err := m.SetKeys(m.cfg.Keys); err != nil {
		return err
	}
	c := memberlist.DefaultLANConfig()
	c.Name = m.cfg.Node
	c.BindAddr, c.BindPort = m.cfg.Bind.String(), int(m.cfg.Port)
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.UDPBufferSize = largestDatagram - envelopeOverhead
	c.ProbeInterval, c.ProbeTimeout = m.timers.interval, m.timers.timeout
	c.SuspicionMult = m.timers.suspicion
	c.AwarenessMaxMultiplier = 2
	c.GossipInterval = m.timers.gossip
	c.PushPullInterval = fullSync
	c.TCPTimeout = tcpTimeout
	c.EnableCompression = false         // it costs more than it saves of messages as small as these
	c.DeadNodeReclaimTime = time.Second // a node may come back with another address
	c.Delegate, c.Events, c.Alive = (*delegate)(m), (*delegate)(m), (*delegate)(m)
	c.Logger = log.New(logWriter{m.cfg.Log}, "", 0)
	own := handlers{heartbeat: m.hearHeartbeat, message: m.hearMessage, duplicate: m.notify}
	self := identity{session: newSession(), generation: m.cfg.Generation, name: m.cfg.Node, endpoint: netip.AddrPortFrom(m.cfg.Bind, m.cfg.Port)}
	var err error
	if m.transport, err = listen(self, &m.keys, own, m.cfg.Log); err != nil {
		return fmt.Errorf("listen for gossip on %s port %d: %w", m.cfg.Bind, m.cfg.Port, err)
	}
	c.Transport = m.transport
	list, err := memberlist.Create(c)
	if err != nil {
		return fmt.Errorf("begin to gossip: %w", errors.Join(err, m.transport.Shutdown()))
	}
	m.mu.Lock()
	m.list = list
	m.mu.Unlock()
	m.beatNow()
	m.heart.start(m.keepBeating)
	m.notify()
	return nil
}

// SetKeys changes the keys, as in Config. Who shares one with another that one of
// them encrypts with is understood by it.
func (m *Members) SetKeys(keys [][]byte) error {
	for i, k := range keys {
		if len(k) != 16 && len(k) != 24 && len(k) != 32 {
			return fmt.Errorf("gossip key %d has %d bytes; 16, 24 or 32 are needed", i+1, len(k))
		}
	}
	if len(keys) == 0 {
		return errors.New("there is no gossip key")
	}
	m.keys.set(keys)
	return nil
}

// Stop tells the others that this speaker leaves, and ends the gossip. After it nothing that this
// member began is left.
func (m *Members) Stop(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	wait := time.Second
	if ok {
		wait = time.Until(deadline)
	}
	m.heart.stop()
	m.heart.wait()
	if err := m.memberlist().Leave(max(wait, time.Millisecond)); err != nil {
		m.cfg.Log.V(1).Info("left without telling everyone", "error", err.Error())
	}
	return m.shutdown()
}

// shutdown ends the gossip as if this speaker was killed: the others are not told.
func (m *Members) shutdown() error {
	m.heart.stop()
	m.tasks.stop()
	err := m.memberlist().Shutdown() // which ends connections that tasks wait for
	m.heart.wait()
	m.tasks.wait()
	return err
}

// Drops returns how many packets, connections and records were dropped, by cause. It is empty before Start.
func (m *Members) Drops() map[string]uint64 {
	out := map[string]uint64{}
	if m.memberlist() == nil {
		return out
	}
	out["refused"] = m.state.countRefused()
	for d, name := range dropNames {
		if name != "" {
			out[name] = m.transport.drops[d].Load()
		}
	}
	return out
}

func (m *Members) memberlist() *memberlist.Memberlist {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.list
}

// count is the number of members, for how often news is repeated.
func (m *Members) count() int {
	if l := m.memberlist(); l != nil {
		return l.NumMembers()
	}
	return 1
}
