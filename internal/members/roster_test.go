package members

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// What memberlist thinks of a node counts where its watchers say nothing, and not
// at once.
func TestRoster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoster(time.Now, testTimers.silence)
		p := newDetector("n1", testTimers)
		for _, n := range []string{"n1", "n2", "n3"} {
			r.joined(n)
		}
		heard := map[string]opinion{"n3": {Hears: []string{"n2"}}}
		version := uint64(0)
		alive := func(of map[string]opinion, want ...string) {
			t.Helper()
			version++
			if got := r.alive(&p, opinions{of: of, version: version}); !slices.Equal(got, want) {
				t.Errorf("%v are alive, want %v", got, want)
			}
		}
		alive(nil, "n1", "n2", "n3")
		r.died("n2")
		alive(nil, "n1", "n2", "n3") // it may deny it
		time.Sleep(testTimers.silence)
		alive(nil, "n1", "n3")
		alive(heard, "n1", "n2", "n3") // a watcher hears it
		r.assumeAlive("n2")
		alive(nil, "n1", "n2", "n3") // it was just spoken to
		r.died("n3")
		time.Sleep(testTimers.silence)
		alive(heard, "n1") // who is away himself vouches for nobody
		if got := len(r.ring()); got != 3 {
			t.Errorf("the ring has %d places, want 3: deaths are often mistakes", got)
		}
		time.Sleep(remembered)
		if got := r.ring(); !slices.Equal(got, ring{"n1"}) {
			t.Errorf("the ring is %v in the end, want n1 alone", got)
		}
		r.joined("n2")
		alive(nil, "n1", "n2")
	})
}

// A watcher knows when it last heard one that has died; who hears of the death knows
// how long watchers wait.
func TestLastSignOfLife(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRoster(time.Now, testTimers.silence)
		p := newDetector("n1", testTimers)
		start := time.Now()
		p.hear("n2", start)
		for _, n := range []string{"n1", "n2", "n3"} {
			r.joined(n)
		}
		signs := func(want map[string]time.Time) {
			t.Helper()
			r.alive(&p, opinions{})
			if !maps.Equal(r.signs, want) {
				t.Errorf("the last signs of life are %v, want %v", r.signs, want)
			}
		}
		signs(map[string]time.Time{})
		r.died("n2")
		r.died("n3")
		time.Sleep(time.Second)
		signs(map[string]time.Time{"n2": start, "n3": start.Add(time.Second - testTimers.silence)})
		time.Sleep(time.Second)
		r.joined("n2")
		signs(map[string]time.Time{"n3": start.Add(time.Second - testTimers.silence)})
		time.Sleep(remembered)
		signs(map[string]time.Time{})
	})
}
