package advertisementstatus

import (
	"errors"
	"testing"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

func TestJudgeBGP(t *testing.T) {
	labels := func(key, value string) []v1alpha1.LabelSelector {
		return []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"k": v1alpha1.LabelValue(key + value)}}}
	}
	type spec = v1alpha1.BGPAdvertisementSpec
	n := names{
		poolNames: []string{"lan", "wan"}, peers: []string{"r1", "r2"}, aliases: map[string]lb.Community{"backup": {A: 1, B: 2}},
		nodes: []lb.Node{{Name: "n1", Labels: lb.LabelsOf(map[string]string{"k": "node1"})}, {Name: "n2", Labels: lb.LabelsOf(map[string]string{"k": "node2"})}},
	}
	const differs = `spec.med of BGPAdvertisement "b" is not that of the older "a", which counts; set the same value in both, or select other pools, peers or nodes`
	for _, tt := range []struct {
		name            string
		a, b            spec // a is the older one; b is judged
		reason, message string
	}{
		{"all is there", spec{}, spec{Peers: []v1alpha1.ObjectName{"r1"}, Communities: []v1alpha1.CommunityReference{"backup", "no-export", "1:1"}}, "Accepted", "active"},
		{"no such pool", spec{}, spec{IPAddressPools: []v1alpha1.ObjectName{"x"}}, "PoolNotFound", `spec.ipAddressPools: there is no "x"; the other names are used`},
		{"two such pools", spec{}, spec{IPAddressPools: []v1alpha1.ObjectName{"y", "lan", "x"}}, "PoolNotFound", `spec.ipAddressPools: there is no "x", "y"; the other names are used`},
		{"no such peer", spec{}, spec{Peers: []v1alpha1.ObjectName{"r1", "x"}}, "PeerNotFound", `spec.peers: there is no "x"; the other names are used`},
		{"no such alias", spec{}, spec{Communities: []v1alpha1.CommunityReference{"x"}}, "CommunityNotFound", `spec.communities: there is no "x"; the other names are used`},
		{"no community", spec{}, spec{Communities: []v1alpha1.CommunityReference{"1:2:3:4"}}, "Invalid", ""},
		{"the other says the same", spec{MED: ptr.To[int64](1)}, spec{MED: ptr.To[int64](1)}, "Accepted", "active"},
		{"the other says nothing", spec{}, spec{MED: ptr.To[int64](1)}, "Accepted", "active"},
		{"the other says something else", spec{MED: ptr.To[int64](1)}, spec{MED: ptr.To[int64](2)}, "Contradiction", differs},
		{
			"… of other pools", spec{MED: ptr.To[int64](1), IPAddressPools: []v1alpha1.ObjectName{"lan"}}, spec{MED: ptr.To[int64](2), IPAddressPools: []v1alpha1.ObjectName{"wan"}},
			"Accepted", "active",
		},
		{
			"… to other peers", spec{MED: ptr.To[int64](1), Peers: []v1alpha1.ObjectName{"r1"}}, spec{MED: ptr.To[int64](2), Peers: []v1alpha1.ObjectName{"r2"}},
			"Accepted", "active",
		},
		{
			"… from other nodes", spec{MED: ptr.To[int64](1), NodeSelectors: labels("node", "1")}, spec{MED: ptr.To[int64](2), NodeSelectors: labels("node", "2")},
			"Accepted", "active",
		},
		{
			"… of other Services", spec{MED: ptr.To[int64](1), ServiceSelectors: labels("app", "1")}, spec{MED: ptr.To[int64](2), ServiceSelectors: labels("app", "2")},
			"Accepted", "active",
		},
		{
			"… with other lengths", spec{MED: ptr.To[int64](1), AggregationLength: ptr.To[int32](24), AggregationLengthV6: ptr.To[int32](64)}, spec{MED: ptr.To[int64](2)},
			"Accepted", "active",
		},
		{
			"… of the same Services", spec{MED: ptr.To[int64](1), ServiceSelectors: labels("app", "1")}, spec{MED: ptr.To[int64](2), ServiceSelectors: labels("app", "1")},
			"Contradiction", differs,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			all := []v1alpha1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Spec: tt.a}, {ObjectMeta: metav1.ObjectMeta{Name: "b"}, Spec: tt.b}}
			got := judgeBGP(&all[1], n, kube.BGPAdvertisements(all, nil, n.aliases))
			if got.reason != tt.reason || tt.message != "" && got.message != tt.message || got.ready != (tt.reason == v1alpha1.ReasonAccepted) {
				t.Errorf("%v %s %q, want %s %q", got.ready, got.reason, got.message, tt.reason, tt.message)
			}
		})
	}
}

