package lab_test

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// frrSpeaker makes FRR on a node announce what a speaker would.
const frrSpeaker = `
frr defaults traditional
bfd
 profile fairlead
  receive-interval 300
  transmit-interval 300
 exit
exit
route-map out permit 10
 set community 65000:1 no-export
 set large-community 65000:1:2
 set metric 7
exit
route-map nothing deny 10
exit
router bgp 64513
 no bgp default ipv4-unicast
 no bgp network import-check
{{range $ip := list "172.30.0.2" "172.30.0.3" "fd30::2" "fd30::3"}}
 neighbor {{$ip}} remote-as 64512
 neighbor {{$ip}} bfd profile fairlead
 neighbor {{$ip}} timers connect 1
{{end}}
 address-family ipv4 unicast
  network 10.30.0.1/32
{{range $ip := list "172.30.0.2" "172.30.0.3"}}
  neighbor {{$ip}} activate
  neighbor {{$ip}} route-map out out
  neighbor {{$ip}} route-map nothing in
{{end}}
 exit-address-family
 address-family ipv6 unicast
  network fd10:30::1/128
{{range $ip := list "fd30::2" "fd30::3"}}
  neighbor {{$ip}} activate
  neighbor {{$ip}} route-map out out
  neighbor {{$ip}} route-map nothing in
{{end}}
 exit-address-family
exit
`

// birdSpeaker does the same with BIRD.
const birdSpeaker = `
protocol device { }
protocol bfd { interface "*" { interval 300 ms; multiplier 3; }; }
protocol static { ipv4; route 10.30.0.1/32 blackhole; }
protocol static { ipv6; route fd10:30::1/128 blackhole; }
filter announce {
	if source != RTS_STATIC then reject;
	bgp_community.add((65000, 1));
	bgp_community.add((65535, 65281));
	bgp_large_community.add((65000, 1, 2));
	bgp_med = 7;
	accept;
}
{{range $i, $ip := list "172.30.0.2" "172.30.0.3"}}
protocol bgp { local as 64513; neighbor {{$ip}} as 64512; bfd on; error wait time 1, 1; connect retry time 1; ipv4 { import none; export filter announce; }; }
{{end}}
{{range $i, $ip := list "fd30::2" "fd30::3"}}
protocol bgp { local as 64513; neighbor {{$ip}} as 64512; bfd on; error wait time 1, 1; connect retry time 1; ipv6 { import none; export filter announce; }; }
{{end}}
`

var (
	announced = []netip.Prefix{netip.MustParsePrefix("10.30.0.1/32"), netip.MustParsePrefix("fd10:30::1/128")}
	one4      = announced[0]
)

// TestRouters: FRR and BIRD run from the recipes as they are, learn an address
// from three nodes, and send a client's flows to all of them. What happens to
// nodes and routers is seen, in time.
func TestRouters(t *testing.T) {
	l := lab.New(t, lab.Options{Nodes: 3})
	ctx := t.Context()
	r2 := addRouter(t, l, lab.RouterSpec{Kind: lab.FRR})
	r3 := addRouter(t, l, lab.RouterSpec{Kind: lab.BIRD})
	n1 := addRouter(t, l, lab.RouterSpec{Kind: lab.FRR, On: "n1", Config: frrSpeaker})
	addRouter(t, l, lab.RouterSpec{Kind: lab.FRR, On: "n2", Config: frrSpeaker})
	addRouter(t, l, lab.RouterSpec{Kind: lab.BIRD, On: "n3", Config: birdSpeaker})
	routers := []*lab.Router{r2, r3}

	svc := makeService(t, l, "web")
	setIngress(t, l, svc, announced[0].Addr(), announced[1].Addr())
	for _, n := range l.Nodes {
		_, err := l.AddBackend(ctx, lab.BackendSpec{Service: "web", Name: "web-" + n.Name, Node: n.Name})
		must(t, err)
	}
	for _, r := range routers {
		for _, to := range announced {
			lab.Eventually(t, 30*time.Second, nextHops(l, r, to, "n1", "n2", "n3"))
		}
		lab.Eventually(t, 10*time.Second, func() error { return allUp(ctx, r, 6) })
		assertPaths(t, r)
	}

	t.Run("clients behind routers", func(t *testing.T) {
		for _, r := range routers {
			for _, to := range announced {
				p := r.Client.ProbeUDP(netip.AddrPortFrom(to.Addr(), 80), lab.ProbeOptions{FreshPort: true})
				lab.Eventually(t, 5*time.Second, func() error {
					if report := p.Report(); len(report.Nodes) < 3 || report.Answered < 50 {
						return fmt.Errorf("want answers of 3 nodes: %v", report)
					}
					return nil
				})
				t.Logf("%s (%s): %s", r.Name, r.Kind, p.Stop())
			}
		}
	})

	t.Run("withdraw and announce", func(t *testing.T) {
		w2, w3 := watchRoutes(t, r2), watchRoutes(t, r3)
		for i, words := range []string{"no network", "network"} {
			since := time.Now()
			_, err := n1.Command(ctx, "configure terminal", "router bgp 64513", "address-family ipv4 unicast", words+" 10.30.0.1/32")
			must(t, err)
			seen(t, w2, 2+i, since, words)
			seen(t, w3, 2+i, since, words)
		}
	})

	t.Run("cable of a node", func(t *testing.T) {
		w2, w3 := watchRoutes(t, r2), watchRoutes(t, r3)
		since := time.Now()
		must(t, l.Node("n2").PullCable())
		seen(t, w2, 2, since, "cable pulled")
		seen(t, w3, 2, since, "cable pulled")
		must(t, l.Node("n2").PlugCable())
		for _, r := range routers {
			lab.Eventually(t, 30*time.Second, nextHops(l, r, one4, "n1", "n2", "n3"))
		}
	})

	t.Run("reload", func(t *testing.T) { testReload(t, l, routers) })
	t.Run("partition, restart, crash", func(t *testing.T) { testRouterFaults(t, l, routers) })
	t.Run("unnumbered", func(t *testing.T) { testUnnumbered(t, l, r2, n1) })
}

