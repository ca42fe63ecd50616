package e2e

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// silence replaces the message of every condition and the note of every event by "x":
// what was written for people.
func (c *corner) silence(t *testing.T) {
	t.Helper()
	ctx := t.Context()
	var services corev1.ServiceList
	var pools v1alpha1.IPAddressPoolList
	var claims v1alpha1.IPAddressClaimList
	var speakers v1alpha1.SpeakerList
	var events eventsv1.EventList
	for _, list := range []client.ObjectList{&services, &pools, &claims, &speakers} {
		must(t, c.api.List(ctx, list))
	}
	// In a namespace that another test deleted no event can be created.
	must(t, c.api.List(ctx, &events, client.InNamespace(c.namespace)))
	replaced := 0
	write := func(o client.Object, conditions []metav1.Condition) {
		for i := range conditions {
			conditions[i].Message = "x"
			replaced++
		}
		if len(conditions) > 0 {
			must(t, c.api.Status().Update(ctx, o))
		}
	}
	for i := range services.Items {
		write(&services.Items[i], services.Items[i].Status.Conditions)
	}
	for i := range pools.Items {
		write(&pools.Items[i], pools.Items[i].Status.Conditions)
	}
	for i := range claims.Items {
		write(&claims.Items[i], claims.Items[i].Status.Conditions)
	}
	for i := range speakers.Items {
		write(&speakers.Items[i], speakers.Items[i].Status.Conditions)
	}
	for i := range events.Items {
		e := &events.Items[i] // immutable, but for its series
		must(t, client.IgnoreNotFound(c.api.Delete(ctx, e.DeepCopy())))
		e.Note, e.ResourceVersion, e.UID = "x", "", ""
		must(t, c.api.Create(ctx, e))
	}
	if replaced == 0 {
		t.Fatal("no condition had a message")
	}
}

// assignedFrom returns what explain says for programs: the addresses of a Service, and the
// pool and claim of each.
func (c *corner) assignedFrom(t *testing.T, svc *corev1.Service) (out []string) {
	t.Helper()
	text, err := c.Plugin(t.Context(), "explain", "service", svc.Name, "-n", svc.Namespace, "-o", "json")
	must(t, err)
	var report struct {
		Addresses []struct {
			Address, Pool, Claim, Family string
		}
	}
	must(t, json.Unmarshal(text, &report))
	for _, a := range report.Addresses {
		out = append(out, fmt.Sprintf("%s from %q, claim %q", a.Address, a.Pool, a.Claim))
	}
	return out
}

// Nothing that was written for people is read back: with all of it gone, and every pool
// edited so that no pool has an assigned address, a new controller changes no address, pool
// or quota.
func TestNoMessageIsReadBack(t *testing.T) {
	c := control.corner(t)
	running := c.controller(t)
	pool := c.poolWith(t, c.freshName("lan"), func(s *v1alpha1.IPAddressPoolSpec) { s.MaxPerNamespace = 6 }, "192.0.2.0/28", "2001:db8::/124")
	claim := c.claim(t, "kept")
	web, dual := c.service(t, "web"), c.service(t, "dual", dualStack)
	one := c.service(t, "one", annotated(v1alpha1.AnnotationAllowSharedIP, "key"), ports("TCP/80"))
	c.addresses(t, one)
	other := c.service(t, "other", annotated(v1alpha1.AnnotationAllowSharedIP, "key"), ports("TCP/81"))
	user := c.service(t, "user", annotated(v1alpha1.AnnotationClaim, claim.Name))
	all := []*corev1.Service{web, dual, one, other, user}
	before := map[string][]string{}
	for _, svc := range all {
		c.untilService(t, svc, assigned, true, "Assigned")
		before[svc.Name] = c.assignedFrom(t, svc)
	}
	c.addresses(t, c.service(t, "last")) // of the quota
	c.refused(t, c.service(t, "too-many"), "NamespaceQuota")

	c.restarted(t, running, func() {
		c.change(t, pool, func() { pool.Spec.Addresses = []v1alpha1.AddressRange{"198.51.100.0/28", "2001:db8:1::/124"} })
		c.silence(t)
	})
	for _, svc := range all {
		c.untilService(t, svc, assigned, true, "Assigned", pool.Name)
		if after := c.assignedFrom(t, svc); !slices.Equal(before[svc.Name], after) {
			t.Errorf("%s has %v, had %v", svc.Name, after, before[svc.Name])
		}
	}
	c.refused(t, c.service(t, "still-too-many"), "NamespaceQuota")
}

// Speakers that start after every pool was edited, with no controller and no message to
// read, announce what is assigned.
func TestSpeakersReadNoMessage(t *testing.T) {
	c := cluster.corner(t)
	pool := c.pool(t, c.freshName("lan"), "172.30.0.80-172.30.0.84")
	c.create(t, &v1alpha1.L2Advertisement{
		ObjectMeta: meta1(pool.Name), Spec: v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{v1alpha1.ObjectName(pool.Name)}},
	})
	svc := c.service(t, "web")
	c.backend(t, svc, "n1")
	c.untilService(t, svc, announced, true, "Announced")
	a := c.addresses(t, svc)[0]

	must(t, c.Process("controller").Kill())
	t.Cleanup(func() { c.reviveController(t) })
	c.change(t, pool, func() { pool.Spec.Addresses = []v1alpha1.AddressRange{"172.30.0.85-172.30.0.89"} })
	c.silence(t)
	for _, n := range c.Nodes {
		c.restartSpeaker(t, n.Name)
		c.owner(t, a)
	}
	c.reviveController(t)
	c.until(t, pool, func() error { return retires(pool, a) })
	c.untilService(t, svc, announced, true, "Announced", a.String())
}
