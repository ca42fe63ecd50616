package moves

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// busy is a cluster in which n1 announces so many addresses, and nobody else any.
func busy(n int) *clustertest.Cluster {
	c := clustertest.Small()
	for i := 1; i < n; i++ {
		name, address := fmt.Sprintf("s%d", i), fmt.Sprintf("172.30.0.%d", 100+i)
		c.AddService("shop", name, address)
		c.Serve("shop", name, "n1")
		c.Announce("n1", address, "shop/"+name)
	}
	return c
}

// to counts where addresses go.
func to(p Plan) map[string]int {
	out := map[string]int{}
	for _, m := range p.Moves {
		out[m.To]++
	}
	return out
}

func TestDrain(t *testing.T) {
	for name, c := range map[string]struct {
		change       func(c *clustertest.Cluster)
		moves, stays int
		why          string // of the first that stays
	}{
		"others can": {func(*clustertest.Cluster) {}, 6, 0, ""},
		"one other can": {func(c *clustertest.Cluster) {
			c.Speaker("n2").Status.Interfaces[0].Up = false
		}, 6, 0, ""},
		"nobody else can": {func(c *clustertest.Cluster) {
			c.Speaker("n2").Status.Interfaces[0].Up = false
			c.Speaker("n3").Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonStopping, "the speaker has stopped")
		}, 0, 6, "n2 has an interface for the address, but it is down, n3 its speaker is not alive"},
		"the others are drained too": {func(c *clustertest.Cluster) {
			for _, n := range []string{"n2", "n3"} {
				metav1.SetMetaDataAnnotation(&c.Speaker(n).ObjectMeta, v1alpha1.AnnotationDrain, "all of them")
			}
		}, 0, 6, "n2 is drained"},
		"its speaker is dead": {func(c *clustertest.Cluster) {
			c.Speaker("n1").Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonStopping, "the speaker has stopped")
		}, 0, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			objects := busy(6)
			c.change(objects)
			p := drain(objects.New(), "n1")
			if len(p.Moves) != c.moves || len(p.Stays) != c.stays {
				t.Fatalf("%d move and %d stay, want %d and %d", len(p.Moves), len(p.Stays), c.moves, c.stays)
			}
			if c.stays > 0 && !strings.Contains(p.Stays[0].Why, c.why) {
				t.Errorf("%s stays as %q, want %q", p.Stays[0].Address, p.Stays[0].Why, c.why)
			}
			if to(p)["n1"] > 0 {
				t.Errorf("they move to %v", to(p))
			}
		})
	}
}

// What the node told routers goes, unless nobody else tells them.
func TestDrainWithdrawsRoutes(t *testing.T) {
	for name, c := range map[string]struct {
		peers []string // nodes that have a session
		after int
	}{
		"others tell": {[]string{"n1", "n2", "n3"}, 0},
		"nobody else": {[]string{"n1"}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			p := objects.Peer("router", c.peers...)
			if len(c.peers) == 1 {
				p.Spec.NodeSelectors = []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"kubernetes.io/hostname": "n1"}}}
			}
			got := drain(objects.New(), "n1").Routes
			if got.Before != 1 || got.After != c.after || got.after["router"] != c.after {
				t.Errorf("it has %+v, want 1 before and %d after", got, c.after)
			}
		})
	}
}

func TestTake(t *testing.T) {
	a100, a101 := clustertest.Addr("172.30.0.100"), clustertest.Addr("172.30.0.101")
	for name, c := range map[string]struct {
		change func(c *clustertest.Cluster)
		node   string
		addrs  []netip.Addr
		moves  int
		err    string
	}{
		"one":            {func(*clustertest.Cluster) {}, "n2", []netip.Addr{a100}, 1, ""},
		"two":            {func(*clustertest.Cluster) {}, "n3", []netip.Addr{a100, a101}, 2, ""},
		"has it already": {func(*clustertest.Cluster) {}, "n1", []netip.Addr{a100}, 0, ""},
		"not assigned":   {func(*clustertest.Cluster) {}, "n2", []netip.Addr{clustertest.Addr("172.30.0.149")}, 0, "no Service of Fairlead's has it"},
		"no such node":   {func(*clustertest.Cluster) {}, "n9", []netip.Addr{a100}, 0, "the speaker of node n9 is not alive"},
		"cannot": {func(c *clustertest.Cluster) { c.Speaker("n2").Status.Interfaces[0].Up = false }, "n2", []netip.Addr{a100}, 0,
			"n2 cannot take 172.30.0.100: it has an interface for the address, but it is down; who can: n1, n3"},
		"by BGP only": {func(c *clustertest.Cluster) { c.L2Advertisements = nil; c.Peer("router", "n1", "n2", "n3") }, "n2", []netip.Addr{a100}, 0,
			"announced by BGP only"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := busy(2)
			c.change(objects)
			p, err := take(objects.New(), c.node, c.addrs)
			if c.err == "" && err != nil || c.err != "" && (err == nil || !strings.Contains(err.Error(), c.err)) {
				t.Fatalf("got %v, want %q", err, c.err)
			}
			if len(p.Moves) != c.moves || to(p)[c.node] != c.moves {
				t.Errorf("got %+v, want %d", p.Moves, c.moves)
			}
		})
	}
}

