package members

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// Facts is what a speaker tells the others about its node.
type Facts struct {
	Interfaces []netif.Interface `json:"i,omitempty"`
	// Joined says that the speaker has found the others and may own addresses.
	Joined bool `json:"j,omitempty"`
	// Leaving says that the speaker is about to stop: another is to take over
	// what it owns.
	Leaving bool `json:"l,omitempty"`
	// Drained says that a user wants others to have what it owns.
	Drained bool `json:"d,omitempty"`
	// Unproxied says that the node's kube-proxy does not work.
	Unproxied bool `json:"u,omitempty"`
	// Disputed are the first addresses that the node owns and does not announce, as a
	// foreign host has them: who takes one over probes it first.
	Disputed []netip.Addr `json:"dis,omitempty"`
}

// MaxDisputed is how many addresses Facts.Disputed has at most: facts are one datagram.
const MaxDisputed = 32

// equal reports whether both say the same.
func (f Facts) equal(o Facts) bool {
	return f.Joined == o.Joined && f.Leaving == o.Leaving && f.Drained == o.Drained && f.Unproxied == o.Unproxied && slices.Equal(f.Disputed, o.Disputed) &&
		slices.EqualFunc(f.Interfaces, o.Interfaces, netif.Interface.Equal)
}

// message is one gossip message, and the whole state in a full sync.
type message struct {
	Facts  map[string]versioned          `json:"f,omitempty"` // by node
	Claims map[netip.Addr]election.Claim `json:"-"`           // see encode
	Sender string                        `json:"s,omitempty"` // of a full sync
	Digest *digest                       `json:"d,omitempty"` // in a full sync, of all instead
	ToAll  bool                          `json:"a,omitempty"` // the sender has told all of it: it need not be passed on
}

// digest is the same for all who know the same: sums of a hash of each entry.
type digest struct {
	Facts  uint64 `json:"f"`
	Claims uint64 `json:"c"`
}

// empty reports whether the message says nothing.
func (m message) empty() bool { return len(m.Facts)+len(m.Claims) == 0 }

// joins reports whether one of these nodes has not joined yet.
func (m message) joins() bool {
	for _, f := range m.Facts {
		if !f.Joined {
			return true
		}
	}
	return false
}

// toPassOn returns what of the news others do not hear from who told it.
func (m message) toPassOn(told message) message {
	if !told.ToAll {
		return m
	}
	out := message{Claims: map[netip.Addr]election.Claim{}}
	for a, c := range m.Claims {
		if told.Claims[a] != c {
			out.Claims[a] = c // held against a lower one
		}
	}
	return out
}

// versioned is a node's facts, and what it says of the others; the higher version
// is the later one.
type versioned struct {
	Facts
	opinion
	Version uint64 `json:"v"`
	Term    uint64 `json:"t,omitempty"` // as election.Claim.Term: it orders before the version
}

// compare orders facts of one node.
func (v versioned) compare(o versioned) int {
	return cmp.Or(cmp.Compare(v.Term, o.Term), cmp.Compare(v.Version, o.Version))
}

const (
	// maxVersion is the highest version: in nanoseconds since 1970, with which each run of a speaker
	// begins, the year 2116.
	maxVersion = 1 << 62
	// maxVersionJump is by how much a version may exceed the one that is held: as if a node was away
	// for four and a half years.
	maxVersionJump = 1 << 57
)

// plausible reports whether others can follow these facts, which are held.
func (v versioned) plausible(next versioned) bool {
	return next.Version <= maxVersion && (v.Version == 0 || next.Term > v.Term || next.Version <= v.Version+maxVersionJump)
}

// late is how long a speaker that runs may look for the others before they take
// over what it owns. It usually finds them in some milliseconds.
const late = 500 * time.Millisecond

