package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	// longestOutage is what a client may lose when a node fails.
	longestOutage = 2 * time.Second
	// longestOverlap is how long two nodes may answer while one hands over.
	longestOverlap = 250 * time.Millisecond
	// settled is how soon one node alone must answer after a fault has ended.
	settled = 3 * time.Second
)

// failover is a Service on whose traffic a test lays hands.
type failover struct {
	*corner
	web       *corev1.Service
	addresses []netip.Addr // IPv4, IPv6
	backends  map[string]*lab.Backend
}

func newFailover(t *testing.T) *failover { return cluster.failover(t) }

func (s *shared) failover(t *testing.T) *failover {
	f := &failover{corner: s.corner(t)}
	f.apply(t, layer2)
	f.web = f.service(t, "web", dualStack)
	f.addresses = f.corner.addresses(t, f.web)
	f.backends = f.corner.backends(t, f.web)
	t.Cleanup(func() { f.heal(t) })
	return f
}

// watched is what a client and the network see of one address.
type watched struct {
	owner string // at the start
	seen  *lab.NeighbourWatch
	probe *lab.Probe
}

// begin lets the backend away from the owner serve, so that what is lost is lost
// on the way, and starts to look.
func (f *failover) begin(t *testing.T, a netip.Addr) watched {
	t.Helper()
	f.untilWhole(t)
	w, err := f.Observer.WatchNeighbour(a)
	must(t, err)
	t.Cleanup(w.Stop)
	owner := onlyOwner(t, w, soon)
	f.serveFrom(t, a, f.other(owner))
	p := f.Client.ProbeUDP(netip.AddrPortFrom(a, 80))
	t.Cleanup(func() { p.Stop() })
	answered(t, p, 50)
	return watched{owner: owner, seen: w, probe: p}
}

// other is a node that is not this one.
func (f *failover) other(node string) string {
	for _, n := range f.Nodes {
		if n.Name != node {
			return n.Name
		}
	}
	return ""
}

// serveFrom makes the node's backend the only one, and waits until every node
// knows.
func (f *failover) serveFrom(t *testing.T, a netip.Addr, node string) {
	t.Helper()
	must(t, f.backends[node].SetReady(t.Context(), true))
	for name, b := range f.backends {
		if name != node {
			must(t, b.SetReady(t.Context(), false))
		}
	}
	for _, n := range f.Nodes {
		lab.Eventually(t, soon, func() error {
			for range 8 { // one of two would be hit by chance
				if from, err := ask(n, a); err != nil || from != node {
					return fmt.Errorf("on %s the Service is answered by %q, want %s: %w", n.Name, from, node, err)
				}
			}
			return nil
		})
	}
}

// untilWhole waits until the speakers say that they see each other.
func (f *failover) untilWhole(t *testing.T) {
	t.Helper()
	all := map[string]int{}
	for _, n := range f.Nodes {
		all[n.Name] = len(f.Nodes)
	}
	f.untilInTouch(t, all)
}

// untilTold waits until the Service says which node announces its address.
func (f *failover) untilTold(t *testing.T, a netip.Addr, node string) {
	t.Helper()
	f.untilService(t, f.web, announced, true, "Announced", fmt.Sprintf("%s by layer 2 from %s (eth0)", a, node))
}

func (f *failover) untilInTouch(t *testing.T, want map[string]int) {
	t.Helper()
	for node, n := range want {
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
		f.until(t, sp, func() error {
			r := meta.FindStatusCondition(sp.Status.Conditions, ready)
			if r == nil || r.Message != fmt.Sprintf("%d speakers connected", n) {
				return fmt.Errorf("speaker %s says %s, want it to see %d", node, told(sp.Status.Conditions), n)
			}
			return nil
		})
	}
}

// heal makes everything work again that a test may have broken.
func (f *failover) heal(t *testing.T) {
	t.Helper()
	errs := []error{f.Heal()}
	if f.Process(lab.APIServer).Signal(0) == nil {
		must(t, f.ThawAPI())
		f.reviveController(t)
	}
	for _, n := range f.Nodes {
		errs = append(errs, n.PlugCable(), f.reviveSpeaker(context.Background(), n.Name))
	}
	must(t, errors.Join(errs...))
}

func (f *failover) speaker(node string) *lab.Process { return f.Process("speaker-" + node) }

