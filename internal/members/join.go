package members

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/hashicorp/memberlist"
)

// Join syncs with the speakers at these endpoints, at the same time, and returns
// whether one of them was reached. It waits for all, since one alone may know
// nothing yet, which takes at most a second; or until ctx ends. A speaker that takes this
// one for a second machine with its name is asked again for a moment: the first may be the
// run before, at another address.
func (m *Members) Join(ctx context.Context, endpoints []netip.AddrPort) bool {
	m.transport.sessions.expect(endpoints)
	reached, waiting := make(chan bool, len(endpoints)), 0
	for _, e := range endpoints {
		if m.tasks.start(func(stopped context.Context) { reached <- m.joinOne(ctx, stopped, e) }) {
			waiting++
		}
	}
	found := false
	for range waiting {
		select {
		case ok := <-reached:
			found = found || ok
		case <-ctx.Done():
			return found
		case <-m.tasks.ctx.Done():
			return found
		}
	}
	return found
}

// joinOne syncs with the speaker at an endpoint, and returns whether it could.
func (m *Members) joinOne(ctx, stopped context.Context, at netip.AddrPort) bool {
	for deadline := time.Now().Add(aliveFor + 2*answerWithin); ctx.Err() == nil; {
		n, err := m.memberlist().Join([]string{at.String()})
		if err == nil {
			return n > 0
		}
		m.cfg.Log.V(1).Info("cannot join a speaker", "endpoint", at.String(), "error", err.Error())
		if !m.transport.sessions.isRefusedBy(at) || time.Now().After(deadline) {
			return false
		}
		select {
		case <-ctx.Done():
		case <-stopped.Done():
			return false
		case <-time.After(answerWithin / 2):
		}
	}
	return false
}

// syncWith exchanges everything with these members. Each takes a second at most.
func (m *Members) syncWith(nodes ...string) {
	for _, p := range m.whereabouts(nodes) {
		if _, err := m.memberlist().Join([]string{p.at.String()}); err != nil {
			m.cfg.Log.V(1).Info("cannot sync with a speaker", "node", p.node, "error", err.Error())
		}
	}
}

// sendAll sends everything to a node.
func (m *Members) sendAll(to string) {
	list, all := m.memberlist(), m.state.encoded(m.cfg.Node)
	for _, p := range m.whereabouts([]string{to}) {
		n := memberlist.Node{Name: p.node, Addr: p.at.Addr().AsSlice(), Port: p.at.Port()}
		if err := list.SendReliable(&n, all); err != nil {
			m.cfg.Log.V(1).Info("cannot send everything to a speaker", "node", p.node, "error", err.Error())
		}
	}
}

// place is where a node is.
type place struct {
	node string
	at   netip.AddrPort
}

// whereabouts returns where these nodes are, as far as that is known.
func (m *Members) whereabouts(names []string) []place {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]place, 0, len(names))
	for _, name := range names {
		if at, known := m.nodes[name]; known {
			out = append(out, place{name, at})
		}
	}
	return out
}

// others returns the other members, and those that were a moment ago.
func (m *Members) others() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.roster.ring()), func(node string) bool { return node == m.cfg.Node })
}

// met notes that memberlist takes a node for a member, and where it is.
func (m *Members) met(n *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.joined(n.Name)
	ip, _ := netip.AddrFromSlice(n.Addr)
	m.nodes[n.Name] = netip.AddrPortFrom(ip.Unmap(), n.Port)
	m.notify()
}

// lost notes that memberlist takes a node for dead.
func (m *Members) lost(n *memberlist.Node) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.died(n.Name)
	m.notify()
	m.tasks.after(m.timers.silence, m.notify)
}

// vouch notes that a member has just synced with this one.
func (m *Members) vouch(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.vouch(node)
	m.pulses.synced(node, time.Now())
	m.tasks.after(m.timers.silence, m.notify)
}
