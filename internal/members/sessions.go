package members

import (
	"bytes"
	"cmp"
	"crypto/cipher"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"
)

const (
	// challengeEvery is the shortest time between two challenges of one session: one may be lost.
	challengeEvery = 50 * time.Millisecond
	// challengeFor is how long a nonce is valid.
	challengeFor = 2 * time.Second
	// mostPending is how many sessions may be unproven at a time, and heldFor how many bytes of
	// packets of each wait for the proof. Only packets under the key get there.
	mostPending = 1024
	heldFor     = 4 << 10
	// mostPeers and mostPlaces bound the memory for proven peers. The one that was silent for
	// longest is dropped.
	mostPeers  = 4096
	mostPlaces = 4096

	// aliveFor is how long after its last packet a session keeps its node's name when another address
	// claims the name. answerWithin is how long it then may take to answer a challenge.
	aliveFor     = time.Second
	answerWithin = 500 * time.Millisecond
	// rivalFor is how long a duplicate node name is reported after it was last seen.
	rivalFor = 5 * time.Second

	// Packets of unproven sessions, and challenges, cost a key derivation each. Those from addresses
	// of other speakers have a limit of their own.
	unprovenPerSecond      = 500
	unprovenKnownPerSecond = 5000
)

// sessions decides which packets are from a speaker of the cluster, sent now and to this one. A
// session is proven when it has answered a challenge, by returning the nonce under the key. From then
// on each number is accepted once. The newest proven session replaces a node's earlier one, whatever
// its clock.
type sessions struct {
	now  func() time.Time
	self identity
	at   netip.AddrPort // this speaker's endpoint
	keys *keyring
	out  *sealer

	mu       sync.Mutex // guards the fields below
	proven   map[session]*remote
	byName   map[string]*remote
	pending  map[session]*pending
	places   map[netip.Addr]time.Time // sources of proven sessions, and endpoints of speakers in the API
	rivals   map[string]Rival         // node name -> another machine that also uses it
	refusals map[netip.AddrPort]Rival // speaker that refused this one -> the machine that has its name
	notices  []outgoing               // to be sent: two machines use one name
	unproven [2]bucket                // for unknown sources, for known ones
}

// identity is the speaker of a session, according to itself.
type identity struct {
	session    session
	generation uint64
	name       string
	endpoint   netip.AddrPort
}

// Rival is another machine that uses a node's name.
type Rival struct {
	First    netip.AddrPort // the machine that used it first, and keeps it
	Later    netip.AddrPort
	seen     time.Time
	notified time.Time // both machines
}

// remote is a proven session, the present one of its node.
type remote struct {
	identity
	heard  time.Time
	asked  time.Time // when it was challenged, as another machine claims the name
	window window
	beat   uint64    // number of the last heartbeat
	former []session // replaced by this one

	edition uint64 // of the keys that the ciphers are made from
	ciphers []cipher.AEAD
	last    int // index of the cipher that was used last
}

// pending is a session that was challenged and has not answered.
type pending struct {
	nonce     [16]byte
	since, at time.Time // of the nonce, of the last challenge
	held      []delivery
	bytes     int
}

// delivery is an accepted body.
type delivery struct {
	kind kind
	node string
	body []byte
	from netip.AddrPort
}

// outgoing is a packet to send.
type outgoing struct {
	packet []byte
	to     netip.AddrPort
}

// received is the result of receiving a packet.
type received struct {
	deliveries []delivery
	replies    []outgoing
	drop       drop
}

// drop is why a packet is dropped.
type drop uint8

const (
	dropNone      drop = iota
	dropMalformed      // not an envelope
	dropLimited        // too many of its kind
	dropForged         // not sealed with a gossip key for this speaker
	dropReplayed       // accepted before, or too old
	dropUnproven       // its session has not answered a challenge
	dropDuplicate      // its session uses another machine's node name
	dropFull           // the queue was full
	dropInvalid        // under the key, with an invalid body
	dropPanic          // handling it panicked
	dropEnd
)

func newSessions(now func() time.Time, self identity, keys *keyring, out *sealer) *sessions {
	return &sessions{
		now: now, self: self, at: self.endpoint, keys: keys, out: out,
		proven: map[session]*remote{}, byName: map[string]*remote{}, pending: map[session]*pending{}, places: map[netip.Addr]time.Time{}, rivals: map[string]Rival{}, refusals: map[netip.AddrPort]Rival{},
		unproven: [2]bucket{{rate: unprovenPerSecond}, {rate: unprovenKnownPerSecond}},
	}
}

