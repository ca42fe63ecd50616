package mirror

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// assigned are the Services that the Cluster has, with the nodes of their endpoints.
func assigned(w *Cluster) map[string][]string {
	var s plan.Snapshot
	w.Fill(&s)
	out := map[string][]string{}
	for _, a := range s.Assignments {
		out[a.Service.Name] = a.Ready.IPv4
	}
	return out
}

func local(s *corev1.Service) *corev1.Service {
	s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	return s
}

// What a new list lacks is gone, as if it had been deleted: a watch may have missed that.
func TestWhatIsNotListedAgainIsGone(t *testing.T) {
	w := New(kube.Class{Classless: true}, "n1", lb.IPv4)
	w.setPool(poolOf("lan", 1, "192.0.2.0/24"), false)
	services, endpoints := newMirror(w, &corev1.ServiceList{}, w.setService), newMirror(w, &discoveryv1.EndpointSliceList{}, w.setEndpoints)
	lists := 0
	services.listed, endpoints.listed = func() { lists++ }, func() { lists++ }
	a, b, c := local(serviceOf("a", nil, "192.0.2.1")), local(serviceOf("b", nil, "192.0.2.2")), serviceOf("c", nil, "192.0.2.3")
	for _, err := range []error{
		services.Replace([]any{a}, "1"), services.Add(b),
		endpoints.Replace([]any{sliceOf("a", "a-x", "n1")}, "1"), endpoints.Add(sliceOf("a", "a-y", "n2")), endpoints.Add(sliceOf("b", "b-x", "n3")),
		services.Replace([]any{b, c}, "2"), services.Delete(c), services.Update(a),
		endpoints.Replace([]any{sliceOf("a", "a-y", "n2"), sliceOf("b", "b-x", "n3")}, "2"),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(map[string][]string{"a": {"n2"}, "b": {"n3"}}, assigned(w), compared); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if lists != 4 {
		t.Errorf("%d lists were taken in, not 4", lists)
	}
	select {
	case <-w.changed:
	default:
		t.Error("nobody was woken")
	}
}

// An EndpointSlice whose label changes is its former Service's no longer.
func TestAnEndpointSliceChangesItsService(t *testing.T) {
	w := New(kube.Class{Classless: true}, "n1", lb.IPv4)
	w.setPool(poolOf("lan", 1, "192.0.2.0/24"), false)
	w.setService(local(serviceOf("a", nil, "192.0.2.1")), false)
	w.setService(local(serviceOf("b", nil, "192.0.2.2")), false)
	w.setEndpoints(sliceOf("a", "x", "n1"), false)
	w.setEndpoints(sliceOf("b", "x", "n1"), false)
	if diff := cmp.Diff(map[string][]string{"a": nil, "b": {"n1"}}, assigned(w), compared); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	w.setEndpoints(&discoveryv1.EndpointSlice{ObjectMeta: sliceOf("", "x").ObjectMeta}, true) // of what is gone only the name is known
	if len(w.endpoints) != 0 || len(w.serviceOf) != 0 {
		t.Errorf("there are still %v, %v", w.endpoints, w.serviceOf)
	}
}
