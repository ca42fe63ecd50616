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
	"k8s.io/apimachinery/pkg/types"
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

// patience is how long a missing announcement that should be there is not
// complained about: speakers tell at most once a second what they announce.
const patience = 3 * time.Second

// Controller writes the Announced condition of Services.
type Controller struct {
	client client.Client
	class  kube.Class
	events events.EventRecorder
	ledger *ledger.Ledger
	now    func() time.Time

	version atomic.Uint64 // incremented on every change that conditions depend on

	mu      sync.Mutex                         // guards the fields below
	last    *gathered                          // what the last Services were judged by
	pending map[types.NamespacedName]time.Time // Service -> since when an announcement is missing
	silent  map[types.NamespacedName]lb.Reason // Service -> why it is said that it is not announced

	contested map[types.NamespacedName]bool // Services with an address that is announced, and that a foreign host claims
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, l *ledger.Ledger, class kube.Class, r events.EventRecorder, now func() time.Time) *Controller {
	return &Controller{client: c, ledger: l, class: class, events: r, now: now, pending: map[types.NamespacedName]time.Time{}, silent: map[types.NamespacedName]lb.Reason{}, contested: map[types.NamespacedName]bool{}}
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
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &corev1.Service{}, byAddress, addressesOf); err != nil {
		return fmt.Errorf("index Services by address: %w", err)
	}
	if err := mgr.GetFieldIndexer().IndexField(context.Background(), &discoveryv1.EndpointSlice{}, byService, serviceNameOf); err != nil {
		return fmt.Errorf("index EndpointSlices by Service: %w", err)
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
		c.bear(req.NamespacedName, false)
		c.note(req.NamespacedName, true, 0)
		c.noteContested(req.NamespacedName, false)
		return reconcile.Result{}, nil
	}
	s, as, err := c.gather(ctx, &svc)
	if err != nil {
		return reconcile.Result{}, err
	}
	if len(as.Grants) == 0 && len(kube.IngressAddresses(&svc)) > 0 {
		return reconcile.Result{}, nil // not of our pools
	}
	after := svc.DeepCopy()
	conflict, retry := false, time.Duration(0)
	if len(as.Grants) == 0 {
		c.bear(req.NamespacedName, false)
		c.noteContested(req.NamespacedName, false)
		c.note(req.NamespacedName, true, 0)
		meta.RemoveStatusCondition(&after.Status.Conditions, v1alpha1.ConditionAnnounced)
	} else {
		st := judge(s, as)
		st.add(c.ledger.Blocked(as.Service.Holder()))
		if wait := c.bear(req.NamespacedName, st.pending); wait > 0 {
			return reconcile.Result{RequeueAfter: wait}, nil
		}
		c.note(req.NamespacedName, st.announced, st.reason)
		retry = c.settleConflicts(&svc, &st)
		conflict = st.reason == lb.ReasonConflict && conditionReason(&svc) != st.reason.String()
		conflict = c.noteContested(req.NamespacedName, st.contested) || conflict
		kube.SetCondition(&after.Status.Conditions, v1alpha1.ConditionAnnounced, st.announced, st.reason.String(), st.message, svc.Generation)
	}
	patch := kube.StatusPatch(&svc, after)
	if patch == nil {
		return reconcile.Result{RequeueAfter: retry}, nil
	}
	// A Service that was changed meanwhile comes again by the watch.
	if err := c.client.Status().Patch(ctx, after, patch); err != nil && !apierrors.IsConflict(err) && !apierrors.IsNotFound(err) {
		return reconcile.Result{}, fmt.Errorf("write status of Service %s: %w", req, err)
	}
	if conflict {
		c.events.Eventf(&svc, nil, corev1.EventTypeWarning, v1alpha1.EventConflict, "Announce", "%s",
			meta.FindStatusCondition(after.Status.Conditions, v1alpha1.ConditionAnnounced).Message)
	}
	return reconcile.Result{RequeueAfter: retry}, nil
}

// settleConflicts tells the ledger which of the Service's addresses foreign hosts had
// first, and which none has. Where a host answers for every address, the Service keeps
// what it has, and the state and an event say so. It returns when to look again.
func (c *Controller) settleConflicts(svc *corev1.Service, st *state) (retry time.Duration) {
	for _, a := range st.free {
		c.ledger.ConflictEnded(a)
	}
	for _, t := range st.taken {
		conflict := c.ledger.Conflict(t.addr, t.mac)
		if !conflict.AnswersAll {
			continue
		}
		words := fmt.Sprintf("the host %s answers for every address that was tried, so the Service keeps %s, and another is tried only every %s",
			t.mac, t.addr, ledger.HostRetry)
		st.message += "; " + words
		retry = conflict.Retry
		if conflict.First {
			c.events.Eventf(svc, nil, corev1.EventTypeWarning, v1alpha1.EventConflict, "Announce", "%s", words)
		}
	}
	return retry
}

// noteContested remembers whether an address of the Service is announced and a foreign host
// claims it too, and reports whether that is new.
func (c *Controller) noteContested(svc types.NamespacedName, contested bool) (begins bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	begins = contested && !c.contested[svc]
	if c.contested[svc] = contested; !contested {
		delete(c.contested, svc)
	}
	return begins
}

// conditionReason returns the reason of the Service's Announced condition, or "".
func conditionReason(svc *corev1.Service) string {
	if c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced); c != nil {
		return c.Reason
	}
	return ""
}

// bear returns how much longer a missing announcement is to be borne.
func (c *Controller) bear(svc types.NamespacedName, pending bool) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !pending {
		delete(c.pending, svc)
		return 0
	}
	since, ok := c.pending[svc]
	if !ok {
		since = c.now()
		c.pending[svc] = since
	}
	return since.Add(patience).Sub(c.now())
}

// note remembers which Services are said not to be announced, and why.
func (c *Controller) note(svc types.NamespacedName, announced bool, why lb.Reason) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.silent[svc] = why; announced {
		delete(c.silent, svc)
	}
}

// Silent returns how many Services are not announced, by reason.
func (c *Controller) Silent() map[lb.Reason]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[lb.Reason]int{}
	for _, why := range c.silent {
		out[why]++
	}
	return out
}