// reviveSpeaker thaws a speaker, or starts it if it does not run, and waits until it is ready.
func (f *failover) reviveSpeaker(ctx context.Context, node string) error {
	p := f.speaker(node)
	if p.Thaw() != nil {
		var err error
		if p, err = f.StartSpeaker(ctx, node); err != nil {
			return err
		}
	}
	return p.Ready(ctx)
}

// fault is a way in which the owner of an address can fail.
type fault struct {
	name   string
	strike func(f *failover, owner string) error
	fix    func(f *failover, owner string) error
	hidden bool // the API server cannot be told
}

func pull(f *failover, owner string) error   { return f.Node(owner).PullCable() }
func plug(f *failover, owner string) error   { return f.Node(owner).PlugCable() }
func revive(f *failover, owner string) error { return f.reviveSpeaker(context.Background(), owner) }

var faults = []fault{
	{name: "cable pulled", strike: pull, fix: plug},
	{
		name:   "cable pulled while the API server hangs",
		strike: func(f *failover, owner string) error { return errors.Join(f.FreezeAPI(), pull(f, owner)) },
		fix:    func(f *failover, owner string) error { return errors.Join(plug(f, owner), f.ThawAPI()) },
		hidden: true,
	},
	{name: "speaker killed", strike: func(f *failover, owner string) error { return f.speaker(owner).Kill() }, fix: revive},
	{name: "speaker hangs", strike: func(f *failover, owner string) error { return f.speaker(owner).Freeze() }, fix: revive},
}

// Whatever becomes of an owner, another node answers in its place, clients are
// served again soon, and the owner does not take the address back.
func TestFailover(t *testing.T) {
	f := newFailover(t)
	for _, fault := range faults {
		for _, a := range f.addresses {
			if a.Is6() && fault.name != "cable pulled" {
				continue // what is left differs in nothing
			}
			t.Run(fault.name+" "+a.String(), func(t *testing.T) { f.fail(t, a, fault) })
		}
	}
}

func (f *failover) fail(t *testing.T, a netip.Addr, fault fault) {
	w := f.begin(t, a)
	t.Cleanup(func() { f.heal(t) }) // if it gets no further
	struck := time.Now()
	must(t, fault.strike(f, w.owner))
	next := onlyOwner(t, w.seen, 5*time.Second, w.owner)
	answering := time.Since(struck)
	answered(t, w.probe, 100)
	outage := w.probe.Report().LongestOutage
	if !fault.hidden {
		f.untilTold(t, a, next)
	}

	fixed := time.Now()
	must(t, fault.fix(f, w.owner))
	if fault.hidden {
		f.reviveController(t)
	}
	f.untilWhole(t)
	f.untilTold(t, a, next)
	if got := onlyOwner(t, w.seen, settled); got != next {
		t.Errorf("%s took over from %s, and then %s did", next, w.owner, got)
	}
	quarrel := w.seen.Doubt(fixed, next)
	r := w.probe.Stop()
	t.Logf("%s after %s: outage %v, by then %v; after the fix two answered for %v; %v", next, w.owner,
		outage.Round(time.Millisecond), answering.Round(time.Millisecond), quarrel.Round(time.Millisecond), r)
	if r.LongestOutage >= longestOutage {
		t.Errorf("the client was without service for %v, want less than %v", r.LongestOutage, longestOutage)
	}
	if quarrel > settled {
		t.Errorf("%v after the fix another than %s still answered; want at most %v\n%v", quarrel, next, settled, w.seen)
	}
	must(t, w.seen.Err())
}

// An owner that is told to stop hands over: a client loses nothing.
func TestHandOver(t *testing.T) {
	f := newFailover(t)
	for _, a := range f.addresses {
		t.Run("one speaker stops "+a.String(), func(t *testing.T) {
			w := f.begin(t, a)
			must(t, f.speaker(w.owner).Stop(t.Context()))
			next := onlyOwner(t, w.seen, settled, w.owner)
			answered(t, w.probe, 50)
			must(t, revive(f, w.owner))
			f.untilWhole(t)
			if got := onlyOwner(t, w.seen, settled); got != next {
				t.Errorf("%s took over from %s, and then %s did", next, w.owner, got)
			}
			w.lostNothing(t)
		})
	}
	t.Run("all speakers restart, one by one", func(t *testing.T) {
		w := f.begin(t, f.addresses[0])
		fresh := f.Client.ProbeUDP(netip.AddrPortFrom(f.addresses[0], 80), patiently)
		defer fresh.Stop()
		for _, n := range f.Nodes {
			must(t, f.speaker(n.Name).Stop(t.Context()))
			must(t, revive(f, n.Name))
		}
		f.untilWhole(t)
		onlyOwner(t, w.seen, settled)
		w.lostNothing(t)
		if r := fresh.Stop(); r.Answered < r.Sent {
			t.Errorf("new connections: %v", r)
		}
	})
}

