package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// listeners are the sockets to which routers connect: one for each address at which a passive
// peer is reached, and none without passive peers.
//
// An accepted connection is a candidate: it must prove that it is the router's, by its TTL,
// its password and an acceptable OPEN, before the session gets it. An unproven connection
// costs a few KiB for at most openTimeout, and there are at most maxCandidates.
type listeners struct {
	port uint16
	wg   sync.WaitGroup

	mu         sync.Mutex // guards the fields below, and those of each listener
	open       map[listenKey]*listener
	candidates []*candidate // the oldest first
}

const (
	// maxCandidatesOfPeer and maxCandidates limit the candidates. At the limit the oldest one
	// is closed, as a newer one is more likely to be the router's.
	maxCandidatesOfPeer = 8
	maxCandidates       = 64
	// acceptPause is the pause after a failed accept, as when the process has no file
	// descriptor left.
	acceptPause = 100 * time.Millisecond
)

type listenKey struct {
	addr  netip.Addr
	index int // of the interface of a link-local address; differs after the interface was recreated
	vrf   string
}

type listener struct {
	socket  *net.TCPListener
	waiters map[*waiter]bool
}

// A waiter is a session that waits for its router at a listener.
type waiter struct {
	settings waiterSettings
	place
	// exchange exchanges OPENs on a connection.
	exchange func(*net.TCPConn) (*connection, error)
	proven   chan *connection // capacity one; a newer connection replaces the one in it
	failed   chan failure     // capacity one; further failures are dropped
}

// A candidate is a connection that has not yet proven that it is the router's.
type candidate struct {
	waiter *waiter
	conn   *net.TCPConn
}

// A failure is why a candidate was rejected.
type failure struct {
	conn *connection // nil if it failed before OPENs were exchanged
	err  error
}

// place is the local address to which a router connects, and the router's address.
type place struct {
	key    listenKey
	router netip.Prefix // the router's address; a prefix if the address is not known
}

// waiterSettings are the fields of a peer on which its waiter depends.
type waiterSettings struct {
	address, source netip.Addr
	iface, vrf      string
	password        lb.Secret
	ttlSecurity     bool
}

func settingsOf(p *lb.BGPPeer) waiterSettings {
	return waiterSettings{p.Address, p.Source, p.Interface, p.VRF, p.Password, p.TTLSecurity}
}

// addWaiter starts to accept connections from the router of a passive peer.
func (ls *listeners) addWaiter(p *lb.BGPPeer, at place, exchange func(*net.TCPConn) (*connection, error)) (*waiter, error) {
	w := &waiter{settings: settingsOf(p), place: at, exchange: exchange, proven: make(chan *connection, 1), failed: make(chan failure, 1)}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.open[w.key]
	if l == nil {
		// The router may connect before this function has returned, so the password is set
		// before the socket listens.
		socket, err := listen(netip.AddrPortFrom(w.key.addr, ls.port), w.key.vrf, func(fd int) error {
			return setPassword(fd, w.router, p.Password)
		})
		if err != nil {
			return nil, refusedToListen(netip.AddrPortFrom(w.key.addr, ls.port), err)
		}
		l = &listener{socket: socket, waiters: map[*waiter]bool{}}
		ls.open[w.key] = l
		ls.wg.Go(func() { ls.accept(l) })
	} else if err := l.control(func(fd int) error { return setPassword(fd, w.router, p.Password) }); err != nil {
		return nil, err
	}
	l.waiters[w] = true
	if err := l.setMinTTL(); err != nil {
		ls.removeLocked(w)
		return nil, err
	}
	return w, nil
}

// placeOf returns the local address to which a peer's router connects.
func placeOf(p *lb.BGPPeer) (place, error) {
	if p.Interface != "" {
		local, index, err := linkLocal(p.Interface)
		return place{listenKey{local, index, p.VRF}, netip.PrefixFrom(local.WithZone(""), 64).Masked()}, err
	}
	local := p.Source
	if !local.IsValid() {
		var err error
		if local, err = sourceTo(p.Address, p.VRF); err != nil {
			return place{}, err
		}
	}
	return place{listenKey{local, 0, p.VRF}, netip.PrefixFrom(p.Address, p.Address.BitLen())}, nil
}

// linkLocal returns an interface's link-local address, with its name as the zone, and
// the interface's index.
func linkLocal(name string) (netip.Addr, int, error) {
	i, err := interfaceNamed(name)
	if err != nil {
		return netip.Addr{}, 0, err
	}
	prefixes, err := i.Addrs()
	if err != nil {
		return netip.Addr{}, 0, err
	}
	for _, a := range prefixes {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().Is6() && p.Addr().IsLinkLocalUnicast() {
			return p.Addr().WithZone(name), i.Index, nil
		}
	}
	return netip.Addr{}, 0, &plainError{fmt.Sprintf("interface %s has no IPv6 link-local address", name)}
}

