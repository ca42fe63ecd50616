package importer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
)

// readFiles reads the objects in files of YAML or JSON; "-" is stdin.
func readFiles(files []string, stdin io.Reader) (out []unstructured.Unstructured, err error) {
	for _, name := range files {
		in := stdin
		if name != "-" {
			f, err := os.Open(name)
			if err != nil {
				return nil, err
			}
			defer f.Close()
			in = f
		}
		objects, err := readObjects(in)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		out = append(out, objects...)
	}
	return out, nil
}

// readObjects reads documents, and what is in Lists.
func readObjects(in io.Reader) (out []unstructured.Unstructured, err error) {
	d := yaml.NewYAMLOrJSONDecoder(in, 4096)
	for n := 1; ; n++ {
		var raw map[string]any
		switch err := d.Decode(&raw); {
		case errors.Is(err, io.EOF):
			return out, nil
		case err != nil:
			return nil, fmt.Errorf("document %d: %w", n, err)
		case len(raw) == 0:
			continue
		}
		o := unstructured.Unstructured{Object: raw}
		if o.GetKind() == "" {
			return nil, fmt.Errorf("document %d: it has no kind, so it is no object of Kubernetes", n)
		}
		if !o.IsList() {
			out = append(out, o)
			continue
		}
		err := o.EachListItem(func(item runtime.Object) error {
			out = append(out, *item.(*unstructured.Unstructured))
			return nil
		})
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", n, err)
		}
	}
}

// readCluster reads what a system has in a cluster: the objects of its kinds, in one
// namespace or, if that is empty, in all, and those that it names.
func readCluster(ctx context.Context, api dynamic.Interface, s *system, namespace string) (out []unstructured.Unstructured, err error) {
	served := len(s.kinds) == 0
	for _, versions := range s.kinds {
		list, there, err := listFirst(ctx, api, versions, namespace)
		if err != nil {
			return nil, err
		}
		served = served || there
		out = append(out, list...)
	}
	if !served {
		return nil, fmt.Errorf("this cluster has none of %s's kinds; is it the right one (--context)? Files are read with -f", s.name)
	}
	for _, ref := range s.named(out, namespace) {
		o, err := api.Resource(ref.resource).Namespace(ref.namespace).Get(ctx, ref.name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) || apierrors.IsForbidden(err) && ref.resource == secrets {
			continue // what needs it says so
		}
		if err != nil {
			return nil, fmt.Errorf("read %s %s/%s: %w", ref.resource.Resource, ref.namespace, ref.name, err)
		}
		out = append(out, *o)
	}
	return out, nil
}

// listFirst lists the objects of a kind in the first of its versions that is served.
func listFirst(ctx context.Context, api dynamic.Interface, versions []schema.GroupVersionResource, namespace string) (out []unstructured.Unstructured, served bool, err error) {
	for _, v := range versions {
		list, err := api.Resource(v).Namespace(namespace).List(ctx, metav1.ListOptions{})
		if apierrors.IsNotFound(err) {
			continue
		}
		if err != nil {
			return nil, false, fmt.Errorf("list %s: %w", v.Resource, err)
		}
		return list.Items, true, nil
	}
	return nil, false, nil
}

// oneNamespace refuses objects of several namespaces where the system heeds those
// of one only, as nobody but the user knows which that is.
func oneNamespace(objects []unstructured.Unstructured, group, name string) error {
	var found []string
	for _, o := range objects {
		if ns := o.GetNamespace(); ns != "" && o.GroupVersionKind().Group == group && !slices.Contains(found, ns) {
			found = append(found, ns)
		}
	}
	if len(found) < 2 {
		return nil
	}
	slices.Sort(found)
	return fmt.Errorf("there are objects of %s in namespaces %s, and it heeds only those of the one that it runs in; name that with --namespace", name, strings.Join(found, ", "))
}
