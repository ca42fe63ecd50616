package members

import (
	"cmp"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"
)

// The checks.

// component is a set of nodes that reach each other, and no others.
type component struct {
	nodes      []int
	candidates int
	key        string
	since      time.Duration
	whole      bool // nobody who is well is outside
	disturbed  bool // packets are lost: nothing is promised
}

// checker watches who answers for which address.
type checker struct {
	sim     *simulation
	failure *failure
	on      [][]int // address -> nodes that answer
	parts   []component
	partOf  []int
	main    int // the largest part

	changedAt []time.Duration // address -> when it was given out or taken back
	noneSince []time.Duration // address -> since when the main part lacks it, or -1
	twoSince  []time.Duration // address -> since when a part has it twice, or -1
	more      []time.Duration // address -> since when a part has it more than twice, or -1
	served    []bool
	before    []int // address -> who answered when the first fault came
	fewest    int   // candidates of the main part since the first fault
	during    []int // the last moment before the last fault ended
	stats     stats
}

// failure is what was found to be wrong.
type failure struct {
	rule    string
	at      time.Duration
	address int
	what    string
}

// stats are of one run, or of many.
type stats struct {
	runs, addresses      int
	none, two, settle    time.Duration // the longest that an address had no owner, two, or was not settled
	three                time.Duration // or more than two
	noneAt, twoAt, setAt uint64        // seeds
	unneeded, back       int           // addresses that moved though their owner was well; to one who returned
	moved                int           // runs with such
	movedAt              uint64
	outages              []time.Duration // of each run the longest that an address had no owner
	most                 float64         // owned by one, of what is allowed
	unfair               int             // runs with an owner of too many
}

func newChecker(s *simulation) *checker {
	c := &checker{sim: s, on: make([][]int, s.scenario.addresses), partOf: make([]int, s.scenario.capacity), served: make([]bool, s.scenario.addresses)}
	c.changedAt = slices.Repeat([]time.Duration{math.MaxInt64 / 2}, s.scenario.addresses) // not given out yet
	c.noneSince = slices.Repeat([]time.Duration{-1}, s.scenario.addresses)
	c.twoSince, c.more = slices.Clone(c.noneSince), slices.Clone(c.noneSince)
	c.stats = stats{runs: 1}
	return c
}

func (c *checker) fail(rule string, address int, format string, args ...any) {
	if c.failure == nil {
		c.failure = &failure{rule, c.sim.now, address, fmt.Sprintf(format, args...)}
	}
}

// effective reports whether a node answers ARP for what it announces.
func (n *simNode) effective() bool { return n.running && !n.frozen && n.carrier }

// topology finds who reaches whom. What is as it was stays settled.
func (c *checker) topology() {
	was := map[string]time.Duration{}
	for _, p := range c.parts {
		was[p.key] = p.since
	}
	c.parts = c.parts[:0]
	place := map[int]int{}
	for _, n := range c.sim.nodes {
		c.partOf[n.id] = -1
		if !n.effective() {
			continue
		}
		where := c.sim.side[n.id]
		if c.sim.alone[n.id] > 0 {
			where = 100 + n.id
		}
		if _, ok := place[where]; !ok {
			place[where] = len(c.parts)
			c.parts = append(c.parts, component{})
		}
		c.partOf[n.id] = place[where]
		c.parts[place[where]].nodes = append(c.parts[place[where]].nodes, n.id)
	}
	c.main = 0
	for i := range c.parts {
		c.describe(&c.parts[i], was)
		if c.parts[i].candidates > c.parts[c.main].candidates {
			c.main = i
		}
	}
	if len(c.parts) > 0 {
		c.fewest = min(c.fewest, c.parts[c.main].candidates)
	}
	for a := range c.on {
		c.look(a)
	}
}

func (c *checker) describe(p *component, was map[string]time.Duration) {
	p.whole = len(c.parts) == 1
	p.disturbed = len(c.sim.deaf) > 0 || c.sim.loss > 0.02
	key := fmt.Sprint(p.whole, p.disturbed)
	for _, id := range p.nodes {
		n := c.sim.nodes[id]
		if n.joined && n.up {
			p.candidates++
		}
		key += fmt.Sprintf(" %d/%t/%t/%d", id, n.joined, n.leaving, n.life)
	}
	p.key, p.since = key, c.sim.now
	if at, ok := was[key]; ok {
		p.since = at
		return
	}
	c.sim.after(c.bound(p), nil, func() {
		for a := range c.on {
			c.judge(a)
		}
	})
}

