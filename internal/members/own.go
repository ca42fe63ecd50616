package members

import (
	"encoding/binary"
	"sync"
	"time"
)

// own is what this speaker says of itself, and the messages that others have not acknowledged.
type own struct {
	node string // this one

	mu     sync.Mutex // guards the fields below
	record versioned
	outbox outbox
}

func newOwn(node string, generation, term uint64) own {
	return own{node: node, record: versioned{Version: generation, Term: term}, outbox: newOutbox()}
}

// get returns what this speaker says of itself.
func (o *own) get() versioned {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.record
}

// update changes that, and returns the message that says so. Each has a higher version than the
// one before, or than the one that change sets.
func (o *own) update(change func(*versioned)) message {
	o.mu.Lock()
	defer o.mu.Unlock()
	change(&o.record)
	o.record.Version = min(o.record.Version, maxVersion-1) + 1
	return message{Facts: map[string]versioned{o.node: o.record}}
}

// put takes in a message to these nodes until they acknowledge its number, which it returns.
func (o *own) put(to []string, msg message) (number uint64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.outbox.put(to, msg, time.Now())
}

// acknowledged takes in the numbers of messages that a node has received.
func (o *own) acknowledged(by string, numbers []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for ; len(numbers) >= numberSize; numbers = numbers[numberSize:] {
		o.outbox.acknowledged(by, binary.BigEndian.Uint64(numbers))
	}
}

// repeats returns what is to be sent again now.
func (o *own) repeats(now time.Time) []repeat {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.outbox.repeats(now)
}
