// Package metrics defines Fairlead's Prometheus metrics.
//
// Labels have few values: nodes, pools, peers, reasons. No label has an address or a Service,
// as there may be thousands of them.
package metrics

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"
)

// namespace is the prefix of all names.
const namespace = "fairlead"

// Kind is the type of a metric.
type Kind uint8

// The kinds of metrics.
const (
	Gauge Kind = iota + 1
	Counter
	Histogram
)

// String returns the kind as Prometheus writes it.
func (k Kind) String() string { return [...]string{"", "gauge", "counter", "histogram"}[k] }

// Description describes a metric. docs/metrics.md is generated from all of them.
type Description struct {
	Name   string
	Kind   Kind
	Labels []string
	Help   string
}

// Descriptions returns the metrics of a controller and of a speaker.
func Descriptions() (controller, speaker []Description) {
	r := prometheus.NewRegistry()
	return NewController(r).definitions.descriptions, NewSpeaker(r).definitions.descriptions
}

// definitions registers metrics and keeps their descriptions.
type definitions struct {
	registry     prometheus.Registerer
	descriptions []Description
}

func (d *definitions) describe(kind Kind, name, help string, labels ...string) {
	d.descriptions = append(d.descriptions, Description{Name: prometheus.BuildFQName(namespace, "", name), Kind: kind, Labels: labels, Help: help})
}

func (d *definitions) gauge(name, help string) prometheus.Gauge {
	d.describe(Gauge, name, help)
	g := prometheus.NewGauge(prometheus.GaugeOpts{Namespace: namespace, Name: name, Help: help})
	d.registry.MustRegister(g)
	return g
}

func (d *definitions) counter(name, help string) prometheus.Counter {
	d.describe(Counter, name, help)
	c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	d.registry.MustRegister(c)
	return c
}

// counters defines a counter for each value of a label. All exist from the start, as Prometheus
// does not see an increase from a missing value to 1.
func (d *definitions) counters(name, help, label string, values ...string) *prometheus.CounterVec {
	d.describe(Counter, name, help, label)
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, []string{label})
	for _, v := range values {
		c.WithLabelValues(v)
	}
	d.registry.MustRegister(c)
	return c
}

func (d *definitions) histogram(name, help string, buckets []float64) prometheus.Histogram {
	d.describe(Histogram, name, help)
	h := prometheus.NewHistogram(prometheus.HistogramOpts{Namespace: namespace, Name: name, Help: help, Buckets: buckets})
	d.registry.MustRegister(h)
	return h
}

// row is a metric whose values are read on each scrape, so that it costs nothing in between.
type row struct {
	desc *prometheus.Desc
	kind prometheus.ValueType
}

func (d *definitions) row(kind Kind, name, help string, labels ...string) row {
	d.describe(kind, name, help, labels...)
	r := row{desc: prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil), kind: prometheus.GaugeValue}
	if kind == Counter {
		r.kind = prometheus.CounterValue
	}
	return r
}

func (r row) send(out chan<- prometheus.Metric, value float64, labels ...string) {
	out <- prometheus.MustNewConstMetric(r.desc, r.kind, value, labels...)
}

// source has the function that reads the values of rows, once it is set.
type source[T any] struct {
	read atomic.Pointer[func() T]
}

// set sets the source, which must be safe for use by several goroutines.
func (s *source[T]) set(read func() T) { s.read.Store(&read) }

// get returns the current values, or the zero value if no source is set.
func (s *source[T]) get() (values T) {
	if read := s.read.Load(); read != nil {
		values = (*read)()
	}
	return values
}

// rowCollector is a prometheus.Collector of rows.
type rowCollector struct {
	rows    []row
	collect func(out chan<- prometheus.Metric)
}

// Describe implements prometheus.Collector.
func (c rowCollector) Describe(out chan<- *prometheus.Desc) {
	for _, r := range c.rows {
		out <- r.desc
	}
}

// Collect implements prometheus.Collector.
func (c rowCollector) Collect(out chan<- prometheus.Metric) { c.collect(out) }

func boolValue(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
