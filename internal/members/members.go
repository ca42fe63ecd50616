package members

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/election"
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

// View is what this speaker knows of all. Its maps are only to be read, and Claims
// only until the next View.
type View struct {
	Alive []string         // sorted names of the nodes whose speakers are alive, this one too
	Facts map[string]Facts // by node, of those alive and those that were; nobody may write to it
	// FactsVersion is another one when Facts are not what they were.
	FactsVersion uint64
	// CutOff says that it may be this speaker that is cut off, rather than others dead.
	CutOff bool
	// Unheard are those alive, sorted, whom this speaker should hear itself, and only
	// others do.
	Unheard []string
	// Late are those that have not joined for so long that others are to take over.
	Late   map[string]bool
	Claims map[netip.Addr]election.Claim
	Moved  []netip.Addr // addresses whose claim is another one than in the last View
	// Duplicates are the node names that two machines use. If this is a Duplicate itself, another
	// machine was there first with this node's name, and this one must not announce anything.
	Duplicates map[string]Rival
	Duplicate  bool
	// Fresh are the addresses whose claim came a moment ago. Its owner may be
	// alive, although this speaker does not know that yet.
	Fresh map[netip.Addr]bool
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

// keepBeating beats until ctx ends.
func (m *Members) keepBeating(ctx context.Context) {
	tick := time.NewTicker(m.timers.beat())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.beat()
		}
	}
}

// beat sends a pulse if it is time, and says whom this speaker does not hear, if
// that has changed.
func (m *Members) beat() {
	now := time.Now()
	m.mu.Lock()
	send, lapsed := m.pulses.beat(now, m.roster.ring())
	p, again := m.pulses, m.outbox.repeats(now)
	changed := !p.opinion.equal(m.facts.opinion)
	m.mu.Unlock()
	switch {
	case lapsed:
		m.cfg.Log.Info("this speaker stood still, and others may have taken over; looking for them", "longer than", m.timers.silence.String())
		m.beating.Store(-1)
		m.lapsed.Poke()
	case m.beating.Load() >= 0:
		m.beatNow()
	}
	if changed {
		m.say(func(f *versioned) { f.opinion = p.opinion })
	}
	if send {
		m.sendEach(p.watchers, kindHeartbeat, m.heartbeat(p.beats))
	}
	for _, r := range again {
		m.sendEach([]string{r.to}, kindNews, newsBody(r.number, r.msg.encode()))
	}
	if len(p.back) > 0 { // each has missed what the other said
		m.tasks.start(func(context.Context) { m.syncWith(p.back...) })
	}
}

// Beating reports whether this speaker's heart beats. While it does not, as when
// the process was stopped for a while, the others take it for dead, and it must not
// answer for anything.
func (m *Members) Beating() bool {
	last := m.beating.Load()
	return last >= 0 && time.Since(m.born)-time.Duration(last) < m.timers.silence
}

// Lapsed receives when the heart has missed so many beats that others may have
// taken over. It does not beat again before Revive. It has room for one.
func (m *Members) Lapsed() <-chan struct{} { return m.lapsed }

// Revive lets the heart beat again, after the others were found. Those whom this
// speaker did not hear, as it was itself cut off or stood still, are given the
// benefit of the doubt, unless they have left the cluster for good.
func (m *Members) Revive(gone func(node string) bool) {
	known := slices.DeleteFunc(m.state.nodes(), gone)
	m.mu.Lock()
	m.pulses.forgive(time.Now())
	for _, node := range known {
		m.roster.vouch(node)
	}
	m.mu.Unlock()
	m.tasks.after(m.timers.silence, m.notify)
	m.beatNow()
}

func (m *Members) beatNow() { m.beating.Store(int64(time.Since(m.born))) }

// heartbeat is the body of a heartbeat. It is as long as that of a challenge, which may be the
// reply.
func (m *Members) heartbeat(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 8, 16), number)
}

// hearHeartbeat takes in a heartbeat. A node is where its last one came from: memberlist does
// not believe that one has another address now before it takes the old one for dead.
func (m *Members) hearHeartbeat(d delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.nodes[d.node]
	if m.pulses.hear(d.node, time.Now()) && known {
		m.nodes[d.node] = d.from
	}
}

