package bgp

import (
	"cmp"
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

const bgpPort = lb.BGPPort

// session is one peer of this node: it connects, and connects again.
type session struct {
	log       logr.Logger
	listeners *listeners
	status    status
	counters  counters
	table     table
	poke      notify.Signal      // ends a wait
	dirty     notify.Signal      // routes have changed
	moved     notify.Signal      // the node's addresses have changed
	probe     notify.Signal      // a KEEPALIVE is to be sent now
	flush     chan chan struct{} // closes what it receives when all routes are sent
	cancel    context.CancelFunc

	// Only run uses these.
	waiter *waiter // of a passive peer
	reason string  // which the router gave in a NOTIFICATION, since there was a session

	mu              sync.Mutex // guards the fields below
	peer            lb.BGPPeer
	held            string      // why nothing is tried; empty tries
	conn            *connection // that has the session, or may get it
	opened          *opening    // the router's OPEN in it, if it was good
	siblings        []netip.Addr
	everEstablished bool               // since this process began
	cutShort        context.CancelFunc // ends the attempt that is under way
	hurry           bool               // the next attempt need not wait
}

func newSession(p lb.BGPPeer, held string, ls *listeners, changed func(), log logr.Logger) *session {
	s := &session{
		log: log.WithValues("peer", p.Name), listeners: ls, peer: p, held: held, cutShort: func() {},
		poke: notify.New(), dirty: notify.New(), moved: notify.New(), probe: notify.New(), flush: make(chan chan struct{}),
	}
	s.status.changed = changed
	s.status.s = Session{Peer: p.Name, State: Connect, Since: time.Now()}
	return s
}

// run has a session with the router until ctx ends.
func (s *session) run(ctx context.Context) {
	defer s.leaveListener()
	for ctx.Err() == nil {
		s.mu.Lock()
		held, p := s.held, s.peer
		s.mu.Unlock()
		if held != "" {
			s.leaveListener()
			s.status.edit(func(st *Session) { st.State, st.LastError = Idle, held })
			select {
			case <-s.poke:
			case <-ctx.Done():
			}
			continue
		}
		next := time.Now().Add(p.ConnectTime)
		var words string
		var again bool
		if err := contain(s.log, func() error { words, again = s.attempt(ctx); return nil }); err != nil {
			words, again = attempt{}.describe(err), false
		}
		if ctx.Err() != nil {
			return
		}
		if words != "" {
			s.setFailing(words)
		}
		if !again {
			s.pause(ctx, time.Until(next))
		}
	}
}

func (s *session) setFailing(words string) {
	s.log.V(1).Info("session failed", "reason", words)
	s.status.edit(func(st *Session) { st.State, st.LastError = Active, words })
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
	c, err := s.connect(ctx, &p, &a)
	if err == nil {
		a.learn(c)
		again = p.Passive // its router waits its own time
		err = s.talk(ctx, &p, c)
		s.afterConnection(err)
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

func routerName(p *lb.BGPPeer) string {
	if p.Interface != "" && !p.Address.IsValid() {
		return "the router on " + p.Interface
	}
	return netip.AddrPortFrom(p.Address, port(p)).String()
}

func port(p *lb.BGPPeer) uint16 { return cmp.Or(p.Port, bgpPort) }

// connect returns a connection with the router, on which its OPEN has come.
func (s *session) connect(ctx context.Context, p *lb.BGPPeer, a *attempt) (*connection, error) {
	if err := checkNotOwn(p); err != nil {
		s.leaveListener()
		return nil, err
	}
	if p.Passive {
		return s.await(ctx, p)
	}
	s.leaveListener()
	conn, err := s.dial(ctx, p, a)
	if err != nil {
		return nil, err
	}
	c := newConnection(*p, conn, &s.counters, s.log)
	s.mu.Lock()
	s.conn = c
	restarted := !s.everEstablished
	s.mu.Unlock()
	defer context.AfterFunc(ctx, func() { c.end(errEnded, nil) })()
	s.setState(OpenSent)
	if err := c.exchangeOpen(restarted); err != nil {
		a.learn(c)
		s.afterConnection(err)
		return nil, err
	}
	return c, nil
}

func (s *session) dial(ctx context.Context, p *lb.BGPPeer, a *attempt) (*net.TCPConn, error) {
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

// talk has a session over a connection on which the router's OPEN has come, and returns
// why it ended.
func (s *session) talk(ctx context.Context, p *lb.BGPPeer, c *connection) error {
	defer c.conn.Close()
	defer context.AfterFunc(ctx, func() { c.end(errEnded, nil) })()
	siblings, err := siblingAddresses(c.local)
	if err != nil {
		c.end(err, nil)
	}
	o := c.fsm.router
	restart, _ := c.fsm.restarts()
	s.mu.Lock()
	s.conn, s.opened, s.siblings = c, &o, siblings
	s.mu.Unlock()
	s.table.reset()
	s.setState(OpenConfirm)
	s.status.edit(func(st *Session) {
		st.Router, st.Local, st.RouterASN, st.RouterID = c.router, c.local.WithZone(""), o.asn, o.routerID
		st.HoldTime, st.GracefulRestart = c.fsm.holdTime(), restart
	})
	var wg sync.WaitGroup
	wg.Go(func() { s.runAdvertise(c) })
	if p.Passive && s.waiter != nil {
		w := s.waiter
		wg.Go(func() {
			if err := contain(s.log, func() error { return s.watchWaiter(c, w) }); err != nil {
				c.end(err, lastNotification(err))
			}
		})
	}
	err = c.run()
	wg.Wait()
	return err
}

// setState publishes how far a connection has come, unless it is an attempt like those
// before it, which have failed.
func (s *session) setState(to State) {
	if to != Established && s.status.failing() {
		return
	}
	s.status.edit(func(st *Session) { st.State = to })
}

func (s *session) setEstablished() {
	s.mu.Lock()
	s.everEstablished = true
	s.mu.Unlock()
	s.status.edit(func(st *Session) {
		st.State, st.LastError = Established, ""
		st.TimesEstablished++
	})
}

// nextHops returns what routes point to now: the peer's may change, and the node's
// addresses.
func (s *session) nextHops(c *connection) nextHops {
	s.mu.Lock()
	defer s.mu.Unlock()
	return nextHopsOf(&s.peer, c.local, c.fsm.router, s.siblings)
}

// updateSiblings reads the node's addresses, to which routes may have to point.
func (s *session) updateSiblings(local netip.Addr) {
	siblings, err := siblingAddresses(local)
	if err != nil {
		s.log.Error(err, "cannot read the node's addresses; keeping those that are known")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.siblings = siblings
}

func (s *session) afterConnection(err error) {
	s.mu.Lock()
	s.conn, s.opened = nil, nil
	s.mu.Unlock()
	var n *notifiedError
	s.status.edit(func(st *Session) {
		if st.State != Idle && st.State != Active {
			st.State = Connect
		}
		st.PrefixesIPv4, st.PrefixesIPv6, st.Note = 0, 0, ""
		st.HoldTime, st.GracefulRestart = 0, false
		if errors.As(err, &n) && !n.sent {
			st.NotificationsReceived++
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
	if !reset && s.conn != nil {
		return
	}
	if s.conn != nil {
		s.conn.end(errEnded, s.closingNotification(cease(gobgp.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE), keepsRoutes))
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
		if s.conn != nil {
			s.conn.end(errEnded, s.closingNotification(cease(ceaseBFDDown), losesRoutes))
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

// closingNotification returns what is sent so that the router keeps our routes, if it
// can, or surely forgets them. Nothing sent is a restart for a router that knows
// RFC 4724; one that knows RFC 8538 keeps routes unless it is told otherwise.
func (s *session) closingNotification(n notification, keep bool) *notification {
	var restart, notified bool
	if s.opened != nil {
		restart, notified = s.conn.fsm.restarts()
	}
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
	if s.conn != nil {
		s.conn.end(errEnded, s.closingNotification(n, keep))
	}
	s.mu.Unlock()
	s.cancel()
}

// retire withdraws all routes, and returns when that is on its way.
func (s *session) retire(ctx context.Context) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c == nil {
		return
	}
	s.table.want(nil, false)
	sent := make(chan struct{})
	select {
	case s.flush <- sent:
	case <-c.done:
		return
	case <-ctx.Done():
		return
	}
	select {
	case <-sent:
	case <-c.done:
	case <-ctx.Done():
	}
}

// publishRoutes publishes how many routes the router has, and why not those of a
// family.
func (s *session) publishRoutes(note string) {
	v4, v6 := s.table.size()
	s.status.edit(func(st *Session) { st.PrefixesIPv4, st.PrefixesIPv6, st.Note = v4, v6, note })
}
