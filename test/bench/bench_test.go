// Package bench measures Fairlead in the lab: real programs, real network. Each
// benchmark reports medians, and where it can the ratio to a bare run of the
// same thing, as machines differ and are noisy.
package bench

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/test/lab"
)

// up starts a lab with Fairlead and a pool.
func up(b *testing.B, nodes int) (*lab.Lab, client.WithWatch) {
	b.Helper()
	l, c := installed(b, lab.Options{Nodes: nodes})
	if err := l.StartFairlead(b.Context()); err != nil {
		b.Fatal(err)
	}
	return l, c
}

// installed starts a lab with Fairlead's kinds and a pool; none of its programs
// run.
func installed(b *testing.B, o lab.Options) (*lab.Lab, client.WithWatch) {
	b.Helper()
	log.SetLogger(logr.Discard()) // or the clients complain that there is none
	l := lab.New(b, o)
	for _, err := range []error{l.Install(b.Context()), l.Apply(b.Context(), "testdata/pool.yaml")} {
		if err != nil {
			b.Fatal(err)
		}
	}
	c, err := client.NewWithWatch(l.REST(lab.Admin), client.Options{Scheme: kube.NewScheme()})
	if err != nil {
		b.Fatal(err)
	}
	return l, c
}

// service is a load balancer with one port.
func service(name string) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec: corev1.ServiceSpec{
			Type:  corev1.ServiceTypeLoadBalancer,
			Ports: []corev1.ServicePort{{Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP}},
		},
	}
}

// sightings tells when each Service was first seen with an address.
type sightings map[string]time.Time

// changes watches Services from now on. The API server ends the watch of a
// client that does not keep up, as may happen on a machine that is busy with
// what is measured; it then goes on from where it ended.
func changes(ctx context.Context, c client.WithWatch, opts ...client.ListOption) (<-chan watch.Event, error) {
	var now corev1.ServiceList
	if err := c.List(ctx, &now, client.InNamespace("default"), client.Limit(1)); err != nil {
		return nil, err
	}
	out := make(chan watch.Event, 1<<16) // whoever reads may be slow, the watch not
	go func() {
		defer close(out)
		from := metav1.ListOptions{ResourceVersion: now.ResourceVersion}
		for ctx.Err() == nil {
			all := append([]client.ListOption{&client.ListOptions{Raw: &from}, client.InNamespace("default")}, opts...)
			w, err := c.Watch(ctx, &corev1.ServiceList{}, all...)
			if err != nil {
				return
			}
			for e := range w.ResultChan() {
				svc, ok := e.Object.(*corev1.Service)
				if !ok {
					return
				}
				from.ResourceVersion = svc.ResourceVersion
				out <- e
			}
		}
	}()
	return out, nil
}

// follow watches Services from now on. What it returns waits until it has seen
// n of them with an address; it may be called again for more.
func follow(ctx context.Context, b *testing.B, c client.WithWatch, opts ...client.ListOption) func(n int) (sightings, error) {
	b.Helper()
	events, err := changes(ctx, c, opts...)
	if err != nil {
		b.Fatal(err)
	}
	got := sightings{}
	return func(n int) (sightings, error) {
		for len(got) < n {
			e, ok := <-events
			if !ok {
				return nil, fmt.Errorf("the watch ended with %d of %d addresses seen", len(got), n)
			}
			svc := e.Object.(*corev1.Service)
			if e.Type == watch.Deleted || len(svc.Status.LoadBalancer.Ingress) == 0 {
				continue
			}
			if _, known := got[svc.Name]; !known {
				got[svc.Name] = time.Now()
			}
		}
		return got, nil
	}
}

// quantile returns a quantile in milliseconds.
func quantile(times []time.Duration, q float64) float64 {
	slices.Sort(times)
	return float64(times[int(q*float64(len(times)-1))].Microseconds()) / 1000
}

