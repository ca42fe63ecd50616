package session

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

const ms = time.Millisecond

// rig is a session and its clock. The other side's discriminator is 2.
type rig struct {
	*Session
	t   *testing.T
	now time.Time
	// last is what the last step wanted done.
	last Output
}

var start = time.Unix(1000, 0)

// fast is what tests want of a session when they do not care.
var fast = Params{DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms, DetectMult: 3}

// newRig returns a session without jitter that has sent its first packet.
func newRig(t *testing.T, p Params) *rig {
	r := &rig{Session: New(1, p, func() float64 { return 0 }), t: t, now: start}
	r.last = r.Tick(r.now)
	return r
}

// remote is a packet of the other side.
func remote(s State, edit ...func(*Packet)) Packet {
	p := Packet{State: s, DetectMult: 3, MyDiscriminator: 2, YourDiscriminator: 1, DesiredMinTx: 100 * ms, RequiredMinRx: 100 * ms}
	for _, e := range edit {
		e(&p)
	}
	return p
}

func poll(p *Packet)                   { p.Poll = true }
func final(p *Packet)                  { p.Final = true }
func demand(p *Packet)                 { p.Demand = true }
func rx(d time.Duration) func(*Packet) { return func(p *Packet) { p.RequiredMinRx = d } }
func tx(d time.Duration) func(*Packet) { return func(p *Packet) { p.DesiredMinTx = d } }
func mult(m uint8) func(*Packet)       { return func(p *Packet) { p.DetectMult = m } }

func (r *rig) hear(s State, edit ...func(*Packet)) {
	r.t.Helper()
	r.last = r.Receive(r.now, remote(s, edit...))
}

// pass lets time pass, as the caller of a Session does, and returns when packets
// were sent, from the start of it.
func (r *rig) pass(d time.Duration) (sent []time.Duration) {
	r.t.Helper()
	begin := r.now
	for end := r.now.Add(d); ; {
		at, ok := r.Deadline()
		if !ok || at.After(end) {
			r.now = end
			return sent
		}
		if at.After(r.now) {
			r.now = at
		}
		r.last = r.Tick(r.now)
		if r.last.Send {
			sent = append(sent, r.now.Sub(begin))
		}
	}
}

// up brings the session up, with no Poll Sequence left.
func up(t *testing.T, p Params) *rig {
	r := newRig(t, p)
	r.hear(Down)
	r.hear(Init)
	r.hear(Up, final)
	r.hear(Up)
	r.want(Up, DiagNone)
	if r.packet().Poll {
		t.Fatal("the Poll Sequence of coming up did not end")
	}
	return r
}

func (r *rig) want(s State, d Diag) {
	r.t.Helper()
	if gotS, gotD := r.State(); gotS != s || gotD != d {
		r.t.Fatalf("state %v (%v), want %v (%v)", gotS, gotD, s, d)
	}
}

// The state machine: RFC 5880, 6.2 and 6.8.6.
func TestReceivedStates(t *testing.T) {
	type end struct {
		State State
		Diag  Diag
	}
	for own, row := range map[State]map[State]end{
		AdminDown: {AdminDown: {AdminDown, DiagAdminDown}, Down: {AdminDown, DiagAdminDown}, Init: {AdminDown, DiagAdminDown}, Up: {AdminDown, DiagAdminDown}},
		Down:      {AdminDown: {Down, 0}, Down: {Init, 0}, Init: {Up, 0}, Up: {Down, 0}},
		Init:      {AdminDown: {Down, DiagNeighborDown}, Down: {Init, 0}, Init: {Up, 0}, Up: {Up, 0}},
		Up:        {AdminDown: {Down, DiagNeighborDown}, Down: {Down, DiagNeighborDown}, Init: {Up, 0}, Up: {Up, 0}},
	} {
		for received, want := range row {
			r := newRig(t, fast)
			switch own {
			case AdminDown:
				r.Disable(r.now, DiagAdminDown)
			case Down:
			case Init:
				r.hear(Down)
			case Up:
				r = up(t, fast)
			}
			r.hear(received)
			s, d := r.State()
			if diff := cmp.Diff(want, end{s, d}); diff != "" {
				t.Errorf("%v receives %v: -want +got:\n%s", own, received, diff)
			}
			if changed := s != own; changed != (len(r.last.Changes) == 1) || changed != r.last.Send {
				t.Errorf("%v receives %v: changed %t, but output %+v (6.8.7: a change is sent at once)", own, received, changed, r.last)
			}
		}
	}
}

