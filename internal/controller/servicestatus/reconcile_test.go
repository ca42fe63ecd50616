package servicestatus

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
	"github.com/fairlead-lb/fairlead/internal/controller/ledger"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// bench is the controller over an API server, and the ledger that it reads.
type bench struct {
	*Controller
	api    *controllertest.API
	ledger *ledger.Ledger
	clock  time.Time
	t      *testing.T
}

func open(t *testing.T, objects ...client.Object) *bench {
	t.Helper()
	api := controllertest.NewIndexedAPI(t, func(b *fake.ClientBuilder) {
		for _, i := range indexes {
			b.WithIndex(i.Of, i.Field, i.Values)
		}
	}, append(objects, controllertest.Namespace())...)
	b := &bench{api: api, clock: controllertest.Now, t: t}
	class := kube.Class{Name: v1alpha1.LoadBalancerClass, Classless: true}
	now := func() time.Time { return b.clock }
	b.ledger = ledger.New(api, class, now)
	if err := b.ledger.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	b.Controller = New(api, b.ledger, class, api, now)
	return b
}

// changed has the controller see that objects have changed, as its watches do.
func (b *bench) changed() { b.version.Add(1) }

// reconcile reconciles the Service, and returns its condition: "True Announced: text".
func (b *bench) reconcile(svc *corev1.Service) (condition string, again time.Duration) {
	b.t.Helper()
	result, err := b.Reconcile(b.t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(svc)})
	if err != nil {
		b.t.Fatal(err)
	}
	if b.api.Gone(svc) {
		return "gone", result.RequeueAfter
	}
	b.api.Read(svc)
	c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced)
	if c == nil {
		return "", result.RequeueAfter
	}
	return fmt.Sprintf("%s %s: %s", c.Status, c.Reason, c.Message), result.RequeueAfter
}

func (b *bench) expect(svc *corev1.Service, why, want string) {
	b.t.Helper()
	if got, again := b.reconcile(svc); got != want || again != 0 {
		b.t.Errorf("%s: got %q and again in %v, want %q", why, got, again, want)
	}
}

// setStatus writes the status of an object.
func (b *bench) setStatus(o client.Object) {
	b.t.Helper()
	if err := b.api.Status().Update(b.t.Context(), o); err != nil {
		b.t.Fatal(err)
	}
	b.changed()
}

// decide has the ledger assign an address to the Service, writes it, and returns it.
func (b *bench) decide(svc *corev1.Service) string {
	b.t.Helper()
	req, err := kube.Request(svc, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	d, _ := b.ledger.Decide(svc, req)
	kube.SetIngress(svc, d.Addresses())
	b.setStatus(svc)
	b.ledger.Written(req.Holder)
	return svc.Status.LoadBalancer.Ingress[0].IP
}

func node(name string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
}

// speaker returns a live speaker on a node of 192.0.2.0/24.
func speaker(name string) *v1alpha1.Speaker {
	return &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.SpeakerStatus{
		Interfaces: []v1alpha1.SpeakerInterface{{Name: "eth0", Addresses: []string{"192.0.2.201/24"}, Up: true}},
		Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
	}}
}

func announcing(s *v1alpha1.Speaker, addr string) *v1alpha1.Speaker {
	s.Status.Layer2 = append(s.Status.Layer2, v1alpha1.SpeakerAddress{Address: addr, Interfaces: []string{"eth0"}, Since: metav1.NewTime(controllertest.Now)})
	return s
}

func hearing(s *v1alpha1.Speaker, addr string, announced, answers bool) *v1alpha1.Speaker {
	s.Status.Conflicts = append(s.Status.Conflicts, v1alpha1.SpeakerConflict{
		Address: addr, Interface: "eth0", MAC: "02:00:00:00:00:99", Announced: announced, Answers: answers,
	})
	return s
}

func established(s *v1alpha1.Speaker, peer string) *v1alpha1.Speaker {
	s.Status.BGPSessions = append(s.Status.BGPSessions, v1alpha1.SpeakerBGPSession{Peer: peer, State: v1alpha1.BGPSessionEstablished})
	return s
}

