package view

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

// SpeakerAlive reports whether the speaker takes part: its status is current, it may own
// addresses, and its BGP sessions are as it reports them. A speaker that cannot open one of
// its interfaces announces on the others, so it is alive. A speaker that is joining or
// stopping, or that has not written its Ready condition, is not.
//
// A speaker on a dead node cannot change its status: see NodeDown of package kube.
func SpeakerAlive(s *v1alpha1.Speaker) bool {
	ready := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady)
	return ready != nil && (ready.Status == metav1.ConditionTrue || ready.Reason == v1alpha1.ReasonCannotAnnounce)
}

// SessionsUp returns the peers with which the speaker reports an established session,
// sorted.
func SessionsUp(s *v1alpha1.Speaker) (up []string) {
	for i := range s.Status.BGPSessions {
		if established(&s.Status.BGPSessions[i]) {
			up = append(up, s.Status.BGPSessions[i].Peer)
		}
	}
	slices.Sort(up)
	return up
}

func established(s *v1alpha1.SpeakerBGPSession) bool {
	return s.State == v1alpha1.BGPSessionEstablished
}

// Session is the BGP session of a node with a router.
type Session struct {
	Node   string
	Wanted bool // the BGPPeer selects the node, and the node has a speaker
	v1alpha1.SpeakerBGPSession
	Words string // why the session is not established, or what it lacks; why it is not wanted
}

// Up reports whether the session is established.
func (s *Session) Up() bool { return established(&s.SpeakerBGPSession) }

// Sessions returns the session of each node with the router, in the order of the nodes.
// peers are those of all BGPPeers that are valid.
func Sessions(peer string, peers kube.Peers, nodes []corev1.Node, speakers []v1alpha1.Speaker) []Session {
	byNode := make(map[string]*v1alpha1.Speaker, len(speakers))
	for i := range speakers {
		byNode[speakers[i].Name] = &speakers[i]
	}
	out := make([]Session, 0, len(nodes))
	for i := range nodes {
		selected, fault := peers.Selects(peer, nodes[i].Labels)
		out = append(out, sessionOf(peer, &nodes[i], byNode[nodes[i].Name], selected, fault))
	}
	return out
}

// sessionOf returns the session of one node. A fault of the BGPPeer comes before the state
// of the speaker: a speaker that comes back would not have the session either.
func sessionOf(peer string, n *corev1.Node, sp *v1alpha1.Speaker, selected bool, fault *kube.Fault) Session {
	s := Session{Node: n.Name}
	switch {
	case !selected:
		s.Words = "nodeSelectors do not select it"
		return s
	case sp == nil:
		s.Words = "it has no speaker"
		return s
	}
	s.Wanted = true
	switch {
	case fault != nil:
		s.Reason, s.Words = fault.Reason, fault.Message
		return s
	case kube.NodeDown(n) || !SpeakerAlive(sp):
		s.Words = "its speaker is not alive"
		return s
	}
	i := slices.IndexFunc(sp.Status.BGPSessions, func(s v1alpha1.SpeakerBGPSession) bool { return s.Peer == peer })
	if i < 0 {
		s.Words = "its speaker has not reported it yet"
		return s
	}
	s.SpeakerBGPSession = sp.Status.BGPSessions[i]
	s.Words = sessionWords(&s.SpeakerBGPSession)
	return s
}

// sessionWords says why the session is not established, or what it lacks.
func sessionWords(s *v1alpha1.SpeakerBGPSession) string {
	switch {
	case established(s) && s.Note == "" && s.BFD != "" && s.BFD != v1alpha1.BFDSessionUp:
		return "BFD is not up, so nothing watches the path; is it on for this node on the router?"
	case established(s):
		return s.Note
	case s.LastError != "":
		return s.LastError
	default:
		return "connecting"
	}
}
