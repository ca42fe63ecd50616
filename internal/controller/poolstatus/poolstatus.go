// Package poolstatus keeps the ledger's pools as the API has them, and tells in
// each IPAddressPool's status what has become of its addresses.
package poolstatus

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/tools/events"
	"k8s.io/client-go/util/workqueue"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/allocator"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// writeEvery is the least time between two writes of one pool's status
// (invariant A6): a burst of assignments makes one write a second.
const writeEvery = time.Second

// Controller keeps pools and their status.
type Controller struct {
	client   client.Client
	ledger   *ledger.Ledger
	recorder events.EventRecorder
	now      func() time.Time
	writes   *kube.WriteLimit // by pool

	mu   sync.Mutex        // guards the field below
	seen map[string]string // pool -> the version whose spec the ledger has
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, l *ledger.Ledger, r events.EventRecorder, now func() time.Time) *Controller {
	return &Controller{client: c, ledger: l, recorder: r, now: now, seen: map[string]string{}, writes: kube.NewWriteLimit(writeEvery)}
}

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "poolstatus" }

// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools,verbs=list;watch;patch
// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools/status,verbs=patch
// +kubebuilder:rbac:groups="",resources=services,verbs=list;watch
// +kubebuilder:rbac:groups=events.k8s.io,resources=events,verbs=create;patch

// Register adds the controller to the manager.
func (c *Controller) Register(mgr ctrl.Manager) error {
	return ctrl.NewControllerManagedBy(mgr).
		Named(c.Name()).
		For(&v1alpha1.IPAddressPool{}).
		WatchesRawSource(source.Func(c.hearUse)).
		WithOptions(controller.Options{RateLimiter: apiconn.RateLimiter()}).
		Complete(c)
}

// hearUse queues the pools whose use changed.
func (c *Controller) hearUse(_ context.Context, q workqueue.TypedRateLimitingInterface[reconcile.Request]) error {
	c.ledger.OnUse(func(pool string) {
		q.Add(reconcile.Request{NamespacedName: types.NamespacedName{Name: pool}})
	})
	return nil
}

// Reconcile passes a changed spec on to the ledger and writes one pool's status.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	if err := c.ledger.Restore(ctx); err != nil {
		return reconcile.Result{}, err
	}
	var pool v1alpha1.IPAddressPool
	err := c.client.Get(ctx, req.NamespacedName, &pool)
	if client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("get IPAddressPool %s: %w", req.Name, err)
	}
	gone := err != nil
	if err := c.refresh(ctx, req.Name, &pool, gone); err != nil || gone {
		return reconcile.Result{}, err
	}
	usage, invalid, inForce := c.ledger.Usage(pool.Name)
	if err := c.hold(ctx, &pool, inUse(usage)); err != nil {
		return reconcile.Result{}, ignoreOutdated(err)
	}
	if wait := c.writes.Wait(pool.Name, c.now()); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	after := pool.DeepCopy()
	if inForce {
		setUsage(&after.Status, usage)
	}
	ready, reason, message := c.judge(&pool, usage, invalid, inForce)
	kube.SetCondition(&after.Status.Conditions, v1alpha1.ConditionReady, ready, reason, message, pool.Generation)
	return reconcile.Result{}, ignoreOutdated(c.write(ctx, &pool, after))
}

// ignoreOutdated drops the error of a write to a pool that was changed or
// deleted since it was read: the new version comes by the watch.
func ignoreOutdated(err error) error {
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return nil
	}
	return err
}

// refresh gives the ledger all pools when this one's spec is new to it.
func (c *Controller) refresh(ctx context.Context, name string, pool *v1alpha1.IPAddressPool, gone bool) error {
	version := ""
	if !gone {
		version = fmt.Sprint(pool.UID, pool.Generation, pool.DeletionTimestamp != nil)
	}
	c.mu.Lock()
	known := !gone && c.seen[name] == version
	c.mu.Unlock()
	if known {
		return nil
	}
	var all v1alpha1.IPAddressPoolList
	if err := c.client.List(ctx, &all); err != nil {
		return fmt.Errorf("list IPAddressPools: %w", err)
	}
	c.ledger.SetPools(all.Items)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[name] = version
	if gone {
		delete(c.seen, name)
		c.writes.Forget(name)
	}
	return nil
}

// write sends the change of status, if there is one, and tells the Services whose
// addresses are retiring by it.
func (c *Controller) write(ctx context.Context, pool, after *v1alpha1.IPAddressPool) error {
	if equality.Semantic.DeepEqual(pool.Status, after.Status) {
		return nil
	}
	if err := c.client.Status().Patch(ctx, after, client.MergeFrom(pool)); err != nil {
		return fmt.Errorf("write status of IPAddressPool %s: %w", pool.Name, err)
	}
	c.writes.Written(pool.Name, c.now())
	retiring := map[string][]string{} // Service -> addresses
	for _, r := range after.Status.Retiring {
		if !slices.Contains(pool.Status.Retiring, r) {
			retiring[r.Service] = append(retiring[r.Service], r.Address)
		}
	}
	for service, addresses := range retiring {
		c.tell(ctx, service, addresses, pool)
	}
	return nil
}