// hearMessage takes in a packet of our own.
func (m *Members) hearMessage(d delivery) {
	switch {
	case d.kind == kindNews && len(d.body) > numberSize:
		m.hearNews(d)
	case d.kind == kindDuplicate:
		if m.transport.sessions.told(d.from, d.body) {
			m.notify()
		}
	case d.kind == kindAck:
		m.mu.Lock()
		defer m.mu.Unlock()
		for b := d.body; len(b) >= numberSize; b = b[numberSize:] {
			m.outbox.acknowledged(d.node, binary.BigEndian.Uint64(b))
		}
	}
}

// numberSize is that of the number before news; 0 needs no acknowledgement.
const numberSize = 8

func newsBody(number uint64, msg []byte) []byte {
	return append(binary.BigEndian.AppendUint64(make([]byte, 0, numberSize+len(msg)), number), msg...)
}

// hearNews takes in news, straight from who says it, and acknowledges what it may believe. What others have
// said in a node's name it is told, so that it can disagree.
func (m *Members) hearNews(d delivery) {
	number := binary.BigEndian.Uint64(d.body)
	msg, _ := (*delegate)(m).hear(d.body[numberSize:])
	if number != 0 && !m.state.isAhead(msg) {
		m.sendEach([]string{d.node}, kindAck, newsBody(number, make([]byte, numberSize)))
	}
	said, itself := msg.Facts[d.node]
	if held := m.state.factsOf(d.node); itself && held.compare(said) > 0 {
		echo := message{Facts: map[string]versioned{d.node: held}, ToAll: true}
		m.sendEach([]string{d.node}, kindNews, newsBody(0, echo.encode()))
	}
}

// syncWith exchanges everything with these members. Each takes a second at most.
func (m *Members) syncWith(nodes ...string) {
	for _, p := range m.whereabouts(nodes) {
		if _, err := m.memberlist().Join([]string{p.at.String()}); err != nil {
			m.cfg.Log.V(1).Info("cannot sync with a speaker", "node", p.node, "error", err.Error())
		}
	}
}

// sendAll sends everything to a node.
func (m *Members) sendAll(to string) {
	list, all := m.memberlist(), m.state.encoded(m.cfg.Node)
	for _, p := range m.whereabouts([]string{to}) {
		n := memberlist.Node{Name: p.node, Addr: p.at.Addr().AsSlice(), Port: p.at.Port()}
		if err := list.SendReliable(&n, all); err != nil {
			m.cfg.Log.V(1).Info("cannot send everything to a speaker", "node", p.node, "error", err.Error())
		}
	}
}

// sendEach sends a packet of a kind of our own to these nodes. One that is lost is made
// good by the next, or by gossip.
func (m *Members) sendEach(to []string, k kind, body []byte) {
	for _, p := range m.whereabouts(to) {
		if err := m.transport.send(k, body, p.at); err != nil {
			m.cfg.Log.V(2).Info("cannot send", "node", p.node, "error", err.Error())
		}
	}
}

// place is where a node is.
type place struct {
	node string
	at   netip.AddrPort
}

// whereabouts returns where these nodes are, as far as that is known.
func (m *Members) whereabouts(names []string) []place {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]place, 0, len(names))
	for _, name := range names {
		if at, known := m.nodes[name]; known {
			out = append(out, place{name, at})
		}
	}
	return out
}

// others returns the other members, and those that were a moment ago.
func (m *Members) others() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.roster.ring()), func(node string) bool { return node == m.cfg.Node })
}

// Join syncs with the speakers at these endpoints, at the same time, and returns
// whether one of them was reached. It waits for all, since one alone may know
// nothing yet, which takes at most a second; or until ctx ends. A speaker that takes this
// one for a second machine with its name is asked again for a moment: the first may be the
// run before, at another address.
func (m *Members) Join(ctx context.Context, endpoints []netip.AddrPort) bool {
	m.transport.sessions.expect(endpoints)
	reached, waiting := make(chan bool, len(endpoints)), 0
	for _, e := range endpoints {
		if m.tasks.start(func(stopped context.Context) { reached <- m.joinOne(ctx, stopped, e) }) {
			waiting++
		}
	}
	found := false
	for range waiting {
		select {
		case ok := <-reached:
			found = found || ok
		case <-ctx.Done():
			return found
		case <-m.tasks.ctx.Done():
			return found
		}
	}
	return found
}

