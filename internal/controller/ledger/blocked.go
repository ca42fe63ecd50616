package ledger

import (
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// ObserveService records the addresses that the Service has in fields which Fairlead does
// not assign.
func (l *Ledger) ObserveService(svc *corev1.Service) {
	l.Occupy(serviceSource(kube.Key(svc)), l.class.Occupied(svc))
}

func serviceSource(key lb.ServiceKey) Source { return Source{"Service", key.Namespace, key.Name} }

// ObserveNode records the addresses that a node has, by its Node and its Speaker; each may
// be nil.
func (l *Ledger) ObserveNode(name string, n *corev1.Node, s *v1alpha1.Speaker) {
	l.Occupy(nodeSource(name), kube.NodeOccupied(name, n, s))
}

func nodeSource(name string) Source { return Source{Kind: "Node", Name: name} }

// ObservePeer records the address of the router that a BGPPeer names; nil when the peer is
// gone.
func (l *Ledger) ObservePeer(name string, p *v1alpha1.BGPPeer) {
	l.Occupy(peerSource(name), kube.PeerOccupied(p))
}

func peerSource(name string) Source { return Source{Kind: "BGPPeer", Name: name} }

// conflictBlockTime is how long an address that a foreign host uses is not assigned.
const conflictBlockTime = time.Hour

// block excludes the address, which a foreign host uses, from assignment for a while.
func (l *Ledger) block(addr netip.Addr) {
	if l.blocks[addr] != nil {
		return
	}
	var timer *time.Timer
	timer = time.AfterFunc(conflictBlockTime, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.blocks[addr] == timer { // else it ended while this waited for the lock
			l.hosts.expire(addr)
			l.unblock(addr)
		}
	})
	l.blocks[addr] = timer
	l.occupy(hostSource(addr), []lb.Blocked{{Addr: addr, Block: lb.Block{Reason: lb.ReasonConflict, Holder: "a host outside of the cluster"}}})
}

// unblock ends what block began.
func (l *Ledger) unblock(addr netip.Addr) {
	if timer := l.blocks[addr]; timer != nil {
		timer.Stop()
		delete(l.blocks, addr)
		l.occupy(hostSource(addr), nil)
	}
}

func hostSource(a netip.Addr) Source { return Source{Kind: "host", Name: a.String()} }

// Occupy makes these the addresses that the source says are in use: they are not assigned.
// Only what changed since the source's last call costs anything.
func (l *Ledger) Occupy(from Source, now []lb.Blocked) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.occupy(from, now)
}

func (l *Ledger) occupy(from Source, now []lb.Blocked) {
	for _, a := range l.occupied.set(from, now) {
		l.wake(l.alloc.SetBlocks(a, l.occupied.blocks(a), l.now()))
		if pool, ok := l.alloc.PoolOf(a); ok {
			l.onUse(pool)
		}
	}
}

// Blocked returns which of the holder's addresses another object or host uses too.
func (l *Ledger) Blocked(key lb.Holder) []lb.Blocked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alloc.Blocked(key)
}

// BlocksOf returns what uses an address beside its holders, sorted.
func (l *Ledger) BlocksOf(a netip.Addr) []lb.Block {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.occupied.blocks(a)
}

// Withheld returns the addresses of a pool that are not assigned because another object or
// host uses them, sorted.
func (l *Ledger) Withheld(pool string) []lb.Blocked {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.alloc.Withheld(pool)
}

// Conflict handles that a host outside of the cluster has the address, which was never
// announced. A Service that did not ask for this very address is given another; but one
// that came with it keeps it, as clients may know it: that host may be another load
// balancer, which Fairlead is about to replace. Where the host answers for every
// address, the Service keeps this one.
func (l *Ledger) Conflict(addr netip.Addr, mac string) Conflict {
	l.mu.Lock()
	defer l.mu.Unlock()
	if !l.fresh[addr] {
		return Conflict{}
	}
	c := l.hosts.conflict(addr, mac, l.now())
	if c.Blocked {
		l.block(addr)
	}
	if c.First {
		l.usedAt(addr)
	}
	return c
}

// ConflictEnded handles that the address is announced, and that no foreign host had it
// first. What was blocked because of a host that answered for it is free again.
func (l *Ledger) ConflictEnded(addr netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.hosts) == 0 {
		return
	}
	for _, a := range l.hosts.stopped(addr) {
		l.unblock(a)
	}
	l.usedAt(addr)
}

// usedAt has the status written of the pools that have the address.
func (l *Ledger) usedAt(addr netip.Addr) {
	for _, name := range l.pools.with(addr) {
		l.onUse(name)
	}
}

// HostsThatAnswerAll returns the MACs of foreign hosts that answer for every address of
// the pool, sorted.
func (l *Ledger) HostsThatAnswerAll(pool string) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	p, ok := l.pools.valid[pool]
	if !ok || len(l.hosts) == 0 {
		return nil
	}
	return l.hosts.answerAll(p.Contains)
}
