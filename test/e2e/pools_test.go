package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// only narrows a pool.
func only(a v1alpha1.ServiceAllocation) func(*v1alpha1.IPAddressPoolSpec) {
	return func(s *v1alpha1.IPAddressPoolSpec) { s.ServiceAllocation = &a }
}

func labelled(key, value string) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Labels = map[string]string{key: value} }
}

func matching(key, value string) []v1alpha1.LabelSelector {
	return []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{key: v1alpha1.LabelValue(value)}}}
}

func policy(p corev1.IPFamilyPolicy) func(*corev1.Service) {
	return func(svc *corev1.Service) { svc.Spec.IPFamilyPolicy = &p }
}

// Of the pools that would do, that of the best priority gives; then the one that
// is for fewer; then the first by name. One that has nothing left is passed over.
func TestOrderOfPools(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	mine := []v1alpha1.NamespaceName{v1alpha1.NamespaceName(c.namespace)}
	none := func(*v1alpha1.IPAddressPoolSpec) {}
	// In the order in which they are to be asked; each has one address.
	order := []struct {
		name   string
		change func(*v1alpha1.IPAddressPoolSpec)
	}{
		{"z-first", only(v1alpha1.ServiceAllocation{Priority: 1})},
		{"y-second", only(v1alpha1.ServiceAllocation{Priority: 2})},
		{"x-both", only(v1alpha1.ServiceAllocation{Namespaces: mine, ServiceSelectors: matching("app", "web")})},
		{"a-narrow", only(v1alpha1.ServiceAllocation{Namespaces: mine})},
		{"b-narrow", only(v1alpha1.ServiceAllocation{ServiceSelectors: matching("app", "web")})},
		{"c-wide", none},
		{"d-wide", none},
	}
	for i := range order { // created in another order than asked
		p := order[(i*3)%len(order)]
		c.poolWith(t, p.name, p.change, v1alpha1.AddressRange(fmt.Sprintf("192.0.2.%d/32", 100-(i*3)%len(order))))
	}
	for i, p := range order {
		c.has(t, c.service(t, fmt.Sprint("web-", i), labelled("app", "web")), fmt.Sprint("192.0.2.", 100-i))
		c.untilEvents(t, c.newest(t, fmt.Sprint("web-", i)), "Assigned", fmt.Sprintf("%q", p.name))
	}
	words := make([]string, 0, len(order))
	for _, p := range order {
		words = append(words, fmt.Sprintf("pool %q: no free IPv4 address (1 in use)", p.name))
	}
	c.refused(t, c.service(t, "too-many", labelled("app", "web")), "Exhausted", strings.Join(words, "; "))
}

// newest is the Service of that name as it is.
func (c *corner) newest(t *testing.T, name string) *corev1.Service {
	t.Helper()
	svc := c.newService(name)
	c.until(t, svc, func() error { return nil })
	return svc
}

