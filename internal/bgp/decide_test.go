package bgp

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

// What is equal is left alone, what differs is replaced without a withdrawal, and
// withdrawals come last.
func TestPlan(t *testing.T) {
	one, two, six := prefix("198.51.100.1/32"), prefix("198.51.100.2/32"), prefix("2001:db8:1::1/128")
	hops := nextHops{v4: node4, v6: node6}
	plain4, plain6 := announcement{nextHop: node4}, announcement{nextHop: node6}
	with := func(a announcement, edit func(*announcement)) announcement { edit(&a); return a }
	tests := []struct {
		name     string
		has      map[netip.Prefix]announcement
		rows     map[netip.Prefix]lb.BGPAttributes
		drain    bool
		hops     nextHops
		internal bool
		want     []change
	}{
		{name: "nothing", hops: hops},
		{
			name: "new", hops: hops, rows: map[netip.Prefix]lb.BGPAttributes{two: {}, six: {}, one: {}},
			want: []change{{prefix: one, announce: plain4}, {prefix: two, announce: plain4}, {prefix: six, announce: plain6}},
		},
		{name: "equal", hops: hops, has: map[netip.Prefix]announcement{one: plain4}, rows: map[netip.Prefix]lb.BGPAttributes{one: {}}},
		{
			name: "moved to a wider prefix: the new one first", hops: hops,
			has: map[netip.Prefix]announcement{one: plain4, two: plain4}, rows: map[netip.Prefix]lb.BGPAttributes{prefix("198.51.100.0/24"): {}},
			want: []change{{prefix: prefix("198.51.100.0/24"), announce: plain4}, {prefix: one, withdraw: true}, {prefix: two, withdraw: true}},
		},
		{
			name: "other attributes replace", hops: hops, has: map[netip.Prefix]announcement{one: plain4}, rows: map[netip.Prefix]lb.BGPAttributes{one: {MED: lb.Some[uint32](0)}},
			want: []change{{prefix: one, announce: with(plain4, func(a *announcement) { a.med = lb.Some[uint32](0) })}},
		},
		{
			name: "local preference is for internal peers", hops: hops, has: map[netip.Prefix]announcement{one: plain4}, rows: map[netip.Prefix]lb.BGPAttributes{one: {LocalPref: lb.Some[uint32](200)}},
		},
		{
			name: "prepending is for external peers", internal: true, hops: hops,
			has:  map[netip.Prefix]announcement{one: with(plain4, func(a *announcement) { a.localPref = lb.Some[uint32](defaultLocalPref) })},
			rows: map[netip.Prefix]lb.BGPAttributes{one: {Prepend: 3}},
		},
		{
			name: "all that can be prepended", hops: hops, rows: map[netip.Prefix]lb.BGPAttributes{one: {Prepend: math.MaxUint8}},
			want: []change{{prefix: one, announce: with(plain4, func(a *announcement) { a.path = maxPrepend })}},
		},
		{
			name: "drain outside", drain: true, hops: hops, has: map[netip.Prefix]announcement{one: plain4}, rows: map[netip.Prefix]lb.BGPAttributes{one: {}},
			want: []change{{prefix: one, announce: with(plain4, func(a *announcement) { a.communities = pack([]lb.Community{lb.GracefulShutdown}) })}},
		},
		{
			name: "drain inside", drain: true, internal: true, hops: hops, has: map[netip.Prefix]announcement{one: plain4}, rows: map[netip.Prefix]lb.BGPAttributes{one: {LocalPref: lb.Some[uint32](200)}},
			want: []change{{prefix: one, announce: with(plain4, func(a *announcement) {
				a.localPref, a.communities = lb.Some[uint32](0), pack([]lb.Community{lb.GracefulShutdown})
			})}},
		},
		{
			name: "no next hop, no route", hops: nextHops{v4: node4}, has: map[netip.Prefix]announcement{six: plain6}, rows: map[netip.Prefix]lb.BGPAttributes{one: {}, six: {}},
			want: []change{{prefix: one, announce: plain4}, {prefix: six, withdraw: true}},
		},
		{
			name: "another next hop", hops: nextHops{v4: router4}, has: map[netip.Prefix]announcement{one: plain4}, rows: map[netip.Prefix]lb.BGPAttributes{one: {}},
			want: []change{{prefix: one, announce: announcement{nextHop: router4}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := plan(tt.has, tt.rows, tt.drain, tt.hops, tt.internal)
			same := cmp.AllowUnexported(change{}, announcement{})
			if d := cmp.Diff(tt.want, got, same, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestNextHops(t *testing.T) {
	linkLocal := netip.MustParseAddr("fe80::1%eth1")
	other4, other6 := netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("2001:db8::99")
	both := openInfo{ipv4: true, ipv6: true}
	extended := openInfo{ipv4: true, ipv6: true, extendedNextHop: true}
	tests := []struct {
		name     string
		peer     lb.BGPPeer
		local    netip.Addr
		open     openInfo
		siblings []netip.Addr
		v4, v6   netip.Addr
		note     string
	}{
		{name: "dual stack over IPv4", local: node4, open: both, siblings: []netip.Addr{node6}, v4: node4, v6: node6},
		{name: "dual stack over IPv6", local: node6, open: both, siblings: []netip.Addr{node4}, v4: node4, v6: node6},
		{name: "the router asks for IPv6 next hops", local: node6, open: extended, siblings: []netip.Addr{node4}, v4: node6, v6: node6},
		{name: "only IPv6", local: node6, open: both, v6: node6, note: "the session's interface has no IPv4 address, and the router does not support extended next hops (RFC 8950)"},
		{name: "only IPv4", local: node4, open: both, v4: node4, note: "no next hop for IPv6 routes"},
		{name: "unnumbered", local: linkLocal, open: extended, v4: linkLocal, v6: linkLocal},
		{name: "unnumbered, but with addresses", local: linkLocal, open: both, siblings: []netip.Addr{node4, node6}, v4: node4, v6: linkLocal},
		{name: "chosen", peer: lb.BGPPeer{NextHop4: other4, NextHop6: other6}, local: node6, open: extended, v4: other4, v6: other6},
		{name: "no IPv6 at the router", local: node4, open: openInfo{ipv4: true}, siblings: []netip.Addr{node6}, v4: node4, note: "does not accept IPv6 routes"},
		{name: "no IPv4 at the router", local: node4, open: openInfo{ipv6: true}, siblings: []netip.Addr{node6}, v6: node6, note: "does not accept IPv4 routes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := nextHopsOf(&tt.peer, tt.local, tt.open, tt.siblings)
			if got.v4 != tt.v4 || got.v6 != tt.v6 || !strings.Contains(got.note, tt.note) || (tt.note == "") != (got.note == "") {
				t.Errorf("got %+v; want %v, %v, %q", got, tt.v4, tt.v6, tt.note)
			}
		})
	}
}

// Which change of a peer resets its session: the table in the package's comment.
func TestNeedsReset(t *testing.T) {
	for name, edit := range map[string]func(*lb.BGPPeer){
		"connectTime": func(p *lb.BGPPeer) { p.ConnectTime++ },
		"passive":     func(p *lb.BGPPeer) { p.Passive = true },
		"bfdProfile":  func(p *lb.BGPPeer) { p.Watched = true },
		"next hops":   func(p *lb.BGPPeer) { p.NextHop4, p.NextHop6 = router4, router6 },
	} {
		if needsReset(peer(nil), peer(edit)) {
			t.Errorf("%s resets", name)
		}
	}
	if !needsReset(peer(func(p *lb.BGPPeer) { p.Watched = true }), peer(nil)) {
		t.Error("no bfdProfile any more does not reset")
	}
	for name, edit := range map[string]func(*lb.BGPPeer){
		"myASN":           func(p *lb.BGPPeer) { p.MyASN++ },
		"peerASN":         func(p *lb.BGPPeer) { p.PeerASN++ },
		"dynamicASN":      func(p *lb.BGPPeer) { p.Dynamic = lb.DynamicExternal },
		"localASN":        func(p *lb.BGPPeer) { p.LocalASN++ },
		"peerAddress":     func(p *lb.BGPPeer) { p.Address = router6 },
		"interface":       func(p *lb.BGPPeer) { p.Interface = "eth1" },
		"vrf":             func(p *lb.BGPPeer) { p.VRF = "red" },
		"sourceAddress":   func(p *lb.BGPPeer) { p.Source = node4 },
		"peerPort":        func(p *lb.BGPPeer) { p.Port = 1790 },
		"holdTime":        func(p *lb.BGPPeer) { p.HoldTime++ },
		"keepaliveTime":   func(p *lb.BGPPeer) { p.KeepaliveTime++ },
		"routerID":        func(p *lb.BGPPeer) { p.RouterID = router4 },
		"password":        func(p *lb.BGPPeer) { p.Password = "x" },
		"gracefulRestart": func(p *lb.BGPPeer) { p.GracefulRestart = false },
		"ebgpMultiHop":    func(p *lb.BGPPeer) { p.Multihop = true },
		"ttlSecurity":     func(p *lb.BGPPeer) { p.TTLSecurity = true },
	} {
		if !needsReset(peer(nil), peer(edit)) {
			t.Errorf("%s does not reset", name)
		}
	}
}

// What cannot be had is refused with words, and nothing else is touched.
func TestRefusals(t *testing.T) {
	e := New(Config{Log: testLog(t)})
	nowhere := func(name string, edit func(*lb.BGPPeer)) lb.BGPPeer {
		return peer(func(p *lb.BGPPeer) {
			p.Name, p.Address = name, netip.MustParseAddr("127.0.0.1")
			p.Port = 1 // refuses
			if edit != nil {
				edit(p)
			}
		})
	}
	t.Cleanup(e.Close)
	to := func(prefix string, med uint32, peers ...string) lb.BGPRoute {
		return route(prefix, func(r *lb.BGPRoute) { r.Peers, r.MED = peers, lb.Some(med) })
	}
	if r := e.Apply([]lb.BGPPeer{nowhere("b", nil)}, nil); len(r) != 0 {
		t.Fatal(r)
	}
	got := e.Apply([]lb.BGPPeer{
		nowhere("a", nil), // b was here first
		nowhere("b", nil),
		nowhere("c", func(p *lb.BGPPeer) { p.RouterID = netip.Addr{} }),
		nowhere("d", func(p *lb.BGPPeer) { p.Password = lb.Secret(strings.Repeat("x", 81)) }),
		nowhere("e", func(p *lb.BGPPeer) { p.Port = 2 }),
	}, []lb.BGPRoute{to("198.51.100.1/32", 1, "b", "e"), to("198.51.100.1/32", 2, "e"), to("198.51.100.2/24", 1, "b"), to("198.51.100.3/32", 1, "unknown")})
	want := []string{
		`peer "a": peer "b" is the same router, 127.0.0.1:1; delete one of them, or select different nodes with nodeSelectors`,
		`peer "c": this node has no router ID; write routerID, such as "192.0.2.11"`,
		`peer "d": the password has 81 characters, and TCP MD5 allows 80; choose a shorter one`,
		`route 198.51.100.1/32 to peer "e": two rows for it have different attributes`,
		`route 198.51.100.2/24 to peer "b": host bits are set; the prefix is 198.51.100.0/24`,
	}
	var texts []string
	for _, r := range got {
		texts = append(texts, r.Error())
	}
	if d := cmp.Diff(want, texts); d != "" {
		t.Error(d)
	}
	var names []string
	for _, s := range e.Sessions() {
		names = append(names, s.Peer)
	}
	if d := cmp.Diff([]string{"b", "e"}, names); d != "" {
		t.Error(d)
	}
}

func TestWords(t *testing.T) {
	tests := []struct {
		name string
		peer func(*lb.BGPPeer)
		open *openInfo
		err  error
		want string
	}{
		{name: "refused", err: os.NewSyscallError("connect", syscall.ECONNREFUSED), want: "connection refused by 192.0.2.1:179: BGP does not run there, or does not listen on this address"},
		{name: "timeout", err: os.ErrDeadlineExceeded, want: "if the router requires a TCP MD5 password, set passwordSecret; if the router is more than one hop away, set ebgpMultiHop"},
		{name: "too far", err: syscall.EHOSTUNREACH, want: "check the address, and that the router is up (if the router is more than one hop away, set ebgpMultiHop)"},
		{name: "far", peer: func(p *lb.BGPPeer) { p.Multihop = true }, err: syscall.EHOSTUNREACH, want: "no route to 192.0.2.1:179: check the address, and that the router is up"},
		{name: "timeout with password", peer: func(p *lb.BGPPeer) { p.Password = "x" }, err: syscall.ETIMEDOUT, want: "a wrong password has the same effect"},
		{name: "timeout with TTL security", peer: func(p *lb.BGPPeer) { p.TTLSecurity = true }, err: syscall.ETIMEDOUT, want: "with ttlSecurity the router needs TTL security too, and must be one hop away"},
		{name: "no OPEN", err: errNoOpen, want: "192.0.2.1:179 accepted the TCP connection but sent no OPEN for 20s"},
		{name: "no KEEPALIVE", err: errNoKeepalive, want: "as a router with TTL security does if ttlSecurity is not set"},
		{name: "not BGP", err: refuse(1, 1), want: "192.0.2.1:179 does not speak BGP: check peerPort"},
		{name: "closed", open: &openInfo{}, err: errRouterClosed, want: "192.0.2.1:179 closed the connection without a NOTIFICATION; check its log"},
		{name: "localASN", peer: func(p *lb.BGPPeer) { p.LocalASN = 64999 }, err: heard(2, 2), want: "it expects another AS number than 64999, which this node sent; set localASN to the number"},
		{name: "password refused", err: heard(2, 5), want: "the passwords differ"},
		{name: "their hold time", peer: func(p *lb.BGPPeer) { p.HoldTime = 3 * time.Second }, err: heard(2, 6), want: "it does not accept a hold time of 3s; set holdTime"},
		{name: "our hold time", open: &openInfo{hold: time.Second}, err: &notifiedError{notification{2, 6, nil}, true}, want: "the router proposes a hold time of 1s, and less than 3 s is not allowed"},
		{name: "our router ID", open: &openInfo{routerID: node4}, err: refuse(2, 3), want: "the router has the router ID 192.0.2.11 too; set routerID to another"},
		{name: "they did not hear us", err: heard(4, 0), want: "the router says: hold timer expired: it received nothing from this node for the hold time"},
		{name: "limit", err: heard(6, 1), want: "cease, maximum number of prefixes reached: this node advertises more routes than the router's limit; raise the limit"},
		{name: "shutdown", err: heard(6, 2), want: "cease, administrative shutdown: the session was shut down on the router"},
		{name: "shutdown with words", err: heard(6, 2, append([]byte{13}, "maint\x1b[31menance"...)...), want: `cease, administrative shutdown: "maint[31mena"`},
		{name: "hard reset", err: heard(6, 9, append([]byte{6, 4, 3}, "bye"...)...), want: `the router says: cease, administrative reset: "bye"`},
		{name: "rejected", err: heard(6, 5), want: "check that this node is configured there as a neighbour with AS 64512"},
		{name: "BFD", err: heard(6, 10), want: "cease, BFD down: BFD on the router reported this node as down"},
		{name: "malformed", err: heard(3, 8), want: "UPDATE message error, invalid NEXT_HOP: it did not accept a message of this node; please report this"},
		{name: "unheard of", err: heard(9, 7), want: "the router says: code 9, subcode 7"},
		{name: "unheard of subcode", err: heard(6, 77), want: "the router says: cease, subcode 77"},
		{name: "port taken", err: refusedToListen(netip.AddrPortFrom(node4, 179), syscall.EADDRINUSE), want: "another program already listens on 192.0.2.11:179"},
		{name: "no address to listen on", err: refusedToListen(netip.AddrPortFrom(node4, 179), syscall.EADDRNOTAVAIL), want: "this node does not have the address 192.0.2.11 (yet)"},
		{name: "something else", err: errors.New("strange"), want: "strange"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := attempt{peer: peer(tt.peer), router: "192.0.2.1:179", local: "192.0.2.11", opened: tt.open}
			if got := a.describe(tt.err); !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func heard(code, subcode uint8, data ...byte) error {
	return fmt.Errorf("line: %w", &notifiedError{notification: notification{code, subcode, data}})
}
