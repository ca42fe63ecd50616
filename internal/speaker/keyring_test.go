package speaker

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestKeyring(t *testing.T) {
	keys := func(names string) (out [][]byte) {
		for i := range names {
			out = append(out, []byte(names[i:i+1]))
		}
		return out
	}
	type step struct {
		after    time.Duration
		inSecret string
		want     string
		again    time.Duration
	}
	for _, c := range []struct {
		why   string
		steps []step
	}{
		{"step by step", []step{{0, "a", "a", 0}, {0, "ab", "ab", 0}, {0, "ba", "ba", 0}, {0, "b", "b", 0}}},
		{"the Secret is made again", []step{
			{0, "b", "ab", encryptWithOldFor}, {time.Second, "b", "ab", encryptWithOldFor - time.Second},
			{encryptWithOldFor, "b", "ba", understandOldFor - time.Second - encryptWithOldFor}, {understandOldFor, "b", "b", 0},
		}},
		{"twice within a moment", []step{{0, "b", "ab", encryptWithOldFor}, {time.Second, "c", "acb", encryptWithOldFor}, {encryptWithOldFor, "c", "cab", understandOldFor - encryptWithOldFor}}},
		{"and back", []step{{0, "b", "ab", encryptWithOldFor}, {time.Second, "a", "a", 0}}},
		{"the next step of a change comes early", []step{{0, "b", "ab", encryptWithOldFor}, {time.Second, "bc", "abc", encryptWithOldFor}}},
		{"all but one", []step{{0, "cab", "cab", 0}, {0, "d", "cdab", encryptWithOldFor}}},
	} {
		t.Run(c.why, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k := newKeyring(keys("a"), 1)
				for i, s := range c.steps {
					time.Sleep(s.after)
					use, again := k.next(keys(s.inSecret))
					if got := string(bytes.Join(use, nil)); got != s.want || again != s.again {
						t.Errorf("step %d: %s for %v, want %s for %v", i+1, got, again, s.want, s.again)
					}
				}
			})
		})
	}
}
