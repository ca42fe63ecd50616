package story

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/audit"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// TestStory is one story: each part begins where the one before it ended, and the
// first that goes wrong is the last that is told.
func TestStory(t *testing.T) {
	c := newCluster(t)
	for _, part := range []struct {
		name string
		tell func(*cluster, *testing.T)
	}{
		{"helm install", (*cluster).install},
		{"the first address", (*cluster).firstAddress},
		{"a router with BGP", (*cluster).addBGP},
		{"what it takes and what it may", (*cluster).measure},
		{"helm upgrade loses nothing", (*cluster).upgrade},
		{"new controllers lose nothing", (*cluster).replaceControllers},
		{"a drained owner loses nothing", (*cluster).drain},
		{"scaling and updating local endpoints loses nothing", (*cluster).updateWeb},
		{"an ingress controller", (*cluster).ingress},
		{"kubelet and cable of the owner die", (*cluster).loseNode},
		{"roles grant what was asked for", (*cluster).compareRoles},
		{"a stolen speaker token writes nothing for other nodes", (*cluster).useStolenToken},
		{"helm uninstall keeps what users made", (*cluster).uninstall},
		{"plain manifests find it again", (*cluster).applyManifests},
		{"helm install finds it again", (*cluster).installAgain},
		{"an upgrade from the commit before loses nothing", (*cluster).upgrade},
	} {
		if !t.Run(part.name, func(t *testing.T) { part.tell(c, t) }) {
			return
		}
	}
}

// install is what docs/install.md says, with no value set.
func (c *cluster) install(t *testing.T) {
	c.helm(t, "install", "fairlead", c.chart, "--create-namespace")
	c.untilFairleadRuns(t, c.first)
	if restarts := c.restarts(t); strings.Trim(restarts, "0 ") != "" {
		t.Errorf("containers were restarted %s times before they ran, want 0 each", restarts)
	}
}

// restarts are how often each of Fairlead's containers was restarted.
func (c *cluster) restarts(t *testing.T) string {
	t.Helper()
	return c.kubectl(t, "-n", lab.Namespace, "get", "pods", "-o", "jsonpath={.items[*].status.containerStatuses[*].restartCount}")
}

// firstAddress takes the two objects that a newcomer writes, and a web server.
func (c *cluster) firstAddress(t *testing.T) {
	c.kubectl(t, "apply", "-f", "../../examples/layer2.yaml", "-f", "testdata/web.yaml")
	c.rollOut(t, "default", "deployment/web")
	addresses := c.addresses(t, "web")
	if len(addresses) != 2 {
		t.Errorf("the Service has the addresses %v, want one of each family", addresses)
	}
	for _, a := range addresses {
		for _, from := range []*lab.Host{c.Client, c.Far} {
			if answer := served(t, from, netip.AddrPortFrom(a, 80)); !strings.HasPrefix(answer, "node=n") {
				t.Errorf("%s got %q from %s", from.Name, answer, a)
			}
		}
	}
}

// addBGP has a router lead to another Service by all nodes.
func (c *cluster) addBGP(t *testing.T) {
	r, err := c.AddRouter(t.Context(), lab.RouterSpec{Kind: lab.FRR})
	must(t, err)
	c.router = r
	c.kubectl(t, "apply", "-f", "testdata/bgp.yaml")
	a := c.addresses(t, "public")[0]
	c.untilVia(t, a, len(c.Nodes))
	served(t, r.Client, netip.AddrPortFrom(a, 80))
}

// untilVia waits until the router leads to the address by that many nodes.
func (c *cluster) untilVia(t *testing.T, a netip.Addr, nodes int) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		fib, err := c.router.FIB()
		if hops := fib[netip.PrefixFrom(a, a.BitLen())]; err == nil && len(hops) != nodes {
			err = fmt.Errorf("the router leads to %s by %v, want %d nodes", a, hops, nodes)
		}
		return err
	})
}

const (
	// mostMemory is what a program may hold on a small cluster, in bytes.
	mostMemory = 60 << 20
	// netRaw is what a process with the capability NET_RAW alone has (bit 13).
	netRaw = "0000000000002000"
	none   = "0000000000000000"
)

// measure looks at the processes in the pods: what they hold, and what they may.
func (c *cluster) measure(t *testing.T) {
	seen := map[string]int{}
	for _, n := range c.Nodes {
		for program, may := range map[string]string{"/speaker": netRaw, "/controller": none} {
			pids, err := n.PodProcesses(program)
			must(t, err)
			for _, pid := range pids {
				seen[program]++
				c.look(t, n, program, pid, may)
			}
		}
	}
	if seen["/speaker"] < len(c.Nodes) || seen["/controller"] != 2 {
		t.Errorf("there are %v, want a speaker on each node and two controllers", seen)
	}
}

