package layer2

import (
	"bytes"
	"container/heap"
	"net"
	"net/netip"
	"time"
)

// An address that this node has announced was probed before, so it is ours: this node
// defends it at a limited rate and never stops answering for it (RFC 5227, 2.4 (c)).
// Otherwise two forged frames would silence it. Only an address that this node has
// not announced yet is left to a foreign host, and only if the host answers when it is
// asked: docs/adr/0040-conflicts.md.
const (
	// defendInterval is the least time between two defences of an address (RFC 5227,
	// DEFEND_INTERVAL).
	defendInterval = 10 * time.Second
	// conflictFor is how long a conflict is reported after the last sign of the host.
	conflictFor = time.Minute
	// verifyAgain is when a host that is in conflict is asked again.
	verifyAgain = 15 * time.Second
	// verifyPause is the least time between the beginnings of two verifications of an
	// address, whatever hosts its claims name.
	verifyPause = 2 * time.Second
	// maxProbeVerifications bounds the verifications that delay an address that is
	// probed: who forges frames without end cannot keep it from being announced.
	maxProbeVerifications = 3
)

// verifyAt is when a host is asked whether it has an address, after the first claim
// that names it, and verifyFor how long its answer is waited for. A radio may sleep for
// some hundred milliseconds.
var verifyAt = []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond}

const verifyFor = time.Second

// Conflict is a foreign host that claims an address which is to be announced.
type Conflict struct {
	Addr      netip.Addr
	Interface string
	MAC       string    // of the foreign host
	Seen      time.Time // the last sign of it
	// Defended says that this node keeps answering; otherwise it does not announce
	// the address.
	Defended bool
	// Announced says that this node had announced the address before; otherwise the
	// host was there first.
	Announced bool
	// Answers says that the host answered when it was asked. If not, the frames that
	// name it may be forged.
	Answers bool
}

// dispute is what a link knows about foreign hosts that claim one of its addresses.
type dispute struct {
	Conflict                      // the zero value until there is one to report
	mac          net.HardwareAddr // Conflict.MAC
	defended     time.Time        // the last defence
	suspect      net.HardwareAddr // the host that is being asked now; nil for none
	asked        time.Time        // the beginning of the last verification
	verification int              // incremented with each, so that what was scheduled for others is void
	inTenure     int              // verifications since the address's phase began
}

// isAnswered reports whether the packet is the answer of the host that is being asked.
func (d *dispute) isAnswered(h heard) bool {
	return d.suspect != nil && h.Answer && bytes.Equal(h.MAC, d.suspect)
}

