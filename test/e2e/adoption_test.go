package e2e

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// had creates a Service with addresses that somebody else gave it.
func (c *corner) had(t *testing.T, name, ips string, changes ...func(*corev1.Service)) *corev1.Service {
	t.Helper()
	svc := c.service(t, name, changes...)
	setIngress(t, c.api, svc, strings.Fields(ips)...)
	return svc
}

// An address of no pool, that another load balancer left behind, is not announced: the
// doctor names who wrote it, and its command has Fairlead assign one.
func TestDoctorNamesWhatAnotherLeftBehind(t *testing.T) {
	c := control.corner(t)
	pool := c.pool(t, c.freshName("lan"), "192.0.2.0/28")
	svc := c.had(t, "web", "198.51.100.7", annotated(v1alpha1.AnnotationAddressPool, pool.Name))
	c.controller(t)
	c.settled(t, pool)
	c.untilService(t, svc, assigned, false, "ForeignAddress", "198.51.100.7", "no IPAddressPool has")
	c.doctor(t, "Service "+svc.Namespace+"/"+svc.Name, "198.51.100.7", "has an entry that Fairlead did not write", `field manager "e2e.test" wrote it`,
		`kubectl patch service NAME -n NAMESPACE --subresource=status --type=merge -p '{"status":{"loadBalancer":{"ingress":null}}}'`)
	_, err := c.Kubectl(t.Context(), "patch", "service", svc.Name, "-n", svc.Namespace, "--subresource=status", "--type=merge", "-p", `{"status":{"loadBalancer":{"ingress":null}}}`)
	must(t, err)
	c.has(t, svc, "192.0.2.0")
}

// What MetalLB gave, Services keep when Fairlead and its pools come, in whatever
// order; its annotations mean what they meant.
func TestAdoptionFromMetalLB(t *testing.T) {
	c := control.corner(t)
	by := func(key, value string) func(*corev1.Service) { return annotated("metallb.io/"+key, value) }
	services := []struct {
		name, ips string
		changes   []func(*corev1.Service)
	}{
		{"plain", "192.0.2.3", nil},
		{"by-pool", "192.0.2.9", []func(*corev1.Service){by("address-pool", "first-pool")}},
		{"by-older-name", "192.0.2.10", []func(*corev1.Service){annotated("metallb.universe.tf/address-pool", "first-pool")}},
		{"by-address", "192.0.2.5", []func(*corev1.Service){by("loadBalancerIPs", "192.0.2.5")}},
		{"by-field", "192.0.2.6", []func(*corev1.Service){func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "192.0.2.6" }}},
		{"dual", "192.0.2.7 2001:db8::7", []func(*corev1.Service){dualStack, by("loadBalancerIPs", "192.0.2.7,2001:db8::7")}},
		{"shared-web", "192.0.2.8", []func(*corev1.Service){by("allow-shared-ip", "k"), ports("TCP/80")}},
		{"shared-dns", "192.0.2.8", []func(*corev1.Service){by("allow-shared-ip", "k"), ports("UDP/53")}},
		{"local", "192.0.2.11", []func(*corev1.Service){localTraffic}},
		{"excluded", "192.0.2.12", nil}, // by the pool that comes
		{"manual", "192.0.2.65", []func(*corev1.Service){by("address-pool", "second-pool")}},
		{"narrowed", "192.0.2.66", nil}, // the pool is for others
	}
	var all []*corev1.Service
	for _, s := range services {
		all = append(all, c.had(t, s.name, s.ips, s.changes...))
	}
	running := c.controller(t)
	before := map[string]string{}
	for _, svc := range all {
		before[svc.Name] = svc.ResourceVersion
	}
	// Without pools they are nobody's to touch.
	fresh := c.service(t, "fresh")
	c.refused(t, fresh, "NoPool", "there is no IPAddressPool; create one")
	for _, svc := range all {
		must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if svc.ResourceVersion != before[svc.Name] {
			t.Errorf("%s was written before there was a pool: %v, %s", svc.Name, ingress(svc), told(svc.Status.Conditions))
		}
	}

	first := c.poolWith(t, "first-pool", func(s *v1alpha1.IPAddressPoolSpec) { s.Excludes = []v1alpha1.AddressRange{"192.0.2.2/32"} },
		"192.0.2.2-192.0.2.13", "2001:db8::/124")
	c.poolWith(t, "second-pool", func(s *v1alpha1.IPAddressPoolSpec) {
		s.AutoAssign = ptr.To(false)
		s.ServiceAllocation = &v1alpha1.ServiceAllocation{Priority: 1}
	}, "192.0.2.64/29")
	t.Cleanup(func() { c.removeServices(t) }) // or the pools, which go before them, would wait
	check := func(t *testing.T) {
		t.Helper()
		for i, s := range services {
			c.has(t, all[i], strings.Fields(s.ips)...)
			c.untilEvents(t, all[i], "Released")
			c.untilEvents(t, all[i], "Conflict")
		}
	}
	check(t)
	c.has(t, fresh, "192.0.2.4")
	c.counts(t, first, 10, 1)
	c.has(t, c.service(t, "sharer", by("allow-shared-ip", "k"), ports("TCP/81")), "192.0.2.8")
	t.Run("again after a restart", func(t *testing.T) {
		c.crash(t, running, nil)
		c.has(t, c.service(t, "next", ports("UDP/99")), "192.0.2.13")
		check(t)
	})
}

