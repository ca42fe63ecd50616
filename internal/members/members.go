package members

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"
)

const (
	fullSync   = 10 * time.Second // with one random member
	tcpTimeout = time.Second      // of a full sync

	// largestDatagram is what one of memberlist's packets has with its envelope.
	largestDatagram = 1400
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

// Members is this speaker's place in the gossip. Each part guards its own fields.
type Members struct {
	cfg        Config
	timers     timers
	state      *state // what all have said
	own        own    // what this speaker says of itself
	membership membership
	heart      *heart
	changed    notifier

	beats *tasks // the heartbeats, which end before this speaker leaves
	tasks *tasks // all else that this member does in goroutines

	// Set by Start.
	keys      keyring
	transport *transport
	list      atomic.Pointer[memberlist.Memberlist]
	queue     *memberlist.TransmitLimitedQueue // of what goes from one to the next
	repeats   *memberlist.TransmitLimitedQueue // of what was sent to all others already
}

// New returns a member that does nothing until Start.
func New(cfg Config) *Members {
	t, tasks := cfg.Failover.timers(), newTasks()
	m := &Members{
		cfg: cfg, timers: t, state: newState(time.Now, cfg.Node), own: newOwn(cfg.Node, cfg.Generation, cfg.Term), membership: newMembership(cfg.Node, t),
		heart: newHeart(t.silence), changed: newNotifier(tasks), beats: newTasks(), tasks: tasks,
	}
	m.state.term = cfg.Term
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
	own := handlers{heartbeat: m.membership.receiveHeartbeat, message: m.receiveMessage, duplicate: m.changed.now}
	self := identity{session: newSession(), generation: m.cfg.Generation, name: m.cfg.Node, endpoint: netip.AddrPortFrom(m.cfg.Bind, m.cfg.Port)}
	var err error
	if m.transport, err = listen(self, &m.keys, own, m.cfg.Log); err != nil {
		return fmt.Errorf("listen for gossip on %s port %d: %w", m.cfg.Bind, m.cfg.Port, err)
	}
	m.transport.receiveAll()
	c.Transport = m.transport
	list, err := memberlist.Create(c)
	if err != nil {
		return fmt.Errorf("begin to gossip: %w", errors.Join(err, m.transport.Shutdown()))
	}
	m.list.Store(list)
	m.heart.beat()
	m.beats.start(m.keepBeating)
	m.changed.now()
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
	m.beats.stop()
	m.beats.wait()
	if err := m.list.Load().Leave(max(wait, time.Millisecond)); err != nil {
		m.cfg.Log.V(1).Info("left without telling everyone", "error", err.Error())
	}
	return m.shutdown()
}

// shutdown ends the gossip as if this speaker was killed: the others are not told.
func (m *Members) shutdown() error {
	m.beats.stop()
	m.tasks.stop()
	err := m.list.Load().Shutdown() // which ends connections that tasks wait for
	m.beats.wait()
	m.tasks.wait()
	return err
}

// Drops returns how many packets, connections and records were dropped, by cause. It is empty before Start.
func (m *Members) Drops() map[string]uint64 {
	out := map[string]uint64{}
	if m.list.Load() == nil {
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

// count is the number of members, for how often news is repeated.
func (m *Members) count() int {
	if l := m.list.Load(); l != nil {
		return l.NumMembers()
	}
	return 1
}
