package members

import (
	"context"
	"net/netip"
	"time"

	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/retry"
)

// Join syncs with the speakers at these endpoints, at the same time, and returns
// whether one of them was reached. It waits for all, since one alone may know
// nothing yet, which takes at most a second; or until ctx ends. A speaker that takes this
// one for a second machine with its name is asked again for a moment: the first may be the
// run before, at another address.
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

// joinOne syncs with the speaker at an endpoint, and returns whether it could.
func (m *Members) joinOne(ctx context.Context, at netip.AddrPort) bool {
	for deadline := time.Now().Add(aliveFor + 2*answerWithin); ctx.Err() == nil; {
		n, err := m.list.Load().Join([]string{at.String()})
		if err == nil {
			return n > 0
		}
		m.cfg.Log.V(1).Info("cannot join a speaker", "endpoint", at.String(), "error", err.Error())
		if !m.transport.sessions.isRefusedBy(at) || time.Now().After(deadline) || retry.Sleep(ctx, answerWithin/2) != nil {
			return false
		}
	}
	return false
}

// syncWith exchanges everything with these members. Each takes a second at most.
func (m *Members) syncWith(nodes ...string) {
	list := m.list.Load()
	if list == nil {
		return // memberlist calls before Start is done; the next full sync comes then
	}
	for _, p := range m.membership.locate(nodes) {
		if _, err := list.Join([]string{p.at.String()}); err != nil {
			m.cfg.Log.V(1).Info("cannot sync with a speaker", "node", p.node, "error", err.Error())
		}
	}
}

// sendState sends everything to a node.
func (m *Members) sendState(to string) {
	list, all := m.list.Load(), m.state.encoded(m.cfg.Node)
	if list == nil {
		return // as in syncWith
	}
	for _, p := range m.membership.locate([]string{to}) {
		n := memberlist.Node{Name: p.node, Addr: p.at.Addr().AsSlice(), Port: p.at.Port()}
		if err := list.SendReliable(&n, all); err != nil {
			m.cfg.Log.V(1).Info("cannot send everything to a speaker", "node", p.node, "error", err.Error())
		}
	}
}