// testReload: a change of the configuration takes effect and resets nobody, and
// one that cannot be read is an error.
func testReload(t *testing.T, l *lab.Lab, routers []*lab.Router) {
	ctx := t.Context()
	for _, r := range routers {
		lab.Eventually(t, 10*time.Second, func() error { return allUp(ctx, r, 6) })
		resets := countResets(t, r)
		config, err := lab.Recipe(r.Kind)
		must(t, err)
		single := strings.NewReplacer("maximum-paths 64", "maximum-paths 1", "merge paths on limit 64", "merge paths off").Replace(config)
		must(t, r.Reload(ctx, single))
		lab.Eventually(t, 10*time.Second, func() error {
			routes, err := r.FIB()
			if err == nil && len(routes[one4]) != 1 {
				err = fmt.Errorf("%s has %v, want one next hop", r.Name, routes)
			}
			return err
		})
		must(t, r.Reload(ctx, config))
		lab.Eventually(t, 10*time.Second, nextHops(l, r, one4, "n1", "n2", "n3"))
		if now := countResets(t, r); now != resets {
			t.Errorf("%s lost %d sessions by a reload", r.Name, now-resets)
		}
		if err := r.Reload(ctx, config+"\nnonsense\n"); err == nil {
			t.Errorf("%s takes nonsense for a configuration", r.Name)
		}
		must(t, r.Reload(ctx, config))
	}
}

func testRouterFaults(t *testing.T, l *lab.Lab, routers []*lab.Router) {
	ctx := t.Context()
	all := func(f func(*lab.Router) error) {
		for _, r := range routers {
			must(t, f(r))
		}
	}
	leadTo := func(nodes ...string) {
		for _, r := range routers {
			lab.Eventually(t, 30*time.Second, nextHops(l, r, one4, nodes...))
		}
	}
	must(t, l.Partition([]string{"n1"}, []string{routers[0].Name, routers[1].Name}))
	leadTo("n2", "n3")
	must(t, l.Heal())
	leadTo("n1", "n2", "n3")

	all(func(r *lab.Router) error { return r.Stop(ctx) })
	leadTo()
	all(func(r *lab.Router) error { return r.Start(ctx) })
	leadTo("n1", "n2", "n3")

	all((*lab.Router).Freeze)
	all((*lab.Router).Thaw)
	all((*lab.Router).Kill)
	leadTo("n1", "n2", "n3") // a dead daemon removes nothing
	all(func(r *lab.Router) error { return r.PowerOff() })
	all(func(r *lab.Router) error { return r.PowerOn(ctx) })
	leadTo("n1", "n2", "n3")
}

