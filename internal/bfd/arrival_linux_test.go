package bfd

import (
	"testing"
	"time"
)

// The kernel's times of arrival, whatever happens to the wall clock.
func TestArrival(t *testing.T) {
	now := time.Now()
	since := now.Add(-100 * ms)
	for name, tt := range map[string]struct {
		stamp       time.Duration // from now, by the wall clock
		from, until time.Time
	}{
		"while we did not look":       {-30 * ms, now.Add(-30 * ms), now.Add(-30 * ms)},
		"the clock was set forward":   {-time.Hour, since, since},
		"the clock was set back":      {time.Hour, now, now.Add(time.Minute)},
		"it arrives while we read":    {0, now, now},
		"just after the last reading": {-100 * ms, since, since},
	} {
		got := arrival(now.Round(0).Add(tt.stamp), since, now)
		if got.Before(tt.from) || got.After(tt.until) {
			t.Errorf("%s: %v from now", name, got.Sub(now))
		}
	}
}