func layer2Advert() *v1alpha1.L2Advertisement {
	return &v1alpha1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "l2"}}
}

func bgpAdvert() *v1alpha1.BGPAdvertisement {
	return &v1alpha1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "bgp"}}
}

func peer(name string) *v1alpha1.BGPPeer {
	return &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: v1alpha1.BGPPeerSpec{MyASN: 1, PeerASN: 2, PeerAddress: "192.0.2.254"}}
}

// endpoint is an EndpointSlice of the Service with a ready endpoint on the node.
func endpoint(svc *corev1.Service, node string) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: svc.Namespace, Name: svc.Name, Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name}},
		AddressType: discoveryv1.AddressTypeIPv4,
		Endpoints:   []discoveryv1.Endpoint{{Addresses: []string{"10.0.0.1"}, NodeName: ptr.To(node), Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)}}},
	}
}

// What the condition says of a Service, by what there is in the cluster.
func TestCondition(t *testing.T) {
	const addr = "192.0.2.1"
	for _, tt := range []struct {
		name    string
		objects []client.Object
		want    string // how the condition begins
	}{
		{
			"no advertisement", []client.Object{node("n1"), speaker("n1")},
			"False NoAdvertisement: 192.0.2.1 is not announced: ",
		},
		{
			"by layer 2", []client.Object{node("n1"), announcing(speaker("n1"), addr), layer2Advert()},
			"True Announced: 192.0.2.1 by layer 2 from n1 (eth0)",
		},
		{
			"by a node that is cordoned, as there is no other", []client.Object{func() *corev1.Node {
				n := node("n1")
				n.Spec.Unschedulable = true
				return n
			}(), announcing(speaker("n1"), addr), layer2Advert()},
			"True Announced: 192.0.2.1 by layer 2 from n1 (eth0); no better node is available: n1 ",
		},
		{
			"by BGP", []client.Object{node("n1"), node("n2"), established(speaker("n1"), "r1"), speaker("n2"), bgpAdvert(), peer("r1")},
			"True Announced: 192.0.2.1 by BGP from n1 to r1 (not from n2: ",
		},
		{
			"by both", []client.Object{node("n1"), established(announcing(speaker("n1"), addr), "r1"), layer2Advert(), bgpAdvert(), peer("r1")},
			"True Announced: 192.0.2.1 by layer 2 from n1 (eth0); 192.0.2.1 by BGP from n1 to r1",
		},
		{
			"by one of two", []client.Object{node("n1"), announcing(speaker("n1"), addr), layer2Advert(), bgpAdvert()},
			"True Announced: 192.0.2.1 by layer 2 from n1 (eth0); not by BGP: ",
		},
		{
			"by none of two", []client.Object{node("n1"), layer2Advert(), bgpAdvert()},
			"False NoCandidate: 192.0.2.1 is not announced by layer 2: ",
		},
		{
			"a node whose speaker is dead", []client.Object{node("n1"), &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, layer2Advert()},
			"False NoCandidate: 192.0.2.1 is not announced: ",
		},
		{
			"no node has the subnet", []client.Object{node("n1"), &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: v1alpha1.SpeakerStatus{
				Interfaces: []v1alpha1.SpeakerInterface{{Name: "eth0", Addresses: []string{"198.51.100.1/24"}, Up: true}},
				Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
			}}, layer2Advert()},
			"False NoSubnet: 192.0.2.1 is not announced: ",
		},
		{
			"a foreign host claims an announced address", []client.Object{node("n1"), hearing(announcing(speaker("n1"), addr), addr, true, true), layer2Advert()},
			"True Announced: 192.0.2.1 by layer 2 from n1 (eth0); a host outside of the cluster, 02:00:00:00:00:99 on eth0 of n1, has the address too",
		},
		{
			"forged frames about an announced address", []client.Object{node("n1"), hearing(announcing(speaker("n1"), addr), addr, true, false), layer2Advert()},
			"True Announced: 192.0.2.1 by layer 2 from n1 (eth0); frames on eth0 of n1 claim the address for a host outside of the cluster, 02:00:00:00:00:99; it does not answer, so they may be forged",
		},
		{
			"a foreign host had it first", []client.Object{node("n1"), hearing(speaker("n1"), addr, false, true), layer2Advert()},
			"False Conflict: 192.0.2.1 is not announced: a host outside of the cluster, 02:00:00:00:00:99 on eth0 of n1, has the address too",
		},
		{
			"a node has the address", []client.Object{func() *corev1.Node {
				n := node("n1")
				n.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addr}}
				return n
			}(), announcing(speaker("n1"), addr), layer2Advert()},
			"False AddressOfNode: 192.0.2.1 by layer 2 from n1 (eth0); 192.0.2.1 ",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			svc := controllertest.Service("web", addr)
			b := open(t, append(tt.objects, controllertest.Pool("lan", "192.0.2.0/28"), svc, endpoint(svc, "n1"))...)
			got, again := b.reconcile(svc)
			if !strings.HasPrefix(got, tt.want) || again != 0 {
				t.Errorf("got %q and again in %v, want %q…", got, again, tt.want)
			}
			writes := b.api.Writes
			if again, _ := b.reconcile(svc); again != got || b.api.Writes != writes {
				t.Errorf("the next time: %q and %d writes", again, b.api.Writes-writes)
			}
			want := map[lb.Reason]int{}
			if !strings.HasPrefix(got, "True") {
				want[reasonOf(t, svc)] = 1
			}
			if got := b.Unannounced(); fmt.Sprint(got) != fmt.Sprint(want) {
				t.Errorf("not announced are %v, want %v", got, want)
			}
		})
	}
}

