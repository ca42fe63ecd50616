package routing

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/bfd"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

func routeOf(i int, drain bool) lb.BGPRoute {
	p := netip.PrefixFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i)}), 32)
	return lb.BGPRoute{Prefix: p, Peers: []string{"r1"}, BGPAttributes: lb.BGPAttributes{Drain: drain}}
}

// A route that is to go is announced with the wish to prefer others for a while,
// then not at all; one that was not announced is not announced for that.
func TestDrains(t *testing.T) {
	d := drains{wait: 3 * time.Second}
	now := time.Unix(1000, 0)
	for i, step := range []struct {
		after time.Duration
		plan  []lb.BGPRoute
		want  string
		again time.Duration
	}{
		{0, []lb.BGPRoute{routeOf(1, false), routeOf(2, false)}, "1 2", 0},
		{0, []lb.BGPRoute{routeOf(1, true), routeOf(2, false), routeOf(3, true)}, "1d 2", 3 * time.Second},
		{time.Second, []lb.BGPRoute{routeOf(1, true), routeOf(2, true), routeOf(3, true)}, "1d 2d", 2 * time.Second},
		{2 * time.Second, []lb.BGPRoute{routeOf(1, true), routeOf(2, true)}, "2d", time.Second},
		{time.Second, []lb.BGPRoute{routeOf(1, true), routeOf(2, true)}, "", 0},
		{time.Hour, []lb.BGPRoute{routeOf(1, true), routeOf(2, false)}, "2", 0},
		{0, []lb.BGPRoute{routeOf(1, true), routeOf(2, true)}, "2d", 3 * time.Second},
		{0, []lb.BGPRoute{routeOf(1, false), routeOf(2, false)}, "1 2", 0},
	} {
		now = now.Add(step.after)
		rows, again := d.step(step.plan, now)
		got := ""
		for _, r := range rows {
			if got != "" {
				got += " "
			}
			got += fmt.Sprint(r.Prefix.Addr().As4()[3])
			if r.Drain {
				got += "d"
			}
		}
		if got != step.want || again != step.again {
			t.Errorf("step %d: %q and again in %v, want %q and %v", i, got, again, step.want, step.again)
		}
	}
}

func TestDrainedForSomePeers(t *testing.T) {
	row := routeOf(1, false)
	row.Peers = []string{"r1", "r2", "r3"}
	got := drained([]lb.BGPRoute{row, routeOf(2, false)}, []string{"r1"})
	keeps, soft, all := row, row, routeOf(2, true)
	keeps.Peers, soft.Peers, soft.Drain = []string{"r2", "r3"}, []string{"r1"}, true
	if diff := cmp.Diff([]lb.BGPRoute{keeps, soft, all}, got, cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// held is a holder that remembers who is held down.
type held map[string]bool

func (h held) Lost(peer, _ string)  { h[peer] = true }
func (h held) Restored(peer string) { delete(h, peer) }

func (h held) String() string {
	var out []string
	for p := range h {
		out = append(out, p)
	}
	slices.Sort(out)
	return fmt.Sprint(out)
}

// A session is held down only from the loss of a path that was up until it is
// back, and not when the router has switched BFD off (RFC 5882, 3.2).
func TestPathsHold(t *testing.T) {
	key := bfd.Key{Peer: netip.MustParseAddr("192.0.2.1")}
	other := bfd.Key{Peer: netip.MustParseAddr("192.0.2.2")}
	h := held{}
	p := newPaths(logr.Discard(), nil, h)
	p.want([]watched{{bfd.SessionSpec{Key: key}, []string{"a"}}, {bfd.SessionSpec{Key: key}, []string{"b"}}, {bfd.SessionSpec{Key: other}, []string{"c"}}})
	for i, step := range []struct {
		event bfd.Event
		want  string
	}{
		{bfd.Event{Key: key, State: bfd.Down, RemoteState: bfd.Down}, "[]"},
		{bfd.Event{Key: key, State: bfd.Init, RemoteState: bfd.Down}, "[]"},
		{bfd.Event{Key: key, State: bfd.Up, RemoteState: bfd.Down}, "[]"},
		{bfd.Event{Key: key, State: bfd.Down, RemoteState: bfd.Down}, "[a b]"},
		{bfd.Event{Key: key, State: bfd.Init, RemoteState: bfd.Down}, "[a b]"},
		{bfd.Event{Key: key, State: bfd.Up, RemoteState: bfd.Down}, "[]"},
		{bfd.Event{Key: key, State: bfd.Down, RemoteState: bfd.AdminDown}, "[]"},
		{bfd.Event{Key: key, State: bfd.Up, RemoteState: bfd.Down}, "[]"},
		{bfd.Event{Key: key, State: bfd.Down, RemoteState: bfd.Down}, "[a b]"},
		{bfd.Event{Key: key, State: bfd.Down, RemoteState: bfd.AdminDown}, "[]"},
		{bfd.Event{Key: other, State: bfd.Up, RemoteState: bfd.Down}, "[]"},
		{bfd.Event{Key: other, State: bfd.Down, RemoteState: bfd.Down}, "[c]"},
	} {
		p.onEvent(step.event)
		if h.String() != step.want {
			t.Errorf("event %d: %v are held, want %s", i, h, step.want)
		}
	}
	p.want(nil)
	if h.String() != "[]" {
		t.Errorf("%v are held though nobody watches", h)
	}
}

func TestWhichFormOfBFD(t *testing.T) {
	interfaces := []netif.Interface{{Name: "eth0", Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.11/24")}}}
	near, far := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("198.51.100.1")
	for _, tt := range []struct {
		peer lb.BGPPeer
		want bool
	}{
		{lb.BGPPeer{MyASN: 1, PeerASN: 2, Address: near}, false},
		{lb.BGPPeer{MyASN: 1, PeerASN: 2, Address: far, Multihop: true}, true},
		{lb.BGPPeer{MyASN: 1, PeerASN: 1, Address: near}, false},
		{lb.BGPPeer{MyASN: 1, PeerASN: 1, Address: far}, true},
		{lb.BGPPeer{MyASN: 1, PeerASN: 1, Interface: "eth1"}, false},
	} {
		if got := severalHops(&tt.peer, interfaces); got != tt.want {
			t.Errorf("%+v: %v", tt.peer, got)
		}
	}
}
