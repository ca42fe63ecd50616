// Package advertisementstatus tells in each advertisement whether what it names exists: what
// the API server cannot refuse, as the named thing may come later.
package advertisementstatus

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Controller writes the Ready conditions of what refers to other objects.
type Controller struct{ client client.Client }

// New returns a Controller that does nothing until it is registered.
func New(c client.Client) *Controller { return &Controller{client: c} }

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "advertisementstatus" }

// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools;l2advertisements;bgpadvertisements;bgppeers;communities,verbs=list;watch
// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=l2advertisements/status;bgpadvertisements/status,verbs=patch

// Register adds the controller to the manager. There are a few such objects in
// a cluster and they seldom change, so all of them are looked at together.
func (c *Controller) Register(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{}}
	})
	b := ctrl.NewControllerManagedBy(mgr).Named(c.Name()).WithOptions(controller.Options{RateLimiter: apiconn.RateLimiter()})
	for _, kind := range []client.Object{
		&v1alpha1.IPAddressPool{}, &v1alpha1.L2Advertisement{}, &v1alpha1.BGPAdvertisement{}, &v1alpha1.BGPPeer{},
		&v1alpha1.Community{},
	} {
		b = b.Watches(kind, all, builder.WithPredicates(predicate.GenerationChangedPredicate{}))
	}
	b = b.Watches(&corev1.Node{}, all, builder.WithPredicates(predicate.LabelChangedPredicate{}))
	return b.Complete(c)
}

// names is what there is to refer to.
type names struct {
	pools     []v1alpha1.IPAddressPool
	poolNames []string
	peers     []string
	aliases   map[string]lb.Community
	nodes     []lb.Node
}

// verdict is a Ready condition.
type verdict struct {
	ready           bool
	reason, message string
}

