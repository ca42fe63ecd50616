// Package servicestatus tells each Service who announces its addresses, or why nobody
// does.
package servicestatus

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
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
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/view"
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

// byAddress is the index of Services by the addresses in their status: some share
// one.
const byAddress = "address"

func addressesOf(o client.Object) (out []string) {
	for _, a := range kube.IngressAddresses(o.(*corev1.Service)) {
		out = append(out, a.String())
	}
	return out
}

// byService is the index of EndpointSlices by the name of their Service. Without it, each
// look-up costs as much as there are EndpointSlices in the namespace.
const byService = "service"

func serviceNameOf(o client.Object) []string {
	return []string{o.GetLabels()[discoveryv1.LabelServiceName]}
}

type queue = workqueue.TypedRateLimitingInterface[reconcile.Request]

// concerns keeps what has no address, and never had one, out of the queue.
func (c *Controller) concerns(o client.Object) bool {
	svc, ok := o.(*corev1.Service)
	return ok && c.class.Handles(svc) &&
		(len(svc.Status.LoadBalancer.Ingress) > 0 || meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced) != nil)
}

// serviceChanged is concerns, and marks what was gathered as outdated when something of
// the Service changed on which a Service that shares its address depends.
func (c *Controller) serviceChanged() predicate.Funcs {
	f := predicate.NewPredicateFuncs(func(o client.Object) bool {
		c.version.Add(1)
		return c.concerns(o)
	})
	f.UpdateFunc = func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Service), e.ObjectNew.(*corev1.Service)
		if c.class.Handles(before) != c.class.Handles(after) || !maps.Equal(before.Labels, after.Labels) ||
			kube.TrafficPolicy(before) != kube.TrafficPolicy(after) || !slices.Equal(kube.IngressAddresses(before), kube.IngressAddresses(after)) {
			c.version.Add(1)
		}
		return c.concerns(after)
	}
	return f
}

// nodeFactsChanged lets through what changes who may announce, not heartbeats.
var nodeFactsChanged = predicate.Funcs{
	UpdateFunc: func(e event.UpdateEvent) bool {
		before, after := e.ObjectOld.(*corev1.Node), e.ObjectNew.(*corev1.Node)
		return kube.NodeDown(before) != kube.NodeDown(after) || !equality.Semantic.DeepEqual(kube.Node(before), kube.Node(after))
	},
}

func (c *Controller) serviceOf(_ context.Context, o client.Object) []reconcile.Request {
	c.version.Add(1)
	name := types.NamespacedName{Namespace: o.GetNamespace(), Name: o.GetLabels()[discoveryv1.LabelServiceName]}
	return []reconcile.Request{{NamespacedName: name}}
}

func (c *Controller) allServices(ctx context.Context, _ client.Object) []reconcile.Request {
	c.version.Add(1)
	var list corev1.ServiceList
	if err := c.client.List(ctx, &list); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "cannot list Services")
		return nil
	}
	var out []reconcile.Request
	for i := range list.Items {
		if c.concerns(&list.Items[i]) {
			out = append(out, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
		}
	}
	return out
}

// speakerChanged queues the Services whose addresses the speaker began or ceased
// to announce, or all of them when what it can announce changed.
func (c *Controller) speakerChanged(ctx context.Context, q queue, before, after client.Object) {
	c.version.Add(1)
	was, is := speakerOf(before), speakerOf(after)
	if was.able != is.able || !slices.Equal(was.avoid, is.avoid) || !slices.Equal(was.sessions, is.sessions) ||
		!equality.Semantic.DeepEqual(was.interfaces, is.interfaces) {
		for _, r := range c.allServices(ctx, nil) {
			q.Add(r)
		}
		return
	}
	for key, n := range is.layer2 {
		if !equality.Semantic.DeepEqual(was.layer2[key], n) {
			c.enqueueUsers(ctx, q, key)
		}
	}
	for key := range was.layer2 {
		if _, still := is.layer2[key]; !still {
			c.enqueueUsers(ctx, q, key)
		}
	}
	if !equality.Semantic.DeepEqual(was.conflicts, is.conflicts) {
		for _, n := range slices.Concat(was.conflicts, is.conflicts) {
			c.enqueueUsers(ctx, q, n.Address)
		}
	}
}

