package poolstatus

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/allocator"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

type office struct {
	*Controller
	api *controllertest.API
	t   *testing.T
	now time.Time
}

func open(t *testing.T, objects ...client.Object) *office {
	t.Helper()
	o := &office{api: controllertest.NewAPI(t, objects...), t: t, now: controllertest.Now}
	clock := func() time.Time { return o.now }
	o.Controller = New(o.api, ledger.New(o.api, kube.Class{Classless: true}, clock), o.api, clock)
	return o
}

// reconcile brings a pool in line after a second, and returns its Ready condition's reason
// and message.
func (o *office) reconcile(p *v1alpha1.IPAddressPool) (reason, message string) {
	o.t.Helper()
	o.now = o.now.Add(writeEvery)
	for range 2 { // its finalizer brings it again
		if _, err := o.Reconcile(o.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)}); err != nil {
			o.t.Fatal(err)
		}
	}
	if o.api.Gone(p) {
		return "gone", ""
	}
	o.api.Read(p)
	ready := meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
	if ready == nil {
		return "", ""
	}
	return ready.Reason, ready.Message
}

func (o *office) expect(p *v1alpha1.IPAddressPool, why, want string, words ...string) {
	o.t.Helper()
	reason, message := o.reconcile(p)
	if reason != want {
		o.t.Errorf("%s: the reason is %q (%s), want %q", why, reason, message, want)
	}
	for _, w := range words {
		if !strings.Contains(message, w) {
			o.t.Errorf("%s: the message is %q, want %q in it", why, message, w)
		}
	}
}

// edit changes a pool's spec as a user does.
func (o *office) edit(p *v1alpha1.IPAddressPool, change func(*v1alpha1.IPAddressPoolSpec)) {
	o.t.Helper()
	o.api.Change(p, func() { change(&p.Spec); p.Generation++ })
}

func TestPoolInUse(t *testing.T) {
	pool, svc := controllertest.Pool("lan", "192.0.2.0/30"), controllertest.Service("web", "192.0.2.1")
	o := open(t, pool, svc)
	o.expect(pool, "new", "Accepted", "active")
	if s := pool.Status; s.AssignedIPv4 != 1 || s.AvailableIPv4 != 3 {
		t.Errorf("assigned %d, available %d", s.AssignedIPv4, s.AvailableIPv4)
	}
	if !slices.Contains(pool.Finalizers, v1alpha1.FinalizerPoolInUse) {
		t.Errorf("a pool in use has the finalizers %v", pool.Finalizers)
	}
	writes := o.api.Writes
	o.expect(pool, "again", "Accepted")
	if o.api.Writes != writes {
		t.Errorf("nothing has changed, and %d writes were made", o.api.Writes-writes)
	}

	o.edit(pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"192.0.2.4/30"} })
	o.expect(pool, "edited", "Accepted", "1 addresses in use are no longer in spec.addresses")
	if r := pool.Status.Retiring; len(r) != 1 || r[0].Address != "192.0.2.1" || r[0].Service != "shop/web" {
		t.Errorf("retiring is %v", r)
	}
	if got := o.api.Recorded(); len(got) != 1 || !strings.Contains(got[0], "192.0.2.1") {
		t.Errorf("events %q", got)
	}

	if err := o.api.Delete(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	o.expect(pool, "deleted while in use", "InUse", "shop/web")
	o.ledger.Gone(kube.Key(svc))
	o.expect(pool, "its user is gone", "gone")
}

func TestPoolThatGivesNothing(t *testing.T) {
	older := controllertest.Pool("older", "192.0.2.0/24")
	for _, tt := range []struct {
		name   string
		change func(*v1alpha1.IPAddressPool)
		want   string
		words  string
	}{
		{"overlap", func(p *v1alpha1.IPAddressPool) {
			p.CreationTimestamp.Time = controllertest.Now
			p.Spec.Addresses = []v1alpha1.AddressRange{"192.0.2.9/32"}
		}, "Overlap", `older pool "older"`},
		{"disabled", func(p *v1alpha1.IPAddressPool) { p.Spec.Disabled = true }, "Disabled", "spec.disabled"},
		{"invalid", func(p *v1alpha1.IPAddressPool) { p.Spec.Addresses = []v1alpha1.AddressRange{"nonsense"} }, "Invalid", "spec.addresses[0]"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pool := controllertest.Pool("lan", "198.51.100.0/24")
			tt.change(pool)
			o := open(t, older.DeepCopy(), pool)
			o.expect(pool, tt.name, tt.want, tt.words)
		})
	}
}

