package session

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// seeds is how many random worlds each simulation goes through.
const seeds = 500

// world is two sessions and the wire between them. Its time is its own.
type world struct {
	random *rand.Rand
	now    time.Time
	sides  [2]*side
	flying []flight // in the order in which they were sent
}

type side struct {
	*Session
	changes []Change
	// to the other side:
	delay   time.Duration
	vary    time.Duration // added to the delay, at random; never out of order
	loss    float64       // of packets
	inARow  int           // at most that many lost one after the other
	lost    int
	cut     bool
	arrival time.Time // of the last packet
}

type flight struct {
	at     time.Time
	to     int
	packet []byte
}

func newWorld(seed uint64) *world {
	w := &world{random: rand.New(rand.NewPCG(seed, 1)), now: start}
	for i := range w.sides {
		w.sides[i] = &side{Session: New(w.random.Uint32()|1, w.params(), w.random.Float64), delay: w.between(0, 30*ms)}
	}
	return w
}

// params are any that make no session go down for a link that varies by 5 ms.
func (w *world) params() Params {
	return Params{DesiredMinTx: w.between(20, 500) * ms, RequiredMinRx: w.between(20, 500) * ms, DetectMult: uint8(3 + w.random.IntN(3))}
}

func (w *world) between(a, b time.Duration) time.Duration {
	return a + time.Duration(w.random.Int64N(int64(b-a)+1))
}

func (w *world) handle(i int, out Output) {
	s := w.sides[i]
	s.changes = append(s.changes, out.Changes...)
	if !out.Send {
		return
	}
	if s.lost < s.inARow && w.random.Float64() < s.loss {
		s.lost++
		return
	}
	s.lost = 0
	if s.cut {
		return
	}
	at := w.now.Add(s.delay + w.between(0, s.vary))
	if at.Before(s.arrival) {
		at = s.arrival
	}
	s.arrival = at
	w.flying = append(w.flying, flight{at: at, to: 1 - i, packet: out.Packet.Append(nil)})
}

// run lets time pass until done, and reports whether it was within that time.
func (w *world) run(within time.Duration, done func() bool) bool {
	for end := w.now.Add(within); !done(); {
		next, act := end, func() {}
		for i, s := range w.sides {
			if at, ok := s.Deadline(); ok && at.Before(next) {
				next, act = at, func() { w.handle(i, s.Tick(w.now)) }
			}
		}
		for i, f := range w.flying {
			if f.at.Before(next) {
				next, act = f.at, func() {
					w.flying = slices.Delete(w.flying, i, i+1)
					p, err := Parse(f.packet)
					if err != nil {
						panic(err)
					}
					w.handle(f.to, w.sides[f.to].Receive(w.now, p))
				}
			}
		}
		if next.Equal(end) {
			w.now = end
			return done()
		}
		if next.After(w.now) {
			w.now = next
		}
		act()
	}
	return true
}

func (w *world) pass(d time.Duration) { w.run(d, func() bool { return false }) }

func (w *world) all(s State) func() bool {
	return func() bool { return w.sides[0].state == s && w.sides[1].state == s }
}

func (w *world) String() string {
	out := ""
	for i, s := range w.sides {
		out += fmt.Sprintf("\n%d: %v, %v, %+v, delay %v", i, s.state, s.diag, s.params, s.delay)
		for _, c := range s.changes {
			out += fmt.Sprintf("\n   %v %v -> %v (%v)", c.At.Sub(start), c.From, c.To, c.Diag)
		}
	}
	return out
}

func simulate(t *testing.T, run func(*testing.T, *world)) {
	for seed := range uint64(seeds) {
		w := newWorld(seed)
		run(t, w)
		if t.Failed() {
			t.Fatalf("seed %d, after %v:%v", seed, w.now.Sub(start), w)
		}
	}
}

// connect brings both sides up and lets their first Poll Sequences end.
func (w *world) connect(t *testing.T) {
	if !w.run(3*time.Second, w.all(Up)) {
		t.Error("not up within 3 s")
	}
	w.pass(3 * time.Second)
	w.steady(t, "while it settled")
}

