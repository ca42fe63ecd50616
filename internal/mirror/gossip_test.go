package mirror

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

func speakerAt(name, endpoint string, created int64, reason string) *v1alpha1.Speaker {
	s := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(created, 0)}}
	s.Status.GossipEndpoint = endpoint
	kube.SetCondition(&s.Status.Conditions, v1alpha1.ConditionReady, reason == v1alpha1.ReasonAnnouncing, reason, "", 0)
	return s
}

func nodeThatIs(name string, ready corev1.ConditionStatus) *corev1.Node {
	n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	return n
}

// A speaker stays out while an older one has its endpoint, and takes part when that has
// stopped, has another endpoint, is gone, or is on a node that is down.
func TestADuplicateEndpointHeals(t *testing.T) {
	const same, other = "10.0.2.15:7946", "192.0.2.1:7946"
	out := plan.Standing{Out: true, Same: []string{"n1"}}
	tests := []struct {
		name  string
		heals func(w *Cluster) bool
		again func(w *Cluster) bool
	}{
		{
			"the address is corrected",
			func(w *Cluster) bool {
				return w.setSpeaker(speakerAt("n1", other, 1, v1alpha1.ReasonAnnouncing), false)
			},
			func(w *Cluster) bool { return w.setSpeaker(speakerAt("n1", same, 1, v1alpha1.ReasonAnnouncing), false) },
		},
		{
			"the older one stops",
			func(w *Cluster) bool { return w.setSpeaker(speakerAt("n1", same, 1, v1alpha1.ReasonStopping), false) },
			func(w *Cluster) bool { return w.setSpeaker(speakerAt("n1", same, 1, v1alpha1.ReasonJoining), false) },
		},
		{
			"the older one's node is down",
			func(w *Cluster) bool { return w.setNode(nodeThatIs("n1", corev1.ConditionUnknown), false) },
			func(w *Cluster) bool { return w.setNode(nodeThatIs("n1", corev1.ConditionTrue), false) },
		},
		{
			"the older one is gone",
			func(w *Cluster) bool { return w.setSpeaker(speakerAt("n1", "", 1, ""), true) },
			func(w *Cluster) bool { return w.setSpeaker(speakerAt("n1", same, 1, v1alpha1.ReasonAnnouncing), false) },
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			w := New(kube.Class{}, "n2", lb.IPv4)
			w.setNode(nodeThatIs("n1", corev1.ConditionTrue), false)
			w.setSpeaker(speakerAt("n1", same, 1, v1alpha1.ReasonAnnouncing), false)
			w.setSpeaker(speakerAt("n2", same, 2, v1alpha1.ReasonAnnouncing), false)
			endpoint := netip.MustParseAddrPort(same)
			if diff := cmp.Diff(out, w.Standing(endpoint)); diff != "" {
				t.Fatalf("at first (-want +got)\n%s", diff)
			}
			if matters := tt.heals(w); !matters || w.Standing(endpoint).Out {
				t.Errorf("still out, woken %v", matters)
			}
			if matters := tt.again(w); !matters || !w.Standing(endpoint).Out {
				t.Errorf("not out again, woken %v", matters)
			}
		})
	}
}
