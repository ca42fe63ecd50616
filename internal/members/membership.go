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
	pulses    pulses
	endpoints map[string]netip.AddrPort // where members are, and were
}

func newMembership(node string, t timers) membership {
	return membership{node: node, roster: newRoster(time.Now, t.silence), pulses: newPulses(node, t), endpoints: map[string]netip.AddrPort{}}
}

// round is what to do at a time at which heartbeats are due.
type round struct {
	send     bool     // a heartbeat to the watchers
	stalled  bool     // this process did not run for so long that others may take it for dead
	number   uint64   // of the heartbeat
	watchers []string // of this speaker
	opinion  opinion  // of those that it watches
	back     []string // those that it hears again, and should exchange everything with
}

// beat forms an opinion of those that this speaker watches.
func (m *membership) beat(now time.Time) round {
	m.mu.Lock()
	defer m.mu.Unlock()
	send, stalled := m.pulses.beat(now, m.roster.ring())
	p := &m.pulses
	return round{send: send, stalled: stalled, number: p.beats, watchers: p.watchers, opinion: p.opinion, back: p.back}
}

// receiveHeartbeat records a heartbeat. A node is where its last one came from: memberlist does
// not believe that one has another address now before it takes the old one for dead.
func (m *membership) receiveHeartbeat(d delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.endpoints[d.node]
	if m.pulses.hear(d.node, time.Now()) && known {
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

// synced records that a member has just exchanged everything with this one.
func (m *membership) synced(node string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.roster.vouch(node)
	m.pulses.synced(node, time.Now())
}

// forgive takes these nodes to be alive until they had the time to be heard again.
func (m *membership) forgive(nodes []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pulses.forgive(time.Now())
	for _, node := range nodes {
		m.roster.vouch(node)
	}
}

// alive returns the sorted names of the members that are alive, and whether this
// speaker may be cut off.
func (m *membership) alive(o opinions) (alive []string, cutOff bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.roster.alive(&m.pulses, o), m.pulses.cutOff()
}

// unheard returns those of the living whose heartbeats this speaker misses.
func (m *membership) unheard(alive []string) (out []string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, node := range m.pulses.opinion.Misses {
		if _, lives := slices.BinarySearch(alive, node); lives {
			out = append(out, node)
		}
	}
	return out
}

// lastSign returns when a node that died in the last seconds gave its last sign of life.
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
