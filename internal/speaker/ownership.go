package speaker

import (
	"net/netip"
	"slices"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/layer2"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/members"
)

// ownership is what this node announces by layer 2, and what keeps it from announcing more.
// What its maps and slices held is never written to again: plans and reports keep them.
type ownership struct {
	log logr.Logger

	inForce   []lb.L2Announcement
	since     map[netip.Addr]time.Time // address -> when this node began to announce it
	announced map[netip.Addr]bool      // the addresses of inForce
	on        map[netip.Addr][]string  // the interfaces on which they are announced
	disputed  map[netip.Addr]bool      // addresses with a conflict
	left      []netip.Addr             // addresses that are left to foreign hosts, sorted
	yielded   map[netip.Addr]bool      // addresses that another node was seen to announce while this one is severed
}

func newOwnership(log logr.Logger) ownership {
	return ownership{log: log, since: map[netip.Addr]time.Time{}, disputed: map[netip.Addr]bool{}}
}

// set records what is announced now. Usually it is what was announced before.
func (o *ownership) set(inForce []lb.L2Announcement) {
	if sameSlice(inForce, o.inForce) {
		return
	}
	since, announced := make(map[netip.Addr]time.Time, len(inForce)), make(map[netip.Addr]bool, len(inForce))
	on := make(map[netip.Addr][]string, len(inForce))
	for _, n := range inForce {
		at, ok := o.since[n.Addr]
		if !ok {
			at = time.Now()
			o.log.Info("announcing", "address", n.Addr.String(), "interfaces", n.Interfaces)
		}
		since[n.Addr], announced[n.Addr], on[n.Addr] = at, true, n.Interfaces
	}
	for addr := range o.since {
		if !announced[addr] {
			o.log.Info("no longer announcing", "address", addr.String())
		}
	}
	o.inForce, o.since, o.announced, o.on = inForce, since, announced, on
}

// sameSlice reports whether the two are one slice, and not only equal.
func sameSlice[T any](x, y []T) bool { return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0]) }

// withoutYielded returns the rows without the addresses that another node was seen to
// announce while the interface of the gossip is down. This node does not learn by gossip that
// they are the other node's now, and may have another interface in their subnet.
func (o *ownership) withoutYielded(rows []lb.L2Announcement, severed bool, claimed func() []netip.Addr) []lb.L2Announcement {
	if !severed {
		o.yielded = nil
		return rows
	}
	for _, addr := range claimed() {
		if o.yielded == nil {
			o.yielded = map[netip.Addr]bool{}
		}
		o.yielded[addr] = true
	}
	if len(o.yielded) == 0 {
		return rows
	}
	return slices.DeleteFunc(slices.Clone(rows), func(r lb.L2Announcement) bool { return o.yielded[r.Addr] })
}

// setConflicts records the conflicts with foreign hosts, which are sorted by address. It
// returns how many addresses have one now that had none before, and whether the addresses
// that are left to foreign hosts are others.
func (o *ownership) setConflicts(conflicts []layer2.Conflict) (begun int, leftChanged bool) {
	disputed := map[netip.Addr]bool{}
	var left []netip.Addr
	for _, c := range conflicts {
		if !disputed[c.Addr] && !o.disputed[c.Addr] {
			begun++
		}
		disputed[c.Addr] = true
		if !c.Announced && len(left) < members.MaxDisputed && !slices.Contains(left, c.Addr) {
			left = append(left, c.Addr)
		}
	}
	leftChanged = !slices.Equal(left, o.left)
	o.disputed, o.left = disputed, left
	return begun, leftChanged
}
