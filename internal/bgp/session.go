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

// session is the session with one peer: it connects, and reconnects after a failure.
type session struct {
	log              logr.Logger
	listeners        *listeners
	status           status
	counters         counters
	table            table
	wake             notify.Signal      // ends a pause
	routesChanged    notify.Signal      // the desired routes have changed
	addressesChanged notify.Signal      // the node's addresses have changed
	keepaliveNow     notify.Signal      // requests a KEEPALIVE immediately
	flush            chan chan struct{} // the received channel is closed after all routes were sent
	cancel           context.CancelFunc

	// Owned by run.
	waiter *waiter // of a passive peer
	reason string  // the description of the last NOTIFICATION from the router since a session was established

	mu              sync.Mutex // guards the fields below
	peer            lb.BGPPeer
	downReason      string      // why the session is kept down; empty if it is not
	conn            *connection // the session's connection, or the one on which OPENs are exchanged
	opened          *openInfo   // the router's OPEN, if it was accepted
	siblings        []netip.Addr
	everEstablished bool               // since this process started
	cancelAttempt   context.CancelFunc // cancels the running attempt
	retryNow        bool               // the next attempt starts without a pause
}

func newSession(p lb.BGPPeer, downReason string, ls *listeners, changed func(), log logr.Logger) *session {
	s := &session{
		log: log.WithValues("peer", p.Name), listeners: ls, peer: p, downReason: downReason, cancelAttempt: func() {},
		wake: notify.New(), routesChanged: notify.New(), addressesChanged: notify.New(), keepaliveNow: notify.New(), flush: make(chan chan struct{}),
	}
	s.status.changed = changed
	s.status.s = Session{Peer: p.Name, State: Connect, Since: time.Now()}
	return s
}

// run connects and serves the session, and reconnects, until ctx ends.
func (s *session) run(ctx context.Context) {
	defer s.leaveListener()
	for ctx.Err() == nil {
		s.mu.Lock()
		downReason, p := s.downReason, s.peer
		s.mu.Unlock()
		if downReason != "" {
			s.leaveListener()
			s.status.edit(func(st *Session) { st.State, st.LastError = Idle, downReason })
			select {
			case <-s.wake:
			case <-ctx.Done():
			}
			continue
		}
		next := time.Now().Add(p.ConnectTime)
		var failure string
		var retryNow bool
		if err := recoverPanic(s.log, func() error { failure, retryNow = s.attempt(ctx); return nil }); err != nil {
			failure, retryNow = attempt{}.describe(err), false
		}
		if ctx.Err() != nil {
			return
		}
		if failure != "" {
			s.setFailing(failure)
		}
		if !retryNow {
			s.pause(ctx, time.Until(next))
		}
	}
}

func (s *session) setFailing(failure string) {
	s.log.V(1).Info("session failed", "reason", failure)
	s.status.edit(func(st *Session) { st.State, st.LastError = Active, failure })
}

// pause waits until the next attempt, which starts connectTime after the start of the last
// one. After a session that lasted longer it does not wait.
func (s *session) pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	for {
		s.mu.Lock()
		skip := s.retryNow || s.downReason != ""
		s.mu.Unlock()
		if skip {
			return
		}
		select {
		case <-t.C:
			return
		case <-s.addressesChanged: // an attempt may succeed now
			return
		case <-s.wake:
		case <-ctx.Done():
			return
		}
	}
}

// attempt connects and serves the session. It returns the description of the failure, empty
// if the attempt was canceled, and whether the next attempt needs no pause.
func (s *session) attempt(ctx context.Context) (failure string, retryNow bool) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s.mu.Lock()
	p, downReason := s.peer, s.downReason
	s.cancelAttempt, s.retryNow = cancel, false
	s.mu.Unlock()
	if downReason != "" {
		return "", true
	}
	a := attempt{peer: p, router: routerName(&p)}
	c, err := s.connect(ctx, &p, &a)
	if err == nil {
		a.setConnection(c)
		retryNow = p.Passive // the router decides when it connects
		err = s.serve(ctx, &p, c)
		s.clearConnection(err)
	}
	if ctx.Err() != nil || errors.Is(err, errEnded) {
		s.reason = "" // the next attempt is not a repetition of this one
		return "", retryNow
	}
	return s.explainFailure(err, a.describe(err), a.opened != nil), retryNow
}

