package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// claim creates a claim, changed as told.
func (c *corner) claim(t *testing.T, name string, changes ...func(*v1alpha1.IPAddressClaimSpec)) *v1alpha1.IPAddressClaim {
	t.Helper()
	o := &v1alpha1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}}
	for _, change := range changes {
		change(&o.Spec)
	}
	c.create(t, o)
	return o
}

func claimFrom(pool string) func(*v1alpha1.IPAddressClaimSpec) {
	return func(s *v1alpha1.IPAddressClaimSpec) { s.Pool = v1alpha1.ObjectName(pool) }
}

func claimOf(addresses ...v1alpha1.IPAddress) func(*v1alpha1.IPAddressClaimSpec) {
	return func(s *v1alpha1.IPAddressClaimSpec) { s.Addresses = addresses }
}

func claimFamilies(families ...v1alpha1.IPFamily) func(*v1alpha1.IPAddressClaimSpec) {
	return func(s *v1alpha1.IPAddressClaimSpec) { s.Families = families }
}

func claimFor(ttl time.Duration) func(*v1alpha1.IPAddressClaimSpec) {
	return func(s *v1alpha1.IPAddressClaimSpec) { s.TTLAfterRelease = &metav1.Duration{Duration: ttl} }
}

// claims names the claim to have all from.
func claims(name string) func(*corev1.Service) { return annotated(v1alpha1.AnnotationClaim, name) }

// reserved waits until the claim keeps these addresses for nobody at present.
func (c *corner) reserved(t *testing.T, o *v1alpha1.IPAddressClaim, pool string, want ...string) {
	t.Helper()
	c.untilClaim(t, o, true, v1alpha1.ReasonReserved, pool, "", want, o.Name)
}

// bound waits until the claim's addresses are these and the Service has them.
func (c *corner) bound(t *testing.T, o *v1alpha1.IPAddressClaim, to, pool string, want ...string) {
	t.Helper()
	c.untilClaim(t, o, true, v1alpha1.ReasonBound, pool, to, want, "in use by Service "+to)
}

// unready waits until the claim says why it has no address.
func (c *corner) unready(t *testing.T, o *v1alpha1.IPAddressClaim, reason string, words ...string) {
	t.Helper()
	c.untilClaim(t, o, false, reason, "", "", nil, words...)
}

func (c *corner) untilClaim(t *testing.T, o *v1alpha1.IPAddressClaim, ok bool, reason, pool, boundTo string, addresses []string, words ...string) {
	t.Helper()
	c.until(t, o, func() error {
		s := &o.Status
		if fmt.Sprint(s.Addresses) != fmt.Sprint(addresses) || s.Pool != pool || s.BoundTo != boundTo {
			return fmt.Errorf("claim %s has %v of %q, bound to %q, want %v of %q, bound to %q; %s",
				o.Name, s.Addresses, s.Pool, s.BoundTo, addresses, pool, boundTo, told(s.Conditions))
		}
		return says(s.Conditions, ready, ok, reason, words...)
	})
}

