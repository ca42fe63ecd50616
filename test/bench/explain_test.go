package bench

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// BenchmarkExplain reports how long `kubectl fairlead` takes among 5,000 Services that
// have addresses and endpoints, as a person waits for it: the process, and all that it
// reads of the API server. There is no controller: what it would write is written once.
func BenchmarkExplain(b *testing.B) {
	const services, times = 5000, 10
	l, c := installed(b, lab.Options{Nodes: 3})
	each(services, func(i int) {
		svc := service(fmt.Sprint("explain-", i))
		svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		err := createWith(b.Context(), c, svc, vipOf(i))
		if err == nil {
			err = c.Create(b.Context(), endpointsOf(svc, i))
		}
		if err != nil {
			b.Error(err)
		}
	})
	if b.Failed() {
		b.FailNow()
	}
	if _, err := l.Plugin(b.Context(), "version"); err != nil { // it is built now
		b.Fatal(err)
	}
	var all []metrics
	for b.Loop() {
		for range times {
			m := metrics{}
			for name, args := range map[string][]string{"explain-ms": {"explain", "service", "explain-4711"}, "status-ms": {"status"}} {
				start := time.Now()
				out, err := l.Plugin(b.Context(), args...)
				if err != nil || !bytes.Contains(out, []byte("Service")) {
					b.Fatalf("%v: %s", err, out)
				}
				m[name] = float64(time.Since(start).Milliseconds())
			}
			all = append(all, m)
		}
	}
	reportMedians(b, all)
}