// RFC 5880, 6.8.7: the content of packets.
func TestPacketContent(t *testing.T) {
	r := newRig(t, fast)
	want := Packet{State: Down, DetectMult: 3, MyDiscriminator: 1, DesiredMinTx: time.Second, RequiredMinRx: 100 * ms}
	if diff := cmp.Diff(want, r.last.Packet); diff != "" || !r.last.Send {
		t.Errorf("the first packet: -want +got:\n%s", diff)
	}
	r.hear(Down)
	want.State, want.YourDiscriminator = Init, 2
	if diff := cmp.Diff(want, r.last.Packet); diff != "" {
		t.Errorf("in Init: -want +got:\n%s", diff)
	}
	r.hear(Up)
	want.State, want.DesiredMinTx, want.Poll = Up, 100*ms, true // 6.8.3: the interval changes, so there is a Poll Sequence
	if diff := cmp.Diff(want, r.last.Packet); diff != "" {
		t.Errorf("in Up: -want +got:\n%s", diff)
	}
}

// RFC 5880, 6.8.3: at most one packet a second while the session is not Up.
func TestSlowWhileNotUp(t *testing.T) {
	r := newRig(t, fast)
	if diff := cmp.Diff([]time.Duration{time.Second, 2 * time.Second, 3 * time.Second}, r.pass(3*time.Second)); diff != "" {
		t.Errorf("while Down: -want +got:\n%s", diff)
	}
	r = up(t, fast)
	if got := len(r.pass(250 * ms)); got != 2 {
		t.Errorf("%d packets in 250 ms of Up, want 2", got)
	}
	r.hear(Down)
	if r.TransmitInterval() != time.Second || r.packet().DesiredMinTx != time.Second {
		t.Errorf("after Up: interval %v, packet %+v", r.TransmitInterval(), r.packet())
	}
	slow := Params{DesiredMinTx: 5 * time.Second, RequiredMinRx: ms, DetectMult: 3}
	if r := newRig(t, slow); r.TransmitInterval() != 5*time.Second {
		t.Errorf("one second is the least, not what all do: %v", r.TransmitInterval())
	}
}

// RFC 5880, 6.8.2 and 6.8.4: who decides how often, and how long silence may be.
func TestNegotiation(t *testing.T) {
	for name, tt := range map[string]struct {
		own            Params
		remote         []func(*Packet)
		send, detected time.Duration
	}{
		"equal":                           {fast, nil, 100 * ms, 300 * ms},
		"they receive slowly":             {fast, []func(*Packet){rx(time.Second)}, time.Second, 300 * ms},
		"they send slowly":                {fast, []func(*Packet){tx(time.Second)}, 100 * ms, 3 * time.Second},
		"they send fast":                  {fast, []func(*Packet){tx(10 * ms)}, 100 * ms, 300 * ms},
		"their multiplier, not ours":      {fast, []func(*Packet){mult(7)}, 100 * ms, 700 * ms},
		"we send slowly":                  {Params{DesiredMinTx: 400 * ms, RequiredMinRx: 100 * ms, DetectMult: 5}, nil, 400 * ms, 300 * ms},
		"we receive slowly":               {Params{DesiredMinTx: 100 * ms, RequiredMinRx: 400 * ms, DetectMult: 5}, nil, 100 * ms, 1200 * ms},
		"the longest that can be said":    {fast, []func(*Packet){tx(maxMicroseconds * time.Microsecond), mult(255)}, 100 * ms, 255 * maxMicroseconds * time.Microsecond},
		"they say the shortest, a zero":   {fast, []func(*Packet){tx(0)}, 100 * ms, 300 * ms},
		"they take them a microsecond on": {fast, []func(*Packet){rx(time.Microsecond)}, 100 * ms, 300 * ms},
	} {
		r := up(t, tt.own)
		r.hear(Up, tt.remote...)
		if r.TransmitInterval() != tt.send || r.DetectionTime() != tt.detected {
			t.Errorf("%s: sends every %v, detects in %v; want %v, %v", name, r.TransmitInterval(), r.DetectionTime(), tt.send, tt.detected)
		}
	}
}