// testUnnumbered: a session over a direct cable without addresses carries
// routes of IPv4 with a link-local next hop (RFC 8950).
func testUnnumbered(t *testing.T, l *lab.Lab, r2, n1 *lab.Router) {
	ctx := t.Context()
	must(t, r2.Cable(ctx, l.Node("n1")))
	for _, end := range []struct {
		r         *lab.Router
		asn, peer string
	}{{r2, "64512", "n1"}, {n1, "64513", "r2"}} {
		_, err := end.r.Command(ctx, "configure terminal", "route-map all permit 10", "exit", "router bgp "+end.asn,
			"neighbor "+end.peer+" interface remote-as external", "neighbor "+end.peer+" timers connect 1",
			"address-family ipv4 unicast", "neighbor "+end.peer+" activate",
			"neighbor "+end.peer+" route-map all in", "neighbor "+end.peer+" route-map all out")
		must(t, err)
	}
	_, err := n1.Command(ctx, "configure terminal", "router bgp 64513", "address-family ipv4 unicast", "network 10.30.0.9/32")
	must(t, err)
	lab.Eventually(t, 30*time.Second, func() error {
		routes, err := r2.FIB()
		if via := routes[netip.MustParsePrefix("10.30.0.9/32")]; err == nil && !slices.ContainsFunc(via, func(ip netip.Addr) bool { return ip.Zone() == "n1" }) {
			err = fmt.Errorf("next hops are %v, want one on the cable", via)
		}
		return err
	})
	sessions, err := r2.Sessions(ctx)
	must(t, err)
	if !slices.ContainsFunc(sessions, func(s lab.BGPSession) bool { return s.Name == "n1" && s.Established && s.Peer.IsLinkLocalUnicast() }) {
		t.Errorf("no unnumbered session in %+v", sessions)
	}
}

func addRouter(t *testing.T, l *lab.Lab, spec lab.RouterSpec) *lab.Router {
	t.Helper()
	r, err := l.AddRouter(t.Context(), spec)
	must(t, err)
	return r
}

func watchRoutes(t *testing.T, r *lab.Router) *lab.RouteWatch {
	t.Helper()
	w, err := r.WatchRoutes()
	must(t, err)
	t.Cleanup(func() {
		w.Stop()
		must(t, w.Err())
		t.Logf("%s (%s):\n%s", r.Name, r.Kind, w)
	})
	return w
}

// seen waits until a watch has seen the number of next hops change, and tells
// how long that took.
func seen(t *testing.T, w *lab.RouteWatch, nextHops int, since time.Time, why string) {
	t.Helper()
	lab.Eventually(t, 20*time.Second, func() error {
		if w.When(one4, nextHops, since).IsZero() {
			return fmt.Errorf("%s: no change to %d next hops", why, nextHops)
		}
		return nil
	})
	t.Logf("%s: seen after %v", why, w.When(one4, nextHops, since).Sub(since).Round(time.Millisecond))
}

// nextHops says whether a route leads to exactly these nodes.
func nextHops(l *lab.Lab, r *lab.Router, to netip.Prefix, want ...string) func() error {
	return func() error {
		routes, err := r.FIB()
		if err != nil {
			return err
		}
		var got []string
		for _, ip := range routes[to] {
			got = append(got, l.NodeByIP(ip))
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			return fmt.Errorf("%s sends %s to %v, want %v", r.Name, to, got, want)
		}
		return nil
	}
}

// allUp says whether so many sessions are established, and BFD is up for each.
func allUp(ctx context.Context, r *lab.Router, want int) error {
	sessions, err := r.Sessions(ctx)
	if err != nil {
		return err
	}
	bfd, err := r.BFD(ctx)
	if err != nil {
		return err
	}
	established := 0
	for _, s := range sessions {
		if s.Established && s.PeerASN == lab.ClusterASN && s.Received4+s.Received6 == 1 && time.Since(s.Since) < 5*time.Minute {
			established++
		}
	}
	up := 0
	for _, s := range bfd {
		if s.Up && s.Interval == 300*time.Millisecond && s.Detect == 900*time.Millisecond {
			up++
		}
	}
	if established != want || up != want {
		return fmt.Errorf("%s: %d established, %d with BFD, want %d: %+v %+v", r.Name, established, up, want, sessions, bfd)
	}
	return nil
}

func countResets(t *testing.T, r *lab.Router) int {
	t.Helper()
	sessions, err := r.Sessions(t.Context())
	must(t, err)
	resets := 0
	for _, s := range sessions {
		resets += s.Resets
	}
	return resets
}

// assertPaths: the attributes that nodes send arrive, and are read.
func assertPaths(t *testing.T, r *lab.Router) {
	t.Helper()
	routes, err := r.Routes(t.Context())
	must(t, err)
	for _, to := range announced {
		route := routes[to]
		if len(route.Paths) != 3 || len(route.NextHops) != 3 {
			t.Errorf("%s: %s is %+v, want 3 paths and next hops", r.Name, to, route)
		}
		best := 0
		for _, p := range route.Paths {
			if p.Best {
				best++
			}
			if p.ASPath != "64513" || p.Origin != "IGP" || p.MED == nil || *p.MED != 7 || p.Stale || p.Peer != p.NextHop ||
				!slices.Equal(p.Communities, []string{"65000:1", "65535:65281"}) || !slices.Equal(p.LargeCommunities, []string{"65000:1:2"}) {
				t.Errorf("%s: %s has path %+v", r.Name, to, p)
			}
		}
		if best != 1 {
			t.Errorf("%s: %s has %d best paths", r.Name, to, best)
		}
	}
}