// receive handles a packet. A challenge is never longer than the packet that it replies to; a
// response is longer than its challenge by 8 bytes and the node's name.
func (s *sessions) receive(packet []byte, from netip.AddrPort) received {
	h, ok := parseHeader(packet)
	if !ok || h.session == s.self.session {
		return received{drop: dropMalformed}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.proven[h.session]; p != nil && h.kind != kindChallenge {
		return s.receiveProven(p, h, packet, from)
	}
	if !s.unproven[s.knows(from.Addr())].take(s.now()) {
		return received{drop: dropLimited}
	}
	keys, _ := s.keys.get()
	for _, key := range keys {
		if h.kind == kindChallenge {
			if nonce, err := open(challengeAEAD(key, h.session, s.at), h, packet); err == nil {
				return received{replies: []outgoing{{s.respond(nonce, from), from}}}
			}
		} else if body, err := open(datagramAEAD(key, h.session, s.at), h, packet); err == nil {
			return s.receiveUnproven(h, body, from, key, len(packet))
		}
	}
	return received{drop: dropForged}
}

// knows returns 1 for the address of another speaker, and 0 for others: an index of unproven.
func (s *sessions) knows(a netip.Addr) int {
	if _, known := s.places[a]; known {
		return 1
	}
	return 0
}

// receiveProven handles a packet with the session of a proven peer in its header.
func (s *sessions) receiveProven(p *remote, h header, packet []byte, from netip.AddrPort) received {
	body, err := p.open(s, h, packet)
	switch {
	case err != nil:
		return received{drop: dropForged}
	case !p.window.accept(h.number), h.kind == kindHeartbeat && h.number < p.beat:
		return received{drop: dropReplayed}
	}
	p.heard = s.now()
	switch h.kind {
	case kindHeartbeat:
		p.beat = h.number
		p.endpoint = from
	case kindResponse:
		delete(s.pending, h.session)
		return received{}
	}
	return received{deliveries: []delivery{{h.kind, p.name, body, from}}}
}

// open returns the body of an envelope that is sealed with any of the keys.
func (p *remote) open(s *sessions, h header, packet []byte) ([]byte, error) {
	keys, edition := s.keys.get()
	if p.edition != edition {
		p.edition, p.ciphers, p.last = edition, make([]cipher.AEAD, len(keys)), 0
	}
	for i := range p.ciphers {
		i = (p.last + i) % len(p.ciphers)
		if p.ciphers[i] == nil {
			p.ciphers[i] = datagramAEAD(keys[i], p.session, s.at)
		}
		if body, err := open(p.ciphers[i], h, packet); err == nil {
			p.last = i
			return body, nil
		}
	}
	return nil, errForged
}

var errForged = errors.New("not sealed with a gossip key")

// receiveUnproven handles a packet under the key whose session is not proven.
func (s *sessions) receiveUnproven(h header, body []byte, from netip.AddrPort, key []byte, size int) received {
	p := s.pending[h.session]
	if h.kind == kindResponse {
		id, nonce, ok := parseResponse(body)
		id.session, id.endpoint = h.session, from
		switch {
		case !ok:
			return received{drop: dropInvalid}
		case p == nil || p.nonce != nonce || s.now().Sub(p.since) > challengeFor:
			return received{drop: dropReplayed}
		}
		return s.prove(id, h.number, p.held)
	}
	if p == nil || s.now().Sub(p.since) > challengeFor {
		if p = s.ask(h.session); p == nil {
			return received{drop: dropLimited}
		}
	}
	r := received{drop: dropUnproven}
	if p.bytes+len(body) <= heldFor {
		p.held, p.bytes = append(p.held, delivery{kind: h.kind, body: body, from: from}), p.bytes+len(body)
	}
	if s.now().Sub(p.at) >= challengeEvery {
		if challenge := s.out.challenge(key, p.nonce, from); len(challenge) <= size {
			p.at, r.replies = s.now(), []outgoing{{challenge, from}}
		}
	}
	return r
}

// ask returns a new nonce for a session, or nil if there are too many.
func (s *sessions) ask(of session) *pending {
	if len(s.pending) >= mostPending {
		for other, p := range s.pending {
			if s.now().Sub(p.since) > challengeFor {
				delete(s.pending, other)
			}
		}
		if len(s.pending) >= mostPending {
			return nil
		}
	}
	p := &pending{since: s.now()}
	rand.Read(p.nonce[:])
	s.pending[of] = p
	return p
}

// respond answers a challenge of any sender: the answer shows only that this speaker is alive.
func (s *sessions) respond(nonce []byte, to netip.AddrPort) []byte {
	body := binary.BigEndian.AppendUint64(bytes.Clone(nonce), s.self.generation)
	return s.out.seal(kindResponse, append(body, s.self.name...), to)
}

func parseResponse(body []byte) (id identity, nonce [16]byte, ok bool) {
	const head = 16 + 8
	if len(body) <= head {
		return id, nonce, false
	}
	copy(nonce[:], body)
	id.generation, id.name = binary.BigEndian.Uint64(body[16:]), string(body[head:])
	return id, nonce, validName(id.name)
}

// maxName is the longest name of a Node.
const maxName = 253

func validName(name string) bool { return name != "" && len(name) <= maxName }

// prove makes a session proven, by a datagram with this number, and delivers the packets that waited
// for that.
func (s *sessions) prove(id identity, number uint64, held []delivery) received {
	delete(s.pending, id.session)
	if !s.claimName(id) {
		return received{drop: dropDuplicate, replies: s.takeNotices()}
	}
	p := s.byName[id.name]
	// Earlier numbers may be of packets recorded before this speaker was started.
	p.window, p.beat = window{highest: number, seen: ^uint64(0)}, number
	s.proven[id.session] = p
	r := received{deliveries: held, replies: s.takeNotices()}
	for i := range r.deliveries {
		r.deliveries[i].node = id.name
	}
	return r
}

// claimName makes a session the present one of its node, unless another machine has the name.
func (s *sessions) claimName(id identity) bool {
	current, now := s.byName[id.name], s.now()
	switch {
	case id.name == s.self.name:
		s.rivals[id.name] = s.rival(s.self, id)
		return false
	case current == nil:
	case current.session == id.session:
		current.heard = now
		return true
	case slices.Contains(current.former, id.session):
		// It is older than the present one, and still active.
		s.report(id.name, Rival{First: id.endpoint, Later: current.endpoint, seen: now})
	case current.endpoint.Addr() == id.endpoint.Addr():
		// The same machine, restarted.
	case now.Sub(current.heard) < aliveFor:
		s.report(id.name, Rival{First: current.endpoint, Later: id.endpoint, seen: now})
		return false
	case current.asked.Before(current.heard):
		current.asked = now
		if p := s.ask(current.session); p != nil { // any packet of the proven session is an answer
			p.at = now
			keys, _ := s.keys.get()
			s.notices = append(s.notices, outgoing{s.out.challenge(keys[0], p.nonce, current.endpoint), current.endpoint})
		}
		return false
	case now.Sub(current.asked) < answerWithin:
		return false
	}
	p := &remote{identity: id, heard: now}
	if current != nil {
		delete(s.proven, current.session)
		if p.former = append(slices.Clone(current.former), current.session); len(p.former) > 4 {
			p.former = p.former[1:]
		}
		if slices.Contains(current.former, id.session) {
			p.former = nil // these are later ones
		}
	}
	s.byName[id.name] = p
	s.addPlace(id.endpoint.Addr())
	s.forgetOldest()
	return true
}

// reportEvery is how often the machines that use one name are notified.
const reportEvery = time.Second

// report records that two machines use one name, and notifies both.
func (s *sessions) report(name string, r Rival) {
	last, known := s.rivals[name]
	r.notified = last.notified
	if !known || r.seen.Sub(last.notified) >= reportEvery {
		r.notified = r.seen
		body := appendText(appendText(nil, []byte(r.First.String())), []byte(r.Later.String()))
		for _, to := range []netip.AddrPort{r.First, r.Later} {
			s.notices = append(s.notices, outgoing{s.out.seal(kindDuplicate, body, to), to})
		}
	}
	if len(s.rivals) < mostPeers {
		s.rivals[name] = r
	}
}

func (s *sessions) takeNotices() []outgoing {
	out := s.notices
	s.notices = nil
	return out
}

// receiveDuplicate handles the notification by another speaker that two machines use this node's name.
func (s *sessions) receiveDuplicate(by netip.AddrPort, body []byte) (ok bool) {
	r := reader{b: body}
	first, err1 := netip.ParseAddrPort(string(r.text()))
	later, err2 := netip.ParseAddrPort(string(r.text()))
	if r.bad || err1 != nil || err2 != nil {
		return false
	}
	switch s.at {
	case first:
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rivals[s.self.name] = Rival{First: first, Later: later, seen: s.now()}
	case later:
		s.refused(by, first)
	default:
		return false
	}
	return true
}

// duplicates returns the node names that two machines have used in the last seconds, and whether
// another machine used this speaker's name first.
func (s *sessions) duplicates() (rivals map[string]Rival, later bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	recent := func(r Rival) bool { return s.now().Sub(r.seen) < rivalFor }
	rivals = map[string]Rival{}
	for name, r := range s.rivals {
		if recent(r) {
			rivals[name] = r
		} else {
			delete(s.rivals, name)
		}
	}
	for by, r := range s.refusals {
		switch {
		case !recent(r):
			delete(s.refusals, by)
		case r.First != s.at:
			rivals[s.self.name] = r
		}
	}
	own, rivalled := rivals[s.self.name]
	return rivals, rivalled && own.First != s.at
}

// rival returns which of two machines was first: the one that was started first, according to
// themselves.
func (s *sessions) rival(x, y identity) Rival {
	r := Rival{First: x.endpoint, Later: y.endpoint, seen: s.now()}
	if cmp.Or(cmp.Compare(x.generation, y.generation), bytes.Compare(x.session[:], y.session[:])) > 0 {
		r.First, r.Later = r.Later, r.First
	}
	return r
}

// firstOf returns which machine keeps a node name.
func (s *sessions) firstOf(id identity) netip.AddrPort {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r, rivals := s.rivals[id.name]; rivals {
		return r.First
	}
	if p := s.byName[id.name]; p != nil {
		return p.endpoint
	}
	return s.at
}

// refused records that a speaker refused this one, as the first machine has its name.
func (s *sessions) refused(by, first netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.refusals) < mostPeers {
		s.refusals[by] = Rival{First: first, Later: s.at, seen: s.now()}
	}
}

