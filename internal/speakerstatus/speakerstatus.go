// Package speakerstatus writes the Speaker object of a node.
package speakerstatus

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/layer2"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
	"github.com/fairlead-lb/fairlead/internal/retry"
)

const (
	// writeEvery is the least time between two writes of the Speaker's status.
	writeEvery = time.Second
	// gatherFor is how long it is waited for more to say than how many speakers are in
	// touch. When one dies, that changes for all, and most have more to say a moment
	// later; each speaker hears of each write.
	gatherFor = time.Second
	// writeTimeout bounds one write, so that a frozen API server is noticed.
	writeTimeout = 5 * time.Second
)

// Report is what a speaker reports about itself.
type Report struct {
	Interfaces    []netif.Interface
	HostAddresses []v1alpha1.SpeakerHostAddress
	Keys          [][]byte            // of the gossip
	Owned         []lb.L2Announcement // sorted by address
	Users         map[netip.Addr][]lb.ServiceKey
	Since         map[netip.Addr]time.Time
	Conflicts     []layer2.Conflict
	Ready         bool
	Reason        string
	Message       string
	Gossip        *v1alpha1.SpeakerGossip // nil while this speaker looks for the others
	Endpoint      EndpointFault
	Moved         Moved
	Sessions      []v1alpha1.SpeakerBGPSession
	KubeProxy     string // the reason of ConditionKubeProxyHealthy, or ""
	Checked       bool   // Findings are known
	Findings      []nodecheck.Finding
	Clock         clockcheck.Verdict

	recreate bool // the object may have been deleted
}

// EndpointFault is what is wrong with a speaker's endpoint; Reason is "" for nothing.
type EndpointFault struct{ Reason, Message string }

// Moved is what became of the last orders to take addresses over.
type Moved struct {
	Reason    string // "" when there were none
	Message   string
	Addresses []netip.Addr      // that were taken over; the last v1alpha1.MaxMoved
	Heeded    map[string]string // annotations to remove
}

// Config is what a Writer needs.
type Config struct {
	API      client.Client
	Node     string
	Endpoint netip.AddrPort // for the gossip; not valid while there is none
	Version  string
	Log      logr.Logger
}

// +kubebuilder:rbac:groups="",resources=nodes,verbs=get
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers,verbs=get;create;patch
// +kubebuilder:rbac:groups=fairlead.dev,resources=speakers/status,verbs=patch

// Writer writes this node's Speaker object. It works beside the loop that
// announces, so that the API server's troubles do not reach it.
type Writer struct {
	api      client.Client
	node     string
	endpoint netip.AddrPort
	version  string
	log      logr.Logger
	next     chan Report // has room for one: the latest

	// last is the object as last written or read, nil when that is unknown.
	// Nothing else writes it, and a cache could be behind our own writes.
	last *v1alpha1.Speaker
	told *Report // that last says, nil when that is unknown
}

// New returns a Writer that writes nothing until Run or Write.
func New(cfg Config) *Writer {
	return &Writer{
		api: cfg.API, node: cfg.Node, endpoint: cfg.Endpoint, version: cfg.Version,
		log: cfg.Log, next: make(chan Report, 1),
	}
}

// Put makes r what Run writes next, in place of what it has not written yet. gone says that
// the object was deleted.
func (w *Writer) Put(r Report, gone bool) {
	r.recreate = gone
	for {
		select {
		case w.next <- r:
			return
		default:
		}
		select {
		case <-w.next: // make room
		default:
		}
	}
}

// Run writes what is Put, at most once a second, until ctx ends.
func (w *Writer) Run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-w.next:
			r = w.gather(ctx, r)
			if err := w.Write(ctx, r); err != nil && ctx.Err() == nil {
				w.log.Error(err, "cannot write the Speaker's status; retrying")
				select {
				case w.next <- r: // unless there is a later one
				default:
				}
			}
		}
		if retry.Sleep(ctx, writeEvery) != nil {
			return
		}
	}
}

