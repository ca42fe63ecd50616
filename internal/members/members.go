package members

import (
	"context"
	"fmt"
	"log"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/fairlead/fairlead/internal/election"
)

const (
	fullSync   = 10 * time.Second // with one random member
	tcpTimeout = time.Second      // of a full sync

	// retransmitMult x log10(nodes+1), rounded up, is how often each node that has
	// news passes it on. With memberlist's usual 4, one delivery in a hundred among
	// seven nodes came only with the next full sync, without any packet lost: some
	// are sent to nodes that are dead, and who has the news already has it again.
	retransmitMult = 12

	// maxPacket is what fits into one of memberlist's UDP packets of 1400 bytes
	// beside its own headers and the encryption.
	maxPacket = 1200

	// claimIsFresh is how long the owner of a claim has to be heard of. Speakers
	// that meet again tell their claims at once; that those they took for dead
	// are alive takes a few gossip intervals more.
	claimIsFresh = time.Second
)

// Config is what a member needs to know.
type Config struct {
	Node string     // this node's name
	Bind netip.Addr // the address to listen on and to be reached at
	Port uint16     // UDP and TCP
	Key  []byte     // 16, 24 or 32 bytes: AES-128, -192 or -256
	// Generation must be higher at each start of the same node's speaker, so
	// that its facts replace those of the run before: the start time in ns.
	Generation uint64
	Failover   Failover
	Log        logr.Logger
}

// Members is this speaker's place in the gossip.
type Members struct {
	cfg     Config
	timers  timers
	state   *state
	changed chan struct{}
	queue   *memberlist.TransmitLimitedQueue

	mu      sync.Mutex // guards the fields below
	list    *memberlist.Memberlist
	facts   versioned // this node's
	rumours rumours
}

// View is what this speaker knows of all. Its maps are only to be read, and Claims
// only until the next View.
type View struct {
	Alive  []string         // sorted names of the nodes whose speakers are alive, this one too
	Facts  map[string]Facts // by node, of those alive and those that were
	Claims map[netip.Addr]election.Claim
	Moved  []netip.Addr // addresses whose claim is another one than in the last View
	// Fresh are the addresses whose claim came a moment ago. Its owner may be
	// alive, although this speaker does not know that yet.
	Fresh map[netip.Addr]bool
}

// New returns a member that does nothing until Start.
func New(cfg Config) *Members {
	m := &Members{cfg: cfg, timers: cfg.Failover.timers(), state: newState(time.Now), changed: make(chan struct{}, 1), facts: versioned{Version: cfg.Generation}}
	m.rumours = newRumours(time.Now, m.timers.rumour())
	m.queue = &memberlist.TransmitLimitedQueue{RetransmitMult: retransmitMult, NumNodes: m.count}
	return m
}

// Start begins to listen and to gossip. Stop must follow.
func (m *Members) Start() error {
	c := memberlist.DefaultLANConfig()
	c.Name = m.cfg.Node
	c.BindAddr, c.BindPort = m.cfg.Bind.String(), int(m.cfg.Port)
	c.AdvertiseAddr, c.AdvertisePort = c.BindAddr, c.BindPort
	c.SecretKey = m.cfg.Key
	c.ProbeInterval, c.ProbeTimeout = m.timers.interval, m.timers.timeout
	c.SuspicionMult = m.timers.suspicion
	c.AwarenessMaxMultiplier = 2
	c.GossipInterval = m.timers.gossip
	c.PushPullInterval = fullSync
	c.TCPTimeout = tcpTimeout
	c.EnableCompression = false         // it costs more than it saves of messages as small as these
	c.DeadNodeReclaimTime = time.Second // a node may come back with another address
	c.Delegate, c.Events = (*delegate)(m), (*delegate)(m)
	c.Logger = log.New(logWriter{m.cfg.Log}, "", 0)
	list, err := memberlist.Create(c)
	if err != nil {
		return fmt.Errorf("listen for gossip on %s port %d: %w", m.cfg.Bind, m.cfg.Port, err)
	}
	m.mu.Lock()
	m.list = list
	m.mu.Unlock()
	m.notify()
	return nil
}

