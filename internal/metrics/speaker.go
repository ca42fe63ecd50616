package metrics

import "github.com/prometheus/client_golang/prometheus"

// Why a speaker takes an address over from another node.
const (
	TakenFromDead       = "dead"       // the failure detector considers the other speaker dead
	TakenFromLeaving    = "leaving"    // the other speaker is shutting down
	TakenFromIneligible = "ineligible" // the other node cannot announce the address, or is deprioritized
	TakenByRequest      = "asked"      // a user moved the address
)

// failoverBuckets are seconds: a failover takes 0.2, 0.4 or 3 s, depending on --failover.
var failoverBuckets = []float64{.1, .2, .3, .4, .5, .6, .8, 1, 1.5, 2, 2.5, 3, 3.5, 4, 5, 10}

// Speaker has the metrics of a speaker.
type Speaker struct {
	Members   prometheus.Gauge       // speakers that are alive, including this one
	Addresses prometheus.Gauge       // addresses announced by ARP and NDP
	Conflicts prometheus.Gauge       // addresses, announced or to be announced, that a foreign host uses
	Disputes  prometheus.Counter     // conflicts that began
	Takeovers *prometheus.CounterVec // addresses taken over from another node, by reason
	Failovers prometheus.Histogram   // seconds from the last heartbeat of a dead speaker until this one announced its address
	Lapses    prometheus.Counter     // stalls long enough for other speakers to take over

	ClockOffset prometheus.Gauge // seconds that the node's clock is ahead of the API server's

	definitions definitions
	sessions    source[[]Session]
	gossip      source[map[string]uint64]
	layer2      source[[]Queries]
}

// NewSpeaker returns a speaker's metrics, registered with r.
func NewSpeaker(r prometheus.Registerer) *Speaker {
	s := &Speaker{definitions: definitions{registry: r}}
	d := &s.definitions
	s.Members = d.gauge("speaker_members", "Speakers that this speaker considers alive, including itself.")
	s.Lapses = d.counter("speaker_lapses_total", "Number of stalls of this speaker that were long enough for other speakers to take over.")
	s.ClockOffset = d.gauge("speaker_clock_offset_seconds",
		"Approximate offset of the node's clock from the API server's: positive if it is ahead, negative if behind, 0 if it is in sync or unknown.")
	s.Addresses = d.gauge("layer2_addresses", "Addresses that this speaker announces by ARP and NDP.")
	s.Conflicts = d.gauge("layer2_conflicts", "Addresses of this speaker that a host outside of the cluster uses too.")
	s.Disputes = d.counter("layer2_conflicts_total", "Address conflicts with hosts outside of the cluster.")
	s.Takeovers = d.counters("layer2_takeovers_total",
		"Addresses taken over from another node, by reason: dead or leaving, its speaker failed or shut down; ineligible, the node cannot announce the address or is deprioritized; asked, a user moved it.",
		"reason", TakenFromDead, TakenFromLeaving, TakenFromIneligible, TakenByRequest)
	s.Failovers = d.histogram("layer2_failover_seconds",
		"Time from the last heartbeat of a dead speaker until this speaker announced its address. Takeovers more than about 10 s later are not counted.",
		failoverBuckets)
	r.MustRegister(s.layer2Collector(), s.gossipCollector(), s.sessionCollector())
	return s
}

// Queries counts the queries in one protocol for addresses of this speaker, by outcome.
type Queries struct {
	Protocol string // arp or ndp
	Answered uint64

	// Dropped queries: the address is being probed; a foreign host uses it; the speaker was
	// stalled and has not rejoined yet; or sending the reply failed.
	Probing, Disputed, Stalled, Failed uint64

	Rivals uint64 // claims by other nodes of the cluster to such an address
}

// Layer2 sets the function that returns the queries on each scrape.
func (s *Speaker) Layer2(read func() []Queries) { s.layer2.set(read) }

