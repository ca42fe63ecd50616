package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// creators is how many clients create, and delete, Services at once.
const creators = 32

// patience is how long a burst may take before it counts as stuck.
const patience = 10 * time.Minute

// BenchmarkBurst creates many Services at once, three times over: while nothing
// gives addresses ("alone": what the API server takes for itself), while the
// least program that could does ("bare": the limit for any controller), and
// while Fairlead does ("all"). On a machine where API server, controller and
// clients share the processors, only the ratios say something about Fairlead, and
// the lag: how long after the creation returned the address was seen.
//
// The lab is a control plane without nodes, so that nothing but the controller
// listens to the Services. Fairlead then also says in each Service's status
// that no node announces it, as it says with nodes which one does.
//
// The 2,000 Services are as a user writes them. The node ports would not do for
// 10,000, so those do without in all three phases; that makes creating them
// cheaper, as the API server has one object to count all node ports. The two
// sizes are not to be compared with each other: for every cluster IP that it
// allocates, the API server counts all that it has allocated before.
//
// The phases run one after the other, so nothing else may be busy on the machine
// meanwhile, or the ratios are worth nothing.
func BenchmarkBurst(b *testing.B) {
	for _, size := range []struct {
		services  int
		nodePorts bool
	}{{2000, true}, {10000, false}} {
		b.Run(fmt.Sprint(size.services), func(b *testing.B) {
			l, c := installed(b, lab.Options{ControlPlaneOnly: true})
			f := &flood{b: b, lab: l, c: c, services: size.services, nodePorts: size.nodePorts}
			f.warm()
			var all []metrics
			for b.Loop() {
				all = append(all, f.compare())
			}
			reportMedians(b, all)
		})
	}
}

// metrics are figures by their unit.
type metrics map[string]float64

// reportMedians reports the median of each figure.
func reportMedians(b *testing.B, runs []metrics) {
	for unit := range runs[0] {
		var values []float64
		for _, m := range runs {
			values = append(values, m[unit])
		}
		slices.Sort(values)
		b.ReportMetric(values[len(values)/2], unit)
	}
}

// flood is a number of Services that are created at once.
type flood struct {
	b         *testing.B
	lab       *lab.Lab
	c         client.WithWatch
	services  int
	nodePorts bool
}

// warm lets the API server's heap and connections grow, which the first phase
// would have to pay for.
func (f *flood) warm() {
	small := *f
	small.services = min(f.services/2, 2000)
	small.alone()
	f.deleteAll()
}

// compare runs the three phases.
func (f *flood) compare() metrics {
	alone := f.alone()
	f.deleteAll()
	bare := f.bare()
	f.deleteAll()
	all := f.fairlead()
	return metrics{
		"alone-s":      alone.total.Seconds(),
		"bare-s":       bare.total.Seconds(),
		"all-s":        all.total.Seconds(),
		"bare/alone":   bare.total.Seconds() / alone.total.Seconds(),
		"all/alone":    all.total.Seconds() / alone.total.Seconds(),
		"alone-p50-ms": quantile(alone.each, 0.5),
		"bare-p50-ms":  quantile(bare.each, 0.5),
		"bare-lag-ms":  quantile(bare.lag, 0.5),
		"lag-ms":       quantile(all.lag, 0.5),
		"p50-ms":       quantile(all.each, 0.5),
		"max-ms":       quantile(all.each, 1),
	}
}

// outcome is how long a phase took.
type outcome struct {
	total time.Duration   // from the first creation sent to the last done
	each  []time.Duration // the same for each Service
	lag   []time.Duration // from the return of the creation to the address
}

// alone is done with a Service when its creation returns.
func (f *flood) alone() outcome {
	start := time.Now()
	sent, returned := f.create(f.b.Context(), "alone")
	return measure(start, sent, returned, returned)
}

// bare asks as the user that Fairlead's controller is: what a user may do, and
// how long it has to wait in the API server, is not the same for all.
func (f *flood) bare() outcome {
	ctx, cancel := context.WithCancel(f.b.Context())
	defer cancel()
	c, err := client.NewWithWatch(f.lab.REST(lab.Controller), client.Options{Scheme: kube.NewScheme()})
	if err != nil {
		f.b.Fatal(err)
	}
	if err := serveBare(ctx, c, f.b.Logf); err != nil {
		f.b.Fatal(err)
	}
	return f.answered("bare")
}

// fairlead runs a controller for the phase, and stops it when it has taken back
// all that it gave.
func (f *flood) fairlead() outcome {
	p, err := f.lab.StartController(f.b.Context())
	if err != nil {
		f.b.Fatal(err)
	}
	if err := awaitWorking(f.b.Context(), f.c); err != nil {
		f.b.Fatal(err)
	}
	out := f.answered("fairlead")
	f.deleteAll()
	awaitUnused(f.b, f.c)
	if err := p.Stop(f.b.Context()); err != nil {
		f.b.Fatal(err)
	}
	return out
}

