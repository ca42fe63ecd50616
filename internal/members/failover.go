package members

import (
	"fmt"
	"time"
)

// Failover is how soon a speaker that does not answer is taken for dead, and
// another takes what it owned. The zero Failover is none.
type Failover uint8

// The choices: sooner costs more packets, and more often is wrong about a node
// that is only busy. A speaker sends a probe and answers one, on average, in
// each interval, whatever the size of the cluster, in packets of some hundred
// bytes; while there is news, three more in each gossip interval.
const (
	FailoverFast    Failover = iota + 1 // in about 0.4 s: 20 packets a second
	FailoverDefault                     // in about 0.5 s: 14 packets a second
	FailoverRelaxed                     // in about 5 s, for networks that lose packets: 2 packets a second
)

// String returns the choice as it is written on the command line.
func (f Failover) String() string {
	switch f {
	case FailoverFast:
		return "fast"
	case FailoverDefault:
		return "default"
	case FailoverRelaxed:
		return "relaxed"
	default:
		return fmt.Sprintf("Failover(%d)", uint8(f))
	}
}

// Set makes f what is written on the command line.
func (f *Failover) Set(s string) error {
	for _, c := range []Failover{FailoverFast, FailoverDefault, FailoverRelaxed} {
		if s == c.String() {
			*f = c
			return nil
		}
	}
	return fmt.Errorf("%q is none of fast, default and relaxed", s)
}

// timers are those of the failure detector. Of three nodes, one that stops
// answering is probed within two intervals, suspected at the end of the next and
// dead after suspicion more; a node that misses answers doubts itself and takes
// up to twice as long.
type timers struct {
	interval time.Duration // between two probes
	// timeout is how long a probe's answer may take, before it is repeated by
	// way of others and by TCP until the interval ends. Others wait as long before
	// they say that they have no answer either; less than half of the interval
	// leaves time to hear that, or the prober would doubt itself.
	timeout   time.Duration
	suspicion int           // x interval x max(1, log10(nodes))
	gossip    time.Duration // between two messages, while there is news
}

// rumour is how long a member that is said to be dead is still taken to be
// alive. Who was cut off and comes back says of all others that they have
// died; they hear of it and disagree within a gossip interval or two.
func (t timers) rumour() time.Duration { return 2 * t.gossip }

func (f Failover) timers() timers {
	switch f {
	case FailoverFast:
		return timers{interval: 100 * time.Millisecond, timeout: 35 * time.Millisecond, suspicion: 1, gossip: 40 * time.Millisecond}
	case FailoverRelaxed:
		return timers{interval: time.Second, timeout: 400 * time.Millisecond, suspicion: 3, gossip: 200 * time.Millisecond}
	default:
		return timers{interval: 150 * time.Millisecond, timeout: 50 * time.Millisecond, suspicion: 1, gossip: 50 * time.Millisecond}
	}
}
