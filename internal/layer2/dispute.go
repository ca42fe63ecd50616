package layer2

import (
	"bytes"
	"container/heap"
	"net"
	"net/netip"
	"time"
)

// An address that this node has announced was probed before, so this node defends it at a
// limited rate and never stops answering for it (RFC 5227, 2.4 (c)). Otherwise two forged
// frames would silence it. This node yields only an address that it has not announced yet,
// and only to a host that answers when it is verified: docs/adr/0040-conflicts.md.
const (
	// defendInterval is the least time between two defences of an address (RFC 5227,
	// DEFEND_INTERVAL).
	defendInterval = 10 * time.Second
	// conflictTimeout is how long a conflict is reported after the last frame of the host.
	conflictTimeout = time.Minute
	// reverifyAfter is the time until a host in conflict is verified again.
	reverifyAfter = 15 * time.Second
	// verifyInterval is the minimum time between the starts of two verifications of an
	// address, also if its claims name different hosts.
	verifyInterval = 2 * time.Second
	// maxProbeVerifications limits the verifications that delay an address while it is
	// probed, so that endless forged frames cannot prevent its announcement.
	maxProbeVerifications = 3
)

// verifyAt are the times, since the start of a verification, at which the host is asked
// whether it uses the address. Its reply is awaited for verifyTimeout, as a wireless
// interface in power save may delay it by some hundred milliseconds.
var verifyAt = []time.Duration{0, 100 * time.Millisecond, 300 * time.Millisecond, 600 * time.Millisecond}

const verifyTimeout = time.Second

// Conflict is a foreign host that claims an address of the rows.
type Conflict struct {
	Addr      netip.Addr
	Interface string
	MAC       string    // of the foreign host
	Seen      time.Time // when its last frame was received
	// Defended says that this node keeps answering; otherwise it does not announce the
	// address.
	Defended bool
	// Announced says that this node announced the address before the conflict began;
	// otherwise the host used it first.
	Announced bool
	// Answers says that the host replied to a verification. If it did not, the frames that
	// name it may be forged.
	Answers bool
}

// dispute is the state of a link about foreign hosts that claim one of its addresses.
type dispute struct {
	Conflict                      // the zero value while there is nothing to report
	mac          net.HardwareAddr // Conflict.MAC
	defended     time.Time        // the last defence
	suspect      net.HardwareAddr // the host that is being verified; nil for none
	asked        time.Time        // when the last verification started
	verification int              // the number of the last verification: tasks of earlier ones are void
	inPhase      int              // verifications since the address's phase began
}

// isAnswered reports whether the frame is the reply of the host that is being verified.
func (d *dispute) isAnswered(f frame) bool {
	return d.suspect != nil && f.Reply && bytes.Equal(f.MAC, d.suspect)
}