// enqueueUsers queues the Services that have the address: a Speaker object lists only the
// first few.
func (c *Controller) enqueueUsers(ctx context.Context, q queue, address string) {
	var list corev1.ServiceList
	if err := c.client.List(ctx, &list, client.MatchingFields{byAddress: address}, client.UnsafeDisableDeepCopy); err != nil {
		ctrl.LoggerFrom(ctx).Error(err, "listing the Services of an address failed", "address", address)
		return
	}
	for i := range list.Items {
		q.Add(reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&list.Items[i])})
	}
}

// speakerFacts is what a Speaker object says.
type speakerFacts struct {
	able       bool
	avoid      []lb.Reason
	interfaces []v1alpha1.SpeakerInterface
	layer2     map[string]v1alpha1.SpeakerAddress // by address
	conflicts  []v1alpha1.SpeakerConflict
	sessions   []string // peers whose sessions are up, sorted
}

func speakerOf(o client.Object) speakerFacts {
	s, ok := o.(*v1alpha1.Speaker)
	if !ok || s == nil {
		return speakerFacts{}
	}
	f := speakerFacts{
		able:       view.SpeakerAlive(s),
		avoid:      kube.SpeakerAvoid(s),
		interfaces: s.Status.Interfaces,
		layer2:     map[string]v1alpha1.SpeakerAddress{},
		conflicts:  s.Status.Conflicts,
		sessions:   view.SessionsUp(s),
	}
	for _, a := range s.Status.Layer2 {
		a.Services, a.ServiceCount = nil, 0 // no condition depends on which Services the speaker lists
		f.layer2[a.Address] = a
	}
	return f
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

// gathered is what conditions are decided on, kept for as long as nothing changes: of
// Services that share an address, or that one event concerns, only the first pays for it.
type gathered struct {
	version uint64
	pools   kube.PoolSet
	view    view.View
	known   map[lb.Grant]announced
}

// gather returns what speakers know of the Service, as the API server has it.
func (c *Controller) gather(ctx context.Context, svc *corev1.Service) (serviceView, lb.Assignment, error) {
	all, err := c.objects(ctx)
	if err != nil {
		return serviceView{}, lb.Assignment{}, err
	}
	as, err := c.assignment(ctx, svc, all.pools)
	if err != nil {
		return serviceView{}, lb.Assignment{}, err
	}
	v := serviceView{View: all.view, sharers: map[netip.Addr][]lb.Assignment{}, known: all.known}
	for _, g := range as.Grants {
		if _, known := v.known[g]; known {
			continue
		}
		sharers, err := c.sharers(ctx, g.Addr, all.pools)
		if err != nil {
			return serviceView{}, lb.Assignment{}, err
		}
		if len(sharers) == 0 { // the Service has left it since it was read; it comes again
			v.sharers[g.Addr] = []lb.Assignment{as}
			v.known = maps.Clone(v.known) // not to be kept
			continue
		}
		v.sharers[g.Addr] = sharers
	}
	return v, as, nil
}

// objects returns what the objects that all Services depend on say now.
func (c *Controller) objects(ctx context.Context) (*gathered, error) {
	version := c.version.Load() // before the lists: they may have what comes after it, never less
	c.mu.Lock()
	last := c.last
	c.mu.Unlock()
	if last != nil && last.version == version {
		return last, nil
	}
	var pools v1alpha1.IPAddressPoolList
	var adverts v1alpha1.L2AdvertisementList
	var routes v1alpha1.BGPAdvertisementList
	var peers v1alpha1.BGPPeerList
	var nodes corev1.NodeList
	var speakers v1alpha1.SpeakerList
	for _, list := range []client.ObjectList{&pools, &adverts, &routes, &peers, &nodes, &speakers} {
		if err := c.client.List(ctx, list, client.UnsafeDisableDeepCopy); err != nil {
			return nil, fmt.Errorf("list %T: %w", list, err)
		}
	}
	all := &gathered{version: version, pools: kube.NewPoolSet(pools.Items), known: map[lb.Grant]announced{}, view: view.New(view.Objects{
		Pools: pools.Items, L2Advertisements: adverts.Items, BGPAdvertisements: routes.Items, BGPPeers: peers.Items,
		Nodes: nodes.Items, Speakers: speakers.Items,
	})}
	c.mu.Lock()
	c.last = all
	c.mu.Unlock()
	return all, nil
}

// sharers returns the Services that have the address.
func (c *Controller) sharers(ctx context.Context, a netip.Addr, pools kube.PoolSet) (out []lb.Assignment, err error) {
	var list corev1.ServiceList
	if err := c.client.List(ctx, &list, client.MatchingFields{byAddress: a.String()}, client.UnsafeDisableDeepCopy); err != nil {
		return nil, fmt.Errorf("list Services of %s: %w", a, err)
	}
	for i := range list.Items {
		if !c.class.Handles(&list.Items[i]) {
			continue
		}
		as, err := c.assignment(ctx, &list.Items[i], pools)
		if err != nil {
			return nil, err
		}
		out = append(out, as)
	}
	return out, nil
}

// assignment returns what speakers are to do for the Service.
func (c *Controller) assignment(ctx context.Context, svc *corev1.Service, pools kube.PoolSet) (lb.Assignment, error) {
	var endpoints discoveryv1.EndpointSliceList
	mine := client.MatchingFields{byService: svc.Name}
	if err := c.client.List(ctx, &endpoints, client.InNamespace(svc.Namespace), mine, client.UnsafeDisableDeepCopy); err != nil {
		return lb.Assignment{}, fmt.Errorf("list EndpointSlices of %s: %w", kube.Key(svc), err)
	}
	return kube.Assignment(svc, endpoints.Items, pools), nil
}

// serviceView is what there is to know about the Service.
type serviceView struct {
	view.View
	sharers map[netip.Addr][]lb.Assignment // the Services that have the address
	known   map[lb.Grant]announced         // what was found out before; nil when it is not to be kept
}

// announcementOf returns who announces the address, and what there is to say of it.
func (v *serviceView) announcementOf(g lb.Grant) announced {
	if known, ok := v.known[g]; ok {
		return known
	}
	a := v.Announcement(v.sharers[g.Addr], g)
	found := announced{a, layer2(&v.View, &a), bgp(&a)}
	if v.known == nil {
		v.known = map[lb.Grant]announced{}
	}
	v.known[g] = found
	return found
}

// foreign describes a conflict with a host outside of the cluster.
func foreign(c view.Conflict) string {
	if !c.Answers && c.Announced {
		return fmt.Sprintf("frames on %s of %s say that a host outside of the cluster, %s, has the address too; it does not answer, so they may be forged", c.Interface, c.Node, c.MAC)
	}
	return fmt.Sprintf("a host outside of the cluster, %s on %s of %s, has the address too", c.MAC, c.Interface, c.Node)
}

// state is the Announced condition to be.
type state struct {
	announced bool
	pending   bool         // should be announced in a moment
	contested bool         // some are announced, and a foreign host claims them too
	free      []netip.Addr // those that are announced, and that no foreign host had first
	taken     []taken      // those that a foreign host had first
	reason    lb.Reason
	message   string
}

// judge says who announces the Service's addresses, or why nobody does. One that
// is announced in one way, and not in another that was chosen too, is announced.
func judge(v serviceView, as lb.Assignment) state {
	st := state{announced: true, reason: lb.ReasonAnnounced}
	var parts []string
	for _, g := range as.Grants {
		found := v.announcementOf(g)
		why := found.announcement.Why()
		if why != 0 {
			st.announced, st.reason = false, why
		}
		ways := found.chosen()
		for _, w := range ways {
			st.pending = st.pending || w.pending
			st.taken = append(st.taken, w.taken...)
			st.free = append(st.free, w.free...)
			st.contested = st.contested || w.contested
			switch {
			case w.announced:
				parts = append(parts, w.words)
			case why == 0:
				parts = append(parts, fmt.Sprintf("not by %s: %s", w.name, w.words))
			case len(ways) > 1:
				parts = append(parts, fmt.Sprintf("%s is not announced by %s: %s", g.Addr, w.name, w.words))
			default:
				parts = append(parts, fmt.Sprintf("%s is not announced: %s", g.Addr, w.words))
			}
		}
	}
	st.message = strings.Join(parts, "; ")
	return st
}

// add takes in what else has the Service's addresses: one that clients cannot use is not
// announced to any purpose, whichever node does.
func (s *state) add(blocked []lb.Blocked) {
	for _, b := range blocked {
		if b.Unusable() {
			s.announced, s.reason = false, b.Reason
		}
		s.message += "; " + b.String()
	}
}

// fewNodes is how many nodes or routers a condition names.
const fewNodes = 10

// announced is what there is to say of an address.
type announced struct {
	announcement view.Announcement
	layer2, bgp  way
}

// chosen returns the ways for which there is an advertisement; layer 2 if there is none.
func (a *announced) chosen() []way {
	switch lb.ReasonNoAdvertisement {
	case a.announcement.BGP.Reason:
		return []way{a.layer2}
	case a.announcement.Layer2.Reason:
		return []way{a.bgp}
	default:
		return []way{a.layer2, a.bgp}
	}
}

// way is what there is to say of one way to announce an address.
type way struct {
	name      string
	announced bool
	words     string
	pending   bool    // should be announced in a moment
	taken     []taken // a foreign host had it first

	free      []netip.Addr // no foreign host had it first
	contested bool         // a foreign host claims it too
}

// taken is an address that a foreign host had first.
type taken struct {
	addr netip.Addr
	mac  string
}

// layer2 says who announces the address by layer 2, or why nobody does.
func layer2(v *view.View, a *view.Announcement) way {
	w := way{name: "layer 2"}
	l, addr, family := &a.Layer2, a.Grant.Addr, lb.FamilyOf(a.Grant.Addr)
	switch why := l.Why(); why {
	case 0:
		w.announced, w.contested = true, len(l.Conflicts) > 0
		w.words = fmt.Sprintf("%s by layer 2 from %s (%s)", addr, l.Owner.Node, strings.Join(l.Owner.Interfaces, ", ")) + strain(l.Strained, l.Owner.Node)
		for _, f := range l.Conflicts {
			w.words += "; " + foreign(f)
		}
		if !w.contested {
			w.free = []netip.Addr{addr}
		}
	case lb.ReasonConflict:
		w.words = foreign(l.Conflicts[0])
		if !l.Conflicts[0].Announced {
			w.taken = []taken{{addr, l.Conflicts[0].MAC}}
		}
	case lb.ReasonNotOwner:
		w.pending = true
		w.words = "no node has said so yet; can: " + strings.Join(l.Good, ", ")
	case lb.ReasonNoSubnet:
		w.words = v.NoSubnet(addr) + "; " + view.NoSubnetFix
		if others := slices.DeleteFunc(slices.Clone(l.Rejected), plan.Rejection.LacksInterface); len(others) > 0 {
			w.words += "; " + rejections(others, family)
		}
	default:
		w.words = because(why, l.Rejected, family)
	}
	return w
}

// bgp says who announces the address by BGP, and to whom, or why nobody does.
func bgp(a *view.Announcement) way {
	w := way{name: "BGP"}
	b := &a.BGP
	switch why := b.Why(); why {
	case 0:
		w.announced = true
		w.words = fmt.Sprintf("%s by BGP from %s to %s", a.Grant.Addr, kube.Some(b.From, fewNodes), kube.Some(b.To, fewNodes))
		for _, node := range b.From {
			w.words += strain(b.Strained, node)
		}
		if len(b.Silent) > 0 {
			w.words += fmt.Sprintf(" (not from %s: %s)", kube.Some(b.Silent, fewNodes), lb.ReasonNotEstablished.Words())
		}
		if len(b.Contradictions) > 0 {
			w.words += "; " + lb.Contradictions(b.Contradictions)
		}
	case lb.ReasonNotEstablished:
		w.pending = true
		w.words = kube.Some(b.Silent, fewNodes) + " " + why.Words() + "; see the BGPPeers"
	default:
		w.words = because(why, b.Rejected, lb.FamilyOf(a.Grant.Addr))
	}
	return w
}

// because says why an address is not announced, and what of it holds for which nodes.
func because(why lb.Reason, rejected []plan.Rejection, f lb.Family) string {
	if len(rejected) == 0 {
		return why.WordsFor(f)
	}
	return why.WordsFor(f) + ": " + rejections(rejected, f)
}

// strain says why another node would announce, if there were a better one.
func strain(strained []plan.Rejection, node string) string {
	for _, r := range strained {
		if r.Node == node {
			return fmt.Sprintf(", for want of a better node: %s %s", node, r.Reason.Words())
		}
	}
	return ""
}

// rejections names the nodes that cannot announce an address of the family, by reason.
func rejections(list []plan.Rejection, f lb.Family) string {
	byReason := map[lb.Reason][]string{}
	for _, r := range list {
		byReason[r.Reason] = append(byReason[r.Reason], r.Node)
	}
	var out []string
	for _, r := range slices.Sorted(maps.Keys(byReason)) {
		out = append(out, kube.Some(byReason[r], fewNodes)+" "+r.WordsFor(f))
	}
	return strings.Join(out, "; ")
}
