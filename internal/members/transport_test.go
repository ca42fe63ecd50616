package members

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"runtime"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

var testKey = bytes.Repeat([]byte{1}, 32)

// side is one speaker's sessions, without a network.
type side struct {
	*sessions
	at netip.AddrPort
}

func newSide(n int, name string, generation uint64, keys ...[]byte) side {
	at := endpoint(n)[0]
	ring := &keyring{}
	if ring.set(keys); len(keys) == 0 {
		ring.set([][]byte{testKey})
	}
	self := identity{session: newSession(), generation: generation, name: name, endpoint: at}
	return side{newSessions(time.Now, self, ring, newSealer(ring, self.session)), at}
}

func (s side) heartbeat(to side) []byte { return s.out.seal(kindHeartbeat, make([]byte, 16), to.at) }

// exchange carries a packet from one to the other, and the replies, until there are none. It
// returns what was delivered.
func exchange(from, to side, packet []byte) (delivered []delivery, last drop) {
	for packet != nil {
		r := to.receive(packet, from.at)
		delivered, last = append(delivered, r.deliveries...), r.drop
		if packet = nil; len(r.replies) > 0 {
			packet = r.replies[0].packet
		}
		from, to = to, from
	}
	return delivered, last
}

func TestASessionIsBelievedWhenItHasAnsweredAChallenge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSide(1, "n1", 1), newSide(2, "n2", 1)
		first := a.heartbeat(b)
		r := b.receive(first, a.at)
		if len(r.deliveries) > 0 || r.drop != dropUnproven || len(r.replies) != 1 || len(r.replies[0].packet) > len(first) {
			t.Fatalf("the first packet of a session leads to %+v", r)
		}
		if again := b.receive(a.heartbeat(b), a.at); len(again.replies) > 0 {
			t.Error("it is challenged twice within a moment")
		}
		time.Sleep(challengeEvery) // the challenge was lost
		got, _ := exchange(a, b, a.heartbeat(b))
		if len(got) != 3 || got[0].node != "n1" || got[0].kind != kindHeartbeat {
			t.Fatalf("after the answer these are delivered: %+v", got)
		}
		if got, drop := exchange(a, b, first); len(got) > 0 || drop != dropReplayed {
			t.Errorf("the first packet again: %v, dropped for %d", got, drop)
		}
		next := a.heartbeat(b)
		for i, want := range []int{1, 0, 0} {
			if got, _ := exchange(a, b, next); len(got) != want {
				t.Errorf("the same heartbeat for the %d. time is delivered %d times", i+1, len(got))
			}
		}
	})
}

func TestPacketsForOthersAndOfFormerRunsAreWorthNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, c := newSide(1, "n1", 5), newSide(2, "n2", 1), newSide(3, "n3", 1)
		exchange(a, b, a.heartbeat(b))
		if got, drop := exchange(a, b, a.heartbeat(c)); len(got) > 0 || drop != dropForged {
			t.Errorf("a packet to n3 that is sent to n2: %v, dropped for %d", got, drop)
		}
		var recorded [][]byte
		for range 100 {
			recorded = append(recorded, a.heartbeat(b))
		}
		later := newSide(1, "n1", 4) // its clock was set back
		if got, _ := exchange(later, b, later.heartbeat(b)); len(got) != 1 {
			t.Fatalf("a speaker that was started again: %v", got)
		}
		dead := side{later.sessions, a.at}
		for _, packet := range recorded {
			time.Sleep(challengeEvery)
			if got, _ := exchange(dead, b, packet); len(got) > 0 {
				t.Fatalf("a recorded packet of a former run is delivered: %+v", got)
			}
		}
		if got, _ := exchange(later, b, later.heartbeat(b)); len(got) != 1 {
			t.Error("recorded packets of a former run have ended the present one")
		}
		// The receiver is started again as well, and has forgotten all numbers.
		var dying [][]byte
		for range 5 {
			dying = append(dying, later.heartbeat(b))
		}
		again := newSide(2, "n2", 2)
		exchange(later, again, later.heartbeat(again))
		for _, packet := range dying {
			if r := again.receive(packet, later.at); len(r.deliveries) > 0 || r.drop != dropReplayed {
				t.Errorf("a packet from before this speaker was started leads to %+v", r)
			}
		}
	})
}

func TestChallengesCannotBeReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSide(1, "n1", 1), newSide(2, "n2", 1)
		challenge := b.receive(a.heartbeat(b), a.at).replies[0].packet
		response := a.receive(challenge, b.at).replies[0].packet
		b = side{newSessions(time.Now, b.self, b.keys, b.out), b.at} // started again, or later
		if r := b.receive(response, a.at); r.drop != dropReplayed || len(b.proven) > 0 {
			t.Errorf("the answer to an earlier challenge leads to %+v", r)
		}
		held := b.receive(a.heartbeat(b), a.at)
		time.Sleep(challengeFor + 1)
		late := a.receive(held.replies[0].packet, b.at).replies[0].packet
		if r := b.receive(late, a.at); r.drop != dropReplayed {
			t.Errorf("a late answer leads to %+v", r)
		}
	})
}

func TestAKeyIsNeeded(t *testing.T) {
	a, b := newSide(1, "n1", 1), newSide(2, "n2", 1)
	packet := a.heartbeat(b)
	for i := range packet {
		changed := slices.Clone(packet)
		changed[i] ^= 1
		if r := b.receive(changed, a.at); r.drop != dropForged && r.drop != dropMalformed {
			t.Errorf("with byte %d changed: %+v", i, r)
		}
		if r := b.receive(packet[:i], a.at); r.drop != dropForged && r.drop != dropMalformed {
			t.Errorf("its first %d bytes: %+v", i, r)
		}
	}
	other := newSide(3, "n3", 1, bytes.Repeat([]byte{2}, 32))
	if r := b.receive(other.heartbeat(b), other.at); r.drop != dropForged {
		t.Errorf("with another key: %+v", r)
	}
	both := newSide(4, "n4", 1, bytes.Repeat([]byte{3}, 32), testKey)
	if got, _ := exchange(a, both, a.heartbeat(both)); len(got) == 0 {
		t.Error("n4 has the key of n1, and does not hear it")
	}
	if got, drop := exchange(both, a, both.heartbeat(a)); len(got) > 0 || drop != dropForged {
		t.Errorf("n1 does not have the key of n4, and hears it: %v", got)
	}
}

// Who sends junk does not have others wait, or be dropped.
func TestPacketsOfUnknownSourcesAreLimited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b, joining := newSide(1, "n1", 1), newSide(2, "n2", 1), newSide(3, "n3", 1)
		exchange(a, b, a.heartbeat(b))
		junk := header{kind: kindHeartbeat}.append(nil)
		junk = append(junk, make([]byte, 100)...)
		limited := 0
		for i := range 10000 {
			junk[2], junk[3] = byte(i), byte(i>>8)
			if r := b.receive(junk, netip.MustParseAddrPort("127.0.0.99:999")); r.drop == dropLimited {
				limited++
			}
		}
		if limited < 10000-2*unprovenPerSecond {
			t.Errorf("of 10000 packets that cost a key derivation only %d were dropped before", limited)
		}
		if got, _ := exchange(a, b, a.heartbeat(b)); len(got) != 1 {
			t.Error("a known speaker is not heard")
		}
		b.expect([]netip.AddrPort{joining.at})
		if got, _ := exchange(joining, b, joining.heartbeat(b)); len(got) != 1 {
			t.Error("a speaker that the API server names is not heard")
		}
	})
}

func TestWindow(t *testing.T) {
	w := window{highest: 100, seen: ^uint64(0)}
	for _, c := range []struct {
		n    uint64
		want bool
	}{{100, false}, {37, false}, {36, false}, {102, true}, {101, true}, {101, false}, {102, false}, {1000, true}, {936, false}, {937, true}, {937, false}, {999, true}, {1 << 63, true}, {1000, false}, {0, false}} {
		if got := w.accept(c.n); got != c.want {
			t.Errorf("accept(%d) = %t with %+v", c.n, got, w)
		}
	}
}

