package ui

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

// reporter is who tells events about Services.
const reporter = "fairlead-controller"

// patience is how long the API server may take to answer what is asked of it directly.
const patience = 3 * time.Second

// live is the cluster as watches keep it: each kind is watched from the first time
// that it is listed. Single objects are asked for anew each time, which also shows
// whether the API server is there.
type live struct {
	client.Reader // asks the API server
	watches       cache.Cache
	changed       notify.Signal

	mu    sync.Mutex
	known map[reflect.Type]bool // types of the lists that are answered from watches
}

// newLive returns the cluster. Nothing is watched before its watches run.
func newLive(cfg *rest.Config) (*live, error) {
	scheme := kube.NewScheme()
	direct, err := client.New(cfg, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	watches, err := cache.New(cfg, cache.Options{
		Scheme: scheme, DefaultTransform: cache.TransformStripManagedFields(),
		ByObject: map[client.Object]cache.ByObject{&corev1.Event{}: {Field: fields.OneTermEqualSelector("reportingComponent", reporter)}},
		// It is tried again, and the page says that the API server is away.
		DefaultWatchErrorHandler: func(context.Context, *toolscache.Reflector, error) {},
	})
	if err != nil {
		return nil, fmt.Errorf("watch the cluster: %w", err)
	}
	return &live{Reader: direct, watches: watches, changed: notify.New(), known: map[reflect.Type]bool{}}, nil
}

// Get asks the API server for an object.
func (l *live) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return l.Reader.Get(ctx, key, o, opts...)
}

// List lists what is watched, sorted. What may not be read is an error each time: a
// watch of it would be waited for in vain.
func (l *live) List(ctx context.Context, list client.ObjectList, opts ...client.ListOption) error {
	l.mu.Lock()
	known := l.known[reflect.TypeOf(list)]
	l.mu.Unlock()
	if !known {
		if err := l.watch(ctx, list); err != nil {
			return err
		}
	}
	if err := l.watches.List(ctx, list, opts...); err != nil {
		return err
	}
	return sortList(list)
}

// watch begins to watch what is in the list.
func (l *live) watch(ctx context.Context, list client.ObjectList) error {
	if err := l.try(ctx, list); err != nil {
		return err
	}
	gvk, err := apiutil.GVKForObject(list, kube.NewScheme())
	if err != nil {
		return err
	}
	gvk.Kind = strings.TrimSuffix(gvk.Kind, "List")
	informer, err := l.watches.GetInformerForKind(ctx, gvk)
	if err != nil {
		return err
	}
	_, err = informer.AddEventHandler(toolscache.ResourceEventHandlerFuncs{
		AddFunc: func(any) { l.changed.Poke() }, UpdateFunc: func(_, _ any) { l.changed.Poke() }, DeleteFunc: func(any) { l.changed.Poke() },
	})
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.known[reflect.TypeOf(list)] = true
	return nil
}

// try finds out whether what is in the list may be read.
func (l *live) try(ctx context.Context, list client.ObjectList) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return l.Reader.List(ctx, list, client.Limit(1))
}

// sortList sorts a list by namespace and name, as an API server does.
func sortList(list client.ObjectList) error {
	objects, err := meta.ExtractList(list)
	if err != nil {
		return err
	}
	key := func(o runtime.Object) string {
		m, err := meta.Accessor(o)
		if err != nil {
			return ""
		}
		return m.GetNamespace() + "/" + m.GetName()
	}
	slices.SortFunc(objects, func(x, y runtime.Object) int { return strings.Compare(key(x), key(y)) })
	return meta.SetList(list, objects)
}
