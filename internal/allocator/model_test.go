package allocator

import (
	"cmp"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/lb"
)

// model is the allocator's rules written down in the most naive way: it looks
// at every address, every time.
type model struct {
	pools    []lb.Pool
	grants   map[lb.ServiceKey][]netip.Addr
	requests map[lb.ServiceKey]lb.Request
	refused  map[lb.ServiceKey]map[lb.Family]bool
	from     map[netip.Addr]string           // assigned address -> its pool
	cooling  map[string]map[netip.Addr]freed // by pool
	freed    int
}

// freed is when an address was given back, and the how manieth it was.
type freed struct {
	at  time.Time
	nth int
}

func newModel() *model {
	return &model{
		grants: map[lb.ServiceKey][]netip.Addr{}, requests: map[lb.ServiceKey]lb.Request{},
		refused: map[lb.ServiceKey]map[lb.Family]bool{}, from: map[netip.Addr]string{},
		cooling: map[string]map[netip.Addr]freed{},
	}
}

func (m *model) owner(a netip.Addr) (lb.ServiceKey, bool) {
	for k, addrs := range m.grants {
		if slices.Contains(addrs, a) {
			return k, true
		}
	}
	return lb.ServiceKey{}, false
}

// overlapped reports whether an older pool in force shares an address with p.
func (m *model) overlapped(p lb.Pool) bool {
	for _, o := range m.pools {
		older := cmp.Or(o.Created.Compare(p.Created), cmp.Compare(o.Name, p.Name)) < 0
		if older && !m.overlapped(o) && slices.ContainsFunc(addresses(o), p.Contains) {
			return true
		}
	}
	return false
}

func addresses(p lb.Pool) []netip.Addr {
	var out []netip.Addr
	for _, r := range p.Ranges {
		for a := r.From; ; a = a.Next() {
			out = append(out, a)
			if a == r.To {
				break
			}
		}
	}
	return out
}

// pick returns the address that the request is to get, if any, and its pool.
func (m *model) pick(req lb.Request, f lb.Family, now time.Time) (netip.Addr, string) {
	for _, p := range m.asked() {
		want, exact := req.Exact(f)
		named := req.Pool == p.Name
		if req.Pool != "" && !named || p.Disabled || p.Deleting || m.overlapped(p) || !p.AutoAssign && !named && !exact {
			continue
		}
		if len(p.Namespaces) > 0 && !slices.Contains(p.Namespaces, req.Service.Namespace) {
			continue
		}
		var best netip.Addr
		for _, a := range addresses(p) {
			_, used := m.owner(a)
			if used || lb.FamilyOf(a) != f || exact && a != want || p.AvoidBuggyIPs && isBuggy(a) {
				continue
			}
			if !best.IsValid() || m.before(p.Name, a, best, now) {
				best = a
			}
		}
		if best.IsValid() {
			return best, p.Name
		}
	}
	return netip.Addr{}, ""
}

// before reports whether the pool gives a before b: those not cooling first, by
// address; then those that cooled longest.
func (m *model) before(pool string, a, b netip.Addr, now time.Time) bool {
	fa, coolA := m.cooling[pool][a]
	fb, coolB := m.cooling[pool][b]
	coolA, coolB = coolA && now.Sub(fa.at) < cooldown, coolB && now.Sub(fb.at) < cooldown
	switch {
	case coolA != coolB:
		return coolB
	case coolA:
		return fa.nth < fb.nth
	default:
		return a.Less(b)
	}
}

func (m *model) asked() []lb.Pool {
	return slices.SortedFunc(slices.Values(m.pools), func(x, y lb.Pool) int {
		rank := func(p lb.Pool) int {
			if p.Priority == 0 {
				return 1 << 30
			}
			return p.Priority
		}
		return cmp.Or(cmp.Compare(rank(x), rank(y)), cmp.Compare(len(y.Namespaces), len(x.Namespaces)), cmp.Compare(x.Name, y.Name))
	})
}

