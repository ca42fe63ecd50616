package bgp

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// frrConfig returns bgpd's configuration with a neighbour, who is this node, and
// what else it says about it.
func frrConfig(asn int, neighbour, remoteAS string, more ...string) string {
	lines := []string{
		fmt.Sprintf("router bgp %d", asn), " bgp router-id 192.0.2.1", " no bgp ebgp-requires-policy", " no bgp default ipv4-unicast", " bgp graceful-restart",
		fmt.Sprintf(" neighbor %s remote-as %s", neighbour, remoteAS),
	}
	for _, l := range more {
		lines = append(lines, " "+strings.ReplaceAll(l, "NODE", neighbour))
	}
	for _, family := range []string{"ipv4", "ipv6"} {
		lines = append(lines, " address-family "+family+" unicast", "  neighbor "+neighbour+" activate", " exit-address-family")
	}
	return strings.Join(lines, "\n") + "\n"
}

// frrUnnumbered is bgpd's configuration of a neighbour at the other end of eth0.
func frrUnnumbered(more ...string) string {
	return strings.Replace(frrConfig(64513, "eth0", "64512", more...), "neighbor eth0 remote-as", "neighbor eth0 interface remote-as", 1)
}

// frrPath is a path as FRR has it.
type frrPath struct {
	Path        string
	LocalPref   uint32
	MED         uint32
	Communities string
	Large       string
	NextHop     string
	Stale       bool
}

// path returns FRR's path to a prefix.
func (f *frr) path(prefix string) (frrPath, bool) {
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	var answer struct {
		Paths []struct {
			ASPath         struct{ String string }
			LocPrf, Metric uint32
			Community      struct{ String string }
			LargeCommunity struct{ String string }
			Nexthops       []struct{ IP string }
			Stale, Valid   bool
		}
	}
	if !f.show("bgp "+family+" unicast "+prefix, &answer) || len(answer.Paths) != 1 || !answer.Paths[0].Valid {
		return frrPath{}, false
	}
	p := answer.Paths[0]
	out := frrPath{p.ASPath.String, p.LocPrf, p.Metric, p.Community.String, p.LargeCommunity.String, "", p.Stale}
	if len(p.Nexthops) > 0 {
		out.NextHop = p.Nexthops[0].IP
	}
	return out, true
}

// wantPath waits until FRR has this path.
func (f *frr) wantPath(prefix string, want frrPath) {
	f.t.Helper()
	var got frrPath
	var ok bool
	defer func() {
		if f.t.Failed() {
			f.t.Logf("%s: %s", prefix, cmp.Diff(want, got))
			f.t.Log(f.vtysh("show bgp ipv4 unicast "+prefix, "show bgp ipv6 unicast "+prefix))
		}
	}()
	eventually(f.t, "the path to "+prefix, func() bool {
		got, ok = f.path(prefix)
		return ok && got == want
	})
}

func (f *frr) wantNoPath(prefix string) {
	f.t.Helper()
	family := "ipv4"
	if strings.Contains(prefix, ":") {
		family = "ipv6"
	}
	eventually(f.t, prefix+" to be gone", func() bool {
		var none map[string]any
		return f.show("bgp "+family+" unicast "+prefix, &none) && len(none) == 0
	})
}

// neighbour is a neighbour as FRR has it.
type frrNeighbour struct {
	State              string `json:"bgpState"`
	Established        int    `json:"connectionsEstablished"`
	Dropped            int    `json:"connectionsDropped"`
	LastReset          string `json:"lastResetDueTo"`
	LastNotification   string `json:"lastNotificationReason"`
	LastCode           string `json:"lastErrorCodeSubcode"`
	HoldTime           int    `json:"bgpTimerHoldTimeMsecs"`
	Keepalive          int    `json:"bgpTimerKeepAliveIntervalMsecs"`
	LastShutdownReason string `json:"lastShutdownDescription"`
	MessageStats       struct{ UpdatesRecv, UpdatesSent int }
}

func (f *frr) neighbour(addr string) frrNeighbour {
	var all map[string]frrNeighbour
	f.show("bgp neighbors "+addr, &all)
	for _, n := range all {
		return n
	}
	return frrNeighbour{}
}