// look compares a process's status, as the kernel tells it, with what is wanted.
func (c *cluster) look(t *testing.T, n *lab.Host, program string, pid int, may string) {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	must(t, err)
	status := map[string]string{}
	for line := range strings.Lines(string(b)) {
		key, value, _ := strings.Cut(line, ":")
		status[key] = strings.TrimSpace(value)
	}
	var held int64
	if _, err := fmt.Sscanf(status["VmRSS"], "%d kB", &held); err != nil {
		t.Fatalf("%s on %s: VmRSS is %q", program, n.Name, status["VmRSS"])
	}
	held <<= 10
	t.Logf("%s on %s holds %.1f MB (%s, at most %s), capabilities %s, seccomp %s", program, n.Name, float64(held)/1e6, status["RssAnon"], status["VmHWM"], status["CapEff"], status["Seccomp"])
	if held > mostMemory {
		t.Errorf("%s on %s holds %d bytes, want at most %d", program, n.Name, held, mostMemory)
	}
	// 2 is a filter: the container runtime's.
	want := map[string]string{"CapEff": may, "CapBnd": may, "NoNewPrivs": "1", "Seccomp": "2"}
	got := map[string]string{}
	for key := range want {
		got[key] = status[key]
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Errorf("what %s on %s may (-want +got):\n%s", program, n.Name, diff)
	}
}

// upgrade brings a new version of everything that is installed, with all of it in use.
func (c *cluster) upgrade(t *testing.T) {
	had := c.assigned(t)
	c.under(t, []string{"web", "local", "public"}, func() {
		c.helm(t, "upgrade", "fairlead", c.chart, "--set", "image.tag="+c.next)
		c.untilFairleadRuns(t, c.next)
	})
	c.still(t, had)
}

// still says whether all addresses are where they were.
func (c *cluster) still(t *testing.T, had map[string][]string) {
	t.Helper()
	if diff := gocmp.Diff(had, c.assigned(t)); diff != "" {
		t.Errorf("addresses of Services changed (-before +after):\n%s", diff)
	}
}

// replaceControllers restarts them, and wants an address from those that follow.
func (c *cluster) replaceControllers(t *testing.T) {
	had := c.assigned(t)
	c.under(t, []string{"web"}, func() {
		c.kubectl(t, "-n", lab.Namespace, "rollout", "restart", "deployment/fairlead-controller")
		c.rollOut(t, lab.Namespace, "deployment/fairlead-controller")
	})
	c.still(t, had)
	c.kubectl(t, "expose", "deployment", "web", "--name=later", "--type=LoadBalancer", "--port=80", "--target-port=8080")
	c.addresses(t, "later")
	c.kubectl(t, "delete", "service", "later")
}

// drain empties the node that answers for the web server, and gives it back.
func (c *cluster) drain(t *testing.T) {
	a := c.addresses(t, "web")[0]
	owner := c.owner(t, a, "")
	var next string
	c.under(t, []string{"web", "local", "public"}, func() {
		c.kubectl(t, "drain", owner, "--ignore-daemonsets", "--timeout", rolledOut)
		next = c.owner(t, a, owner)
	})
	c.kubectl(t, "uncordon", owner)
	c.untilVia(t, c.addresses(t, "public")[0], len(c.Nodes))
	if now := c.owner(t, a, ""); now != next {
		t.Errorf("%s took over from %s, and %s has it after the drain has ended", next, owner, now)
	}
}

// updateWeb changes how many web servers there are and where, and each of them. The
// first to go are those on the node that answers, so that the address has to follow.
func (c *cluster) updateWeb(t *testing.T) {
	a := c.addresses(t, "local")[0]
	owner := c.owner(t, a, "")
	for _, pod := range strings.Fields(c.kubectl(t, "get", "pods", "-l", "app=web", "--field-selector", "spec.nodeName="+owner, "-o", "name")) {
		c.kubectl(t, "annotate", pod, "controller.kubernetes.io/pod-deletion-cost=-1")
	}
	for _, change := range [][]string{{"scale", "--replicas=1"}, {"scale", "--replicas=3"}, {"rollout", "restart"}} {
		t.Run(strings.Join(change, " "), func(t *testing.T) {
			c.under(t, []string{"local"}, func() {
				c.kubectl(t, append(change, "deployment/web")...)
				c.rollOut(t, "default", "deployment/web")
				c.untilGone(t, "app=web")
			})
			if now := c.owner(t, a, ""); change[1] == "--replicas=1" && now == owner {
				t.Errorf("%s still answers for %s, and has no endpoint", owner, a)
			}
		})
	}
}

