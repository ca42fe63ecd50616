package assign

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/metrics"
)

// office is the controller over an API server.
type office struct {
	*Controller
	api *controllertest.API
	t   *testing.T
}

func open(t *testing.T, objects ...client.Object) *office {
	t.Helper()
	api := controllertest.NewAPI(t, append(objects, controllertest.Namespace())...)
	class := kube.Class{Name: v1alpha1.LoadBalancerClass, Classless: true}
	book := ledger.New(api, class, time.Now)
	return &office{New(api, api, book, class, api, metrics.NewController(prometheus.NewRegistry())), api, t}
}

// reconcile brings a Service in line, and returns its addresses and the reason of its
// condition.
func (o *office) reconcile(svc *corev1.Service) string {
	o.t.Helper()
	if _, err := o.Reconcile(o.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(svc)}); err != nil {
		o.t.Fatal(err)
	}
	if o.api.Gone(svc) {
		return "gone"
	}
	o.api.Read(svc)
	var out []string
	for _, in := range svc.Status.LoadBalancer.Ingress {
		out = append(out, in.IP)
	}
	if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAddressAssigned); c != nil {
		out = append(out, c.Reason)
	}
	return strings.Join(out, " ")
}

func (o *office) expect(svc *corev1.Service, why, want string) {
	o.t.Helper()
	if got := o.reconcile(svc); got != want {
		o.t.Errorf("%s: got %q, want %q", why, got, want)
	}
}

func (o *office) expectEvents(why string, want ...string) {
	o.t.Helper()
	got := o.api.Recorded()
	if !slices.EqualFunc(got, want, strings.HasPrefix) {
		o.t.Errorf("%s: events %q, want %q", why, got, want)
	}
}

func TestAssign(t *testing.T) {
	svc := controllertest.Service("web")
	o := open(t, controllertest.Pool("lan", "192.0.2.0/31"), svc)
	o.expect(svc, "new", "192.0.2.0 Assigned")
	o.expectEvents("new", "Normal Assigned Assigned 192.0.2.0 from pool")
	if e, ok := kube.RecordOf(svc).Of(kube.IngressAddresses(svc)[0]); !ok || e.Pool != "lan" {
		t.Errorf("recorded is %+v", kube.RecordOf(svc))
	}
	writes := o.api.Writes
	o.expect(svc, "again", "192.0.2.0 Assigned")
	o.expectEvents("again")
	if o.api.Writes != writes {
		t.Errorf("nothing has changed, and %d writes were made", o.api.Writes-writes)
	}

	o.api.Change(svc, func() { svc.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = "192.0.2.1" })
	o.expect(svc, "another address", "192.0.2.1 Assigned")
	o.expectEvents("another address", "Normal Assigned Assigned 192.0.2.1", "Normal Released Gave up 192.0.2.0")

	o.api.Change(svc, func() { svc.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = "nonsense" })
	o.expect(svc, "a request that cannot be parsed", "192.0.2.1 InvalidRequest")
	o.expectEvents("a request that cannot be parsed", "Warning AssignmentFailed annotation fairlead.dev/loadBalancerIPs")
	o.expect(svc, "the same again", "192.0.2.1 InvalidRequest")
	o.expectEvents("the same again")

	o.api.Change(svc, func() { svc.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = "198.51.100.1" })
	o.expect(svc, "an address of no pool", "192.0.2.1 AddressNotInPool")
	o.expectEvents("an address of no pool", "Warning AssignmentFailed")

	o.api.Change(svc, func() { svc.Spec.LoadBalancerClass = ptr.To("example.com/other") })
	o.expect(svc, "another class", "")
	o.expectEvents("another class", "Normal Released")
	if text, there := svc.Annotations[v1alpha1.AnnotationAssignment]; there {
		t.Errorf("the record stays: %s", text)
	}

	if err := o.api.Delete(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	o.expect(svc, "deleted", "gone")
}

// The address of a deleted Service goes to the one that waits.
func TestDeletedServiceFreesItsAddress(t *testing.T) {
	first, second := controllertest.Service("first", "192.0.2.1"), controllertest.Service("second")
	o := open(t, controllertest.Pool("lan", "192.0.2.1/32"), first, second)
	o.expect(first, "the first", "192.0.2.1 Assigned")
	o.expect(second, "the second", "Exhausted")
	o.api.Recorded()
	o.expect(second, "the same again", "Exhausted")
	o.expectEvents("the same again")
	if err := o.api.Delete(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	o.expect(first, "the first, deleted", "gone")
	o.expect(second, "the second", "192.0.2.1 Assigned")
	o.expectEvents("the second", "Normal Assigned")
}

// Of two Services with one address the younger is given another, and an event says why.
func TestConflict(t *testing.T) {
	older, younger := controllertest.Service("older", "192.0.2.1"), controllertest.Service("younger", "192.0.2.1")
	older.CreationTimestamp = metav1.NewTime(controllertest.Now.Add(-time.Hour))
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), older, younger)
	o.expect(younger, "the younger", "192.0.2.0 Assigned")
	o.expectEvents("the younger", "Normal Assigned", "Normal Released", "Warning Conflict Cannot keep 192.0.2.1")
	o.expect(older, "the older", "192.0.2.1 Assigned")
}