// A router may ask for its routes again, as it does when its policy changes.
func TestRouteRefresh(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	f.vtysh("configure terminal", "route-map double permit 10", "set local-preference 200", "router bgp 64513", "address-family ipv4 unicast", "neighbor 192.0.2.11 route-map double in")
	f.vtysh("clear bgp ipv4 unicast 192.0.2.11 in")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", LocalPref: 200, NextHop: "192.0.2.11"})
	if s := sessionOf(e, "tor"); s.TimesLost != 0 || s.PrefixesIPv4 != 1 || s.PrefixesIPv6 != 1 {
		t.Errorf("session is %+v", s)
	}
}

// One row with everything, as an external and as an internal router sees it.
func TestAttributes(t *testing.T) {
	rich := func(r *lb.BGPRoute) {
		r.LocalPref, r.MED, r.Prepend = lb.Some[uint32](200), lb.Some[uint32](50), 2
		r.Communities = []lb.Community{{A: 65000, B: 1}, lb.WellKnownCommunities["no-export"], {Large: true, A: 64512, B: 1, C: 2}}
	}
	const communities = "65000:1 no-export"
	tests := []struct {
		name   string
		remote int // the router's AS
		edit   func(*lb.BGPPeer)
		want   frrPath // of the row with everything
		plain  frrPath // of one with nothing
		drain  frrPath // of one that drains
	}{
		{
			name: "external", remote: 64513,
			want:  frrPath{Path: "64512 64512 64512", MED: 50, Communities: communities, Large: "64512:1:2", NextHop: "192.0.2.11"},
			plain: frrPath{Path: "64512", NextHop: "192.0.2.11"},
			drain: frrPath{Path: "64512", Communities: "graceful-shutdown", NextHop: "192.0.2.11"},
		},
		{
			name: "internal", remote: 64512, edit: func(p *lb.BGPPeer) { p.PeerASN = 64512 },
			want:  frrPath{Path: "Local", LocalPref: 200, MED: 50, Communities: communities, Large: "64512:1:2", NextHop: "192.0.2.11"},
			plain: frrPath{Path: "Local", LocalPref: 100, NextHop: "192.0.2.11"},
			drain: frrPath{Path: "Local", LocalPref: 0, Communities: "graceful-shutdown", NextHop: "192.0.2.11"},
		},
		{
			name: "dynamic external", remote: 4200000001, edit: func(p *lb.BGPPeer) { p.PeerASN, p.Dynamic = 0, lb.DynamicExternal },
			want:  frrPath{Path: "64512 64512 64512", MED: 50, Communities: communities, Large: "64512:1:2", NextHop: "192.0.2.11"},
			plain: frrPath{Path: "64512", NextHop: "192.0.2.11"},
			drain: frrPath{Path: "64512", Communities: "graceful-shutdown", NextHop: "192.0.2.11"},
		},
		{
			name: "dynamic internal", remote: 64512, edit: func(p *lb.BGPPeer) { p.PeerASN, p.Dynamic = 0, lb.DynamicInternal },
			want:  frrPath{Path: "Local", LocalPref: 200, MED: 50, Communities: communities, Large: "64512:1:2", NextHop: "192.0.2.11"},
			plain: frrPath{Path: "Local", LocalPref: 100, NextHop: "192.0.2.11"},
			drain: frrPath{Path: "Local", LocalPref: 0, Communities: "graceful-shutdown", NextHop: "192.0.2.11"},
		},
		{
			name: "local ASN", remote: 64513, edit: func(p *lb.BGPPeer) { p.LocalASN = 4200000002 },
			want:  frrPath{Path: "4200000002 4200000002 4200000002", MED: 50, Communities: communities, Large: "64512:1:2", NextHop: "192.0.2.11"},
			plain: frrPath{Path: "4200000002", NextHop: "192.0.2.11"},
			drain: frrPath{Path: "4200000002", Communities: "graceful-shutdown", NextHop: "192.0.2.11"},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			p := peer(tt.edit)
			f := newRouter(t).frr(frrConfig(tt.remote, "192.0.2.11", fmt.Sprint(p.ShownASN())))
			e := newEngine(t)
			rows := []lb.BGPRoute{
				route("198.51.100.1/32", rich), route("198.51.100.2/32", nil), route("198.51.100.3/32", func(r *lb.BGPRoute) { r.Drain = true }),
				route("198.51.100.64/26", nil), route("2001:db8:1::1/128", rich), route("2001:db8:1::2/128", nil),
			}
			e.Apply([]lb.BGPPeer{p}, rows)
			s := established(t, e, "tor")
			if s.RouterASN != uint32(tt.remote) || s.RouterID != router4 || s.PrefixesIPv4 != 4 || s.PrefixesIPv6 != 2 || s.Note != "" {
				t.Errorf("session is %+v", s)
			}
			six := func(p frrPath) frrPath { p.NextHop = "2001:db8::11"; return p }
			f.wantPath("198.51.100.1/32", tt.want)
			f.wantPath("198.51.100.2/32", tt.plain)
			f.wantPath("198.51.100.3/32", tt.drain)
			f.wantPath("198.51.100.64/26", tt.plain)
			f.wantPath("2001:db8:1::1/128", six(tt.want))
			f.wantPath("2001:db8:1::2/128", six(tt.plain))
		})
	}
}