// A pool gives to whom it is for, by name and by exact address too, and says to
// the others why not.
func TestPoolIsForSome(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	ours := v1alpha1.NamespaceName(c.namespace)
	nobody := v1alpha1.LabelSelector{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "no-such-label", Operator: v1alpha1.LabelSelectorOpExists}}}
	blue := c.neighbour(t, map[string]string{"team": "blue"})
	for _, s := range []struct {
		name   string
		change func(*v1alpha1.IPAddressPoolSpec)
		from   *corner
		svc    func(*corev1.Service)
		reason string // why it has none; "" if it has
		words  string
	}{
		{"namespaces: ours", only(v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{ours}}), c, nil, "", ""},
		{"namespaces: another", only(v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{"another"}}), c, nil, "NamespaceNotAllowed", "not for this namespace"},
		{"namespaceSelectors: ours", only(v1alpha1.ServiceAllocation{NamespaceSelectors: matching("team", "blue")}), blue, nil, "", ""},
		{"namespaceSelectors: another", only(v1alpha1.ServiceAllocation{NamespaceSelectors: matching("team", "blue")}), c, nil, "NamespaceNotAllowed", "not for this namespace"},
		{"namespaceSelectors: nobody", only(v1alpha1.ServiceAllocation{NamespaceSelectors: []v1alpha1.LabelSelector{nobody}}), blue, nil, "NamespaceNotAllowed", "not for this namespace"},
		{"namespaces or namespaceSelectors", only(v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{ours}, NamespaceSelectors: matching("team", "blue")}), blue, nil, "", ""},
		{"one of two namespaceSelectors", only(v1alpha1.ServiceAllocation{NamespaceSelectors: append(matching("team", "blue"), nobody)}), blue, nil, "", ""},
		{"serviceSelectors: matches", only(v1alpha1.ServiceAllocation{ServiceSelectors: matching("app", "web")}), c, labelled("app", "web"), "", ""},
		{"serviceSelectors: another value", only(v1alpha1.ServiceAllocation{ServiceSelectors: matching("app", "web")}), c, labelled("app", "db"), "ServiceNotSelected", "its serviceSelectors do not match the Service's labels"},
		{"serviceSelectors: no labels", only(v1alpha1.ServiceAllocation{ServiceSelectors: matching("app", "web")}), c, nil, "ServiceNotSelected", "its serviceSelectors do not match the Service's labels"},
		{"serviceSelectors: nobody", only(v1alpha1.ServiceAllocation{ServiceSelectors: []v1alpha1.LabelSelector{nobody}}), c, labelled("app", "web"), "ServiceNotSelected", "its serviceSelectors do not match the Service's labels"},
		{"the Service but not the namespace", only(v1alpha1.ServiceAllocation{ServiceSelectors: matching("app", "web"), NamespaceSelectors: matching("team", "red")}), blue, labelled("app", "web"), "NamespaceNotAllowed", "not for this namespace"},
		{"disabled", func(s *v1alpha1.IPAddressPoolSpec) { s.Disabled = true }, c, nil, "PoolDisabled", "disabled"},
		{"excluded", func(s *v1alpha1.IPAddressPoolSpec) { s.Excludes = []v1alpha1.AddressRange{"192.0.2.0/24"} }, c, nil, "FamilyAbsent", "has no IPv4 addresses"},
	} {
		t.Run(s.name, func(t *testing.T) {
			c.poolWith(t, "some", s.change, "192.0.2.8/29")
			if s.svc == nil {
				s.svc = func(*corev1.Service) {}
			}
			plain := s.from.service(t, "plain", s.svc)
			named := s.from.service(t, "named", s.svc, fromPool("some"))
			exact := s.from.service(t, "exact", s.svc, exactly("192.0.2.12"))
			if s.reason == "" {
				c.addresses(t, plain)
				c.addresses(t, named)
				c.has(t, exact, "192.0.2.12")
				return
			}
			c.refused(t, plain, s.reason, `pool "some": `+s.words)
			c.refused(t, named, s.reason, `pool "some": `+s.words)
			if s.reason != "FamilyAbsent" { // it does not have the exact one at all
				c.refused(t, exact, s.reason, "cannot assign 192.0.2.12", `pool "some": `+s.words)
			}
		})
	}
	t.Run("a namespace's label changes", func(t *testing.T) {
		red := c.neighbour(t, nil)
		c.poolWith(t, "red", only(v1alpha1.ServiceAllocation{NamespaceSelectors: matching("team", "red")}), "192.0.2.20/30")
		web := red.service(t, "web")
		c.refused(t, web, "NamespaceNotAllowed", `pool "red": not for this namespace`)
		c.label(t, red.namespace, "team", "red")
		c.has(t, web, "192.0.2.20")
		c.poolWith(t, "green", only(v1alpha1.ServiceAllocation{NamespaceSelectors: matching("team", "green")}), "192.0.2.28/32")
		c.label(t, red.namespace, "team", "green") // takes nothing away
		c.has(t, red.service(t, "green", fromPool("green")), "192.0.2.28")
		late := red.service(t, "late", fromPool("red")) // with the new label heard of
		c.refused(t, late, "NamespaceNotAllowed")
		c.touch(t, web)
		c.has(t, web, "192.0.2.20")
	})
	t.Run("a Service's label changes", func(t *testing.T) {
		c.poolWith(t, "web", only(v1alpha1.ServiceAllocation{ServiceSelectors: matching("app", "web")}), "192.0.2.24/30")
		web := c.service(t, "web")
		c.refused(t, web, "ServiceNotSelected", `pool "web"`)
		c.change(t, web, func() { web.Labels = map[string]string{"app": "web"} })
		c.has(t, web, "192.0.2.24")
		c.change(t, web, func() { web.Labels = nil })
		c.has(t, c.service(t, "next", labelled("app", "web")), "192.0.2.25")
		c.has(t, web, "192.0.2.24")
	})
}

