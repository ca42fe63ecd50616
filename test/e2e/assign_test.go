package e2e

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

const (
	assigned  = v1alpha1.ConditionAddressAssigned
	announced = v1alpha1.ConditionAnnounced
	ready     = v1alpha1.ConditionReady
)

// A Service has its address within 100 ms of its creation, by one write that
// says so in the condition too.
func TestAddressIsAssignedAtOnce(t *testing.T) {
	c := cluster.corner(t)
	c.apply(t, layer2)
	lan := &v1alpha1.IPAddressPool{ObjectMeta: meta1("lan")}
	c.settled(t, lan)
	w, err := c.api.Watch(t.Context(), &corev1.ServiceList{}, client.InNamespace(c.namespace))
	must(t, err)
	defer w.Stop()

	var medians []time.Duration
	for range 3 { // a machine may have no time for one
		medians = append(medians, c.medianOfFifty(t, w, fmt.Sprint("web-", len(medians))))
		if slices.Min(medians) < 100*time.Millisecond {
			return
		}
		c.removeServices(t)
		c.counts(t, lan, 0, 50)
	}
	t.Errorf("the medians are %v, want one of less than 100ms", medians)
}

// medianOfFifty is how long half of the Services that it creates, one after the other,
// wait for their addresses at most.
func (c *corner) medianOfFifty(t *testing.T, w watch.Interface, prefix string) time.Duration {
	t.Helper()
	var took []time.Duration
	given := map[netip.Addr]string{}
	for i := range 50 {
		svc := c.newService(fmt.Sprintf("%s-%02d", prefix, i))
		began := time.Now()
		c.create(t, svc)
		seen := nextAssigned(t, w, svc.Name)
		took = append(took, time.Since(began))
		if err := says(seen.Status.Conditions, assigned, true, "Assigned", `pool "lan"`); err != nil {
			t.Errorf("%s: the write that brought the address: %v", svc.Name, err)
		}
		for _, a := range ingress(seen) {
			if other, taken := given[a]; taken {
				t.Errorf("%s and %s both have %s", other, svc.Name, a)
			}
			given[a] = svc.Name
		}
	}
	slices.Sort(took)
	median := took[len(took)/2]
	t.Logf("from creation to address: median %v, longest %v of %d", median, took[len(took)-1], len(took))
	return median
}

// nextAssigned follows the watch to the first version of the Service with an
// address. No version before it may say anything of it.
func nextAssigned(t *testing.T, w watch.Interface, name string) *corev1.Service {
	t.Helper()
	giveUp := time.After(soon)
	for {
		select {
		case e := <-w.ResultChan():
			svc, ok := e.Object.(*corev1.Service)
			switch {
			case !ok:
				t.Fatalf("the watch says %v", e)
			case svc.Name != name:
			case len(ingress(svc)) > 0:
				return svc
			case len(svc.Status.Conditions) > 0:
				t.Errorf("%s: a write without the address: %s", name, told(svc.Status.Conditions))
			}
		case <-giveUp:
			t.Fatalf("%s got no address", name)
		}
	}
}

// An address is free again when its Service is deleted or is of another type,
// and goes to the Service that has waited longest.
func TestAddressIsFreed(t *testing.T) {
	const only = "172.30.0.60"
	c := cluster.corner(t)
	pool := c.pool(t, "one", only+"/32")
	use := func(n int64) {
		t.Helper()
		c.until(t, pool, func() error {
			if pool.Status.AssignedIPv4 != n || pool.Status.AvailableIPv4 != 1-n {
				return fmt.Errorf("the pool has %d assigned and %d available, want %d and %d", pool.Status.AssignedIPv4, pool.Status.AvailableIPv4, n, 1-n)
			}
			return nil
		})
	}
	has := func(svc *corev1.Service) {
		t.Helper()
		if got := c.addresses(t, svc); got[0].String() != only {
			t.Fatalf("%s has %v, want %s", svc.Name, got, only)
		}
		c.untilService(t, svc, assigned, true, "Assigned", only, `pool "one"`)
	}
	waits := func(svc *corev1.Service) {
		t.Helper()
		c.untilService(t, svc, assigned, false, "Exhausted", `pool "one": no free IPv4 address (1 in use)`)
		if got := ingress(svc); len(got) > 0 {
			t.Errorf("%s waits and has %v", svc.Name, got)
		}
	}
	turnInto := func(svc *corev1.Service, typ corev1.ServiceType) {
		t.Helper()
		c.change(t, svc, func() { svc.Spec.Type = typ })
	}

	first := c.service(t, "first")
	has(first)
	use(1)
	c.untilService(t, first, announced, false, "NoAdvertisement")

	turnInto(first, corev1.ServiceTypeClusterIP)
	c.until(t, first, func() error {
		if len(first.Status.LoadBalancer.Ingress)+len(first.Status.Conditions) > 0 {
			return fmt.Errorf("a ClusterIP Service has %v and %s", ingress(first), told(first.Status.Conditions))
		}
		return nil
	})
	use(0)
	turnInto(first, corev1.ServiceTypeLoadBalancer)
	has(first)
	use(1)

	// The oldest is neither the first nor the last by name.
	oldest := c.service(t, "m-oldest")
	waits(oldest)
	nextSecond(t, oldest)
	younger := []*corev1.Service{c.service(t, "a-younger"), c.service(t, "z-younger")}
	for _, svc := range younger {
		waits(svc)
	}
	c.remove(t, first)
	has(oldest)
	use(1)
	for _, svc := range younger {
		waits(svc)
	}
	turnInto(oldest, corev1.ServiceTypeNodePort)
	has(younger[0])
	waits(younger[1])
	c.remove(t, younger[0])
	has(younger[1])
	c.remove(t, younger[1])
	use(0)
}