func (s *Speaker) layer2Collector() rowCollector {
	d := &s.definitions
	replies := d.row(Counter, "layer2_replies_total", "ARP and NDP queries that were answered.", "protocol")
	drops := d.row(Counter, "layer2_drops_total",
		"ARP and NDP queries for addresses of this speaker that were dropped, by reason: probing, the address is being probed; disputed, a host outside of the cluster uses it; stalled, the speaker was stalled; failed, sending the reply failed.",
		"protocol", "reason")
	rivals := d.row(Counter, "layer2_rival_claims_total",
		"ARP or NDP packets in which another node of the cluster claimed an address that this speaker announces. A few are normal when an address moves.", "protocol")
	return rowCollector{rows: []row{replies, drops, rivals}, collect: func(out chan<- prometheus.Metric) {
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

// Gossip sets the function that returns, on each scrape, the number of dropped gossip packets
// and connections by cause.
func (s *Speaker) Gossip(read func() map[string]uint64) { s.gossip.set(read) }

func (s *Speaker) gossipCollector() rowCollector {
	drops := s.definitions.row(Counter, "gossip_drops_total",
		"Gossip packets and connections that were dropped, by cause: malformed; forged, not encrypted with the key; limited, too many from unknown sources; replayed; unproven, the first of a "+
			"session, answered by a challenge; duplicate, from a second machine with the node's name; full, the queue was full; invalid, correctly encrypted but not parsable, or the handler panicked; "+
			"refused, an implausible version, epoch or term.", "cause")
	return rowCollector{rows: []row{drops}, collect: func(out chan<- prometheus.Metric) {
		for cause, n := range s.gossip.get() {
			drops.send(out, float64(n), cause)
		}
	}}
}

// Session has the values of one BGP session. The counters start at 0 when the peer is added.
type Session struct {
	Peer            string // name of the BGPPeer
	Up              bool
	Watched, PathUp bool // whether BFD monitors the path, and whether it is up
	Prefixes        int  // advertised

	UpdatesSent, UpdatesReceived             uint64
	NotificationsSent, NotificationsReceived uint64
	Lost                                     uint64 // number of times that the session went down
}

// Sessions sets the function that returns the BGP sessions on each scrape.
func (s *Speaker) Sessions(read func() []Session) { s.sessions.set(read) }

func (s *Speaker) sessionCollector() rowCollector {
	d := &s.definitions
	const by = "peer"
	pathUp := d.row(Gauge, "bfd_session_up", "Whether the BFD session with the peer is up; only for peers with a BFD profile.", by)
	values := []struct {
		row
		of func(Session) float64
	}{
		{d.row(Gauge, "bgp_session_up", "Whether the BGP session with the peer is established.", by), func(s Session) float64 { return boolValue(s.Up) }},
		{d.row(Gauge, "bgp_prefixes_announced", "Routes advertised to the peer.", by), func(s Session) float64 { return float64(s.Prefixes) }},
		{d.row(Counter, "bgp_session_losses_total", "Number of times that the BGP session with the peer went down.", by), func(s Session) float64 { return float64(s.Lost) }},
		{d.row(Counter, "bgp_updates_sent_total", "UPDATE messages sent to the peer.", by), func(s Session) float64 { return float64(s.UpdatesSent) }},
		{d.row(Counter, "bgp_updates_received_total", "UPDATE messages received from the peer; their routes are ignored.", by), func(s Session) float64 { return float64(s.UpdatesReceived) }},
		{d.row(Counter, "bgp_notifications_sent_total", "NOTIFICATION messages sent to the peer.", by), func(s Session) float64 { return float64(s.NotificationsSent) }},
		{d.row(Counter, "bgp_notifications_received_total", "NOTIFICATION messages received from the peer.", by), func(s Session) float64 { return float64(s.NotificationsReceived) }},
	}
	c := rowCollector{rows: []row{pathUp}, collect: func(out chan<- prometheus.Metric) {
		for _, session := range s.sessions.get() {
			if session.Watched {
				pathUp.send(out, boolValue(session.PathUp), session.Peer)
			}
			for _, v := range values {
				v.send(out, v.of(session), session.Peer)
			}
		}
	}}
	for _, v := range values {
		c.rows = append(c.rows, v.row)
	}
	return c
}
