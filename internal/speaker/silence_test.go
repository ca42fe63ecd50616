package speaker

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
	}{
		{0, nil, nil},
		{1 * time.Second, []string{"n2"}, nil},
		{4 * time.Second, []string{"n2", "n3"}, nil},
		{6 * time.Second, []string{"n2", "n3"}, []string{"n2"}},
		{7 * time.Second, []string{"n3"}, nil},
		{8 * time.Second, []string{"n2", "n3"}, nil}, // n2 was heard meanwhile
		{13 * time.Second, []string{"n2", "n3"}, []string{"n2", "n3"}},
		{14 * time.Second, nil, nil},
	} {
		clock = time.Time{}.Add(step.at)
		if long := s.note(step.unheard); !slices.Equal(long, step.long) {
			t.Errorf("after %v it says %q, want %q", step.at, long, step.long)
		}
	}
}
