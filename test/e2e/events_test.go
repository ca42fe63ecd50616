package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// A Service that has no address gets one event for each reason in turn, and none
// for what only repeats it.
func TestFailureIsToldOncePerReason(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	const unknown, exhausted = `pool "late": there is no such IPAddressPool`, `pool "late": no free IPv4 address`
	// again has the Service decided anew in many ways that change nothing.
	again := func(t *testing.T, svc *corev1.Service) {
		t.Helper()
		c.touch(t, svc)
		c.change(t, svc, func() { ports("TCP/81", "UDP/54")(svc) })
		c.change(t, svc, func() { svc.Labels = map[string]string{"a": "b"} })
		c.label(t, svc.Namespace, "touched", svc.Name)
		probe := c.service(t, "probe-"+svc.Name, fromPool("missing"))
		c.refused(t, probe, "UnknownPool")
		c.remove(t, probe)
	}
	web := c.service(t, "web", fromPool("late"))
	c.refused(t, web, "UnknownPool", unknown)
	again(t, web)
	c.untilEvents(t, web, "AssignmentFailed", unknown)

	pool := c.pool(t, "late", "192.0.2.0-192.0.2.1")
	c.has(t, web, "192.0.2.0")
	c.untilEvents(t, web, "Assigned", `192.0.2.0 from pool "late"`)
	t.Cleanup(func() { c.removeServices(t) })
	holder := c.service(t, "holder", fromPool("late"))
	c.has(t, holder, "192.0.2.1")

	late := c.service(t, "waiting", fromPool("late"))
	c.refused(t, late, "Exhausted", exhausted+" (2 in use)")
	again(t, late)
	c.untilEvents(t, late, "AssignmentFailed", exhausted)
	t.Run("the same reason in other words", func(t *testing.T) {
		c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"192.0.2.0/32"} })
		c.remove(t, holder)
		c.counts(t, pool, 1, 0)
		c.touch(t, late)
		c.refused(t, late, "Exhausted", exhausted+" (1 in use)")
		again(t, late)
		c.untilEvents(t, late, "AssignmentFailed", exhausted)
	})
	t.Run("reasons in turn", func(t *testing.T) {
		svc := c.service(t, "turning", fromPool("never"))
		c.refused(t, svc, "UnknownPool")
		again(t, svc)
		c.change(t, svc, func() { fromPool("late")(svc) })
		c.refused(t, svc, "Exhausted")
		again(t, svc)
		c.change(t, svc, func() { fromPool("never")(svc) })
		c.refused(t, svc, "UnknownPool")
		again(t, svc)
		c.untilEvents(t, svc, "AssignmentFailed", "no such", "no free IPv4 address", "no such")
		c.untilEvents(t, svc, "Assigned")
	})
	t.Run("what cannot be understood", func(t *testing.T) {
		svc := c.service(t, "bad", exactly("192.0.2"))
		c.refused(t, svc, "InvalidRequest", v1alpha1.AnnotationLoadBalancerIPs, `"192.0.2"`)
		again(t, svc)
		c.untilEvents(t, svc, "AssignmentFailed", `"192.0.2"`)
	})
	t.Run("restarted", func(t *testing.T) {
		svc := c.service(t, "patient", fromPool("late"))
		c.refused(t, svc, "Exhausted")
		c.untilEvents(t, svc, "AssignmentFailed", exhausted)
		c.crash(t, c.controllers[len(c.controllers)-1], nil)
		again(t, svc)
		c.refused(t, svc, "Exhausted")
		c.untilEvents(t, svc, "AssignmentFailed", exhausted)
	})
}

// A Service that asks for another address than it has keeps it until that can be
// had, moves then, and tells all of it.
func TestMoveOnRequest(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "lan", "192.0.2.0/29")
	c.pool(t, "other", "192.0.2.16/29")
	holder := c.service(t, "holder")
	c.has(t, holder, "192.0.2.0")
	web := c.service(t, "web")
	c.has(t, web, "192.0.2.1")

	c.change(t, web, func() { exactly("192.0.2.0")(web) })
	c.untilService(t, web, assigned, false, "AddressInUse", `192.0.2.1 from pool "lan"`, "cannot assign 192.0.2.0", c.namespace+"/holder")
	if got := fmt.Sprint(ingress(web)); got != "[192.0.2.1]" {
		t.Errorf("it had 192.0.2.1 and has %s", got)
	}
	c.untilEvents(t, web, "AssignmentFailed", c.namespace+"/holder")
	c.remove(t, holder)
	c.has(t, web, "192.0.2.0")
	c.untilEvents(t, web, "Assigned", "192.0.2.1", "192.0.2.0 from pool \"lan\"")
	c.untilEvents(t, web, "Released", "Gave up 192.0.2.1")

	c.change(t, web, func() {
		delete(web.Annotations, v1alpha1.AnnotationLoadBalancerIPs)
		fromPool("other")(web)
	})
	c.has(t, web, "192.0.2.16")
	c.untilEvents(t, web, "Released", "Gave up 192.0.2.1", "Gave up 192.0.2.0")
	c.change(t, web, func() { delete(web.Annotations, v1alpha1.AnnotationAddressPool) }) // any pool will do: it stays
	c.has(t, c.service(t, "next", exactly("192.0.2.0")), "192.0.2.0")
	c.has(t, web, "192.0.2.16")
	c.untilEvents(t, web, "Conflict")
	c.untilEvents(t, web, "AssignmentFailed", c.namespace+"/holder")
}

