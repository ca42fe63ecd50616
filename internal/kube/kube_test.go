package kube

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

var addrs = cmp.Comparer(func(x, y netip.Addr) bool { return x == y })

func service(change func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "web", Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			IPFamilyPolicy: ptr.To(corev1.IPFamilyPolicySingleStack),
		},
	}
	change(svc)
	return svc
}

func TestRequest(t *testing.T) {
	ip := func(s ...string) (out []netip.Addr) {
		for _, a := range s {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	tests := []struct {
		name   string
		change func(*corev1.Service)
		want   lb.Request // but for what all have
		err    string
	}{
		{
			name: "nothing asked for", change: func(*corev1.Service) {},
			want: lb.Request{Families: []lb.Family{lb.IPv4}, RequireAll: true},
		},
		{
			name: "dual stack where there is one",
			change: func(s *corev1.Service) {
				s.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol, corev1.IPv4Protocol}
				s.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
			},
			want: lb.Request{Families: []lb.Family{lb.IPv6, lb.IPv4}},
		},
		{
			name: "our annotations win over their twins, the newer twin over the older",
			change: func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationMetalLBUniverseAddressPool] = "oldest"
				s.Annotations[v1alpha1.AnnotationMetalLBAddressPool] = "older"
				s.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = "192.0.2.1,2001:db8::1"
				s.Annotations[v1alpha1.AnnotationMetalLBLoadBalancerIPs] = "192.0.2.9"
				s.Spec.LoadBalancerIP = "192.0.2.8"
			},
			want: lb.Request{Families: []lb.Family{lb.IPv4}, RequireAll: true, Pool: "older", Addresses: ip("192.0.2.1", "2001:db8::1")},
		},
		{
			name: "spec.loadBalancerIP", change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.8" },
			want: lb.Request{Families: []lb.Family{lb.IPv4}, RequireAll: true, Addresses: ip("192.0.2.8")},
		},
		{
			name: "a key to share by, under externalTrafficPolicy Cluster",
			change: func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationMetalLBAllowSharedIP] = "dns"
				s.Spec.Ports = []corev1.ServicePort{{Port: 53, Protocol: corev1.ProtocolUDP}, {Port: 53, Protocol: corev1.ProtocolTCP}}
				s.Spec.Selector = map[string]string{"app": "dns"}
			},
			want: lb.Request{
				Families: []lb.Family{lb.IPv4}, RequireAll: true, ShareKey: "dns",
				Ports: []lb.Port{{Protocol: "UDP", Number: 53}, {Protocol: "TCP", Number: 53}},
			},
		},
		{
			name: "a key to share by, under externalTrafficPolicy Local: the pods count",
			change: func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationAllowSharedIP] = "dns"
				s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
				s.Spec.Selector = map[string]string{"b": "2", "a": "1"}
			},
			want: lb.Request{Families: []lb.Family{lb.IPv4}, RequireAll: true, ShareKey: "dns", Backends: "default/a=1,b=2"},
		},
		{
			name: "a claim", change: func(s *corev1.Service) { s.Annotations[v1alpha1.AnnotationClaim] = "web" },
			want: lb.Request{Families: []lb.Family{lb.IPv4}, RequireAll: true, Claim: "web"},
		},
		{
			name: "empty annotations are as if absent, and the next twin counts",
			change: func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = ""
				s.Annotations[v1alpha1.AnnotationMetalLBLoadBalancerIPs] = " ,\n"
				s.Annotations[v1alpha1.AnnotationMetalLBUniverseLoadBalancerIPs] = "192.0.2.9, "
				s.Annotations[v1alpha1.AnnotationAddressPool] = " "
				s.Annotations[v1alpha1.AnnotationMetalLBAddressPool] = " lan\n"
				s.Annotations[v1alpha1.AnnotationAllowSharedIP] = "\t"
				s.Annotations[v1alpha1.AnnotationClaim] = " "
			},
			want: lb.Request{Families: []lb.Family{lb.IPv4}, RequireAll: true, Pool: "lan", Addresses: ip("192.0.2.9")},
		},
		{
			name: "an empty annotation and spec.loadBalancerIP",
			change: func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationLoadBalancerIPs], s.Spec.LoadBalancerIP = ",", " 192.0.2.8 "
			},
			want: lb.Request{Families: []lb.Family{lb.IPv4}, RequireAll: true, Addresses: ip("192.0.2.8")},
		},
		{
			name: "a claim and a pool",
			change: func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationClaim] = "web"
				s.Annotations[v1alpha1.AnnotationMetalLBAddressPool] = "lan"
			},
			err: `annotation fairlead.dev/claim: the Service has what IPAddressClaim "web" keeps, so annotation metallb.io/address-pool means nothing; remove one of them`,
		},
		{
			name: "a claim and an address",
			change: func(s *corev1.Service) {
				s.Annotations[v1alpha1.AnnotationClaim] = "web"
				s.Spec.LoadBalancerIP = "192.0.2.8"
			},
			err: `so spec.loadBalancerIP means nothing`,
		},
		{
			name:   "an annotation that is no address",
			change: func(s *corev1.Service) { s.Annotations[v1alpha1.AnnotationMetalLBLoadBalancerIPs] = "web" },
			err:    `annotation metallb.io/loadBalancerIPs: "web" is not an IP address`,
		},
		{
			name: "a field that is no address", change: func(s *corev1.Service) { s.Spec.LoadBalancerIP = "192.0.2.1/24" },
			err: `spec.loadBalancerIP: "192.0.2.1/24" is not an IP address`,
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Request(service(tt.change), nil)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			tt.want.Holder = lb.ServiceKey{Namespace: "default", Name: "web"}.Holder()
			if diff := cmp.Diff(tt.want, got, addrs); err != nil || diff != "" {
				t.Errorf("%v (-want +got):\n%s", err, diff)
			}
		})
	}
}