// RFC 5880, 6.8.4: the detection time.
func TestTimeout(t *testing.T) {
	r := up(t, fast)
	r.pass(299 * ms)
	r.want(Up, DiagNone)
	r.pass(ms)
	r.want(Down, DiagTimeout)
	if c := r.last.Changes; len(c) != 1 || c[0].From != Up || c[0].To != Down || !c[0].At.Equal(start.Add(300*ms)) {
		t.Errorf("changes %+v", c)
	}
	if p := r.last.Packet; !r.last.Send || p.State != Down || p.Diag != DiagTimeout || p.YourDiscriminator != 0 {
		t.Errorf("sent %t %+v; 6.8.1: the other side's discriminator is forgotten", r.last.Send, p)
	}

	r = up(t, fast)
	r.now = r.now.Add(300 * ms) // and Tick was not called in time
	r.hear(Up)
	r.want(Down, DiagTimeout) // a packet cannot undo a silence that was too long

	r = newRig(t, fast)
	r.hear(Down)
	r.want(Init, DiagNone)
	r.pass(300 * ms)
	r.want(Down, DiagTimeout) // in Init as in Up

	r = newRig(t, fast)
	r.hear(Up) // to a session that is Down it says nothing yet
	if r.Remote().Discriminator != 2 {
		t.Errorf("remote %+v", r.Remote())
	}
	r.pass(300 * ms)
	if r.want(Down, DiagNone); r.Remote() != unknown { // 6.8.1, bfd.RemoteDiscr
		t.Errorf("remembered %+v after a detection time of silence", r.Remote())
	}
	r.pass(time.Hour)
	r.want(Down, DiagNone)
}

// Why a session was down is said until it is up again (RFC 5880, 4.1).
func TestDiagIsKept(t *testing.T) {
	r := up(t, fast)
	r.pass(300 * ms)
	r.hear(Down)
	r.want(Init, DiagTimeout)
	r.hear(Up)
	r.want(Up, DiagNone)
}

// RFC 5880, 6.5 and 6.8.7: a poll is answered at once.
func TestPollIsAnswered(t *testing.T) {
	r := up(t, fast)
	r.pass(50 * ms)
	r.hear(Up, poll)
	if p := r.last.Packet; !r.last.Send || !p.Final || p.Poll {
		t.Errorf("sent %t %+v", r.last.Send, p)
	}
	if diff := cmp.Diff([]time.Duration{50 * ms}, r.pass(60*ms)); diff != "" {
		t.Errorf("the periodic packets go on as they were: -want +got:\n%s", diff)
	}
	r = newRig(t, fast)
	r.hear(Init, poll) // with a change of state: one packet says both
	if p := r.last.Packet; !r.last.Send || !p.Final || p.Poll || p.State != Up {
		t.Errorf("sent %t %+v; 6.5: never both P and F", r.last.Send, p)
	}
	r.Disable(r.now, DiagAdminDown)
	r.hear(Up, poll) // 6.8.6: AdminDown discards before it comes to that
	if r.last.Send {
		t.Errorf("AdminDown answered %+v", r.last.Packet)
	}
}

// RFC 5880, 6.5: P is set on periodic packets until there is a Final.
func TestPollSequence(t *testing.T) {
	r := up(t, fast)
	r.SetParams(Params{DesiredMinTx: 100 * ms, RequiredMinRx: 200 * ms, DetectMult: 3})
	at, _ := r.Deadline()
	if !at.Equal(start.Add(100 * ms)) {
		t.Errorf("next packet at %v; 6.5: no additional packets", at.Sub(start))
	}
	for range 3 {
		r.pass(100 * ms)
		if p := r.last.Packet; !p.Poll || p.RequiredMinRx != 200*ms {
			t.Fatalf("sent %+v", p)
		}
		r.hear(Up)
	}
	r.hear(Up, final)
	r.pass(100 * ms)
	if r.last.Packet.Poll {
		t.Error("P after the Final")
	}
}

