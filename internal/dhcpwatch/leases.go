package dhcpwatch

import (
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const (
	// maxLeases limits the leases that are kept. One is enough to detect the overlap, and
	// any host can forge requests.
	maxLeases = 64
	// leaseTimeout is how long a lease is kept after the last message about it. Leases often
	// last a day, and a host without a message for longer has left.
	leaseTimeout = 24 * time.Hour
)

// lease is the last observed lease of an address. list sets its pool.
type lease struct {
	lb.Lease
	xid  uint32 // of the last message about the lease
	seen time.Time
}

// leases are the leases of addresses in pools, by address.
type leases map[netip.Addr]lease

// record records a message that was received on an interface, and reports whether the list of
// leases changed.
func (l leases) record(m message, on string, now time.Time) bool {
	if m.kind == nak {
		return l.removeRefused(m)
	}
	was, known := l[m.addr]
	is := lb.Lease{Addr: m.addr, Server: m.server, Client: m.client, Interface: on}
	if is.Client == was.Client {
		if !is.Server.IsValid() {
			is.Server = was.Server // an earlier message named it
		}
		if is.Server == was.Server {
			is.Interface = was.Interface // two interfaces may be in one network
		}
	}
	if !known && len(l) >= maxLeases {
		l.forgetOldest()
	}
	l[m.addr] = lease{Lease: is, xid: m.xid, seen: now}
	return is != was.Lease
}

// removeRefused removes the lease that a host requested and a server refused: a host that
// comes from another network requests the address that it had there.
func (l leases) removeRefused(m message) bool {
	before := len(l)
	maps.DeleteFunc(l, func(_ netip.Addr, x lease) bool { return x.Client == m.client && x.xid == m.xid })
	return len(l) < before
}

func (l leases) forgetOldest() {
	oldest := slices.MinFunc(slices.Collect(maps.Values(l)), func(x, y lease) int { return x.seen.Compare(y.seen) })
	delete(l, oldest.Addr)
}

// list returns the leases, sorted by address, and removes those that have expired or whose
// address is in no pool any more.
func (l leases) list(pools Pools, now time.Time) (out []lb.Lease) {
	for a, x := range l {
		pool, has := pools.Holder(a)
		if !has || now.Sub(x.seen) >= leaseTimeout {
			delete(l, a)
			continue
		}
		x.Pool = pool
		out = append(out, x.Lease)
	}
	slices.SortFunc(out, func(x, y lb.Lease) int { return x.Addr.Compare(y.Addr) })
	return out
}
