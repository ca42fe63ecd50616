package blocked

import (
	"errors"
	"fmt"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

func nodeWith(address string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}},
	}}
}

func speakerWith(address string) *v1alpha1.Speaker {
	return &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: v1alpha1.SpeakerStatus{
		HostAddresses: []v1alpha1.SpeakerHostAddress{{Address: address, Interface: "lo"}},
	}}
}

// What nodes and routers have is not assigned, and is free when they are gone.
func TestReconcile(t *testing.T) {
	api := controllertest.NewAPI(t, controllertest.Pool("lan", "192.0.2.0/24"))
	book := ledger.New(api, kube.Class{}, time.Now)
	c := New(api, book)
	router := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}, Spec: v1alpha1.BGPPeerSpec{PeerAddress: "192.0.2.3"}}
	objects := []client.Object{nodeWith("192.0.2.1"), speakerWith("192.0.2.2"), router}
	expect := func(why string, want int) {
		t.Helper()
		for _, s := range []subject{{"n1", false}, {"r1", true}} {
			if _, err := c.Reconcile(t.Context(), s); err != nil {
				t.Fatal(err)
			}
		}
		if got := book.Withheld("lan"); len(got) != want {
			t.Errorf("%s: withheld are %v, want %d", why, got, want)
		}
	}
	expect("before", 0)
	for i, o := range objects {
		if err := api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		expect(fmt.Sprintf("with %T", o), i+1)
	}
	for i, o := range objects {
		if err := api.Delete(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		expect(fmt.Sprintf("without %T", o), len(objects)-i-1)
	}
}

func TestWhatChangesAddresses(t *testing.T) {
	beat := nodeWith("192.0.2.1")
	beat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, LastHeartbeatTime: metav1.Now()}}
	owns := speakerWith("192.0.2.2")
	owns.Status.OwnedAddresses = 3
	attached := speakerWith("192.0.2.2")
	attached.Status.Interfaces = []v1alpha1.SpeakerInterface{{Name: "eth0", Addresses: []string{"192.0.2.4/24"}}}
	for _, tt := range []struct {
		name          string
		before, after client.Object
		want          bool
	}{
		{"a heartbeat", nodeWith("192.0.2.1"), beat, false},
		{"a node's address", nodeWith("192.0.2.1"), nodeWith("192.0.2.9"), true},
		{"what a speaker announces", speakerWith("192.0.2.2"), owns, false},
		{"an interface's address", speakerWith("192.0.2.2"), attached, true},
		{"a host address", speakerWith("192.0.2.2"), speakerWith("192.0.2.9"), true},
		{"a peer", &v1alpha1.BGPPeer{}, &v1alpha1.BGPPeer{}, true},
	} {
		if got := addressesChanged.Update(event.UpdateEvent{ObjectOld: tt.before, ObjectNew: tt.after}); got != tt.want {
			t.Errorf("%s: %v, want %v", tt.name, got, tt.want)
		}
	}
	if got := subjectOf(true)(t.Context(), &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}}); len(got) != 1 || got[0] != (subject{"r1", true}) {
		t.Errorf("a peer is %v", got)
	}
	if (&Controller{}).Name() != "blocked" {
		t.Error("it has another name")
	}
}

// A read that fails leaves what is recorded as it was: else an address of a node or router would
// be assigned.
func TestFailedRead(t *testing.T) {
	router := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}, Spec: v1alpha1.BGPPeerSpec{PeerAddress: "192.0.2.3"}}
	api := controllertest.NewAPI(t, controllertest.Pool("lan", "192.0.2.0/24"), nodeWith("192.0.2.1"), speakerWith("192.0.2.2"), router)
	book := ledger.New(api, kube.Class{}, time.Now)
	c := New(api, book)
	down := errors.New("the API server is down")
	fail := func(of subject, withheld int) {
		t.Helper()
		if _, err := c.Reconcile(t.Context(), of); !errors.Is(err, down) {
			t.Errorf("%v: the error is %v", of, err)
		}
		if got := book.Withheld("lan"); len(got) != withheld {
			t.Errorf("%v: withheld are %v, want %d", of, got, withheld)
		}
	}
	node, peer := subject{"n1", false}, subject{"r1", true}
	controllertest.FailOnce[*v1alpha1.IPAddressPoolList](api, "list", down)
	fail(node, 0) // nothing is restored yet
	if err := book.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	controllertest.FailOnce[*corev1.Node](api, "get", down)
	fail(node, 3)
	controllertest.FailOnce[*v1alpha1.Speaker](api, "get", down)
	fail(node, 3)
	controllertest.FailOnce[*v1alpha1.BGPPeer](api, "get", down)
	fail(peer, 3)
}
