package e2e

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// overwriteStatus runs another controller that wants other addresses in the Service's
// status: it overwrites status.loadBalancer whenever somebody else has written it, until
// stop is called. writes counts how often.
func (c *corner) overwriteStatus(t *testing.T, svc *corev1.Service, ips ...string) (writes *atomic.Int32, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	writes = &atomic.Int32{}
	done := make(chan struct{})
	name := svc.Name // svc itself is read again by the test meanwhile
	w, err := c.api.Watch(ctx, &corev1.ServiceList{}, client.InNamespace(svc.Namespace))
	must(t, err)
	go func() {
		defer close(done)
		for e := range w.ResultChan() {
			s, ok := e.Object.(*corev1.Service)
			if !ok || s.Name != name || len(s.Status.LoadBalancer.Ingress) == len(ips) && (len(ips) == 0 || s.Status.LoadBalancer.Ingress[0].IP == ips[0]) {
				continue
			}
			before := s.DeepCopy()
			s.Status.LoadBalancer.Ingress = nil
			for _, ip := range ips {
				s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: ip})
			}
			if c.api.Status().Patch(ctx, s, client.MergeFrom(before), client.FieldOwner("svclb")) == nil {
				writes.Add(1)
			}
		}
	}()
	stop = func() {
		cancel()
		w.Stop()
		<-done
	}
	t.Cleanup(stop)
	return writes, stop
}

// Another controller that overwrites the status again and again, or clears it, withdraws
// no address: the Service says who it is, once by an event, and the status is restored
// less and less often. A controller that starts meanwhile assigns the same address.
func TestAnotherControllerOverwritesTheStatus(t *testing.T) {
	c := cluster.corner(t)
	c.apply(t, layer2)
	for _, tt := range []struct {
		name string
		ips  []string
		who  string
	}{
		{"replaced", []string{"198.51.100.9"}, `field manager "svclb"`},
		{"cleared", nil, "another controller"}, // the API server records no manager of a field that is gone
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := c.service(t, tt.name, func(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol} })
			c.backend(t, svc, "n1")
			c.untilService(t, svc, announced, true, "Announced")
			a := c.addresses(t, svc)[0]
			owner := c.owner(t, a)
			seen, err := c.Observer.WatchNeighbour(a)
			must(t, err)
			defer seen.Stop()
			onlyOwner(t, seen, soon)

			began := time.Now()
			writes, stop := c.overwriteStatus(t, svc, tt.ips...)
			c.untilService(t, svc, assigned, false, "StatusOverwritten", a.String(), tt.who, "spec.loadBalancerClass")
			const rounds = 6 // the last three of them after 1, 2 and 4 s
			lab.Eventually(t, 30*time.Second, func() error {
				if n := writes.Load(); n < rounds {
					return fmt.Errorf("the other controller wrote %d times, want %d", n, rounds)
				}
				return nil
			})
			if took := time.Since(began); took < 3*time.Second {
				t.Errorf("the status was restored %d times within %v", rounds, took)
			}
			if got := seen.Answering(time.Since(began)); len(got) != 1 || got[0] != owner {
				t.Errorf("%v answered for %s since then, want %s alone", got, a, owner)
			}
			if gap := seen.Gap(began); gap > 200*time.Millisecond {
				t.Errorf("nobody answered for %s for %v", a, gap)
			}
			c.untilEvents(t, svc, v1alpha1.EventConflict, "overwrites status.loadBalancer")
			if n := len(c.events(t, svc, v1alpha1.EventReleased)); n > 0 {
				t.Errorf("%d events say that the address was released", n)
			}

			must(t, c.Process("controller").Kill())
			c.reviveController(t)
			lab.Eventually(t, 30*time.Second, func() error {
				if n := writes.Load(); n <= rounds {
					return errors.New("the new controller has not restored the status")
				}
				return nil
			})
			stop()
			c.until(t, svc, func() error {
				if got := ingress(svc); len(got) != 1 || got[0] != a {
					return fmt.Errorf("the status has %v, want %s", got, a)
				}
				return nil
			})
			if got := onlyOwner(t, seen, soon); got != owner {
				t.Errorf("%s moved from %s to %s", a, owner, got)
			}
		})
	}
}
