package peerstatus

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

func speakerOf(name string, sessions ...v1alpha1.SpeakerBGPSession) v1alpha1.Speaker {
	s := v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}}
	s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}}
	s.Status.BGPSessions = sessions
	return s
}

func TestStatusOf(t *testing.T) {
	up := v1alpha1.SpeakerBGPSession{Peer: "r1", State: v1alpha1.BGPSessionEstablished, LastError: "of long ago"}
	noSecret := v1alpha1.SpeakerBGPSession{Peer: "r1", State: v1alpha1.BGPSessionIdle, Reason: v1alpha1.ReasonSecretNotFound, LastError: "there is no Secret"}
	refused := v1alpha1.SpeakerBGPSession{Peer: "r1", State: v1alpha1.BGPSessionActive, LastError: "connection refused by 192.0.2.1:179"}
	unwatched := up
	unwatched.Reason, unwatched.Note = v1alpha1.ReasonBFDProfileNotFound, "there is no BFDProfile"
	alone := up
	alone.BFD = v1alpha1.BFDSessionDown
	peer := v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}, Spec: v1alpha1.BGPPeerSpec{MyASN: 1, PeerASN: 2, PeerAddress: "192.0.2.1"}}
	twin := *peer.DeepCopy()
	twin.Name = "r0" // of the same age, and first by name
	nodes := []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "n2"}}, {ObjectMeta: metav1.ObjectMeta{Name: "n3"}}}
	for _, tt := range []struct {
		name     string
		peers    []v1alpha1.BGPPeer
		speakers []v1alpha1.Speaker
		want     state
	}{
		{"all are up", nil, []v1alpha1.Speaker{speakerOf("n1", up), speakerOf("n2", up)}, state{2, 2, true, "Established", "Established 2/2"}},
		{
			"some are not", nil, []v1alpha1.Speaker{speakerOf("n1", up), speakerOf("n2", refused), speakerOf("n3", refused)},
			state{3, 1, false, "NotEstablished", "Established 1/3: n2, n3 connection refused by 192.0.2.1:179"},
		},
		{
			"one is dead, one silent", nil, []v1alpha1.Speaker{speakerOf("n1"), {ObjectMeta: metav1.ObjectMeta{Name: "n2"}}},
			state{2, 0, false, "NotEstablished", "Established 0/2: n1 its speaker has not reported it yet; n2 its speaker is not alive"},
		},
		{"all for one reason", nil, []v1alpha1.Speaker{speakerOf("n1", noSecret)}, state{1, 0, false, "SecretNotFound", "Established 0/1: n1 there is no Secret"}},
		{
			"up, but not as it should be", nil, []v1alpha1.Speaker{speakerOf("n1", unwatched)},
			state{1, 1, false, "BFDProfileNotFound", "Established 1/1; n1 there is no BFDProfile"},
		},
		{
			"up, and not watched, as the router has no BFD", nil, []v1alpha1.Speaker{speakerOf("n1", alone)},
			state{1, 1, true, "Established", "Established 1/1; n1 BFD is not up, so nothing watches the path; is it on for this node on the router?"},
		},
		{"no speaker", nil, nil, state{0, 0, false, "NoNodes", "spec.nodeSelectors: no node with a speaker matches"}},
		{
			"the same router as another peer's", []v1alpha1.BGPPeer{twin}, []v1alpha1.Speaker{speakerOf("n1", up)},
			state{
				1, 0, false, "PeerConflict",
				`Established 0/1: n1 spec.peerAddress: the older BGPPeer "r0" is the same router; delete one of them, or select different nodes with nodeSelectors`,
			},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := statusOf("r1", append(tt.peers, peer), nodes, tt.speakers)
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(state{})); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}
