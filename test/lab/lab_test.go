package lab_test

import (
	"bufio"
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// beOwner, set in the environment, makes this test binary a program that starts
// a lab, of nodes that run pods if it is ownsPods, says so and waits to be killed.
const (
	beOwner  = "FAIRLEAD_LAB_TEST_OWNER"
	ownsPods = "pods"
)

func TestMain(m *testing.M) {
	if os.Getenv(beOwner) == "" {
		os.Exit(m.Run())
	}
	l, err := lab.Start(context.Background(), lab.Options{Nodes: 1, Pods: os.Getenv(beOwner) == ownsPods})
	if err == nil {
		_, err = l.AddRouter(context.Background(), lab.RouterSpec{Kind: lab.FRR})
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(l.ID)
	select {}
}

// TestTraffic: what a node asks a Service's cluster IP reaches a backend on
// another node through the real kube-proxy, and the backend tells the truth.
func TestTraffic(t *testing.T) {
	l := lab.New(t, lab.Options{Nodes: 2})
	ctx := t.Context()
	svc := makeService(t, l, "web")
	b, err := l.AddBackend(ctx, lab.BackendSpec{Service: "web", Name: "web-1", Node: "n2"})
	if err != nil {
		t.Fatal(err)
	}
	n1 := l.Node("n1")
	for _, clusterIP := range svc.Spec.ClusterIPs {
		to := netip.AddrPortFrom(netip.MustParseAddr(clusterIP), 80)
		source := n1.IPv4
		if to.Addr().Is6() {
			source = n1.IPv6
		}
		probes := map[string]func() *lab.Probe{
			"UDP":      func() *lab.Probe { return n1.ProbeUDP(to) },
			"UDP anew": func() *lab.Probe { return n1.ProbeUDP(to, lab.ProbeOptions{FreshPort: true}) },
			"HTTP":     func() *lab.Probe { return n1.ProbeHTTP(to) },
		}
		for name, start := range probes {
			t.Run(name+" "+clusterIP, func(t *testing.T) {
				p := start()
				defer p.Stop()
				lab.Eventually(t, 5*time.Second, func() error {
					if r := p.Report(); r.Nodes["n2"] < 20 || r.Sources[source] < 20 {
						return fmt.Errorf("want 20 answers from n2 to %s: %v", source, r)
					}
					return nil
				})
			})
		}
	}

	t.Run("far client through a node port", func(t *testing.T) {
		port := svc.Spec.Ports[0].NodePort
		for _, ip := range []netip.Addr{n1.IPv4, n1.IPv6} {
			lab.Eventually(t, 5*time.Second, func() error {
				out, err := l.Far.Exec(ctx, "curl", "-sSm1", "http://"+netip.AddrPortFrom(ip, uint16(port)).String())
				if err == nil && !strings.HasPrefix(string(out), "node=n2 backend=web-1 client=") {
					err = fmt.Errorf("answer %q", out)
				}
				return err
			})
		}
	})

	t.Run("endpoint conditions", func(t *testing.T) {
		to := netip.AddrPortFrom(netip.MustParseAddr(svc.Spec.ClusterIP), 80)
		p := n1.ProbeHTTP(to)
		defer p.Stop()
		if err := b.SetReady(ctx, false); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 5*time.Second, func() error {
			if _, err := n1.Exec(ctx, "curl", "-sm1", "http://"+to.String()); err == nil {
				return fmt.Errorf("a backend that is not ready still gets traffic")
			}
			return nil
		})
		if err := b.SetReady(ctx, true); err != nil {
			t.Fatal(err)
		}
		lab.Eventually(t, 5*time.Second, func() error {
			_, err := n1.Exec(ctx, "curl", "-sSm1", "http://"+to.String())
			return err
		})
		if err := b.Remove(ctx); err != nil {
			t.Fatal(err)
		}
	})
}

// TestAddressOnTheLAN: a probe sees a pulled cable as an outage, and a watch
// sees who answers for an address, that it moved, and two who do at once.
func TestAddressOnTheLAN(t *testing.T) {
	l := lab.New(t, lab.Options{Nodes: 2})
	addresses := []netip.Addr{netip.MustParseAddr("172.30.0.100"), netip.MustParseAddr("fd30::100")}
	svc := makeService(t, l, "web")
	setIngress(t, l, svc, addresses...)
	if _, err := l.AddBackend(t.Context(), lab.BackendSpec{Service: "web", Name: "web-1", Node: "n2"}); err != nil {
		t.Fatal(err)
	}
	for _, ip := range addresses {
		t.Run(ip.String(), func(t *testing.T) { testAddressOnTheLAN(t, l, ip) })
	}
}

func testAddressOnTheLAN(t *testing.T, l *lab.Lab, ip netip.Addr) {
	n1, n2 := l.Node("n1"), l.Node("n2")
	own(t, n1, ip)
	w, err := l.Observer.WatchNeighbour(ip)
	must(t, err)
	defer w.Stop()
	p := l.Client.ProbeUDP(netip.AddrPortFrom(ip, 80))
	defer p.Stop()
	served := func(n int) func() error {
		return func() error {
			if r := p.Report(); r.Nodes["n2"] < n {
				return fmt.Errorf("want %d answers: %v", n, r)
			}
			return nil
		}
	}
	answering := func(want string) func() error {
		return func() error {
			if got := fmt.Sprint(w.Answering(100 * time.Millisecond)); got != want {
				return fmt.Errorf("%v answer for %s, want %v", got, ip, want)
			}
			return nil
		}
	}
	lab.Eventually(t, 5*time.Second, served(50))
	lab.Eventually(t, 5*time.Second, answering("[n1]"))

	must(t, n1.PullCable())
	lab.Eventually(t, 5*time.Second, func() error {
		if r := p.Report(); r.LongestOutage < 200*time.Millisecond {
			return fmt.Errorf("no outage after the cable was pulled: %v", r)
		}
		return nil
	})
	lab.Eventually(t, 5*time.Second, answering("[]"))

	own(t, n2, ip) // which nobody announces, so the client has to ask again
	_, err = l.Client.Exec(t.Context(), "ip", "neigh", "flush", "all")
	must(t, err)
	lab.Eventually(t, 5*time.Second, served(p.Report().Nodes["n2"]+50))
	lab.Eventually(t, 5*time.Second, answering("[n2]"))
	if changes := w.Changes(); len(changes) != 2 || changes[0].Node != "n1" || changes[1].Node != "n2" {
		t.Errorf("changes are %v, want n1, then n2", w)
	}
	if d := w.Overlap(); d != 0 {
		t.Errorf("two answered at once for %v, but one at a time had the address", d)
	}

	must(t, n1.PlugCable())
	lab.Eventually(t, 5*time.Second, answering("[n1 n2]"))
	lab.Eventually(t, 5*time.Second, func() error {
		if d := w.Overlap(); d < 100*time.Millisecond {
			return fmt.Errorf("two answer, but overlap is %v", d)
		}
		return nil
	})

	must(t, l.Partition([]string{"n1"}, []string{"client", "observer"}))
	lab.Eventually(t, 5*time.Second, answering("[n2]"))
	must(t, l.Heal())
	lab.Eventually(t, 5*time.Second, answering("[n1 n2]"))
	who, err := l.Observer.Who([]netip.Addr{ip, netip.MustParseAddr("172.30.0.149"), netip.MustParseAddr("fd30::149")}, 300*time.Millisecond)
	must(t, err)
	if got := fmt.Sprint(who); got != fmt.Sprintf("map[%s:[n1 n2]]", ip) {
		t.Errorf("who answers is %s, want n1 and n2 for %s, and nobody for addresses that nobody has", got, ip)
	}
	must(t, l.PartitionOneWay([]string{"n1"}, []string{"client", "observer"}))
	lab.Eventually(t, 5*time.Second, answering("[n2]"))
	must(t, l.Heal())
	lab.Eventually(t, 5*time.Second, answering("[n1 n2]"))
	must(t, l.Lose(10, "n2"))
	must(t, l.Lose(100, "n2"))
	lab.Eventually(t, 5*time.Second, answering("[n1]"))
	must(t, l.Heal())
	must(t, w.Err())
	t.Log(p.Stop())
}

// TestPower: a node without power is silent, and works again after a boot.
func TestPower(t *testing.T) {
	l := lab.New(t, lab.Options{Nodes: 1})
	n1 := l.Node("n1")
	must(t, n1.PowerOff())
	if p := l.Process("kube-proxy-n1"); p.Signal(0) == nil {
		t.Error("kube-proxy still runs without power")
	}
	must(t, n1.PowerOn(t.Context()))

	must(t, l.FreezeAPI())
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := l.Kubectl(ctx, "get", "nodes"); err == nil {
		t.Error("a frozen API server answers")
	}
	must(t, l.ThawAPI())
	must(t, l.KillAPI())
	must(t, l.StartAPI(t.Context()))
	out, err := l.Kubectl(t.Context(), "get", "nodes", "-o", "name")
	must(t, err)
	if string(out) != "node/n1\n" {
		t.Errorf("nodes are %q after the API server was restarted", out)
	}
}

// TestSideBySide: two labs with the same addresses know nothing of each other,
// and one that is kept can be attached to.
func TestSideBySide(t *testing.T) {
	lab.Require(t)
	labs := make([]*lab.Lab, 2)
	var g errgroup.Group
	for i := range labs {
		g.Go(func() (err error) {
			labs[i], err = lab.Start(t.Context(), lab.Options{Nodes: 1, Keep: i == 1})
			return err
		})
	}
	err := g.Wait()
	for _, l := range labs {
		if l != nil {
			t.Cleanup(func() { must(t, l.Close()) })
		}
	}
	must(t, err)

	_, err = labs[0].Kubectl(t.Context(), "create", "namespace", "mine")
	must(t, err)
	addRouter(t, labs[0], lab.RouterSpec{Kind: lab.FRR})
	addRouter(t, labs[1], lab.RouterSpec{Kind: lab.FRR})
	kept, err := lab.Open(labs[1].ID)
	must(t, err)
	if out, err := kept.Kubectl(t.Context(), "get", "namespace", "mine"); err == nil {
		t.Errorf("one lab sees the other's objects: %s", out)
	}
	must(t, labs[0].Close())
	assertGone(t, labs[0].ID)

	if p := kept.Process(lab.APIServer); p == nil || p.PID != labs[1].Process(lab.APIServer).PID {
		t.Errorf("attached to %+v, want the API server", p)
	}
	if _, err := kept.Kubectl(t.Context(), "get", "nodes"); err != nil {
		t.Errorf("a lab suffered from the end of another: %v", err)
	}
	if r := kept.Routers(); len(r) != 1 || len(r[0].Processes()) != 3 {
		t.Errorf("attached to routers %+v, want one with three daemons", r)
	} else if sessions, err := r[0].Sessions(t.Context()); err != nil || len(sessions) != 6 {
		t.Errorf("sessions of a router of a kept lab are %+v, %v", sessions, err)
	}
	must(t, kept.Close())
	assertGone(t, kept.ID)
}

// TestOwnerKilled: kill -9 of its owner leaves nothing of a lab.
func TestOwnerKilled(t *testing.T) {
	lab.Require(t)
	id, kill := startOwner(t, "1")
	if left := leftovers(t, id); len(left) < 5 {
		t.Errorf("a lab that is up consists of %v only", left)
	}
	kill()
	assertGone(t, id)
}

// startOwner has another process start a lab, and returns what kills it.
func startOwner(t *testing.T, kind string) (id string, kill func()) {
	t.Helper()
	self, err := os.Executable()
	must(t, err)
	owner := exec.Command(self)
	owner.Env = append(os.Environ(), beOwner+"="+kind)
	owner.Stderr = os.Stderr
	stdout, err := owner.StdoutPipe()
	must(t, err)
	must(t, owner.Start())
	kill = sync.OnceFunc(func() {
		must(t, owner.Process.Kill())
		_ = owner.Wait() // says that it was killed
	})
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		kill()
		t.Fatal(err)
	}
	return strings.TrimSpace(line), kill
}

