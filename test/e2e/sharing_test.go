package e2e

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// shares gives the Service a key to share its address by.
func shares(key string) func(*corev1.Service) {
	return annotated(v1alpha1.AnnotationAllowSharedIP, key)
}

// exactly asks for an address.
func exactly(ips string) func(*corev1.Service) {
	return annotated(v1alpha1.AnnotationLoadBalancerIPs, ips)
}

// fromPool asks for an address of a pool.
func fromPool(name string) func(*corev1.Service) {
	return annotated(v1alpha1.AnnotationAddressPool, name)
}

// localTo has externalTrafficPolicy Local and serves by the pods with a label.
func localTo(app string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		localTraffic(svc)
		svc.Spec.Selector = map[string]string{"app": app}
	}
}

// Services with one key and different ports have one address; others do not.
func TestSameKeySharesAnAddress(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	all := func(changes ...func(*corev1.Service)) func(*corev1.Service) {
		return func(svc *corev1.Service) {
			for _, change := range changes {
				change(svc)
			}
		}
	}
	metallb := annotated(v1alpha1.AnnotationMetalLBAllowSharedIP, "k")
	universe := annotated(v1alpha1.AnnotationMetalLBUniverseAllowSharedIP, "k")
	for _, s := range []struct {
		name          string
		first, second func(*corev1.Service)
		ports         string // of the second
		want          string // for the second
	}{
		{"the same key", shares("k"), shares("k"), "UDP/53", "192.0.2.0"},
		{"one number of two protocols", shares("k"), shares("k"), "UDP/80", "192.0.2.0"},
		{"a port of both", shares("k"), shares("k"), "TCP/80", "192.0.2.1"},
		{"another key", shares("k"), shares("l"), "UDP/53", "192.0.2.1"},
		{"no key on the second", shares("k"), all(), "UDP/53", "192.0.2.1"},
		{"no key on the first", all(), shares("k"), "UDP/53", "192.0.2.1"},
		{"an empty key", shares(""), shares(""), "UDP/53", "192.0.2.1"},
		{"by MetalLB's name", metallb, metallb, "UDP/53", "192.0.2.0"},
		{"by MetalLB's older name", universe, universe, "UDP/53", "192.0.2.0"},
		{"by all names", shares("k"), universe, "UDP/53", "192.0.2.0"},
		{"ours wins", shares("k"), all(metallb, shares("l")), "UDP/53", "192.0.2.1"},
		{"with the exact address", shares("k"), all(shares("k"), exactly("192.0.2.0")), "UDP/53", "192.0.2.0"},
		{"with another exact address", shares("k"), all(shares("k"), exactly("192.0.2.9")), "UDP/53", "192.0.2.9"},
		{"Local, the same pods", all(shares("k"), localTo("a")), all(shares("k"), localTo("a")), "UDP/53", "192.0.2.0"},
		{"Local, other pods", all(shares("k"), localTo("a")), all(shares("k"), localTo("b")), "UDP/53", "192.0.2.1"},
		{"Local and Cluster", all(shares("k"), localTo("a")), shares("k"), "UDP/53", "192.0.2.1"},
		{"Local, pods that nobody knows", all(shares("k"), localTraffic), all(shares("k"), localTraffic), "UDP/53", "192.0.2.1"},
	} {
		t.Run(s.name, func(t *testing.T) {
			pool := c.pool(t, c.freshName("shared"), "192.0.2.0/28")
			first := c.service(t, "first", s.first, ports("TCP/80"))
			c.has(t, first, "192.0.2.0")
			second := c.service(t, "second", s.second, ports(s.ports))
			c.has(t, second, s.want)
			c.has(t, first, "192.0.2.0")
			n := int64(1)
			if s.want != "192.0.2.0" {
				n = 2
			}
			c.until(t, pool, func() error {
				if pool.Status.AssignedIPv4 != n || pool.Status.AvailableIPv4 != 16-n {
					return fmt.Errorf("%d assigned, %d available, want %d and %d", pool.Status.AssignedIPv4, pool.Status.AvailableIPv4, n, 16-n)
				}
				return nil
			})
		})
	}
}

