package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// restarted ends the controller, lets things happen while there is none, and
// starts another. It waits until that one has read what there is.
func (c *corner) restarted(t *testing.T, running *lab.Process, meanwhile func()) {
	t.Helper()
	must(t, running.Stop(t.Context()))
	meanwhile()
	c.controller(t)
	unknown := c.service(t, "sign-of-life", annotated(v1alpha1.AnnotationAddressPool, "missing"))
	c.untilService(t, unknown, assigned, false, "UnknownPool")
}

// A pool that is edited while there is no controller takes nothing away either:
// what it no longer has is retiring (A3).
func TestPoolEditWhileNobodyLooks(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	pool := c.pool(t, "edited", "192.0.2.0/30")
	web := c.service(t, "web")
	had := c.addresses(t, web)[0]

	c.restarted(t, running, func() {
		c.change(t, pool, func() { pool.Spec.Addresses = []v1alpha1.AddressRange{"192.0.2.8/30"} })
	})
	c.until(t, pool, func() error { return retires(pool, had) })
	c.untilService(t, web, assigned, true, "Assigned", had.String())
}

// sharers creates two Services that share one address of a pool of one address.
func (c *corner) sharers(t *testing.T, pool string) (one, other *corev1.Service, shared netip.Addr) {
	t.Helper()
	c.pool(t, "one", v1alpha1.AddressRange(pool))
	port := func(n int32) func(*corev1.Service) {
		return func(svc *corev1.Service) { svc.Spec.Ports = []corev1.ServicePort{{Port: n}} }
	}
	key := annotated(v1alpha1.AnnotationAllowSharedIP, "key")
	one = c.service(t, "a-one", key, port(80))
	shared = c.addresses(t, one)[0]
	other = c.service(t, "b-other", key, port(81))
	c.untilService(t, other, assigned, true, "Assigned", shared.String())
	return one, other, shared
}

// A Service that may no longer share an address loses it when a controller comes,
// also when the address is retiring (A1).
func TestSharingEndsWhileNobodyLooks(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	one, other, shared := c.sharers(t, "192.0.2.40/32")
	pool := &v1alpha1.IPAddressPool{ObjectMeta: meta1("one")}
	c.change(t, pool, func() { pool.Spec.Addresses = []v1alpha1.AddressRange{"192.0.2.41/32"} })
	c.until(t, pool, func() error {
		if len(pool.Status.Retiring) != 2 {
			return fmt.Errorf("retiring is %v, want what both have", pool.Status.Retiring)
		}
		return nil
	})

	c.restarted(t, running, func() {
		c.change(t, other, func() { other.Annotations = nil })
	})
	c.untilService(t, other, assigned, true, "Assigned", "192.0.2.41")
	c.untilService(t, one, assigned, true, "Assigned", shared.String())
}

// What a Service keeps whose request cannot be understood nobody else is given.
func TestRefusedServiceKeepsItsAddressForItself(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	one, other, shared := c.sharers(t, "192.0.2.40/32")
	c.change(t, other, func() { other.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "nonsense"} })
	c.untilService(t, other, assigned, false, "InvalidRequest")

	c.restarted(t, running, func() {})
	c.remove(t, one)
	third := c.service(t, "c-third")
	lab.Eventually(t, soon, func() error {
		for _, svc := range []*corev1.Service{third, other} {
			if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc); err != nil {
				return err
			}
		}
		if len(third.Status.Conditions) == 0 {
			return errors.New("nothing is said of the third yet")
		}
		return nil
	})
	if slices.Contains(ingress(third), shared) && slices.Contains(ingress(other), shared) {
		t.Errorf("%s is two Services': %s: %s; %s: %s", shared, other.Name, told(other.Status.Conditions), third.Name, told(third.Status.Conditions))
	}
}
