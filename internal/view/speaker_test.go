package view

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

// speakerWith returns the Speaker of n1 with a Ready condition; without a reason it has
// none.
func speakerWith(status metav1.ConditionStatus, reason string, sessions ...v1alpha1.SpeakerBGPSession) v1alpha1.Speaker {
	s := v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	s.Status.BGPSessions = sessions
	s.Status.Layer2 = []v1alpha1.SpeakerAddress{{Address: "192.0.2.1", Since: metav1.NewTime(start)}}
	if reason != "" {
		s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status, Reason: reason}}
	}
	return s
}

func nodeThat(ready corev1.ConditionStatus) corev1.Node {
	return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}},
	}}
}

func routerNamed(name string) v1alpha1.BGPPeer {
	return v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.BGPPeerSpec{MyASN: 1, PeerASN: 2, PeerAddress: "192.0.2.254"}}
}

// A speaker that is not alive owns no address and has no session, whatever its status says:
// conditions, metrics and the plugin agree on that.
func TestSpeakerAlive(t *testing.T) {
	up := v1alpha1.SpeakerBGPSession{Peer: "r1", State: v1alpha1.BGPSessionEstablished}
	for name, tt := range map[string]struct {
		status metav1.ConditionStatus
		reason string
		node   corev1.ConditionStatus
		alive  bool
		why    string
	}{
		"ready":               {metav1.ConditionTrue, v1alpha1.ReasonAnnouncing, corev1.ConditionTrue, true, "it announces"},
		"cannot announce":     {metav1.ConditionFalse, v1alpha1.ReasonCannotAnnounce, corev1.ConditionTrue, true, "it announces on its other interfaces, and by BGP"},
		"joining":             {metav1.ConditionFalse, v1alpha1.ReasonJoining, corev1.ConditionTrue, false, "it may not own anything yet"},
		"stopping":            {metav1.ConditionFalse, v1alpha1.ReasonStopping, corev1.ConditionTrue, false, "it hands over what it owns"},
		"invalid endpoint":    {metav1.ConditionFalse, v1alpha1.ReasonDuplicateEndpoint, corev1.ConditionTrue, false, "it takes no part"},
		"no condition":        {"", "", corev1.ConditionTrue, false, "it has written nothing yet"},
		"node down":           {metav1.ConditionTrue, v1alpha1.ReasonAnnouncing, corev1.ConditionUnknown, false, "its status is that of before"},
		"node down, no cable": {metav1.ConditionFalse, v1alpha1.ReasonCannotAnnounce, corev1.ConditionUnknown, false, "its status is that of before"},
	} {
		t.Run(name, func(t *testing.T) {
			o := Objects{
				Nodes: []corev1.Node{nodeThat(tt.node)}, Speakers: []v1alpha1.Speaker{speakerWith(tt.status, tt.reason, up)},
				BGPPeers: []v1alpha1.BGPPeer{routerNamed("r1")},
			}
			v := New(o)
			peers, _ := kube.NewPeers(o.BGPPeers)
			session := Sessions("r1", peers, o.Nodes, o.Speakers)[0]
			_, member := v.Speakers["n1"]
			if member != tt.alive || session.Up() != tt.alive || slices.Equal(v.Up["n1"], []string{"r1"}) != tt.alive || (v.Owners["192.0.2.1"].Node == "n1") != tt.alive {
				t.Errorf("in the view: %v; session up: %v; sessions of the view: %v; owner: %q; want %v, as %s",
					member, session.Up(), v.Up["n1"], v.Owners["192.0.2.1"].Node, tt.alive, tt.why)
			}
		})
	}
}

