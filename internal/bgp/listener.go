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

// listeners are the sockets for routers that connect: one for each address that
// a passive peer is to be reached at, and none when there is no such peer.
//
// A connection that comes in is a candidate: it must prove that it is the router's, by
// its TTL, its password and a good OPEN, before the session hears of it. What proves
// nothing costs a few KiB for at most openTimeout, and no more than maxCandidates.
type listeners struct {
	port uint16
	wg   sync.WaitGroup

	mu         sync.Mutex // guards the fields below, and those of each listener
	open       map[listenKey]*listener
	candidates []*candidate // by age
}

const (
	// maxCandidatesOfPeer and maxCandidates limit how many connections may be about to
	// prove themselves. A newer one is more likely to: the oldest is closed.
	maxCandidatesOfPeer = 8
	maxCandidates       = 64
	// acceptPause is how long nothing is accepted when the process has no descriptor left.
	acceptPause = 100 * time.Millisecond
)

type listenKey struct {
	addr  netip.Addr
	index int // of the interface of a link-local address, which may be created again
	vrf   string
}

type listener struct {
	socket  *net.TCPListener
	waiters map[*waiter]bool
}

// A waiter is a session that waits for its router at a listener.
type waiter struct {
	wants wants
	place
	// exchange has OPENs exchanged on a connection.
	exchange func(*net.TCPConn) (*connection, error)
	proven   chan *connection // has room for one; the newest counts
	failed   chan failure     // has room for one; more are not kept
}

// A candidate is a connection that has not proved yet that it is the router's.
type candidate struct {
	waiter *waiter
	conn   *net.TCPConn
}

// A failure is why a candidate has not become a session.
type failure struct {
	conn *connection // nil: before an OPEN could be exchanged
	err  error
}

// place is where a router comes to.
type place struct {
	key    listenKey
	router netip.Prefix // who may come; a prefix when the router's address is not known
}

// wants is what of a peer a waiter is made from.
type wants struct {
	address, source netip.Addr
	iface, vrf      string
	password        lb.Secret
	ttlSecurity     bool
}

func wantsOf(p *lb.BGPPeer) wants {
	return wants{p.Address, p.Source, p.Interface, p.VRF, p.Password, p.TTLSecurity}
}

// add waits for the router of a passive peer.
func (ls *listeners) add(p *lb.BGPPeer, at place, exchange func(*net.TCPConn) (*connection, error)) (*waiter, error) {
	w := &waiter{wants: wantsOf(p), place: at, exchange: exchange, proven: make(chan *connection, 1), failed: make(chan failure, 1)}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.open[w.key]
	if l == nil {
		// The first connection may come before this function has returned: the socket has
		// the password from its beginning.
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

// placeOf finds out where a peer's router will come to.
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

// setMinTTL makes the kernel drop what has come over a hop, where no waiter takes that:
// not even a SYN is answered then. Where some do, each connection's SYN is looked at.
func (l *listener) setMinTTL() error {
	ttl := gtsmTTL
	for w := range l.waiters {
		if !w.wants.ttlSecurity {
			ttl = 0
		}
	}
	return l.control(func(fd int) error { return setMinTTL(fd, l.socket.Addr().(*net.TCPAddr).IP.To4() == nil, ttl) })
}

// expects reports whether a waiter waits for the router.
func (l *listener) expects(router netip.Prefix) bool {
	for w := range l.waiters {
		if w.router == router {
			return true
		}
	}
	return false
}

// remove waits no more. The last waiter closes the socket.
func (ls *listeners) remove(w *waiter) {
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
	if !l.expects(w.router) { // the password is another waiter's now
		_ = l.control(func(fd int) error { return setPassword(fd, w.router, "") })
	}
	_ = l.setMinTTL() // one that was set before
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
			if k := ls.admit(l, c); k != nil {
				ls.wg.Go(func() { ls.prove(l, k) })
			} else {
				c.Close()
			}
		}
	}
}

// admit makes a connection a candidate for the session that waits for it; nil: none
// does.
func (ls *listeners) admit(l *listener, c *net.TCPConn) *candidate {
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
			ls.drop(slices.IndexFunc(ls.candidates, ofPeer))
		case len(ls.candidates) >= maxCandidates:
			ls.drop(0)
		}
		k := &candidate{w, c}
		ls.candidates = append(ls.candidates, k)
		return k
	}
	return nil
}

// drop closes a candidate, whose goroutine ends then.
func (ls *listeners) drop(i int) {
	ls.candidates[i].conn.Close()
	ls.candidates = slices.Delete(ls.candidates, i, i+1)
}

// prove has a candidate prove that it is the router's.
func (ls *listeners) prove(l *listener, k *candidate) {
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

// deliver gives a proven connection to the session, in the place of an older one that
// it has not taken. ls.mu is held.
func (ls *listeners) deliver(w *waiter, c *connection) {
	select {
	case old := <-w.proven:
		ls.dismiss(old, collided)
	default:
	}
	w.proven <- c
}

// giveBack delivers a connection that the session's next attempt is to take.
func (ls *listeners) giveBack(w *waiter, c *connection) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.open[w.key]
	if l == nil || !l.waiters[w] || len(w.proven) > 0 { // an even newer one is there
		ls.dismiss(c, collided)
		return
	}
	w.proven <- c
}

// dismiss ends a proven connection that gets no session.
func (ls *listeners) dismiss(c *connection, n notification) {
	c.end(errEnded, &n)
	ls.wg.Go(func() { _ = c.run() })
}