func TestHandles(t *testing.T) {
	class := Class{Name: v1alpha1.LoadBalancerClass, Classless: true}
	tests := []struct {
		name   string
		class  Class
		change func(*corev1.Service)
		want   bool
	}{
		{"no class", class, func(*corev1.Service) {}, true},
		{"no class, and we do not take those", Class{Name: class.Name}, func(*corev1.Service) {}, false},
		{"our class", Class{Name: class.Name}, func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To(class.Name) }, true},
		{"another's class", class, func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("other.example/lb") }, false},
		{"another type", class, func(s *corev1.Service) { s.Spec.Type = corev1.ServiceTypeNodePort }, false},
		{"being deleted", class, func(s *corev1.Service) { s.DeletionTimestamp = &metav1.Time{Time: time.Unix(1, 0)} }, false},
	}
	for _, tt := range tests {
		if got := tt.class.Handles(service(tt.change)); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestReadyNodes(t *testing.T) {
	endpoint := func(node string, ready, serving, terminating bool) discoveryv1.Endpoint {
		return discoveryv1.Endpoint{NodeName: &node, Conditions: discoveryv1.EndpointConditions{
			Ready: &ready, Serving: &serving, Terminating: &terminating,
		}}
	}
	tests := []struct {
		name      string
		endpoints []discoveryv1.Endpoint
		want      []string
	}{
		{"none", nil, []string{}},
		{"ready ones, each node once, sorted", []discoveryv1.Endpoint{
			endpoint("n2", true, true, false), endpoint("n1", true, true, false), endpoint("n2", true, true, false),
		}, []string{"n1", "n2"}},
		{"terminating ones do not count while one is ready", []discoveryv1.Endpoint{
			endpoint("n2", false, true, true), endpoint("n1", true, true, false),
		}, []string{"n1"}},
		{"terminating ones that serve are the last resort", []discoveryv1.Endpoint{
			endpoint("n2", false, true, true), endpoint("n1", false, false, true), endpoint("n3", false, false, false),
		}, []string{"n2"}},
		{"no word on readiness means ready", []discoveryv1.Endpoint{{NodeName: ptr.To("n1")}}, []string{"n1"}},
		{"outside of the cluster", []discoveryv1.Endpoint{{}}, []string{""}},
	}
	for _, tt := range tests {
		got := ReadyNodes([]discoveryv1.EndpointSlice{{AddressType: discoveryv1.AddressTypeIPv4, Endpoints: tt.endpoints}})
		if diff := cmp.Diff(lb.ReadyNodes{IPv4: tt.want}, got, cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

// Each address family is decided on its own, as kube-proxy does.
func TestReadyNodesOfEachFamily(t *testing.T) {
	slice := func(f discoveryv1.AddressType, ready bool, nodes ...string) discoveryv1.EndpointSlice {
		s := discoveryv1.EndpointSlice{AddressType: f}
		for _, n := range nodes {
			s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: &n, Conditions: discoveryv1.EndpointConditions{
				Ready: &ready, Serving: ptr.To(true), Terminating: ptr.To(!ready),
			}})
		}
		return s
	}
	v4, v6 := discoveryv1.AddressTypeIPv4, discoveryv1.AddressTypeIPv6
	for _, tt := range []struct {
		name   string
		slices []discoveryv1.EndpointSlice
		want   lb.ReadyNodes
	}{
		{"families on different nodes", []discoveryv1.EndpointSlice{slice(v4, true, "n1"), slice(v6, true, "n2")}, lb.ReadyNodes{IPv4: []string{"n1"}, IPv6: []string{"n2"}}},
		{"one family only", []discoveryv1.EndpointSlice{slice(v6, true, "n2", "n1")}, lb.ReadyNodes{IPv6: []string{"n1", "n2"}}},
		{
			"a family that only terminates serves while the other is ready", []discoveryv1.EndpointSlice{slice(v4, true, "n1"), slice(v6, false, "n2")},
			lb.ReadyNodes{IPv4: []string{"n1"}, IPv6: []string{"n2"}},
		},
		{
			"several slices of a family, of which one is ready", []discoveryv1.EndpointSlice{slice(v6, false, "n3"), slice(v6, true, "n2"), slice(v4, false, "n3")},
			lb.ReadyNodes{IPv4: []string{"n3"}, IPv6: []string{"n2"}},
		},
		{"names are no addresses", []discoveryv1.EndpointSlice{slice(discoveryv1.AddressTypeFQDN, true, "n1")}, lb.ReadyNodes{}},
		{"an unknown kind of address", []discoveryv1.EndpointSlice{slice("Carrier", true, "n1"), slice(v4, true)}, lb.ReadyNodes{}},
	} {
		if diff := cmp.Diff(tt.want, ReadyNodes(tt.slices), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.name, diff)
		}
	}
}

func TestNode(t *testing.T) {
	n := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: "n1", Labels: map[string]string{corev1.LabelNodeExcludeBalancers: ""}},
		Spec: corev1.NodeSpec{Unschedulable: true, Taints: []corev1.Taint{
			{Key: corev1.TaintNodeOutOfService}, {Key: "example.com/other"},
		}},
		Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeNetworkUnavailable, Status: corev1.ConditionTrue}},
			Addresses: []corev1.NodeAddress{
				{Type: corev1.NodeHostName, Address: "n1"}, {Type: corev1.NodeInternalIP, Address: "192.0.2.1"},
			},
		},
	}
	want := []lb.Reason{lb.ReasonNodeExcluded, lb.ReasonNodeNoNetwork, lb.ReasonNodeShutdown, lb.ReasonNodeCordoned}
	if diff := cmp.Diff(want, Node(n).Avoid, cmp.Comparer(func(x, y lb.Reason) bool { return x == y })); diff != "" {
		t.Errorf("reasons to avoid the node (-want +got):\n%s", diff)
	}
	if ip, ok := GossipAddress(n, lb.IPv4); !ok || ip != netip.MustParseAddr("192.0.2.1") {
		t.Errorf("InternalIP %s, %t", ip, ok)
	}
}

