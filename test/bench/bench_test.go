// Package bench measures Fairlead in the lab: real programs, real network. Each
// benchmark reports medians, and where it can the ratio to a bare run of the
// same thing, as machines differ and are noisy.
package bench

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
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

// installed starts a lab with Fairlead's kinds and a pool for layer 2; none of its
// programs run.
func installed(b *testing.B, o lab.Options) (*lab.Lab, client.WithWatch) {
	b.Helper()
	return installedWith(b, o, "testdata/pool.yaml")
}

// installedWith does so with these objects instead of the pool.
func installedWith(b *testing.B, o lab.Options, objects string) (*lab.Lab, client.WithWatch) {
	b.Helper()
	l := lab.New(b, o)
	for _, err := range []error{l.Install(b.Context()), l.Apply(b.Context(), objects)} {
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
