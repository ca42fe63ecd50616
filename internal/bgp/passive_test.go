package bgp

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// passive is an Engine with one passive peer, whose router is any test that connects
// from 127.0.0.1.
type passive struct {
	*Engine
	peer lb.BGPPeer
	port uint16
}

func newPassive(t testing.TB, edit func(*lb.BGPPeer)) *passive {
	t.Helper()
	free, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	e := &passive{port: addrPort(free.Addr()).Port()}
	free.Close()
	e.Engine = New(Config{Log: testLog(t), ListenPort: e.port})
	t.Cleanup(e.Close)
	e.peer = peer(func(p *lb.BGPPeer) {
		p.Address, p.Passive, p.NextHop4 = netip.MustParseAddr("127.0.0.1"), true, node4
		if edit != nil {
			edit(p)
		}
	})
	if refused := e.Apply([]lb.BGPPeer{e.peer}, []lb.BGPRoute{route("198.51.100.1/32", nil)}); len(refused) != 0 {
		t.Fatal(refused)
	}
	eventually(t, "the speaker to listen", func() bool { return sessionOf(e.Engine, "tor").State == Active })
	return e
}

// connect connects to the speaker as a router does: from this address, with this TTL,
// and with a password.
func (e *passive) connect(t testing.TB, from string, ttl int, password string) (net.Conn, error) {
	t.Helper()
	d := net.Dialer{Timeout: 500 * time.Millisecond, LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}}
	d.SetMultipathTCP(false)
	d.Control = func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error {
			if password != "" {
				if err := setPassword(fd, netip.MustParsePrefix("127.0.0.1/32"), lb.Secret(password)); err != nil {
					return err
				}
			}
			return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_TTL, ttl)
		})
	}
	conn, err := d.Dial("tcp4", fmt.Sprintf("127.0.0.1:%d", e.port))
	if err == nil {
		t.Cleanup(func() { conn.Close() })
	}
	return conn, err
}

// session has a session as the router.
func (e *passive) session(t testing.TB, ttl int, password string) *rawConn {
	t.Helper()
	conn, err := e.connect(t, "127.0.0.1", ttl, password)
	if err != nil {
		t.Fatal(err)
	}
	c := newRawConn(t, conn, inSession)
	c.await(t, gobgp.BGP_MSG_UPDATE)
	return c
}

// isAlive checks that the session of a connection is still up: the router still gets
// what it asks for.
func (e *passive) isAlive(t testing.TB, c *rawConn) {
	t.Helper()
	c.write(t, raw(gobgp.BGP_MSG_ROUTE_REFRESH, 0, 1, 0, 1))
	c.await(t, gobgp.BGP_MSG_UPDATE)
	if s := sessionOf(e.Engine, "tor"); s.State != Established || s.TimesLost != 0 {
		t.Errorf("the session is %+v", s)
	}
}

