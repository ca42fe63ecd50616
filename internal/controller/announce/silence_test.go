package announce

import (
	"slices"
	"testing"
	"time"
)

// Who is not heard for a moment is not mentioned, and who is heard again no longer.
func TestSilences(t *testing.T) {
	var clock time.Time
	s := silences{now: func() time.Time { return clock }, since: map[string]time.Time{}}
	for _, step := range []struct {
		at      time.Duration
		unheard []string
		long    []string
		again   time.Duration
	}{
		{0, nil, nil, 0},
		{1 * time.Second, []string{"n2"}, nil, unheardFor},
		{4 * time.Second, []string{"n2", "n3"}, nil, unheardFor},
		{6 * time.Second, []string{"n2", "n3"}, []string{"n2"}, 3 * time.Second},
		{7 * time.Second, []string{"n3"}, nil, 2 * time.Second},
		{8 * time.Second, []string{"n2", "n3"}, nil, unheardFor}, // n2 was heard meanwhile
		{13 * time.Second, []string{"n2", "n3"}, []string{"n2", "n3"}, 0},
		{14 * time.Second, nil, nil, 0},
	} {
		clock = time.Time{}.Add(step.at)
		long, again := s.note(step.unheard)
		if !slices.Equal(long, step.long) || again != step.again {
			t.Errorf("after %v it says %q and %v, want %q and %v", step.at, long, again, step.long, step.again)
		}
	}
}
