package assign

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// A controller that overwrites the status whenever it is restored is noticed after three
// times, and the status is restored less and less often.
func TestOverwrites(t *testing.T) {
	o := newOverwrites()
	key := lb.ServiceKey{Namespace: "shop", Name: "web"}
	start := time.Unix(1_700_000_000, 0)
	now := start
	var delays []time.Duration
	for range 11 {
		wait := o.delay(key, now)
		delays = append(delays, wait)
		now = now.Add(wait)
		o.restored(key, "svclb", now)
		if other := o.delay(lb.ServiceKey{Namespace: "shop", Name: "other"}, now); other != 0 {
			t.Fatalf("another Service waits for %v", other)
		}
	}
	want := []time.Duration{0, 0, 0, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second, 32 * time.Second, time.Minute, time.Minute}
	if diff := cmp.Diff(want, delays); diff != "" {
		t.Errorf("delays (-want +got):\n%s", diff)
	}
	manager, left, is := o.conflict(key, now)
	if manager != "svclb" || left != settlePeriod || !is {
		t.Errorf("the conflict is with %q for %v: %v", manager, left, is)
	}
	if _, left, is := o.conflict(key, now.Add(settlePeriod-time.Second)); !is || left != time.Second {
		t.Errorf("a second before it has ended: %v, %v", left, is)
	}
	if _, _, is := o.conflict(key, now.Add(settlePeriod)); is {
		t.Errorf("the conflict has not ended after %v", settlePeriod)
	}
	if wait := o.delay(key, now.Add(settlePeriod)); wait != 0 {
		t.Errorf("after the conflict the next restoration waits for %v", wait)
	}
}

// Overwrites that are far from each other, such as a user's, are no conflict.
func TestRareOverwritesAreNoConflict(t *testing.T) {
	o := newOverwrites()
	key := lb.ServiceKey{Namespace: "shop", Name: "web"}
	now := time.Unix(1_700_000_000, 0)
	for range 10 {
		if wait := o.delay(key, now); wait != 0 {
			t.Errorf("it waits for %v", wait)
		}
		o.restored(key, "kubectl", now)
		if _, _, is := o.conflict(key, now); is {
			t.Error("it is a conflict")
		}
		now = now.Add(settlePeriod + time.Second)
	}
	o.restored(key, "kubectl", now)
	o.forget(key)
	if _, left, _ := o.conflict(key, now); left != 0 {
		t.Errorf("of a Service that is gone %v are left", left)
	}
}