// A pool that is not autoAssign gives only to a Service that names it or one of
// its addresses.
func TestAutoAssignIsFalse(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	pool := c.poolWith(t, "asked", func(s *v1alpha1.IPAddressPoolSpec) { s.AutoAssign = ptr.To(false) }, "192.0.2.128/29")
	plain := c.service(t, "plain")
	c.refused(t, plain, "NotAutoAssign", `pool "asked": autoAssign is false and the Service does not name it`)
	c.has(t, c.service(t, "by-name", fromPool("asked")), "192.0.2.128")
	c.has(t, c.service(t, "by-metallb-name", annotated(v1alpha1.AnnotationMetalLBAddressPool, "asked")), "192.0.2.129")
	c.has(t, c.service(t, "by-older-name", annotated(v1alpha1.AnnotationMetalLBUniverseAddressPool, "asked")), "192.0.2.130")
	c.has(t, c.service(t, "by-address", exactly("192.0.2.135")), "192.0.2.135")
	c.has(t, c.service(t, "by-metallb-address", annotated(v1alpha1.AnnotationMetalLBLoadBalancerIPs, "192.0.2.134")), "192.0.2.134")
	c.has(t, c.service(t, "by-field", func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "192.0.2.133" }), "192.0.2.133")
	c.refused(t, c.service(t, "elsewhere", exactly("192.0.2.136")), "AddressNotInPool", "192.0.2.136", `pool "asked": does not have the address`)
	c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.AutoAssign = nil })
	c.has(t, plain, "192.0.2.131")
}

// The addresses that are excluded, or end in .0 or .255 where that is to be
// avoided, are given to nobody.
func TestExcludedAddresses(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	pool := c.poolWith(t, "gaps", func(s *v1alpha1.IPAddressPoolSpec) {
		s.Excludes = []v1alpha1.AddressRange{"10.91.0.254/32", "10.91.1.2-10.91.1.3"}
		s.AvoidBuggyIPs = true
	}, "10.91.0.253-10.91.1.4")
	for i, want := range []string{"10.91.0.253", "10.91.1.1", "10.91.1.4"} {
		c.has(t, c.service(t, fmt.Sprint("web-", i)), want)
	}
	full := c.service(t, "full")
	c.refused(t, full, "Exhausted", `pool "gaps": no free IPv4 address (3 in use)`)
	for i, ip := range []string{"10.91.0.254", "10.91.1.2"} {
		c.refused(t, c.service(t, fmt.Sprint("excluded-", i), exactly(ip)), "AddressNotInPool", ip, `pool "gaps": does not have the address`)
	}
	buggy := c.service(t, "buggy", exactly("10.91.0.255"))
	c.refused(t, buggy, "AddressNotInPool", "10.91.0.255", "avoidBuggyIPs")
	c.until(t, pool, func() error {
		if pool.Status.AvailableIPv4 != 0 {
			return fmt.Errorf("%d are available", pool.Status.AvailableIPv4)
		}
		return nil
	})
	c.remove(t, full)
	c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.AvoidBuggyIPs = false })
	c.has(t, buggy, "10.91.0.255")
	c.has(t, c.service(t, "next"), "10.91.1.0")
}

// The lowest address that is free is given, but one that was just freed last.
func TestLowestFirstButFreedLast(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	pool := c.pool(t, "lan", "192.0.2.144-192.0.2.147")
	var all []*corev1.Service
	for i := range 3 {
		all = append(all, c.service(t, fmt.Sprint("web-", i)))
		c.has(t, all[i], fmt.Sprint("192.0.2.", 144+i))
	}
	c.counts(t, pool, 3, 1)
	c.remove(t, all[1])
	c.counts(t, pool, 2, 2)
	c.remove(t, all[0])
	c.has(t, c.service(t, "next-0"), "192.0.2.147")
	next := c.service(t, "next-1")
	c.has(t, next, "192.0.2.145") // free for longest
	c.untilEvents(t, next, "Assigned", "the one that has been free for longest")
	c.has(t, c.service(t, "next-2"), "192.0.2.144")
}