// Who cannot share the only address, or the one that it names, is told with whom
// not and why, and gets it when that has changed.
func TestRefusalToShareNamesTheOther(t *testing.T) {
	const only = "192.0.2.20"
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "one", only+"/32")
	first := c.service(t, "first", shares("k"), localTo("a"), ports("TCP/80", "TCP/443"))
	c.has(t, first, only)
	other := c.namespace + "/first"
	for _, s := range []struct {
		name    string
		changes []func(*corev1.Service)
		reason  string
		words   []string
		fix     func(*corev1.Service)
	}{
		{"the same port", []func(*corev1.Service){shares("k"), localTo("a"), ports("UDP/53", "TCP/80")},
			"PortConflict", []string{`pool "one"`, only, other, "TCP port 80"}, ports("UDP/53")},
		{"the same port of the exact address", []func(*corev1.Service){shares("k"), localTo("a"), ports("TCP/443"), exactly(only)},
			"PortConflict", []string{only, other, "TCP port 443"}, ports("TCP/444")},
		{"other pods", []func(*corev1.Service){shares("k"), localTo("b"), ports("UDP/53")},
			"BackendsDiffer", []string{only, other, "externalTrafficPolicy", "selector"}, localTo("a")},
		{"another policy", []func(*corev1.Service){shares("k"), ports("UDP/53")},
			"BackendsDiffer", []string{only, other, "externalTrafficPolicy"}, localTo("a")},
		{"another key", []func(*corev1.Service){shares("l"), localTo("a"), ports("UDP/53")},
			"Exhausted", []string{`pool "one": no free IPv4 address (1 in use)`}, shares("k")},
		{"another key for the exact address", []func(*corev1.Service){shares("l"), localTo("a"), ports("UDP/53"), exactly(only)},
			"SharingKeyDiffers", []string{only, other, "allow-shared-ip key"}, shares("k")},
		{"no key for the exact address", []func(*corev1.Service){localTo("a"), ports("UDP/53"), exactly(only)},
			"AddressInUse", []string{only, other}, shares("k")},
	} {
		t.Run(s.name, func(t *testing.T) {
			before := c.noted(t, first)
			second := c.service(t, "second", s.changes...)
			c.refused(t, second, s.reason, s.words...)
			c.untilEvents(t, second, "AssignmentFailed", s.words[len(s.words)-1])
			c.change(t, second, func() { s.fix(second) })
			c.has(t, second, only)
			before.same(t)
		})
	}
	t.Run("until the other changes", func(t *testing.T) {
		second := c.service(t, "second", shares("k"), localTo("a"), ports("TCP/80"))
		c.refused(t, second, "PortConflict", other, "TCP port 80")
		c.change(t, first, func() { ports("TCP/443")(first) })
		c.has(t, second, only)
	})
	t.Run("until the other gives leave", func(t *testing.T) {
		c.change(t, first, func() { delete(first.Annotations, v1alpha1.AnnotationAllowSharedIP) })
		second := c.service(t, "second", shares("k"), localTo("a"), ports("UDP/53"))
		c.refused(t, second, "Exhausted")
		exact := c.service(t, "exact", shares("k"), localTo("a"), ports("UDP/54"), exactly(only))
		c.refused(t, exact, "AddressInUse", other)
		c.change(t, first, func() { shares("k")(first) })
		c.has(t, second, only)
		c.has(t, exact, only)
	})
	t.Run("until the other goes", func(t *testing.T) {
		second := c.service(t, "second", ports("TCP/80"))
		c.refused(t, second, "Exhausted")
		c.remove(t, first)
		c.has(t, second, only)
	})
}

