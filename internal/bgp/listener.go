package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/fairlead/fairlead/internal/lb"
)

// listeners are the sockets for routers that connect: one for each address that
// a passive peer is to be reached at, and none when there is no such peer.
type listeners struct {
	port uint16
	wg   sync.WaitGroup

	mu   sync.Mutex // guards the fields below, and those of each listener
	open map[listenKey]*listener
}

type listenKey struct {
	addr  netip.Addr
	index int // of the interface of a link-local address, which may be made anew
	vrf   string
}

type listener struct {
	socket *net.TCPListener
	guests map[*guest]bool
}

// A guest is a session that waits for its router at a listener.
type guest struct {
	wants wants
	place
	incoming chan *net.TCPConn
}

// place is where a router comes to.
type place struct {
	key    listenKey
	router netip.Prefix // who may come; a prefix when the router's address is not known
}

// wants is what of a peer a guest is made from.
type wants struct {
	address, source netip.Addr
	iface, vrf      string
	password        lb.Secret
}

func wantsOf(p *lb.BGPPeer) wants {
	return wants{p.Address, p.Source, p.Interface, p.VRF, p.Password}
}

// add waits for the router of a passive peer. Connections come in on the guest's
// channel, which has room for one.
func (ls *listeners) add(p *lb.BGPPeer, at place) (*guest, error) {
	g := &guest{wants: wantsOf(p), place: at, incoming: make(chan *net.TCPConn, 1)}
	ls.mu.Lock()
	defer ls.mu.Unlock()
	l := ls.open[g.key]
	if l == nil {
		socket, err := listen(netip.AddrPortFrom(g.key.addr, ls.port), g.key.vrf)
		if err != nil {
			return nil, refusedToListen(netip.AddrPortFrom(g.key.addr, ls.port), err)
		}
		l = &listener{socket: socket, guests: map[*guest]bool{}}
		ls.open[g.key] = l
		ls.wg.Go(func() { ls.accept(l) })
	}
	l.guests[g] = true
	if err := l.setPassword(g.router, p.Password); err != nil {
		ls.removeLocked(g)
		return nil, err
	}
	return g, nil
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

func (l *listener) setPassword(router netip.Prefix, password lb.Secret) error {
	rc, err := l.socket.SyscallConn()
	if err != nil {
		return err
	}
	return control(rc, func(fd int) error { return setPassword(fd, router, password) })
}

// expects reports whether a guest waits for the router.
func (l *listener) expects(router netip.Prefix) bool {
	for g := range l.guests {
		if g.router == router {
			return true
		}
	}
	return false
}

// remove waits no more. The last guest closes the socket.
func (ls *listeners) remove(g *guest) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.removeLocked(g)
}

func (ls *listeners) removeLocked(g *guest) {
	l := ls.open[g.key]
	if l == nil || !l.guests[g] {
		return
	}
	delete(l.guests, g)
	if !l.expects(g.router) { // the password is another guest's now
		_ = l.setPassword(g.router, "")
	}
	if len(l.guests) == 0 {
		l.socket.Close()
		delete(ls.open, g.key)
	}
	select {
	case c := <-g.incoming:
		c.Close()
	default:
	}
}

func (ls *listeners) accept(l *listener) {
	for {
		c, err := l.socket.AcceptTCP()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // that connection's trouble
		}
		if !ls.hand(l, c) {
			c.Close()
		}
	}
}

// hand gives a connection to the guest that waits for it.
func (ls *listeners) hand(l *listener, c *net.TCPConn) bool {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
	ls.mu.Lock()
	defer ls.mu.Unlock()
	for g := range l.guests {
		if !g.router.Contains(from) {
			continue
		}
		select {
		case g.incoming <- c:
			return true
		default:
			return false
		}
	}
	return false
}
