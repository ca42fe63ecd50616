package mirror

import (
	"context"
	"sync"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	toolscache "k8s.io/client-go/tools/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
)

// +kubebuilder:rbac:groups="",resources=services;nodes,verbs=list;watch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools;l2advertisements;bgpadvertisements;bgppeers;bfdprofiles;communities,verbs=list;watch
// +kubebuilder:rbac:groups="",namespace=fairlead-system,resources=secrets,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers,verbs=list;watch

// Follow keeps the Cluster in line with the API server until ctx ends: with every
// kind that it is made of; of Secrets, those in the namespace of the install. When
// the first lists are in it closes w.listed.
func (w *Cluster) Follow(ctx context.Context, api client.WithWatch, conn *apiconn.Conn, namespace string) {
	secrets := []client.ListOption{
		client.InNamespace(namespace),
		client.MatchingFieldsSelector{Selector: fields.ParseSelectorOrDie("type!=helm.sh/release.v1,type!=kubernetes.io/service-account-token")},
	}
	mirrors := []reflected{
		newMirror(w, &corev1.ServiceList{}, w.setService),
		newMirror(w, &discoveryv1.EndpointSliceList{}, w.setEndpoints),
		newMirror(w, &corev1.NodeList{}, w.setNode),
		newMirror(w, &v1alpha1.IPAddressPoolList{}, w.setPool),
		newMirror(w, &v1alpha1.L2AdvertisementList{}, w.setAdvertisement),
		newMirror(w, &v1alpha1.SpeakerList{}, w.setSpeaker),
		newMirror(w, &v1alpha1.BGPPeerList{}, w.setBGPPeer),
		newMirror(w, &v1alpha1.BGPAdvertisementList{}, w.setBGPAdvertisement),
		newMirror(w, &v1alpha1.BFDProfileList{}, w.setBFDProfile),
		newMirror(w, &v1alpha1.CommunityList{}, w.setCommunity),
		newMirror(w, &corev1.SecretList{}, w.setSecret, secrets...),
	}
	var all, lists sync.WaitGroup
	lists.Add(len(mirrors))
	for _, m := range mirrors {
		all.Go(func() { m.run(ctx, api, conn, lists.Done) })
	}
	all.Go(func() {
		lists.Wait()
		close(w.listed)
	})
	all.Wait()
}

// reflected is a mirror of any kind.
type reflected interface {
	run(ctx context.Context, api client.WithWatch, conn *apiconn.Conn, listed func())
}

// mirror keeps the Cluster in line with the objects of one kind. It keeps none itself, as
// informers do: only their names, to know which are gone when all are listed again.
type mirror[T any, P interface {
	*T
	client.Object
}] struct {
	cluster *Cluster
	list    client.ObjectList
	options []client.ListOption
	set     func(obj P, gone bool) (matters bool)
	names   map[types.NamespacedName]bool
	listed  func() // called when the first list is in
}

var _ toolscache.TransformingStore = (*mirror[corev1.Service, *corev1.Service])(nil)

func newMirror[T any, P interface {
	*T
	client.Object
}](w *Cluster, list client.ObjectList, set func(P, bool) bool, options ...client.ListOption) *mirror[T, P] {
	return &mirror[T, P]{cluster: w, list: list, options: options, set: set}
}

// run lists and watches until ctx ends. It calls listed when the first list is in.
func (m *mirror[T, P]) run(ctx context.Context, api client.WithWatch, conn *apiconn.Conn, listed func()) {
	m.listed = sync.OnceFunc(listed)
	defer m.listed() // nothing may wait for a list that does not come any more
	with := func(o metav1.ListOptions) []client.ListOption {
		return append(m.options[:len(m.options):len(m.options)], &client.ListOptions{Raw: &o, Limit: o.Limit, Continue: o.Continue})
	}
	source := conn.ListerWatcher(&toolscache.ListWatch{
		ListWithContextFunc: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
			list := m.list.DeepCopyObject().(client.ObjectList)
			return list, api.List(ctx, list, with(o)...)
		},
		WatchFuncWithContext: func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
			return api.Watch(ctx, m.list.DeepCopyObject().(client.ObjectList), with(o)...)
		},
	})
	toolscache.NewReflectorWithOptions(source, P(new(T)), m, toolscache.ReflectorOptions{Backoff: apiconn.Backoff()}).RunWithContext(ctx)
}

// Transformer lets the reflector keep less of what it has not handed over yet.
func (m *mirror[T, P]) Transformer() toolscache.TransformFunc { return strip }

func (m *mirror[T, P]) Add(obj any) error {
	m.take(obj)
	return nil
}

func (m *mirror[T, P]) Update(obj any) error {
	m.take(obj)
	return nil
}

func (m *mirror[T, P]) Delete(obj any) error {
	m.drop(nameOf(obj.(P)))
	return nil
}

// Replace takes in what the API server has now, and notes that all else is gone.
func (m *mirror[T, P]) Replace(list []any, _ string) error {
	before := m.names
	m.names = make(map[types.NamespacedName]bool, len(list))
	for _, obj := range list {
		m.take(obj)
	}
	for name := range before {
		if !m.names[name] {
			m.drop(name)
		}
	}
	m.listed()
	return nil
}

// Resync does nothing: every handler has been called.
func (m *mirror[T, P]) Resync() error { return nil }

func (m *mirror[T, P]) take(obj any) {
	o := obj.(P)
	m.names[nameOf(o)] = true
	m.tell(o, false)
}

// drop tells that an object is gone, of which only the name is known.
func (m *mirror[T, P]) drop(name types.NamespacedName) {
	delete(m.names, name)
	gone := P(new(T))
	gone.SetNamespace(name.Namespace)
	gone.SetName(name.Name)
	m.tell(gone, true)
}

func (m *mirror[T, P]) tell(obj P, gone bool) {
	m.cluster.mu.Lock()
	matters := m.set(obj, gone)
	m.cluster.mu.Unlock()
	if matters {
		m.cluster.changed.Poke()
	}
}

func nameOf(o client.Object) types.NamespacedName {
	return types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetName()}
}
