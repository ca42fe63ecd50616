package layer2

import (
	"sync/atomic"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Counts is what became of questions for addresses that are to be announced.
type Counts struct {
	Answered uint64

	// Not answered: while the address is probed, is left to a foreign host, or this
	// node may not say anything; or because the answer could not be sent.
	Probing, Disputed, Stalled, Failed uint64

	Rivals uint64 // times that another node of the cluster was heard to claim an address that is answered for
}

// counters are the Counts of all links of a family.
type counters struct {
	answered, probing, disputed, stalled, failed, rivals atomic.Uint64
}

func (c *counters) read() Counts {
	return Counts{
		Answered: c.answered.Load(), Probing: c.probing.Load(), Disputed: c.disputed.Load(),
		Stalled: c.stalled.Load(), Failed: c.failed.Load(), Rivals: c.rivals.Load(),
	}
}

// Counts returns what became of questions since the beginning. Any goroutine may
// call it.
func (a *Announcer) Counts() map[lb.Family]Counts {
	return map[lb.Family]Counts{lb.IPv4: a.arp.read(), lb.IPv6: a.ndp.read()}
}
