package routing

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/go-logr/logr/funcr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/bfd"
	"github.com/fairlead-lb/fairlead/internal/bgp"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

// fakeEngine records what it is asked for.
type fakeEngine struct {
	sessions []bgp.Session
	refuses  []bgp.Refusal
	changed  notify.Signal

	calls []string // in order
}

func (e *fakeEngine) Apply(peers []lb.BGPPeer, routes []lb.BGPRoute) []bgp.Refusal {
	var rows []string
	for _, r := range routes {
		row := r.Prefix.String() + " to " + strings.Join(r.Peers, ",")
		if r.Drain {
			row += " drained"
		}
		rows = append(rows, row)
	}
	e.calls = append(e.calls, fmt.Sprintf("apply %d: %s", len(peers), strings.Join(rows, "; ")))
	return e.refuses
}

func (e *fakeEngine) Sessions() []bgp.Session  { return e.sessions }
func (e *fakeEngine) Changed() <-chan struct{} { return e.changed }
func (e *fakeEngine) Readdress()               { e.calls = append(e.calls, "readdress") }
func (e *fakeEngine) Close()                   { e.calls = append(e.calls, "close") }
func (e *fakeEngine) Lost(peer, _ string)      { e.calls = append(e.calls, "lost "+peer) }
func (e *fakeEngine) Restored(peer string)     { e.calls = append(e.calls, "restored "+peer) }

func (e *fakeEngine) Drain(_ context.Context, wait time.Duration, message string) {
	e.calls = append(e.calls, fmt.Sprintf("drain %v: %s", wait, message))
}

// take returns the calls since the last take.
func (e *fakeEngine) take() []string {
	defer func() { e.calls = nil }()
	return e.calls
}

func newRoutes(t *testing.T) (*Routes, *fakeEngine) {
	t.Helper()
	e := &fakeEngine{changed: notify.New()}
	r := New(Config{DrainWait: 3 * time.Second}, logr.Discard())
	r.engine.Close()
	r.engine, r.paths.holder = e, e
	return r, e
}

func peers(names ...string) (out []lb.BGPPeer) {
	for i, n := range names {
		out = append(out, lb.BGPPeer{Name: n, MyASN: 1, PeerASN: 2, Address: netip.AddrFrom4([4]byte{192, 0, 2, byte(i + 1)})})
	}
	return out
}

func expect(t *testing.T, e *fakeEngine, why string, want ...string) {
	t.Helper()
	if got := e.take(); !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", why, got, want)
	}
}

// The engine is given the plan when that changes, and when a drained route is to go.
func TestApply(t *testing.T) {
	r, e := newRoutes(t)
	now := time.Unix(1000, 0)
	r.now = func() time.Time { return now }
	wanted := Wanted{Peers: peers("r1")}
	plan := []lb.BGPRoute{routeOf(1, false), routeOf(2, false)}
	if again := r.Apply(wanted, plan, 1, nil); again != 0 {
		t.Errorf("again in %v", again)
	}
	expect(t, e, "the first plan", "apply 1: 192.0.2.1/32 to r1; 192.0.2.2/32 to r1")
	if !r.OnlyAdvertiser() {
		t.Error("no route is drained, and others are said to have them")
	}
	r.Apply(wanted, plan, 1, nil)
	expect(t, e, "the same plan")

	plan = []lb.BGPRoute{routeOf(1, true), routeOf(2, true)}
	if again := r.Apply(wanted, plan, 2, nil); again != 3*time.Second {
		t.Errorf("again in %v, want the wait for drained routes", again)
	}
	expect(t, e, "drained", "apply 1: 192.0.2.1/32 to r1 drained; 192.0.2.2/32 to r1 drained")
	if r.OnlyAdvertiser() {
		t.Error("all is drained, and nobody else is said to have it")
	}
	now = now.Add(2 * time.Second)
	r.Apply(wanted, plan, 2, nil)
	expect(t, e, "too early to withdraw")
	now = now.Add(time.Second)
	r.Apply(wanted, plan, 2, nil)
	expect(t, e, "withdrawn", "apply 1: ")
	r.Readdress()
	expect(t, e, "another address", "readdress")
	e.changed.Poke()
	<-r.Changed()
}