// Of two Services with one address the older keeps it, unless they share it; the
// younger gets another and is told of the older.
func TestAdoptionOfConflicts(t *testing.T) {
	c := control.corner(t)
	c.pool(t, "lan", "192.0.2.0-192.0.2.7", "2001:db8::/125")
	older := c.had(t, "z-older", "192.0.2.0")
	sharer := c.had(t, "sharer", "192.0.2.1", shares("k"), ports("TCP/80"))
	both := c.had(t, "both", "192.0.2.5 2001:db8::5", dualStack)
	nextSecond(t, both)
	younger := c.had(t, "a-younger", "192.0.2.0")
	samePort := c.had(t, "same-port", "192.0.2.1", shares("k"), ports("TCP/80"))
	otherKey := c.had(t, "other-key", "192.0.2.1", shares("l"), ports("UDP/53"))
	wanting := c.had(t, "wanting", "192.0.2.0", exactly("192.0.2.0"))
	alsoBoth := c.had(t, "also-both", "192.0.2.5 2001:db8::5", dualStack)

	c.controller(t)
	c.has(t, older, "192.0.2.0")
	c.has(t, sharer, "192.0.2.1")
	c.has(t, both, "192.0.2.5", "2001:db8::5")
	taken := map[string]string{"192.0.2.0": "z-older", "192.0.2.1": "sharer", "192.0.2.5": "both"}
	for _, s := range []struct {
		svc         *corev1.Service
		by, address string
		words       []string
	}{
		{younger, "z-older", "192.0.2.0", []string{"in use"}},
		{samePort, "sharer", "192.0.2.1", []string{"TCP port 80"}},
		{otherKey, "sharer", "192.0.2.1", []string{"allow-shared-ip key"}},
	} {
		c.untilService(t, s.svc, assigned, true, "Assigned", `pool "lan"`)
		got := ingress(s.svc)[0].String()
		if other, ok := taken[got]; ok {
			t.Errorf("%s has %s, which is %s's", s.svc.Name, got, other)
		}
		taken[got] = s.svc.Name
		c.untilEvents(t, s.svc, "Conflict", "Cannot keep "+s.address)
		c.untilEvents(t, s.svc, "Conflict", c.namespace+"/"+s.by)
		c.untilEvents(t, s.svc, "Conflict", s.words[0])
		c.untilEvents(t, s.svc, "Released", s.address)
		c.untilEvents(t, s.svc, "Assigned", got)
	}
	c.refused(t, wanting, "AddressInUse", "192.0.2.0", c.namespace+"/z-older")
	c.untilEvents(t, wanting, "Conflict", c.namespace+"/z-older")
	c.untilEvents(t, older, "Conflict")
	t.Run("in both families", func(t *testing.T) {
		c.untilService(t, alsoBoth, assigned, true, "Assigned", `pool "lan"`)
		for _, a := range c.addresses(t, alsoBoth) {
			if s := a.String(); s == "192.0.2.5" || s == "2001:db8::5" {
				t.Errorf("it has %s, which another has", s)
			}
		}
		c.untilNoted(t, alsoBoth, "Conflict", "Cannot keep 192.0.2.5: ", "; 2001:db8::5: ", c.namespace+"/both")
	})
}