// state is what this speaker has heard. Claims are never forgotten, so that an
// address given back and given out again goes on with the next epoch; as the
// lowest free address is given, there are as many as were ever in use at a time.
// Merging is commutative and idempotent,
// so the order and number of deliveries do not matter.
type state struct {
	now  func() time.Time
	node string // this one

	mu        sync.Mutex // guards the fields below
	term      uint64     // the highest that is accepted
	refused   uint64     // how many records were implausible, or of a later term
	facts     map[string]versioned
	claims    map[netip.Addr]election.Claim
	sum       digest                   // of these two
	contested map[netip.Addr]bool      // addresses on which a lower claim was heard, until taken
	heard     map[netip.Addr]time.Time // when the claim on an address came, for as long as it is fresh
	joining   map[string]time.Time     // node -> since when it runs and has not joined

	// Claims are as many as there are addresses, and do not change for hours.
	shown map[netip.Addr]election.Claim // what view gave out; only view writes to it
	moved map[netip.Addr]bool           // addresses whose claim changed since then
	wire  []byte                        // what encoded gave out, nil when that has changed
	// Facts and opinions change seldom, too. What follows from them is made anew then.
	version uint64 // of all facts
	plain   map[string]Facts
	said    opinions
}

func newState(now func() time.Time, node string) *state {
	return &state{
		now: now, node: node,
		facts: map[string]versioned{}, claims: map[netip.Addr]election.Claim{},
		contested: map[netip.Addr]bool{}, heard: map[netip.Addr]time.Time{}, joining: map[string]time.Time{},
		shown: map[netip.Addr]election.Claim{}, moved: map[netip.Addr]bool{},
	}
}

// merge takes in what is newer in m, and returns what others should hear: that part, and
// the claims held against lower ones in m. It is urgent if this node has made one of the
// claims that are new, or were replaced or held, if somebody misses one more, or if
// other facts about a node have changed: mostly, watchers only take turns.
func (s *state) merge(m message) (news message, urgent bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = message{Facts: map[string]versioned{}, Claims: map[netip.Addr]election.Claim{}}
	for node, f := range m.Facts {
		held := s.facts[node]
		if f.compare(held) <= 0 {
			continue
		}
		if f.Term > s.term || !held.plausible(f) {
			s.refused++
			continue
		}
		s.sum.Facts += hashOfFacts(node, f) - hashOfFacts(node, held)
		s.facts[node], news.Facts[node] = f, f
		s.noteJoining(node, f.Joined)
		s.wire = nil
		if held.Version == 0 || !f.Facts.equal(held.Facts) {
			s.plain, urgent = nil, true
			s.version++
		}
		if !f.opinion.equal(held.opinion) {
			s.said.of = nil
			s.said.version++
			urgent = urgent || !f.opinion.missesOnly(held.opinion.Misses)
		}
	}
	for addr, c := range m.Claims {
		held := s.claims[addr]
		switch {
		case c.Term > s.term || !held.Plausible(c):
			s.refused++
		case c.Compare(held) > 0:
			s.sum.Claims += hashOfClaim(addr, c) - hashOfClaim(addr, held)
			s.claims[addr], news.Claims[addr] = c, c
			urgent = urgent || held.Owner == s.node || c.Owner == s.node
			s.heard[addr] = s.now()
			s.moved[addr] = true
			s.wire = nil
		case c.Compare(held) < 0 && c.Owner != held.Owner:
			s.contested[addr] = true
			urgent = urgent || held.Owner == s.node
			news.Claims[addr] = held // for who claims in ignorance of it
		}
	}
	return news, urgent
}

// setTerm changes the term, and returns the claims of this node in it. Records of a later
// term, which are there if it was lowered, become the oldest.
func (s *state) setTerm(term uint64) map[netip.Addr]election.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.term = term
	own := map[netip.Addr]election.Claim{}
	s.sum, s.wire = digest{}, nil
	for node, f := range s.facts {
		if f.Term > term {
			f.Term = 0
			s.facts[node] = f
		}
		s.sum.Facts += hashOfFacts(node, f)
	}
	for addr, c := range s.claims {
		if c.Term > term {
			c.Term = 0
			s.claims[addr], s.moved[addr] = c, true
		}
		if c.Owner == s.node {
			own[addr] = c.InTerm(term)
		}
		s.sum.Claims += hashOfClaim(addr, c)
	}
	return own
}

// inTerm returns the claims as made in the present term.
func (s *state) inTerm(claims map[netip.Addr]election.Claim) map[netip.Addr]election.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[netip.Addr]election.Claim, len(claims))
	for addr, c := range claims {
		out[addr] = c.InTerm(s.term)
	}
	return out
}