// joinOne syncs with the speaker at an endpoint, and returns whether it could.
func (m *Members) joinOne(ctx, stopped context.Context, at netip.AddrPort) bool {
	for deadline := time.Now().Add(aliveFor + 2*answerWithin); ctx.Err() == nil; {
		n, err := m.memberlist().Join([]string{at.String()})
		if err == nil {
			return n > 0
		}
		m.cfg.Log.V(1).Info("cannot join a speaker", "endpoint", at.String(), "error", err.Error())
		if !m.transport.sessions.isRefusedBy(at) || time.Now().After(deadline) {
			return false
		}
		select {
		case <-ctx.Done():
		case <-stopped.Done():
			return false
		case <-time.After(answerWithin / 2):
		}
	}
	return false
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

// Changed receives after the view changed. It has room for one.
func (m *Members) Changed() <-chan struct{} { return m.changed }

// View returns what is known now. It is for one goroutine at a time: claims are
// many, and are not copied for each.
func (m *Members) View() View {
	alive, cutOff := m.alive()
	v := m.state.view(alive)
	v.CutOff, v.Unheard = cutOff, m.unheard(alive)
	if m.transport != nil {
		v.Duplicates, v.Duplicate = m.transport.sessions.duplicates()
	}
	for a := range v.Fresh {
		if _, lives := slices.BinarySearch(alive, v.Claims[a].Owner); !lives {
			m.tasks.after(claimIsFresh, m.notify) // what waited for its owner is decided then
			break
		}
	}
	return v
}

// unheard returns those of the living whose pulses this speaker misses.
func (m *Members) unheard(alive []string) (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, node := range m.pulses.opinion.Misses {
		if _, lives := slices.BinarySearch(alive, node); lives {
			out = append(out, node)
		}
	}
	return out
}

// Duplicate reports whether another machine was there first with this node's name, and where.
func (m *Members) Duplicate() (first netip.AddrPort, duplicate bool) {
	rivals, later := m.transport.sessions.duplicates()
	return rivals[m.cfg.Node].First, later
}

// Alive returns the sorted names of the speakers that are alive.
func (m *Members) Alive() []string {
	alive, _ := m.alive()
	return alive
}

// LastSign returns when a speaker that died in the last seconds gave its last sign
// of life, which this one heard itself or knows from others; zero of any other.
func (m *Members) LastSign(node string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.signs[node]
}

// alive returns the sorted names of the members that are alive, and whether this
// speaker may be cut off.
func (m *Members) alive() (alive []string, cutOff bool) {
	opinions := m.state.opinions()
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.alive(&m.pulses, opinions), m.pulses.cutOff()
}

// met notes that memberlist takes a node for a member, and where it is.
func (m *Members) met(n *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.joined(n.Name)
	ip, _ := netip.AddrFromSlice(n.Addr)
	m.nodes[n.Name] = netip.AddrPortFrom(ip.Unmap(), n.Port)
	m.notify()
}

// lost notes that memberlist takes a node for dead.
func (m *Members) lost(n *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.died(n.Name)
	m.notify()
	m.tasks.after(m.timers.silence, m.notify)
}

// vouch notes that a member has just synced with this one.
func (m *Members) vouch(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.vouch(node)
	m.pulses.synced(node, time.Now())
	m.tasks.after(m.timers.silence, m.notify)
}

// SetFacts tells the others about this node.
func (m *Members) SetFacts(f Facts) {
	m.say(func(v *versioned) { v.Facts = f })
}

// say changes what this speaker says of itself, and tells the others.
func (m *Members) say(change func(*versioned)) {
	m.mu.Lock()
	change(&m.facts)
	m.facts.Version = min(m.facts.Version, maxVersion-1) + 1
	mine := message{Facts: map[string]versioned{m.cfg.Node: m.facts}}
	m.mu.Unlock()
	m.tell(mine)
}

// tell takes in what this speaker says, and tells all others at once, each in a
// few packets, which are repeated until they are acknowledged; gossip does all where that
// would be too many.
func (m *Members) tell(msg message) {
	parts, others := msg.split(), m.others()
	if len(others) == 0 || len(parts)*len(others) > maxAtOnce {
		m.take(msg, m.queue)
		return
	}
	m.take(msg, m.repeats)
	for _, part := range parts {
		part.ToAll = true
		if b := part.encode(); len(b) <= maxPacket {
			m.mu.Lock()
			number := m.outbox.put(others, part, time.Now())
			m.mu.Unlock()
			m.sendEach(others, kindNews, newsBody(number, b))
		}
	}
}

// refute says this node's facts again, with a higher version, when others have some from an
// earlier run whose clock was ahead, or that this node never said.
func (m *Members) refute(heard versioned) {
	m.mu.Lock()
	own := m.facts
	m.mu.Unlock()
	if heard.compare(own) > 0 && heard.Term <= own.Term && own.plausible(heard) {
		m.say(func(f *versioned) { f.Version = heard.Version })
	}
}

// SetTerm changes the term of what this speaker says: after somebody had the key, a person raises it, and
// what was said before counts less. This speaker says again, in the new term, what it owns and is;
// nothing moves. Records of a later term are refused.
func (m *Members) SetTerm(term uint64) {
	m.mu.Lock()
	same := m.facts.Term == term
	m.mu.Unlock()
	if same {
		return
	}
	own := m.state.setTerm(term)
	m.say(func(f *versioned) { f.Term, f.Version = term, m.cfg.Generation })
	if len(own) > 0 {
		m.tell(message{Claims: own})
	}
}

// Claim records claims made by this node and tells the others.
func (m *Members) Claim(claims map[netip.Addr]election.Claim) {
	m.tell(message{Claims: m.state.inTerm(claims)})
}

// Contested returns the addresses on which a claim was heard, since the last
// call, that is lower than the one held: its owner may have announced the
// address meanwhile, so the winner does well to announce it again.
func (m *Members) Contested() []netip.Addr { return m.state.takeContested() }

// take merges a message and passes on what was news by a queue, unless all others hear it
// from its sender.
func (m *Members) take(msg message, queue *memberlist.TransmitLimitedQueue) {
	start := msg.Sender != "" && m.state.blank()
	news, urgent := m.state.merge(msg)
	if news.joins() {
		m.tasks.after(late, m.notify) // who has not joined by then is late
	}
	if start && len(news.Claims) > 0 {
		m.notify()
		return // who has just started has all claims from the others: it would pass on thousands that are known
	}
	switch { // of what goes around, most is heard many times
	case urgent:
		m.notify()
	case len(news.Facts) > 0:
		m.notifyEvery(opinionsTogether)
	case len(news.Claims) > 0:
		m.notifyEvery(claimsTogether)
	}
	gossip, direct := news.toPassOn(msg).packets()
	for _, b := range gossip {
		queue.QueueBroadcast(b)
	}
	for _, b := range direct {
		m.sendToAll(b)
	}
}

// packets is the message as it is sent: in parts that gossip passes on, and those that
// do not fit into a packet, which go to all directly. Nobody passes these on: each
// would do that by as many connections.
func (m message) packets() (gossip []*broadcast, direct [][]byte) {
	for _, part := range m.split() {
		b := &broadcast{name: part.name(), msg: part.encode()}
		if len(b.msg) <= maxPacket {
			gossip = append(gossip, b)
			continue
		}
		part.ToAll = true
		direct = append(direct, part.encode())
	}
	return gossip, direct
}

// sendToAll sends a message to every member by TCP.
func (m *Members) sendToAll(msg []byte) {
	list := m.memberlist()
	if list == nil {
		return // it goes with the first full sync
	}
	for _, n := range list.Members() {
		if n.Name == m.cfg.Node {
			continue
		}
		m.tasks.start(func(context.Context) {
			if err := list.SendReliable(n, msg); err != nil {
				m.cfg.Log.V(1).Info("cannot tell a speaker", "node", n.Name, "error", err.Error())
			}
		})
	}
}

func (m *Members) notify() { m.changed.Poke() }

// notifyEvery notifies when the next of such intervals ends: when a node is dead, all
// others claim what it owned, each at its own time.
func (m *Members) notifyEvery(interval time.Duration) {
	since := time.Since(m.born)
	end := (since + interval).Truncate(interval)
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.due[end] {
		return
	}
	m.due[end] = true
	m.tasks.after(end-since, func() {
		m.mu.Lock()
		delete(m.due, end)
		m.mu.Unlock()
		m.notify()
	})
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
	_ memberlist.AliveDelegate = (*delegate)(nil)
)

func (d *delegate) members() *Members { return (*Members)(d) }

// NodeMeta returns nothing: facts are not bound by its limit of 512 bytes.
func (d *delegate) NodeMeta(int) []byte { return nil }

func (d *delegate) NotifyMsg(b []byte) { d.hear(b) }

// hear takes a message in, and returns it. inSync says that its sender and this speaker
// know the same now, or that this one has heard all that the other knows.
func (d *delegate) hear(b []byte) (msg message, inSync bool) {
	msg, err := decode(b)
	if err != nil {
		d.cfg.Log.V(1).Info("ignored a gossip message", "error", err.Error())
		return message{}, false
	}
	inSync = msg.Sender != "" && (msg.Digest == nil || *msg.Digest == d.state.digest())
	if inSync {
		d.members().vouch(msg.Sender)
	}
	if heard, ok := msg.Facts[d.cfg.Node]; ok {
		delete(msg.Facts, d.cfg.Node)
		d.members().refute(heard)
	}
	d.members().take(msg, d.queue)
	return msg, inSync
}

func (d *delegate) GetBroadcasts(overhead, limit int) [][]byte {
	out := d.queue.GetBroadcasts(overhead, limit)
	for _, b := range out {
		limit -= overhead + len(b)
	}
	return append(out, d.repeats.GetBroadcasts(overhead, limit)...)
}

// LocalState is what a full sync sends: everything to who joins. Others know the same,
// mostly, and are told a digest.
func (d *delegate) LocalState(join bool) []byte {
	if join {
		return d.state.encoded(d.cfg.Node)
	}
	sum := d.state.digest()
	return message{Sender: d.cfg.Node, Digest: &sum}.encode()
}

// MergeRemoteState is what a full sync hears. If the digests differ both send
// everything.
func (d *delegate) MergeRemoteState(b []byte, join bool) {
	msg, inSync := d.hear(b)
	if !join && msg.Digest != nil && !inSync {
		d.tasks.start(func(context.Context) { d.members().sendAll(msg.Sender) })
	}
}

// NotifyAlive refuses what cannot be a speaker.
func (d *delegate) NotifyAlive(n *memberlist.Node) error {
	if _, ok := netip.AddrFromSlice(n.Addr); !ok || !validName(n.Name) || n.Port == 0 {
		return errMalformed
	}
	return nil
}

func (d *delegate) NotifyJoin(n *memberlist.Node) {
	d.cfg.Log.V(1).Info("speaker joined", "node", n.Name, "address", n.Address())
	d.members().met(n)
}

func (d *delegate) NotifyLeave(n *memberlist.Node) {
	d.cfg.Log.V(1).Info("speaker left or died", "node", n.Name)
	d.members().lost(n)
	// It may have denied a suspicion, and this one not have heard of that: then it does now.
	// memberlist holds its locks, so that this must not wait.
	if name := n.Name; name != d.cfg.Node {
		d.tasks.start(func(context.Context) { d.members().syncWith(name) })
	}
}

func (d *delegate) NotifyUpdate(n *memberlist.Node) { d.members().met(n) }

// logWriter passes memberlist's log lines on as debug lines: what matters to a
// person shows in the Speaker objects.
type logWriter struct{ log logr.Logger }

func (w logWriter) Write(p []byte) (int, error) {
	w.log.V(2).Info(strings.TrimSpace(string(p)))
	return len(p), nil
}
