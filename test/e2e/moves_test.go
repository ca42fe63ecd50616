package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// annotate writes an annotation on a Speaker, as a user would; "name-" removes it.
func (c *corner) annotate(t *testing.T, node, annotation string) {
	t.Helper()
	_, err := c.Kubectl(t.Context(), "annotate", "speaker", node, annotation, "--overwrite")
	must(t, err)
}

// untilMoved waits until a speaker has said what became of an order, and has
// removed it.
func (c *corner) untilMoved(t *testing.T, node, order string, ok bool, reason string, words ...string) {
	t.Helper()
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
	lab.Eventually(t, 30*time.Second, func() error {
		if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(sp), sp); err != nil {
			return err
		}
		if v, there := sp.Annotations[order]; there {
			return fmt.Errorf("speaker %s still has %s=%s; %s", node, order, v, told(sp.Status.Conditions))
		}
		return says(sp.Status.Conditions, v1alpha1.ConditionMoved, ok, reason, words...)
	})
}

// A user moves addresses by hand, drains and rebalances: a client loses nothing,
// and nothing moves back.
func TestMoves(t *testing.T) {
	f := newFailover(t)
	a := f.addresses[0]

	t.Run("one address", func(t *testing.T) {
		for _, a := range f.addresses {
			w := f.begin(t, a)
			to := f.other(w.owner)
			f.annotate(t, to, v1alpha1.AnnotationTake+"="+a.String())
			f.untilMoved(t, to, v1alpha1.AnnotationTake, true, v1alpha1.ReasonMoved, fmt.Sprintf("took over %s from %s", a, w.owner))
			if got := onlyOwner(t, w.seen, settled); got != to {
				t.Errorf("%s owns %s, want %s", got, a, to)
			}
			answered(t, w.probe, 50)
			w.lostNothing(t)
			f.untilTold(t, a, to)
		}
	})
	t.Run("an address that it cannot have", func(t *testing.T) {
		f.annotate(t, "n1", v1alpha1.AnnotationTake+"=172.30.0.149,web")
		f.untilMoved(t, "n1", v1alpha1.AnnotationTake, false, v1alpha1.ReasonRefused, "cannot take 172.30.0.149: no Service has it", `"web" is not an IP address`)
	})
	t.Run("a node is drained", func(t *testing.T) {
		t.Cleanup(func() { f.undrain(t, "n1", "n2", "n3") })
		w := f.begin(t, a)
		f.annotate(t, w.owner, v1alpha1.AnnotationDrain+"=disk swap")
		next := onlyOwner(t, w.seen, settled, w.owner)
		others := slices.DeleteFunc(slices.Clone(allNodes), func(n string) bool { return n == next })
		for _, n := range append(others, next) { // which keeps it, as none is better
			f.annotate(t, n, v1alpha1.AnnotationDrain+"=all of them")
		}
		f.untilService(t, f.web, announced, true, "Announced", "no better node is available: "+next+" is drained")
		f.undrain(t, next, "n1", "n2", "n3") // or a better one would take it from the one that is left
		f.untilTold(t, a, next)
		if got := onlyOwner(t, w.seen, settled); got != next {
			t.Errorf("%s was drained, %s took over, and then %s did", w.owner, next, got)
		}
		w.lostNothing(t)
	})
	t.Run("kube-proxy of the owner hangs", func(t *testing.T) {
		w := f.begin(t, a)
		proxy := f.Process("kube-proxy-" + w.owner)
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(w.owner)}
		f.until(t, sp, func() error {
			return says(sp.Status.Conditions, v1alpha1.ConditionKubeProxyHealthy, true, v1alpha1.ReasonHealthy)
		})
		must(t, proxy.Freeze())
		t.Cleanup(func() { must(t, proxy.Thaw()) })
		next := onlyOwner(t, w.seen, 30*time.Second, w.owner)
		f.until(t, sp, func() error {
			return says(sp.Status.Conditions, v1alpha1.ConditionKubeProxyHealthy, false, v1alpha1.ReasonNoAnswer, "port 10256")
		})
		must(t, proxy.Thaw())
		f.until(t, sp, func() error {
			return says(sp.Status.Conditions, v1alpha1.ConditionKubeProxyHealthy, true, v1alpha1.ReasonHealthy)
		})
		if got := onlyOwner(t, w.seen, settled); got != next {
			t.Errorf("%s took over from %s, and then %s did", next, w.owner, got)
		}
		w.lostNothing(t)
	})
}

func (c *corner) undrain(t *testing.T, nodes ...string) {
	t.Helper()
	for _, n := range nodes {
		_, err := c.Kubectl(context.Background(), "annotate", "speaker", n, v1alpha1.AnnotationDrain+"-")
		must(t, err)
	}
}

// A node that joins gets the next addresses first, and its share of the others
// when a user wants it.
func TestRebalance(t *testing.T) {
	f := newFailover(t)
	t.Cleanup(func() { f.undrain(t, "n3") })
	f.annotate(t, "n3", v1alpha1.AnnotationDrain+"=maintenance")
	f.untilOwns(t, "n3", func(n int) bool { return n == 0 })
	total := 2 // of web
	add := func(name string) netip.Addr {
		svc := f.service(t, name, func(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol} })
		f.backend(t, svc, "n1")
		f.untilService(t, svc, announced, true, "Announced")
		total++
		return f.corner.addresses(t, svc)[0]
	}
	for i := range 6 {
		add(fmt.Sprint("more-", i))
	}
	f.undrain(t, "n3")
	f.untilOwns(t, "n3", func(n int) bool { return n == 0 }) // it takes nothing by itself
	// The other speakers learn from gossip that the drain has ended, and no object shows
	// when. An address that is assigned before that still goes to one of them.
	for i := range 4 {
		if f.owner(t, add(fmt.Sprint("next-", i))) == "n3" {
			break
		}
		if i == 3 {
			t.Fatal("no address went to n3, which owns none, since its drain ended")
		}
	}

	f.annotate(t, "n3", v1alpha1.AnnotationRebalance+"=now")
	f.untilMoved(t, "n3", v1alpha1.AnnotationRebalance, true, v1alpha1.ReasonMoved, "took over")
	for _, n := range f.Nodes {
		f.untilOwns(t, n.Name, func(n int) bool { return n == total/3 || n == (total+2)/3 })
	}
}

// untilOwns waits until a speaker says that it owns as many addresses as are wanted.
func (f *failover) untilOwns(t *testing.T, node string, wanted func(n int) bool) {
	t.Helper()
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(node)}
	f.until(t, sp, func() error {
		if n := int(sp.Status.OwnedAddresses); !wanted(n) {
			return errors.New(node + " owns " + fmt.Sprint(n))
		}
		return nil
	})
}