// A change is one UPDATE, and what is equal is none. Nothing resets the session.
func TestOnlyTheUpdateThatIsNeeded(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	e := newEngine(t)
	peers := []lb.BGPPeer{peer(nil)}
	apply := func(rows ...lb.BGPRoute) { e.Apply(peers, rows) }
	first, second := route("198.51.100.1/32", nil), route("198.51.100.2/32", nil)
	apply(first)
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	const ends = 2 // End-of-RIB of both families, which no route needs to precede
	eventually(t, "both ends", func() bool { return sessionOf(e, "tor").UpdatesSent >= 1+ends })
	before := sessionOf(e, "tor").UpdatesSent
	if before > 1+ends {
		t.Errorf("%d UPDATEs for one route and %d ends", before, ends)
	}

	apply(first, second)
	f.wantPath("198.51.100.2/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	for range 10 {
		apply(second, first)
	}
	apply(first, route("198.51.100.2/32", func(r *lb.BGPRoute) { r.MED = lb.Some[uint32](7) }))
	f.wantPath("198.51.100.2/32", frrPath{Path: "64512", MED: 7, NextHop: "192.0.2.11"})
	s := sessionOf(e, "tor")
	if s.UpdatesSent != before+2 || s.PrefixesWithdrawn != 0 {
		t.Errorf("%d UPDATEs for a route and a change, and %d withdrawals", s.UpdatesSent-before, s.PrefixesWithdrawn)
	}
	apply(first)
	f.wantNoPath("198.51.100.2/32")
	eventually(t, "the withdrawal to be counted", func() bool { s = sessionOf(e, "tor"); return s.PrefixesWithdrawn > 0 && s.PrefixesIPv4 < 2 })
	if s.UpdatesSent != before+3 || s.PrefixesWithdrawn != 1 || s.PrefixesIPv4 != 1 {
		t.Errorf("after a withdrawal: %+v", s)
	}
	if n := f.neighbour("192.0.2.11"); n.Established != 1 || n.Dropped != 0 {
		t.Errorf("FRR saw the session come %d times and go %d times", n.Established, n.Dropped)
	}
}

// IPv4 and IPv6 routes over each kind of session.
func TestFamilies(t *testing.T) {
	const enhe = "neighbor NODE capability extended-nexthop"
	v6 := func(p *lb.BGPPeer) { p.Address = router6 }
	t.Run("over IPv6", func(t *testing.T) {
		f := newRouter(t).frr(frrConfig(64513, "2001:db8::11", "64512"))
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(v6)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
		f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
		f.wantPath("2001:db8:1::1/128", frrPath{Path: "64512", NextHop: "2001:db8::11"})
	})
	t.Run("over IPv6 with extended next hops", func(t *testing.T) { // RFC 8950
		f := newRouter(t).frr(frrConfig(64513, "2001:db8::11", "64512", enhe))
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(v6)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
		f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "2001:db8::11"})
		f.wantPath("2001:db8:1::1/128", frrPath{Path: "64512", NextHop: "2001:db8::11"})
		e.Apply([]lb.BGPPeer{peer(v6)}, nil)
		f.wantNoPath("198.51.100.1/32")
		f.wantNoPath("2001:db8:1::1/128")
	})
	t.Run("unnumbered", func(t *testing.T) {
		r := newRouter(t)
		f := r.frr(frrUnnumbered())
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(r.unnumbered)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
		s := established(t, e, "tor")
		f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: s.Local.String()})
		f.wantPath("2001:db8:1::1/128", frrPath{Path: "64512", NextHop: s.Local.String()})
	})
	t.Run("unnumbered and passive", func(t *testing.T) {
		r := newRouter(t)
		f := r.frr(frrUnnumbered("neighbor NODE timers connect 1"))
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { r.unnumbered(p); p.Passive = true })}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
		s := established(t, e, "tor")
		f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: s.Local.String()})
	})
	t.Run("no capabilities at the router", func(t *testing.T) { // AS numbers of two octets (RFC 6793)
		config, _, _ := strings.Cut(frrConfig(64513, "192.0.2.11", "64512", "neighbor NODE dont-capability-negotiate"), " address-family ipv6")
		f := newRouter(t).frr(config)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", func(r *lb.BGPRoute) { r.Prepend = 1 })})
		f.wantPath("198.51.100.1/32", frrPath{Path: "64512 64512", NextHop: "192.0.2.11"})
		e.Apply([]lb.BGPPeer{peer(nil)}, nil)
		f.wantNoPath("198.51.100.1/32")
	})
	t.Run("no IPv6 at the router", func(t *testing.T) {
		config, _, _ := strings.Cut(frrConfig(64513, "192.0.2.11", "64512"), " address-family ipv6")
		f := newRouter(t).frr(config)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
		f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
		s := established(t, e, "tor")
		if s.PrefixesIPv4 != 1 || s.PrefixesIPv6 != 0 || !strings.Contains(s.Note, "does not accept IPv6 routes") {
			t.Errorf("session is %+v", s)
		}
	})
}

