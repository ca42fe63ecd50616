package peerstatus

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
)

var (
	node1   = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	router1 = &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}, Spec: v1alpha1.BGPPeerSpec{MyASN: 1, PeerASN: 2, PeerAddress: "192.0.2.1"}}
	session = v1alpha1.SpeakerBGPSession{Peer: "r1", State: v1alpha1.BGPSessionEstablished, Prefixes: 1}
)

// The status is written when it changes, at most once a second.
func TestReconcile(t *testing.T) {
	speaker, peer := speakerOf("n1"), router1.DeepCopy()
	api := controllertest.NewAPI(t, node1.DeepCopy(), peer, &speaker)
	now := controllertest.Now
	c := New(api, func() time.Time { return now })
	expect := func(why, want string, writes int, again time.Duration) {
		t.Helper()
		before := api.Writes
		result, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "r1"}})
		if err != nil {
			t.Fatalf("%s: %v", why, err)
		}
		api.Read(peer)
		got := fmt.Sprintf("%d/%d", peer.Status.SessionsEstablished, peer.Status.SessionsWanted)
		if cond := meta.FindStatusCondition(peer.Status.Conditions, v1alpha1.ConditionReady); cond != nil {
			got += fmt.Sprintf(" %s %s", cond.Status, cond.Reason)
		}
		if got != want || api.Writes-before != writes || result.RequeueAfter != again {
			t.Errorf("%s: %s after %d writes, again in %v; want %s after %d, in %v", why, got, api.Writes-before, result.RequeueAfter, want, writes, again)
		}
	}
	expect("no session yet", "0/1 False NotEstablished", 1, 0)
	expect("nothing has changed", "0/1 False NotEstablished", 0, 0)
	speaker.Status.BGPSessions = []v1alpha1.SpeakerBGPSession{session}
	if err := api.Status().Update(t.Context(), &speaker); err != nil {
		t.Fatal(err)
	}
	now = now.Add(writeEvery / 4)
	expect("too soon after the last write", "0/1 False NotEstablished", 0, writeEvery*3/4)
	now = now.Add(writeEvery * 3 / 4)
	expect("then", "1/1 True Established", 1, 0)
	api.Change(peer, func() { peer.Spec.PeerAddress = "nonsense" })
	now = now.Add(writeEvery)
	expect("a spec that cannot be parsed", "0/0 False Invalid", 1, 0)

	if err := api.Delete(t.Context(), peer); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "r1"}}); err != nil {
		t.Errorf("deleted: %v", err)
	}
	again := router1.DeepCopy()
	if err := api.Create(t.Context(), again); err != nil {
		t.Fatal(err)
	}
	peer = again
	expect("created again at once", "1/1 True Established", 1, 0)
}

func TestFailures(t *testing.T) {
	down := errors.New("the API server is down")
	for _, tt := range []struct {
		name    string
		arrange func(*controllertest.API)
		want    string // "" for no error
	}{
		{"list", func(a *controllertest.API) { controllertest.FailOnce[*v1alpha1.SpeakerList](a, "list", down) }, "list *v1alpha1.SpeakerList"},
		{"write", func(a *controllertest.API) { controllertest.FailOnce[*v1alpha1.BGPPeer](a, "patch status", down) }, "write status of BGPPeer r1"},
		{"the peer is gone when it is written", func(a *controllertest.API) {
			gone := apierrors.NewNotFound(schema.GroupResource{Resource: "bgppeers"}, "r1")
			controllertest.FailOnce[*v1alpha1.BGPPeer](a, "patch status", gone)
		}, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			api := controllertest.NewAPI(t, node1.DeepCopy(), router1.DeepCopy())
			c := New(api, time.Now)
			tt.arrange(api)
			_, err := c.Reconcile(t.Context(), reconcile.Request{NamespacedName: types.NamespacedName{Name: "r1"}})
			api.ExpectFailure(err, down, tt.want)
		})
	}
}

// Which changes have all peers looked at.
func TestWatches(t *testing.T) {
	other := router1.DeepCopy()
	other.Name = "r2"
	api := controllertest.NewAPI(t, router1.DeepCopy(), other)
	c := New(api, time.Now)
	if got := c.all(t.Context(), nil); len(got) != 2 || got[0].Name != "r1" || got[1].Name != "r2" {
		t.Errorf("queued are %v", got)
	}
	controllertest.FailOnce[*v1alpha1.BGPPeerList](api, "list", errors.New("the API server is down"))
	if got := c.all(t.Context(), nil); got != nil {
		t.Errorf("while the API server is down queued are %v", got)
	}

	with := func(change func(*v1alpha1.Speaker)) *v1alpha1.Speaker {
		s := speakerOf("n1", session)
		change(&s)
		return &s
	}
	for why, tt := range map[string]struct {
		after *v1alpha1.Speaker
		want  bool
	}{
		"nothing":           {with(func(*v1alpha1.Speaker) {}), false},
		"a route more":      {with(func(s *v1alpha1.Speaker) { s.Status.BGPSessions[0].Prefixes++ }), false},
		"the session's end": {with(func(s *v1alpha1.Speaker) { s.Status.BGPSessions[0].State = v1alpha1.BGPSessionIdle }), true},
		"a session less":    {with(func(s *v1alpha1.Speaker) { s.Status.BGPSessions = nil }), true},
		"the speaker's end": {with(func(s *v1alpha1.Speaker) { s.Status.Conditions = nil }), true},
		"an address of layer 2": {with(func(s *v1alpha1.Speaker) {
			s.Status.Layer2 = []v1alpha1.SpeakerAddress{{Address: "192.0.2.1"}}
		}), false},
	} {
		before := speakerOf("n1", session)
		if got := sessionsChanged.Update(event.UpdateEvent{ObjectOld: &before, ObjectNew: tt.after}); got != tt.want {
			t.Errorf("%s: %v, want %v", why, got, tt.want)
		}
	}

	labelled, down := node1.DeepCopy(), node1.DeepCopy()
	labelled.Labels = map[string]string{"rack": "a"}
	down.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
	for _, tt := range []struct {
		after *corev1.Node
		want  bool
	}{{node1, false}, {labelled, true}, {down, true}} {
		if got := nodesChanged.Update(event.UpdateEvent{ObjectOld: node1, ObjectNew: tt.after}); got != tt.want {
			t.Errorf("%+v: %v, want %v", tt.after, got, tt.want)
		}
	}
}
