package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// second is another address of n1.
var second = netip.MustParseAddr("172.30.0.91")

// One peer is edited from one form to the next, and each time FRR says what kind of
// session it has with n1, and has the route.
func TestBGPSessionForms(t *testing.T) {
	c := unpeered(t)
	c.advertise(t, "all")
	c.addSecond(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "form"}, Data: map[string][]byte{"password": []byte("hush")}}
	c.create(t, secret)
	p := c.peer(t, "form", c.Routers()[0].IPv4, ofNodes("n1"))
	plain := p.Spec.DeepCopy()
	_, a := c.serve(t)
	prefix := host(a)
	first := c.Node("n1").IPv4
	for _, tt := range []struct {
		name      string
		form      func(*v1alpha1.BGPPeerSpec)
		frr, undo []string
		from      netip.Addr     // which is also the next hop
		says      map[string]any // of the session, in FRR's words
		path      string
	}{
		{
			name: "plain", form: func(*v1alpha1.BGPPeerSpec) {}, from: first, path: "64513",
			says: map[string]any{"remoteRouterId": "172.30.0.11", "bgpTimerHoldTimeMsecs": 9000., "portLocal": 179.},
		},
		{
			name: "router ID and timers", from: first, path: "64513",
			form: func(s *v1alpha1.BGPPeerSpec) {
				s.RouterID, s.HoldTime, s.KeepaliveTime = "192.0.2.77", &metav1.Duration{Duration: 6 * time.Second}, &metav1.Duration{Duration: time.Second}
			},
			says: map[string]any{"remoteRouterId": "192.0.2.77", "bgpTimerHoldTimeMsecs": 6000.},
		},
		{
			name: "localASN", form: func(s *v1alpha1.BGPPeerSpec) { s.LocalASN = 64999 }, from: first, path: "64999",
			frr: []string{"neighbor fairlead remote-as 64999"}, undo: []string{"neighbor fairlead remote-as 64513"},
		},
		{
			name: "dynamicASN external", form: func(s *v1alpha1.BGPPeerSpec) { s.PeerASN, s.DynamicASN = 0, v1alpha1.DynamicASNExternal },
			from: first, path: "64513",
		},
		{
			name: "dynamicASN internal", from: first, path: "Local",
			form: func(s *v1alpha1.BGPPeerSpec) {
				s.MyASN, s.PeerASN, s.DynamicASN = lab.RouterASN, 0, v1alpha1.DynamicASNInternal
			},
			frr: []string{"neighbor fairlead remote-as 64512"}, undo: []string{"neighbor fairlead remote-as 64513"},
		},
		{
			name: "ttlSecurity", form: func(s *v1alpha1.BGPPeerSpec) { s.TTLSecurity = true }, from: first, path: "64513",
			frr: []string{"neighbor 172.30.0.11 ttl-security hops 1"}, undo: []string{"no neighbor 172.30.0.11 ttl-security hops 1"},
		},
		{
			name: "password", form: func(s *v1alpha1.BGPPeerSpec) { s.PasswordSecret = &v1alpha1.PasswordSecret{Name: "form"} }, from: first, path: "64513",
			frr: []string{"neighbor fairlead password hush"}, undo: []string{"no neighbor fairlead password"},
		},
		{
			name: "sourceAddress", form: func(s *v1alpha1.BGPPeerSpec) { s.SourceAddress = v1alpha1.IPAddress(second.String()) }, from: second, path: "64513",
			frr: []string{"neighbor 172.30.0.91 peer-group fairlead"}, undo: []string{"no neighbor 172.30.0.91 peer-group fairlead"},
		},
		{
			name: "passive", form: func(s *v1alpha1.BGPPeerSpec) { s.Passive = true }, from: first, path: "64513",
			frr: []string{"neighbor 172.30.0.11 timers connect 1"}, undo: []string{"no neighbor 172.30.0.11 timers connect"},
			says: map[string]any{"portForeign": 179.},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if len(tt.frr) > 0 {
				t.Cleanup(func() { c.tellFRR(t, tt.undo...) })
				c.tellFRR(t, tt.frr...)
			}
			c.change(t, p, func() {
				plain.DeepCopyInto(&p.Spec)
				tt.form(&p.Spec)
			})
			lab.Eventually(t, established, func() error { return c.frrSays(t.Context(), tt.from, tt.says) })
			c.untilPath(t, c.Routers()[0], prefix, tt.from, tt.path)
			c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 1/1")
			for _, n := range c.Nodes {
				c.untilListening(t, n, n.Name == "n1" && p.Spec.Passive)
			}
		})
	}
	c.remove(t, p)
	c.untilListening(t, c.Node("n1"), false)
}

