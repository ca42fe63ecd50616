package layer2

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

// Announcer answers for the addresses it was last given. One goroutine at a
// time may call Apply, Fails, TryAgain and Close.
type Announcer struct {
	log     logr.Logger
	may     func() bool
	dial    func(netif.Interface, lb.Family) (wire, error)
	gateway func(index int) (netip.Addr, net.HardwareAddr, bool)
	ctx     context.Context // ends the links
	stop    context.CancelFunc
	wg      sync.WaitGroup
	friends atomic.Pointer[map[string]bool] // MACs of the cluster's nodes
	changed notify.Signal
	links   map[linkKey]*link
	failed  map[linkKey]failure
	// arp and ndp are what the links of a family count.
	arp, ndp counters
	// passed are the addresses that are or were answered for since they are among
	// the rows: they are not probed again when an interface comes back.
	passed map[netip.Addr]bool
	last   *applied // by the last Apply, nil when there was an error
}

// applied is what Apply was given and found.
type applied struct {
	rows       []lb.L2Announcement
	standby    []string
	interfaces []netif.Interface
	inForce    []lb.L2Announcement
	links      map[*link]*map[netip.Addr]tenure // what each had published
}

// failure is that a link could not be opened.
type failure struct {
	err error
	at  time.Time
}

// failsFor is how long an interface that could not be opened counts as one that
// cannot be.
const failsFor = time.Minute

// linkKey is one protocol on one interface, as it is now: an interface with
// another MAC, or made anew under the old name, is another one.
type linkKey struct {
	name   string
	index  int
	mac    string
	family lb.Family
}

// New returns an Announcer that announces nothing. It says no word while may
// returns false: it is asked before each, without any wait in between, so that a
// process which has stood still does not answer for what others have taken.
func New(may func() bool, log logr.Logger) *Announcer {
	a := &Announcer{log: log, may: may, dial: dial, gateway: netif.Gateway, changed: notify.New(), links: map[linkKey]*link{}, failed: map[linkKey]failure{}, passed: map[netip.Addr]bool{}}
	a.friends.Store(&map[string]bool{})
	a.ctx, a.stop = context.WithCancel(context.Background())
	return a
}

// Befriend sets the hardware addresses of the cluster's own nodes, in the form of
// net.HardwareAddr.String: which of them answers for an address is settled
// between them, and is no conflict.
func (a *Announcer) Befriend(macs map[string]bool) { a.friends.Store(&macs) }

// Changed receives when an address began to be answered for, or a foreign host was
// seen to have it, without a call to Apply. It has room for one.
func (a *Announcer) Changed() <-chan struct{} { return a.changed }

// Conflicts returns the foreign hosts that have addresses which are to be
// announced, sorted by address and interface.
func (a *Announcer) Conflicts() (out []Conflict) {
	for _, l := range a.links {
		out = append(out, l.foreign()...)
	}
	slices.SortFunc(out, func(x, y Conflict) int { return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Interface, y.Interface)) })
	return out
}

