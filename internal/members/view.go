package members

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/election"
)

// View is what this speaker knows about all speakers. Its maps must not be written to, and Claims
// is valid until the next View.
type View struct {
	Alive []string         // sorted names of the nodes whose speakers are alive, this one too
	Facts map[string]Facts // by node, also of nodes that are not alive
	// FactsVersion is incremented on every change of Facts.
	FactsVersion uint64
	// CutOff reports that this speaker may be isolated, rather than the others dead.
	CutOff bool
	// Unheard are the alive nodes, sorted, whose heartbeats this speaker should receive and does
	// not, while others do.
	Unheard []string
	// Late are the nodes that have not joined for so long that others take over their addresses.
	Late   map[string]bool
	Claims map[netip.Addr]election.Claim
	Moved  []netip.Addr // addresses whose claim has changed since the last View
	// Duplicates are the node names that two machines use. Duplicate reports that another machine
	// used this node's name first, so that this one must not announce anything.
	Duplicates map[string]Rival
	Duplicate  bool
	// Fresh are the addresses whose claim was received a moment ago. Its owner may be alive,
	// although this speaker does not know that yet.
	Fresh map[netip.Addr]bool
}

// Changed receives after the view has changed. It has room for one.
func (m *Members) Changed() <-chan struct{} { return m.changed.signal }

// View returns what is known now. Only one goroutine at a time may use it: there are many claims,
// and they are not copied.
func (m *Members) View() View {
	alive, cutOff := m.membership.alive(m.state.opinions())
	v := m.state.view(alive)
	v.CutOff, v.Unheard = cutOff, m.membership.unheard(alive)
	if m.transport != nil {
		v.Duplicates, v.Duplicate = m.transport.sessions.duplicates()
	}
	for a := range v.Fresh {
		if _, lives := slices.BinarySearch(alive, v.Claims[a].Owner); !lives {
			m.changed.in(claimIsFresh) // to decide then without the owner
			break
		}
	}
	return v
}

// Duplicate reports whether another machine used this node's name first, and at which endpoint.
func (m *Members) Duplicate() (first netip.AddrPort, duplicate bool) {
	rivals, later := m.transport.sessions.duplicates()
	return rivals[m.cfg.Node].First, later
}

// Alive returns the sorted names of the speakers that are alive.
func (m *Members) Alive() []string {
	alive, _ := m.membership.alive(m.state.opinions())
	return alive
}

// LastSign returns when a speaker that died in the last seconds was last heard, by this one or by
// its watchers; zero for all others.
func (m *Members) LastSign(node string) time.Time { return m.membership.lastSign(node) }

// Contested returns the addresses for which a claim lower than the present one was received since
// the last call. Its owner may have announced the address meanwhile, so that the winner should
// announce it again.
func (m *Members) Contested() []netip.Addr { return m.state.takeContested() }