// A claim has its addresses before there is a Service, lends them to the one that
// names it, and keeps them from everybody else when that goes and comes again.
func TestClaimOutlivesItsService(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	single := func(*corev1.Service) {}
	for _, s := range []struct {
		name   string
		claim  []func(*v1alpha1.IPAddressClaimSpec)
		family func(*corev1.Service)
		pool   string
		want   []string
	}{
		{"any", nil, single, "v4", []string{"192.0.2.0"}},
		{"of a pool", []func(*v1alpha1.IPAddressClaimSpec){claimFrom("v4")}, single, "v4", []string{"192.0.2.0"}},
		{"an exact address", []func(*v1alpha1.IPAddressClaimSpec){claimOf("192.0.2.1")}, single, "v4", []string{"192.0.2.1"}},
		{"v6", []func(*v1alpha1.IPAddressClaimSpec){claimFamilies(v1alpha1.IPv6)}, onlyIPv6, "v6", []string{"2001:db8::"}},
		{"both families", []func(*v1alpha1.IPAddressClaimSpec){claimFamilies(v1alpha1.IPv4, v1alpha1.IPv6)}, dualStack,
			"v4, v6", []string{"192.0.2.0", "2001:db8::"}},
		{"two exact addresses", []func(*v1alpha1.IPAddressClaimSpec){claimOf("192.0.2.1", "2001:db8::3")}, dualStack,
			"v4, v6", []string{"192.0.2.1", "2001:db8::3"}},
	} {
		t.Run(s.name, func(t *testing.T) {
			// What was freed a moment ago is given last, but not by another pool.
			four := c.pool(t, c.freshName("v4"), "192.0.2.0/30").Name
			six := c.pool(t, c.freshName("v6"), "2001:db8::/126").Name
			pool := strings.NewReplacer("v4", four, "v6", six).Replace(s.pool)
			for i := range s.claim {
				change := s.claim[i]
				s.claim[i] = func(spec *v1alpha1.IPAddressClaimSpec) {
					change(spec)
					spec.Pool = v1alpha1.ObjectName(strings.Replace(string(spec.Pool), "v4", four, 1))
				}
			}
			kept := c.claim(t, "kept", s.claim...)
			c.reserved(t, kept, pool, s.want...)
			web := c.service(t, "web", claims("kept"), s.family)
			for round := range 3 {
				c.has(t, web, s.want...)
				c.untilService(t, web, assigned, true, "Assigned", `of IPAddressClaim "kept"`)
				c.bound(t, kept, "web", pool, s.want...)
				c.remove(t, web)
				c.reserved(t, kept, pool, s.want...)
				var others []*corev1.Service
				for i := range 3 { // all the rest of the pool
					others = append(others, c.service(t, fmt.Sprintf("other-%d-%d", round, i), s.family))
					for _, a := range c.addresses(t, others[i]) {
						for _, w := range s.want {
							if a.String() == w {
								t.Errorf("%s has %s, which the claim keeps", others[i].Name, w)
							}
						}
					}
				}
				web = c.service(t, "web", claims("kept"), s.family)
				c.has(t, web, s.want...)
				for _, o := range others {
					c.remove(t, o)
				}
			}
		})
	}
}

func onlyIPv6(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol} }

// A claim cannot have an address that a Service has, unless that Service names
// the claim: then the claim takes it over and the Service keeps it.
func TestClaimTakesOverTheAddressOfItsService(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	pool := c.pool(t, "lan", "192.0.2.40-192.0.2.42")
	web := c.service(t, "web")
	c.has(t, web, "192.0.2.40")
	kept := c.claim(t, "kept", claimOf("192.0.2.40"))
	c.unready(t, kept, "AddressInUse", "192.0.2.40", `pool "lan"`, c.namespace+"/web")
	c.change(t, web, func() { claims("kept")(web) })
	c.bound(t, kept, "web", "lan", "192.0.2.40")
	c.has(t, web, "192.0.2.40")
	c.untilService(t, web, assigned, true, "Assigned", `of IPAddressClaim "kept"`)
	c.untilEvents(t, web, "Assigned", "192.0.2.40")
	c.untilEvents(t, web, "Released")
	c.until(t, pool, func() error {
		if pool.Status.AssignedIPv4 != 1 {
			return fmt.Errorf("%d are assigned", pool.Status.AssignedIPv4)
		}
		return nil
	})

	before := c.noted(t, web)
	c.crash(t, running, nil)
	c.has(t, c.service(t, "next"), "192.0.2.41")
	before.same(t)

	c.remove(t, web)
	c.reserved(t, kept, "lan", "192.0.2.40")
	t.Run("a Service that drops the annotation gives it back", func(t *testing.T) {
		web := c.service(t, "web", claims("kept"))
		c.has(t, web, "192.0.2.40")
		c.change(t, web, func() { delete(web.Annotations, v1alpha1.AnnotationClaim) })
		c.has(t, web, "192.0.2.42")
		c.reserved(t, kept, "lan", "192.0.2.40")
		c.untilEvents(t, web, "Released", "192.0.2.40")
	})
	t.Run("not of another namespace's Service", func(t *testing.T) {
		n := c.neighbour(t, nil)
		theirs := n.service(t, "web", claims("theirs"), exactly("192.0.2.42"))
		c.untilService(t, theirs, assigned, false, "InvalidRequest")
		c.change(t, theirs, func() { delete(theirs.Annotations, v1alpha1.AnnotationClaim) })
		c.has(t, theirs, "192.0.2.42")
		c.change(t, theirs, func() { theirs.Annotations = map[string]string{v1alpha1.AnnotationClaim: "mine"} })
		c.untilService(t, theirs, assigned, false, "ClaimNotFound", `"mine"`)
		mine := c.claim(t, "mine", claimOf("192.0.2.42"))
		c.unready(t, mine, "AddressInUse", n.namespace+"/web")
		if got := fmt.Sprint(ingress(theirs)); got != "[192.0.2.42]" {
			t.Errorf("the Service had 192.0.2.42 and has %s", got)
		}
	})
}

