package gossipkey

import (
	"bytes"
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/internal/kube"
)

func TestTheSecretIsMadeWheneverItIsNotThere(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		api := fake.NewClientBuilder().Build()
		ctx, end := context.WithCancel(t.Context())
		defer end()
		go func() { _ = New(api, "ns").Start(ctx) }()
		read := func() (s corev1.Secret, key []byte, term uint64) {
			t.Helper()
			time.Sleep(createEvery + time.Second)
			if err := api.Get(ctx, client.ObjectKey{Namespace: "ns", Name: kube.GossipSecret}, &s); err != nil {
				t.Fatal(err)
			}
			keys, term, err := kube.ReadGossip(ctx, api, "ns")
			if err != nil || len(keys) != 1 || len(keys[0]) != keySize || term == 0 {
				t.Fatalf("the Secret has the keys %x and the term %d: %v", keys, term, err)
			}
			return s, keys[0], term
		}
		secret, first, term := read()
		if _, same, _ := read(); !bytes.Equal(same, first) {
			t.Error("a Secret that is there was made again")
		}
		if err := api.Delete(ctx, &secret); err != nil {
			t.Fatal(err)
		}
		if _, second, later := read(); bytes.Equal(second, first) || later <= term {
			t.Errorf("after the Secret was deleted the key is the same, or the term is %d, and was %d", later, term)
		}
	})
}

// A Secret that cannot be created is tried again sooner than one that is there.
func TestCreatingFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var tries atomic.Int32
		api := interceptor.NewClient(fake.NewClientBuilder().Build(), interceptor.Funcs{
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				if tries.Add(1) < 3 {
					return errors.New("away")
				}
				return c.Create(ctx, o, opts...)
			},
		})
		ctx, end := context.WithCancel(t.Context())
		done := make(chan error, 1)
		c := New(api, "ns")
		go func() { done <- c.Start(ctx) }()
		time.Sleep(2*retryEvery + time.Millisecond)
		synctest.Wait()
		if got := tries.Load(); got != 3 {
			t.Errorf("%d tries within %v, want 3", got, 2*retryEvery)
		}
		var s corev1.Secret
		if err := api.Get(ctx, client.ObjectKey{Namespace: "ns", Name: kube.GossipSecret}, &s); err != nil {
			t.Error(err)
		}
		time.Sleep(3 * createEvery)
		synctest.Wait()
		if got := tries.Load() - 3; got != 3 {
			t.Errorf("%d tries within %v while the Secret is there, want 3", got, 3*createEvery)
		}
		end()
		if err := <-done; err != nil {
			t.Errorf("%s ends with %v", c.Name(), err)
		}
	})
}
