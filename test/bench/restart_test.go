package bench

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	restarts = 5
	settle   = 30 * time.Second // what a program does after its start is over then
	idle     = 30 * time.Second // how long an idle program is watched
)

// BenchmarkRestart kills the controller of 10,000 Services that have addresses,
// starts another and creates a Service at the same moment: how long until that
// has its address. Then it leaves the controller alone, and reports its memory,
// and how much of one processor it takes with nothing to do.
//
// The restarts are without leader election: a killed leader's lease would have
// to run out first, which takes as long as it is set to and says nothing about
// the controller. The idle one has it, as in a cluster.
func BenchmarkRestart(b *testing.B) {
	l, c := installed(b, lab.Options{ControlPlaneOnly: true})
	f := &flood{b: b, lab: l, c: c, services: 10000}
	p := startController(b, l, "--leader-elect=false")
	f.answered("there")
	var all []metrics
	for b.Loop() {
		var times []time.Duration
		for i := range restarts {
			var took time.Duration
			p, took = restart(b, l, c, p, fmt.Sprint("restart-", i))
			times = append(times, took)
		}
		if err := p.Kill(); err != nil {
			b.Fatal(err)
		}
		p = startController(b, l)
		m := atRest(b, p)
		m["p50-ms"], m["max-ms"] = quantile(times, 0.5), quantile(times, 1)
		all = append(all, m)
	}
	reportMedians(b, all)
}

func startController(b *testing.B, l *lab.Lab, extra ...string) *lab.Process {
	b.Helper()
	p, err := l.StartController(b.Context(), extra...)
	if err != nil {
		b.Fatal(err)
	}
	return p
}

// restart kills the controller, starts another one, and returns that and the
// time from there until a Service created now has an address.
func restart(b *testing.B, l *lab.Lab, c client.WithWatch, old *lab.Process, name string) (*lab.Process, time.Duration) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	if err := old.Kill(); err != nil {
		b.Fatal(err)
	}
	wait := follow(ctx, b, c, client.MatchingFields{"metadata.name": name})
	start := time.Now()
	p := startController(b, l, "--leader-elect=false")
	svc := service(name)
	if err := c.Create(ctx, svc); err != nil {
		b.Fatal(err)
	}
	seen, err := wait(1)
	if err != nil {
		b.Fatal(err)
	}
	if err := c.Delete(b.Context(), svc); err != nil {
		b.Fatal(err)
	}
	return p, seen[name].Sub(start)
}

// atRest measures a controller that has just been started and has nothing to do.
func atRest(b *testing.B, p *lab.Process) metrics {
	b.Helper()
	time.Sleep(settle)
	before := cpuTime(b, p.PID)
	m := metrics{"rss-MB": memory(b, p.PID, "VmRSS"), "hwm-MB": memory(b, p.PID, "VmHWM")}
	time.Sleep(idle)
	m["idle-%cpu"] = 100 * float64(cpuTime(b, p.PID)-before) / float64(idle)
	return m
}

// memory returns a line of /proc/PID/status, in megabytes.
func memory(b *testing.B, pid int, field string) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		var kb float64
		if _, err := fmt.Sscanf(line, field+": %f kB", &kb); err == nil {
			return kb / 1000
		}
	}
	b.Fatalf("process %d has no %s", pid, field)
	return 0
}

// cpuTime is the time that a process has spent on processors so far, its user
// and system time, which Linux gives in hundredths of a second.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	// The name, in parentheses, may hold anything; what follows is counted from 3.
	fields := strings.Fields(string(stat[strings.LastIndexByte(string(stat), ')')+1:]))
	var ticks int
	for _, f := range fields[14-3 : 16-3] {
		n, err := strconv.Atoi(f)
		if err != nil {
			b.Fatal(err)
		}
		ticks += n
	}
	return time.Duration(ticks) * 10 * time.Millisecond
}