// admitted records that a speaker no longer refuses this one.
func (s *sessions) admitted(by netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.refusals, by)
}

// isRefusedBy reports whether a speaker refused this one a moment ago.
func (s *sessions) isRefusedBy(by netip.AddrPort) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, refused := s.refusals[by]
	return refused && s.now().Sub(r.seen) < aliveFor
}

func (s *sessions) addPlace(a netip.Addr) {
	if len(s.places) >= mostPlaces {
		clear(s.places)
		for _, p := range s.byName {
			s.places[p.endpoint.Addr()] = p.heard
		}
	}
	s.places[a] = s.now()
}

// forgetOldest keeps the number of peers within bounds.
func (s *sessions) forgetOldest() {
	if len(s.byName) <= mostPeers {
		return
	}
	var oldest *remote
	for _, p := range s.byName {
		if oldest == nil || p.heard.Before(oldest.heard) {
			oldest = p
		}
	}
	delete(s.byName, oldest.name)
	delete(s.proven, oldest.session)
}

// expect records the endpoints of speakers in the API: their packets and connections have limits of
// their own.
func (s *sessions) expect(endpoints []netip.AddrPort) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range endpoints {
		s.addPlace(e.Addr())
	}
}

// isPlace reports whether the address is that of another speaker.
func (s *sessions) isPlace(a netip.Addr) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.knows(a) == 1
}