// record passes connections on to a speaker and keeps what the client sends.
func record(t *testing.T, on, to netip.AddrPort) func() []byte {
	l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(on))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	sent := make(chan []byte, 10)
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", to.String())
			if err != nil {
				client.Close()
				return
			}
			go func() {
				var b bytes.Buffer
				_, _ = io.Copy(server, io.TeeReader(client, &b))
				server.Close()
				sent <- b.Bytes()
			}()
			go func() {
				_, _ = io.Copy(client, server)
				client.Close()
			}()
		}
	}()
	return func() []byte { return <-sent }
}

func TestARecordedStreamIsWorthNothing(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 1, 1)
	tap := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.50"), port)
	// The hello names the server's endpoint, so what is recorded is a real connection.
	recorded := record(t, tap, endpoint(1)[0])
	conn, err := net.Dial("tcp", tap.String())
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := dialHandshake(conn, &b.keys, b.transport.self, endpoint(1)[0])
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write(append([]byte{msgPushPull}, make([]byte, 40)...)); err != nil {
		t.Fatal(err)
	}
	conn.(*net.TCPConn).CloseWrite()
	all := recorded()
	refused := a.Drops()["forged"]
	again, err := net.Dial("tcp", endpoint(1)[0].String())
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	if _, err := again.Write(all); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(again); err != nil && !errors.Is(err, net.ErrClosed) && len(b) > welcomeSize {
		t.Errorf("a recorded stream is answered by %d bytes", len(b))
	}
	for deadline := time.Now().Add(5 * time.Second); a.Drops()["forged"] == refused; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("a recorded stream is not refused")
		}
	}
}

// What once ended the process: memberlist's own encryption of nothing, and bodies that no speaker
// sends, under the key.
func TestPacketsUnderTheKeyThatNoSpeakerSends(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 1, 1)
	b.Join(t.Context(), endpoint(1))
	send := func(packet []byte) {
		if err := b.transport.write(packet, endpoint(1)[0]); err != nil {
			t.Fatal(err)
		}
	}
	block, err := aes.NewCipher(testKey)
	if err != nil {
		t.Fatal(err)
	}
	gcm, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	for version := range 2 {
		for _, size := range []int{0, 1, 16, 17} {
			packet := append([]byte{byte(version)}, make([]byte, 12)...)
			send(gcm.Seal(packet, packet[1:], make([]byte, size), nil))
		}
	}
	for k := range kindEnd + 2 {
		send(b.transport.sealer.seal(k, nil, endpoint(1)[0]))
		for first := range 256 {
			for _, rest := range [][]byte{nil, {0}, {255, 255, 255, 255}, make([]byte, 60)} {
				send(b.transport.sealer.seal(k, append([]byte{byte(first)}, rest...), endpoint(1)[0]))
			}
		}
	}
	began := time.Now()
	await(t, a, "n2 is alive", func(v View) bool { return len(v.Alive) == 2 && a.heard("n2").After(began) })
	if n := a.Drops()["panic"]; n > 0 {
		t.Errorf("%d packets made a handler panic", n)
	}
}

// At 10,000 packets of junk in a second nobody is missed, and the same with connections: they
// cost about nothing, and a speaker that is not known yet joins meanwhile.
func TestAFloodIsNotNoticed(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 1, 1)
	b.Join(t.Context(), endpoint(1))
	for _, m := range []*Members{a, b} {
		await(t, m, "both are alive", func(v View) bool { return len(v.Alive) == 2 })
	}
	var before runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var idle []net.Conn
	for i := range 400 {
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 1, byte(i))}}
		conn, err := d.Dial("tcp", endpoint(1)[0].String())
		if err != nil {
			t.Fatal(err)
		}
		idle = append(idle, conn)
		if i%2 == 0 { // garbage, of which the first byte is right
			if _, err := conn.Write(append([]byte{envelopeVersion}, make([]byte, 30)...)); err != nil {
				t.Fatal(err)
			}
		}
	}
	c := start(t, 3, 1, 1)
	if !c.Join(t.Context(), endpoint(1)) {
		t.Error("a speaker cannot join")
	}
	var after runtime.MemStats
	runtime.ReadMemStats(&after)
	if grown := int64(after.HeapInuse+after.StackInuse) - int64(before.HeapInuse+before.StackInuse); grown > 16<<20 {
		t.Errorf("400 connections cost %d MiB", grown>>20)
	}
	for _, conn := range idle {
		conn.Close()
	}

	junk, err := net.DialUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 1, 1)}, net.UDPAddrFromAddrPort(endpoint(1)[0]))
	if err != nil {
		t.Fatal(err)
	}
	defer junk.Close()
	packet := header{kind: kindMemberlist}.append(nil)
	packet = append(packet, make([]byte, 1000)...)
	chance := rand.New(rand.NewPCG(1, 2))
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for start := time.Now(); time.Since(start) < 2*time.Second; <-tick.C {
		for range 10 {
			packet[3], packet[4] = byte(chance.Uint32()), byte(chance.Uint32())
			_, _ = junk.Write(packet[:1+chance.IntN(len(packet)-1)])
		}
		if silent := time.Since(a.heard("n2")); silent > 2*a.timers.silence { // the machine may be busy
			t.Fatalf("n1 has not heard n2 for %v", silent)
		}
	}
	if a.Drops()["limited"] == 0 {
		t.Error("no junk was dropped before it cost a key derivation")
	}
}

