package layer2

import (
	"errors"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

var (
	vip       = netip.MustParseAddr("192.0.2.100")
	other     = netip.MustParseAddr("192.0.2.101")
	querier   = netip.MustParseAddr("192.0.2.50")
	foreigner = net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	eth0      = netif.Interface{Name: "eth0", Index: 2, MAC: "02:00:00:00:00:01", Up: true}
)

var addrs = cmp.Comparer(func(x, y netip.Addr) bool { return x == y })

// fakeConn is a conn in memory.
type fakeConn struct {
	packets chan frame
	closed  chan struct{}

	mu        sync.Mutex // guards the fields below
	answered  []netip.Addr
	announced []time.Duration // since the connection was opened
	probes    []time.Duration
	verified  []time.Duration
	exists    map[string]bool // MACs of foreign hosts that answer when they are asked
	listening []netip.Addr
	made      time.Time
}

func newFakeConn() *fakeConn {
	return &fakeConn{packets: make(chan frame), closed: make(chan struct{}), made: time.Now()}
}

func (w *fakeConn) Next() (frame, error) {
	select {
	case h := <-w.packets:
		return h, nil
	case <-w.closed:
		return frame{}, errors.New("closed")
	}
}

func (w *fakeConn) Answer(h frame) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = append(w.answered, h.Target)
	return nil
}

func (w *fakeConn) Probe(netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes = append(w.probes, time.Since(w.made))
	return nil
}

// sentProbes returns when probes were sent, since the connection was opened.
func (w *fakeConn) sentProbes() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.probes)
}

// verifications returns how many queries Verify sent.
func (w *fakeConn) verifications() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.verified)
}

func (w *fakeConn) Verify(a netip.Addr, mac net.HardwareAddr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verified = append(w.verified, time.Since(w.made))
	if w.exists[mac.String()] {
		go func() {
			select {
			case w.packets <- frame{MAC: mac, Source: mac, Sender: a, Claimed: a, Reply: true}:
			case <-w.closed:
			}
		}()
	}
	return nil
}

func (w *fakeConn) Announce(netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.announced = append(w.announced, time.Since(w.made))
	return nil
}

// seen returns what was sent so far.
func (w *fakeConn) seen() (answered []netip.Addr, announced []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.answered), slices.Clone(w.announced)
}

func (w *fakeConn) Listen(a netip.Addr) error {
	w.listening = append(w.listening, a)
	return nil
}

func (w *fakeConn) Ignore(a netip.Addr) error {
	w.listening = slices.DeleteFunc(w.listening, func(b netip.Addr) bool { return a == b })
	return nil
}

func (w *fakeConn) Close() error {
	close(w.closed)
	return nil
}

// harness is an Announcer on fake connections.
type harness struct {
	*Announcer
	conns []*fakeConn
	mute  atomic.Bool // mayAnswer returns false
}

func start(t *testing.T) *harness {
	h := &harness{}
	h.Announcer = New(func() bool { return !h.mute.Load() }, logr.Discard())
	h.gateway = func(int) (netip.Addr, net.HardwareAddr, bool) { return netip.Addr{}, nil, false }
	h.dial = func(netif.Interface, lb.Family) (conn, error) {
		w := newFakeConn()
		h.conns = append(h.conns, w)
		return w, nil
	}
	t.Cleanup(h.Close)
	return h
}

func (h *harness) apply(t *testing.T, ifi netif.Interface, addrs ...netip.Addr) {
	t.Helper()
	var rows []lb.L2Announcement
	for _, a := range addrs {
		rows = append(rows, lb.L2Announcement{Addr: a, Interfaces: []string{"eth0"}})
	}
	if _, err := h.Apply(rows, nil, []netif.Interface{ifi}); err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
}

func (h *harness) ask(a netip.Addr) {
	h.conns[len(h.conns)-1].packets <- frame{Target: a, Sender: querier, Claimed: querier, MAC: foreigner}
	synctest.Wait()
}

func TestAnswersOnlyForAppliedAddresses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		h.ask(vip)
		h.ask(other)
		h.apply(t, eth0, vip, other)
		h.ask(other)
		h.apply(t, eth0, other)
		h.ask(vip)
		answered, _ := h.conns[0].seen()
		if diff := cmp.Diff([]netip.Addr{vip, other /* asked for before */, other}, answered, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if len(h.conns) != 1 {
			t.Errorf("the interface was opened %d times for changes that did not concern it", len(h.conns))
		}
		if !slices.Equal(h.conns[0].listening, []netip.Addr{other}) {
			t.Errorf("listens for %v, want %v alone", h.conns[0].listening, other)
		}
	})
}

