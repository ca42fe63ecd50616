package members

import (
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"
)

var testTimers = FailoverDefault.timers()

// run calls tick for a while, with heartbeats of the nodes that are alive.
func (d *detector) run(now *time.Time, r ring, lasting time.Duration, alive ...string) {
	for end := now.Add(lasting); now.Before(end); *now = now.Add(testTimers.tick()) {
		d.tick(*now, r)
		for _, node := range alive {
			d.hear(node, *now)
		}
	}
}

func TestAWatcherMissesWhoIsSilent(t *testing.T) {
	r, now := newRing([]string{"n1", "n2", "n3"}), time.Unix(1000, 0)
	p := newDetector("n1", testTimers)
	p.run(&now, r, time.Second, "n2", "n3")
	if want := (opinion{Hears: []string{"n2", "n3"}}); !p.opinion.equal(want) {
		t.Fatalf("n1 says %+v, want %+v", p.opinion, want)
	}
	silent := now
	p.run(&now, r, testTimers.silence-testTimers.heartbeat, "n3")
	if len(p.opinion.Misses) > 0 {
		t.Errorf("n1 misses %v after %v", p.opinion.Misses, now.Sub(silent))
	}
	p.run(&now, r, testTimers.heartbeat+2*testTimers.tick(), "n3")
	if want := (opinion{Hears: []string{"n3"}, Misses: []string{"n2"}}); !p.opinion.equal(want) {
		t.Errorf("n1 says %+v after %v, want %+v", p.opinion, now.Sub(silent), want)
	}
	p.hear("n2", now)
	p.tick(now, r)
	if !slices.Equal(p.back, []string{"n2"}) || len(p.opinion.Misses) > 0 {
		t.Errorf("n2 sends detector again; n1 says that %v are back and that it misses %v", p.back, p.opinion.Misses)
	}
	tries := 0
	for range 4 { // the first attempts to sync may fail
		p.run(&now, r, resyncInterval+testTimers.tick(), "n2", "n3")
		if _, due := p.unsynced["n2"]; due {
			tries++
		}
	}
	p.synced("n2", now)
	p.run(&now, r, 2*resyncInterval, "n2", "n3")
	if _, due := p.unsynced["n2"]; tries != 4 || due {
		t.Errorf("n1 stopped to try after %d of 4 attempts that failed, or goes on after one that did not: %t", tries, due)
	}
}

// Who has only begun to watch has no opinion, and none of those that it does not watch.
func TestAWatcherSaysNothingOfWhomItDoesNotKnow(t *testing.T) {
	r, now := newRing([]string{"n1", "n2"}), time.Unix(1000, 0)
	p := newDetector("n1", testTimers)
	p.hear("n9", now)
	p.tick(now, r)
	if !p.opinion.equal(opinion{}) {
		t.Errorf("n1 says %+v at first, want nothing", p.opinion)
	}
	p.run(&now, r, testTimers.silence+2*testTimers.tick(), "n9")
	if want := (opinion{Misses: []string{"n2"}}); !p.opinion.equal(want) {
		t.Errorf("n1 says %+v, want %+v", p.opinion, want)
	}
}

// A process that stood still blames nobody for what it did not read meanwhile, and
// knows that others have given it up.
func TestAProcessThatStoodStill(t *testing.T) {
	r, now := newRing([]string{"n1", "n2"}), time.Unix(1000, 0)
	for _, c := range []struct {
		still  time.Duration
		lapsed bool
	}{
		{testTimers.silence / 2, false},
		{testTimers.silence + testTimers.heartbeat, true},
		{time.Hour, true},
	} {
		p := newDetector("n1", testTimers)
		p.run(&now, r, time.Second, "n2")
		now = now.Add(c.still)
		if _, lapsed := p.tick(now, r); lapsed != c.lapsed || len(p.opinion.Misses) > 0 {
			t.Errorf("after %v: lapsed %t, want %t; misses %v", c.still, lapsed, c.lapsed, p.opinion.Misses)
		}
	}
	alone := newDetector("n1", testTimers)
	alone.tick(now, newRing([]string{"n1"}))
	if _, lapsed := alone.tick(now.Add(time.Hour), newRing([]string{"n1"})); lapsed {
		t.Error("nobody can have taken over from one who is alone")
	}
}