// A router is found, or waited for, where it is or can connect to now: the interface may
// be made anew, and the node have another address, before a session and after it.
func TestAnotherPlace(t *testing.T) {
	rows := []lb.BGPRoute{route("198.51.100.1/32", nil)}
	const timers, connect = "neighbor NODE timers 1 3", "neighbor NODE timers connect 1"
	for name, passive := range map[string]bool{"interface made anew": false, "interface made anew, passive": true} {
		t.Run(name, func(t *testing.T) {
			r := newRouter(t)
			e := newEngine(t)
			anew := func() {
				ip(t, "link del "+r.port)
				r.connect()
				e.Readdress()
			}
			e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { r.unnumbered(p); p.Passive = passive })}, rows)
			eventually(t, "an attempt", func() bool { return sessionOf(e, "tor").State == Active })
			anew()
			f := r.frr(frrUnnumbered(timers, connect))
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: established(t, e, "tor").Local.String()})
			anew()
			eventually(t, "a second session", func() bool { s := sessionOf(e, "tor"); return s.State == Established && s.TimesEstablished == 2 })
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: sessionOf(e, "tor").Local.String()})
		})
	}
	t.Run("another address, passive", func(t *testing.T) {
		r := newRouter(t)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.Passive = true })}, rows)
		eventually(t, "the router to be waited for", func() bool { return sessionOf(e, "tor").State == Active })
		ip(t, "addr del 192.0.2.11/24 dev "+r.port, "addr add 192.0.2.12/24 dev "+r.port)
		e.Readdress()
		f := r.frr(frrConfig(64513, "192.0.2.12", "64512", timers, connect))
		f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.12"})
	})
}

// Passwords: right, wrong, and changed while the session is up.
func TestPassword(t *testing.T) {
	for _, address := range []struct{ router, node string }{{"192.0.2.1", "192.0.2.11"}, {"2001:db8::1", "2001:db8::11"}} {
		t.Run(address.router, func(t *testing.T) {
			f := newRouter(t).frr(frrConfig(64513, address.node, "64512", "neighbor NODE password first"))
			e := newEngine(t)
			with := func(password string) []lb.BGPPeer {
				return []lb.BGPPeer{peer(func(p *lb.BGPPeer) {
					p.Address, p.Password, p.ConnectTime = netip.MustParseAddr(address.router), lb.Secret(password), time.Second
				})}
			}
			rows := []lb.BGPRoute{route("198.51.100.1/32", nil)}
			e.Apply(with("wrong"), rows)
			eventually(t, "words about the password", func() bool {
				return strings.Contains(sessionOf(e, "tor").LastError, "a wrong password has the same effect")
			})
			e.Apply(with("first"), rows)
			established(t, e, "tor")
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
			f.vtysh("configure terminal", "router bgp 64513", "neighbor "+address.node+" password second")
			e.Apply(with("second"), rows)
			eventually(t, "a session with the new password", func() bool { s := sessionOf(e, "tor"); return s.State == Established && s.TimesEstablished == 2 })
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
		})
	}
}

