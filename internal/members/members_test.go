package members

import (
	"bytes"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

var (
	vip  = netip.MustParseAddr("192.0.2.100")
	port = uint16(17946)
)

// start starts a member on an address of its own on the loopback network.
func start(t *testing.T, n int, key byte, generation uint64) *Members {
	m := New(Config{
		Node: fmt.Sprint("n", n), Bind: netip.AddrFrom4([4]byte{127, 0, 0, byte(10 + n)}), Port: port,
		Keys: [][]byte{bytes.Repeat([]byte{key}, 32)}, Generation: generation, Log: logr.Discard(),
	})
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.shutdown(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func endpoint(n int) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, byte(10 + n)}), port)}
}

// await waits until the member's view is as wanted.
func await(t *testing.T, m *Members, what string, ok func(View) bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok(m.View()) {
		select {
		case <-m.Changed():
		case <-deadline:
			t.Fatalf("%s does not see that %s: %+v", m.cfg.Node, what, m.View())
		}
	}
}

func TestWhatOneSaysAllHear(t *testing.T) {
	a, b, c := start(t, 1, 1, 1), start(t, 2, 1, 1), start(t, 3, 1, 1)
	facts := Facts{Interfaces: []netif.Interface{{Name: "eth0", Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/24")}}}}
	a.SetFacts(facts)
	if !b.Join(t.Context(), endpoint(1)) {
		t.Fatal("n2 did not reach n1")
	}
	if f := b.View().Facts["n1"]; !cmp.Equal(f, facts, cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })) {
		t.Fatalf("who has joined knows all that those before it know; got %+v", f)
	}
	c.Join(t.Context(), endpoint(2))
	for _, m := range []*Members{a, b, c} {
		await(t, m, "all are alive", func(v View) bool { return cmp.Equal(v.Alive, []string{"n1", "n2", "n3"}) })
	}

	claim := election.Claim{Owner: "n1", Epoch: 1}
	a.Claim(map[netip.Addr]election.Claim{vip: claim})
	await(t, c, "n1 claims", func(v View) bool { return v.Claims[vip] == claim })
	higher := election.Claim{Owner: "n3", Epoch: 2}
	c.Claim(map[netip.Addr]election.Claim{vip: higher})
	await(t, a, "n3 claims with a higher epoch", func(v View) bool { return v.Claims[vip] == higher })
	c.Contested()
	c.Claim(map[netip.Addr]election.Claim{vip: claim})
	if got := c.View().Claims[vip]; got != higher {
		t.Errorf("a lower claim replaced a higher one: %v", got)
	}
	if got := c.Contested(); len(got) != 1 || got[0] != vip || len(c.Contested()) != 0 {
		t.Errorf("contested %v; want the address, once", got)
	}

	a.SetFacts(Facts{Leaving: true})
	await(t, c, "n1 is leaving", func(v View) bool { return v.Facts["n1"].Leaving })
	if err := a.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	await(t, c, "n1 has left", func(v View) bool { return cmp.Equal(v.Alive, []string{"n2", "n3"}) })
}

func TestManyClaimsArriveAll(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 1, 1)
	b.Join(t.Context(), endpoint(1))
	claims := map[netip.Addr]election.Claim{}
	for addr := netip.MustParseAddr("2001:db8:1234:5678:9abc:def0:1234:5600"); len(claims) < 500; addr = addr.Next() {
		claims[addr] = election.Claim{Owner: "n1", Epoch: 1 << 40}
	}
	a.Claim(claims)
	await(t, b, "n1 claims all", func(v View) bool {
		return cmp.Equal(v.Claims, claims, cmp.Comparer(func(x, y netip.Addr) bool { return x == y }))
	})
}

