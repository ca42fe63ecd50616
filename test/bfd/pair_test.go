package bfd

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/bfd"
)

// spec is a session at 50 ms.
func spec(k bfd.Key) bfd.SessionSpec {
	return bfd.SessionSpec{Key: k, TransmitInterval: 50 * ms, ReceiveInterval: 50 * ms}
}

// everyKind is one session of each kind from a, and from b.
func everyKind() (a, b []bfd.SessionSpec) {
	for _, k := range []struct{ a, b bfd.Key }{
		{bfd.Key{Peer: addrB}, bfd.Key{Peer: addrA}},
		{bfd.Key{Peer: addrB6, Local: addrA6}, bfd.Key{Peer: addrA6, Interface: "eth0"}},
		{bfd.Key{Peer: linkB.WithZone("eth0")}, bfd.Key{Peer: linkA, Interface: "eth0"}},
		{bfd.Key{Peer: farB, Local: farA, MultiHop: true}, bfd.Key{Peer: farA, Local: farB, MultiHop: true}},
		{bfd.Key{Peer: farB6, Local: farA6, MultiHop: true}, bfd.Key{Peer: farA6, Local: farB6, MultiHop: true}},
	} {
		a, b = append(a, spec(k.a)), append(b, spec(k.b))
	}
	return a, b
}

func TestEveryKind(t *testing.T) {
	t.Run("in process", func(t *testing.T) { testEveryKind(t, inProcess) })
	t.Run("as child", func(t *testing.T) { testEveryKind(t, asChild) })
}

func testEveryKind(t *testing.T, newRunner func(bfd.Config) runner) {
	p := newPair(t)
	specsA, specsB := everyKind()
	a, b := p.a.run(newRunner, specsA...), p.b.run(newRunner, specsB...)
	a.all(len(specsA), bfd.Up)
	b.all(len(specsB), bfd.Up)
	for _, s := range a.Status().Sessions {
		if s.Err != "" || s.SourcePort < 49152 {
			t.Errorf("%+v", s)
		}
	}

	for i := range specsA {
		specsA[i].TransmitInterval, specsA[i].DetectMultiplier = 200*ms, 5
	}
	a.apply(specsA...)
	eventually(t, 5*time.Second, func() error {
		for _, s := range b.Status().Sessions {
			if s.DetectionTime != time.Second || s.RemoteMultiplier != 5 {
				return fmt.Errorf("%v has detection time %v", s.Key, s.DetectionTime)
			}
		}
		return nil
	})
	a.steady()
	b.steady()

	cut := time.Now()
	p.a.ip("link set eth0 down")
	b.all(len(specsB), bfd.Down)
	downs := 0
	for _, e := range b.seen() {
		if e.State != bfd.Down {
			continue
		}
		downs++
		if d := e.Since.Sub(cut); d > 5000*ms || d < 700*ms { // late on a busy machine, never early
			t.Errorf("%v down after %v, want the detection time of 1 s", e.Key, d)
		}
	}
	if downs != len(specsB) {
		t.Errorf("heard %d times that a session is down, want %d", downs, len(specsB))
	}
}

func TestStopTellsThePeer(t *testing.T) {
	t.Run("in process", func(t *testing.T) { testStopTellsThePeer(t, inProcess) })
	t.Run("as child", func(t *testing.T) { testStopTellsThePeer(t, asChild) })
}

func testStopTellsThePeer(t *testing.T, newRunner func(bfd.Config) runner) {
	p := newPair(t)
	specsA, specsB := everyKind()
	a, b := p.a.run(newRunner, specsA...), p.b.engine(specsB...)
	a.all(len(specsA), bfd.Up)
	b.all(len(specsB), bfd.Up)
	begin := time.Now()
	a.stop()
	if took := time.Since(begin); took > 3000*ms { // it does not wait for anybody
		t.Errorf("stopping took %v", took)
	}
	b.all(len(specsB), bfd.Down)
	for _, s := range b.Status().Sessions {
		if s.RemoteState != bfd.AdminDown && s.RemoteState != bfd.Down { // the latter when it is forgotten
			t.Errorf("%+v", s)
		}
	}
	for _, e := range b.seen() {
		if e.State == bfd.Down && e.RemoteState != bfd.AdminDown {
			t.Errorf("event %+v", e)
		}
	}
}