// A stalled process neither answers nor announces.
func TestSendsNothingWhileStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		h.mute.Store(true)
		time.Sleep(time.Second)
		h.ask(vip)
		synctest.Wait()
		if answered, announced := h.conns[0].seen(); len(answered) > 0 || len(announced) > 1 {
			t.Errorf("%d answers and %d announcements, want no answer and only the first announcement", len(answered), len(announced))
		}
		h.mute.Store(false)
		time.Sleep(time.Second)
		h.ask(vip)
		if answered, announced := h.conns[0].seen(); len(answered) != 1 || len(announced) < 2 {
			t.Errorf("%d answers and %d announcements after the stall", len(answered), len(announced))
		}
	})
}

// When an address moves to this node, the router and the hosts that queried the former owner get a reply.
func TestAnswersFormerQueriersAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		router := netip.MustParseAddr("192.0.2.254")
		h.gateway = func(int) (netip.Addr, net.HardwareAddr, bool) { return router, foreigner, true }
		if _, err := h.Apply(nil, []string{"eth0"}, []netif.Interface{eth0}); err != nil {
			t.Fatal(err)
		}
		synctest.Wait()
		h.ask(vip)
		h.ask(vip)
		h.ask(other)
		if answered, _ := h.conns[0].seen(); len(answered) > 0 {
			t.Fatalf("answers for %v, which other nodes own", answered)
		}
		h.apply(t, eth0, vip)
		answered, announced := h.conns[0].seen()
		if want := []netip.Addr{vip, vip}; !slices.Equal(answered, want) || len(announced) != 1 {
			t.Errorf("answered for %v with the first announcement, want %v: the querier and the router", answered, want)
		}
		time.Sleep(10 * time.Second)
		if answered, _ := h.conns[0].seen(); len(answered) != 4 {
			t.Errorf("%d answers in all, want each of the two repeated once", len(answered))
		}
	})
}

// The remembered queries are bounded, and the latest are among them.
func TestQueriersAreBounded(t *testing.T) {
	q := queriers{byAddress: map[netip.Addr]map[netip.Addr]net.HardwareAddr{}}
	for i := range 3 * maxQueriedAddresses {
		target := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		for j := range 2 * maxQueriers {
			from := netip.AddrFrom4([4]byte{192, 0, 2, byte(j)})
			q.record(frame{Target: target, Sender: from, MAC: foreigner})
			if got := q.queries(target); len(got) > maxQueriers || !slices.ContainsFunc(got, func(h frame) bool { return h.Sender == from }) {
				t.Fatalf("of %d queriers of %s %d are remembered: %v", j+1, target, len(got), got)
			}
		}
		if len(q.byAddress) > maxQueriedAddresses {
			t.Fatalf("%d addresses are remembered, want at most %d", len(q.byAddress), maxQueriedAddresses)
		}
	}
}

func TestAnnouncesOftenAtFirstThenEveryMinute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		time.Sleep(10 * time.Second)
		h.apply(t, eth0, vip) // the same rows again announce nothing
		synctest.Wait()
		_, announced := h.conns[0].seen()
		if diff := cmp.Diff(announceAt, announced); diff != "" {
			t.Fatalf("announcements after a take-over (-want +got):\n%s", diff)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		_, announced = h.conns[0].seen()
		later := announced[len(announceAt):]
		if len(later) < 9 || len(later) > 11 {
			t.Errorf("%d announcements in ten minutes, want about one a minute", len(later))
		}
		for i := 1; i < len(later); i++ {
			if gap := later[i] - later[i-1]; gap < 54*time.Second || gap > 66*time.Second {
				t.Errorf("%s between two announcements, want a minute give or take a tenth", gap)
			}
		}
	})
}