// isAhead reports whether some of the message is in a later term, which this speaker will
// accept when it has read that.
func (s *state) isAhead(m message) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, f := range m.Facts {
		if f.Term > s.term {
			return true
		}
	}
	for _, c := range m.Claims {
		if c.Term > s.term {
			return true
		}
	}
	return false
}

// countRefused returns how many records were refused.
func (s *state) countRefused() uint64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.refused
}

// factsOf returns what is held of a node.
func (s *state) factsOf(node string) versioned {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts[node]
}

// noteJoining notes since when a node has not joined. The caller holds mu.
func (s *state) noteJoining(node string, joined bool) {
	if _, since := s.joining[node]; joined {
		delete(s.joining, node)
	} else if !since {
		s.joining[node] = s.now()
	}
}

// late returns the nodes that have not joined for so long that others are to take over.
func (s *state) late() map[string]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[string]bool{}
	for node, since := range s.joining {
		if s.now().Sub(since) >= late {
			out[node] = true
		}
	}
	return out
}

// nodes returns all that were ever heard of.
func (s *state) nodes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.facts))
}

// opinions returns what each node says of those that it watches. Nobody may write to it.
func (s *state) opinions() opinions {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.said.of == nil {
		s.said.of = make(map[string]opinion, len(s.facts))
		for node, f := range s.facts {
			s.said.of[node] = f.opinion
		}
	}
	return s.said
}

// blank reports whether no claim has been heard of.
func (s *state) blank() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.claims) == 0
}

// takeContested returns the addresses on which a lower claim was heard since the
// last call.
func (s *state) takeContested() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Collect(maps.Keys(s.contested))
	clear(s.contested)
	return out
}

// fresh returns the addresses whose claim came less than claimIsFresh ago.
func (s *state) fresh() map[netip.Addr]bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	out, now := map[netip.Addr]bool{}, s.now()
	for a, at := range s.heard {
		if now.Sub(at) < claimIsFresh {
			out[a] = true
		} else {
			delete(s.heard, a)
		}
	}
	if len(s.heard) == 0 {
		s.heard = map[netip.Addr]time.Time{} // without the room for what came at the start
	}
	return out
}

// view returns what is known, given who is alive.
func (s *state) view(alive []string) View {
	v := View{Alive: alive, Fresh: s.fresh(), Late: s.late()}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.plain == nil {
		s.plain = make(map[string]Facts, len(s.facts))
		for node, f := range s.facts {
			s.plain[node] = f.Facts
		}
	}
	v.Facts, v.FactsVersion = s.plain, s.version
	for a := range s.moved {
		s.shown[a] = s.claims[a]
	}
	v.Claims, v.Moved = s.shown, slices.Collect(maps.Keys(s.moved))
	s.moved = map[netip.Addr]bool{}
	return v
}

// all returns a copy of everything.
func (s *state) all() message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return message{Facts: maps.Clone(s.facts), Claims: maps.Clone(s.claims)}
}

// digest returns that of everything.
func (s *state) digest() digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum
}

// hashOfFacts is 0 for facts that are not there.
func hashOfFacts(node string, f versioned) uint64 {
	if f.Version == 0 {
		return 0
	}
	return hashOf(binary.AppendUvarint(binary.AppendUvarint(appendText(nil, []byte(node)), f.Version), f.Term))
}

// hashOfClaim is 0 for a claim that is not there.
func hashOfClaim(a netip.Addr, c election.Claim) uint64 {
	if c == (election.Claim{}) {
		return 0
	}
	return hashOf(binary.AppendUvarint(binary.AppendUvarint(appendText(appendText(nil, a.AsSlice()), []byte(c.Owner)), number(c)), c.Term))
}

// hashOf must be one of which sums do not collide by pattern, as where two claims differ
// by one epoch each.
func hashOf(b []byte) uint64 {
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:])
}

// encoded returns everything as what a full sync sends. Nobody may write to it.
func (s *state) encoded(sender string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil {
		s.wire = message{Facts: s.facts, Claims: s.claims, Sender: sender}.encode()
	}
	return s.wire
}

// claimsPerMessage usually keeps an encoded message within one UDP packet.
const claimsPerMessage = 12