// Two daemons on a host would take each other's packets: the second says so, and
// takes over when the first is gone.
func TestPortTaken(t *testing.T) {
	p := newPair(t)
	first, b := p.a.engine(spec(bfd.Key{Peer: addrB})), p.b.engine(spec(bfd.Key{Peer: addrA}))
	first.all(1, bfd.Up)
	b.all(1, bfd.Up)
	second := p.a.engine(spec(bfd.Key{Peer: addrB}))
	eventually(t, 5*time.Second, func() error {
		if s := second.Status().Sessions; len(s) != 1 || !strings.Contains(s[0].Err, "another BFD daemon runs on this host") {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	b.steady()
	first.stop()
	second.all(1, bfd.Up)
}

// A child that dies is not missed in silence.
func TestChildDies(t *testing.T) {
	child := bfd.NewChild(bfd.Config{Log: logr.Discard()}, "sleep", "0.1")
	if err := child.Run(t.Context()); err == nil || !strings.Contains(err.Error(), "its sessions are gone") {
		t.Errorf("got %v", err)
	}
	if s := child.Status(); s.Sessions != nil {
		t.Errorf("%+v", s)
	}
}

// A socket that is bound to a device, as those for a VRF are, lives beside one
// that is not, in either order; and a VRF that is not there is waited for. The
// device itself is no VRF here: not every kernel has them.
func TestSocketsOfDevices(t *testing.T) {
	p := newPair(t)
	p.a.ip("link add eth1 type veth peer name eth1 netns "+p.b.ns, "link set eth1 up", "addr add 203.0.113.1/24 dev eth1")
	p.b.ip("link set eth1 up", "addr add 203.0.113.2/24 dev eth1")
	other1, other2 := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	plainA, plainB := spec(bfd.Key{Peer: addrB}), spec(bfd.Key{Peer: addrA})
	boundA, boundB := spec(bfd.Key{Peer: other2, VRF: "eth1"}), spec(bfd.Key{Peer: other1, VRF: "eth1"})
	a, b := p.a.engine(plainA), p.b.engine(boundB)
	a.apply(plainA, boundA)
	b.apply(plainB, boundB)
	a.all(2, bfd.Up)
	b.all(2, bfd.Up)

	p.a.ip("link del eth1")
	state := func(want bfd.State) {
		t.Helper()
		eventually(t, 5*time.Second, func() error {
			if s := a.Status().Sessions[1]; s.State != want || (s.Err == "") != (want == bfd.Up) {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	}
	state(bfd.Down)
	p.a.ip("link add eth1 type veth peer name eth1 netns "+p.b.ns, "link set eth1 up", "addr add 203.0.113.1/24 dev eth1")
	p.b.ip("link set eth1 up", "addr add 203.0.113.2/24 dev eth1")
	state(bfd.Up)
}

// Who waits to be spoken to on an interface hears its peer there also when the
// interface is made anew, before a session and after it.
func TestPassiveOnInterfaceMadeAnew(t *testing.T) {
	p := newPair(t)
	here, there := netip.MustParseAddr("fe80::c"), netip.MustParseAddr("fe80::d")
	connect := func() {
		p.a.ip("link add eth1 type veth peer name eth1 netns " + p.b.ns)
		for h, addr := range map[*host]netip.Addr{p.a: here, p.b: there} {
			h.ip("link set eth1 addrgenmode none", "link set eth1 up", fmt.Sprintf("addr add %s/64 dev eth1 nodad", addr))
		}
	}
	connect()
	passive := spec(bfd.Key{Peer: there, Interface: "eth1"})
	passive.Passive = true
	a := p.a.engine(passive)
	eventually(t, 5*time.Second, func() error {
		if s := a.Status().Sessions; len(s) != 1 || s[0].SourcePort == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	b := p.b.engine()
	for ups := range uint64(2) {
		p.a.ip("link del eth1")
		connect()
		b.apply(spec(bfd.Key{Peer: here, Interface: "eth1"}))
		eventually(t, 10*time.Second, func() error {
			if s := a.Status().Sessions[0]; s.State != bfd.Up || s.Ups != ups+1 {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
	}
}

// A thousand sessions, and ten thousand packets a second, over four sockets, as
// the speaker runs them. The detection time is one that a program with the race
// detector in it holds too: how short it may be tells BenchmarkBFDLoad.
func TestThousandSessions(t *testing.T) {
	const n = 1000
	p := newPair(t)
	var addressesA, addressesB []string
	var specsA, specsB []bfd.SessionSpec
	for i := range n {
		a, b := netip.AddrFrom4([4]byte{10, 1, byte(i >> 8), byte(i)}), netip.AddrFrom4([4]byte{10, 2, byte(i >> 8), byte(i)})
		if i%2 == 1 {
			a, b = netip.AddrFrom16([16]byte{0: 0xfd, 7: 1, 14: byte(i >> 8), 15: byte(i)}), netip.AddrFrom16([16]byte{0: 0xfd, 7: 2, 14: byte(i >> 8), 15: byte(i)})
		}
		addressesA = append(addressesA, fmt.Sprintf("addr add %s dev lo %s", netip.PrefixFrom(a, a.BitLen()), nodad(a)))
		addressesB = append(addressesB, fmt.Sprintf("addr add %s dev lo %s", netip.PrefixFrom(b, b.BitLen()), nodad(b)))
		multi := i%4 < 2
		spec := bfd.SessionSpec{TransmitInterval: 100 * ms, ReceiveInterval: 100 * ms, DetectMultiplier: 20}
		spec.Key = bfd.Key{Peer: b, Local: a, MultiHop: multi}
		specsA = append(specsA, spec)
		spec.Key = bfd.Key{Peer: a, Local: b, MultiHop: multi}
		specsB = append(specsB, spec)
	}
	p.a.ip(append(addressesA, "route add 10.2.0.0/16 via 192.0.2.2", "route add fd00:0:0:2::/64 via 2001:db8::2")...)
	p.b.ip(append(addressesB, "route add 10.1.0.0/16 via 192.0.2.1", "route add fd00:0:0:1::/64 via 2001:db8::1")...)
	begin := time.Now()
	a, b := p.a.child(specsA...), p.b.child(specsB...)
	a.all(n, bfd.Up)
	b.all(n, bfd.Up)
	t.Logf("%d sessions up in %v", n, time.Since(begin))

	ports, discriminators := map[uint16]bool{}, map[uint32]bool{}
	for _, s := range a.Status().Sessions {
		ports[s.SourcePort], discriminators[s.Discriminator] = true, true
	}
	if len(ports) != n || len(discriminators) != n {
		t.Errorf("%d source ports and %d discriminators for %d sessions", len(ports), len(discriminators), n)
	}
	a.Status() // Late begins anew
	after := time.After(10 * time.Second)
	<-after
	s := a.Status()
	t.Logf("priority %v; timers at most %v late; refused %v", s.Priority, s.Late, s.Refused)
	a.steady()
	b.steady()

	a.apply(specsA[:10]...)
	eventually(t, 5*time.Second, func() error {
		up := 0
		for _, s := range b.Status().Sessions {
			if s.State == bfd.Up {
				up++
			}
		}
		if up != 10 {
			return fmt.Errorf("%d are up", up)
		}
		return nil
	})
	a.steady()
}

func nodad(a netip.Addr) string {
	if a.Is6() {
		return "nodad"
	}
	return ""
}