// handleClaim handles a frame in which another machine claims an address of this link.
func (l *link) handleClaim(f frame, a netip.Addr) {
	switch {
	case bytes.Equal(f.MAC, l.mac): // this node's own frame: a switch has a loop
		return
	case (*l.clusterMACs.Load())[f.MAC.String()]:
		l.recordNodeClaim(a)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	d := l.disputes[a]
	if d == nil {
		d = &dispute{}
	}
	now := time.Now()
	switch l.ownershipOf(a).phase {
	case probing:
		l.disputes[a] = d
		if d.isAnswered(f) {
			l.yieldAddress(d, a, f.MAC, now)
		} else if d.suspect == nil && d.inPhase < maxProbeVerifications {
			l.startVerification(d, a, f.MAC, now)
		}
	case answering:
		l.disputes[a] = d
		l.defendAddress(d, a, f, now)
	case yielded:
		if bytes.Equal(d.mac, f.MAC) {
			d.Seen = now
		}
	}
}

// yieldAddress stops probing an address that was never announced, as a foreign host uses it.
// The caller holds mu.
func (l *link) yieldAddress(d *dispute, a netip.Addr, mac net.HardwareAddr, now time.Time) {
	d.mac = mac
	d.Conflict = Conflict{Addr: a, Interface: l.name, MAC: mac.String(), Seen: now, Answers: true}
	l.setPhase(a, yielded, now.Add(reprobeAfter))
	l.publish()
	l.changed()
}

// defendAddress defends an address that the link answers for, and verifies that the host
// that claims it exists. It reports one conflict per address: the host that was named first,
// until another one is known to exist. The caller holds mu.
func (l *link) defendAddress(d *dispute, a netip.Addr, f frame, now time.Time) {
	answered := d.isAnswered(f) && bytes.Equal(f.Source, f.MAC)
	switch {
	case d.mac == nil || answered && (!d.Answers || !bytes.Equal(d.mac, f.MAC)):
		d.mac = f.MAC
		d.Conflict = Conflict{
			Addr: a, Interface: l.name, MAC: f.MAC.String(), Seen: now, Defended: true, Announced: true, Answers: answered,
		}
		l.changed()
	case bytes.Equal(d.mac, f.MAC):
		d.Seen = now
	}
	if answered {
		d.suspect = nil
	}
	if now.Sub(d.defended) >= defendInterval {
		d.defended = now
		if err := l.conn.Announce(a); err != nil {
			l.log.V(1).Info("defending the address failed", "address", a.String(), "error", err.Error())
		}
	}
	known := d.Answers && (bytes.Equal(d.mac, f.MAC) && now.Sub(d.asked) < 2*reverifyAfter)
	if d.suspect == nil && !known && now.Sub(d.asked) >= verifyInterval {
		l.startVerification(d, a, f.MAC, now)
	}
}

// recordNodeClaim records that another node of the cluster claims an address. The speakers
// resolve this between themselves.
func (l *link) recordNodeClaim(a netip.Addr) {
	if !l.answers(a) {
		return
	}
	l.counts.rivals.Add(1)
	l.mu.Lock()
	defer l.mu.Unlock()
	now := time.Now()
	if last := l.rivals[a]; now.Sub(last) > rivalTimeout/2 {
		l.rivals[a] = now
		l.changed()
	}
}

// rivalTimeout is how long ClaimedByNodes returns an address after a claim of another node.
const rivalTimeout = time.Second

// startVerification asks a host whether it uses the address. The caller holds mu.
func (l *link) startVerification(d *dispute, a netip.Addr, mac net.HardwareAddr, now time.Time) {
	d.suspect, d.asked = mac, now
	l.verifications++
	d.verification = l.verifications
	d.inPhase++
	heap.Push(&l.due, task{addr: a, ownership: l.ownershipOf(a), at: now, verification: d.verification})
	l.wake.Poke()
}

// continueVerification asks the host once more, or ends the verification and schedules the
// next one. The caller holds mu.
func (l *link) continueVerification(n task) {
	d, now := l.disputes[n.addr], time.Now()
	if d == nil || d.verification != n.verification {
		return
	}
	if n.sent == 0 && d.suspect == nil { // the next verification of a known conflict
		d.suspect, d.asked = d.mac, now
	}
	if d.suspect != nil && n.sent < len(verifyAt) {
		if err := l.conn.Verify(n.addr, d.suspect); err != nil {
			l.log.V(1).Info("verifying a conflict failed", "address", n.addr.String(), "error", err.Error())
		}
		if n.sent++; n.sent < len(verifyAt) {
			n.at = d.asked.Add(verifyAt[n.sent])
		} else {
			n.at = d.asked.Add(verifyTimeout)
		}
		heap.Push(&l.due, n)
		return
	}
	d.suspect = nil
	switch {
	case n.phase != answering:
	case now.Sub(d.Seen) >= conflictTimeout:
		delete(l.disputes, n.addr)
		l.changed()
	default:
		n.sent, n.at = 0, now.Add(reverifyAfter)
		heap.Push(&l.due, n)
	}
}

// isVerifying reports whether a verification of the address is under way. The caller holds
// mu.
func (l *link) isVerifying(a netip.Addr) bool {
	d := l.disputes[a]
	return d != nil && d.suspect != nil
}

// foreign returns the conflicts of the link.
func (l *link) conflicts() (out []Conflict) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, d := range l.disputes {
		switch {
		case d.mac == nil:
		case d.Announced && time.Since(d.Seen) >= conflictTimeout:
			delete(l.disputes, a)
		default:
			out = append(out, d.Conflict)
		}
	}
	return out
}

// claimedByNodes returns the addresses that the link answers for and that another node
// claimed within rivalTimeout.
func (l *link) claimedByNodes() (out []netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for a, at := range l.rivals {
		if time.Since(at) > rivalTimeout {
			delete(l.rivals, a)
			continue
		}
		out = append(out, a)
	}
	return out
}