// claimed handles a packet by which another machine claims an address of this link.
func (l *link) claimed(h heard, a netip.Addr) {
	switch {
	case bytes.Equal(h.MAC, l.mac): // our own frame: some switch has a loop
		return
	case (*l.friends.Load())[h.MAC.String()]:
		l.claimedByNode(a)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.disputes[a]
	if d == nil {
		d = &dispute{}
	}
	now := time.Now()
	switch l.tenureOf(a).phase {
	case probing:
		l.disputes[a] = d
		if d.isAnswered(h) {
			l.yield(d, a, h.MAC, now)
		} else if d.suspect == nil && d.inTenure < maxProbeVerifications {
			l.verify(d, a, h.MAC, now)
		}
	case answering:
		l.disputes[a] = d
		l.contest(d, a, h, now)
	case quiet:
		if bytes.Equal(d.mac, h.MAC) {
			d.Seen = now
		}
	}
}

// yield leaves an address that was never announced to a host that has it. The caller
// holds mu.
func (l *link) yield(d *dispute, a netip.Addr, mac net.HardwareAddr, now time.Time) {
	d.mac = mac
	d.Conflict = Conflict{Addr: a, Interface: l.name, MAC: mac.String(), Seen: now, Answers: true}
	l.turn(a, quiet, now.Add(probeAgain))
	l.publish()
	l.changed()
}

// contest defends an address that is answered for, and finds out whether the host that
// claims it exists. One conflict of each address is reported: the first host that is
// named, until another one is known to exist. The caller holds mu.
func (l *link) contest(d *dispute, a netip.Addr, h heard, now time.Time) {
	answered := d.isAnswered(h) && bytes.Equal(h.Source, h.MAC)
	switch {
	case d.mac == nil || answered && (!d.Answers || !bytes.Equal(d.mac, h.MAC)):
		d.mac = h.MAC
		d.Conflict = Conflict{
			Addr: a, Interface: l.name, MAC: h.MAC.String(), Seen: now, Defended: true, Announced: true, Answers: answered,
		}
		l.changed()
	case bytes.Equal(d.mac, h.MAC):
		d.Seen = now
	}
	if answered {
		d.suspect = nil
	}
	if now.Sub(d.defended) >= defendInterval {
		d.defended = now
		if err := l.wire.Announce(a); err != nil {
			l.log.V(1).Info("cannot defend", "address", a.String(), "error", err.Error())
		}
	}
	known := d.Answers && (bytes.Equal(d.mac, h.MAC) && now.Sub(d.asked) < 2*verifyAgain)
	if d.suspect == nil && !known && now.Sub(d.asked) >= verifyPause {
		l.verify(d, a, h.MAC, now)
	}
}

// claimedByNode notes that another node of the cluster claims an address. That is settled
// between the nodes.
func (l *link) claimedByNode(a netip.Addr) {
	if !l.answers(a) {
		return
	}
	l.counts.rivals.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if last := l.rivals[a]; now.Sub(last) > rivalFor/2 {
		l.rivals[a] = now
		l.changed()
	}
}

// rivalFor is how long a claim of another node counts as heard lately.
const rivalFor = time.Second

// verify begins to ask a host whether it has the address. The caller holds mu.
func (l *link) verify(d *dispute, a netip.Addr, mac net.HardwareAddr, now time.Time) {
	d.suspect, d.asked = mac, now
	d.verification++
	d.inTenure++
	heap.Push(&l.due, appointment{addr: a, tenure: l.tenureOf(a), at: now, verification: d.verification})
	l.wake.Poke()
}

// keepVerification asks the host once more, or ends the verification and schedules the
// next one. The caller holds mu.
func (l *link) keepVerification(n appointment) {
	d, now := l.disputes[n.addr], time.Now()
	if d == nil || d.verification != n.verification {
		return
	}
	if n.sent == 0 && d.suspect == nil { // the next one, of a known conflict
		d.suspect, d.asked = d.mac, now
	}
	if d.suspect != nil && n.sent < len(verifyAt) {
		if err := l.wire.Verify(n.addr, d.suspect); err != nil {
			l.log.V(1).Info("cannot verify a conflict", "address", n.addr.String(), "error", err.Error())
		}
		if n.sent++; n.sent < len(verifyAt) {
			n.at = d.asked.Add(verifyAt[n.sent])
		} else {
			n.at = d.asked.Add(verifyFor)
		}
		heap.Push(&l.due, n)
		return
	}
	d.suspect = nil
	switch {
	case n.phase != answering:
	case now.Sub(d.Seen) >= conflictFor:
		delete(l.disputes, n.addr)
		l.changed()
	default:
		n.sent, n.at = 0, now.Add(verifyAgain)
		heap.Push(&l.due, n)
	}
}

// isVerifying reports whether a host is being asked whether it has the address. The
// caller holds mu.
func (l *link) isVerifying(a netip.Addr) bool {
	d := l.disputes[a]
	return d != nil && d.suspect != nil
}

// foreign returns the conflicts of the link.
func (l *link) foreign() (out []Conflict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, d := range l.disputes {
		switch {
		case d.mac == nil:
		case d.Announced && time.Since(d.Seen) >= conflictFor:
			delete(l.disputes, a)
		default:
			out = append(out, d.Conflict)
		}
	}
	return out
}

// claimedByNodes returns the addresses that the link answers for and that another node
// claimed lately.
func (l *link) claimedByNodes() (out []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, at := range l.rivals {
		if time.Since(at) > rivalFor {
			delete(l.rivals, a)
			continue
		}
		out = append(out, a)
	}
	return out
}
