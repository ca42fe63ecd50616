package mirror

import (
	"maps"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// What the Speaker objects of other nodes say, and what they no longer say when they are gone.
func TestOtherSpeakers(t *testing.T) {
	w := New(kube.Class{}, "n1", lb.IPv4)
	if !w.SpeakerMissing() || w.SpeakerCount() != 1 {
		t.Errorf("without objects: missing %v, %d speakers", w.SpeakerMissing(), w.SpeakerCount())
	}
	w.setSpeaker(speakerAt("n1", "192.0.2.1:7946", 1, v1alpha1.ReasonAnnouncing), false)
	w.setSpeaker(speakerAt("former-name", "192.0.2.1:7946", 1, v1alpha1.ReasonAnnouncing), false) // of this node, before it was renamed
	other := speakerAt("n2", "192.0.2.2:7946", 1, v1alpha1.ReasonAnnouncing)
	other.Status.Interfaces = []v1alpha1.SpeakerInterface{{Name: "eth0", MAC: "02:00:00:00:00:02"}}
	other.Status.Conflicts = []v1alpha1.SpeakerConflict{{Address: "192.0.2.100"}, {Address: "192.0.2.101", Announced: true}}
	before := w.MACsVersion()
	w.setSpeaker(other, false)
	want := map[string]netip.AddrPort{"n2": netip.MustParseAddrPort("192.0.2.2:7946")}
	if got := w.Others(); !maps.Equal(got, want) || w.SpeakerCount() != 2 || w.SpeakerMissing() {
		t.Errorf("others %v, %d speakers", got, w.SpeakerCount())
	}
	if got := w.NodeMACs(); !slices.Equal(got, []string{"02:00:00:00:00:02"}) || w.MACsVersion() == before {
		t.Errorf("hardware addresses %v", got)
	}
	if got := w.DisputedAddresses(); len(got) != 1 || !got[netip.MustParseAddr("192.0.2.100")] {
		t.Errorf("disputed: %v", got)
	}
	known := w.MACsVersion()
	if w.setSpeaker(other, false); w.MACsVersion() != known {
		t.Error("the version of the hardware addresses changed, and they did not")
	}
	w.setSpeaker(&v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, true)
	if len(w.Others()) != 0 || len(w.DisputedAddresses()) != 0 || w.SpeakerCount() != 1 {
		t.Errorf("n2 is gone: others %v, disputed %v", w.Others(), w.DisputedAddresses())
	}
}

// Only orders for this node wake the speaker, and only when they change.
func TestOrdersForThisNode(t *testing.T) {
	w := New(kube.Class{}, "n1", lb.IPv4)
	s := speakerAt("n1", "192.0.2.1:7946", 1, v1alpha1.ReasonAnnouncing)
	w.setSpeaker(s, false)
	s = s.DeepCopy()
	s.Annotations = map[string]string{v1alpha1.AnnotationTake: "192.0.2.100"}
	if !w.setSpeaker(s, false) || !slices.Equal(w.Orders().Take, []netip.Addr{netip.MustParseAddr("192.0.2.100")}) {
		t.Errorf("orders: %+v", w.Orders())
	}
	if w.setSpeaker(s, false) {
		t.Error("the same orders woke the speaker")
	}
	if !w.setSpeaker(&v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, true) || len(w.Orders().Take) != 0 || !w.SpeakerMissing() {
		t.Errorf("after the object is gone: %+v", w.Orders())
	}
}

// The speaker follows its own Node: its addresses, and whether it leaves.
func TestOwnNode(t *testing.T) {
	w := New(kube.Class{}, "n1", lb.IPv4)
	n := nodeThatIs("n1", corev1.ConditionTrue)
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	w.setNode(n, false)
	own := netip.MustParseAddr("192.0.2.1")
	if w.GossipAddress() != own || !slices.Equal(w.NodeAddresses(), []netip.Addr{own}) || w.NodeLeaving() || w.NodeDeprioritized() {
		t.Errorf("gossip %v, addresses %v, leaving %v", w.GossipAddress(), w.NodeAddresses(), w.NodeLeaving())
	}
	cordoned := n.DeepCopy()
	cordoned.Spec.Unschedulable = true
	if w.setNode(cordoned, false); !w.NodeDeprioritized() || w.NodeLeaving() {
		t.Errorf("cordoned: deprioritized %v, leaving %v", w.NodeDeprioritized(), w.NodeLeaving())
	}
	w.setNode(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, true)
	if !w.NodeLeaving() || w.GossipAddress() != own {
		t.Errorf("gone: leaving %v, gossip %v", w.NodeLeaving(), w.GossipAddress())
	}
}

// A BGPPeer that selects this node is a peer of it, until it is gone.
func TestRouters(t *testing.T) {
	w := New(kube.Class{}, "n1", lb.IPv4)
	n := nodeThatIs("n1", corev1.ConditionTrue)
	n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.1"}}
	w.setNode(n, false)
	p := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "tor", Generation: 1}, Spec: v1alpha1.BGPPeerSpec{MyASN: 64512, PeerASN: 64513, PeerAddress: "192.0.2.254"}}
	var s plan.Snapshot
	before := w.Fill(&s)
	if !w.setBGPPeer(p, false) || w.setBGPPeer(p, false) {
		t.Error("a new peer must wake the speaker, and the same one must not")
	}
	after := w.Fill(&s)
	if got := w.Routers(); len(got.Peers) != 1 || got.Peers[0].Name != "tor" || !slices.Equal(s.Peers["n1"], []string{"tor"}) || after == before {
		t.Errorf("routers %+v, by node %v, version %d after %d", got, s.Peers, after, before)
	}
	w.setBGPPeer(p, true)
	w.Fill(&s)
	if got := w.Routers(); len(got.Peers) != 0 {
		t.Errorf("the peer is gone: %+v", got)
	}
}

// A new term of the gossip wakes the speaker, and outlives the Secret.
func TestGossipSecret(t *testing.T) {
	w := New(kube.Class{}, "n1", lb.IPv4)
	s := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: kube.GossipSecret, Annotations: map[string]string{kube.GossipTermAnnotation: "2"}}, Data: map[string][]byte{"key": {1}}}
	w.setSecret(s, false)
	newTerm := s.DeepCopy()
	newTerm.Annotations[kube.GossipTermAnnotation] = "3"
	if data, term := w.GossipSecret(); len(data) != 1 || term != "2" || !w.setSecret(newTerm, false) {
		t.Errorf("data %v, term %q, or a new term does not matter", data, term)
	}
	w.setSecret(&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Name: kube.GossipSecret}}, true)
	if data, term := w.GossipSecret(); data != nil || term != "3" {
		t.Errorf("after it is gone: data %v, term %q", data, term)
	}
}