// A crowd of addresses is not announced in one burst, which neighbours lose.
func TestManyAddressesAreAnnouncedAFewAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		const many = 10 * batchSize
		all := make([]netip.Addr, many)
		for i, a := 0, vip; i < many; i, a = i+1, a.Next() {
			all[i] = a
		}
		h.apply(t, eth0, all...)
		time.Sleep(announceAt[1] - 1)
		synctest.Wait()
		_, announced := h.conns[0].seen()
		if len(announced) != many {
			t.Fatalf("%d of %d addresses were announced at first", len(announced), many)
		}
		const most = 2 * batchSize // at the beginning it is woken twice
		for i := most; i < many; i++ {
			if announced[i] < announced[i-most]+batchInterval {
				t.Fatalf("more than %d addresses were announced within %v: %v", most, batchInterval, announced)
			}
		}
	})
}

func TestAddressReleasedAndTakenOverAgainIsReannounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip, other)
		time.Sleep(10 * time.Second)
		h.apply(t, eth0, other)
		h.apply(t, eth0, vip, other)
		_, before := h.conns[0].seen()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		// apply itself waited for the first of them.
		_, after := h.conns[0].seen()
		if got := len(after) - len(before) + 1; got != len(announceAt) {
			t.Errorf("%d announcements after the second takeover, want %d", got, len(announceAt))
		}
	})
}

func TestInterfaceThatComesBackIsReopenedAndReannounced(t *testing.T) {
	down, otherMAC := eth0, eth0
	down.Up = false
	otherMAC.MAC = "02:00:00:00:00:02"
	for name, events := range map[string][]netif.Interface{
		"carrier lost and back": {down, eth0},
		"another MAC":           {otherMAC},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := start(t)
				h.apply(t, eth0, vip)
				time.Sleep(10 * time.Second)
				for _, e := range events {
					h.apply(t, e, vip)
				}
				h.ask(vip)
				if len(h.conns) != 2 {
					t.Fatalf("the interface was opened %d times, want 2", len(h.conns))
				}
				if answered, announced := h.conns[1].seen(); len(announced) == 0 || len(answered) != 1 {
					t.Errorf("announced %d times and answered %d queries on the new connection", len(announced), len(answered))
				}
			})
		})
	}
}

func TestFailedConnectionIsReopened(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		h.conns[0].Close()
		synctest.Wait()
		h.conns[0].closed = make(chan struct{}) // the announcer closes it too
		h.apply(t, eth0, vip)
		h.ask(vip)
		if answered, _ := h.conns[len(h.conns)-1].seen(); len(h.conns) != 2 || len(answered) != 1 {
			t.Errorf("opened %d times, want 2 and an answer by the second", len(h.conns))
		}
	})
}

func TestInterfaceThatCannotBeOpenedDoesNotAffectOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		works := h.dial
		h.dial = func(i netif.Interface, f lb.Family) (conn, error) {
			if i.Name == "bad0" {
				return nil, errors.New("open ARP on bad0: no such device")
			}
			return works(i, f)
		}
		bad := netif.Interface{Name: "bad0", Index: 3, MAC: "02:00:00:00:00:03", Up: true}
		rows := []lb.L2Announcement{{Addr: vip, Interfaces: []string{"bad0", "eth0"}}}
		inForce, err := h.Apply(rows, nil, []netif.Interface{bad, eth0})
		if err == nil {
			t.Error("Apply returned no error")
		}
		if len(inForce) != 1 || !slices.Equal(inForce[0].Interfaces, []string{"eth0"}) {
			t.Errorf("in effect %v, want the row on eth0 alone", inForce)
		}
		fails, why := h.FailedInterfaces()
		if want := map[string][]lb.Family{"bad0": {lb.IPv4}}; !cmp.Equal(fails, want) || why == nil {
			t.Errorf("FailedInterfaces: %v, %v; want %v and an error", fails, why, want)
		}
		synctest.Wait() // it announces without known queriers
		h.ask(vip)
		if answered, _ := h.conns[0].seen(); len(answered) != 1 {
			t.Error("eth0 does not answer")
		}
		time.Sleep(failureTimeout + time.Second)
		if fails, why := h.FailedInterfaces(); len(fails) > 0 || why != nil {
			t.Errorf("after failureTimeout FailedInterfaces still returns %v, %v", fails, why)
		}
	})
}

// claim simulates a host that claims the address.
func (h *harness) claim(a netip.Addr, mac net.HardwareAddr) {
	h.conns[len(h.conns)-1].packets <- frame{Sender: a, Claimed: a, MAC: mac, Source: mac}
	synctest.Wait()
}

