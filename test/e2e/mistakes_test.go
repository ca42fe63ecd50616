package e2e

import (
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

func meta1(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

// othersGoOn checks that a mistake does not keep another Service from its address.
func (c *corner) othersGoOn(t *testing.T, name string) {
	t.Helper()
	c.addresses(t, c.service(t, name))
}

// What only several objects together make wrong is told by a condition on the
// wrong one, and everything else goes on.
func TestMistakesAreToldOnTheObject(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "good", "172.30.0.60-172.30.0.79")

	t.Run("overlapping pools", func(t *testing.T) {
		older := c.pool(t, "z-older", "172.30.0.80-172.30.0.81")
		nextSecond(t, older)
		younger := c.pool(t, "a-younger", "172.30.0.81-172.30.0.89")
		c.until(t, younger, func() error {
			return says(younger.Status.Conditions, ready, false, v1alpha1.ReasonOverlap, `"z-older"`, "spec.addresses")
		})
		c.until(t, older, func() error { return says(older.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })
		fromOlder := c.service(t, "from-older", annotated(v1alpha1.AnnotationAddressPool, "z-older"))
		c.addresses(t, fromOlder)
		fromYounger := c.service(t, "from-younger", annotated(v1alpha1.AnnotationAddressPool, "a-younger"))
		c.untilService(t, fromYounger, assigned, false, "PoolOverlap", `pool "a-younger"`, `"z-older"`)
		c.othersGoOn(t, "beside-overlap")

		c.change(t, younger, func() { younger.Spec.Addresses = []v1alpha1.AddressRange{"172.30.0.82-172.30.0.89"} })
		c.until(t, younger, func() error { return says(younger.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })
		c.addresses(t, fromYounger)
	})

	t.Run("advertisement of an unknown pool", func(t *testing.T) {
		a := &v1alpha1.L2Advertisement{
			ObjectMeta: meta1("unknown-pool"),
			Spec:       v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{"good", "to-come"}},
		}
		c.create(t, a)
		c.until(t, a, func() error {
			return says(a.Status.Conditions, ready, false, v1alpha1.ReasonPoolNotFound, "spec.ipAddressPools", `"to-come"`)
		})
		c.othersGoOn(t, "beside-unknown-pool")
		c.pool(t, "to-come", "172.30.0.90/32")
		c.until(t, a, func() error { return says(a.Status.Conditions, ready, true, v1alpha1.ReasonAccepted) })
	})

	t.Run("requests that cannot be met", func(t *testing.T) {
		holder := c.service(t, "holder")
		taken := c.addresses(t, holder)[0].String()
		ips := v1alpha1.AnnotationLoadBalancerIPs
		for _, r := range []struct {
			name, key, value string
			reason           string
			words            []string
		}{
			{"no-address", ips, "172.30.0", "InvalidRequest", []string{ips, `"172.30.0"`}},
			{"two-of-a-family", ips, "172.30.0.60,172.30.0.61", "InvalidRequest", []string{ips}},
			{"metallb", v1alpha1.AnnotationMetalLBLoadBalancerIPs, "none", "InvalidRequest", []string{v1alpha1.AnnotationMetalLBLoadBalancerIPs, `"none"`}},
			{"unknown-pool", v1alpha1.AnnotationAddressPool, "missing", "UnknownPool", []string{`pool "missing"`}},
			{"outside", ips, "192.0.2.1", "AddressNotInPool", []string{"192.0.2.1", `pool "good"`}},
			{"in-use", ips, taken, "AddressInUse", []string{taken, c.namespace + "/holder"}},
			{"family", ips, "fd30::100", "FamilyMismatch", []string{"fd30::100", "IPv6"}},
		} {
			t.Run(r.name, func(t *testing.T) {
				bad := c.service(t, r.name, annotated(r.key, r.value))
				c.untilService(t, bad, assigned, false, r.reason, r.words...)
				c.othersGoOn(t, "beside-"+r.name)

				// A Service that has an address keeps it.
				has := c.service(t, "keeps-"+r.name)
				kept := fmt.Sprint(c.addresses(t, has))
				c.change(t, has, func() { metav1.SetMetaDataAnnotation(&has.ObjectMeta, r.key, r.value) })
				c.until(t, has, func() error {
					if err := mentions(has, r.words...); err != nil {
						return err
					}
					if got := fmt.Sprint(ingress(has)); got != kept {
						t.Fatalf("it had %s and has %s", kept, got)
					}
					return nil
				})
				c.change(t, bad, func() { delete(bad.Annotations, r.key) })
				c.addresses(t, bad)
			})
		}
	})
}

// mentions reports whether the AddressAssigned condition has the words, be it true or not.
func mentions(svc *corev1.Service, words ...string) error {
	var err error
	for _, state := range svc.Status.Conditions {
		if state.Type == assigned {
			err = says(svc.Status.Conditions, assigned, state.Status == metav1.ConditionTrue, state.Reason, words...)
			if err == nil {
				return nil
			}
		}
	}
	return fmt.Errorf("want a mention of %q: %s", words, told(svc.Status.Conditions))
}

// A pool that is in use waits for its Services, and says for whom.
func TestPoolInUseIsNotDeleted(t *testing.T) {
	c := cluster.corner(t)
	pool := c.pool(t, "leaving", "172.30.0.60-172.30.0.69")
	users := []*corev1.Service{c.service(t, "user-a"), c.service(t, "user-b")}
	for _, svc := range users {
		c.addresses(t, svc)
	}
	c.held(t, pool)
	must(t, c.api.Delete(t.Context(), pool))
	inUse := func(by ...string) {
		t.Helper()
		c.until(t, pool, func() error { return says(pool.Status.Conditions, ready, false, v1alpha1.ReasonInUse, by...) })
	}
	inUse(c.namespace+"/user-a", c.namespace+"/user-b")
	late := c.service(t, "too-late")
	c.untilService(t, late, assigned, false, "PoolDeleting", `pool "leaving"`)
	c.remove(t, late)
	c.pool(t, "staying", "172.30.0.70-172.30.0.79")
	c.othersGoOn(t, "beside-leaving")

	c.remove(t, users[0])
	inUse("waits for " + c.namespace + "/user-b")
	kept := c.addresses(t, users[1])
	c.change(t, users[1], func() { users[1].Labels = map[string]string{"a": "b"} })
	if got := c.addresses(t, users[1]); fmt.Sprint(got) != fmt.Sprint(kept) {
		t.Errorf("the Service had %v and has %v", kept, got)
	}
	c.remove(t, users[1])
	c.untilGone(t, pool)
}