// Join syncs with the speakers at these endpoints, at the same time, and returns
// whether one of them was reached. It waits for all, since one alone may know
// nothing yet, which takes at most a second; or until ctx ends.
func (m *Members) Join(ctx context.Context, endpoints []netip.AddrPort) bool {
	reached := make(chan bool, len(endpoints))
	for _, e := range endpoints {
		go func() {
			n, err := m.memberlist().Join([]string{e.String()})
			if err != nil {
				m.cfg.Log.V(1).Info("cannot join a speaker", "endpoint", e.String(), "error", err.Error())
			}
			reached <- n > 0
		}()
	}
	found := false
	for range endpoints {
		select {
		case ok := <-reached:
			found = found || ok
		case <-ctx.Done():
			return found
		}
	}
	return found
}

// Stop tells the others that this speaker leaves, and ends the gossip.
func (m *Members) Stop(ctx context.Context) error {
	deadline, ok := ctx.Deadline()
	wait := time.Second
	if ok {
		wait = time.Until(deadline)
	}
	list := m.memberlist()
	if err := list.Leave(max(wait, time.Millisecond)); err != nil {
		m.cfg.Log.V(1).Info("left without telling everyone", "error", err.Error())
	}
	return list.Shutdown()
}

// Changed receives after the view changed. It has room for one.
func (m *Members) Changed() <-chan struct{} { return m.changed }

// View returns what is known now. It is for one goroutine at a time: claims are
// many, and are not copied for each.
func (m *Members) View() View { return m.state.view(m.Alive()) }