// Facts that are too large for a packet go to all directly, and stop there: if each
// who hears them told all, they would cost the square of the cluster's size.
func TestLargeFactsAreNotPassedOn(t *testing.T) {
	large := Facts{}
	for i := range 40 {
		large.Interfaces = append(large.Interfaces, netif.Interface{Name: fmt.Sprint("vlan", i), MAC: "02:00:00:00:00:01"})
	}
	facts := message{Facts: map[string]versioned{"n1": {Version: 1, Facts: large}, "n2": {Version: 1}}}
	gossip, direct := facts.packets()
	if len(gossip) != 1 || gossip[0].name != "facts/n2" || len(direct) != 1 {
		t.Fatalf("%d parts are gossip and %d go to all directly, want one each, the large one directly", len(gossip), len(direct))
	}
	heard, err := decode(direct[0])
	if err != nil {
		t.Fatal(err)
	}
	news, _ := newState(time.Now, "me").merge(heard)
	if on := news.toPassOn(heard); !on.empty() {
		t.Errorf("who hears it passes on %+v", on)
	}
}

// A speaker that comes back with another address is sent to there, before memberlist
// takes its old one for dead.
func TestNodeIsWhereItsLastPulseCameFrom(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 1, 1)
	b.Join(t.Context(), endpoint(1))
	where := func() string { return a.membership.locate([]string{"n2"})[0].at.String() }
	await(t, a, "n2 is alive, and heard", func(v View) bool { return len(v.Alive) == 2 && !a.heard("n2").IsZero() })
	if got, want := where(), endpoint(2)[0].String(); got != want {
		t.Errorf("n2 is at %s, want %s", got, want)
	}
	moved := netip.MustParseAddrPort("127.0.0.99:7947")
	a.membership.receiveHeartbeat(delivery{kind: kindHeartbeat, node: "n2", from: moved})
	if got := where(); got != moved.String() {
		t.Errorf("n2 is at %s, want %s", got, moved)
	}
}

// Who knows the same says so in a few bytes, and who does not is told everything.
func TestFullSyncByDigest(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 1, 1)
	b.Join(t.Context(), endpoint(1))
	claims := map[netip.Addr]election.Claim{}
	for addr := vip; len(claims) < 100; addr = addr.Next() {
		claims[addr] = election.Claim{Owner: "n1", Epoch: 1}
	}
	a.Claim(claims)
	await(t, b, "n1 claims all", func(v View) bool { return len(v.Claims) == len(claims) })
	await(t, a, "it knows of n2", func(v View) bool { return len(v.Facts) == 2 })
	eventually := func(what string, is func() bool) {
		t.Helper()
		for deadline := time.Now().Add(10 * time.Second); !is(); time.Sleep(10 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("not within 10 s: %s", what)
			}
		}
	}
	eventually("they know the same", func() bool { return a.state.digest() == b.state.digest() })
	if said := (*delegate)(a).LocalState(false); len(said) > 200 {
		t.Errorf("a digest has %d bytes", len(said))
	}
	a.state.merge(message{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 2}}}) // which gossip has lost
	(*delegate)(a).MergeRemoteState((*delegate)(b).LocalState(false), false)
	await(t, b, "it is told what it lacks", func(v View) bool { return v.Claims[vip].Epoch == 2 })
	eventually("they know the same again", func() bool { return a.state.digest() == b.state.digest() })
}

func TestDigestTellsStatesApart(t *testing.T) {
	other := vip.Next()
	of := func(messages ...message) digest {
		s := newState(time.Now, "me")
		for _, m := range messages {
			s.merge(m)
		}
		return s.digest()
	}
	claims := func(one, two uint64) message {
		return message{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: one}, other: {Owner: "n1", Epoch: two}}}
	}
	facts := func(v uint64) message { return message{Facts: map[string]versioned{"n1": {Version: v}}} }
	if x, y := of(claims(3, 2), facts(7)), of(facts(5), claims(1, 2), facts(7), claims(3, 1)); x != y {
		t.Errorf("the same, heard in another order, has the digests %v and %v", x, y)
	}
	for _, pair := range [][2]digest{
		{of(claims(3, 2)), of(claims(2, 3))},
		{of(claims(3, 2)), of(message{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 3, Minor: true}, other: {Owner: "n1", Epoch: 2}}})},
		{of(claims(3, 2)), of(message{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n2", Epoch: 3}, other: {Owner: "n1", Epoch: 2}}})},
		{of(facts(1)), of(facts(2))},
		{of(facts(1)), of()},
	} {
		if pair[0] == pair[1] {
			t.Errorf("two states have the digest %v", pair[0])
		}
	}
}

// A speaker that comes back with a clock behind the last run's must not be taken
// for what it was then.
func TestRestartWithAnEarlierClock(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 1, 1000)
	b.SetFacts(Facts{Leaving: true})
	a.Join(t.Context(), endpoint(2))
	if err := b.shutdown(); err != nil {
		t.Fatal(err)
	}
	again := New(Config{Node: "n2", Bind: netip.MustParseAddr("127.0.0.14"), Port: port, Keys: [][]byte{bytes.Repeat([]byte{1}, 32)}, Generation: 5, Log: logr.Discard()})
	if err := again.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { again.shutdown() })
	again.SetFacts(Facts{})
	again.Join(t.Context(), endpoint(1))
	await(t, a, "n2 is not leaving", func(v View) bool { f, ok := v.Facts["n2"]; return ok && !f.Leaving })
}

