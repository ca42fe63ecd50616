package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// controller starts a controller, which ends with the test.
func (c *corner) controller(t *testing.T) *lab.Process {
	t.Helper()
	p, err := c.StartController(t.Context())
	must(t, err)
	c.controllers = append(c.controllers, p)
	must(t, p.Ready(t.Context()))
	return p
}

// A controller's end and start change nothing for Services that have addresses.
func TestRestartChangesNothing(t *testing.T) {
	c := control.corner(t)
	c.pool(t, "public", "192.0.2.0/28", "2001:db8::/64")
	running := c.controller(t)
	var all []*corev1.Service
	for i := range 10 {
		all = append(all, c.service(t, fmt.Sprintf("web-%d", i), dualStack))
	}
	for i, svc := range all {
		c.addresses(t, svc)
		if i == 0 { // one that does not have what it asks for, any more
			c.change(t, svc, func() { svc.Annotations = map[string]string{v1alpha1.AnnotationLoadBalancerIPs: "203.0.113.1"} })
			c.untilService(t, svc, assigned, false, "AddressNotInPool")
		}
	}
	for i := range 3 {
		svc := c.service(t, fmt.Sprintf("refused-%d", i), annotated(v1alpha1.AnnotationAddressPool, "missing"))
		c.untilService(t, svc, assigned, false, "UnknownPool")
		all = append(all, svc)
	}
	for _, svc := range all[:10] {
		c.untilService(t, svc, announced, false, "NoAdvertisement")
	}
	for _, svc := range all {
		must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
	}

	for _, end := range []struct {
		name string
		how  func(*lab.Process) error
	}{
		{"SIGTERM", func(p *lab.Process) error { return p.Stop(t.Context()) }},
		{"SIGKILL", (*lab.Process).Kill},
	} {
		t.Run(end.name, func(t *testing.T) {
			must(t, end.how(running))
			meanwhile := c.newService("meanwhile-" + strings.ToLower(end.name))
			must(t, c.api.Create(t.Context(), meanwhile))
			running = c.controller(t)
			lab.Eventually(t, 30*time.Second, func() error {
				if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(meanwhile), meanwhile); err != nil {
					return err
				}
				if len(ingress(meanwhile)) != 1 {
					return fmt.Errorf("a Service that was created meanwhile has no address: %s", told(meanwhile.Status.Conditions))
				}
				return nil
			})
			// It came after the others in the queue, or at the same time.
			c.untilService(t, meanwhile, announced, false, "NoAdvertisement")
			for _, svc := range all {
				now := &corev1.Service{}
				must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), now))
				if now.ResourceVersion != svc.ResourceVersion {
					t.Errorf("%s had %v, %s, and has %v, %s", svc.Name, ingress(svc), told(svc.Status.Conditions), ingress(now), told(now.Status.Conditions))
				}
			}
		})
	}
	c.removeServices(t)
}

// What Services have before there is a controller they keep, if a pool has it.
func TestAddressesAreAdopted(t *testing.T) {
	c := control.corner(t)
	c.pool(t, "public", "192.0.2.0/28")
	has := func(name, ip string) *corev1.Service {
		t.Helper()
		svc := c.service(t, name)
		setIngress(t, c.api, svc, ip)
		return svc
	}
	had := has("had", "192.0.2.0") // the one that would be given first
	foreign := has("foreign", "203.0.113.9")
	older := has("z-older", "192.0.2.7")
	nextSecond(t, older)
	younger := has("a-younger", "192.0.2.7")
	fresh := c.service(t, "0-fresh")

	c.controller(t)
	for _, want := range []struct {
		svc *corev1.Service
		ip  string
	}{{had, "192.0.2.0"}, {older, "192.0.2.7"}} {
		c.untilService(t, want.svc, assigned, true, "Assigned", want.ip)
		if got := ingress(want.svc); len(got) != 1 || got[0].String() != want.ip {
			t.Errorf("%s had %s and has %v", want.svc.Name, want.ip, got)
		}
	}
	for _, svc := range []*corev1.Service{younger, fresh} {
		c.untilService(t, svc, assigned, true, "Assigned")
		if got := c.addresses(t, svc)[0].String(); got == "192.0.2.0" || got == "192.0.2.7" {
			t.Errorf("%s has %s, which is another's", svc.Name, got)
		}
	}
	before := foreign.ResourceVersion
	must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(foreign), foreign))
	if foreign.ResourceVersion != before {
		t.Errorf("a Service with an address of no pool was written: %v, %s", ingress(foreign), told(foreign.Status.Conditions))
	}

	// A pool for it comes later, and its address is the one to be given first.
	c.pool(t, "later", "203.0.113.9-203.0.113.10")
	next := c.service(t, "next", annotated(v1alpha1.AnnotationAddressPool, "later"))
	c.untilService(t, foreign, assigned, true, "Assigned", `203.0.113.9 from pool "later"`)
	c.untilService(t, next, assigned, true, "Assigned", `203.0.113.10 from pool "later"`)
	c.remove(t, foreign) // or the pool, which goes before it, would wait
}

