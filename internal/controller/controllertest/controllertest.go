// Package controllertest is for tests of controllers: an API server in memory, and objects
// for it.
package controllertest

import (
	"context"
	"encoding/json"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/strategicpatch"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

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

	t *testing.T
}

// NewAPI returns an API server that has these objects.
func NewAPI(t *testing.T, objects ...client.Object) *API {
	a := &API{t: t, FakeRecorder: events.NewFakeRecorder(100)}
	a.Client = fake.NewClientBuilder().WithScheme(kube.NewScheme()).WithObjects(objects...).
		WithStatusSubresource(&v1alpha1.IPAddressPool{}, &v1alpha1.IPAddressClaim{}, &v1alpha1.L2Advertisement{}, &v1alpha1.BGPAdvertisement{}, &v1alpha1.BGPPeer{}, &v1alpha1.Speaker{}).
		WithInterceptorFuncs(interceptor.Funcs{
			SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
				a.Writes++
				if svc, ok := o.(*corev1.Service); ok {
					return patchService(ctx, c, svc, p)
				}
				return c.SubResource(sub).Patch(ctx, o, p, opts...)
			},
			Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
				a.Writes++
				return c.Patch(ctx, o, p, opts...)
			},
			Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
				a.Writes++
				return c.Delete(ctx, o, opts...)
			},
		}).Build()
	return a
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
