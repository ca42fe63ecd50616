package kube

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
)

// The entries of the ingress are written whole: what another load balancer left in them
// can keep kube-proxy from serving the address.
func TestSetIngressOwnsItsEntries(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.1")
	vip := corev1.LoadBalancerIngress{IP: "192.0.2.1", IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}
	host := corev1.LoadBalancerIngress{Hostname: "lb.example.com"}
	for _, tt := range []struct {
		name    string
		had     []corev1.LoadBalancerIngress
		addrs   []netip.Addr
		want    []corev1.LoadBalancerIngress
		changes bool
	}{
		{"nothing", nil, []netip.Addr{addr}, []corev1.LoadBalancerIngress{vip}, true},
		{"as we write it", []corev1.LoadBalancerIngress{vip}, []netip.Addr{addr}, []corev1.LoadBalancerIngress{vip}, false},
		{"without ipMode, as before Kubernetes 1.29", []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}, []netip.Addr{addr}, []corev1.LoadBalancerIngress{{IP: "192.0.2.1"}}, false},
		{"ipMode Proxy", []corev1.LoadBalancerIngress{{IP: "192.0.2.1", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)}}, []netip.Addr{addr}, []corev1.LoadBalancerIngress{vip}, true},
		{"a host name in the entry", []corev1.LoadBalancerIngress{{IP: "192.0.2.1", Hostname: "x"}}, []netip.Addr{addr}, []corev1.LoadBalancerIngress{vip}, true},
		{"ports in the entry", []corev1.LoadBalancerIngress{{IP: "192.0.2.1", Ports: []corev1.PortStatus{{Port: 80}}}}, []netip.Addr{addr}, []corev1.LoadBalancerIngress{vip}, true},
		{"an entry with a host name beside", []corev1.LoadBalancerIngress{vip, host}, []netip.Addr{addr}, []corev1.LoadBalancerIngress{vip}, true},
		{"a host name, and no address to write", []corev1.LoadBalancerIngress{host}, nil, []corev1.LoadBalancerIngress{host}, false},
		{"an address that is given up", []corev1.LoadBalancerIngress{vip}, nil, nil, true},
	} {
		svc := &corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: tt.had}}}
		changes := SetIngress(svc, tt.addrs)
		if diff := cmp.Diff(tt.want, svc.Status.LoadBalancer.Ingress); diff != "" || changes != tt.changes {
			t.Errorf("%s: changes %t (-want +got)\n%s", tt.name, changes, diff)
		}
	}
	svc := &corev1.Service{Status: corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{
		vip, host, {IP: "198.51.100.1", IPMode: ptr.To(corev1.LoadBalancerIPModeProxy)},
	}}}}
	RemoveIngress(svc, func(a netip.Addr) bool { return a == addr })
	if got := svc.Status.LoadBalancer.Ingress; len(got) != 2 || got[0].Hostname == "" || ptr.Deref(got[1].IPMode, "") != corev1.LoadBalancerIPModeProxy {
		t.Errorf("entries of others were changed: %v", got)
	}
}
