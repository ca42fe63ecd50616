package bfd

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

const ms = time.Millisecond

var (
	hostA, hostB = netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	keyA         = Key{Peer: hostB} // of host A's session
	keyB         = Key{Peer: hostA}
)

// node is an Engine on a fake host.
type node struct {
	*Engine
	net  *fakeNetwork
	t    *testing.T
	stop func()

	mu     sync.Mutex // guards the field below
	events []string
}

func startNode(t *testing.T, n *fakeNetwork, specs ...SessionSpec) *node {
	e := &node{net: n, t: t}
	e.Engine = newEngine(Config{Log: logr.Discard(), Notify: func(ev Event) {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.events = append(e.events, ev.State.String()+", "+ev.Diag.String()+"; peer "+ev.RemoteState.String())
	}}.tell, n)
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	e.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(e.stop)
	e.apply(specs...)
	return e
}

func (e *node) apply(specs ...SessionSpec) {
	e.t.Helper()
	if err := e.Apply(specs); err != nil {
		e.t.Fatal(err)
	}
	synctest.Wait()
}

func (e *node) only() SessionStatus {
	e.t.Helper()
	s := e.Status().Sessions
	if len(s) != 1 {
		e.t.Fatalf("%d sessions", len(s))
	}
	return s[0]
}

func (e *node) heard() []string {
	synctest.Wait()
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.events)
}

// pass lets time pass.
func pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the time of a synctest bubble
	synctest.Wait()
}

func at(k Key, interval time.Duration) SessionSpec {
	return SessionSpec{Key: k, TransmitInterval: interval, ReceiveInterval: interval}
}

func TestSessionLives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		netA, netB := newFakes()
		a, b := startNode(t, netA, at(keyA, 100*ms)), startNode(t, netB, at(keyB, 100*ms))
		pass(2 * time.Second)
		if s := a.only(); s.State != Up || s.RemoteState != Up || s.DetectionTime != 300*ms || s.TransmitInterval != 100*ms || s.Err != "" {
			t.Fatalf("%+v", s)
		}

		a.apply(at(keyA, 500*ms))
		pass(3 * time.Second)
		if s := b.only(); s.State != Up || s.DetectionTime != 1500*ms || s.Downs != 0 || s.Ups != 1 {
			t.Errorf("after a change of intervals: %+v", s)
		}

		netA.set(func() { netA.cut = true })
		pass(2 * time.Second)
		netA.set(func() { netA.cut = false })
		pass(3 * time.Second)
		a.stop()
		synctest.Wait()
		// Whether a side passes through Init depends on who speaks first.
		got := slices.DeleteFunc(b.heard(), func(e string) bool { return strings.HasPrefix(e, "Init") })
		for i := range got {
			got[i] = strings.ReplaceAll(got[i], "peer Init", "peer Up")
		}
		want := []string{
			"Up, No Diagnostic; peer Up", "Down, Control Detection Time Expired; peer Down",
			"Up, No Diagnostic; peer Up", "Down, Neighbor Signaled Session Down; peer AdminDown",
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("events: -want +got:\n%s", diff)
		}
		if s := b.only(); s.Timeouts != 1 || s.Downs != 2 || s.Ups != 2 {
			t.Errorf("%+v", s)
		}
	})
}

// RFC 5880, 6.8.16: a session that ends says so, more than once.
func TestFarewell(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		netA, netB := newFakes()
		a, b := startNode(t, netA, at(keyA, 50*ms)), startNode(t, netB, at(keyB, 50*ms))
		pass(2 * time.Second)
		netA.set(func() { netA.sent = nil })
		begin := time.Now()
		a.apply()
		pass(time.Second)
		var said []time.Duration
		netA.set(func() {
			for _, p := range netA.sent {
				if packet, err := session.Parse([]byte(p.Payload)); err != nil || packet.State != AdminDown || packet.Diag != session.DiagAdminDown {
					t.Errorf("sent %+v, %v", packet, err)
				}
				said = append(said, p.At.Sub(begin))
			}
		})
		if diff := cmp.Diff([]time.Duration{0, 50 * ms, 100 * ms}, said); diff != "" {
			t.Errorf("times of farewells: -want +got:\n%s", diff)
		}
		if b.only().State != Down || len(a.Status().Sessions) != 0 || a.Status().Late != 0 {
			t.Errorf("b is %+v, a has %+v", b.only(), a.Status())
		}

		a.apply(at(keyA, 50*ms))
		pass(2 * time.Second)
		a.apply()
		a.apply(at(keyA, 50*ms)) // wanted again, before the farewells are over
		pass(3 * time.Second)
		if s := b.only(); s.State != Up {
			t.Errorf("b is %+v", s)
		}
	})
}

func TestKernelRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		netA, netB := newFakes()
		netA.refuse = errFake
		a, _ := startNode(t, netA, at(keyA, 50*ms)), startNode(t, netB, at(keyB, 50*ms))
		pass(5 * time.Second)
		if s := a.only(); s.Err != errFake.Error() || s.State != Init && s.State != Down {
			t.Errorf("%+v", s)
		}
		netA.set(func() { netA.refuse = nil })
		pass(4 * time.Second)
		s := a.only()
		if s.Err != "" || s.State != Up {
			t.Errorf("%+v", s)
		}
		dials := netA.dials
		netA.set(func() { netA.broken = errFake })
		pass(3 * time.Second)
		if s := a.only(); s.Err != errFake.Error() || s.SendErrors == 0 {
			t.Errorf("%+v", s)
		}
		netA.set(func() { netA.broken = nil })
		pass(4 * time.Second)
		if again := a.only(); again.Err != "" || again.State != Up || again.SourcePort != s.SourcePort || netA.dials == dials {
			t.Errorf("%+v; RFC 5881, 4: the source port stays", again)
		}
	})
}

func TestTTL(t *testing.T) {
	multi := func(k Key) Key { k.MultiHop = true; return k }
	for name, tt := range map[string]struct {
		multiHop bool
		ttl      int
		minimum  uint8
		want     State
	}{
		"a neighbour":                     {false, 255, 0, Up},
		"one hop":                         {false, 254, 1, Down}, // RFC 5881, 5
		"multihop, default":               {true, 254, 0, Up},
		"multihop, one more than allowed": {true, 253, 0, Down},
		"multihop, many":                  {true, 200, 200, Up},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				netA, netB := newFakes()
				netA.ttl, netB.ttl = tt.ttl, tt.ttl
				specA, specB := at(keyA, 50*ms), at(keyB, 50*ms)
				if tt.multiHop {
					specA.Key, specB.Key = multi(keyA), multi(keyB)
				}
				specA.MinimumTTL, specB.MinimumTTL = tt.minimum, tt.minimum
				a, _ := startNode(t, netA, specA), startNode(t, netB, specB)
				pass(2500 * ms)
				s := a.Status()
				if s.Sessions[0].State != tt.want || (s.Refused[session.FaultTTL] == 0) != (tt.want == Up) {
					t.Errorf("%+v", s)
				}
			})
		})
	}
}

// A packet that waited to be read while this process did not run counts from
// when it arrived, so that a silence is one of the network.
func TestStallIsNoSilence(t *testing.T) {
	for name, tt := range map[string]struct {
		arrived []time.Duration // before the end of the stall
		want    State
	}{
		"packets went on arriving": {[]time.Duration{400 * ms, 300 * ms, 200 * ms, 100 * ms}, Up},
		"the last is long ago":     {[]time.Duration{450 * ms, 350 * ms}, Down},
		"there was a gap":          {[]time.Duration{450 * ms, 10 * ms}, Down},
		"nothing arrived":          {nil, Down},
	} {
		synctest.Test(t, func(t *testing.T) {
			n, _ := newFakes()
			l := newLoop(newEngine(Config{}.tell, n), PriorityNormal)
			l.wanted.Store(&map[Key]SessionSpec{keyA: at(keyA, 100*ms).withDefaults()})
			l.reconcile(time.Now(), false)
			p := l.peers[keyA]
			packet := session.Packet{
				State: Init, DetectMult: 3, MyDiscriminator: 7, YourDiscriminator: p.session.Discriminator(), DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms,
			}
			hear := func(ago time.Duration) {
				n.arrive(p.path.socket, datagram{Payload: packet.Append(nil), From: hostB, To: hostA, TTL: maxTTL, At: time.Now().Add(-ago)})
			}
			hear(0)
			l.receive(time.Now())
			time.Sleep(500 * ms) //nolint:forbidigo // the process is stopped
			packet.State = Up
			for _, ago := range tt.arrived {
				hear(ago)
			}
			l.receive(time.Now())
			l.fire(time.Now())
			if s, _ := p.session.State(); s != tt.want {
				t.Errorf("%s: %v, want %v", name, s, tt.want)
			}
		})
	}
}

