package speaker

import (
	"maps"
	"slices"
	"time"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// peers are the speakers that are alive, as plans have them. They are computed again when
// they are others, or their facts have changed.
type peers struct {
	facts    uint64 // members.View.FactsVersion
	alive    []string
	late     map[string]bool
	speakers map[string]plan.Speaker // by node
	version  uint64                  // of speakers: another one with each change
}

// of returns the speakers by node, and their version. They must not be changed.
func (p *peers) of(v members.View) (map[string]plan.Speaker, uint64) {
	if p.facts == v.FactsVersion && slices.Equal(p.alive, v.Alive) && maps.Equal(p.late, v.Late) {
		return p.speakers, p.version
	}
	speakers := make(map[string]plan.Speaker, len(v.Alive))
	for _, node := range v.Alive {
		if f, ok := v.Facts[node]; ok {
			speakers[node] = plan.Speaker{
				Interfaces: f.Interfaces, Joined: f.Joined, Late: v.Late[node], Leaving: f.Leaving, Avoid: avoid(f),
			}
		}
	}
	p.facts, p.alive, p.late = v.FactsVersion, v.Alive, v.Late
	if !maps.EqualFunc(p.speakers, speakers, plan.Speaker.Equal) {
		p.speakers, p.version = speakers, p.version+1
	}
	return p.speakers, p.version
}

// avoid returns why other nodes are preferred to a speaker's node, as it says itself.
func avoid(f members.Facts) (out []lb.Reason) {
	if f.Drained {
		out = append(out, lb.ReasonNodeDrained)
	}
	if f.Unproxied {
		out = append(out, lb.ReasonProxyUnhealthy)
	}
	return out
}

// inputs is the version of what plans depend on and that seldom changes.
type inputs struct{ version, cluster, peers uint64 }

// at returns the version for these versions of the cluster and the peers.
func (i *inputs) at(cluster, peers uint64) uint64 {
	if i.version == 0 || i.cluster != cluster || i.peers != peers {
		*i = inputs{version: i.version + 1, cluster: cluster, peers: peers}
	}
	return i.version
}

// unheardDelay is how long this speaker must not have received anything from another one,
// while the others have, before it reports that: packets are lost now and then.
const unheardDelay = 5 * time.Second

// unheard are the speakers that are alive and that this one does not receive from, as when a
// firewall is between the two.
type unheard struct {
	since map[string]time.Time // node -> when that was found
	long  []string             // those for longer than unheardDelay
}

// set records from whom nothing is received now.
func (u *unheard) set(nodes []string) {
	now := time.Now()
	since := make(map[string]time.Time, len(nodes))
	var long []string
	for _, node := range nodes {
		at, known := u.since[node]
		if !known {
			at = now
		}
		since[node] = at
		if now.Sub(at) >= unheardDelay {
			long = append(long, node)
		}
	}
	u.since, u.long = since, long
}
