package e2e

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// Who manages a node's network may take its addresses away with the cable, and give
// them anew afterwards. The owner that comes back so has heard nothing meanwhile, and
// says nothing before it has found the others, or has looked for them for long enough.
func TestAddressGoesWithTheCable(t *testing.T) {
	const hears = 700 * time.Millisecond // nothing, from when it has its addresses again; it looks for the others for longer
	f := newFailover(t)
	w := f.begin(t, f.addresses[0])
	n, sh, saved := f.Node(w.owner), f.shell(w.owner), filepath.Join(t.TempDir(), "saved")
	must(t, sh("ip address save dev eth0 scope global > "+saved+".a; ip -4 route save dev eth0 proto boot > "+saved+".4; ip -6 route save dev eth0 proto boot > "+saved+".6"))
	t.Cleanup(func() { f.heal(t) })
	restore := sync.OnceValue(func() error {
		return sh("ip address restore < " + saved + ".a; ip route restore < " + saved + ".4; ip -6 route restore < " + saved + ".6")
	})
	hear := sync.OnceValue(func() error {
		return sh("if nft list table inet deaf > /dev/null 2>&1; then nft delete table inet deaf; fi")
	})
	t.Cleanup(func() { must(t, errors.Join(restore(), hear())) })
	must(t, errors.Join(n.PullCable(), sh("ip address flush dev eth0 scope global")))
	next := onlyOwner(t, w.seen, 5*time.Second, w.owner)
	must(t, sh("nft 'table inet deaf { chain in { type filter hook input priority 0; th dport 7946 drop; th sport 7946 drop; }; }'"))

	fixed := time.Now()
	must(t, errors.Join(n.PlugCable(), restore()))
	back := time.Now()
	lab.Eventually(t, soon, func() error {
		if time.Since(back) < hears {
			return errors.New("it has not been back for long")
		}
		return nil
	})
	must(t, hear())
	f.untilWhole(t)
	if got := onlyOwner(t, w.seen, settled); got != next {
		t.Errorf("%s took over from %s, and then %s did", next, w.owner, got)
	}
	if again := w.seen.Doubt(fixed, next); again > 0 {
		t.Errorf("%s answered until %v after its cable was back\n%v", w.owner, again, w.seen)
	}
	must(t, w.seen.Err())
}

// shell returns what has a node run a script, also after a test.
func (c *corner) shell(node string) func(script string) error {
	return func(script string) error {
		out, err := c.Node(node).Exec(context.Background(), "sh", "-ec", script)
		if err != nil {
			return fmt.Errorf("%s: %w %s", script, err, out)
		}
		return nil
	}
}

// A node on which an interface cannot be opened leaves what it cannot announce there to
// others, though it looks able to: IPv6 may be disabled on it, and the L2Advertisement
// name it.
func TestInterfaceThatCannotBeOpened(t *testing.T) {
	f := newFailover(t)
	a := f.addresses[1]
	l2 := &v1alpha1.L2Advertisement{ObjectMeta: meta1("lan")}
	f.change(t, l2, func() { l2.Spec.Interfaces = []v1alpha1.InterfacePattern{"eth0"} })
	owner := f.owner(t, a)
	broken := f.other(owner)
	sh, saved := f.shell(broken), filepath.Join(t.TempDir(), "saved")
	must(t, sh("ip -6 address save dev eth0 scope global > "+saved+".a; ip -6 route save dev eth0 proto boot > "+saved+".r; sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1"))
	fix := sync.OnceFunc(func() {
		must(t, sh("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=0; ip address restore < "+saved+".a; ip -6 route restore < "+saved+".r"))
	})
	t.Cleanup(fix)
	f.annotate(t, broken, v1alpha1.AnnotationTake+"="+a.String())
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(broken)}
	f.until(t, sp, func() error {
		return says(sp.Status.Conditions, ready, false, v1alpha1.ReasonCannotAnnounce, "open NDP on eth0")
	})
	next := f.owner(t, a)
	if next == broken {
		t.Errorf("%s answers for %s, which it cannot", broken, a)
	}
	f.untilService(t, f.web, announced, true, "Announced", a.String()+" by layer 2 from "+next)
	f.explain(t, f.web, "Announced")
	f.doctor(t, "node "+broken, "cannot announce", "open NDP on eth0", "IPv6 must not be disabled")
	fix()
	f.untilWhole(t)
}

