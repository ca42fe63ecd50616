// Package metrics names what Fairlead counts, for Prometheus.
package metrics

import "github.com/prometheus/client_golang/prometheus"

// Speaker is what one speaker counts.
type Speaker struct {
	Members   prometheus.Gauge   // speakers that are alive, this one too
	Addresses prometheus.Gauge   // addresses answered for by ARP and NDP
	Conflicts prometheus.Gauge   // of them, and of those to be answered for: that a foreign host has
	Disputes  prometheus.Counter // conflicts that began
	TakeOvers prometheus.Counter // addresses taken over from another node
	Lapses    prometheus.Counter // times that the process stood still for so long that others took over
	sessions  *sessions
}

// NewSpeaker returns a speaker's metrics, registered with r.
func NewSpeaker(r prometheus.Registerer) *Speaker {
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "fairlead", Name: name, Help: help})
		r.MustRegister(g)
		return g
	}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "fairlead", Name: name, Help: help})
		r.MustRegister(c)
		return c
	}
	bgp := newSessions()
	r.MustRegister(bgp)
	return &Speaker{
		sessions:  bgp,
		Members:   gauge("speaker_members", "Speakers that this one takes to be alive, itself included."),
		Addresses: gauge("layer2_addresses", "Addresses that this speaker answers for by ARP and NDP."),
		Conflicts: gauge("layer2_conflicts", "Addresses that this speaker is to answer for and that a host outside of the cluster has."),
		Disputes:  counter("layer2_conflicts_total", "Conflicts with hosts outside of the cluster that began."),
		TakeOvers: counter("layer2_takeovers_total", "Addresses that this speaker took over from another node."),
		Lapses:    counter("speaker_lapses_total", "Times that this speaker stood still for so long that others may have taken over."),
	}
}