// While all change from one key to another, each at a moment of its own, nobody is
// taken for dead.
func TestKeysChangeWithoutAGap(t *testing.T) {
	before, after := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	all := []*Members{start(t, 1, 1, 1), start(t, 2, 1, 1), start(t, 3, 1, 1)}
	for _, m := range all[1:] {
		m.Join(t.Context(), endpoint(1))
	}
	whole := func(v View) bool { return cmp.Equal(v.Alive, []string{"n1", "n2", "n3"}) }
	for _, m := range all {
		await(t, m, "all are alive", whole)
	}
	for _, keys := range [][][]byte{{before, after}, {after, before}, {after}} {
		for _, m := range all {
			if err := m.SetKeys(keys); err != nil {
				t.Fatal(err)
			}
			// All still hear each other, when silence would have been noticed.
			last := m.sent() + ticksPerHeartbeat*uint64(2*m.timers.silence/m.timers.heartbeat)
			for i := range all {
				by, of := all[i], all[(i+1)%len(all)]
				for start := time.Now(); m.sent() < last || !by.heard(of.cfg.Node).After(start); time.Sleep(m.timers.tick()) {
					if v := by.View(); !whole(v) {
						t.Fatalf("%s sees only %v", by.cfg.Node, v.Alive)
					}
				}
			}
		}
	}
	if late := start(t, 4, 1, 1); late.Join(t.Context(), endpoint(1)) {
		t.Error("a member with the former key alone has joined")
	}
	all[0].Claim(map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 1}})
	await(t, all[2], "n1 claims", func(v View) bool { return v.Claims[vip].Owner == "n1" })
}

func (m *Members) sent() uint64 {
	m.membership.mu.Lock()
	defer m.membership.mu.Unlock()
	return m.membership.detector.ticks
}

// heard is when the last heartbeat of a node was heard.
func (m *Members) heard(node string) time.Time {
	m.membership.mu.Lock()
	defer m.membership.mu.Unlock()
	return m.membership.detector.watched[node].since
}

func TestAnotherKeyIsNotHeard(t *testing.T) {
	a, b := start(t, 1, 1, 1), start(t, 2, 2, 1)
	if b.Join(t.Context(), endpoint(1)) {
		t.Error("joined a member with another key")
	}
	if got := a.View().Alive; !cmp.Equal(got, []string{"n1"}) {
		t.Errorf("n1 sees %v", got)
	}
}

func TestMergeIsTheSameInAnyOrder(t *testing.T) {
	messages := []message{
		{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 1}}},
		{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n2", Epoch: 2}}},
		{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 2}}},
		{Facts: map[string]versioned{"n1": {Version: 2, Facts: Facts{Leaving: true}}}},
		{Facts: map[string]versioned{"n1": {Version: 1}}},
	}
	want := ""
	for i := range messages {
		s := newState(time.Now, "me")
		for j := range messages {
			s.merge(messages[(i+j)%len(messages)])
			s.merge(messages[(i+2*j)%len(messages)])
		}
		for _, m := range messages {
			news, _ := s.merge(m)
			for addr, c := range news.Claims {
				if c != s.claims[addr] {
					t.Errorf("others are told %v, which is not what is held", c)
				}
			}
			if len(news.Facts) > 0 {
				t.Errorf("%+v is news although all was heard", news)
			}
		}
		got := string(s.all().encode())
		if want == "" {
			want = got
		}
		if got != want {
			t.Errorf("order %d gives %s, not %s", i, got, want)
		}
	}
}

