// Package notify lets goroutines wake one that has something to look at.
package notify

// Signal has room for one poke: the receiver looks at everything,
// however often it was poked meanwhile.
type Signal chan struct{}

// New returns a signal that was not poked.
func New() Signal { return make(Signal, 1) }

// Poke wakes who waits for s, or will. It never blocks.
func (s Signal) Poke() {
	select {
	case s <- struct{}{}:
	default: // one is waiting already
	}
}
