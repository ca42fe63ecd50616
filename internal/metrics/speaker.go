package metrics

import "github.com/prometheus/client_golang/prometheus"

// Why a speaker takes an address over from another node.
const (
	TakenFromDead       = "dead"       // the other speaker is not alive any more
	TakenFromLeaving    = "leaving"    // it is shutting down
	TakenFromIneligible = "ineligible" // its node cannot announce the address, or others are better
	TakenAsAsked        = "asked"      // a user wants it
)

// failoverBuckets are seconds: a fail-over takes 0.2, 0.4 or 3 s, as --failover says.
var failoverBuckets = []float64{.1, .2, .3, .4, .5, .6, .8, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 10}

// Speaker is what one speaker counts.
type Speaker struct {
	Members   prometheus.Gauge       // speakers that are alive, this one too
	Addresses prometheus.Gauge       // addresses answered for by ARP and NDP
	Conflicts prometheus.Gauge       // of them, and of those to be answered for: that a foreign host has
	Disputes  prometheus.Counter     // conflicts that began
	TakeOvers *prometheus.CounterVec // addresses taken over from another node, by reason
	Failovers prometheus.Histogram   // seconds from the last sign of life of a dead speaker until this one announced its address
	Lapses    prometheus.Counter     // times that the process stood still for so long that others took over

	ClockOffset prometheus.Gauge // seconds that the node's clock is ahead of the API server's

	book     book
	sessions source[[]Session]
	gossip   source[map[string]uint64]
	layer2   source[[]Questions]
}

// NewSpeaker returns a speaker's metrics, registered with r.
func NewSpeaker(r prometheus.Registerer) *Speaker {
	s := &Speaker{book: book{registry: r}}
	b := &s.book
	s.Members = b.gauge("speaker_members", "Speakers that this one takes to be alive, itself included.")
	s.Lapses = b.counter("speaker_lapses_total", "Times that this speaker stood still for so long that others may have taken over.")
	s.ClockOffset = b.gauge("speaker_clock_offset_seconds",
		"How far the node's clock is ahead of the API server's, roughly; below 0 if it is behind, 0 while it is in sync or nothing is known.")
	s.Addresses = b.gauge("layer2_addresses", "Addresses that this speaker answers for by ARP and NDP.")
	s.Conflicts = b.gauge("layer2_conflicts", "Addresses that this speaker is to answer for and that a host outside of the cluster has.")
	s.Disputes = b.counter("layer2_conflicts_total", "Conflicts with hosts outside of the cluster that began.")
	s.TakeOvers = b.counters("layer2_takeovers_total",
		"Addresses that this speaker took over from another node, by what was with that: its speaker is dead, or leaving; it is ineligible; or a user asked for it.",
		"reason", TakenFromDead, TakenFromLeaving, TakenFromIneligible, TakenAsAsked)
	s.Failovers = b.histogram("layer2_failover_seconds",
		"Time from the last sign of life of a speaker that died until this one announced an address of its. What was taken over more than some ten seconds later is not in it.",
		failoverBuckets)
	r.MustRegister(s.askLayer2(), s.askGossip(), s.askSessions())
	return s
}

// Questions is what became of the questions, in one protocol, for addresses that this
// speaker is to announce. The counters only grow.
type Questions struct {
	Protocol string // arp or ndp
	Answered uint64

	// Not answered, because the address is still being probed; a foreign host has
	// it; the speaker stood still and does not know yet what others took; or the
	// answer could not be sent.
	Probing, Disputed, Stalled, Failed uint64

	Rivals uint64 // times that another node of the cluster was heard to claim such an address
}

// Layer2 has read tell of questions whenever somebody asks.
func (s *Speaker) Layer2(read func() []Questions) { s.layer2.set(read) }

