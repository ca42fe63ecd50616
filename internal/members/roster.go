package members

import (
	"slices"
	"time"
)

// remembered is how long a member that memberlist takes for dead keeps its place in the ring. If
// it left the ring at once, all members would watch different ones. memberlist is sometimes wrong
// on a busy machine, and these changes cause more load and more errors.
const remembered = 10 * time.Second

// roster is the nodes that memberlist knows, and which of them are alive.
type roster struct {
	now   func() time.Time
	doubt time.Duration        // how long assumeAlive counts
	known map[string]time.Time // node -> since when memberlist takes it for dead; zero for members
	until map[string]time.Time // node -> until when it counts as alive unless its watchers miss it
	order ring                 // of the known nodes; nil when it must be computed again

	edition uint64  // incremented by setKnown on every change of known
	last    verdict // cached

	lastAlive []string             // as of the last call of alive
	signs     map[string]time.Time // node in the ring that died -> when it was last heard
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

// joined records that memberlist takes a node for a member.
func (r *roster) joined(node string) {
	delete(r.until, node)
	r.setKnown(func() { r.known[node] = time.Time{} })
}

// died records that memberlist takes a node for dead. A speaker that was isolated and comes back
// publishes that all others died; they receive that and refute it.
func (r *roster) died(node string) {
	r.setKnown(func() { r.known[node] = r.now() })
	r.assumeAlive(node)
}

// assumeAlive lets a node count as alive for a while, as after a full sync with it.
func (r *roster) assumeAlive(node string) { r.until[node] = r.now().Add(r.doubt) }

// ring returns the members, and those that were members in the last seconds.
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

// opinions are what all speakers publish about the ones that they watch.
type opinions struct {
	of      map[string]opinion // by node
	version uint64             // incremented by state.setFacts on every change
}

// verdict is which nodes are dead and alive, and what it was computed from.
type verdict struct {
	opinions, edition uint64
	mine              opinion
	dead              map[string]bool
	alive             []string
}

// decide returns the dead nodes, which most of their watchers miss, and those alive: the ones that
// most of their watchers hear, and memberlist's members without an opinion of their watchers.
func (r *roster) decide(d *detector, o opinions) (dead map[string]bool, alive []string) {
	all := r.ring()
	if v := &r.last; v.dead != nil && v.opinions == o.version && v.edition == r.edition && v.mine.equal(d.opinion) {
		return v.dead, v.alive
	}
	member := make(map[string]bool, len(r.known))
	for node, since := range r.known {
		member[node] = since.IsZero()
	}
	dead, heard := d.findDead(all, o.of, member)
	for i, node := range all {
		if !dead[node] && (heard[i] || member[node]) {
			alive = append(alive, node)
		}
	}
	r.last = verdict{opinions: o.version, edition: r.edition, mine: d.opinion, dead: dead, alive: alive}
	return dead, alive
}

// alive returns the sorted names of the nodes that are alive as decide returns them, and of those
// that assumeAlive was called for.
func (r *roster) alive(d *detector, o opinions) []string {
	dead, alive := r.decide(d, o)
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
	r.recordDeaths(alive, d)
	return alive
}

// recordDeaths records when the nodes that have died since the last call were last heard.
func (r *roster) recordDeaths(alive []string, d *detector) {
	if slices.Equal(alive, r.lastAlive) {
		return
	}
	for _, node := range r.lastAlive {
		if _, lives := slices.BinarySearch(alive, node); !lives {
			r.signs[node] = d.lastSign(node, r.now())
		}
	}
	for _, node := range alive {
		delete(r.signs, node)
	}
	r.lastAlive = alive
}