// explainFailure returns the description to report for an error. After a NOTIFICATION a
// router may just close later connections; then the NOTIFICATION is still the reason.
func (s *session) explainFailure(err error, description string, opened bool) string {
	var n *notifiedError
	switch {
	case errors.As(err, &n) && !n.sent:
		s.reason = description
	case !errors.Is(err, errRouterClosed) || opened:
		s.reason = ""
	case s.reason != "":
		return s.reason
	}
	return description
}

func routerName(p *lb.BGPPeer) string {
	if p.Interface != "" && !p.Address.IsValid() {
		return "the router on " + p.Interface
	}
	return netip.AddrPortFrom(p.Address, port(p)).String()
}

func port(p *lb.BGPPeer) uint16 { return cmp.Or(p.Port, bgpPort) }

// connect returns a connection with the router after its OPEN was accepted.
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
		a.setConnection(c)
		s.clearConnection(err)
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

// serve runs the session on a connection whose OPEN was accepted, and returns why it ended.
func (s *session) serve(ctx context.Context, p *lb.BGPPeer, c *connection) error {
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
			if err := recoverPanic(s.log, func() error { return s.watchWaiter(c, w) }); err != nil {
				c.end(err, lastNotification(err))
			}
		})
	}
	err = c.run()
	wg.Wait()
	return err
}

// setState publishes the state of a connection. While attempts fail the state stays Active,
// so that each attempt does not change the status.
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

// nextHops returns the next hops of routes, which depend on the peer and the node's addresses.
func (s *session) nextHops(c *connection) nextHops {
	s.mu.Lock()
	defer s.mu.Unlock()
	return nextHopsOf(&s.peer, c.local, c.fsm.router, s.siblings)
}

// updateSiblings reads the node's addresses, which may be next hops.
func (s *session) updateSiblings(local netip.Addr) {
	siblings, err := siblingAddresses(local)
	if err != nil {
		s.log.Error(err, "reading the node's addresses failed; using the last known ones")
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.siblings = siblings
}

func (s *session) clearConnection(err error) {
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

// needsReset reports whether a changed peer needs a new session. Fields that only the next
// attempt or the routes use do not need one. Watched needs one only when BFD ends, as the
// router then must not rely on it any more.
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

// change replaces the peer's configuration.
func (s *session) change(p lb.BGPPeer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.peer == p {
		return
	}
	reset := needsReset(s.peer, p)
	s.peer = p
	s.routesChanged.Poke() // next hops
	if !reset && s.conn != nil {
		return
	}
	if s.conn != nil {
		s.conn.end(errEnded, s.closingNotification(cease(gobgp.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE), keepsRoutes))
	}
	s.cancelAttempt()
	s.retryNow = true
	s.status.edit(func(st *Session) {
		if st.State == Active {
			st.State, st.LastError = Connect, "" // the failure belongs to the former configuration
		}
	})
	s.wake.Poke()
}

// setDown takes the session down and keeps it down for a reason; an empty reason allows it
// to come up again.
func (s *session) setDown(reason string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.downReason == reason {
		return
	}
	s.downReason = reason
	if reason == "" {
		s.status.edit(func(st *Session) { st.State, st.LastError = Connect, "" })
	} else {
		if s.conn != nil {
			s.conn.end(errEnded, s.closingNotification(cease(ceaseBFDDown), losesRoutes))
		}
		s.cancelAttempt()
	}
	s.wake.Poke()
}

// Whether the router should keep this node's routes after a NOTIFICATION.
const (
	keepsRoutes = true
	losesRoutes = false
)

// closingNotification returns the NOTIFICATION after which the router keeps this node's
// routes, if it can, or removes them in any case. For a router with RFC 4724 a connection
// that ends without a NOTIFICATION is a restart. A router with RFC 8538 keeps the routes
// after a NOTIFICATION too, unless it is a hard reset.
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

// end ends the session permanently.
func (s *session) end(n notification, keep bool) {
	s.mu.Lock()
	if s.conn != nil {
		s.conn.end(errEnded, s.closingNotification(n, keep))
	}
	s.mu.Unlock()
	s.cancel()
}

// withdrawAll withdraws all routes and returns after the UPDATEs were sent.
func (s *session) withdrawAll(ctx context.Context) {
	s.mu.Lock()
	c := s.conn
	s.mu.Unlock()
	if c == nil {
		return
	}
	s.table.setRows(nil, false)
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

// publishRoutes publishes the number of routes that the router has, and why those of a
// family are not advertised.
func (s *session) publishRoutes(note string) {
	v4, v6 := s.table.size()
	s.status.edit(func(st *Session) { st.PrefixesIPv4, st.PrefixesIPv6, st.Note = v4, v6, note })
}
