package members

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/internal/election"
)

func TestNewsIsRepeatedUntilItIsAcknowledged(t *testing.T) {
	o, now := newOutbox(), time.Unix(1000, 0)
	facts := func(v uint64) message { return message{Facts: map[string]versioned{"n1": {Version: v}}} }
	first := o.put([]string{"n2", "n3"}, facts(1), now)
	check := func(after time.Duration, want ...string) {
		t.Helper()
		now = now.Add(after)
		var got []string
		for _, r := range o.repeats(now) {
			got = append(got, fmt.Sprint(r.to, "/", r.msg.Facts["n1"].Version))
		}
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("%v are repeated, want %v", got, want)
		}
	}
	check(firstRepeat - 1)
	check(1, "n2/1", "n3/1")
	check(firstRepeat)
	o.acknowledged("n3", first)
	o.acknowledged("n4", first)
	check(firstRepeat, "n2/1")
	second := o.put([]string{"n2", "n3"}, facts(2), now)
	o.acknowledged("n2", first) // late, and of what is not current any more
	check(firstRepeat, "n2/2", "n3/2")
	o.acknowledged("n2", second)
	for i := range mostRepeats - 1 {
		check(firstRepeat<<(i+1), "n3/2")
	}
	check(time.Minute) // given up
	if len(o.waiting) > 0 {
		t.Errorf("%d still wait", len(o.waiting))
	}
	for i := range 2 * mostWaiting {
		o.put([]string{"n2"}, message{Claims: map[netip.Addr]election.Claim{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}): {Owner: "n1", Epoch: 1}}}, now)
	}
	if len(o.waiting) > mostWaiting {
		t.Errorf("%d wait, at most %d may", len(o.waiting), mostWaiting)
	}
}
