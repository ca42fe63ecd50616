package dhcpwatch

import (
	"errors"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

// Pools finds the pool of an address. It must be safe for concurrent use.
type Pools interface {
	// Holder returns the name of the pool that contains the address.
	Holder(netip.Addr) (string, bool)
}

// Watch receives DHCP messages on the interfaces of the last Follow. Follow and Close must not
// be called concurrently.
type Watch struct {
	log     logr.Logger
	dial    func(netif.Interface) (conn, error)
	changed notify.Signal
	links   map[linkKey]*link
	wg      sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	pools  Pools
	leases leases
}

// linkKey identifies an interface: one that was recreated under the same name has another key.
type linkKey struct {
	name  string
	index int
}

func keyOf(i netif.Interface) linkKey { return linkKey{i.Name, i.Index} }

// link is an interface on which messages are received.
type link struct {
	conn  conn
	ended chan struct{} // closed when the receive loop has ended
}

// New returns a Watch without interfaces.
func New(log logr.Logger) *Watch {
	return &Watch{log: log, dial: dial, changed: notify.New(), links: map[linkKey]*link{}, leases: leases{}}
}

// Changed receives when Follow would return other leases than the last time. Its capacity is
// one.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Follow listens on these interfaces, which must be up, and on no others. It returns the
// observed leases of addresses in these pools, sorted by address. The error says on which
// interfaces listening failed; the next Follow retries them.
func (w *Watch) Follow(interfaces []netif.Interface, pools Pools) ([]lb.Lease, error) {
	w.mu.Lock()
	w.pools = pools
	leases := w.leases.list(pools, time.Now())
	w.mu.Unlock()
	return leases, w.listen(interfaces)
}

// listen opens links for the interfaces that are new or whose link has ended, and closes the
// links of all interfaces that are not in the list.
func (w *Watch) listen(interfaces []netif.Interface) error {
	for k, l := range w.links {
		wanted := slices.ContainsFunc(interfaces, func(i netif.Interface) bool { return keyOf(i) == k })
		if !wanted || l.hasEnded() {
			w.close(l)
			delete(w.links, k)
		}
	}
	var errs []error
	for _, i := range interfaces {
		if w.links[keyOf(i)] != nil {
			continue
		}
		c, err := w.dial(i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l := &link{conn: c, ended: make(chan struct{})}
		w.links[keyOf(i)] = l
		w.wg.Go(func() { w.receive(l, i.Name) })
	}
	return errors.Join(errs...)
}

// receive records the messages of a link until it is closed or fails.
func (w *Watch) receive(l *link, on string) {
	defer close(l.ended)
	for {
		m, err := l.conn.Next()
		if err != nil {
			w.log.V(1).Info("stopped listening for DHCP", "interface", on, "cause", err.Error())
			return
		}
		w.recordMessage(m, on)
	}
}

// recordMessage records a message if it is about an address of a pool, or a refusal, which
// names no address.
func (w *Watch) recordMessage(m message, on string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, has := w.pools.Holder(m.addr); !has && m.addr.IsValid() {
		return
	}
	if w.leases.record(m, on, time.Now()) {
		w.changed.Poke()
	}
}

// Close stops listening.
func (w *Watch) Close() {
	for _, l := range w.links {
		w.close(l)
	}
	w.wg.Wait()
}

func (w *Watch) close(l *link) {
	if err := l.conn.Close(); err != nil {
		w.log.V(1).Info("closing the link failed", "error", err.Error())
	}
}

// hasEnded reports whether the receive loop has ended.
func (l *link) hasEnded() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}
