package session

import "time"

// offer puts what is wanted into our packets, when it may go there now.
//
// While the session is Up each change is a Poll Sequence, and while one runs no
// other may begin (RFC 5880, 6.8.3): the change then waits, and this is called
// again when the sequence has ended. Of an offer two things wait for the Final,
// by which the other side confirms it:
//   - to send less often: it must not expect packets at the old rate any more;
//   - to expect packets more often: it must send at the new rate by now.
//
// While the session is not Up, no change can take it down, and every packet says
// everything: there is no Poll Sequence, and all holds at once.
func (s *Session) offer() {
	// Whole microseconds, so that both sides reckon with the same.
	want := intervals{tx: s.params.DesiredMinTx.Truncate(time.Microsecond), rx: s.params.RequiredMinRx.Truncate(time.Microsecond)}
	if s.state != Up {
		want.tx = max(want.tx, slowest)
		s.offered, s.inForce, s.polling, s.unsettled = want, want, false, false
		return
	}
	if want == s.offered || s.polling || s.unsettled {
		return
	}
	s.offered = want
	s.inForce = intervals{tx: min(s.inForce.tx, want.tx), rx: max(s.inForce.rx, want.rx)}
	s.polling = true
}

// TransmitInterval is the time between two packets of ours, before jitter: no
// side is asked for more than it wants (RFC 5880, 6.8.2 and 6.8.7).
func (s *Session) TransmitInterval() time.Duration {
	return max(s.inForce.tx, s.remote.RequiredMinRx)
}

// DetectionTime is how long the other side may be silent: its multiplier times
// its transmit interval (RFC 5880, 6.8.4). Zero when it is not known.
func (s *Session) DetectionTime() time.Duration {
	return time.Duration(s.remote.DetectMult) * max(s.inForce.rx, s.remote.DesiredMinTx)
}

// Deadline returns when Tick is to be called. There may be none: a passive
// session waits to be spoken to.
func (s *Session) Deadline() (time.Time, bool) {
	at, ok := s.nextSend()
	if s.lastReceived.IsZero() {
		return at, ok
	}
	if expiry := s.lastReceived.Add(s.DetectionTime()); !ok || expiry.Before(at) {
		return expiry, true
	}
	return at, true
}

// nextSend returns when the next periodic packet is due. It is reckoned from
// the last one each time, so that a shorter interval holds at once, as it must
// (RFC 5880, 6.8.3).
func (s *Session) nextSend() (time.Time, bool) {
	// The other side may ask us to be silent while both are Up (RFC 5880, 6.6).
	demand := s.remote.Demand && s.state == Up && s.remote.State == Up && !s.polling
	if s.silent() || demand || s.remote.RequiredMinRx == 0 {
		return time.Time{}, false
	}
	if s.sent.IsZero() {
		return s.sent, true
	}
	return s.sent.Add(jittered(s.TransmitInterval(), s.params.DetectMult, s.jitter)), true
}

// silent is whether nothing at all may be sent: a passive side does not speak
// first (RFC 5880, 6.8.7).
func (s *Session) silent() bool { return s.params.Passive && s.remote.Discriminator == 0 }

// jittered takes up to a quarter off an interval, so that many sessions do not
// fall into step; but at least a tenth when one lost packet is too many already
// (RFC 5880, 6.8.7).
func jittered(interval time.Duration, mult uint8, random float64) time.Duration {
	least, most := 0.0, 0.25
	if mult == 1 {
		least = 0.10
	}
	return interval - time.Duration(float64(interval)*(least+(most-least)*random))
}
