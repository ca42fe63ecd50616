package lab

import (
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// What FRR 8.4 and BIRD 2.0 said in a lab is in testdata.

var compareAddrs = cmpopts.EquateComparable(netip.Addr{}, netip.Prefix{})

func ip(s string) netip.Addr { return netip.MustParseAddr(s) }

func at(t *testing.T, s string) time.Time {
	t.Helper()
	then, err := time.ParseInLocation(birdTime, s, time.Local)
	if err != nil {
		t.Fatal(err)
	}
	return then
}

func said(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func same[T any](t *testing.T, want, got T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got, compareAddrs); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestParseFRRSessions(t *testing.T) {
	got, err := parseFRRSessions(said(t, "frr-neighbors.json"))
	since := time.Unix(1795274195, 0)
	same(t, []BGPSession{
		{Name: "172.30.0.11", Peer: ip("172.30.0.11"), PeerASN: 64513, State: "Established", Established: true, Since: since, Resets: 1, Received4: 1, LastError: "No AFI/SAFI activated for peer"},
		{Name: "172.30.0.13", Peer: ip("172.30.0.13"), PeerASN: 64513, State: "Active", LastError: "Waiting for peer OPEN"},
		{Name: "fd30::12", Peer: ip("fd30::12"), PeerASN: 64513, State: "Established", Established: true, Since: since, Resets: 1, Received6: 1, LastError: "Cease/BFD Down"},
	}, got, err)

	for why, text := range map[string]string{
		"there are none":   `{}`,
		"a fact about all": `{"vrfName":"default","n1":{"bgpState":1}}`,
	} {
		if got, err := parseFRRSessions([]byte(text)); err != nil || len(got) > 0 {
			t.Errorf("%s: %+v, %v", why, got, err)
		}
	}
	if _, err := parseFRRSessions([]byte("% nothing")); err == nil {
		t.Error("what is no JSON is no error")
	}
}

func TestParseFRRPaths(t *testing.T) {
	med := uint32(7)
	path := func(peer string, best, stale bool) BGPPath {
		return BGPPath{
			Peer: ip(peer), NextHop: ip(peer), ASPath: "64513", Origin: "IGP", MED: &med, Best: best, Stale: stale,
			Communities: []string{"65000:1", "65535:65281"}, LargeCommunities: []string{"65000:1:2"},
		}
	}
	got, err := parseFRRPaths(said(t, "frr-routes6.json"))
	same(t, map[netip.Prefix][]BGPPath{
		netip.MustParsePrefix("fd10:30::1/128"): {path("fd30::12", false, false), path("fd30::11", true, false)},
	}, got, err)

	// The speaker of 172.30.0.11 had crashed, with graceful restart.
	got, err = parseFRRPaths(said(t, "frr-routes4-stale.json"))
	same(t, map[netip.Prefix][]BGPPath{
		netip.MustParsePrefix("10.30.0.1/32"): {path("172.30.0.12", false, false), path("172.30.0.11", true, true)},
	}, got, err)
}

func TestNumericCommunities(t *testing.T) {
	got := numericCommunities("65000:1 graceful-shutdown no-export local-AS llgr-stale")
	same(t, []string{"65000:1", "65535:0", "65535:65281", "65535:65283", "65535:6"}, got, nil)
}

func TestParseFRRBFD(t *testing.T) {
	now := time.Unix(1795274300, 500)
	got, err := parseFRRBFD(said(t, "frr-bfd.json"), said(t, "frr-bfd-counters.json"), now)
	for i := range got {
		got[i].Since = got[i].Since.UTC()
	}
	same(t, []BFDSession{
		{Peer: ip("172.30.0.11"), Interface: "eth0", State: "Up", Up: true, Since: time.Unix(1795274228, 0).UTC(), Interval: 300 * time.Millisecond, Detect: 900 * time.Millisecond},
		{Peer: ip("172.30.0.13"), State: "Down", Since: time.Unix(1795274222, 0).UTC(), Interval: time.Second, Detect: 3 * time.Second},
		{Peer: ip("fd30::12"), Interface: "eth0", State: "Up", Up: true, Since: time.Unix(1795274230, 0).UTC(), Interval: 300 * time.Millisecond, Detect: 900 * time.Millisecond, Downs: 1},
	}, got, err)
}

func TestParseBIRDSessions(t *testing.T) {
	got, err := parseBIRDSessions(string(said(t, "bird-protocols.txt")))
	session := func(name, peer, since string, four, six int) BGPSession {
		return BGPSession{
			Name: name, Peer: ip(peer), PeerASN: 64513, State: "Established", Established: true,
			Since: at(t, since), Received4: four, Received6: six,
		}
	}
	refused := func(name, peer string) BGPSession {
		return BGPSession{Name: name, Peer: ip(peer), PeerASN: 64513, State: "Active", LastError: "Socket: Connection refused"}
	}
	same(t, []BGPSession{
		session("n1_4", "172.30.0.11", "2026-11-21 15:17:29.184", 1, 0),
		session("n2_4", "172.30.0.12", "2026-11-21 15:17:28.630", 1, 0),
		refused("n3_4", "172.30.0.13"),
		session("n1_6", "fd30::11", "2026-11-21 15:17:33.640", 0, 1),
		session("n2_6", "fd30::12", "2026-11-21 15:16:35.380", 0, 1),
		refused("n3_6", "fd30::13"),
	}, got, err)
}

func TestParseBIRDPaths(t *testing.T) {
	med, pref := uint32(7), uint32(100)
	path := func(peer string, best bool) BGPPath {
		return BGPPath{
			Peer: ip(peer), NextHop: ip(peer), ASPath: "64513", Origin: "IGP", MED: &med, LocalPref: &pref, Best: best,
			Communities: []string{"65000:1", "65535:65281"}, LargeCommunities: []string{"65000:1:2"},
		}
	}
	got, err := parseBIRDPaths(string(said(t, "bird-routes.txt")))
	same(t, map[netip.Prefix][]BGPPath{
		netip.MustParsePrefix("10.30.0.1/32"):   {path("172.30.0.11", true), path("172.30.0.12", false)},
		netip.MustParsePrefix("fd10:30::1/128"): {path("fd30::11", true), path("fd30::12", false)},
	}, got, err)

	// Another next hop than the neighbor, a stale path, and no BGP at all.
	got, err = parseBIRDPaths(`BIRD 2.0.12 ready.
Table master4:
10.30.0.2/32         unicast [n1_4 2026-11-21 15:17:30.437 from 172.30.0.12] (100s) [AS64513?]
	via 172.30.0.11 on eth0
	Type: BGP univ
	BGP.origin: Incomplete
	BGP.as_path: 64513
	BGP.next_hop: 172.30.0.11
10.30.0.3/32         blackhole [static1 2026-11-21 15:17:30.437] * (200)
	Type: static univ
`)
	same(t, map[netip.Prefix][]BGPPath{
		netip.MustParsePrefix("10.30.0.2/32"): {{Peer: ip("172.30.0.12"), NextHop: ip("172.30.0.11"), ASPath: "64513", Origin: "incomplete", Stale: true}},
	}, got, err)
}

func TestParseBIRDBFD(t *testing.T) {
	got, err := parseBIRDBFD(string(said(t, "bird-bfd.txt")))
	up := func(peer, since string) BFDSession {
		return BFDSession{Peer: ip(peer), Interface: "eth0", State: "Up", Up: true, Since: at(t, since), Interval: 300 * time.Millisecond, Detect: 900 * time.Millisecond}
	}
	down := func(peer string) BFDSession {
		return BFDSession{Peer: ip(peer), Interface: "eth0", State: "Down", Since: at(t, "2026-11-21 15:16:29.809"), Interval: time.Second}
	}
	same(t, []BFDSession{
		up("172.30.0.11", "2026-11-21 15:16:35.027"),
		up("172.30.0.12", "2026-11-21 15:16:35.376"),
		down("172.30.0.13"),
		up("fd30::11", "2026-11-21 15:16:35.027"),
		up("fd30::12", "2026-11-21 15:16:35.376"),
		down("fd30::13"),
	}, got, err)
}

// TestFIB: what the kernel says of routes adds up.
func TestFIB(t *testing.T) {
	to := netip.MustParsePrefix("fd10:30::1/128")
	a, b := ip("fd30::11"), ip("fd30::12")
	f := fib{}
	for _, step := range []struct {
		why     string
		news    routeNews
		changed bool
		want    []netip.Addr
	}{
		{"gone before it was there", routeNews{to: to, gone: true}, false, nil},
		{"new, in any order", routeNews{to: to, via: []netip.Addr{b, a}}, true, []netip.Addr{a, b}},
		{"the same again", routeNews{to: to, via: []netip.Addr{a, b}}, false, []netip.Addr{a, b}},
		{"one path of it is gone", routeNews{to: to, via: []netip.Addr{a}, gone: true, partly: true}, true, []netip.Addr{b}},
		{"a path that it had not", routeNews{to: to, via: []netip.Addr{a}, gone: true, partly: true}, false, []netip.Addr{b}},
		{"the last path is gone", routeNews{to: to, via: []netip.Addr{b}, gone: true, partly: true}, true, nil},
		{"back", routeNews{to: to, via: []netip.Addr{a, b}}, true, []netip.Addr{a, b}},
		{"all of it is gone", routeNews{to: to, gone: true}, true, nil},
	} {
		if changed := f.take(step.news); changed != step.changed {
			t.Errorf("%s: changed is %v", step.why, changed)
		}
		if diff := cmp.Diff(step.want, f[to], compareAddrs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.why, diff)
		}
	}
}

func TestLinkLocal(t *testing.T) {
	if got, want := linkLocal(mac(0, 11)), ip("fe80::ff:fe00:b"); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
