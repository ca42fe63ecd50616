package claims

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
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
	for _, condition := range c.Status.Conditions {
		// A claim is ready while it keeps addresses, used or not.
		keeps := condition.Reason == v1alpha1.ReasonReserved || condition.Reason == v1alpha1.ReasonBound
		if ready := condition.Status == metav1.ConditionTrue; ready != keeps {
			o.t.Errorf("with the reason %s Ready is %s", condition.Reason, condition.Status)
		}
	}
	out := slices.Concat(c.Status.Addresses, []string{c.Status.Pool, c.Status.BoundTo})
	for _, condition := range c.Status.Conditions {
		out = append(out, condition.Reason)
	}
	return strings.Join(slices.DeleteFunc(out, func(s string) bool { return s == "" }), " "), again
}

// once reconciles a claim one time.
func (o *office) once(c *v1alpha1.IPAddressClaim) error {
	_, err := o.Reconcile(o.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(c)})
	return err
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

// userOf returns a Service that uses the claim.
func userOf(claim string) *corev1.Service {
	svc := controllertest.Service("web")
	svc.Annotations[v1alpha1.AnnotationClaim] = claim
	return svc
}

func expireAfter(ttl time.Duration) func(*v1alpha1.IPAddressClaim) {
	return func(c *v1alpha1.IPAddressClaim) { c.Spec.TTLAfterRelease = &metav1.Duration{Duration: ttl} }
}

func dualStack(c *v1alpha1.IPAddressClaim) {
	c.Spec.Families = []v1alpha1.IPFamily{v1alpha1.IPv4, v1alpha1.IPv6}
}

func TestClaim(t *testing.T) {
	same := claimOf("same", dualStack, func(c *v1alpha1.IPAddressClaim) { c.Spec.Pool = "both" })
	one, both, invalid := claimOf("one"), claimOf("both", dualStack), claimOf("invalid", func(c *v1alpha1.IPAddressClaim) {
		c.Spec.Addresses = []v1alpha1.IPAddress{"nonsense"}
	})
	named := controllertest.Pool("both", "198.51.100.0/24", "2001:db8:1::/124")
	named.Spec.AutoAssign = ptr.To(false)
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), controllertest.Pool("six", "2001:db8::/124"), named, one, both, same, invalid)
	o.expect(both, "of two pools", "192.0.2.0 2001:db8:: lan, six Reserved") // of two of one age the first by name
	o.expect(one, "new", "192.0.2.1 lan Reserved")
	o.expect(same, "of one pool", "198.51.100.0 2001:db8:1:: both Reserved")
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
	user := userOf("kept")
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
	claim := claimOf("kept", expireAfter(time.Hour))
	user := userOf("kept")
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
	elsewhere := claimOf("c")
	elsewhere.Namespace = "other"
	o := open(t, claimOf("a"), claimOf("b"), elsewhere)
	if got := fmt.Sprint(o.claimsIn(t.Context(), controllertest.Namespace())); got != "[shop/a shop/b]" {
		t.Errorf("of a namespace whose labels changed: %v", got)
	}
}

// useAndRelease reconciles a new claim, has a Service use its address, and deletes the Service.
func (o *office) useAndRelease(claim *v1alpha1.IPAddressClaim, user *corev1.Service) {
	o.t.Helper()
	o.expect(claim, "new", "192.0.2.0 lan Reserved")
	o.use(user)
	o.expect(claim, "in use", "192.0.2.0 lan web Bound")
	o.ledger.Gone(kube.Key(user))
	o.expect(claim, "released", "192.0.2.0 lan Reserved")
}

// A claim that is used again does not expire: its time begins with the next release, and is
// rounded up, as the API keeps whole seconds.
func TestUsedAgain(t *testing.T) {
	claim, user := claimOf("kept", expireAfter(time.Hour)), userOf("kept")
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim, user)
	o.useAndRelease(claim, user)
	o.now = o.now.Add(30 * time.Minute)
	o.use(user)
	o.expect(claim, "used again", "192.0.2.0 lan web Bound")
	if at := claim.Status.ReleasedAt; at != nil {
		t.Errorf("a claim in use was released at %v", at)
	}
	o.now = o.now.Add(500 * time.Millisecond)
	o.ledger.Gone(kube.Key(user))
	if got, again := o.reconcile(claim); got != "192.0.2.0 lan Reserved" || again != time.Hour+500*time.Millisecond {
		t.Errorf("released again: %q, again after %v", got, again)
	}
}

