package servicestatus

import (
	"context"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// index lets objects of a type be listed by a value.
type index struct {
	Of     client.Object
	Field  string
	Values client.IndexerFunc
}

const (
	byAddress = "address" // Services by the addresses in their status: some share one
	byService = "service" // EndpointSlices by the name of their Service
)

// indexes are those of the cache. Without them a look-up costs as much as there are objects.
var indexes = []index{
	{&corev1.Service{}, byAddress, func(o client.Object) (out []string) {
		for _, a := range kube.IngressAddresses(o.(*corev1.Service)) {
			out = append(out, a.String())
		}
		return out
	}},
	{&discoveryv1.EndpointSlice{}, byService, func(o client.Object) []string {
		return []string{o.GetLabels()[discoveryv1.LabelServiceName]}
	}},
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// concerns keeps what has no address, and never had one, out of the queue.
func (c *Controller) concerns(o client.Object) bool {
	svc, ok := o.(*corev1.Service)
	return ok && c.class.Handles(svc) &&
		(len(svc.Status.LoadBalancer.Ingress) > 0 || meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced) != nil)
}

// serviceChanged is concerns, and marks what was listed as outdated when something of
// the Service changed on which a Service that shares its address depends.
func (c *Controller) serviceChanged() predicate.Funcs {
	f := predicate.NewPredicateFuncs(func(o client.Object) bool {
		c.version.Add(1)
		return c.concerns(o)
	})
	f.UpdateFunc = func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Service), e.ObjectNew.(*corev1.Service)
		if c.class.Handles(before) != c.class.Handles(after) || !maps.Equal(before.Labels, after.Labels) ||
			kube.TrafficPolicy(before) != kube.TrafficPolicy(after) || !slices.Equal(kube.IngressAddresses(before), kube.IngressAddresses(after)) {
			c.version.Add(1)
		}
		return c.concerns(after)
	}
	return f
}

// nodeFactsChanged lets through what changes who may announce, not heartbeats.
var nodeFactsChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
		return kube.NodeDown(before) != kube.NodeDown(after) || !equality.Semantic.DeepEqual(kube.Node(before), kube.Node(after))
	},
}

func (c *Controller) serviceOf(_ context.Context, o client.Object) []reconcile.Request {
	c.version.Add(1)
	name := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]}
	return []reconcile.Request{{NamespacedName: name}}
}

func (c *Controller) allServices(ctx context.Context, _ client.Object) []reconcile.Request {
	c.version.Add(1)
	var list corev1.ServiceList
	if err := c.client.List(ctx, &list); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list Services")
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if c.concerns(&list.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

// speakerChanged queues the Services whose addresses the speaker began or ceased
// to announce, or all of them when what it can announce changed.
func (c *Controller) speakerChanged(ctx context.Context, q queue, before, after client.Object) {
	c.version.Add(1)
	was, is := speakerOf(before), speakerOf(after)
	if was.able != is.able || !slices.Equal(was.avoid, is.avoid) || !slices.Equal(was.sessions, is.sessions) ||
		!equality.Semantic.DeepEqual(was.interfaces, is.interfaces) {
		for _, r := range c.allServices(ctx, nil) {
			q.Add(r)
		}
		return
	}
	for key, n := range is.layer2 {
		if !equality.Semantic.DeepEqual(was.layer2[key], n) {
			c.enqueueUsers(ctx, q, key)
		}
	}
	for key := range was.layer2 {
		if _, still := is.layer2[key]; !still {
			c.enqueueUsers(ctx, q, key)
		}
	}
	if !equality.Semantic.DeepEqual(was.conflicts, is.conflicts) {
		for _, n := range slices.Concat(was.conflicts, is.conflicts) {
			c.enqueueUsers(ctx, q, n.Address)
		}
	}
}

// enqueueUsers queues the Services that have the address: a Speaker object lists only the
// first few.
func (c *Controller) enqueueUsers(ctx context.Context, q queue, address string) {
	var list corev1.ServiceList
	if err := c.client.List(ctx, &list, client.MatchingFields{byAddress: address}, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the Services of an address", "address", address)
		return
	}
	for i := range list.Items {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
}

// speakerFacts is what a Speaker object says.
type speakerFacts struct {
	able       bool
	avoid      []lb.Reason
	interfaces []v1alpha1.SpeakerInterface
	layer2     map[string]v1alpha1.SpeakerAddress // by address
	conflicts  []v1alpha1.SpeakerConflict
	sessions   []string // peers whose sessions are up, sorted
}

func speakerOf(o client.Object) speakerFacts {
	s, ok := o.(*v1alpha1.Speaker)
	if !ok || s == nil {
		return speakerFacts{}
	}
	f := speakerFacts{
		able:       view.SpeakerAlive(s),
		avoid:      kube.SpeakerAvoid(s),
		interfaces: s.Status.Interfaces,
		layer2:     map[string]v1alpha1.SpeakerAddress{},
		conflicts:  s.Status.Conflicts,
		sessions:   view.SessionsUp(s),
	}
	for _, a := range s.Status.Layer2 {
		a.Services, a.ServiceCount = nil, 0 // no condition depends on which Services the speaker lists
		f.layer2[a.Address] = a
	}
	return f
}