func pool(name string, created int64, addresses ...v1alpha1.AddressRange) v1alpha1.IPAddressPool {
	return v1alpha1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.Unix(created, 0)},
		Spec:       v1alpha1.IPAddressPoolSpec{Addresses: addresses},
	}
}

func TestPoolSet(t *testing.T) {
	shrunk := pool("shrunk", 1, "192.0.2.0/30")
	shrunk.Status.Retiring = []v1alpha1.RetiringAddress{{Address: "192.0.2.200", Service: "default/web"}}
	set := NewPoolSet([]v1alpha1.IPAddressPool{
		pool("younger", 3, "192.0.2.2-192.0.2.9"), shrunk, pool("invalid", 1, "web"), pool("v6", 2, "2001:db8::/64"),
	})
	for addr, want := range map[string]string{
		"192.0.2.1":     "shrunk",
		"192.0.2.2":     "shrunk", // which is in force; the younger overlaps it
		"192.0.2.9":     "younger",
		"192.0.2.200":   "shrunk",
		"2001:db8::9":   "v6",
		"198.51.100.77": "",
	} {
		if got, _ := set.Of(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s is of pool %q, want %q", addr, got, want)
		}
	}
	if name, ok := set.Holder(netip.MustParseAddr("192.0.2.9")); name != "younger" || !ok {
		t.Errorf("192.0.2.9 is held by %q, want younger", name)
	}
	if name, ok := set.Holder(netip.MustParseAddr("192.0.2.200")); ok {
		t.Errorf("192.0.2.200, which is retiring, is held by %q", name)
	}
}

func TestPoolNamesTheField(t *testing.T) {
	p := pool("p", 1, "192.0.2.0/24", "192.0.2.9-192.0.2.1")
	if _, err := Pool(&p); err == nil || !strings.Contains(err.Error(), `spec.addresses[1]: "192.0.2.9-192.0.2.1" ends before it begins`) {
		t.Errorf("%v", err)
	}
	p = pool("p", 1, "192.0.2.0/24")
	p.Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{ServiceSelectors: []v1alpha1.LabelSelector{
		{}, {MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "a", Operator: "Like"}}},
	}}
	if _, err := Pool(&p); err == nil || !strings.Contains(err.Error(), `spec.serviceAllocation.serviceSelectors[1].matchExpressions[0].operator: "Like"`) {
		t.Errorf("%v", err)
	}
}

