package mirror

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"pgregory.net/rapid"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

func serviceOf(name string, labels map[string]string, addrs ...string) *corev1.Service {
	s := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
	}
	for _, a := range addrs {
		s.Status.LoadBalancer.Ingress = append(s.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
	}
	return s
}

func sliceOf(svc, name string, nodes ...string) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: svc}}}
	for _, n := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: ptr.To(n), Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}})
	}
	return s
}

func poolOf(name string, generation int64, addresses ...v1alpha1.AddressRange) *v1alpha1.IPAddressPool {
	return &v1alpha1.IPAddressPool{
		ObjectMeta: metav1.ObjectMeta{Name: name, Generation: generation}, Spec: v1alpha1.IPAddressPoolSpec{Addresses: addresses},
	}
}

var compared = cmp.Options{
	cmp.Comparer(func(x, y netip.Addr) bool { return x == y }),
	cmpopts.EquateEmpty(),
}

// What is worked out anew after each change is as if all were read at once, and
// has another version when it is another.
func TestFillKeepsUp(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		kept := New(kube.Class{Classless: true}, "n1", lb.IPv4)
		kept.setPool(poolOf("lan", 1, "192.0.2.0/24"), false)
		services := map[string]*corev1.Service{}
		slices := map[string]*discoveryv1.EndpointSlice{}
		nodes := map[string]*corev1.Node{}
		var last plan.Snapshot
		var version uint64
		for range rapid.IntRange(1, 12).Draw(t, "changes") {
			name := rapid.SampledFrom([]string{"a", "b", "c", "d"}).Draw(t, "name")
			gone := rapid.Bool().Draw(t, "gone")
			switch rapid.IntRange(0, 2).Draw(t, "kind") {
			case 0:
				svc := serviceOf(name, map[string]string{"v": rapid.SampledFrom([]string{"1", "2"}).Draw(t, "label")}, fmt.Sprint("192.0.2.", rapid.IntRange(2, 4).Draw(t, "addr")))
				if rapid.Bool().Draw(t, "local") {
					local(svc)
				}
				delete(services, name)
				if !gone {
					services[name] = svc
				}
				kept.setService(svc, gone)
			case 1:
				slice := sliceOf(name, name+rapid.SampledFrom([]string{"-x", "-y"}).Draw(t, "slice"), rapid.SampledFrom([][]string{{"n1"}, {"n2"}, nil}).Draw(t, "nodes")...)
				delete(slices, slice.Name)
				if !gone {
					slices[slice.Name] = slice
				}
				kept.setEndpoints(slice, gone)
			case 2:
				node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
				delete(nodes, name)
				if !gone {
					nodes[name] = node
				}
				kept.setNode(node, gone)
			}
			if rapid.Bool().Draw(t, "not yet") {
				continue // several changes at once
			}
			anew := New(kube.Class{Classless: true}, "n1", lb.IPv4)
			anew.setPool(poolOf("lan", 1, "192.0.2.0/24"), false)
			for _, s := range services {
				anew.setService(s, false)
			}
			for _, s := range slices {
				anew.setEndpoints(s, false)
			}
			for _, n := range nodes {
				anew.setNode(n, false)
			}
			var want, got plan.Snapshot
			anew.Fill(&want)
			v := kept.Fill(&got)
			if diff := cmp.Diff(want, got, compared); diff != "" {
				t.Fatalf("(-anew +kept)\n%s", diff)
			}
			if v == version && !cmp.Equal(last, got, compared) {
				t.Fatalf("it is another cluster, with the same version\n%s", cmp.Diff(last, got, compared))
			}
			last, version = got, v
		}
	})
}

// Where its pods are is nothing to a Service that any node serves.
func TestPodsThatComeAndGoChangeNothing(t *testing.T) {
	for _, tc := range []struct {
		svc     *corev1.Service
		changes bool
	}{
		{serviceOf("web", nil, "192.0.2.1"), false},
		{local(serviceOf("web", nil, "192.0.2.1")), true},
	} {
		w := New(kube.Class{Classless: true}, "n1", lb.IPv4)
		w.setPool(poolOf("lan", 1, "192.0.2.0/24"), false)
		w.setService(tc.svc, false)
		if w.setEndpoints(sliceOf("web", "web-x", "n1"), false); len(assigned(w)["web"]) == 0 {
			t.Fatal("the first endpoint makes no difference")
		}
		if got := w.setEndpoints(sliceOf("web", "web-x", "n1", "n2"), false); got != tc.changes {
			t.Errorf("%s: another node has a pod; that matters: %t, want %t", tc.svc.Spec.ExternalTrafficPolicy, got, tc.changes)
		}
		if !w.setEndpoints(sliceOf("web", "web-x"), false) || len(assigned(w)["web"]) > 0 {
			t.Error("the last endpoint went, and that makes no difference")
		}
	}
}

// recorded returns the Service with the controller's record of these addresses, all of
// the pool lan.
func recorded(svc *corev1.Service, addrs ...string) *corev1.Service {
	var d lb.Decision
	for _, a := range addrs {
		d.Grants = append(d.Grants, lb.Grant{Addr: netip.MustParseAddr(a), Pool: "lan"})
	}
	kube.SetCondition(&svc.Status.Conditions, v1alpha1.ConditionAddressAssigned, true, lb.ReasonAssigned.String(), "x", 0)
	kube.SetRecord(svc, d)
	return svc
}

