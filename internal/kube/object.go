package kube

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// NamespaceLabels returns the labels of a namespace, none for one that the cache
// does not have yet: what is in it is looked at again when it comes.
func NamespaceLabels(ctx context.Context, c client.Reader, name string) (map[string]string, error) {
	var ns corev1.Namespace
	if err := c.Get(ctx, client.ObjectKey{Name: name}, &ns); client.IgnoreNotFound(err) != nil {
		return nil, fmt.Errorf("get namespace %s: %w", name, err)
	}
	return ns.Labels, nil
}

// ChangeFinalizer has change add the finalizer to the object, or remove it, and
// writes that if it is a change. The API server refuses it when the object has
// changed since it was read.
func ChangeFinalizer(ctx context.Context, c client.Client, o client.Object, change func(client.Object, string) bool, finalizer string) error {
	before := o.DeepCopyObject().(client.Object)
	if !change(o, finalizer) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.Patch(ctx, o, patch); err != nil {
		return fmt.Errorf("write finalizers of %s: %w", client.ObjectKeyFromObject(o), err)
	}
	return nil
}
