package importer

import (
	"context"
	"errors"
	"fmt"
	"io"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/dynamic"
)

// fieldManager owns what is applied.
const fieldManager = "fairlead-import"

// apply writes the translation to the cluster by server-side apply, and says what
// it did. All is tried first: if one object would be refused, none is written.
func (t *translation) apply(ctx context.Context, api dynamic.Interface, force bool, w io.Writer) error {
	objects, err := t.bare()
	if err != nil {
		return err
	}
	options := metav1.ApplyOptions{FieldManager: fieldManager, Force: force, DryRun: []string{metav1.DryRunAll}}
	var refused []error
	for _, o := range objects {
		if _, err := resource(api, o).Apply(ctx, o.GetName(), o, options); err != nil {
			refused = append(refused, explain(o, err))
		}
	}
	if len(refused) > 0 {
		return fmt.Errorf("nothing was changed: %w", errors.Join(refused...))
	}
	options.DryRun = nil
	n := 0
	for _, i := range t.items {
		if i.object != nil {
			did, err := applyOne(ctx, api, objects[n], options)
			if err != nil {
				return err
			}
			fmt.Fprintf(w, "%s (from %s)\n", did, i.from)
			n++
		}
		for _, r := range i.remarks {
			fmt.Fprintln(w, "  note: "+r)
		}
	}
	for _, r := range t.remarks {
		fmt.Fprintln(w, "note: "+r)
	}
	return nil
}

func (t *translation) bare() (out []*unstructured.Unstructured, err error) {
	for _, i := range t.items {
		if i.object == nil {
			continue
		}
		o, err := bare(i.object)
		if err != nil {
			return nil, err
		}
		out = append(out, o)
	}
	return out, nil
}

// applyOne applies an object and says what became of it, as kubectl does.
func applyOne(ctx context.Context, api dynamic.Interface, o *unstructured.Unstructured, options metav1.ApplyOptions) (string, error) {
	before, err := resource(api, o).Get(ctx, o.GetName(), metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return "", fmt.Errorf("read %s %s: %w", o.GetKind(), o.GetName(), err)
	}
	created := err != nil
	after, err := resource(api, o).Apply(ctx, o.GetName(), o, options)
	if err != nil {
		return "", explain(o, err)
	}
	did := "configured"
	switch {
	case created:
		did = "created"
	case after.GetResourceVersion() == before.GetResourceVersion():
		did = "unchanged"
	}
	_, kind := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	return fmt.Sprintf("%s/%s %s", kind.GroupResource(), o.GetName(), did), nil
}

func resource(api dynamic.Interface, o *unstructured.Unstructured) dynamic.ResourceInterface {
	gvr, _ := meta.UnsafeGuessKindToResource(o.GroupVersionKind())
	return api.Resource(gvr).Namespace(o.GetNamespace())
}

// explain adds to a refusal what to do about it.
func explain(o *unstructured.Unstructured, err error) error {
	switch name := o.GetKind() + " " + o.GetName(); {
	case apierrors.IsNotFound(err):
		return fmt.Errorf("apply %s: %w; is Fairlead installed, and is --fairlead-namespace right?", name, err)
	case apierrors.IsConflict(err):
		return fmt.Errorf("apply %s: %w; it exists, and another field manager wrote it; --force-conflicts overwrites it", name, err)
	default:
		return fmt.Errorf("apply %s: %w", name, err)
	}
}