// What is not ours is never written, whatever happens around it.
func TestForeignServicesAreLeftAlone(t *testing.T) {
	c := cluster.corner(t)
	foreign := []*corev1.Service{
		c.service(t, "other-class", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = ptr.To("example.com/other") }),
		c.service(t, "cluster-ip", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeClusterIP }),
		c.service(t, "node-port", func(svc *corev1.Service) { svc.Spec.Type = corev1.ServiceTypeNodePort }),
	}
	setIngress(t, c.api, foreign[0], "172.30.0.61") // even though a pool will have it

	// Without a class, but somebody else was faster.
	waiting := c.service(t, "somebody-elses")
	c.untilService(t, waiting, assigned, false, "NoPool")
	setIngress(t, c.api, waiting, "203.0.113.9")
	c.until(t, waiting, func() error {
		if meta.FindStatusCondition(waiting.Status.Conditions, assigned) != nil {
			return fmt.Errorf("it has somebody else's address and still %s", told(waiting.Status.Conditions))
		}
		return nil
	})

	c.pool(t, "public", "172.30.0.60-172.30.0.65")
	c.addresses(t, c.service(t, "ours"))
	ours := c.service(t, "our-class", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = ptr.To(v1alpha1.LoadBalancerClass) })
	c.addresses(t, ours)
	if got := fmt.Sprint(ingress(ours)); got != "[172.30.0.62]" {
		t.Errorf("our second Service has %s; 172.30.0.61 is the other controller's", got)
	}
	for _, svc := range foreign {
		before := svc.ResourceVersion
		must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		if svc.ResourceVersion != before {
			t.Errorf("%s was written: %s", svc.Name, told(svc.Status.Conditions))
		}
	}
	must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(waiting), waiting))
	if got := fmt.Sprint(ingress(waiting)); got != "[203.0.113.9]" {
		t.Errorf("the address that somebody else gave became %s", got)
	}
}

func setIngress(t *testing.T, api client.Client, svc *corev1.Service, ips ...string) {
	t.Helper()
	before := svc.DeepCopy()
	for _, ip := range ips {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
	}
	must(t, api.Status().Patch(t.Context(), svc, client.MergeFrom(before)))
}

// An edit of its pool takes nothing away from a Service: not its address, and
// not a single answer.
func TestPoolEditTakesNothingAway(t *testing.T) {
	c := cluster.corner(t)
	pool := c.pool(t, "edited", "172.30.0.60-172.30.0.62")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("edited")})
	web := c.service(t, "web")
	c.backend(t, web, "n1")
	had := c.addresses(t, web)[0]
	served(t, c.Client, had)
	p := c.Client.ProbeUDP(netip.AddrPortFrom(had, 80), patiently)
	defer p.Stop()
	answered(t, p, 20)

	c.change(t, pool, func() { pool.Spec.Addresses = []v1alpha1.AddressRange{"172.30.0.70-172.30.0.72"} })
	c.until(t, pool, func() error {
		want := []v1alpha1.RetiringAddress{{Address: had.String(), Service: c.namespace + "/web"}}
		if !slices.Equal(pool.Status.Retiring, want) {
			return fmt.Errorf("retiring is %v, want %v", pool.Status.Retiring, want)
		}
		return nil
	})
	if got := c.addresses(t, c.service(t, "next"))[0].String(); got != "172.30.0.70" {
		t.Errorf("the next Service got %s, want 172.30.0.70", got)
	}
	c.change(t, web, func() { web.Labels = map[string]string{"a": "b"} }) // so that it is decided anew
	answered(t, p, 100)
	if got := c.addresses(t, web)[0]; got != had {
		t.Errorf("the Service had %s and has %s", had, got)
	}
	r := p.Stop()
	t.Logf("during the edit: %v", r)
	if r.Answered != r.Sent {
		t.Errorf("%d of %d questions were not answered during the edit", r.Sent-r.Answered, r.Sent)
	}

	c.remove(t, web)
	c.until(t, pool, func() error {
		if len(pool.Status.Retiring) > 0 || meta.IsStatusConditionFalse(pool.Status.Conditions, ready) {
			return fmt.Errorf("after the last user has gone: retiring %v, %s", pool.Status.Retiring, told(pool.Status.Conditions))
		}
		return nil
	})
}