func TestTTLSecurity(t *testing.T) {
	for _, address := range []struct{ router, node string }{{"192.0.2.1", "192.0.2.11"}, {"2001:db8::1", "2001:db8::11"}} {
		t.Run(address.router, func(t *testing.T) {
			f := newRouter(t).frr(frrConfig(64513, address.node, "64512", "neighbor NODE ttl-security hops 1"))
			e := newEngine(t)
			p := peer(func(p *lb.BGPPeer) { p.Address, p.TTLSecurity = netip.MustParseAddr(address.router), true })
			e.Apply([]lb.BGPPeer{p}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
			established(t, e, "tor")
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
		})
	}
}

// With TTL security a passive peer's router gets its session, and a connection with
// another TTL from its very address gets no answer.
func TestPassiveTTLSecurity(t *testing.T) {
	for _, address := range []struct{ router, node string }{{"192.0.2.1", "192.0.2.11"}, {"2001:db8::1", "2001:db8::11"}} {
		t.Run(address.router, func(t *testing.T) {
			f := newRouter(t).frr(frrConfig(64513, address.node, "64512", "neighbor NODE ttl-security hops 1", "neighbor NODE timers connect 1"))
			e := newEngine(t)
			p := peer(func(p *lb.BGPPeer) {
				p.Address, p.TTLSecurity, p.Passive = netip.MustParseAddr(address.router), true, true
			})
			e.Apply([]lb.BGPPeer{p}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
			established(t, e, "tor")
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
			bare := f.command("timeout", "1", "bash", "-c", "exec 3<>/dev/tcp/"+address.node+"/179")
			var exit *exec.ExitError
			if err := bare.Run(); !errors.As(err, &exit) || exit.ExitCode() != 124 { // what timeout returns
				t.Errorf("a connection with TTL 64: %v; want no answer", err)
			}
			if s := sessionOf(e, "tor"); s.State != Established || s.TimesLost != 0 {
				t.Errorf("session is %+v", s)
			}
		})
	}
}

// The router is behind another address, and the node connects from one of its own.
func TestMultihopAndSource(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "203.0.113.11", "64512", "neighbor NODE ebgp-multihop 3", "neighbor NODE update-source 203.0.113.1"))
	f.run("ip", "addr", "add", "203.0.113.1/32", "dev", "lo")
	f.run("ip", "route", "add", "203.0.113.11/32", "via", "192.0.2.11")
	ip(t, "addr add 203.0.113.11/32 dev lo", "route add 203.0.113.1/32 via 192.0.2.1")
	t.Cleanup(func() { ip(t, "addr del 203.0.113.11/32 dev lo") })
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) {
		p.Address, p.Source, p.Multihop = netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.11"), true
	})}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "203.0.113.11"})
}

// A VRF is a device that the connection is bound to, and any device will do.
func TestVRF(t *testing.T) {
	r := newRouter(t)
	f := r.frr(frrConfig(64513, "192.0.2.11", "64512"))
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.VRF = r.port })}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	if s := run(t, "ss", "-Htn", "dport = :179"); !strings.Contains(s, "192.0.2.11%"+r.port) {
		t.Errorf("not bound to %s: %s", r.port, s)
	}
}

// A passive peer is the only reason to listen, and only at the node's address.
func TestPassive(t *testing.T) {
	for _, password := range []string{"", "secret"} {
		t.Run("password "+password, func(t *testing.T) {
			config := frrConfig(64513, "192.0.2.11", "64512", "neighbor NODE timers connect 1")
			if password != "" {
				config = frrConfig(64513, "192.0.2.11", "64512", "neighbor NODE timers connect 1", "neighbor NODE password "+password)
			}
			f := newRouter(t).frr(config)
			e := newEngine(t)
			listening := func() string { return run(t, "ss", "-Hltn", "sport = :179") }
			p := peer(func(p *lb.BGPPeer) { p.Password = lb.Secret(password) })
			rows := []lb.BGPRoute{route("198.51.100.1/32", nil)}
			e.Apply([]lb.BGPPeer{p}, rows)
			established(t, e, "tor")
			if l := listening(); l != "" {
				t.Errorf("listens without being asked to: %s", l)
			}
			p.Passive = true
			e.Apply([]lb.BGPPeer{p}, rows)
			if n := sessionOf(e, "tor").TimesLost; n != 0 {
				t.Errorf("passive alone ended the session")
			}
			f.vtysh("clear bgp *")
			eventually(t, "a session that the router began", func() bool { s := sessionOf(e, "tor"); return s.State == Established && s.TimesEstablished == 2 })
			if s := sessionOf(e, "tor"); s.Router.Port() == 179 {
				t.Errorf("we began the session: %+v", s)
			}
			if l := listening(); !strings.Contains(l, "192.0.2.11:179") || strings.Contains(l, "0.0.0.0:179") || strings.Contains(l, "*:179") {
				t.Errorf("listens at %s, want 192.0.2.11 only", l)
			}
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
			p.Name = "spine" // another peer for the same router, as it goes
			e.Apply([]lb.BGPPeer{p}, rows)
			established(t, e, "spine")
			e.Apply(nil, nil)
			eventually(t, "nobody to listen", func() bool { return listening() == "" })
		})
	}
}