// Of two Services that name one claim the first has it, the second is told of the
// first and gets it when that goes.
func TestClaimServesOneAtATime(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "lan", "192.0.2.50-192.0.2.52")
	kept := c.claim(t, "kept")
	c.reserved(t, kept, "lan", "192.0.2.50")
	first := c.service(t, "z-first", claims("kept"))
	c.has(t, first, "192.0.2.50")
	nextSecond(t, first)
	second := c.service(t, "m-second", claims("kept"))
	c.refused(t, second, "ClaimInUse", `IPAddressClaim "kept"`, c.namespace+"/z-first")
	nextSecond(t, second)
	third := c.service(t, "a-third", claims("kept"))
	c.refused(t, third, "ClaimInUse", c.namespace+"/z-first")
	c.othersGoOn(t, "beside-a-claim")

	c.remove(t, first)
	c.has(t, second, "192.0.2.50")
	c.bound(t, kept, "m-second", "lan", "192.0.2.50")
	c.refused(t, third, "ClaimInUse", c.namespace+"/m-second")
	c.change(t, second, func() { second.Spec.Type = corev1.ServiceTypeClusterIP })
	c.has(t, third, "192.0.2.50")
	c.bound(t, kept, "a-third", "lan", "192.0.2.50")
}

// A Service that names a claim which cannot serve it says why, and is served when
// the claim can.
func TestClaimThatCannotServe(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "lan", "192.0.2.60/32")
	t.Run("missing", func(t *testing.T) {
		web := c.service(t, "web", claims("to-come"))
		c.refused(t, web, "ClaimNotFound", `there is no IPAddressClaim "to-come" in the namespace`)
		elsewhere := c.neighbour(t, nil)
		c.remove(t, elsewhere.claim(t, "to-come")) // of another namespace
		c.touch(t, web)
		c.refused(t, web, "ClaimNotFound", `"to-come"`)
		kept := c.claim(t, "to-come")
		c.has(t, web, "192.0.2.60")
		c.bound(t, kept, "web", "lan", "192.0.2.60")
		lab.Eventually(t, soon, func() error {
			// It may say between that the claim has no address itself yet.
			if got := c.events(t, web, "AssignmentFailed"); len(got) == 0 || !strings.Contains(got[0], `there is no IPAddressClaim "to-come"`) {
				return fmt.Errorf("the events AssignmentFailed say %q", got)
			}
			return nil
		})
		c.remove(t, web)
	})
	t.Run("pending", func(t *testing.T) {
		holder := c.service(t, "holder")
		c.has(t, holder, "192.0.2.60")
		kept := c.claim(t, "kept")
		c.unready(t, kept, "Exhausted", `pool "lan": no free IPv4 address (1 in use)`)
		web := c.service(t, "web", claims("kept"))
		c.refused(t, web, "ClaimPending", `IPAddressClaim "kept"`)
		c.remove(t, holder)
		c.has(t, web, "192.0.2.60")
	})
	t.Run("of another family", func(t *testing.T) {
		c.pool(t, "six", "2001:db8::60/128")
		c.claim(t, "six", claimFamilies(v1alpha1.IPv6))
		c.refused(t, c.service(t, "four", claims("six")), "ClaimLacksFamily", `IPAddressClaim "six"`, "IPv4")
		both := c.service(t, "both", claims("six"), dualStack)
		c.refused(t, both, "ClaimLacksFamily", `"six"`, "IPv4")
		c.remove(t, both)
		c.has(t, c.service(t, "six", claims("six"), onlyIPv6), "2001:db8::60")
	})
	t.Run("with a contradiction", func(t *testing.T) {
		kept := c.claim(t, "kept")
		c.reserved(t, kept, "lan", "192.0.2.60")
		for _, s := range []struct{ name, key, value string }{
			{"pool", v1alpha1.AnnotationAddressPool, "lan"},
			{"metallb-pool", v1alpha1.AnnotationMetalLBAddressPool, "lan"},
			{"address", v1alpha1.AnnotationLoadBalancerIPs, "192.0.2.60"},
			{"key", v1alpha1.AnnotationAllowSharedIP, "k"},
		} {
			web := c.service(t, s.name, claims("kept"), annotated(s.key, s.value))
			c.refused(t, web, "InvalidRequest", v1alpha1.AnnotationClaim, `IPAddressClaim "kept"`, "annotation "+s.key, "remove one of them")
			c.untilEvents(t, web, "AssignmentFailed", "remove one of them")
			c.change(t, web, func() { delete(web.Annotations, s.key) })
			c.has(t, web, "192.0.2.60")
			c.remove(t, web)
		}
		web := c.service(t, "field", claims("kept"), func(svc *corev1.Service) { svc.Spec.LoadBalancerIP = "192.0.2.60" })
		c.refused(t, web, "InvalidRequest", "spec.loadBalancerIP means nothing; remove one of them")
	})
}