// Every advertisement gets its verdict, is written once, and again when what it names comes.
func TestReconcile(t *testing.T) {
	l2 := &v1alpha1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "l2"}, Spec: v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{"lan"}}}
	broken := &v1alpha1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "broken"}, Spec: v1alpha1.L2AdvertisementSpec{
		NodeSelectors: []v1alpha1.LabelSelector{{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{Key: "k", Operator: "Nonsense"}}}},
	}}
	bgp := &v1alpha1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "bgp"}, Spec: v1alpha1.BGPAdvertisementSpec{
		Peers: []v1alpha1.ObjectName{"r1"}, Communities: []v1alpha1.CommunityReference{"backup"},
	}}
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
	api := controllertest.NewAPI(t, l2, broken, bgp, node)
	c := New(api)
	expect := func(why string, writes int, l2Reason, bgpReason string) {
		t.Helper()
		before := api.Writes
		if _, err := c.Reconcile(t.Context(), reconcile.Request{}); err != nil {
			t.Fatal(err)
		}
		if n := api.Writes - before; n != writes {
			t.Errorf("%s: %d writes, want %d", why, n, writes)
		}
		api.Read(l2)
		api.Read(bgp)
		api.Read(broken)
		for got, want := range map[*metav1.Condition]string{
			meta.FindStatusCondition(l2.Status.Conditions, v1alpha1.ConditionReady):     l2Reason,
			meta.FindStatusCondition(bgp.Status.Conditions, v1alpha1.ConditionReady):    bgpReason,
			meta.FindStatusCondition(broken.Status.Conditions, v1alpha1.ConditionReady): "Invalid",
		} {
			if got == nil || got.Reason != want {
				t.Errorf("%s: the condition is %+v, want %s", why, got, want)
			}
		}
	}
	create := func(o client.Object) {
		t.Helper()
		if err := api.Create(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	expect("nothing is there", 3, "PoolNotFound", "PeerNotFound")
	expect("nothing has changed", 0, "PoolNotFound", "PeerNotFound")
	create(controllertest.Pool("lan", "192.0.2.0/24"))
	expect("the pool has come", 1, "Accepted", "PeerNotFound")
	create(&v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}})
	expect("the peer has come", 1, "Accepted", "CommunityNotFound")
	create(&v1alpha1.Community{ObjectMeta: metav1.ObjectMeta{Name: "names"}, Spec: v1alpha1.CommunitySpec{Communities: []v1alpha1.CommunityAlias{{Name: "backup", Value: "1:2"}}}})
	expect("the community has come", 1, "Accepted", "Accepted")
}

// A write that fails does not keep the other advertisements waiting; what is gone when it is
// written is no error.
func TestFailures(t *testing.T) {
	down := errors.New("the API server is down")
	l2 := &v1alpha1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "l2"}}
	bgp := &v1alpha1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "bgp"}}
	api := controllertest.NewAPI(t, l2, bgp)
	c := New(api)
	reconcileOnce := func(want string) {
		t.Helper()
		_, err := c.Reconcile(t.Context(), reconcile.Request{})
		api.ExpectFailure(err, down, want)
	}
	controllertest.FailOnce[*corev1.NodeList](api, "list", down)
	reconcileOnce("NodeList")
	controllertest.FailOnce[*v1alpha1.L2Advertisement](api, "patch status", down)
	reconcileOnce("L2Advertisement l2")
	if api.Read(bgp); !meta.IsStatusConditionTrue(bgp.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("after the other could not be written: %+v", bgp.Status.Conditions)
	}
	gone := apierrors.NewNotFound(schema.GroupResource{Resource: "l2advertisements"}, "l2")
	controllertest.FailOnce[*v1alpha1.L2Advertisement](api, "patch status", gone)
	reconcileOnce("")
	reconcileOnce("")
	if api.Read(l2); !meta.IsStatusConditionTrue(l2.Status.Conditions, v1alpha1.ConditionReady) {
		t.Errorf("at last: %+v", l2.Status.Conditions)
	}
}
