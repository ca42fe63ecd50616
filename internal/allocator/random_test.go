package allocator

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

func TestMain(m *testing.M) {
	// Each check is some thirty operations; -rapid.checks on the command line wins.
	if err := flag.Set("rapid.checks", "1000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// blocks are what pools are made from, small enough to be exhausted all the time.
var blocks = []lb.Range{
	{From: netip.MustParseAddr("10.0.0.254"), To: netip.MustParseAddr("10.0.1.2")},
	{From: netip.MustParseAddr("10.0.1.3"), To: netip.MustParseAddr("10.0.1.5")},
	{From: netip.MustParseAddr("10.0.1.4"), To: netip.MustParseAddr("10.0.1.9")},
	{From: netip.MustParseAddr("10.0.2.1"), To: netip.MustParseAddr("10.0.2.1")},
	{From: netip.MustParseAddr("fd00::1"), To: netip.MustParseAddr("fd00::4")},
	{From: netip.MustParseAddr("fd00::fffe"), To: netip.MustParseAddr("fd00::1:0")},
}

// one in n times, it is so.
func oneIn(t *rapid.T, n int, what string) bool { return rapid.IntRange(0, n-1).Draw(t, what) == 0 }

func drawPool(t *rapid.T, name string) lb.Pool {
	p := lb.Pool{
		Name:            name,
		Created:         epoch.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "created")) * time.Second),
		AutoAssign:      !oneIn(t, 4, "by name only"),
		AvoidBuggyIPs:   rapid.Bool().Draw(t, "avoid"),
		Disabled:        oneIn(t, 6, "disabled"),
		MaxPerNamespace: rapid.SampledFrom([]int{0, 0, 0, 1, 2}).Draw(t, "quota"),
		Sharing:         rapid.SampledFrom([]lb.Sharing{lb.SharingNamespace, lb.SharingCluster, lb.SharingNever}).Draw(t, "sharing"),
		Priority:        rapid.IntRange(0, 2).Draw(t, "priority"),
	}
	if oneIn(t, 4, "narrow") {
		p.Namespaces = []string{"a"}
	}
	for i, b := range blocks {
		overlapsLast := len(p.Ranges) > 0 && p.Ranges[len(p.Ranges)-1].Overlaps(b)
		if !overlapsLast && rapid.Bool().Draw(t, fmt.Sprint("block", i)) {
			p.Ranges = append(p.Ranges, b)
		}
	}
	return p
}

var ports = []lb.Port{{Protocol: "TCP", Number: 80}, {Protocol: "UDP", Number: 80}, {Protocol: "TCP", Number: 443}}

func drawRequest(t *rapid.T, h lb.Holder, created time.Time) lb.Request {
	r := lb.Request{Holder: h, Created: created}
	r.Families = rapid.SampledFrom([][]lb.Family{{lb.IPv4}, {lb.IPv6}, {lb.IPv4, lb.IPv6}, {lb.IPv6, lb.IPv4}}).Draw(t, "families")
	r.RequireAll = h.Kind == lb.KindClaim || len(r.Families) == 1 || rapid.Bool().Draw(t, "all")
	if h.Kind == lb.KindService && oneIn(t, 4, "claims") {
		r.Claim = rapid.SampledFrom([]string{"c0", "c1"}).Draw(t, "claim")
		return r
	}
	if oneIn(t, 5, "named") {
		r.Pool = rapid.SampledFrom([]string{"p0", "p1", "none"}).Draw(t, "pool")
	}
	if oneIn(t, 4, "exact") {
		b := rapid.SampledFrom(blocks).Draw(t, "block")
		r.Addresses = []netip.Addr{rapid.SampledFrom(addresses(lb.Pool{Ranges: []lb.Range{b}})).Draw(t, "addr")}
	}
	if h.Kind == lb.KindService && oneIn(t, 2, "shares") {
		r.ShareKey = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "key")
		r.Ports = rapid.SampledFrom([][]lb.Port{ports[:1], ports[1:2], ports[2:], ports[:2], ports[1:]}).Draw(t, "ports")
		r.Backends = rapid.SampledFrom([]string{"", "", "app=web"}).Draw(t, "backends")
	}
	return r
}

