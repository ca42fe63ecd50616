// Package bench measures Fairlead in the lab: real programs, real network. Each
// benchmark reports medians, and where it can the ratio to a bare run of the
// same thing, as machines differ and are noisy.
package bench

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
	"github.com/fairlead/fairlead/test/lab"
)

// up starts a lab with Fairlead and a pool.
func up(b *testing.B, nodes int) (*lab.Lab, client.WithWatch) {
	b.Helper()
	l := lab.New(b, lab.Options{Nodes: nodes})
	ctx := b.Context()
	for _, err := range []error{l.Install(ctx), l.StartFairlead(ctx), l.Apply(ctx, "testdata/pool.yaml")} {
		if err != nil {
			b.Fatal(err)
		}
	}
	cfg := l.REST(lab.Admin)
	cfg.QPS = -1
	c, err := client.NewWithWatch(cfg, client.Options{Scheme: kube.NewScheme()})
	if err != nil {
		b.Fatal(err)
	}
	return l, c
}

func service(name string, typ corev1.ServiceType) *corev1.Service {
	return &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name},
		Spec:       corev1.ServiceSpec{Type: typ, Ports: []corev1.ServicePort{{Name: "udp", Port: 80, Protocol: corev1.ProtocolUDP}}},
	}
}

// addressTimes follows all Services and tells when each got its address.
func addressTimes(ctx context.Context, b *testing.B, c client.WithWatch) func(n int) map[string]time.Time {
	b.Helper()
	w, err := c.Watch(ctx, &corev1.ServiceList{}, client.InNamespace("default"))
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(w.Stop)
	got := map[string]time.Time{}
	return func(n int) map[string]time.Time {
		for len(got) < n {
			e, ok := <-w.ResultChan()
			if !ok {
				b.Fatal("the watch ended")
			}
			svc, ok := e.Object.(*corev1.Service)
			if !ok || e.Type == watch.Deleted || len(svc.Status.LoadBalancer.Ingress) == 0 {
				continue
			}
			if _, known := got[svc.Name]; !known {
				got[svc.Name] = time.Now()
			}
		}
		return got
	}
}

func quantile(times []time.Duration, q float64) float64 {
	slices.Sort(times)
	return float64(times[int(q*float64(len(times)-1))].Microseconds()) / 1000
}

// BenchmarkAssign is the time from a Service's creation to its address, one
// Service after the other.
func BenchmarkAssign(b *testing.B) {
	_, c := up(b, 1)
	wait := addressTimes(b.Context(), b, c)
	var times []time.Duration
	n := 0
	for b.Loop() {
		for range 50 {
			n++
			name := fmt.Sprint("assign-", n)
			start := time.Now()
			if err := c.Create(b.Context(), service(name, corev1.ServiceTypeLoadBalancer)); err != nil {
				b.Fatal(err)
			}
			times = append(times, wait(n)[name].Sub(start))
		}
	}
	b.ReportMetric(quantile(times, 0.5), "p50-ms")
	b.ReportMetric(quantile(times, 1), "max-ms")
}

// BenchmarkBurst creates 2,000 Services with 32 clients, first of type
// ClusterIP, which nobody has to give anything, then of type LoadBalancer.
func BenchmarkBurst(b *testing.B) {
	const services, clients = 2000, 32
	_, c := up(b, 1)
	create := func(prefix string, typ corev1.ServiceType) map[string]time.Time {
		names := make(chan string)
		started := make(map[string]time.Time, services)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range clients {
			wg.Go(func() {
				for name := range names {
					mu.Lock()
					started[name] = time.Now()
					mu.Unlock()
					if err := c.Create(b.Context(), service(name, typ)); err != nil {
						b.Error(err)
					}
				}
			})
		}
		for i := range services {
			names <- fmt.Sprint(prefix, i)
		}
		close(names)
		wg.Wait()
		return started
	}
	for b.Loop() {
		start := time.Now()
		create("bare-", corev1.ServiceTypeClusterIP)
		bare := time.Since(start)

		wait := addressTimes(b.Context(), b, c)
		done := make(chan map[string]time.Time)
		go func() { done <- wait(services) }()
		start = time.Now()
		started := create("burst-", corev1.ServiceTypeLoadBalancer)
		got := <-done
		all := time.Since(start)
		var times []time.Duration
		for name, at := range got {
			times = append(times, at.Sub(started[name]))
		}
		b.ReportMetric(bare.Seconds(), "bare-s")
		b.ReportMetric(all.Seconds(), "all-s")
		b.ReportMetric(all.Seconds()/bare.Seconds(), "all/bare")
		b.ReportMetric(quantile(times, 0.5), "p50-ms")
		b.ReportMetric(quantile(times, 1), "max-ms")
	}
}

// BenchmarkFailover pulls the cable of the node that announces an address, ten
// times, and reports the longest time that a client was without an answer.
func BenchmarkFailover(b *testing.B) {
	l, c := up(b, 3)
	ctx := b.Context()
	svc := service("web", corev1.ServiceTypeLoadBalancer)
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
