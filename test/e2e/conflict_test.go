package e2e

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// occupy gives a host outside of the cluster the address until the test ends, or
// the function that is returned is called. It returns the host's MAC as well.
func (c *corner) occupy(t *testing.T, addr string) (mac string, leave func()) {
	t.Helper()
	ip := netip.MustParseAddr(addr)
	args := []string{"addr", "add", netip.PrefixFrom(ip, ip.BitLen()).String(), "dev", "eth0"}
	if ip.Is6() {
		args = append(args, "nodad")
	}
	_, err := c.Observer.Exec(t.Context(), append([]string{"ip"}, args...)...)
	must(t, err)
	gone := false
	leave = func() {
		if gone {
			return
		}
		gone = true
		args[1] = "del"
		_, err := c.Observer.Exec(context.Background(), append([]string{"ip"}, args[:5]...)...)
		must(t, err)
	}
	t.Cleanup(leave)
	return c.Observer.MAC.String(), leave
}

// A host of another VLAN is in another network, and may have the same address.
func TestHostOfAnotherVLANIsNoConflict(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "twins", "172.30.0.86-172.30.0.87")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("twins")})
	var addrs []netip.Addr
	for _, name := range []string{"there", "here"} {
		svc := c.service(t, name, annotated(v1alpha1.AnnotationAddressPool, "twins"))
		c.backends(t, svc)
		a := c.addresses(t, svc)[0]
		c.owner(t, a)
		addrs = append(addrs, a)
	}
	there, here := addrs[0], addrs[1]
	claim := func(a netip.Addr, vlan uint16) {
		p, err := arp.NewPacket(arp.OperationRequest, c.Observer.MAC, a, make(net.HardwareAddr, 6), a)
		must(t, err)
		b, err := p.MarshalBinary()
		must(t, err)
		c.shout(t, vlan, 0x0806, b)
	}
	claim(there, 5)
	claim(here, 0)
	disputed := map[string]bool{}
	lab.Eventually(t, soon, func() error {
		var all v1alpha1.SpeakerList
		must(t, c.api.List(t.Context(), &all))
		for _, s := range all.Items {
			for _, x := range s.Status.Conflicts {
				disputed[x.Address] = true
			}
		}
		if !disputed[here.String()] {
			return fmt.Errorf("%s is not disputed, and a foreign host claimed it", here)
		}
		return nil
	})
	if disputed[there.String()] {
		t.Errorf("%s is disputed, and was claimed in another VLAN", there)
	}
}

// An address that a foreign host has is not announced, and the Service says so
// with the host's MAC; when the host has gone, it is.
func TestForeignHostIsNotFought(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "shared", "172.30.0.60-172.30.0.61", "fd30::60-fd30::61")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("shared")})
	for _, addr := range []string{"172.30.0.60", "fd30::60"} {
		t.Run(addr, func(t *testing.T) {
			mac, leave := c.occupy(t, addr)
			svc := c.service(t, "web", annotated(v1alpha1.AnnotationLoadBalancerIPs, addr), func(svc *corev1.Service) {
				if strings.Contains(addr, ":") {
					svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
				}
			})
			c.backend(t, svc, "n1")
			c.untilService(t, svc, announced, false, "Conflict", addr+" is not announced", mac)
			c.untilEvent(t, svc, "Conflict", mac)
			leave()
			lab.Eventually(t, 2*soon, func() error { // it asks again after ten seconds
				if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
					return err
				}
				return says(svc.Status.Conditions, announced, true, "Announced", addr)
			})
			c.owner(t, netip.MustParseAddr(addr))
		})
	}
}