func TestRebalance(t *testing.T) {
	for name, c := range map[string]struct {
		addresses int
		nodes     []string
		want      map[string]int // how many each takes
		order     []string
	}{
		"all nodes":       {9, []string{"n3", "n1", "n2"}, map[string]int{"n2": 4, "n3": 3}, []string{"n2", "n3"}},
		"one node":        {9, []string{"n3"}, map[string]int{"n3": 4}, []string{"n3"}},
		"who has most":    {9, []string{"n1"}, map[string]int{}, nil},
		"one address":     {1, []string{"n1", "n2", "n3"}, map[string]int{}, nil},
		"nearly balanced": {2, []string{"n1", "n2", "n3"}, map[string]int{"n2": 1}, []string{"n2"}},
	} {
		t.Run(name, func(t *testing.T) {
			known := busy(c.addresses).New()
			before := len(known.View.Claims)
			p, order := rebalance(known, c.nodes)
			if got := to(p); fmt.Sprint(got) != fmt.Sprint(c.want) || !slices.Equal(order, c.order) {
				t.Errorf("they take %v in the order %v, want %v, %v", got, order, c.want, c.order)
			}
			if len(known.View.Claims) != before || slices.ContainsFunc(known.Addresses(), func(a netip.Addr) bool { return known.View.Claims[a].Owner != "n1" }) {
				t.Error("to plan has changed what is known")
			}
		})
	}
}

// What is said to have moved is what the speakers say, not what was planned.
func TestMoved(t *testing.T) {
	objects := busy(2)
	known := objects.New()
	plan := drain(known, "n1")
	seen := map[string]bool{}
	if got := moved(known, objects.Speakers, plan.Moves, seen); len(got) != 0 {
		t.Errorf("nothing has moved, and it says %v", got)
	}
	for _, node := range []string{"n2", "n3"} { // one of them is not as planned
		objects.Announce(node, "172.30.0.100", "shop/web")
		got := moved(known, objects.Speakers, plan.Moves, map[string]bool{})
		if len(got) != 1 || got[0].To != node {
			t.Errorf("it says %+v, want %s to have it", got, node)
		}
	}
	if got := moved(known, objects.Speakers, plan.Moves, seen); len(got) != 1 {
		t.Errorf("it says %v", got)
	}
	if got := moved(known, objects.Speakers, plan.Moves, seen); len(got) != 0 {
		t.Errorf("it says twice that %v moved", got)
	}
}

func TestGone(t *testing.T) {
	objects := busy(2)
	objects.Peer("router", "n1", "n2", "n3")
	objects.Speaker("n1").Status.BGPSessions[0].Prefixes = 2
	plan := drain(objects.New(), "n1")
	done := gone("n1", plan)
	var alive []metav1.Condition
	steps := []struct {
		change func()
		want   bool
		why    string
	}{
		{func() {}, false, "n1 announces both"},
		{func() { objects.Announce("n2", "172.30.0.100") }, false, "n1 announces one of them"},
		{func() { objects.Announce("", "172.30.0.101") }, false, "nobody announces the other"},
		{func() { objects.Announce("n3", "172.30.0.101") }, false, "routers still have its routes"},
		{func() {
			objects.Speaker("n1").Status.BGPSessions[0].Prefixes = 0
			alive = objects.Speaker("n3").Status.Conditions
			objects.Speaker("n3").Status.Conditions = nil
		}, false, "the speaker of n3 is dead"},
		{func() { objects.Speaker("n3").Status.Conditions = alive }, true, "others announce everything"},
	}
	for _, s := range steps {
		s.change()
		if got := done(objects.Speakers); got != s.want {
			t.Errorf("it is done: %t, but %s", got, s.why)
		}
	}
}