// What connects to a passive peer's address does nothing to the session that is there
// before it has proved to be the router: by TTL, by password, and by an OPEN.
func TestUnprovenConnection(t *testing.T) {
	closed := func(t *testing.T, conn net.Conn) {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, maxMessage)
		for {
			if _, err := conn.Read(buf); err != nil {
				if errors.Is(err, os.ErrDeadlineExceeded) {
					t.Error("the connection stays open")
				}
				return
			}
		}
	}
	garbage := func(t *testing.T, e *passive, ttl int, password, send string) {
		t.Helper()
		conn, err := e.connect(t, "127.0.0.1", ttl, password)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write([]byte(send)); err != nil {
			t.Fatal(err)
		}
		closed(t, conn)
	}
	tests := []struct {
		name     string
		edit     func(*lb.BGPPeer)
		ttl      int
		password string
		attack   func(*testing.T, *passive)
	}{
		{
			name: "a bare connection with TTL 64", edit: func(p *lb.BGPPeer) { p.TTLSecurity = true }, ttl: 255,
			attack: func(t *testing.T, e *passive) {
				if conn, err := e.connect(t, "127.0.0.1", 64, ""); err == nil {
					closed(t, conn)
				}
			},
		},
		{
			name: "a bare connection without the password", edit: func(p *lb.BGPPeer) { p.Password = "secret" }, ttl: 64, password: "secret",
			attack: func(t *testing.T, e *passive) {
				if conn, err := e.connect(t, "127.0.0.1", 64, ""); err == nil {
					closed(t, conn)
				}
			},
		},
		{
			name: "right TTL and garbage", edit: func(p *lb.BGPPeer) { p.TTLSecurity = true }, ttl: 255,
			attack: func(t *testing.T, e *passive) { garbage(t, e, 255, "", "GET / HTTP/1.1\r\nHost: router\r\n\r\n") },
		},
		{
			name: "right password and a message of type 6", edit: func(p *lb.BGPPeer) { p.Password = "secret" }, ttl: 64, password: "secret",
			attack: func(t *testing.T, e *passive) { garbage(t, e, 64, "secret", string(raw(6))) },
		},
		{
			name: "an OPEN of another AS", ttl: 64,
			attack: func(t *testing.T, e *passive) { garbage(t, e, 64, "", string(with(rawOpen(), 21, 99))) },
		},
		{
			name: "an address that no peer has", ttl: 64,
			attack: func(t *testing.T, e *passive) {
				if conn, err := e.connect(t, "127.0.0.2", 64, ""); err == nil {
					closed(t, conn)
				}
			},
		},
		{
			name: "a flood of bare connections", ttl: 64,
			attack: func(t *testing.T, e *passive) {
				var open []net.Conn
				for range 500 {
					conn, err := e.connect(t, "127.0.0.1", 64, "")
					if err != nil {
						t.Fatal(err)
					}
					open = append(open, conn)
				}
				for _, conn := range open[:len(open)-maxCandidatesOfPeer] {
					closed(t, conn)
				}
			},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e := newPassive(t, tt.edit)
			c := e.session(t, tt.ttl, tt.password)
			tt.attack(t, e)
			e.isAlive(t, c)
		})
	}
}

// The router gets its session among a flood of connections from its own address that
// prove nothing.
func TestRouterAmongFlood(t *testing.T) {
	e := newPassive(t, nil)
	for range 3 * maxCandidatesOfPeer {
		if _, err := e.connect(t, "127.0.0.1", 64, ""); err != nil {
			t.Fatal(err)
		}
	}
	c := e.session(t, 64, "")
	for range 3 * maxCandidatesOfPeer {
		if _, err := e.connect(t, "127.0.0.1", 64, ""); err != nil {
			t.Fatal(err)
		}
	}
	e.isAlive(t, c)
}

// A second connection of the router itself: it has restarted (RFC 4724), or must wait
// (RFC 4271, 6.8).
func TestSecondConnection(t *testing.T) {
	restart := []byte{2, 4, 64, 2, 0, 120}
	connect := func(t *testing.T, e *passive, params []byte) *rawConn {
		t.Helper()
		conn, err := e.connect(t, "127.0.0.1", 64, "")
		if err != nil {
			t.Fatal(err)
		}
		c := newRawConn(t, conn, onAccept)
		c.await(t, gobgp.BGP_MSG_OPEN)
		c.write(t, rawOpen(params...))
		return c
	}
	t.Run("graceful restart", func(t *testing.T) {
		e := newPassive(t, nil)
		first := connect(t, e, restart)
		first.write(t, raw(gobgp.BGP_MSG_KEEPALIVE))
		established(t, e.Engine, "tor")
		second := connect(t, e, restart)
		second.await(t, gobgp.BGP_MSG_KEEPALIVE)
		second.write(t, raw(gobgp.BGP_MSG_KEEPALIVE))
		second.await(t, gobgp.BGP_MSG_UPDATE)
		eventually(t, "the second session", func() bool { s := sessionOf(e.Engine, "tor"); return s.State == Established && s.TimesEstablished == 2 })
		for { // the first is closed without a NOTIFICATION
			m, err := readMessage(first.r)
			if err != nil {
				break
			}
			if m.kind() == gobgp.BGP_MSG_NOTIFICATION {
				t.Errorf("the router gets %q on the old connection", newNotification(m).name())
			}
		}
	})
	t.Run("no graceful restart", func(t *testing.T) {
		e := newPassive(t, nil)
		first := connect(t, e, nil)
		first.write(t, raw(gobgp.BGP_MSG_KEEPALIVE))
		established(t, e.Engine, "tor")
		second := connect(t, e, nil)
		if n := newNotification(second.await(t, gobgp.BGP_MSG_NOTIFICATION)); n.name() != "cease, connection collision resolution" {
			t.Errorf("the router gets %q", n.name())
		}
		e.isAlive(t, first)
	})
	t.Run("before the session is established", func(t *testing.T) {
		e := newPassive(t, nil)
		first := connect(t, e, nil)
		first.await(t, gobgp.BGP_MSG_KEEPALIVE)
		second := connect(t, e, nil)
		if n := newNotification(first.await(t, gobgp.BGP_MSG_NOTIFICATION)); n.name() != "cease, connection collision resolution" {
			t.Errorf("the router gets %q", n.name())
		}
		second.await(t, gobgp.BGP_MSG_KEEPALIVE)
		second.write(t, raw(gobgp.BGP_MSG_KEEPALIVE))
		second.await(t, gobgp.BGP_MSG_UPDATE)
		established(t, e.Engine, "tor")
	})
}

