package allocator

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

func svc(namespace, name string) lb.Holder {
	return lb.ServiceKey{Namespace: namespace, Name: name}.Holder()
}

func ranges(pairs ...string) []lb.Range {
	var out []lb.Range
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, lb.Range{From: netip.MustParseAddr(pairs[i]), To: netip.MustParseAddr(pairs[i+1])})
	}
	return out
}

// TestDecisionSaysWhy has every refusal, as the user reads it.
func TestDecisionSaysWhy(t *testing.T) {
	open := func(name string, r []lb.Range, change func(*lb.Pool)) lb.Pool {
		p := lb.Pool{Name: name, Created: epoch, Ranges: r, AutoAssign: true}
		if change != nil {
			change(&p)
		}
		return p
	}
	one := ranges("10.0.0.1", "10.0.0.1")
	wide := ranges("10.0.0.1", "10.0.0.9", "fd00::1", "fd00::9")
	v4 := []lb.Family{lb.IPv4}
	both := []lb.Family{lb.IPv4, lb.IPv6}
	exactly := func(s string) []netip.Addr { return []netip.Addr{netip.MustParseAddr(s)} }
	tests := []struct {
		name   string
		pools  []lb.Pool
		req    lb.Request
		reason lb.Reason
		want   string
	}{
		{"no pool", nil, lb.Request{Families: v4}, lb.ReasonNoPool,
			"no address: there is no IPAddressPool; create one"},
		{"unknown pool", []lb.Pool{open("p", wide, nil)}, lb.Request{Families: v4, Pool: "q"}, lb.ReasonUnknownPool,
			`no address: pool "q": there is no such IPAddressPool`},
		{"unknown pool, both families", []lb.Pool{open("p", wide, nil)}, lb.Request{Families: both, Pool: "q"}, lb.ReasonUnknownPool,
			`no address: pool "q": there is no such IPAddressPool`},
		{"disabled", []lb.Pool{open("p", wide, func(p *lb.Pool) { p.Disabled = true })}, lb.Request{Families: v4}, lb.ReasonPoolDisabled,
			`no address: pool "p": disabled`},
		{"deleting", []lb.Pool{open("p", wide, func(p *lb.Pool) { p.Deleting = true })}, lb.Request{Families: v4}, lb.ReasonPoolDeleting,
			`no address: pool "p": being deleted`},
		{"not automatic", []lb.Pool{open("p", wide, func(p *lb.Pool) { p.AutoAssign = false })}, lb.Request{Families: v4}, lb.ReasonNotAutoAssign,
			`no address: pool "p": autoAssign is false and the Service does not name it`},
		{"not automatic, but named", []lb.Pool{open("p", wide, func(p *lb.Pool) { p.AutoAssign = false })}, lb.Request{Families: v4, Pool: "p"}, lb.ReasonAssigned,
			`10.0.0.1 from pool "p"`},
		{"other namespace", []lb.Pool{open("p", wide, func(p *lb.Pool) { p.Namespaces = []string{"shop"} })}, lb.Request{Families: v4}, lb.ReasonNamespaceNotAllowed,
			`no address: pool "p": not for this namespace`},
		{"other labels", []lb.Pool{open("p", wide, func(p *lb.Pool) {
			p.ServiceSelectors = []lb.Selector{{{Key: "tier", Operator: lb.Exists}}}
		})}, lb.Request{Families: v4}, lb.ReasonServiceNotSelected,
			`no address: pool "p": its serviceSelectors do not match the Service's labels`},
		{"family absent", []lb.Pool{open("p", one, nil)}, lb.Request{Families: []lb.Family{lb.IPv6}}, lb.ReasonFamilyAbsent,
			`no address: pool "p": has no IPv6 addresses`},
		{"only one family of two", []lb.Pool{open("p", ranges("10.0.0.2", "10.0.0.2"), nil)}, lb.Request{Families: both}, lb.ReasonAssigned,
			`10.0.0.2 from pool "p", no IPv6 address: pool "p": has no IPv6 addresses`},
		{"both or none", []lb.Pool{open("p", ranges("10.0.0.2", "10.0.0.2"), nil)}, lb.Request{Families: both, RequireAll: true}, lb.ReasonFamilyAbsent,
			`no address: pool "p": has no IPv6 addresses`},
		{"exhausted", []lb.Pool{open("p", one, nil)}, lb.Request{Families: v4}, lb.ReasonExhausted,
			`no address: pool "p": no free IPv4 address (1 in use)`},
		{"address in use", []lb.Pool{open("p", one, nil)}, lb.Request{Families: v4, Addresses: exactly("10.0.0.1")}, lb.ReasonAddressInUse,
			`cannot assign 10.0.0.1: pool "p": the address is in use (by taken/first)`},
		{"address of no pool", []lb.Pool{open("p", wide, nil)}, lb.Request{Families: v4, Addresses: exactly("10.9.9.9")}, lb.ReasonAddressNotInPool,
			`cannot assign 10.9.9.9: pool "p": does not have the address`},
		{"address of a family not asked for", []lb.Pool{open("p", wide, nil)}, lb.Request{Families: v4, Addresses: exactly("fd00::5")}, lb.ReasonFamilyMismatch,
			`10.0.0.1 from pool "p", cannot assign fd00::5: the Service does not ask for IPv6 (fd00::5)`},
		{"overlap", []lb.Pool{open("p", wide, func(p *lb.Pool) { p.Disabled = true }), open("q", one, func(p *lb.Pool) { p.Created = epoch.Add(time.Hour) })},
			lb.Request{Families: v4, Pool: "q"}, lb.ReasonPoolOverlap,
			`no address: pool "q": overlaps an older pool ("p")`},
		{"several reasons", []lb.Pool{open("p", wide, func(p *lb.Pool) { p.Disabled = true }), open("q", one, func(p *lb.Pool) {
			p.Ranges, p.Namespaces = ranges("10.1.0.1", "10.1.0.1"), []string{"shop"}
		})}, lb.Request{Families: v4}, lb.ReasonNoPoolFits,
			`no address: pool "q": not for this namespace; pool "p": disabled`},
		{"addresses to avoid", []lb.Pool{open("p", ranges("10.0.0.255", "10.0.1.1"), func(p *lb.Pool) { p.AvoidBuggyIPs = true })}, lb.Request{Families: v4}, lb.ReasonAssigned,
			`10.0.1.1 from pool "p"`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a := New()
			a.SetPools(tt.pools)
			if tt.reason == lb.ReasonExhausted || tt.reason == lb.ReasonAddressInUse {
				a.Allocate(lb.Request{Holder: svc("taken", "first"), Families: v4}, epoch)
			}
			tt.req.Holder = svc("default", "web")
			d, _ := a.Allocate(tt.req, epoch)
			if diff := cmp.Diff(tt.want, d.String()); diff != "" {
				t.Errorf("the decision reads otherwise (-want +got):\n%s", diff)
			}
			if d.Reason() != tt.reason {
				t.Errorf("reason %s, want %s", d.Reason(), tt.reason)
			}
		})
	}
}