// untilGone waits until no pod with that label is ending.
func (c *cluster) untilGone(t *testing.T, label string) {
	t.Helper()
	lab.Eventually(t, time.Minute, func() error {
		out, err := c.Kubectl(t.Context(), "get", "pods", "-l", label, "-o", "jsonpath={.items[*].metadata.deletionTimestamp}")
		if err == nil && len(out) > 0 {
			err = errors.New("pods are still ending")
		}
		return err
	})
}

// ingress asks for what a cloud's load balancer gives an ingress controller.
func (c *cluster) ingress(t *testing.T) {
	c.kubectl(t, "apply", "-f", "testdata/ingress.yaml")
	c.rollOut(t, "default", "deployment/ingress")
	a := c.addresses(t, "ingress")[0]
	node := c.kubectl(t, "get", "pods", "-l", "app=ingress", "-o", "jsonpath={.items[*].spec.nodeName}")
	for _, port := range []uint16{80, 443} {
		answer := served(t, c.Client, netip.AddrPortFrom(a, port))
		if !strings.HasPrefix(answer, "node="+node+" ") || !strings.Contains(answer, " client="+c.Client.IPv4.String()+":") {
			t.Errorf("port %d answers %q, want it from %s, and the client's own address", port, answer, node)
		}
	}
	if owner := c.owner(t, a, ""); owner != node {
		t.Errorf("%s answers for %s, want %s, which alone has a pod", owner, a, node)
	}
	port := c.service(t, "ingress").Spec.HealthCheckNodePort
	for _, n := range c.Nodes {
		want := "503"
		if n.Name == node {
			want = "200"
		}
		lab.Eventually(t, soon, func() error {
			out, err := c.Client.Exec(t.Context(), "curl", "-sS", "--max-time", "2", "-o", "/dev/null", "-w", "%{http_code}", fmt.Sprintf("http://%s:%d/healthz", n.IPv4, port))
			if err == nil && string(out) != want {
				err = fmt.Errorf("the health check of %s says %s, want %s", n.Name, out, want)
			}
			return err
		})
	}
}

// loseNode lets n1 die while it answers for a web server on other nodes.
func (c *cluster) loseNode(t *testing.T) {
	c.kubectl(t, "apply", "-f", "testdata/away.yaml")
	c.rollOut(t, "default", "deployment/away")
	r := c.strike(t)
	if r.LongestOutage > longestOutage && r.Standstill > standstill {
		t.Logf("once more, as the client itself stood still for %v", r.Standstill)
		r = c.strike(t)
	}
	if r.LongestOutage > longestOutage {
		t.Errorf("the client was without service for %v, want at most %v", r.LongestOutage, longestOutage)
	}
}

// strike has n1 die while it answers for that web server, brings it back, and returns
// what a client saw of it.
func (c *cluster) strike(t *testing.T) lab.ProbeReport {
	t.Helper()
	a := c.addresses(t, "away")[0]
	n1 := c.Node("n1")
	if c.owner(t, a, "") != n1.Name {
		c.kubectl(t, "annotate", "speaker", n1.Name, "fairlead.dev/take="+a.String())
		lab.Eventually(t, soon, func() error {
			if owner := c.owner(t, a, ""); owner != n1.Name {
				return fmt.Errorf("%s still answers for %s", owner, a)
			}
			return nil
		})
	}
	served(t, c.Client, netip.AddrPortFrom(a, 80))
	p := c.Client.ProbeUDP(netip.AddrPortFrom(a, 80), lab.ProbeOptions{FreshPort: true, Patience: patience})
	defer p.Stop()
	answered := func(more int) {
		t.Helper()
		enough := p.Report().Answered + more
		lab.Eventually(t, soon, func() error {
			if r := p.Report(); r.Answered < enough {
				return fmt.Errorf("want %d answers: %v", enough, r)
			}
			return nil
		})
	}
	answered(50)
	must(t, errors.Join(c.Process("kubelet-n1").Kill(), n1.PullCable()))
	next := c.owner(t, a, n1.Name)
	answered(100)
	r := p.Stop()
	t.Logf("%s after %s: %v", next, n1.Name, r)
	must(t, errors.Join(n1.PlugCable(), n1.StartKubelet(t.Context())))
	c.untilFairleadRuns(t, c.next)
	return r
}