// answered is done with a Service when a watch has shown its address.
func (f *flood) answered(prefix string) outcome {
	ctx, cancel := context.WithTimeout(f.b.Context(), patience)
	defer cancel()
	wait := follow(ctx, f.b, f.c)
	var seen sightings
	var err error
	var watching sync.WaitGroup
	watching.Go(func() { seen, err = wait(f.services) })
	start := time.Now()
	sent, returned := f.create(ctx, prefix)
	watching.Wait()
	if err != nil {
		f.b.Fatal(err)
	}
	return measure(start, sent, returned, seen)
}

// measure compares when each was sent, and returned, with when it was done.
func measure(start time.Time, sent, returned, done sightings) outcome {
	var out outcome
	for name, at := range done {
		out.total = max(out.total, at.Sub(start))
		out.each = append(out.each, at.Sub(sent[name]))
		out.lag = append(out.lag, max(0, at.Sub(returned[name])))
	}
	return out
}

// create creates the Services and tells when each creation was sent, and when
// it returned.
func (f *flood) create(ctx context.Context, prefix string) (sent, returned sightings) {
	sent, returned = sightings{}, sightings{}
	var mu sync.Mutex
	note := func(in sightings, name string) {
		mu.Lock()
		defer mu.Unlock()
		in[name] = time.Now()
	}
	each(f.services, func(i int) {
		svc := service(fmt.Sprintf("%s-%d", prefix, i))
		if !f.nodePorts {
			svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		}
		note(sent, svc.Name)
		if err := f.c.Create(ctx, svc); err != nil {
			f.b.Error(err)
		}
		note(returned, svc.Name)
	})
	return sent, returned
}

// deleteAll deletes all load balancers of the default namespace.
func (f *flood) deleteAll() {
	var list corev1.ServiceList
	if err := f.c.List(f.b.Context(), &list, client.InNamespace("default")); err != nil {
		f.b.Fatal(err)
	}
	each(len(list.Items), func(i int) {
		svc := &list.Items[i]
		if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
			return
		}
		if err := f.c.Delete(f.b.Context(), svc); client.IgnoreNotFound(err) != nil {
			f.b.Error(err)
		}
	})
}

// each calls do with the numbers below n, by as many clients as there are.
func each(n int, do func(i int)) {
	numbers := make(chan int)
	var clients sync.WaitGroup
	for range creators {
		clients.Go(func() {
			for i := range numbers {
				do(i)
			}
		})
	}
	for i := range n {
		numbers <- i
	}
	close(numbers)
	clients.Wait()
}

// awaitWorking waits until the controller gives an address: until it leads, and
// has read what there is. Its probe says neither.
func awaitWorking(ctx context.Context, c client.Client) error {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	svc := service("first")
	svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
	if err := c.Create(ctx, svc); err != nil {
		return err
	}
	for len(kube.IngressAddresses(svc)) == 0 {
		if err := c.Get(ctx, client.ObjectKeyFromObject(svc), svc); err != nil {
			return err
		}
		time.Sleep(50 * time.Millisecond)
	}
	return c.Delete(ctx, svc)
}

// awaitUnused waits until the controller has taken all addresses back.
func awaitUnused(b *testing.B, c client.Client) {
	b.Helper()
	lab.Eventually(b, patience, func() error {
		var pool v1alpha1.IPAddressPool
		if err := c.Get(b.Context(), client.ObjectKey{Name: "bench"}, &pool); err != nil {
			return err
		}
		if n := pool.Status.AssignedIPv4; n > 0 {
			return fmt.Errorf("%d addresses are in use", n)
		}
		return nil
	})
}

// bareWorkers is as many as Fairlead's controller has.
const bareWorkers = 16

// serveBare gives each Service an address until the context ends, and does no
// more for that than nobody could do without: one watch, and one patch of the
// same kind and size as Fairlead's. It decides nothing, caches nothing and
// forgets at once.
func serveBare(ctx context.Context, c client.WithWatch, logf func(string, ...any)) error {
	events, err := changes(ctx, c)
	if err != nil {
		return err
	}
	var given atomic.Uint32
	first := binary.BigEndian.Uint32([]byte{10, 201, 0, 0})
	for range bareWorkers {
		go func() {
			for e := range events {
				if e.Type != watch.Added {
					continue
				}
				addr := netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, first+given.Add(1))))
				if err := giveBare(ctx, c, e.Object.(*corev1.Service), addr); err != nil && ctx.Err() == nil {
					logf("bare: %v", err)
				}
			}
		}()
	}
	return nil
}

// giveBare writes what Fairlead would write.
func giveBare(ctx context.Context, c client.Client, svc *corev1.Service, addr netip.Addr) error {
	d := lb.Decision{Grants: []lb.Grant{{Addr: addr, Pool: "bench"}}, Met: true}
	after := svc.DeepCopy()
	kube.SetIngress(after, d.Addresses())
	kube.SetCondition(&after.Status.Conditions, v1alpha1.ConditionAddressAssigned, d.Met, d.Reason().String(), d.String(), svc.Generation)
	return c.Status().Patch(ctx, after, client.StrategicMergeFrom(svc, client.MergeFromWithOptimisticLock{}))
}
