package speaker

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"
)

// A speaker that is not heard for a moment is not reported, nor one that is heard again.
func TestUnheard(t *testing.T) {
	synctest.Test(t, testUnheard)
}

func testUnheard(t *testing.T) {
	var u unheard
	began := time.Now()
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
		time.Sleep(time.Until(began.Add(step.at)))
		if u.set(step.unheard); !slices.Equal(u.long, step.long) {
			t.Errorf("after %v it reports %q, want %q", step.at, u.long, step.long)
		}
	}
}
