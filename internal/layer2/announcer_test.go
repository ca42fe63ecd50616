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
	asker     = netip.MustParseAddr("192.0.2.50")
	foreigner = net.HardwareAddr{2, 0, 0, 0, 0, 0x99}
	eth0      = netif.Interface{Name: "eth0", Index: 2, MAC: "02:00:00:00:00:01", Up: true}
)

var addrs = cmp.Comparer(func(x, y netip.Addr) bool { return x == y })

// fakeWire is a wire in memory.
type fakeWire struct {
	packets chan heard
	closed  chan struct{}

	mu        sync.Mutex // guards the fields below
	answered  []netip.Addr
	announced []time.Duration // since the wire was made
	probes    []time.Duration
	verified  []time.Duration
	exists    map[string]bool // MACs of foreign hosts that answer when they are asked
	listening []netip.Addr
	made      time.Time
}

func newFakeWire() *fakeWire {
	return &fakeWire{packets: make(chan heard), closed: make(chan struct{}), made: time.Now()}
}

func (w *fakeWire) Next() (heard, error) {
	select {
	case h := <-w.packets:
		return h, nil
	case <-w.closed:
		return heard{}, errors.New("closed")
	}
}

func (w *fakeWire) Answer(h heard) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.answered = append(w.answered, h.Target)
	return nil
}

func (w *fakeWire) Probe(netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.probes = append(w.probes, time.Since(w.made))
	return nil
}

// sentProbes returns when probes were sent, since the wire was made.
func (w *fakeWire) sentProbes() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.probes)
}

// asked returns how many hosts were asked whether they have an address.
func (w *fakeWire) asked() int {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.verified)
}

func (w *fakeWire) Verify(a netip.Addr, mac net.HardwareAddr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.verified = append(w.verified, time.Since(w.made))
	if w.exists[mac.String()] {
		go func() {
			select {
			case w.packets <- heard{MAC: mac, Source: mac, From: a, Has: a, Answer: true}:
			case <-w.closed:
			}
		}()
	}
	return nil
}

func (w *fakeWire) Announce(netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.announced = append(w.announced, time.Since(w.made))
	return nil
}

// seen returns what was sent so far.
func (w *fakeWire) seen() (answered []netip.Addr, announced []time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.answered), slices.Clone(w.announced)
}

func (w *fakeWire) Listen(a netip.Addr) error {
	w.listening = append(w.listening, a)
	return nil
}

func (w *fakeWire) Ignore(a netip.Addr) error {
	w.listening = slices.DeleteFunc(w.listening, func(b netip.Addr) bool { return a == b })
	return nil
}

func (w *fakeWire) Close() error {
	close(w.closed)
	return nil
}

// harness is an Announcer on fake wires.
type harness struct {
	*Announcer
	wires []*fakeWire
	mute  atomic.Bool // it may not say a word
}

func start(t *testing.T) *harness {
	h := &harness{}
	h.Announcer = New(func() bool { return !h.mute.Load() }, logr.Discard())
	h.gateway = func(int) (netip.Addr, net.HardwareAddr, bool) { return netip.Addr{}, nil, false }
	h.dial = func(netif.Interface, lb.Family) (wire, error) {
		w := newFakeWire()
		h.wires = append(h.wires, w)
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
	h.wires[len(h.wires)-1].packets <- heard{Target: a, From: asker, Has: asker, MAC: foreigner}
	synctest.Wait()
}

func TestAnswersOnlyForWhatItWasGiven(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		h.ask(vip)
		h.ask(other)
		h.apply(t, eth0, vip, other)
		h.ask(other)
		h.apply(t, eth0, other)
		h.ask(vip)
		answered, _ := h.wires[0].seen()
		if diff := cmp.Diff([]netip.Addr{vip, other /* asked for before */, other}, answered, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
			t.Errorf("answers (-want +got):\n%s", diff)
		}
		if len(h.wires) != 1 {
			t.Errorf("the interface was opened %d times for changes that did not concern it", len(h.wires))
		}
		if !slices.Equal(h.wires[0].listening, []netip.Addr{other}) {
			t.Errorf("listens for %v, want %v alone", h.wires[0].listening, other)
		}
	})
}

// A process that has stood still neither answers nor announces.
func TestSaysNothingWhileItMayNot(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		h.mute.Store(true)
		time.Sleep(time.Second)
		h.ask(vip)
		synctest.Wait()
		if answered, announced := h.wires[0].seen(); len(answered) > 0 || len(announced) > 1 {
			t.Errorf("%d answers and %d announcements, want none but that of the beginning", len(answered), len(announced))
		}
		h.mute.Store(false)
		time.Sleep(time.Second)
		h.ask(vip)
		if answered, announced := h.wires[0].seen(); len(answered) != 1 || len(announced) < 2 {
			t.Errorf("%d answers and %d announcements when it may again", len(answered), len(announced))
		}
	})
}

