package members

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/retry"
)

// Join syncs with the speakers at these endpoints, all at the same time, and returns whether one
// of them was reached. It waits for all, at most a second, as a single one may know nothing yet;
// or until ctx ends. If a speaker refuses this one as a second machine with the same node name,
// Join retries for a moment: the first may be the previous run, at another address.
func (m *Members) Join(ctx context.Context, endpoints []netip.AddrPort) bool {
	m.transport.sessions.expect(endpoints)
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(m.tasks.ctx, cancel)()
	reached, waiting := make(chan bool, len(endpoints)), 0
	for _, e := range endpoints {
		if m.tasks.start(func(context.Context) { reached <- m.joinOne(ctx, e) }) {
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
		}
	}
	return found
}

// joinOne syncs with the speaker at an endpoint, and returns whether that succeeded.
func (m *Members) joinOne(ctx context.Context, at netip.AddrPort) bool {
	for deadline := time.Now().Add(aliveFor + 2*answerWithin); ctx.Err() == nil; {
		n, err := m.list.Load().Join([]string{at.String()})
		if err == nil {
			return n > 0
		}
		m.cfg.Log.V(1).Info("joining a speaker failed", "endpoint", at.String(), "error", err.Error())
		if !m.transport.sessions.isRefusedBy(at) || time.Now().After(deadline) || retry.Sleep(ctx, answerWithin/2) != nil {
			return false
		}
	}
	return false
}

// syncWith exchanges all records with these members, one after the other. Each takes at most a
// second.
func (m *Members) syncWith(nodes ...string) {
	list := m.list.Load()
	if list == nil {
		return // memberlist calls the delegate before Start has its result; the next full sync follows
	}
	for _, p := range m.membership.locate(nodes) {
		if _, err := list.Join([]string{p.at.String()}); err != nil {
			m.cfg.Log.V(1).Info("syncing with a speaker failed", "node", p.node, "error", err.Error())
		}
	}
}

// sendState sends all records to a node.
func (m *Members) sendState(to string) {
	list, all := m.list.Load(), m.state.encoded(m.cfg.Node)
	if list == nil {
		return // as in syncWith
	}
	for _, p := range m.membership.locate([]string{to}) {
		n := memberlist.Node{Name: p.node, Addr: p.at.Addr().AsSlice(), Port: p.at.Port()}
		if err := list.SendReliable(&n, all); err != nil {
			m.cfg.Log.V(1).Info("sending the state to a speaker failed", "node", p.node, "error", err.Error())
		}
	}
}