// A pool that becomes invalid stays in force as it was.
func TestPoolThatBecomesInvalid(t *testing.T) {
	pool := controllertest.Pool("lan", "192.0.2.0/24")
	o := open(t, pool)
	o.expect(pool, "new", "Accepted")
	o.edit(pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"nonsense"} })
	o.expect(pool, "edited", "Invalid", "spec.addresses[0]", "stays in effect")
	if pool.Status.AvailableIPv4 != 256 {
		t.Errorf("available are %d", pool.Status.AvailableIPv4)
	}
}

// A pool that is invalid when the controller starts keeps the status that an earlier controller
// wrote: Restore reads from it which addresses retire.
func TestPoolInvalidFromTheStart(t *testing.T) {
	pool := controllertest.Pool("lan", "nonsense")
	pool.Status.AssignedIPv4 = 1
	pool.Status.Retiring = []v1alpha1.RetiringAddress{{Address: "192.0.2.1", Service: "shop/web"}}
	o := open(t, pool, controllertest.Service("web", "192.0.2.1"))
	o.expect(pool, "invalid from the start", "Invalid", "spec.addresses[0]")
	if pool.Status.AssignedIPv4 != 1 || len(pool.Status.Retiring) != 1 {
		t.Errorf("the status is %+v", pool.Status)
	}
}

// Addresses that nodes have are reported, the first few by name.
func TestWithheldAddresses(t *testing.T) {
	node := &corev1.Node{}
	node.Name = "n1"
	for i := range 5 {
		node.Status.Addresses = append(node.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("192.0.2.%d", i+1)})
	}
	pool := controllertest.Pool("lan", "192.0.2.0/29")
	o := open(t, pool, node)
	o.expect(pool, "a node has five", "Accepted", "active; not assigned: 192.0.2.1 (", "192.0.2.3 (", "and 2 more")
}

// The status is written at most once a second.
func TestWritesAreLimited(t *testing.T) {
	pool, svc := controllertest.Pool("lan", "192.0.2.0/24"), controllertest.Service("web", "192.0.2.1")
	o := open(t, pool, svc)
	o.expect(pool, "new", "Accepted")
	o.ledger.Gone(kube.Key(svc))
	req := reconcile.Request{NamespacedName: client.ObjectKeyFromObject(pool)}
	for range 2 {
		result, err := o.Reconcile(t.Context(), req)
		if err != nil || result.RequeueAfter != writeEvery {
			t.Errorf("again after %v, %v; want %v", result.RequeueAfter, err, writeEvery)
		}
	}
	if o.api.Read(pool); pool.Status.AssignedIPv4 != 1 {
		t.Errorf("within a second the status was written again: assigned are %d", pool.Status.AssignedIPv4)
	}
	o.expect(pool, "a second later", "Accepted")
	if pool.Status.AssignedIPv4 != 0 {
		t.Errorf("assigned are %d", pool.Status.AssignedIPv4)
	}
}

// once reconciles a pool one time.
func (o *office) once(p *v1alpha1.IPAddressPool) error {
	_, err := o.Reconcile(o.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(p)})
	return err
}