// reasonOf returns the reason of the Service's condition.
func reasonOf(t *testing.T, svc *corev1.Service) lb.Reason {
	t.Helper()
	name := conditionReason(svc)
	for r := lb.Reason(1); r.String() != lb.Reason(0).String() && r < 200; r++ {
		if r.String() == name {
			return r
		}
	}
	t.Fatalf("there is no reason %q", name)
	return 0
}

// An announcement that should come in a moment is not said to be missing until it is late.
func TestPendingAnnouncement(t *testing.T) {
	svc, s := controllertest.Service("web", "192.0.2.1"), speaker("n1")
	b := open(t, controllertest.Pool("lan", "192.0.2.1-192.0.2.14"), svc, endpoint(svc, "n1"), node("n1"), s, layer2Advert())
	if got, again := b.reconcile(svc); got != "" || again != announceDelay {
		t.Errorf("at first: %q and again in %v, want none in %v", got, again, announceDelay)
	}
	b.clock = b.clock.Add(announceDelay - time.Second)
	if got, again := b.reconcile(svc); got != "" || again != time.Second {
		t.Errorf("a second before: %q and again in %v", got, again)
	}
	b.clock = b.clock.Add(time.Second)
	const late = "False NotOwner: 192.0.2.1 is not announced: no node reports that it announces the address yet; candidates: n1"
	b.expect(svc, "then", late)
	b.setStatus(announcing(s, "192.0.2.1"))
	b.expect(svc, "it is announced", "True Announced: 192.0.2.1 by layer 2 from n1 (eth0)")
	if n := len(b.Unannounced()); n != 0 {
		t.Errorf("not announced are %v", b.Unannounced())
	}
	s.Status.Layer2 = nil
	b.setStatus(s)
	if got, again := b.reconcile(svc); got != "True Announced: 192.0.2.1 by layer 2 from n1 (eth0)" || again != announceDelay {
		t.Errorf("while it moves: %q and again in %v", got, again)
	}
}

