package kube

import (
	"encoding/json"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// StatusPatch returns the change from before to after of what is ours in a
// Service's status, and of the record of its assignment, or nil if there is none. It is
// for the subresource status, through which the API server takes a Service's annotations
// too: so the record and the addresses are written at once. The API server refuses the
// patch when the Service has changed since before was read. (client.StrategicMergeFrom finds
// the same by writing both Services out in full: a tenth of the controller's
// time.)
func StatusPatch(before, after *corev1.Service) client.Patch {
	status := map[string]any{}
	if !equality.Semantic.DeepEqual(before.Status.LoadBalancer, after.Status.LoadBalancer) {
		status["loadBalancer"] = map[string]any{"ingress": after.Status.LoadBalancer.Ingress}
	}
	var conditions []any
	for _, typ := range []string{v1alpha1.ConditionAddressAssigned, v1alpha1.ConditionAnnounced} {
		was, is := meta.FindStatusCondition(before.Status.Conditions, typ), meta.FindStatusCondition(after.Status.Conditions, typ)
		switch {
		case equality.Semantic.DeepEqual(was, is):
		case is == nil:
			conditions = append(conditions, map[string]string{"$patch": "delete", "type": typ})
		default:
			conditions = append(conditions, is)
		}
	}
	if conditions != nil {
		status["conditions"] = conditions
	}
	metadata := map[string]any{"resourceVersion": before.ResourceVersion, "uid": before.UID}
	was, had := before.Annotations[v1alpha1.AnnotationAssignment]
	is, has := after.Annotations[v1alpha1.AnnotationAssignment]
	switch {
	case has && (!had || was != is):
		metadata["annotations"] = map[string]any{v1alpha1.AnnotationAssignment: is}
	case had && !has:
		metadata["annotations"] = map[string]any{v1alpha1.AnnotationAssignment: nil}
	case len(status) == 0:
		return nil
	}
	body, err := json.Marshal(map[string]any{"metadata": metadata, "status": status})
	if err != nil {
		panic(fmt.Sprintf("a status that cannot be JSON: %v", err))
	}
	return client.RawPatch(types.StrategicMergePatchType, body)
}
