// Package assign gives each LoadBalancer Service its addresses.
package assign

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
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
	"github.com/fairlead-lb/fairlead/internal/metrics"
)

// workers is how many Services are written at a time. The API server answers a
// status write in a few milliseconds, so this is some thousand a second.
const workers = 16

// Controller gives Services their addresses.
type Controller struct {
	client   client.Client
	ledger   *ledger.Ledger
	class    kube.Class
	recorder events.EventRecorder
	metrics  *metrics.Controller

	direct     client.Reader // asks the API server: the cache has no managedFields
	overwrites *overwrites
}

// New returns a Controller that does nothing until it is registered. direct reads from the
// API server itself.
func New(c client.Client, direct client.Reader, l *ledger.Ledger, class kube.Class, r events.EventRecorder, m *metrics.Controller) *Controller {
	return &Controller{client: c, ledger: l, class: class, recorder: r, metrics: m, direct: direct, overwrites: newOverwrites()}
}

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "assign" }

// +kubebuilder:rbac:groups="",resources=services,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=services/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Register adds the controller to the manager.
func (c *Controller) Register(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named(c.Name()).
		Watches(&corev1.Service{}, handler.Funcs{
			CreateFunc: func(_ context.Context, e event.CreateEvent, q queue) { c.observe(e.Object, q) },
			UpdateFunc: func(_ context.Context, e event.UpdateEvent, q queue) { c.observe(e.ObjectNew, q) },
			DeleteFunc: func(_ context.Context, e event.DeleteEvent, q queue) {
				q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(e.Object)})
			},
		}).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(c.servicesIn),
			builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(c.ledger.Woken(lb.KindService)).
		WithOptions(controller.Options{MaxConcurrentReconciles: workers, RateLimiter: apiconn.RateLimiter()}).
		Complete(c)
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// observe records which addresses the Service has in other fields, before it is queued: a
// Service that was created later and is decided about sooner is not given one of them.
func (c *Controller) observe(o client.Object, q queue) {
	svc, ok := o.(*corev1.Service)
	if !ok {
		return
	}
	c.ledger.ObserveService(svc)
	if c.concerns(svc) {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(svc)})
	}
}

// concerns keeps the Services that are not load balancers, most of them in most
// clusters, out of the queue, unless they have or had something of ours.
func (c *Controller) concerns(svc *corev1.Service) bool {
	return svc.Spec.Type == corev1.ServiceTypeLoadBalancer || meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAddressAssigned) != nil || len(c.ledger.Holds(kube.Key(svc).Holder())) > 0
}

// servicesIn maps a namespace whose labels changed to its Services.
func (c *Controller) servicesIn(ctx context.Context, ns client.Object) []reconcile.Request {
	var list corev1.ServiceList
	if err := c.client.List(ctx, &list, client.InNamespace(ns.GetName())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the Services of a namespace", "namespace", ns.GetName())
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if c.class.Handles(&list.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

// Reconcile brings one Service's status in line with what the ledger decides.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if err := c.ledger.Restore(ctx); err != nil {
		return reconcile.Result{}, err
	}
	key := lb.ServiceKey{Namespace: req.Namespace, Name: req.Name}
	var svc corev1.Service
	switch err := c.client.Get(ctx, req.NamespacedName, &svc); {
	case apierrors.IsNotFound(err):
		c.ledger.Gone(key)
		c.overwrites.forget(key)
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("get Service %s: %w", key, err)
	}
	var err error
	var again time.Duration
	if c.class.Handles(&svc) {
		again, err = c.assign(ctx, &svc)
	} else {
		c.overwrites.forget(key)
		err = c.letGo(ctx, &svc)
	}
	// A Service that was changed or deleted since it was read comes again by the
	// watch, in its new version.
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: again}, err
}

// assign decides for a Service and writes the outcome. It returns when to reconcile the
// Service again, 0 for when it changes.
func (c *Controller) assign(ctx context.Context, svc *corev1.Service) (again time.Duration, err error) {
	labels, err := kube.NamespaceLabels(ctx, c.client, svc.Namespace)
	if err != nil {
		return 0, err
	}
	begun := time.Now()
	req, invalid := kube.Request(svc, labels)
	decide := c.ledger.Decide
	if invalid != nil {
		decide = c.ledger.Keep
	}
	d, isUnmanaged := decide(svc, req)
	if isUnmanaged {
		return 0, c.leave(ctx, svc, invalid)
	}
	key, had := kube.Key(svc), kube.IngressAddresses(svc)
	if isOverwritten(svc, d) {
		if wait := c.overwrites.delay(key, begun); wait > 0 {
			return wait, nil
		}
		c.overwrites.restored(key, c.ingressWriter(ctx, svc), begun)
		had = d.Addresses() // it has them: the record says so, and speakers announce them
	}
	o := outcomeOf(d, invalid)
	manager, again, inConflict := c.overwrites.conflict(key, begun)
	if inConflict {
		o = o.overwrittenBy(manager)
	}
	after := svc.DeepCopy()
	kube.SetIngress(after, d.Addresses())
	kube.SetRecord(after, d)
	o.set(after)
	if err := c.write(ctx, svc, after); err != nil {
		return 0, err
	}
	c.ledger.Written(req.Holder)
	if invalid == nil && len(d.Grants) > len(had) {
		c.metrics.Allocated(time.Since(begun))
	}
	c.recordMoves(after, had, d)
	c.recordFailure(svc, after, o)
	return again, nil
}

