package bgp

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// table is what one router is to have, and what it has (RFC 4271, 3.2: Adj-RIB-Out).
type table struct {
	mu    sync.Mutex // guards the fields below
	rows  map[netip.Prefix]lb.BGPAttributes
	drain bool // every row

	// has is what was sent in this connection. The advertising goroutine owns it.
	has map[netip.Prefix]announcement
}

// want sets what is to be announced. rows is not changed afterwards. It reports
// whether that is news.
func (t *table) want(rows map[netip.Prefix]lb.BGPAttributes, drain bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	same := t.drain == drain && maps.EqualFunc(t.rows, rows, lb.BGPAttributes.Equal)
	t.rows, t.drain = rows, drain
	return !same
}

// drainAll makes every row one that is about to go away.
func (t *table) drainAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drain = true
}

// sync returns the UPDATEs that make what the router has what is wanted. Routes are
// announced before others are withdrawn, so that traffic finds the new ones when the
// old ones go. An error is of some routes; the UPDATEs are of the others.
func (t *table) sync(hops nextHops, e encoding) (out []update, err error) {
	t.mu.Lock()
	rows, drain := t.rows, t.drain
	t.mu.Unlock()
	for _, g := range groupChanges(plan(t.has, rows, drain, hops, e.internal)) {
		updates, failed := e.encode(g)
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		out = append(out, updates...)
		for _, p := range g.prefixes {
			if g.withdraw {
				delete(t.has, p)
			} else {
				t.has[p] = g.announce
			}
		}
	}
	return out, err
}

// reset starts with a router that has nothing.
func (t *table) reset() { t.has = map[netip.Prefix]announcement{} }

// forget makes the next sync announce all that is wanted once more.
func (t *table) forget() {
	t.mu.Lock()
	rows := t.rows
	t.mu.Unlock()
	maps.DeleteFunc(t.has, func(p netip.Prefix, _ announcement) bool { _, ok := rows[p]; return ok })
}

// size returns how many prefixes of each family the router has.
func (t *table) size() (v4, v6 int) {
	for p := range t.has {
		if p.Addr().Is4() {
			v4++
		}
	}
	return v4, len(t.has) - v4
}

// change is what is announced about a prefix from now on, or nothing any more.
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
