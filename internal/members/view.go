package members

import (
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/election"
)

// View is what this speaker knows of all. Its maps are only to be read, and Claims
// only until the next View.
type View struct {
	Alive []string         // sorted names of the nodes whose speakers are alive, this one too
	Facts map[string]Facts // by node, of those alive and those that were; nobody may write to it
	// FactsVersion is another one when Facts are not what they were.
	FactsVersion uint64
	// CutOff says that it may be this speaker that is cut off, rather than others dead.
	CutOff bool
	// Unheard are those alive, sorted, whom this speaker should hear itself, and only
	// others do.
	Unheard []string
	// Late are those that have not joined for so long that others are to take over.
	Late   map[string]bool
	Claims map[netip.Addr]election.Claim
	Moved  []netip.Addr // addresses whose claim is another one than in the last View
	// Duplicates are the node names that two machines use. If this is a Duplicate itself, another
	// machine was there first with this node's name, and this one must not announce anything.
	Duplicates map[string]Rival
	Duplicate  bool
	// Fresh are the addresses whose claim came a moment ago. Its owner may be
	// alive, although this speaker does not know that yet.
	Fresh map[netip.Addr]bool
}

// Changed receives after the view changed. It has room for one.
func (m *Members) Changed() <-chan struct{} { return m.changed.signal }

// View returns what is known now. It is for one goroutine at a time: claims are
// many, and are not copied for each.
func (m *Members) View() View {
	alive, cutOff := m.membership.alive(m.state.opinions())
	v := m.state.view(alive)
	v.CutOff, v.Unheard = cutOff, m.membership.unheard(alive)
	if m.transport != nil {
		v.Duplicates, v.Duplicate = m.transport.sessions.duplicates()
	}
	for a := range v.Fresh {
		if _, lives := slices.BinarySearch(alive, v.Claims[a].Owner); !lives {
			m.changed.in(claimIsFresh) // what waited for its owner is decided then
			break
		}
	}
	return v
}

// Duplicate reports whether another machine was there first with this node's name, and where.
func (m *Members) Duplicate() (first netip.AddrPort, duplicate bool) {
	rivals, later := m.transport.sessions.duplicates()
	return rivals[m.cfg.Node].First, later
}

// Alive returns the sorted names of the speakers that are alive.
func (m *Members) Alive() []string {
	alive, _ := m.membership.alive(m.state.opinions())
	return alive
}

// LastSign returns when a speaker that died in the last seconds gave its last sign
// of life, which this one heard itself or knows from others; zero of any other.
func (m *Members) LastSign(node string) time.Time { return m.membership.lastSign(node) }

// Contested returns the addresses on which a claim was heard, since the last
// call, that is lower than the one held: its owner may have announced the
// address meanwhile, so the winner does well to announce it again.
func (m *Members) Contested() []netip.Addr { return m.state.takeContested() }
