package bgp

import (
	"net/netip"
	"slices"
	"sync"

	"github.com/go-logr/logr"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/lb"
)

// table is what one router is told: it makes what GoBGP has equal to what is
// wanted. It outlives connections, so that a router that comes back gets its
// routes without their being made anew.
type table struct {
	log logr.Logger

	wants sync.Mutex // guards the fields below
	rows  map[netip.Prefix]lb.BGPAttributes
	drain bool // every row

	mu       sync.Mutex // guards the fields below; held for long
	speaker  *speaker
	has      map[netip.Prefix]announcement
	packed   map[announcement][]*anypb.Any // attributes of those in has, as GoBGP takes them
	online   bool
	hops     func() nextHops
	internal bool
	asn      uint32
}

// want sets what is to be announced. rows is not changed afterwards. It reports
// whether that is news.
func (t *table) want(rows map[netip.Prefix]lb.BGPAttributes, drain bool) bool {
	t.wants.Lock()
	defer t.wants.Unlock()
	news := t.drain != drain || len(t.rows) != len(rows)
	for p, a := range rows {
		if news {
			break
		}
		old, ok := t.rows[p]
		news = !ok || !old.Equal(a)
	}
	t.rows, t.drain = rows, drain
	return news
}

// drainAll makes every row one that is about to go away.
func (t *table) drainAll() {
	t.wants.Lock()
	defer t.wants.Unlock()
	t.drain = true
}

// acquire returns the speaker, starting one if need be.
func (t *table) acquire() (*speaker, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.speaker == nil {
		s, err := acquireSpeaker(t.log)
		if err != nil {
			return nil, err
		}
		t.speaker, t.has, t.packed = s, map[netip.Prefix]announcement{}, map[announcement][]*anypb.Any{}
	}
	return t.speaker, nil
}

// release gives the speaker back.
func (t *table) release() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.speaker != nil {
		t.speaker.release()
	}
	t.speaker, t.has, t.packed, t.online = nil, nil, nil, false
}

// connect says what is known about the router that is connected now.
func (t *table) connect(hops func() nextHops, internal bool, asn uint32) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.hops, t.internal, t.asn, t.online = hops, internal, asn, true
}

func (t *table) disconnect() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.online = false
}

// sync makes GoBGP's table the one that is wanted, and returns how many prefixes
// of each family it has, and why a family has none that should. Routes are
// announced before others are withdrawn, so that traffic finds the new ones when
// the old ones go. Nothing is sent while no router is connected: its next hops are
// not known.
func (t *table) sync() (v4, v6 int, note string) {
	t.wants.Lock()
	rows, drain := t.rows, t.drain
	t.wants.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.online {
		return 0, 0, ""
	}
	hops := t.hops()
	for _, c := range plan(t.has, rows, drain, hops, t.internal) {
		if err := t.apply(c); err != nil {
			t.log.Error(err, "cannot change a route")
		}
	}
	for p := range t.has {
		if p.Addr().Is4() {
			v4++
		}
	}
	return v4, len(t.has) - v4, hops.note
}

// change is one UPDATE: what is announced about a prefix, or nothing any more.
type change struct {
	prefix   netip.Prefix
	announce announcement
	withdraw bool
}

// plan returns the changes that make what the router has what it should have:
// what is equal is left alone, what differs is replaced, and what is withdrawn
// comes last.
func plan(has map[netip.Prefix]announcement, rows map[netip.Prefix]lb.BGPAttributes, drain bool, hops nextHops, internal bool) []change {
	var announce, withdraw []change
	for p, a := range rows {
		hop := hops.of(p)
		if !hop.IsValid() {
			continue
		}
		a.Drain = a.Drain || drain
		want := announcementOf(a, hop, internal)
		if old, ok := has[p]; !ok || old != want {
			announce = append(announce, change{prefix: p, announce: want})
		}
	}
	for p := range has {
		if _, ok := rows[p]; !ok || !hops.of(p).IsValid() {
			withdraw = append(withdraw, change{prefix: p, withdraw: true})
		}
	}
	byPrefix := func(x, y change) int { return x.prefix.Compare(y.prefix) }
	slices.SortFunc(announce, byPrefix)
	slices.SortFunc(withdraw, byPrefix)
	return append(announce, withdraw...)
}

func (t *table) apply(c change) error {
	if c.withdraw {
		delete(t.has, c.prefix)
		return t.speaker.withdraw(c.prefix)
	}
	attrs, ok := t.packed[c.announce]
	if !ok {
		var err error
		if attrs, err = c.announce.attributes(t.asn); err != nil {
			return err
		}
		if len(t.packed) > maxPacked {
			clear(t.packed)
		}
		t.packed[c.announce] = attrs
	}
	if err := t.speaker.announce(c.prefix, attrs); err != nil {
		return err
	}
	t.has[c.prefix] = c.announce
	return nil
}

// maxPacked is how many sets of attributes are kept packed. There are as many as
// advertisements that differ, times the families.
const maxPacked = 256

// size returns how many prefixes the router has.
func (t *table) size() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.has)
}