// isOverwritten reports whether another controller changed status.loadBalancer since the
// decision was written.
func isOverwritten(svc *corev1.Service, d lb.Decision) bool {
	return len(d.Grants) > 0 && slices.Equal(kube.RecordOf(svc).Addresses(), d.Addresses()) && !kube.IngressIs(svc, d.Addresses())
}

// ingressWriter returns the field manager that wrote status.loadBalancer last; "" if that
// is unknown.
func (c *Controller) ingressWriter(ctx context.Context, svc *corev1.Service) string {
	var list corev1.ServiceList // the role has list, and no get
	if err := c.direct.List(ctx, &list, client.InNamespace(svc.Namespace), client.MatchingFields{"metadata.name": svc.Name}); err != nil || len(list.Items) == 0 {
		return ""
	}
	manager, _ := kube.IngressWriter(&list.Items[0])
	return manager
}

// leave leaves a Service's addresses alone, none of which Fairlead assigned or a pool has. If
// the Service asks for Fairlead, the condition says why nothing happens; invalid is what is
// wrong with its request, nil if nothing is.
func (c *Controller) leave(ctx context.Context, svc *corev1.Service, invalid error) error {
	o := outcome{reason: lb.ReasonForeignAddress, message: fmt.Sprintf("status.loadBalancer has %s, which no IPAddressPool has and Fairlead did not assign; %s",
		lb.Few(kube.IngressAddresses(svc), 2), lb.ReasonForeignAddress.Fix())}
	if invalid != nil {
		o = outcomeOf(lb.Decision{}, invalid)
	}
	after := svc.DeepCopy()
	if kube.AssignedCondition(svc) != nil {
		kube.SetRecord(after, lb.Decision{})
	}
	if c.class.AsksForFairlead(svc) {
		o.set(after)
	} else {
		meta.RemoveStatusCondition(&after.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	}
	if err := c.write(ctx, svc, after); err != nil {
		return err
	}
	c.recordFailure(svc, after, o)
	return nil
}

// letGo takes back what a Service has of ours that is not ours to serve any
// more: its type or class changed, or it is being deleted. Nobody else gets the
// address before it is gone from the status.
func (c *Controller) letGo(ctx context.Context, svc *corev1.Service) error {
	key := kube.Key(svc).Holder()
	held, recorded := c.ledger.Holds(key), kube.RecordedPools(svc)
	ours := func(a netip.Addr) bool {
		return recorded[a] != "" || slices.ContainsFunc(held, func(g lb.Grant) bool { return g.Addr == a })
	}
	after := svc.DeepCopy()
	kube.RemoveIngress(after, ours)
	if kube.AssignedCondition(svc) != nil || len(held) > 0 {
		kube.SetRecord(after, lb.Decision{})
	}
	meta.RemoveStatusCondition(&after.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	meta.RemoveStatusCondition(&after.Status.Conditions, v1alpha1.ConditionAnnounced)
	if err := c.write(ctx, svc, after); err != nil {
		return err
	}
	if released := c.ledger.Release(key); len(released) > 0 {
		c.recorder.Eventf(svc, nil, corev1.EventTypeNormal, v1alpha1.EventReleased, "Release", "Gave up %s", lb.Decision{Grants: released})
	}
	return nil
}

// write sends the change of status, if there is one, as one patch. It fails on
// a Service that changed since it was read: another controller may have
// decided (invariant A1), and the decision is then made again.
func (c *Controller) write(ctx context.Context, before, after *corev1.Service) error {
	patch := kube.StatusPatch(before, after)
	if patch == nil {
		return nil
	}
	if err := c.client.Status().Patch(ctx, after, patch); err != nil {
		return fmt.Errorf("write status of Service %s: %w", kube.Key(before), err)
	}
	return nil
}

// recordMoves records events for addresses that came and went. All of one change are
// in one event: the recorder would fold two alike into one and lose the first.
func (c *Controller) recordMoves(after *corev1.Service, had []netip.Addr, d lb.Decision) {
	var gained, lost []string
	for i, g := range d.Grants {
		if !slices.Contains(had, g.Addr) {
			gained = append(gained, d.Story(i))
		}
	}
	for _, a := range had {
		if !slices.Contains(d.Addresses(), a) {
			lost = append(lost, a.String())
		}
	}
	if len(gained) > 0 {
		c.recorder.Eventf(after, nil, corev1.EventTypeNormal, v1alpha1.EventAssigned, "Assign", "Assigned %s", strings.Join(gained, ", "))
	}
	if len(lost) > 0 {
		c.recorder.Eventf(after, nil, corev1.EventTypeNormal, v1alpha1.EventReleased, "Assign", "Gave up %s", strings.Join(lost, ", "))
	}
	if len(d.Conflicts) > 0 {
		var why []string
		for _, r := range d.Conflicts {
			why = append(why, fmt.Sprintf("%s: %s", r.Addr, r))
		}
		c.recorder.Eventf(after, nil, corev1.EventTypeWarning, v1alpha1.EventConflict, "Assign", "Cannot keep %s", strings.Join(why, "; "))
	}
}

// recordFailure records an event for a request that cannot be met, or a conflict, once for
// each reason and, of an invalid request, for each thing that is wrong with it.
func (c *Controller) recordFailure(before, after *corev1.Service, o outcome) {
	was, is := kube.AssignedCondition(before), kube.AssignedCondition(after)
	if o.event == "" || is == nil || was != nil && was.Status == is.Status && was.Reason == is.Reason &&
		(o.reason != lb.ReasonInvalidRequest || was.Message == is.Message) {
		return
	}
	c.recorder.Eventf(after, nil, corev1.EventTypeWarning, o.event, "Assign", "%s", o.detail)
}