// assign has the Service assigned an address, and reports whether it was.
func (o *office) assign(svc *corev1.Service) bool {
	o.t.Helper()
	req, err := kube.Request(svc, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	d, _ := o.ledger.Decide(svc, req)
	o.ledger.Written(req.Holder)
	return d.Met
}

// A pool is in use by IPv6 addresses too.
func TestPoolInUseIPv6(t *testing.T) {
	svc := controllertest.Service("web", "2001:db8::1")
	svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	pool := controllertest.Pool("lan", "2001:db8::/64")
	o := open(t, pool, svc)
	o.expect(pool, "new", "Accepted")
	if !slices.Contains(pool.Finalizers, v1alpha1.FinalizerPoolInUse) {
		t.Errorf("a pool in use has the finalizers %v", pool.Finalizers)
	}
	if s := pool.Status; s.AssignedIPv6 != 1 || s.AvailableIPv6 <= 0 {
		t.Errorf("assigned %d, available %d", s.AssignedIPv6, s.AvailableIPv6)
	}
}

// The status is bounded: it lists so many retiring addresses, and counts to what an int64 holds.
func TestSetUsageIsBounded(t *testing.T) {
	u := allocator.Usage{
		Available: map[lb.Family]uint64{lb.IPv4: 7, lb.IPv6: math.MaxUint64},
		Retiring:  make([]allocator.Retiring, v1alpha1.MaxRetiring+1),
	}
	var s v1alpha1.IPAddressPoolStatus
	setUsage(&s, u)
	if len(s.Retiring) != v1alpha1.MaxRetiring || s.AvailableIPv4 != 7 || s.AvailableIPv6 != math.MaxInt64 {
		t.Errorf("%d retiring, %d and %d available", len(s.Retiring), s.AvailableIPv4, s.AvailableIPv6)
	}
}

// An event on the Service says that its address retires, once.
func TestRetiringEvents(t *testing.T) {
	pool, web, mail, late := controllertest.Pool("lan", "192.0.2.0/24"), controllertest.Service("web", "192.0.2.1"), controllertest.Service("mail", "192.0.2.2"), controllertest.Service("late")
	o := open(t, pool, web, mail)
	o.expect(pool, "new", "Accepted")
	events := func(why string, want ...string) {
		t.Helper()
		got := o.api.Recorded()
		slices.Sort(got)
		if !slices.EqualFunc(got, want, strings.Contains) {
			t.Errorf("%s: the events are %q, want %q", why, got, want)
		}
	}
	events("nothing retires")
	o.edit(pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"192.0.2.2-192.0.2.9"} })
	o.expect(pool, "edited", "Accepted", "1 addresses in use")
	events("one retires", "Retiring No longer in pool \"lan\": 192.0.2.1;")
	o.edit(pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Addresses = []v1alpha1.AddressRange{"192.0.2.4/30"} })
	o.expect(pool, "edited again", "Accepted", "2 addresses in use")
	events("another retires", ": 192.0.2.2;")
	if !o.assign(late) {
		t.Fatal("no address is free")
	}
	o.expect(pool, "its status changes", "Accepted")
	events("the same two retire")
}

// A foreign host that answers for every address of the pool is reported.
func TestHostAnswersAll(t *testing.T) {
	const mac = "02:00:5e:00:53:01"
	pool := controllertest.Pool("lan", "192.0.2.0/24")
	o := open(t, pool)
	o.expect(pool, "new", "Accepted")
	for i := range 3 {
		svc := controllertest.Service(fmt.Sprintf("web-%d", i))
		if !o.assign(svc) {
			t.Fatal("no address is free")
		}
		o.ledger.Conflict(o.ledger.Holds(kube.Key(svc).Holder())[0].Addr, mac)
	}
	o.expect(pool, "it answered for three", "HostAnswersAll", mac)
}