// What others settle between them is looked at together; what this node loses, at once.
func TestClaimsOfOthersWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Node: "me"})
		hears := func(owner string, epoch uint64) (wakes bool) {
			m.merge(message{Claims: map[netip.Addr]election.Claim{vip: {Owner: owner, Epoch: epoch}}}, m.queue)
			select {
			case <-m.Changed():
				return true
			default:
				return false
			}
		}
		if hears("n1", 1) || hears("n2", 2) {
			t.Error("a claim between others wakes at once")
		}
		start := time.Now()
		if <-m.Changed(); time.Since(start) > claimInterval {
			t.Errorf("claims between others wake after %v, want %v at most", time.Since(start), claimInterval)
		}
		if !hears("me", 3) {
			t.Error("a claim of this node does not wake at once")
		}
		if !hears("n2", 4) {
			t.Error("a claim above that of this node does not wake at once")
		}
		hears("me", 5)
		if !hears("n2", 4) {
			t.Error("a claim that contests that of this node does not wake at once")
		}
	})
}

// So is whom watchers hear; whom one more misses, and other facts, at once.
func TestWatchersTakingTurnsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Node: "me"})
		said := versioned{Facts: Facts{Joined: true}, Version: 1}
		for _, tt := range []struct {
			says string
			now  func(*versioned)
			want bool
		}{
			{"that it is there", func(*versioned) {}, true},
			{"that it hears n2", func(v *versioned) { v.Hears = []string{"n2"} }, false},
			{"that it misses n2", func(v *versioned) { v.opinion = opinion{Misses: []string{"n2"}} }, true},
			{"that it misses n3, too", func(v *versioned) { v.Misses = []string{"n2", "n3"} }, true},
			{"that it hears n2 again", func(v *versioned) { v.opinion = opinion{Hears: []string{"n2"}, Misses: []string{"n3"}} }, false},
			{"that it does not watch n3 any more", func(v *versioned) { v.Misses = nil }, false},
			{"that it is about to stop", func(v *versioned) { v.Leaving = true }, true},
		} {
			tt.now(&said)
			said.Version++
			start := time.Now()
			m.merge(message{Facts: map[string]versioned{"n1": said}}, m.queue)
			<-m.Changed()
			if waited := time.Since(start); (waited == 0) != tt.want || waited > opinionInterval {
				t.Errorf("n1 says %s: it is looked at after %v, want at once: %t", tt.says, waited, tt.want)
			}
			time.Sleep(opinionInterval / 3)
		}
	})
}

func TestAClaimIsFreshForAMoment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newState(time.Now, "me")
		claim := message{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 1}}}
		s.merge(claim)
		time.Sleep(claimIsFresh - time.Millisecond)
		s.merge(claim) // not news
		if !s.fresh()[vip] {
			t.Error("a claim that has just come is not fresh")
		}
		time.Sleep(time.Millisecond)
		if s.fresh()[vip] {
			t.Error("a claim that came a while ago is fresh")
		}
	})
}

func TestADeathIsARumourAtFirst(t *testing.T) {
	m := start(t, 1, 1, 1)
	sees := func(node string) bool { return slices.Contains(m.View().Alive, node) }
	tell := (*delegate)(m)
	tell.NotifyLeave(&memberlist.Node{Name: "n2"})
	tell.NotifyLeave(&memberlist.Node{Name: "n3"})
	if !sees("n2") || !sees("n3") {
		t.Errorf("who was just said to be dead is not among %v", m.View().Alive)
	}
	tell.NotifyJoin(&memberlist.Node{Name: "n3"}) // it disagreed
	await(t, m, "n2 is dead", func(View) bool { return !sees("n2") })
	if !sees("n3") {
		t.Error("n3 is dead although it disagreed")
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(message{
		Facts:  map[string]versioned{"n1": {Version: 3, Facts: Facts{Interfaces: []netif.Interface{{Name: "eth0", Up: true}}}}},
		Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 1}},
	}.encode())
	f.Add([]byte("\x00\x01\x02n1\x10\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xff\xff\xc0\x00\x02\x64\x00\x01")) // 4 in 6
	f.Add([]byte("\x00\x01\x02n1\x04\xc0\x00\x02\x64\x01\x01"))                                                 // no such owner
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := decode(b)
		if err != nil {
			return
		}
		s := newState(time.Now, "me")
		s.merge(m)
		again, err := decode(s.all().encode())
		if diff := cmp.Diff(s.all(), again, cmpopts.EquateEmpty(), cmp.AllowUnexported(versioned{}), cmp.Comparer(func(x, y netip.Addr) bool { return x == y }),
			cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); err != nil || diff != "" {
			t.Errorf("%q corrupts the state: %v; (-held +said)\n%s", b, err, diff)
		}
		for _, part := range m.split() {
			part.encode()
		}
	})
}