// ClaimedByNodes returns the addresses that are answered for here and that another
// node of the cluster claimed within the last second, sorted.
func (a *Announcer) ClaimedByNodes() (out []netip.Addr) {
	for _, l := range a.links {
		out = append(out, l.claimedByNodes()...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// Apply makes rows what is announced, on the interfaces that are up. Addresses
// new to an interface, or on an interface that came up, are announced at once
// and a few times more; rows that are to be probed, when nobody says that he has
// the address. It returns the rows that are in force; an error says
// what kept others from it, and calling Apply again tries again. Equal rows cost
// next to nothing. Nobody may write to what Apply was given, or has returned.
//
// On the standby interfaces, by name, it hears who asks for addresses that others
// announce now: when one is announced here, it answers them again.
func (a *Announcer) Apply(rows []lb.L2Announcement, standby []string, interfaces []netif.Interface) ([]lb.L2Announcement, error) {
	if a.last.holds(rows, standby, interfaces) {
		return a.last.inForce, nil
	}
	a.last = nil
	want := map[linkKey]map[netip.Addr]bool{} // true: probe first
	up := map[string]netif.Interface{}
	for _, i := range interfaces {
		if i.Up {
			up[i.Name] = i
		}
	}
	for _, name := range standby {
		if i, ok := up[name]; ok {
			want[keyOf(i, lb.IPv4)] = map[netip.Addr]bool{}
		}
	}
	for _, row := range rows {
		for _, name := range row.Interfaces {
			i, ok := up[name]
			if !ok {
				continue
			}
			k := keyOf(i, lb.FamilyOf(row.Addr))
			if want[k] == nil {
				want[k] = map[netip.Addr]bool{}
			}
			want[k][row.Addr] = row.Probe && !a.passed[row.Addr]
		}
	}
	var lost []netip.Addr // on some interface; those who had its MAC are to have another one's
	for k, l := range a.links {
		if want[k] == nil || l.dead() {
			lost = append(lost, slices.Collect(maps.Keys(*l.addrs.Load()))...)
			l.close()
			delete(a.links, k)
		}
	}
	left := map[*link][]netip.Addr{}
	for _, l := range a.links {
		left[l] = slices.DeleteFunc(slices.Clone(lost), func(addr netip.Addr) bool { return !l.answers(addr) })
	}
	var errs []error
	for _, k := range slices.SortedFunc(maps.Keys(want), compareLinks) {
		if err := a.applyLink(k, up[k.name], want[k]); err != nil {
			errs = append(errs, err)
		}
	}
	for l, addrs := range left {
		l.again(addrs)
	}
	links := make(map[*link]*map[netip.Addr]tenure, len(a.links))
	for _, l := range a.links {
		links[l] = l.addrs.Load()
	}
	var inForce []lb.L2Announcement
	passed := make(map[netip.Addr]bool, len(rows))
	for _, row := range rows {
		row.Interfaces = slices.DeleteFunc(slices.Clone(row.Interfaces), func(name string) bool { return !a.answers(name, row.Addr) })
		if len(row.Interfaces) > 0 {
			inForce = append(inForce, row)
		}
		passed[row.Addr] = a.passed[row.Addr] || len(row.Interfaces) > 0
	}
	a.passed = passed
	err := errors.Join(errs...)
	if err == nil {
		a.last = &applied{rows: rows, standby: standby, interfaces: interfaces, inForce: inForce, links: links}
	}
	return inForce, err
}

// holds reports whether Apply would find the same again: it is given the same,
// and no link has died, or begun or ceased to answer.
func (l *applied) holds(rows []lb.L2Announcement, standby []string, interfaces []netif.Interface) bool {
	if l == nil || !slices.EqualFunc(rows, l.rows, sameRow) || !slices.Equal(standby, l.standby) || !slices.EqualFunc(interfaces, l.interfaces, netif.Interface.Equal) {
		return false
	}
	for link, published := range l.links {
		if link.dead() || link.addrs.Load() != published {
			return false
		}
	}
	return true
}

func sameRow(x, y lb.L2Announcement) bool {
	return x.Addr == y.Addr && x.Probe == y.Probe && slices.Equal(x.Interfaces, y.Interfaces)
}

// Fails returns the interfaces that could not be opened lately, by name, and for which
// families, sorted; and why.
func (a *Announcer) Fails() (map[string][]lb.Family, error) {
	families, errs := map[string][]lb.Family{}, []error(nil)
	for _, k := range slices.SortedFunc(maps.Keys(a.failed), compareLinks) {
		if time.Since(a.failed[k].at) > failsFor {
			delete(a.failed, k)
			continue
		}
		families[k.name] = append(families[k.name], k.family)
		errs = append(errs, a.failed[k].err)
	}
	return families, errors.Join(errs...)
}

// TryAgain forgets what could not be opened: something has changed.
func (a *Announcer) TryAgain() { clear(a.failed) }

// answers reports whether the address is answered for on the interface.
func (a *Announcer) answers(name string, addr netip.Addr) bool {
	for k, l := range a.links {
		if k.name == name && k.family == lb.FamilyOf(addr) {
			return l.answers(addr)
		}
	}
	return false
}

func (a *Announcer) applyLink(k linkKey, ifi netif.Interface, addrs map[netip.Addr]bool) error {
	l := a.links[k]
	if l == nil {
		w, err := a.dial(ifi, k.family)
		if err != nil {
			a.failed[k] = failure{err, time.Now()}
			return err
		}
		delete(a.failed, k)
		gateway := func() (heard, bool) {
			if k.family == lb.IPv6 {
				return heard{}, false // neighbours of IPv6 see for themselves whether an entry still holds
			}
			from, mac, ok := a.gateway(k.index)
			return heard{From: from, MAC: mac}, ok
		}
		counts := &a.arp
		if k.family == lb.IPv6 {
			counts = &a.ndp
		}
		mac, _ := net.ParseMAC(k.mac) // it was formatted from one
		l = newLink(k.name, mac, w, &a.friends, counts, a.may, a.changed.Poke, gateway, a.log.WithValues("interface", k.name, "family", k.family.String()))
		a.links[k] = l
		a.wg.Go(func() { l.listen() })
		a.wg.Go(func() { l.announce(a.ctx) })
	}
	return l.set(addrs)
}

func keyOf(i netif.Interface, f lb.Family) linkKey {
	return linkKey{name: i.Name, index: i.Index, mac: i.MAC, family: f}
}

func compareLinks(x, y linkKey) int {
	return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.family, y.family))
}

// Again announces these addresses anew, those of them that are announced, as
// after a take-over.
func (a *Announcer) Again(addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	for _, l := range a.links {
		l.again(addrs)
	}
}

// Close stops answering and waits until nothing is sent any more.
func (a *Announcer) Close() {
	for _, l := range a.links {
		l.close()
	}
	a.stop()
	a.wg.Wait()
}