// A Service whose type or class is changed gives its address up, says so, and
// gets one again when it is ours once more.
func TestTypeAndClassChange(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "one", "192.0.2.0/32")
	web := c.service(t, "web")
	c.has(t, web, "192.0.2.0")
	without := func(t *testing.T, released ...string) {
		t.Helper()
		c.until(t, web, func() error {
			if len(ingress(web))+len(web.Status.Conditions) > 0 {
				return fmt.Errorf("it has %v and %s", ingress(web), told(web.Status.Conditions))
			}
			return nil
		})
		c.untilEvents(t, web, "Released", released...)
		taker := c.service(t, "taker")
		c.has(t, taker, "192.0.2.0")
		c.remove(t, taker)
	}
	const gaveUp = `Gave up 192.0.2.0 from pool "one"`
	c.change(t, web, func() { web.Spec.Type = corev1.ServiceTypeNodePort })
	without(t, gaveUp)
	c.change(t, web, func() {
		web.Spec.Type, web.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To("example.com/other")
	})
	without(t, gaveUp)
	c.change(t, web, func() { web.Spec.Type, web.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil })
	c.change(t, web, func() {
		web.Spec.Type, web.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To(v1alpha1.LoadBalancerClass)
	})
	c.has(t, web, "192.0.2.0")
	t.Run("both at once", func(t *testing.T) {
		// The controller may see only that the class is another.
		c.change(t, web, func() { web.Spec.Type, web.Spec.LoadBalancerClass = corev1.ServiceTypeClusterIP, nil })
		c.change(t, web, func() {
			web.Spec.Type, web.Spec.LoadBalancerClass = corev1.ServiceTypeLoadBalancer, ptr.To("example.com/other")
		})
		without(t, gaveUp, gaveUp)
	})
	t.Run("while it waits", func(t *testing.T) {
		holder := c.service(t, "holder")
		c.has(t, holder, "192.0.2.0")
		waiting := c.service(t, "a-waiting")
		c.refused(t, waiting, "Exhausted")
		nextSecond(t, waiting)
		next := c.service(t, "next")
		c.refused(t, next, "Exhausted")
		c.change(t, waiting, func() { waiting.Spec.Type = corev1.ServiceTypeClusterIP })
		c.until(t, waiting, func() error {
			if len(waiting.Status.Conditions) > 0 {
				return fmt.Errorf("a ClusterIP Service says %s", told(waiting.Status.Conditions))
			}
			return nil
		})
		c.remove(t, holder)
		c.has(t, next, "192.0.2.0")
		must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(waiting), waiting))
		if got := ingress(waiting); len(got) > 0 {
			t.Errorf("a ClusterIP Service has %v", got)
		}
		c.untilEvents(t, waiting, "Released")
	})
}

// A Service that loses an address is told with whom it could not share it, also
// when it is written by somebody else at the same time.
func TestEveryConflictIsTold(t *testing.T) {
	const many = 20
	c := control.corner(t)
	c.pool(t, "lan", "192.0.2.0/26")
	older := c.had(t, "older", "192.0.2.0", shares("k"), ports("TCP/80"))
	nextSecond(t, older)
	var all []*corev1.Service
	for i := range many {
		all = append(all, c.had(t, fmt.Sprint("younger-", i), "192.0.2.0"))
	}
	// busy writes the Services all the time, as other controllers do.
	busy := func(t *testing.T) {
		t.Helper()
		for range 3 {
			for _, svc := range all {
				c.touch(t, svc)
			}
		}
	}
	told := func(t *testing.T, words string) {
		t.Helper()
		for _, svc := range all {
			c.until(t, svc, func() error {
				if got := ingress(svc); len(got) != 1 || got[0].String() == "192.0.2.0" {
					return fmt.Errorf("%s has %v", svc.Name, got)
				}
				return nil
			})
			c.untilEvents(t, svc, "Conflict", words)
		}
	}
	t.Run("when a controller starts", func(t *testing.T) {
		c.controller(t)
		busy(t)
		told(t, c.namespace+"/older")
	})
	for _, svc := range all {
		c.remove(t, svc)
	}
	all = nil
	t.Run("when Services change", func(t *testing.T) {
		for i := range many {
			svc := c.service(t, fmt.Sprint("sharer-", i), shares("k"), ports(fmt.Sprint("UDP/", 100+i)))
			c.has(t, svc, "192.0.2.0")
			all = append(all, svc)
		}
		for _, svc := range all {
			c.change(t, svc, func() { ports("TCP/80")(svc) })
			c.touch(t, svc)
		}
		told(t, c.namespace+"/older uses TCP port 80 too")
	})
}
