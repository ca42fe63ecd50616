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

// Announcer answers ARP and NDP for the addresses of the last Apply. Apply, FailedInterfaces,
// RetryInterfaces and Close must not be called concurrently.
type Announcer struct {
	log         logr.Logger
	mayAnswer   func() bool
	dial        func(netif.Interface, lb.Family) (conn, error)
	gateway     func(index int) (netip.Addr, net.HardwareAddr, bool)
	ctx         context.Context // ends the links
	stop        context.CancelFunc
	wg          sync.WaitGroup
	clusterMACs atomic.Pointer[map[string]bool] // MACs of the cluster's nodes
	changed     notify.Signal
	links       map[linkKey]*link
	failed      map[linkKey]failure
	// arp and ndp are shared by all links of a family.
	arp, ndp counters
	// established are the addresses that were answered for since they were added to the
	// rows. They are not probed again when an interface comes back.
	established map[netip.Addr]bool
	lastApply   *applied // by the last Apply, nil when there was an error
}

// applied has the arguments and the result of an Apply.
type applied struct {
	rows       []lb.L2Announcement
	standby    []string
	interfaces []netif.Interface
	inForce    []lb.L2Announcement
	links      map[*link]*map[netip.Addr]ownership // what each had published
}

// failure is a failed attempt to open a link.
type failure struct {
	err error
	at  time.Time
}

// failureTimeout is how long FailedInterfaces reports an interface that could not be opened.
const failureTimeout = time.Minute

// linkKey identifies one protocol on one interface. An interface that got another MAC, or
// was recreated under the same name, has another key.
type linkKey struct {
	name   string
	index  int
	mac    string
	family lb.Family
}

// New returns an Announcer without addresses. It sends nothing while mayAnswer returns
// false. It calls mayAnswer immediately before each packet, so that a process that was
// stalled does not answer for an address that another node has taken over.
func New(mayAnswer func() bool, log logr.Logger) *Announcer {
	a := &Announcer{log: log, mayAnswer: mayAnswer, dial: dial, gateway: netif.Gateway, changed: notify.New(), links: map[linkKey]*link{}, failed: map[linkKey]failure{}, established: map[netip.Addr]bool{}}
	a.clusterMACs.Store(&map[string]bool{})
	a.ctx, a.stop = context.WithCancel(context.Background())
	return a
}

// SetClusterMACs sets the hardware addresses of the cluster's nodes, in the form of
// net.HardwareAddr.String. A claim by one of these is not a conflict: the speakers resolve
// it between themselves.
func (a *Announcer) SetClusterMACs(macs map[string]bool) { a.clusterMACs.Store(&macs) }

// Changed receives when the announcer began to answer for an address, or detected a
// conflict, without a call to Apply. Its capacity is one.
func (a *Announcer) Changed() <-chan struct{} { return a.changed }

// Conflicts returns the foreign hosts that use addresses of the rows, sorted by address and
// interface.
func (a *Announcer) Conflicts() (out []Conflict) {
	for _, l := range a.links {
		out = append(out, l.conflicts()...)
	}
	slices.SortFunc(out, func(x, y Conflict) int { return cmp.Or(x.Addr.Compare(y.Addr), cmp.Compare(x.Interface, y.Interface)) })
	return out
}

// ClaimedByNodes returns the addresses that this node answers for and that another node of
// the cluster claimed within the last second, sorted.
func (a *Announcer) ClaimedByNodes() (out []netip.Addr) {
	for _, l := range a.links {
		out = append(out, l.claimedByNodes()...)
	}
	slices.SortFunc(out, netip.Addr.Compare)
	return slices.Compact(out)
}

