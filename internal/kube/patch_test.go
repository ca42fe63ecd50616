package kube

import (
	"encoding/json"
	"net/netip"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/util/strategicpatch"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// TestStatusPatch applies the patch as the API server does, and compares with
// what was wanted.
func TestStatusPatch(t *testing.T) {
	assigned := service(func(s *corev1.Service) {
		s.ResourceVersion, s.UID = "7", "u"
		SetIngress(s, []netip.Addr{netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")})
		SetCondition(&s.Status.Conditions, "example.com/Other", true, "Fine", "", 1)
		SetCondition(&s.Status.Conditions, v1alpha1.ConditionAddressAssigned, true, "Assigned", "a", 1)
		SetCondition(&s.Status.Conditions, v1alpha1.ConditionAnnounced, true, "Announced", "b", 1)
	})
	tests := []struct {
		name   string
		change func(*corev1.Service)
	}{
		{"a condition changes", func(s *corev1.Service) {
			SetCondition(&s.Status.Conditions, v1alpha1.ConditionAnnounced, false, "NoCandidate", "c", 1)
		}},
		{"an address less", func(s *corev1.Service) { SetIngress(s, []netip.Addr{netip.MustParseAddr("192.0.2.1")}) }},
		{"another address", func(s *corev1.Service) { SetIngress(s, []netip.Addr{netip.MustParseAddr("192.0.2.9")}) }},
		{"a record more", func(s *corev1.Service) {
			SetRecord(s, lb.Decision{Grants: []lb.Grant{{Addr: netip.MustParseAddr("192.0.2.1"), Pool: "lan"}}})
		}},
		{"all that is ours goes", func(s *corev1.Service) {
			SetIngress(s, nil)
			meta.RemoveStatusCondition(&s.Status.Conditions, v1alpha1.ConditionAddressAssigned)
			meta.RemoveStatusCondition(&s.Status.Conditions, v1alpha1.ConditionAnnounced)
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			want := assigned.DeepCopy()
			tt.change(want)
			patch, err := StatusPatch(assigned, want).Data(nil)
			if err != nil {
				t.Fatal(err)
			}
			had, _ := json.Marshal(assigned)
			b, err := strategicpatch.StrategicMergePatch(had, patch, &corev1.Service{})
			if err != nil {
				t.Fatal(err)
			}
			var got corev1.Service
			if err := json.Unmarshal(b, &got); err != nil {
				t.Fatal(err)
			}
			if !equality.Semantic.DeepEqual(conditionsByType(&got), conditionsByType(want)) ||
				!equality.Semantic.DeepEqual(got.Status.LoadBalancer, want.Status.LoadBalancer) || !equality.Semantic.DeepEqual(got.Annotations, want.Annotations) {
				t.Errorf("patched: %+v\nwanted: %+v", got.Status, want.Status)
			}
		})
	}
	if p := StatusPatch(assigned, assigned.DeepCopy()); p != nil {
		t.Errorf("there is a patch for no change")
	}
}

func conditionsByType(s *corev1.Service) map[string]string {
	out := map[string]string{}
	for _, c := range s.Status.Conditions {
		out[c.Type] = string(c.Status) + c.Reason + c.Message
	}
	return out
}
