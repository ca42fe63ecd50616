package session

import "time"

// slowest is the least transmit interval that a session offers while it is not
// Up, so that paths without BFD at their far end cost little (RFC 5880, 6.8.3).
const slowest = time.Second

// Params are what a side wants of a session. They may change at any time, and
// the session stays up.
type Params struct {
	// DesiredMinTx is how often this side would like to send once the session is
	// Up (bfd.DesiredMinTxInterval).
	DesiredMinTx time.Duration
	// RequiredMinRx is how often this side can receive
	// (bfd.RequiredMinRxInterval). Zero asks for no periodic packets at all.
	RequiredMinRx time.Duration
	// DetectMult is how many of our packets in a row the other side must miss.
	DetectMult uint8
	// Passive sends nothing before a packet of the other side was received (RFC 5880, 6.1).
	Passive bool
}

// Session is one session's state: the variables of RFC 5880, 6.8.1. After each
// call of a method that changes it, ask Deadline again.
type Session struct {
	params        Params
	random        func() float64
	discriminator uint32 // bfd.LocalDiscr
	state         State  // bfd.SessionState
	diag          Diag   // bfd.LocalDiag
	remote        Remote

	offered intervals // what our packets say
	inForce intervals // what our own timers go by; differs while a Poll Sequence runs
	polling bool      // a Poll Sequence runs (RFC 5880, 6.5)
	// unsettled is whether a Poll Sequence ended and no packet without a Final was
	// heard since: another now could be taken to be answered by a late Final of
	// the first (RFC 5880, 6.8.3).
	unsettled bool

	lastReceived time.Time // when the last packet arrived; zero once that is a detection time ago
	sent         time.Time // when the last packet that was not just an answer was sent
	jitter       float64   // random, 0 to 1, for the interval after sent
}

// Remote is what the other side last said. It is forgotten after a detection
// time of silence.
type Remote struct {
	State         State  // bfd.RemoteSessionState
	Diag          Diag   // why the session last went down over there
	Discriminator uint32 // bfd.RemoteDiscr; zero when nothing is known of the other side
	DetectMult    uint8
	Demand        bool // bfd.RemoteDemandMode
	DesiredMinTx  time.Duration
	RequiredMinRx time.Duration // bfd.RemoteMinRxInterval
}

type intervals struct{ tx, rx time.Duration }

// unknown is what is known of the other side at the start (RFC 5880, 6.8.1).
var unknown = Remote{State: Down, RequiredMinRx: time.Microsecond}

// Output is what a step of a session wants done.
type Output struct {
	Packet  Packet
	Send    bool     // whether Packet is to be sent now
	Changes []Change // in order; hardly ever more than one
}

// Change is a change of state.
type Change struct {
	At       time.Time
	From, To State
	Diag     Diag // why, as we tell the other side
	Remote   Remote
}

// New returns a session that is Down. The discriminator must not be zero, and
// no other session's of this system; random returns numbers in [0, 1).
func New(discriminator uint32, p Params, random func() float64) *Session {
	s := &Session{params: p, random: random, discriminator: discriminator, state: Down, remote: unknown}
	s.offer()
	return s
}

// State returns the state and the reason of the last failure.
func (s *Session) State() (State, Diag) { return s.state, s.diag }

// Remote returns what the other side last said.
func (s *Session) Remote() Remote { return s.remote }

// Discriminator returns what identifies the session to us.
func (s *Session) Discriminator() uint32 { return s.discriminator }

// Tick is to be called when Deadline has come.
func (s *Session) Tick(now time.Time) Output {
	var out Output
	s.expire(now, &out)
	if due, ok := s.nextSend(); ok && !now.Before(due) {
		s.send(now, &out)
	}
	return out
}

