package mirror

import (
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
)

// strip leaves out what Cluster does not read, of the kinds of which there
// are many: all are in memory at once when they are listed.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Service:
		return stripService(o), nil
	case *discoveryv1.EndpointSlice:
		return stripEndpoints(o), nil
	case *corev1.Node:
		return stripNode(o), nil
	default:
		return obj, nil
	}
}

// stripMeta keeps what a reflector itself needs, and the labels.
func stripMeta(m metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: m.Namespace, Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion, Labels: m.Labels, DeletionTimestamp: m.DeletionTimestamp,
	}
}

func stripService(s *corev1.Service) *corev1.Service {
	out := &corev1.Service{ObjectMeta: stripMeta(s.ObjectMeta)}
	out.Spec.Type, out.Spec.LoadBalancerClass, out.Spec.ExternalTrafficPolicy = s.Spec.Type, s.Spec.LoadBalancerClass, s.Spec.ExternalTrafficPolicy
	if s.Spec.Type != corev1.ServiceTypeLoadBalancer {
		out.Labels = nil
	}
	if record, ok := s.Annotations[v1alpha1.AnnotationAssignment]; ok && kube.AssignedCondition(s) != nil {
		out.Annotations = map[string]string{v1alpha1.AnnotationAssignment: record}
		out.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAddressAssigned}}
	}
	for _, i := range s.Status.LoadBalancer.Ingress {
		out.Status.LoadBalancer.Ingress = append(out.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: i.IP})
	}
	return out
}

// stripEndpoints keeps one endpoint of those on one node that are in the same
// condition.
func stripEndpoints(s *discoveryv1.EndpointSlice) *discoveryv1.EndpointSlice {
	out := &discoveryv1.EndpointSlice{ObjectMeta: stripMeta(s.ObjectMeta), AddressType: s.AddressType}
	out.Labels = map[string]string{discoveryv1.LabelServiceName: s.Labels[discoveryv1.LabelServiceName]}
	nodes := kube.Endpoints(s)
	yes, no := true, false
	out.Endpoints = make([]discoveryv1.Endpoint, 0, len(nodes.Ready)+len(nodes.Serving))
	for i := range nodes.Ready {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{NodeName: &nodes.Ready[i]})
	}
	for i := range nodes.Serving {
		out.Endpoints = append(out.Endpoints, discoveryv1.Endpoint{
			NodeName: &nodes.Serving[i], Conditions: discoveryv1.EndpointConditions{Ready: &no, Serving: &yes, Terminating: &yes},
		})
	}
	return out
}

// stripNode leaves out what there is most of, as the images and the times at which
// the kubelet reported.
func stripNode(n *corev1.Node) *corev1.Node {
	out := &corev1.Node{ObjectMeta: stripMeta(n.ObjectMeta)}
	out.Status.Addresses = n.Status.Addresses
	out.Spec.Unschedulable, out.Spec.Taints = n.Spec.Unschedulable, n.Spec.Taints
	for _, c := range n.Status.Conditions {
		out.Status.Conditions = append(out.Status.Conditions, corev1.NodeCondition{Type: c.Type, Status: c.Status})
	}
	return out
}