// FuzzTransport gives raw packets and connections to a real transport and memberlist: as they are,
// and sealed with the key. Nothing panics, and heartbeats still arrive.
func FuzzTransport(f *testing.F) {
	for _, seed := range [][]byte{
		{0}, {envelopeVersion, byte(kindHeartbeat)}, {msgPing, 0x82}, {msgCompound, 1, 0, 2, 0, 0}, {msgCRC, 0, 0, 0, 0, msgUser},
		append([]byte{msgPushPull}, "\x83\xa5Nodes\x01\xacUserStateLen\x00\xa4Join\xc2"...), append([]byte{msgUser}, "\x81\xaaUserMsgLen\x05hello"...),
		message{Facts: map[string]versioned{"n1": {Version: 3}}}.encode(),
	} {
		for k := range kindEnd {
			f.Add(byte(k), seed)
		}
	}
	make1 := func(n int) *Members {
		m := New(Config{Node: fmt.Sprint("n", n), Bind: endpoint(n)[0].Addr(), Port: port, Keys: [][]byte{testKey}, Generation: 1, Log: logr.Discard()})
		if err := m.Start(); err != nil {
			f.Fatal(err)
		}
		f.Cleanup(func() { m.shutdown() })
		return m
	}
	pid := 100 + rand.IntN(50)
	a, b := make1(pid), make1(pid+60)
	b.Join(f.Context(), endpoint(pid))
	to := endpoint(pid)[0]
	count := 0
	f.Fuzz(func(t *testing.T, k byte, body []byte) {
		if len(body) > 1<<16-100 {
			return
		}
		_ = b.transport.write(body, to)
		_ = b.transport.write(b.transport.sealer.seal(kind(k), body, to), to)
		if conn, err := net.Dial("tcp", to.String()); err == nil {
			_, _ = conn.Write(body)
			conn.Close()
		}
		if conn, err := b.transport.DialTimeout(to.String(), time.Second); err == nil {
			_, _ = conn.Write(body)
			conn.Close()
		}
		if count++; count%64 != 0 {
			return
		}
		began := time.Now()
		for !a.heard(b.cfg.Node).After(began) {
			if time.Since(began) > 5*time.Second {
				t.Fatal("no heartbeat gets through any more")
			}
			time.Sleep(time.Millisecond)
		}
		if n := a.Drops()["panic"]; n > 0 {
			t.Fatalf("%d packets made a handler panic", n)
		}
	})
}

// BenchmarkHeartbeat is what one heartbeat costs the sender and the receiver.
func BenchmarkHeartbeat(b *testing.B) {
	x, y := newSide(1, "n1", 1), newSide(2, "n2", 1)
	exchange(x, y, x.heartbeat(y))
	b.ReportAllocs()
	for b.Loop() {
		if r := y.receive(x.heartbeat(y), x.at); len(r.deliveries) != 1 {
			b.Fatal(r)
		}
	}
}

