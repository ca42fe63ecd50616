package ledger

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// pools are the pools in force. The ledger's lock guards them.
type pools struct {
	valid   map[string]lb.Pool // the last version of each pool that could be parsed
	invalid map[string]error   // why the present version of a pool cannot be parsed
}

// set makes these the pools. Of one that cannot be parsed any more the last good version
// stays in force.
func (p *pools) set(list []v1alpha1.IPAddressPool) {
	valid, invalid := map[string]lb.Pool{}, map[string]error{}
	for i := range list {
		name := list[i].Name
		parsed, err := kube.Pool(&list[i])
		if err != nil {
			invalid[name] = err
			last, ok := p.valid[name]
			if !ok {
				continue
			}
			parsed = last
		}
		valid[name] = parsed
	}
	p.valid, p.invalid = valid, invalid
}

// with returns the names of the pools that have the address.
func (p *pools) with(addr netip.Addr) (names []string) {
	for name, pool := range p.valid {
		if pool.Contains(addr) {
			names = append(names, name)
		}
	}
	return names
}

// SetPools makes pools the pools.
func (l *Ledger) SetPools(pools []v1alpha1.IPAddressPool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.restored {
		l.setPools(pools)
	}
}

func (l *Ledger) setPools(pools []v1alpha1.IPAddressPool) {
	l.pools.set(pools)
	moved := l.alloc.SetPools(slices.Collect(maps.Values(l.pools.valid)))
	l.wake(append(moved, l.adoptUnmanaged()...))
	l.wake(l.alloc.Serve(l.now()))
	for _, p := range pools {
		l.onUse(p.Name)
	}
}
