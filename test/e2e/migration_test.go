package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// ownGossipPort is Fairlead's where MetalLB has the usual one.
const ownGossipPort = "--gossip-port=7949"

// mostMoved is what a client may lose by one hand-over of an address.
const mostMoved = time.Second

// metallb is a MetalLB that runs in the lab, from its own source.
type metallb struct {
	*corner
	dir        string // of its binaries
	controller *lab.Process
	speakers   []*lab.Process
	said       map[*lab.Process]int64 // where its part of the log begins
}

// buildMetalLB builds MetalLB, which takes minutes the first time.
func buildMetalLB(t *testing.T) string {
	t.Helper()
	dir, err := filepath.Abs("../../bin/metallb")
	must(t, err)
	must(t, os.MkdirAll(dir, 0o755))
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", dir+"/", "go.universe.tf/metallb/controller", "go.universe.tf/metallb/speaker")
	cmd.Dir = "../metallb"
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build MetalLB: %v\n%s", err, out)
	}
	return dir
}

// run starts one of its programs, which find the cluster as pods do by KUBECONFIG.
func (m *metallb) run(t *testing.T, h *lab.Host, name, program string, args ...string) *lab.Process {
	t.Helper()
	argv := append([]string{"env", "KUBECONFIG=" + m.Kubeconfig(lab.Admin), filepath.Join(m.dir, program), "--namespace=metallb-system"}, args...)
	p, err := h.Start(name, argv...)
	must(t, err)
	return p
}

// startController starts the controller, without webhooks, which need pods.
func (m *metallb) startController(t *testing.T) {
	t.Helper()
	m.controller = m.run(t, m.ControlPlane, "metallb-controller", "controller", "--webhook-mode=disabled", "--disable-cert-rotation")
}

// startSpeakers starts a speaker on each node, with memberlist, as its manifests do, and
// waits until they have met: before, each takes addresses that are another's then.
func (m *metallb) startSpeakers(t *testing.T) {
	t.Helper()
	m.speakers, m.said = nil, map[*lab.Process]int64{}
	for _, n := range m.Nodes {
		m.pod(t, n)
		name := "metallb-speaker-" + n.Name
		begin := int64(0)
		if before := m.Process(name); before != nil {
			log, err := os.Stat(before.Log())
			must(t, err)
			begin = log.Size()
		}
		p := m.run(t, n, name, "speaker", "--node-name="+n.Name, "--pod-name=speaker-"+n.Name,
			"--ml-bindaddr="+n.IPv4.String(), "--ml-bindport=7946", "--ml-labels=app=metallb,component=speaker")
		m.speakers, m.said[p] = append(m.speakers, p), begin
	}
	lab.Eventually(t, 2*soon, func() error {
		for _, p := range m.speakers {
			joined := strings.Join(lines(m.log(t, p), `"NodeJoin"`), "")
			for _, n := range m.Nodes {
				if !strings.Contains(joined, `"`+n.Name+`"`) {
					return fmt.Errorf("%s has not met the speaker of %s", p.Name, n.Name)
				}
			}
		}
		return nil
	})
}

// log returns what a speaker has said since it was started.
func (m *metallb) log(t *testing.T, p *lab.Process) string {
	t.Helper()
	b, err := os.ReadFile(p.Log())
	must(t, err)
	return string(b[m.said[p]:])
}

// untilAnnounced waits until one of the speakers says that it announces an address.
func (m *metallb) untilAnnounced(t *testing.T, a netip.Addr) {
	t.Helper()
	lab.Eventually(t, 2*soon, func() error {
		for _, p := range m.speakers {
			for _, l := range lines(m.log(t, p), `"serviceAnnounced"`) {
				if strings.Contains(l, `"`+a.String()+`"`) {
					return nil
				}
			}
		}
		return fmt.Errorf("no speaker of MetalLB says that it announces %s", a)
	})
}

// pod makes the Pod that a speaker looks for: there are no kubelets here.
func (m *metallb) pod(t *testing.T, n *lab.Host) {
	t.Helper()
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "metallb-system", Name: "speaker-" + n.Name,
			Labels: map[string]string{"app": "metallb", "component": "speaker"},
		},
		Spec: corev1.PodSpec{NodeName: n.Name, HostNetwork: true, Containers: []corev1.Container{{Name: "speaker", Image: "none"}}},
	}
	must(t, client.IgnoreAlreadyExists(m.api.Create(t.Context(), pod)))
	must(t, m.api.Get(t.Context(), client.ObjectKeyFromObject(pod), pod))
	pod.Status.PodIP = n.IPv4.String()
	pod.Status.PodIPs = []corev1.PodIP{{IP: n.IPv4.String()}}
	must(t, m.api.Status().Update(t.Context(), pod))
}

