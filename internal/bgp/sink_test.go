package bgp

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// sink is a router in a few lines, which needs no namespace: it takes sessions,
// and counts the prefixes that it is told.
type sink struct {
	t        testing.TB
	listener *net.TCPListener
	asn      uint32
	hold     uint16
	caps     []gobgp.ParameterCapabilityInterface
	open     message
	silent   atomic.Bool // says nothing after it is established
	closes   atomic.Bool // takes no session any more

	conns     chan *net.TCPConn           // established ones; has room for many
	opens     chan *gobgp.BGPOpen         // ours, as they come; has room for many
	heard     chan notification           // has room for many
	accepted  chan time.Time              // has room for many
	announced chan int                    // prefixes, after each UPDATE; nil: nobody asks
	learn     func(*net.TCPConn, message) // each UPDATE; nil: nobody asks
	count     atomic.Int64                // announced less withdrawn
	updates   atomic.Int64
	ends      atomic.Int64 // End-of-RIB markers
	early     atomic.Int64 // prefixes before the first End-of-RIB
}

func newSink(t testing.TB, edit func(*sink)) *sink {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	s := &sink{
		t: t, listener: l, asn: 64513, hold: 90, conns: make(chan *net.TCPConn, 1000), opens: make(chan *gobgp.BGPOpen, 1000),
		heard: make(chan notification, 1000), accepted: make(chan time.Time, 1000),
		caps: []gobgp.ParameterCapabilityInterface{
			gobgp.NewCapMultiProtocol(gobgp.RF_IPv4_UC), gobgp.NewCapMultiProtocol(gobgp.RF_IPv6_UC), gobgp.NewCapRouteRefresh(),
			gobgp.NewCapGracefulRestart(false, false, 120, nil),
		},
	}
	if edit != nil {
		edit(s)
	}
	caps := append([]gobgp.ParameterCapabilityInterface{gobgp.NewCapFourOctetASNumber(s.asn)}, s.caps...)
	open := gobgp.NewBGPOpenMessage(uint16(s.asn), s.hold, "192.0.2.1", []gobgp.OptionParameterInterface{gobgp.NewOptionParameterCapability(caps)})
	if s.open, err = open.Serialize(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go s.accept()
	return s
}

func (s *sink) accept() {
	for {
		c, err := s.listener.AcceptTCP()
		if err != nil {
			return
		}
		s.accepted <- time.Now()
		if s.closes.Load() {
			c.Close()
			continue
		}
		go s.serve(c)
	}
}

func (s *sink) serve(c *net.TCPConn) {
	defer c.Close()
	_, _ = c.Write(s.open)
	r := bufio.NewReaderSize(c, maxMessage)
	for {
		m, err := readMessage(r)
		if err != nil {
			return
		}
		switch m.kind() {
		case gobgp.BGP_MSG_OPEN:
			if parsed, err := gobgp.ParseBGPMessage(bytes.Clone(m)); err == nil {
				s.opens <- parsed.Body.(*gobgp.BGPOpen)
			}
			_, _ = c.Write(keepalive)
			s.conns <- c
		case gobgp.BGP_MSG_KEEPALIVE:
			if !s.silent.Load() {
				_, _ = c.Write(keepalive)
			}
		case gobgp.BGP_MSG_NOTIFICATION:
			s.heard <- newNotification(m)
		case gobgp.BGP_MSG_UPDATE:
			if s.learn != nil {
				s.learn(c, m)
			}
			s.updates.Add(1) // first, so that who sees what is below sees this too
			a, w := prefixes(m)
			if a == 0 && w == 0 {
				s.ends.Add(1)
			}
			if s.ends.Load() == 0 {
				s.early.Add(int64(a))
			}
			s.count.Add(int64(a - w))
			if s.announced != nil {
				s.announced <- int(s.count.Load())
			}
		}
	}
}

// prefixes returns how many prefixes an UPDATE announces and withdraws, as the codec
// reads it.
func prefixes(m message) (announced, withdrawn int) {
	parsed, err := gobgp.ParseBGPMessage(bytes.Clone(m))
	if err != nil {
		return 0, 0
	}
	u := parsed.Body.(*gobgp.BGPUpdate)
	announced, withdrawn = len(u.NLRI), len(u.WithdrawnRoutes)
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *gobgp.PathAttributeMpReachNLRI:
			announced += len(a.Value)
		case *gobgp.PathAttributeMpUnreachNLRI:
			withdrawn += len(a.Value)
		}
	}
	return announced, withdrawn
}

// capabilities calls each with every capability of an OPEN (RFC 5492).
func capabilities(open *gobgp.BGPOpen, each func(gobgp.ParameterCapabilityInterface)) {
	for _, p := range open.OptParams {
		if list, ok := p.(*gobgp.OptionParameterCapability); ok {
			for _, c := range list.Capability {
				each(c)
			}
		}
	}
}