// Two machines with the same node name: the first keeps it, both are notified, and the later one gets it when the
// first is gone, without a restart.
func TestTwoMachinesWithOneName(t *testing.T) {
	other, first := start(t, 1, 1, 1), start(t, 2, 1, 100)
	first.Join(t.Context(), endpoint(1))
	await(t, other, "n2 is alive", func(v View) bool { return len(v.Alive) == 2 && !other.heard("n2").IsZero() })
	later := New(Config{Node: "n2", Bind: netip.MustParseAddr("127.0.0.30"), Port: port, Keys: [][]byte{testKey}, Generation: 50, Log: logr.Discard()})
	if err := later.Start(); err != nil { // its clock is behind
		t.Fatal(err)
	}
	t.Cleanup(func() { later.shutdown() })
	if later.Join(t.Context(), endpoint(1)) {
		t.Fatal("the second machine has joined")
	}
	want := Rival{First: endpoint(2)[0], Later: netip.AddrPortFrom(later.cfg.Bind, port)}
	is := func(v View) bool { r := v.Duplicates["n2"]; return r.First == want.First && r.Later == want.Later }
	await(t, other, "two use the name n2", is)
	await(t, first, "it is the first of two", func(v View) bool { return is(v) && !v.Duplicate })
	await(t, later, "it is the later of two", func(v View) bool { return is(v) && v.Duplicate })
	if other.Join(t.Context(), []netip.AddrPort{want.Later}) {
		t.Error("n1 has joined the second machine")
	}
	if v := other.View(); v.Duplicate { // what is wrong with n2's name is not wrong with its own
		t.Errorf("n1 has connected to the second n2, and takes itself for a duplicate: %+v", v.Duplicates)
	}
	if at := other.membership.locate([]string{"n2"})[0].at; at != want.First {
		t.Errorf("n1 takes n2 to be at %s", at)
	}
	if err := first.shutdown(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(10 * time.Second); !later.Join(t.Context(), endpoint(1)); {
		if time.Now().After(deadline) {
			t.Fatal("the second machine cannot join after the first is gone")
		}
	}
	for deadline := time.Now().Add(2 * rivalFor); ; time.Sleep(10 * time.Millisecond) {
		v, w := later.View(), other.View()
		if !v.Duplicate && len(v.Duplicates)+len(w.Duplicates) == 0 && slices.Equal(w.Alive, []string{"n1", "n2"}) {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("n2 sees %+v, n1 sees %+v", v, w)
		}
	}
}

// Neither of two with one name knows another speaker: they find each other where the API server says that
// the name was.
func TestTwoMachinesWithOneNameAlone(t *testing.T) {
	first, later := start(t, 1, 1, 1), New(Config{Node: "n1", Bind: netip.MustParseAddr("127.0.0.30"), Port: port, Keys: [][]byte{testKey}, Generation: 5, Log: logr.Discard()})
	if err := later.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { later.shutdown() })
	if later.Join(t.Context(), endpoint(1)) {
		t.Error("it has joined itself")
	}
	if v := later.View(); !v.Duplicate {
		t.Errorf("the later one sees %+v", v)
	}
	if v := first.View(); v.Duplicate || len(v.Duplicates) != 1 {
		t.Errorf("the first one sees %+v", v)
	}
}

// The first machine is seldom heard by those that do not watch it, and so may be taken for gone when the second
// comes: it proves that it is there.
func TestTheFirstMachineComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, first, later := newSide(9, "n9", 1), newSide(1, "n1", 1), newSide(2, "n1", 2)
		exchange(first, b, first.heartbeat(b))
		time.Sleep(aliveFor)
		for range 3 { // nobody answers
			b.met(later.self)
			time.Sleep(answerWithin)
		}
		if p := b.byName["n1"]; p.session != later.self.session {
			t.Fatal("a machine that is gone keeps its name")
		}
		if got, _ := exchange(first, b, first.heartbeat(b)); len(got) == 0 || b.byName["n1"].session != first.self.session {
			t.Errorf("the first machine is there, and was all the time: %v", got)
		}
		rivals, _ := b.duplicates()
		if r := rivals["n1"]; r.First != first.at || r.Later != later.at {
			t.Errorf("the rivals are %+v", rivals)
		}
		if _, ok := b.met(later.self); ok {
			t.Error("the later machine has the name again")
		}
	})
}