// A conflict with a foreign host has one event, and where the host had the address first,
// the Service loses it.
func TestConflictEvents(t *testing.T) {
	const addr = "192.0.2.1"
	svc, s := controllertest.Service("web"), speaker("n1")
	b := open(t, controllertest.Pool("lan", "192.0.2.1-192.0.2.14"), svc, endpoint(svc, "n1"), node("n1"), s, layer2Advert())
	if got := b.decide(svc); got != addr {
		t.Fatalf("the ledger assigned %s", got)
	}
	expectEvents := func(why string, want ...string) {
		t.Helper()
		if got := b.api.Recorded(); !slices.EqualFunc(got, want, strings.HasPrefix) {
			t.Errorf("%s: events %q, want %q", why, got, want)
		}
	}

	b.setStatus(hearing(announcing(s, addr), addr, true, true))
	b.reconcile(svc)
	expectEvents("a foreign host claims it", "Warning Conflict 192.0.2.1 by layer 2 from n1 (eth0); a host outside of the cluster")
	b.changed()
	b.reconcile(svc)
	expectEvents("the same again")
	if n := len(b.ledger.Withheld("lan")); n != 0 {
		t.Errorf("withheld are %v: an announced address must not move", b.ledger.Withheld("lan"))
	}
	s.Status.Conflicts = nil
	b.setStatus(s)
	b.reconcile(svc)
	b.setStatus(hearing(s, addr, true, true))
	b.reconcile(svc)
	expectEvents("it claims it again", "Warning Conflict")

	s.Status.Conflicts, s.Status.Layer2 = nil, nil
	b.setStatus(hearing(s, addr, false, true))
	b.reconcile(svc)
	expectEvents("the host had it first", "Warning Conflict 192.0.2.1 is not announced: a host outside of the cluster")
	if got := b.decide(svc); got != "192.0.2.2" {
		t.Errorf("instead it has %s", got)
	}
	if got := b.ledger.Withheld("lan"); len(got) != 1 || got[0].Addr.String() != addr {
		t.Errorf("withheld are %v, want %s", got, addr)
	}
}

// Where a foreign host answers for every address, the Service keeps its own, and an event
// says so once.
func TestHostThatAnswersAll(t *testing.T) {
	s := speaker("n1")
	objects := []client.Object{controllertest.Pool("lan", "192.0.2.1-192.0.2.14"), node("n1"), s, layer2Advert()}
	var services []*corev1.Service
	for i := range 4 {
		services = append(services, controllertest.Service(fmt.Sprint("web-", i)))
		objects = append(objects, services[i], endpoint(services[i], "n1"))
	}
	b := open(t, objects...)
	for i, svc := range services {
		hearing(s, b.decide(svc), false, true)
		b.setStatus(s)
		got, again := b.reconcile(svc)
		events := strings.Join(b.api.Recorded(), "\n")
		answersAll := strings.Contains(got, "02:00:00:00:00:99 answers for every address that was tried")
		if want := i >= 2; answersAll != want || (again > 0) != want {
			t.Errorf("%s: %q and again in %v; want it to keep its address: %v", svc.Name, got, again, want)
		}
		if said := strings.Contains(events, "Conflict the host 02:00:00:00:00:99 answers for every address"); said != (i == 2) {
			t.Errorf("%s: events %s", svc.Name, events)
		}
	}
}

// Services that the controller leaves alone, and those that no longer have an address.
func TestOtherServices(t *testing.T) {
	foreign := controllertest.Service("foreign", "198.51.100.1")
	svc := controllertest.Service("web", "192.0.2.1")
	s := announcing(speaker("n1"), "192.0.2.1")
	b := open(t, controllertest.Pool("lan", "192.0.2.0/28"), svc, foreign, endpoint(svc, "n1"), node("n1"), s, layer2Advert())
	b.expect(foreign, "no pool has its address", "")
	const announced = "True Announced: 192.0.2.1 by layer 2 from n1 (eth0)"
	b.expect(svc, "announced", announced)

	b.api.Read(svc)
	kube.SetCondition(&svc.Status.Conditions, v1alpha1.ConditionAddressAssigned, true, "Assigned", "", 1)
	b.setStatus(svc)
	b.api.Change(svc, func() {
		kube.SetRecord(svc, lb.Decision{Grants: []lb.Grant{{Addr: kube.IngressAddresses(svc)[0], Pool: "lan"}}})
	})
	svc.Status.LoadBalancer.Ingress = nil
	b.setStatus(svc)
	b.expect(svc, "another controller overwrote the status", announced)

	b.api.Change(svc, func() { kube.SetRecord(svc, lb.Decision{}) })
	b.changed()
	b.expect(svc, "it has no address any more", "")
	if err := b.api.Delete(t.Context(), svc); err != nil {
		t.Fatal(err)
	}
	b.expect(svc, "deleted", "gone")
}