// exist sets the foreign hosts that reply to a verification.
func (h *harness) exist(macs ...net.HardwareAddr) {
	w := h.conns[len(h.conns)-1]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.exists = map[string]bool{}
	for _, m := range macs {
		w.exists[m.String()] = true
	}
}

// probe applies an address that is new to the network, and returns whether it is
// in force at once.
func (h *harness) probe(t *testing.T, a netip.Addr) bool {
	t.Helper()
	inForce, err := h.Apply([]lb.L2Announcement{{Addr: a, Interfaces: []string{"eth0"}, Probe: true}}, nil, []netif.Interface{eth0})
	if err != nil {
		t.Fatal(err)
	}
	synctest.Wait()
	return len(inForce) > 0
}

// answersNow reports whether a query is answered.
func (h *harness) answersNow(a netip.Addr) bool {
	before, _ := h.conns[len(h.conns)-1].seen()
	h.ask(a)
	after, _ := h.conns[len(h.conns)-1].seen()
	return len(after) > len(before)
}

// A new address is probed three times before it is announced.
func TestNewAddressIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		if h.probe(t, vip) {
			t.Error("the address is in effect before it was probed")
		}
		if h.answersNow(vip) {
			t.Error("a query is answered before the address was probed")
		}
		time.Sleep(probeDuration)
		synctest.Wait()
		w := h.conns[0]
		_, announced := w.seen()
		if diff := cmp.Diff(probeAt, w.probes); diff != "" {
			t.Errorf("probes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]time.Duration{probeDuration}, announced); diff != "" {
			t.Errorf("announcements (-want +got):\n%s", diff)
		}
		select {
		case <-h.Changed():
		default:
			t.Error("Changed did not receive")
		}
		if !h.probe(t, vip) || !h.answersNow(vip) {
			t.Error("a query is not answered after the address was probed")
		}
	})
}

// A new address that a foreign host uses is not announced but probed again, and announced
// once the host has left. A node of the cluster is not a foreign host.
func TestForeignHostKeepsANewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		node := net.HardwareAddr{2, 0, 0, 0, 0, 2}
		h.SetClusterMACs(map[string]bool{node.String(): true})
		h.probe(t, vip)
		h.claim(vip, node)
		h.claim(other, foreigner) // not an address of the rows
		if got := h.Conflicts(); len(got) > 0 {
			t.Fatalf("conflicts with a node, or about another address: %v", got)
		}
		h.exist(foreigner)
		h.claim(vip, foreigner)
		time.Sleep(5 * time.Second)
		want := []Conflict{{Addr: vip, Interface: "eth0", MAC: foreigner.String(), Answers: true}}
		if diff := cmp.Diff(want, h.Conflicts(), cmpopts.IgnoreFields(Conflict{}, "Seen"), addrs); diff != "" {
			t.Errorf("conflicts (-want +got):\n%s", diff)
		}
		if h.probe(t, vip) || h.answersNow(vip) {
			t.Error("a query is answered though a foreign host uses the address")
		}
		h.exist()
		time.Sleep(reprobeAfter)
		synctest.Wait()
		if !h.probe(t, vip) || !h.answersNow(vip) || len(h.Conflicts()) > 0 {
			t.Errorf("the foreign host has left; conflicts %v", h.Conflicts())
		}
	})
}

// A takeover is not probed, as clients wait for it. Nor is an address whose interface comes
// back, as it was announced before.
func TestTakeOverIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, other)
		h.ask(other)
		if got := h.conns[0].probes; len(got) > 0 {
			t.Errorf("probed at %v", got)
		}
		h.probe(t, vip)
		time.Sleep(probeDuration)
		synctest.Wait()
		h.probe(t, vip)
		down := eth0
		down.Up = false
		h.apply(t, down, vip)
		if !h.probe(t, vip) || len(h.conns[1].probes) > 0 {
			t.Errorf("after the interface came back, probed at %v", h.conns[1].probes)
		}
	})
}

// A takeover ends the probing: an address may get another owner and come back while it is
// probed.
func TestTakeOverEndsTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.probe(t, vip)
		h.apply(t, eth0, vip)
		if _, announced := h.conns[0].seen(); !h.answersNow(vip) || len(announced) != 1 {
			t.Errorf("announced at %v, want at once, and answers", announced)
		}
	})
}
