package bgp

import (
	"testing"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// A router that stops reading fills the kernel's buffers, and then nothing can be sent
// to it. The other sessions, and the caller of Apply, do not wait for it.
func TestStuckRouterHoldsUpNothing(t *testing.T) {
	well, stuck := newSink(t, nil), newRawRouter(t)
	e := newEngine(t)
	peers := []lb.BGPPeer{stuck.peer(nil), well.peer(func(p *lb.BGPPeer) { p.Name = "well" })}
	e.Apply(peers, nil)
	established(t, e, "well")
	stuck.accept(t, inSession)
	established(t, e, "tor")
	// As many as fill what the kernel takes for a connection: each has an UPDATE.
	rows := many(100_000)
	for i := range rows {
		rows[i].MED = lb.Some(uint32(i))
	}
	e.Apply(peers, rows)
	eventually(t, "the routes to be on their way", func() bool { return sessionOf(e, "tor").PrefixesIPv4 == len(rows) })
	quick := func(what string, f func()) {
		t.Helper()
		start := time.Now()
		f()
		if d := time.Since(start); d > 2*time.Second { // this machine may be busy; the hold time is 90 s
			t.Errorf("%s takes %v", what, d)
		}
	}
	before := well.count.Load()
	quick("a route to another router", func() {
		e.Apply(peers, append(rows, route("198.51.100.1/32", func(r *lb.BGPRoute) { r.Peers = []string{"tor", "well"} })))
		eventually(t, "the route", func() bool { return well.count.Load() == before+1 })
	})
	if n := sessionOf(e, "tor").UpdatesSent; n >= uint64(len(rows)) {
		t.Errorf("%d UPDATEs were sent: the router is not stuck, and this test proves nothing", n)
	}
	quick("another hold time", func() {
		peers[0].HoldTime = 30 * time.Second
		e.Apply(peers, nil)
	})
	quick("the next session", func() { stuck.accept(t, onAccept).await(t, gobgp.BGP_MSG_OPEN) })
	quick("the end", e.Close)
}