// peer returns a peer that is this router. As it is on this node, its next hops must
// be given.
func (s *sink) peer(edit func(*lb.BGPPeer)) lb.BGPPeer {
	return peer(func(p *lb.BGPPeer) {
		p.Address, p.Port = netip.MustParseAddr("127.0.0.1"), uint16(s.listener.Addr().(*net.TCPAddr).Port)
		p.NextHop4 = node4
		if edit != nil {
			edit(p)
		}
	})
}

// many returns rows for this many addresses.
func many(n int) []lb.BGPRoute {
	rows := make([]lb.BGPRoute, n)
	for i := range rows {
		rows[i] = route(fmt.Sprintf("10.%d.%d.%d/32", i>>16, i>>8&255, i&255), nil)
	}
	return rows
}

func receive[T any](t testing.TB, what string, c <-chan T) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(10 * time.Second):
		t.Fatalf("waited 10 s for %s", what)
		panic("not reached")
	}
}

// The first attempt is made at once, and the next ones a connectTime apart.
func TestConnectTimes(t *testing.T) {
	s := newSink(t, func(s *sink) { s.asn = 64999 }) // not who is expected
	e := newEngine(t)
	start := time.Now()
	e.Apply([]lb.BGPPeer{s.peer(nil)}, nil)
	first := receive(t, "the first attempt", s.accepted)
	if d := first.Sub(start); d > 2*time.Second { // GoBGP alone waits for five or more
		t.Errorf("the first attempt was made after %v", d)
	}
	second := receive(t, "the second attempt", s.accepted)
	if d := second.Sub(first); d < 900*time.Millisecond || d > 4*time.Second {
		t.Errorf("the second attempt was made %v after the first, connectTime is 1 s", d)
	}
	if n := receive(t, "our opinion", s.heard); n.name() != "OPEN message error, bad peer AS" {
		t.Errorf("we said %q", n.name())
	}
	// A session that lived is taken up again at once, and so is one whose peer was changed.
	e.Apply([]lb.BGPPeer{s.peer(func(p *lb.BGPPeer) { p.PeerASN, p.ConnectTime = 64999, time.Hour })}, nil)
	established(t, e, "tor")
}

// A router that falls silent is given up on after the hold time.
func TestHoldTimer(t *testing.T) {
	s := newSink(t, func(s *sink) { s.hold = 3 })
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{s.peer(func(p *lb.BGPPeer) { p.ConnectTime = time.Hour })}, nil)
	established(t, e, "tor")
	s.silent.Store(true)
	if n := receive(t, "our farewell", s.heard); n.name() != "hold timer expired" {
		t.Errorf("we said %q", n.name())
	}
	eventually(t, "words", func() bool {
		return strings.HasPrefix(sessionOf(e, "tor").LastError, "hold timer expired: no message from the router")
	})
}

// A router that ended a session for a reason, and then accepts none without a NOTIFICATION, is
// still quoted, until something else goes wrong.
func TestReasonIsKept(t *testing.T) {
	s := newSink(t, nil)
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{s.peer(nil)}, nil)
	established(t, e, "tor")
	receive(t, "the first attempt", s.accepted)
	s.closes.Store(true)
	if _, err := receive(t, "the session", s.conns).Write(notification{code: gobgp.BGP_ERROR_CEASE, subcode: 1}.message()); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		receive(t, "another attempt", s.accepted)
	}
	if got := sessionOf(e, "tor").LastError; !strings.Contains(got, "maximum number of prefixes reached: this node advertises more routes") {
		t.Errorf("it says %q", got)
	}
	s.listener.Close()
	eventually(t, "the next reason", func() bool { return strings.Contains(sessionOf(e, "tor").LastError, "connection refused") })
}