// RFC 5880, 6.8.3: what holds at once, and what waits for the Final.
func TestParamsChange(t *testing.T) {
	type timing struct{ Send, Detect time.Duration }
	for name, tt := range map[string]struct {
		to            Params
		before, after timing // the Final
	}{
		"send less often":    {Params{DesiredMinTx: 500 * ms, RequiredMinRx: 100 * ms, DetectMult: 3}, timing{100 * ms, 300 * ms}, timing{500 * ms, 300 * ms}},
		"receive more often": {Params{DesiredMinTx: 100 * ms, RequiredMinRx: 50 * ms, DetectMult: 3}, timing{100 * ms, 300 * ms}, timing{100 * ms, 150 * ms}},
		"send more often":    {Params{DesiredMinTx: 50 * ms, RequiredMinRx: 100 * ms, DetectMult: 3}, timing{50 * ms, 300 * ms}, timing{50 * ms, 300 * ms}},
		"receive less often": {Params{DesiredMinTx: 100 * ms, RequiredMinRx: 500 * ms, DetectMult: 3}, timing{100 * ms, 1500 * ms}, timing{100 * ms, 1500 * ms}},
		"both slower":        {Params{DesiredMinTx: 500 * ms, RequiredMinRx: 500 * ms, DetectMult: 3}, timing{100 * ms, 1500 * ms}, timing{500 * ms, 1500 * ms}},
		"both faster":        {Params{DesiredMinTx: 50 * ms, RequiredMinRx: 50 * ms, DetectMult: 3}, timing{50 * ms, 300 * ms}, timing{50 * ms, 150 * ms}},
	} {
		r := up(t, fast)
		quick := []func(*Packet){rx(10 * ms), tx(10 * ms)} // so that only our side decides
		r.hear(Up, quick...)
		r.SetParams(tt.to)
		if got := (timing{r.TransmitInterval(), r.DetectionTime()}); got != tt.before {
			t.Errorf("%s: before the Final %v, want %v", name, got, tt.before)
		}
		r.hear(Up, append(quick, final)...)
		if got := (timing{r.TransmitInterval(), r.DetectionTime()}); got != tt.after {
			t.Errorf("%s: after the Final %v, want %v", name, got, tt.after)
		}
		r.want(Up, DiagNone)
	}
}

// RFC 5880, 6.8.3: one Poll Sequence at a time, told apart by a packet without F.
func TestParamsChangeTwice(t *testing.T) {
	r := up(t, fast)
	r.SetParams(Params{DesiredMinTx: 200 * ms, RequiredMinRx: 100 * ms, DetectMult: 3})
	r.SetParams(Params{DesiredMinTx: 400 * ms, RequiredMinRx: 100 * ms, DetectMult: 3})
	offered := func(want time.Duration, polling bool, when string) {
		t.Helper()
		if p := r.packet(); p.DesiredMinTx != want || p.Poll != polling {
			t.Errorf("%s: offers %v, polling %t; want %v, %t", when, p.DesiredMinTx, p.Poll, want, polling)
		}
	}
	offered(200*ms, true, "while the first change is told")
	r.hear(Up, final)
	offered(200*ms, false, "after the first Final")
	r.hear(Up, final)
	offered(200*ms, false, "after a Final that came twice")
	r.hear(Up)
	offered(400*ms, true, "after a packet without F")
	if r.TransmitInterval() != 200*ms {
		t.Errorf("sends every %v before the second Final", r.TransmitInterval())
	}
	r.hear(Up, final)
	if r.TransmitInterval() != 400*ms {
		t.Errorf("sends every %v after the second Final", r.TransmitInterval())
	}

	r = up(t, fast)
	r.SetParams(Params{DesiredMinTx: 200 * ms, RequiredMinRx: 100 * ms, DetectMult: 3})
	r.SetParams(fast) // taken back while it is told
	r.hear(Up, final)
	r.hear(Up)
	r.hear(Up, final)
	offered(100*ms, false, "after a change that was taken back")
}