// A host that answers for every address, as one with proxy ARP does, costs a pool two
// addresses at most, and a Service none: it keeps the one that it has. All of it ends when
// the host stops.
func TestHostThatAnswersForAllEmptiesNoPool(t *testing.T) {
	c := cluster.corner(t)
	pool := c.pool(t, c.freshName("proxied"), "172.30.0.90-172.30.0.97")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1(pool.Name), Spec: v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{v1alpha1.ObjectName(pool.Name)}}})
	var mac string
	var leave []func()
	for i := range 8 {
		m, f := c.occupy(t, fmt.Sprintf("172.30.0.%d", 90+i))
		mac, leave = m, append(leave, f)
	}
	svc := c.service(t, "web", annotated(v1alpha1.AnnotationAddressPool, pool.Name))
	c.backends(t, svc)
	c.untilService(t, svc, announced, false, "Conflict", mac, "answers for every address that was tried", "the Service keeps 172.30.0.9")
	c.untilService(t, svc, assigned, true, "Assigned", "172.30.0.9")
	c.untilEvent(t, svc, "Conflict", mac, "answers for every address that was tried")
	c.until(t, pool, func() error {
		if free := pool.Status.AvailableIPv4; free < 5 {
			return fmt.Errorf("%d of 8 addresses are available, want at least 5", free)
		}
		return says(pool.Status.Conditions, v1alpha1.ConditionReady, false, v1alpha1.ReasonHostAnswersAll, mac)
	})
	has := ingress(svc)
	for _, f := range leave {
		f()
	}
	lab.Eventually(t, 2*soon, func() error { // it asks again after ten seconds
		if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		return says(svc.Status.Conditions, announced, true, "Announced", has[0].String())
	})
	c.owner(t, has[0])
	c.until(t, pool, func() error {
		if free := pool.Status.AvailableIPv4; free != 7 {
			return fmt.Errorf("%d of 8 addresses are available, want 7", free)
		}
		return says(pool.Status.Conditions, v1alpha1.ConditionReady, true, v1alpha1.ReasonAccepted)
	})
}

// An address that was given back may be a foreign host's when it is given out again,
// whoever announced it before.
func TestAddressGivenOutAgainIsNotFoughtFor(t *testing.T) {
	c := cluster.corner(t)
	const addr = "172.30.0.62"
	c.pool(t, "shared", addr+"/32")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("shared")})
	first := c.service(t, "first")
	c.backends(t, first)
	a := c.addresses(t, first)[0]
	to := "n1" // an address that moved is not new to the network any more
	if c.owner(t, a) == to {
		to = "n2"
	}
	c.annotate(t, to, v1alpha1.AnnotationTake+"="+addr)
	c.untilService(t, first, announced, true, "Announced", addr+" by layer 2 from "+to)
	c.remove(t, first)
	c.untilSpeakersOwn(t, nil)

	mac, _ := c.occupy(t, addr)
	w, err := c.Client.WatchNeighbour(a)
	must(t, err)
	t.Cleanup(w.Stop)
	second := c.service(t, "second", exactly(addr))
	c.backends(t, second)
	c.untilService(t, second, announced, false, "Conflict", addr+" is not announced", mac)
	// Nor does one fight for it who takes over from a node that does not announce it.
	quiet := c.disputer(t, "")
	c.annotate(t, quiet, v1alpha1.AnnotationDrain+"=disk swap")
	t.Cleanup(func() { c.undrain(t, quiet) })
	c.disputer(t, quiet)
	for _, said := range w.Changes() {
		if said.Node != "" {
			t.Errorf("%s said that it has %s\n%v", said.Node, addr, w)
		}
	}
	must(t, w.Err())
}

// disputer waits until a node, but not this one, leaves an address to a foreign host.
func (c *corner) disputer(t *testing.T, but string) (node string) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		var all v1alpha1.SpeakerList
		must(t, c.api.List(t.Context(), &all))
		for _, s := range all.Items {
			if len(s.Status.Conflicts) > 0 && s.Name != but {
				node = s.Name
				return nil
			}
		}
		return errors.New("no speaker says that it leaves an address to a foreign host")
	})
	return node
}

