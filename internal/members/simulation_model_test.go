package members

import (
	"container/heap"
	"fmt"
	"hash"
	"hash/fnv"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// The simulator runs the ownership protocol of a whole cluster in one goroutine
// and in virtual time: state, election.Owner and speaker.Make are the real
// ones, as is memberlist's broadcast queue; simulation_node_test.go has what is
// written again. One source of chance per seed: a seed always gives the same run.

// event is something that happens at a time, to a process if it has an owner.
type event struct {
	at   time.Duration
	seq  uint64 // of two at the same time, the one that was planned first
	node *simNode
	life int // of the node's process for which it was planned
	run  func()
}

// agenda is a heap of events.
type agenda []*event

func (a agenda) Len() int { return len(a) }
func (a agenda) Less(i, j int) bool {
	return a[i].at < a[j].at || a[i].at == a[j].at && a[i].seq < a[j].seq
}
func (a agenda) Swap(i, j int) { a[i], a[j] = a[j], a[i] }
func (a *agenda) Push(x any)   { *a = append(*a, x.(*event)) }
func (a *agenda) Pop() any {
	last := (*a)[len(*a)-1]
	*a = (*a)[:len(*a)-1]
	return last
}

// simulation is one run.
type simulation struct {
	scenario *scenario
	chance   *rand.Rand
	now      time.Duration
	seq      uint64
	agenda   agenda
	log      hash.Hash64 // of all that happened, in order

	timers   timers
	nodes    []*simNode
	nodeObjs map[string]lb.Node
	names    []string
	payloads []payload // all that was ever gossiped; a packet's bytes name an entry

	// The network.
	side  []int // partition that each node is in
	alone []int // silent cuts of each node that are in force
	deaf  map[[2]int]float64
	loss  float64                      // of every packet
	drops func(to int, p payload) bool // what is lost besides; nil for nothing

	// The API server.
	known    []bool // nodes with a Speaker object
	services [][]lb.Assignment
	current  int // index of the last of services

	check *checker
	trace func(format string, args ...any) // nil unless a failed run is repeated
}

// newSimulation returns the cluster of a plan before anything has started.
func newSimulation(p *scenario) *simulation {
	s := &simulation{
		scenario: p, chance: p.chance, log: fnv.New64a(), timers: FailoverDefault.timers(),
		nodeObjs: map[string]lb.Node{}, deaf: map[[2]int]float64{}, loss: p.loss, services: [][]lb.Assignment{nil},
	}
	for id := range p.capacity {
		n := &simNode{sim: s, id: id, name: fmt.Sprintf("n%03d", id), carrier: true}
		s.nodes = append(s.nodes, n)
		s.names = append(s.names, n.name)
		s.nodeObjs[n.name] = lb.Node{Name: n.name}
	}
	s.side, s.alone, s.known = make([]int, p.capacity), make([]int, p.capacity), make([]bool, p.capacity)
	s.check = newChecker(s)
	return s
}

// clock is the virtual time as product code reads it.
func (s *simulation) clock() time.Time { return time.Unix(1_800_000_000, 0).Add(s.now) }

// after plans an event. One of a node's process is lost when that ends, and
// waits while it is frozen.
func (s *simulation) after(d time.Duration, n *simNode, run func()) {
	s.seq++
	e := &event{at: s.now + d, seq: s.seq, node: n, run: run}
	if n != nil {
		e.life = n.life
	}
	heap.Push(&s.agenda, e)
}

// runUntil lets happen what is due.
func (s *simulation) runUntil(end time.Duration) {
	for len(s.agenda) > 0 && s.agenda[0].at <= end && s.check.failure == nil {
		e := heap.Pop(&s.agenda).(*event)
		s.now = e.at
		s.happen(e)
	}
	s.now = max(s.now, end)
}

func (s *simulation) happen(e *event) {
	if e.node == nil {
		e.run()
		return
	}
	switch n := e.node; {
	case !n.running || n.life != e.life:
	case n.frozen:
		n.deferred = append(n.deferred, e)
	default:
		s.note(uint64(n.id), uint64(s.now), e.seq)
		e.run()
	}
}

// note adds to the hash of the run.
func (s *simulation) note(values ...uint64) {
	var b [8]byte
	for _, v := range values {
		for i := range b {
			b[i] = byte(v >> (8 * i))
		}
		s.log.Write(b[:])
	}
}

// tell notes a step in the life of an address; a failed run is repeated to read it.
func (s *simulation) tell(format string, args ...any) {
	if s.trace != nil {
		s.trace("%10.4fs "+format, append([]any{s.now.Seconds()}, args...)...)
	}
}

// between returns a random duration.
func (s *simulation) between(least, most time.Duration) time.Duration {
	return least + time.Duration(s.chance.Int64N(int64(most-least)+1))
}

func (s *simulation) happens(p float64) bool { return p > 0 && s.chance.Float64() < p }

// delay is how long a packet travels, and waits to be read.
func (s *simulation) delay() time.Duration {
	if s.happens(0.01) {
		return 50 * time.Millisecond
	}
	return s.between(100*time.Microsecond, 5*time.Millisecond)
}

// linked reports whether there is a way between two hosts.
func (s *simulation) linked(a, b int) bool {
	return a == b || s.nodes[a].carrier && s.nodes[b].carrier && s.side[a] == s.side[b] && s.alone[a] == 0 && s.alone[b] == 0
}

// passes reports whether a packet from a gets to b.
func (s *simulation) passes(a, b int) bool {
	return s.linked(a, b) && !s.happens(s.loss) && (len(s.deaf) == 0 || !s.happens(s.deaf[[2]int{a, b}]))
}

// streams reports whether a stream between two hosts works. TCP repeats what is
// lost, but not for ever.
func (s *simulation) streams(a, b int) bool {
	return s.linked(a, b) && s.deaf[[2]int{a, b}] < 0.9 && s.deaf[[2]int{b, a}] < 0.9
}

// reachesAPI reports whether a node can talk to the API server: it is on all
// sides of a partition, but not where a node is alone.
func (s *simulation) reachesAPI(n *simNode) bool { return n.carrier && s.alone[n.id] == 0 }

// payload is one gossip message as memberlist or Members understands it.
type payload struct {
	about about
	node  int // whom memberlist's messages are about
	from  int
	inc   uint32
	msg   message
	news  uint64 // number of a message that is to be acknowledged, or that is
}

type about uint8

const (
	aboutAlive about = iota
	aboutSuspect
	aboutDead
	aboutUs // a message of Members
	aboutPulse
	aboutAck
)

// sizes of memberlist's own messages, encoded.
var sizes = map[about]int{aboutAlive: 90, aboutSuspect: 50, aboutDead: 50}

// packet is what fits into one of memberlist's: UDPBufferSize less the overhead of a
// compound message.
const packet = largestDatagram - envelopeOverhead - 2

// simBroadcast is a payload in memberlist's queue. Its bytes are as many as the real
// message has, and begin with the payload's number.
type simBroadcast struct {
	broadcast
	finished func()
}

func (b *simBroadcast) Finished() {
	if b.finished != nil {
		b.finished()
	}
}

// enlist returns bytes of this size that stand for the payload.
func (s *simulation) enlist(p payload, size int) []byte {
	b := make([]byte, max(size, 4))
	n := len(s.payloads)
	b[0], b[1], b[2], b[3] = byte(n), byte(n>>8), byte(n>>16), byte(n>>24)
	s.payloads = append(s.payloads, p)
	return b
}

func (s *simulation) payload(b []byte) payload {
	return s.payloads[int(b[0])|int(b[1])<<8|int(b[2])<<16|int(b[3])<<24]
}

// send has a packet arrive some time later, or not.
func (s *simulation) send(from, to int, payloads []payload) {
	if len(payloads) == 0 || !s.passes(from, to) {
		return
	}
	if s.drops != nil {
		payloads = slices.DeleteFunc(slices.Clone(payloads), func(p payload) bool { return s.drops(to, p) })
	}
	s.after(s.delay(), nil, func() { s.arrive(from, to, payloads) })
}

// arrive puts a packet into the buffer of a process, which reads it when it runs.
func (s *simulation) arrive(from, to int, payloads []payload) {
	if n := s.nodes[to]; n.running && s.linked(from, to) {
		s.happen(&event{at: s.now, node: n, life: n.life, run: func() {
			for _, p := range payloads {
				n.hear(p)
			}
		}})
	}
}

// The API server.

var lan = netip.MustParsePrefix("10.0.0.0/8")

// simAddr is the address with this number.
func simAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}) }