func TestSessions(t *testing.T) {
	established := v1alpha1.SpeakerBGPSession{Peer: "r1", State: v1alpha1.BGPSessionEstablished, LastError: "of long ago"}
	edited := func(edit func(*v1alpha1.SpeakerBGPSession)) v1alpha1.SpeakerBGPSession {
		s := established
		edit(&s)
		return s
	}
	selectsNone := routerNamed("r1")
	selectsNone.Spec.NodeSelectors = []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"rack": "b"}}}
	ready := func(sessions ...v1alpha1.SpeakerBGPSession) []v1alpha1.Speaker {
		return []v1alpha1.Speaker{speakerWith(metav1.ConditionTrue, v1alpha1.ReasonAnnouncing, sessions...)}
	}
	joining := []v1alpha1.Speaker{speakerWith(metav1.ConditionFalse, v1alpha1.ReasonJoining, established)}
	const conflict = `spec.peerAddress: the older BGPPeer "r0" is the same router; delete one of them, or select different nodes with nodeSelectors`
	for name, tt := range map[string]struct {
		peers      []v1alpha1.BGPPeer
		speakers   []v1alpha1.Speaker
		wanted, up bool
		reason     string
		words      string
	}{
		"established":         {nil, ready(established), true, true, "", ""},
		"established, BFD up": {nil, ready(edited(func(s *v1alpha1.SpeakerBGPSession) { s.BFD = v1alpha1.BFDSessionUp })), true, true, "", ""},
		"established, BFD down": {
			nil, ready(edited(func(s *v1alpha1.SpeakerBGPSession) { s.BFD = v1alpha1.BFDSessionDown })), true, true, "",
			"BFD is not up, so nothing watches the path; is it on for this node on the router?",
		},
		"established, without its BFDProfile": {
			nil, ready(edited(func(s *v1alpha1.SpeakerBGPSession) {
				s.Reason, s.Note = v1alpha1.ReasonBFDProfileNotFound, "there is no BFDProfile"
			})), true, true, v1alpha1.ReasonBFDProfileNotFound, "there is no BFDProfile",
		},
		"idle, with an error": {
			nil, ready(edited(func(s *v1alpha1.SpeakerBGPSession) {
				s.State, s.Reason, s.LastError = v1alpha1.BGPSessionIdle, v1alpha1.ReasonSecretNotFound, "there is no Secret"
			})), true, false, v1alpha1.ReasonSecretNotFound, "there is no Secret",
		},
		"connecting": {
			nil, ready(edited(func(s *v1alpha1.SpeakerBGPSession) { s.State, s.LastError = v1alpha1.BGPSessionActive, "" })),
			true, false, "", "connecting",
		},
		"missing":                      {nil, ready(), true, false, "", "its speaker has not reported it yet"},
		"another router's":             {nil, ready(edited(func(s *v1alpha1.SpeakerBGPSession) { s.Peer = "r2" })), true, false, "", "its speaker has not reported it yet"},
		"no speaker":                   {nil, nil, false, false, "", "it has no speaker"},
		"speaker joining":              {nil, joining, true, false, "", "its speaker is not alive"},
		"not selected":                 {[]v1alpha1.BGPPeer{selectsNone}, ready(established), false, false, "", "nodeSelectors do not select it"},
		"the same router":              {[]v1alpha1.BGPPeer{routerNamed("r0"), routerNamed("r1")}, ready(established), true, false, v1alpha1.ReasonPeerConflict, conflict},
		"the same router, and joining": {[]v1alpha1.BGPPeer{routerNamed("r0"), routerNamed("r1")}, joining, true, false, v1alpha1.ReasonPeerConflict, conflict},
		"the same router, no speaker":  {[]v1alpha1.BGPPeer{routerNamed("r0"), routerNamed("r1")}, nil, false, false, "", "it has no speaker"},
	} {
		t.Run(name, func(t *testing.T) {
			if tt.peers == nil {
				tt.peers = []v1alpha1.BGPPeer{routerNamed("r1")}
			}
			peers, _ := kube.NewPeers(tt.peers)
			got := Sessions("r1", peers, []corev1.Node{nodeThat(corev1.ConditionTrue)}, tt.speakers)
			if s := got[0]; len(got) != 1 || s.Node != "n1" || s.Wanted != tt.wanted || s.Up() != tt.up || s.Reason != tt.reason || s.Words != tt.words {
				t.Errorf("got %+v, want wanted %v, up %v, reason %q, words %q", got, tt.wanted, tt.up, tt.reason, tt.words)
			}
		})
	}
}