// TestCancel: the end of the context is the end of the lab, even half way up.
func TestCancel(t *testing.T) {
	lab.Require(t)
	dir := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if _, err := lab.Start(ctx, lab.Options{Nodes: 1, Dir: dir}); err == nil {
		t.Skip("this machine brings up a lab within a second")
	}
	entries, err := os.ReadDir(dir)
	must(t, err)
	for _, e := range entries {
		if e.IsDir() {
			t.Errorf("%s is left", e.Name())
		}
	}
}

func makeService(t *testing.T, l *lab.Lab, name string) *corev1.Service {
	t.Helper()
	api, err := l.API()
	must(t, err)
	dual := corev1.IPFamilyPolicyRequireDualStack
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: &dual,
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)},
				{Name: "echo", Port: 80, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(8080)},
			},
		},
	}
	must(t, api.Create(t.Context(), svc))
	return svc
}

func setIngress(t *testing.T, l *lab.Lab, svc *corev1.Service, ips ...netip.Addr) {
	t.Helper()
	api, err := l.API()
	must(t, err)
	before := svc.DeepCopy()
	for _, ip := range ips {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip.String()})
	}
	must(t, api.Status().Patch(t.Context(), svc, client.MergeFrom(before)))
}

// own makes a node's kernel answer for an address, in place of a speaker.
func own(t *testing.T, h *lab.Host, ip netip.Addr) {
	t.Helper()
	_, err := h.Exec(t.Context(), "ip", "addr", "add", netip.PrefixFrom(ip, ip.BitLen()).String(), "dev", "eth0", "nodad")
	must(t, err)
}

