package explain

import (
	"testing"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

func TestReadyOn(t *testing.T) {
	v4, v6 := corev1.IPv4Protocol, corev1.IPv6Protocol
	for _, tt := range []struct {
		families []corev1.IPFamily
		ready    lb.ReadyNodes
		want     string
	}{
		{[]corev1.IPFamily{v4}, lb.ReadyNodes{}, ""},
		{[]corev1.IPFamily{v4}, lb.ReadyNodes{IPv6: []string{"n1"}}, ""},
		{[]corev1.IPFamily{v6}, lb.ReadyNodes{IPv4: []string{"n1"}, IPv6: []string{"n2"}}, "ready on n2"},
		{[]corev1.IPFamily{v6, v4}, lb.ReadyNodes{IPv4: []string{"n1"}, IPv6: []string{"n1"}}, "ready on n1"},
		{[]corev1.IPFamily{v4, v6}, lb.ReadyNodes{IPv4: []string{"n1"}}, "IPv4 ready on n1; IPv6: none is ready"},
	} {
		svc := &corev1.Service{Spec: corev1.ServiceSpec{IPFamilies: tt.families}}
		if got := readyOn(svc, tt.ready); got != tt.want {
			t.Errorf("%v %+v: %q, not %q", tt.families, tt.ready, got, tt.want)
		}
	}
}
