// Package claims keeps addresses for Services that do not exist yet, or any more.
package claims

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Controller gives claims their addresses and tells what becomes of them.
type Controller struct {
	client client.Client
	ledger *ledger.Ledger
	now    func() time.Time
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, l *ledger.Ledger, now func() time.Time) *Controller {
	return &Controller{client: c, ledger: l, now: now}
}

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "claims" }

// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddressclaims,verbs=list;watch;patch;delete
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddressclaims/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=namespaces,verbs=list;watch

// Register adds the controller to the manager.
func (c *Controller) Register(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named(c.Name()).
		For(&v1alpha1.IPAddressClaim{}).
		Watches(&corev1.Namespace{}, handler.EnqueueRequestsFromMapFunc(c.claimsIn),
			builder.WithPredicates(predicate.LabelChangedPredicate{})).
		WatchesRawSource(c.ledger.Woken(lb.KindClaim)).
		WithOptions(controller.Options{RateLimiter: apiconn.RateLimiter()}).
		Complete(c)
}

// claimsIn maps a namespace whose labels changed to its claims.
func (c *Controller) claimsIn(ctx context.Context, ns client.Object) (out []reconcile.Request) {
	var list v1alpha1.IPAddressClaimList
	if err := c.client.List(ctx, &list, client.InNamespace(ns.GetName())); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list the IPAddressClaims of a namespace", "namespace", ns.GetName())
	}
	for i := range list.Items {
		out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
	return out
}

// Reconcile brings one claim's status in line with what the ledger decides.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if err := c.ledger.Restore(ctx); err != nil {
		return reconcile.Result{}, err
	}
	var claim v1alpha1.IPAddressClaim
	switch err := c.client.Get(ctx, req.NamespacedName, &claim); {
	case apierrors.IsNotFound(err):
		c.ledger.Release(lb.Claim(req.Namespace, req.Name))
		return reconcile.Result{}, nil
	case err != nil:
		return reconcile.Result{}, fmt.Errorf("get IPAddressClaim %s: %w", req, err)
	}
	wait, err := c.keep(ctx, &claim)
	// A claim that was changed or deleted since it was read comes again by the
	// watch, in its new version.
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return reconcile.Result{}, nil
	}
	return reconcile.Result{RequeueAfter: wait}, err
}

// keep decides for a claim and writes the outcome. It returns when to look
// again, 0 for when something happens.
func (c *Controller) keep(ctx context.Context, claim *v1alpha1.IPAddressClaim) (time.Duration, error) {
	if claim.DeletionTimestamp == nil && !controllerutil.ContainsFinalizer(claim, v1alpha1.FinalizerClaimInUse) {
		return 0, kube.ChangeFinalizer(ctx, c.client, claim, controllerutil.AddFinalizer, v1alpha1.FinalizerClaimInUse) // it comes again by the watch
	}
	labels, err := kube.NamespaceLabels(ctx, c.client, claim.Namespace)
	if err != nil {
		return 0, err
	}
	req, invalid := kube.ClaimRequest(claim, labels)
	if invalid != nil {
		after := claim.DeepCopy()
		kube.SetCondition(&after.Status.Conditions, v1alpha1.ConditionReady, false, v1alpha1.ReasonInvalid, invalid.Error(), claim.Generation)
		return 0, c.write(ctx, claim, after)
	}
	d, boundTo := c.ledger.DecideClaim(claim, req)
	if req.Deleting && boundTo == "" {
		if controllerutil.ContainsFinalizer(claim, v1alpha1.FinalizerClaimInUse) {
			return 0, kube.ChangeFinalizer(ctx, c.client, claim, controllerutil.RemoveFinalizer, v1alpha1.FinalizerClaimInUse)
		}
		// Another claim or Service holds it. This claim reserves nothing any more, and Services that name
		// it report that.
		c.ledger.Release(req.Holder)
		d, _ = c.ledger.DecideClaim(&v1alpha1.IPAddressClaim{ObjectMeta: claim.ObjectMeta}, req)
	}
	after := claim.DeepCopy()
	setStatus(after, d, boundTo, c.now())
	if err := c.write(ctx, claim, after); err != nil {
		return 0, err
	}
	c.ledger.Written(req.Holder)
	return c.expire(ctx, after)
}