func TestPoolsAreAskedInOrder(t *testing.T) {
	a := New()
	a.SetPools([]lb.Pool{
		{Name: "a-last", Ranges: ranges("10.0.0.1", "10.0.0.1"), AutoAssign: true},
		{Name: "b-wide", Ranges: ranges("10.0.1.1", "10.0.1.1"), AutoAssign: true, Priority: 2},
		{Name: "c-narrow", Ranges: ranges("10.0.2.1", "10.0.2.1"), AutoAssign: true, Priority: 2, Namespaces: []string{"default"}},
		{Name: "d-first", Ranges: ranges("10.0.3.1", "10.0.3.1"), AutoAssign: true, Priority: 1},
	})
	var got []string
	for i := range 4 {
		d, _ := a.Allocate(lb.Request{
			Holder: svc("default", fmt.Sprint(i)), Families: []lb.Family{lb.IPv4},
		}, epoch)
		got = append(got, d.Grants[0].Pool)
	}
	if diff := cmp.Diff([]string{"d-first", "c-narrow", "b-wide", "a-last"}, got); diff != "" {
		t.Errorf("priority 1 first and 0 last, then the narrower, then by name (-want +got):\n%s", diff)
	}
}

func TestPoolSplitMovesNothing(t *testing.T) {
	a := New()
	whole := lb.Pool{Name: "whole", Created: epoch, Ranges: ranges("10.0.0.1", "10.0.0.8"), AutoAssign: true}
	a.SetPools([]lb.Pool{whole})
	req := lb.Request{Holder: svc("default", "web"), Families: []lb.Family{lb.IPv4}, Pool: "whole"}
	before, _ := a.Allocate(req, epoch)

	whole.Ranges = ranges("10.0.0.5", "10.0.0.8")
	half := lb.Pool{Name: "half", Created: epoch.Add(time.Hour), Ranges: ranges("10.0.0.1", "10.0.0.4"), AutoAssign: true}
	a.SetPools([]lb.Pool{whole, half})
	after, _ := a.Allocate(req, epoch)
	if diff := cmp.Diff(before.Addresses(), after.Addresses(), cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
		t.Errorf("the Service still names the pool it was given from; a split must not move it (-before +after):\n%s", diff)
	}
	if got := after.Grants[0].Pool; got != "half" {
		t.Errorf("the address counts to pool %q, want half", got)
	}
}