func TestTimers(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512", "neighbor NODE timers 60 180"))
	tests := []struct {
		hold, keepalive         time.Duration
		agreed, agreedKeepalive int // ms, as FRR sees them
	}{
		{hold: 9 * time.Second, agreed: 9000, agreedKeepalive: 3000},
		{hold: 90 * time.Second, keepalive: 10 * time.Second, agreed: 90000, agreedKeepalive: 30000},
		{hold: 0, agreed: 0, agreedKeepalive: 0},
	}
	for _, tt := range tests {
		t.Run(tt.hold.String(), func(t *testing.T) {
			e := newEngine(t)
			e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.HoldTime, p.KeepaliveTime = tt.hold, tt.keepalive })}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
			s := established(t, e, "tor")
			f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
			if n := f.neighbour("192.0.2.11"); n.HoldTime != tt.agreed || n.Keepalive != tt.agreedKeepalive || s.HoldTime.Milliseconds() != int64(tt.agreed) {
				t.Errorf("FRR: hold %d, keepalive %d ms; session: %v; want %d and %d", n.HoldTime, n.Keepalive, s.HoldTime, tt.agreed, tt.agreedKeepalive)
			}
			e.Apply(nil, nil)
			f.wantNoPath("198.51.100.1/32")
		})
	}
}

// Routes point to the addresses that the node has now, not to those that it had when
// the session began, which goes on.
func TestAddressesChange(t *testing.T) {
	r := newRouter(t)
	f := r.frr(frrConfig(64513, "192.0.2.11", "64512"))
	e := newEngine(t)
	address := func(what, addr string) {
		t.Helper()
		ip(t, "addr "+what+" "+addr+"/64 dev "+r.port+map[string]string{"add": " nodad", "del": ""}[what])
		e.Readdress()
	}
	address("del", node6.String())
	e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	eventually(t, "words about IPv6", func() bool { return strings.Contains(sessionOf(e, "tor").Note, "no next hop for IPv6") })
	for _, addr := range []string{"2001:db8::21", "2001:db8::22"} {
		address("add", addr)
		if addr == "2001:db8::22" {
			address("del", "2001:db8::21")
		}
		f.wantPath("2001:db8:1::1/128", frrPath{Path: "64512", NextHop: addr})
	}
	if s := sessionOf(e, "tor"); s.Note != "" || s.TimesEstablished != 1 {
		t.Errorf("it was established %d times, and says %q", s.TimesEstablished, s.Note)
	}
}

// A router without a hold time sends no KEEPALIVE, and is not missed.
func TestRouterWithoutHoldTime(t *testing.T) {
	const hold = 3 * time.Second
	newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512", "neighbor NODE timers 0 0"))
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.HoldTime = hold })}, nil)
	if s := established(t, e, "tor"); s.HoldTime != 0 {
		t.Errorf("a hold time of %v was agreed on, want none", s.HoldTime)
	}
	eventually(t, "a session that is older than the peer's hold time", func() bool {
		s := sessionOf(e, "tor")
		return s.State == Established && time.Since(s.Since) > 2*hold
	})
	if n := sessionOf(e, "tor").TimesLost; n != 0 {
		t.Errorf("the session was lost %d times", n)
	}
}

