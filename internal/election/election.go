// Package election decides which node owns an address.
//
// It is pure. Every speaker computes the same owner from the same candidates
// and claims; a claim's epoch orders the owners where the speakers' views
// differ for a while, so that at most one of them keeps the address.
package election

import (
	"cmp"
	"net/netip"
	"slices"
)

// Claim says that a node owns an address since an epoch. The zero Claim is no
// one's and loses to every other.
type Claim struct {
	Owner string `json:"o"` // the node's name; "" when the address has no owner
	Epoch uint64 `json:"e"` // one more than that of the claim it replaced
	// Minor says that the owner may have been cut off with less than half of the
	// speakers when it claimed: the rest may be well, and one of them have the address.
	Minor bool `json:"m,omitempty"`
	// Term orders claims before the epoch does. It is raised by a person, to leave behind what
	// an attacker has claimed with a stolen key.
	Term uint64 `json:"t,omitempty"`
}

// MaxEpoch is the highest epoch: a takeover in every millisecond reaches it after 34 years. It
// is far below where numbers wrap around.
const MaxEpoch = 1 << 40

// maxJump is by how much an epoch may exceed the one that is held. Between two that a speaker hears
// of there are a few takeovers, as many as happened while it was partitioned.
const maxJump = 1 << 16

// Next returns the claim by which a node replaces this one.
func (c Claim) Next(owner string, minor bool) Claim {
	return Claim{Owner: owner, Epoch: min(c.Epoch, MaxEpoch-1) + 1, Minor: minor, Term: c.Term}
}

// InTerm returns the claim as its owner makes it in another term. An epoch that grew by more than
// takeovers begins again, above the first, as the address is not new.
func (c Claim) InTerm(term uint64) Claim {
	if c.Term != term && c.Epoch > MaxEpoch/2 {
		c.Epoch = 2
	}
	c.Term = term
	return c
}

// Plausible reports whether a claim can be the one that follows this one, which is held: nobody
// makes another by taking over.
func (c Claim) Plausible(next Claim) bool {
	if next.Epoch > MaxEpoch || next.Owner == "" {
		return false
	}
	return c == Claim{} || next.Term > c.Term || next.Epoch <= c.Epoch+maxJump
}

// Compare orders claims on one address: the later term wins, then the higher epoch; of two
// with the same epoch, made by nodes that did not hear each other, the one that is not
// minor, then the lower name.
func (c Claim) Compare(o Claim) int {
	return cmp.Or(cmp.Compare(c.Term, o.Term), cmp.Compare(c.Epoch, o.Epoch), compareMinor(c, o), cmp.Compare(o.Owner, c.Owner))
}

func compareMinor(c, o Claim) int {
	switch {
	case c.Minor == o.Minor:
		return 0
	case c.Minor:
		return -1
	default:
		return 1
	}
}

// Load is how many addresses nodes own, and how many are enough.
type Load struct {
	Of   map[string]int
	Most int
}

// NewLoad returns a Load of no addresses, with room for total addresses on so
// many nodes: no node should own more than 1.25 x a fair share, and one.
// ("Consistent Hashing with Bounded Loads", Mirrokni, Thorup and Zadimoghaddam, 2018.)
func NewLoad(total, nodes int) Load {
	return Load{Of: map[string]int{}, Most: total*5/(4*max(nodes, 1)) + 1}
}

// Owner returns the node that is to own addr, or "" when there is none to choose
// from. The current owner stays while it is among those that may, which are
// sorted. Otherwise the
// one to choose from with the highest score does that does not own enough
// already, so that every speaker finds the same one and the addresses of a lost
// node spread over all others. An address that never had an owner goes to the
// node with the fewest first: one that has just joined gets the next ones.
func Owner(addr netip.Addr, mayStay, choose []string, current Claim, load Load) string {
	if _, stays := slices.BinarySearch(mayStay, current.Owner); stays {
		return current.Owner
	}
	// The node with the highest score mostly has room, and then what others own does not matter.
	if first := best(addr, choose, func(string) int { return 0 }); first == "" || load.excess(first, current) == 0 {
		return first
	}
	return best(addr, choose, func(node string) int { return load.excess(node, current) })
}

// best returns the node with the least excess; of those, the one with the highest score.
func best(addr netip.Addr, nodes []string, excess func(string) int) string {
	owner, least, highest := "", 0, uint64(0)
	begun := begin(addr)
	for i, node := range nodes {
		e, s := excess(node), score(begun, node)
		if i == 0 || cmp.Or(cmp.Compare(e, least), cmp.Compare(highest, s), cmp.Compare(node, owner)) < 0 {
			owner, least, highest = node, e, s
		}
	}
	return owner
}

// excess is what counts against a node: all that it owns where the address is
// new, else what it owns above the most that it should.
func (l Load) excess(node string, current Claim) int {
	if current == (Claim{}) {
		return l.Of[node]
	}
	return max(0, l.Of[node]+1-l.Most)
}

// begin is the part of a score that is the same for all nodes.
func begin(addr netip.Addr) uint64 {
	h := uint64(fnvOffset)
	for _, c := range addr.As16() {
		h = (h ^ uint64(c)) * fnvPrime
	}
	return h
}

// score is the rendezvous weight of a node for an address (Thaler and
// Ravishankar, "Using name-based mappings to increase hit rates", 1998).
func score(begun uint64, node string) uint64 {
	h := begun
	for i := range len(node) {
		h = (h ^ uint64(node[i])) * fnvPrime
	}
	return mix(h)
}

// The parameters of the 64-bit FNV-1a hash. hash/fnv has it too, but only in a
// form that allocates, and a lost node takes as many as it owned addresses times
// there are nodes.
const (
	fnvOffset = 0xcbf29ce484222325
	fnvPrime  = 0x100000001b3
)

// mix spreads FNV's weak high bits: names that differ in the last character
// must not score alike (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
