package bench

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// fault is what happens to the node that announces an address.
type fault struct {
	name   string
	nodes  int
	family corev1.IPFamily
	strike func(*lab.Lab, *lab.Host) error
	fix    func(*outage, *lab.Host) error
}

func pull(_ *lab.Lab, n *lab.Host) error { return n.PullCable() }

func plug(_ *outage, n *lab.Host) error { return n.PlugCable() }

// pullFrozen pulls the cable while the API server does not answer.
func pullFrozen(l *lab.Lab, n *lab.Host) error {
	if err := l.FreezeAPI(); err != nil {
		return err
	}
	return n.PullCable()
}

func plugThawed(o *outage, n *lab.Host) error {
	if err := o.lab.ThawAPI(); err != nil {
		return err
	}
	return n.PlugCable()
}

func powerOff(_ *lab.Lab, n *lab.Host) error { return n.PowerOff() }

// powerOn boots the node again, with its speaker and its backend.
func powerOn(o *outage, n *lab.Host) error {
	ctx := o.b.Context()
	if err := n.PowerOn(ctx); err != nil {
		return err
	}
	if _, err := o.lab.StartSpeaker(ctx, n.Name); err != nil {
		return err
	}
	return o.addBackend(n.Name)
}

func kill(l *lab.Lab, n *lab.Host) error   { return l.Process("speaker-" + n.Name).Kill() }
func freeze(l *lab.Lab, n *lab.Host) error { return l.Process("speaker-" + n.Name).Freeze() }

func stop(l *lab.Lab, n *lab.Host) error {
	return l.Process("speaker-" + n.Name).Stop(context.Background())
}

// revive thaws the speaker, or starts it if it does not run.
func revive(o *outage, n *lab.Host) error {
	if o.lab.Process("speaker-"+n.Name).Thaw() == nil {
		return nil
	}
	_, err := o.lab.StartSpeaker(o.b.Context(), n.Name)
	return err
}

func drain(l *lab.Lab, n *lab.Host) error {
	_, err := l.Kubectl(context.Background(), "annotate", "speaker", n.Name, v1alpha1.AnnotationDrain+"=bench")
	return err
}

func undrain(o *outage, n *lab.Host) error { return endDrain(o.lab, n) }

func endDrain(l *lab.Lab, n *lab.Host) error {
	_, err := l.Kubectl(context.Background(), "annotate", "speaker", n.Name, v1alpha1.AnnotationDrain+"-")
	return err
}

// BenchmarkFailover does something to the node that announces an address, ten
// times, and fixes it. A client asks every 5 ms, and the backend that serves it
// is elsewhere. Reported are: for how long it was without an answer, and how
// many it lost; when another node answered ARP or NDP; for how long two nodes
// did, and until when after the fix another than the new owner did.
func BenchmarkFailover(b *testing.B) {
	for _, f := range []fault{
		{"cable pulled", 3, corev1.IPv4Protocol, pull, plug},
		{"cable pulled, IPv6", 3, corev1.IPv6Protocol, pull, plug},
		{"cable pulled, API server frozen", 3, corev1.IPv4Protocol, pullFrozen, plugThawed},
		{"cable pulled, 10 nodes", 10, corev1.IPv4Protocol, pull, plug},
		{"cable pulled, 10 nodes, IPv6", 10, corev1.IPv6Protocol, pull, plug},
		{"node dead", 3, corev1.IPv4Protocol, powerOff, powerOn},
		{"speaker killed", 3, corev1.IPv4Protocol, kill, revive},
		{"speaker frozen", 3, corev1.IPv4Protocol, freeze, revive},
		{"speaker stopped", 3, corev1.IPv4Protocol, stop, revive},
		{"node drained", 3, corev1.IPv4Protocol, drain, undrain},
	} {
		b.Run(f.name, func(b *testing.B) {
			o := newOutage(b, f)
			var all []seen
			for b.Loop() {
				for range 10 {
					all = append(all, o.measure())
				}
			}
			report := func(name string, of func(seen) time.Duration) {
				var times []time.Duration
				for _, s := range all {
					times = append(times, of(s))
				}
				b.ReportMetric(quantile(times, 0.5), name+"-p50-ms")
				b.ReportMetric(quantile(times, 1), name+"-max-ms")
			}
			lost := 0
			for _, s := range all {
				lost += s.lost
			}
			report("outage", func(s seen) time.Duration { return s.outage })
			report("answered", func(s seen) time.Duration { return s.answered })
			report("two", func(s seen) time.Duration { return s.two })
			report("doubt", func(s seen) time.Duration { return s.doubt })
			b.ReportMetric(float64(lost), "lost")
		})
	}
}

// seen is what a client and the network saw of a fault.
type seen struct {
	outage   time.Duration // the longest time without an answer
	lost     int           // packets
	answered time.Duration // after the strike, by another node, a question by ARP or NDP
	two      time.Duration // two nodes answered
	doubt    time.Duration // after the fix, another than the new owner answered
}

// outage is a Service that loses its owner, again and again.
type outage struct {
	b        *testing.B
	fault    fault
	lab      *lab.Lab
	c        client.Client
	target   netip.AddrPort
	backends map[string]*lab.Backend
	watching *lab.NeighbourWatch
}

