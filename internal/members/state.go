package members

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/election"
)

// late is how long a running speaker may take to join before the others take over its addresses.
// It usually joins within milliseconds.
const late = 500 * time.Millisecond

// claimIsFresh is how long a claim counts as fresh. Speakers that were partitioned exchange their
// claims at once when they meet again; they learn a few gossip intervals later that the owners,
// which they took for dead, are alive.
const claimIsFresh = 400 * time.Millisecond

// state is the records of all speakers, as far as they were received. Claims are never deleted, so
// that an address that is released and assigned again continues with the next epoch. As the lowest
// free address is assigned, there are as many claims as addresses were ever in use at a time.
// Merging is commutative and idempotent, so that the order and number of messages do not matter.
type state struct {
	now  func() time.Time
	node string // this one

	mu        sync.Mutex // guards the fields below
	term      uint64     // the highest accepted one
	refused   uint64     // how many records were implausible, or of a later term
	facts     map[string]versioned
	claims    map[netip.Addr]election.Claim
	sum       digest                   // of these two
	contested map[netip.Addr]bool      // addresses for which a lower claim was received, until takeContested
	heard     map[netip.Addr]time.Time // address -> when its claim was received, while it is fresh
	joining   map[string]time.Time     // node -> since when it runs without having joined

	// There are as many claims as addresses, and they do not change for hours: views share a map.
	shown map[netip.Addr]election.Claim // in the last View; only view writes to it
	moved map[netip.Addr]bool           // addresses whose claim changed since then
	wire  []byte                        // the cached result of encoded; nil after a change
	// Facts and opinions change seldom, too. What is computed from them is cached.
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

// merge merges the records of m that are newer, and returns what to pass on: those records, and the
// present claims where m has lower ones. It is urgent if a changed or contested claim is of this
// node, if a watcher misses one more node, or if a node's facts have changed. Mostly only the
// opinions of watchers change.
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
		s.recordJoining(node, f.Joined)
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
			news.Claims[addr] = held // so that the lower one's owner learns it
		}
	}
	return news, urgent
}

// setTerm changes the term, and returns the claims of this node in it. Records of a later term,
// which exist if the term was lowered, become the oldest.
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

// setFacts replaces the facts of a node and drops what was computed from them. It reports whether
// its facts have changed, and whether its opinion has. Nothing else writes to facts. The caller holds
// mu.
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

// setClaim replaces the claim on an address and drops what was computed from it. Nothing else writes
// to claims. The caller holds mu.
func (s *state) setClaim(addr netip.Addr, c election.Claim) {
	s.sum.Claims += hashOfClaim(addr, c) - hashOfClaim(addr, s.claims[addr])
	s.claims[addr] = c
	s.moved[addr] = true
	s.wire = nil
}

// inTerm returns the claims with the present term.
func (s *state) inTerm(claims map[netip.Addr]election.Claim) map[netip.Addr]election.Claim {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[netip.Addr]election.Claim, len(claims))
	for addr, c := range claims {
		out[addr] = c.InTerm(s.term)
	}
	return out
}

// isAhead reports whether the message has records of a later term, which this speaker will accept
// after it has read that term.
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

// factsOf returns the present facts of a node.
func (s *state) factsOf(node string) versioned {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.facts[node]
}

// recordJoining records since when a node has not joined. The caller holds mu.
func (s *state) recordJoining(node string, joined bool) {
	if _, since := s.joining[node]; joined {
		delete(s.joining, node)
	} else if !since {
		s.joining[node] = s.now()
	}
}

// late returns the nodes that have not joined for so long that others take over their addresses.
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

// nodes returns all nodes that have published facts.
func (s *state) nodes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Collect(maps.Keys(s.facts))
}

// opinions returns the opinion of each node. Callers must not write to it.
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

// blank reports whether there are no claims yet.
func (s *state) blank() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.claims) == 0
}

// takeContested returns the addresses for which a lower claim was received since the last call.
func (s *state) takeContested() []netip.Addr {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Collect(maps.Keys(s.contested))
	clear(s.contested)
	return out
}

// fresh returns the addresses whose claim was received less than claimIsFresh ago.
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
		s.heard = map[netip.Addr]time.Time{} // frees the memory that the first full sync needed
	}
	return out
}

// view returns what is known, given the alive nodes.
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

// all returns a copy of all records.
func (s *state) all() message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return message{Facts: maps.Clone(s.facts), Claims: maps.Clone(s.claims)}
}

// digest returns the digest of all records.
func (s *state) digest() digest {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sum
}

// encoded returns all records as a full sync sends them. Callers must not write to it.
func (s *state) encoded(sender string) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.wire == nil {
		s.wire = message{Facts: s.facts, Claims: s.claims, Sender: sender}.encode()
	}
	return s.wire
}
