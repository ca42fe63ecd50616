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

// Pools says whose an address is. Any goroutine may ask it.
type Pools interface {
	// Holder returns the name of the pool that has the address.
	Holder(netip.Addr) (string, bool)
}

// Watch hears DHCP on the interfaces that it was last given. One goroutine at a time
// may call Follow and Close.
type Watch struct {
	log     logr.Logger
	dial    func(netif.Interface) (wire, error)
	changed notify.Signal
	lines   map[lineKey]*line
	wg      sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	pools  Pools
	leases leases
}

// lineKey is an interface: one made anew under the old name is another.
type lineKey struct {
	name  string
	index int
}

func keyOf(i netif.Interface) lineKey { return lineKey{i.Name, i.Index} }

// line is an interface that is listened on.
type line struct {
	wire  wire
	ended chan struct{} // closed when nothing more is heard
}

// New returns a Watch that hears nothing until Follow.
func New(log logr.Logger) *Watch {
	return &Watch{log: log, dial: dial, changed: notify.New(), lines: map[lineKey]*line{}, leases: leases{}}
}

// Changed receives when Follow would return other leases than the last time. It has
// room for one.
func (w *Watch) Changed() <-chan struct{} { return w.changed }

// Follow makes these interfaces, which are up, those that are listened on, and returns
// the leases that were heard of addresses in these pools, sorted by address. An error
// says what kept it from an interface, and calling Follow again tries again.
func (w *Watch) Follow(interfaces []netif.Interface, pools Pools) ([]lb.Lease, error) {
	w.mu.Lock()
	w.pools = pools
	leases := w.leases.tell(pools, time.Now())
	w.mu.Unlock()
	return leases, w.listen(interfaces)
}

// listen opens what is new among the interfaces, or has failed, and closes the others.
func (w *Watch) listen(interfaces []netif.Interface) error {
	for k, l := range w.lines {
		wanted := slices.ContainsFunc(interfaces, func(i netif.Interface) bool { return keyOf(i) == k })
		if !wanted || l.dead() {
			w.close(l)
			delete(w.lines, k)
		}
	}
	var errs []error
	for _, i := range interfaces {
		if w.lines[keyOf(i)] != nil {
			continue
		}
		wire, err := w.dial(i)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		l := &line{wire: wire, ended: make(chan struct{})}
		w.lines[keyOf(i)] = l
		w.wg.Go(func() { w.hear(l, i.Name) })
	}
	return errors.Join(errs...)
}

// hear takes in what is said on a line, until it is closed or fails.
func (w *Watch) hear(l *line, on string) {
	defer close(l.ended)
	for {
		m, err := l.wire.Next()
		if err != nil {
			w.log.V(1).Info("stopped listening for DHCP", "interface", on, "cause", err.Error())
			return
		}
		w.note(m, on)
	}
}

// note takes in a message, if it is about an address of a pool, or about none.
func (w *Watch) note(m message, on string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if _, has := w.pools.Holder(m.addr); !has && m.addr.IsValid() {
		return
	}
	if w.leases.note(m, on, time.Now()) {
		w.changed.Poke()
	}
}

// Close stops listening.
func (w *Watch) Close() {
	for _, l := range w.lines {
		w.close(l)
	}
	w.wg.Wait()
}

func (w *Watch) close(l *line) {
	if err := l.wire.Close(); err != nil {
		w.log.V(1).Info("cannot close", "error", err.Error())
	}
}

// dead reports whether nothing more will be heard on the line.
func (l *line) dead() bool {
	select {
	case <-l.ended:
		return true
	default:
		return false
	}
}
