package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	api "github.com/osrg/gobgp/v3/api"
	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead/fairlead/internal/lb"
	"github.com/fairlead/fairlead/internal/wake"
)

const bgpPort = 179

// session is one peer of this node: it connects, and connects again.
type session struct {
	log       logr.Logger
	listeners *listeners
	status    status
	counters  counters
	table     table
	poke      wake.Signal // ends a wait
	dirty     wake.Signal // routes have changed
	moved     wake.Signal // the node's addresses have changed
	cancel    context.CancelFunc

	// Only run uses these.
	guest  *guest // of a passive peer
	reason string // which the router gave in a NOTIFICATION, since there was a session

	mu       sync.Mutex // guards the fields below
	peer     lb.BGPPeer
	held     string // why nothing is tried; empty tries
	line     *line  // while there is a connection
	opened   *opening
	beside   []netip.Addr       // the other addresses of the session's interface
	met      bool               // was established since this process began
	cutShort context.CancelFunc // ends the attempt that is under way
	hurry    bool               // the next attempt need not wait
}

func newSession(p lb.BGPPeer, held string, ls *listeners, changed func(), log logr.Logger) *session {
	s := &session{
		log: log.WithValues("peer", p.Name), listeners: ls, peer: p, held: held,
		poke: wake.New(), dirty: wake.New(), moved: wake.New(), cutShort: func() {},
	}
	s.status.changed = changed
	s.status.s = Session{Peer: p.Name, State: Connect, Since: time.Now()}
	s.table.log = s.log
	return s
}

// run has a session with the router until ctx ends.
func (s *session) run(ctx context.Context) {
	defer s.table.release()
	defer s.leaveListener()
	for ctx.Err() == nil {
		s.mu.Lock()
		held, p := s.held, s.peer
		s.mu.Unlock()
		if held != "" {
			s.status.edit(func(st *Session) { st.State, st.LastError = Idle, held })
			select {
			case <-s.poke:
			case <-ctx.Done():
			}
			continue
		}
		next := time.Now().Add(p.ConnectTime)
		words, again := s.attempt(ctx)
		if ctx.Err() != nil {
			return
		}
		if words != "" {
			s.log.V(1).Info("session failed", "reason", words)
			s.status.edit(func(st *Session) { st.State, st.LastError = Active, words })
		}
		if !again {
			s.pause(ctx, time.Until(next))
		}
	}
}

// pause waits for the time of the next attempt: a connectTime after the last
// began, which for a session that lived longer is now.
func (s *session) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		s.mu.Lock()
		hurry := s.hurry || s.held != ""
		s.mu.Unlock()
		if hurry {
			return
		}
		select {
		case <-t.C:
			return
		case <-s.moved: // what failed may work now
			return
		case <-s.poke:
		case <-ctx.Done():
			return
		}
	}
}

// attempt connects and has a session. It returns what went wrong, in words,
// unless the attempt was cut short, and whether the next can follow at once.
func (s *session) attempt(ctx context.Context) (words string, again bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	p, held := s.peer, s.held
	s.cutShort, s.hurry = cancel, false
	s.mu.Unlock()
	if held != "" {
		return "", true
	}
	a := attempt{peer: p, router: routerName(&p)}
	conn, err := s.connect(ctx, &p, &a)
	if err == nil {
		again = p.Passive // its router waits its own time
		err = s.talk(ctx, p, conn, &a)
	}
	if ctx.Err() != nil || errors.Is(err, errEnded) {
		s.reason = "" // the next attempt is another one
		return "", again
	}
	return s.remember(err, a.describe(err), a.opened != nil), again
}

// remember returns the words for an error. A router that has said once what it does
// not like may just close from then on: the words are those it said.
func (s *session) remember(err error, words string, opened bool) string {
	var n *notifiedError
	switch {
	case errors.As(err, &n) && !n.sent:
		s.reason = words
	case !errors.Is(err, errRouterClosed) || opened:
		s.reason = ""
	case s.reason != "":
		return s.reason
	}
	return words
}

// errEnded is the cause of a line's end that somebody else has reported.
var errEnded = errors.New("ended by this node")

func routerName(p *lb.BGPPeer) string {
	if p.Interface != "" && !p.Address.IsValid() {
		return "the router on " + p.Interface
	}
	return netip.AddrPortFrom(p.Address, port(p)).String()
}

func port(p *lb.BGPPeer) uint16 {
	if p.Port == 0 {
		return bgpPort
	}
	return p.Port
}

// connect returns a connection with the router.
func (s *session) connect(ctx context.Context, p *lb.BGPPeer, a *attempt) (*net.TCPConn, error) {
	if p.Passive {
		return s.await(ctx, p)
	}
	s.leaveListener()
	ctx, cancel := context.WithTimeout(ctx, p.ConnectTime)
	defer cancel()
	router := p.Address
	if p.Interface != "" {
		var err error
		if router, err = discover(ctx, p.Interface); err != nil {
			return nil, err
		}
		a.router = netip.AddrPortFrom(router, port(p)).String()
	}
	return dial(ctx, p, netip.AddrPortFrom(router, port(p)))
}

