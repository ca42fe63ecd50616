package speakerstatus

import (
	"context"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/layer2"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
)

// newWriter returns a Writer, and the API server that it writes to, which has these objects.
func newWriter(objects ...client.Object) (*Writer, client.Client) {
	api := fake.NewClientBuilder().WithScheme(kube.NewScheme()).WithObjects(objects...).WithStatusSubresource(&v1alpha1.Speaker{}).Build()
	return New(Config{API: api, Node: "n1", Endpoint: netip.MustParseAddrPort("192.0.2.11:7946"), Version: "v1", Log: logr.Discard()}), api
}

func node() *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1", UID: "node-uid"}}
}

func read(t *testing.T, api client.Client) *v1alpha1.Speaker {
	t.Helper()
	var s v1alpha1.Speaker
	if err := api.Get(t.Context(), client.ObjectKey{Name: "n1"}, &s); err != nil {
		t.Fatal(err)
	}
	return &s
}

func announcing() Report {
	addr := netip.MustParseAddr("192.0.2.100")
	return Report{
		Interfaces: []netif.Interface{{Name: "eth0", MAC: "02:00:00:00:00:01", Up: true, Uplink: []lb.Family{lb.IPv4}}},
		Keys:       [][]byte{[]byte("0123456789abcdef")},
		Owned:      []lb.L2Announcement{{Addr: addr, Interfaces: []string{"eth0"}}},
		Users:      map[netip.Addr][]lb.ServiceKey{addr: {{Namespace: "default", Name: "web"}}},
		Since:      map[netip.Addr]time.Time{addr: time.Unix(1000, 0)},
		Conflicts:  []layer2.Conflict{{Addr: netip.MustParseAddr("192.0.2.101"), Interface: "eth0"}},
		Ready:      true, Reason: v1alpha1.ReasonAnnouncing, Message: "3 speakers connected",
		Sessions: []v1alpha1.SpeakerBGPSession{{Peer: "a", State: v1alpha1.BGPSessionEstablished}, {Peer: "b", State: v1alpha1.BGPSessionIdle}},
		Checked:  true, KubeProxy: v1alpha1.ReasonHealthy,
	}
}

// The first write creates the object, which goes with its Node, and has in it what is reported.
func TestFirstWriteCreatesTheSpeaker(t *testing.T) {
	w, api := newWriter(node())
	r := announcing()
	r.Findings = []nodecheck.Finding{{Kind: nodecheck.NotForwarding, Message: "the kernel does not forward"}}
	r.Endpoint = EndpointFault{Reason: v1alpha1.ReasonAddressNotLocal, Message: "not here"}
	if err := w.Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	s := read(t, api)
	if len(s.OwnerReferences) != 1 || s.OwnerReferences[0].UID != "node-uid" {
		t.Errorf("owners: %+v", s.OwnerReferences)
	}
	if s.Status.GossipEndpoint != "192.0.2.11:7946" || s.Status.OwnedAddresses != 1 || s.Status.Sessions != "1/2" || len(s.Status.GossipKeys) != 1 ||
		len(s.Status.Conflicts) != 1 || len(s.Status.Interfaces) != 1 || s.Status.Interfaces[0].MAC != "02:00:00:00:00:01" {
		t.Errorf("status: %+v", s.Status)
	}
	if len(s.Status.Layer2) != 1 || !slices.Equal(s.Status.Layer2[0].Services, []string{"default/web"}) {
		t.Errorf("layer2: %+v", s.Status.Layer2)
	}
	for condition, reason := range map[string]string{
		v1alpha1.ConditionReady: v1alpha1.ReasonAnnouncing, v1alpha1.ConditionNetworkReady: v1alpha1.ReasonNotForwarding,
		v1alpha1.ConditionKubeProxyHealthy: v1alpha1.ReasonHealthy, v1alpha1.ConditionEndpointValid: v1alpha1.ReasonAddressNotLocal,
	} {
		if c := meta.FindStatusCondition(s.Status.Conditions, condition); c == nil || c.Reason != reason {
			t.Errorf("condition %s is %+v, want reason %s", condition, c, reason)
		}
	}
	r.Findings, r.Endpoint = nil, EndpointFault{}
	if err := w.Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	for _, condition := range []string{v1alpha1.ConditionNetworkReady, v1alpha1.ConditionEndpointValid} {
		if s := read(t, api); !meta.IsStatusConditionTrue(s.Status.Conditions, condition) {
			t.Errorf("condition %s is not true again: %+v", condition, s.Status.Conditions)
		}
	}
}

// Annotations that were heeded are removed, unless the user wrote another value meanwhile.
func TestHeededAnnotationsAreRemoved(t *testing.T) {
	sp := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1", Annotations: map[string]string{"a": "old", "b": "new", "c": "other"}}}
	w, api := newWriter(node(), sp)
	r := announcing()
	r.Moved = Moved{Reason: v1alpha1.ReasonMoved, Message: "took over", Addresses: []netip.Addr{netip.MustParseAddr("192.0.2.100")}, Heeded: map[string]string{"a": "old", "b": "old"}}
	if err := w.Write(t.Context(), r); err != nil {
		t.Fatal(err)
	}
	s := read(t, api)
	if _, there := s.Annotations["a"]; there || s.Annotations["b"] != "new" || s.Annotations["c"] != "other" {
		t.Errorf("annotations: %v", s.Annotations)
	}
	if !slices.Equal(s.Status.MovedAddresses, []string{"192.0.2.100"}) || !meta.IsStatusConditionTrue(s.Status.Conditions, v1alpha1.ConditionMoved) {
		t.Errorf("status: %+v", s.Status)
	}
}

// Run retries what failed, and recreates an object that was deleted.
func TestRunRetriesAndRecreates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, api := newWriter() // there is no Node, so that no Speaker can be created
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go w.Run(ctx)
		w.Put(Report{Reason: v1alpha1.ReasonJoining}, false)
		w.Put(announcing(), false) // replaces the one before
		time.Sleep(writeEvery / 2)
		if err := api.Get(ctx, client.ObjectKey{Name: "n1"}, &v1alpha1.Speaker{}); !apierrors.IsNotFound(err) {
			t.Fatalf("a Speaker without a Node: %v", err)
		}
		if err := api.Create(ctx, node()); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * writeEvery)
		s := read(t, api)
		if s.Status.OwnedAddresses != 1 {
			t.Fatalf("status: %+v", s.Status)
		}
		if err := api.Delete(ctx, s); err != nil {
			t.Fatal(err)
		}
		w.Put(announcing(), true)
		time.Sleep(2*writeEvery + gatherFor)
		if s := read(t, api); s.Status.OwnedAddresses != 1 {
			t.Errorf("after it was deleted: %+v", s.Status)
		}
	})
}
