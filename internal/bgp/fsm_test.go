package bgp

import (
	"bytes"
	"errors"
	"net"
	"testing"
	"testing/synctest"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Each message in each state: what follows, or the NOTIFICATION (RFC 4271, 8.2.2; RFC
// 6608).
func TestFSM(t *testing.T) {
	bye := shutdown("bye").message()
	messages := []struct {
		name string
		m    message
	}{
		{"OPEN", rawOpen()}, {"UPDATE", update2(nil, nil, nil)}, {"NOTIFICATION", bye}, {"KEEPALIVE", keepalive}, {"ROUTE-REFRESH", raw(5, 0, 2, 0, 1)},
	}
	type outcome struct {
		to            State
		action        action
		code, subcode uint8
		sent          bool
	}
	received := outcome{code: 6, subcode: 2}
	tests := map[State][]outcome{
		OpenSent: {
			{to: OpenConfirm, action: confirmOpen}, {code: 5, subcode: 1, sent: true}, received, {code: 5, subcode: 1, sent: true}, {code: 5, subcode: 1, sent: true},
		},
		OpenConfirm: {
			{code: 5, subcode: 2, sent: true}, {code: 5, subcode: 2, sent: true}, received, {to: Established, action: advertiseAll}, {code: 5, subcode: 2, sent: true},
		},
		Established: {
			{code: 5, subcode: 3, sent: true}, {to: Established, action: countUpdate}, received, {to: Established}, {to: Established, action: advertiseAgain},
		},
	}
	for state, outcomes := range tests {
		for i, want := range outcomes {
			t.Run(state.String()+", "+messages[i].name, func(t *testing.T) {
				f := newFSM(peer(nil))
				f.state = state
				a, err := f.receive(messages[i].m)
				got := outcome{to: f.state, action: a}
				var n *notifiedError
				if errors.As(err, &n) {
					got = outcome{code: n.code, subcode: n.subcode, sent: n.sent}
				} else if err != nil {
					t.Fatal(err)
				}
				if got != want {
					t.Errorf("got %+v, want %+v", got, want)
				}
			})
		}
	}
}

func TestCollide(t *testing.T) {
	for _, tt := range []struct {
		old     State
		restart bool
		want    collision
	}{{OpenConfirm, false, keepNew}, {OpenConfirm, true, keepNew}, {Established, false, keepOld}, {Established, true, keepNew}} {
		if got := collide(tt.old, tt.restart); got != tt.want {
			t.Errorf("%v, restart %v: %v", tt.old, tt.restart, got)
		}
	}
}

// Times that are agreed on, by what each side wants (RFC 4271, 4.2 and 4.4).
func TestTimersOfFSM(t *testing.T) {
	const s = time.Second
	for _, tt := range []struct {
		name                         string
		ours, keepalive, theirs      time.Duration
		hold, interval, confirm, out time.Duration
	}{
		{"equal", 90 * s, 0, 90 * s, 90 * s, 30 * s, 20 * s, 180 * s},
		{"the router's is shorter", 90 * s, 0, 9 * s, 9 * s, 3 * s, 9 * s, 18 * s},
		{"ours is shorter", 3 * s, 0, 180 * s, 3 * s, s, 3 * s, 6 * s},
		{"a keepalive time", 90 * s, 10 * s, 90 * s, 90 * s, 10 * s, 20 * s, 180 * s},
		{"a keepalive time that is too long for the router", 90 * s, 30 * s, 9 * s, 9 * s, 3 * s, 9 * s, 18 * s},
		{"we want none", 0, 10 * s, 90 * s, 0, 0, 20 * s, sendHoldTime},
		{"the router wants none", 90 * s, 0, 0, 0, 0, 20 * s, sendHoldTime},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := newFSM(peer(func(p *lb.BGPPeer) { p.HoldTime, p.KeepaliveTime = tt.ours, tt.keepalive }))
			f.router.hold, f.state = tt.theirs, OpenConfirm
			if f.holdTime() != tt.hold || f.keepaliveTimer() != tt.interval || f.holdTimer() != tt.confirm || f.sendHoldTimer() != tt.out {
				t.Errorf("hold time %v, keepalive %v, OpenConfirm %v, send hold timer %v", f.holdTime(), f.keepaliveTimer(), f.holdTimer(), f.sendHoldTimer())
			}
			if f.state = Established; f.holdTimer() != tt.hold {
				t.Errorf("hold timer %v", f.holdTimer())
			}
		})
	}
}

// pipe is a session over a connection in memory, with a router that a test plays.
func pipe(t *testing.T, edit func(*lb.BGPPeer)) (s *session, c *connection, router *rawConn) {
	t.Helper()
	here, there := net.Pipe()
	p := peer(edit)
	s = newSession(p, "", nil, func() {}, testLog(t))
	s.table.reset()
	return s, newConnection(p, here, &s.counters, s.log), newRawConn(t, there, onAccept)
}