// addSecond gives n1 its second address until the test ends.
func (c *bgpCorner) addSecond(t *testing.T) {
	t.Helper()
	words := func(verb string) {
		_, err := c.Node("n1").Exec(context.Background(), "ip", "addr", verb, second.String()+"/24", "dev", "eth0")
		must(t, err)
	}
	words("add")
	t.Cleanup(func() { words("del") })
}

// frrSays checks what r2 says of its session with a neighbour, which is to be up.
func (c *bgpCorner) frrSays(ctx context.Context, neighbour netip.Addr, want map[string]any) error {
	out, err := c.Routers()[0].Command(ctx, fmt.Sprintf("show bgp neighbors %s json", neighbour))
	if err != nil {
		return err
	}
	var all map[string]map[string]any
	if err := json.Unmarshal(out, &all); err != nil {
		return fmt.Errorf("FRR's neighbour: %w", err)
	}
	got := all[neighbour.String()]
	if got["bgpState"] != "Established" {
		return fmt.Errorf("the session with %s is %v", neighbour, got["bgpState"])
	}
	for key, value := range want {
		if !reflect.DeepEqual(got[key], value) {
			return fmt.Errorf("of %s FRR says %s: %v, want %v", neighbour, key, got[key], value)
		}
	}
	return nil
}

// untilPath waits until the router has a path to the prefix from a peer, who is the
// next hop, with this AS path.
func (c *bgpCorner) untilPath(t *testing.T, r *lab.Router, p netip.Prefix, from netip.Addr, asPath string) {
	t.Helper()
	lab.Eventually(t, established, func() error {
		routes, err := r.Routes(t.Context())
		for _, path := range routes[p].Paths {
			if path.Peer == from && path.NextHop == from && path.ASPath == asPath {
				return err
			}
		}
		if err == nil {
			err = fmt.Errorf("%s has of %s %+v, want the path %q from %s", r.Name, p, routes[p], asPath, from)
		}
		return err
	})
}

// untilListening waits until the node listens for routers, or does not.
func (c *bgpCorner) untilListening(t *testing.T, n *lab.Host, want bool) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		out, err := n.Exec(t.Context(), "ss", "-Hltn", "sport = :179")
		at := strings.Contains(string(out), n.IPv4.String()+":179")
		if err == nil && (at != want || at != (len(out) > 0)) {
			err = fmt.Errorf("%s listens at %q, want that: %v", n.Name, out, want)
		}
		return err
	})
}

// BIRD has a port of its own, a password and TTL security for n1, all at once.
func TestBGPSessionWithBIRD(t *testing.T) {
	c := unpeered(t)
	c.advertise(t, "all")
	r3 := c.Routers()[1]
	c.reloadBIRD(t, "protocol bgp n1_4 from node4 { neighbor 172.30.0.11 as 64513; }",
		`protocol bgp n1_4 from node4 { local port 1790 as 64512; neighbor 172.30.0.11 as 64513; password "hush"; ttl security on; }`)
	c.create(t, &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "r3"}, Data: map[string][]byte{"key": []byte("hush")}})
	p := c.peer(t, "r3", r3.IPv4, ofNodes("n1"), func(p *v1alpha1.BGPPeer) {
		p.Spec.PeerPort, p.Spec.TTLSecurity, p.Spec.PasswordSecret = 1790, true, &v1alpha1.PasswordSecret{Name: "r3", Key: "key"}
	})
	c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 1/1")
	_, a := c.serve(t)
	c.untilPath(t, r3, host(a), c.Node("n1").IPv4, "64513")
}

// reloadBIRD changes a line of r3's recipe until the test ends.
func (c *bgpCorner) reloadBIRD(t *testing.T, line, instead string) {
	t.Helper()
	recipe, err := lab.Recipe(lab.BIRD)
	must(t, err)
	if !strings.Contains(recipe, line) {
		t.Fatalf("BIRD's recipe has no line %q", line)
	}
	r3 := c.Routers()[1]
	t.Cleanup(func() { must(t, r3.Reload(context.Background(), recipe)) })
	must(t, r3.Reload(t.Context(), strings.Replace(recipe, line, instead, 1)))
}