// attribute moves assigned addresses to the pool that has them now.
func (m *model) attribute() {
	for _, addrs := range m.grants {
		for _, a := range addrs {
			i := slices.IndexFunc(m.pools, func(p lb.Pool) bool { return p.Name == m.from[a] })
			if i >= 0 && m.pools[i].Contains(a) && !m.overlapped(m.pools[i]) {
				continue
			}
			for _, p := range m.pools {
				if p.Contains(a) && !m.overlapped(p) {
					m.from[a] = p.Name
				}
			}
		}
	}
}

// inUse returns the pool if Services have addresses of it.
func (m *model) inUse(name string) (lb.Pool, bool) {
	i := slices.IndexFunc(m.pools, func(p lb.Pool) bool { return p.Name == name })
	if i < 0 {
		return lb.Pool{}, false
	}
	for _, from := range m.from {
		if from == name {
			return m.pools[i], true
		}
	}
	return lb.Pool{}, false
}

// decide does for one Service what can be done, and reports whether its
// addresses changed.
func (m *model) decide(key lb.ServiceKey, req lb.Request, now time.Time) bool {
	had := m.grants[key]
	refused := map[lb.Family]bool{}
	picked := map[netip.Addr]string{}
	var next []netip.Addr
	for _, a := range req.Addresses {
		if !slices.Contains(req.Families, lb.FamilyOf(a)) {
			refused[lb.FamilyOf(a)] = true
		}
	}
	for _, f := range req.Families {
		i := slices.IndexFunc(had, func(a netip.Addr) bool { return lb.FamilyOf(a) == f })
		if i >= 0 {
			want, exact := req.Exact(f)
			asks := req.Pool != "" && m.from[had[i]] != req.Pool && (m.requests[key].Pool != req.Pool || m.refused[key][f])
			if exact && had[i] == want || !exact && !asks {
				next = append(next, had[i])
				continue
			}
		}
		a, pool := m.pick(req, f, now)
		switch {
		case pool != "":
			next = append(next, a)
			picked[a] = pool
		case i >= 0:
			next = append(next, had[i])
			refused[f] = true
		default:
			refused[f] = true
		}
	}
	if req.RequireAll && len(next) < len(req.Families) && len(had) == 0 {
		next, picked = nil, nil
	}
	for _, a := range had {
		if !slices.Contains(next, a) {
			m.cool(a, now)
			delete(m.from, a)
		}
	}
	for a, pool := range picked {
		m.from[a] = pool
	}
	m.grants[key], m.requests[key], m.refused[key] = next, req, refused
	return !slices.Equal(had, next)
}

func (m *model) cool(a netip.Addr, now time.Time) {
	m.freed++
	for _, p := range m.pools {
		if p.Contains(a) {
			m.cooling[p.Name][a] = freed{now, m.freed}
		}
	}
}

// settle serves who waits, oldest first, until nothing changes any more.
func (m *model) settle(now time.Time) {
	for changed := true; changed; {
		changed = false
		for _, key := range m.byAge() {
			if len(m.refused[key]) > 0 && m.decide(key, m.requests[key], now) {
				changed = true
				break
			}
		}
	}
}

func (m *model) byAge() []lb.ServiceKey {
	var keys []lb.ServiceKey
	for k := range m.requests {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(x, y lb.ServiceKey) int {
		return cmp.Or(m.requests[x].Created.Compare(m.requests[y].Created), x.Compare(y))
	})
	return keys
}

