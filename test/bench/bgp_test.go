package bench

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// manyFlows is how many flows there are: each node has some of them.
const manyFlows = 30

// routed is a lab with routers, whose nodes may have sessions with them.
type routed struct {
	*lab.Lab
	c client.WithWatch
}

// newRouted starts a lab with three nodes and routers of these kinds, from the
// recipes. None of Fairlead's programs run.
func newRouted(b *testing.B, kinds ...lab.RouterKind) *routed {
	b.Helper()
	l, c := installedWith(b, lab.Options{Nodes: 3}, "testdata/bgp.yaml")
	for _, k := range kinds {
		_, err := l.AddRouter(b.Context(), lab.RouterSpec{Kind: k})
		must(b, err)
	}
	return &routed{Lab: l, c: c}
}

func must(b *testing.B, err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// watching is how paths are watched: by BFD with three packets that are so far
// apart, and not at all with 0.
type watching time.Duration

// peer makes routers peers of all nodes over IPv4 until the benchmark ends, and waits
// until all sessions are up. Without BFD, which takes a dead node out, routers are
// not to keep the routes of one that is silent.
func (r *routed) peer(b *testing.B, by watching, routers ...*lab.Router) {
	b.Helper()
	if by != 0 {
		r.watchEvery(b, time.Duration(by))
	}
	for _, router := range routers {
		p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: router.Name}, Spec: v1alpha1.BGPPeerSpec{
			MyASN: lab.ClusterASN, PeerASN: lab.RouterASN, PeerAddress: v1alpha1.IPAddress(router.IPv4.String()), GracefulRestart: new(by != 0),
			HoldTime: &metav1.Duration{Duration: 9 * time.Second}, ConnectTime: &metav1.Duration{Duration: time.Second},
		}}
		if by != 0 {
			p.Spec.BFDProfile = "bench"
		}
		must(b, r.c.Create(b.Context(), p))
		b.Cleanup(func() {
			must(b, r.c.Delete(context.Background(), p))
			r.untilAlone(b, router)
		})
	}
	r.untilUp(b, by, routers...)
}

// untilAlone waits until a router has no session any more.
func (r *routed) untilAlone(b *testing.B, router *lab.Router) {
	b.Helper()
	lab.Eventually(b, time.Minute, func() error {
		sessions, err := router.Sessions(context.Background()) // a cleanup does it
		for _, s := range sessions {
			if s.Established {
				err = errors.Join(err, fmt.Errorf("%s still has a session with %s", router.Name, s.Peer))
			}
		}
		return err
	})
}

// watchEvery sets the interval of BFD on both sides. BIRD's stays that of its recipe.
func (r *routed) watchEvery(b *testing.B, interval time.Duration) {
	b.Helper()
	ms := interval.Milliseconds()
	profile := &v1alpha1.BFDProfile{ObjectMeta: metav1.ObjectMeta{Name: "bench"}}
	must(b, r.c.Get(b.Context(), client.ObjectKeyFromObject(profile), profile))
	profile.Spec.TransmitInterval, profile.Spec.ReceiveInterval = int32(ms), int32(ms)
	must(b, r.c.Update(b.Context(), profile))
	for _, router := range r.Routers() {
		if router.Kind == lab.FRR {
			_, err := router.Command(b.Context(), "configure terminal", "bfd", "profile fairlead",
				fmt.Sprint("transmit-interval ", ms), fmt.Sprint("receive-interval ", ms))
			must(b, err)
		}
	}
}

// untilUp waits until the routers have sessions with all nodes, and watch them.
func (r *routed) untilUp(b *testing.B, by watching, routers ...*lab.Router) {
	b.Helper()
	for _, router := range routers {
		lab.Eventually(b, time.Minute, func() error {
			var errs []error
			for _, n := range r.Nodes {
				s, err := router.Session(b.Context(), n.IPv4)
				if err == nil && !s.Established {
					err = fmt.Errorf("the session of %s with %s is %s", router.Name, n.Name, s.State)
				}
				errs = append(errs, err)
			}
			if by != 0 {
				errs = append(errs, r.pathsUp(b, router))
			}
			return errors.Join(errs...)
		})
	}
}

