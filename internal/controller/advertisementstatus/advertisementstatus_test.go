package advertisementstatus

import (
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

func TestJudgeBGP(t *testing.T) {
	labels := func(key, value string) []v1alpha1.LabelSelector {
		return []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"k": v1alpha1.LabelValue(key + value)}}}
	}
	type spec = v1alpha1.BGPAdvertisementSpec
	n := names{
		poolNames: []string{"lan", "wan"}, peers: []string{"r1", "r2"}, aliases: map[string]lb.Community{"backup": {A: 1, B: 2}},
		nodes: []lb.Node{{Name: "n1", Labels: lb.LabelsOf(map[string]string{"k": "node1"})}, {Name: "n2", Labels: lb.LabelsOf(map[string]string{"k": "node2"})}},
	}
	const differs = `spec.med of BGPAdvertisement "b" is not that of the older "a", which counts; let both say the same, or choose other pools, peers or nodes`
	for _, tt := range []struct {
		name            string
		a, b            spec // a is the older one; b is judged
		reason, message string
	}{
		{"all is there", spec{}, spec{Peers: []v1alpha1.ObjectName{"r1"}, Communities: []v1alpha1.CommunityReference{"backup", "no-export", "1:1"}}, "Accepted", "in force"},
		{"no such pool", spec{}, spec{IPAddressPools: []v1alpha1.ObjectName{"x"}}, "PoolNotFound", `spec.ipAddressPools: there is no "x"; the other names are in force`},
		{"no such peer", spec{}, spec{Peers: []v1alpha1.ObjectName{"r1", "x"}}, "PeerNotFound", `spec.peers: there is no "x"; the other names are in force`},
		{"no such alias", spec{}, spec{Communities: []v1alpha1.CommunityReference{"x"}}, "CommunityNotFound", `spec.communities: there is no "x"; the other names are in force`},
		{"no community", spec{}, spec{Communities: []v1alpha1.CommunityReference{"1:2:3:4"}}, "Invalid", ""},
		{"the other says the same", spec{MED: ptr.To[int64](1)}, spec{MED: ptr.To[int64](1)}, "Accepted", "in force"},
		{"the other says nothing", spec{}, spec{MED: ptr.To[int64](1)}, "Accepted", "in force"},
		{"the other says something else", spec{MED: ptr.To[int64](1)}, spec{MED: ptr.To[int64](2)}, "Contradiction", differs},
		{
			"… of other pools", spec{MED: ptr.To[int64](1), IPAddressPools: []v1alpha1.ObjectName{"lan"}}, spec{MED: ptr.To[int64](2), IPAddressPools: []v1alpha1.ObjectName{"wan"}},
			"Accepted", "in force",
		},
		{
			"… to other peers", spec{MED: ptr.To[int64](1), Peers: []v1alpha1.ObjectName{"r1"}}, spec{MED: ptr.To[int64](2), Peers: []v1alpha1.ObjectName{"r2"}},
			"Accepted", "in force",
		},
		{
			"… from other nodes", spec{MED: ptr.To[int64](1), NodeSelectors: labels("node", "1")}, spec{MED: ptr.To[int64](2), NodeSelectors: labels("node", "2")},
			"Accepted", "in force",
		},
		{
			"… of other Services", spec{MED: ptr.To[int64](1), ServiceSelectors: labels("app", "1")}, spec{MED: ptr.To[int64](2), ServiceSelectors: labels("app", "2")},
			"Accepted", "in force",
		},
		{
			"… with other lengths", spec{MED: ptr.To[int64](1), AggregationLength: ptr.To[int32](24), AggregationLengthV6: ptr.To[int32](64)}, spec{MED: ptr.To[int64](2)},
			"Accepted", "in force",
		},
		{
			"… of the same Services", spec{MED: ptr.To[int64](1), ServiceSelectors: labels("app", "1")}, spec{MED: ptr.To[int64](2), ServiceSelectors: labels("app", "1")},
			"Contradiction", differs,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := []v1alpha1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: tt.a}, {ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: tt.b}}
			got := judgeBGP(&all[1], n, kube.BGPAdvertisements(all, nil, n.aliases))
			if got.reason != tt.reason || tt.message != "" && got.message != tt.message || got.ready != (tt.reason == v1alpha1.ReasonAccepted) {
				t.Errorf("%v %s %q, want %s %q", got.ready, got.reason, got.message, tt.reason, tt.message)
			}
		})
	}
}
