package members

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/election"
)

// late is how long a speaker that runs may look for the others before they take
// over what it owns. It usually finds them in some milliseconds.
const late = 500 * time.Millisecond

// claimIsFresh is how long the owner of a claim has to be heard of. Speakers
// that meet again tell their claims at once; that those they took for dead
// are alive takes a few gossip intervals more.
const claimIsFresh = 400 * time.Millisecond

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
	// Facts and opinions change seldom, too. What follows from them is made again then.
	version uint64 // of all facts: incremented by setFacts on every change
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
		news.Facts[node] = f
		facts, opinion := s.setFacts(node, f)
		s.noteJoining(node, f.Joined)
		urgent = urgent || facts || opinion && !f.opinion.missesOnly(held.opinion.Misses)
	}
	for addr, c := range m.Claims {
		held := s.claims[addr]
		switch {
		case c.Term > s.term || !held.Plausible(c):
			s.refused++
		case c.Compare(held) > 0:
			news.Claims[addr] = c
			s.setClaim(addr, c)
			urgent = urgent || held.Owner == s.node || c.Owner == s.node
			s.heard[addr] = s.now()
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
	for node, f := range s.facts {
		if f.Term > term {
			f.Term = 0
			s.setFacts(node, f)
		}
	}
	for addr, c := range s.claims {
		if c.Term > term {
			c.Term = 0
			s.setClaim(addr, c)
		}
		if c.Owner == s.node {
			own[addr] = c.InTerm(term)
		}
	}
	return own
}

// setFacts replaces what is held of a node, and drops what was made from it. It reports whether
// its facts are others than before, and whether its opinion is. Nothing else writes to facts. The
// caller holds mu.
func (s *state) setFacts(node string, f versioned) (facts, opinion bool) {
	held := s.facts[node]
	facts, opinion = held.Version == 0 || !f.Facts.equal(held.Facts), !f.opinion.equal(held.opinion)
	s.facts[node] = f
	s.sum.Facts += hashOfFacts(node, f) - hashOfFacts(node, held)
	s.wire = nil
	if facts {
		s.plain = nil
		s.version++
	}
	if opinion {
		s.said.of = nil
		s.said.version++
	}
	return facts, opinion
}

// setClaim replaces the claim on an address, and drops what was made from it. Nothing else writes
// to claims. The caller holds mu.
func (s *state) setClaim(addr netip.Addr, c election.Claim) {
	s.sum.Claims += hashOfClaim(addr, c) - hashOfClaim(addr, s.claims[addr])
	s.claims[addr] = c
	s.moved[addr] = true
	s.wire = nil
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

// encoded returns everything as what a full sync sends. Nobody may write to it.
func (s *state) encoded(sender string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil {
		s.wire = message{Facts: s.facts, Claims: s.claims, Sender: sender}.encode()
	}
	return s.wire
}