// An interface need not have an address to be announced on, if it is named.
func TestInterfaceWithoutAnAddress(t *testing.T) {
	c := cluster.corner(t)
	sh := c.shell("n1")
	must(t, sh("ip link add link eth0 name side address 02:00:00:00:5d:01 type macvlan mode bridge; ip link set side addrgenmode none up"))
	t.Cleanup(func() { must(t, sh("ip link del side")) })
	c.pool(t, "side", "172.30.0.64/32")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("side"), Spec: v1alpha1.L2AdvertisementSpec{Interfaces: []v1alpha1.InterfacePattern{"side"}}})
	svc := c.service(t, "web")
	c.backends(t, svc)
	a := c.addresses(t, svc)[0]
	w, err := c.Observer.WatchNeighbour(a)
	must(t, err)
	t.Cleanup(w.Stop)
	if got := onlyOwner(t, w, soon); got != "02:00:00:00:5d:01" {
		t.Errorf("%s answers, want the interface without an address", got)
	}
	served(t, c.Client, a)
	c.untilService(t, svc, announced, true, "Announced", a.String()+" by layer 2 from n1 (side)")
}

// A speaker whose node gets another address hands over, executes itself again, and talks to
// the others from there. They find it even if they have not heard that it is no longer
// where it was.
func TestNodeGetsAnotherAddress(t *testing.T) {
	f := newFailover(t)
	const another = "172.30.0.213"
	n, sh := f.Node("n3"), f.shell("n3")
	node := &corev1.Node{ObjectMeta: meta1(n.Name)}
	report := func(address string) {
		t.Helper()
		must(t, f.api.Get(context.Background(), client.ObjectKeyFromObject(node), node))
		before := node.DeepCopy()
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}, {Type: corev1.NodeInternalIP, Address: n.IPv6.String()}}
		must(t, f.api.Status().Patch(context.Background(), node, client.MergeFrom(before)))
	}
	talksFrom := func(address string) {
		t.Helper()
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(n.Name)}
		f.until(t, sp, func() error {
			if !strings.HasPrefix(sp.Status.GossipEndpoint, address+":") {
				return fmt.Errorf("it talks from %s", sp.Status.GossipEndpoint)
			}
			return nil
		})
		f.untilWhole(t)
	}
	must(t, sh("ip address add "+another+"/24 dev eth0"))
	back := sync.OnceFunc(func() {
		must(t, f.speaker(n.Name).Kill())
		must(t, sh("ip address del "+another+"/24 dev eth0"))
		report(n.IPv4.String())
		must(t, f.reviveSpeaker(context.Background(), n.Name))
	})
	t.Cleanup(back)

	w := f.begin(t, f.addresses[0])
	p := f.speaker(n.Name)
	report(another)
	talksFrom(another)
	select {
	case <-p.Done():
		t.Errorf("the process ended instead; it says\n%s", p.Tail(5))
	default:
	}

	if onlyOwner(t, w.seen, settled) == n.Name {
		f.annotate(t, f.other(n.Name), v1alpha1.AnnotationTake+"="+f.addresses[0].String())
	}
	owner := onlyOwner(t, w.seen, settled, n.Name)
	struck := time.Now()
	back()
	talksFrom(n.IPv4.String())
	if again := w.seen.Doubt(struck, owner); again > 0 {
		t.Errorf("%s answered until %v after it was killed and started anew with another address\n%v", n.Name, again, w.seen)
	}
	w.lostNothing(t)
}