// Who asked for an address while another node had it, and the router, are told when it moves here.
func TestAnswersAgainWhoAskedBefore(t *testing.T) {
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
		if answered, _ := h.wires[0].seen(); len(answered) > 0 {
			t.Fatalf("answers for %v, which are others'", answered)
		}
		h.apply(t, eth0, vip)
		answered, announced := h.wires[0].seen()
		if want := []netip.Addr{vip, vip}; !slices.Equal(answered, want) || len(announced) != 1 {
			t.Errorf("answered for %v with the first announcement, want %v: who asked, and the router", answered, want)
		}
		time.Sleep(10 * time.Second)
		if answered, _ := h.wires[0].seen(); len(answered) != 4 {
			t.Errorf("%d answers in all, want those two twice", len(answered))
		}
	})
}

// What is remembered of questions is bounded, and the last are remembered.
func TestAskersAreBounded(t *testing.T) {
	a := askers{of: map[netip.Addr]map[netip.Addr]net.HardwareAddr{}}
	for i := range 3 * mostAsked {
		target := netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})
		for j := range 2 * mostAskers {
			from := netip.AddrFrom4([4]byte{192, 0, 2, byte(j)})
			a.note(heard{Target: target, From: from, MAC: foreigner})
			if q := a.questions(target); len(q) > mostAskers || !slices.ContainsFunc(q, func(h heard) bool { return h.From == from }) {
				t.Fatalf("of %d who asked for %s %d are remembered: %v", j+1, target, len(q), q)
			}
		}
		if len(a.of) > mostAsked {
			t.Fatalf("%d addresses are remembered, want at most %d", len(a.of), mostAsked)
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
		_, announced := h.wires[0].seen()
		if diff := cmp.Diff(announceAt, announced); diff != "" {
			t.Fatalf("announcements after a take-over (-want +got):\n%s", diff)
		}
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		_, announced = h.wires[0].seen()
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
		const many = 10 * atOnce
		all := make([]netip.Addr, many)
		for i, a := 0, vip; i < many; i, a = i+1, a.Next() {
			all[i] = a
		}
		h.apply(t, eth0, all...)
		time.Sleep(announceAt[1] - 1)
		synctest.Wait()
		_, announced := h.wires[0].seen()
		if len(announced) != many {
			t.Fatalf("%d of %d addresses were announced at first", len(announced), many)
		}
		const most = 2 * atOnce // at the beginning it is woken twice
		for i := most; i < many; i++ {
			if announced[i] < announced[i-most]+breather {
				t.Fatalf("more than %d addresses were announced within %v: %v", most, breather, announced)
			}
		}
	})
}

func TestAddressGivenUpAndTakenAgainIsAnnouncedAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip, other)
		time.Sleep(10 * time.Second)
		h.apply(t, eth0, other)
		h.apply(t, eth0, vip, other)
		_, before := h.wires[0].seen()
		time.Sleep(10 * time.Second)
		synctest.Wait()
		// apply itself waited for the first of them.
		_, after := h.wires[0].seen()
		if got := len(after) - len(before) + 1; got != len(announceAt) {
			t.Errorf("%d announcements after taking it again, want %d", got, len(announceAt))
		}
	})
}

func TestInterfaceThatComesBackIsOpenedAndAnnouncedAnew(t *testing.T) {
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
				if len(h.wires) != 2 {
					t.Fatalf("the interface was opened %d times, want 2", len(h.wires))
				}
				if answered, announced := h.wires[1].seen(); len(announced) == 0 || len(answered) != 1 {
					t.Errorf("announced %d times and answered %d questions on the new wire", len(announced), len(answered))
				}
			})
		})
	}
}

func TestWireThatFailedIsOpenedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, vip)
		h.wires[0].Close()
		synctest.Wait()
		h.wires[0].closed = make(chan struct{}) // the announcer closes it as well
		h.apply(t, eth0, vip)
		h.ask(vip)
		if answered, _ := h.wires[len(h.wires)-1].seen(); len(h.wires) != 2 || len(answered) != 1 {
			t.Errorf("opened %d times; it should answer again", len(h.wires))
		}
	})
}

func TestInterfaceThatCannotBeOpenedDoesNotHarmOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		works := h.dial
		h.dial = func(i netif.Interface, f lb.Family) (wire, error) {
			if i.Name == "bad0" {
				return nil, errors.New("open ARP on bad0: no such device")
			}
			return works(i, f)
		}
		bad := netif.Interface{Name: "bad0", Index: 3, MAC: "02:00:00:00:00:03", Up: true}
		rows := []lb.L2Announcement{{Addr: vip, Interfaces: []string{"bad0", "eth0"}}}
		inForce, err := h.Apply(rows, nil, []netif.Interface{bad, eth0})
		if err == nil {
			t.Error("the failure is not told")
		}
		if len(inForce) != 1 || !slices.Equal(inForce[0].Interfaces, []string{"eth0"}) {
			t.Errorf("in force %v, want the row on eth0 alone", inForce)
		}
		fails, why := h.Fails()
		if want := map[string][]lb.Family{"bad0": {lb.IPv4}}; !cmp.Equal(fails, want) || why == nil {
			t.Errorf("what fails is told to be %v, %v; want %v, and why", fails, why, want)
		}
		synctest.Wait() // it announces, and knows of nobody who asked
		h.ask(vip)
		if answered, _ := h.wires[0].seen(); len(answered) != 1 {
			t.Error("eth0 does not answer")
		}
		time.Sleep(failsFor + time.Second)
		if fails, why := h.Fails(); len(fails) > 0 || why != nil {
			t.Errorf("after a while it may be tried again, and is still told to fail: %v, %v", fails, why)
		}
	})
}