// lostNothing wants every question to be answered, and nobody to have waited long.
func (w watched) lostNothing(t *testing.T) {
	t.Helper()
	r := w.probe.Stop()
	t.Logf("%d owners, overlap %v: %v", len(w.seen.Changes()), w.seen.Overlap(), r)
	if lost(r) > 0 || r.LongestOutage > mostMoved || r.Duplicated > 0 {
		t.Errorf("the client saw it: %v\n%v", r, w.seen)
	}
	if o := w.seen.Overlap(); o > longestOverlap {
		t.Errorf("two nodes answered for %v, want at most %v\n%v", o, longestOverlap, w.seen)
	}
	must(t, w.seen.Err())
}

// Nodes that cannot hear each other cannot agree; as soon as they hear each
// other again, they do.
func TestPartition(t *testing.T) {
	f := newFailover(t)
	for _, alone := range []string{"the owner", "another"} {
		t.Run(alone+" is cut off", func(t *testing.T) {
			w := f.begin(t, f.addresses[0])
			cut := w.owner
			if alone == "another" {
				cut = f.other(w.owner)
			}
			var rest []string
			for _, n := range f.Nodes {
				if n.Name != cut {
					rest = append(rest, n.Name)
				}
			}
			t.Cleanup(func() { f.heal(t) })
			began := time.Now()
			must(t, f.Partition([]string{cut}, rest))
			f.untilInTouch(t, map[string]int{cut: 1, rest[0]: 2, rest[1]: 2})
			// Longer than the failure detector's memory of who was there a moment ago.
			lab.Eventually(t, soon, func() error {
				if time.Since(began) < 6*time.Second {
					return errors.New("the partition is not old yet")
				}
				return nil
			})
			during := w.seen.Answering(100 * time.Millisecond)
			must(t, f.Heal())
			healed := time.Now()
			owner := onlyOwner(t, w.seen, settled)
			f.untilWhole(t)
			if again := onlyOwner(t, w.seen, settled); again != owner {
				t.Errorf("after the partition %s owned it, and then %s", owner, again)
			}
			doubt := w.seen.Doubt(healed, owner)
			r := w.probe.Stop()
			t.Logf("%s cut off, %v answered, then %s alone; doubt until %v after the end; %v", cut, during, owner, doubt.Round(time.Millisecond), r)
			if doubt > settled {
				t.Errorf("another than %s answered until %v after the partition, want at most %v\n%v", owner, doubt, settled, w.seen)
			}
		})
	}
}

// A neighbour that does not hear of a take-over by broadcast, as behind some access
// points, is told all the same, as it asked for the address before.
func TestFailoverWithoutBroadcasts(t *testing.T) {
	f := newFailover(t)
	a := f.addresses[0]
	exec := func(argv ...string) {
		t.Helper()
		out, err := f.Client.Exec(t.Context(), argv...)
		if err != nil {
			t.Fatalf("%v: %v %s", argv, err, out)
		}
	}
	f.untilWhole(t)
	exec("ip", "neigh", "flush", "dev", "eth0") // so that it asks while all nodes listen
	w := f.begin(t, a)
	exec("nft", "add table netdev deaf; add chain netdev deaf c { type filter hook ingress device eth0 priority 0; }; add rule netdev deaf c ether daddr ff:ff:ff:ff:ff:ff arp saddr ip "+a.String()+" drop")
	t.Cleanup(func() {
		if _, err := f.Client.Exec(context.Background(), "nft", "delete", "table", "netdev", "deaf"); err != nil {
			t.Error(err)
		}
	})
	must(t, pull(f, w.owner))
	next := onlyOwner(t, w.seen, 5*time.Second, w.owner)
	answered(t, w.probe, 100)
	r := w.probe.Stop()
	t.Logf("%s after %s: %v", next, w.owner, r)
	if r.LongestOutage >= longestOutage {
		t.Errorf("the client was without service for %v, want less than %v", r.LongestOutage, longestOutage)
	}
}