// Mistakes on either side are said in words.
func TestWordsFromFRR(t *testing.T) {
	tests := []struct {
		name   string
		config string
		edit   func(*lb.BGPPeer)
		want   string
	}{
		{
			name: "the router expects another AS", config: frrConfig(64513, "192.0.2.11", "64600"),
			want: "the router says: OPEN message error, bad peer AS: it expects another AS number than 64512, which this node sent; set myASN to the number",
		},
		{
			name: "we expect another AS", config: frrConfig(64513, "192.0.2.11", "64512"), edit: func(p *lb.BGPPeer) { p.PeerASN = 64599 },
			want: "the router is in AS 64513, and 64599 is expected; set peerASN to 64513",
		},
		{
			name: "external, but ours", config: frrConfig(64512, "192.0.2.11", "64512"), edit: func(p *lb.BGPPeer) { p.PeerASN, p.Dynamic = 0, lb.DynamicExternal },
			want: "the router is in AS 64512, which is this node's AS, and dynamicASN is external",
		},
		{
			name: "not a neighbour", config: frrConfig(64513, "192.0.2.99", "64512"),
			want: "closed the connection before it sent an OPEN: 192.0.2.11 may not be configured there as a neighbour",
		},
		{
			name: "shut down", config: frrConfig(64513, "192.0.2.11", "64512", "neighbor NODE shutdown"),
			want: "closed the connection before it sent an OPEN",
		},
		{
			name: "same router ID", config: frrConfig(64512, "192.0.2.11", "64512"), edit: func(p *lb.BGPPeer) { p.PeerASN, p.RouterID = 64512, router4 },
			want: "has the router ID 192.0.2.1 too; set routerID to another",
		},
		{
			name: "refused", config: frrConfig(64513, "192.0.2.11", "64512"), edit: func(p *lb.BGPPeer) { p.Port = 1790 },
			want: "connection refused by 192.0.2.1:1790",
		},
		{
			name: "nobody there", config: "", edit: func(p *lb.BGPPeer) { p.Address, p.ConnectTime = netip.MustParseAddr("192.0.2.77"), 5*time.Second },
			want: "no route to 192.0.2.77:179",
		},
		{
			name: "silence", config: "", edit: func(p *lb.BGPPeer) { p.Address = netip.MustParseAddr("203.0.113.1") },
			want: "no answer from 203.0.113.1:179",
		},
		{
			name: "no such source", config: "", edit: func(p *lb.BGPPeer) { p.Source = netip.MustParseAddr("192.0.2.78") },
			want: "this node does not have the address 192.0.2.78; correct sourceAddress",
		},
		{
			name: "no such VRF", config: "", edit: func(p *lb.BGPPeer) { p.VRF = "red" },
			want: `this node has no VRF "red"; correct vrf`,
		},
		{
			name: "no such interface", config: "", edit: func(p *lb.BGPPeer) { p.Address, p.Interface = netip.Addr{}, "eth9" },
			want: `this node has no interface "eth9"`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := newRouter(t)
			// Packets to 203.0.113.0/24 are lost on the way.
			r.run("ip", "route", "add", "blackhole", "203.0.113.0/24")
			ip(t, "route add 203.0.113.0/24 via 192.0.2.1")
			if tt.config != "" {
				r.frr(tt.config)
			}
			e := newEngine(t)
			p := peer(tt.edit)
			e.Apply([]lb.BGPPeer{p}, nil)
			var got string
			defer func() {
				if t.Failed() {
					t.Logf("it says %q, want %q", got, tt.want)
				}
			}()
			eventually(t, "words", func() bool {
				got = sessionOf(e, "tor").LastError
				return strings.Contains(got, tt.want)
			})
		})
	}
}

// The router keeps our routes while the speaker restarts, and forgets what the
// new one does not announce any more.
func TestGracefulRestart(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	kept, gone := route("198.51.100.1/32", nil), route("198.51.100.2/32", nil)
	path := frrPath{Path: "64512", NextHop: "192.0.2.11"}
	first := New(Config{Log: testLog(t)})
	first.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{kept, gone})
	s := established(t, first, "tor")
	if !s.GracefulRestart {
		t.Error("graceful restart was not agreed on")
	}
	f.wantPath("198.51.100.1/32", path)
	f.wantPath("198.51.100.2/32", path)
	first.Close()
	stale := path
	stale.Stale = true
	f.wantPath("198.51.100.1/32", stale)
	f.wantPath("198.51.100.2/32", stale)

	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{kept})
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", path)
	f.wantNoPath("198.51.100.2/32") // with the End-of-RIB, long before the restart time
}

