package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Controller is what the controller that leads counts. Those that wait to take over
// have nothing to tell.
type Controller struct {
	allocation prometheus.Histogram
	book       book
	state      source[State]
}

// State is what the controller knows now.
type State struct {
	Pools []Pool
	// Waiting are those that lack an address, and Silent the Services whose address
	// is not announced.
	Waiting, Silent []Why
	Speakers        int // Speaker objects, of which each node with a speaker has one
}

// Pool is the use of a pool's addresses of one family.
type Pool struct {
	Name, Family        string
	Assigned, Available float64
}

// Why is how many there are of a kind for a reason.
type Why struct {
	Kind, Reason string
	Count        int
}

// allocationBuckets are seconds: an allocation takes milliseconds, as long as the API
// server does.
var allocationBuckets = []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10}

// NewController returns a controller's metrics, registered with r.
func NewController(r prometheus.Registerer) *Controller {
	c := &Controller{book: book{registry: r}}
	c.allocation = c.book.histogram("allocation_seconds",
		"Time from the look at a Service that is to be given an address until the API server has it.", allocationBuckets)
	r.MustRegister(c.askState())
	return c
}

// Allocated notes that a Service was given an address, and how long it took.
func (c *Controller) Allocated(took time.Duration) { c.allocation.Observe(took.Seconds()) }

// Read has read tell of the state whenever somebody asks.
func (c *Controller) Read(read func() State) { c.state.set(read) }

func (c *Controller) askState() asked {
	b := &c.book
	assigned := b.row(Gauge, "pool_assigned_addresses", "Addresses of the pool that Services or claims have.", "pool", "family")
	available := b.row(Gauge, "pool_available_addresses", "Addresses of the pool that are free. 2^64 and more are told as 2^64.", "pool", "family")
	waiting := b.row(Gauge, "waiting_for_address", "Services, or IPAddressClaims, that lack an address, by the reason of their condition.", "kind", "reason")
	silent := b.row(Gauge, "services_not_announced", "Services with an address that is not announced, by the reason of their condition.", "reason")
	speakers := b.row(Gauge, "speakers", "Speaker objects: nodes that have, or had, a speaker.")
	return asked{rows: []row{assigned, available, waiting, silent, speakers}, tell: func(out chan<- prometheus.Metric) {
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
