package members

import (
	"maps"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// What follows does what memberlist v0.7.0, Members and speaker.Speaker do, in
// virtual time. Names are theirs where there is one.

const (
	lookAround     = 500 * time.Millisecond // announce
	tryAgain       = 2 * time.Second
	rejoinWithin   = 2 * time.Second
	findEvery      = 200 * time.Millisecond
	handOverWithin = 3 * time.Second
	farewell       = time.Second
	probing        = 200 * time.Millisecond // layer2: of an address that is new

	gossipNodes     = 3
	indirectChecks  = 3
	gossipToTheDead = 30 * time.Second
)

// peer is a node as memberlist knows it.
type peer struct {
	known   bool
	status  peerStatus
	inc     uint32
	changed time.Duration
}

type peerStatus uint8

const (
	peerDead peerStatus = iota // as one that was never heard of
	peerLeft
	peerSuspect
	peerAlive
)

func (p peer) member() bool { return p.known && p.status >= peerSuspect }

// simNode is a host and the speaker's process on it.
type simNode struct {
	sim     *simulation
	id      int
	name    string
	carrier bool

	// The process.
	running, frozen bool
	life            int
	deferred        []*event // what it will find when it thaws

	// memberlist
	peers []peer // by id
	order []int  // whom to probe
	next  int    // index in order
	doubt int    // 0 or 1: awareness
	left  bool
	own   *memberlist.TransmitLimitedQueue

	// Members
	queue      *memberlist.TransmitLimitedQueue
	repeats    *memberlist.TransmitLimitedQueue
	state      *state
	roster     roster
	facts      versioned
	detector   detector
	outbox     outbox
	beatAt     time.Duration // the last beat; what this node announces counts while it is recent
	generation uint64
	lapsed     bool
	news       int // messages that changed the state

	// Announcer
	up                      bool // the interface, as it knows
	joined, leaving, inLoop bool
	searching               int
	notified                bool // an act is due
	services                int  // index in simulation.services
	last                    decision
	rows                    map[netip.Addr]bool // what it announces; true: it answers, false: it probes
}

// decision is what a plan was made from, and the plan.
type decision struct {
	joined, leaving bool
	services, news  int
	alive           []string
	fresh           map[netip.Addr]bool
	late            map[string]bool
	lapsed          bool
	plan            plan.Plan
}

func (n *simNode) after(d time.Duration, run func()) { n.sim.after(d, n, run) }

// boot starts a process with nothing in its memory, up to Members.Start.
func (n *simNode) boot() {
	s := n.sim
	n.life++
	n.running, n.frozen, n.deferred = true, false, nil
	n.peers, n.order, n.next, n.doubt, n.left = make([]peer, len(s.nodes)), nil, 0, 0, false
	n.own = &memberlist.TransmitLimitedQueue{RetransmitMult: 4, NumNodes: n.estNumNodes} // memberlist.DefaultLANConfig
	n.queue = &memberlist.TransmitLimitedQueue{RetransmitMult: *simRetransmit, NumNodes: n.numMembers}
	n.repeats = &memberlist.TransmitLimitedQueue{RetransmitMult: repeatMult, NumNodes: n.numMembers}
	n.state, n.roster = newState(s.clock, n.name), newRoster(s.clock, s.timers.silence)
	skew := time.Duration(n.id%7-3) * 4 * time.Second // clocks differ
	n.generation = uint64(s.clock().Add(skew).UnixNano())
	n.facts = versioned{Version: n.generation}
	n.outbox = newOutbox()
	n.detector, n.lapsed, n.beatAt = newDetector(n.name, s.timers), false, s.now
	n.news, n.searching, n.notified, n.services = 0, 0, false, s.current
	n.joined, n.leaving, n.inLoop = false, false, false
	n.last, n.rows = decision{}, map[netip.Addr]bool{}
	n.up = n.carrier
	n.peers[n.id] = peer{known: true, status: peerAlive, inc: 1}
	n.roster.joined(n.name)
	n.order = []int{n.id}
	n.tellFacts()
	n.after(s.between(0, s.timers.tick()), n.beat)
	n.after(s.between(0, s.timers.interval), n.probe)
	n.after(s.between(0, s.timers.gossip), n.gossipTick)
	n.after(s.between(0, fullSync), n.pushPull)
	n.after(lookAround, n.lookForLost)
}

// start is boot, and joins the others.
func (n *simNode) start() {
	n.boot()
	n.sim.check.topology()
	n.makeKnown()
}

// end is the end of the process, however it came.
func (n *simNode) end() {
	n.running, n.frozen, n.deferred, n.inLoop, n.joined = false, false, nil, false, false
	n.life++
	n.sim.check.topology()
	n.silence()
}

func (n *simNode) silence() {
	for _, a := range sortedAddrs(n.rows) {
		n.answer(a, false)
	}
	clear(n.rows)
}

func sortedAddrs[V any](m map[netip.Addr]V) []netip.Addr {
	return slices.SortedFunc(maps.Keys(m), netip.Addr.Compare)
}

// memberlist: the broadcast queues

func (n *simNode) estNumNodes() int { return len(n.order) }

func (n *simNode) numMembers() int {
	count := 0
	for _, p := range n.peers {
		if p.member() {
			count++
		}
	}
	return count
}

// broadcast queues one of memberlist's messages in place of others on that node.
func (n *simNode) broadcast(p payload, finished func()) {
	b := n.sim.enlist(p, sizes[p.about])
	n.own.QueueBroadcast(&simBroadcast{broadcast: broadcast{name: n.sim.names[p.node], msg: b}, finished: finished})
}

// getBroadcasts returns what goes into the next packet.
func (n *simNode) getBroadcasts(limit int) []payload {
	var out []payload
	if !n.hasNews() {
		return nil
	}
	for _, b := range n.own.GetBroadcasts(2, limit) {
		limit -= len(b) + 2
		out = append(out, n.sim.payload(b))
	}
	for _, q := range []*memberlist.TransmitLimitedQueue{n.queue, n.repeats} {
		if limit <= 3 {
			break
		}
		for _, b := range q.GetBroadcasts(3, limit) {
			limit -= len(b) + 3
			out = append(out, n.sim.payload(b))
		}
	}
	return out
}

func (n *simNode) hasNews() bool {
	return n.own.NumQueued()+n.queue.NumQueued()+n.repeats.NumQueued() > 0
}

// gossipTick sends to a few who are or were members.
func (n *simNode) gossipTick() {
	n.after(n.sim.timers.gossip, n.gossipTick)
	if !n.hasNews() {
		return
	}
	for _, to := range n.some(gossipNodes, func(id int) bool {
		p := n.peers[id]
		return p.member() || p.status == peerDead && n.sim.now-p.changed <= gossipToTheDead
	}) {
		n.sim.send(n.id, to, n.getBroadcasts(packet))
	}
}

// some returns up to k random others that are wanted.
func (n *simNode) some(k int, wanted func(id int) bool) []int {
	var out []int
	try := func(id int) {
		if len(out) < k && id != n.id && wanted(id) && !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	if count := len(n.order); count >= 3*k {
		for range 3 * count {
			if len(out) == k {
				break
			}
			try(n.order[n.sim.chance.IntN(count)])
		}
		return out
	}
	for _, i := range n.sim.chance.Perm(len(n.order)) {
		try(n.order[i])
	}
	return out
}

// hear takes in one gossiped message.
func (n *simNode) hear(p payload) {
	switch p.about {
	case aboutAlive:
		n.hearAlive(p.node, p.inc)
	case aboutSuspect:
		n.hearSuspect(p)
	case aboutDead:
		n.hearDead(p)
	case aboutUs:
		n.notifyMsg(p.msg)
		if p.news != 0 { // Members.hearNews
			n.sim.send(n.id, p.from, []payload{{about: aboutAck, from: n.id, news: p.news}})
			n.echo(p)
		}
	case aboutAck:
		n.outbox.acknowledged(n.sim.names[p.from], p.news)
	case aboutPulse:
		n.detector.hear(n.sim.names[p.from], n.sim.clock())
	}
}

// memberlist: who is alive

// refuteDeath says louder that this node is alive.
func (n *simNode) refuteDeath(accused uint32) {
	me := &n.peers[n.id]
	me.inc = max(me.inc, accused) + 1
	n.doubt = 1
	n.broadcast(payload{about: aboutAlive, node: n.id, inc: me.inc}, nil)
}

func (n *simNode) hearAlive(id int, inc uint32) {
	p := &n.peers[id]
	if id == n.id {
		if !n.left && inc > p.inc {
			n.refuteDeath(inc)
		}
		return
	}
	if !p.known {
		*p = peer{known: true}
		n.order = append(n.order, id)
		at, end := n.sim.chance.IntN(len(n.order)), len(n.order)-1
		n.order[at], n.order[end] = n.order[end], n.order[at]
	}
	if inc <= p.inc {
		return
	}
	n.broadcast(payload{about: aboutAlive, node: id, inc: inc}, nil)
	was := *p
	p.inc, p.status = inc, peerAlive
	if was.status != peerAlive {
		p.changed = n.sim.now
	}
	if !was.member() {
		n.roster.joined(n.sim.names[id])
		n.sim.tell("peers: %s meets %s", n.name, n.sim.names[id])
		n.notify()
	}
}

func (n *simNode) hearSuspect(s payload) {
	p := &n.peers[s.node]
	if !p.known || s.inc < p.inc || p.status != peerAlive {
		return
	}
	if s.node == n.id {
		n.refuteDeath(s.inc)
		return
	}
	n.broadcast(s, nil)
	n.sim.tell("peers: %s suspects %s, says n%03d", n.name, n.sim.names[s.node], s.from)
	p.inc, p.status, p.changed = s.inc, peerSuspect, n.sim.now
	since := p.changed
	n.after(n.suspicion(), func() {
		if p.status == peerSuspect && p.changed == since {
			n.hearDead(payload{about: aboutDead, node: s.node, from: n.id, inc: p.inc})
		}
	})
}

// suspicion is how long a node is suspected: with so low a SuspicionMult nobody
// has to confirm it.
func (n *simNode) suspicion() time.Duration {
	scale := max(1, math.Log10(float64(n.estNumNodes())))
	return time.Duration(float64(n.sim.timers.suspicion) * scale * float64(n.sim.timers.interval))
}

func (n *simNode) hearDead(d payload) {
	p := &n.peers[d.node]
	if !p.known || d.inc < p.inc || !p.member() {
		return
	}
	if d.node == n.id && !n.left {
		n.refuteDeath(d.inc)
		return
	}
	if d.node != n.id { // leave has said its own death already
		n.broadcast(d, nil)
	}
	n.sim.tell("peers: %s takes %s for dead, says n%03d", n.name, n.sim.names[d.node], d.from)
	p.inc, p.status, p.changed = d.inc, peerDead, n.sim.now
	if d.from == d.node {
		p.status = peerLeft
	}
	n.roster.died(n.sim.names[d.node])
	if p.status == peerDead {
		n.sync(d.node, func(bool) {}) // Members.doubt
	}
	n.after(n.sim.timers.silence, n.notify)
	n.notify()
}

// memberlist: probes

// probe asks the next member whether it is alive.
func (n *simNode) probe() {
	s, began := n.sim, n.sim.now
	target := n.nextTarget()
	if target < 0 {
		n.after(s.timers.interval, n.probe)
		return
	}
	limit := s.timers.interval * time.Duration(n.doubt+1)
	answer := func(rtt time.Duration) {
		n.after(rtt, func() {
			if s.now-began <= limit {
				n.probed(began, -1)
			} else { // it was frozen, and its timer was first
				n.failed(target, began, 0)
			}
		})
	}
	if rtt, ok := n.ping(target); ok && rtt <= limit {
		answer(rtt)
		return
	}
	n.after(s.timers.timeout, func() {
		rtt, silent, ok := n.probeByOthers(target)
		if ok && s.now+rtt-began <= limit {
			answer(rtt)
			return
		}
		n.after(max(0, began+limit-s.now), func() { n.failed(target, began, silent) })
	})
}

func (n *simNode) nextTarget() int {
	for range 2 * len(n.order) {
		if n.next >= len(n.order) {
			n.resetOrder()
		}
		id := n.order[n.next]
		n.next++
		if id != n.id && n.peers[id].member() {
			return id
		}
	}
	return -1
}

// resetOrder forgets who is dead for long, and shuffles.
func (n *simNode) resetOrder() {
	n.order, n.next = n.order[:0], 0
	for id := range n.peers {
		p := &n.peers[id]
		if p.known && !p.member() && n.sim.now-p.changed > gossipToTheDead {
			*p = peer{}
		}
		if p.known {
			n.order = append(n.order, id)
		}
	}
	n.sim.chance.Shuffle(len(n.order), func(i, j int) { n.order[i], n.order[j] = n.order[j], n.order[i] })
}

// ping asks directly: the ping and its answer carry gossip; one to a suspect says
// that it is suspected.
func (n *simNode) ping(target int) (time.Duration, bool) {
	s, t, there, back := n.sim, n.sim.nodes[target], n.sim.delay(), n.sim.delay()
	extra := []payload{{about: aboutSuspect, node: target, from: n.id, inc: n.peers[target].inc}}
	if n.peers[target].status == peerAlive {
		extra = n.getBroadcasts(packet - 60)
	}
	if !s.passes(n.id, target) {
		return 0, false
	}
	answers := t.running && !t.frozen && s.passes(target, n.id)
	s.after(there, nil, func() {
		s.arrive(n.id, target, extra)
		if answers && t.running && !t.frozen {
			more := t.getBroadcasts(packet - 30)
			s.after(back, nil, func() { s.arrive(target, n.id, more) })
		}
	})
	return there + back, answers
}

// probeByOthers asks others to ping the target, and pings it over TCP. Of the
// others it returns how many do not even say that they have no answer.
func (n *simNode) probeByOthers(target int) (rtt time.Duration, silent int, ok bool) {
	s := n.sim
	relays := n.some(indirectChecks, func(id int) bool { return id != target && n.peers[id].status == peerAlive })
	for _, r := range relays {
		if !n.answered(r) {
			silent++
			continue
		}
		if s.nodes[r].answered(target) {
			ok = true
		}
	}
	if s.streams(n.id, target) && s.nodes[target].running && !s.nodes[target].frozen && !s.happens(4*s.loss) {
		ok = true
	}
	if len(relays) == 0 {
		silent = 1
	}
	return s.delay() + s.delay(), silent, ok
}

// answered reports whether a ping is answered.
func (n *simNode) answered(by int) bool {
	t := n.sim.nodes[by]
	return n.sim.passes(n.id, by) && t.running && !t.frozen && n.sim.passes(by, n.id)
}

// probed ends a probe; the next begins when it is time.
func (n *simNode) probed(began time.Duration, doubt int) {
	n.doubt = min(1, max(0, n.doubt+doubt))
	n.after(max(0, began+n.sim.timers.interval-n.sim.now), n.probe)
}

func (n *simNode) failed(target int, began time.Duration, doubt int) {
	n.probed(began, doubt)
	if p := n.peers[target]; p.known {
		n.hearSuspect(payload{about: aboutSuspect, node: target, from: n.id, inc: p.inc})
	}
}

// memberlist: full syncs

// syncState is what one tells the other.
type syncState struct {
	peers []peer
	msg   message
}

func (n *simNode) snapshot() syncState {
	all := n.state.all()
	all.Sender = n.sim.names[n.id]
	return syncState{slices.Clone(n.peers), all}
}

// sync exchanges everything with a node, and says whether it could. Who runs but
// is frozen takes in what it was sent when it thaws.
func (n *simNode) sync(to int, done func(bool)) {
	s, t, life, tell := n.sim, n.sim.nodes[to], n.life, done
	done = func(ok bool) {
		if n.life == life { // else it was the process before that asked
			tell(ok)
		}
	}
	fail := func() { n.after(tcpTimeout, func() { done(false) }) }
	s.after(s.delay()+s.delay(), nil, func() { // the handshake
		if !s.streams(n.id, to) {
			fail()
			return
		}
		if !t.running {
			n.after(0, func() { done(false) })
			return
		}
		n.after(0, func() {
			if n.life != life {
				return
			}
			mine := n.snapshot()
			s.after(s.delay(), nil, func() { n.pushed(t, mine, fail, done) })
		})
	})
}

// pushed is when a full sync's first half has come to the other.
func (n *simNode) pushed(t *simNode, mine syncState, fail func(), done func(bool)) {
	s := n.sim
	if !s.streams(n.id, t.id) || !t.running {
		fail()
		return
	}
	if t.frozen {
		fail()
		t.deferred = append(t.deferred, &event{node: t, life: t.life, run: func() { t.merge(mine, nil) }})
		return
	}
	theirs := t.snapshot()
	t.merge(mine, nil)
	s.after(s.delay(), nil, func() {
		if !s.streams(n.id, t.id) {
			fail()
			return
		}
		n.after(0, func() { n.merge(theirs, done) })
	})
}

// merge takes in the nodes, and a moment later what Members told.
func (n *simNode) merge(theirs syncState, done func(bool)) {
	for id, p := range theirs.peers {
		if !p.known {
			continue
		}
		switch p.status {
		case peerAlive:
			n.hearAlive(id, p.inc)
		case peerLeft:
			n.hearDead(payload{about: aboutDead, node: id, from: id, inc: p.inc})
		default: // a death is only suspected
			n.hearSuspect(payload{about: aboutSuspect, node: id, from: n.id, inc: p.inc})
		}
	}
	n.after(n.sim.between(0, 2*time.Millisecond), func() {
		n.roster.assumeAlive(theirs.msg.Sender)
		n.detector.synced(theirs.msg.Sender, n.sim.clock())
		n.after(n.sim.timers.silence, n.notify)
		n.notifyMsg(theirs.msg)
		if done != nil {
			done(true)
		}
	})
}

// pushPull syncs with one random member from time to time. That Members tells a digest
// first is the same, where the digests are.
func (n *simNode) pushPull() {
	scale := 1.0
	if count := n.estNumNodes(); count > 32 {
		scale = math.Ceil(math.Log2(float64(count))-5) + 1
	}
	n.after(time.Duration(scale)*fullSync, n.pushPull)
	for _, to := range n.some(1, func(id int) bool { return n.peers[id].status == peerAlive }) {
		n.sync(to, func(bool) {})
	}
}

// join syncs with all of these and says, when all have ended, whether one could.
func (n *simNode) join(others []int, done func(found bool)) {
	left, found := len(others), false
	if left == 0 {
		done(false)
	}
	for _, o := range others {
		n.sync(o, func(ok bool) {
			found = found || ok
			if left--; left == 0 {
				done(found)
			}
		})
	}
}

// leave says that this node goes, until that was said often enough.
func (n *simNode) leave() {
	n.left = true
	me := &n.peers[n.id]
	me.status = peerLeft
	if n.numMembers() == 0 {
		n.end()
		return
	}
	n.broadcast(payload{about: aboutDead, node: n.id, from: n.id, inc: me.inc}, func() { n.after(0, n.end) })
	n.after(farewell, n.end)
}

// Members

func (n *simNode) tellFacts() {
	n.say(func(v *versioned) {
		v.Facts = Facts{Interfaces: interfaces(n.up), Joined: n.joined, Leaving: n.leaving}
	})
}

func (n *simNode) say(change func(*versioned)) {
	change(&n.facts)
	n.facts.Version = min(n.facts.Version, maxVersion-1) + 1
	mine := message{Facts: map[string]versioned{n.name: n.facts}}
	n.tellAll(mine)
}

// tellAll is Members.tell.
func (n *simNode) tellAll(m message) {
	parts, others := m.split(), n.roster.ring()
	if len(others) <= 1 || len(parts)*(len(others)-1) > maxAtOnce {
		n.take(m, n.queue)
		return
	}
	n.take(m, n.repeats)
	others = slices.DeleteFunc(slices.Clone(others), func(o string) bool { return o == n.name })
	for _, part := range parts {
		part.ToAll = true
		number := n.outbox.put(others, part, n.sim.clock())
		for _, o := range others {
			n.sendNews(o, number, part)
		}
	}
}

func (n *simNode) sendNews(to string, number uint64, part message) {
	n.sim.send(n.id, slices.Index(n.sim.names, to), []payload{{about: aboutUs, from: n.id, msg: part, news: number}})
}

// echo tells a node what others have said in its name.
func (n *simNode) echo(p payload) {
	from := n.sim.names[p.from]
	said, itself := p.msg.Facts[from]
	if held := n.state.factsOf(from); itself && held.compare(said) > 0 {
		n.sendNews(from, 0, message{Facts: map[string]versioned{from: held}, ToAll: true})
	}
}

func (n *simNode) beat() {
	n.after(n.sim.timers.tick(), n.beat)
	n.beatAt = n.sim.now
	send, lapsed := n.detector.tick(n.sim.clock(), n.roster.ring())
	for _, r := range n.outbox.repeats(n.sim.clock()) {
		if slices.Contains(n.roster.ring(), r.to) {
			n.sendNews(r.to, r.number, r.msg)
		}
	}
	if lapsed {
		n.sim.tell("peers: %s has lapsed", n.name)
		n.lapsed = true
		n.sim.check.topology()
		if n.inLoop {
			n.rejoin()
		}
	}
	if !n.detector.opinion.equal(n.facts.opinion) {
		n.sim.tell("peers: %s misses %v", n.name, n.detector.opinion.Misses)
		n.say(func(v *versioned) { v.opinion = n.detector.opinion })
	}
	for _, back := range n.detector.back {
		n.sync(slices.Index(n.sim.names, back), func(bool) {})
	}
	if send {
		for _, w := range n.detector.watchers {
			n.sim.send(n.id, slices.Index(n.sim.names, w), []payload{{about: aboutPulse, from: n.id}})
		}
	}
}

// alive is Members.alive.
func (n *simNode) alive() []string {
	opinions := n.state.opinions()
	return n.roster.alive(&n.detector, opinions)
}

func (n *simNode) notifyMsg(m message) {
	if heard, ok := m.Facts[n.name]; ok {
		m.Facts = maps.Clone(m.Facts)
		delete(m.Facts, n.name)
		if heard.Version > n.facts.Version {
			n.say(func(v *versioned) { v.Version = heard.Version })
		}
	}
	n.take(m, n.queue)
}

func (n *simNode) take(m message, queue *memberlist.TransmitLimitedQueue) {
	start := m.Sender != "" && n.state.blank()
	news, urgent := n.state.merge(m)
	if len(news.Facts)+len(news.Claims) > 0 {
		n.news++
	}
	if news.joins() {
		n.after(late, n.notify)
	}
	if len(news.Claims) > 0 {
		n.tellClaims(m, news)
		if start {
			n.notify()
			return
		}
	}
	for _, part := range news.toPassOn(m).split() {
		b := n.sim.enlist(payload{about: aboutUs, msg: part}, len(part.encode()))
		queue.QueueBroadcast(&simBroadcast{broadcast: broadcast{name: part.name(), msg: b}})
	}
	switch {
	case urgent:
		n.notify()
	case len(news.Facts) > 0:
		n.notifyEvery(opinionInterval)
	case len(news.Claims) > 0:
		n.notifyEvery(claimInterval)
	}
}

func (n *simNode) tellClaims(heard, news message) {
	for _, a := range sortedAddrs(news.Claims) {
		c := news.Claims[a]
		n.sim.note(uint64(n.id), c.Epoch, uint64(a.As4()[3]))
		if n.sim.trace != nil {
			n.sim.tell("%s: %s hears %v, holds %v", a, n.name, heard.Claims[a], c)
		}
	}
}

// Announcer

// makeKnown is Announcer.join: the Speaker object, the others', full syncs.
func (n *simNode) makeKnown() {
	s := n.sim
	api := func() time.Duration { return s.between(2*time.Millisecond, 20*time.Millisecond) }
	n.after(api(), func() {
		if !s.reachesAPI(n) {
			n.after(time.Second, n.makeKnown)
			return
		}
		s.known[n.id] = true
		n.after(api(), func() {
			n.join(n.others(), func(bool) {
				n.hasJoined()
				n.enterLoop()
			})
		})
	})
}

func (n *simNode) others() []int {
	var out []int
	for id, known := range n.sim.known {
		if known && id != n.id {
			out = append(out, id)
		}
	}
	return out
}

func (n *simNode) hasJoined() {
	n.joined, n.lapsed = true, false
	n.detector.assumeAlive(n.sim.clock()) // Members.Revive
	for _, node := range n.state.nodes() {
		n.roster.assumeAlive(node)
	}
	n.after(n.sim.timers.silence, n.notify)
	n.tellFacts()
	n.sim.check.topology()
}

func (n *simNode) enterLoop() {
	n.inLoop = true
	n.look()
	n.watch()
	n.after(tryAgain, n.tick)
}

func (n *simNode) tick() {
	n.look()
	n.notify()
	n.after(tryAgain, n.tick)
}

// watch takes in which addresses there are.
func (n *simNode) watch() {
	if !n.sim.reachesAPI(n) {
		n.after(300*time.Millisecond, n.watch)
		return
	}
	n.services = n.sim.current
	n.notify()
}

// look notices that the interface has changed.
func (n *simNode) look() {
	if !n.inLoop || n.up == n.carrier {
		return
	}
	n.up = n.carrier
	if n.up {
		n.rejoin()
	} else {
		n.tellFacts()
	}
}

// rejoin looks for the others, who may have taken over.
func (n *simNode) rejoin() {
	n.joined = false
	n.tellFacts()
	n.searching++
	n.sim.check.topology()
	n.find(n.sim.now+rejoinWithin, n.others(), func() {
		if n.searching--; n.searching == 0 && n.inLoop && !n.leaving {
			n.hasJoined()
		}
	})
}

// find tries to join one of the others until it did, or until it is late.
func (n *simNode) find(until time.Duration, others []int, done func()) {
	if len(others) == 0 || n.sim.now >= until {
		done()
		return
	}
	ended, found, left := false, false, len(others)
	attempt := min(findEvery, until-n.sim.now)
	for _, o := range others {
		n.sync(o, func(ok bool) {
			found = found || ok
			if left--; left == 0 && found && !ended {
				ended = true
				done()
			}
		})
	}
	n.after(attempt, func() {
		if ended {
			return
		}
		ended = true
		if found {
			done()
			return
		}
		n.find(until, others, done)
	})
}

// lookForLost syncs with those that are known and not alive.
func (n *simNode) lookForLost() {
	alive := n.alive()
	var lost []int
	for _, o := range n.others() {
		if _, found := slices.BinarySearch(alive, n.sim.names[o]); !found {
			lost = append(lost, o)
		}
	}
	n.join(lost, func(bool) {})
	n.after(lookAround, n.lookForLost) // an attempt gets no longer
}

// notify has the loop act soon; what happens until then is seen at once.
func (n *simNode) notify() {
	if n.notified || !n.inLoop {
		return
	}
	n.notified = true
	n.after(n.sim.between(50*time.Microsecond, time.Millisecond), func() {
		n.notified = false
		if n.inLoop {
			n.act()
		}
	})
}

func (n *simNode) notifyEvery(interval time.Duration) {
	n.after(n.sim.between(0, interval), n.notify)
}

// act gathers, decides and acts, once. Decisions are pure: they stay while what
// they were made from does.
func (n *simNode) act() {
	alive, fresh := n.alive(), n.state.fresh()
	for a := range fresh {
		if _, lives := slices.BinarySearch(alive, n.state.claims[a].Owner); !lives {
			n.after(claimIsFresh, n.notify)
			break
		}
	}
	d := decision{lapsed: n.lapsed, late: n.state.late(), joined: n.joined, leaving: n.leaving, services: n.services, news: n.news, alive: alive, fresh: fresh}
	n.state.takeContested()
	if !d.same(n.last) {
		d.plan = n.decide(alive)
		n.last = d
		if len(d.plan.Claims) > 0 {
			n.tellPlan(d.plan.Claims)
			n.tellAll(message{Claims: d.plan.Claims})
		}
		n.apply(d.plan.Announcements)
	}
	if n.leaving && !n.mayHandOver(n.last.plan) {
		n.goodbye()
	}
}

func (d decision) same(o decision) bool {
	return d.joined == o.joined && d.leaving == o.leaving && d.services == o.services && d.news == o.news &&
		slices.Equal(d.alive, o.alive) && maps.Equal(d.fresh, o.fresh) && maps.Equal(d.late, o.late) && d.lapsed == o.lapsed && o.alive != nil
}

func (n *simNode) decide(alive []string) plan.Plan {
	view := n.state.view(alive)
	s := plan.Snapshot{
		Node: n.name, Joined: n.joined, Claims: view.Claims, Fresh: view.Fresh, Speakers: map[string]plan.Speaker{},
		Assignments: n.sim.services[n.services], Nodes: n.sim.nodeObjs,
		Known: len(n.others()) + 1, CutOff: n.detector.cutOff(), Announced: n.rows,
		Advertisements: []lb.L2Advertisement{{Name: "all", Scope: lb.Scope{AllPools: true}}},
	}
	for _, node := range view.Alive {
		if f, ok := view.Facts[node]; ok {
			s.Speakers[node] = plan.Speaker{Interfaces: f.Interfaces, Joined: f.Joined, Late: view.Late[node], Leaving: f.Leaving}
		}
	}
	n.tellView(view)
	return plan.Make(s)
}

// tellView tells who owns how many, as this node knows, and who leaves: successors
// follow from it.
func (n *simNode) tellView(v View) {
	if n.sim.trace == nil {
		return
	}
	load, leaving := map[string]int{}, []string(nil)
	for _, c := range v.Claims {
		load[c.Owner]++
	}
	for _, node := range v.Alive {
		if v.Facts[node].Leaving {
			leaving = append(leaving, node)
		}
	}
	n.sim.tell("peers: %s acts with %v, leaving %v, of %d alive", n.name, load, leaving, len(v.Alive))
}

func (n *simNode) tellPlan(claims map[netip.Addr]election.Claim) {
	if n.sim.trace != nil {
		for _, a := range sortedAddrs(claims) {
			n.sim.tell("%s: %s claims %v; alive for it: %v", a, n.name, claims[a], n.last.alive)
		}
	}
}

// apply is layer2.Apply: it answers for the rows, for those that are new to the
// network when they were probed.
func (n *simNode) apply(rows []lb.L2Announcement) {
	n.sim.check.announces(n, len(rows) > 0)
	want := make(map[netip.Addr]bool, len(rows))
	for _, r := range rows {
		want[r.Addr] = true
		if _, had := n.rows[r.Addr]; had {
			continue
		}
		n.rows[r.Addr] = !r.Probe
		if r.Probe {
			n.after(probing, func() { n.passed(r.Addr) })
		} else {
			n.answer(r.Addr, true)
		}
	}
	for _, a := range sortedAddrs(n.rows) {
		if !want[a] {
			n.answer(a, false)
			delete(n.rows, a)
		}
	}
}

// passed is when nobody has answered a probe.
func (n *simNode) passed(a netip.Addr) {
	if answers, still := n.rows[a]; still && !answers {
		n.rows[a] = true
		n.answer(a, true)
	}
}

func (n *simNode) answer(a netip.Addr, does bool) { n.sim.check.answers(n, a, does) }

// stop is SIGTERM: hand over, say goodbye, leave.
func (n *simNode) stop() {
	if !n.running || n.leaving {
		return
	}
	if !n.inLoop {
		n.goodbye()
		return
	}
	n.leaving = true
	n.sim.check.topology()
	n.tellFacts()
	n.after(handOverWithin, n.goodbye)
}

// mayHandOver is Announcer.mayHandOver.
func (n *simNode) mayHandOver(p plan.Plan) bool {
	return slices.ContainsFunc(p.Outcomes, func(o plan.Outcome) bool {
		return o.Reason == lb.ReasonAnnounced && slices.ContainsFunc(o.Avoided, func(r plan.Rejection) bool { return r.Node == n.name })
	})
}

func (n *simNode) goodbye() {
	if n.left {
		return
	}
	n.inLoop = false
	n.silence()
	n.leave()
}