// A claim with ttlAfterRelease is deleted that long after its Service has gone,
// not before it had one, and its address is free again.
func TestClaimExpires(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "lan", "192.0.2.70/32")
	for _, ttl := range []time.Duration{0, time.Second} {
		t.Run(ttl.String(), func(t *testing.T) {
			kept := c.claim(t, "kept", claimFor(ttl))
			c.reserved(t, kept, "lan", "192.0.2.70") // nobody has used it, so nothing counts
			web := c.service(t, "web", claims("kept"))
			c.has(t, web, "192.0.2.70")
			c.bound(t, kept, "web", "lan", "192.0.2.70")
			waiting := c.service(t, "waiting")
			c.refused(t, waiting, "Exhausted")
			began := time.Now()
			c.remove(t, web)
			c.untilGone(t, kept)
			if took := time.Since(began); took < ttl {
				t.Errorf("the claim was kept %v, want %v at least", took, ttl)
			}
			c.has(t, waiting, "192.0.2.70")
		})
	}
	t.Run("used again in time", func(t *testing.T) {
		kept := c.claim(t, "kept", claimFor(time.Hour))
		c.reserved(t, kept, "lan", "192.0.2.70")
		web := c.service(t, "web", claims("kept"))
		c.has(t, web, "192.0.2.70")
		c.bound(t, kept, "web", "lan", "192.0.2.70")
		c.remove(t, web)
		c.reserved(t, kept, "lan", "192.0.2.70")
		if kept.Status.ReleasedAt == nil {
			t.Error("the claim does not say when it was released")
		}
		web = c.service(t, "web", claims("kept"))
		c.bound(t, kept, "web", "lan", "192.0.2.70")
		if kept.Status.ReleasedAt != nil {
			t.Errorf("the claim is in use and released at %v", kept.Status.ReleasedAt)
		}
		c.change(t, kept, func() { kept.Spec.TTLAfterRelease = &metav1.Duration{} })
		c.touch(t, web)
		c.bound(t, kept, "web", "lan", "192.0.2.70")
		c.remove(t, web)
		c.untilGone(t, kept)
	})
}

