package cluster

import (
	"slices"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Session is what a node has to do with a router.
type Session struct {
	Node   string
	Wanted bool // the BGPPeer selects the node, and the node has a speaker
	v1alpha1.SpeakerBGPSession
	Words string // why it is not up, or what it lacks; of a node that is not to have one, why
}

// Up reports whether the session is established.
func (s *Session) Up() bool { return s.State == v1alpha1.BGPSessionEstablished }

// Sessions returns what each node has to do with the router.
func (c *Cluster) Sessions(peer string) (out []Session) {
	peers, _ := kube.NewPeers(c.BGPPeers)
	for i := range c.Nodes {
		n := &c.Nodes[i]
		s := Session{Node: n.Name}
		mine, faults := peers.Of(lb.LabelsOf(n.Labels))
		selected := slices.ContainsFunc(mine, func(p kube.Peer) bool { return p.Name == peer })
		switch sp, fault := c.Speaker(n.Name), faults[peer]; {
		case !selected && fault == nil:
			s.Words = "nodeSelectors do not choose it"
		case sp == nil:
			s.Words = "it has no speaker"
		case fault != nil:
			s.Wanted, s.Words = true, fault.Message
		default:
			s.Wanted = true
			s.tell(c, sp, peer)
		}
		out = append(out, s)
	}
	return out
}

// tell takes in what a speaker says of its session.
func (s *Session) tell(c *Cluster, sp *v1alpha1.Speaker, peer string) {
	if _, alive := c.View.Speakers[sp.Name]; !alive {
		s.Words = "its speaker is not alive"
		return
	}
	i := slices.IndexFunc(sp.Status.BGPSessions, func(s v1alpha1.SpeakerBGPSession) bool { return s.Peer == peer })
	if i < 0 {
		s.Words = "its speaker has not said anything yet"
		return
	}
	s.SpeakerBGPSession = sp.Status.BGPSessions[i]
	switch {
	case s.Up() && s.Note == "" && s.BFD != "" && s.BFD != v1alpha1.BFDSessionUp:
		s.Words = "BFD is not up, so nothing watches the path; is it on for this node on the router?"
	case s.Up():
		s.Words = s.Note
	case s.LastError != "":
		s.Words = s.LastError
	default:
		s.Words = "connecting"
	}
}

// Ready returns what an object's Ready condition says; ok is false where nobody has
// written it yet.
func Ready(conditions []metav1.Condition) (c metav1.Condition, ok bool) {
	if found := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady); found != nil {
		return *found, true
	}
	return metav1.Condition{}, false
}