// What the Speaker says of sessions: also of those that this node cannot have.
func TestSessions(t *testing.T) {
	r, e := newRoutes(t)
	e.refuses = []bgp.Refusal{{Peer: "refused", Err: errors.New("no router ID")}, {Peer: "r1", Prefix: netip.MustParsePrefix("192.0.2.9/24"), Err: errors.New("host bits")}}
	e.sessions = []bgp.Session{
		{Peer: "r2", State: bgp.Active, LastError: "connection refused"},
		{Peer: "r1", State: bgp.Established, PrefixesIPv4: 2, Note: "no IPv6 next hop", Counters: bgp.Counters{UpdatesSent: 3}},
	}
	wanted := Wanted{
		Peers: peers("r1", "r2", "refused"),
		Faults: map[string]*kube.Fault{
			"r1":     {Reason: v1alpha1.ReasonBFDProfileNotFound, Message: "there is no BFDProfile"},
			"secret": {Reason: v1alpha1.ReasonSecretNotFound, Message: "there is no Secret"},
		},
	}
	r.Apply(wanted, []lb.BGPRoute{routeOf(1, false)}, 1, nil)
	describe := func() string {
		var out []string
		for _, s := range r.Sessions() {
			out = append(out, fmt.Sprintf("%s %s %d %q %q %q %q", s.Peer, s.State, s.Prefixes, s.Reason, s.LastError, s.Note, s.BFD))
		}
		return strings.Join(out, "\n")
	}
	want := strings.Join([]string{
		`r1 Established 2 "BFDProfileNotFound" "" "there is no BFDProfile" ""`,
		`r2 Active 0 "" "connection refused" "" ""`,
		`refused Idle 0 "Invalid" "no router ID" "" ""`,
		`secret Idle 0 "SecretNotFound" "there is no Secret" "" ""`,
	}, "\n")
	if got := describe(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	// The routes of a family that are not advertised are noted; the last error stays while
	// the session is tried again.
	six := routeOf(1, false)
	six.Prefix = netip.MustParsePrefix("2001:db8::1/128")
	wanted.Faults = nil
	e.refuses, e.sessions[0].LastError = nil, ""
	r.Apply(wanted, []lb.BGPRoute{routeOf(1, false), six}, 2, nil)
	want = strings.Join([]string{`r1 Established 2 "" "" "no IPv6 next hop" ""`, `r2 Active 0 "" "connection refused" "" ""`}, "\n")
	if got := describe(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}

	m := r.Measure()
	if len(m) != 2 || m[0].Up || !m[1].Up || m[1].Prefixes != 2 || m[1].UpdatesSent != 3 || m[1].Watched {
		t.Errorf("measured are %+v", m)
	}
	e.sessions = e.sessions[1:]
	e.sessions[0].State = bgp.Idle
	if got := describe(); strings.Contains(got, "r2") || len(r.errors) != 1 || r.up["r1"] {
		t.Errorf("after one has gone and one is lost: %s; remembered are %v, up are %v", got, r.errors, r.up)
	}
}

// A peer's path is watched as its profile says: of an unnumbered one once its router is found.
func TestWatchedPaths(t *testing.T) {
	r, e := newRoutes(t)
	list := peers("r1", "r2", "r3", "refused")
	list[1].Interface, list[1].Address = "eth1", netip.Addr{}
	profile := kube.BFDProfile{Transmit: time.Second, Receive: 2 * time.Second, DetectMultiplier: 3}
	wanted := Wanted{Peers: list, BFD: map[string]kube.BFDProfile{"r1": profile, "r2": profile, "refused": profile}}
	e.refuses = []bgp.Refusal{{Peer: "refused", Err: errors.New("no router ID")}}
	r.Apply(wanted, nil, 1, nil)
	watched := func() (out []string) {
		for key, w := range r.paths.wanted {
			if w.spec.TransmitInterval != time.Second || w.spec.DetectMultiplier != 3 {
				t.Errorf("%v is watched as %+v", key, w.spec)
			}
			out = append(out, key.Peer.String())
		}
		slices.Sort(out)
		return out
	}
	if got := watched(); !slices.Equal(got, []string{"192.0.2.1"}) {
		t.Errorf("watched are %v", got)
	}
	e.sessions = []bgp.Session{{Peer: "r2", Router: netip.MustParseAddrPort("[fe80::1%eth1]:179")}}
	r.Apply(wanted, nil, 1, nil)
	if got := watched(); !slices.Equal(got, []string{"192.0.2.1", "fe80::1"}) {
		t.Errorf("once the router is found, watched are %v", got)
	}
	if state, ok := r.paths.stateOf("r1"); !ok || state != bfd.Down {
		t.Errorf("the state of a path that was never up is %v, %v", state, ok)
	}
	key := bfd.Key{Peer: netip.MustParseAddr("192.0.2.1")}
	r.paths.onEvent(bfd.Event{Key: key, State: bfd.Up})
	<-r.PathsChanged()
	if got := r.Sessions(); len(got) != 2 || got[0].Peer != "r2" || got[0].BFD != v1alpha1.BFDSessionDown {
		t.Errorf("sessions are %+v", got)
	}
	if state, _ := r.paths.stateOf("r1"); state != bfd.Up {
		t.Errorf("the state is %v", state)
	}
	r.Apply(Wanted{Peers: list}, nil, 2, nil)
	if got := watched(); len(got) != 0 {
		t.Errorf("without profiles, watched are %v", got)
	}
}

// How sessions end: softly for good; and for a moment, without a loss where the router keeps
// the routes.
func TestLeave(t *testing.T) {
	for _, tt := range []struct {
		name    string
		peers   []string
		routes  int
		forGood bool
		restart bool // the routers keep routes
		want    []string
	}{
		{"without peers", nil, 0, true, false, []string{"close"}},
		{"for good", []string{"r1"}, 1, true, true, []string{"drain 3s: n1 is drained"}},
		{"for good, without routes", []string{"r1"}, 0, true, true, []string{"drain 0s: n1 is drained"}},
		{"for a moment", []string{"r1"}, 1, false, true, []string{"close"}},
		{"for a moment, and the router forgets routes", []string{"r1"}, 1, false, false, []string{"apply 1: 192.0.2.1/32 to r1 drained", "close"}},
		{"for a moment, and there are no routes", []string{"r1"}, 0, false, false, []string{"close"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r, e := newRoutes(t)
				var plan []lb.BGPRoute
				for i := range tt.routes {
					plan = append(plan, routeOf(i+1, false))
				}
				r.Apply(Wanted{Peers: peers(tt.peers...)}, plan, 1, nil)
				e.sessions = []bgp.Session{{Peer: "r1", State: bgp.Established, GracefulRestart: tt.restart}}
				e.take()
				began := time.Now()
				r.Leave(t.Context(), tt.forGood, "n1 is drained")
				expect(t, e, "calls", tt.want...)
				if waited := time.Since(began) > 0; waited != (len(tt.want) == 2) {
					t.Errorf("it waited %v", time.Since(began))
				}
			})
		})
	}
}

// A process for BFD that ends by itself is started again, and who it held down is released.
func TestProcessEndsByItself(t *testing.T) {
	var ends atomic.Int32
	log := funcr.New(func(_, args string) {
		if strings.Contains(args, "has ended; starting another") {
			ends.Add(1)
		}
	}, funcr.Options{})
	h := held{}
	p := newPaths(log, []string{"false"}, h)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { p.run(ctx); close(done) }()
	p.want([]watched{{bfd.SessionSpec{Key: bfd.Key{Peer: netip.MustParseAddr("192.0.2.1")}}, []string{"a"}}})
	for deadline := time.Now().Add(30 * time.Second); ends.Load() < 2; {
		if time.Now().After(deadline) {
			t.Fatal("it was not started again")
		}
		<-time.After(10 * time.Millisecond)
	}
	cancel()
	<-done
	if h.String() != "[]" {
		t.Errorf("%v are held", h)
	}
}