func interfaces(up bool) []netif.Interface {
	return []netif.Interface{{Name: "eth0", Prefixes: []netip.Prefix{lan}, Up: up}}
}

// assign gives out or takes back addresses: all nodes hear of it by and by.
func (s *simulation) assign(given []bool) {
	var all []lb.Assignment
	for i, g := range given {
		if g {
			all = append(all, lb.Assignment{
				Service: lb.ServiceKey{Namespace: "default", Name: fmt.Sprintf("s%03d", i)},
				Grants:  []lb.Grant{{Addr: simAddr(i), Pool: "pool"}}, Policy: lb.TrafficCluster, Ready: lb.ReadyNodes{IPv4: s.names, IPv6: s.names},
			})
		}
	}
	s.services = append(s.services, all)
	s.current = len(s.services) - 1
	for _, n := range s.nodes {
		if n.running {
			s.after(s.between(time.Millisecond, 50*time.Millisecond), n, n.watch)
		}
	}
}

// The faults that a plan may have. Each tells the checker that things have changed.

func (s *simulation) cut(id, by int) {
	s.alone[id] += by
	s.check.topology()
}

func (s *simulation) divide(minority []int) {
	for id := range s.side {
		s.side[id] = 0
		if slices.Contains(minority, id) {
			s.side[id] = 1
		}
	}
	s.check.topology()
}