// gather returns the report, or a later one that says more than it.
func (w *Writer) gather(ctx context.Context, r Report) Report {
	enough := time.After(gatherFor)
	for w.told != nil && r.saysAs(w.told) {
		select {
		case <-ctx.Done():
			return r
		case <-enough:
			return r
		case r = <-w.next:
		}
	}
	return r
}

// Write makes the Speaker's status what r says, if it is not that already.
func (w *Writer) Write(ctx context.Context, r Report) error {
	ctx, cancel := context.WithTimeout(ctx, writeTimeout)
	defer cancel()
	if w.last == nil || r.recreate {
		sp, err := w.ensure(ctx)
		if err != nil {
			return err
		}
		w.last, w.told = spare(sp), nil
	}
	status := w.status(r)
	if !equality.Semantic.DeepEqual(w.last.Status, status) {
		after := w.last.DeepCopy()
		after.Status = status
		if err := w.api.Status().Patch(ctx, after, client.MergeFrom(w.last)); err != nil {
			w.last = nil
			return fmt.Errorf("write status of Speaker %s: %w", w.node, err)
		}
		w.last = spare(after)
	}
	w.told = &r
	return w.remove(ctx, r.Moved.Heeded)
}

// spare leaves out what the API server says of who wrote which field: it is as long as
// all the rest, and would be copied and compared with each write.
func spare(sp *v1alpha1.Speaker) *v1alpha1.Speaker {
	sp.ManagedFields = nil
	return sp
}

// remove removes annotations, those that still have these values: a user may have
// written another meanwhile.
func (w *Writer) remove(ctx context.Context, annotations map[string]string) error {
	if len(annotations) == 0 {
		return nil
	}
	sp := &v1alpha1.Speaker{}
	if err := w.api.Get(ctx, client.ObjectKey{Name: w.node}, sp); err != nil {
		return fmt.Errorf("get Speaker %s: %w", w.node, err)
	}
	before := sp.DeepCopy()
	maps.DeleteFunc(sp.Annotations, func(name, value string) bool {
		old, heeded := annotations[name]
		return heeded && value == old
	})
	if len(sp.Annotations) == len(before.Annotations) {
		return nil
	}
	if err := w.api.Patch(ctx, sp, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("remove the heeded annotations of Speaker %s: %w", w.node, err)
	}
	return nil
}

// ensure returns this node's Speaker object, made if it is not there. It goes
// with its Node.
func (w *Writer) ensure(ctx context.Context) (*v1alpha1.Speaker, error) {
	sp := &v1alpha1.Speaker{}
	err := w.api.Get(ctx, client.ObjectKey{Name: w.node}, sp)
	if !apierrors.IsNotFound(err) {
		return sp, err
	}
	var node corev1.Node
	if err := w.api.Get(ctx, client.ObjectKey{Name: w.node}, &node); err != nil {
		return nil, fmt.Errorf("get Node %s: %w", w.node, err)
	}
	sp = &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{
		Name: w.node,
		OwnerReferences: []metav1.OwnerReference{{
			APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID,
		}},
	}}
	if err := w.api.Create(ctx, sp); err != nil {
		return nil, fmt.Errorf("create Speaker %s: %w", w.node, err)
	}
	return sp, nil
}

