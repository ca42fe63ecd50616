package ledger

import (
	"github.com/fairlead-lb/fairlead/internal/allocator"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Usage returns the use of a pool and, if it cannot be parsed, why. ok is false
// for a pool that is not in force and never was.
func (l *Ledger) Usage(pool string) (u allocator.Usage, invalid error, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	u, ok = l.alloc.Usage(pool)
	return u, l.pools.invalid[pool], ok
}

// Census is how many addresses there are, and how many Services and claims lack one.
type Census struct {
	Pools   map[string]allocator.Usage
	Waiting map[Lack]int
}

// Lack is a kind of holder that lacks an address, and why.
type Lack struct {
	Kind   lb.HolderKind
	Reason lb.Reason
}

// Census counts. It is empty before Restore.
func (l *Ledger) Census() Census {
	l.mu.Lock()
	defer l.mu.Unlock()
	c := Census{Pools: map[string]allocator.Usage{}, Waiting: map[Lack]int{}}
	for name := range l.pools.valid {
		if u, ok := l.alloc.Usage(name); ok {
			c.Pools[name] = u
		}
	}
	for h, reason := range l.waiting {
		c.Waiting[Lack{h.Kind, reason}]++
	}
	return c
}

// Users returns the holders of addresses of the pool, sorted.
func (l *Ledger) Users(pool string) []lb.Holder {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alloc.Users(pool)
}