func TestMain(m *testing.M) {
	// Each check is some thirty operations; -rapid.checks on the command line wins.
	if err := flag.Set("rapid.checks", "1000"); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// ranges from which pools are made, small enough to be exhausted all the time.
var blocks = []lb.Range{
	{From: netip.MustParseAddr("10.0.0.254"), To: netip.MustParseAddr("10.0.1.2")},
	{From: netip.MustParseAddr("10.0.1.3"), To: netip.MustParseAddr("10.0.1.5")},
	{From: netip.MustParseAddr("10.0.1.4"), To: netip.MustParseAddr("10.0.1.9")},
	{From: netip.MustParseAddr("10.0.2.1"), To: netip.MustParseAddr("10.0.2.1")},
	{From: netip.MustParseAddr("fd00::1"), To: netip.MustParseAddr("fd00::4")},
	{From: netip.MustParseAddr("fd00::fffe"), To: netip.MustParseAddr("fd00::1:0")},
}

func drawPool(t *rapid.T, name string) lb.Pool {
	p := lb.Pool{
		Name:          name,
		Created:       epoch.Add(time.Duration(rapid.IntRange(0, 3).Draw(t, "created")) * time.Second),
		AutoAssign:    rapid.IntRange(0, 3).Draw(t, "auto") > 0,
		AvoidBuggyIPs: rapid.Bool().Draw(t, "avoid"),
		Disabled:      rapid.IntRange(0, 5).Draw(t, "disabled") == 0,
		Priority:      rapid.IntRange(0, 2).Draw(t, "priority"),
	}
	if rapid.IntRange(0, 3).Draw(t, "narrow") == 0 {
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

func drawRequest(t *rapid.T, key lb.ServiceKey, created time.Time) lb.Request {
	r := lb.Request{Service: key, Created: created}
	r.Families = rapid.SampledFrom([][]lb.Family{{lb.IPv4}, {lb.IPv6}, {lb.IPv4, lb.IPv6}, {lb.IPv6, lb.IPv4}}).Draw(t, "families")
	r.RequireAll = len(r.Families) == 1 || rapid.Bool().Draw(t, "all")
	if rapid.IntRange(0, 4).Draw(t, "named") == 0 {
		r.Pool = rapid.SampledFrom([]string{"p0", "p1", "none"}).Draw(t, "pool")
	}
	if rapid.IntRange(0, 4).Draw(t, "exact") == 0 {
		b := rapid.SampledFrom(blocks).Draw(t, "block")
		r.Addresses = []netip.Addr{rapid.SampledFrom(addresses(lb.Pool{Ranges: []lb.Range{b}})).Draw(t, "addr")}
	}
	return r
}

// TestAgainstModel does the same thousands of random operations on the
// allocator and on the model, and compares who has what after each.
func TestAgainstModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, m, now := New(), newModel(), epoch
		born := map[lb.ServiceKey]time.Time{}
		key := rapid.Custom(func(t *rapid.T) lb.ServiceKey {
			return lb.ServiceKey{
				Namespace: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "namespace"),
				Name:      fmt.Sprint("s", rapid.IntRange(0, 7).Draw(t, "name")),
			}
		})
		allocate := func(req lb.Request) {
			d, _ := a.Allocate(req, now)
			m.decide(req.Service, req, now)
			m.settle(now)
			if d.Complete() != (len(d.Refusals) == 0) || len(d.Refusals) == 0 && len(d.Grants) != len(req.Families) {
				t.Fatalf("decision %+v does not say what is missing", d)
			}
		}
		setPools := func(pools []lb.Pool) {
			for _, p := range pools {
				i := slices.IndexFunc(m.pools, func(o lb.Pool) bool { return o.Name == p.Name })
				if i < 0 || fmt.Sprint(m.pools[i]) != fmt.Sprint(p) {
					m.cooling[p.Name] = map[netip.Addr]freed{}
				}
			}
			m.pools = pools
			m.attribute()
			a.SetPools(pools)
			a.Serve(now)
			m.settle(now)
		}
		t.Repeat(map[string]func(*rapid.T){
			"allocate": func(t *rapid.T) {
				k := key.Draw(t, "service")
				if _, ok := born[k]; !ok {
					born[k] = now
				}
				allocate(drawRequest(t, k, born[k]))
			},
			"release": func(t *rapid.T) {
				k := key.Draw(t, "service")
				a.Release(k, now)
				for _, addr := range m.grants[k] {
					m.cool(addr, now)
					delete(m.from, addr)
				}
				delete(m.grants, k)
				delete(m.refused, k)
				delete(m.requests, k)
				delete(born, k)
				m.settle(now)
			},
			"pools": func(t *rapid.T) {
				var pools []lb.Pool
				for _, name := range []string{"p0", "p1", "p2"} {
					if rapid.IntRange(0, 3).Draw(t, "there") > 0 {
						pools = append(pools, drawPool(t, name))
					} else if p, ok := m.inUse(name); ok { // its finalizer holds it
						p.Deleting = true
						pools = append(pools, p)
					}
				}
				setPools(pools)
			},
			"wait": func(t *rapid.T) {
				now = now.Add(time.Duration(rapid.IntRange(1, 70).Draw(t, "seconds")) * time.Second)
			},
			"restart": func(t *rapid.T) {
				a = restart(a, m)
				for _, k := range m.byAge() {
					m.refused[k] = nil
					for _, g := range a.Holds(k) { // of several pools that overlap, any may be the origin
						m.from[g.Addr] = g.Pool
					}
				}
				for _, p := range m.pools {
					m.cooling[p.Name] = map[netip.Addr]freed{}
				}
				before := fmt.Sprint(m.grants)
				for _, k := range m.byAge() {
					allocate(m.requests[k])
				}
				if after := fmt.Sprint(m.grants); after != before {
					t.Fatalf("a restart moved addresses: %s became %s", before, after)
				}
			},
			"": func(t *rapid.T) { compare(t, a, m) },
		})
	})
}

