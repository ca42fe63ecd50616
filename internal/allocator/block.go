package allocator

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// SetBlocks makes blocks, which are sorted, what has the address beside the holders; none
// ends that. A blocked address is not assigned again: a holder that has it keeps it,
// except that a Service which did not name it is given another where a foreign host has it
// (lb.ReasonConflict), which only happens to an address that was never announced. SetBlocks
// returns those whose answer changed, and those who have the address.
func (a *Allocator) SetBlocks(addr netip.Addr, blocks []lb.Block, now time.Time) []lb.Holder {
	before := a.blocked[addr]
	if slices.Equal(before, blocks) {
		return nil
	}
	happened := []topic{{addr: addr}}
	p, f := a.poolOf(addr), lb.FamilyOf(addr)
	inPool := p != nil && a.owners[addr] == nil
	switch {
	case len(blocks) == 0:
		a.withhold(addr, -1)
		delete(a.blocked, addr)
		if inPool {
			p.free[f].put(addr, now)
			happened = append(happened, topic{pool: p, family: f})
		}
	case len(before) == 0:
		a.blocked[addr] = blocks
		a.withhold(addr, 1)
		if inPool {
			p.free[f].take(addr)
		}
	default:
		a.blocked[addr] = blocks
	}
	woken := a.serve(happened, now)
	for _, h := range a.holders(addr) {
		if !slices.Contains(woken, h) {
			woken = append(woken, h)
		}
	}
	return woken
}

// holders returns the holders of the address: its owner, and its users.
func (a *Allocator) holders(addr netip.Addr) (out []lb.Holder) {
	owner := a.owners[addr]
	if owner == nil {
		return nil
	}
	out = append(out, owner.holder())
	for _, h := range a.users(addr) {
		if h != owner {
			out = append(out, h.holder())
		}
	}
	return out
}

func (a *Allocator) isBlocked(addr netip.Addr) bool { return len(a.blocked[addr]) > 0 }

// withhold adds n to the pool's count of blocked addresses, if this is one that is not
// assigned.
func (a *Allocator) withhold(addr netip.Addr, n int) {
	if len(a.blocked) == 0 || !a.isBlocked(addr) || a.owners[addr] != nil {
		return
	}
	if p := a.poolOf(addr); p != nil {
		p.withheld[lb.FamilyOf(addr)] += n
	}
}

// conflicts reports whether a host outside of the cluster has the address.
func (a *Allocator) conflicts(addr netip.Addr) bool {
	return slices.ContainsFunc(a.blocked[addr], func(b lb.Block) bool { return b.Reason == lb.ReasonConflict })
}

// blockFor returns what keeps the holder from having the address, or nil. The Service
// that names the address in a field may have it, and those that share it with that one.
func (a *Allocator) blockFor(h *holding, addr netip.Addr) *lb.Block {
	blocks := a.blocked[addr]
	for i := range blocks {
		b := &blocks[i]
		if b.Service == (lb.ServiceKey{}) {
			return b
		}
		if s := a.find(b.Service.Holder()); s == nil || s != h && !s.has(addr) {
			return b
		}
	}
	return nil
}

// blocks returns which of the holder's addresses something else has too.
func (a *Allocator) blocks(h *holding) (out []lb.Blocked) {
	if len(a.blocked) == 0 {
		return nil
	}
	for g := range h.grants {
		if b := a.blockFor(h, g.addr); b != nil && b.Reason != lb.ReasonConflict { // that the speakers report
			out = append(out, lb.Blocked{Addr: g.addr, Block: *b})
		}
	}
	return out
}

// Blocked returns which of the holder's addresses something else has too.
func (a *Allocator) Blocked(key lb.Holder) []lb.Blocked {
	if h := a.find(key); h != nil {
		return a.blocks(h)
	}
	return nil
}

// PoolOf returns the active pool that has the address, if one does.
func (a *Allocator) PoolOf(addr netip.Addr) (name string, ok bool) {
	if p := a.poolOf(addr); p != nil {
		return p.Name, true
	}
	return "", false
}

// Withheld returns the addresses of the pool that are blocked and not assigned, sorted.
func (a *Allocator) Withheld(pool string) (out []lb.Blocked) {
	p := a.pools[pool]
	if p == nil || p.withheld[lb.IPv4]+p.withheld[lb.IPv6] == 0 {
		return nil
	}
	for addr, blocks := range a.blocked {
		if a.owners[addr] == nil && a.poolOf(addr) == p {
			out = append(out, lb.Blocked{Addr: addr, Block: blocks[0]})
		}
	}
	slices.SortFunc(out, func(x, y lb.Blocked) int { return x.Addr.Compare(y.Addr) })
	return out
}
