// Package servicestatus tells each Service who announces its addresses, or why nobody
// does.
package servicestatus

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Controller writes the Announced condition of Services.
type Controller struct {
	client client.Client
	class  kube.Class
	events events.EventRecorder
	ledger *ledger.Ledger
	now    func() time.Time

	version atomic.Uint64 // incremented on every change that conditions depend on
	history *history

	mu   sync.Mutex // guards the field below
	last *objects   // what was listed last
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, l *ledger.Ledger, class kube.Class, r events.EventRecorder, now func() time.Time) *Controller {
	return &Controller{client: c, ledger: l, class: class, events: r, now: now, history: newHistory()}
}

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "servicestatus" }

// +kubebuilder:rbac:groups="",resources=services;nodes,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch
// +kubebuilder:rbac:groups=discovery.k8s.io,resources=endpointslices,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools;l2advertisements;bgpadvertisements;bgppeers;speakers,verbs=list;watch

// Register adds the controller to the manager.
func (c *Controller) Register(mgr ctrl.Manager) error {
	for _, i := range indexes {
		if err := mgr.GetFieldIndexer().IndexField(context.Background(), i.Of, i.Field, i.Values); err != nil {
			return fmt.Errorf("index %T by %s: %w", i.Of, i.Field, err)
		}
	}
	all := handler.EnqueueRequestsFromMapFunc(c.allServices)
	spec := builder.WithPredicates(predicate.Or[client.Object](predicate.GenerationChangedPredicate{}, predicate.LabelChangedPredicate{}))
	return ctrl.NewControllerManagedBy(mgr).
		Named(c.Name()).
		For(&corev1.Service{}, builder.WithPredicates(c.serviceChanged())).
		Watches(&discoveryv1.EndpointSlice{}, handler.EnqueueRequestsFromMapFunc(c.serviceOf)).
		Watches(&v1alpha1.Speaker{}, handler.Funcs{
			CreateFunc: func(ctx context.Context, e event.CreateEvent, q queue) { c.speakerChanged(ctx, q, nil, e.Object) },
			UpdateFunc: func(ctx context.Context, e event.UpdateEvent, q queue) {
				c.speakerChanged(ctx, q, e.ObjectOld, e.ObjectNew)
			},
			DeleteFunc: func(ctx context.Context, e event.DeleteEvent, q queue) { c.speakerChanged(ctx, q, e.Object, nil) },
		}).
		Watches(&v1alpha1.L2Advertisement{}, all, spec).
		Watches(&v1alpha1.BGPAdvertisement{}, all, spec).
		Watches(&v1alpha1.BGPPeer{}, all, spec).
		Watches(&v1alpha1.IPAddressPool{}, all, spec).
		Watches(&corev1.Node{}, all, builder.WithPredicates(nodeFactsChanged)).
		WithOptions(controller.Options{RateLimiter: apiconn.RateLimiter()}).
		Complete(c)
}

// Reconcile writes one Service's Announced condition.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	c.ledger.WaitForBurst(ctx)
	var svc corev1.Service
	switch err := c.client.Get(ctx, req.NamespacedName, &svc); {
	case client.IgnoreNotFound(err) != nil:
		return reconcile.Result{}, fmt.Errorf("get Service %s: %w", req, err)
	case err == nil && kube.Overwritten(&svc):
		return reconcile.Result{}, nil // speakers keep announcing; the assign controller reports it
	case err != nil || !c.concerns(&svc):
		c.history.forget(req.NamespacedName)
		return reconcile.Result{}, nil
	}
	v, as, err := c.viewOf(ctx, &svc)
	if err != nil {
		return reconcile.Result{}, err
	}
	if len(as.Grants) > 0 {
		return c.report(ctx, &svc, conditionFor(v, as, c.ledger.Blocked(as.Service.Holder())))
	}
	if len(kube.IngressAddresses(&svc)) > 0 {
		return reconcile.Result{}, nil // not of our pools
	}
	c.history.forget(req.NamespacedName)
	after := svc.DeepCopy()
	meta.RemoveStatusCondition(&after.Status.Conditions, v1alpha1.ConditionAnnounced)
	return reconcile.Result{}, c.write(ctx, &svc, after)
}

// report writes the condition, unless it may be outdated in a moment, and an event for a
// conflict that is new.
func (c *Controller) report(ctx context.Context, svc *corev1.Service, cond condition) (reconcile.Result, error) {
	key := client.ObjectKeyFromObject(svc)
	if wait := c.history.missing(key, cond.pending, c.now()); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	why := cond.reason
	if cond.announced {
		why = 0
	}
	isNew := c.history.record(key, why, cond.contested)
	isNew = isNew || cond.reason == lb.ReasonConflict && conditionReason(svc) != cond.reason.String()
	retry := c.settleConflicts(svc, &cond)
	after := svc.DeepCopy()
	kube.SetCondition(&after.Status.Conditions, v1alpha1.ConditionAnnounced, cond.announced, cond.reason.String(), cond.message, svc.Generation)
	if err := c.write(ctx, svc, after); err != nil {
		return reconcile.Result{}, err
	}
	if isNew {
		c.events.Eventf(svc, nil, corev1.EventTypeWarning, v1alpha1.EventConflict, "Announce", "%s", cond.message)
	}
	return reconcile.Result{RequeueAfter: retry}, nil
}

// write sends the change of status, if there is one. A Service that was changed meanwhile
// comes again by the watch.
func (c *Controller) write(ctx context.Context, before, after *corev1.Service) error {
	patch := kube.StatusPatch(before, after)
	if patch == nil {
		return nil
	}
	if err := c.client.Status().Patch(ctx, after, patch); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return fmt.Errorf("write status of Service %s: %w", kube.Key(before), err)
	}
	return nil
}

// settleConflicts has the ledger record which of the Service's addresses foreign hosts had
// first, and which none has. Where a host answers for every address, the Service keeps
// what it has, and the condition and an event say so. It returns when to look again.
func (c *Controller) settleConflicts(svc *corev1.Service, cond *condition) (retry time.Duration) {
	for _, a := range cond.free {
		c.ledger.ConflictEnded(a)
	}
	for _, t := range cond.taken {
		conflict := c.ledger.Conflict(t.addr, t.mac)
		if !conflict.AnswersAll {
			continue
		}
		text := fmt.Sprintf("the host %s answers for every address that was tried, so the Service keeps %s, and another is tried only every %s",
			t.mac, t.addr, ledger.HostRetry)
		cond.message += "; " + text
		retry = conflict.Retry
		if conflict.First {
			c.events.Eventf(svc, nil, corev1.EventTypeWarning, v1alpha1.EventConflict, "Announce", "%s", text)
		}
	}
	return retry
}

// conditionReason returns the reason of the Service's Announced condition, or "".
func conditionReason(svc *corev1.Service) string {
	if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced); c != nil {
		return c.Reason
	}
	return ""
}

// Unannounced returns how many Services are not announced, by reason.
func (c *Controller) Unannounced() map[lb.Reason]int { return c.history.reasons() }