// A claim that is deleted while a Service has its addresses waits for it and
// says so, and lends nothing to another.
func TestClaimInUseIsNotDeleted(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	c.pool(t, "lan", "192.0.2.80-192.0.2.81")
	deleted := func(t *testing.T) (*v1alpha1.IPAddressClaim, *corev1.Service) {
		t.Helper()
		kept := c.claim(t, "kept", claimOf("192.0.2.80"))
		c.reserved(t, kept, "lan", "192.0.2.80")
		web := c.service(t, "web", claims("kept"))
		c.bound(t, kept, "web", "lan", "192.0.2.80")
		c.has(t, web, "192.0.2.80")
		must(t, c.api.Delete(t.Context(), kept))
		c.untilClaim(t, kept, false, v1alpha1.ReasonInUse, "lan", "web", []string{"192.0.2.80"}, "being deleted; waits for Service web", v1alpha1.AnnotationClaim)
		return kept, web
	}
	t.Run("the Service goes", func(t *testing.T) {
		kept, web := deleted(t)
		late := c.service(t, "late", claims("kept"))
		c.refused(t, late, "ClaimDeleting", `IPAddressClaim "kept" is being deleted`) // waiting for web would not help
		c.remove(t, web)
		c.untilGone(t, kept)
		c.refused(t, late, "ClaimNotFound", `"kept"`)
	})
	t.Run("the Service drops the annotation", func(t *testing.T) {
		kept, web := deleted(t)
		running = c.crash(t, running, nil)
		c.has(t, c.service(t, "next"), "192.0.2.81")
		c.has(t, web, "192.0.2.80")
		c.change(t, web, func() { delete(web.Annotations, v1alpha1.AnnotationClaim) })
		c.untilGone(t, kept)
		c.untilService(t, web, assigned, true, "Assigned", `192.0.2.80 from pool "lan"`)
		c.has(t, web, "192.0.2.80")
		c.untilEvents(t, web, "Released")
		c.refused(t, c.service(t, "other"), "Exhausted", "(2 in use)")
	})
}

// A claim that is deleted, not in use, and still there for somebody's finalizer
// keeps nothing: others have its address, also after a restart.
func TestDeletedClaimKeepsNothing(t *testing.T) {
	const many = 8
	c := control.corner(t)
	running := c.controller(t)
	c.pool(t, "lan", "192.0.2.0/26")
	elsewhere := c.neighbour(t, nil)
	var takers []*corev1.Service
	for i := range many {
		ip := fmt.Sprint("192.0.2.", i)
		kept := c.claim(t, fmt.Sprint("kept-", i), claimOf(v1alpha1.IPAddress(ip)))
		c.reserved(t, kept, "lan", ip)
		c.change(t, kept, func() { kept.Finalizers = append(kept.Finalizers, "example.com/audit") })
		t.Cleanup(func() {
			none := client.RawPatch(types.MergePatchType, []byte(`{"metadata":{"finalizers":null}}`))
			must(t, client.IgnoreNotFound(c.api.Patch(context.Background(), kept, none)))
		})
		must(t, c.api.Delete(t.Context(), kept))
		takers = append(takers, elsewhere.service(t, fmt.Sprint("taker-", i), exactly(ip)))
		c.has(t, takers[i], ip)
	}
	t.Run("a restart gives it nothing back", func(t *testing.T) {
		before := c.noted(t, takers...)
		c.crash(t, running, nil)
		c.has(t, c.service(t, "next"), fmt.Sprint("192.0.2.", many))
		for i, svc := range takers {
			c.has(t, svc, fmt.Sprint("192.0.2.", i))
			c.untilEvents(t, svc, "Conflict")
			c.untilEvents(t, svc, "Assigned", fmt.Sprint("192.0.2.", i))
		}
		before.same(t)
	})
	t.Run("it is told", func(t *testing.T) {
		c.refused(t, c.service(t, "late", claims("kept-0")), "ClaimDeleting", `"kept-0"`)
	})
}