// forge sends frames by which a host claims the address: by ARP, or by an unsolicited
// Neighbor Advertisement whose option has the MAC.
func (c *corner) forge(t *testing.T, a netip.Addr, mac net.HardwareAddr, frames int) {
	t.Helper()
	for range frames {
		if a.Is4() {
			p, err := arp.NewPacket(arp.OperationReply, mac, a, mac, a)
			must(t, err)
			b, err := p.MarshalBinary()
			must(t, err)
			c.shout(t, 0, 0x0806, b)
			continue
		}
		from, all := netip.MustParseAddr("fe80::6666"), netip.MustParseAddr("ff02::1")
		message, err := ndp.MarshalMessageChecksum(&ndp.NeighborAdvertisement{
			Override: true, TargetAddress: a, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
		}, from, all)
		must(t, err)
		b := append([]byte{6 << 4, 0, 0, 0, 0, byte(len(message)), 58, ndp.HopLimit}, from.AsSlice()...)
		c.shout(t, 0, 0x86dd, append(append(b, all.AsSlice()...), message...))
	}
}

// conflictOf returns what a speaker says of a foreign host that has the address, nil
// while none does.
func (c *corner) conflictOf(t *testing.T, a netip.Addr) (node string, found *v1alpha1.SpeakerConflict) {
	t.Helper()
	var all v1alpha1.SpeakerList
	must(t, c.api.List(t.Context(), &all))
	for _, s := range all.Items {
		for i := range s.Status.Conflicts {
			if s.Status.Conflicts[i].Address == a.String() {
				return s.Name, &s.Status.Conflicts[i]
			}
		}
	}
	return "", nil
}

// Forged frames, which name a MAC that no host has, do not silence an address that is
// served; they are reported.
func TestForgedFramesDoNotSilenceAnAddress(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "forged", "172.30.0.66/32", "fd30::66/128")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("forged")})
	svc := c.service(t, "web", annotated(v1alpha1.AnnotationAddressPool, "forged"), dualStack)
	c.backends(t, svc)
	ghost := net.HardwareAddr{2, 0, 0, 0, 0x66, 0x66}
	for _, a := range c.addresses(t, svc) {
		owner := c.owner(t, a)
		w, err := c.Client.WatchNeighbour(a)
		must(t, err)
		t.Cleanup(w.Stop)
		onlyOwner(t, w, soon)
		c.forge(t, a, ghost, 5)
		lab.Eventually(t, soon, func() error {
			node, x := c.conflictOf(t, a)
			if x == nil || node != owner || x.MAC != ghost.String() || !x.Defended || x.Answers {
				return fmt.Errorf("%s says of %s: %+v", node, a, x)
			}
			return nil
		})
		steadily(t, 3*time.Second, func() error {
			if now := w.Answering(500 * time.Millisecond); len(now) != 1 || now[0] != owner {
				return fmt.Errorf("%v answer for %s, want %s\n%v", now, a, owner, w)
			}
			return nil
		})
		c.untilService(t, svc, announced, true, "Announced", a.String()+" by layer 2 from "+owner, ghost.String(), "may be forged")
		c.untilEvent(t, svc, "Conflict", ghost.String())
	}
}

// A host that answers for an address, and that only a node which is gone knew of, is
// found by the node that takes the address over.
func TestTakeoverFindsAForeignHost(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "found", "172.30.0.67/32", "fd30::67/128")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("found")})
	svc := c.service(t, "web", annotated(v1alpha1.AnnotationAddressPool, "found"), dualStack)
	c.backends(t, svc)
	for _, a := range c.addresses(t, svc) {
		owner := c.owner(t, a)
		mac, _ := c.occupy(t, a.String())
		c.annotate(t, owner, v1alpha1.AnnotationDrain+"=disk swap")
		t.Cleanup(func() { c.undrain(t, owner) })
		lab.Eventually(t, soon, func() error {
			node, x := c.conflictOf(t, a)
			if x == nil || node == owner || x.MAC != mac || !x.Defended || !x.Answers {
				return fmt.Errorf("%s says of %s: %+v", node, a, x)
			}
			return nil
		})
		c.undrain(t, owner)
	}
	c.untilService(t, svc, announced, true, "Announced", "has the address too")
}

