package bench

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// BenchmarkAnswer is the time from an ARP or NDP question to its answer, seen by
// another host on the same machine, and beside it that of the same question for a
// node's own address, which the kernel answers.
func BenchmarkAnswer(b *testing.B) {
	for _, f := range []fault{{name: "ARP", nodes: 3, family: corev1.IPv4Protocol}, {name: "NDP", nodes: 3, family: corev1.IPv6Protocol}} {
		b.Run(f.name, func(b *testing.B) {
			o := newOutage(b, f)
			o.oneAnswers("")
			own := o.lab.Nodes[0].IPv4
			if f.family == corev1.IPv6Protocol {
				own = o.lab.Nodes[0].IPv6
			}
			kernel, err := o.lab.Observer.WatchNeighbour(own)
			o.must(err)
			for b.Loop() {
				time.Sleep(10 * time.Second)
			}
			kernel.Stop()
			times := o.watching.RoundTrips()
			b.ReportMetric(quantile(times, 0.5)*1000, "p50-us")
			b.ReportMetric(quantile(times, 0.99)*1000, "p99-us")
			b.ReportMetric(quantile(kernel.RoundTrips(), 0.5)*1000, "kernel-p50-us")
			b.ReportMetric(float64(len(times)), "answers")
		})
	}
}

// BenchmarkPartition cuts two nodes of five off, the owner among them or not, for
// twenty seconds, ten times, and reports how long after the end another than the
// owner of the larger side answered, and how often the address moved although its
// owner was there.
func BenchmarkPartition(b *testing.B) {
	o := newOutage(b, fault{name: "partition", nodes: 5, family: corev1.IPv4Protocol})
	var doubt []time.Duration
	moved := 0
	for b.Loop() {
		for i := range 10 {
			o.untilWhole()
			owner := o.oneAnswers("")
			var few, most []string
			for _, n := range o.lab.Nodes {
				if withFew := (n.Name == owner) == (i%2 == 0); withFew && len(few) < 2 || len(most) == 3 {
					few = append(few, n.Name)
				} else {
					most = append(most, n.Name)
				}
			}
			o.must(o.lab.Partition(few, most))
			time.Sleep(20 * time.Second)
			o.must(o.lab.Heal())
			healed := time.Now()
			o.untilWhole()
			after := o.oneAnswers("")
			if i%2 == 1 && after != owner {
				moved++
			}
			doubt = append(doubt, o.watching.Doubt(healed, after))
		}
	}
	b.ReportMetric(quantile(doubt, 0.5), "doubt-p50-ms")
	b.ReportMetric(quantile(doubt, 1), "doubt-max-ms")
	b.ReportMetric(float64(moved), "moved")
}

// BenchmarkManyAddresses has a node die that announces 500 addresses, ten times,
// and reports when others had announced all of them.
func BenchmarkManyAddresses(b *testing.B) {
	const many = 500
	l, c := up(b, 3)
	o := &outage{b: b, fault: fault{nodes: 3}, lab: l, c: c, backends: map[string]*lab.Backend{}}
	only(o, "n1")
	for i := range many {
		svc := service(fmt.Sprint("many-", i))
		svc.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}).String()}
		o.must(c.Create(b.Context(), svc))
		o.must(c.Create(b.Context(), endpoint(svc.Name, "n2")))
	}
	claims, err := l.Observer.WatchClaims()
	o.must(err)
	b.Cleanup(claims.Stop)
	var all, half []time.Duration
	for b.Loop() {
		for range 10 {
			only(o, "n1")
			lab.Eventually(b, time.Minute, func() error { return owns(b, c, many) })
			for _, n := range l.Nodes {
				o.must(undrain(o, n))
			}
			o.untilWhole()
			struck := time.Now()
			o.must(l.Node("n1").PowerOff())
			lab.Eventually(b, 20*time.Second, func() error {
				if n := len(claims.Since(struck)); n < many {
					return fmt.Errorf("%d of %d addresses are announced again", n, many)
				}
				return nil
			})
			var times []time.Duration
			for _, c := range claims.Since(struck) {
				times = append(times, c.At.Sub(struck))
			}
			half, all = append(half, time.Duration(quantile(times, 0.5)*float64(time.Millisecond))), append(all, time.Duration(quantile(times, 1)*float64(time.Millisecond)))
			o.must(l.Node("n1").PowerOn(b.Context()))
			_, err := l.StartSpeaker(b.Context(), "n1")
			o.must(err)
			o.untilWhole()
		}
	}
	b.ReportMetric(quantile(all, 0.5), "all-p50-ms")
	b.ReportMetric(quantile(all, 1), "all-max-ms")
	b.ReportMetric(quantile(half, 0.5), "half-p50-ms")
}

// only drains all nodes but one.
func only(o *outage, node string) {
	o.b.Helper()
	for _, n := range o.lab.Nodes {
		if n.Name != node {
			o.must(drain(o.lab, n))
		}
	}
}