// No namespace has more of a pool's addresses, v4 and v6 together, than
// maxPerNamespace; one that is freed serves the one that waits.
func TestQuota(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	elsewhere := c.neighbour(t, nil)
	pool := c.poolWith(t, "quota", func(s *v1alpha1.IPAddressPoolSpec) { s.MaxPerNamespace = 2 }, "192.0.2.160/28", "2001:db8::/124")
	first, second := c.service(t, "first"), c.service(t, "second")
	c.addresses(t, first)
	c.addresses(t, second)
	third := c.service(t, "third")
	c.refused(t, third, "NamespaceQuota", `pool "quota": the namespace has all 2 addresses that it can have (maxPerNamespace)`)
	nextSecond(t, third)
	fourth := c.service(t, "fourth")
	c.refused(t, fourth, "NamespaceQuota", "all 2 addresses")
	exact := c.service(t, "exact", exactly("192.0.2.170"))
	c.refused(t, exact, "NamespaceQuota", "cannot assign 192.0.2.170", "all 2 addresses")
	c.remove(t, exact)

	both := elsewhere.service(t, "both", dualStack)
	c.addresses(t, both)
	theirs := elsewhere.service(t, "six", onlyIPv6)
	c.refused(t, theirs, "NamespaceQuota", "all 2 addresses")

	before := c.noted(t, fourth, second, both, theirs)
	c.remove(t, first)
	c.addresses(t, third)
	before.same(t)

	t.Run("an exchange is no more", func(t *testing.T) {
		c.change(t, second, func() { exactly("192.0.2.171")(second) })
		c.has(t, second, "192.0.2.171")
	})
	t.Run("a shared address counts once", func(t *testing.T) {
		shared := c.neighbour(t, nil)
		for i := range 3 {
			c.has(t, shared.service(t, fmt.Sprint("sharer-", i), shares("k"), exactly("192.0.2.172"), ports(fmt.Sprint("TCP/", 80+i))), "192.0.2.172")
		}
		c.addresses(t, shared.service(t, "second"))
		c.refused(t, shared.service(t, "third"), "NamespaceQuota", "all 2 addresses")
		c.has(t, shared.service(t, "sharer", shares("k"), ports("UDP/80")), "192.0.2.172")
	})
	t.Run("edits", func(t *testing.T) {
		kept := c.noted(t, second, third, both)
		c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.MaxPerNamespace = 1 })
		c.untilService(t, fourth, assigned, false, "NamespaceQuota", "all 1 addresses")
		kept.same(t)
		c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.MaxPerNamespace = 3 })
		c.addresses(t, fourth)
		c.addresses(t, theirs)
		kept.same(t)
	})
}

// A Service gets the families that it asks for: one, both or none, or one and
// later the other. What it has never changes for that.
func TestFamilies(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	v4 := c.pool(t, "four", "192.0.2.176/28")
	six := c.service(t, "six", onlyIPv6)
	c.refused(t, six, "FamilyAbsent", `pool "four": has no IPv6 addresses`)
	required := c.service(t, "required", dualStack)
	c.refused(t, required, "FamilyAbsent", `pool "four": has no IPv6 addresses`)
	preferred := c.service(t, "preferred", policy(corev1.IPFamilyPolicyPreferDualStack))
	c.has(t, preferred, "192.0.2.176")
	c.untilService(t, preferred, assigned, true, "Assigned", `192.0.2.176 from pool "four"`, `no IPv6 address: pool "four": has no IPv6 addresses`)
	single := c.service(t, "single")
	c.has(t, single, "192.0.2.177")
	before := c.noted(t, single)
	c.until(t, v4, func() error {
		if v4.Status.AssignedIPv4 != 2 {
			return fmt.Errorf("%d are assigned: the Service that needs both must not have one", v4.Status.AssignedIPv4)
		}
		return nil
	})

	c.pool(t, "six", "2001:db8::10/124")
	t.Cleanup(func() { c.removeServices(t) }) // or the pool, which goes before them, would wait
	c.until(t, preferred, func() error {
		if got := ingress(preferred); len(got) != 2 || got[0].String() != "192.0.2.176" {
			return fmt.Errorf("preferred has %v", got)
		}
		return nil
	})
	c.until(t, required, func() error {
		if got := ingress(required); len(got) != 2 || got[0].String() != "192.0.2.178" {
			return fmt.Errorf("required has %v", got)
		}
		return nil
	})
	c.addresses(t, six)
	c.untilService(t, required, assigned, true, "Assigned", `from pool "four"`, `from pool "six"`)
	c.untilEvents(t, preferred, "Assigned", "192.0.2.176", ingress(preferred)[1].String())
	before.same(t)

	t.Run("v6 first", func(t *testing.T) {
		svc := c.service(t, "six-four", dualStack, func(svc *corev1.Service) {
			svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
		})
		if got := c.addresses(t, svc); !got[0].Is6() || !got[1].Is4() {
			t.Errorf("the addresses are %v, want IPv6 first", got)
		}
	})
	t.Run("one exact address of two", func(t *testing.T) {
		svc := c.service(t, "one-exact", dualStack, exactly("2001:db8::1f"))
		if got := c.addresses(t, svc); got[1].String() != "2001:db8::1f" {
			t.Errorf("the addresses are %v", got)
		}
		c.has(t, c.service(t, "two-exact", dualStack, exactly("2001:db8::1e,192.0.2.190")), "192.0.2.190", "2001:db8::1e")
	})
	t.Run("single, dual, single", func(t *testing.T) {
		svc := c.service(t, "changing")
		first := c.addresses(t, svc)[0].String()
		c.change(t, svc, func() { policy(corev1.IPFamilyPolicyPreferDualStack)(svc) })
		c.until(t, svc, func() error {
			if got := ingress(svc); len(got) != 2 || got[0].String() != first {
				return fmt.Errorf("it had %s and has %v", first, got)
			}
			return nil
		})
		second := ingress(svc)[1].String()
		c.change(t, svc, func() {
			policy(corev1.IPFamilyPolicySingleStack)(svc)
			svc.Spec.IPFamilies, svc.Spec.ClusterIPs = svc.Spec.IPFamilies[:1], svc.Spec.ClusterIPs[:1]
		})
		c.has(t, svc, first)
		c.untilEvents(t, svc, "Released", second)
		c.has(t, c.service(t, "taker", onlyIPv6, exactly(second)), second)
	})
	t.Run("single to required, with nothing there", func(t *testing.T) {
		c.poolWith(t, "alone", func(s *v1alpha1.IPAddressPoolSpec) { s.AutoAssign = ptr.To(false) }, "192.0.2.200/32")
		svc := c.service(t, "alone", fromPool("alone"))
		c.has(t, svc, "192.0.2.200")
		c.change(t, svc, func() { dualStack(svc) })
		c.untilService(t, svc, assigned, false, "FamilyAbsent", `pool "alone": has no IPv6 addresses`)
		if got := fmt.Sprint(ingress(svc)); got != "[192.0.2.200]" {
			t.Errorf("it had 192.0.2.200 and has %s", got)
		}
	})
}

