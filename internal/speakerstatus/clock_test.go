package speakerstatus

import (
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
)

// The condition says of the clock what is known, and nothing before.
func TestClockCondition(t *testing.T) {
	var s v1alpha1.SpeakerStatus
	for _, step := range []struct {
		why     string
		verdict clockcheck.Verdict
		status  metav1.ConditionStatus
		reason  string
		words   string
	}{
		{why: "nothing is known yet"},
		{"in sync", clockcheck.Verdict{Known: true}, metav1.ConditionTrue, v1alpha1.ReasonInSync, "within 5s"},
		{"behind", clockcheck.Verdict{Known: true, Ahead: -90 * time.Second}, metav1.ConditionFalse, v1alpha1.ReasonClockOff, "1m30s behind the API server's; announcing does not depend on it"},
		{"what a speaker says that goes", clockcheck.Verdict{}, metav1.ConditionFalse, v1alpha1.ReasonClockOff, "1m30s behind"},
		{"fixed", clockcheck.Verdict{Known: true}, metav1.ConditionTrue, v1alpha1.ReasonInSync, "within 5s"},
	} {
		clockIs(&s, step.verdict)
		got := meta.FindStatusCondition(s.Conditions, v1alpha1.ConditionClockInSync)
		if (got != nil) != (step.reason != "") {
			t.Fatalf("%s: the condition is %+v", step.why, got)
		}
		if got != nil && (got.Status != step.status || got.Reason != step.reason || !strings.Contains(got.Message, step.words)) {
			t.Errorf("%s: the condition is %+v, want %s %s %q", step.why, got, step.status, step.reason, step.words)
		}
	}
}