// expire deletes a claim whose time is over, or returns how long that is to go.
func (c *Controller) expire(ctx context.Context, claim *v1alpha1.IPAddressClaim) (time.Duration, error) {
	ttl, released := claim.Spec.TTLAfterRelease, claim.Status.ReleasedAt
	if ttl == nil || released == nil || claim.DeletionTimestamp != nil {
		return 0, nil
	}
	if left := released.Add(ttl.Duration).Sub(c.now()); left > 0 {
		return left, nil
	}
	// Not if a Service took it meanwhile: its status says so, in a newer version.
	only := client.Preconditions{UID: &claim.UID, ResourceVersion: &claim.ResourceVersion}
	if err := c.client.Delete(ctx, claim, only); err != nil {
		return 0, fmt.Errorf("delete IPAddressClaim %s/%s after its time: %w", claim.Namespace, claim.Name, err)
	}
	return 0, nil
}

// setStatus writes the decision into the claim's status.
func setStatus(claim *v1alpha1.IPAddressClaim, d lb.Decision, boundTo string, now time.Time) {
	s := &claim.Status
	s.Addresses, s.Pools = nil, nil
	for _, g := range d.Grants {
		s.Addresses, s.Pools = append(s.Addresses, g.Addr.String()), append(s.Pools, g.Pool)
	}
	s.Pool = strings.Join(slices.Compact(slices.Clone(s.Pools)), ", ")
	switch {
	case boundTo != "":
		s.ReleasedAt = nil
	case s.BoundTo != "":
		at := metav1.NewTime(now.Add(time.Second - 1).Truncate(time.Second)) // the API keeps whole seconds
		s.ReleasedAt = &at
	}
	s.BoundTo = boundTo
	ready, reason, message := judge(claim, d)
	kube.SetCondition(&s.Conditions, v1alpha1.ConditionReady, ready, reason, message, claim.Generation)
}

// judge returns the claim's Ready condition.
func judge(claim *v1alpha1.IPAddressClaim, d lb.Decision) (ready bool, reason, message string) {
	switch {
	case claim.DeletionTimestamp != nil && claim.Status.BoundTo == "":
		return false, v1alpha1.ReasonInUse, "being deleted; waits for " + strings.Join(claim.Finalizers, ", ")
	case claim.DeletionTimestamp != nil:
		return false, v1alpha1.ReasonInUse, fmt.Sprintf(
			"being deleted; waits for Service %s, which has the addresses: delete it, or remove its annotation %s to let it keep them",
			claim.Status.BoundTo, v1alpha1.AnnotationClaim)
	case !d.Met:
		return false, d.Reason().String(), d.String()
	case claim.Status.BoundTo != "":
		return true, v1alpha1.ReasonBound, fmt.Sprintf("%s; in use by Service %s", d, claim.Status.BoundTo)
	default:
		return true, v1alpha1.ReasonReserved, fmt.Sprintf("%s; for the Service with the annotation %s: %s", d, v1alpha1.AnnotationClaim, claim.Name)
	}
}

// write sends the change of status, if there is one. It fails on a claim that
// changed since it was read: another controller may have decided (invariant A1).
func (c *Controller) write(ctx context.Context, before, after *v1alpha1.IPAddressClaim) error {
	if equality.Semantic.DeepEqual(before.Status, after.Status) {
		return nil
	}
	patch := client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})
	if err := c.client.Status().Patch(ctx, after, patch); err != nil {
		return fmt.Errorf("write status of IPAddressClaim %s/%s: %w", before.Namespace, before.Name, err)
	}
	return nil
}
