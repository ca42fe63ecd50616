package members

import (
	"cmp"
	"slices"
	"time"
)

// A speaker sends its facts and claims to all others at once, and again to those that have not
// acknowledged them: first after firstRepeat, then after twice as long each time. After the last
// repetition gossip and the next full sync remain.
const (
	firstRepeat = 50 * time.Millisecond
	mostRepeats = 7 // in 6.4 s
	// mostWaiting bounds the memory: the oldest messages are dropped first.
	mostWaiting = 4096
)

// outbox is the messages that are not acknowledged. It does not send.
type outbox struct {
	last    uint64 // number of a message
	waiting map[parcel]*unacked
	names   map[uint64]string // number -> name, of waiting messages and a few more
}

// parcel is a message to one speaker. A later one of the same name replaces it.
type parcel struct{ to, name string }

type unacked struct {
	number  uint64
	msg     message
	due     time.Time
	repeats int
}

// repeat is a message that is to be sent again.
type repeat struct {
	to     string
	number uint64
	msg    message
}

func newOutbox() outbox { return outbox{waiting: map[parcel]*unacked{}, names: map[uint64]string{}} }

// put adds a message that is sent to these speakers now, and returns its number.
func (o *outbox) put(to []string, msg message, now time.Time) uint64 {
	o.last++
	name := msg.name()
	o.names[o.last] = name
	for _, node := range to {
		o.waiting[parcel{node, name}] = &unacked{number: o.last, msg: msg, due: now.Add(firstRepeat)}
	}
	for len(o.waiting) > mostWaiting {
		o.dropOldest()
	}
	if len(o.names) > 2*mostWaiting {
		o.forgetNames()
	}
	return o.last
}

// forgetNames drops the names of messages that are not waiting.
func (o *outbox) forgetNames() {
	clear(o.names)
	for p, u := range o.waiting {
		o.names[u.number] = p.name
	}
}

func (o *outbox) dropOldest() {
	oldest := o.last
	for _, u := range o.waiting {
		oldest = min(oldest, u.number)
	}
	for p, u := range o.waiting {
		if u.number == oldest {
			delete(o.waiting, p)
		}
	}
}

// acknowledged drops a message that a speaker has received.
func (o *outbox) acknowledged(by string, number uint64) {
	p := parcel{by, o.names[number]}
	if u := o.waiting[p]; u != nil && u.number == number {
		delete(o.waiting, p)
	}
}

// repeats returns the messages that are to be sent again now, in order.
func (o *outbox) repeats(now time.Time) (out []repeat) {
	for p, u := range o.waiting {
		if now.Before(u.due) {
			continue
		}
		if u.repeats++; u.repeats > mostRepeats {
			delete(o.waiting, p)
			continue
		}
		u.due = now.Add(firstRepeat << u.repeats)
		out = append(out, repeat{p.to, u.number, u.msg})
	}
	slices.SortFunc(out, func(x, y repeat) int { return cmp.Or(cmp.Compare(x.number, y.number), cmp.Compare(x.to, y.to)) })
	return out
}