// A router that ends a session and connects again at once has its next one: what is just
// ending is in no collision with it. (Found by FuzzSession.)
func TestNextConnectionAtOnce(t *testing.T) {
	e := newPassive(t, nil)
	for range 200 {
		c := e.session(t, 64, "")
		_ = c.conn.(*net.TCPConn).SetLinger(0)
		c.write(t, shutdown("bye").message())
		for {
			if _, err := readMessage(c.r); err != nil {
				break
			}
		}
		c.conn.Close()
	}
}

// Where peers with and without TTL security share an address, the kernel cannot refuse
// for one of them: the SYN tells, and a person learns of it.
func TestTTLSecurityBesideAPeerWithout(t *testing.T) {
	e := newPassive(t, func(p *lb.BGPPeer) { p.TTLSecurity = true })
	p := e.peer
	other := peer(func(p *lb.BGPPeer) {
		p.Name, p.Address, p.Passive, p.NextHop4, p.Source = "other", netip.MustParseAddr("127.0.0.2"), true, node4, netip.MustParseAddr("127.0.0.1")
	})
	p.Source = netip.MustParseAddr("127.0.0.1")
	e.Apply([]lb.BGPPeer{p, other}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
	eventually(t, "the speaker to listen", func() bool { return sessionOf(e.Engine, "other").State == Active })
	conn, err := e.connect(t, "127.0.0.1", 64, "")
	if err != nil {
		t.Fatal(err)
	}
	// All that a session takes, before the speaker has looked at anything.
	_, _ = conn.Write(append(rawOpen(), raw(gobgp.BGP_MSG_KEEPALIVE)...))
	eventually(t, "the reason", func() bool {
		return strings.Contains(sessionOf(e.Engine, "tor").LastError, "127.0.0.1 connects with TTL 64, and ttlSecurity accepts only 255")
	})
	if n := sessionOf(e.Engine, "tor").TimesEstablished; n != 0 {
		t.Errorf("the session was established %d times", n)
	}
	e.session(t, 255, "")
	conn, err = e.connect(t, "127.0.0.2", 64, "")
	if err != nil {
		t.Fatal(err)
	}
	newRawConn(t, conn, inSession)
	established(t, e.Engine, "other")
}

// A peer that is this node itself gets no route that nothing can use.
func TestOwnAddress(t *testing.T) {
	r := newRawRouter(t)
	for _, passively := range []bool{false, true} {
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{r.peer(func(p *lb.BGPPeer) { p.NextHop4, p.Passive = netip.Addr{}, passively })}, nil)
		eventually(t, "the reason", func() bool {
			return strings.Contains(sessionOf(e, "tor").LastError, "peerAddress 127.0.0.1 is this node itself")
		})
	}
}

func TestOwnAddressOfAnInterface(t *testing.T) {
	newRouter(t)
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.Address = node6 })}, nil)
	eventually(t, "the reason", func() bool {
		return strings.Contains(sessionOf(e, "tor").LastError, "peerAddress 2001:db8::11 is this node itself")
	})
}