func (l *listener) control(f func(fd int) error) error {
	rc, err := l.socket.SyscallConn()
	if err != nil {
		return err
	}
	return control(rc, f)
}

// setMinTTL makes the kernel drop packets that crossed a router, if all waiters of the socket
// use TTL security; it then does not even answer a SYN. Otherwise checkTTL checks the SYN of
// each connection.
func (l *listener) setMinTTL() error {
	ttl := gtsmTTL
	for w := range l.waiters {
		if !w.settings.ttlSecurity {
			ttl = 0
		}
	}
	return l.control(func(fd int) error { return setMinTTL(fd, l.socket.Addr().(*net.TCPAddr).IP.To4() == nil, ttl) })
}

// expects reports whether there is a waiter for the router.
func (l *listener) expects(router netip.Prefix) bool {
	for w := range l.waiters {
		if w.router == router {
			return true
		}
	}
	return false
}

// removeWaiter removes a waiter. The last one closes the socket.
func (ls *listeners) removeWaiter(w *waiter) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.removeLocked(w)
}

func (ls *listeners) removeLocked(w *waiter) {
	l := ls.open[w.key]
	if l == nil || !l.waiters[w] {
		return
	}
	delete(l.waiters, w)
	for _, c := range ls.candidates {
		if c.waiter == w {
			c.conn.Close()
		}
	}
	select {
	case c := <-w.proven:
		ls.dismiss(c, rejected)
	default:
	}
	if len(l.waiters) == 0 {
		l.socket.Close()
		delete(ls.open, w.key)
		return
	}
	if !l.expects(w.router) { // otherwise the password belongs to the other waiter
		_ = l.control(func(fd int) error { return setPassword(fd, w.router, "") })
	}
	_ = l.setMinTTL() // the remaining waiters may allow or need another value
}

func (ls *listeners) accept(l *listener) {
	for {
		c, err := l.socket.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			time.Sleep(acceptPause)
		default:
			if k := ls.addCandidate(l, c); k != nil {
				ls.wg.Go(func() { ls.proveCandidate(l, k) })
			} else {
				c.Close()
			}
		}
	}
}

// addCandidate makes a connection a candidate of the waiter for its router; nil if there is
// no such waiter.
func (ls *listeners) addCandidate(l *listener, c *net.TCPConn) *candidate {
	from := addrPort(c.RemoteAddr()).Addr().WithZone("")
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for w := range l.waiters {
		if !w.router.Contains(from) {
			continue
		}
		ofPeer := func(k *candidate) bool { return k.waiter == w }
		n := 0
		for _, k := range ls.candidates {
			if ofPeer(k) {
				n++
			}
		}
		switch {
		case n >= maxCandidatesOfPeer:
			ls.dropCandidate(slices.IndexFunc(ls.candidates, ofPeer))
		case len(ls.candidates) >= maxCandidates:
			ls.dropCandidate(0)
		}
		k := &candidate{w, c}
		ls.candidates = append(ls.candidates, k)
		return k
	}
	return nil
}

// dropCandidate closes a candidate, which ends its goroutine.
func (ls *listeners) dropCandidate(i int) {
	ls.candidates[i].conn.Close()
	ls.candidates = slices.Delete(ls.candidates, i, i+1)
}

// proveCandidate exchanges OPENs with a candidate and delivers it if it is the router's.
func (ls *listeners) proveCandidate(l *listener, k *candidate) {
	c, err := k.waiter.exchange(k.conn)
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.candidates = slices.DeleteFunc(ls.candidates, func(o *candidate) bool { return o == k })
	switch waits := l.waiters[k.waiter]; {
	case err == nil && waits:
		ls.deliver(k.waiter, c)
	case err == nil:
		ls.dismiss(c, rejected)
	case waits:
		select {
		case k.waiter.failed <- failure{c, err}:
		default:
		}
	}
}

// deliver passes a proven connection to the session and replaces an older one that the session
// has not received yet. The caller holds ls.mu.
func (ls *listeners) deliver(w *waiter, c *connection) {
	select {
	case old := <-w.proven:
		ls.dismiss(old, collided)
	default:
	}
	w.proven <- c
}

// redeliver delivers a connection again, for the session's next attempt.
func (ls *listeners) redeliver(w *waiter, c *connection) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.open[w.key]
	if l == nil || !l.waiters[w] || len(w.proven) > 0 { // the waiter is gone, or has a newer connection
		ls.dismiss(c, collided)
		return
	}
	w.proven <- c
}

// dismiss ends a proven connection that is not used.
func (ls *listeners) dismiss(c *connection, n notification) {
	c.end(errEnded, &n)
	ls.wg.Go(func() { _ = c.run() })
}