// restart returns an allocator restored from what the API server would have.
func restart(old *Allocator, m *model) *Allocator {
	a := New()
	a.SetPools(m.pools)
	retiring := map[netip.Addr]string{}
	for _, p := range m.pools {
		u, _ := old.Usage(p.Name)
		for _, r := range u.Retiring {
			retiring[r.Addr] = p.Name
		}
	}
	for _, k := range m.byAge() {
		a.Restore(m.requests[k], m.grants[k], retiring)
	}
	return a
}

// compare checks that both agree on who has what, and the books add up.
func compare(t *rapid.T, a *Allocator, m *model) {
	seen := map[netip.Addr]lb.ServiceKey{}
	for k := range m.requests {
		got := lb.Decision{Grants: a.Holds(k)}.Addresses()
		if !slices.Equal(got, m.grants[k]) {
			t.Fatalf("%s has %v; the model says %v", k, got, m.grants[k])
		}
		for _, addr := range got {
			if other, twice := seen[addr]; twice {
				t.Fatalf("%s is both %s's and %s's", addr, other, k)
			}
			seen[addr] = k
			if o, ok := a.owners[addr]; !ok || o != k {
				t.Fatalf("%s is %s's, but the owners say %s", addr, k, o)
			}
		}
	}
	if len(a.owners) != len(seen) {
		t.Fatalf("%d addresses have owners; Services have %d", len(a.owners), len(seen))
	}
	for _, p := range m.pools {
		checkUsage(t, a, p, seen)
	}
}

func checkUsage(t *rapid.T, a *Allocator, p lb.Pool, seen map[netip.Addr]lb.ServiceKey) {
	u, ok := a.Usage(p.Name)
	if !ok {
		t.Fatalf("pool %s has no usage", p.Name)
	}
	free := map[lb.Family]uint64{}
	for _, addr := range addresses(p) {
		if _, used := seen[addr]; !used && (!p.AvoidBuggyIPs || !isBuggy(addr)) {
			free[lb.FamilyOf(addr)]++
		}
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		if u.Available[f] != free[f] {
			t.Fatalf("pool %s says %d %s addresses are available; there are %d", p.Name, u.Available[f], f, free[f])
		}
	}
}
