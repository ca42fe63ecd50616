package members

import (
	"fmt"
	"time"
)

// Failover is how soon a speaker that does not answer is taken for dead, and
// another takes what it owned. The zero Failover is none.
type Failover uint8

// The choices: sooner costs more packets, and is more often wrong about a node
// that is only busy. Packets are those of some hundred bytes that a speaker sends
// in a second, and about as many that it receives, in a cluster of five nodes or
// more; smaller ones need less, larger ones do not need more. While there is
// news, three more go out in each gossip interval, and one to each member at once.
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
	return fmt.Errorf("%q is none of fast, default and relaxed", s)
}

// timers are those of the failure detector (pulse.go), and of memberlist's below it.
type timers struct {
	pulse time.Duration // between two pulses
	// silence is how long a watcher hears none before it says so: four of them are
	// lost. As long, a member that memberlist takes for dead is still taken to be
	// alive: who was cut off and comes back says of all others that they have died;
	// they hear of it and disagree.
	silence time.Duration

	gossip    time.Duration // between two messages, while there is news
	interval  time.Duration // between two of memberlist's probes
	timeout   time.Duration // of a probe, before it is repeated by way of others and by TCP
	suspicion int           // x interval x max(1, log10(nodes)): how long memberlist doubts a death
}

// beatsPerPulse is how often in a pulse's interval a speaker looks whom it misses:
// the finer, the sooner it notices.
const beatsPerPulse = 2

func (t timers) beat() time.Duration { return t.pulse / beatsPerPulse }

func (f Failover) timers() timers {
	t := timers{gossip: 100 * time.Millisecond, interval: 500 * time.Millisecond, timeout: 200 * time.Millisecond, suspicion: 3}
	switch f {
	case FailoverFast:
		t.pulse, t.silence = 40*time.Millisecond, 170*time.Millisecond
	case FailoverRelaxed:
		t.pulse, t.silence = 500*time.Millisecond, 2300*time.Millisecond
		t.gossip, t.interval, t.timeout = 200*time.Millisecond, time.Second, 400*time.Millisecond
	default:
		t.pulse, t.silence = 80*time.Millisecond, 400*time.Millisecond
	}
	return t
}