func TestStatusWithoutRun(t *testing.T) {
	n, _ := newFakes()
	e := newEngine(Config{}.tell, n)
	if err := e.Apply([]SessionSpec{at(keyA, 50*ms)}); err != nil {
		t.Fatal(err)
	}
	if s := e.Status(); s.Sessions != nil {
		t.Errorf("%+v", s)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := e.Run(ctx); err != nil {
		t.Fatal(err)
	}
	if s := e.Status(); s.Sessions != nil {
		t.Errorf("%+v", s)
	}
}

func TestSpecsThatAreRefused(t *testing.T) {
	addr := netip.MustParseAddr
	good := at(Key{Peer: addr("192.0.2.9")}, 50*ms)
	for name, tt := range map[string]struct {
		spec SessionSpec
		want string
	}{
		"no peer":                 {SessionSpec{}, "not the address of a host"},
		"multicast":               {SessionSpec{Key: Key{Peer: addr("224.0.0.1")}}, "not the address of a host"},
		"two families":            {SessionSpec{Key: Key{Peer: addr("192.0.2.1"), Local: addr("::1")}}, "two families"},
		"link-local, nowhere":     {SessionSpec{Key: Key{Peer: addr("fe80::1")}}, "name its interface"},
		"link-local, far":         {SessionSpec{Key: Key{Peer: addr("fe80::1%eth0"), MultiHop: true}}, "several hops"},
		"two interfaces":          {SessionSpec{Key: Key{Peer: addr("fe80::1%eth0"), Interface: "eth1"}}, "is not interface"},
		"too fast":                {at(Key{Peer: addr("192.0.2.1")}, time.Microsecond), "transmit interval"},
		"too slow":                {at(Key{Peer: addr("192.0.2.1")}, 2*time.Hour), "transmit interval"},
		"negative":                {SessionSpec{Key: Key{Peer: addr("192.0.2.1")}, ReceiveInterval: -1}, "receive interval"},
		"the same in other words": {at(Key{Peer: addr("::ffff:192.0.2.9")}, 50*ms), "is the same as 192.0.2.9"},
	} {
		accepted, err := accept([]SessionSpec{good, tt.spec})
		if err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: %v, want %q", name, err, tt.want)
		}
		if _, ok := accepted[good.Key]; !ok || len(accepted) != 1 {
			t.Errorf("%s: accepted %v", name, accepted)
		}
	}
}

// RFC 5880, 6.3 and 6.8.6; RFC 5881, 3: which session a packet is for.
func TestDirectory(t *testing.T) {
	d := newDirectory()
	add := func(discriminator uint32, ifindex int, k Key) *peer {
		spec := SessionSpec{Key: k}.withDefaults()
		path, err := spec.path()
		if err != nil {
			t.Fatal(err)
		}
		p := &peer{key: k, path: path, ifindex: ifindex, session: session.New(discriminator, spec.params(), nil)}
		d.add(p)
		return p
	}
	hostC := netip.MustParseAddr("192.0.2.3")
	plain := add(1, 0, Key{Peer: hostB})
	local := add(2, 0, Key{Peer: hostB, Local: hostA})
	eth0 := add(3, 5, Key{Peer: hostB, Interface: "eth0"})
	both := add(4, 6, Key{Peer: hostB, Interface: "eth1", Local: hostA})
	far := add(5, 0, Key{Peer: hostB, MultiHop: true})
	one, many := socketKey{}, socketKey{multiHop: true}
	for name, tt := range map[string]struct {
		socket socketKey
		from   datagram
		yours  uint32
		want   *peer
	}{
		"by discriminator":              {one, datagram{From: hostC}, 2, local},
		"by discriminator, unknown":     {one, datagram{From: hostB}, 9, nil},
		"by discriminator, wrong port":  {one, datagram{From: hostB}, 5, nil},
		"by address":                    {one, datagram{From: hostB, To: hostC, Interface: 1}, 0, plain},
		"by local address":              {one, datagram{From: hostB, To: hostA, Interface: 1}, 0, local},
		"by interface":                  {one, datagram{From: hostB, To: hostC, Interface: 5}, 0, eth0},
		"by interface and address":      {one, datagram{From: hostB, To: hostA, Interface: 6}, 0, both},
		"by address, multihop":          {many, datagram{From: hostB, To: hostC}, 0, far},
		"by address, unknown":           {one, datagram{From: hostC}, 0, nil},
		"by address, in no VRF of ours": {socketKey{vrf: "red"}, datagram{From: hostB}, 0, nil},
	} {
		if got := d.find(tt.socket, tt.from, tt.yours); got != tt.want {
			t.Errorf("%s: got %+v", name, got)
		}
	}
	d.remove(local)
	if d.find(one, datagram{From: hostB, To: hostA}, 0) != plain || d.find(one, datagram{}, 2) != nil {
		t.Error("found a session that was removed")
	}
}