// A claim keeps an address that is taken out of its pool, as a Service does, and
// the pool names the claim.
func TestClaimKeepsARetiringAddress(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	pool := c.pool(t, "lan", "192.0.2.0/30")
	kept := c.claim(t, "kept")
	c.reserved(t, kept, "lan", "192.0.2.0")
	c.edit(t, pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"192.0.2.2/31"} })
	retiring := func(by string) {
		t.Helper()
		c.until(t, pool, func() error {
			want := []v1alpha1.RetiringAddress{{Address: "192.0.2.0", Service: by}}
			if !slices.Equal(pool.Status.Retiring, want) {
				return fmt.Errorf("retiring is %v, want %v", pool.Status.Retiring, want)
			}
			return nil
		})
	}
	retiring("IPAddressClaim " + c.namespace + "/kept")
	running = c.crash(t, running, nil)
	c.has(t, c.service(t, "other"), "192.0.2.2")
	c.reserved(t, kept, "lan", "192.0.2.0")
	web := c.service(t, "web", claims("kept"))
	c.has(t, web, "192.0.2.0")
	retiring(c.namespace + "/web")
	before := c.noted(t, web)
	c.crash(t, running, nil)
	c.has(t, c.service(t, "next"), "192.0.2.3")
	before.same(t)
	c.remove(t, web)
	c.removeServices(t)

	must(t, c.api.Delete(t.Context(), pool))
	c.until(t, pool, func() error {
		return says(pool.Status.Conditions, ready, false, v1alpha1.ReasonInUse, "waits for IPAddressClaim "+c.namespace+"/kept")
	})
	web = c.service(t, "web", claims("kept"))
	c.has(t, web, "192.0.2.0")
	c.remove(t, web)
	c.remove(t, kept)
	c.untilGone(t, pool)
}

// Nothing moves when the controller dies and another starts: what is bound stays,
// what is reserved is given to nobody else.
func TestClaimsSurviveRestart(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	c.pool(t, "lan", "192.0.2.90-192.0.2.94")
	var kept []*v1alpha1.IPAddressClaim
	for i := range 3 {
		kept = append(kept, c.claim(t, fmt.Sprint("kept-", i)))
		c.reserved(t, kept[i], "lan", fmt.Sprint("192.0.2.", 90+i))
	}
	web := c.service(t, "web", claims("kept-0"))
	gone := c.service(t, "gone", claims("kept-1"))
	c.has(t, web, "192.0.2.90")
	c.has(t, gone, "192.0.2.91")
	plain := c.service(t, "plain")
	c.has(t, plain, "192.0.2.93")
	waits := c.service(t, "waits", claims("kept-0"))
	c.refused(t, waits, "ClaimInUse", c.namespace+"/web")
	c.bound(t, kept[0], "web", "lan", "192.0.2.90")
	before := c.noted(t, web, plain, waits)
	versions := []string{kept[0].ResourceVersion, kept[2].ResourceVersion}

	var fresh, again *corev1.Service
	running = c.crash(t, running, func() {
		c.remove(t, gone)
		fresh = c.service(t, "a-fresh")
		again = c.service(t, "z-again", claims("kept-2"))
	})
	c.has(t, again, "192.0.2.92")
	c.has(t, fresh, "192.0.2.94")
	c.reserved(t, kept[1], "lan", "192.0.2.91")
	c.bound(t, kept[2], "z-again", "lan", "192.0.2.92")
	before.same(t)
	must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(kept[0]), kept[0]))
	if got := kept[0].ResourceVersion; got != versions[0] {
		t.Errorf("the claim in use was written: %v, %s", kept[0].Status.Addresses, told(kept[0].Status.Conditions))
	}

	t.Run("a claim deleted meanwhile", func(t *testing.T) {
		c.crash(t, running, func() {
			must(t, c.api.Delete(t.Context(), kept[1]))
			must(t, c.api.Delete(t.Context(), kept[0]))
		})
		c.untilGone(t, kept[1])
		c.untilClaim(t, kept[0], false, v1alpha1.ReasonInUse, "lan", "web", []string{"192.0.2.90"}, "waits for Service web")
		c.has(t, web, "192.0.2.90")
		c.has(t, c.service(t, "next"), "192.0.2.91")
		c.remove(t, waits)
		c.remove(t, web)
		c.untilGone(t, kept[0])
	})
}

