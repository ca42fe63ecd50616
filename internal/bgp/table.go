package bgp

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// table has the desired routes for one router and those that were sent to it (RFC 4271, 3.2:
// Adj-RIB-Out).
type table struct {
	mu    sync.Mutex // guards the fields below
	rows  map[netip.Prefix]lb.BGPAttributes
	drain bool // advertise all rows with GRACEFUL_SHUTDOWN

	// sent are the routes that the router has in this connection. Owned by the advertising
	// goroutine.
	sent map[netip.Prefix]announcement
}

// setRows sets the desired routes and reports whether they changed. The caller must not modify
// rows afterwards.
func (t *table) setRows(rows map[netip.Prefix]lb.BGPAttributes, drain bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	same := t.drain == drain && maps.EqualFunc(t.rows, rows, lb.BGPAttributes.Equal)
	t.rows, t.drain = rows, drain
	return !same
}

// drainAll marks all rows for GRACEFUL_SHUTDOWN.
func (t *table) drainAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.drain = true
}

// sync returns the UPDATEs with the difference between the desired and the sent routes. It
// advertises routes before it withdraws others, so that traffic can use the new routes when
// the old ones are removed. Routes that cannot be encoded are in the error; the UPDATEs have
// all others.
func (t *table) sync(hops nextHops, e encoding) (out []update, err error) {
	t.mu.Lock()
	rows, drain := t.rows, t.drain
	t.mu.Unlock()
	for _, g := range groupChanges(plan(t.sent, rows, drain, hops, e.internal)) {
		updates, failed := e.encode(g)
		if failed != nil {
			err = errors.Join(err, failed)
			continue
		}
		out = append(out, updates...)
		for _, p := range g.prefixes {
			if g.withdraw {
				delete(t.sent, p)
			} else {
				t.sent[p] = g.announce
			}
		}
	}
	return out, err
}

// reset clears the sent routes, for a new connection.
func (t *table) reset() { t.sent = map[netip.Prefix]announcement{} }

// invalidate makes the next sync advertise all desired routes again.
func (t *table) invalidate() {
	t.mu.Lock()
	rows := t.rows
	t.mu.Unlock()
	maps.DeleteFunc(t.sent, func(p netip.Prefix, _ announcement) bool { _, ok := rows[p]; return ok })
}

// size returns the number of prefixes of each family that the router has.
func (t *table) size() (v4, v6 int) {
	for p := range t.sent {
		if p.Addr().Is4() {
			v4++
		}
	}
	return v4, len(t.sent) - v4
}

// change is a prefix to advertise, or to withdraw.
type change struct {
	prefix   netip.Prefix
	announce announcement
	withdraw bool
}

// plan returns the changes from the routes that the router has to the desired ones: new and
// different routes first, then the withdrawals.
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
