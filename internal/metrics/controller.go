package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Controller has the metrics of the active controller. Those of a standby have no values.
type Controller struct {
	allocation  prometheus.Histogram
	definitions definitions
	state       source[State]
}

// State has the values of the gauges.
type State struct {
	Pools []Pool
	// Waiting are the Services and IPAddressClaims without an address, Silent the Services
	// whose address is not announced.
	Waiting, Silent []Why
	Speakers        int // number of Speaker objects, one for each node with a speaker
}

// Pool has the usage of a pool's addresses of one family.
type Pool struct {
	Name, Family        string
	Assigned, Available float64
}

// Why is the number of objects of a kind with a reason.
type Why struct {
	Kind, Reason string
	Count        int
}

// allocationBuckets are seconds: an allocation takes milliseconds, most of them for the write
// to the API server.
var allocationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// NewController returns a controller's metrics, registered with r.
func NewController(r prometheus.Registerer) *Controller {
	c := &Controller{definitions: definitions{registry: r}}
	c.allocation = c.definitions.histogram("allocation_seconds",
		"Time from the start of a Service's reconciliation until its new address is written to the API server.", allocationBuckets)
	r.MustRegister(c.stateCollector())
	return c
}

// Allocated records how long the assignment of an address took.
func (c *Controller) Allocated(took time.Duration) { c.allocation.Observe(took.Seconds()) }

// Read sets the function that returns the state on each scrape.
func (c *Controller) Read(read func() State) { c.state.set(read) }

func (c *Controller) stateCollector() rowCollector {
	d := &c.definitions
	assigned := d.row(Gauge, "pool_assigned_addresses", "Addresses of the pool that are assigned to Services or reserved by IPAddressClaims.", "pool", "family")
	available := d.row(Gauge, "pool_available_addresses", "Addresses of the pool that are free; at most 2^64 is reported.", "pool", "family")
	waiting := d.row(Gauge, "waiting_for_address", "Services or IPAddressClaims without an address, by the reason of their condition.", "kind", "reason")
	silent := d.row(Gauge, "services_not_announced", "Services whose address is not announced, by the reason of their condition.", "reason")
	speakers := d.row(Gauge, "speakers", "Number of Speaker objects, one for each node that has or had a speaker.")
	return rowCollector{rows: []row{assigned, available, waiting, silent, speakers}, collect: func(out chan<- prometheus.Metric) {
		s := c.state.get()
		for _, p := range s.Pools {
			assigned.send(out, p.Assigned, p.Name, p.Family)
			available.send(out, p.Available, p.Name, p.Family)
		}
		for _, w := range s.Waiting {
			waiting.send(out, float64(w.Count), w.Kind, w.Reason)
		}
		for _, w := range s.Silent {
			silent.send(out, float64(w.Count), w.Reason)
		}
		if s.Speakers > 0 {
			speakers.send(out, float64(s.Speakers))
		}
	}}
}