// crowded is a member that knows 100 others and 10,000 claims.
func crowded() (*Members, message) {
	all := message{Facts: map[string]versioned{}, Claims: map[netip.Addr]election.Claim{}}
	for i := range 100 {
		all.Facts[fmt.Sprintf("node-%03d", i)] = versioned{Version: 1, Facts: Facts{Joined: true, Interfaces: []netif.Interface{{
			Name: "eth0", MAC: "02:00:00:00:00:01", Up: true, Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.1/8"), netip.MustParsePrefix("fd00::1/64")},
		}}}}
	}
	for i := range 10000 {
		a := netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)})
		all.Claims[a] = election.Claim{Owner: fmt.Sprintf("node-%03d", i%100), Epoch: 3}
	}
	m := New(Config{Node: "node-000", Log: logr.Discard()})
	m.state.merge(all)
	clear(m.state.heard) // a while ago
	m.state.view(nil)
	return m, all
}

// BenchmarkFullSync is what one full sync costs each side: what it sends, and
// what it takes in, when all has been heard before.
func BenchmarkFullSync(b *testing.B) {
	m, _ := crowded()
	for b.Loop() {
		out := (*delegate)(m).LocalState(false)
		b.SetBytes(int64(len(out)))
		msg, err := decode(out)
		if err != nil {
			b.Fatal(err)
		}
		m.state.merge(msg)
	}
}

// BenchmarkHear is a message with a few claims that have been heard before, as
// most of those are that arrive.
func BenchmarkHear(b *testing.B) {
	m, all := crowded()
	heard := all.split()[200].encode()
	for b.Loop() {
		(*delegate)(m).NotifyMsg(heard)
	}
}

// BenchmarkView is the view after one claim has changed.
func BenchmarkView(b *testing.B) {
	m, _ := crowded()
	for epoch := uint64(4); b.Loop(); epoch++ {
		m.state.merge(message{Claims: map[netip.Addr]election.Claim{netip.MustParseAddr("10.200.0.1"): {Owner: "node-007", Epoch: epoch}}})
		m.state.view(nil)
	}
}

