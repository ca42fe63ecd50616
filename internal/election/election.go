// Package election decides which node owns an address.
//
// It is pure. Every speaker computes the same owner from the same candidates
// and claims; a claim's epoch orders the owners where the speakers' views
// differ for a while, so that at most one of them keeps the address.
package election

import (
	"cmp"
	"hash/fnv"
	"net/netip"
	"slices"
)

// Claim says that a node owns an address since an epoch. The zero Claim is no
// one's and loses to every other.
type Claim struct {
	Owner string `json:"o"` // the node's name; "" when nobody owns the address
	Epoch uint64 `json:"e"` // one more than that of the claim it replaced
}

// Compare orders claims on one address: the higher epoch wins; of two with the
// same epoch, made by nodes that did not hear each other, the lower name.
func (c Claim) Compare(o Claim) int {
	return cmp.Or(cmp.Compare(c.Epoch, o.Epoch), cmp.Compare(o.Owner, c.Owner))
}

// Owner returns the node that is to own addr, or "" when there is none to choose
// from. The current owner stays while it is among those that may; else the one
// to choose from with the highest score does, so that every speaker finds the
// same one and the addresses of a lost node spread over all others.
func Owner(addr netip.Addr, mayStay, choose []string, current Claim) string {
	if slices.Contains(mayStay, current.Owner) {
		return current.Owner
	}
	var best string
	var bestScore uint64
	for _, node := range choose {
		s := score(addr, node)
		if best == "" || s > bestScore || s == bestScore && node < best {
			best, bestScore = node, s
		}
	}
	return best
}

// score is the rendezvous weight of a node for an address (Thaler and
// Ravishankar, "Using name-based mappings to increase hit rates", 1998).
func score(addr netip.Addr, node string) uint64 {
	h := fnv.New64a()
	b := addr.As16()
	h.Write(b[:])
	h.Write([]byte(node))
	return mix(h.Sum64())
}

// mix spreads FNV's weak high bits: names that differ in the last character
// must not score alike (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
