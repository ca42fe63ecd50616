// Package references tells in each advertisement and peer whether what it names
// exists: what the API server cannot refuse, as the named thing may come later.
package references

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/kube"
)

// Controller writes the Ready conditions of what refers to other objects.
type Controller struct{ client client.Client }

// New returns a Controller that does nothing until it is registered.
func New(c client.Client) *Controller { return &Controller{client: c} }

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "references" }

// +kubebuilder:rbac:groups=fairlead.dev,resources=ipaddresspools;l2advertisements;bgpadvertisements;bgppeers;bfdprofiles;communities,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=l2advertisements/status;bgpadvertisements/status;bgppeers/status,verbs=patch

// Register adds the controller to the manager. There are a few such objects in
// a cluster and they seldom change, so all of them are looked at together.
func (c *Controller) Register(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(func(context.Context, client.Object) []reconcile.Request {
		return []reconcile.Request{{}}
	})
	b := ctrl.NewControllerManagedBy(mgr).Named(c.Name())
	for _, kind := range []client.Object{
		&v1alpha1.IPAddressPool{}, &v1alpha1.L2Advertisement{}, &v1alpha1.BGPAdvertisement{}, &v1alpha1.BGPPeer{},
		&v1alpha1.BFDProfile{}, &v1alpha1.Community{},
	} {
		b = b.Watches(kind, all, builder.WithPredicates(predicate.GenerationChangedPredicate{}))
	}
	return b.Complete(c)
}

// names is what there is to refer to.
type names struct {
	pools       []v1alpha1.IPAddressPool
	poolNames   []string
	peers       []string
	profiles    []string
	communities []string // aliases
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
	var profiles v1alpha1.BFDProfileList
	var communities v1alpha1.CommunityList
	for _, list := range []client.ObjectList{&pools, &l2, &bgp, &peers, &profiles, &communities} {
		if err := c.client.List(ctx, list); err != nil {
			return reconcile.Result{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	n := names{pools: pools.Items}
	for _, p := range pools.Items {
		n.poolNames = append(n.poolNames, p.Name)
	}
	for _, p := range peers.Items {
		n.peers = append(n.peers, p.Name)
	}
	for _, p := range profiles.Items {
		n.profiles = append(n.profiles, p.Name)
	}
	for _, o := range communities.Items {
		for _, alias := range o.Spec.Communities {
			n.communities = append(n.communities, string(alias.Name))
		}
	}
	var errs []error
	for i := range l2.Items {
		o := &l2.Items[i]
		errs = append(errs, c.write(ctx, o, &o.Status.Conditions, judgeL2(o, n)))
	}
	for i := range bgp.Items {
		o := &bgp.Items[i]
		errs = append(errs, c.write(ctx, o, &o.Status.Conditions, judgeBGP(o, n)))
	}
	for i := range peers.Items {
		o := &peers.Items[i]
		errs = append(errs, c.write(ctx, o, &o.Status.Conditions, judgePeer(o, n)))
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
	return verdict{ready: true, reason: v1alpha1.ReasonAccepted, message: "in force"}
}

func judgeBGP(a *v1alpha1.BGPAdvertisement, n names) verdict {
	if v := missingNames("spec.ipAddressPools", v1alpha1.ReasonPoolNotFound, a.Spec.IPAddressPools, n.poolNames); v != nil {
		return *v
	}
	if v := missingNames("spec.peers", v1alpha1.ReasonPeerNotFound, a.Spec.Peers, n.peers); v != nil {
		return *v
	}
	aliases := slices.DeleteFunc(slices.Clone(a.Spec.Communities), func(r v1alpha1.CommunityReference) bool {
		return strings.Contains(string(r), ":") || slices.Contains(v1alpha1.WellKnownCommunities, string(r))
	})
	if v := missingNames("spec.communities", v1alpha1.ReasonCommunityNotFound, aliases, n.communities); v != nil {
		return *v
	}
	return notYet("BGP")
}

func judgePeer(p *v1alpha1.BGPPeer, n names) verdict {
	if p.Spec.BFDProfile != "" {
		named := []v1alpha1.ObjectName{p.Spec.BFDProfile}
		if v := missingNames("spec.bfdProfile", v1alpha1.ReasonBFDProfileNotFound, named, n.profiles); v != nil {
			return *v
		}
	}
	return notYet("BGP")
}

// notYet says of a kind that this version stores and checks it, and does
// nothing with it: nobody is to wait for what cannot come.
func notYet(what string) verdict {
	return verdict{reason: v1alpha1.ReasonNotSupported, message: "this version of Fairlead does not support " + what + " yet; nothing comes of this object"}
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
	return &verdict{reason: reason, message: field + ": there is no " + strings.Join(missing, ", ") + "; the other names are in force"}
}
