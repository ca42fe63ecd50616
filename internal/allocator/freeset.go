package allocator

import (
	"encoding/binary"
	"math"
	"net/netip"
	"time"

	"github.com/google/btree"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// cooldown is how long a freed address is given only when no other is free, so
// that neighbours' caches and clients that still know it have time to forget.
const cooldown = time.Minute

// freeSet is the free addresses of one pool and one family, as sorted disjoint
// ranges in a tree: every operation costs O(log ranges), whatever the number of
// addresses. (netipx.IPSet is immutable; changing it costs O(ranges).)
type freeSet struct {
	// ranges are changed in place where that does not change their order.
	ranges *btree.BTreeG[*lb.Range]
	pivot  lb.Range // to search with
	free   uint64   // addresses in ranges that can be given, saturating

	// avoidBuggy keeps IPv4 addresses ending in .0 and .255 from being given.
	// They count as absent; lowest drops those it meets from ranges, each once.
	avoidBuggy bool

	// cooling holds addresses freed less than cooldown ago, oldest first; they
	// are not in ranges. An address taken again before its time stays in the
	// queue and is distinguished by coolingSince.
	cooling      []cooled
	coolingSince map[netip.Addr]time.Time
}

type cooled struct {
	addr  netip.Addr
	since time.Time
}

func newFreeSet(avoidBuggy bool) *freeSet {
	return &freeSet{
		avoidBuggy:   avoidBuggy,
		ranges:       btree.NewG(16, func(a, b *lb.Range) bool { return a.From.Less(b.From) }),
		coolingSince: map[netip.Addr]time.Time{},
	}
}

// available returns how many addresses can be given, saturating.
func (s *freeSet) available() uint64 { return saturatingAdd(s.free, uint64(len(s.coolingSince))) }

// addRange adds r, which must not touch anything that is in the set already
// except by adjacency.
func (s *freeSet) addRange(r lb.Range) {
	s.free = saturatingAdd(s.free, size(r))
	if s.avoidBuggy {
		s.free -= buggyIn(r)
	}
	left := s.atOrBefore(r.From)
	if left != nil && left.To.Next() != r.From {
		left = nil
	}
	var right *lb.Range
	if next := r.To.Next(); next.IsValid() {
		s.pivot.From = next
		right, _ = s.ranges.Get(&s.pivot)
	}
	switch {
	case left != nil && right != nil:
		left.To = right.To
		s.ranges.Delete(right)
	case left != nil:
		left.To = r.To
	case right != nil:
		right.From = r.From
	default:
		s.ranges.ReplaceOrInsert(&r)
	}
}

// atOrBefore returns the range that begins last among those beginning at a or
// before it, or nil.
func (s *freeSet) atOrBefore(a netip.Addr) (found *lb.Range) {
	s.pivot.From = a
	s.ranges.DescendLessOrEqual(&s.pivot, func(r *lb.Range) bool {
		found = r
		return false
	})
	return found
}

// has reports whether a is free, cooling or not.
func (s *freeSet) has(a netip.Addr) bool {
	if s.avoidBuggy && lb.Buggy(a) {
		return false
	}
	if s.cools(a) {
		return true
	}
	r := s.atOrBefore(a)
	return r != nil && r.Contains(a)
}

// lowest returns the address to give next: the lowest that is not cooling,
// else the one that has cooled longest.
func (s *freeSet) lowest(now time.Time) (netip.Addr, bool) {
	s.warm(now)
	for r, ok := s.ranges.Min(); ok; r, ok = s.ranges.Min() {
		if !s.avoidBuggy || !lb.Buggy(r.From) {
			return r.From, true
		}
		s.cut(r, r.From)
	}
	if len(s.cooling) > 0 { // warm left a live entry at the head
		return s.cooling[0].addr, true
	}
	return netip.Addr{}, false
}

// cools reports whether a was freed so lately that others are given before it.
func (s *freeSet) cools(a netip.Addr) bool {
	_, ok := s.coolingSince[a]
	return ok
}

// take removes a from the set and reports whether it was there.
func (s *freeSet) take(a netip.Addr) bool {
	if s.cools(a) {
		delete(s.coolingSince, a)
		s.dropStale()
		return true
	}
	r := s.atOrBefore(a)
	if r == nil || !r.Contains(a) || s.avoidBuggy && lb.Buggy(a) {
		return false
	}
	s.cut(r, a)
	if s.free != math.MaxUint64 {
		s.free--
	}
	return true
}

// cut takes a out of r, which is in the set and contains it.
func (s *freeSet) cut(r *lb.Range, a netip.Addr) {
	switch {
	case r.From == r.To:
		s.ranges.Delete(r)
	case r.From == a:
		r.From = a.Next()
	case r.To == a:
		r.To = a.Prev()
	default:
		right := &lb.Range{From: a.Next(), To: r.To}
		r.To = a.Prev()
		s.ranges.ReplaceOrInsert(right)
	}
}

// put returns a, which must not be in the set, to be given last for a while.
func (s *freeSet) put(a netip.Addr, now time.Time) {
	if s.avoidBuggy && lb.Buggy(a) {
		return
	}
	s.cooling = append(s.cooling, cooled{a, now})
	s.coolingSince[a] = now
}

// warm moves the addresses that have cooled down back to the ranges.
func (s *freeSet) warm(now time.Time) {
	s.dropStale()
	for len(s.cooling) > 0 && now.Sub(s.cooling[0].since) >= cooldown {
		a := s.cooling[0].addr
		delete(s.coolingSince, a)
		s.addRange(lb.Range{From: a, To: a})
		s.cooling = s.cooling[1:]
		s.dropStale()
	}
}

// dropStale removes entries at the head that were taken since they were put.
func (s *freeSet) dropStale() {
	for len(s.cooling) > 0 {
		head := s.cooling[0]
		if since, ok := s.coolingSince[head.addr]; ok && since.Equal(head.since) {
			return
		}
		s.cooling = s.cooling[1:]
	}
}

// size returns the number of addresses in r, saturating at 2^64-1.
func size(r lb.Range) uint64 {
	from, to := r.From.As16(), r.To.As16()
	hiFrom, hiTo := binary.BigEndian.Uint64(from[:8]), binary.BigEndian.Uint64(to[:8])
	loFrom, loTo := binary.BigEndian.Uint64(from[8:]), binary.BigEndian.Uint64(to[8:])
	if hiFrom == hiTo {
		return saturatingAdd(loTo-loFrom, 1)
	}
	if hiTo-hiFrom == 1 && loTo < loFrom { // a borrow: still below 2^64
		return saturatingAdd(loTo-loFrom, 1)
	}
	return math.MaxUint64
}

// buggyIn returns how many addresses of r are buggy.
func buggyIn(r lb.Range) uint64 {
	if !r.From.Is4() {
		return 0
	}
	below := func(n uint64) uint64 { return (n+255)/256 + n/256 } // buggy addresses in [0, n)
	from, to := r.From.As4(), r.To.As4()
	return below(uint64(binary.BigEndian.Uint32(to[:]))+1) - below(uint64(binary.BigEndian.Uint32(from[:])))
}

func saturatingAdd(a, b uint64) uint64 {
	if a > math.MaxUint64-b {
		return math.MaxUint64
	}
	return a + b
}
