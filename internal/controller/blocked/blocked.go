// Package blocked records in the ledger which addresses nodes and routers have, so that none
// of them is assigned to a Service.
//
// What Services have in other fields the assign controller records: it must be known before
// the next Service is decided about.
package blocked

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
)

// subject is what is observed: a node, by its Node and its Speaker, or the router of a BGPPeer.
type subject struct {
	name string
	peer bool
}

// Controller records addresses that are in use.
type Controller struct {
	client client.Client
	ledger *ledger.Ledger
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, l *ledger.Ledger) *Controller { return &Controller{client: c, ledger: l} }

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "blocked" }

// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers;bgppeers,verbs=list;watch

// Register adds the controller to the manager.
func (c *Controller) Register(mgr ctrl.Manager) error {
	return builder.TypedControllerManagedBy[subject](mgr).
		Named(c.Name()).
		Watches(&corev1.Node{}, handler.TypedEnqueueRequestsFromMapFunc(subjectOf(false)), builder.WithPredicates(addressesChanged)).
		Watches(&v1alpha1.Speaker{}, handler.TypedEnqueueRequestsFromMapFunc(subjectOf(false)), builder.WithPredicates(addressesChanged)).
		Watches(&v1alpha1.BGPPeer{}, handler.TypedEnqueueRequestsFromMapFunc(subjectOf(true)), builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Complete(c)
}

func subjectOf(peer bool) handler.TypedMapFunc[client.Object, subject] {
	return func(_ context.Context, o client.Object) []subject { return []subject{{o.GetName(), peer}} }
}

// addressesChanged lets through what changes which addresses a node has, not heartbeats.
var addressesChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		switch before := e.ObjectOld.(type) {
		case *corev1.Node:
			after := e.ObjectNew.(*corev1.Node)
			return !equality.Semantic.DeepEqual(before.Status.Addresses, after.Status.Addresses)
		case *v1alpha1.Speaker:
			after := e.ObjectNew.(*v1alpha1.Speaker)
			return !equality.Semantic.DeepEqual(before.Status.Interfaces, after.Status.Interfaces) ||
				!equality.Semantic.DeepEqual(before.Status.HostAddresses, after.Status.HostAddresses)
		default:
			return true
		}
	},
}

// Reconcile records the addresses of one node or router.
func (c *Controller) Reconcile(ctx context.Context, s subject) (reconcile.Result, error) {
	if err := c.ledger.Restore(ctx); err != nil {
		return reconcile.Result{}, err
	}
	if s.peer {
		var peer v1alpha1.BGPPeer
		there, err := c.get(ctx, s.name, &peer)
		if err == nil {
			c.ledger.ObservePeer(s.name, ifThere(&peer, there))
		}
		return reconcile.Result{}, err
	}
	var node corev1.Node
	var speaker v1alpha1.Speaker
	hasNode, err := c.get(ctx, s.name, &node)
	if err != nil {
		return reconcile.Result{}, err
	}
	hasSpeaker, err := c.get(ctx, s.name, &speaker)
	if err != nil {
		return reconcile.Result{}, err
	}
	c.ledger.ObserveNode(s.name, ifThere(&node, hasNode), ifThere(&speaker, hasSpeaker))
	return reconcile.Result{}, nil
}

// get reads an object, and reports whether it is there.
func (c *Controller) get(ctx context.Context, name string, o client.Object) (bool, error) {
	err := c.client.Get(ctx, client.ObjectKey{Name: name}, o)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("get %T %s: %w", o, name, err)
	}
	return true, nil
}

func ifThere[T any](o *T, there bool) *T {
	if there {
		return o
	}
	return nil
}