// Who had the key for a moment said what cannot be true, or as much as is plausible. The first is refused, the
// second outdone, and what is left a later term leaves behind, without a move.
func TestPoison(t *testing.T) {
	a, b := start(t, 1, 1, 10), start(t, 2, 1, 20)
	all := []*Members{a, b}
	b.Join(t.Context(), endpoint(1))
	thief := start(t, 9, 1, 1)
	thief.Join(t.Context(), endpoint(1))
	for _, m := range all {
		m.SetFacts(Facts{Joined: true})
	}
	mine := election.Claim{Owner: "n1", Epoch: 3}
	a.Claim(map[netip.Addr]election.Claim{vip: mine})
	await(t, b, "n1 claims", func(v View) bool { return v.Claims[vip] == mine && v.Facts["n1"].Joined })
	say := func(msg message) {
		for i := range all {
			if err := thief.transport.send(kindNews, newsBody(0, msg.encode()), endpoint(i + 1)[0]); err != nil {
				t.Fatal(err)
			}
		}
	}
	lie := Facts{Leaving: true}
	for _, c := range []message{
		{Facts: map[string]versioned{"n1": {Version: 1<<64 - 1, Facts: lie}}},
		{Facts: map[string]versioned{"n1": {Version: maxVersion, Facts: lie}}},
		{Facts: map[string]versioned{"n1": {Version: 11, Term: 1, Facts: lie}}},
		{Claims: map[netip.Addr]election.Claim{vip: {Owner: "ghost", Epoch: 1<<63 - 1}}},
		{Claims: map[netip.Addr]election.Claim{vip: {Owner: "ghost", Epoch: election.MaxEpoch}}},
		{Claims: map[netip.Addr]election.Claim{vip: {Owner: "ghost", Epoch: 4, Term: 1}}},
		{Claims: map[netip.Addr]election.Claim{vip: {Epoch: 4}}},
	} {
		before := b.state.countRefused()
		say(c)
		await(t, b, "it has refused", func(View) bool { b.changed.now(); return b.state.countRefused() > before })
	}
	for _, m := range all {
		if v := m.View(); v.Claims[vip] != mine || v.Facts["n1"].Leaving {
			t.Fatalf("%s believes what is implausible: %+v", m.cfg.Node, v)
		}
	}
	say(message{Facts: map[string]versioned{"n1": {Version: 1 << 56, Facts: lie}}})
	await(t, b, "n1 disagrees", func(v View) bool { return !v.Facts["n1"].Leaving && b.state.factsOf("n1").Version > 1<<56 })
	// A speaker that hears the lie first, from one that has it, and nobody else.
	lies := message{Facts: map[string]versioned{"n1": {Version: 1 << 57, Facts: lie}}}
	if err := thief.transport.send(kindNews, newsBody(0, lies.encode()), endpoint(2)[0]); err != nil {
		t.Fatal(err)
	}
	await(t, b, "the lie", func(v View) bool { return b.state.factsOf("n1").Version == 1<<57 })
	a.SetFacts(Facts{Joined: true, Drained: true})
	await(t, b, "n1 disagrees again", func(v View) bool { return v.Facts["n1"].Drained && !v.Facts["n1"].Leaving })

	// As high as it gets, for who has not heard anything of an address yet.
	other, highest := vip.Next(), election.Claim{Owner: "ghost", Epoch: election.MaxEpoch}
	say(message{Claims: map[netip.Addr]election.Claim{other: highest}, Facts: map[string]versioned{"n7": {Version: maxVersion}}})
	for _, m := range all {
		await(t, m, "the ghost claims", func(v View) bool { return v.Claims[other] == highest })
	}
	a.SetTerm(5)
	if got := a.View().Claims[vip]; got != (election.Claim{Owner: "n1", Epoch: 3, Term: 5}) {
		t.Errorf("in the new term n1 claims %+v", got)
	}
	b.SetTerm(5)
	b.Claim(map[netip.Addr]election.Claim{other: highest.Next("n2", false)})
	for _, m := range all {
		await(t, m, "the new term", func(v View) bool {
			return v.Claims[other] == election.Claim{Owner: "n2", Epoch: 2, Term: 5} && v.Claims[vip].Owner == "n1" && v.Claims[vip].Term == 5 &&
				m.state.factsOf("n1").Term == 5 // each is a message of its own
		})
	}
	if f := b.state.factsOf("n1"); f.Version > 100 || !f.Facts.Drained {
		t.Errorf("n1 says in the new term %+v", f)
	}
}

// A Secret that is made by hand after it was deleted may have an earlier term, or none.
func TestATermIsLowered(t *testing.T) {
	s := newState(time.Now, "n1")
	s.term = 7
	s.merge(message{Claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 5, Term: 7}, vip.Next(): {Owner: "n2", Epoch: 9, Term: 7}}, Facts: map[string]versioned{"n2": {Version: 4, Term: 7}}})
	own := s.setTerm(3)
	if want := map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 5, Term: 3}}; !cmp.Equal(own, want, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })) {
		t.Errorf("n1 claims %v, want %v", own, want)
	}
	news, _ := s.merge(message{Claims: map[netip.Addr]election.Claim{vip.Next(): {Owner: "n2", Epoch: 9, Term: 3}}, Facts: map[string]versioned{"n2": {Version: 2, Term: 3}}})
	if len(news.Claims) != 1 || len(news.Facts) != 1 {
		t.Errorf("in the earlier term n2 is not heard: %+v", news)
	}
	sum := s.digest()
	s.merge(message{Claims: own})
	same := newState(time.Now, "n9")
	same.term = 3
	same.merge(s.all())
	if sum == s.digest() || same.digest() != s.digest() {
		t.Error("the digest is not that of what is held")
	}
}
