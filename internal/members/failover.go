package members

import (
	"fmt"
	"time"
)

// Failover is how soon a silent speaker counts as failed, and other speakers take over its
// addresses. The zero Failover is none.
type Failover uint8

// The choices: faster detection costs more packets, and is more often wrong about a node that is
// only busy. The comments give the packets, of about a hundred bytes each, that a speaker sends
// per second, and about as many that it receives, in a cluster of five nodes or more. Smaller
// clusters need fewer, larger ones do not need more. Each change adds three packets per gossip
// interval for some intervals, and one packet to each member at once.
const (
	FailoverFast    Failover = iota + 1 // in about 0.2 s: 110 packets a second
	FailoverDefault                     // in about 0.4 s: 50 packets a second
	FailoverRelaxed                     // in about 3 s, for networks that lose packets: 10 packets a second
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
	return fmt.Errorf("%q is not one of fast, default and relaxed", s)
}

// timers are those of the failure detector (detector.go), and of memberlist's below it.
type timers struct {
	heartbeat time.Duration // between two heartbeats
	// silence is how long a watcher hears no heartbeat before it publishes that it misses the
	// node: four heartbeats are lost then. For the same time a member that memberlist takes for
	// dead still counts as alive (see roster.died).
	silence time.Duration

	gossip    time.Duration // between two gossip messages, while there are changes
	interval  time.Duration // between two of memberlist's probes
	timeout   time.Duration // of a probe, before it is repeated through other nodes and by TCP
	suspicion int           // x interval x max(1, log10(nodes)): how long memberlist suspects a node before it is dead
}

// ticksPerHeartbeat is how often per heartbeat interval a speaker checks which nodes it misses:
// more often detects a failure sooner.
const ticksPerHeartbeat = 2

func (t timers) tick() time.Duration { return t.heartbeat / ticksPerHeartbeat }

func (f Failover) timers() timers {
	t := timers{gossip: 100 * time.Millisecond, interval: 500 * time.Millisecond, timeout: 200 * time.Millisecond, suspicion: 3}
	switch f {
	case FailoverFast:
		t.heartbeat, t.silence = 40*time.Millisecond, 170*time.Millisecond
	case FailoverRelaxed:
		t.heartbeat, t.silence = 500*time.Millisecond, 2300*time.Millisecond
		t.gossip, t.interval, t.timeout = 200*time.Millisecond, time.Second, 400*time.Millisecond
	default:
		t.heartbeat, t.silence = 80*time.Millisecond, 400*time.Millisecond
	}
	return t
}