// Another load balancer of another class and Fairlead, side by side, never touch
// each other's Services, whatever is done to them.
func TestOtherControllerBeside(t *testing.T) {
	const other = "example.com/other"
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "lan", "192.0.2.0/28")
	class := func(name string) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = ptr.To(name) }
	}
	stop := c.otherController(t, other, "192.0.2.") // it gives addresses of our pool, even
	var ours, theirs []*corev1.Service
	for i := range 3 {
		theirs = append(theirs, c.service(t, fmt.Sprint("theirs-", i), class(other), annotated(v1alpha1.AnnotationAddressPool, "lan")))
		ours = append(ours, c.service(t, fmt.Sprint("ours-", i)))
		c.has(t, ours[i], fmt.Sprint("192.0.2.", i))
	}
	ours = append(ours, c.service(t, "ours-3", class(v1alpha1.LoadBalancerClass)))
	c.has(t, ours[3], "192.0.2.3")
	for i, svc := range theirs {
		want := fmt.Sprint("[192.0.2.", 100+i, "]")
		c.until(t, svc, func() error {
			if got := fmt.Sprint(ingress(svc)); got != want {
				return fmt.Errorf("%s has %s, want %s", svc.Name, got, want)
			}
			return nil
		})
		c.change(t, svc, func() { svc.Labels = map[string]string{"a": "b"} })
		c.change(t, svc, func() { ports("TCP/81")(svc) })
	}
	turned := c.service(t, "turned", class(other))
	c.until(t, turned, func() error {
		if got := fmt.Sprint(ingress(turned)); got != "[192.0.2.103]" {
			return fmt.Errorf("turned has %s", got)
		}
		return nil
	})
	kept := c.noted(t, ours...)
	c.othersGoOn(t, "fence")
	for _, svc := range append(theirs, turned) {
		must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if len(svc.Status.Conditions) > 0 || len(ingress(svc)) != 1 {
			t.Errorf("%s has %v and %s", svc.Name, ingress(svc), told(svc.Status.Conditions))
		}
		for _, reason := range []string{"Assigned", "AssignmentFailed", "Released", "Conflict"} {
			c.untilEvents(t, svc, reason)
		}
	}
	kept.same(t)
	if wrote := stop(); len(wrote) != 4 {
		t.Errorf("the other controller gave addresses to %v, want four Services", wrote)
	}
}

// otherController gives each Service of a class an address, prefix and 100, 101, …
// by order of their appearance, until it is stopped; that says to whom.
func (c *corner) otherController(t *testing.T, class, prefix string) (stop func() []string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w, err := c.api.Watch(ctx, &corev1.ServiceList{}, client.InNamespace(c.namespace))
	must(t, err)
	var idle sync.WaitGroup
	var wrote []string
	idle.Go(func() {
		for e := range w.ResultChan() {
			svc, ok := e.Object.(*corev1.Service)
			if !ok || ptr.Deref(svc.Spec.LoadBalancerClass, "") != class || len(ingress(svc)) > 0 {
				continue
			}
			before := svc.DeepCopy()
			svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: fmt.Sprint(prefix, 100+len(wrote))}}
			wrote = append(wrote, svc.Name)
			if err := c.api.Status().Patch(ctx, svc, client.MergeFrom(before)); err != nil {
				t.Errorf("the other controller: %v", err)
			}
		}
	})
	stop = func() []string {
		cancel()
		w.Stop()
		idle.Wait()
		return wrote
	}
	t.Cleanup(func() { stop() })
	return stop
}

// A Service that has, by somebody else, an address that a claim of another
// namespace keeps gets another one; the claim is not bound to it.
func TestAdoptionBesideAClaim(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	elsewhere := c.neighbour(t, nil)
	c.pool(t, "lan", "192.0.2.0/29")
	kept := c.claim(t, "kept", claimOf("192.0.2.0"))
	c.reserved(t, kept, "lan", "192.0.2.0")
	exact := c.claim(t, "exact", claimOf("192.0.2.1"))
	c.reserved(t, exact, "lan", "192.0.2.1")
	other := "IPAddressClaim " + c.namespace
	var theirs, wanting *corev1.Service
	c.crash(t, running, func() {
		theirs = elsewhere.had(t, "theirs", "192.0.2.0")
		wanting = elsewhere.had(t, "wanting", "192.0.2.1", exactly("192.0.2.1"))
	})
	for _, s := range []struct {
		name  string
		check func(*testing.T)
	}{
		{"it moves", func(t *testing.T) { c.has(t, theirs, "192.0.2.2") }},
		{"it is told", func(t *testing.T) { c.untilEvents(t, theirs, "Conflict", other+"/kept") }},
		{"the claim is not bound", func(t *testing.T) { c.reserved(t, kept, "lan", "192.0.2.0") }},
		{"one that insists has none", func(t *testing.T) { c.refused(t, wanting, "AddressInUse", "192.0.2.1", other+"/exact") }},
		{"it is told, too", func(t *testing.T) { c.untilEvents(t, wanting, "Conflict", other+"/exact") }},
		{"its claim is not bound", func(t *testing.T) { c.reserved(t, exact, "lan", "192.0.2.1") }},
		{"the claims serve their own", func(t *testing.T) {
			c.has(t, c.service(t, "kept", claims("kept")), "192.0.2.0")
			c.has(t, c.service(t, "exact", claims("exact")), "192.0.2.1")
		}},
	} {
		t.Run(s.name, s.check)
	}
}