// A Service with an address that is not ours is not touched; if it asks for Fairlead, its
// condition says why.
func TestForeignAddress(t *testing.T) {
	foreign := controllertest.Service("foreign", "198.51.100.1")
	asking := controllertest.Service("asking", "198.51.100.2")
	asking.Annotations[v1alpha1.AnnotationAddressPool] = "lan"
	classed := controllertest.Service("classed", "198.51.100.3")
	classed.Spec.LoadBalancerClass = ptr.To(v1alpha1.LoadBalancerClass)
	o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), foreign, asking, classed)
	o.expect(foreign, "it does not ask for Fairlead", "198.51.100.1")
	if o.api.Writes != 0 {
		t.Errorf("it was written %d times", o.api.Writes)
	}
	o.expect(asking, "by an annotation", "198.51.100.2 ForeignAddress")
	o.expectEvents("by an annotation") // the condition alone says it
	o.expect(classed, "by its class", "198.51.100.3 ForeignAddress")
	o.api.Change(classed, func() { classed.Spec.LoadBalancerClass = ptr.To("example.com/other") })
	o.expect(classed, "it no longer asks", "198.51.100.3")

	waiting := controllertest.Service("waiting")
	waiting.Annotations[v1alpha1.AnnotationAddressPool] = "missing"
	if err := o.api.Create(t.Context(), waiting); err != nil {
		t.Fatal(err)
	}
	o.expect(waiting, "it waits", "UnknownPool")
	o.api.Read(waiting)
	waiting.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.4"}}
	if err := o.api.Status().Update(t.Context(), waiting); err != nil {
		t.Fatal(err)
	}
	o.expect(waiting, "another controller assigned an address meanwhile", "198.51.100.4 ForeignAddress")
}

// A status that another controller overwrites is restored three times at once, then with
// delays, and one event names the conflict; whether the Service's request is valid or not.
func TestOverwrittenStatus(t *testing.T) {
	for _, tt := range []struct{ name, address, before string }{
		{"a valid request", "192.0.2.0", "192.0.2.0 Assigned"},
		{"an invalid request", "nonsense", "192.0.2.0 InvalidRequest"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := controllertest.Service("web")
			o := open(t, controllertest.Pool("lan", "192.0.2.0/24"), svc)
			o.expect(svc, "new", "192.0.2.0 Assigned")
			o.api.Change(svc, func() { svc.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = tt.address })
			o.expect(svc, "with an annotation", tt.before)
			o.api.Recorded()
			for i := range quickRewrites {
				o.overwrite(svc)
				want := tt.before
				if i == quickRewrites-1 {
					want = "192.0.2.0 StatusOverwritten"
				}
				o.expect(svc, "overwritten", want)
			}
			o.expectEvents("overwritten", "Warning Conflict another controller overwrites status.loadBalancer")
			o.overwrite(svc)
			writes := o.api.Writes
			result, err := o.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(svc)})
			if err != nil || result.RequeueAfter <= 0 || result.RequeueAfter > minRewriteDelay || o.api.Writes != writes {
				t.Errorf("once more: %+v, %v, %d writes; want it to be restored within %v", result, err, o.api.Writes-writes, minRewriteDelay)
			}

			// What the event suggests.
			o.api.Change(svc, func() { svc.Spec.LoadBalancerClass = ptr.To("example.com/other") })
			o.expect(svc, "it is left to the other controller", "198.51.100.1")
			o.expectEvents("it is left to the other controller", "Normal Released")
		})
	}
}

// overwrite has another controller replace the Service's address.
func (o *office) overwrite(svc *corev1.Service) {
	o.t.Helper()
	o.api.Read(svc)
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "198.51.100.1"}}
	if err := o.api.Status().Update(o.t.Context(), svc); err != nil {
		o.t.Fatal(err)
	}
}

func TestWatches(t *testing.T) {
	lan := controllertest.Pool("lan", "192.0.2.0/24")
	svc, plain := controllertest.Service("web"), controllertest.Service("plain")
	plain.Spec.Type = corev1.ServiceTypeClusterIP
	o := open(t, lan, svc, plain)
	q := &controllertest.Queue{}
	o.observe(svc, q)
	o.observe(plain, q)
	o.observe(lan, q)
	if queued := q.Take(); queued != "web" {
		t.Errorf("queued are %q", queued)
	}
	requests := o.servicesIn(t.Context(), controllertest.Namespace())
	if len(requests) != 1 || requests[0].Name != "web" {
		t.Errorf("of a namespace whose labels changed: %v", requests)
	}
}
