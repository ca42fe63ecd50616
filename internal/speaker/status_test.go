package speaker

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// How many speakers are in touch is said a moment later, with what else there is to say
// then; anything else at once.
func TestStatusGathersWhatFollowsADeath(t *testing.T) {
	told := report{ready: true, reason: v1alpha1.ReasonAnnouncing, message: "3 speakers in touch"}
	fewer, more, unready := told, told, told
	fewer.message = "2 speakers in touch"
	more.message, more.owned = fewer.message, []lb.L2Announcement{{}}
	unready.ready, unready.reason = false, v1alpha1.ReasonJoining
	for _, tt := range []struct {
		name        string
		first, next report
		after       time.Duration // the next comes
		want        report
		wait        time.Duration
	}{
		{"nothing more", fewer, report{}, 0, fewer, gatherFor},
		{"more a moment later", fewer, more, 100 * time.Millisecond, more, 100 * time.Millisecond},
		{"the same again", fewer, fewer, 100 * time.Millisecond, fewer, gatherFor},
		{"more", more, report{}, 0, more, 0},
		{"something else", unready, report{}, 0, unready, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &statusWriter{next: make(chan report, 1), told: &told}
				if tt.after > 0 {
					time.AfterFunc(tt.after, func() { w.put(tt.next, false) })
				}
				start := time.Now()
				got := w.gather(t.Context(), tt.first)
				if waited := time.Since(start); got.message != tt.want.message || len(got.owned) != len(tt.want.owned) || waited != tt.wait {
					t.Errorf("after %v it says %q with %d addresses, want %q with %d after %v",
						waited, got.message, len(got.owned), tt.want.message, len(tt.want.owned), tt.wait)
				}
			})
		})
	}
}
