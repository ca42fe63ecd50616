package layer2

import (
	"sync/atomic"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Counts are the queries for addresses of the rows, by outcome.
type Counts struct {
	Answered uint64

	// Dropped queries: the address is being probed; a foreign host uses it; the speaker was
	// stalled; or sending the reply failed.
	Probing, Disputed, Stalled, Failed uint64

	Rivals uint64 // claims by other nodes of the cluster to an address that this node answers for
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

// Counts returns the queries since the start, by family. It is safe for concurrent use.
func (a *Announcer) Counts() map[lb.Family]Counts {
	return map[lb.Family]Counts{lb.IPv4: a.arp.read(), lb.IPv6: a.ndp.read()}
}