func TestWhoIsDead(t *testing.T) {
	three, five := newRing([]string{"n1", "n2", "n3"}), newRing([]string{"n1", "n2", "n3", "n4", "n5"})
	hears := func(n ...string) opinion { return opinion{Hears: n} }
	misses := func(n ...string) opinion { return opinion{Misses: n} }
	for _, c := range []struct {
		name     string
		ring     ring
		me       opinion // n1's
		opinions map[string]opinion
		want     []string
	}{
		{"all hear all", three, hears("n2", "n3"), map[string]opinion{"n2": hears("n1", "n3"), "n3": hears("n1", "n2")}, nil},
		{"one of two misses it: the way between them may be broken", three, misses("n3"), map[string]opinion{"n2": hears("n3")}, nil},
		{"both miss it", three, misses("n3"), map[string]opinion{"n2": misses("n3")}, []string{"n3"}},
		{"the other has only begun to watch", three, misses("n3"), map[string]opinion{"n2": {}}, []string{"n3"}},
		{"I hear it", three, hears("n3"), map[string]opinion{"n2": misses("n3")}, nil},
		{"I miss both: who I do not hear cannot assumeAlive for the other", three, misses("n2", "n3"), map[string]opinion{"n2": hears("n3"), "n3": hears("n2")}, []string{"n2", "n3"}},
		{"nobody says that I am dead", three, hears("n2", "n3"), map[string]opinion{"n2": misses("n1"), "n3": misses("n1")}, nil},
		{"cut 2 : 3, seen by the three", five, opinion{Hears: []string{"n2", "n3"}, Misses: []string{"n4", "n5"}}, map[string]opinion{
			"n2": misses("n4", "n5"), "n3": misses("n4", "n5"), "n4": hears("n5"), "n5": hears("n4"),
		}, []string{"n4", "n5"}},
		{"cut 2 : 3, seen by the two", five, opinion{Hears: []string{"n2"}, Misses: []string{"n3", "n4", "n5"}}, map[string]opinion{
			"n2": misses("n3", "n4", "n5"), "n3": hears("n4", "n5"), "n4": hears("n3", "n5"), "n5": hears("n3", "n4"),
		}, []string{"n3", "n4", "n5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := newDetector("n1", testTimers)
			p.opinion = c.me
			all := map[string]opinion{"n1": c.me}
			for n, o := range c.opinions {
				all[n] = o
			}
			member := map[string]bool{}
			for _, n := range c.ring {
				member[n] = true
			}
			dead, _ := p.findDead(c.ring, all, member)
			if got := slices.Sorted(maps.Keys(dead)); !slices.Equal(got, c.want) {
				t.Errorf("%v are dead, want %v", got, c.want)
			}
		})
	}
}

// Each is watched by the same number, each watches as many, and a node more
// changes little.
func TestRing(t *testing.T) {
	var names []string
	for i := range 100 {
		names = append(names, fmt.Sprintf("rack%d-%02d", i/10, i))
	}
	r, more := newRing(names), newRing(append(names, "rack9-99"))
	watches, changed, sameRack := map[string]int{}, 0, 0
	for _, n := range names {
		for _, w := range r.watchers(n) {
			watches[w]++
			if !slices.Contains(r.watchedBy(w), n) {
				t.Errorf("%s is watched by %s, which does not watch it", n, w)
			}
			if w[:5] == n[:5] {
				sameRack++
			}
		}
		if !slices.Equal(r.watchers(n), more.watchers(n)) {
			changed++
		}
	}
	for _, n := range names {
		if watches[n] != watchersOfOne {
			t.Errorf("%s watches %d, want %d", n, watches[n], watchersOfOne)
		}
	}
	if changed > watchersOfOne {
		t.Errorf("one node more changes the watchers of %d", changed)
	}
	if sameRack > 100 {
		t.Errorf("%d of 400 watchers are in the rack of whom they watch", sameRack)
	}
	if got := newRing([]string{"n1"}).watchers("n1"); len(got) > 0 {
		t.Errorf("one who is alone is watched by %v", got)
	}
}