// Routers on the clients behind r2 and r3, one hop further away than these.
const (
	furtherFRR = `
ip nht resolve-via-default
router bgp 64512
 no bgp ebgp-requires-policy
{{range .Nodes}} neighbor {{.IPv4}} remote-as 64513
 neighbor {{.IPv4}} ebgp-multihop 3
 neighbor {{.IPv4}} bfd
 neighbor {{.IPv4}} timers connect 1
{{end}}`
	furtherBIRD = `
protocol device { }
protocol bfd { multihop { interval 300 ms; multiplier 3; }; }
protocol static { ipv4; route 172.30.0.0/24 via 172.31.3.1; }
{{range .Nodes}}
protocol bgp {
	local {{$.Router.IPv4}} as 64512; neighbor {{.IPv4}} as 64513; multihop 3; bfd on;
	error wait time 1, 1; connect retry time 1;
	ipv4 { import all; export none; };
}
{{end}}`
)

// Routers that are several hops away have sessions with ebgpMultiHop, and BFD in the
// form for that (RFC 5883). Without it the peer says that it may be needed.
func TestBGPMultihop(t *testing.T) {
	c := unpeered(t)
	c.advertise(t, "all")
	// BIRD sends such packets with a TTL of 64, FRR with 255.
	c.create(t, &v1alpha1.BFDProfile{ObjectMeta: meta1("far"), Spec: v1alpha1.BFDProfileSpec{MinimumTTL: 63}})
	for i, spec := range []lab.RouterSpec{{Kind: lab.FRR, Config: furtherFRR}, {Kind: lab.BIRD, Config: furtherBIRD}} {
		spec.On = c.Routers()[i].Client.Name
		profile := v1alpha1.ObjectName("fast")
		if spec.Kind == lab.BIRD {
			profile = "far"
		}
		further := c.further(t, spec)
		p := c.peer(t, further.Name, further.IPv4)
		c.untilPeer(t, p, false, v1alpha1.ReasonNotEstablished, "if the router is more than one hop away, set ebgpMultiHop")
		c.change(t, p, func() { p.Spec.EBGPMultiHop, p.Spec.BFDProfile = true, profile })
		c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 3/3")
	}
	_, a := c.serve(t)
	prefix := host(a)
	for _, further := range c.Lab.Routers()[2:] {
		for _, n := range c.Nodes {
			c.untilPath(t, further, prefix, n.IPv4, "64513")
		}
		lab.Eventually(t, established, func() error {
			sessions, err := further.BFD(t.Context())
			up := 0
			for _, s := range sessions {
				if s.Up {
					up++
				}
			}
			if err == nil && up != 3 {
				err = fmt.Errorf("%s has BFD sessions %+v, want 3 that are up", further.Name, sessions)
			}
			return err
		})
	}
	for _, p := range c.peers { // BFD is up here, too
		c.until(t, p, func() error {
			if got := told(p.Status.Conditions); !strings.HasSuffix(got, `"Established 3/3"`) {
				return fmt.Errorf("%s says %s", p.Name, got)
			}
			return nil
		})
	}
}

// further adds a router that runs until the test ends, or starts it again.
func (c *bgpCorner) further(t *testing.T, spec lab.RouterSpec) *lab.Router {
	t.Helper()
	for _, r := range c.Lab.Routers() {
		if r.Name == spec.On {
			must(t, r.Start(t.Context()))
			t.Cleanup(func() { must(t, r.Stop(context.Background())) })
			return r
		}
	}
	r, err := c.AddRouter(t.Context(), spec)
	must(t, err)
	t.Cleanup(func() { must(t, r.Stop(context.Background())) })
	return r
}

// What a router announces is nowhere: not in a node's routes, and not in its memory.
func TestBGPImportsNothing(t *testing.T) {
	const routes = 50_000
	c := unpeered(t)
	c.advertise(t, "all")
	c.peer(t, "r3", c.Routers()[1].IPv4)
	_, a := c.serve(t)
	prefix := host(a)
	c.untilVia(t, established, c.Routers()[1:], prefix, allNodes...)
	before := memory(t, c.Process("speaker-n1"))
	var static strings.Builder
	for i := range routes {
		fmt.Fprintf(&static, "\troute 10.99.%d.%d/32 blackhole;\n", i>>8, i&255)
	}
	line := "protocol bgp n1_4 from node4 { neighbor 172.30.0.11 as 64513; }"
	c.reloadBIRD(t, line, "protocol static { ipv4;\n"+static.String()+"}\n"+strings.Replace(line, "}", "ipv4 { export where source = RTS_STATIC; }; }", 1))
	lab.Eventually(t, established, func() error {
		out, err := c.Routers()[1].Command(t.Context(), "show protocols all n1_4")
		if err == nil && !strings.Contains(string(out), fmt.Sprintf("%d exported", routes)) {
			err = fmt.Errorf("BIRD has not sent all: %s", out)
		}
		return err
	})
	lab.Eventually(t, soon, func() error { return c.allRead(t.Context(), c.Routers()[1], c.Node("n1")) })
	if out, err := c.Node("n1").Exec(t.Context(), "ip", "route", "show", "root", "10.99.0.0/16"); err != nil || len(out) > 0 {
		t.Errorf("n1 took routes from its router: %.200s %v", out, err)
	}
	if after := memory(t, c.Process("speaker-n1")); after > before+16 {
		t.Errorf("the speaker grew from %d to %d MB by %d routes of its router", before, after, routes)
	}
	c.untilVia(t, soon, c.Routers()[1:], prefix, allNodes...)
}