// Services that share an address share its announcement: a node that serves any of them can
// announce it.
func TestSharedAddress(t *testing.T) {
	first, second := controllertest.Service("first", "192.0.2.1"), controllertest.Service("second", "192.0.2.1")
	for _, svc := range []*corev1.Service{first, second} {
		svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
	}
	b := open(t, controllertest.Pool("lan", "192.0.2.0/28"), first, second, endpoint(second, "n2"),
		node("n1"), node("n2"), speaker("n1"), announcing(speaker("n2"), "192.0.2.1"), layer2Advert())
	for _, svc := range []*corev1.Service{first, second} {
		b.expect(svc, svc.Name, "True Announced: 192.0.2.1 by layer 2 from n2 (eth0)")
	}
}

func TestFailures(t *testing.T) {
	down := errors.New("the API server is down")
	conflict := apierrors.NewConflict(schema.GroupResource{Resource: "services"}, "web", nil)
	fails := func(why string, arrange func(*controllertest.API), want string) {
		t.Run(why, func(t *testing.T) {
			svc := controllertest.Service("web", "192.0.2.1")
			b := open(t, controllertest.Pool("lan", "192.0.2.0/28"), svc, endpoint(svc, "n1"), node("n1"), announcing(speaker("n1"), "192.0.2.1"), layer2Advert())
			arrange(b.api)
			_, err := b.Reconcile(t.Context(), reconcile.Request{NamespacedName: client.ObjectKeyFromObject(svc)})
			b.api.ExpectFailure(err, down, want)
			b.expect(svc, "the next time", "True Announced: 192.0.2.1 by layer 2 from n1 (eth0)")
		})
	}
	fails("get", func(a *controllertest.API) { controllertest.FailOnce[*corev1.Service](a, "get", down) }, "get Service shop/web")
	fails("list nodes", func(a *controllertest.API) { controllertest.FailOnce[*corev1.NodeList](a, "list", down) }, "NodeList")
	fails("list slices", func(a *controllertest.API) { controllertest.FailOnce[*discoveryv1.EndpointSliceList](a, "list", down) }, "list EndpointSlices of shop/web")
	fails("list Services", func(a *controllertest.API) { controllertest.FailOnce[*corev1.ServiceList](a, "list", down) }, "list Services of 192.0.2.1")
	fails("write", func(a *controllertest.API) { controllertest.FailOnce[*corev1.Service](a, "patch status", down) }, "write status of Service shop/web")
	fails("the Service changes meanwhile", func(a *controllertest.API) { controllertest.FailOnce[*corev1.Service](a, "patch status", conflict) }, "")
}

// Which Services are reconciled when a Speaker object changes.
func TestSpeakerChanged(t *testing.T) {
	one, two, plain := controllertest.Service("one", "192.0.2.1"), controllertest.Service("two", "192.0.2.2"), controllertest.Service("plain")
	plain.Spec.Type = corev1.ServiceTypeClusterIP
	b := open(t, one, two, plain)
	base := func() *v1alpha1.Speaker { return announcing(speaker("n1"), "192.0.2.1") }
	for _, tt := range []struct {
		name          string
		before, after *v1alpha1.Speaker
		want          string
	}{
		{"nothing", base(), base(), ""},
		{"it comes", nil, base(), "one two"},
		{"it goes", base(), nil, "one two"},
		{"another address is announced", base(), announcing(base(), "192.0.2.2"), "two"},
		{"an address is announced no longer", base(), speaker("n1"), "one"},
		{"an address of no Service", base(), announcing(base(), "192.0.2.9"), ""},
		{"a conflict", base(), hearing(base(), "192.0.2.2", false, true), "two"},
		{"a conflict ends", hearing(base(), "192.0.2.2", false, true), base(), "two"},
		{"a session comes up", base(), established(base(), "r1"), "one two"},
		{"an interface changes", base(), func() *v1alpha1.Speaker {
			s := base()
			s.Status.Interfaces[0].Up = false
			return s
		}(), "one two"},
		{"the speaker is no longer ready", base(), func() *v1alpha1.Speaker {
			s := base()
			s.Status.Conditions = nil
			return s
		}(), "one two"},
		{"only the Services of an address", base(), func() *v1alpha1.Speaker {
			s := base()
			s.Status.Layer2[0].Services, s.Status.Layer2[0].ServiceCount = []string{"shop/one"}, 1
			return s
		}(), ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			version, q := b.version.Load(), &controllertest.Queue{}
			var before, after client.Object
			if tt.before != nil {
				before = tt.before
			}
			if tt.after != nil {
				after = tt.after
			}
			b.speakerChanged(t.Context(), q, before, after)
			if got := q.Take(); got != tt.want {
				t.Errorf("queued are %q, want %q", got, tt.want)
			}
			if b.version.Load() == version {
				t.Error("what was listed before still counts")
			}
		})
	}
}