func assertGone(t *testing.T, id string) {
	t.Helper()
	lab.Eventually(t, 10*time.Second, func() error {
		if left := leftovers(t, id); len(left) > 0 {
			return fmt.Errorf("of lab %s there is left: %v", id, left)
		}
		return nil
	})
}

// leftovers looks for a lab's things without asking the lab.
func leftovers(t *testing.T, id string) []string {
	left, err := filepath.Glob("/run/netns/fl-" + id + "-*")
	must(t, err)
	dirs, err := filepath.Glob("/run/fairlead-lab/" + id)
	must(t, err)
	left = append(left, dirs...)
	left = append(left, cgroups(t, "fl-"+id+"-*")...)
	processes, err := filepath.Glob("/proc/[0-9]*/environ")
	must(t, err)
	for _, p := range processes {
		environ, err := os.ReadFile(p)
		if err == nil && strings.Contains("\x00"+string(environ), "\x00FAIRLEAD_LAB="+id+"\x00") {
			left = append(left, p)
		}
	}
	return left
}

// cgroups are the folders of the cgroups with that name, in each hierarchy that
// there is.
func cgroups(t *testing.T, name string) (dirs []string) {
	t.Helper()
	for _, hierarchy := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found, err := filepath.Glob(hierarchy + name)
		must(t, err)
		dirs = append(dirs, found...)
	}
	return dirs
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
