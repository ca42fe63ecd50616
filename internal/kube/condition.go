package kube

import (
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// maxMessage is the longest message of a condition that the API server takes
// (metav1.Condition).
const maxMessage = 32768

// SetCondition sets the condition and reports whether anything changed. The
// time of transition moves only with the status.
func SetCondition(conditions *[]metav1.Condition, typ string, ok bool, reason, message string, generation int64) bool {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	if len(message) > maxMessage {
		const more = "…"
		message = strings.ToValidUTF8(message[:maxMessage-len(more)], "") + more
	}
	return meta.SetStatusCondition(conditions, metav1.Condition{
		Type: typ, Status: status, Reason: reason, Message: message, ObservedGeneration: generation,
	})
}

// Some is lb.Few: what a condition says is for people, and bounded.
func Some[T any](list []T, few int) string { return lb.Few(list, few) }
