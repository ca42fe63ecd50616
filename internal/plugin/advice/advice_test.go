package advice

import (
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// fine are the reasons about which there is nothing to do: they say how it is, or
// pass by themselves.
var fine = []lb.Reason{
	lb.ReasonAssigned, lb.ReasonKept, lb.ReasonLowest, lb.ReasonFreedLongest, lb.ReasonNamed, lb.ReasonShared, lb.ReasonClaimed,
	lb.ReasonAnnounced, lb.ReasonNodeShutdown, lb.ReasonNodeLeaving, lb.ReasonNotJoined, lb.ReasonNotAssigned,
}

func TestEveryReasonHasAFix(t *testing.T) {
	excused := map[lb.Reason]bool{}
	for _, r := range fine {
		excused[r] = true
	}
	for r := lb.Reason(1); r != 0; r++ {
		// One without a name of its own is no reason, but for those that a Service's
		// condition never has.
		known := !strings.HasPrefix(r.String(), "Reason") || r.Words() != r.String()
		if known && !excused[r] && For(r) == "" {
			t.Errorf("%s has no fix", r)
		}
		if For(r) != "" && excused[r] {
			t.Errorf("%s has a fix and is excused from having one", r)
		}
	}
}