// The first End-of-RIB comes after all routes, and OPEN tells of the restart once.
func TestEndOfRIBComesLast(t *testing.T) {
	s := newSink(t, nil)
	e := newEngine(t)
	rows := many(2000)
	for i := range 100 {
		rows = append(rows, route(fmt.Sprintf("2001:db8:2::%x/128", i), nil))
	}
	p := s.peer(func(p *lb.BGPPeer) { p.NextHop6, p.Watched = node6, true })
	e.Apply([]lb.BGPPeer{p}, rows)
	conn := receive(t, "the session", s.conns)
	eventually(t, "both ends", func() bool { return s.ends.Load() == 2 })
	// Families are independent: the first to end may be either.
	if n := s.early.Load(); n != 2000 && n != 100 && n != 2100 {
		t.Errorf("%d prefixes came before the first End-of-RIB", n)
	}
	if n := s.count.Load(); n != 2100 {
		t.Errorf("%d prefixes came", n)
	}
	for restarted := range 2 {
		open := receive(t, "our OPEN", s.opens)
		if !open.ID.Equal(node4.AsSlice()) || open.HoldTime != 90 {
			t.Errorf("OPEN has router ID %v, hold time %d", open.ID, open.HoldTime)
		}
		capabilities(open, func(c gobgp.ParameterCapabilityInterface) {
			gr, ok := c.(*gobgp.CapGracefulRestart)
			if !ok {
				return
			}
			if (gr.Flags&restartState != 0) != (restarted == 0) || gr.Flags&restartNotification == 0 || gr.Time != 120 || len(gr.Tuples) != 2 {
				t.Errorf("OPEN %d has graceful restart %+v", restarted, gr)
			}
			for _, tuple := range gr.Tuples {
				if tuple.Flags&forwardingPreserved == 0 {
					t.Errorf("forwarding is not preserved: %+v", tuple)
				}
			}
		})
		conn.Close() // we come again, and have not restarted
	}
}

