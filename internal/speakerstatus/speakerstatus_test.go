package speakerstatus

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
	told := Report{Ready: true, Reason: v1alpha1.ReasonAnnouncing, Message: "3 speakers connected"}
	fewer, more, unready := told, told, told
	fewer.Message = "2 speakers connected"
	more.Message, more.Owned = fewer.Message, []lb.L2Announcement{{}}
	unready.Ready, unready.Reason = false, v1alpha1.ReasonJoining
	for _, tt := range []struct {
		name        string
		first, next Report
		after       time.Duration // the next comes
		want        Report
		wait        time.Duration
	}{
		{"nothing more", fewer, Report{}, 0, fewer, gatherFor},
		{"more a moment later", fewer, more, 100 * time.Millisecond, more, 100 * time.Millisecond},
		{"the same again", fewer, fewer, 100 * time.Millisecond, fewer, gatherFor},
		{"more", more, Report{}, 0, more, 0},
		{"something else", unready, Report{}, 0, unready, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &Writer{next: make(chan Report, 1), told: &told}
				if tt.after > 0 {
					time.AfterFunc(tt.after, func() { w.Put(tt.next, false) })
				}
				start := time.Now()
				got := w.gather(t.Context(), tt.first)
				if waited := time.Since(start); got.Message != tt.want.Message || len(got.Owned) != len(tt.want.Owned) || waited != tt.wait {
					t.Errorf("after %v it says %q with %d addresses, want %q with %d after %v",
						waited, got.Message, len(got.Owned), tt.want.Message, len(tt.want.Owned), tt.wait)
				}
			})
		})
	}
}