// await waits until the router connects, wherever on this node it can do so now.
func (s *session) await(ctx context.Context, p *lb.BGPPeer) (*net.TCPConn, error) {
	for {
		if err := s.joinListener(p); err != nil {
			return nil, err
		}
		if p.Interface != "" {
			// The router must know this node before it can connect to it.
			if _, err := discover(ctx, p.Interface); err != nil {
				return nil, err
			}
		}
		select {
		case c := <-s.guest.incoming:
			rc, err := c.SyscallConn()
			if err == nil {
				err = control(rc, func(fd int) error { return setHops(fd, p, remote(c).Addr()) })
			}
			if err != nil {
				c.Close()
				return nil, err
			}
			return c, nil
		case <-s.moved:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// joinListener lets the router connect. Where it can do so may be another place than
// the last time: an address may be new, and an interface be made anew.
func (s *session) joinListener(p *lb.BGPPeer) error {
	at, err := placeOf(p)
	if err != nil {
		s.leaveListener()
		return err
	}
	if s.guest == nil || s.guest.wants != wantsOf(p) || s.guest.place != at {
		s.leaveListener()
		if s.guest, err = s.listeners.add(p, at); err != nil {
			return err
		}
	}
	who := p.Address.String()
	if p.Interface != "" {
		who = routerName(p)
	}
	s.status.edit(func(st *Session) {
		st.State = Active
		if st.LastError == "" {
			st.LastError = fmt.Sprintf("%s has not connected yet to %s", who, netip.AddrPortFrom(at.key.addr, s.listeners.port))
		}
	})
	return nil
}

func (s *session) leaveListener() {
	if s.guest != nil {
		s.listeners.remove(s.guest)
		s.guest = nil
	}
}

func remote(c *net.TCPConn) netip.AddrPort {
	a := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// talk has a session over a connection, and returns why it ended.
func (s *session) talk(ctx context.Context, p lb.BGPPeer, conn *net.TCPConn, a *attempt) error {
	local := conn.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
	a.local = local.WithZone("").String()
	speaker, err := s.table.acquire()
	if err != nil {
		conn.Close()
		return err
	}
	inner, err := speaker.connect(ctx, &p, s.onState)
	if err != nil {
		conn.Close()
		return err
	}
	s.mu.Lock()
	l := newLine(p, !s.met, conn, inner, &s.counters, func(o opening) error {
		a.opened = &o
		return s.onOpen(&p, local, remote(conn), o)
	})
	s.line = l
	s.mu.Unlock()
	defer context.AfterFunc(ctx, func() { l.end(errEnded, nil) })()
	var wg sync.WaitGroup
	wg.Go(func() { s.keepRoutes(l, local) })
	if s.guest != nil {
		wg.Go(func() { s.watchGuest(l, s.guest) })
	}
	err = l.run()
	wg.Wait()
	s.afterLine(err)
	speaker.disconnect()
	return err
}

// onOpen is called with the router's OPEN, before GoBGP hears of it. When it
// returns, the table has the routes that this router is to get: so the first
// End-of-RIB (RFC 4724, 2) comes after all of them.
func (s *session) onOpen(p *lb.BGPPeer, local netip.Addr, router netip.AddrPort, o opening) error {
	if p.Dynamic == lb.DynamicExternal && o.asn == p.ShownASN() {
		return &notifiedError{notification{gobgp.BGP_ERROR_OPEN_MESSAGE_ERROR, gobgp.BGP_ERROR_SUB_BAD_PEER_AS, nil}, true}
	}
	beside, err := addressesBeside(local)
	if err != nil {
		return err
	}
	s.mu.Lock()
	s.opened, s.beside = &o, beside
	s.mu.Unlock()
	hops := func() nextHops { // the peer's may change, and the node's addresses
		s.mu.Lock()
		defer s.mu.Unlock()
		return nextHopsOf(&s.peer, local, o, s.beside)
	}
	s.status.edit(func(st *Session) {
		st.Router, st.Local, st.RouterASN, st.RouterID = router, local.WithZone(""), o.asn, o.routerID
		st.HoldTime, st.GracefulRestart = min(o.hold, p.HoldTime), p.GracefulRestart && o.restart
	})
	s.table.connect(hops, o.asn == p.ShownASN(), p.ShownASN())
	s.sync()
	return nil
}

// keepRoutes announces what changes while the line lives.
func (s *session) keepRoutes(l *line, local netip.Addr) {
	for {
		select {
		case <-s.dirty:
			s.sync()
		case <-s.moved:
			s.move(local)
		case <-l.done:
			return
		}
	}
}

// move lets routes point to the addresses that the node has now.
func (s *session) move(local netip.Addr) {
	beside, err := addressesBeside(local)
	if err != nil {
		s.log.Error(err, "cannot read the node's addresses; going on with what is known of them")
		return
	}
	s.mu.Lock()
	same := slices.Equal(s.beside, beside)
	s.beside = beside
	s.mu.Unlock()
	if !same {
		s.sync()
	}
}

func (s *session) sync() {
	v4, v6, note := s.table.sync()
	s.status.edit(func(st *Session) { st.PrefixesIPv4, st.PrefixesIPv6, st.Note = v4, v6, note })
}

// watchGuest ends the line when its router connects anew: then it has lost the
// old connection, as a router does that restarts (RFC 4724, 4.2).
func (s *session) watchGuest(l *line, g *guest) {
	select {
	case c := <-g.incoming:
		l.end(errEnded, nil)
		select {
		case g.incoming <- c:
		default:
			c.Close() // an even newer one is there
		}
	case <-l.done:
	}
}

// onState hears from GoBGP how far it has come with the router.
func (s *session) onState(state api.PeerState_SessionState) {
	to, ok := stateOf(state)
	if !ok {
		return
	}
	s.mu.Lock()
	if s.line == nil {
		s.mu.Unlock()
		return // it has ended meanwhile
	}
	s.met = s.met || to == Established
	s.mu.Unlock()
	if to != Established && s.status.failing() {
		return // an attempt like those before it
	}
	s.status.edit(func(st *Session) {
		st.State = to
		if to == Established {
			st.LastError = ""
			st.TimesEstablished++
		}
	})
}

func (s *session) afterLine(err error) {
	s.table.disconnect()
	s.mu.Lock()
	s.line, s.opened = nil, nil
	s.mu.Unlock()
	var n *notifiedError
	notified := errors.As(err, &n)
	s.status.edit(func(st *Session) {
		if st.State != Idle && st.State != Active {
			st.State = Connect
		}
		st.PrefixesIPv4, st.PrefixesIPv6, st.Note = 0, 0, ""
		st.HoldTime, st.GracefulRestart = 0, false
		if notified && n.sent {
			st.NotificationsSent++
		} else if notified {
			st.NotificationsHeard++
		}
	})
}

// needsReset reports whether a changed peer needs a new session: all but what
// matters only at the next attempt, and what is in routes. A router that was told
// that BFD watches is to know when it does not any more.
func needsReset(a, b lb.BGPPeer) bool {
	for _, p := range []*lb.BGPPeer{&a, &b} {
		p.ConnectTime, p.Passive = 0, false
		p.NextHop4, p.NextHop6 = netip.Addr{}, netip.Addr{}
	}
	if b.Watched {
		a.Watched = true
	}
	return a != b
}

// change makes the peer another one.
func (s *session) change(p lb.BGPPeer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer == p {
		return
	}
	reset := needsReset(s.peer, p)
	s.peer = p
	s.dirty.Poke() // next hops
	if !reset && s.line != nil {
		return
	}
	if s.line != nil {
		s.line.end(errEnded, s.lastWords(notification{code: gobgp.BGP_ERROR_CEASE, subcode: gobgp.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE}, keepsRoutes))
	}
	s.cutShort()
	s.hurry = true
	s.status.edit(func(st *Session) {
		if st.State == Active {
			st.State, st.LastError = Connect, "" // what failed was another peer
		}
	})
	s.poke.Poke()
}

// hold takes the session down and keeps it down for a reason, and without a reason
// lets it come up again.
func (s *session) hold(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held == reason {
		return
	}
	s.held = reason
	if reason == "" {
		s.status.edit(func(st *Session) { st.State, st.LastError = Connect, "" })
	} else {
		if s.line != nil {
			s.line.end(errEnded, s.lastWords(notification{code: gobgp.BGP_ERROR_CEASE, subcode: ceaseBFDDown}, losesRoutes))
		}
		s.cutShort()
	}
	s.poke.Poke()
}

// How a NOTIFICATION is meant.
const (
	keepsRoutes = true
	losesRoutes = false
)

// lastWords returns what is sent so that the router keeps our routes, if it can,
// or surely forgets them. Nothing sent is a restart for a router that knows
// RFC 4724; one that knows RFC 8538 keeps routes unless it is told otherwise.
func (s *session) lastWords(n notification, keep bool) *notification {
	restart := s.opened != nil && s.opened.restart && s.peer.GracefulRestart
	notified := restart && s.opened.restartNotified
	switch {
	case keep && restart && !notified:
		return nil
	case !keep && notified:
		n = n.hard()
	}
	return &n
}

// end ends the session for good.
func (s *session) end(n notification, keep bool) {
	s.mu.Lock()
	if s.line != nil {
		s.line.end(errEnded, s.lastWords(n, keep))
	}
	s.mu.Unlock()
	s.cancel()
}

// retire withdraws all routes, and returns when that is on its way.
func (s *session) retire(ctx context.Context) {
	s.mu.Lock()
	l := s.line
	s.mu.Unlock()
	if l == nil {
		return
	}
	before := s.counters.withdrawn.Load()
	s.table.want(nil, false)
	expected := uint64(s.table.size())
	s.sync()
	for s.counters.withdrawn.Load() < before+expected {
		select {
		case <-l.withdrew:
		case <-l.done:
			return
		case <-ctx.Done():
			return
		}
	}
}