// bound is how long a part may take to have one owner for each address (checks a
// and b). Few nodes find out about many that they have lost one by one: a probe
// of one who is dead takes two intervals when the prober doubts itself.
func (c *checker) bound(p *component) time.Duration {
	if p.whole {
		return quietFor
	}
	rounds := (c.sim.scenario.capacity + len(p.nodes) - 1) / len(p.nodes)
	return 1500*time.Millisecond + time.Duration(rounds)*2*c.sim.timers.interval
}

// changed is told that an address was given out or taken back.
func (c *checker) changed(a int) {
	c.changedAt[a] = c.sim.now
	c.look(a)
	c.sim.after(quietFor, nil, func() { c.judge(a) })
}

// answers is told that a node begins or ends to answer for an address.
func (c *checker) answers(n *simNode, addr netip.Addr, does bool) {
	b := addr.As4()
	a := int(b[2])<<8 | int(b[3])
	at := slices.Index(c.on[a], n.id)
	switch {
	case does && at < 0:
		c.on[a] = append(c.on[a], n.id)
	case !does && at >= 0:
		c.on[a] = slices.Delete(c.on[a], at, at+1)
	default:
		return
	}
	c.sim.note(uint64(a), uint64(n.id))
	if c.sim.trace != nil {
		c.sim.tell("%s: %s answers: %t; now %v", addr, n.name, does, c.on[a])
	}
	c.look(a)
	c.judge(a)
}

// announces is told that a node announces something: not before it has joined (L6).
func (c *checker) announces(n *simNode, something bool) {
	if something && !n.joined {
		c.fail("L6", 0, "%s announces before it has joined", n.name)
	}
}

// count returns who answers for the address in a part.
func (c *checker) count(a, part int) int {
	count := 0
	for _, id := range c.on[a] {
		if c.partOf[id] == part {
			count++
		}
	}
	return count
}

// look measures how long an address has no owner, or two.
func (c *checker) look(a int) {
	if len(c.parts) == 0 {
		return
	}
	now, most := c.sim.now, 0
	for i := range c.parts {
		most = max(most, c.count(a, i))
	}
	here := c.count(a, c.main)
	c.served[a] = (c.served[a] || here > 0) && c.sim.scenario.given[a]
	lacks := here == 0 && c.served[a] && c.parts[c.main].candidates > 0
	bad := c.noneSince[a] >= 0 || c.twoSince[a] >= 0
	if none, ended := spell(&c.noneSince[a], lacks, now); ended {
		worst(&c.stats.none, &c.stats.noneAt, none, c.sim.scenario.seed)
	}
	if two, ended := spell(&c.twoSince[a], most > 1, now); ended {
		worst(&c.stats.two, &c.stats.twoAt, two, c.sim.scenario.seed)
	}
	if three, ended := spell(&c.more[a], most > 2, now); ended {
		c.stats.three = max(c.stats.three, three)
	}
	if bad && !lacks && most <= 1 && !c.parts[c.main].disturbed {
		worst(&c.stats.settle, &c.stats.setAt, now-max(c.parts[c.main].since, c.changedAt[a]), c.sim.scenario.seed)
	}
}

// spell notes that something begins or goes on, or how long it was when it ends.
func spell(since *time.Duration, is bool, now time.Duration) (lasted time.Duration, ended bool) {
	switch {
	case is && *since < 0:
		*since = now
	case !is && *since >= 0:
		lasted, ended = now-*since, true
		*since = -1
	}
	return lasted, ended
}

func worst(most *time.Duration, at *uint64, d time.Duration, seed uint64) {
	if d > *most {
		*most, *at = d, seed
	}
}

// judge says whether each part that had time to settle has one owner of the
// address: checks a and b.
func (c *checker) judge(a int) {
	for i := range c.parts {
		p := &c.parts[i]
		if p.disturbed || c.sim.now-max(p.since, c.changedAt[a]) < c.bound(p) {
			continue
		}
		want := 1
		if p.candidates == 0 {
			want = 0
		}
		if !c.sim.scenario.given[a] {
			if !c.hearsAPI(p) {
				continue
			}
			want = 0
		}
		if got := c.count(a, i); got != want {
			rule := "L1"
			if got < want {
				rule = "L2"
			}
			c.fail(rule, a, "%d owners of %s, not %d, in %v, which has been so for %v", got, simAddr(a), want, p.nodes, c.sim.now-p.since)
		}
	}
}