func newOutage(b *testing.B, f fault) *outage {
	l, c := up(b, f.nodes)
	o := &outage{b: b, fault: f, lab: l, c: c, backends: map[string]*lab.Backend{}}
	svc := service("web")
	vip := "172.30.0.100" // on the LAN
	if f.family == corev1.IPv6Protocol {
		vip = "fd30::100"
	}
	svc.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: vip}
	svc.Spec.IPFamilies = []corev1.IPFamily{f.family}
	o.must(c.Create(b.Context(), svc))
	for _, n := range l.Nodes[:3] {
		o.must(o.addBackend(n.Name))
	}
	o.target = netip.AddrPortFrom(o.addressOf(svc), 80)
	var err error
	o.watching, err = l.Observer.WatchNeighbour(o.target.Addr())
	o.must(err)
	b.Cleanup(o.watching.Stop)
	return o
}

func (o *outage) must(err error) {
	o.b.Helper()
	if err != nil {
		o.b.Fatal(err)
	}
}

// addBackend adds a backend on the node in place of one that was there before.
func (o *outage) addBackend(node string) error {
	if old := o.backends[node]; old != nil {
		if err := old.Remove(o.b.Context()); err != nil {
			return err
		}
	}
	backend, err := o.lab.AddBackend(o.b.Context(), lab.BackendSpec{Namespace: "default", Service: "web", Name: "web-" + node, Node: node})
	o.backends[node] = backend
	return err
}

func (o *outage) addressOf(svc *corev1.Service) netip.Addr {
	o.b.Helper()
	lab.Eventually(o.b, 10*time.Second, func() error {
		if err := o.c.Get(o.b.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		if len(kube.IngressAddresses(svc)) == 0 {
			return fmt.Errorf("no address yet")
		}
		return nil
	})
	return kube.IngressAddresses(svc)[0]
}

// measure strikes the owner under a probe, waits until another node answers,
// fixes, and returns what was seen. The owner's own backend is not ready, or its
// loss would be measured as well.
func (o *outage) measure() seen {
	o.b.Helper()
	o.untilWhole()
	owner := o.oneAnswers("")
	for node, backend := range o.backends {
		o.must(backend.SetReady(o.b.Context(), node != owner))
	}
	for _, n := range o.lab.Nodes { // while they write their rules, little else is run
		o.probeElsewhere(n, owner).Stop()
	}
	probe := o.probeElsewhere(o.lab.Client, owner)
	watch, err := o.lab.Observer.WatchNeighbour(o.target.Addr())
	o.must(err)
	defer watch.Stop()
	struck := time.Now()
	o.must(o.fault.strike(o.lab, o.lab.Node(owner)))
	next := o.oneAnswers(owner)
	before := probe.Report().Answered
	lab.Eventually(o.b, 10*time.Second, func() error {
		if r := probe.Report(); r.Answered < before+100 {
			return fmt.Errorf("%d answered since the take-over", r.Answered-before)
		}
		return nil
	})
	report := probe.Stop()
	fixed := time.Now()
	o.must(o.fault.fix(o, o.lab.Node(owner)))
	o.untilWhole()
	out := seen{outage: report.LongestOutage, lost: report.Sent - report.Answered, two: watch.Overlap()}
	if out.lost > 0 {
		o.b.Logf("struck %s at %s: %v\n%v", owner, struck.Format("15:04:05.000"), report, watch)
	}
	if at := slices.IndexFunc(watch.Changes(), func(c lab.Change) bool { return c.Node == next }); at >= 0 {
		out.answered = watch.Changes()[at].At.Sub(struck)
	}
	out.doubt = watch.Doubt(fixed, next)
	return out
}

// untilWhole waits until all speakers say that they see each other.
func (o *outage) untilWhole() {
	o.b.Helper()
	untilWhole(o.b, o.c, o.fault.nodes)
}

func untilWhole(b *testing.B, c client.Client, nodes int) {
	b.Helper()
	lab.Eventually(b, 30*time.Second, func() error {
		var list v1alpha1.SpeakerList
		if err := c.List(b.Context(), &list); err != nil {
			return err
		}
		want := fmt.Sprintf("%d speakers connected", nodes)
		whole := 0
		for _, s := range list.Items {
			if r := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady); r != nil && r.Message == want {
				whole++
			}
		}
		if whole < nodes {
			return fmt.Errorf("%d of %d speakers say %q", whole, nodes, want)
		}
		return nil
	})
}

// probeElsewhere returns a probe from a host that is answered by a backend on
// another node than not.
func (o *outage) probeElsewhere(from *lab.Host, not string) *lab.Probe {
	o.b.Helper()
	for {
		probe := from.ProbeUDP(o.target, lab.ProbeOptions{})
		lab.Eventually(o.b, 20*time.Second, func() error {
			if r := probe.Report(); r.Answered < 100 {
				return fmt.Errorf("%d of %d answered", r.Answered, r.Sent)
			}
			return nil
		})
		if probe.Report().Nodes[not] == 0 {
			return probe
		}
		probe.Stop()
	}
}

// oneAnswers waits until exactly one node, another than not, answers.
func (o *outage) oneAnswers(not string) string {
	o.b.Helper()
	var owner string
	lab.Eventually(o.b, 20*time.Second, func() error {
		who := o.watching.Answering(200 * time.Millisecond)
		if len(who) != 1 || who[0] == not {
			return fmt.Errorf("%v answer", who)
		}
		owner = who[0]
		return nil
	})
	return owner
}
