package cluster

import (
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// Sessions returns the session of each node with the router.
func (c *Cluster) Sessions(peer string) []view.Session {
	peers, _ := kube.NewPeers(c.BGPPeers)
	return view.Sessions(peer, peers, c.Nodes, c.Speakers)
}

// Ready returns what an object's Ready condition says; ok is false where nobody has
// written it yet.
func Ready(conditions []metav1.Condition) (c metav1.Condition, ok bool) {
	if found := meta.FindStatusCondition(conditions, v1alpha1.ConditionReady); found != nil {
		return *found, true
	}
	return metav1.Condition{}, false
}