// tell records on the Service that addresses of it are retiring. The pool is in
// the event, or the recorder would fold those of two pools into one.
func (c *Controller) tell(ctx context.Context, service string, addresses []string, pool *v1alpha1.IPAddressPool) {
	namespace, name, ok := strings.Cut(service, "/")
	var svc corev1.Service
	if !ok || c.client.Get(ctx, types.NamespacedName{Namespace: namespace, Name: name}, &svc) != nil {
		return // a claim, or gone already
	}
	c.recorder.Eventf(&svc, pool, corev1.EventTypeNormal, v1alpha1.EventRetiring, "Edit",
		"No longer in pool %q: %s; the Service keeps it until it releases it", pool.Name, strings.Join(addresses, ", "))
}

// inUse reports whether anybody has an address of the pool.
func inUse(u allocator.Usage) bool { return u.Assigned[lb.IPv4]+u.Assigned[lb.IPv6] > 0 }

// hold adds or removes the finalizer that keeps a pool while it is in use.
func (c *Controller) hold(ctx context.Context, pool *v1alpha1.IPAddressPool, inUse bool) error {
	change := controllerutil.RemoveFinalizer
	if inUse {
		if pool.DeletionTimestamp != nil {
			return nil // too late to add one
		}
		change = controllerutil.AddFinalizer
	}
	return kube.ChangeFinalizer(ctx, c.client, pool, change, v1alpha1.FinalizerPoolInUse)
}

// setUsage writes the counts and the retiring addresses into the status.
func setUsage(s *v1alpha1.IPAddressPoolStatus, u allocator.Usage) {
	s.AssignedIPv4, s.AssignedIPv6 = int64(u.Assigned[lb.IPv4]), int64(u.Assigned[lb.IPv6])
	s.AvailableIPv4, s.AvailableIPv6 = saturate(u.Available[lb.IPv4]), saturate(u.Available[lb.IPv6])
	s.Retiring = nil
	for _, r := range u.Retiring[:min(len(u.Retiring), v1alpha1.MaxRetiring)] {
		s.Retiring = append(s.Retiring, v1alpha1.RetiringAddress{Address: r.Addr.String(), Service: r.Holder.String()})
	}
}

func saturate(n uint64) int64 { return int64(min(n, math.MaxInt64)) }

// judge returns the pool's Ready condition. inForce says that the ledger has the
// pool, if only as it was before it became invalid.
func (c *Controller) judge(pool *v1alpha1.IPAddressPool, u allocator.Usage, invalid error, inForce bool) (ready bool, reason, message string) {
	answerAll := c.ledger.HostsThatAnswerAll(pool.Name)
	switch {
	case pool.DeletionTimestamp != nil && !inUse(u):
		return false, v1alpha1.ReasonInUse, "being deleted; waits for " + strings.Join(pool.Finalizers, ", ")
	case pool.DeletionTimestamp != nil:
		return false, v1alpha1.ReasonInUse, "being deleted; waits for " + kube.Some(c.ledger.Users(pool.Name), 5)
	case invalid != nil && !inForce:
		return false, v1alpha1.ReasonInvalid, invalid.Error()
	case invalid != nil:
		return false, v1alpha1.ReasonInvalid, invalid.Error() + "; the last valid spec stays in effect"
	case u.Overlaps != "":
		return false, v1alpha1.ReasonOverlap, fmt.Sprintf(
			"has addresses that the older pool %q has too; assigns nothing until spec.addresses of one of them is changed", u.Overlaps)
	case pool.Spec.Disabled:
		return false, v1alpha1.ReasonDisabled, "spec.disabled is true: the pool assigns nothing new; Services keep their addresses"
	case len(answerAll) > 0:
		return false, v1alpha1.ReasonHostAnswersAll, fmt.Sprintf(
			"a host outside of the cluster, %s, answers for every address that was tried; no address is announced that it answers for, and another is tried only every %s",
			kube.Some(answerAll, 3), ledger.HostRetry)
	case len(u.Retiring) > 0:
		message = fmt.Sprintf("%d addresses in use are no longer in spec.addresses; see status.retiring", len(u.Retiring))
	default:
		message = "active"
	}
	return true, v1alpha1.ReasonAccepted, message + withheld(c.ledger.Withheld(pool.Name))
}

// fewWithheld is how many addresses that are not assigned a condition names.
const fewWithheld = 3

// withheld says which addresses of the pool are not assigned as something else has them.
func withheld(list []lb.Blocked) string {
	if len(list) == 0 {
		return ""
	}
	var words []string
	for _, b := range list {
		words = append(words, fmt.Sprintf("%s (%s)", b.Addr, b.Block))
	}
	return "; not assigned: " + kube.Some(words, fewWithheld)
}
