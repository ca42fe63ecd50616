package story

import (
	"bytes"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	// rolledOut is how long a change of pods may take on a busy machine.
	rolledOut = "3m"
	// soon is for what takes a moment there.
	soon = 20 * time.Second
	// patience is how long an answer may take while pods start beside it. What is
	// lost is not sent again by UDP, so nothing is hidden by it.
	patience = 3 * time.Second
	// clock is how logs say when.
	clock = "15:04:05.000"
	// longestOutage is what a client may lose when a node fails.
	longestOutage = time.Second
	// standstill is how long a client may ask nothing and still tell how long a node
	// was away.
	standstill = 250 * time.Millisecond
)

// cluster is where the story takes place.
type cluster struct {
	*lab.Lab
	api    client.Client
	chart  string
	before string      // the chart of the commit before, "" if that is not known
	first  string      // versions of the image, which the cluster has: the chart's own,
	next   string      // and the one after it
	router *lab.Router // with BGP; nil before it was added
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	lab.Require(t)
	chart, err := lab.Chart()
	must(t, err)
	c := &cluster{chart: chart, before: chartBefore(t, chart), first: appVersion(t, chart)}
	c.next = c.first + "-next"
	var images []lab.Image
	for _, version := range []string{c.first, c.next} {
		image, err := lab.FairleadImage(t.Context(), version)
		must(t, err)
		images = append(images, image)
	}
	c.Lab = lab.New(t, lab.Options{Pods: true, Audit: true})
	c.api, err = c.API()
	must(t, err)
	must(t, c.LoadImages(t.Context(), images...))
	for _, n := range c.Nodes {
		forgetSoon(t, n)
	}
	return c
}

// forgetSoon has a node forget by UDP who asked which pod before that pod has ended,
// which takes six seconds. With the kernel's 30 seconds, a client that happens to
// ask from the same port again is led to a pod that is gone.
func forgetSoon(t *testing.T, n *lab.Host) {
	t.Helper()
	for _, key := range []string{"nf_conntrack_udp_timeout", "nf_conntrack_udp_timeout_stream"} {
		_, err := n.Exec(t.Context(), "sh", "-c", "echo 4 >/proc/sys/net/netfilter/"+key)
		must(t, err)
	}
}

// appVersion is the tag of the image that the chart installs by default.
func appVersion(t *testing.T, chart string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(chart, "Chart.yaml"))
	must(t, err)
	var about struct {
		AppVersion string `json:"appVersion"`
	}
	must(t, yaml.Unmarshal(b, &about))
	return about.AppVersion
}

// chartBefore unpacks the chart of the commit before this one. A checkout that does
// not know that commit has none.
func chartBefore(t *testing.T, chart string) string {
	t.Helper()
	archive := exec.CommandContext(t.Context(), "git", "-c", "safe.directory=*", "archive", "HEAD~1", ".")
	archive.Dir = chart
	tar, err := archive.Output()
	if err != nil {
		t.Logf("the chart of the commit before is not known: %v", err)
		return ""
	}
	dir := t.TempDir()
	unpack := exec.CommandContext(t.Context(), "tar", "-x", "-C", dir)
	unpack.Stdin = bytes.NewReader(tar)
	must(t, unpack.Run())
	return dir
}

// helm runs helm upon Fairlead's release.
func (c *cluster) helm(t *testing.T, args ...string) {
	t.Helper()
	_, err := c.Helm(t.Context(), append(args, "--namespace", lab.Namespace, "--wait", "--timeout", rolledOut)...)
	must(t, err)
}

// kubectl runs kubectl and returns what it says, without white space around it.
func (c *cluster) kubectl(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.Kubectl(t.Context(), args...)
	must(t, err)
	return strings.TrimSpace(string(out))
}

// rollOut waits until what was changed runs, and nothing else does.
func (c *cluster) rollOut(t *testing.T, namespace, what string) {
	t.Helper()
	c.kubectl(t, "-n", namespace, "rollout", "status", what, "--timeout", rolledOut)
}

// untilFairleadRuns waits until all of Fairlead runs in that version and its speakers
// see each other.
func (c *cluster) untilFairleadRuns(t *testing.T, version string) {
	t.Helper()
	c.rollOut(t, lab.Namespace, "deployment/fairlead-controller")
	c.rollOut(t, lab.Namespace, "daemonset/fairlead-speaker")
	want := strings.TrimSpace(strings.Repeat(fmt.Sprintf("%s=%d speakers connected; ", version, len(c.Nodes)), len(c.Nodes)))
	lab.Eventually(t, soon, func() error {
		const path = `{range .items[*]}{.status.version}={.status.conditions[?(@.type=="Ready")].message}; {end}`
		out, err := c.Kubectl(t.Context(), "get", "speakers", "-o", "jsonpath="+path)
		if got := strings.TrimSpace(string(out)); err == nil && got != want {
			err = fmt.Errorf("speakers say %q, want %q", got, want)
		}
		return err
	})
}

