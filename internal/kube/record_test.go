package kube

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

func assignedService() *corev1.Service {
	svc := &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web"}}
	SetCondition(&svc.Status.Conditions, v1alpha1.ConditionAddressAssigned, true, "Assigned", "x", 0)
	return svc
}

func TestRecord(t *testing.T) {
	svc := assignedService()
	v4, v6 := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("2001:db8::1")
	SetRecord(svc, lb.Decision{
		Grants: []lb.Grant{{Addr: v4, Pool: "lan"}, {Addr: v6, Pool: "six", Claim: "mine"}},
		Picked: []lb.Reason{lb.ReasonLowest, lb.ReasonClaimed},
	})
	want := Record{
		{Address: "192.0.2.1", Pool: "lan", Picked: lb.ReasonLowest.String()},
		{Address: "2001:db8::1", Pool: "six", Claim: "mine", Picked: lb.ReasonClaimed.String()},
	}
	if diff := cmp.Diff(want, RecordOf(svc)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	written := svc.Annotations[v1alpha1.AnnotationAssignment]
	SetRecord(svc, lb.Decision{Grants: []lb.Grant{{Addr: v4, Pool: "lan"}, {Addr: v6, Pool: "six", Claim: "mine"}}, Picked: []lb.Reason{lb.ReasonKept, lb.ReasonKept}})
	if again := svc.Annotations[v1alpha1.AnnotationAssignment]; again != written {
		t.Errorf("the same assignment is recorded as %s, was %s", again, written)
	}
	if diff := cmp.Diff(map[netip.Addr]string{v4: "lan", v6: "six"}, RecordedPools(svc)); diff != "" {
		t.Errorf("pools: (-want +got)\n%s", diff)
	}
	SetRecord(svc, lb.Decision{})
	if text, there := svc.Annotations[v1alpha1.AnnotationAssignment]; there {
		t.Errorf("nothing is assigned, and recorded is %s", text)
	}
}

func TestRecordThatIsNotOurs(t *testing.T) {
	for name, text := range map[string]string{
		"garbage": "{", "another shape": `{"a": 1}`, "empty": "", "no addresses": `[{"address": "192.0.2.256", "pool": "lan"}]`,
	} {
		svc := assignedService()
		svc.Annotations = map[string]string{v1alpha1.AnnotationAssignment: text}
		if got := RecordOf(svc).Addresses(); len(got) > 0 {
			t.Errorf("%s: the record lists %v", name, got)
		}
	}
	svc := assignedService()
	svc.Annotations = map[string]string{v1alpha1.AnnotationAssignment: `[{"address": "192.0.2.1", "pool": "lan"}]`}
	svc.Status.Conditions = nil
	if got := RecordOf(svc); got != nil {
		t.Errorf("without our condition the record is %v", got)
	}
}

// What a condition said before there was a record.
func TestAssignmentOfEarlierVersions(t *testing.T) {
	svc := assignedService()
	svc.Status.Conditions[0].Message = `192.0.2.1 from pool "lan", 2001:db8::1 of IPAddressClaim "mine", from pool "six"; spec.x: not understood`
	want := map[netip.Addr]string{netip.MustParseAddr("192.0.2.1"): "lan", netip.MustParseAddr("2001:db8::1"): "six"}
	if diff := cmp.Diff(want, RecordedPools(svc)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	claim := &v1alpha1.IPAddressClaim{Status: v1alpha1.IPAddressClaimStatus{Addresses: []string{"192.0.2.1", "2001:db8::1"}}}
	SetCondition(&claim.Status.Conditions, v1alpha1.ConditionReady, true, "Reserved", `192.0.2.1 from pool "lan", 2001:db8::1 from pool "six"; for the Service with the annotation`, 0)
	if _, pools := ClaimAddresses(claim); !cmp.Equal(want, pools, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })) {
		t.Errorf("the claim's pools are %v, want %v", pools, want)
	}
	claim.Status.Pools = []string{"a", "b"}
	want = map[netip.Addr]string{netip.MustParseAddr("192.0.2.1"): "a", netip.MustParseAddr("2001:db8::1"): "b"}
	if _, pools := ClaimAddresses(claim); !cmp.Equal(want, pools, cmp.Comparer(func(x, y netip.Addr) bool { return x == y })) {
		t.Errorf("the claim's pools are %v, want %v", pools, want)
	}
}