// Apply announces the rows, and nothing else, on the interfaces that are up. An address that
// is new to an interface, or whose interface came up, is announced immediately and a few
// more times. A row with Probe set is announced once the probes found no other host that
// uses the address. Apply returns the rows that are in effect; the error says why others
// are not, and the next Apply retries them. Applying equal rows costs next to nothing.
// Callers must not modify the arguments or the result.
//
// On the standby interfaces, by name, it records which hosts query addresses that other
// nodes announce: when one of these addresses moves here, it answers these hosts again.
func (a *Announcer) Apply(rows []lb.L2Announcement, standby []string, interfaces []netif.Interface) ([]lb.L2Announcement, error) {
	if a.lastApply.holds(rows, standby, interfaces) {
		return a.lastApply.inForce, nil
	}
	a.lastApply = nil
	want := map[linkKey]map[netip.Addr]bool{} // the value says whether to probe first
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
			want[k][row.Addr] = row.Probe && !a.established[row.Addr]
		}
	}
	var lost []netip.Addr // by an interface that is closed: neighbours must learn another interface's MAC
	for k, l := range a.links {
		if want[k] == nil || l.hasEnded() {
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
		l.reannounce(addrs)
	}
	links := make(map[*link]*map[netip.Addr]ownership, len(a.links))
	for _, l := range a.links {
		links[l] = l.addrs.Load()
	}
	var inForce []lb.L2Announcement
	established := make(map[netip.Addr]bool, len(rows))
	for _, row := range rows {
		row.Interfaces = slices.DeleteFunc(slices.Clone(row.Interfaces), func(name string) bool { return !a.answers(name, row.Addr) })
		if len(row.Interfaces) > 0 {
			inForce = append(inForce, row)
		}
		established[row.Addr] = a.established[row.Addr] || len(row.Interfaces) > 0
	}
	a.established = established
	err := errors.Join(errs...)
	if err == nil {
		a.lastApply = &applied{rows: rows, standby: standby, interfaces: interfaces, inForce: inForce, links: links}
	}
	return inForce, err
}

// holds reports whether Apply would have the same result: the arguments are equal, no link
// has ended, and no link has begun or stopped to answer for an address.
func (l *applied) holds(rows []lb.L2Announcement, standby []string, interfaces []netif.Interface) bool {
	if l == nil || !slices.EqualFunc(rows, l.rows, sameRow) || !slices.Equal(standby, l.standby) || !slices.EqualFunc(interfaces, l.interfaces, netif.Interface.Equal) {
		return false
	}
	for link, published := range l.links {
		if link.hasEnded() || link.addrs.Load() != published {
			return false
		}
	}
	return true
}

func sameRow(x, y lb.L2Announcement) bool {
	return x.Addr == y.Addr && x.Probe == y.Probe && slices.Equal(x.Interfaces, y.Interfaces)
}

// FailedInterfaces returns the families for which interfaces could not be opened within
// the last failureTimeout, by the interface's name, sorted; and the errors.
func (a *Announcer) FailedInterfaces() (map[string][]lb.Family, error) {
	families, errs := map[string][]lb.Family{}, []error(nil)
	for _, k := range slices.SortedFunc(maps.Keys(a.failed), compareLinks) {
		if time.Since(a.failed[k].at) > failureTimeout {
			delete(a.failed, k)
			continue
		}
		families[k.name] = append(families[k.name], k.family)
		errs = append(errs, a.failed[k].err)
	}
	return families, errors.Join(errs...)
}

// RetryInterfaces clears the failures. Call it when interfaces have changed.
func (a *Announcer) RetryInterfaces() { clear(a.failed) }

// answers reports whether the announcer answers for the address on the interface.
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
		gateway := func() (frame, bool) {
			if k.family == lb.IPv6 {
				return frame{}, false // IPv6 neighbours verify their cache entries by themselves (RFC 4861, 7.3)
			}
			from, mac, ok := a.gateway(k.index)
			return frame{Sender: from, MAC: mac}, ok
		}
		counts := &a.arp
		if k.family == lb.IPv6 {
			counts = &a.ndp
		}
		mac, _ := net.ParseMAC(k.mac) // cannot fail: k.mac was formatted from a MAC
		l = newLink(k.name, mac, w, &a.clusterMACs, counts, a.mayAnswer, a.changed.Poke, gateway, a.log.WithValues("interface", k.name, "family", k.family.String()))
		a.links[k] = l
		a.wg.Go(func() { l.listen() })
		a.wg.Go(func() { l.announce(a.ctx) })
	}
	return l.setAddresses(addrs)
}

func keyOf(i netif.Interface, f lb.Family) linkKey {
	return linkKey{name: i.Name, index: i.Index, mac: i.MAC, family: f}
}

func compareLinks(x, y linkKey) int {
	return cmp.Or(cmp.Compare(x.name, y.name), cmp.Compare(x.family, y.family))
}

// Reannounce repeats the announcements of those of the addresses that this node answers for,
// as after a takeover.
func (a *Announcer) Reannounce(addrs []netip.Addr) {
	if len(addrs) == 0 {
		return
	}
	for _, l := range a.links {
		l.reannounce(addrs)
	}
}

// Close stops answering and waits until the last packet was sent.
func (a *Announcer) Close() {
	for _, l := range a.links {
		l.close()
	}
	a.stop()
	a.wg.Wait()
}