// The pool says who may share: the Services of a namespace, all, or none.
func TestPoolSaysWhoShares(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	elsewhere := c.neighbour(t, nil)
	for _, s := range []struct {
		sharing v1alpha1.SharingPolicy
		from    *corner
		want    string // for the second, by key alone
		joins   bool   // it may have the first's address by name
	}{
		{"", c, "192.0.2.0", true},
		{"", elsewhere, "192.0.2.1", false},
		{v1alpha1.SharingNamespace, elsewhere, "192.0.2.1", false},
		{v1alpha1.SharingCluster, c, "192.0.2.0", true},
		{v1alpha1.SharingCluster, elsewhere, "192.0.2.0", true},
		{v1alpha1.SharingNever, c, "192.0.2.1", false},
		{v1alpha1.SharingNever, elsewhere, "192.0.2.1", false},
	} {
		t.Run(fmt.Sprintf("%q, one namespace %v", s.sharing, s.from == c), func(t *testing.T) {
			pool := c.poolWith(t, c.freshName("scoped"), func(p *v1alpha1.IPAddressPoolSpec) { p.Sharing = s.sharing }, "192.0.2.0/30")
			first := c.service(t, "first", shares("k"), ports("TCP/80"))
			c.has(t, first, "192.0.2.0")
			c.has(t, s.from.service(t, "second", shares("k"), ports("UDP/53")), s.want)
			third := s.from.service(t, "third", shares("k"), ports("UDP/54"), exactly("192.0.2.0"))
			if s.joins {
				c.has(t, third, "192.0.2.0")
				return
			}
			says := "Namespace"
			if s.sharing != "" {
				says = string(s.sharing)
			}
			c.refused(t, third, "SharingNotAllowed", fmt.Sprintf("pool %q", pool.Name), "192.0.2.0", c.namespace+"/first", "the pool's sharing is "+says)
		})
	}
	t.Run("an edit lets another namespace in", func(t *testing.T) {
		pool := c.pool(t, c.freshName("scoped"), "192.0.2.0/32")
		c.has(t, c.service(t, "first", shares("k"), ports("TCP/80")), "192.0.2.0")
		second := elsewhere.service(t, "second", shares("k"), ports("UDP/53"))
		c.refused(t, second, "Exhausted", fmt.Sprintf("pool %q", pool.Name))
		c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Sharing = v1alpha1.SharingCluster })
		c.has(t, second, "192.0.2.0")
	})
}

// A Service that is changed so that it can no longer share its address moves
// away; the other does not even notice.
func TestWhoChangesIntoAConflictMoves(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	for _, s := range []struct {
		name   string
		change func(*corev1.Service)
		words  string
	}{
		{"port", ports("TCP/80", "UDP/53"), "TCP port 80"},
		{"key", shares("l"), "allow-shared-ip key"},
		{"no key", func(svc *corev1.Service) { delete(svc.Annotations, v1alpha1.AnnotationAllowSharedIP) }, "in use"},
		{"policy", localTo("a"), "externalTrafficPolicy"},
	} {
		t.Run(s.name, func(t *testing.T) {
			c.pool(t, c.freshName("moved"), "192.0.2.0/30")
			first := c.service(t, "first", shares("k"), ports("TCP/80"))
			second := c.service(t, "second", shares("k"), ports("UDP/53"))
			c.has(t, first, "192.0.2.0")
			c.has(t, second, "192.0.2.0")
			before := c.noted(t, first)
			c.change(t, second, func() { s.change(second) })
			c.has(t, second, "192.0.2.1")
			c.untilEvents(t, second, "Assigned", "192.0.2.0", "192.0.2.1")
			c.untilEvents(t, second, "Released", "192.0.2.0")
			c.untilEvents(t, second, "Conflict", c.namespace+"/first")
			c.untilEvents(t, second, "Conflict", s.words)
			before.same(t)
		})
	}
	t.Run("the older one", func(t *testing.T) {
		c.pool(t, c.freshName("moved"), "192.0.2.0/30")
		older := c.service(t, "older", shares("k"), ports("TCP/80"))
		c.has(t, older, "192.0.2.0")
		nextSecond(t, older)
		younger := c.service(t, "younger", shares("k"), ports("UDP/53"))
		c.has(t, younger, "192.0.2.0")
		before := c.noted(t, younger)
		c.change(t, older, func() { ports("UDP/53")(older) })
		c.has(t, older, "192.0.2.1")
		c.untilEvents(t, older, "Conflict", c.namespace+"/younger uses UDP port 53 too")
		before.same(t)
	})
	t.Run("to nowhere, and back", func(t *testing.T) {
		c.pool(t, c.freshName("moved"), "192.0.2.0/32")
		first := c.service(t, "first", shares("k"), ports("TCP/80"))
		second := c.service(t, "second", shares("k"), ports("UDP/53"))
		c.has(t, first, "192.0.2.0")
		c.has(t, second, "192.0.2.0")
		before := c.noted(t, first)
		c.change(t, second, func() { ports("TCP/80")(second) })
		c.refused(t, second, "PortConflict", c.namespace+"/first", "TCP port 80")
		c.untilEvents(t, second, "Conflict", c.namespace+"/first uses TCP port 80 too")
		c.change(t, second, func() { ports("TCP/81")(second) })
		c.has(t, second, "192.0.2.0")
		before.same(t)
	})
	t.Run("in both families", func(t *testing.T) {
		c.pool(t, c.freshName("moved"), "192.0.2.0/30", "2001:db8::/126")
		first := c.service(t, "first", dualStack, shares("k"), ports("TCP/80"))
		second := c.service(t, "second", dualStack, shares("k"), ports("UDP/53"))
		c.has(t, first, "192.0.2.0", "2001:db8::")
		c.has(t, second, "192.0.2.0", "2001:db8::")
		c.change(t, second, func() { ports("TCP/80")(second) })
		c.has(t, second, "192.0.2.1", "2001:db8::1")
		lab.Eventually(t, soon, func() error { // one event or two
			got := fmt.Sprint(c.events(t, second, "Conflict"))
			for _, w := range []string{"192.0.2.0 cannot be shared", "2001:db8:: cannot be shared"} {
				if !strings.Contains(got, w) {
					return fmt.Errorf("the events Conflict say %q, want %q", got, w)
				}
			}
			return nil
		})
	})
}