// Time passes with a router that is silent in a state: after how much it gets which
// NOTIFICATION. The clock is the test's.
func TestSilentRouter(t *testing.T) {
	tests := []struct {
		name string
		open []byte // none: it says nothing at all
		up   bool
		want time.Duration
		err  error
	}{
		{"no OPEN", nil, false, openTimeout, errNoOpen},
		{"no KEEPALIVE", rawOpen(), false, openTimeout, errNoKeepalive},
		{"no KEEPALIVE, short hold time", with(rawOpen(), 23, 3), false, 3 * time.Second, errNoKeepalive},
		{"Established", rawOpen(), true, 90 * time.Second, nil},
		{"Established, short hold time", with(rawOpen(), 23, 3), true, 3 * time.Second, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s, c, router := pipe(t, nil)
				_ = router.conn.SetDeadline(time.Time{})
				ended := serve(s, c)
				router.await(t, gobgp.BGP_MSG_OPEN)
				if tt.open != nil {
					router.write(t, tt.open)
					router.await(t, gobgp.BGP_MSG_KEEPALIVE)
				}
				if tt.up {
					router.write(t, keepalive)
				}
				start := time.Now()
				if n := newNotification(router.await(t, gobgp.BGP_MSG_NOTIFICATION)); n.name() != "hold timer expired" {
					t.Errorf("the router gets %q", n.name())
				}
				if d := time.Since(start); d != tt.want {
					t.Errorf("after %v, want %v", d, tt.want)
				}
				if err := <-ended; tt.err != nil && !errors.Is(err, tt.err) {
					t.Errorf("the cause is %v, want %v", err, tt.err)
				}
				router.conn.Close()
			})
		})
	}
}

// KEEPALIVEs go out for as long as the router sends its own.
func TestKeepalives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, router := pipe(t, func(p *lb.BGPPeer) { p.HoldTime = 9 * time.Second })
		_ = router.conn.SetDeadline(time.Time{})
		go func() {
			if c.exchangeOpen(false) == nil {
				go s.runAdvertise(c)
				_ = c.run()
			}
		}()
		router.await(t, gobgp.BGP_MSG_OPEN)
		router.write(t, rawOpen())
		start := time.Now()
		for i := range 100 {
			router.await(t, gobgp.BGP_MSG_KEEPALIVE)
			if d := time.Since(start); d != time.Duration(i)*3*time.Second {
				t.Fatalf("KEEPALIVE %d after %v", i, d)
			}
			router.write(t, keepalive)
		}
		c.end(errEnded, nil)
		router.conn.Close()
	})
}

// serve serves a connection, and returns where its end is reported.
func serve(s *session, c *connection) <-chan error {
	ended := make(chan error, 1)
	go func() {
		err := c.exchangeOpen(false)
		if err == nil {
			go s.runAdvertise(c)
			err = c.run()
		}
		ended <- err
	}()
	return ended
}

// A router that takes the session and reads nothing costs its own session only, and
// that after twice the hold time (RFC 9687).
func TestStuckRouter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, c, router := pipe(t, func(p *lb.BGPPeer) { p.HoldTime = 9 * time.Second })
		_ = router.conn.SetDeadline(time.Time{})
		ended := serve(s, c)
		router.await(t, gobgp.BGP_MSG_OPEN)
		router.write(t, rawOpen())
		router.await(t, gobgp.BGP_MSG_KEEPALIVE)
		stop := make(chan struct{})
		go func() { // it is well but for reading
			defer close(stop)
			tick := time.NewTicker(3 * time.Second)
			defer tick.Stop()
			for range tick.C {
				if _, err := router.conn.Write(keepalive); err != nil {
					return
				}
			}
		}()
		start := time.Now()
		if err := <-ended; !errors.Is(err, errStuck) {
			t.Errorf("the cause is %v", err)
		}
		// The first KEEPALIVE that it does not read is sent after 3 s.
		if d := time.Since(start); d < 18*time.Second || d > 22*time.Second {
			t.Errorf("it ended after %v", d)
		}
		<-stop
	})
}

// A panic in the work of a session ends that session, and the router gets a NOTIFICATION.
func TestPanicIsContained(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, c, router := pipe(t, nil)
		_ = router.conn.SetDeadline(time.Time{})
		c.reader = nil // which reading from it panics on
		ended := make(chan error, 1)
		go func() { ended <- c.exchangeOpen(false) }()
		router.await(t, gobgp.BGP_MSG_OPEN)
		if n := newNotification(router.await(t, gobgp.BGP_MSG_NOTIFICATION)); n.name() != "cease, out of resources" {
			t.Errorf("the router gets %q", n.name())
		}
		var p *panicError
		if err := <-ended; !errors.As(err, &p) || !bytes.Contains(p.stack, []byte("readMessage")) {
			t.Errorf("the cause is %v", err)
		}
	})
}

// This node's OPEN as the codec and as this package read it.
func TestOwnOpen(t *testing.T) {
	p := peer(func(p *lb.BGPPeer) { p.LocalASN, p.Watched = 4200000002, true })
	m, err := newOpen(&p, true)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := gobgp.ParseBGPMessage(m); err != nil {
		t.Error(err)
	}
	got, err := parseOpen(m)
	want := openInfo{
		asn: 4200000002, routerID: node4, hold: 90 * time.Second, ipv4: true, ipv6: true, fourOctetASN: true, extendedNextHop: true, restart: true, restartNotified: true,
	}
	if err != nil || got != want {
		t.Errorf("got %+v, %v; want %+v", got, err, want)
	}
	plain := peer(func(p *lb.BGPPeer) { p.GracefulRestart = false })
	if m, err = newOpen(&plain, true); err != nil {
		t.Fatal(err)
	}
	if got, _ = parseOpen(m); got.restart || got.asn != 64512 {
		t.Errorf("got %+v", got)
	}
	if old, err := parseOpen(rawOpen()); err != nil || !old.ipv4 || old.ipv6 || old.fourOctetASN || old.asn != 64513 {
		t.Errorf("an OPEN without capabilities: %+v, %v", old, err)
	}
}
