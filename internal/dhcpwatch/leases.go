package dhcpwatch

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const (
	// mostLeases is how many are remembered: one is enough to know that a pool overlaps
	// a server's range, and anybody may say that he has a lease.
	mostLeases = 64
	// remembered is how long after it was last heard of a lease is forgotten. Leases are
	// often for a day, and hosts of which nothing is heard for longer have left.
	remembered = 24 * time.Hour
)

// lease is what was heard of an address. Its pool is looked up when it is told.
type lease struct {
	lb.Lease
	xid  uint32 // of the last message about it
	seen time.Time
}

// leases are those of addresses in pools.
type leases map[netip.Addr]lease

// note takes in a message that was heard on an interface, and reports whether that is
// news.
func (l leases) note(m message, on string, now time.Time) bool {
	if m.kind == nak {
		return l.refuse(m)
	}
	was, known := l[m.addr]
	is := lb.Lease{Addr: m.addr, Server: m.server, Client: m.client, Interface: on}
	if is.Client == was.Client {
		if !is.Server.IsValid() {
			is.Server = was.Server // it was named before
		}
		if is.Server == was.Server {
			is.Interface = was.Interface // two may be of one network
		}
	}
	if !known && len(l) >= mostLeases {
		l.forgetOldest()
	}
	l[m.addr] = lease{Lease: is, xid: m.xid, seen: now}
	return is != was.Lease
}

// refuse forgets what a host asked for and a server does not give it: a host that
// comes from another network asks for the address that it had there.
func (l leases) refuse(m message) bool {
	before := len(l)
	maps.DeleteFunc(l, func(_ netip.Addr, x lease) bool { return x.Client == m.client && x.xid == m.xid })
	return len(l) < before
}

func (l leases) forgetOldest() {
	oldest := slices.MinFunc(slices.Collect(maps.Values(l)), func(x, y lease) int { return x.seen.Compare(y.seen) })
	delete(l, oldest.Addr)
}

// tell returns the leases, sorted by address, and forgets those that are old, or that
// no pool has any more.
func (l leases) tell(pools Pools, now time.Time) (out []lb.Lease) {
	for a, x := range l {
		pool, has := pools.Holder(a)
		if !has || now.Sub(x.seen) >= remembered {
			delete(l, a)
			continue
		}
		x.Pool = pool
		out = append(out, x.Lease)
	}
	slices.SortFunc(out, func(x, y lb.Lease) int { return x.Addr.Compare(y.Addr) })
	return out
}