// status is what the report says, with the times of conditions that are as before.
func (w *Writer) status(r Report) v1alpha1.SpeakerStatus {
	before := &w.last.Status
	s := v1alpha1.SpeakerStatus{
		Version: w.version, OwnedAddresses: int32(len(r.Owned)),
		BGPSessions: r.Sessions, Sessions: upOf(r.Sessions), Conditions: slices.Clone(before.Conditions),
		Gossip: r.Gossip, MovedAddresses: before.MovedAddresses, ClockOffset: before.ClockOffset,
	}
	kube.RemoveFormerConditions(&s)
	if w.endpoint.Addr().IsValid() {
		s.GossipEndpoint = w.endpoint.String()
	}
	for _, k := range r.Keys {
		s.GossipKeys = append(s.GossipKeys, kube.Fingerprint(k))
	}
	for _, i := range r.Interfaces {
		s.Interfaces = append(s.Interfaces, v1alpha1.SpeakerInterface{
			Name: i.Name, MAC: i.MAC, Up: i.Up, Internal: i.Internal,
			Addresses: texts(i.Prefixes), OnLink: texts(i.OnLink[:min(len(i.OnLink), v1alpha1.MaxSpeakerOnLink)]),
			UplinkFor: families(i.Uplink), Gateways: texts(i.Gateways[:min(len(i.Gateways), v1alpha1.MaxSpeakerGateways)]),
			Fails: families(i.Fails),
		})
	}
	s.HostAddresses = r.HostAddresses
	if r.ownsAs(w.told) {
		s.Layer2 = before.Layer2 // there may be hundreds
	} else {
		s.Layer2 = r.layer2()
	}
	l := listing{left: conflictServiceBytes}
	for _, c := range r.Conflicts[:min(len(r.Conflicts), v1alpha1.MaxSpeakerConflicts)] {
		users := r.Users[c.Addr]
		s.Conflicts = append(s.Conflicts, v1alpha1.SpeakerConflict{
			Address: c.Addr.String(), Interface: c.Interface, MAC: c.MAC, Defended: c.Defended, Announced: c.Announced, Answers: c.Answers,
			Services: l.names(users), ServiceCount: int32(len(users)), //nolint:gosec // an API server holds fewer
		})
	}
	kube.SetCondition(&s.Conditions, v1alpha1.ConditionReady, r.Ready, r.Reason, r.Message, 0)
	if r.Endpoint.Reason != "" {
		kube.SetCondition(&s.Conditions, v1alpha1.ConditionEndpointValid, false, r.Endpoint.Reason, r.Endpoint.Message, 0)
	} else if meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionEndpointValid) != nil {
		kube.SetCondition(&s.Conditions, v1alpha1.ConditionEndpointValid, true, v1alpha1.ReasonValid, "no other speaker has the endpoint, and all can reach it", 0)
	}
	if r.Moved.Reason != "" {
		s.MovedAddresses = texts(r.Moved.Addresses)
		kube.SetCondition(&s.Conditions, v1alpha1.ConditionMoved, r.Moved.Reason == v1alpha1.ReasonMoved, r.Moved.Reason, r.Moved.Message, 0)
	}
	if r.Checked {
		sound(&s, r.Findings)
	}
	if r.KubeProxy != "" {
		kube.SetCondition(&s.Conditions, v1alpha1.ConditionKubeProxyHealthy, r.KubeProxy == v1alpha1.ReasonHealthy, r.KubeProxy, proxyWords[r.KubeProxy], 0)
	}
	clockIs(&s, r.Clock)
	return s
}

func texts[T fmt.Stringer](list []T) (out []string) {
	for _, x := range list {
		out = append(out, x.String())
	}
	return out
}

func families(list []lb.Family) (out []v1alpha1.IPFamily) {
	for _, f := range list {
		out = append(out, v1alpha1.IPFamily(f.String()))
	}
	return out
}

// saysAs reports whether the other report says the same, but for how many speakers are in
// touch.
func (r *Report) saysAs(o *Report) bool {
	if !r.ownsAs(o) {
		return false
	}
	like := *r
	like.Message, like.Gossip = o.Message, o.Gossip
	like.Owned, like.Users, like.Since = o.Owned, o.Users, o.Since
	return reflect.DeepEqual(like, *o)
}

// ownsAs reports whether the other report says the same of what is owned.
func (r *Report) ownsAs(o *Report) bool {
	return o != nil && sameSlice(r.Owned, o.Owned) && maps.EqualFunc(r.Users, o.Users, slices.Equal)
}