// A router that hears no more of a node keeps the routes only if BFD would have told
// it of the node's death.
func TestSilence(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	path := frrPath{Path: "64512", NextHop: "192.0.2.11"}
	silent := func(t *testing.T, watched bool) {
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.HoldTime, p.Watched = 3*time.Second, watched })}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
		established(t, e, "tor")
		f.wantPath("198.51.100.1/32", path)
		ip(t, "route add blackhole 192.0.2.1/32")
		t.Cleanup(func() { ip(t, "route del blackhole 192.0.2.1/32") })
	}
	t.Run("without BFD", func(t *testing.T) {
		silent(t, false)
		f.wantNoPath("198.51.100.1/32")
	})
	t.Run("with BFD", func(t *testing.T) {
		silent(t, true)
		stale := path
		stale.Stale = true
		f.wantPath("198.51.100.1/32", stale)
	})
}

// A speaker that is killed says nothing to anybody, and its routes stay until the
// next one is there, which changes nothing in the router's choice.
func TestKilled(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	path := frrPath{Path: "64512", NextHop: "192.0.2.11"}
	stale := path
	stale.Stale = true
	speaker := exec.Command("/proc/self/exe")
	speaker.Env = append(os.Environ(), asSpeaker+"=1")
	if err := speaker.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = speaker.Process.Kill() })
	f.wantPath("198.51.100.1/32", path)
	before := f.tableVersion()
	if err := speaker.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = speaker.Wait()
	f.wantPath("198.51.100.1/32", stale)
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
	f.wantPath("198.51.100.1/32", path)
	if after := f.tableVersion(); after != before {
		t.Errorf("the best path changed: table version %d, then %d", before, after)
	}
}

// A peer edit that needs a reset loses no route of a router that can keep them.
func TestResetKeepsRoutes(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	e := newEngine(t)
	p := peer(nil)
	rows := []lb.BGPRoute{route("198.51.100.1/32", nil)}
	e.Apply([]lb.BGPPeer{p}, rows)
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	before := f.tableVersion()
	p.HoldTime = 30 * time.Second
	e.Apply([]lb.BGPPeer{p}, rows)
	eventually(t, "another session", func() bool { s := sessionOf(e, "tor"); return s.State == Established && s.TimesEstablished == 2 })
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	if after := f.tableVersion(); after != before {
		t.Errorf("the best path changed: table version %d, then %d", before, after)
	}
}

// tableVersion grows whenever a best path changes; from 0, when the first is
// chosen.
func (f *frr) tableVersion() int {
	var v struct{ TableVersion int }
	eventually(f.t, "a best path", func() bool { return f.show("bgp ipv4 unicast", &v) && v.TableVersion > 0 })
	return v.TableVersion
}

func TestLostAndRestored(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	e := newEngine(t)
	rows := []lb.BGPRoute{route("198.51.100.1/32", nil)}
	e.Apply([]lb.BGPPeer{peer(nil)}, rows)
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	e.Lost("tor", "BFD: control detection time expired")
	f.wantNoPath("198.51.100.1/32") // long before the restart time
	eventually(t, "the reason", func() bool {
		s := sessionOf(e, "tor")
		return s.State == Idle && s.LastError == "BFD: control detection time expired"
	})
	if n := f.neighbour("192.0.2.11"); !strings.Contains(n.LastNotification, "BFD") && !strings.Contains(n.LastNotification, "Hard Reset") {
		t.Errorf("FRR was told %q", n.LastNotification)
	}
	e.Restored("tor")
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
}

// Drain asks for other routes first, withdraws then, and says why it leaves.
func TestDrain(t *testing.T) {
	f := newRouter(t).frr(frrConfig(64513, "192.0.2.11", "64512"))
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
	established(t, e, "tor")
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", NextHop: "192.0.2.11"})
	ctx, hurry := context.WithCancel(context.Background())
	drained := make(chan struct{})
	go func() {
		e.Drain(ctx, time.Minute, "node n1 is being drained")
		close(drained)
	}()
	f.wantPath("198.51.100.1/32", frrPath{Path: "64512", Communities: "graceful-shutdown", NextHop: "192.0.2.11"})
	hurry()
	<-drained
	f.wantNoPath("198.51.100.1/32")
	f.wantNoPath("2001:db8:1::1/128")
	var said string
	defer func() {
		if t.Failed() {
			t.Logf("FRR says %s", said)
		}
	}()
	eventually(t, "FRR to have the message", func() bool {
		var raw map[string]json.RawMessage
		f.show("bgp neighbors 192.0.2.11", &raw)
		said = string(raw["192.0.2.11"])
		return strings.Contains(said, "node n1 is being drained")
	})
}