// split cuts m into messages that each fit into one packet: the facts of one
// node, or a few claims.
func (m message) split() []message {
	var out []message
	for _, node := range slices.Sorted(maps.Keys(m.Facts)) {
		out = append(out, message{Facts: map[string]versioned{node: m.Facts[node]}})
	}
	addrs := slices.SortedFunc(maps.Keys(m.Claims), netip.Addr.Compare)
	for chunk := range slices.Chunk(addrs, claimsPerMessage) {
		claims := make(map[netip.Addr]election.Claim, len(chunk))
		for _, a := range chunk {
			claims[a] = m.Claims[a]
		}
		out = append(out, message{Claims: claims})
	}
	return out
}

// encode returns the message as it is sent: the length of all but the claims, and
// that as JSON; then the owners' names with a term each, and the claims by address, each with
// its owner's number among them, in any order. Of claims there are many, and each goes
// around many times.
func (m message) encode() []byte {
	var rest []byte
	if len(m.Facts) > 0 || m.Sender != "" || m.ToAll { // a digest has a sender
		var err error
		if rest, err = json.Marshal(m); err != nil {
			panic(fmt.Sprintf("encode gossip message: %v", err)) // plain data always encodes
		}
	}
	b := appendText(nil, rest)
	numbers := map[tenure]uint64{}
	for _, c := range m.Claims {
		numbers[tenure{c.Owner, c.Term}] = 0
	}
	b = binary.AppendUvarint(b, uint64(len(numbers)))
	for i, t := range slices.SortedFunc(maps.Keys(numbers), tenure.compare) {
		numbers[t] = uint64(i) //nolint:gosec // an index is not negative
		b = binary.AppendUvarint(appendText(b, []byte(t.owner)), t.term)
	}
	for a, c := range m.Claims {
		b = appendText(b, a.AsSlice())
		b = binary.AppendUvarint(b, numbers[tenure{c.Owner, c.Term}])
		b = binary.AppendUvarint(b, number(c))
	}
	return b
}

// tenure is what many claims have in common.
type tenure struct {
	owner string
	term  uint64
}

func (t tenure) compare(o tenure) int {
	return cmp.Or(cmp.Compare(t.owner, o.owner), cmp.Compare(t.term, o.term))
}

// number is a claim's epoch, and in the lowest bit whether it is minor.
func number(c election.Claim) uint64 {
	n := c.Epoch << 1
	if c.Minor {
		n |= 1
	}
	return n
}

func appendText(b, text []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(text))), text...)
}

// decode parses a message and refuses what would corrupt the state.
func decode(b []byte) (message, error) {
	var m message
	r := reader{b: b}
	if rest := r.text(); len(rest) > 0 {
		if err := json.Unmarshal(rest, &m); err != nil {
			return message{}, fmt.Errorf("decode gossip message: %w", err)
		}
	}
	var owners []tenure
	for n := r.number(); n > 0 && !r.bad; n-- {
		owners = append(owners, tenure{string(r.text()), r.number()})
	}
	if len(r.b) > 0 && !r.bad {
		m.Claims = map[netip.Addr]election.Claim{}
	}
	for len(r.b) > 0 && !r.bad {
		addr, ok := netip.AddrFromSlice(r.text())
		owner, epoch := r.number(), r.number()
		if !ok || addr.Is4In6() || owner >= uint64(len(owners)) {
			r.bad = true
			break
		}
		m.Claims[addr] = election.Claim{Owner: owners[owner].owner, Epoch: epoch >> 1, Minor: epoch&1 == 1, Term: owners[owner].term}
	}
	if r.bad {
		return message{}, errMalformed
	}
	return m, nil
}

var errMalformed = errors.New("decode gossip message: it is cut off, or not one of ours")

// reader takes apart what encode put together.
type reader struct {
	b   []byte
	bad bool // it was not that
}

func (r *reader) number() uint64 {
	v, n := binary.Uvarint(r.b)
	if n <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) text() []byte {
	n := r.number()
	if n > uint64(len(r.b)) {
		r.bad, r.b = true, nil
		return nil
	}
	text := r.b[:n]
	r.b = r.b[n:]
	return text
}