func TestHugePools(t *testing.T) {
	a := New()
	a.SetPools([]lb.Pool{{Name: "huge", AutoAssign: true, Ranges: ranges("10.0.0.0", "10.255.255.255", "fd00::", "fd00::ffff:ffff:ffff:ffff")}})
	d, _ := a.Allocate(lb.Request{
		Holder: svc("default", "web"), Families: []lb.Family{lb.IPv4, lb.IPv6},
	}, epoch)
	if got, want := d.String(), `10.0.0.0 from pool "huge", fd00:: from pool "huge"`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	u, _ := a.Usage("huge")
	if got := u.Available[lb.IPv4]; got != 1<<24-1 {
		t.Errorf("%d IPv4 addresses available, want 2^24-1", got)
	}
	if got := u.Available[lb.IPv6]; got != 1<<64-1 {
		t.Errorf("%d IPv6 addresses available, want 2^64-1, the most that can be said", got)
	}
}

// world is what has happened before the request that a test is about.
type world struct {
	*Allocator
	t *testing.T
}

func newWorld(t *testing.T, pools ...lb.Pool) *world {
	w := &world{New(), t}
	for i := range pools {
		pools[i].AutoAssign = true
	}
	w.SetPools(pools)
	return w
}

// ask makes a request of a Service "default/name" for IPv4, changed as told, and
// says that it is written.
func (w *world) ask(name string, change func(*lb.Request)) lb.Decision {
	w.t.Helper()
	req := lb.Request{Holder: svc("default", name), Created: epoch, Families: []lb.Family{lb.IPv4}, RequireAll: true}
	if change != nil {
		change(&req)
	}
	d, _ := w.Allocate(req, epoch)
	w.Written(req.Holder, epoch)
	return d
}

func shares(key, backends string, ports ...lb.Port) func(*lb.Request) {
	return func(r *lb.Request) { r.ShareKey, r.Backends, r.Ports = key, backends, ports }
}

func claim(r *lb.Request) { r.Holder.Kind = lb.KindClaim }

func names(claim string) func(*lb.Request) { return func(r *lb.Request) { r.Claim = claim } }

func in(namespace string, change func(*lb.Request)) func(*lb.Request) {
	return func(r *lb.Request) { r.Holder.Namespace = namespace; change(r) }
}