// A claim can have only what a Service of its namespace could.
func TestClaimsObeyTenancy(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	theirs := c.poolWith(t, "theirs", only(v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{"somebody-elses"}}), "192.0.2.100/32")
	c.poolWith(t, "quota", func(s *v1alpha1.IPAddressPoolSpec) { s.MaxPerNamespace = 2 }, "192.0.2.104/29")
	c.unready(t, c.claim(t, "by-pool", claimFrom("theirs")), "NamespaceNotAllowed", `pool "theirs": not for this namespace`)
	c.unready(t, c.claim(t, "by-address", claimOf("192.0.2.100")), "NamespaceNotAllowed", `pool "theirs": not for this namespace`, "192.0.2.100")
	c.unready(t, c.claim(t, "missing", claimFrom("missing")), "UnknownPool", `"missing"`)

	one := c.claim(t, "one")
	c.reserved(t, one, "quota", "192.0.2.104")
	web := c.service(t, "web")
	c.has(t, web, "192.0.2.105")
	two := c.claim(t, "two", claimFrom("quota"))
	c.unready(t, two, "NamespaceQuota", `pool "quota"`, "all 2 addresses", "maxPerNamespace")
	nextSecond(t, two)
	exact := c.claim(t, "exact", claimOf("192.0.2.110"), claimFrom("quota"))
	c.unready(t, exact, "NamespaceQuota", "all 2 addresses")
	user := c.service(t, "user", claims("one")) // which counts once
	c.has(t, user, "192.0.2.104")
	elsewhere := c.neighbour(t, nil)
	c.reserved(t, elsewhere.claim(t, "one"), "quota", "192.0.2.106")
	c.remove(t, web)
	c.reserved(t, two, "quota", "192.0.2.107")
	c.unready(t, exact, "NamespaceQuota")

	t.Run("the namespace becomes eligible", func(t *testing.T) {
		c.edit(t, theirs, func(s *v1alpha1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1alpha1.ServiceAllocation{NamespaceSelectors: []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"team": "a"}}}}
		})
		n := c.neighbour(t, nil)
		kept := n.claim(t, "kept", claimFrom("theirs"))
		c.unready(t, kept, "NamespaceNotAllowed")
		c.label(t, n.namespace, "team", "a")
		c.reserved(t, kept, "theirs", "192.0.2.100")
	})
}

// label changes a label of a namespace.
func (c *corner) label(t *testing.T, namespace, key, value string) {
	t.Helper()
	ns := &corev1.Namespace{ObjectMeta: meta1(namespace)}
	c.change(t, ns, func() { metav1.SetMetaDataLabel(&ns.ObjectMeta, key, value) })
}

// What a claim asks for cannot be changed, as its Service would move.
func TestClaimIsNotChanged(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "lan", "192.0.2.120-192.0.2.121")
	kept := c.claim(t, "kept", claimOf("192.0.2.120"))
	c.reserved(t, kept, "lan", "192.0.2.120")
	kept.Spec.Addresses = []v1alpha1.IPAddress{"192.0.2.121"}
	if err := c.api.Update(t.Context(), kept); !apierrors.IsInvalid(err) {
		t.Errorf("want a refusal, have %v", err)
	}
	lab.Eventually(t, soon, func() error { return c.api.Get(t.Context(), client.ObjectKeyFromObject(kept), kept) })
	c.reserved(t, kept, "lan", "192.0.2.120")
}
