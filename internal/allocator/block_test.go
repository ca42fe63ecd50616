package allocator

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

var (
	onNode      = lb.Block{Reason: lb.ReasonAddressOfNode, Holder: "node n1 (eth0)"}
	onRouter    = lb.Block{Reason: lb.ReasonAddressOfRouter, Holder: "the default gateway of node n1"}
	ofBroadcast = lb.Block{Reason: lb.ReasonSubnetAddress, Holder: "the broadcast address of the nodes' subnet 10.0.0.0/30"}
)

func inField(service string) lb.Block {
	return lb.Block{Reason: lb.ReasonAddressOfService, Holder: "Service default/" + service + " (spec.externalIPs)", Service: lb.ServiceKey{Namespace: "default", Name: service}}
}

func (w *world) available(t *testing.T, want uint64) {
	t.Helper()
	if u, _ := w.Usage("p"); u.Available[lb.IPv4] != want {
		t.Errorf("%d addresses are available, want %d", u.Available[lb.IPv4], want)
	}
}

// An address that something else has is assigned to no Service, and the answer to a Service
// that names it says what has it and what to do.
func TestBlockedAddressIsNotAssigned(t *testing.T) {
	first := netip.MustParseAddr("10.0.0.1")
	exactly := func(r *lb.Request) { r.Addresses = []netip.Addr{first} }
	for _, tt := range []struct {
		name   string
		blocks []lb.Block
		asks   string // the Service
		change func(*lb.Request)
		reason lb.Reason
		want   string
	}{
		{"any address", []lb.Block{onNode}, "a", nil, lb.ReasonAssigned, `10.0.0.2 from pool "p"`},
		{
			"named, of a node", []lb.Block{onNode}, "a", exactly, lb.ReasonAddressOfNode,
			`cannot assign 10.0.0.1: pool "p": node n1 (eth0) has the address; ask for another address, and add this one to spec.excludes of the pool`,
		},
		{
			"named, of a router", []lb.Block{onRouter}, "a", exactly, lb.ReasonAddressOfRouter,
			`cannot assign 10.0.0.1: pool "p": the default gateway of node n1 has the address; ask for another address, and add this one to spec.excludes of the pool`,
		},
		{
			"named, broadcast", []lb.Block{ofBroadcast}, "a", exactly, lb.ReasonSubnetAddress,
			`cannot assign 10.0.0.1: pool "p": it is the broadcast address of the nodes' subnet 10.0.0.0/30; ask for another address, and add this one to spec.excludes of the pool`,
		},
		{
			"named, externalIPs of another Service", []lb.Block{inField("b")}, "a", exactly, lb.ReasonAddressOfService,
			`cannot assign 10.0.0.1: pool "p": Service default/b (spec.externalIPs) has the address; ask for another address, or remove it from the Service that has it`,
		},
		{"named, its own externalIPs", []lb.Block{inField("a")}, "a", exactly, lb.ReasonAssigned, `10.0.0.1 from pool "p"`},
		{
			"named, its own externalIPs and a node", []lb.Block{onNode, inField("a")}, "a", exactly, lb.ReasonAddressOfNode,
			`cannot assign 10.0.0.1: pool "p": node n1 (eth0) has the address; ask for another address, and add this one to spec.excludes of the pool`,
		},
		{"a claim, any address", []lb.Block{onNode}, "a", claim, lb.ReasonAssigned, `10.0.0.2 from pool "p"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.3")})
			w.SetBlocks(first, tt.blocks, epoch)
			w.available(t, 2)
			d := w.ask(tt.asks, tt.change)
			if got := d.String(); got != tt.want || d.Reason() != tt.reason {
				t.Errorf("%s: %s\nwant %s: %s", d.Reason(), got, tt.reason, tt.want)
			}
		})
	}
}

// An assigned address that something else gets is kept (A3), and the answer says so;
// nobody else gets it when it is given back.
func TestAddressIsBlockedLater(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.1")
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.2")})
	w.ask("a", nil)
	if woken := w.SetBlocks(a, []lb.Block{onNode}, epoch); len(woken) != 1 || woken[0].Name != "a" {
		t.Errorf("%v are woken, want a", woken)
	}
	want := `10.0.0.1 from pool "p"; 10.0.0.1 cannot be used: node n1 (eth0) has the address; ask for another address, and add this one to spec.excludes of the pool`
	if d := w.ask("a", nil); d.String() != want || !d.Met {
		t.Errorf("%s, want %s", d, want)
	}
	w.available(t, 1)
	w.Release(svc("default", "a"), epoch)
	w.available(t, 1)
	w.ask("b", nil)
	if d, want := w.ask("c", nil), `no address: pool "p": no free IPv4 address (1 in use; nodes, other hosts or other Services have 1)`; d.String() != want {
		t.Errorf("%s, want %s", d, want)
	}
	if woken := w.SetBlocks(a, nil, epoch); len(woken) != 1 || woken[0].Name != "c" {
		t.Errorf("%v are woken, want c, which waits", woken)
	}
	w.available(t, 0)
}

// A Service that names a blocked address gets it as soon as the block is gone, and hears
// when something else has it instead.
func TestNamedBlockedAddressIsAwaited(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.1")
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.2")})
	w.SetBlocks(a, []lb.Block{onNode}, epoch)
	w.ask("a", func(r *lb.Request) { r.Addresses = []netip.Addr{a} })
	for _, blocks := range [][]lb.Block{{inField("b")}, nil} {
		if woken := w.SetBlocks(a, blocks, epoch); len(woken) != 1 || woken[0].Name != "a" {
			t.Errorf("blocks %v: %v are woken, want a", blocks, woken)
		}
	}
	if got := w.Holds(svc("default", "a")); len(got) != 1 || got[0].Addr != a {
		t.Errorf("a has %v", got)
	}
}

// Services that share an address with the one that has it in externalIPs too share it
// still; they do not get one by their key that a node has.
func TestSharedAddressIsBlocked(t *testing.T) {
	a := netip.MustParseAddr("10.0.0.1")
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.2")})
	w.ask("a", shares("k", "", ports[0]))
	w.SetBlocks(a, []lb.Block{inField("a")}, epoch)
	if got, want := w.ask("b", shares("k", "", ports[2])).String(), `10.0.0.1 from pool "p"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	w.Release(svc("default", "b"), epoch)
	w.SetBlocks(a, []lb.Block{onNode}, epoch)
	if got, want := w.ask("b", shares("k", "", ports[2])).String(), `10.0.0.2 from pool "p"`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// An edit of pools does not forget what is blocked.
func TestPoolsChangeAroundBlocks(t *testing.T) {
	w := newWorld(t)
	a := netip.MustParseAddr("10.0.0.1")
	w.SetBlocks(a, []lb.Block{onNode}, epoch)
	pool := lb.Pool{Name: "p", AutoAssign: true, Ranges: ranges("10.0.0.1", "10.0.0.2")}
	w.SetPools([]lb.Pool{pool})
	w.available(t, 1)
	pool.Ranges = ranges("10.0.0.0", "10.0.0.2")
	w.SetPools([]lb.Pool{pool})
	w.available(t, 2)
	want := []lb.Blocked{{Addr: a, Block: onNode}}
	if diff := cmp.Diff(want, w.Withheld("p"), cmp.Comparer(func(x, y lb.Blocked) bool { return x == y })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	w.SetBlocks(a, nil, epoch)
	w.SetBlocks(a, nil, epoch)
	w.available(t, 3)
}

// Whatever is asked for, given back and blocked in any order: no address is assigned while
// it is blocked, and the counts are right.
func TestBlocksInAnyOrder(t *testing.T) {
	addrs := []netip.Addr{}
	for a := netip.MustParseAddr("10.0.0.0"); len(addrs) < 6; a = a.Next() {
		addrs = append(addrs, a)
	}
	rapid.Check(t, func(t *rapid.T) {
		a, now := New(), epoch
		pool := lb.Pool{Name: "p", AutoAssign: true, Ranges: []lb.Range{{From: addrs[0], To: addrs[4]}}}
		a.SetPools([]lb.Pool{pool})
		blocked := map[netip.Addr]bool{}
		had := map[lb.Holder][]lb.Grant{}
		holders := []lb.Holder{}
		for i := range 5 {
			holders = append(holders, svc("default", fmt.Sprint(i)))
		}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 90).Draw(t, "seconds")) * time.Second)
			h, addr := rapid.SampledFrom(holders).Draw(t, "holder"), rapid.SampledFrom(addrs).Draw(t, "address")
			was := maps.Clone(blocked)
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0, 1:
				req := lb.Request{Holder: h, Created: epoch, Families: []lb.Family{lb.IPv4}, RequireAll: true}
				if rapid.Bool().Draw(t, "exact") {
					req.Addresses = []netip.Addr{addr}
				}
				a.Allocate(req, now)
			case 2:
				a.Release(h, now)
			case 3:
				blocked[addr] = rapid.Bool().Draw(t, "blocked")
				blocks := []lb.Block(nil)
				if blocked[addr] {
					blocks = []lb.Block{onNode}
				}
				a.SetBlocks(addr, blocks, now)
			case 4:
				pool.Ranges = []lb.Range{{From: addrs[0], To: addrs[rapid.IntRange(2, 5).Draw(t, "last")]}}
				a.SetPools([]lb.Pool{pool})
				a.Serve(now)
			}
			for written := true; written; { // what one gives up by that, another may get
				written = false
				for _, h := range holders {
					written = len(a.Written(h, now)) > 0 || written
				}
			}
			owned := map[netip.Addr]bool{}
			for _, h := range holders {
				grants := a.Holds(h)
				for _, g := range grants {
					owned[g.Addr] = true
					if !slices.Contains(had[h], g) && was[g.Addr] && blocked[g.Addr] {
						t.Fatalf("%s was given %s, which is blocked", h, g.Addr)
					}
				}
				had[h] = grants
			}
			free, withheld := uint64(0), 0
			for _, x := range addrs {
				switch {
				case !pool.Contains(x) || owned[x]:
				case blocked[x]:
					withheld++
				default:
					free++
				}
			}
			u, _ := a.Usage("p")
			if u.Available[lb.IPv4] != free || u.Blocked[lb.IPv4] != withheld || len(a.Withheld("p")) != withheld {
				t.Fatalf("available %d, blocked %d; want %d and %d", u.Available[lb.IPv4], u.Blocked[lb.IPv4], free, withheld)
			}
		}
	})
}