// TestSharingSaysWhyNot has what keeps two Services from sharing an address.
func TestSharingSaysWhyNot(t *testing.T) {
	const only = "10.0.0.1"
	http, https := ports[0], ports[2]
	tests := []struct {
		name    string
		sharing lb.Sharing
		first   func(*lb.Request)
		second  func(*lb.Request)
		want    string
	}{
		{"other ports", 0, shares("k", "", http), shares("k", "", https), `10.0.0.1 from pool "p"`},
		{"the same port", 0, shares("k", "", http), shares("k", "", https, http),
			`no address: pool "p": 10.0.0.1 cannot be shared: default/first uses TCP port 80 too`},
		{"no key", 0, shares("k", "", http), nil, `no address: pool "p": no free IPv4 address (1 in use)`},
		{"another key", 0, shares("k", "", http), shares("l", "", https), `no address: pool "p": no free IPv4 address (1 in use)`},
		{"another key, by address", 0, shares("k", "", http), func(r *lb.Request) {
			shares("l", "", https)(r)
			r.Addresses = []netip.Addr{netip.MustParseAddr(only)}
		}, `cannot assign 10.0.0.1: pool "p": 10.0.0.1 cannot be shared: the allow-shared-ip key of default/first is another`},
		{"other pods", 0, shares("k", "app=a", http), shares("k", "app=b", https),
			`no address: pool "p": 10.0.0.1 cannot be shared: externalTrafficPolicy and, if it is Local, the selector of default/first differ`},
		{"another namespace", 0, in("other", shares("k", "", http)), shares("k", "", https), `no address: pool "p": no free IPv4 address (1 in use)`},
		{"another namespace, by address", 0, in("other", shares("k", "", http)), func(r *lb.Request) {
			shares("k", "", https)(r)
			r.Addresses = []netip.Addr{netip.MustParseAddr(only)}
		}, `cannot assign 10.0.0.1: pool "p": 10.0.0.1 cannot be shared: with other/first, as the pool's sharing is Namespace`},
		{"another namespace, and the pool lets it", lb.SharingCluster, in("other", shares("k", "", http)), shares("k", "", https), `10.0.0.1 from pool "p"`},
		{"nobody may share", lb.SharingNever, shares("k", "", http), shares("k", "", https), `no address: pool "p": no free IPv4 address (1 in use)`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges(only, only), Sharing: tt.sharing})
			w.ask("first", tt.first)
			if diff := cmp.Diff(tt.want, w.ask("second", tt.second).String()); diff != "" {
				t.Errorf("the decision reads otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

// TestClaimSaysWhyNot has what keeps a Service from what a claim keeps.
func TestClaimSaysWhyNot(t *testing.T) {
	tests := []struct {
		name   string
		before func(w *world)
		want   string
	}{
		{"no claim", func(*world) {}, `no address: there is no IPAddressClaim "c" in the namespace`},
		{"kept", func(w *world) { w.ask("c", claim) }, `10.0.0.1 of IPAddressClaim "c", from pool "p"`},
		{"in use", func(w *world) { w.ask("c", claim); w.ask("other", names("c")) }, `no address: IPAddressClaim "c" is in use by default/other`},
		{"not written", func(w *world) {
			w.Allocate(lb.Request{Holder: lb.Claim("default", "c"), Families: []lb.Family{lb.IPv4}}, epoch)
		}, `no address: IPAddressClaim "c" has no address itself yet`},
		{"of another family", func(w *world) {
			w.ask("c", func(r *lb.Request) { claim(r); r.Families = []lb.Family{lb.IPv6} })
		}, `no address: IPAddressClaim "c" keeps no IPv4 address`},
		{"being deleted", func(w *world) {
			w.ask("c", claim)
			w.ask("c", func(r *lb.Request) { claim(r); r.Deleting = true })
		}, `no address: IPAddressClaim "c" is being deleted`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.9", "fd00::1", "fd00::9")})
			tt.before(w)
			if diff := cmp.Diff(tt.want, w.ask("web", names("c")).String()); diff != "" {
				t.Errorf("the decision reads otherwise (-want +got):\n%s", diff)
			}
		})
	}
}

func TestQuotaSaysWhy(t *testing.T) {
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.9"), MaxPerNamespace: 2})
	w.ask("a", nil)
	w.ask("c", claim) // counts too
	want := `no address: pool "p": the namespace has all 2 addresses that it can have (maxPerNamespace)`
	if diff := cmp.Diff(want, w.ask("b", nil).String()); diff != "" {
		t.Errorf("the decision reads otherwise (-want +got):\n%s", diff)
	}
	if got := w.ask("b", func(r *lb.Request) { r.Holder.Namespace = "other" }); !got.Met {
		t.Errorf("another namespace is not met: %s", got)
	}
}

// TestStory tells why an address is that one.
func TestStory(t *testing.T) {
	full := lb.Pool{Name: "full", Ranges: ranges("10.1.0.1", "10.1.0.1"), Priority: 1}
	w := newWorld(t, full, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.2")})
	stories := []string{
		w.ask("a", nil).Story(0),
		w.ask("b", nil).Story(0),
		w.ask("b", nil).Story(0),
		w.ask("c", func(r *lb.Request) { r.Addresses = []netip.Addr{netip.MustParseAddr("10.0.0.2")} }).Story(0),
	}
	w.Release(svc("default", "b"), epoch)
	stories = append(stories, w.ask("d", nil).Story(0))
	want := []string{
		`10.1.0.1 from pool "full", the lowest that is free`,
		`10.0.0.1 from pool "p", the lowest that is free (pool "full": no free IPv4 address (1 in use))`,
		`10.0.0.1 from pool "p"`,
		`10.0.0.2 from pool "p", as asked for (pool "full": does not have the address)`,
		`10.0.0.1 from pool "p", the one that has been free for longest (pool "full": no free IPv4 address (1 in use))`,
	}
	if diff := cmp.Diff(want, stories); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestGivenUpIsNotFreeBeforeItIsWritten: the API server still shows it.
func TestGivenUpIsNotFreeBeforeItIsWritten(t *testing.T) {
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.2")})
	w.ask("a", nil)
	move := lb.Request{Holder: svc("default", "a"), Families: []lb.Family{lb.IPv4}, Addresses: []netip.Addr{netip.MustParseAddr("10.0.0.2")}}
	w.Allocate(move, epoch)
	if d := w.ask("b", nil); len(d.Grants) > 0 {
		t.Fatalf("b has %s, which a's status has still", d)
	}
	if woken := w.Written(move.Holder, epoch); len(woken) != 1 || woken[0].Name != "b" {
		t.Errorf("%v are woken, want b", woken)
	}
	if got := w.Holds(svc("default", "b")); len(got) != 1 || got[0].Addr.String() != "10.0.0.1" {
		t.Errorf("b has %v", got)
	}
}

// TestAddressOfForeignHost: the Service that has it gets another, unless it named the address,
// and no other Service gets it until the host has gone.
func TestAddressOfForeignHost(t *testing.T) {
	bad, host := netip.MustParseAddr("10.0.0.1"), []lb.Block{{Reason: lb.ReasonConflict, Holder: "a host outside of the cluster"}}
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.3")})
	w.ask("a", nil)
	if woken := w.SetBlocks(bad, host, epoch); len(woken) != 1 || woken[0].Name != "a" {
		t.Errorf("%v are woken, want a", woken)
	}
	var got []string
	for _, name := range []string{"a", "b", "c"} {
		got = append(got, w.ask(name, nil).String())
	}
	got = append(got, w.ask("d", func(r *lb.Request) { r.Addresses = []netip.Addr{bad} }).String())
	w.Release(svc("default", "d"), epoch)
	w.available(t, 0)
	w.SetBlocks(bad, nil, epoch)
	got = append(got, w.ask("c", nil).String())
	want := []string{
		`10.0.0.2 from pool "p"`, `10.0.0.3 from pool "p"`, `no address: pool "p": no free IPv4 address (2 in use; nodes, other hosts or other Services have 1)`,
		`10.0.0.1 from pool "p"`, `10.0.0.1 from pool "p"`,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// TestKeyGivenUpBeforeTheOtherHasLeft: who has to give up a shared address, and has not
// said so yet, cannot keep it after all when the one that stays shares no more.
func TestKeyGivenUpBeforeTheOtherHasLeft(t *testing.T) {
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.1")})
	ask := func(name, key string, port uint16) lb.Decision {
		d, _ := w.Allocate(lb.Request{
			Holder: svc("default", name), Created: epoch, Families: []lb.Family{lb.IPv4}, RequireAll: true,
			ShareKey: key, Ports: []lb.Port{{Protocol: "TCP", Number: port}},
		}, epoch)
		return d
	}
	ask("leaves", "x", 443)
	ask("stays", "x", 80)
	ask("leaves", "x", 80) // a port of the other's
	ask("stays", "", 80)
	if got, want := ask("leaves", "x", 443).String(), `no address: pool "p": no free IPv4 address (1 in use)`; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// A Service keeps an address that a foreign host has while there is no other, and then it
// has an address.
func TestConflictWithoutAnotherAddress(t *testing.T) {
	bad := netip.MustParseAddr("10.0.0.1")
	w := newWorld(t, lb.Pool{Name: "p", Ranges: ranges("10.0.0.1", "10.0.0.2")})
	w.ask("a", nil)
	w.ask("b", nil)
	w.SetBlocks(bad, []lb.Block{{Reason: lb.ReasonConflict, Holder: "a host"}}, epoch)
	if d := w.ask("a", nil); !d.Met || len(d.Grants) != 1 || d.Grants[0].Addr != bad {
		t.Errorf("the Service has %v, met %t; want the address that it had, and to have what it asks for", d.Grants, d.Met)
	}
	w.Release(svc("default", "b"), epoch)
	if d := w.ask("a", nil); !d.Met || d.Grants[0].Addr == bad {
		t.Errorf("the Service has %v after another was freed, met %t", d.Grants, d.Met)
	}
}