func (s *simulation) pull(id int, carrier bool) {
	n := s.nodes[id]
	n.carrier = carrier
	s.after(s.between(0, 5*time.Millisecond), n, n.look)
	s.check.topology()
}

func (s *simulation) freeze(id int) {
	s.nodes[id].frozen = true
	s.check.topology()
}

// thaw lets a process go on: its timers fire late, it reads what has piled up, in
// any order.
func (s *simulation) thaw(id int) {
	n := s.nodes[id]
	n.frozen = false
	if s.now-n.beatAt > s.timers.silence { // its answers are void until it finds the others
		n.silence()
		n.last = decision{}
	}
	for _, e := range n.deferred {
		e.at = s.now + s.between(0, 2*time.Millisecond)
		s.seq++
		e.seq = s.seq
		heap.Push(&s.agenda, e)
	}
	n.deferred = nil
	s.check.topology()
}

func (s *simulation) crash(id int) {
	s.nodes[id].end()
}

// warm makes the first nodes a cluster in which all know all and nobody owns
// anything: a large one takes long to start one by one.
func (s *simulation) warm(count int) {
	for id := range count {
		s.known[id] = true
		s.nodes[id].boot()
	}
	for _, n := range s.nodes[:count] {
		for _, o := range s.nodes[:count] {
			n.peers[o.id] = peer{known: true, status: peerAlive, inc: 1}
			n.roster.joined(o.name)
			n.state.facts[o.name] = versioned{Version: 1, Facts: Facts{Interfaces: interfaces(true), Joined: true}}
		}
		n.facts = n.state.facts[n.name]
		n.resetOrder()
		n.joined = true
		n.enterLoop()
	}
	s.check.topology()
}
