package members

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/election"
	"github.com/fairlead/fairlead/internal/netif"
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
}

// message is one gossip message, and the whole state in a full sync.
type message struct {
	Facts  map[string]versioned          `json:"f,omitempty"` // by node
	Claims map[netip.Addr]election.Claim `json:"c,omitempty"`
	Sender string                        `json:"s,omitempty"` // of a full sync
	Pulse  string                        `json:"p,omitempty"` // the sender, who is alive; there is nothing else then
}

// versioned is a node's facts, and what it says of the others; the higher version
// is the later one.
type versioned struct {
	Facts
	opinion
	Version uint64 `json:"v"`
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
	now func() time.Time

	mu        sync.Mutex // guards the fields below
	facts     map[string]versioned
	claims    map[netip.Addr]election.Claim
	contested map[netip.Addr]bool      // addresses on which a lower claim was heard, until taken
	heard     map[netip.Addr]time.Time // when the claim on an address came, for as long as it is fresh
	joining   map[string]time.Time     // node -> since when it runs and has not joined
}

func newState(now func() time.Time) *state {
	return &state{
		now:   now,
		facts: map[string]versioned{}, claims: map[netip.Addr]election.Claim{},
		contested: map[netip.Addr]bool{}, heard: map[netip.Addr]time.Time{}, joining: map[string]time.Time{},
	}
}

// merge takes in what is newer in m, and returns what others should hear: that
// part, and the claims held against lower ones in m.
func (s *state) merge(m message) (news message) {
	s.mu.Lock()
	defer s.mu.Unlock()
	news = message{Facts: map[string]versioned{}, Claims: map[netip.Addr]election.Claim{}}
	for node, f := range m.Facts {
		if f.Version > s.facts[node].Version {
			s.facts[node], news.Facts[node] = f, f
			s.noteJoining(node, f.Joined)
		}
	}
	for addr, c := range m.Claims {
		held := s.claims[addr]
		switch {
		case c.Compare(held) > 0:
			s.claims[addr], news.Claims[addr] = c, c
			s.heard[addr] = s.now()
		case c.Compare(held) < 0 && c.Owner != held.Owner:
			s.contested[addr] = true
			news.Claims[addr] = held // for who claims in ignorance of it
		}
	}
	return news
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

// opinions returns what each node says of those that it watches.
func (s *state) opinions() map[string]opinion {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := make(map[string]opinion, len(s.facts))
	for node, f := range s.facts {
		out[node] = f.opinion
	}
	return out
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
	out := map[netip.Addr]bool{}
	for a, at := range s.heard {
		if s.now().Sub(at) < claimIsFresh {
			out[a] = true
		} else {
			delete(s.heard, a)
		}
	}
	return out
}

// view returns what is known, given who is alive.
func (s *state) view(alive []string) View {
	all := s.all()
	v := View{Alive: alive, Facts: make(map[string]Facts, len(all.Facts)), Claims: all.Claims, Fresh: s.fresh(), Late: s.late()}
	for node, f := range all.Facts {
		v.Facts[node] = f.Facts
	}
	return v
}

// rumours are the nodes that memberlist takes for dead, for as long as that is a
// rumour.
type rumours struct {
	now   func() time.Time
	last  time.Duration
	until map[string]time.Time // node -> as long as when it is taken to be alive
}

func newRumours(now func() time.Time, last time.Duration) rumours {
	return rumours{now: now, last: last, until: map[string]time.Time{}}
}

// said notes that a member was said to be dead, or that it is alive after all.
func (r rumours) said(node string, dead bool) {
	delete(r.until, node)
	if dead {
		r.vouch(node)
	}
}

// vouch notes that there is reason to take a node to be alive for a while, as one
// that has just been spoken to. A death of it that is still believed, as after a
// cable was back, is no more than a rumour: it denies it as soon as it hears of it.
func (r rumours) vouch(node string) { r.until[node] = r.now().Add(r.last) }

// alive returns the sorted names of the members, and of those whose death is
// still a rumour.
func (r rumours) alive(members []string) []string {
	for node, until := range r.until {
		if r.now().Before(until) {
			members = append(members, node)
		} else {
			delete(r.until, node)
		}
	}
	slices.Sort(members)
	return slices.Compact(members)
}

// all returns a copy of everything.
func (s *state) all() message {
	s.mu.Lock()
	defer s.mu.Unlock()
	return message{Facts: maps.Clone(s.facts), Claims: maps.Clone(s.claims)}
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

func (m message) encode() []byte {
	b, err := json.Marshal(m)
	if err != nil {
		panic(fmt.Sprintf("encode gossip message: %v", err)) // plain data always encodes
	}
	return b
}

// decode parses a message and refuses what would corrupt the state.
func decode(b []byte) (message, error) {
	var m message
	if err := json.Unmarshal(b, &m); err != nil {
		return message{}, fmt.Errorf("decode gossip message: %w", err)
	}
	for addr := range m.Claims {
		if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" {
			return message{}, fmt.Errorf("decode gossip message: claim on %q", addr)
		}
	}
	return m, nil
}