// BenchmarkAssign is the time from a Service's creation to its address, one
// Service after the other.
func BenchmarkAssign(b *testing.B) {
	_, c := up(b, 1)
	wait := follow(b.Context(), b, c)
	var times []time.Duration
	n := 0
	for b.Loop() {
		for range 50 {
			n++
			name := fmt.Sprint("assign-", n)
			start := time.Now()
			if err := c.Create(b.Context(), service(name)); err != nil {
				b.Fatal(err)
			}
			seen, err := wait(n)
			if err != nil {
				b.Fatal(err)
			}
			times = append(times, seen[name].Sub(start))
		}
	}
	b.ReportMetric(quantile(times, 0.5), "p50-ms")
	b.ReportMetric(quantile(times, 1), "max-ms")
}

// BenchmarkFailover pulls the cable of the node that announces an address, ten
// times, and reports the longest time that a client was without an answer.
func BenchmarkFailover(b *testing.B) {
	l, c := up(b, 3)
	ctx := b.Context()
	svc := service("web")
	svc.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "172.30.0.100"} // on the LAN
	if err := c.Create(ctx, svc); err != nil {
		b.Fatal(err)
	}
	backends := map[string]*lab.Backend{}
	for _, n := range l.Nodes {
		backend, err := l.AddBackend(ctx, lab.BackendSpec{Namespace: "default", Service: "web", Name: "web-" + n.Name, Node: n.Name})
		if err != nil {
			b.Fatal(err)
		}
		backends[n.Name] = backend
	}
	vip := addressOf(b, c, svc)
	watching, err := l.Observer.WatchNeighbour(vip)
	if err != nil {
		b.Fatal(err)
	}
	defer watching.Stop()
	var times []time.Duration
	for b.Loop() {
		for range 10 {
			times = append(times, pull(b, l, watching, backends, netip.AddrPortFrom(vip, 80)))
		}
	}
	b.ReportMetric(quantile(times, 0.5), "p50-ms")
	b.ReportMetric(quantile(times, 1), "max-ms")
}

func addressOf(b *testing.B, c client.Client, svc *corev1.Service) netip.Addr {
	b.Helper()
	var addrs []netip.Addr
	lab.Eventually(b, 10*time.Second, func() error {
		if err := c.Get(b.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		if addrs = kube.IngressAddresses(svc); len(addrs) == 0 {
			return fmt.Errorf("no address yet")
		}
		return nil
	})
	return addrs[0]
}

// pull pulls the owner's cable under a probe, waits until another node answers,
// puts the cable back, and returns the longest outage. The owner's own backend
// is not ready, or its loss would be measured as well.
func pull(b *testing.B, l *lab.Lab, w *lab.NeighbourWatch, backends map[string]*lab.Backend, target netip.AddrPort) time.Duration {
	b.Helper()
	owner := oneAnswers(b, w, "")
	for node, backend := range backends {
		if err := backend.SetReady(b.Context(), node != owner); err != nil {
			b.Fatal(err)
		}
	}
	probe := probeElsewhere(b, l, owner, target)
	if err := l.Node(owner).PullCable(); err != nil {
		b.Fatal(err)
	}
	oneAnswers(b, w, owner)
	before := probe.Report().Answered
	lab.Eventually(b, 10*time.Second, func() error {
		if r := probe.Report(); r.Answered < before+100 {
			return fmt.Errorf("%d answered since the take-over", r.Answered-before)
		}
		return nil
	})
	report := probe.Stop()
	if err := l.Node(owner).PlugCable(); err != nil {
		b.Fatal(err)
	}
	return report.LongestOutage
}

// probeElsewhere returns a probe that is answered by a backend on another node
// than not.
func probeElsewhere(b *testing.B, l *lab.Lab, not string, target netip.AddrPort) *lab.Probe {
	b.Helper()
	for {
		probe := l.Client.ProbeUDP(target, lab.ProbeOptions{})
		lab.Eventually(b, 10*time.Second, func() error {
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
func oneAnswers(b *testing.B, w *lab.NeighbourWatch, not string) string {
	b.Helper()
	var owner string
	lab.Eventually(b, 20*time.Second, func() error {
		who := w.Answering(200 * time.Millisecond)
		if len(who) != 1 || who[0] == not {
			return fmt.Errorf("%v answer", who)
		}
		owner = who[0]
		return nil
	})
	return owner
}
