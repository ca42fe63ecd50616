package members

import (
	"slices"
	"time"
)

// remembered is how long a member that memberlist takes for dead keeps its place
// in the ring. If it left at once, all would watch others than before: also when
// the death is a mistake, which on a busy machine makes for more of them.
const remembered = 10 * time.Second

// roster is who there is, and what memberlist thinks of them.
type roster struct {
	now   func() time.Time
	doubt time.Duration        // how long a death, or a return, is not believed of one without watchers
	known map[string]time.Time // node -> since when memberlist takes it for dead; zero for its members
	until map[string]time.Time // node -> as long as when it is taken to be alive
	order ring                 // of those known, nil when it has to be made again

	edition uint64  // incremented by setKnown on every change of known
	last    verdict // the last one

	lived []string             // who was alive at the last look
	signs map[string]time.Time // node that was alive and is not, while in the ring -> its last sign of life
}

func newRoster(now func() time.Time, doubt time.Duration) roster {
	return roster{now: now, doubt: doubt, known: map[string]time.Time{}, until: map[string]time.Time{}, signs: map[string]time.Time{}}
}

// setKnown changes known, and drops what was made from it.
func (r *roster) setKnown(change func()) {
	change()
	r.order = nil
	r.edition++
}

// joined notes that memberlist takes a node for a member.
func (r *roster) joined(node string) {
	delete(r.until, node)
	r.setKnown(func() { r.known[node] = time.Time{} })
}

// died notes that memberlist takes a node for dead. Who was cut off and comes back
// says of all others that they have died; they hear of it and disagree.
func (r *roster) died(node string) {
	r.setKnown(func() { r.known[node] = r.now() })
	r.vouch(node)
}

// vouch notes that there is reason to take a node to be alive for a while, as one
// that has just been spoken to.
func (r *roster) vouch(node string) { r.until[node] = r.now().Add(r.doubt) }

// ring returns those that are members, or were a moment ago.
func (r *roster) ring() ring {
	for node, since := range r.known {
		if !since.IsZero() && r.now().Sub(since) > remembered {
			r.setKnown(func() { delete(r.known, node) })
			delete(r.signs, node)
		}
	}
	if r.order == nil {
		names := make([]string, 0, len(r.known))
		for node := range r.known {
			names = append(names, node)
		}
		r.order = newRing(names)
	}
	return r.order
}

// opinions are those of all speakers.
type opinions struct {
	of      map[string]opinion // by node
	version uint64             // incremented by state.setFacts on every change
}

// verdict is who is dead and who is alive, and what that follows from.
type verdict struct {
	opinions, edition uint64
	mine              opinion
	dead              map[string]bool
	alive             []string
}

// judge returns who is dead, as most of the watchers say, and who is alive: whom most of
// the watchers hear, and where these say nothing, whom memberlist takes for a member.
func (r *roster) judge(p *pulses, o opinions) (dead map[string]bool, alive []string) {
	all := r.ring()
	if v := &r.last; v.dead != nil && v.opinions == o.version && v.edition == r.edition && v.mine.equal(p.opinion) {
		return v.dead, v.alive
	}
	member := make(map[string]bool, len(r.known))
	for node, since := range r.known {
		member[node] = since.IsZero()
	}
	dead, heard := p.judge(all, o.of, member)
	for i, node := range all {
		if !dead[node] && (heard[i] || member[node]) {
			alive = append(alive, node)
		}
	}
	r.last = verdict{opinions: o.version, edition: r.edition, mine: p.opinion, dead: dead, alive: alive}
	return dead, alive
}

// alive returns the sorted names of those that are alive, as judge says, and of those
// that somebody has vouched for.
func (r *roster) alive(p *pulses, o opinions) []string {
	dead, alive := r.judge(p, o)
	alive = slices.Clone(alive)
	for node, until := range r.until {
		switch {
		case !r.now().Before(until):
			delete(r.until, node)
		case !dead[node]:
			alive = append(alive, node)
		}
	}
	slices.Sort(alive)
	alive = slices.Compact(alive)
	r.mourn(alive, p)
	return alive
}

// mourn notes when those who are not alive any more gave their last sign of life.
func (r *roster) mourn(alive []string, p *pulses) {
	if slices.Equal(alive, r.lived) {
		return
	}
	for _, node := range r.lived {
		if _, lives := slices.BinarySearch(alive, node); !lives {
			r.signs[node] = p.lastSign(node, r.now())
		}
	}
	for _, node := range alive {
		delete(r.signs, node)
	}
	r.lived = alive
}