// layer2 is what is owned.
func (r *Report) layer2() (out []v1alpha1.SpeakerAddress) {
	l := listing{left: layer2ServiceBytes}
	for _, a := range r.Owned[:min(len(r.Owned), v1alpha1.MaxSpeakerLayer2)] {
		users := r.Users[a.Addr]
		out = append(out, v1alpha1.SpeakerAddress{
			Address: a.Addr.String(), Interfaces: a.Interfaces, Since: metav1.NewTime(r.Since[a.Addr].Truncate(time.Second)),
			Services: l.names(users), ServiceCount: int32(len(users)), //nolint:gosec // an API server holds fewer
		})
	}
	return out
}

// sound is the condition that says what was found in the node's kernel and heard on
// its network, of which the reason is the worst.
func sound(s *v1alpha1.SpeakerStatus, findings []nodecheck.Finding) {
	reason, words := v1alpha1.ReasonChecksPassed, []string{"no kernel setting or network condition interferes with announcing"}
	if len(findings) > 0 {
		reason, words = networkReasons[findings[0].Kind], nil
	}
	for _, f := range findings {
		words = append(words, f.Message)
	}
	kube.SetCondition(&s.Conditions, v1alpha1.ConditionNetworkReady, len(findings) == 0, reason, strings.Join(words, ". "), 0)
}

var networkReasons = map[nodecheck.Kind]string{
	nodecheck.StrictARPMissing:  v1alpha1.ReasonStrictARPMissing,
	nodecheck.AddressHeld:       v1alpha1.ReasonAddressHeld,
	nodecheck.DuplicateNodeName: v1alpha1.ReasonDuplicateNodeName,
	nodecheck.DHCPInPool:        v1alpha1.ReasonDHCPInPool,
	nodecheck.NotForwarding:     v1alpha1.ReasonNotForwarding,
	nodecheck.StrictReversePath: v1alpha1.ReasonStrictReversePath,
	nodecheck.BridgeKeepsARP:    v1alpha1.ReasonBridgeKeepsARP,
	nodecheck.Wireless:          v1alpha1.ReasonWireless,
}

// proxyWords explain the reasons of ConditionKubeProxyHealthy.
var proxyWords = map[string]string{
	v1alpha1.ReasonHealthy:   "kube-proxy reports that its rules are up to date",
	v1alpha1.ReasonUnhealthy: "kube-proxy reports that its rules are not up to date; other nodes are preferred. Check its log",
	v1alpha1.ReasonNoAnswer:  "kube-proxy, which answered before, does not answer on port 10256; other nodes are preferred. Is its pod running?",
}

// What the names of Services may take in a Speaker object, which has to stay far below
// the 1.5 MB that etcd takes. The API server stores each name twice: it tracks who wrote
// it.
const (
	layer2ServiceBytes   = 128 << 10
	conflictServiceBytes = 32 << 10
)

// listing lists Services by name until there is no room left. Tenants choose how many
// Services share an address and how long their names are; neither may make the object
// invalid in which the whole node reports.
type listing struct{ left int }

// names returns the first few of the Services as namespace/name.
func (l *listing) names(keys []lb.ServiceKey) (out []string) {
	for _, k := range keys[:min(len(keys), v1alpha1.MaxSpeakerServices)] {
		name := k.String()
		if l.left -= len(name); l.left < 0 {
			break
		}
		out = append(out, name)
	}
	return out
}

// upOf returns how many of the sessions are up, as "2/3"; "" when none is wanted.
func upOf(sessions []v1alpha1.SpeakerBGPSession) string {
	up := 0
	for _, s := range sessions {
		if s.State == v1alpha1.BGPSessionEstablished {
			up++
		}
	}
	if len(sessions) == 0 {
		return ""
	}
	return fmt.Sprintf("%d/%d", up, len(sessions))
}

// sameSlice reports whether the two are one slice, and not only equal.
func sameSlice[T any](x, y []T) bool { return len(x) == len(y) && (len(x) == 0 || &x[0] == &y[0]) }
