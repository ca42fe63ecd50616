package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// Session is what is told of one BGP session. The counters are uint64s that only
// grow while the peer is there.
type Session struct {
	Peer            string // name of the BGPPeer
	Up              bool
	Watched, PathUp bool // by BFD
	Prefixes        int  // announced

	UpdatesSent, UpdatesReceived          uint64
	NotificationsSent, NotificationsHeard uint64
	Lost                                  uint64 // times that it was lost
}

// sessions asks for the sessions when it is asked itself, so that they cost nothing
// in between.
type sessions struct {
	read atomic.Pointer[func() []Session] // nil: there are none
	rows []sessionRow
}

// sessionRow is one metric of every session.
type sessionRow struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(Session) (value float64, there bool)
}

func newSessions() *sessions {
	row := func(name, help string, kind prometheus.ValueType, value func(Session) (float64, bool)) sessionRow {
		return sessionRow{prometheus.NewDesc(prometheus.BuildFQName("fairlead", "", name), help, []string{"peer"}, nil), kind, value}
	}
	count := func(of func(Session) uint64) func(Session) (float64, bool) {
		return func(s Session) (float64, bool) { return float64(of(s)), true }
	}
	const gauge, counter = prometheus.GaugeValue, prometheus.CounterValue
	return &sessions{rows: []sessionRow{
		row("bgp_session_up", "Whether the BGP session with the peer is established.", gauge, func(s Session) (float64, bool) { return one(s.Up), true }),
		row("bfd_session_up", "Whether BFD says that the peer can be reached; for peers that it watches.", gauge,
			func(s Session) (float64, bool) { return one(s.PathUp), s.Watched }),
		row("bgp_prefixes_announced", "Routes announced to the peer.", gauge, func(s Session) (float64, bool) { return float64(s.Prefixes), true }),
		row("bgp_session_losses_total", "Times that the session with the peer was lost.", counter, count(func(s Session) uint64 { return s.Lost })),
		row("bgp_updates_sent_total", "UPDATE messages sent to the peer.", counter, count(func(s Session) uint64 { return s.UpdatesSent })),
		row("bgp_updates_received_total", "UPDATE messages received from the peer, and ignored.", counter, count(func(s Session) uint64 { return s.UpdatesReceived })),
		row("bgp_notifications_sent_total", "NOTIFICATION messages sent to the peer.", counter, count(func(s Session) uint64 { return s.NotificationsSent })),
		row("bgp_notifications_received_total", "NOTIFICATION messages received from the peer.", counter, count(func(s Session) uint64 { return s.NotificationsHeard })),
	}}
}

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

// Describe is of prometheus.Collector.
func (c *sessions) Describe(out chan<- *prometheus.Desc) {
	for _, r := range c.rows {
		out <- r.desc
	}
}

// Collect is of prometheus.Collector.
func (c *sessions) Collect(out chan<- prometheus.Metric) {
	read := c.read.Load()
	if read == nil {
		return
	}
	for _, s := range (*read)() {
		for _, r := range c.rows {
			if v, there := r.value(s); there {
				out <- prometheus.MustNewConstMetric(r.desc, r.kind, v, s.Peer)
			}
		}
	}
}

// Sessions has read tell of the BGP sessions whenever somebody asks. It must be
// safe for use by several goroutines.
func (s *Speaker) Sessions(read func() []Session) { s.sessions.read.Store(&read) }