// met records that a session was proven in the handshake of a stream. For datagrams it is proven
// again, by the challenge in replies: only then it is known which numbers are old.
func (s *sessions) met(id identity) (replies []outgoing, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ok = s.claimName(id)
	if replies = s.takeNotices(); !ok {
		return replies, false
	}
	if s.proven[id.session] == nil && s.pending[id.session] == nil {
		if p := s.ask(id.session); p != nil {
			keys, _ := s.keys.get()
			p.at = s.now()
			replies = append(replies, outgoing{s.out.challenge(keys[0], p.nonce, id.endpoint), id.endpoint})
		}
	}
	return replies, true
}

// window accepts each number once, in any order within the last 64.
type window struct {
	highest uint64
	seen    uint64 // bit i: highest - i was accepted
}

func (w *window) accept(n uint64) bool {
	if n > w.highest {
		if ahead := n - w.highest; ahead < 64 {
			w.seen = w.seen<<ahead | 1
		} else {
			w.seen = 1
		}
		w.highest = n
		return true
	}
	back := w.highest - n
	if back >= 64 || w.seen&(1<<back) != 0 {
		return false
	}
	w.seen |= 1 << back
	return true
}

// bucket is a token bucket that holds the tokens of one second.
type bucket struct {
	rate   float64 // tokens per second
	tokens float64
	last   time.Time
}

func (b *bucket) take(now time.Time) bool {
	b.tokens = min(b.rate, b.tokens+now.Sub(b.last).Seconds()*b.rate)
	b.last = now
	if b.tokens < 1 {
		return false
	}
	b.tokens--
	return true
}
