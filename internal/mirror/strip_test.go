package mirror

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// The cache leaves out nothing that Cluster reads.
func TestStrippedObjectsMakeTheSameWorld(t *testing.T) {
	meta := func(name string, labels map[string]string) metav1.ObjectMeta {
		return metav1.ObjectMeta{
			Namespace: "default", Name: name, UID: "1", ResourceVersion: "2", Labels: labels, Annotations: map[string]string{"a": "b"},
			ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "m"}},
		}
	}
	web := &corev1.Service{ObjectMeta: meta("web", map[string]string{"app": "web"}), Spec: corev1.ServiceSpec{
		Type: corev1.ServiceTypeLoadBalancer, LoadBalancerClass: ptr.To("ours"), ExternalTrafficPolicy: corev1.ServiceExternalTrafficPolicyLocal,
		Ports: []corev1.ServicePort{{Port: 80}},
	}}
	web.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.1", Hostname: "x"}, {IP: "2001:db8::1"}}
	leaving := web.DeepCopy()
	leaving.Name, leaving.DeletionTimestamp = "leaving", ptr.To(metav1.NewTime(time.Unix(1, 0)))
	foreign := web.DeepCopy()
	foreign.Name, foreign.Spec.LoadBalancerClass = "foreign", ptr.To("theirs")
	endpoints := &discoveryv1.EndpointSlice{
		AddressType: discoveryv1.AddressTypeIPv6,
		ObjectMeta:  meta("web-x", map[string]string{discoveryv1.LabelServiceName: "web", "other": "label"}),
		Endpoints: []discoveryv1.Endpoint{
			{NodeName: ptr.To("n2"), Addresses: []string{"10.0.0.1"}, Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true), Terminating: ptr.To(true)}},
			{NodeName: ptr.To("n3"), Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(false), Serving: ptr.To(true)}},
			{NodeName: ptr.To("n4")}, {NodeName: ptr.To("n4")}, {},
		},
	}
	serving := endpoints.DeepCopy()
	serving.Name, serving.Labels[discoveryv1.LabelServiceName] = "leaving-x", "leaving"
	serving.Endpoints = serving.Endpoints[:2]
	node := &corev1.Node{ObjectMeta: meta("n1", map[string]string{"zone": "a", corev1.LabelNodeExcludeBalancers: ""})}
	node.Spec.Unschedulable, node.Spec.Taints = true, []corev1.Taint{{Key: corev1.TaintNodeOutOfService}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue, Reason: "x"}}
	node.Status.Images = []corev1.ContainerImage{{Names: []string{"x"}}}

	tell := func(through func(any) (any, error)) (*Cluster, plan.Snapshot) {
		w := New(kube.Class{Name: "ours"}, "n1", lb.IPv4)
		w.setPool(poolOf("lan", 1, "192.0.2.0/24", "2001:db8::/64"), false)
		for _, o := range []any{web, leaving, foreign, endpoints, serving, node} {
			o, err := through(o)
			if err != nil {
				t.Fatal(err)
			}
			switch o := o.(type) {
			case *corev1.Service:
				w.setService(o, false)
			case *discoveryv1.EndpointSlice:
				w.setEndpoints(o, false)
			case *corev1.Node:
				w.setNode(o, false)
			}
		}
		var s plan.Snapshot
		w.Fill(&s)
		return w, s
	}
	whole, want := tell(func(o any) (any, error) { return o, nil })
	stripped, got := tell(strip)
	if diff := cmp.Diff(want, got, compared); diff != "" || len(got.Assignments) != 1 {
		t.Errorf("(-whole +stripped)\n%s", diff)
	}
	if diff := cmp.Diff(whole.endpoints, stripped.endpoints, compared, cmp.AllowUnexported(endpointSlice{})); diff != "" {
		t.Errorf("(-whole +stripped)\n%s", diff)
	}
}
