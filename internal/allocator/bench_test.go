package allocator

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

func v4(n uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, n)))
}

// BenchmarkAllocateRelease takes and gives back one address. The pools differ
// in size and fullness; their times should not (invariant A4).
func BenchmarkAllocateRelease(b *testing.B) {
	slash16 := ranges("10.0.0.0", "10.0.255.255")
	thousand := make([]lb.Range, 1000)
	for i := range thousand {
		first := uint32(10)<<24 + uint32(i)<<10
		thousand[i] = lb.Range{From: v4(first), To: v4(first + 9)}
	}
	tests := []struct {
		name   string
		ranges []lb.Range
		family lb.Family
		fill   int
		holes  int // of those filled, every so many are given back
	}{
		{"small pool, empty", ranges("10.0.0.0", "10.0.0.255"), lb.IPv4, 0, 0},
		{"16, 99 % full", slash16, lb.IPv4, 65536, 100},
		{"16, every second free", slash16, lb.IPv4, 65536, 2},
		{"8, empty", ranges("10.0.0.0", "10.255.255.255"), lb.IPv4, 0, 0},
		{"64, empty", ranges("fd00::", "fd00::ffff:ffff:ffff:ffff"), lb.IPv6, 0, 0},
		{"1000 ranges", thousand, lb.IPv4, 0, 0},
	}
	for _, tt := range tests {
		b.Run(tt.name, func(b *testing.B) {
			a := New()
			now := epoch
			a.SetPools([]lb.Pool{{Name: "p", Ranges: tt.ranges, AutoAssign: true}})
			families := []lb.Family{tt.family}
			key := func(i int) lb.Holder { return svc("default", fmt.Sprint(i)) }
			for i := range tt.fill {
				a.Allocate(lb.Request{Holder: key(i), Families: families, RequireAll: true}, now)
			}
			for i := 0; tt.holes > 0 && i < tt.fill; i += tt.holes {
				a.Release(key(i), now)
			}
			req := lb.Request{Holder: key(-1), Families: families, RequireAll: true}
			for b.Loop() {
				now = now.Add(2 * time.Minute) // so that what is given back does not pile up cooling
				a.Allocate(req, now)
				a.Release(req.Holder, now)
			}
		})
	}
}

// BenchmarkFill gives out a whole /16, and measures the heap that this holds
// beside the names, which are the caller's.
func BenchmarkFill(b *testing.B) {
	keys := make([]lb.Holder, 1<<16)
	for i := range keys {
		keys[i] = svc("default", fmt.Sprint(i))
	}
	families := []lb.Family{lb.IPv4}
	var a *Allocator
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	for b.Loop() {
		a = New()
		a.SetPools([]lb.Pool{{Name: "p", Ranges: ranges("10.0.0.0", "10.0.255.255"), AutoAssign: true}})
		for _, k := range keys {
			a.Allocate(lb.Request{Holder: k, Families: families, RequireAll: true}, epoch)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/float64(len(keys)), "heap-B/assignment")
	runtime.KeepAlive(a)
}