// Whatever becomes of pools, no Service's address changes, and pools and Services
// tell what is so.
func TestPoolsChangeAroundServices(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	moves := watchAddresses(t, c)
	all := map[string]*corev1.Service{}
	pool := c.pool(t, "a", "192.0.2.0-192.0.2.3")
	for i := range 4 {
		ip := fmt.Sprint("192.0.2.", i)
		all[ip] = c.service(t, fmt.Sprint("web-", i))
		c.has(t, all[ip], ip)
	}
	waiting := c.service(t, "waiting")
	c.refused(t, waiting, "Exhausted", `pool "a": no free IPv4 address (4 in use)`)
	// keep checks that all have what they had, also when they are decided anew.
	keep := func(t *testing.T) {
		t.Helper()
		for ip, svc := range all {
			c.touch(t, svc)
			c.until(t, svc, func() error {
				if got := fmt.Sprint(ingress(svc)); got != "["+ip+"]" {
					return fmt.Errorf("%s had %s and has %s", svc.Name, ip, got)
				}
				return nil
			})
		}
	}
	from := func(t *testing.T, pool string, ips ...string) {
		t.Helper()
		for _, ip := range ips {
			c.untilService(t, all[ip], assigned, true, "Assigned", fmt.Sprintf("%s from pool %q", ip, pool))
		}
	}
	retiring := func(t *testing.T, p *v1alpha1.IPAddressPool, ips ...string) {
		t.Helper()
		var want []v1alpha1.RetiringAddress
		for _, ip := range ips {
			want = append(want, v1alpha1.RetiringAddress{Address: ip, Service: c.namespace + "/" + all[ip].Name})
		}
		c.until(t, p, func() error {
			if !slices.Equal(p.Status.Retiring, want) {
				return fmt.Errorf("pool %s: retiring is %v, want %v", p.Name, p.Status.Retiring, want)
			}
			return nil
		})
	}
	addresses := func(ranges ...v1alpha1.AddressRange) func(*v1alpha1.IPAddressPoolSpec) {
		return func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = ranges }
	}
	t.Run("grown", func(t *testing.T) {
		c.edit(t, pool, addresses("192.0.2.0-192.0.2.4"))
		c.has(t, waiting, "192.0.2.4")
		keep(t)
	})
	all["192.0.2.4"] = waiting
	if t.Failed() {
		t.FailNow()
	}
	t.Run("shrunk", func(t *testing.T) {
		c.edit(t, pool, addresses("192.0.2.0-192.0.2.1"))
		retiring(t, pool, "192.0.2.2", "192.0.2.3", "192.0.2.4")
		c.until(t, pool, func() error {
			return says(pool.Status.Conditions, ready, true, v1alpha1.ReasonAccepted, "3 addresses", "status.retiring")
		})
		for _, ip := range []string{"192.0.2.2", "192.0.2.3", "192.0.2.4"} {
			c.untilEvents(t, all[ip], "Retiring", `No longer in pool "a": `+ip)
		}
		c.untilEvents(t, all["192.0.2.1"], "Retiring")
		from(t, "a", "192.0.2.4")
		keep(t)
	})
	t.Run("restarted while retiring", func(t *testing.T) {
		running = c.crash(t, running, nil)
		c.refused(t, c.service(t, "probe"), "Exhausted", `pool "a": no free IPv4 address (5 in use)`)
		retiring(t, pool, "192.0.2.2", "192.0.2.3", "192.0.2.4")
		keep(t)
		c.untilEvents(t, all["192.0.2.2"], "Retiring", "192.0.2.2") // told once
	})
	t.Run("split", func(t *testing.T) {
		right := c.pool(t, "b", "192.0.2.2-192.0.2.4")
		from(t, "b", "192.0.2.2", "192.0.2.3", "192.0.2.4")
		from(t, "a", "192.0.2.0", "192.0.2.1")
		retiring(t, pool)
		c.counts(t, pool, 2, 0)
		c.counts(t, right, 3, 0)
		keep(t)
		c.edit(t, pool, addresses("192.0.2.0-192.0.2.1", "192.0.2.8/32"))
		c.has(t, c.service(t, "probe"), "192.0.2.8")
		c.edit(t, pool, addresses("192.0.2.0-192.0.2.1"))
		must(t, c.api.Delete(t.Context(), right))
		c.until(t, right, func() error {
			return says(right.Status.Conditions, ready, false, v1alpha1.ReasonInUse, "waits for", all["192.0.2.2"].Name, all["192.0.2.4"].Name)
		})
		keep(t)
		c.change(t, pool, func() { addresses("192.0.2.0-192.0.2.5")(&pool.Spec) })
	})
	t.Run("merged", func(t *testing.T) {
		c.has(t, c.service(t, "probe"), "192.0.2.5")
		from(t, "a", "192.0.2.0", "192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.4")
		keep(t)
	})
	t.Cleanup(func() { c.removeServices(t) })
	t.Run("overlapping", func(t *testing.T) {
		nextSecond(t, pool)
		younger := c.pool(t, "younger", "192.0.2.3-192.0.2.20")
		c.until(t, younger, func() error {
			return says(younger.Status.Conditions, ready, false, v1alpha1.ReasonOverlap, `older pool "a"`)
		})
		c.refused(t, c.service(t, "of-younger", fromPool("younger")), "PoolOverlap", `pool "younger": overlaps an older pool ("a")`)
		c.has(t, c.service(t, "of-older"), "192.0.2.5")
		keep(t)
		c.edit(t, pool, addresses("192.0.2.0-192.0.2.2"))
		c.until(t, younger, func() error { return says(younger.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })
		from(t, "younger", "192.0.2.3", "192.0.2.4")
		retiring(t, pool)
		keep(t)
		c.edit(t, pool, addresses("192.0.2.0-192.0.2.9")) // now the older one takes the younger out of force
		c.until(t, younger, func() error { return says(younger.Status.Conditions, ready, false, v1alpha1.ReasonOverlap) })
		from(t, "a", "192.0.2.3", "192.0.2.4")
		keep(t)
	})
	t.Run("disabled", func(t *testing.T) {
		c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Disabled = true })
		c.refused(t, c.service(t, "probe"), "PoolDisabled", `pool "a": disabled`)
		keep(t)
		c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Disabled = false })
	})
	t.Run("narrowed to others", func(t *testing.T) {
		c.edit(t, pool, only(v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{"another"}, ServiceSelectors: matching("a", "b")}))
		c.refused(t, c.service(t, "probe"), "NamespaceNotAllowed", `pool "a"`)
		keep(t)
		c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.ServiceAllocation = nil })
	})
	t.Run("deleted", func(t *testing.T) {
		must(t, c.api.Delete(t.Context(), pool))
		c.until(t, pool, func() error {
			return says(pool.Status.Conditions, ready, false, v1alpha1.ReasonInUse, c.namespace+"/web-0")
		})
		c.refused(t, c.service(t, "probe"), "PoolDeleting", `pool "a": being deleted`)
		keep(t)
		c.crash(t, running, nil)
		c.refused(t, c.service(t, "probe-2"), "PoolDeleting", `pool "a": being deleted`)
		keep(t)
	})
	for _, moved := range moves.stop() {
		if strings.HasPrefix(moved, "web-") || strings.HasPrefix(moved, "waiting") {
			t.Error(moved)
		}
	}
	c.removeServices(t)
	c.untilGone(t, pool) // now that nobody uses it
}