func drawHolder(t *rapid.T) lb.Holder {
	h := lb.Holder{Kind: lb.KindService, Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace")}
	h.Name = fmt.Sprint("s", rapid.IntRange(0, 7).Draw(t, "name"))
	if oneIn(t, 5, "is a claim") {
		h.Kind = lb.KindClaim
		h.Name = rapid.SampledFrom([]string{"c0", "c1"}).Draw(t, "claim")
	}
	return h
}

// pair is an allocator and the model, which are told the same.
type pair struct {
	a    *Allocator
	m    *model
	now  time.Time
	born map[lb.Holder]time.Time
}

func (p *pair) allocate(t *rapid.T, req lb.Request) {
	d, _ := p.a.Allocate(req, p.now)
	p.m.decide(req.Holder, req, p.now)
	p.m.settle(p.now)
	if d.Complete() && len(d.Grants) != len(req.Families) || len(d.Picked) != len(d.Grants) {
		t.Fatalf("decision %+v does not say what is missing", d)
	}
	if rapid.Bool().Draw(t, "written at once") {
		p.written(req.Holder)
	}
}

func (p *pair) written(h lb.Holder) {
	p.a.Written(h, p.now)
	p.m.written(h, p.now)
	p.m.settle(p.now)
}

func (p *pair) setPools(pools []lb.Pool) {
	in := func() map[string]string {
		out := map[string]string{}
		for _, o := range p.m.pools {
			out[o.Name] = fmt.Sprint(o, p.m.overlapped(o))
		}
		return out
	}
	before := in()
	p.m.pools = pools
	for name, is := range in() {
		if before[name] != is {
			p.m.cooling[name] = map[netip.Addr]freed{}
		}
	}
	p.m.attribute()
	p.a.SetPools(pools)
	p.a.Serve(p.now)
	p.m.settle(p.now)
}

// restart makes an allocator restored from what the API server would have.
func (p *pair) restart(t *rapid.T) {
	for left := true; left; {
		left = false
		for _, h := range p.m.byAge() {
			left = left || len(p.m.leaving[h]) > 0 || p.m.unsaid[h]
			p.written(h)
		}
	}
	old := p.a
	p.a = New()
	p.a.SetPools(p.m.pools)
	retiring := map[netip.Addr]string{}
	for _, o := range p.m.pools {
		u, _ := old.Usage(o.Name)
		for _, r := range u.Retiring {
			retiring[r.Addr] = o.Name
		}
	}
	for _, kind := range []lb.HolderKind{lb.KindClaim, lb.KindService} {
		for _, h := range p.m.byAge() {
			if h.Kind == kind {
				p.a.Restore(p.m.requests[h], p.m.held[h], retiring)
			}
		}
	}
	for _, h := range p.m.byAge() {
		p.m.refused[h] = nil
		for _, g := range p.a.Holds(h) { // of several pools that overlap, any may be the origin
			p.m.from[g.Addr] = g.Pool
		}
	}
	for _, o := range p.m.pools {
		p.m.cooling[o.Name] = map[netip.Addr]freed{}
	}
	before := fmt.Sprint(p.m.held)
	for _, h := range p.m.byAge() {
		p.allocate(t, p.m.requests[h])
	}
	if after := fmt.Sprint(p.m.held); after != before {
		t.Fatalf("a restart moved addresses: %s became %s", before, after)
	}
}

// TestAgainstModel does the same thousands of random operations on the
// allocator and on the model, and compares who has what after each.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := &pair{a: New(), m: newModel(), now: epoch, born: map[lb.Holder]time.Time{}}
		t.Repeat(map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				h := drawHolder(t)
				if _, ok := p.born[h]; !ok {
					p.born[h] = p.now
				}
				req, known := p.m.requests[h]
				if h.Kind == lb.KindService || !known { // a claim's spec is for ever
					req = drawRequest(t, h, p.born[h])
				}
				req.Deleting = h.Kind == lb.KindClaim && known && (req.Deleting || rapid.Bool().Draw(t, "deleting"))
				p.allocate(t, req)
			},
			"release": func(t *rapid.T) {
				h := drawHolder(t)
				p.a.Release(h, p.now)
				p.m.release(h, p.now)
				p.m.settle(p.now)
				delete(p.born, h)
			},
			"written": func(t *rapid.T) { p.written(drawHolder(t)) },
			"pools": func(t *rapid.T) {
				var pools []lb.Pool
				for _, name := range []string{"p0", "p1", "p2"} {
					if !oneIn(t, 4, "gone") {
						pools = append(pools, drawPool(t, name))
					} else if o, ok := p.m.inUse(name); ok { // its finalizer holds it
						o.Deleting = true
						pools = append(pools, o)
					}
				}
				p.setPools(pools)
			},
			"wait": func(t *rapid.T) {
				p.now = p.now.Add(time.Duration(rapid.IntRange(1, 70).Draw(t, "seconds")) * time.Second)
			},
			"restart": p.restart,
			"":        p.compare,
		})
	})
}

