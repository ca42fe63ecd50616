package poolstatus

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
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
	o.expect(pool, "new", "Accepted", "in force")
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
	o.expect(pool, "edited", "Invalid", "spec.addresses[0]", "stays in force")
	if pool.Status.AvailableIPv4 != 256 {
		t.Errorf("available are %d", pool.Status.AvailableIPv4)
	}
}

// Addresses that nodes have, and a host that answers for every address, are reported.
func TestWithheldAddresses(t *testing.T) {
	node := &corev1.Node{Status: corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}}}
	node.Name = "n1"
	pool := controllertest.Pool("lan", "192.0.2.0/29")
	o := open(t, pool, node)
	o.expect(pool, "a node has one", "Accepted", "in force; not assigned: 192.0.2.1")
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
		if err != nil || result.RequeueAfter != writeEvery && result.RequeueAfter != 0 {
			t.Errorf("%+v, %v", result, err)
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