// Alive returns the sorted names of the members that are alive, or whose death is
// still a rumour.
func (m *Members) Alive() []string {
	var out []string
	for _, n := range m.memberlist().Members() {
		out = append(out, n.Name)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.rumours.alive(out)
}

// saidToBeDead notes that a member was said to be dead, or that it is alive after all.
func (m *Members) saidToBeDead(node string, dead bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rumours.said(node, dead)
	if dead {
		time.AfterFunc(m.timers.rumour(), m.notify)
	}
}

// vouch notes that a member has just synced with this one.
func (m *Members) vouch(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.rumours.vouch(node)
	time.AfterFunc(m.timers.rumour(), m.notify)
}

// SetFacts tells the others about this node.
func (m *Members) SetFacts(f Facts) {
	m.mu.Lock()
	m.facts = versioned{Facts: f, Version: m.facts.Version + 1}
	mine := m.facts
	m.mu.Unlock()
	m.take(message{Facts: map[string]versioned{m.cfg.Node: mine}})
}

// refute says this node's facts again, louder, when others have some from an
// earlier run whose clock was ahead.
func (m *Members) refute(heard versioned) {
	m.mu.Lock()
	outdone := heard.Version > m.facts.Version
	if outdone {
		m.facts.Version = heard.Version + 1
	}
	mine := m.facts
	m.mu.Unlock()
	if outdone {
		m.take(message{Facts: map[string]versioned{m.cfg.Node: mine}})
	}
}

// Claim records claims made by this node and tells the others.
func (m *Members) Claim(claims map[netip.Addr]election.Claim) {
	m.take(message{Claims: claims})
}

// Contested returns the addresses on which a claim was heard, since the last
// call, that is lower than the one held: its owner may have announced the
// address meanwhile, so the winner does well to announce it again.
func (m *Members) Contested() []netip.Addr { return m.state.takeContested() }

// take merges a message and passes on what was news, as its sender reaches only
// a few members by itself.
func (m *Members) take(msg message) {
	start := msg.Sender != "" && m.state.blank()
	news := m.state.merge(msg)
	if len(news.Claims) > 0 {
		time.AfterFunc(claimIsFresh, m.notify) // what waited for their owners is decided then
		if start {
			m.notify()
			return // who has just started has all claims from the others: it would pass on thousands that are known
		}
	}
	for _, part := range news.split() {
		b := &broadcast{name: part.name(), msg: part.encode()}
		if len(b.msg) > maxPacket {
			m.sendToAll(b.msg)
		} else {
			m.queue.QueueBroadcast(b)
		}
	}
	if !news.empty() { // of what goes around, most is heard many times
		m.notify()
	}
}

// sendToAll sends what does not fit into a packet to every member by TCP.
func (m *Members) sendToAll(msg []byte) {
	list := m.memberlist()
	if list == nil {
		return // it goes with the first full sync
	}
	for _, n := range list.Members() {
		if n.Name == m.cfg.Node {
			continue
		}
		go func() {
			if err := list.SendReliable(n, msg); err != nil {
				m.cfg.Log.V(1).Info("cannot tell a speaker", "node", n.Name, "error", err.Error())
			}
		}()
	}
}

func (m *Members) notify() {
	select {
	case m.changed <- struct{}{}:
	default: // one is waiting already
	}
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

// name is the same for messages of which the later one replaces the earlier.
func (m message) name() string {
	for node := range m.Facts {
		return "facts/" + node
	}
	addrs := slices.SortedFunc(maps.Keys(m.Claims), netip.Addr.Compare)
	return fmt.Sprint("claims/", addrs)
}

// broadcast is a message in memberlist's queue.
type broadcast struct {
	name string
	msg  []byte
}

var _ memberlist.NamedBroadcast = (*broadcast)(nil)

func (b *broadcast) Name() string    { return b.name }
func (b *broadcast) Message() []byte { return b.msg }
func (b *broadcast) Finished()       {}
func (b *broadcast) Invalidates(other memberlist.Broadcast) bool {
	o, ok := other.(*broadcast)
	return ok && o.name == b.name
}

// delegate is Members as memberlist calls it.
type delegate Members

var (
	_ memberlist.Delegate      = (*delegate)(nil)
	_ memberlist.EventDelegate = (*delegate)(nil)
)

func (d *delegate) members() *Members { return (*Members)(d) }

// NodeMeta returns nothing: facts are not bound by its limit of 512 bytes.
func (d *delegate) NodeMeta(int) []byte { return nil }

func (d *delegate) NotifyMsg(b []byte) {
	msg, err := decode(b)
	if err != nil {
		d.cfg.Log.V(1).Info("ignored a gossip message", "error", err.Error())
		return
	}
	if heard, ok := msg.Facts[d.cfg.Node]; ok {
		delete(msg.Facts, d.cfg.Node)
		d.members().refute(heard)
	}
	d.members().take(msg)
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	return d.queue.GetBroadcasts(overhead, limit)
}

func (d *delegate) LocalState(bool) []byte { return d.state.encoded(d.cfg.Node) }

func (d *delegate) MergeRemoteState(b []byte, _ bool) {
	if msg, err := decode(b); err == nil && msg.Sender != "" {
		d.members().vouch(msg.Sender)
	}
	d.NotifyMsg(b)
}

func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.cfg.Log.V(1).Info("speaker joined", "node", n.Name, "address", n.Address())
	d.members().saidToBeDead(n.Name, false)
	d.members().notify()
}

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.cfg.Log.V(1).Info("speaker left or died", "node", n.Name)
	d.members().saidToBeDead(n.Name, true)
	d.members().notify()
}

func (d *delegate) NotifyUpdate(*memberlist.Node) { d.members().notify() }

// logWriter passes memberlist's log lines on as debug lines: what matters to a
// person shows in the Speaker objects.
type logWriter struct{ log logr.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.V(2).Info(strings.TrimSpace(string(p)))
	return len(p), nil
}
