package bench

import (
	"bytes"
	"testing"
	"time"

	"github.com/fairlead/fairlead/test/lab"
)

// BenchmarkPlugin reports how long the kubectl plugin takes to answer, from a
// shell, in a cluster of 10,000 Services and 99 nodes. None of the speakers is
// alive, so that each node has a reason to be told of.
func BenchmarkPlugin(b *testing.B) {
	l, c := installed(b, lab.Options{ControlPlaneOnly: true})
	populate(b, c, bytes.Repeat([]byte{7}, 32))
	if _, err := l.Plugin(b.Context(), "version"); err != nil { // which builds it
		b.Fatal(err)
	}
	var all []metrics
	for b.Loop() {
		m := metrics{}
		for name, args := range map[string][]string{
			"explain-ms": {"explain", "service", "scale-17", "-n", "default"},
			"status-ms":  {"status"},
			"list-ms":    {"addresses"},
		} {
			start := time.Now()
			if _, err := l.Plugin(b.Context(), args...); err != nil {
				b.Fatal(err)
			}
			m[name] = float64(time.Since(start).Milliseconds())
		}
		all = append(all, m)
	}
	reportMedians(b, all)
}