// An address that is shared is free when the last who has it is gone, and not before.
func TestSharedAddressIsFreeAfterTheLast(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	pool := c.pool(t, "one", "192.0.2.30/32")
	var sharers []*corev1.Service
	for i := range 3 {
		sharers = append(sharers, c.service(t, fmt.Sprint("sharer-", i), shares("k"), ports(fmt.Sprint("TCP/", 80+i))))
		c.has(t, sharers[i], "192.0.2.30")
	}
	waiting := c.service(t, "waiting", ports("UDP/53"))
	c.refused(t, waiting, "Exhausted")
	for len(sharers) > 0 {
		before := c.noted(t, sharers[1:]...)
		c.remove(t, sharers[0])
		if sharers = sharers[1:]; len(sharers) > 0 {
			c.touch(t, waiting)
			c.refused(t, waiting, "Exhausted", "(1 in use)")
		}
		before.same(t)
	}
	c.has(t, waiting, "192.0.2.30")
	c.until(t, pool, func() error {
		if pool.Status.AssignedIPv4 != 1 || pool.Status.AvailableIPv4 != 0 {
			return fmt.Errorf("%d assigned, %d available", pool.Status.AssignedIPv4, pool.Status.AvailableIPv4)
		}
		return nil
	})
}

// A pool that lets nobody share any more takes nothing from those who do, nor
// does a restart of the controller then or before.
func TestSharersKeepWhatTheyHave(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	pool := c.pool(t, "lan", "192.0.2.0/29")
	var sharers []*corev1.Service
	for i := range 3 {
		sharers = append(sharers, c.service(t, fmt.Sprint("sharer-", i), shares("k"), ports(fmt.Sprint("TCP/", 80+i))))
		c.has(t, sharers[i], "192.0.2.0")
	}
	steps := []struct {
		name string
		do   func(*testing.T)
	}{
		{"restart", func(t *testing.T) { running = c.crash(t, running, nil) }},
		{"never", func(t *testing.T) {
			c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Sharing = v1alpha1.SharingNever })
		}},
		{"restart-after-that", func(t *testing.T) { running = c.crash(t, running, nil) }},
	}
	for i, step := range steps {
		before := c.noted(t, sharers...)
		step.do(t)
		next := c.service(t, "next-"+step.name, shares(step.name), ports("TCP/90"))
		c.has(t, next, fmt.Sprint("192.0.2.", 1+i))
		before.same(t)
	}
	for _, svc := range sharers {
		c.touch(t, svc)
	}
	c.has(t, c.service(t, "next-sharer", shares("k"), ports("TCP/90")), "192.0.2.4")
	for _, svc := range sharers {
		c.has(t, svc, "192.0.2.0")
		c.untilEvents(t, svc, "Conflict")
	}
}