// uninstall wants nothing to be left but what users made.
func (c *cluster) uninstall(t *testing.T) {
	had := c.assigned(t)
	kinds := c.kinds(t)
	pools := c.kubectl(t, "get", "ipaddresspools,l2advertisements,bgppeers,bgpadvertisements", "-o", "name")
	c.helm(t, "uninstall", "fairlead")
	c.still(t, had)
	if diff := gocmp.Diff(kinds, c.kinds(t)); diff != "" {
		t.Errorf("Fairlead's kinds (-before +after):\n%s", diff)
	}
	if now := c.kubectl(t, "get", "ipaddresspools,l2advertisements,bgppeers,bgpadvertisements", "-o", "name"); now != pools {
		t.Errorf("of %s there is left: %s", pools, now)
	}
	if left := c.kubectl(t, "-n", lab.Namespace, "get", "deployments,daemonsets,serviceaccounts,roles,poddisruptionbudgets", "-l", "app.kubernetes.io/name=fairlead", "-o", "name"); left != "" {
		t.Errorf("the release left %s", left)
	}
}

// kinds are the names of Fairlead's CRDs.
func (c *cluster) kinds(t *testing.T) []string {
	t.Helper()
	all := strings.Fields(c.kubectl(t, "get", "customresourcedefinitions", "-o", "name"))
	return slices.DeleteFunc(all, func(name string) bool { return !strings.HasSuffix(name, ".fairlead.dev") })
}

// applyManifests takes what there is for who has no Helm, and away again.
func (c *cluster) applyManifests(t *testing.T) {
	had := c.assigned(t)
	c.kubectl(t, "apply", "--server-side", "-k", "../../config/default")
	c.untilFairleadRuns(t, c.first)
	c.still(t, had)
	for _, a := range had["web"] {
		served(t, c.Client, netip.AddrPortFrom(netip.MustParseAddr(a), 80))
	}
	c.kubectl(t, "delete", "-k", "../../config/deploy")
	c.kubectl(t, "delete", "-k", "../../config/rbac")
	c.still(t, had)
}

// installAgain installs the chart of the commit before, if it is known.
func (c *cluster) installAgain(t *testing.T) {
	had := c.assigned(t)
	chart := cmp.Or(c.before, c.chart)
	c.helm(t, "install", "fairlead", chart, "--set", "image.tag="+c.first)
	c.untilFairleadRuns(t, c.first)
	c.still(t, had)
	for name, addresses := range had {
		if name == "public" {
			continue
		}
		for _, a := range addresses {
			served(t, c.Client, netip.AddrPortFrom(netip.MustParseAddr(a), 80))
		}
	}
	c.untilVia(t, c.addresses(t, "public")[0], len(c.Nodes))
}

// useStolenToken writes with a token like that in the speaker's pod on n1.
func (c *cluster) useStolenToken(t *testing.T) {
	var pods corev1.PodList
	must(t, c.api.List(t.Context(), &pods, client.InNamespace(lab.Namespace), client.MatchingLabels{"app.kubernetes.io/component": "speaker"}))
	i := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.Spec.NodeName == "n1" })
	if i < 0 {
		t.Fatalf("none of %d speaker pods is on n1", len(pods.Items))
	}
	must(t, c.BoundSpeaker(t.Context(), "stolen", &pods.Items[i]))
	thief, err := client.New(c.REST("stolen"), client.Options{Scheme: kube.NewScheme()})
	must(t, err)
	report := func(node string) error { // kubectl would read the status first, which a speaker may not
		sp := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: node}}
		return thief.Status().Patch(t.Context(), sp, client.RawPatch(types.MergePatchType, []byte(`{"status":{"version":"forged"}}`)))
	}
	must(t, report("n1"))
	if err := report("n2"); err == nil || !strings.Contains(err.Error(), "may write only Speaker n1, not Speaker n2") {
		t.Errorf("with a token of n1 the status of Speaker n2 was written: %v, want it refused", err)
	}
}

// compareRoles looks into the API server's log of all that the programs asked for
// so far. As helm uninstall takes the roles away from programs that still say
// goodbye, it comes before that.
// That roles grant no more than that is for a test which brings about all that
// there is to ask: TestRolesGrantWhatIsUsed.
func (c *cluster) compareRoles(t *testing.T) {
	for _, program := range []string{"fairlead-controller", "fairlead-speaker"} {
		account := audit.Account{Namespace: lab.Namespace, Name: program}
		granted, err := audit.Granted(t.Context(), c.api, account)
		must(t, err)
		asked, err := audit.Asked(c.Lab, account)
		must(t, err)
		if len(asked) == 0 {
			t.Errorf("%s asked for nothing", program)
		}
		if err := audit.Missing(granted, asked); err != nil {
			t.Errorf("%s: %v", program, err)
		}
	}
}