func TestL2AdvertisementResolvesSelectors(t *testing.T) {
	labelled := pool("labelled", 1, "192.0.2.0/24")
	labelled.Labels = map[string]string{"tier": "public"}
	a := &v1alpha1.L2Advertisement{Spec: v1alpha1.L2AdvertisementSpec{
		IPAddressPools:         []v1alpha1.ObjectName{"named"},
		IPAddressPoolSelectors: []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "public"}}},
	}}
	got, err := L2Advertisement(a, []v1alpha1.IPAddressPool{labelled, pool("other", 1, "198.51.100.0/24")})
	if diff := cmp.Diff([]string{"labelled", "named"}, got.Pools); err != nil || diff != "" || got.AllPools {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if all, err := L2Advertisement(&v1alpha1.L2Advertisement{}, nil); err != nil || !all.AllPools {
		t.Errorf("an empty one is for all pools; got %+v, %v", all, err)
	}
}

func TestSetConditionCutsWhatTheAPIServerWouldRefuse(t *testing.T) {
	var conditions []metav1.Condition
	SetCondition(&conditions, "Ready", true, "Accepted", strings.Repeat("é", maxMessage), 1)
	if m := conditions[0].Message; len(m) > maxMessage || !strings.HasSuffix(m, "…") {
		t.Errorf("message of %d bytes that ends with %q", len(m), m[len(m)-4:])
	}
	if SetCondition(&conditions, "Ready", true, "Accepted", conditions[0].Message, 1) {
		t.Error("the same again is a change")
	}
}

func TestGossipKeys(t *testing.T) {
	old, next := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 16)
	for _, c := range []struct {
		data map[string][]byte
		want [][]byte
		err  string
	}{
		{data: map[string][]byte{"key": old}, want: [][]byte{old}},
		{data: map[string][]byte{"key": old, "a": next}, want: [][]byte{old, next}},
		{data: map[string][]byte{"key": next, "previous": old}, want: [][]byte{next, old}},
		{data: map[string][]byte{"next": next}, err: "Secret ns/fairlead-gossip: data.key has 0 bytes; write 32 random ones"},
		{data: map[string][]byte{"key": old, "next": []byte("short")}, err: "data.next has 5 bytes"},
	} {
		got, err := GossipKeys("ns", c.data)
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%v: (-want +got)\n%s", c.data, diff)
		}
		if (err != nil) != (c.err != "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%v: %v, want %q", c.data, err, c.err)
		}
	}
	if a, b := Fingerprint(old), Fingerprint(next); a == b || len(a) != 8 {
		t.Errorf("fingerprints %s and %s", a, b)
	}
}

func TestGossipAddress(t *testing.T) {
	tests := []struct {
		name   string
		prefer lb.Family
		ips    []string
		want   string // "" for none
	}{
		{"IPv4 first", lb.IPv4, []string{"192.0.2.1", "2001:db8::1"}, "192.0.2.1"},
		{"the order does not matter", lb.IPv4, []string{"2001:db8::1", "192.0.2.1"}, "192.0.2.1"},
		{"IPv6 only", lb.IPv4, []string{"2001:db8::1"}, "2001:db8::1"},
		{"IPv6 is preferred", lb.IPv6, []string{"192.0.2.1", "2001:db8::1"}, "2001:db8::1"},
		{"IPv6 is preferred, and not there", lb.IPv6, []string{"192.0.2.1"}, "192.0.2.1"},
		{"two of a family", lb.IPv4, []string{"192.0.2.2", "192.0.2.1"}, "192.0.2.2"},
		{"IPv4-mapped", lb.IPv4, []string{"::ffff:192.0.2.1"}, "192.0.2.1"},
		{"loopback and link-local reach nobody", lb.IPv4, []string{"127.0.0.1", "169.254.1.1", "2001:db8::1"}, "2001:db8::1"},
		{"nothing else", lb.IPv4, []string{"127.0.0.1", "::1", "fe80::1", "0.0.0.0", "node.example"}, ""},
		{"none", lb.IPv4, nil, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &corev1.Node{}
			for _, ip := range tt.ips {
				n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: ip})
			}
			got, ok := GossipAddress(n, tt.prefer)
			if want, _ := netip.ParseAddr(tt.want); got != want || ok != want.IsValid() {
				t.Errorf("got %v, %v", got, ok)
			}
		})
	}
}
