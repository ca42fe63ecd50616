package assign

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// outcome is what the condition AddressAssigned and an event say of a decision.
type outcome struct {
	met     bool
	reason  lb.Reason
	message string // of the condition
	event   string // reason of the warning event; "" for none
	detail  string // its text
}

// outcomeOf returns the outcome of a decision; invalid is what is wrong with the Service's
// request, nil if nothing is.
func outcomeOf(d lb.Decision, invalid error) outcome {
	switch {
	case invalid == nil && d.Met:
		return outcome{met: true, reason: d.Reason(), message: d.String()}
	case invalid == nil:
		return outcome{reason: d.Reason(), message: d.String(), event: v1alpha1.EventAssignmentFailed, detail: d.String()}
	}
	o := outcome{reason: lb.ReasonInvalidRequest, message: invalid.Error(), event: v1alpha1.EventAssignmentFailed, detail: invalid.Error()}
	if len(d.Grants) > 0 {
		o.message = d.String() + "; " + o.message
	}
	return o
}

// overwrittenBy returns the outcome while another controller overwrites the status. manager
// is its field manager, "" if that is unknown.
func (o outcome) overwrittenBy(manager string) outcome {
	who := "another controller"
	if manager != "" {
		who += fmt.Sprintf(" (field manager %q)", manager)
	}
	why := who + " overwrites status.loadBalancer, so traffic to the address may fail; " + lb.ReasonStatusOverwritten.Fix()
	return outcome{reason: lb.ReasonStatusOverwritten, message: o.message + "; " + why, event: v1alpha1.EventConflict, detail: why}
}

// set makes the Service's condition AddressAssigned say it.
func (o outcome) set(svc *corev1.Service) {
	kube.SetCondition(&svc.Status.Conditions, v1alpha1.ConditionAddressAssigned, o.met, o.reason.String(), o.message, svc.Generation)
}
