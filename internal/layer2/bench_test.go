package layer2

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// BenchmarkApply gives the same rows again.
func BenchmarkApply(b *testing.B) {
	for _, n := range []int{100, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			a := New(func() bool { return true }, logr.Discard())
			defer a.Close()
			a.dial = func(netif.Interface, lb.Family) (conn, error) { return newFakeConn(), nil }
			up := []netif.Interface{{Name: "eth0", Index: 1, MAC: "02:00:00:00:00:01", Up: true}}
			var rows []lb.L2Announcement
			for i := range n {
				rows = append(rows, lb.L2Announcement{Addr: netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), Interfaces: []string{"eth0"}})
			}
			b.ReportAllocs()
			for b.Loop() {
				if _, err := a.Apply(rows, nil, up); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
