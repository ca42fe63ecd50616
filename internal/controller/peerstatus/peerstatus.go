// Package peerstatus tells in each BGPPeer how many of its sessions are up, and
// why the others are not.
package peerstatus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// writeEvery is the least time between two writes of one peer's status: sessions
// of many nodes come up one after the other.
const writeEvery = time.Second

// Controller writes the status of BGPPeers.
type Controller struct {
	client client.Client
	now    func() time.Time
	writes *kube.WriteLimit // by peer
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, now func() time.Time) *Controller {
	return &Controller{client: c, now: now, writes: kube.NewWriteLimit(writeEvery)}
}

// Name names the controller in logs and metrics.
func (c *Controller) Name() string { return "peerstatus" }

// +kubebuilder:rbac:groups="",resources=nodes,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=bgppeers;speakers,verbs=list;watch
// +kubebuilder:rbac:groups=fairlead.dev,resources=bgppeers/status,verbs=patch

// Register adds the controller to the manager. Of two peers that are the same
// router one knows of the other, so all are looked at when one changes.
func (c *Controller) Register(mgr ctrl.Manager) error {
	all := handler.EnqueueRequestsFromMapFunc(c.all)
	return ctrl.NewControllerManagedBy(mgr).Named(c.Name()).
		Watches(&v1alpha1.BGPPeer{}, all, builder.WithPredicates(predicate.GenerationChangedPredicate{})).
		Watches(&v1alpha1.Speaker{}, all, builder.WithPredicates(sessionsChanged)).
		Watches(&corev1.Node{}, all, builder.WithPredicates(nodesChanged)).
		WithOptions(controller.Options{RateLimiter: apiconn.RateLimiter()}).
		Complete(c)
}

func (c *Controller) all(ctx context.Context, _ client.Object) (out []reconcile.Request) {
	var peers v1alpha1.BGPPeerList
	if err := c.client.List(ctx, &peers, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list BGPPeers")
		return nil
	}
	for i := range peers.Items {
		out = append(out, reconcile.Request{NamespacedName: types.NamespacedName{Name: peers.Items[i].Name}})
	}
	return out
}

// sessionsChanged lets through what is said of sessions, but for how many routes
// there are in them.
var sessionsChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*v1alpha1.Speaker), e.ObjectNew.(*v1alpha1.Speaker)
		return view.SpeakerAlive(before) != view.SpeakerAlive(after) || !slices.EqualFunc(before.Status.BGPSessions, after.Status.BGPSessions, func(x, y v1alpha1.SpeakerBGPSession) bool {
			x.Prefixes, y.Prefixes = 0, 0
			return equality.Semantic.DeepEqual(x, y)
		})
	},
}

// nodesChanged lets through what changes who is to have a session, and who is dead.
var nodesChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
		return kube.NodeDown(before) != kube.NodeDown(after) || !maps.Equal(before.Labels, after.Labels)
	},
}

// Reconcile writes one peer's status.
func (c *Controller) Reconcile(ctx context.Context, req reconcile.Request) (reconcile.Result, error) {
	var peers v1alpha1.BGPPeerList
	var nodes corev1.NodeList
	var speakers v1alpha1.SpeakerList
	for _, list := range []client.ObjectList{&peers, &nodes, &speakers} {
		if err := c.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return reconcile.Result{}, fmt.Errorf("list %T: %w", list, err)
		}
	}
	i := slices.IndexFunc(peers.Items, func(p v1alpha1.BGPPeer) bool { return p.Name == req.Name })
	if i < 0 {
		c.writes.Forget(req.Name)
		return reconcile.Result{}, nil
	}
	before := &peers.Items[i]
	after := before.DeepCopy()
	st := statusOf(before.Name, peers.Items, nodes.Items, speakers.Items)
	after.Status.SessionsWanted, after.Status.SessionsEstablished = int32(st.wanted), int32(st.up)
	kube.SetCondition(&after.Status.Conditions, v1alpha1.ConditionReady, st.ready, st.reason, st.message, before.Generation)
	if equality.Semantic.DeepEqual(before.Status, after.Status) {
		return reconcile.Result{}, nil
	}
	if wait := c.writes.Wait(before.Name, c.now()); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := c.client.Status().Patch(ctx, after, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("write status of BGPPeer %s: %w", before.Name, err)
	}
	c.writes.Written(before.Name, c.now())
	return reconcile.Result{}, nil
}

// state is the status to be.
type state struct {
	wanted, up      int
	ready           bool
	reason, message string
}

// statusOf returns the status of a peer from the sessions that it should have.
func statusOf(name string, peers []v1alpha1.BGPPeer, nodes []corev1.Node, speakers []v1alpha1.Speaker) state {
	all, faults := kube.NewPeers(peers)
	if f := faults[name]; f != nil {
		return state{reason: f.Reason, message: f.Message}
	}
	var st state
	why, notes := map[string][]string{}, map[string][]string{} // words -> nodes
	reasons := map[string]bool{}
	for _, s := range view.Sessions(name, all, nodes, speakers) {
		if !s.Wanted {
			continue
		}
		st.wanted++
		if s.Up() {
			st.up++
		}
		switch {
		case !s.Up():
			why[s.Words] = append(why[s.Words], s.Node)
			reasons[s.Reason] = true
		case s.Words != "":
			notes[s.Words] = append(notes[s.Words], s.Node)
			reasons[s.Reason] = true
		}
	}
	st.message = fmt.Sprintf("Established %d/%d", st.up, st.wanted)
	switch {
	case st.wanted == 0:
		st.reason, st.message = v1alpha1.ReasonNoNodes, "spec.nodeSelectors: no node with a speaker matches"
		return st
	case st.up == st.wanted:
		st.ready, st.reason = true, v1alpha1.ReasonEstablished
	default:
		st.reason = v1alpha1.ReasonNotEstablished
		st.message += ": " + grouped(why)
	}
	if len(notes) > 0 {
		st.message += "; " + grouped(notes)
	}
	delete(reasons, "")
	if len(reasons) == 1 { // all fail for one that has a name
		for r := range reasons {
			st.ready, st.reason = false, r
		}
	}
	return st
}

// grouped names nodes by what they say, in the order of the nodes.
func grouped(said map[string][]string) string {
	var parts []string
	for words, nodes := range said {
		slices.Sort(nodes)
		parts = append(parts, kube.Some(nodes, 10)+" "+words)
	}
	slices.Sort(parts)
	return strings.Join(parts, "; ")
}