// A Service that is being deleted, and held by somebody's finalizer, gives its
// address up before another gets it.
func TestDeletionThatWaitsFreesTheAddress(t *testing.T) {
	c := control.corner(t)
	c.controller(t)
	c.pool(t, "one", "192.0.2.40/32")
	held := c.service(t, "held", func(svc *corev1.Service) { svc.Finalizers = []string{"example.com/cleanup"} })
	c.untilService(t, held, assigned, true, "Assigned", "192.0.2.40")
	waiting := c.service(t, "waiting")
	c.untilService(t, waiting, assigned, false, "Exhausted")

	must(t, c.api.Delete(t.Context(), held))
	c.untilService(t, waiting, assigned, true, "Assigned", "192.0.2.40")
	must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(held), held))
	if got := ingress(held); len(got) != 0 {
		t.Errorf("both have the address: %v", got)
	}
	c.change(t, held, func() { held.Finalizers = nil })
}

// Two controllers, of which the leader is killed in the midst of 200 creations,
// give every Service one address of its own, once.
func TestLeaderDiesWhileServicesAreCreated(t *testing.T) {
	const services, clients = 200, 8
	c := control.corner(t)
	pool := c.pool(t, "public", "10.90.0.0/22")
	use := func(n int64) {
		t.Helper()
		c.until(t, pool, func() error {
			if pool.Status.AssignedIPv4 != n {
				return fmt.Errorf("the pool's status says %d assigned, want %d", pool.Status.AssignedIPv4, n)
			}
			return nil
		})
	}
	pair := newPair(t, c)
	for _, killAfter := range []int64{20, 100, 180} {
		t.Run(fmt.Sprint("killed after ", killAfter), func(t *testing.T) {
			addresses := watchAddresses(t, c)
			leader := pair.leader(t)
			var created atomic.Int64
			var g errgroup.Group
			names := make(chan string, services)
			for i := range services {
				names <- fmt.Sprintf("web-%d-%d", killAfter, i)
			}
			close(names)
			for range clients {
				g.Go(func() error {
					for name := range names {
						if err := c.api.Create(t.Context(), c.newService(name)); err != nil {
							return err
						}
						if created.Add(1) == killAfter {
							if err := leader.Kill(); err != nil {
								return err
							}
						}
					}
					return nil
				})
			}
			must(t, g.Wait())
			killed := time.Now()
			defer c.removeServices(t)
			lab.Eventually(t, 30*time.Second, func() error {
				var list corev1.ServiceList
				must(t, c.api.List(t.Context(), &list, client.InNamespace(c.namespace)))
				var without []string
				for i := range list.Items {
					if svc := &list.Items[i]; len(ingress(svc)) == 0 {
						without = append(without, svc.Name+": "+told(svc.Status.Conditions))
					}
				}
				if len(list.Items) != services || len(without) > 0 {
					return fmt.Errorf("of %d Services %d have no address, such as %q", len(list.Items), len(without), without[:min(3, len(without))])
				}
				return addresses.complete(services)
			})
			t.Logf("all have an address %v after the last was created", time.Since(killed).Round(time.Millisecond))
			use(services)

			var list corev1.ServiceList
			must(t, c.api.List(t.Context(), &list, client.InNamespace(c.namespace)))
			given := map[netip.Addr]string{}
			for i := range list.Items {
				svc := &list.Items[i]
				got := ingress(svc)
				if len(got) != 1 {
					t.Fatalf("%s has %v", svc.Name, got)
				}
				if other, taken := given[got[0]]; taken {
					t.Errorf("%s and %s both have %s", other, svc.Name, got[0])
				}
				given[got[0]] = svc.Name
			}
			for _, moved := range addresses.stop() {
				t.Error(moved)
			}
			pair.replace(t)
		})
		use(0)
	}
}

// pair is two controllers that compete for the lease.
type pair struct {
	c       *corner
	running []*lab.Process
	led     map[string]int // log -> how often its processes had become leader when the last one began
	holder  string         // what the lease calls the leader that was found last
}

