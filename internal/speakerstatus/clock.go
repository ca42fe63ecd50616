package speakerstatus

import (
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

// clockIs is the condition that says whether the node's clock is right. While that is
// not known, it says what it said before.
func clockIs(s *v1alpha1.SpeakerStatus, v clockcheck.Verdict) {
	if !v.Known {
		return
	}
	s.ClockOffset = &metav1.Duration{Duration: v.Ahead}
	if v.Ahead == 0 {
		words := fmt.Sprintf("the node's clock is that of the API server, within %v", clockcheck.Tolerance)
		kube.SetCondition(&s.Conditions, v1alpha1.ConditionClockInSync, true, v1alpha1.ReasonInSync, words, 0)
	} else {
		kube.SetCondition(&s.Conditions, v1alpha1.ConditionClockInSync, false, v1alpha1.ReasonClockOff, kube.ClockOffMessage(v.Ahead), 0)
	}
}