// A pool is renamed by another with the same addresses while the old one is
// deleted: that goes, and no Service notices.
func TestPoolIsRenamed(t *testing.T) {
	for _, created := range []string{"before", "after"} {
		t.Run("created "+created+" the deletion", func(t *testing.T) {
			c := control.corner(t)
			c.controller(t)
			old := c.pool(t, "old", "192.0.2.0/30")
			web := c.service(t, "web")
			c.has(t, web, "192.0.2.0")
			c.held(t, old)
			waiting := func(p *v1alpha1.IPAddressPool) {
				t.Helper()
				c.until(t, p, func() error { return says(p.Status.Conditions, ready, false, v1alpha1.ReasonInUse, c.namespace+"/web") })
			}
			nextSecond(t, old)
			var renamed *v1alpha1.IPAddressPool
			if created == "before" {
				renamed = c.pool(t, "new", "192.0.2.0/30")
				c.until(t, renamed, func() error {
					return says(renamed.Status.Conditions, ready, false, v1alpha1.ReasonOverlap, `older pool "old"`, "spec.addresses")
				})
				c.has(t, web, "192.0.2.0")
				must(t, c.api.Delete(t.Context(), old))
			} else {
				must(t, c.api.Delete(t.Context(), old))
				waiting(old)
				renamed = c.pool(t, "new", "192.0.2.0/30")
			}
			t.Cleanup(func() { c.removeServices(t) }) // before the pool
			c.untilService(t, web, assigned, true, "Assigned", `192.0.2.0 from pool "new"`)
			c.untilGone(t, old)
			c.until(t, renamed, func() error { return says(renamed.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })
			c.counts(t, renamed, 1, 3)
			c.has(t, web, "192.0.2.0")
			c.has(t, c.service(t, "next"), "192.0.2.1")
			c.untilEvents(t, web, "Assigned", "192.0.2.0")
		})
	}
}

// counts waits until the pool says how many of its v4 addresses are in use and free.
func (c *corner) counts(t *testing.T, p *v1alpha1.IPAddressPool, inUse, free int64) {
	t.Helper()
	c.until(t, p, func() error {
		if p.Status.AssignedIPv4 != inUse || p.Status.AvailableIPv4 != free {
			return fmt.Errorf("pool %s says %d assigned and %d available, want %d and %d", p.Name, p.Status.AssignedIPv4, p.Status.AvailableIPv4, inUse, free)
		}
		return nil
	})
}

// A Service of both families whose addresses are taken out of the pool is told of both.
func TestBothRetiringAddressesAreTold(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	pool := c.pool(t, "lan", "192.0.2.0/30", "2001:db8::/126")
	web := c.service(t, "web", dualStack)
	c.has(t, web, "192.0.2.0", "2001:db8::")
	before := c.noted(t, web)
	c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) {
		s.Addresses = []v1alpha1.AddressRange{"192.0.2.8/30", "2001:db8::8/126"}
	})
	c.untilNoted(t, web, "Retiring", "192.0.2.0, ", "2001:db8::; ")
	before.same(t)
}

