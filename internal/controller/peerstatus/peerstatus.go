// Package peerstatus tells in each BGPPeer how many of its sessions are up, and
// why the others are not.
package peerstatus

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
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
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// writeEvery is the least time between two writes of one peer's status: sessions
// of many nodes come up one after the other.
const writeEvery = time.Second

// Controller writes the status of BGPPeers.
type Controller struct {
	client client.Client
	now    func() time.Time

	mu      sync.Mutex           // guards the field below
	written map[string]time.Time // peer -> when its status was last written
}

// New returns a Controller that does nothing until it is registered.
func New(c client.Client, now func() time.Time) *Controller {
	return &Controller{client: c, now: now, written: map[string]time.Time{}}
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
		return alive(before) != alive(after) || !slices.EqualFunc(before.Status.BGPSessions, after.Status.BGPSessions, func(x, y v1alpha1.SpeakerBGPSession) bool {
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

// alive reports whether the speaker says that it works.
func alive(s *v1alpha1.Speaker) bool {
	return meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionReady)
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
		c.forget(req.Name)
		return reconcile.Result{}, nil
	}
	before := &peers.Items[i]
	after := before.DeepCopy()
	st := judge(before.Name, peers.Items, nodes.Items, speakers.Items)
	after.Status.SessionsWanted, after.Status.SessionsEstablished = int32(st.wanted), int32(st.up)
	kube.SetCondition(&after.Status.Conditions, v1alpha1.ConditionReady, st.ready, st.reason, st.message, before.Generation)
	if equality.Semantic.DeepEqual(before.Status, after.Status) {
		return reconcile.Result{}, nil
	}
	if wait := c.tooSoon(before.Name); wait > 0 {
		return reconcile.Result{RequeueAfter: wait}, nil
	}
	if err := c.client.Status().Patch(ctx, after, client.MergeFrom(before)); client.IgnoreNotFound(err) != nil {
		return reconcile.Result{}, fmt.Errorf("write status of BGPPeer %s: %w", before.Name, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.written[before.Name] = c.now()
	return reconcile.Result{}, nil
}

// tooSoon returns how long to wait until the peer may be written again.
func (c *Controller) tooSoon(name string) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.written[name].Add(writeEvery).Sub(c.now())
}

func (c *Controller) forget(name string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.written, name)
}

// state is the status to be.
type state struct {
	wanted, up      int
	ready           bool
	reason, message string
}

// judge says how the sessions of a peer are. They are wanted on the nodes that it
// selects and that have a speaker, or had one.
func judge(name string, peers []v1alpha1.BGPPeer, nodes []corev1.Node, speakers []v1alpha1.Speaker) state {
	all, faults := kube.NewPeers(peers)
	if f := faults[name]; f != nil {
		return state{reason: f.Reason, message: f.Message}
	}
	speakerOf := map[string]*v1alpha1.Speaker{}
	for i := range speakers {
		speakerOf[speakers[i].Name] = &speakers[i]
	}
	i := slices.IndexFunc(all, func(p kube.Peer) bool { return p.Name == name })
	var st state
	why := map[string][]string{} // words -> nodes
	reasons := map[string]bool{}
	notes := map[string][]string{}
	for j := range nodes {
		n := &nodes[j]
		sp, labels := speakerOf[n.Name], lb.LabelsOf(n.Labels)
		if sp == nil || !all[i].SelectsNode(labels) {
			continue
		}
		st.wanted++
		_, faults := all.Of(labels)
		up, reason, words := session(name, n, sp, faults[name])
		if up {
			st.up++
		} else {
			why[words] = append(why[words], n.Name)
			reasons[reason] = true
		}
		if up && words != "" {
			notes[words] = append(notes[words], n.Name)
			reasons[reason] = true
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

// session reports whether the node has its session, or why it has not; words may
// also say what a session that is up lacks.
func session(peer string, n *corev1.Node, sp *v1alpha1.Speaker, fault *kube.Fault) (up bool, reason, words string) {
	switch {
	case kube.NodeDown(n) || !alive(sp):
		return false, "", "its speaker is not alive"
	case fault != nil:
		return false, fault.Reason, fault.Message
	}
	i := slices.IndexFunc(sp.Status.BGPSessions, func(s v1alpha1.SpeakerBGPSession) bool { return s.Peer == peer })
	if i < 0 {
		return false, "", "its speaker has not said anything yet"
	}
	s := &sp.Status.BGPSessions[i]
	switch {
	case s.State == v1alpha1.BGPSessionEstablished && s.Note == "" && s.BFD != "" && s.BFD != v1alpha1.BFDSessionUp:
		return true, s.Reason, "BFD is not up, so nothing watches the path; is it on for this node on the router?"
	case s.State == v1alpha1.BGPSessionEstablished:
		return true, s.Reason, s.Note
	case s.LastError != "":
		return false, s.Reason, s.LastError
	default:
		return false, s.Reason, "connecting"
	}
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
