package ui

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/internal/kube"
)

// An API server that takes a question and does not answer is as one that is away.
func TestPatience(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := interceptor.NewClient(fake.NewClientBuilder().WithScheme(kube.NewScheme()).Build(), interceptor.Funcs{
			Get: func(ctx context.Context, _ client.WithWatch, _ client.ObjectKey, _ client.Object, _ ...client.GetOption) error {
				<-ctx.Done()
				return ctx.Err()
			},
			List: func(ctx context.Context, _ client.WithWatch, _ client.ObjectList, _ ...client.ListOption) error {
				<-ctx.Done()
				return ctx.Err()
			},
		})
		l := &live{Reader: api}
		if err := l.Get(t.Context(), client.ObjectKey{Name: "lease"}, &coordinationv1.Lease{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("a Lease: %v", err)
		}
		if err := l.List(t.Context(), &corev1.NamespaceList{}); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Namespaces: %v", err)
		}
	})
}

// Watches keep objects in no order; a document of another order would be another.
func TestSortList(t *testing.T) {
	list := &corev1.ServiceList{}
	for _, key := range [][2]string{{"b", "a"}, {"a", "c"}, {"a", "b"}} {
		list.Items = append(list.Items, corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: key[0], Name: key[1]}})
	}
	if err := sortList(list); err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{"a/b", "a/c", "b/a"} {
		if got := kube.Key(&list.Items[i]).String(); got != want {
			t.Errorf("at %d there is %s, want %s", i, got, want)
		}
	}
}
