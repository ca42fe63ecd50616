package bgp

import (
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// bird starts BIRD with one neighbour, who is this node.
func (r *router) bird(neighbour string, more ...string) *bird {
	return r.birdWith("", neighbour, more...)
}

func (r *router) birdWith(head, neighbour string, more ...string) *bird {
	r.t.Helper()
	dir, err := os.MkdirTemp("", "bird") // short, as socket addresses are
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { os.RemoveAll(dir) })
	b := &bird{router: r, socket: filepath.Join(dir, "ctl")}
	write(r.t, dir+"/bird.conf", fmt.Sprintf(`
router id 192.0.2.1;
protocol device { scan time 1; }
%s
protocol bgp node {
  local as 64513;
  neighbor %s as 64512;
  connect delay time 1; error wait time 1, 2;
  %s
}
`, head, neighbour, strings.Join(more, "\n  ")))
	r.daemon("bird", "-f", "-c", dir+"/bird.conf", "-s", b.socket, "-P", dir+"/pid")
	eventually(r.t, "BIRD to start", func() bool { return strings.Contains(b.birdc("show", "status"), "up and running") })
	return b
}

const (
	birdFamilies = "ipv4 { import all; export none; }; ipv6 { import all; export none; };"
	birdExtended = "ipv4 { import all; export none; extended next hop on; }; ipv6 { import all; export none; };"
)

type bird struct {
	*router
	socket string
}

func (b *bird) birdc(args ...string) string {
	out, _ := b.command("birdc", append([]string{"-s", b.socket}, args...)...).CombinedOutput()
	return string(out)
}

// wantRoute waits until BIRD's words about a route have these among them.
func (b *bird) wantRoute(prefix string, words ...string) {
	b.t.Helper()
	var got string
	defer func() {
		if b.t.Failed() {
			b.t.Logf("BIRD has %s; want %q", got, words)
		}
	}()
	eventually(b.t, "the route to "+prefix, func() bool {
		got = b.birdc("show", "route", "all", prefix)
		for _, w := range words {
			if !strings.Contains(got, w) {
				return false
			}
		}
		return true
	})
}

func TestBIRD(t *testing.T) {
	t.Run("IPv4", func(t *testing.T) {
		b := newRouter(t).bird("192.0.2.11", birdFamilies)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{
			route("198.51.100.1/32", func(r *lb.BGPRoute) {
				r.MED, r.Prepend = lb.Some[uint32](50), 1
				r.Communities = []lb.Community{{A: 65000, B: 1}, {Large: true, A: 64512, B: 1, C: 2}}
			}),
			route("2001:db8:1::1/128", nil),
		})
		established(t, e, "tor")
		b.wantRoute("198.51.100.1/32", "BGP.as_path: 64512 64512", "BGP.med: 50", "BGP.next_hop: 192.0.2.11", "BGP.community: (65000,1)", "BGP.large_community: (64512, 1, 2)")
		b.wantRoute("2001:db8:1::1/128", "BGP.as_path: 64512", "BGP.next_hop: 2001:db8::11")
		if words := b.birdc("show", "protocols", "all", "node"); !strings.Contains(words, "Established") || !strings.Contains(words, "Restart time: 120") {
			t.Errorf("BIRD has %s", words)
		}
		e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.2/32", nil)})
		b.wantRoute("198.51.100.1/32", "Network not found")
		b.wantRoute("2001:db8:1::1/128", "Network not found")
		b.wantRoute("198.51.100.2/32", "BGP.as_path: 64512\n")
	})
	t.Run("IPv6 with extended next hops", func(t *testing.T) {
		b := newRouter(t).bird("2001:db8::11", birdExtended)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.Address = router6 })}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
		b.wantRoute("198.51.100.1/32", "BGP.next_hop: 2001:db8::11")
		b.wantRoute("2001:db8:1::1/128", "BGP.next_hop: 2001:db8::11")
	})
	t.Run("unnumbered", func(t *testing.T) {
		r := newRouter(t)
		b := r.bird("range fe80::/10", `interface "eth0"; dynamic name "node";`, birdExtended)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(r.unnumbered)},
			[]lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
		s := established(t, e, "tor")
		b.wantRoute("198.51.100.1/32", "BGP.next_hop: ", s.Local.String())
		b.wantRoute("2001:db8:1::1/128", "BGP.next_hop: ", s.Local.String())
	})
	t.Run("password and TTL security", func(t *testing.T) {
		b := newRouter(t).bird("192.0.2.11", `password "secret"; ttl security on;`, birdFamilies)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.Password, p.TTLSecurity = "secret", true })}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
		b.wantRoute("198.51.100.1/32", "BGP.next_hop: 192.0.2.11")
	})
	t.Run("graceful restart", func(t *testing.T) {
		b := newRouter(t).bird("192.0.2.11", "graceful restart on;", birdFamilies)
		rows := []lb.BGPRoute{route("198.51.100.1/32", nil), route("198.51.100.2/32", nil)}
		first := New(Config{Log: testLog(t)})
		first.Apply([]lb.BGPPeer{peer(nil)}, rows)
		b.wantRoute("198.51.100.2/32", "BGP.next_hop: 192.0.2.11")
		first.Close()
		eventually(t, "BIRD to wait for us", func() bool {
			return !strings.Contains(b.birdc("show", "protocols", "node"), "Established")
		})
		b.wantRoute("198.51.100.1/32", "BGP.next_hop: 192.0.2.11")
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(nil)}, rows[:1])
		established(t, e, "tor")
		b.wantRoute("198.51.100.2/32", "Network not found")
		b.wantRoute("198.51.100.1/32", "BGP.next_hop: 192.0.2.11")
	})
	t.Run("wrong AS", func(t *testing.T) {
		newRouter(t).bird("192.0.2.11", birdFamilies)
		e := newEngine(t)
		e.Apply([]lb.BGPPeer{peer(func(p *lb.BGPPeer) { p.MyASN = 64999 })}, nil)
		eventually(t, "words", func() bool {
			return strings.Contains(sessionOf(e, "tor").LastError, "it expects another AS number than 64999, which this node sent")
		})
	})
}

// What a router announces is not even kept in memory.
func TestImportsNothing(t *testing.T) {
	var static strings.Builder
	static.WriteString("protocol static { ipv4;\n")
	const routes = 100_000
	for i := range routes {
		fmt.Fprintf(&static, "route 10.%d.%d.%d/32 blackhole;\n", i>>16, i>>8&255, i&255)
	}
	static.WriteString("}\n")
	b := newRouter(t).birdWith(static.String(), "192.0.2.11", "ipv4 { import all; export all; }; ipv6 { import all; export all; };")
	e := newEngine(t)
	before := heap()
	e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil)})
	b.wantRoute("198.51.100.1/32", "BGP.next_hop: 192.0.2.11")
	within(t, 30*time.Second, "all routes to be sent", func() bool {
		return strings.Contains(b.birdc("show", "protocols", "all", "node"), fmt.Sprintf("%d exported", routes))
	})
	eventually(t, "an UPDATE more", func() bool { return sessionOf(e, "tor").UpdatesReceived > 50 })
	after := heap()
	t.Logf("heap %d KiB before, %d KiB with %d routes of the router; %d UPDATEs", before>>10, after>>10, routes, sessionOf(e, "tor").UpdatesReceived)
	if after > before+4<<20 {
		t.Errorf("heap grew from %d to %d KiB", before>>10, after>>10)
	}
	if s := sessionOf(e, "tor"); s.State != Established || s.TimesLost != 0 {
		t.Errorf("session is %+v", s)
	}
}

func heap() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}
