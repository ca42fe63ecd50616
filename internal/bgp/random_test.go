package bgp

import (
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// memory is what a router knows: it forgets all when a session ends, and is never
// told to forget what it does not have.
type memory struct {
	t testing.TB

	mu   sync.Mutex // guards the fields below
	conn *net.TCPConn
	med  map[netip.Prefix]uint32
}

func (r *memory) learn(c *net.TCPConn, m message) {
	parsed, err := gobgp.ParseBGPMessage(append(message(nil), m...))
	if err != nil {
		r.t.Errorf("an UPDATE that is none: %v", err)
		return
	}
	u := parsed.Body.(*gobgp.BGPUpdate)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.conn != c {
		r.conn, r.med = c, map[netip.Prefix]uint32{}
	}
	var med uint32
	reach, unreach := list(u.NLRI), list(u.WithdrawnRoutes)
	for _, a := range u.PathAttributes {
		switch a := a.(type) {
		case *gobgp.PathAttributeMultiExitDisc:
			med = a.Value
		case *gobgp.PathAttributeMpReachNLRI:
			reach = append(reach, list(a.Value)...)
		case *gobgp.PathAttributeMpUnreachNLRI:
			unreach = append(unreach, list(a.Value)...)
		}
	}
	for _, p := range unreach {
		if _, ok := r.med[p]; !ok {
			r.t.Errorf("%s is withdrawn and was never announced", p)
		}
		delete(r.med, p)
	}
	for _, p := range reach {
		if old, ok := r.med[p]; ok && old == med {
			r.t.Errorf("%s is announced again as it was", p)
		}
		r.med[p] = med
	}
}

func list[T fmt.Stringer](nlri []T) (out []netip.Prefix) {
	for _, n := range nlri {
		out = append(out, netip.MustParsePrefix(n.String()))
	}
	return out
}

// knows returns how what the router knows differs from the rows.
func (r *memory) knows(rows []lb.BGPRoute) string {
	want := map[netip.Prefix]uint32{}
	for _, row := range rows {
		want[row.Prefix] = row.MED.Value
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return cmp.Diff(want, r.med, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }))
}

// Routes come, change and go, and the session breaks in between: whatever the
// order, the router ends with what was applied last, and no UPDATE was in vain.
func TestRandomChanges(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := &memory{t: t}
	s := newSink(t, func(s *sink) { s.learn = r.learn })
	e := newEngine(t)
	p := s.peer(func(p *lb.BGPPeer) { p.NextHop6 = node6 })
	rows := map[netip.Prefix]lb.BGPRoute{}
	apply := func() []lb.BGPRoute {
		var out []lb.BGPRoute
		for _, row := range rows {
			out = append(out, row)
		}
		if refused := e.Apply([]lb.BGPPeer{p}, out); len(refused) != 0 {
			t.Fatal(refused)
		}
		return out
	}
	apply()
	established(t, e, "tor")
	for round := range 20 {
		var now []lb.BGPRoute
		for range 50 {
			for range 1 + random.IntN(5) {
				text := fmt.Sprintf("198.51.100.%d/32", random.IntN(40))
				if random.IntN(3) == 0 {
					text = fmt.Sprintf("2001:db8:1::%d/128", random.IntN(9))
				}
				if random.IntN(3) == 0 {
					delete(rows, prefix(text))
				} else {
					rows[prefix(text)] = route(text, func(r *lb.BGPRoute) { r.MED = lb.Some(uint32(random.IntN(3))) })
				}
			}
			now = apply()
			switch random.IntN(100) {
			case 0:
				e.Lost("tor", "BFD: down")
				e.Restored("tor")
			case 1:
				select {
				case c := <-s.conns:
					c.Close()
				default:
				}
			}
		}
		var diff string
		eventually(t, "the router to know all", func() bool {
			diff = r.knows(now)
			return diff == "" || t.Failed()
		})
		if t.Failed() {
			t.Fatalf("round %d: %s", round, diff)
		}
	}
	t.Logf("%+v", sessionOf(e, "tor"))
}
