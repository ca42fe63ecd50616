package members

import (
	"net/netip"
	"slices"
	"sync"
	"time"
)

// membership is which speakers there are, where they are, and which of them this one hears.
type membership struct {
	node string // this one

	mu        sync.Mutex // guards the fields below
	roster    roster
	detector  detector
	endpoints map[string]netip.AddrPort // where members are, and were
}

func newMembership(node string, t timers) membership {
	return membership{node: node, roster: newRoster(time.Now, t.silence), detector: newDetector(node, t), endpoints: map[string]netip.AddrPort{}}
}

// round is what is to be done after a tick.
type round struct {
	send     bool     // a heartbeat to the watchers
	stalled  bool     // this process stalled for so long that others may take it for dead
	number   uint64   // of the heartbeat
	watchers []string // of this speaker
	opinion  opinion  // of the nodes that it watches
	back     []string // nodes that it hears again, and should sync with
}

// tick updates the opinion of the nodes that this speaker watches.
func (m *membership) tick(now time.Time) round {
	m.mu.Lock()
	defer m.mu.Unlock()
	send, stalled := m.detector.tick(now, m.roster.ring())
	p := &m.detector
	return round{send: send, stalled: stalled, number: p.ticks, watchers: p.watchers, opinion: p.opinion, back: p.back}
}

// receiveHeartbeat records a heartbeat. A node is at the address that its last heartbeat came from:
// memberlist does not accept a new address before it takes the node at the old one for dead.
func (m *membership) receiveHeartbeat(d delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.endpoints[d.node]
	if m.detector.hear(d.node, time.Now()) && known {
		m.endpoints[d.node] = d.from
	}
}

// joined records that memberlist takes a node for a member, and where it is.
func (m *membership) joined(node string, at netip.AddrPort) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.joined(node)
	m.endpoints[node] = at
}

// died records that memberlist takes a node for dead.
func (m *membership) died(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.died(node)
}

// synced records a full sync with a member.
func (m *membership) synced(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.assumeAlive(node)
	m.detector.synced(node, time.Now())
}

// assumeAlive lets these nodes count as alive until they had the time to be heard again.
func (m *membership) assumeAlive(nodes []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.detector.assumeAlive(time.Now())
	for _, node := range nodes {
		m.roster.assumeAlive(node)
	}
}

// alive returns the sorted names of the members that are alive, and whether this speaker may be
// isolated.
func (m *membership) alive(o opinions) (alive []string, cutOff bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.alive(&m.detector, o), m.detector.cutOff()
}

// unheard returns those of the alive members whose heartbeats this speaker misses.
func (m *membership) unheard(alive []string) (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, node := range m.detector.opinion.Misses {
		if _, lives := slices.BinarySearch(alive, node); lives {
			out = append(out, node)
		}
	}
	return out
}

// lastSign returns when a node that died in the last seconds was last heard.
func (m *membership) lastSign(node string) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.signs[node]
}

// others returns the other members, and those that were a moment ago.
func (m *membership) others() []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(m.roster.ring()), func(node string) bool { return node == m.node })
}

// location is where a node is.
type location struct {
	node string
	at   netip.AddrPort
}

// locate returns where these nodes are, as far as that is known.
func (m *membership) locate(names []string) []location {
	m.mu.Lock()
	defer m.mu.Unlock()
	out := make([]location, 0, len(names))
	for _, name := range names {
		if at, known := m.endpoints[name]; known {
			out = append(out, location{name, at})
		}
	}
	return out
}
