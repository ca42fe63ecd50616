// Package metrics names what Fairlead counts, for Prometheus.
//
// Labels have few values: nodes, pools, peers, reasons. There is none for an
// address or a Service, of which there may be thousands.
package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace is what all names begin with.
const namespace = "fairlead"

// Kind is how the value of a metric moves.
type Kind uint8

// The kinds of metrics.
const (
	Gauge     Kind = iota + 1 // up and down
	Counter                   // up
	Histogram                 // how many were how long
)

// String returns the kind as Prometheus writes it.
func (k Kind) String() string { return [...]string{"", "gauge", "counter", "histogram"}[k] }

// Description says what a metric is. docs/metrics.md has all of them.
type Description struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
}

// Descriptions returns what a controller and a speaker count.
func Descriptions() (controller, speaker []Description) {
	r := prometheus.NewRegistry()
	return NewController(r).book.descriptions, NewSpeaker(r).book.descriptions
}

// book makes metrics and keeps their descriptions.
type book struct {
	registry     prometheus.Registerer
	descriptions []Description
}

func (b *book) describe(kind Kind, name, help string, labels ...string) {
	b.descriptions = append(b.descriptions, Description{Name: prometheus.BuildFQName(namespace, "", name), Kind: kind, Labels: labels, Help: help})
}

func (b *book) gauge(name, help string) prometheus.Gauge {
	b.describe(Gauge, name, help)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	b.registry.MustRegister(g)
	return g
}

func (b *book) counter(name, help string) prometheus.Counter {
	b.describe(Counter, name, help)
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	b.registry.MustRegister(c)
	return c
}

// counters makes a counter for each value of a label. All are there from the
// beginning: the first increase of one that was not there before is seen by
// nobody.
func (b *book) counters(name, help, label string, values ...string) *prometheus.CounterVec {
	b.describe(Counter, name, help, label)
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
	for _, v := range values {
		c.WithLabelValues(v)
	}
	b.registry.MustRegister(c)
	return c
}

func (b *book) histogram(name, help string, buckets []float64) prometheus.Histogram {
	b.describe(Histogram, name, help)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	b.registry.MustRegister(h)
	return h
}

// row is a metric whose values are asked for when somebody looks, so that it costs
// nothing in between.
type row struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func (b *book) row(kind Kind, name, help string, labels ...string) row {
	b.describe(kind, name, help, labels...)
	r := row{desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil), kind: prometheus.GaugeValue}
	if kind == Counter {
		r.kind = prometheus.CounterValue
	}
	return r
}

func (r row) send(out chan<- prometheus.Metric, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(r.desc, r.kind, value, labels...)
}

// source is where the values of rows come from, once there is one.
type source[T any] struct {
	read atomic.Pointer[func() T]
}

// set sets the source, which must be safe for use by several goroutines.
func (s *source[T]) set(read func() T) { s.read.Store(&read) }

// get returns the values of now, or the zero value if nobody has any.
func (s *source[T]) get() (values T) {
	if read := s.read.Load(); read != nil {
		values = (*read)()
	}
	return values
}

// asked is a collector of rows.
type asked struct {
	rows []row
	tell func(out chan<- prometheus.Metric)
}

// Describe is of prometheus.Collector.
func (a asked) Describe(out chan<- *prometheus.Desc) {
	for _, r := range a.rows {
		out <- r.desc
	}
}

// Collect is of prometheus.Collector.
func (a asked) Collect(out chan<- prometheus.Metric) { a.tell(out) }

func one(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
