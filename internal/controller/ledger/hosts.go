package ledger

import (
	"net/netip"
	"slices"
	"time"
)

const (
	// hostConflicts is how many conflicts with one MAC within hostWindow show that the host
	// answers for whatever it is asked: then no other addresses are tried because of it, or
	// it would empty the pool.
	hostConflicts = 3
	hostWindow    = time.Minute
	// HostRetry is how often another address is tried all the same: the host may just have
	// some.
	HostRetry = 5 * time.Minute
)

// hosts are the foreign hosts that answered for addresses before these were announced, by
// MAC. The ledger's lock guards them.
type hosts map[string]*host

type host struct {
	blocked map[netip.Addr]time.Time // addresses that are not assigned because of it -> since when
	kept    map[netip.Addr]bool      // addresses that their Services keep, although it answers for them
	retry   time.Time                // when another address may be blocked; zero while few were
}

// Conflict is what follows from a conflict with a foreign host for an address that was
// never announced.
type Conflict struct {
	Blocked    bool          // the address is assigned to nobody; a Service that did not ask for it is given another
	AnswersAll bool          // the host answers for every address: the Service keeps this one
	First      bool          // AnswersAll, and it was not known before
	Retry      time.Duration // when to look again, with AnswersAll
}

// conflict decides whether an address is blocked because the host answers for it.
func (h hosts) conflict(addr netip.Addr, mac string, now time.Time) Conflict {
	x := h[mac]
	if x == nil {
		x = &host{blocked: map[netip.Addr]time.Time{}, kept: map[netip.Addr]bool{}}
		h[mac] = x
	}
	if _, is := x.blocked[addr]; is {
		return Conflict{Blocked: true}
	}
	lately := 0
	for _, at := range x.blocked {
		if now.Sub(at) < hostWindow {
			lately++
		}
	}
	first := x.retry.IsZero()
	switch {
	case first && lately+1 < hostConflicts, !first && !now.Before(x.retry):
		if !first {
			x.retry = now.Add(HostRetry)
		}
		delete(x.kept, addr)
		x.blocked[addr] = now
		return Conflict{Blocked: true}
	case first:
		x.retry = now.Add(HostRetry)
	}
	x.kept[addr] = true
	return Conflict{AnswersAll: true, First: first, Retry: x.retry.Sub(now)}
}

// stopped handles that no host answers any more for an address. A host that answered for
// all, and for this one while its Service kept it, is forgotten. It returns the addresses
// that are not blocked any more, sorted.
func (h hosts) stopped(addr netip.Addr) (free []netip.Addr) {
	for mac, x := range h {
		if _, is := x.blocked[addr]; is {
			free = append(free, addr)
			delete(x.blocked, addr)
		}
		if !x.kept[addr] {
			h.prune(mac)
			continue
		}
		for a := range x.blocked {
			free = append(free, a)
		}
		delete(h, mac)
	}
	slices.SortFunc(free, netip.Addr.Compare)
	return slices.Compact(free)
}

// expire forgets that an address was blocked.
func (h hosts) expire(addr netip.Addr) {
	for mac, x := range h {
		delete(x.blocked, addr)
		h.prune(mac)
	}
}

// release forgets that a Service keeps the address.
func (h hosts) release(addr netip.Addr) {
	for mac, x := range h {
		delete(x.kept, addr)
		h.prune(mac)
	}
}

func (h hosts) prune(mac string) {
	if x := h[mac]; len(x.blocked)+len(x.kept) == 0 {
		delete(h, mac)
	}
}

// answerAll returns the MACs of the hosts that answer for every address, of those whose
// conflicts are about an address for which in is true; sorted.
func (h hosts) answerAll(in func(netip.Addr) bool) (macs []string) {
	for mac, x := range h {
		if x.retry.IsZero() {
			continue
		}
		concerned := false
		for a := range x.blocked {
			concerned = concerned || in(a)
		}
		for a := range x.kept {
			concerned = concerned || in(a)
		}
		if concerned {
			macs = append(macs, mac)
		}
	}
	slices.Sort(macs)
	return macs
}