// Receive takes a packet that is for this session and arrived at that time
// (RFC 5880, 6.8.6, from where the session has been selected).
func (s *Session) Receive(now time.Time, p Packet) Output {
	var out Output
	s.expire(now, &out) // the silence before this packet was a silence
	s.lastReceived = now
	s.remote = Remote{
		State: p.State, Diag: p.Diag, Discriminator: p.MyDiscriminator, DetectMult: p.DetectMult,
		Demand: p.Demand, DesiredMinTx: p.DesiredMinTx, RequiredMinRx: p.RequiredMinRx,
	}
	if !p.Final {
		s.unsettled = false
	} else if s.polling {
		s.polling, s.unsettled = false, true
		s.inForce = s.offered
	}
	s.offer()
	if s.state == AdminDown {
		return out
	}
	if to, diag := next(s.state, p.State); to != s.state {
		s.change(now, to, diag, &out)
	}
	if p.Poll { // answered whatever the transmit timer says (RFC 5880, 6.8.7)
		out.Packet, out.Send = s.packet(), true
		out.Packet.Poll, out.Packet.Final = false, true
	}
	return out
}

// next is the state machine for received states (RFC 5880, 6.2 and 6.8.6).
func next(own, received State) (State, Diag) {
	switch {
	case received == AdminDown && own != Down:
		return Down, DiagNeighborDown
	case own == Down && received == Down:
		return Init, 0
	case own == Down && received == Init, own == Init && received >= Init:
		return Up, 0
	case own == Up && received == Down:
		return Down, DiagNeighborDown
	default:
		return own, 0
	}
}

// SetParams changes what is wanted. Our next packets say so; what of it would
// take a session down that is Up waits until the other side has received it.
func (s *Session) SetParams(p Params) {
	s.params = p
	s.offer()
}

// Disable holds the session down and tells the other side (RFC 5880, 6.8.16).
// The packets say why: DiagAdminDown, or DiagPathDown when something else than
// BFD has found the path to be broken.
func (s *Session) Disable(now time.Time, why Diag) Output {
	var out Output
	if s.state != AdminDown {
		s.change(now, AdminDown, why, &out)
	}
	return out
}

// Enable ends what Disable began (RFC 5880, 6.8.16).
func (s *Session) Enable(now time.Time) Output {
	var out Output
	if s.state == AdminDown {
		s.change(now, Down, DiagNone, &out)
	}
	return out
}

// Packet returns what the session would send now, for who wants to say it again.
func (s *Session) Packet() Packet { return s.packet() }

// change goes to another state and sends a packet that says so, without waiting
// for the transmit timer (RFC 5880, 6.8.7).
func (s *Session) change(now time.Time, to State, diag Diag, out *Output) {
	from := s.state
	s.state = to
	switch to {
	case Init: // the packets go on to say why it was down
	case Up:
		s.diag = DiagNone
	default:
		s.diag = diag
	}
	s.offer()
	out.Changes = append(out.Changes, Change{At: now, From: from, To: to, Diag: s.diag, Remote: s.remote})
	if !s.silent() {
		s.send(now, out)
	}
}

// expire acts on a detection time without a packet (RFC 5880, 6.8.4), and
// forgets the other side (6.8.1, bfd.RemoteDiscr).
func (s *Session) expire(now time.Time, out *Output) {
	if s.lastReceived.IsZero() || now.Before(s.lastReceived.Add(s.DetectionTime())) {
		return
	}
	s.lastReceived, s.remote = time.Time{}, unknown
	if s.state == Init || s.state == Up {
		s.change(now, Down, DiagTimeout, out)
	}
}

// packet is what there is to say (RFC 5880, 6.8.7).
func (s *Session) packet() Packet {
	return Packet{
		Diag:              s.diag,
		State:             s.state,
		Poll:              s.polling,
		DetectMult:        s.params.DetectMult,
		MyDiscriminator:   s.discriminator,
		YourDiscriminator: s.remote.Discriminator,
		DesiredMinTx:      s.offered.tx,
		RequiredMinRx:     s.offered.rx,
	}
}

func (s *Session) send(now time.Time, out *Output) {
	s.sent, s.jitter = now, s.random()
	out.Packet, out.Send = s.packet(), true
}