// grantsOf returns the grants of the first Service.
func (w *Cluster) grantsOf() []lb.Grant {
	var s plan.Snapshot
	if w.Fill(&s); len(s.Assignments) == 0 {
		return nil
	}
	return s.Assignments[0].Grants
}

// An address that a pool edit took out stays announced, by the record, until the pool's
// status lists it as retiring; also in a speaker that starts after the edit.
func TestAnAddressOutlivesAPoolEdit(t *testing.T) {
	for _, first := range []string{"192.0.2.0/24", "192.0.2.128/25"} {
		w := New(kube.Class{Classless: true}, "n1", lb.IPv4)
		w.setPool(poolOf("lan", 1, v1alpha1.AddressRange(first)), false)
		w.setService(recorded(serviceOf("web", nil, "192.0.2.7"), "192.0.2.7"), false)
		want := []lb.Grant{{Addr: netip.MustParseAddr("192.0.2.7"), Pool: "lan"}}
		for _, step := range []struct {
			why string
			do  func()
		}{
			{"it is assigned", func() {}},
			{"the pool has lost it", func() { w.setPool(poolOf("lan", 2, "192.0.2.128/25"), false) }},
			{"the Service has changed", func() {
				w.setService(recorded(serviceOf("web", map[string]string{"x": ""}, "192.0.2.7"), "192.0.2.7"), false)
			}},
			{"another pool has come", func() { w.setPool(poolOf("other", 1, "198.51.100.0/24"), false) }},
		} {
			step.do()
			if diff := cmp.Diff(want, w.grantsOf(), compared); diff != "" {
				t.Errorf("%s: (-want +got)\n%s", step.why, diff)
			}
		}
	}
}

// What another controller does to a Service's status does not withdraw an address, what
// ours does withdraws it at once, and a record that a tenant wrote adds none.
func TestAddressesOfOverwrittenStatus(t *testing.T) {
	own, foreign := "192.0.2.7", "203.0.113.1"
	for _, tt := range []struct {
		name          string
		before, after *corev1.Service
		want          []string
	}{
		{"cleared by another", recorded(serviceOf("web", nil, own), own), recorded(serviceOf("web", nil), own), []string{own}},
		{"replaced by another", recorded(serviceOf("web", nil, own), own), recorded(serviceOf("web", nil, foreign), own), []string{own}},
		{"released", recorded(serviceOf("web", nil, own), own), recorded(serviceOf("web", nil)), nil},
		{"changed", recorded(serviceOf("web", nil, own), own), recorded(serviceOf("web", nil, "192.0.2.8"), "192.0.2.8"), []string{"192.0.2.8"}},
		{"of another type now", recorded(serviceOf("web", nil, own), own), func() *corev1.Service {
			s := recorded(serviceOf("web", nil), own)
			s.Spec.Type = corev1.ServiceTypeClusterIP
			return s
		}(), nil},
		{"a forged record", serviceOf("web", nil), recorded(serviceOf("web", nil), own), nil},
		{"a forged record beside an address", recorded(serviceOf("web", nil, own), own), recorded(serviceOf("web", nil, own), own, "192.0.2.9"), []string{own}},
		{"a record without our condition", serviceOf("web", nil, foreign), func() *corev1.Service {
			s := recorded(serviceOf("web", nil, foreign), foreign)
			s.Status.Conditions = nil
			return s
		}(), nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := New(kube.Class{Classless: true}, "n1", lb.IPv4)
			w.setPool(poolOf("lan", 1, "192.0.2.0/24"), false)
			w.setService(tt.before, false)
			w.grantsOf()
			w.setService(tt.after, false)
			var got []string
			for _, g := range w.grantsOf() {
				got = append(got, g.Addr.String())
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// BenchmarkFill measures Fill with 10,000 Services, when one of them has changed or
// nothing has.
func BenchmarkFill(b *testing.B) {
	w := New(kube.Class{Classless: true}, "n1", lb.IPv4)
	w.setPool(poolOf("lan", 1, "10.200.0.0/16"), false)
	for i := range 10000 {
		name := fmt.Sprint("svc-", i)
		w.setService(serviceOf(name, map[string]string{"app": name}, fmt.Sprintf("10.200.%d.%d", i>>8, i&255)), false)
		w.setEndpoints(sliceOf(name, name+"-x", "n1", "n2"), false)
	}
	for _, what := range []string{"nothing", "service", "endpoint", "pool"} {
		b.Run(what, func(b *testing.B) {
			b.ReportAllocs()
			for n := 0; b.Loop(); n++ {
				switch what {
				case "service":
					w.setService(serviceOf("svc-5000", map[string]string{"n": fmt.Sprint(n)}, "10.200.19.136"), false)
				case "endpoint":
					w.setEndpoints(sliceOf("svc-5000", "svc-5000-x", fmt.Sprint("n", n%9)), false)
				case "pool":
					w.setPool(poolOf("lan", int64(n)+2, "10.200.0.0/16"), false)
				}
				var s plan.Snapshot
				w.Fill(&s)
			}
		})
	}
}
