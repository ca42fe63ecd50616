package members

import (
	"cmp"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"time"
)

// Each speaker sends heartbeats to a few others, its watchers, many times a second. A watcher
// publishes, beside its facts, which speakers it hears and which it misses. A speaker that most
// of its watchers miss is dead for all. So neither the detection time nor the packets that a
// speaker sends grow with the cluster, and a single watcher, which may itself be isolated or
// busy, decides nothing. memberlist's own probes continue, slowly, for speakers whose watchers
// have all failed. On a busy machine these probes are sometimes wrong; they do not count for a
// speaker that its watchers hear.

// watchersOfOne is the number of watchers of a speaker: all the others, in clusters of up
// to five.
const watchersOfOne = 4

// ring is the members in an order that is the same everywhere, and in which nodes
// with neighbouring names, which may share a rack, are seldom neighbours.
type ring []string

func newRing(members []string) ring {
	place := make(map[string]uint64, len(members))
	for _, m := range members {
		h := fnv.New64a()
		h.Write([]byte(m))
		h.Write([]byte{0}) // FNV mixes a byte only with those that follow
		h.Write([]byte{0})
		place[m] = h.Sum64()
	}
	r := slices.Clone(members)
	slices.SortFunc(r, func(x, y string) int { return cmp.Or(cmp.Compare(place[x], place[y]), cmp.Compare(x, y)) })
	return r
}

// watchers returns the watchers of a member: those that follow it.
func (r ring) watchers(node string) []string { return r.around(node, 1) }

// watchedBy returns the members that a member watches: those before it.
func (r ring) watchedBy(node string) []string { return r.around(node, len(r)-1) }

func (r ring) around(node string, step int) []string {
	at := slices.Index(r, node)
	if at < 0 {
		return nil
	}
	nodes := make([]string, 0, watchersOfOne)
	for i := range r.next(at, step) {
		nodes = append(nodes, r[i])
	}
	return nodes
}

// next returns the places of the few that follow a member, in steps of this size.
func (r ring) next(at, step int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 1; i <= watchersOfOne && i < len(r) && yield((at+i*step)%len(r)); i++ {
		}
	}
}

// opinion is which of the speakers that it watches a watcher hears and misses, sorted. One that
// it has just begun to watch is in neither list.
type opinion struct {
	Hears  []string `json:"h,omitempty"`
	Misses []string `json:"q,omitempty"`
}

func (o opinion) equal(p opinion) bool {
	return slices.Equal(o.Hears, p.Hears) && slices.Equal(o.Misses, p.Misses)
}

// missesOnly reports whether all missed speakers are among these.
func (o opinion) missesOnly(these []string) bool {
	return !slices.ContainsFunc(o.Misses, func(node string) bool { return !slices.Contains(these, node) })
}

// detector is the failure detector of one speaker: when it heard each of those that it watches.
type detector struct {
	node     string
	timers   timers
	ticks    uint64           // how often tick was called
	last     time.Time        // when it was last called
	watched  map[string]watch // by node
	watchers []string         // receive this speaker's next heartbeat
	opinion  opinion
	// unsynced are the nodes that it missed and has not synced with since, and when it last
	// tried to; back are those to try now, sorted.
	unsynced map[string]time.Time
	back     []string
}

// resyncInterval is the time between attempts to sync with a node that is heard again.
const resyncInterval = 500 * time.Millisecond

// watch is what is known of a watched node.
type watch struct {
	since time.Time // it was last heard, or has been watched
	heard bool
}

func newDetector(node string, t timers) detector {
	return detector{node: node, timers: t, watched: map[string]watch{}, unsynced: map[string]time.Time{}}
}

// tick is called ticksPerHeartbeat times per heartbeat interval. It returns whether to send a
// heartbeat to the watchers now, and whether this process stalled for so long that the others
// take it for dead.
func (d *detector) tick(now time.Time, r ring) (send, stalled bool) {
	if late := now.Sub(d.last) - d.timers.tick(); !d.last.IsZero() && late > d.timers.heartbeat {
		// Heartbeats that arrived meanwhile may not have been read yet: the time in which this
		// process did not read does not count as silence of the others.
		for node, w := range d.watched {
			w.since = w.since.Add(late)
			d.watched[node] = w
		}
		stalled = late > d.timers.silence && len(r) > 1
	}
	d.last = now
	d.watchers = r.watchers(d.node)
	d.formOpinion(now, r.watchedBy(d.node))
	d.ticks++
	return d.ticks%ticksPerHeartbeat == 0, stalled
}

