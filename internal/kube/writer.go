package kube

import (
	"encoding/json"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// IngressWriter returns the field manager that last wrote status.loadBalancer.ingress of the
// Service, and when; "" if the API server did not record it, or the object was read from a
// cache that drops managedFields.
func IngressWriter(svc *corev1.Service) (manager string, at metav1.Time) {
	for i := range svc.ManagedFields {
		e := &svc.ManagedFields[i]
		if e.Subresource != "status" || e.FieldsV1 == nil || !ownsIngress(e.FieldsV1.GetRawBytes()) {
			continue
		}
		if manager == "" || e.Time != nil && at.Before(e.Time) {
			manager, at = e.Manager, metav1.Time{}
			if e.Time != nil {
				at = *e.Time
			}
		}
	}
	return manager, at
}

// ownsIngress reports whether a field set in the format of managedFields has
// status.loadBalancer.ingress.
func ownsIngress(fields []byte) bool {
	var set struct {
		Status struct {
			LoadBalancer map[string]json.RawMessage `json:"f:loadBalancer"`
		} `json:"f:status"`
	}
	if json.Unmarshal(fields, &set) != nil {
		return false
	}
	_, owns := set.Status.LoadBalancer["f:ingress"]
	return owns
}