// Reconcile looks at every object that refers to others.
func (c *Controller) Reconcile(ctx context.Context, _ reconcile.Request) (reconcile.Result, error) {
	var pools v1alpha1.IPAddressPoolList
	var l2 v1alpha1.L2AdvertisementList
	var bgp v1alpha1.BGPAdvertisementList
	var peers v1alpha1.BGPPeerList
	var communities v1alpha1.CommunityList
	var nodes corev1.NodeList
	for _, list := range []client.ObjectList{&pools, &l2, &bgp, &peers, &communities, &nodes} {
		if err := c.client.List(ctx, list); err != nil {
			return reconcile.Result{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	n := names{pools: pools.Items, aliases: kube.Aliases(communities.Items)}
	for _, p := range pools.Items {
		n.poolNames = append(n.poolNames, p.Name)
	}
	for _, p := range peers.Items {
		n.peers = append(n.peers, p.Name)
	}
	for i := range nodes.Items {
		n.nodes = append(n.nodes, kube.Node(&nodes.Items[i]))
	}
	var errs []error
	for i := range l2.Items {
		o := &l2.Items[i]
		errs = append(errs, c.write(ctx, o, &o.Status.Conditions, judgeL2(o, n)))
	}
	parsed := kube.BGPAdvertisements(bgp.Items, pools.Items, n.aliases)
	for i := range bgp.Items {
		o := &bgp.Items[i]
		errs = append(errs, c.write(ctx, o, &o.Status.Conditions, judgeBGP(o, n, parsed)))
	}
	return reconcile.Result{}, errors.Join(errs...) // one that fails does not keep the others waiting
}

// write sets the object's Ready condition, if it differs.
func (c *Controller) write(ctx context.Context, o client.Object, conditions *[]metav1.Condition, v verdict) error {
	before := o.DeepCopyObject().(client.Object)
	had := slices.Clone(*conditions)
	kube.SetCondition(conditions, v1alpha1.ConditionReady, v.ready, v.reason, v.message, o.GetGeneration())
	if equality.Semantic.DeepEqual(had, *conditions) {
		return nil
	}
	if err := c.client.Status().Patch(ctx, o, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return fmt.Errorf("write status of %T %s: %w", o, o.GetName(), err)
	}
	return nil
}

func judgeL2(a *v1alpha1.L2Advertisement, n names) verdict {
	if v := missingNames("spec.ipAddressPools", v1alpha1.ReasonPoolNotFound, a.Spec.IPAddressPools, n.poolNames); v != nil {
		return *v
	}
	if _, err := kube.L2Advertisement(a, n.pools); err != nil {
		return verdict{reason: v1alpha1.ReasonInvalid, message: err.Error()}
	}
	return verdict{ready: true, reason: v1alpha1.ReasonAccepted, message: "active"}
}

func judgeBGP(a *v1alpha1.BGPAdvertisement, n names, all []lb.BGPAdvertisement) verdict {
	if v := missingNames("spec.ipAddressPools", v1alpha1.ReasonPoolNotFound, a.Spec.IPAddressPools, n.poolNames); v != nil {
		return *v
	}
	if v := missingNames("spec.peers", v1alpha1.ReasonPeerNotFound, a.Spec.Peers, n.peers); v != nil {
		return *v
	}
	_, missing, err := kube.BGPAdvertisement(a, n.pools, n.aliases)
	if err != nil {
		return verdict{reason: v1alpha1.ReasonInvalid, message: err.Error()}
	}
	if v := missingNames("spec.communities", v1alpha1.ReasonCommunityNotFound, missing, nil); v != nil {
		return *v
	}
	if wrong := contradictions(a.Name, all, n); len(wrong) > 0 {
		return verdict{reason: v1alpha1.ReasonContradiction, message: "spec." + lb.Contradictions(wrong) + "; " + kube.ReasonFix(v1alpha1.ReasonContradiction)}
	}
	return verdict{ready: true, reason: v1alpha1.ReasonAccepted, message: "active"}
}

// contradictions returns what the advertisement and others, which are there oldest
// first, say differently of the same routes.
func contradictions(name string, all []lb.BGPAdvertisement, n names) (out []lb.Contradiction) {
	i := slices.IndexFunc(all, func(a lb.BGPAdvertisement) bool { return a.Name == name })
	if i < 0 {
		return nil
	}
	for j := range all {
		older, newer := &all[min(i, j)], &all[max(i, j)]
		if i == j || !meet(older, newer, n) {
			continue
		}
		_, wrong := lb.Merge([]*lb.BGPAdvertisement{older, newer})
		out = append(out, wrong...)
	}
	return out
}

// meet reports whether both advertisements may be for a route of the same length
// from a node to a peer. Two that choose differently among Services are taken to
// choose different ones; of one that both choose its own condition tells.
func meet(x, y *lb.BGPAdvertisement, n names) bool {
	return (x.Length4 == y.Length4 || x.Length6 == y.Length6) &&
		slices.ContainsFunc(n.poolNames, func(p string) bool { return x.SelectsPool(p) && y.SelectsPool(p) }) &&
		slices.ContainsFunc(n.peers, func(p string) bool { return x.SelectsPeer(p) && y.SelectsPeer(p) }) &&
		slices.ContainsFunc(n.nodes, func(o lb.Node) bool { return x.SelectsNode(o.Labels) && y.SelectsNode(o.Labels) }) &&
		(len(x.ServiceSelectors) == 0 || len(y.ServiceSelectors) == 0 || reflect.DeepEqual(x.ServiceSelectors, y.ServiceSelectors))
}

// missingNames returns a verdict on the names that do not exist, or nil.
func missingNames[S ~string](field, reason string, named []S, there []string) *verdict {
	var missing []string
	for _, name := range named {
		if !slices.Contains(there, string(name)) {
			missing = append(missing, fmt.Sprintf("%q", string(name)))
		}
	}
	if len(missing) == 0 {
		return nil
	}
	slices.Sort(missing)
	return &verdict{reason: reason, message: field + ": there is no " + strings.Join(missing, ", ") + "; the other names are used"}
}