func TestServiceChanged(t *testing.T) {
	b := open(t)
	for _, tt := range []struct {
		name              string
		change            func(*corev1.Service)
		queued, outdating bool
	}{
		{"nothing", func(*corev1.Service) {}, true, false},
		{"a port", func(s *corev1.Service) { s.Spec.Ports[0].Port = 81 }, true, false},
		{"a label", func(s *corev1.Service) { s.Labels = map[string]string{"a": "b"} }, true, true},
		{"its address", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress[0].IP = "192.0.2.2" }, true, true},
		{"its traffic policy", func(s *corev1.Service) { s.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal }, true, true},
		{"its class", func(s *corev1.Service) { s.Spec.LoadBalancerClass = ptr.To("example.com/other") }, false, true},
		{"it has no address any more", func(s *corev1.Service) { s.Status.LoadBalancer.Ingress = nil }, false, true},
		{"it has none any more, and a condition", func(s *corev1.Service) {
			s.Status.LoadBalancer.Ingress = nil
			s.Status.Conditions = []metav1.Condition{{Type: v1alpha1.ConditionAnnounced}}
		}, true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := controllertest.Service("web", "192.0.2.1")
			after := before.DeepCopy()
			tt.change(after)
			version := b.version.Load()
			if got := b.serviceChanged().Update(event.UpdateEvent{ObjectOld: before, ObjectNew: after}); got != tt.queued {
				t.Errorf("queued: %v, want %v", got, tt.queued)
			}
			if got := b.version.Load() != version; got != tt.outdating {
				t.Errorf("what was listed is outdated: %v, want %v", got, tt.outdating)
			}
		})
	}
	if !b.serviceChanged().Create(event.CreateEvent{Object: controllertest.Service("web", "192.0.2.1")}) {
		t.Error("a new Service with an address is not queued")
	}
	if b.serviceChanged().Create(event.CreateEvent{Object: controllertest.Service("web")}) {
		t.Error("a new Service without an address is queued")
	}
}

func TestOtherChanges(t *testing.T) {
	svc := controllertest.Service("web", "192.0.2.1")
	b := open(t, svc, controllertest.Service("waiting"))
	version := b.version.Load()
	if got := b.serviceOf(t.Context(), endpoint(svc, "n1")); len(got) != 1 || got[0].Name != "web" || b.version.Load() == version {
		t.Errorf("of an EndpointSlice queued are %v", got)
	}
	version = b.version.Load()
	if got := b.allServices(t.Context(), nil); len(got) != 1 || got[0].Name != "web" || b.version.Load() == version {
		t.Errorf("of an advertisement queued are %v", got)
	}

	heartbeat, down, labelled := node("n1"), node("n1"), node("n1")
	heartbeat.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue, LastHeartbeatTime: metav1.Now()}}
	down.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
	labelled.Labels["zone"] = "a"
	for why, after := range map[string]*corev1.Node{"down": down, "labelled": labelled} {
		if !nodeFactsChanged.Update(event.UpdateEvent{ObjectOld: node("n1"), ObjectNew: after}) {
			t.Errorf("a node that is %s is not noticed", why)
		}
	}
	if nodeFactsChanged.Update(event.UpdateEvent{ObjectOld: node("n1"), ObjectNew: heartbeat}) {
		t.Error("a heartbeat reconciles every Service")
	}
}
