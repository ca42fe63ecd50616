package explain

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// BenchmarkService concludes from what was read, and explains one Service, among
// 5,000 Services on 50 nodes.
func BenchmarkService(b *testing.B) {
	c := clustertest.Small()
	for i := 4; i <= 50; i++ {
		c.AddNode(fmt.Sprintf("n%d", i))
	}
	c.AddPool("large", "10.30.0.0/16")
	a := netip.MustParseAddr("10.30.0.0")
	for i := range 5000 {
		name := fmt.Sprintf("s%d", i)
		c.AddService("shop", name, a.String())
		c.Serve("shop", name, fmt.Sprintf("n%d", 1+i%50))
		a = a.Next()
	}
	for b.Loop() {
		r, err := Service(c.New(), web, assigned)
		if err != nil || r.State != Healthy {
			b.Fatalf("%+v, %v", r, err)
		}
	}
}