func (s *Speaker) askLayer2() asked {
	b := &s.book
	replies := b.row(Counter, "layer2_replies_total", "Questions by ARP or NDP that were answered.", "protocol")
	drops := b.row(Counter, "layer2_drops_total",
		"Questions for addresses of this speaker that were not answered: it is probing the address; disputed, a foreign host has it; stalled, the process stood still; or failed to send.",
		"protocol", "reason")
	rivals := b.row(Counter, "layer2_rival_claims_total",
		"Times that another node of the cluster was heard to claim an address that this speaker answers for. A few go with every move.", "protocol")
	return asked{rows: []row{replies, drops, rivals}, tell: func(out chan<- prometheus.Metric) {
		for _, q := range s.layer2.get() {
			replies.send(out, float64(q.Answered), q.Protocol)
			drops.send(out, float64(q.Probing), q.Protocol, "probing")
			drops.send(out, float64(q.Disputed), q.Protocol, "disputed")
			drops.send(out, float64(q.Stalled), q.Protocol, "stalled")
			drops.send(out, float64(q.Failed), q.Protocol, "failed")
			rivals.send(out, float64(q.Rivals), q.Protocol)
		}
	}}
}

// Gossip has read return, on each scrape, how many gossip packets and connections were dropped,
// by cause.
func (s *Speaker) Gossip(read func() map[string]uint64) { s.gossip.set(read) }

func (s *Speaker) askGossip() asked {
	drops := s.book.row(Counter, "gossip_drops_total",
		"Gossip packets and connections that were dropped: malformed; forged, not sealed with the key; limited, too many from sources that are not known; replayed; unproven, the first of a "+
			"session, which is asked to prove itself; duplicate, of a second machine with the node's name; full, no room to queue; invalid, or the handler panicked, under the key; "+
			"refused, a version, epoch or term that is not plausible.", "cause")
	return asked{rows: []row{drops}, tell: func(out chan<- prometheus.Metric) {
		for cause, n := range s.gossip.get() {
			drops.send(out, float64(n), cause)
		}
	}}
}

// Session is what is told of one BGP session. The counters only grow while the peer
// is there.
type Session struct {
	Peer            string // name of the BGPPeer
	Up              bool
	Watched, PathUp bool // by BFD
	Prefixes        int  // announced

	UpdatesSent, UpdatesReceived          uint64
	NotificationsSent, NotificationsHeard uint64
	Lost                                  uint64 // times that it was lost
}

// Sessions has read tell of the BGP sessions whenever somebody asks.
func (s *Speaker) Sessions(read func() []Session) { s.sessions.set(read) }

func (s *Speaker) askSessions() asked {
	b := &s.book
	const by = "peer"
	pathUp := b.row(Gauge, "bfd_session_up", "Whether BFD says that the peer can be reached; for peers that it watches.", by)
	values := []struct {
		row
		of func(Session) float64
	}{
		{b.row(Gauge, "bgp_session_up", "Whether the BGP session with the peer is established.", by), func(s Session) float64 { return one(s.Up) }},
		{b.row(Gauge, "bgp_prefixes_announced", "Routes announced to the peer.", by), func(s Session) float64 { return float64(s.Prefixes) }},
		{b.row(Counter, "bgp_session_losses_total", "Times that the session with the peer was lost.", by), func(s Session) float64 { return float64(s.Lost) }},
		{b.row(Counter, "bgp_updates_sent_total", "UPDATE messages sent to the peer.", by), func(s Session) float64 { return float64(s.UpdatesSent) }},
		{b.row(Counter, "bgp_updates_received_total", "UPDATE messages received from the peer, and ignored.", by), func(s Session) float64 { return float64(s.UpdatesReceived) }},
		{b.row(Counter, "bgp_notifications_sent_total", "NOTIFICATION messages sent to the peer.", by), func(s Session) float64 { return float64(s.NotificationsSent) }},
		{b.row(Counter, "bgp_notifications_received_total", "NOTIFICATION messages received from the peer.", by), func(s Session) float64 { return float64(s.NotificationsHeard) }},
	}
	a := asked{rows: []row{pathUp}, tell: func(out chan<- prometheus.Metric) {
		for _, session := range s.sessions.get() {
			if session.Watched {
				pathUp.send(out, one(session.PathUp), session.Peer)
			}
			for _, v := range values {
				v.send(out, v.of(session), session.Peer)
			}
		}
	}}
	for _, v := range values {
		a.rows = append(a.rows, v.row)
	}
	return a
}
