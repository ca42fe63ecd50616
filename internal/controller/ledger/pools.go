package ledger

import (
	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// SetPools makes pools the pools. Of one that does not parse any more the last
// good version stays in force.
func (l *Ledger) SetPools(pools []v1alpha1.IPAddressPool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored {
		l.setPools(pools)
	}
}

func (l *Ledger) setPools(pools []v1alpha1.IPAddressPool) {
	next := make(map[string]lb.Pool, len(pools))
	clear(l.invalid)
	for i := range pools {
		name := pools[i].Name
		p, err := kube.Pool(&pools[i])
		if err != nil {
			l.invalid[name] = err
			last, ok := l.pools[name]
			if !ok {
				continue
			}
			p = last
		}
		next[name] = p
	}
	l.pools = next
	all := make([]lb.Pool, 0, len(next))
	for _, p := range next {
		all = append(all, p)
	}
	moved := l.alloc.SetPools(all)
	l.wake(append(moved, l.welcome()...))
	l.wake(l.alloc.Serve(l.now()))
	for _, p := range pools {
		l.onUse(p.Name)
	}
}