// RFC 5880, 6.8.3: a shorter interval that the other side allows holds at once.
func TestRemoteWantsPacketsSooner(t *testing.T) {
	r := up(t, fast)
	r.hear(Up, rx(time.Second))
	r.pass(100 * ms)
	r.hear(Up, rx(150*ms))
	if diff := cmp.Diff([]time.Duration{50 * ms}, r.pass(60*ms)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	r.hear(Up, rx(time.Second))
	r.pass(200 * ms)
	r.hear(Up, rx(100*ms))
	if diff := cmp.Diff([]time.Duration{0}, r.pass(ms)); diff != "" {
		t.Errorf("overdue by the new interval: -want +got:\n%s", diff)
	}
}

// RFC 5880, 6.8.7: a side that asks for no packets gets no periodic ones.
func TestRemoteWantsNoPackets(t *testing.T) {
	r := up(t, fast)
	r.hear(Up, rx(0), mult(100))
	if sent := r.pass(5 * time.Second); sent != nil {
		t.Errorf("sent at %v", sent)
	}
	r.hear(Up, rx(0), poll)
	if !r.last.Send || !r.last.Packet.Final {
		t.Error("a poll is answered all the same")
	}
	r.hear(Down, rx(0))
	if !r.last.Send {
		t.Error("a change of state is told all the same")
	}
}

// RFC 5880, 6.6: the other side may ask for silence while both are Up.
func TestRemoteDemand(t *testing.T) {
	r := up(t, fast)
	r.hear(Up, demand, mult(100))
	if sent := r.pass(5 * time.Second); sent != nil {
		t.Errorf("sent at %v", sent)
	}
	r.SetParams(Params{DesiredMinTx: 100 * ms, RequiredMinRx: 200 * ms, DetectMult: 3})
	if sent := r.pass(250 * ms); len(sent) == 0 || !r.last.Packet.Poll {
		t.Errorf("a Poll Sequence of ours is sent: %v, %+v", sent, r.last.Packet)
	}
	r.hear(Up, demand, final, mult(100))
	if sent := r.pass(5 * time.Second); sent != nil {
		t.Errorf("after the Final, sent at %v", sent)
	}
	r.hear(Init, demand) // it is not Up: it does not count
	if sent := r.pass(250 * ms); len(sent) == 0 {
		t.Error("demand only counts when both are Up")
	}
}

// RFC 5880, 6.1 and 6.8.7: the passive role.
func TestPassive(t *testing.T) {
	passive := fast
	passive.Passive = true
	r := newRig(t, passive)
	if sent := r.pass(time.Hour); sent != nil || r.last.Send {
		t.Errorf("spoke first, at %v", sent)
	}
	r.hear(Down)
	if !r.last.Send || r.last.Packet.State != Init {
		t.Errorf("spoken to, it answers: %+v", r.last)
	}
	r.hear(Up)
	r.want(Up, DiagNone)
	r.pass(time.Second)
	r.want(Down, DiagTimeout)
	if sent := r.pass(time.Hour); sent != nil {
		t.Errorf("went on after the other side was gone, at %v", sent)
	}
	r.SetParams(fast)
	if sent := r.pass(0); len(sent) != 1 {
		t.Error("active now, it speaks")
	}
}

// RFC 5880, 6.8.16: administrative control.
func TestDisable(t *testing.T) {
	for _, why := range []Diag{DiagAdminDown, DiagPathDown} {
		r := up(t, fast)
		r.last = r.Disable(r.now, why)
		r.want(AdminDown, why)
		if p := r.last.Packet; !r.last.Send || p.State != AdminDown || p.Diag != why || p.YourDiscriminator != 2 || len(r.last.Changes) != 1 {
			t.Errorf("%+v", r.last)
		}
		if again := r.Disable(r.now, why); again.Send || again.Changes != nil {
			t.Errorf("disabled twice: %+v", again)
		}
		if sent := r.pass(3 * time.Second); len(sent) != 3 {
			t.Errorf("AdminDown is repeated, slowly; sent at %v", sent)
		}
		r.hear(Down)
		r.last = r.Enable(r.now)
		r.want(Down, DiagNone)
		if !r.last.Send || r.last.Packet.State != Down {
			t.Errorf("enabled: %+v", r.last)
		}
		if again := r.Enable(r.now); again.Send || again.Changes != nil {
			t.Errorf("enabled twice: %+v", again)
		}
		r.hear(Down)
		r.hear(Up)
		r.want(Up, DiagNone)
	}
}

// RFC 5880, 6.8.6: the other side may come back as another session.
func TestRemoteRestarts(t *testing.T) {
	r := up(t, fast)
	r.hear(Down, func(p *Packet) { p.MyDiscriminator, p.YourDiscriminator = 9, 0 })
	r.want(Down, DiagNeighborDown)
	if r.last.Packet.YourDiscriminator != 9 {
		t.Errorf("answered %+v", r.last.Packet)
	}
}

// RFC 5880, 6.8.7: jitter.
func TestJitter(t *testing.T) {
	for _, tt := range []struct {
		mult        uint8
		least, most time.Duration
	}{{3, 75 * ms, 100 * ms}, {1, 75 * ms, 90 * ms}} {
		if got := jittered(100*ms, tt.mult, 0); got != tt.most {
			t.Errorf("multiplier %d: at most %v, want %v", tt.mult, got, tt.most)
		}
		if got := jittered(100*ms, tt.mult, 0.999999999); got < tt.least || got > tt.least+ms {
			t.Errorf("multiplier %d: at least %v, want %v", tt.mult, got, tt.least)
		}
	}
	random := []float64{0, 0.5, 1}
	r := &rig{t: t, now: start, Session: New(1, fast, func() float64 {
		random = append(random[1:], random[0])
		return random[2]
	})}
	want := []time.Duration{0, 1000 * ms, 1875 * ms, 2625 * ms}
	if diff := cmp.Diff(want, r.pass(2700*ms)); diff != "" {
		t.Errorf("each packet has its own: -want +got:\n%s", diff)
	}
}

// Whatever packets come, in whatever order, with whatever is done meanwhile: a
// session that was ticked has nothing left to do now, and what it sends is valid.
func FuzzSession(f *testing.F) {
	f.Add([]byte("\x00\x10\x01\x20\x02\xff\x03\x40"), exampleBytes, Packet{State: Down, MyDiscriminator: 2, DetectMult: 1}.Append(nil))
	f.Fuzz(func(t *testing.T, steps, one, two []byte) {
		now := start
		s := New(1, fast, func() float64 { return 0.9 })
		check := func(out Output) {
			if out.Send {
				if _, err := Parse(out.Packet.Append(nil)); err != nil || out.Packet.Poll && out.Packet.Final {
					t.Fatalf("sent %+v: %v", out.Packet, err)
				}
			}
			for _, c := range out.Changes {
				if c.From == c.To {
					t.Fatalf("changed nothing: %+v", c)
				}
			}
		}
		for i := 0; i+1 < len(steps); i += 2 {
			value := steps[i+1]
			switch steps[i] % 6 {
			case 0, 1:
				if p, err := Parse([][]byte{one, two}[steps[i]%6]); err == nil {
					check(s.Receive(now, p))
				}
			case 2:
				now = now.Add(time.Duration(value) * 10 * ms)
			case 3:
				s.SetParams(Params{
					DesiredMinTx: time.Duration(value%16+1) * 20 * ms, RequiredMinRx: time.Duration(value/16) * 20 * ms,
					DetectMult: value%5 + 1, Passive: value%2 == 0,
				})
			case 4:
				check(s.Disable(now, DiagAdminDown))
			case 5:
				check(s.Enable(now))
			}
			check(s.Tick(now))
			if at, ok := s.Deadline(); ok && !at.After(now) {
				t.Fatalf("after a tick at %v the deadline is %v", now, at)
			}
		}
	})
}