// compare checks that both agree on who has what, and the books add up.
func (p *pair) compare(t *rapid.T) {
	used := map[netip.Addr]bool{}
	for h := range p.m.requests {
		got := lb.Decision{Grants: p.a.Holds(h)}.Addresses()
		if !slices.Equal(got, p.m.held[h]) {
			t.Fatalf("%s has %v; the model says %v", h, got, p.m.held[h])
		}
		user, lent := p.a.LentTo(h)
		if want, ok := p.m.lent[h]; ok != lent || user != want {
			t.Fatalf("%s is lent to %v; the model says %v", h, user, want)
		}
		for _, addr := range slices.Concat(got, p.m.leaving[h]) {
			used[addr] = true
			p.mates(t, h, addr)
		}
	}
	if len(p.a.owners) != len(used) {
		t.Fatalf("%d addresses have owners; %d are in use", len(p.a.owners), len(used))
	}
	for _, pool := range p.m.pools {
		p.usage(t, pool, used)
	}
}

// mates checks that those who have one address share it by the rules (invariant A1).
func (p *pair) mates(t *rapid.T, h lb.Holder, addr netip.Addr) {
	for _, o := range p.m.at(addr) {
		stay := slices.Contains(p.m.held[o], addr) && slices.Contains(p.m.held[h], addr)
		if o == h || !stay || p.m.lent[o] == h || p.m.lent[h] == o {
			continue
		}
		if !compatible(p.m.requests[h], p.m.requests[o]) {
			t.Fatalf("%s and %s both have %s", h, o, addr)
		}
	}
}

func (p *pair) usage(t *rapid.T, pool lb.Pool, used map[netip.Addr]bool) {
	u, ok := p.a.Usage(pool.Name)
	if !ok {
		t.Fatalf("pool %s has no usage", pool.Name)
	}
	free, assigned := map[lb.Family]uint64{}, map[lb.Family]int{}
	for _, addr := range addresses(pool) {
		if !used[addr] && (!pool.AvoidBuggyIPs || !lb.Buggy(addr)) && !p.m.overlapped(pool) {
			free[lb.FamilyOf(addr)]++
		}
	}
	for addr, from := range p.m.from {
		if from == pool.Name {
			assigned[lb.FamilyOf(addr)]++
		}
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		if u.Available[f] != free[f] {
			t.Fatalf("pool %s says %d %s addresses are available; there are %d", pool.Name, u.Available[f], f, free[f])
		}
		if u.Assigned[f] != assigned[f] {
			t.Fatalf("pool %s says %d %s addresses are assigned; there are %d", pool.Name, u.Assigned[f], f, assigned[f])
		}
	}
}
