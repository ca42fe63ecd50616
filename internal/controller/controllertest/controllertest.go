// Package controllertest is for tests of controllers: an API server in memory, and objects
// for it.
package controllertest

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

// Now is the time in tests.
var Now = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// API is an API server in memory.
type API struct {
	client.Client
	*events.FakeRecorder

	Writes int // patches and deletions so far
	// Hook, if set, runs before each "get", "list", "patch", "patch status" and "delete". An error
	// is the outcome of the call. It may change the object that the call is about, as another
	// client does between a read and a write.
	Hook func(verb string, o runtime.Object) error

	t *testing.T
}

// NewAPI returns an API server that has these objects.
func NewAPI(t *testing.T, objects ...client.Object) *API {
	return NewIndexedAPI(t, func(*fake.ClientBuilder) {}, objects...)
}

// NewIndexedAPI is NewAPI for a controller that lists by the indexes which index adds.
func NewIndexedAPI(t *testing.T, index func(*fake.ClientBuilder), objects ...client.Object) *API {
	a := &API{t: t, FakeRecorder: events.NewFakeRecorder(100)}
	b := fake.NewClientBuilder().WithScheme(kube.NewScheme()).WithObjects(objects...)
	index(b)
	a.Client = b.
		WithStatusSubresource(&v1alpha1.IPAddressPool{}, &v1alpha1.IPAddressClaim{}, &v1alpha1.L2Advertisement{}, &v1alpha1.BGPAdvertisement{}, &v1alpha1.BGPPeer{}, &v1alpha1.Speaker{}).
		WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if err := a.hook("get", o); err != nil {
					return err
				}
				return c.Get(ctx, key, o, opts...)
			},
			List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
				if err := a.hook("list", list); err != nil {
					return err
				}
				return c.List(ctx, list, opts...)
			},
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				a.Writes++
				if err := a.hook("patch status", o); err != nil {
					return err
				}
				if svc, ok := o.(*corev1.Service); ok {
					return patchService(ctx, c, svc, p)
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				a.Writes++
				if err := a.hook("patch", o); err != nil {
					return err
				}
				return c.Patch(ctx, o, p, opts...)
			},
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				a.Writes++
				if err := a.hook("delete", o); err != nil {
					return err
				}
				return c.Delete(ctx, o, opts...)
			},
		}).Build()
	return a
}

func (a *API) hook(verb string, o runtime.Object) error {
	if a.Hook == nil {
		return nil
	}
	return a.Hook(verb, o)
}

// FailOnce makes the next call with this verb about an object of this type fail with err.
func FailOnce[T runtime.Object](a *API, verb string, err error) {
	a.Hook = func(v string, o runtime.Object) error {
		if _, ok := o.(T); !ok || v != verb {
			return nil
		}
		a.Hook = nil
		return err
	}
}

// ExpectFailure checks the outcome of a reconciliation during which the call that FailOnce chose
// failed with cause: err is nil if want is "", and otherwise wraps cause and has the text want.
func (a *API) ExpectFailure(err, cause error, want string) {
	a.t.Helper()
	if a.Hook != nil {
		a.t.Fatal("the call that should fail was not made")
	}
	if (err == nil) != (want == "") || err != nil && (!errors.Is(err, cause) || !strings.Contains(err.Error(), want)) {
		a.t.Errorf("the error is %v, want %q", err, want)
	}
}

// Queue is a controller's queue that only takes requests.
type Queue struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	names []string
}

// Add adds a request.
func (q *Queue) Add(r reconcile.Request) { q.names = append(q.names, r.Name) }

// Take returns the names of the objects that were added since the last call, sorted and separated
// by spaces.
func (q *Queue) Take() string {
	defer func() { q.names = nil }()
	slices.Sort(q.names)
	return strings.Join(q.names, " ")
}

// ChangeBefore makes another client change the object, once, just before the next call with
// this verb about an object of its type.
func ChangeBefore[T client.Object](a *API, verb string, o T, change func()) {
	a.Hook = func(v string, about runtime.Object) error {
		if _, ok := about.(T); !ok || v != verb {
			return nil
		}
		a.Hook = nil
		a.Change(o, change)
		return nil
	}
}

// patchService is a patch of a Service's status as the real API server does it: it takes
// annotations too, which the client in memory would drop.
func patchService(ctx context.Context, c client.Client, svc *corev1.Service, p client.Patch) error {
	data, err := p.Data(svc)
	if err != nil {
		return err
	}
	var now, next corev1.Service
	if err := c.Get(ctx, client.ObjectKeyFromObject(svc), &now); err != nil {
		return err
	}
	var wants metav1.PartialObjectMetadata
	if err := json.Unmarshal(data, &wants); err != nil {
		return err
	}
	if v := wants.ResourceVersion; v != "" && v != now.ResourceVersion {
		return apierrors.NewConflict(schema.GroupResource{Resource: "services"}, svc.Name, nil)
	}
	before, err := json.Marshal(now)
	if err != nil {
		return err
	}
	after, err := strategicpatch.StrategicMergePatch(before, data, corev1.Service{})
	if err != nil {
		return err
	}
	if err := json.Unmarshal(after, &next); err != nil {
		return err
	}
	status := next.Status
	if err := c.Update(ctx, &next); err != nil {
		return err
	}
	next.Status = status
	if err := c.Status().Update(ctx, &next); err != nil {
		return err
	}
	next.DeepCopyInto(svc)
	return nil
}

// Read reads an object again, and fails the test if it is not there.
func (a *API) Read(o client.Object) {
	a.t.Helper()
	if err := a.Get(a.t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
		a.t.Fatal(err)
	}
}

// Gone reports whether an object is no longer there.
func (a *API) Gone(o client.Object) bool {
	a.t.Helper()
	return apierrors.IsNotFound(a.Get(a.t.Context(), client.ObjectKeyFromObject(o), o.DeepCopyObject().(client.Object)))
}

// Change changes an object as a user does.
func (a *API) Change(o client.Object, change func()) {
	a.t.Helper()
	a.Read(o)
	change()
	if err := a.Update(a.t.Context(), o); err != nil {
		a.t.Fatal(err)
	}
}

// Recorded returns the events since the last call, such as "Normal Assigned …".
func (a *API) Recorded() (out []string) {
	for {
		select {
		case e := <-a.Events:
			out = append(out, e)
		default:
			return out
		}
	}
}

// Pool returns a pool of these addresses.
func Pool(name string, addresses ...v1alpha1.AddressRange) *v1alpha1.IPAddressPool {
	return &v1alpha1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(Now.Add(-time.Hour)), Generation: 1},
		Spec:       v1alpha1.IPAddressPoolSpec{Addresses: addresses},
	}
}

// Service returns a LoadBalancer Service of the namespace shop with these addresses in its
// status.
func Service(name string, addrs ...string) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: "shop", Name: name, UID: types.UID(name), CreationTimestamp: metav1.NewTime(Now.Add(-time.Minute)), Annotations: map[string]string{},
		},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	for _, a := range addrs {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	return svc
}

// Namespace returns the namespace shop.
func Namespace() *corev1.Namespace {
	return &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "shop", Labels: map[string]string{"team": "web"}}}
}
