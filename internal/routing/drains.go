package routing

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// drains lets routes go softly: routers are asked to prefer other nodes (RFC
// 8326), and when they had time for that, the route is withdrawn.
type drains struct {
	wait  time.Duration
	last  []lb.BGPRoute              // what was announced, sorted by prefix
	since map[netip.Prefix]time.Time // prefixes that are to go -> since when; the zero time if it was not announced
}

// step returns what is announced now of what the plan has, and how long that is
// so; 0 is until the plan is another one.
func (d *drains) step(plan []lb.BGPRoute, now time.Time) (rows []lb.BGPRoute, again time.Duration) {
	if !slices.ContainsFunc(plan, func(r lb.BGPRoute) bool { return r.Drain }) {
		d.last, d.since = plan, nil
		return plan, 0
	}
	since := map[netip.Prefix]time.Time{}
	rows = make([]lb.BGPRoute, 0, len(plan))
	for _, r := range plan {
		if !r.Drain {
			rows = append(rows, r)
			continue
		}
		at, going := d.since[r.Prefix]
		if !going && d.announces(r.Prefix) {
			at = now
		}
		since[r.Prefix] = at
		if left := at.Add(d.wait).Sub(now); left > 0 {
			rows = append(rows, r)
			if again == 0 || left < again {
				again = left
			}
		}
	}
	d.last, d.since = rows, since
	return rows, again
}

// announces reports whether the prefix was announced in the last step.
func (d *drains) announces(p netip.Prefix) bool {
	_, there := slices.BinarySearchFunc(d.last, p, func(r lb.BGPRoute, p netip.Prefix) int { return r.Prefix.Compare(p) })
	return there
}
