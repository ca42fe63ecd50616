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

	// largestDatagram is the size of one of memberlist's packets with its envelope.
	largestDatagram = 1400
)

// Config configures a member.
type Config struct {
	Node string     // this node's name
	Bind netip.Addr // the address to listen on and to be reached at
	Port uint16     // UDP and TCP
	// Keys are the gossip keys that this speaker accepts, each of 16, 24 or 32 bytes. It encrypts
	// with the first.
	Keys [][]byte
	// Generation must be higher at each start of the same node's speaker, so that its facts
	// replace those of the previous run: the start time in ns.
	Generation uint64
	// Term is the term of this speaker's records, as in SetTerm.
	Term     uint64
	Failover Failover
	Log      logr.Logger
}

// Members is this speaker as a member of the gossip. Each of its parts guards its own fields.
type Members struct {
	cfg        Config
	timers     timers
	state      *state // the records of all speakers
	own        own    // what this speaker publishes about itself
	membership membership
	liveness   *liveness
	changed    notifier

	heartbeats *tasks // sends them; it ends before this speaker leaves
	tasks      *tasks // all other goroutines and timers

	// Set by Start.
	keys      keyring
	transport *transport
	list      atomic.Pointer[memberlist.Memberlist]
	queue     *memberlist.TransmitLimitedQueue // passed on from speaker to speaker
	repeats   *memberlist.TransmitLimitedQueue // the same for what was sent to all others already
}

// New returns a member that does nothing until Start.
func New(cfg Config) *Members {
	t, tasks := cfg.Failover.timers(), newTasks()
	m := &Members{
		cfg: cfg, timers: t, state: newState(time.Now, cfg.Node), own: newOwn(cfg.Node, cfg.Generation, cfg.Term), membership: newMembership(cfg.Node, t),
		liveness: newLiveness(t.silence), changed: newNotifier(tasks), heartbeats: newTasks(), tasks: tasks,
	}
	m.state.term = cfg.Term
	m.queue = &memberlist.TransmitLimitedQueue{RetransmitMult: retransmitMult, NumNodes: m.count}
	m.repeats = &memberlist.TransmitLimitedQueue{RetransmitMult: repeatMult, NumNodes: m.count}
	return m
}

// Start listens, and starts the gossip. Stop must follow.
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
	c.EnableCompression = false         // it costs more than it saves with small messages
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
		return fmt.Errorf("start the gossip: %w", errors.Join(err, m.transport.Shutdown()))
	}
	m.list.Store(list)
	m.liveness.confirm()
	m.heartbeats.start(m.sendHeartbeats)
	m.changed.now()
	return nil
}

// SetKeys changes the keys, as in Config. A speaker reads the messages of another one if it has the
// key that the other encrypts with.
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

// Stop notifies the others that this speaker leaves, and ends the gossip. It returns after all
// goroutines and timers of this member have ended.
func (m *Members) Stop(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	wait := time.Second
	if ok {
		wait = time.Until(deadline)
	}
	m.heartbeats.stop()
	m.heartbeats.wait()
	if err := m.list.Load().Leave(max(wait, time.Millisecond)); err != nil {
		m.cfg.Log.V(1).Info("leaving the gossip did not reach all speakers", "error", err.Error())
	}
	return m.shutdown()
}

// shutdown ends the gossip as if this speaker was killed, without notifying the others.
func (m *Members) shutdown() error {
	m.heartbeats.stop()
	m.tasks.stop()
	err := m.list.Load().Shutdown() // closes the connections that tasks wait for
	m.heartbeats.wait()
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

// count is the number of members. How often gossip repeats a message depends on it.
func (m *Members) count() int {
	if l := m.list.Load(); l != nil {
		return l.NumMembers()
	}
	return 1
}