// Of two interfaces in one subnet one answers. The other does at once when the cable of
// the first is pulled, and keeps answering when the cable is back.
func TestTwoInterfacesInOneSubnet(t *testing.T) {
	c := cluster.corner(t)
	node := c.Node("n1")
	var cables []*lab.Cable
	for i, name := range []string{"eth7", "eth8"} {
		cable, err := node.AddCable(t.Context(), name, net.HardwareAddr{2, 0, 0, 0, 0x77, byte(7 + i)}, netip.MustParsePrefix(fmt.Sprintf("172.30.77.%d/24", 7+i)))
		must(t, err)
		t.Cleanup(func() { must(t, cable.Remove(context.Background())) })
		cables = append(cables, cable)
	}
	c.pool(t, "twice", "172.30.77.100/32")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("twice")})
	svc := c.service(t, "web", annotated(v1alpha1.AnnotationAddressPool, "twice"))
	c.backends(t, svc)
	a := c.addresses(t, svc)[0]
	w, err := c.Observer.WatchNeighbour(a)
	must(t, err)
	t.Cleanup(w.Stop)
	answers := func(cable *lab.Cable) {
		t.Helper()
		lab.Eventually(t, soon, func() error {
			if now := w.Answering(300 * time.Millisecond); len(now) != 1 || now[0] != cable.MAC.String() {
				return fmt.Errorf("%v answer, want %s alone\n%v", now, cable.MAC, w)
			}
			return nil
		})
	}
	answers(cables[0])
	pulled := time.Now()
	must(t, cables[0].Pull(t.Context()))
	answers(cables[1])
	changes := w.Changes()
	if len(changes) != 2 || changes[1].At.Sub(pulled) > time.Second {
		t.Errorf("%s after the cable was pulled, want the other interface within a second\n%v", changes[len(changes)-1].At.Sub(pulled), w)
	}
	t.Logf("eth8 answers %s after the cable of eth7 was pulled", changes[len(changes)-1].At.Sub(pulled))
	for range 3 { // a cable that flaps moves nothing
		must(t, cables[0].Plug(t.Context()))
		steadily(t, time.Second, func() error {
			if now := w.Answering(300 * time.Millisecond); len(now) != 1 || now[0] != cables[1].MAC.String() {
				return fmt.Errorf("%v answer\n%v", now, w)
			}
			return nil
		})
		must(t, cables[0].Pull(t.Context()))
	}
	must(t, cables[0].Plug(t.Context()))
	must(t, cables[1].Pull(t.Context()))
	answers(cables[0])
	if n := len(w.Changes()); n != 3 {
		t.Errorf("the address moved %d times, want twice\n%v", n-1, w)
	}
	must(t, cables[1].Plug(t.Context()))
}

// A Service that did not ask for the address is given another.
func TestServiceIsGivenAnotherAddressThanAForeignHosts(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "shared", "172.30.0.60-172.30.0.61")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("shared")})
	c.occupy(t, "172.30.0.60")
	svc := c.service(t, "web")
	c.backend(t, svc, "n1")
	c.untilService(t, svc, announced, true, "Announced", "172.30.0.61")
	if got := fmt.Sprint(ingress(svc)); got != "[172.30.0.61]" {
		t.Errorf("it has %s", got)
	}
	next := c.service(t, "next") // the foreign host's address is not free
	c.untilService(t, next, assigned, false, "Exhausted")
}

// untilEvent waits for an event about the Service with the words.
func (c *corner) untilEvent(t *testing.T, svc *corev1.Service, reason string, words ...string) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		var list eventsv1.EventList
		if err := c.api.List(t.Context(), &list, client.InNamespace(svc.Namespace)); err != nil {
			return err
		}
		var seen []string
		for _, e := range list.Items {
			if e.Regarding.Name != svc.Name || e.Reason != reason {
				continue
			}
			seen = append(seen, e.Note)
			missing := false
			for _, w := range words {
				missing = missing || !strings.Contains(e.Note, w)
			}
			if !missing {
				return nil
			}
		}
		return fmt.Errorf("no event %s about %s with %q; seen: %q", reason, svc.Name, words, seen)
	})
}

// steadily fails when the condition does not hold at some moment until then.
func steadily(t *testing.T, until time.Duration, f func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	end := time.After(until)
	for {
		select {
		case <-end:
			return
		case <-tick.C:
			if err := f(); err != nil {
				t.Fatal(err)
			}
		}
	}
}