// untilNoted waits until the words are all in events of the reason.
func (c *corner) untilNoted(t *testing.T, svc *corev1.Service, reason string, words ...string) {
	t.Helper()
	c.until(t, svc, func() error {
		got := fmt.Sprint(c.events(t, svc, reason))
		for _, w := range words {
			if !strings.Contains(got, w) {
				return fmt.Errorf("the events %s of %s say %q, want %q", reason, svc.Name, got, w)
			}
		}
		return nil
	})
}

// When a namespace is deleted, with its Services and claims, their addresses are
// free and serve those who wait elsewhere.
func TestNamespaceIsDeleted(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	pool := c.pool(t, "lan", "192.0.2.0/30")
	doomed := c.neighbour(t, nil)
	kept := doomed.claim(t, "kept")
	c.reserved(t, kept, "lan", "192.0.2.0")
	theirs := []*corev1.Service{doomed.service(t, "claims", claims("kept"))}
	c.has(t, theirs[0], "192.0.2.0")
	for i := 1; i < 3; i++ {
		theirs = append(theirs, doomed.service(t, fmt.Sprint("web-", i)))
		c.has(t, theirs[i], fmt.Sprint("192.0.2.", i))
	}
	unserved := doomed.service(t, "unserved", exactly("192.0.2.2"))
	c.refused(t, unserved, "AddressInUse", doomed.namespace+"/web-2")
	ours := c.service(t, "ours")
	c.has(t, ours, "192.0.2.3")
	var waiting []*corev1.Service
	for i := range 3 {
		waiting = append(waiting, c.service(t, fmt.Sprint("waiting-", i)))
		c.refused(t, waiting[i], "Exhausted", "(4 in use)")
	}
	before := c.noted(t, ours)

	// The lab has nobody who empties a namespace that is deleted: this does.
	must(t, c.api.Delete(t.Context(), &corev1.Namespace{ObjectMeta: meta1(doomed.namespace)}))
	must(t, c.api.Delete(t.Context(), kept))
	must(t, c.api.Delete(t.Context(), unserved))
	for _, svc := range theirs {
		must(t, c.api.Delete(t.Context(), svc))
	}
	c.untilGone(t, kept)
	given := map[string]bool{}
	for _, svc := range waiting {
		given[c.addresses(t, svc)[0].String()] = true
	}
	for _, ip := range []string{"192.0.2.0", "192.0.2.1", "192.0.2.2"} {
		if !given[ip] {
			t.Errorf("%s is given to none of those who waited: %v", ip, given)
		}
	}
	c.counts(t, pool, 4, 0)
	before.same(t)
}

