package bundle

import (
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// kept are the beginnings of the names of annotations that matter to Fairlead. All
// others are left out: nobody knows what people write there.
var kept = []string{"fairlead.dev/", "metallb.io/", "metallb.universe.tf/", "service.kubernetes.io/", "node.kubernetes.io/"}

// clean returns a copy of the object without what is nobody's business.
func clean(o client.Object, scheme *runtime.Scheme) (client.Object, error) {
	o = o.DeepCopyObject().(client.Object)
	gvk, err := apiutil.GVKForObject(o, scheme)
	if err != nil {
		return nil, err
	}
	o.GetObjectKind().SetGroupVersionKind(gvk) // lists leave it out
	o.SetManagedFields(nil)
	annotations := o.GetAnnotations()
	for name := range annotations {
		if !matters(name) {
			delete(annotations, name)
		}
	}
	o.SetAnnotations(annotations)
	switch o := o.(type) {
	case *corev1.Node:
		o.Status.Images = nil
	case *corev1.Pod:
		strip(o.Spec.Containers)
		strip(o.Spec.InitContainers)
	case *corev1.Secret:
		o.Data, o.StringData = nil, nil // none is read; but if one were
	}
	return o, nil
}

func matters(annotation string) bool {
	for _, prefix := range kept {
		if strings.HasPrefix(annotation, prefix) {
			return true
		}
	}
	return false
}

// strip leaves out values of the environment, in which people put passwords.
func strip(containers []corev1.Container) {
	for i := range containers {
		for j := range containers[i].Env {
			if env := &containers[i].Env[j]; env.Value != "" {
				env.Value = "(left out)"
			}
		}
	}
}
