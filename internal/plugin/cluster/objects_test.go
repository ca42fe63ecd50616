package cluster

import (
	"context"
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

// What somebody may not read, or is not there, is left out where it is not
// needed, and said.
func TestRead(t *testing.T) {
	forbidden := apierrors.NewForbidden(schema.GroupResource{Resource: "things"}, "", errors.New("no right"))
	for name, c := range map[string]struct {
		list   map[string]error // kind -> why it cannot be listed
		get    error
		unread []string
		err    string
	}{
		"all rights":            {},
		"no lease":              {get: apierrors.NewNotFound(schema.GroupResource{Resource: "leases"}, leaseName)},
		"lease forbidden":       {get: forbidden, unread: []string{"Lease fairlead-system/fairlead-controller"}},
		"optional forbidden":    {list: map[string]error{"Namespaces": forbidden}, unread: []string{"Namespaces"}},
		"old cluster":           {list: map[string]error{"ServiceCIDRs": &meta.NoKindMatchError{}}},
		"needed forbidden":      {list: map[string]error{"Services": forbidden}, err: "list Services: things is forbidden: no right (ask for the right"},
		"Fairlead is not there": {list: map[string]error{"IPAddressPools": &meta.NoKindMatchError{}}, err: "the cluster has no IPAddressPools: is Fairlead installed in it"},
	} {
		t.Run(name, func(t *testing.T) {
			api := fake.NewClientBuilder().WithScheme(kube.NewScheme()).WithObjects(&corev1.Node{}, &v1alpha1.IPAddressPool{}).WithInterceptorFuncs(interceptor.Funcs{
				List: func(ctx context.Context, w client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
					if err := c.list[kindOf(list)]; err != nil {
						return err
					}
					return w.List(ctx, list, opts...)
				},
				Get: func(context.Context, client.WithWatch, client.ObjectKey, client.Object, ...client.GetOption) error {
					return c.get
				},
			}).Build()
			o, err := Read(t.Context(), api, Install{Namespace: "fairlead-system"})
			if c.err != "" {
				if err == nil || !strings.Contains(err.Error(), c.err) {
					t.Fatalf("got %v, want %q", err, c.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(o.Unread) != len(c.unread) {
				t.Fatalf("it says that %q is unread, want %q", o.Unread, c.unread)
			}
			for i, want := range c.unread {
				if !strings.HasPrefix(o.Unread[i], want+":") {
					t.Errorf("it says that %q is unread, want %q", o.Unread[i], want)
				}
			}
			if (o.Lease != nil) != (c.get == nil) {
				t.Errorf("the lease is %v", o.Lease)
			}
		})
	}
}