// A Service that is deleted while it waits changes nothing for those who wait
// with it, and an address that is freed goes to the oldest of these that can use
// it; nobody else is written.
func TestWaiting(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	pool := c.pool(t, "lan", "192.0.2.0-192.0.2.1")
	var holders []*corev1.Service
	for i := range 2 {
		holders = append(holders, c.service(t, fmt.Sprint("holder-", i)))
		c.has(t, holders[i], fmt.Sprint("192.0.2.", i))
	}
	var last *corev1.Service
	wait := func(name string, reason string, change func(*corev1.Service)) *corev1.Service {
		if last != nil {
			nextSecond(t, last)
		}
		last = c.service(t, name, change)
		c.refused(t, last, reason, `pool "lan"`)
		return last
	}
	none := func(*corev1.Service) {}
	gone := wait("d-gone", "Exhausted", none)
	picky := wait("c-picky", "AddressInUse", exactly("192.0.2.1"))
	first := wait("b-first", "Exhausted", none)
	second := wait("a-second", "Exhausted", none)
	unfit := wait("0-unfit", "FamilyAbsent", onlyIPv6)

	before := c.noted(t, picky, first, second, unfit)
	c.remove(t, gone)
	c.othersAreTold(t, pool)
	before.same(t)

	before = c.noted(t, picky, second, unfit)
	c.remove(t, holders[0])
	c.has(t, first, "192.0.2.0")
	c.othersAreTold(t, pool)
	before.same(t)

	before = c.noted(t, second, unfit, first)
	c.remove(t, holders[1])
	c.has(t, picky, "192.0.2.1") // older than the second
	c.othersAreTold(t, pool)
	before.same(t)
	c.change(t, picky, func() { picky.Spec.LoadBalancerClass = nil; picky.Spec.Type = corev1.ServiceTypeNodePort })
	c.has(t, second, "192.0.2.1")
	c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = append(s.Addresses, "2001:db8::/128") })
	c.has(t, unfit, "2001:db8::")
	for _, svc := range []*corev1.Service{first, second, unfit} {
		c.untilEvents(t, svc, "AssignmentFailed", "")
	}
}

// othersAreTold waits until the controller has answered a Service that was
// created now, and so all that happened before.
func (c *corner) othersAreTold(t *testing.T, pool *v1alpha1.IPAddressPool) {
	t.Helper()
	probe := c.newService("probe", exactly("203.0.113.99"))
	must(t, c.api.Create(t.Context(), probe))
	c.refused(t, probe, "AddressNotInPool", "203.0.113.99", fmt.Sprintf("pool %q", pool.Name))
	c.remove(t, probe)
}