func (m *metallb) stopController(t *testing.T) { stopAll(t, m.controller) }

func (m *metallb) stopSpeakers(t *testing.T) { stopAll(t, m.speakers...) }

// TestMigrationFromMetalLB is the path of docs/migration.md, there and back, with the
// real MetalLB and under a client's load: no address changes, and a client loses no
// more than one hand-over.
func TestMigrationFromMetalLB(t *testing.T) {
	lab.Require(t)
	dir := buildMetalLB(t)
	c := bare.corner(t)
	c.installMetalLB(t)
	m, f := &metallb{corner: c, dir: dir}, &fairlead{corner: c}
	m.startController(t)
	m.startSpeakers(t)
	c.apply(t, "testdata/metallb.yaml")

	web := c.service(t, "web", dualStack)
	c.backends(t, web)
	api := c.service(t, "api", annotated("metallb.io/loadBalancerIPs", "172.30.0.155"))
	c.backends(t, api)
	addresses := c.addresses(t, web)
	had := map[string][]netip.Addr{"web": addresses, "api": c.addresses(t, api)}
	unchanged := func(when string) {
		t.Helper()
		for _, svc := range []*corev1.Service{web, api} {
			must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
			if diff := cmp.Diff(had[svc.Name], ingress(svc), cmp.Comparer(func(x, y netip.Addr) bool { return x == y })); diff != "" {
				t.Fatalf("%s: the addresses of %s changed (-had +has):\n%s", when, svc.Name, diff)
			}
		}
	}
	v4 := addresses[slices.IndexFunc(addresses, netip.Addr.Is4)]
	served(t, c.Client, v4)
	first := c.owner(t, v4)
	t.Logf("MetalLB gave %v, and %s answers for %s", addresses, first, v4)

	watch, err := c.Observer.WatchNeighbour(v4)
	must(t, err)
	t.Cleanup(watch.Stop)
	load := probes{}
	for _, a := range addresses {
		served(t, c.Client, a)
		p := c.Client.ProbeUDP(netip.AddrPortFrom(a, 80), lab.ProbeOptions{FreshPort: true})
		t.Cleanup(func() { p.Stop() })
		load[a] = p
	}
	load.goesOn(t)

	// 1. Beside it: nothing happens.
	f.start(t, []string{"--handle-classless=false"}, ownGossipPort)
	t.Cleanup(func() { c.forget(t, "lan") })
	out, err := c.importing(t, "metallb", "--apply")
	must(t, err)
	if n := len(lines(out, " created ")); n != 2 {
		t.Errorf("want a pool and an advertisement made, got:\n%s", out)
	}
	load.goesOn(t)
	unchanged("with both installed")
	if owner := c.owner(t, v4); owner != first {
		t.Errorf("%s answers, before the hand-over; it was %s", owner, first)
	}

	// 2. MetalLB gives no more addresses; Fairlead takes all Services over.
	m.stopController(t)
	f.stopController(t)
	f.stopSpeakers(t)
	f.start(t, nil, ownGossipPort)
	for _, svc := range []*corev1.Service{web, api} {
		c.untilService(t, svc, assigned, true, "Assigned")
		c.untilService(t, svc, announced, true, "Announced")
	}
	unchanged("with Fairlead announcing too")
	load.goesOn(t)

	// 3. MetalLB goes.
	m.stopSpeakers(t)
	onlyOwner(t, watch, soon)
	load.goesOn(t)
	unchanged("without MetalLB")
	load.tolerable(t, "on the way there")

	// And the way back.
	f.stopController(t)
	m.startController(t)
	m.startSpeakers(t)
	m.untilAnnounced(t, v4)
	f.stopSpeakers(t)
	onlyOwner(t, watch, soon)
	load.goesOn(t)
	unchanged("back with MetalLB")
	// It gives addresses again, and not one that is taken.
	another := c.service(t, "another")
	if got := c.addresses(t, another); slices.Contains(addresses, got[0]) {
		t.Errorf("MetalLB gave %v again", got)
	}
	load.tolerable(t, "there and back")
	m.stopSpeakers(t)
	m.stopController(t)
}

