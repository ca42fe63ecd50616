package bgp

import (
	"fmt"
	"runtime"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// BenchmarkMemoryPerPeer is what a session costs in memory: heap and stacks, with
// 100 established sessions of 10 routes each, less what was there before. What the
// test's routers need (a few KiB each) is among it.
func BenchmarkMemoryPerPeer(b *testing.B) {
	const peers = 100
	for b.Loop() {
		var list []lb.BGPPeer
		var names []string
		for i := range peers {
			s := newSink(b, nil)
			name := fmt.Sprintf("peer%d", i)
			list, names = append(list, s.peer(func(p *lb.BGPPeer) { p.Name = name })), append(names, name)
		}
		rows := many(10)
		for i := range rows {
			rows[i].Peers = names
		}
		e := newEngine(b)
		before, goroutines := inUse(), runtime.NumGoroutine()
		e.Apply(list, rows)
		eventually(b, "all sessions", func() bool {
			up := 0
			for _, s := range e.Sessions() {
				if s.State == Established && s.PrefixesAnnounced == 10 {
					up++
				}
			}
			return up == peers
		})
		b.ReportMetric(float64(int64(inUse())-int64(before))/peers/1024, "KiB/peer")
		b.ReportMetric(float64(runtime.NumGoroutine()-goroutines)/peers, "goroutines/peer")
		e.Close()
	}
}

func inUse() uint64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc + m.StackInuse
}
