package members

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
)

// A process that did not run for longer than the others wait answers for nothing until it has
// found them again.
func TestStalledUntilRevived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := New(Config{Node: "n1", Log: logr.Discard()})
		for _, node := range []string{"n1", "n2", "n3"} {
			m.membership.roster.joined(node) // no address, so that nothing is sent
		}
		m.state.merge(message{Facts: map[string]versioned{"n2": {Version: 1}, "n3": {Version: 1}}})
		beats := func(want bool) {
			t.Helper()
			lapsed := false
			select {
			case <-m.Lapsed():
				lapsed = true
			default:
			}
			if m.Beating() != want || lapsed == want {
				t.Errorf("beating: %t, lapsed: %t; want %t and %t", m.Beating(), lapsed, want, !want)
			}
		}
		m.liveness.confirm()
		for range 10 {
			m.tick(time.Now())
			time.Sleep(m.timers.tick())
		}
		beats(true)
		time.Sleep(2 * m.timers.silence)
		if m.Beating() {
			t.Error("beats although no heartbeat was due for so long")
		}
		m.tick(time.Now())
		beats(false)
		time.Sleep(m.timers.tick())
		m.tick(time.Now())
		if m.Beating() {
			t.Error("beats before it is revived")
		}
		m.Revive(func(node string) bool { return node == "n3" })
		m.membership.roster.died("n2")
		if !m.Beating() || !slices.Contains(m.Alive(), "n2") {
			t.Errorf("after it is revived beating: %t, alive: %v", m.Beating(), m.Alive())
		}
		<-m.Changed()
		m.tasks.stop()
	})
}

func TestFailoverIsReadAsItIsWritten(t *testing.T) {
	for _, f := range []Failover{FailoverFast, FailoverDefault, FailoverRelaxed} {
		var read Failover
		if err := read.Set(f.String()); err != nil || read != f {
			t.Errorf("%s is read as %s: %v", f, read, err)
		}
		if x := f.timers(); x.silence < 3*x.heartbeat || x.silence > 5*x.heartbeat {
			t.Errorf("%s: %s of silence are %.1f heartbeats; want some, and not many", f, x.silence, float64(x.silence)/float64(x.heartbeat))
		}
	}
	var read Failover
	if err := read.Set("slow"); err == nil || read != 0 || read.String() != "Failover(0)" {
		t.Errorf("slow is read as %s: %v", read, err)
	}
}