// Services of several namespaces that share stay together when the pool lets
// them no more.
func TestSharersOfSeveralNamespacesStay(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	elsewhere := c.neighbour(t, nil)
	pool := c.poolWith(t, "lan", func(s *v1alpha1.IPAddressPoolSpec) { s.Sharing = v1alpha1.SharingCluster }, "192.0.2.0/29")
	ours := c.service(t, "ours", shares("k"), ports("TCP/80"))
	c.has(t, ours, "192.0.2.0")
	theirs := elsewhere.service(t, "theirs", shares("k"), ports("UDP/53"))
	c.has(t, theirs, "192.0.2.0")
	before := c.noted(t, ours, theirs)
	c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Sharing = v1alpha1.SharingNamespace })
	c.has(t, c.service(t, "next"), "192.0.2.1")
	c.crash(t, running, nil)
	c.has(t, c.service(t, "after"), "192.0.2.2")
	before.same(t)
	c.touch(t, ours)
	c.touch(t, theirs)
	c.has(t, c.service(t, "last"), "192.0.2.3")
	c.has(t, ours, "192.0.2.0")
	c.has(t, theirs, "192.0.2.0")
	exact := elsewhere.service(t, "exact", shares("k"), ports("UDP/54"), exactly("192.0.2.0"))
	c.refused(t, exact, "SharingNotAllowed", c.namespace+"/ours", "the pool's sharing is Namespace")
}

// All who wait for an address that they can share get it when it is free.
func TestWaitingSharersAreServedTogether(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "one", "192.0.2.0/32")
	holder := c.service(t, "holder")
	c.has(t, holder, "192.0.2.0")
	var waiting []*corev1.Service
	for i, change := range []func(*corev1.Service){shares("k"), shares("l"), shares("k"), shares("")} {
		waiting = append(waiting, c.service(t, fmt.Sprint("waiting-", i), change, ports(fmt.Sprint("TCP/", 80+i))))
		c.refused(t, waiting[i], "Exhausted", "(1 in use)")
		nextSecond(t, waiting[i])
	}
	c.remove(t, holder)
	c.has(t, waiting[0], "192.0.2.0")
	c.has(t, waiting[2], "192.0.2.0")
	c.refused(t, waiting[1], "Exhausted")
	c.refused(t, waiting[3], "Exhausted")
	c.remove(t, waiting[0])
	c.remove(t, waiting[2])
	c.has(t, waiting[1], "192.0.2.0")
	c.refused(t, waiting[3], "Exhausted")
}

// Two Services on one address are both answered, each on its port by its own
// backends, and one node announces the address for both.
func TestSharedAddressServesBoth(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "shared", "172.30.0.80-172.30.0.89", "fd30::80-fd30::89")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("shared")})
	web := c.service(t, "web", dualStack, shares("k"), ports("TCP/80"))
	c.has(t, web, "172.30.0.80", "fd30::80")
	dns := c.service(t, "dns", dualStack, shares("k"), ports("UDP/53"))
	c.has(t, dns, "172.30.0.80", "fd30::80")
	c.backend(t, web, "n1")
	c.backend(t, dns, "n2")
	for _, a := range ingress(web) {
		owner := c.owner(t, a)
		for _, svc := range []*corev1.Service{web, dns} {
			c.untilService(t, svc, announced, true, "Announced", fmt.Sprintf("%s by layer 2 from %s (eth0)", a, owner))
		}
		for _, from := range []*lab.Host{c.Client, c.Far} {
			t.Run(fmt.Sprintf("%s from %s", a, from.Name), func(t *testing.T) {
				onlyFrom(t, from.ProbeHTTP(netip.AddrPortFrom(a, 80), calmly), "n1")
				onlyFrom(t, from.ProbeUDP(netip.AddrPortFrom(a, 53), patiently), "n2")
			})
		}
	}
	t.Run("one goes", func(t *testing.T) {
		a := ingress(web)[0]
		owner := c.owner(t, a)
		p := c.Client.ProbeHTTP(netip.AddrPortFrom(a, 80), calmly)
		defer p.Stop()
		answered(t, p, 20)
		c.remove(t, dns)
		c.has(t, c.service(t, "next"), "172.30.0.81")
		answered(t, p, 100)
		if r := p.Stop(); r.Answered != r.Sent {
			t.Errorf("%d of %d questions were not answered when the other Service went", r.Sent-r.Answered, r.Sent)
		}
		c.untilOwner(t, a, owner)
	})
}

// onlyFrom waits until a probe gets answers, and checks that they are all from
// backends on the node.
func onlyFrom(t *testing.T, p *lab.Probe, node string) {
	t.Helper()
	defer p.Stop()
	answered(t, p, 20)
	if r := p.Stop(); r.Nodes[node] != r.Answered {
		t.Errorf("want answers from %s alone: %v", node, r)
	}
}
