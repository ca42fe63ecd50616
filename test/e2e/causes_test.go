package e2e

import (
	"context"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// Set-ups that are broken, each made for real: what the condition, explain and doctor
// say names the cause. plugin_test.go has more of them.

// somePool is what a pool has where nothing else is said.
const somePool = "172.30.0.40-172.30.0.49"

// lacksAddress checks that all who are asked name the cause for which a Service has no
// address.
func (c *corner) lacksAddress(t *testing.T, svc *corev1.Service, reason string, words ...string) {
	t.Helper()
	c.untilService(t, svc, assigned, false, reason, words...)
	c.explain(t, svc, "Pending", words...)
	c.doctor(t, "Service "+svc.Namespace+"/"+svc.Name, words...)
}

// isSilent checks that all who are asked name the cause for which a Service's address
// is not announced.
func (c *corner) isSilent(t *testing.T, svc *corev1.Service, reason string, words ...string) {
	t.Helper()
	c.untilService(t, svc, announced, false, reason, words...)
	c.explain(t, svc, "NotAnnounced", words...)
	c.doctor(t, "Service "+svc.Namespace+"/"+svc.Name, words...)
}

// A request that cannot be met.
func TestCauseOfNoAddressIsNamed(t *testing.T) {
	c := cluster.corner(t)
	c.plugin(t, "version") // which builds it: that takes longer than any answer
	has := func(changes ...func(*corev1.Service)) func(*testing.T) {
		return func(t *testing.T) { c.addresses(t, c.service(t, "first", changes...)) }
	}
	for _, b := range []struct {
		name   string
		pool   func(*v1alpha1.IPAddressPoolSpec)
		before func(*testing.T) // what there is before the Service
		asks   []func(*corev1.Service)
		reason string
		says   []string
	}{
		{
			name: "pool for Services with labels", reason: "ServiceNotSelected", says: []string{"its serviceSelectors do not match the Service's labels"},
			pool: func(s *v1alpha1.IPAddressPoolSpec) {
				s.ServiceAllocation = &v1alpha1.ServiceAllocation{ServiceSelectors: matching("tier", "public")}
			},
		},
		{
			name: "pool for namespaces with labels", reason: "NamespaceNotAllowed", says: []string{"not for this namespace"},
			pool: func(s *v1alpha1.IPAddressPoolSpec) {
				s.ServiceAllocation = &v1alpha1.ServiceAllocation{NamespaceSelectors: matching("team", "shop")}
			},
		},
		{
			name: "pool only by its name", reason: "NotAutoAssign", says: []string{"autoAssign is false and the Service does not name it"},
			pool: func(s *v1alpha1.IPAddressPoolSpec) { s.AutoAssign = ptr.To(false) },
		},
		{
			name: "pool paused", reason: "PoolDisabled", says: []string{"disabled"},
			pool: func(s *v1alpha1.IPAddressPoolSpec) { s.Disabled = true },
		},
		{
			name: "quota of the namespace", reason: "NamespaceQuota", says: []string{"the namespace has all 1 addresses that it can have (maxPerNamespace)"},
			pool: func(s *v1alpha1.IPAddressPoolSpec) { s.MaxPerNamespace = 1 }, before: has(),
		},
		{
			name: "address of no pool", reason: "AddressNotInPool", says: []string{"192.0.2.1", "does not have the address"},
			asks: []func(*corev1.Service){exactly("192.0.2.1")},
		},
		{
			name: "address that the pool leaves out", reason: "AddressNotInPool", says: []string{"172.30.0.44", "does not have the address"},
			pool: func(s *v1alpha1.IPAddressPoolSpec) { s.Excludes = []v1alpha1.AddressRange{"172.30.0.44/32"} },
			asks: []func(*corev1.Service){exactly("172.30.0.44")},
		},
		{
			name: "family that no pool has", reason: "FamilyAbsent", says: []string{"has no IPv6 addresses"},
			asks: []func(*corev1.Service){dualStack},
		},
		{
			name: "port of another on a shared address", reason: "PortConflict", says: []string{"172.30.0.45 cannot be shared", "/first uses TCP port 80 too"},
			before: has(shares("k"), exactly("172.30.0.45")),
			asks:   []func(*corev1.Service){shares("k"), exactly("172.30.0.45")},
		},
		{
			name: "another key for a shared address", reason: "SharingKeyDiffers", says: []string{"172.30.0.45 cannot be shared", "the allow-shared-ip key of", "/first is another"},
			before: has(shares("k"), exactly("172.30.0.45")),
			asks:   []func(*corev1.Service){shares("l"), exactly("172.30.0.45"), ports("UDP/53")},
		},
		{
			name: "another externalTrafficPolicy on a shared address", reason: "BackendsDiffer", says: []string{"172.30.0.45 cannot be shared", "externalTrafficPolicy"},
			before: has(shares("k"), exactly("172.30.0.45")),
			asks:   []func(*corev1.Service){shares("k"), exactly("172.30.0.45"), ports("UDP/53"), localTraffic},
		},
		{
			name: "pool that lets nobody share", reason: "SharingNotAllowed", says: []string{"172.30.0.45 cannot be shared", "the pool's sharing is Never"},
			pool:   func(s *v1alpha1.IPAddressPoolSpec) { s.Sharing = v1alpha1.SharingNever },
			before: has(shares("k"), exactly("172.30.0.45")),
			asks:   []func(*corev1.Service){shares("k"), exactly("172.30.0.45"), ports("UDP/53")},
		},
		{
			name: "claim that is not there", reason: "ClaimNotFound", says: []string{`there is no IPAddressClaim "kept" in the namespace`},
			asks: []func(*corev1.Service){claims("kept")},
		},
		{
			name: "claim of another Service", reason: "ClaimInUse", says: []string{`IPAddressClaim "kept" is in use by`, "/first"},
			before: func(t *testing.T) {
				c.claim(t, "kept")
				has(claims("kept"))(t)
			},
			asks: []func(*corev1.Service){claims("kept")},
		},
		{
			name: "claim that has no address", reason: "ClaimPending", says: []string{`IPAddressClaim "kept" has no address itself yet`},
			before: func(t *testing.T) {
				c.claim(t, "kept", claimOf("192.0.2.1"))
				c.doctor(t, "IPAddressClaim "+c.namespace+"/kept", "192.0.2.1", "does not have the address")
			},
			asks: []func(*corev1.Service){claims("kept")},
		},
		{
			name: "claim without a family", reason: "ClaimLacksFamily", says: []string{`IPAddressClaim "kept" keeps no IPv6 address`},
			before: func(t *testing.T) { c.claim(t, "kept") },
			asks:   []func(*corev1.Service){claims("kept"), dualStack},
		},
		{
			name: "claim beside an address", reason: "InvalidRequest", says: []string{v1alpha1.AnnotationClaim, "remove one of them"},
			asks: []func(*corev1.Service){claims("kept"), exactly("172.30.0.45")},
		},
	} {
		t.Run(b.name, func(t *testing.T) {
			if b.pool == nil {
				b.pool = func(*v1alpha1.IPAddressPoolSpec) {}
			}
			c.poolWith(t, c.freshName("lan"), b.pool, somePool)
			if b.before != nil {
				b.before(t)
			}
			c.lacksAddress(t, c.service(t, "broken", b.asks...), b.reason, b.says...)
		})
	}

	t.Run("address of another family", func(t *testing.T) { // it has one of its own family
		c.pool(t, c.freshName("lan"), somePool)
		svc := c.service(t, "broken", exactly("fd30::100"))
		const why = "the Service does not ask for IPv6 (fd30::100)"
		c.untilService(t, svc, assigned, false, "FamilyMismatch", why)
		c.explain(t, svc, "NotAnnounced", why, "no L2Advertisement or BGPAdvertisement selects the Service")
		c.doctor(t, "Service "+c.namespace+"/broken", why)
	})
	t.Run("claim of another namespace", func(t *testing.T) {
		c.pool(t, c.freshName("lan"), somePool)
		other := c.neighbour(t, nil)
		other.claim(t, "kept")
		svc := c.service(t, "broken", claims("kept"))
		c.lacksAddress(t, svc, "ClaimNotFound", `there is no IPAddressClaim "kept" in the namespace`)
		if text := c.plugin(t, "explain", "service", "broken", "-n", c.namespace); !strings.Contains(text, `there is an IPAddressClaim "kept" in `+other.namespace) {
			t.Errorf("it says\n%s", text)
		}
	})
	t.Run("pool on its way out", func(t *testing.T) {
		p := c.pool(t, c.freshName("lan"), somePool)
		has()(t)
		c.held(t, p)
		must(t, c.api.Delete(t.Context(), p))
		c.lacksAddress(t, c.service(t, "broken"), "PoolDeleting", "being deleted")
		c.until(t, p, func() error {
			return says(p.Status.Conditions, ready, false, v1alpha1.ReasonInUse, "waits for "+c.namespace+"/first")
		})
		c.doctor(t, "IPAddressPool "+p.Name, "waits for "+c.namespace+"/first")
	})
	t.Run("two pools with the same addresses", func(t *testing.T) {
		older := c.pool(t, c.freshName("older"), somePool)
		nextSecond(t, older)
		younger := c.pool(t, c.freshName("younger"), "172.30.0.49-172.30.0.59")
		c.lacksAddress(t, c.service(t, "broken", fromPool(younger.Name)), "PoolOverlap", `overlaps an older pool ("`+older.Name+`")`)
		c.until(t, younger, func() error {
			return says(younger.Status.Conditions, ready, false, v1alpha1.ReasonOverlap, older.Name, "spec.addresses")
		})
		c.doctor(t, "IPAddressPool "+younger.Name, older.Name, "spec.addresses")
	})
	t.Run("range that ends before it starts", func(t *testing.T) {
		err := c.api.Create(t.Context(), &v1alpha1.IPAddressPool{ObjectMeta: meta1("backwards"), Spec: v1alpha1.IPAddressPoolSpec{Addresses: []v1alpha1.AddressRange{"192.0.2.50-192.0.2.10"}}})
		if err == nil || !hasAll(err.Error(), "spec.addresses[0]", "ends before it starts", `"192.0.2.10-192.0.2.50"`) {
			t.Errorf("the API server says %v", err)
		}
	})
	t.Run("no controller", func(t *testing.T) {
		c.pool(t, c.freshName("lan"), somePool)
		must(t, c.Process("controller").Stop(t.Context()))
		t.Cleanup(func() { c.startController(t) })
		svc := c.service(t, "broken")
		c.explain(t, svc, "Pending", "no controller is active")
		c.doctor(t, "controller", "no controller is active (the last one stopped)")
	})
}

// startController starts the controller anew, and waits until it works.
func (c *corner) startController(t *testing.T) {
	t.Helper()
	p, err := c.StartController(context.Background()) // cleanups do it, too
	must(t, err)
	must(t, p.Ready(context.Background()))
}