// pathsUp says which nodes are not watched by the router's BFD.
func (r *routed) pathsUp(b *testing.B, router *lab.Router) error {
	sessions, err := router.BFD(b.Context())
	if err != nil {
		return err
	}
	for _, n := range r.Nodes {
		if !slices.ContainsFunc(sessions, func(s lab.BFDSession) bool { return s.Peer == n.IPv4 && s.Up }) {
			return fmt.Errorf("BFD of %s with %s is not up", router.Name, n.Name)
		}
	}
	return nil
}

// untilHops waits until a router's kernel has so many next hops of a route.
func untilHops(b *testing.B, router *lab.Router, to netip.Prefix, hops int) {
	b.Helper()
	lab.Eventually(b, time.Minute, func() error {
		fib, err := router.FIB()
		if err == nil && len(fib[to]) != hops {
			err = fmt.Errorf("%s leads to %s by %v, want %d nodes", router.Name, to, fib[to], hops)
		}
		return err
	})
}

// local is a Service whose nodes serve by their own backends alone.
func local(name string) *corev1.Service {
	svc := service(name)
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	return svc
}

// untilAddress waits until the Service has an address and returns it as a route.
func (r *routed) untilAddress(b *testing.B, svc *corev1.Service) netip.Prefix {
	b.Helper()
	lab.Eventually(b, time.Minute, func() error {
		if err := r.c.Get(b.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		if len(kube.IngressAddresses(svc)) == 0 {
			return fmt.Errorf("%s has no address yet", svc.Name)
		}
		return nil
	})
	a := kube.IngressAddresses(svc)[0]
	return netip.PrefixFrom(a, a.BitLen())
}

// serve makes a Service with a backend on every node, and returns its route.
func (r *routed) serve(b *testing.B, name string) netip.Prefix {
	b.Helper()
	svc := local(name)
	must(b, r.c.Create(b.Context(), svc))
	for _, n := range r.Nodes {
		_, err := r.AddBackend(b.Context(), lab.BackendSpec{Service: name, Name: name + "-" + n.Name, Node: n.Name})
		must(b, err)
	}
	return r.untilAddress(b, svc)
}

// flows ask for an address from behind a router, each from a port of its own, and
// stay with the node that the router chose, until there is another choice.
type flows []*lab.Probe

// ask starts flows that all are answered, by as many nodes. Flows that lost
// something before anything happened are started anew: kube-proxies may still be
// writing their rules.
func ask(b *testing.B, router *lab.Router, to netip.Prefix, nodes int) flows {
	b.Helper()
	for {
		f := start(b, router, to)
		f.untilAnswered(b, 20)
		used, lost := map[string]bool{}, 0
		for _, p := range f {
			r := p.Report()
			lost += unanswered(r)
			for node := range r.Nodes {
				used[node] = true
			}
		}
		if lost == 0 && len(used) == nodes {
			return f
		}
		b.Logf("flows are answered by %v, and have lost %d; starting others", slices.Sorted(maps.Keys(used)), lost)
		f.stop()
	}
}

func start(b *testing.B, router *lab.Router, to netip.Prefix) (f flows) {
	b.Helper()
	for range manyFlows {
		p := router.Client.ProbeUDP(netip.AddrPortFrom(to.Addr(), 80), lab.ProbeOptions{Interval: 10 * time.Millisecond})
		b.Cleanup(func() { p.Stop() })
		f = append(f, p)
	}
	return f
}

// untilAnswered waits until each flow has had so many answers more.
func (f flows) untilAnswered(b *testing.B, more int) {
	b.Helper()
	want := map[*lab.Probe]int{}
	for _, p := range f {
		want[p] = p.Report().Answered + more
	}
	for _, p := range f {
		lab.Eventually(b, time.Minute, func() error {
			if r := p.Report(); r.Answered < want[p] {
				return fmt.Errorf("want %d answers: %v", want[p], r)
			}
			return nil
		})
	}
}

// of returns the flows that the node serves, and the others.
func (f flows) of(node string) (its, others flows) {
	for _, p := range f {
		if p.Report().Nodes[node] > 0 {
			its = append(its, p)
		} else {
			others = append(others, p)
		}
	}
	return its, others
}

// unanswered is how many questions had no answer at all: one that is late was not
// lost, but under way on a busy machine.
func unanswered(r lab.ProbeReport) int { return r.Sent - r.Answered - r.Late }

// stop ends the flows and returns the longest time that one was not served, and how
// many questions had no answer.
func (f flows) stop() (longest time.Duration, lost int) {
	var stopping sync.WaitGroup // the last answers are waited for
	for _, p := range f {
		stopping.Go(func() { p.Stop() })
	}
	stopping.Wait()
	for _, p := range f {
		r := p.Report()
		longest, lost = max(longest, r.LongestOutage), lost+unanswered(r)
	}
	return longest, lost
}

// stopWhole ends flows of which nothing should be lost, and returns how many
// questions had no answer. Of what was lost it tells when.
func (f flows) stopWhole(b *testing.B, w *lab.RouteWatch) int {
	b.Helper()
	_, lost := f.stop()
	for _, p := range f {
		if r := p.Report(); unanswered(r) > 0 {
			b.Logf("from %s to %s: %v", r.From.Format("15:04:05.000"), r.To.Format("15:04:05.000"), r)
		}
	}
	if lost > 0 {
		b.Log(w)
	}
	return lost
}

const bgpRuns = 10

// BenchmarkBGP does what happens to a cluster with routers, ten times each: an
// endpoint becomes ready and unready; a node's cable is pulled while many flows are
// served by all nodes; all speakers are restarted one after the other; a node is
// drained. The endpoint is watched at FRR and BIRD, all else at FRR.
//
// A route is seen when the router's kernel says that it has it, so what the router
// takes for itself is in the figures.
func BenchmarkBGP(b *testing.B) {
	r := newRouted(b, lab.FRR, lab.BIRD)
	must(b, r.StartFairlead(b.Context()))
	web := r.serve(b, "web")
	b.Run("endpoint", r.benchmarkEndpoint)
	for _, w := range []struct {
		name string
		by   watching
	}{
		{"BFD 50 ms x 3", watching(50 * time.Millisecond)},
		{"BFD 300 ms x 3", watching(300 * time.Millisecond)},
		{"hold time 9 s", 0},
	} {
		b.Run("cable pulled, "+w.name, func(b *testing.B) { r.benchmarkCable(b, web, w.by) })
	}
	b.Run("rolling restart", func(b *testing.B) { r.benchmarkRestart(b, web) })
	b.Run("drain", func(b *testing.B) { r.benchmarkDrain(b, web) })
}

// benchmarkEndpoint is from the writing of an EndpointSlice to the route in the
// router, or its end.
func (r *routed) benchmarkEndpoint(b *testing.B) {
	r.peer(b, watching(300*time.Millisecond), r.Routers()...)
	svc, slice := local("endpoint"), endpoint("endpoint", "n1")
	must(b, r.c.Create(b.Context(), svc))
	route := r.untilAddress(b, svc)
	slice.Endpoints[0].Conditions.Ready = new(false)
	must(b, r.c.Create(b.Context(), slice))
	watches := map[*lab.Router]*lab.RouteWatch{}
	for _, router := range r.Routers() {
		w, err := router.WatchRoutes()
		must(b, err)
		b.Cleanup(w.Stop)
		watches[router] = w
	}
	times := map[string][]time.Duration{}
	for b.Loop() {
		for i := range 2 * bgpRuns {
			ready, hops, name := i%2 == 0, 0, "unready"
			if ready {
				hops, name = 1, "ready"
			}
			slice.Endpoints[0].Conditions.Ready = new(ready)
			since := time.Now()
			must(b, r.c.Update(b.Context(), slice))
			for router, w := range watches {
				lab.Eventually(b, 10*time.Second, func() error {
					if w.When(route, hops, since).IsZero() {
						return fmt.Errorf("%s does not lead to %s by %d nodes yet", router.Name, route, hops)
					}
					return nil
				})
				unit := fmt.Sprintf("%s-%s", router.Kind, name)
				times[unit] = append(times[unit], w.When(route, hops, since).Sub(since))
			}
		}
	}
	for unit, took := range times {
		b.ReportMetric(quantile(took, 0.5), unit+"-p50-ms")
		b.ReportMetric(quantile(took, 1), unit+"-max-ms")
	}
}

// benchmarkCable pulls the cables of nodes in turn, and plugs them in again.
func (r *routed) benchmarkCable(b *testing.B, to netip.Prefix, by watching) {
	router := r.Routers()[0]
	r.peer(b, by, router)
	punctual(b, router)
	var outages, others []time.Duration
	for b.Loop() {
		for i := range bgpRuns {
			n := r.Nodes[i%len(r.Nodes)]
			untilHops(b, router, to, len(r.Nodes))
			share, rest := ask(b, router, to, len(r.Nodes)).of(n.Name)
			must(b, n.PullCable())
			share.untilAnswered(b, 20)
			longest, _ := share.stop()
			beside, _ := rest.stop()
			outages, others = append(outages, longest), append(others, beside)
			must(b, n.PlugCable())
			r.untilUp(b, by, router)
			untilWhole(b, r.c, len(r.Nodes))
		}
	}
	b.ReportMetric(quantile(outages, 0.5), "outage-p50-ms")
	b.ReportMetric(quantile(outages, 1), "outage-max-ms")
	b.ReportMetric(quantile(others, 1), "others-max-ms")
}

// punctual gives FRR's BFD the priority that the speaker's has: else its timers are
// late on a busy machine, and sessions go down rightly.
func punctual(b *testing.B, router *lab.Router) {
	b.Helper()
	for _, p := range router.Processes() {
		if p.Name == "bfdd-"+router.Name {
			_, err := router.Exec(b.Context(), "chrt", "--fifo", "--all-tasks", "--pid", "1", fmt.Sprint(p.PID))
			must(b, err)
		}
	}
}

// benchmarkRestart restarts the speakers one after the other, as an upgrade does.
func (r *routed) benchmarkRestart(b *testing.B, to netip.Prefix) {
	by := watching(300 * time.Millisecond)
	router := r.Routers()[0]
	r.peer(b, by, router)
	lost, changes := 0, 0
	for b.Loop() {
		for range bgpRuns {
			untilHops(b, router, to, len(r.Nodes))
			f := ask(b, router, to, len(r.Nodes))
			w, err := router.WatchRoutes()
			must(b, err)
			for _, n := range r.Nodes {
				must(b, r.Process("speaker-"+n.Name).Stop(b.Context()))
				p, err := r.StartSpeaker(b.Context(), n.Name)
				must(b, err)
				must(b, p.Ready(b.Context()))
				r.untilUp(b, by, router)
			}
			f.untilAnswered(b, 20)
			lost += f.stopWhole(b, w)
			w.Stop()
			changes += len(w.Changes(to))
		}
	}
	b.ReportMetric(float64(lost), "lost")
	b.ReportMetric(float64(changes), "route-changes")
}

// benchmarkDrain drains nodes in turn, and ends that again.
func (r *routed) benchmarkDrain(b *testing.B, to netip.Prefix) {
	router := r.Routers()[0]
	r.peer(b, watching(300*time.Millisecond), router)
	lost := 0
	for b.Loop() {
		for i := range bgpRuns {
			n := r.Nodes[i%len(r.Nodes)]
			untilHops(b, router, to, len(r.Nodes))
			f := ask(b, router, to, len(r.Nodes))
			w, err := router.WatchRoutes()
			must(b, err)
			must(b, drain(r.Lab, n))
			untilHops(b, router, to, len(r.Nodes)-1)
			f.untilAnswered(b, 20)
			must(b, endDrain(r.Lab, n))
			untilHops(b, router, to, len(r.Nodes))
			f.untilAnswered(b, 20)
			lost += f.stopWhole(b, w)
			w.Stop()
		}
	}
	b.ReportMetric(float64(lost), "lost")
}