// steady fails the test when a side has gone down.
func (w *world) steady(t *testing.T, when string) {
	t.Helper()
	for i, s := range w.sides {
		if slices.ContainsFunc(s.changes, func(c Change) bool { return c.From == Up }) {
			t.Errorf("side %d flapped %s", i, when)
		}
	}
}

func TestSimulateComesUpDespiteLoss(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		for _, s := range w.sides {
			s.loss, s.inARow, s.vary = 0.4, 1000, 20*ms
		}
		w.sides[0].params.Passive = w.random.IntN(2) == 0
		if !w.run(2*time.Minute, w.all(Up)) {
			t.Error("not up within two minutes")
		}
	})
}

func TestSimulateSilenceIsDetected(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.connect(t)
		w.sides[0].cut = true
		w.sides[1].cut = w.random.IntN(2) == 0 // or one way only
		cut, limit := w.now, w.sides[1].DetectionTime()*12/10
		w.run(time.Minute, func() bool { return w.sides[1].state != Up })
		if c := w.sides[1].changes; c[len(c)-1].Diag != DiagTimeout || w.now.Sub(cut) > limit+w.sides[0].delay {
			t.Errorf("%v after %v, want a timeout within %v", c[len(c)-1].Diag, w.now.Sub(cut), limit)
		}
		w.run(time.Minute, func() bool { return w.sides[0].state != Up })
		if want := DiagNeighborDown; !w.sides[1].cut && w.sides[0].diag != want {
			t.Errorf("the side that still hears says %v, want %v", w.sides[0].diag, want)
		}
		for _, s := range w.sides {
			s.cut = false
		}
		if !w.run(3*time.Second, w.all(Up)) {
			t.Error("not up again within 3 s")
		}
	})
}

func TestSimulateParamsChangeWithoutFlap(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		for _, s := range w.sides {
			s.vary = 5 * ms
		}
		w.connect(t)
		for range 20 {
			w.sides[w.random.IntN(2)].SetParams(w.params())
			w.pass(w.between(0, 1500*ms))
		}
		w.pass(20 * time.Second)
		w.steady(t, "on a change of parameters")
		for i, s := range w.sides {
			other := w.sides[1-i]
			if want := max(s.params.DesiredMinTx, other.params.RequiredMinRx); s.TransmitInterval() != want || s.polling {
				t.Errorf("side %d ends with interval %v, polling %t; want %v", i, s.TransmitInterval(), s.polling, want)
			}
			if want := time.Duration(other.params.DetectMult) * max(s.params.RequiredMinRx, other.params.DesiredMinTx); s.DetectionTime() != want {
				t.Errorf("side %d ends with detection time %v, want %v", i, s.DetectionTime(), want)
			}
		}
	})
}

// With a multiplier of 3 two packets in a row may be lost, at any time.
func TestSimulateLossWithoutFlap(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.connect(t)
		for _, s := range w.sides {
			s.loss, s.inARow = w.random.Float64(), 2
		}
		for range 10 {
			w.pass(3 * time.Second)
			w.sides[w.random.IntN(2)].SetParams(w.params())
		}
		w.steady(t, "though no three packets in a row were lost")
	})
}

func TestSimulateDisable(t *testing.T) {
	simulate(t, func(t *testing.T, w *world) {
		w.connect(t)
		w.handle(0, w.sides[0].Disable(w.now, DiagAdminDown))
		w.run(time.Second, func() bool { return w.sides[1].state == Down })
		if w.sides[1].diag != DiagNeighborDown || w.sides[1].remote.State != AdminDown {
			t.Error("the other side does not know")
		}
		w.pass(w.between(0, 10*time.Second))
		w.handle(0, w.sides[0].Enable(w.now))
		if !w.run(3*time.Second, w.all(Up)) {
			t.Error("not up again within 3 s")
		}
	})
}