// An expired claim that is being deleted is not deleted a second time.
func TestExpiredWhileDeleted(t *testing.T) {
	claim, user := claimOf("kept", expireAfter(time.Hour)), userOf("kept")
	claim.Finalizers = []string{"example.com/hold"}
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim, user)
	o.useAndRelease(claim, user)
	if err := o.api.Delete(t.Context(), claim); err != nil {
		t.Fatal(err)
	}
	o.expect(claim, "deleted", "InUse")
	o.now = o.now.Add(2 * time.Hour)
	writes := o.api.Writes
	if got, again := o.reconcile(claim); got != "InUse" || again != 0 || o.api.Writes != writes {
		t.Errorf("expired: %q, again after %v, %d writes", got, again, o.api.Writes-writes)
	}
}

// What changed after it was read is neither written nor deleted (invariant A1); the watch brings
// the new version.
func TestChangedAfterItWasRead(t *testing.T) {
	t.Run("a status", func(t *testing.T) {
		claim := claimOf("kept", func(c *v1alpha1.IPAddressClaim) { c.Finalizers = []string{v1alpha1.FinalizerClaimInUse} })
		o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim)
		controllertest.ChangeBefore(o.api, "patch status", claim.DeepCopy(), func() {})
		if err := o.once(claim); err != nil {
			t.Error(err)
		}
		if o.api.Read(claim); len(claim.Status.Addresses) > 0 {
			t.Errorf("it was written: %v", claim.Status.Addresses)
		}
		o.expect(claim, "the new version", "192.0.2.0 lan Reserved")
	})
	t.Run("an expired claim that another controller bound", func(t *testing.T) {
		claim, user := claimOf("kept", expireAfter(time.Hour)), userOf("kept")
		o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim, user)
		o.useAndRelease(claim, user)
		o.now = o.now.Add(2 * time.Hour)
		controllertest.ChangeBefore(o.api, "delete", claim.DeepCopy(), func() {})
		if err := o.once(claim); err != nil {
			t.Error(err)
		}
		if o.api.Read(claim); claim.DeletionTimestamp != nil {
			t.Error("it was deleted")
		}
	})
}

// A claim that is gone when its status is written is no error; other failures name the claim.
func TestFailures(t *testing.T) {
	type claimT = *v1alpha1.IPAddressClaim
	down := errors.New("the API server is down")
	gone := apierrors.NewNotFound(schema.GroupResource{Resource: "ipaddressclaims"}, "kept")
	for _, tt := range []struct {
		name string
		fail func(*controllertest.API)
		want string // "" for no error
	}{
		{"restore", func(a *controllertest.API) { controllertest.FailOnce[*v1alpha1.IPAddressPoolList](a, "list", down) }, "restore assignments"},
		{"get", func(a *controllertest.API) { controllertest.FailOnce[claimT](a, "get", down) }, "get IPAddressClaim shop/kept"},
		{"namespace", func(a *controllertest.API) { controllertest.FailOnce[*corev1.Namespace](a, "get", down) }, "shop"},
		{"finalizer", func(a *controllertest.API) { controllertest.FailOnce[claimT](a, "patch", down) }, "write finalizers of shop/kept"},
		{"status", func(a *controllertest.API) { controllertest.FailOnce[claimT](a, "patch status", down) }, "write status of IPAddressClaim shop/kept"},
		{"gone", func(a *controllertest.API) { controllertest.FailOnce[claimT](a, "patch status", gone) }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			claim := claimOf("kept")
			o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim)
			tt.fail(o.api)
			var errs []error
			for range 2 { // the first writes the finalizer
				errs = append(errs, o.once(claim))
			}
			err := errors.Join(errs...)
			o.api.ExpectFailure(err, down, tt.want)
			o.expect(claim, "afterwards", "192.0.2.0 lan Reserved")
		})
	}
	t.Run("delete", func(t *testing.T) {
		claim := claimOf("kept", expireAfter(time.Hour))
		released := metav1.NewTime(controllertest.Now.Add(-2 * time.Hour))
		claim.Status.ReleasedAt = &released
		o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), claim)
		controllertest.FailOnce[claimT](o.api, "delete", down)
		err := errors.Join(o.once(claim), o.once(claim))
		if !errors.Is(err, down) || !strings.Contains(err.Error(), "delete IPAddressClaim shop/kept") {
			t.Errorf("the error is %v", err)
		}
		o.expect(claim, "afterwards", "gone")
	})
}
