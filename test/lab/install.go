package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/util/yaml"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Install installs Fairlead's kinds, roles and namespace from config/, without
// starting anything, and waits until the API server serves the kinds.
func (l *Lab) Install(ctx context.Context) error {
	repo, err := repository()
	if err != nil {
		return err
	}
	api, err := l.API()
	if err != nil {
		return err
	}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: Namespace}}
	if err := client.IgnoreAlreadyExists(api.Create(ctx, namespace)); err != nil {
		return fmt.Errorf("install: %w", err)
	}
	crds, err := l.apply(ctx, api, filepath.Join(repo, "config", "crd"))
	if err != nil {
		return fmt.Errorf("install: %w", err)
	}
	if _, err := l.apply(ctx, api, filepath.Join(repo, "config", "rbac")); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("install: %w", err)
	}
	for _, crd := range crds {
		if err := waitEstablished(ctx, api, crd); err != nil {
			return fmt.Errorf("install: %w", err)
		}
	}
	return nil
}

// Chart is the path of Fairlead's Helm chart, for Helm.
func Chart() (string, error) {
	repo, err := repository()
	return filepath.Join(repo, "charts", "fairlead"), err
}

// Apply creates or updates what a YAML file says, or all YAML files in a folder
// and below, as `kubectl apply --server-side` does.
func (l *Lab) Apply(ctx context.Context, path string) error {
	api, err := l.API()
	if err != nil {
		return err
	}
	_, err = l.apply(ctx, api, path)
	return err
}

func (l *Lab) apply(ctx context.Context, api client.Client, path string) ([]*unstructured.Unstructured, error) {
	var objects []*unstructured.Unstructured
	err := filepath.WalkDir(path, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		switch ext := filepath.Ext(file); {
		case ext != ".yaml" && ext != ".yml", d.Name() == "kustomization.yaml":
			return nil
		}
		read, err := readObjects(file)
		objects = append(objects, read...)
		return err
	})
	if err != nil {
		return nil, err
	}
	for _, o := range objects {
		name := o.GetKind() + " " + o.GetName()
		if namespaced, err := api.IsObjectNamespaced(o); err == nil && namespaced && o.GetNamespace() == "" {
			o.SetNamespace(metav1.NamespaceDefault) // as kubectl does
		}
		err := api.Apply(ctx, client.ApplyConfigurationFromUnstructured(o), client.FieldOwner("fairlead-lab"), client.ForceOwnership)
		if err != nil {
			return nil, fmt.Errorf("apply %s: %w", name, err)
		}
	}
	return objects, nil
}

func readObjects(file string) ([]*unstructured.Unstructured, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var objects []*unstructured.Unstructured
	decoder := yaml.NewYAMLOrJSONDecoder(f, 4096)
	for {
		o := &unstructured.Unstructured{}
		err := decoder.Decode(&o.Object)
		if errors.Is(err, io.EOF) {
			return objects, nil
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		if len(o.Object) > 0 { // a document may be nothing but a comment
			objects = append(objects, o)
		}
	}
}

func waitEstablished(ctx context.Context, api client.Client, crd *unstructured.Unstructured) error {
	err := poll(ctx, func(ctx context.Context) (bool, error) {
		now := &unstructured.Unstructured{}
		now.SetGroupVersionKind(crd.GroupVersionKind())
		if err := api.Get(ctx, client.ObjectKeyFromObject(crd), now); err != nil {
			return false, err
		}
		conditions, _, _ := unstructured.NestedSlice(now.Object, "status", "conditions")
		for _, c := range conditions {
			if c, ok := c.(map[string]any); ok && c["type"] == "Established" && c["status"] == "True" {
				return true, nil
			}
		}
		return false, errors.New("not established yet")
	})
	if err != nil {
		return fmt.Errorf("kind %s: %w", crd.GetName(), err)
	}
	return nil
}