// formOpinion updates the opinion of the nodes that are to be watched.
func (d *detector) formOpinion(now time.Time, watched []string) {
	d.opinion, d.back = opinion{}, nil
	maps.DeleteFunc(d.unsynced, func(node string, _ time.Time) bool { return !slices.Contains(watched, node) })
	maps.DeleteFunc(d.watched, func(node string, _ watch) bool { return !slices.Contains(watched, node) })
	slices.Sort(watched)
	for _, node := range watched {
		w, watching := d.watched[node]
		switch {
		case !watching:
			d.watched[node] = watch{since: now}
		case now.Sub(w.since) > d.timers.silence:
			d.opinion.Misses = append(d.opinion.Misses, node)
			if _, before := d.unsynced[node]; !before {
				d.unsynced[node] = time.Time{}
			}
		case w.heard:
			d.opinion.Hears = append(d.opinion.Hears, node)
			if last, un := d.unsynced[node]; un && now.Sub(last) >= resyncInterval {
				d.unsynced[node] = now
				d.back = append(d.back, node)
			}
		}
	}
}

// hear records a heartbeat, and reports whether its node is watched.
func (d *detector) hear(node string, now time.Time) bool {
	_, watching := d.watched[node]
	d.watched[node] = watch{since: now, heard: true}
	return watching
}

// lastSign returns when a node that is dead since now was last heard: by this speaker, or else
// by its watchers, which miss it after this time.
func (d *detector) lastSign(node string, now time.Time) time.Time {
	if w := d.watched[node]; w.heard {
		return w.since
	}
	return now.Add(-d.timers.silence)
}

// synced records a full sync with a node.
func (d *detector) synced(node string, now time.Time) {
	delete(d.unsynced, node)
	d.watched[node] = watch{since: now, heard: true}
}

// cutOff reports whether this speaker may itself be isolated: the heartbeats of most nodes that
// it watches are overdue. This is known before the first of them counts as dead.
func (d *detector) cutOff() bool {
	overdue := 0
	for _, w := range d.watched {
		if d.last.Sub(w.since) > 2*d.timers.heartbeat {
			overdue++
		}
	}
	return 2*overdue > len(d.watched)
}

// assumeAlive gives every watched node the time to be heard again.
func (d *detector) assumeAlive(now time.Time) {
	d.opinion = opinion{}
	for node := range d.watched {
		d.watched[node] = watch{since: now}
	}
}

// findDead returns the members that most of their watchers miss, and, by their place in the
// ring, those that most of them hear. A member that this speaker hears itself counts as heard.
// The opinion of a watcher that is dead, that this speaker misses, or that is no member for
// memberlist, does not count: it may be outdated.
func (d *detector) findDead(r ring, opinions map[string]opinion, member map[string]bool) (dead map[string]bool, heard []bool) {
	dead, heard = map[string]bool{}, make([]bool, len(r))
	says, counts := make([]opinion, len(r)), make([]bool, len(r))
	for i, node := range r {
		if node == d.node {
			says[i], counts[i] = d.opinion, true
			continue
		}
		says[i], counts[i] = opinions[node], member[node] && !slices.Contains(d.opinion.Misses, node)
	}
	for more := true; more; {
		more = false
		for at, node := range r {
			if node == d.node || dead[node] {
				continue
			}
			hear, miss := 0, 0
			for w := range r.next(at, 1) {
				switch {
				case !counts[w]:
				case slices.Contains(says[w].Hears, node):
					hear++
				case slices.Contains(says[w].Misses, node):
					miss++
				}
			}
			heard[at] = hear > miss || slices.Contains(d.opinion.Hears, node)
			if miss > hear && !heard[at] {
				dead[node], counts[at], more = true, false, true
			}
		}
	}
	return dead, heard
}
