package view

import (
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

var start = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// speakerThat says that it has an address since then.
func speakerThat(name string, ready bool, since time.Time) v1alpha1.Speaker {
	status := metav1.ConditionFalse
	if ready {
		status = metav1.ConditionTrue
	}
	return v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.SpeakerStatus{
		Layer2:     []v1alpha1.SpeakerAddress{{Address: "192.0.2.1", Since: metav1.NewTime(since)}},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: status}},
	}}
}

func TestOwner(t *testing.T) {
	dead := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}}}
	for name, c := range map[string]struct {
		objects Objects
		want    string
		why     string
	}{
		"one":       {Objects{Speakers: []v1alpha1.Speaker{speakerThat("n1", true, start)}}, "n1", "it says so"},
		"not ready": {Objects{Speakers: []v1alpha1.Speaker{speakerThat("n1", false, start)}}, "", "it is not alive"},
		"the later": {Objects{Speakers: []v1alpha1.Speaker{speakerThat("n2", true, start.Add(time.Minute)), speakerThat("n1", true, start)}}, "n2", "the other is dead and cannot say so"},
		"node down": {Objects{Nodes: []corev1.Node{dead}, Speakers: []v1alpha1.Speaker{speakerThat("n1", true, start), speakerThat("n2", true, start.Add(time.Minute))}}, "n1", "Kubernetes takes n2 for dead"},
		"nobody":    {Objects{}, "", "there is none"},
	} {
		if got := New(c.objects).Owners["192.0.2.1"].Node; got != c.want {
			t.Errorf("%s: the owner is %q, want %q, as %s", name, got, c.want, c.why)
		}
	}
}
