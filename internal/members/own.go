package members

import (
	"encoding/binary"
	"sync"
	"time"
)

// own is what this speaker publishes about itself, and its messages that are not acknowledged.
type own struct {
	node string // this one

	mu     sync.Mutex // guards the fields below
	record versioned
	outbox outbox
}

func newOwn(node string, generation, term uint64) own {
	return own{node: node, record: versioned{Version: generation, Term: term}, outbox: newOutbox()}
}

// get returns what this speaker publishes about itself.
func (o *own) get() versioned {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.record
}

// update changes that, and returns the message to publish. Its version is higher than the last
// one, or than the one that change sets.
func (o *own) update(change func(*versioned)) message {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.record)
	o.record.Version = min(o.record.Version, maxVersion-1) + 1
	return message{Facts: map[string]versioned{o.node: o.record}}
}

// put keeps a message to these nodes until they acknowledge its number, which it returns.
func (o *own) put(to []string, msg message) (number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.outbox.put(to, msg, time.Now())
}

// acknowledged drops the messages with these numbers, which a node has received.
func (o *own) acknowledged(by string, numbers []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ; len(numbers) >= numberSize; numbers = numbers[numberSize:] {
		o.outbox.acknowledged(by, binary.BigEndian.Uint64(numbers))
	}
}

// repeats returns the messages that are to be sent again now.
func (o *own) repeats(now time.Time) []repeat {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.outbox.repeats(now)
}
