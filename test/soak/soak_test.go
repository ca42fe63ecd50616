package soak

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/test/lab"
)

var (
	duration = flag.Duration("duration", 3*time.Minute, "how long faults are injected")
	seed     = flag.Uint64("seed", uint64(time.Now().UnixNano()), "the seed of the faults; a run prints its own")
	without  = flag.String("without", "", "kinds of faults to leave out, comma-separated")
)

const (
	nodes = 5
	// recovery is how long after the last fault of a round everything is to be as it
	// should. Most of it is for routers: BIRD looks at a lost peer again after ten
	// seconds, and kube-proxy on a busy machine takes some as well.
	recovery = time.Minute
	// firstCalm is how long the start of everything may take.
	firstCalm = 90 * time.Second
)

// TestSoak breaks things at random, round after round. A failure names the seed, with
// which `make soak SEED=…` repeats the faults.
func TestSoak(t *testing.T) {
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	t.Logf("seed %d: repeat it with `make soak SEED=%d DURATION=%v`", *seed, *seed, *duration)
	v := &verdict{T: t}
	t.Cleanup(func() { // the last of all: after the logs
		if t.Failed() {
			t.Logf("the seed was %d; it failed as:\n%s", *seed, strings.Join(v.failures, "\n"))
		}
	})
	l := lab.New(t, lab.Options{Nodes: nodes})
	t.Cleanup(func() { checkLogs(v, l) })
	w, err := prepare(t.Context(), l)
	if err != nil {
		t.Fatal(err)
	}
	s := &soak{world: w, first: map[string]Service{}, readings: map[string][]Usage{}}
	s.calm(v, firstCalm)
	var leaveOut []string
	if *without != "" {
		leaveOut = strings.Split(*without, ",")
	}
	planner, err := NewPlanner(*seed, w.site(), leaveOut...)
	if err != nil {
		t.Fatal(err)
	}
	for began := time.Now(); time.Since(began) < *duration; {
		s.run(v, planner.Next())
	}
	for _, wrong := range growth(s.readings) {
		v.Errorf("%s", wrong)
	}
}

// verdict is a test that says at its end once more why it failed: between lie the logs.
type verdict struct {
	*testing.T
	failures []string
}

// Errorf is that of testing.T.
func (v *verdict) Errorf(format string, args ...any) {
	v.Helper()
	v.failures = append(v.failures, fmt.Sprintf(format, args...))
	v.T.Errorf(format, args...)
}

// Fatalf is that of testing.T.
func (v *verdict) Fatalf(format string, args ...any) {
	v.Helper()
	v.failures = append(v.failures, fmt.Sprintf(format, args...))
	v.T.Fatalf(format, args...)
}

// soak is a run.
type soak struct {
	*world
	first    map[string]Service // UID -> as it was first seen
	readings map[string][]Usage // process -> its usage in each calm
	// lastWrong is what was wrong last before the present calm.
	lastWrong []string
}

func (w *world) site() Site {
	s := Site{Controllers: controllers, Services: services}
	for _, n := range w.Nodes {
		s.Nodes = append(s.Nodes, n.Name)
	}
	for _, r := range w.Routers() {
		s.Routers = append(s.Routers, r.Name)
	}
	return s
}

// run breaks what the round says, heals it, and waits for calm.
func (s *soak) run(t *verdict, r Round) {
	t.Log(r)
	var probes map[string]*lab.Probe
	if r.Lossless {
		probes = s.probe()
	}
	began := time.Now()
	for _, step := range r.steps() {
		s.pause(t.Context(), time.Until(began.Add(step.at)))
		act := step.Apply
		if step.heals {
			act = step.Heal
		}
		if err := act(t.Context(), s.world); err != nil {
			t.Fatalf("%v\n%v: %v", r, step, err)
		}
		t.Logf("%5.1f s  %v", time.Since(began).Seconds(), step)
	}
	took := s.calm(t, recovery)
	t.Logf("%5.1f s  calm, %.1f s after the last step; the last to recover: %s",
		time.Since(began).Seconds(), took.Seconds(), cmp.Or(strings.Join(s.lastWrong, "; "), "nothing had to"))
	for to, p := range probes {
		if report := p.Stop(); report.Sent == report.Answered+report.Late && report.Err == nil {
			t.Logf("%s: none of %d questions was lost", to, report.Sent)
		} else {
			t.Errorf("%v\npackets to %s were lost, and no client may notice this: %v", r, to, report)
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// probe asks some addresses all the time, each time by a new connection.
func (s *soak) probe() map[string]*lab.Probe {
	options := lab.ProbeOptions{Interval: 20 * time.Millisecond, Patience: 3 * time.Second, FreshPort: true}
	probes := map[string]*lab.Probe{}
	for name, from := range map[string]*lab.Host{serviceName(0, false): s.Client, serviceName(1, false): s.Client, serviceName(0, true): s.Routers()[0].Client} {
		a := s.knownAddress(name)
		probes[fmt.Sprintf("%s at %s", name, a)] = from.ProbeUDP(netip.AddrPortFrom(a, 80), options)
	}
	return probes
}

// calm waits until nothing is wrong, twice in a row, and returns how long that took.
func (s *soak) calm(t *verdict, within time.Duration) time.Duration {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	began := time.Now()
	s.lastWrong = nil
	var wrong []string
	right := 0
	for right < 2 {
		if err := s.reviveControllers(ctx); err != nil {
			t.Fatalf("%v", err)
		}
		o, err := s.observe(ctx)
		switch {
		case ctx.Err() != nil:
			t.Fatalf("not calm within %v:\n%s", within, strings.Join(wrong, "\n"))
		case err != nil:
			wrong, right = []string{err.Error()}, 0
		default:
			if wrong = append(violations(o), renumbered(s.first, o)...); len(wrong) > 0 {
				right, s.lastWrong = 0, wrong
				break
			}
			right++
			s.learn(o)
			s.remember(o)
		}
		if o != nil && len(o.Ended) > 0 { // nothing starts it again
			t.Fatalf("a speaker ended by itself:\n%s", strings.Join(o.Ended, "\n"))
		}
	}
	took := time.Since(began)
	usage, err := s.usage(t.Context())
	if err != nil {
		t.Fatalf("%v", err)
	}
	for process, u := range usage {
		s.readings[process] = append(s.readings[process], u)
	}
	return took
}

// remember keeps what Services have when they are first seen in a calm.
func (s *soak) remember(o *Observation) {
	for _, svc := range o.Services {
		if _, known := s.first[svc.UID]; !known {
			s.first[svc.UID] = svc
		}
	}
}

// checkLogs looks for what no fault may cause.
func checkLogs(t *verdict, l *lab.Lab) {
	t.Helper()
	logs, err := filepath.Glob(filepath.Join(l.Dir, "logs", "*.log"))
	if err != nil {
		t.Fatalf("%v", err)
	}
	for _, file := range logs {
		name := filepath.Base(file)
		if !strings.HasPrefix(name, "speaker-") && !strings.HasPrefix(name, "controller") {
			continue
		}
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatalf("%v", err)
		}
		for line := range bytes.Lines(text) {
			for _, bad := range []string{"panic:", "fatal error:", "DATA RACE"} {
				if bytes.Contains(line, []byte(bad)) {
					t.Errorf("%s: %s", name, line)
				}
			}
		}
	}
}