// What each goodbye is on the wire, by what the router understands.
func TestGoodbyes(t *testing.T) {
	none := []gobgp.ParameterCapabilityInterface{gobgp.NewCapMultiProtocol(gobgp.RF_IPv4_UC)}
	restart := append([]gobgp.ParameterCapabilityInterface{gobgp.NewCapGracefulRestart(false, false, 120, nil)}, none...)
	notified := append([]gobgp.ParameterCapabilityInterface{gobgp.NewCapGracefulRestart(false, true, 120, nil)}, none...)
	routers := []struct {
		name    string
		caps    []gobgp.ParameterCapabilityInterface
		watched bool // by BFD
	}{{"plain", none, true}, {"RFC 4724", restart, true}, {"RFC 8538", notified, true}, {"RFC 8538, without BFD", notified, false}}
	goodbyes := []struct {
		name string
		do   func(*Engine, lb.BGPPeer)
		want [3]string // by router, the last is as the one of RFC 4724; empty: the connection is closed without a NOTIFICATION
	}{
		{
			name: "stop for an upgrade", do: func(e *Engine, _ lb.BGPPeer) { e.Close() },
			want: [3]string{"6/2", "", "6/2"},
		},
		{
			name: "another hold time", do: func(e *Engine, p lb.BGPPeer) {
				p.HoldTime = 30 * time.Second
				e.Apply([]lb.BGPPeer{p}, nil)
			},
			want: [3]string{"6/6", "", "6/6"},
		},
		{
			name: "peer deleted", do: func(e *Engine, _ lb.BGPPeer) { e.Apply(nil, nil) },
			want: [3]string{"6/3", "6/3", "6/9 6/3"},
		},
		{
			name: "BFD", do: func(e *Engine, _ lb.BGPPeer) { e.Lost("tor", "BFD: down") },
			want: [3]string{"6/10", "6/10", "6/9 6/10"},
		},
		{
			name: "drain", do: func(e *Engine, _ lb.BGPPeer) { e.Drain(t.Context(), 0, "bye") },
			want: [3]string{"6/2 bye", "6/2 bye", "6/9 6/2 bye"},
		},
	}
	for _, g := range goodbyes {
		for i, r := range routers {
			t.Run(g.name+"/"+r.name, func(t *testing.T) {
				s := newSink(t, func(s *sink) { s.caps = r.caps })
				e := newEngine(t)
				p := s.peer(func(p *lb.BGPPeer) { p.Watched = r.watched })
				e.Apply([]lb.BGPPeer{p}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
				established(t, e, "tor")
				conn := receive(t, "the session", s.conns)
				g.do(e, p)
				eventually(t, "the connection to be closed", func() bool { return gone(conn) })
				got := ""
				select {
				case n := <-s.heard:
					got = fmt.Sprintf("%d/%d", n.code, n.subcode)
					if inner := n.unwrap(); inner.subcode != n.subcode {
						got += fmt.Sprintf(" %d/%d", inner.code, inner.subcode)
						n = inner
					}
					if text := n.text(); text == "bye" {
						got += " " + text
					}
				default:
				}
				want := append(g.want[:], g.want[1])[i]
				if got != want {
					t.Errorf("the router hears %q, want %q", got, want)
				}
			})
		}
	}
}

// gone reports whether the sink has closed its end, which it does after we have.
func gone(c *net.TCPConn) bool {
	_, err := c.Write(nil)
	return err != nil
}

// A change of one peer is nothing to the others.
func TestPeersAreApart(t *testing.T) {
	one, two := newSink(t, nil), newSink(t, nil)
	e := newEngine(t)
	first := one.peer(nil)
	second := two.peer(func(p *lb.BGPPeer) { p.Name = "second" })
	to := func(prefix string, peers ...string) lb.BGPRoute {
		return route(prefix, func(r *lb.BGPRoute) { r.Peers = peers })
	}
	rows := []lb.BGPRoute{to("198.51.100.1/32", "tor", "second"), to("198.51.100.2/32", "second")}
	e.Apply([]lb.BGPPeer{first, second}, rows)
	established(t, e, "tor")
	established(t, e, "second")
	eventually(t, "the routes", func() bool { return one.count.Load() == 1 && two.count.Load() == 2 && two.ends.Load() == 2 })
	before := two.updates.Load()
	for _, edit := range []func(){
		func() { first.Password = "wrong" }, func() { first.Password, first.PeerASN = "", 64999 }, func() { first.PeerASN, first.LocalASN = 64513, 64777 },
	} {
		edit()
		e.Apply([]lb.BGPPeer{first, second}, rows)
	}
	eventually(t, "the first peer to come back", func() bool {
		s := sessionOf(e, "tor")
		return s.State == Established && s.TimesEstablished == 2
	})
	e.Apply([]lb.BGPPeer{second}, rows)
	if s := sessionOf(e, "second"); s.State != Established || s.TimesLost != 0 || two.updates.Load() != before {
		t.Errorf("the second peer's session is %+v", s)
	}
}

// Who is said to be lost before he is known is not tried, and then is at once.
func TestLostBeforeKnown(t *testing.T) {
	s := newSink(t, nil)
	e := newEngine(t)
	e.Lost("tor", "BFD: the router is in AdminDown")
	e.Apply([]lb.BGPPeer{s.peer(nil)}, nil)
	eventually(t, "the reason", func() bool {
		s := sessionOf(e, "tor")
		return s.State == Idle && s.LastError == "BFD: the router is in AdminDown"
	})
	e.Restored("tor")
	established(t, e, "tor")
}

// BenchmarkLatency is from Apply to the UPDATE at the router, with 1,000 other
// routes in place.
func BenchmarkLatency(b *testing.B) {
	s := newSink(b, func(s *sink) { s.announced = make(chan int, 1<<20) })
	e := newEngine(b)
	rows := many(1000)
	one := slices.Concat(rows, []lb.BGPRoute{route("198.51.100.1/32", nil)})
	peers := []lb.BGPPeer{s.peer(nil)}
	e.Apply(peers, rows)
	for receive(b, "the routes", s.announced) != len(rows) {
	}
	for range 2 {
		receive(b, "End-of-RIB", s.announced)
	}
	var worst time.Duration
	b.ResetTimer()
	for i := range b.N {
		start := time.Now()
		if i%2 == 0 {
			e.Apply(peers, one)
		} else {
			e.Apply(peers, rows)
		}
		receive(b, "the UPDATE", s.announced)
		worst = max(worst, time.Since(start))
	}
	b.ReportMetric(float64(worst.Microseconds()), "worst-µs")
}

// BenchmarkFreshPeer is how long a router that has just come takes to have
// 10,000 routes, and what they cost in memory.
func BenchmarkFreshPeer(b *testing.B) {
	const routes = 10_000
	six := many(routes)
	for i := range six {
		six[i].Prefix = prefix(fmt.Sprintf("2001:db8:1::%x/128", i))
	}
	for name, rows := range map[string][]lb.BGPRoute{"IPv4": many(routes), "IPv6": six} {
		b.Run(name, func(b *testing.B) {
			for b.Loop() {
				before := heap()
				s := newSink(b, nil)
				e := newEngine(b)
				start := time.Now()
				e.Apply([]lb.BGPPeer{s.peer(func(p *lb.BGPPeer) { p.NextHop6 = node6 })}, rows)
				within(b, 30*time.Second, "the routes", func() bool { return s.ends.Load() == 2 && s.count.Load() == routes })
				b.ReportMetric(float64(time.Since(start).Milliseconds()), "ms")
				b.ReportMetric(float64(int64(heap())-int64(before))/(1<<20), "MiB")
				b.ReportMetric(float64(s.updates.Load()), "updates")
				e.Close()
			}
		})
	}
}

// BenchmarkEqualRows is what applying 10,000 rows costs that are in force already.
func BenchmarkEqualRows(b *testing.B) {
	s := newSink(b, nil)
	e := newEngine(b)
	rows := many(10_000)
	peers := []lb.BGPPeer{s.peer(nil)}
	e.Apply(peers, rows)
	eventually(b, "the routes", func() bool { return s.ends.Load() == 2 })
	before := s.updates.Load()
	for b.Loop() {
		e.Apply(peers, rows)
	}
	if n := s.updates.Load(); n != before {
		b.Errorf("%d UPDATEs for equal rows", n-before)
	}
}