// addresses waits until the Service's addresses are announced and returns them.
func (c *cluster) addresses(t *testing.T, service string) []netip.Addr {
	t.Helper()
	c.kubectl(t, "wait", "service/"+service, "--for=condition=fairlead.dev/Announced", "--timeout", rolledOut)
	var out []netip.Addr
	for _, i := range c.service(t, service).Status.LoadBalancer.Ingress {
		out = append(out, netip.MustParseAddr(i.IP))
	}
	return out
}

func (c *cluster) service(t *testing.T, name string) *corev1.Service {
	t.Helper()
	var svc corev1.Service
	must(t, c.api.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: name}, &svc))
	return &svc
}

// assigned are the addresses of all Services, by name.
func (c *cluster) assigned(t *testing.T) map[string][]string {
	t.Helper()
	var list corev1.ServiceList
	must(t, c.api.List(t.Context(), &list, client.InNamespace("default")))
	out := map[string][]string{}
	for _, svc := range list.Items {
		for _, i := range svc.Status.LoadBalancer.Ingress {
			out[svc.Name] = append(out[svc.Name], i.IP)
		}
	}
	return out
}

// owner waits until one node alone, and not that other one, answers for the address.
func (c *cluster) owner(t *testing.T, a netip.Addr, not string) string {
	t.Helper()
	w, err := c.Observer.WatchNeighbour(a)
	must(t, err)
	defer w.Stop()
	var who []string
	lab.Eventually(t, soon, func() error {
		who = w.Answering(100 * time.Millisecond)
		if len(who) != 1 || who[0] == not {
			return fmt.Errorf("%v answer for %s, want one, not %q\n%v", who, a, not, w)
		}
		return nil
	})
	return who[0]
}

// served waits until a client gets an answer by HTTP, and returns it.
func served(t *testing.T, from *lab.Host, to netip.AddrPort) (answer string) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		out, err := from.Exec(t.Context(), "curl", "-sS", "--max-time", "2", "http://"+to.String())
		answer = strings.TrimSpace(string(out))
		return err
	})
	return answer
}

// load is the clients of a Service, who ask all the time. By UDP each question has a
// port of its own, so that kube-proxy decides anew.
type load struct {
	service   string
	udp, http *lab.Probe
	moves     *lab.NeighbourWatch // nil where routers lead to the address
}

func (c *cluster) load(t *testing.T, service string) load {
	t.Helper()
	l := load{service: service}
	a := c.addresses(t, service)[0]
	from := c.Client
	if service == "public" {
		from = c.router.Client
	} else {
		var err error
		l.moves, err = c.Observer.WatchNeighbour(a)
		must(t, err)
		t.Cleanup(l.moves.Stop)
	}
	to := netip.AddrPortFrom(a, 80)
	served(t, from, to)
	options := lab.ProbeOptions{Interval: 20 * time.Millisecond, Patience: patience, FreshPort: true, OneByOne: true}
	l.udp, l.http = from.ProbeUDP(to, options), from.ProbeHTTP(to, options)
	t.Cleanup(func() { l.udp.Stop(); l.http.Stop() })
	return l
}

// answered waits until each client has got that many more answers.
func (l load) answered(t *testing.T, more int) {
	t.Helper()
	for _, p := range []*lab.Probe{l.udp, l.http} {
		enough := p.Report().Answered + more
		lab.Eventually(t, soon, func() error {
			if r := p.Report(); r.Answered < enough {
				return fmt.Errorf("%s: want %d answers: %v", l.service, enough, r)
			}
			return nil
		})
	}
}

// lostNothing ends the load. No question may be lost; but a connection that is open
// in the moment in which its address moves is cut, as the new node knows nothing of
// it. A client has no more than one at a time.
func (l load) lostNothing(t *testing.T) {
	t.Helper()
	udp, http := l.udp.Stop(), l.http.Stop()
	cut := 0
	if l.moves != nil {
		l.moves.Stop()
		cut = len(l.moves.Changes()) - 1
	}
	t.Logf("%s moved %d times; by UDP %v; by HTTP %v", l.service, max(cut, 0), udp, http)
	if n := lost(udp); n > 0 {
		t.Errorf("%s: %d questions by UDP were not answered, want 0, from %s to %s: %v", l.service, n, udp.From.Format(clock), udp.To.Format(clock), udp)
	}
	if n := lost(http); n > max(cut, 0) {
		t.Errorf("%s: %d questions by HTTP were not answered, want at most one for each of %d moves: %v\n%v", l.service, n, cut, http, l.moves)
	}
}

func lost(r lab.ProbeReport) int { return r.Sent - r.Answered - r.Late }

// under has clients ask the Services all the time while something happens, and wants
// them to lose nothing.
func (c *cluster) under(t *testing.T, services []string, happening func()) {
	t.Helper()
	var all []load
	for _, name := range services {
		all = append(all, c.load(t, name))
	}
	for _, l := range all {
		l.answered(t, 20)
	}
	happening()
	for _, l := range all {
		l.answered(t, 20)
	}
	for _, l := range all {
		l.lostNothing(t)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