// hearsAPI reports whether all of a part can have heard which addresses there are.
func (c *checker) hearsAPI(p *component) bool {
	return !slices.ContainsFunc(p.nodes, func(id int) bool { return !c.sim.reachesAPI(c.sim.nodes[id]) })
}

// owners returns who answers for each address in the main part, or -1.
func (c *checker) owners() []int {
	out := slices.Repeat([]int{-1}, len(c.on))
	for a, nodes := range c.on {
		for _, id := range nodes {
			if c.partOf[id] == c.main {
				out[a] = id
			}
		}
	}
	return out
}

// fresh is called before the first fault: addresses that were given out when all
// had joined are spread evenly (check f).
func (c *checker) fresh() {
	c.before = c.owners()
	c.fewest = c.parts[c.main].candidates
	if c.sim.scenario.late {
		c.balanced("given out")
	}
}

// balanced checks that nobody owns more than 1.25 x a fair share, and one: of what
// it was when the fewest nodes were there, as nothing moves because one comes.
func (c *checker) balanced(when string) {
	count := map[int]int{}
	for a, id := range c.owners() {
		if c.sim.scenario.given[a] {
			count[id]++
		}
	}
	given := c.sim.scenario.addresses
	limit := given*5/(4*max(1, c.fewest)) + 1
	for id, k := range count {
		c.stats.most = max(c.stats.most, float64(k)/float64(limit))
		if k > limit {
			c.stats.unfair = 1
			if c.sim.scenario.late && slices.Contains(fair, c.sim.scenario.kind) {
				c.fail("L3 balance", 0, "n%03d owns %d of %d addresses, at most %d is fair, after they were %s", id, k, given, limit, when)
			}
		}
	}
}

var (
	fair = []string{"crash", "restart", "cable", "flap", "freeze", "stop", "add", "address"}
	// still are the kinds after which nothing has moved that did not have to.
	still = []string{"crash", "restart", "cable", "cut", "partition", "flap", "freeze", "asym", "loss", "stop", "add", "address"}
)

// finish counts what moved (check c), and judges what holds for one kind of fault only.
func (c *checker) finish() {
	if c.failure != nil {
		return
	}
	p := c.sim.scenario
	c.stats.addresses = p.addresses
	after := c.owners()
	for a := range after {
		if !p.given[a] || c.before[a] < 0 {
			continue
		}
		well := !p.victims[c.before[a]]
		if well && after[a] != c.before[a] {
			c.stats.unneeded++
			c.move(a, "its owner n%03d was well, and it is with n%03d", c.before[a], after[a])
		}
		if !well && c.during[a] >= 0 && !p.victims[c.during[a]] && after[a] != c.during[a] {
			c.stats.back++
			c.move(a, "n%03d had it, and it is with n%03d", c.during[a], after[a])
		}
	}
	if c.stats.unneeded+c.stats.back > 0 {
		c.stats.moved, c.stats.movedAt = 1, p.seed
	}
	if p.late {
		c.balanced("taken over")
	}
	if (p.kind == "crash" || p.kind == "cable") && p.loss == 0 && c.stats.none > time.Second {
		c.fail("L2", 0, "an address was not served for %v", c.stats.none)
	}
	if p.kind == "stop" && p.loss == 0 && c.stats.none > 0 {
		c.fail("L4", 0, "an address was not served for %v", c.stats.none)
	}
	if p.kind == "stop" && c.stats.three > 100*time.Millisecond {
		c.fail("L4", 0, "an address had more than two owners for %v", c.stats.three)
	}
}

func (c *checker) move(a int, format string, args ...any) {
	if slices.Contains(still, c.sim.scenario.kind) {
		c.fail("L3 move", a, simAddr(a).String()+": "+format, args...)
	}
}

// add adds up the statistics of runs.
func (t *stats) add(o stats) {
	t.runs += o.runs
	t.addresses += o.addresses
	worst(&t.none, &t.noneAt, o.none, o.noneAt)
	if o.none > 0 {
		t.outages = append(t.outages, o.none)
	}
	worst(&t.two, &t.twoAt, o.two, o.twoAt)
	worst(&t.settle, &t.setAt, o.settle, o.setAt)
	t.three = max(t.three, o.three)
	t.unneeded += o.unneeded
	t.back += o.back
	t.moved += o.moved
	t.movedAt = cmp.Or(t.movedAt, o.movedAt)
	t.most = max(t.most, o.most)
	t.unfair += o.unfair
}
