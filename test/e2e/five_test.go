package e2e

import (
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// Five nodes, for what three cannot show: a larger and a smaller side of a cut,
// and the addresses of a dead node spread over several.
func TestFiveNodes(t *testing.T) {
	five := &shared{options: lab.Options{Nodes: 5}, prepare: cluster.prepare}
	t.Cleanup(func() { must(t, five.stop(t.Failed())) })
	f := five.failover(t)

	for _, c := range []struct {
		name      string
		withOwner bool
	}{{"the owner is with the larger side", false}, {"the owner is with the smaller side", true}} {
		t.Run("cut 2 : 3, "+c.name, func(t *testing.T) { f.cut(t, c.withOwner) })
	}
	t.Run("a node with many addresses dies", func(t *testing.T) { f.die(t, 40) })
}

// cut parts two nodes from the other three. When they meet again, the owner on the
// larger side goes on.
func (f *failover) cut(t *testing.T, withOwner bool) {
	w := f.begin(t, f.addresses[0])
	var few, most []string
	sees := map[string]int{}
	for _, n := range f.Nodes {
		if (n.Name == w.owner) == withOwner && len(few) < 2 || len(most) == 3 {
			few = append(few, n.Name)
			sees[n.Name] = 2
		} else {
			most = append(most, n.Name)
			sees[n.Name] = 3
		}
	}
	t.Cleanup(func() { f.heal(t) })
	must(t, f.Partition(few, most))
	f.untilInTouch(t, sees)
	var during []string
	lab.Eventually(t, soon, func() error {
		if during = w.seen.Answering(100 * time.Millisecond); len(during) != 2 {
			return fmt.Errorf("%v answer, want one on either side", during)
		}
		return nil
	})
	must(t, f.Heal())
	healed := time.Now()
	owner := onlyOwner(t, w.seen, settled)
	f.untilWhole(t)
	if again := onlyOwner(t, w.seen, settled); again != owner || sees[owner] != 3 || !withOwner && owner != w.owner {
		t.Errorf("%s owned it; %v and %v were cut, %v answered; then %s owned it, and then %s", w.owner, few, most, during, owner, again)
	}
	doubt := w.seen.Doubt(healed, owner)
	t.Logf("%s owned it; %v and %v were cut, %v answered; then %s alone, after %v", w.owner, few, most, during, owner, doubt.Round(time.Millisecond))
	if doubt > settled {
		t.Errorf("another than %s answered until %v after the partition, want at most %v\n%v", owner, doubt, settled, w.seen)
	}
}

// die has a node lose its power that announces all of many addresses. Others
// announce them soon, and keep them when it is back.
func (f *failover) die(t *testing.T, many int) {
	const victim = "n5"
	var others []string
	for _, n := range f.Nodes {
		if n.Name != victim {
			others = append(others, n.Name)
			f.annotate(t, n.Name, v1alpha1.AnnotationDrain+"=away")
		}
	}
	for i := range many {
		svc := f.service(t, fmt.Sprint("many-", i), func(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol} })
		f.backend(t, svc, "n1")
	}
	f.untilOwns(t, victim, func(n int) bool { return n == many+len(f.addresses) })
	f.undrain(t, others...)
	f.untilWhole(t)

	claims, err := f.Observer.WatchClaims()
	must(t, err)
	defer claims.Stop()
	struck := time.Now()
	must(t, f.Node(victim).PowerOff())
	lab.Eventually(t, soon, func() error {
		if n := len(claims.Since(struck)); n < many+1 { // web's IPv4 address too
			return fmt.Errorf("%d of %d addresses are announced again", n, many+1)
		}
		return nil
	})
	count := map[string]int{}
	var last time.Duration
	for _, c := range claims.Since(struck) {
		count[c.Node]++
		last = max(last, c.At.Sub(struck))
	}
	t.Logf("all of %d addresses were announced again after %v, by %v", many+1, last.Round(time.Millisecond), count)
	if last >= longestOutage {
		t.Errorf("it took %v until all addresses were announced again, want less than %v", last, longestOutage)
	}
	for node, n := range count {
		if most := (many+len(f.addresses))*5/(4*len(others)) + 1; n > most {
			t.Errorf("%s took %d of %d addresses, want at most %d", node, n, many+1, most)
		}
	}
	must(t, f.Node(victim).PowerOn(t.Context()))
	must(t, f.reviveSpeaker(t.Context(), victim))
	f.untilWhole(t)
	f.untilOwns(t, victim, func(n int) bool { return n == 0 })
}