func newPair(t *testing.T, c *corner) *pair {
	p := &pair{c: c, running: make([]*lab.Process, 2), led: map[string]int{}}
	for i := range p.running {
		p.start(t, i)
	}
	return p
}

func (p *pair) start(t *testing.T, i int) {
	t.Helper()
	r, err := p.c.StartController(t.Context())
	must(t, err)
	p.running[i] = r
	p.led[r.Log()] = timesLed(t, r)
	p.c.controllers = append(p.c.controllers, r)
	must(t, r.Ready(t.Context()))
}

// leader waits until one of the two leads, and returns it: the one that has said so
// since the lease has its holder, as the other may have led before.
func (p *pair) leader(t *testing.T) *lab.Process {
	t.Helper()
	var found *lab.Process
	lab.Eventually(t, 20*time.Second, func() error {
		lease, err := p.c.leadership()
		if err != nil {
			return err
		}
		p.holder = ptr.Deref(lease.Spec.HolderIdentity, "")
		for _, r := range p.running {
			led := ledAt(t, r)[p.led[r.Log()]:]
			if p.holder != "" && len(led) > 0 && led[len(led)-1].After(lease.Spec.AcquireTime.Time) && r.Signal(0) == nil {
				found = r
				return nil
			}
		}
		return fmt.Errorf("none of the controllers leads, the lease has %q", p.holder)
	})
	return found
}

// replace starts another controller in place of each that ended.
func (p *pair) replace(t *testing.T) {
	t.Helper()
	for i, r := range p.running {
		if r.Signal(0) != nil {
			p.start(t, i)
		}
	}
}

func timesLed(t *testing.T, p *lab.Process) int { return len(ledAt(t, p)) }

// ledAt is when the processes that have that log became leader.
func ledAt(t *testing.T, p *lab.Process) (at []time.Time) {
	t.Helper()
	b, err := os.ReadFile(p.Log())
	must(t, err)
	for line := range bytes.Lines(b) {
		var said struct {
			Time time.Time
			Msg  string
		}
		if json.Unmarshal(line, &said) == nil && said.Msg == "this controller is active" {
			at = append(at, said.Time)
		}
	}
	return at
}

// addressWatch keeps the first address that each Service was seen with.
type addressWatch struct {
	cancel context.CancelFunc
	idle   sync.WaitGroup

	mu    sync.Mutex // guards the fields below
	first map[string]string
	moved []string // what each Service that lost its first address has then
}

// watchAddresses watches all Services of the test. The API server ends watches
// that it finds too slow; another one begins with all there is.
func watchAddresses(t *testing.T, c *corner) *addressWatch {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	a := &addressWatch{cancel: cancel, first: map[string]string{}}
	a.idle.Go(func() {
		for ctx.Err() == nil {
			w, err := c.api.Watch(ctx, &corev1.ServiceList{}, client.InNamespace(c.namespace))
			if err != nil {
				continue // the end of the test, or what the test will find out
			}
			for e := range w.ResultChan() {
				if svc, ok := e.Object.(*corev1.Service); ok && e.Type != watch.Deleted {
					a.see(svc)
				}
			}
		}
	})
	t.Cleanup(func() { a.stop() })
	return a
}

func (a *addressWatch) see(svc *corev1.Service) {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := fmt.Sprint(ingress(svc))
	first, seen := a.first[svc.Name]
	switch {
	case !seen && len(ingress(svc)) > 0:
		a.first[svc.Name] = now
	case seen && now != first:
		a.moved = append(a.moved, fmt.Sprintf("%s had %s, then %s", svc.Name, first, now))
	}
}

// complete returns an error until that many Services were seen with an address.
func (a *addressWatch) complete(services int) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if n := len(a.first); n != services {
		return fmt.Errorf("%d Services were seen with an address, want %d", n, services)
	}
	return nil
}

func (a *addressWatch) stop() (moved []string) {
	a.cancel()
	a.idle.Wait()
	return a.moved
}

// removeServices deletes all Services of the test.
func (c *corner) removeServices(t *testing.T) {
	t.Helper()
	ctx := context.Background()
	var list corev1.ServiceList
	must(t, c.api.List(ctx, &list, client.InNamespace(c.namespace)))
	var g errgroup.Group
	g.SetLimit(8)
	for i := range list.Items {
		g.Go(func() error { return client.IgnoreNotFound(c.api.Delete(ctx, &list.Items[i])) })
	}
	must(t, g.Wait())
}
