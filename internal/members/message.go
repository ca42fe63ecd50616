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

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// Facts is what a speaker publishes about its node.
type Facts struct {
	Interfaces []netif.Interface `json:"i,omitempty"`
	// Joined: the speaker has joined the others and may own addresses.
	Joined bool `json:"j,omitempty"`
	// Leaving: the speaker is about to stop, and others take over its addresses.
	Leaving bool `json:"l,omitempty"`
	// Drained: a user drains the node, and others take over its addresses.
	Drained bool `json:"d,omitempty"`
	// Unproxied: the node's kube-proxy does not work.
	Unproxied bool `json:"u,omitempty"`
	// Disputed are the first addresses that the node owns and does not announce, as another host
	// uses them. A speaker that takes one over probes it first.
	Disputed []netip.Addr `json:"dis,omitempty"`
}

// MaxDisputed is how many addresses Facts.Disputed has at most: facts are one datagram.
const MaxDisputed = 32

// equal reports whether both are the same.
func (f Facts) equal(o Facts) bool {
	return f.Joined == o.Joined && f.Leaving == o.Leaving && f.Drained == o.Drained && f.Unproxied == o.Unproxied && slices.Equal(f.Disputed, o.Disputed) &&
		slices.EqualFunc(f.Interfaces, o.Interfaces, netif.Interface.Equal)
}

// message is one gossip message, and all records in a full sync.
type message struct {
	Facts  map[string]versioned          `json:"f,omitempty"` // by node
	Claims map[netip.Addr]election.Claim `json:"-"`           // see encode
	Sender string                        `json:"s,omitempty"` // of a full sync
	Digest *digest                       `json:"d,omitempty"` // of all records, in a full sync without them
	ToAll  bool                          `json:"a,omitempty"` // the sender sends it to all: it need not be passed on
}

// digest is the same for the same records: sums of a hash of each.
type digest struct {
	Facts  uint64 `json:"f"`
	Claims uint64 `json:"c"`
}

// empty reports whether the message has no records.
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

// toPassOn returns the part of the news that others do not receive from the sender of the message.
func (m message) toPassOn(received message) message {
	if !received.ToAll {
		return m
	}
	out := message{Claims: map[netip.Addr]election.Claim{}}
	for a, c := range m.Claims {
		if received.Claims[a] != c {
			out.Claims[a] = c // the present claim, which is higher
		}
	}
	return out
}

// versioned is a node's facts and its opinion of the nodes that it watches. The higher version is
// the later one.
type versioned struct {
	Facts
	opinion
	Version uint64 `json:"v"`
	Term    uint64 `json:"t,omitempty"` // as election.Claim.Term: it is compared before the version
}

// compare orders facts of one node.
func (v versioned) compare(o versioned) int {
	return cmp.Or(cmp.Compare(v.Term, o.Term), cmp.Compare(v.Version, o.Version))
}

const (
	// maxVersion is the highest version. Each run of a speaker starts with the nanoseconds since
	// 1970; this is the year 2116.
	maxVersion = 1 << 62
	// maxVersionJump is by how much a version may exceed the present one: as if a node was away for
	// four and a half years.
	maxVersionJump = 1 << 57
)

// plausible reports whether next may follow these facts.
func (v versioned) plausible(next versioned) bool {
	return next.Version <= maxVersion && (v.Version == 0 || next.Term > v.Term || next.Version <= v.Version+maxVersionJump)
}

// hashOfFacts is 0 for no facts.
func hashOfFacts(node string, f versioned) uint64 {
	if f.Version == 0 {
		return 0
	}
	return hashOf(binary.AppendUvarint(binary.AppendUvarint(appendText(nil, []byte(node)), f.Version), f.Term))
}

// hashOfClaim is 0 for no claim.
func hashOfClaim(a netip.Addr, c election.Claim) uint64 {
	if c == (election.Claim{}) {
		return 0
	}
	return hashOf(binary.AppendUvarint(binary.AppendUvarint(appendText(appendText(nil, a.AsSlice()), []byte(c.Owner)), number(c)), c.Term))
}

// hashOf must be a hash whose sums do not collide by pattern, as for two claims that differ by one
// epoch each.
func hashOf(b []byte) uint64 {
	h := sha256.Sum256(b)
	return binary.BigEndian.Uint64(h[:])
}

// claimsPerMessage usually keeps an encoded message within one UDP packet.
const claimsPerMessage = 12

// split splits m into messages that mostly fit into one packet each: the facts of one node, or a
// few claims.
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

// encode returns the message as it is sent: the length of everything but the claims, and that as
// JSON; then the owners' names with a term each, and the claims by address, each with the index of
// its owner, in any order. Claims are not JSON, as there are many, and each is sent many times.
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

// tenure is the owner and term that many claims share.
type tenure struct {
	owner string
	term  uint64
}

func (t tenure) compare(o tenure) int {
	return cmp.Or(cmp.Compare(t.owner, o.owner), cmp.Compare(t.term, o.term))
}

// number is a claim's epoch; its lowest bit is whether the claim is minor.
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

// decode parses a message and refuses one that would corrupt the state.
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

var errMalformed = errors.New("decode gossip message: it is truncated or invalid")

// reader parses what encode writes.
type reader struct {
	b   []byte
	bad bool // it is invalid
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