// TestMigrationByBGP moves node by node, as a router takes one session from each.
func TestMigrationByBGP(t *testing.T) {
	lab.Require(t)
	dir := buildMetalLB(t)
	c := &bgpCorner{corner: bare.corner(t)}
	c.installMetalLB(t)
	router, err := c.AddRouter(t.Context(), lab.RouterSpec{Kind: lab.FRR})
	must(t, err)
	m, f := &metallb{corner: c.corner, dir: dir}, &fairlead{corner: c.corner}
	m.startController(t)
	m.startSpeakers(t)
	c.apply(t, "testdata/metallb-bgp.yaml")
	web := c.service(t, "web")
	c.backends(t, web)
	a := c.addresses(t, web)[0]
	route, routers := netip.PrefixFrom(a, 32), []*lab.Router{router}
	all := []string{"n1", "n2", "n3"}
	c.untilVia(t, established, routers, route, all...)
	served(t, router.Client, a)
	load := probes{a: router.Client.ProbeUDP(netip.AddrPortFrom(a, 80), lab.ProbeOptions{FreshPort: true})}
	t.Cleanup(func() { load[a].Stop() })
	load.goesOn(t)

	f.start(t, []string{"--handle-classless=false"}, ownGossipPort)
	t.Cleanup(func() { c.forget(t, "routed") })
	const moved = "fairlead.dev/moved"
	_, err = c.importing(t, "metallb", "--apply", "--peers-on", moved+"=true")
	must(t, err)
	m.stopController(t)
	f.stopController(t)
	f.stopSpeakers(t)
	f.start(t, nil, ownGossipPort)
	t.Cleanup(func() { f.stopSpeakers(t) })
	t.Cleanup(func() { f.stopController(t) })
	c.untilService(t, web, assigned, true, "Assigned")
	c.untilService(t, web, announced, false, "NoCandidate", "no BGPPeer")
	load.goesOn(t)
	c.untilVia(t, established, routers, route, all...)

	for n, node := range all {
		stopAll(t, m.speakers[n])
		_, err := c.Kubectl(t.Context(), "label", "node", node, moved+"=true")
		must(t, err)
		t.Cleanup(func() { c.Kubectl(context.Background(), "label", "node", node, moved+"-") })
		lab.Eventually(t, established, func() error {
			var peer v1alpha1.BGPPeer
			if err := c.api.Get(t.Context(), client.ObjectKey{Name: "r2"}, &peer); err != nil {
				return err
			}
			return says(peer.Status.Conditions, ready, true, v1alpha1.ReasonEstablished, fmt.Sprintf("Established %d/%d", n+1, n+1))
		})
		c.untilVia(t, established, routers, route, all...)
		load.goesOn(t)
		load.tolerable(t, "with "+node+" moved")
	}
	out, err := c.importing(t, "metallb", "--apply")
	must(t, err)
	if n := len(lines(out, "bgppeer.fairlead.dev/r2 configured")); n != 1 {
		t.Errorf("the peer is still kept to nodes with a label:\n%s", out)
	}
	load.goesOn(t)
	c.untilVia(t, soon, routers, route, all...)
	c.has(t, web, a.String())
	load.tolerable(t, "at the end")
}

// forget deletes what was imported by this name. There is no controller any more that
// would let the pool go.
func (c *corner) forget(t *testing.T, name string) {
	ctx := context.Background()
	pool := &v1alpha1.IPAddressPool{ObjectMeta: meta1(name)}
	must(t, c.api.Get(ctx, client.ObjectKeyFromObject(pool), pool))
	pool.Finalizers = nil
	must(t, c.api.Update(ctx, pool))
	for _, o := range []client.Object{
		pool, &v1alpha1.L2Advertisement{ObjectMeta: meta1(name)}, &v1alpha1.BGPAdvertisement{ObjectMeta: meta1(name)}, &v1alpha1.BGPPeer{ObjectMeta: meta1("r2")},
	} {
		must(t, client.IgnoreNotFound(c.api.Delete(ctx, o)))
	}
}

// probes are clients that ask an address each.
type probes map[netip.Addr]*lab.Probe

// goesOn waits until all have got some more answers.
func (p probes) goesOn(t *testing.T) {
	t.Helper()
	for _, probe := range p {
		answered(t, probe, 50)
	}
}

func (p probes) tolerable(t *testing.T, when string) {
	t.Helper()
	for a, probe := range p {
		r := probe.Report()
		t.Logf("%s, %s: %v", when, a, r)
		if r.LongestOutage > mostMoved {
			t.Errorf("%s a client of %s was without service for %v", when, a, r.LongestOutage)
		}
	}
}