// A pool that is being deleted assigns nothing new, and gets no finalizer: the API server
// refuses one.
func TestDeletedPool(t *testing.T) {
	pool, svc, late := controllertest.Pool("lan", "192.0.2.0/24"), controllertest.Service("web"), controllertest.Service("late")
	pool.Finalizers = []string{"example.com/hold"}
	o := open(t, pool)
	o.expect(pool, "new", "Accepted")
	if !o.assign(svc) {
		t.Fatal("no address is free")
	}
	if err := o.api.Delete(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	o.expect(pool, "deleted", "InUse", "shop/web")
	if !slices.Equal(pool.Finalizers, []string{"example.com/hold"}) {
		t.Errorf("the finalizers are %v", pool.Finalizers)
	}
	if o.assign(late) {
		t.Error("a pool that is being deleted assigned an address")
	}
	o.ledger.Gone(kube.Key(svc))
	o.expect(pool, "its user is gone", "InUse", "waits for example.com/hold")
}

// A pool created again with the name of one that was deleted has its status written at once, and
// of a deleted one nothing is kept.
func TestRecreatedPool(t *testing.T) {
	pool := controllertest.Pool("lan", "192.0.2.0/24")
	o := open(t, pool)
	o.expect(pool, "new", "Accepted")
	if err := o.api.Delete(t.Context(), pool); err != nil {
		t.Fatal(err)
	}
	if err := o.once(pool); err != nil {
		t.Fatal(err)
	}
	if len(o.seen) > 0 {
		t.Errorf("of a deleted pool is kept: %v", o.seen)
	}
	again := controllertest.Pool("lan", "192.0.2.0/24")
	if err := o.api.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	if err := o.once(again); err != nil {
		t.Fatal(err)
	}
	if o.api.Read(again); meta.FindStatusCondition(again.Status.Conditions, v1alpha1.ConditionReady) == nil {
		t.Error("its status was not written")
	}
}

// Pools are listed when one's spec changed, not when one's use did.
func TestPoolsAreListedOnceForEachChange(t *testing.T) {
	pool := controllertest.Pool("lan", "192.0.2.0/24")
	o := open(t, pool)
	o.expect(pool, "new", "Accepted")
	lists := 0
	o.api.Hook = func(verb string, _ runtime.Object) error {
		if verb == "list" {
			lists++
		}
		return nil
	}
	o.expect(pool, "again", "Accepted")
	if lists != 0 {
		t.Errorf("nothing has changed, and pools were listed %d times", lists)
	}
	o.edit(pool, func(s *v1alpha1.IPAddressPoolSpec) { s.Disabled = true })
	o.expect(pool, "edited", "Disabled")
	if lists != 1 {
		t.Errorf("pools were listed %d times", lists)
	}
}

// A pool whose use changes is queued.
func TestUseQueuesThePool(t *testing.T) {
	pool, svc := controllertest.Pool("lan", "192.0.2.0/24"), controllertest.Service("web")
	o := open(t, pool)
	o.expect(pool, "new", "Accepted")
	q := workqueue.NewTypedRateLimitingQueue(workqueue.DefaultTypedControllerRateLimiter[reconcile.Request]())
	defer q.ShutDown()
	if err := o.hearUse(t.Context(), q); err != nil {
		t.Fatal(err)
	}
	if q.Len() != 0 {
		t.Fatalf("%d pools are queued", q.Len())
	}
	if !o.assign(svc) {
		t.Fatal("no address is free")
	}
	if q.Len() != 1 {
		t.Fatalf("%d pools are queued, want 1", q.Len())
	}
	if got, _ := q.Get(); got.Name != "lan" {
		t.Errorf("queued is %v", got)
	}
}

// A pool that changed or went after it was read is no error, as the watch brings what is there
// now; other failures name the pool.
func TestFailures(t *testing.T) {
	type poolT = *v1alpha1.IPAddressPool
	down := errors.New("the API server is down")
	for _, tt := range []struct {
		name string
		fail func(*controllertest.API, poolT)
		want string // "" for no error
	}{
		{"restore", func(a *controllertest.API, _ poolT) {
			controllertest.FailOnce[*v1alpha1.IPAddressClaimList](a, "list", down)
		}, "restore assignments"},
		{"get", func(a *controllertest.API, _ poolT) { controllertest.FailOnce[poolT](a, "get", down) }, "get IPAddressPool lan"},
		{"finalizer", func(a *controllertest.API, _ poolT) { controllertest.FailOnce[poolT](a, "patch", down) }, "write finalizers of /lan"},
		{"status", func(a *controllertest.API, _ poolT) { controllertest.FailOnce[poolT](a, "patch status", down) }, "write status of IPAddressPool lan"},
		{"changed", func(a *controllertest.API, p poolT) { controllertest.ChangeBefore(a, "patch", p.DeepCopy(), func() {}) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			pool, svc := controllertest.Pool("lan", "192.0.2.0/24"), controllertest.Service("web", "192.0.2.1")
			o := open(t, pool, svc)
			tt.fail(o.api, pool)
			err := o.once(pool)
			o.api.ExpectFailure(err, down, tt.want)
			o.expect(pool, "afterwards", "Accepted")
			if !slices.Contains(pool.Finalizers, v1alpha1.FinalizerPoolInUse) {
				t.Errorf("afterwards the finalizers are %v", pool.Finalizers)
			}
		})
	}
}
