package lab

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"
	"time"
)

// routeNews is what the kernel says of one route.
type routeNews struct {
	to     netip.Prefix
	via    []netip.Addr
	gone   bool
	partly bool // if gone: only these next hops are
}

// fib holds routes and their next hops, sorted.
type fib map[netip.Prefix][]netip.Addr

// take applies what the kernel said, and reports whether that changed anything.
func (f fib) take(n routeNews) bool {
	before, had := f[n.to]
	via := slices.Compact(slices.SortedFunc(slices.Values(n.via), netip.Addr.Compare))
	switch {
	case !n.gone:
		f[n.to] = via
		return !had || !slices.Equal(before, via)
	case !had:
		return false
	case n.partly:
		left := slices.DeleteFunc(slices.Clone(before), func(ip netip.Addr) bool { return slices.Contains(via, ip) })
		if len(left) > 0 {
			f[n.to] = left
			return len(left) < len(before)
		}
	}
	delete(f, n.to)
	return true
}

// FIB are the routes that a routing daemon has installed in the host's kernel,
// with their next hops, sorted.
func (h *Host) FIB() (map[netip.Prefix][]netip.Addr, error) {
	f := fib{}
	err := h.Do(func() error {
		news, err := dumpRoutes()
		for _, n := range news {
			f.take(n)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("%s: %w", h.Name, err)
	}
	return f, nil
}

// RouteChange is a moment from which on a route had other next hops.
type RouteChange struct {
	At       time.Time
	Prefix   netip.Prefix
	NextHops []netip.Addr // sorted; none: the route is gone
}

// RouteWatch keeps every change of the routes that a routing daemon installs in
// a kernel, with the time at which the kernel told it.
//
// The kernel does not tell which routes of IPv4 it drops by itself because an
// interface of this very host went down.
type RouteWatch struct {
	cancel context.CancelFunc
	idle   sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	changes []RouteChange
	now     fib
	err     error
}

// WatchRoutes watches until Stop. Routes that are there already are no changes.
func (h *Host) WatchRoutes() (*RouteWatch, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &RouteWatch{cancel: cancel, now: fib{}}
	err := h.Do(func() error {
		conn, err := listenRoutes() // before the dump, so that nothing falls between them
		if err != nil {
			return err
		}
		news, err := dumpRoutes()
		if err != nil {
			_ = conn.Close()
			return err
		}
		for _, n := range news {
			w.now.take(n)
		}
		names := interfaceNames()
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		w.idle.Go(func() {
			buf := make([]byte, 1<<16)
			for {
				n, err := conn.Read(buf)
				at := time.Now()
				if errors.Is(err, os.ErrClosed) {
					return
				}
				var news []routeNews
				if err == nil {
					news, err = parseRoutes(buf[:n], names)
				}
				w.heard(at, news, err)
			}
		})
		return nil
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch routes of %s: %w", h.Name, err)
	}
	return w, nil
}

func (w *RouteWatch) heard(at time.Time, news []routeNews, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && w.err == nil {
		w.err = err
	}
	for _, n := range news {
		if w.now.take(n) {
			w.changes = append(w.changes, RouteChange{At: at, Prefix: n.to, NextHops: w.now[n.to]})
		}
	}
}

// Stop ends the watch; what it saw remains.
func (w *RouteWatch) Stop() {
	w.cancel()
	w.idle.Wait()
}

// Err is why the watch may have missed something, or nil.
func (w *RouteWatch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Changes are all that were seen, of that route or, without one, of all routes.
func (w *RouteWatch) Changes(of ...netip.Prefix) []RouteChange {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(w.changes), func(c RouteChange) bool {
		return len(of) > 0 && !slices.Contains(of, c.Prefix)
	})
}

// Now are the routes as they are at this moment.
func (w *RouteWatch) Now() map[netip.Prefix][]netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.now)
}

// When is the first moment, not before since, at which the route came to have
// that many next hops; 0 is when it went. It is zero if that has not happened.
func (w *RouteWatch) When(route netip.Prefix, nextHops int, since time.Time) time.Time {
	for _, c := range w.Changes(route) {
		if !c.At.Before(since) && len(c.NextHops) == nextHops {
			return c.At
		}
	}
	return time.Time{}
}

// String tells the changes, one per line.
func (w *RouteWatch) String() string {
	var b []byte
	for _, c := range w.Changes() {
		b = fmt.Appendf(b, "%s %s via %v\n", c.At.Format("15:04:05.000"), c.Prefix, c.NextHops)
	}
	return string(b)
}
