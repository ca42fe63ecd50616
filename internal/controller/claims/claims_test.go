package claims

import (
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
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
	o := &office{api: controllertest.NewAPI(t, append(objects, controllertest.Namespace())...), t: t, now: controllertest.Now}
	clock := func() time.Time { return o.now }
	o.Controller = New(o.api, ledger.New(o.api, kube.Class{Classless: true}, clock), clock)
	return o
}

func claimOf(name string, change ...func(*v1alpha1.IPAddressClaim)) *v1alpha1.IPAddressClaim {
	c := &v1alpha1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, CreationTimestamp: metav1.NewTime(controllertest.Now)}}
	for _, f := range change {
		f(c)
	}
	return c
}

// reconcile brings a claim in line, twice as its finalizer brings it again, and returns its
// addresses, pools, user and the reason of its condition.
func (o *office) reconcile(c *v1alpha1.IPAddressClaim) (state string, again time.Duration) {
	o.t.Helper()
	for range 2 {
		result, err := o.Reconcile(o.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(c)})
		if err != nil {
			o.t.Fatal(err)
		}
		again = result.RequeueAfter
	}
	if o.api.Gone(c) {
		return "gone", again
	}
	o.api.Read(c)
	out := slices.Concat(c.Status.Addresses, []string{c.Status.Pool, c.Status.BoundTo})
	for _, condition := range c.Status.Conditions {
		out = append(out, condition.Reason)
	}
	return strings.Join(slices.DeleteFunc(out, func(s string) bool { return s == "" }), " "), again
}

func (o *office) expect(c *v1alpha1.IPAddressClaim, why, want string) {
	o.t.Helper()
	if got, _ := o.reconcile(c); got != want {
		o.t.Errorf("%s: got %q, want %q", why, got, want)
	}
}

// use has a Service take the addresses of its claim, as the assign controller does.
func (o *office) use(svc *corev1.Service) {
	o.t.Helper()
	if err := o.ledger.Restore(o.t.Context()); err != nil {
		o.t.Fatal(err)
	}
	req, err := kube.Request(svc, nil)
	if err != nil {
		o.t.Fatal(err)
	}
	if d, _ := o.ledger.Decide(svc, req); !d.Met {
		o.t.Fatalf("the Service has no address: %s", d)
	}
	o.ledger.Written(req.Holder)
}

func dualStack(c *v1alpha1.IPAddressClaim) {
	c.Spec.Families = []v1alpha1.IPFamily{v1alpha1.IPv4, v1alpha1.IPv6}
}

func TestClaim(t *testing.T) {
	one, both, invalid := claimOf("one"), claimOf("both", dualStack), claimOf("invalid", func(c *v1alpha1.IPAddressClaim) {
		c.Spec.Addresses = []v1alpha1.IPAddress{"nonsense"}
	})
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), controllertest.Pool("six", "2001:db8::/124"), one, both, invalid)
	o.expect(both, "of two pools", "192.0.2.0 2001:db8:: lan, six Reserved") // of two of one age the first by name
	o.expect(one, "new", "192.0.2.1 lan Reserved")
	if !slices.Equal(both.Status.Pools, []string{"lan", "six"}) {
		t.Errorf("the pools are %v", both.Status.Pools)
	}
	o.expect(invalid, "an address that cannot be parsed", "Invalid")
	writes := o.api.Writes
	o.expect(one, "again", "192.0.2.1 lan Reserved")
	if o.api.Writes != writes {
		t.Errorf("nothing has changed, and %d writes were made", o.api.Writes-writes)
	}
	absent := claimOf("absent", func(c *v1alpha1.IPAddressClaim) { c.Spec.Pool = "missing" })
	if err := o.api.Create(t.Context(), absent); err != nil {
		t.Fatal(err)
	}
	o.expect(absent, "a pool that is not there", "UnknownPool")
}

// A claim that a Service uses is deleted when the Service is gone.
func TestDeletedClaimWaitsForItsUser(t *testing.T) {
	claim := claimOf("kept")
	user := controllertest.Service("web")
	user.Annotations[v1alpha1.AnnotationClaim] = "kept"
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim, user)
	o.expect(claim, "new", "192.0.2.0 lan Reserved")
	o.use(user)
	o.expect(claim, "in use", "192.0.2.0 lan web Bound")
	if err := o.api.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	o.expect(claim, "deleted while in use", "192.0.2.0 lan web InUse")
	o.ledger.Gone(kube.Key(user))
	o.expect(claim, "its user is gone", "gone")
	o.expect(claim, "afterwards", "gone")
	if got := o.ledger.Holds(kube.ClaimHolder(claim)); len(got) > 0 {
		t.Errorf("it still has %v", got)
	}
}

// A claim expires after the time that it is kept for, but not while a Service uses it.
func TestExpiry(t *testing.T) {
	claim := claimOf("kept", func(c *v1alpha1.IPAddressClaim) { c.Spec.TTLAfterRelease = &metav1.Duration{Duration: time.Hour} })
	user := controllertest.Service("web")
	user.Annotations[v1alpha1.AnnotationClaim] = "kept"
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim, user)
	o.expect(claim, "new", "192.0.2.0 lan Reserved")
	o.use(user)
	if got, again := o.reconcile(claim); got != "192.0.2.0 lan web Bound" || again != 0 {
		t.Errorf("in use: %q, again after %v", got, again)
	}
	o.ledger.Gone(kube.Key(user))
	if got, again := o.reconcile(claim); got != "192.0.2.0 lan Reserved" || again != time.Hour {
		t.Errorf("released: %q, again after %v", got, again)
	}
	o.now = o.now.Add(time.Hour - time.Second)
	if got, again := o.reconcile(claim); got != "192.0.2.0 lan Reserved" || again != time.Second {
		t.Errorf("a second before: %q, again after %v", got, again)
	}
	o.now = o.now.Add(time.Second)
	o.expect(claim, "an hour later", "gone")
}

// A deleted claim whose finalizer is another's keeps nothing.
func TestDeletedClaimThatAnotherHolds(t *testing.T) {
	claim := claimOf("kept", func(c *v1alpha1.IPAddressClaim) { c.Finalizers = []string{"example.com/hold"} })
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim)
	o.expect(claim, "new", "192.0.2.0 lan Reserved")
	if err := o.api.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	o.expect(claim, "deleted", "InUse")
	if !slices.Equal(claim.Finalizers, []string{"example.com/hold"}) {
		t.Errorf("the finalizers are %v", claim.Finalizers)
	}
}

func TestClaimsIn(t *testing.T) {
	o := open(t, claimOf("a"), claimOf("b"))
	if got := o.claimsIn(t.Context(), controllertest.Namespace()); len(got) != 2 {
		t.Errorf("of a namespace whose labels changed: %v", got)
	}
}