// claim has a host say that it has the address.
func (h *harness) claim(a netip.Addr, mac net.HardwareAddr) {
	h.wires[len(h.wires)-1].packets <- heard{From: a, Has: a, MAC: mac, Source: mac}
	synctest.Wait()
}

// exist makes these the foreign hosts that answer when they are asked.
func (h *harness) exist(macs ...net.HardwareAddr) {
	w := h.wires[len(h.wires)-1]
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

// answers reports whether a question is answered.
func (h *harness) answersNow(a netip.Addr) bool {
	before, _ := h.wires[len(h.wires)-1].seen()
	h.ask(a)
	after, _ := h.wires[len(h.wires)-1].seen()
	return len(after) > len(before)
}

// TestNewAddressIsProbed: three probes, and not a word before their time is over.
func TestNewAddressIsProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		if h.probe(t, vip) {
			t.Error("it is in force before it was probed")
		}
		if h.answersNow(vip) {
			t.Error("it is answered for before it was probed")
		}
		time.Sleep(probed)
		synctest.Wait()
		w := h.wires[0]
		_, announced := w.seen()
		if diff := cmp.Diff(probeAt, w.probes); diff != "" {
			t.Errorf("probes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]time.Duration{probed}, announced); diff != "" {
			t.Errorf("announcements (-want +got):\n%s", diff)
		}
		select {
		case <-h.Changed():
		default:
			t.Error("nobody is told that it is answered for now")
		}
		if !h.probe(t, vip) || !h.answersNow(vip) {
			t.Error("it is not answered for after it was probed")
		}
	})
}

// TestForeignHostKeepsANewAddress: its address is not announced but asked for
// again, and taken when it has gone. A node of the cluster is no foreign host.
func TestForeignHostKeepsANewAddress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		friend := net.HardwareAddr{2, 0, 0, 0, 0, 2}
		h.Befriend(map[string]bool{friend.String(): true})
		h.probe(t, vip)
		h.claim(vip, friend)
		h.claim(other, foreigner) // has nothing to do with us
		if got := h.Conflicts(); len(got) > 0 {
			t.Fatalf("conflicts with a friend or about nothing: %v", got)
		}
		h.exist(foreigner)
		h.claim(vip, foreigner)
		time.Sleep(5 * time.Second)
		want := []Conflict{{Addr: vip, Interface: "eth0", MAC: foreigner.String(), Answers: true}}
		if diff := cmp.Diff(want, h.Conflicts(), cmpopts.IgnoreFields(Conflict{}, "Seen"), addrs); diff != "" {
			t.Errorf("conflicts (-want +got):\n%s", diff)
		}
		if h.probe(t, vip) || h.answersNow(vip) {
			t.Error("a foreign host has it, and it is answered for")
		}
		h.exist()
		time.Sleep(probeAgain)
		synctest.Wait()
		if !h.probe(t, vip) || !h.answersNow(vip) || len(h.Conflicts()) > 0 {
			t.Errorf("the foreign host has gone; conflicts %v", h.Conflicts())
		}
	})
}

// TestTakeOverIsNotProbed: nobody is to wait for it, and an interface that comes
// back has announced the address before.
func TestTakeOverIsNotProbed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.apply(t, eth0, other)
		h.ask(other)
		if got := h.wires[0].probes; len(got) > 0 {
			t.Errorf("probed at %v", got)
		}
		h.probe(t, vip)
		time.Sleep(probed)
		synctest.Wait()
		h.probe(t, vip)
		down := eth0
		down.Up = false
		h.apply(t, down, vip)
		if !h.probe(t, vip) || len(h.wires[1].probes) > 0 {
			t.Errorf("after the interface came back, probed at %v", h.wires[1].probes)
		}
	})
}

// TestTakeOverEndsTheProbe: an address may get another owner, and come back, while
// it is probed.
func TestTakeOverEndsTheProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := start(t)
		h.probe(t, vip)
		h.apply(t, eth0, vip)
		if _, announced := h.wires[0].seen(); !h.answersNow(vip) || len(announced) != 1 {
			t.Errorf("announced at %v, want at once, and answers", announced)
		}
	})
}