// allRead checks that a node has read all that a router has sent to it.
func (c *bgpCorner) allRead(ctx context.Context, r *lab.Router, n *lab.Host) error {
	for _, end := range []struct{ from, to *lab.Host }{{r.Host, n}, {n, r.Host}} {
		out, err := end.from.Exec(ctx, "ss", "-Htn", "state", "established", "dst", end.to.IPv4.String())
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) < 2 || f[0] != "0" || f[1] != "0" {
				return fmt.Errorf("%s has data under way: %s", end.from.Name, line)
			}
		}
	}
	return nil
}

// memory is what a process has in memory, in megabytes.
func memory(t *testing.T, p *lab.Process) (mb int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.PID))
	must(t, err)
	_, rss, _ := strings.Cut(string(status), "VmRSS:")
	_, err = fmt.Sscan(rss, &mb)
	must(t, err)
	return mb >> 10
}

// A router that takes fewer routes than there are ends the session, and the peer
// says so.
func TestBGPRouterHasALimit(t *testing.T) {
	c := unpeered(t)
	c.advertise(t, "all")
	t.Cleanup(func() { c.tellFRR(t, "address-family ipv4 unicast", "no neighbor 172.30.0.11 maximum-prefix") })
	c.tellFRR(t, "address-family ipv4 unicast", "neighbor 172.30.0.11 maximum-prefix 1")
	r2 := c.Routers()[0]
	p := c.peer(t, "r2", r2.IPv4, ofNodes("n1"))
	for _, name := range []string{"web", "mail", "shop"} { // FRR counts before it takes another
		svc := c.service(t, name)
		c.backends(t, svc)
	}
	c.untilPeer(t, p, false, v1alpha1.ReasonNotEstablished, "maximum number of prefixes reached", "raise the limit, or advertise fewer with aggregationLength")
	c.tellFRR(t, "address-family ipv4 unicast", "neighbor 172.30.0.11 maximum-prefix 9")
	_, err := r2.Command(t.Context(), "clear bgp 172.30.0.11")
	must(t, err)
	c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 1/1")
}

// A VRF of the node has a router of its own.
func TestBGPInVRF(t *testing.T) {
	c := unpeered(t)
	n1 := c.Node("n1")
	if _, err := n1.Exec(t.Context(), "ip", "link", "add", "red", "type", "vrf", "table", "100"); err != nil {
		t.Skipf("this kernel has no VRF (CONFIG_NET_VRF), so that none can be given to a node: %v", err)
	}
	t.Cleanup(func() { n1.Exec(context.Background(), "ip", "link", "delete", "red") })
	c.advertise(t, "all")
	r2 := c.Routers()[0]
	c.cable(t, r2, n1)
	for _, words := range []string{"link set red up", "link set r2 master red", "addr add 192.0.2.11/24 dev r2"} {
		_, err := n1.Exec(t.Context(), append([]string{"ip"}, strings.Fields(words)...)...)
		must(t, err)
	}
	_, err := r2.Exec(t.Context(), "ip", "addr", "add", "192.0.2.2/24", "dev", "n1")
	must(t, err)
	t.Cleanup(func() { c.tellFRR(t, "no neighbor 192.0.2.11 peer-group fairlead") })
	c.tellFRR(t, "neighbor 192.0.2.11 peer-group fairlead")
	p := c.peer(t, "red", netip.MustParseAddr("192.0.2.2"), ofNodes("n1"), func(p *v1alpha1.BGPPeer) { p.Spec.VRF = "red" })
	c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 1/1")
	_, a := c.serve(t)
	c.untilPath(t, r2, host(a), netip.MustParseAddr("192.0.2.11"), "64513")
}
