package members

import (
	"cmp"
	"hash/fnv"
	"iter"
	"maps"
	"slices"
	"time"
)

// Each speaker sends a pulse to a few others, its watchers, many times a second.
// A watcher says beside its facts whom it hears and whom it misses, and a speaker that
// most of its watchers miss is dead for all. So the time in which a death
// is noticed does not grow with the cluster, and neither do the packets that a
// speaker sends; one watcher alone, which may be the one that is cut off or busy,
// decides nothing. memberlist's own probes go on, slowly, as a net below this:
// for those whose watchers are all away. On a busy machine they are wrong now and
// then; they are not believed about one whose watchers hear it.

// watchersOfOne is how many watch one speaker: all the others, in clusters of up
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

// watchers returns who watches a member: those that follow it.
func (r ring) watchers(node string) []string { return r.around(node, 1) }

// watchedBy returns whom a member watches: those before it.
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

// next is where the few are that come after a member when one goes round in such steps.
func (r ring) next(at, step int) iter.Seq[int] {
	return func(yield func(int) bool) {
		for i := 1; i <= watchersOfOne && i < len(r) && yield((at+i*step)%len(r)); i++ {
		}
	}
}

// opinion is what a watcher says of those that it watches, sorted. Of one that it
// has only begun to watch it says nothing for a moment.
type opinion struct {
	Hears  []string `json:"h,omitempty"`
	Misses []string `json:"q,omitempty"`
}

func (o opinion) equal(p opinion) bool {
	return slices.Equal(o.Hears, p.Hears) && slices.Equal(o.Misses, p.Misses)
}

// missesOnly reports whether all that are missed are among these.
func (o opinion) missesOnly(these []string) bool {
	return !slices.ContainsFunc(o.Misses, func(node string) bool { return !slices.Contains(these, node) })
}

// pulses is what one speaker knows of the pulses of those that it watches.
type pulses struct {
	node     string
	timers   timers
	beats    uint64           // of its own
	last     time.Time        // the last of them
	watched  map[string]watch // by node
	watchers []string         // who is to hear the next pulse
	opinion  opinion
	// unsynced are those that it missed and has not exchanged everything with since,
	// and when it last tried to; back are those to try now, sorted.
	unsynced map[string]time.Time
	back     []string
}

// syncAgain is how long after an attempt to sync with one that is back the next is due.
const syncAgain = 500 * time.Millisecond

// watch is what is known of one that is watched.
type watch struct {
	since time.Time // it was heard, or is watched
	heard bool
}

func newPulses(node string, t timers) pulses {
	return pulses{node: node, timers: t, watched: map[string]watch{}, unsynced: map[string]time.Time{}}
}

// beat is called several times in a pulse's interval, and says what to do: whether
// to send a pulse to the watchers now, and whether this process has stood still
// for so long that it has been taken for dead itself.
func (p *pulses) beat(now time.Time, r ring) (send, lapsed bool) {
	if late := now.Sub(p.last) - p.timers.beat(); !p.last.IsZero() && late > p.timers.pulse {
		// What came meanwhile may not have been read yet: nobody is to be blamed
		// for the time in which this process did not listen.
		for node, w := range p.watched {
			w.since = w.since.Add(late)
			p.watched[node] = w
		}
		lapsed = late > p.timers.silence && len(r) > 1
	}
	p.last = now
	p.watchers = r.watchers(p.node)
	p.look(now, r.watchedBy(p.node))
	p.beats++
	return p.beats%beatsPerPulse == 0, lapsed
}

// look forms an opinion of those that are to be watched.
func (p *pulses) look(now time.Time, watched []string) {
	p.opinion, p.back = opinion{}, nil
	maps.DeleteFunc(p.unsynced, func(node string, _ time.Time) bool { return !slices.Contains(watched, node) })
	maps.DeleteFunc(p.watched, func(node string, _ watch) bool { return !slices.Contains(watched, node) })
	slices.Sort(watched)
	for _, node := range watched {
		w, watching := p.watched[node]
		switch {
		case !watching:
			p.watched[node] = watch{since: now}
		case now.Sub(w.since) > p.timers.silence:
			p.opinion.Misses = append(p.opinion.Misses, node)
			if _, before := p.unsynced[node]; !before {
				p.unsynced[node] = time.Time{}
			}
		case w.heard:
			p.opinion.Hears = append(p.opinion.Hears, node)
			if last, un := p.unsynced[node]; un && now.Sub(last) >= syncAgain {
				p.unsynced[node] = now
				p.back = append(p.back, node)
			}
		}
	}
}

// hear records a speaker's pulse, and reports whether it is one that is watched.
func (p *pulses) hear(node string, now time.Time) bool {
	_, watching := p.watched[node]
	p.watched[node] = watch{since: now, heard: true}
	return watching
}

// lastSign returns when one that is dead since now gave its last sign of life: as
// heard, or as its watchers must have, who say that they miss it after so long.
func (p *pulses) lastSign(node string, now time.Time) time.Time {
	if w := p.watched[node]; w.heard {
		return w.since
	}
	return now.Add(-p.timers.silence)
}

// synced notes that everything was exchanged with a speaker.
func (p *pulses) synced(node string, now time.Time) {
	delete(p.unsynced, node)
	p.watched[node] = watch{since: now, heard: true}
}

// cutOff reports whether this speaker may be cut off itself: of most that it
// watches, pulses are overdue. It knows that before it takes the first of them for
// dead.
func (p *pulses) cutOff() bool {
	overdue := 0
	for _, w := range p.watched {
		if p.last.Sub(w.since) > 2*p.timers.pulse {
			overdue++
		}
	}
	return 2*overdue > len(p.watched)
}

// forgive lets all that this speaker watches be heard of anew.
func (p *pulses) forgive(now time.Time) {
	p.opinion = opinion{}
	for node := range p.watched {
		p.watched[node] = watch{since: now}
	}
}

// judge returns the members that most of their watchers miss, and, by their place in the
// ring, those that most hear; one that this speaker hears itself is heard. The opinion
// of a watcher that is dead, that this speaker misses, or that memberlist does not take
// for a member, does not count: it may be an old one.
func (p *pulses) judge(r ring, opinions map[string]opinion, member map[string]bool) (dead map[string]bool, heard []bool) {
	dead, heard = map[string]bool{}, make([]bool, len(r))
	says, counts := make([]opinion, len(r)), make([]bool, len(r))
	for i, node := range r {
		if node == p.node {
			says[i], counts[i] = p.opinion, true
			continue
		}
		says[i], counts[i] = opinions[node], member[node] && !slices.Contains(p.opinion.Misses, node)
	}
	for more := true; more; {
		more = false
		for at, node := range r {
			if node == p.node || dead[node] {
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
			heard[at] = hear > miss || slices.Contains(p.opinion.Hears, node)
			if miss > hear && !heard[at] {
				dead[node], counts[at], more = true, false, true
			}
		}
	}
	return dead, heard
}
