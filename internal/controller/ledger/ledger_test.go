package ledger

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/controller/controllertest"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

func poolOf(name string, age time.Duration, addresses ...v1alpha1.AddressRange) *v1alpha1.IPAddressPool {
	p := controllertest.Pool(name, addresses...)
	p.CreationTimestamp = metav1.NewTime(begin.Add(-age))
	return p
}

// serviceOf returns a LoadBalancer Service of that age with these addresses in its status.
func serviceOf(name string, age time.Duration, addrs ...string) *corev1.Service {
	svc := controllertest.Service(name, addrs...)
	svc.CreationTimestamp = metav1.NewTime(begin.Add(-age))
	return svc
}

// record has the controller have assigned these addresses of a pool to the Service.
func record(svc *corev1.Service, pool string, addrs ...string) *corev1.Service {
	var d lb.Decision
	for _, a := range addrs {
		d.Grants = append(d.Grants, lb.Grant{Addr: netip.MustParseAddr(a), Pool: pool})
	}
	kube.SetCondition(&svc.Status.Conditions, v1alpha1.ConditionAddressAssigned, true, "Assigned", "x", 0)
	kube.SetRecord(svc, d)
	return svc
}

func annotate(svc *corev1.Service, key, value string) *corev1.Service {
	svc.Annotations[key] = value
	return svc
}

// book is a Ledger over objects, with what it woke.
type book struct {
	*Ledger
	t     *testing.T
	now   time.Time
	woken []string
	used  []string
}

func open(t *testing.T, objects ...client.Object) *book {
	t.Helper()
	b := &book{t: t, now: begin}
	b.Ledger = New(controllertest.NewAPI(t, objects...), kube.Class{Classless: true}, func() time.Time { return b.now })
	b.OnUse(func(pool string) { b.used = append(b.used, pool) })
	for _, kind := range []lb.HolderKind{lb.KindService, lb.KindClaim} {
		q := &recorded{add: func(r reconcile.Request) { b.woken = append(b.woken, r.Name) }}
		if err := b.Woken(kind).Start(t.Context(), q); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Restore(t.Context()); err != nil {
		t.Fatal(err)
	}
	return b
}

// recorded is a queue that only takes requests.
type recorded struct {
	workqueue.TypedRateLimitingInterface[reconcile.Request]
	add func(reconcile.Request)
}

func (r *recorded) Add(req reconcile.Request) { r.add(req) }

// decide has the ledger answer a Service, writes that down, and returns it in words:
// addresses with their pools, or the reason why there is none.
func (b *book) decide(svc *corev1.Service) string {
	b.t.Helper()
	req, err := kube.Request(svc, nil)
	if err != nil {
		b.t.Fatal(err)
	}
	d, isUnmanaged := b.Decide(svc, req)
	if isUnmanaged {
		return "unmanaged"
	}
	kube.SetIngress(svc, d.Addresses())
	kube.SetRecord(svc, d)
	kube.SetCondition(&svc.Status.Conditions, v1alpha1.ConditionAddressAssigned, d.Met, d.Reason().String(), "x", 0)
	b.Written(req.Holder)
	if len(d.Grants) == 0 {
		return d.Reason().String()
	}
	return grants(d.Grants)
}

func grants(list []lb.Grant) string {
	var out []string
	for _, g := range list {
		out = append(out, fmt.Sprintf("%s of %s", g.Addr, g.Pool))
	}
	return strings.Join(out, ", ")
}

func (b *book) has(svc *corev1.Service) string { return grants(b.Holds(kube.Key(svc).Holder())) }

// What Services have in their status they keep, whatever happened to the pools while no
// controller ran.
func TestRestore(t *testing.T) {
	retiring := poolOf("lan", time.Hour, "192.0.2.128/25")
	retiring.Status.Retiring = []v1alpha1.RetiringAddress{{Address: "192.0.2.1", Service: "shop/web"}}
	disowned := record(serviceOf("web", 0, "192.0.2.1"), "lan", "192.0.2.1")
	disowned.Spec.LoadBalancerClass = new(string)
	*disowned.Spec.LoadBalancerClass = "example.com/other"
	for _, tt := range []struct {
		name    string
		objects []client.Object
		svc     *corev1.Service
		held    string // right after Restore
		decided string
	}{
		{"in the pool", []client.Object{poolOf("lan", 0, "192.0.2.0/24")}, serviceOf("web", 0, "192.0.2.1"), "192.0.2.1 of lan", "192.0.2.1 of lan"},
		{"retiring by the pool's status", []client.Object{retiring}, serviceOf("web", 0, "192.0.2.1"), "192.0.2.1 of lan", "192.0.2.1 of lan"},
		{"retiring by the record", []client.Object{poolOf("lan", 0, "192.0.2.128/25")}, record(serviceOf("web", 0, "192.0.2.1"), "lan", "192.0.2.1"), "192.0.2.1 of lan", "192.0.2.1 of lan"},
		{"of another pool now", []client.Object{poolOf("new", 0, "192.0.2.0/24")}, record(serviceOf("web", 0, "192.0.2.1"), "lan", "192.0.2.1"), "192.0.2.1 of new", "192.0.2.1 of new"},
		{"of no pool, not ours", []client.Object{poolOf("lan", 0, "192.0.2.128/25")}, serviceOf("web", 0, "198.51.100.1"), "", "unmanaged"},
		{"of no pool, and no pool at all", nil, serviceOf("web", 0, "198.51.100.1"), "", "unmanaged"},
		{"nothing", []client.Object{poolOf("lan", 0, "192.0.2.128/25")}, serviceOf("web", 0), "192.0.2.128 of lan", "192.0.2.128 of lan"},
		{"overwritten", []client.Object{poolOf("lan", 0, "192.0.2.0/24")}, record(serviceOf("web", 0, "198.51.100.1"), "lan", "192.0.2.7"), "192.0.2.7 of lan", "192.0.2.7 of lan"},
		{"cleared", []client.Object{poolOf("lan", 0, "192.0.2.0/24")}, record(serviceOf("web", 0), "lan", "192.0.2.7"), "192.0.2.7 of lan", "192.0.2.7 of lan"},
		{
			"a forged record takes what the pool does not give", []client.Object{poolOf("lan", 0, "192.0.2.0/24"), func() *v1alpha1.IPAddressPool {
				p := poolOf("vip", 0, "203.0.113.0/24")
				p.Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{"bank"}}
				return p
			}()},
			record(serviceOf("web", 0), "vip", "203.0.113.9"), "192.0.2.0 of lan", "192.0.2.0 of lan",
		},
		{"no longer of our class", []client.Object{poolOf("lan", 0, "192.0.2.0/24")}, disowned, "192.0.2.1 of lan", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := open(t, append(tt.objects, tt.svc)...)
			if got := b.has(tt.svc); got != tt.held {
				t.Errorf("restored is %q, want %q", got, tt.held)
			}
			if tt.decided == "" {
				return
			}
			if got := b.decide(tt.svc); got != tt.decided {
				t.Errorf("decided is %q, want %q", got, tt.decided)
			}
		})
	}
}

// Of two Services that have one address the older keeps it; the other is given one that is
// free, and says why.
func TestRestoreOfOneAddressInTwoServices(t *testing.T) {
	older, younger := serviceOf("older", time.Hour, "192.0.2.1"), serviceOf("a-younger", time.Minute, "192.0.2.1")
	b := open(t, poolOf("lan", 0, "192.0.2.0/24"), older, younger)
	req, _ := kube.Request(younger, nil)
	d, _ := b.Decide(younger, req)
	if got := grants(d.Grants); got != "192.0.2.0 of lan" || len(d.Conflicts) != 1 || d.Conflicts[0].By != kube.Key(older).Holder() {
		t.Errorf("the younger has %q, conflicts %v", got, d.Conflicts)
	}
	if d, _ := b.Decide(younger, req); len(d.Conflicts) != 1 {
		t.Errorf("before it is written the conflict is gone: %v", d.Conflicts)
	}
	b.Written(req.Holder)
	if d, _ := b.Decide(younger, req); len(d.Conflicts) != 0 {
		t.Errorf("after it is written the conflict stays: %v", d.Conflicts)
	}
	if got := b.decide(older); got != "192.0.2.1 of lan" {
		t.Errorf("the older has %q", got)
	}
}

// Those that waited before are served in the order of their age, whoever is reconciled first.
func TestRestoreServesTheOldestFirst(t *testing.T) {
	young, old := serviceOf("a", time.Minute), serviceOf("z", time.Hour)
	b := open(t, poolOf("lan", 0, "192.0.2.1/32"), young, old)
	if got := b.decide(young); got != "Exhausted" {
		t.Errorf("the younger has %q", got)
	}
	if got := b.decide(old); got != "192.0.2.1 of lan" {
		t.Errorf("the older has %q", got)
	}
	b.woken = nil
	b.Gone(kube.Key(old))
	if !slices.Equal(b.woken, []string{"a"}) {
		t.Errorf("woken are %v, want the one that waits", b.woken)
	}
	if got := b.decide(young); got != "192.0.2.1 of lan" {
		t.Errorf("the younger has %q", got)
	}
}

// A Service with an address of no pool is adopted when a pool has the address.
func TestUnmanagedServiceIsAdopted(t *testing.T) {
	svc, later := serviceOf("web", time.Hour, "198.51.100.1"), serviceOf("later", 0, "198.51.100.1")
	b := open(t, svc, later)
	if got := b.decide(svc); got != "unmanaged" {
		t.Fatalf("it has %q", got)
	}
	if got := b.decide(later); got != "unmanaged" {
		t.Fatalf("the other has %q", got)
	}
	b.woken = nil
	b.SetPools([]v1alpha1.IPAddressPool{*poolOf("lan", 0, "198.51.100.0/24")})
	if !slices.Contains(b.woken, "web") {
		t.Errorf("woken are %v", b.woken)
	}
	if got := b.decide(svc); got != "198.51.100.1 of lan" {
		t.Errorf("it has %q", got)
	}
	if got := b.decide(later); got != "198.51.100.0 of lan" {
		t.Errorf("the younger has %q", got)
	}
}

// A pool edit takes no address away, and one that cannot be parsed changes nothing.
func TestSetPools(t *testing.T) {
	svc := serviceOf("web", 0)
	b := open(t, poolOf("lan", 0, "192.0.2.0/30"), svc)
	b.decide(svc)
	for _, step := range []struct {
		name      string
		pools     []v1alpha1.IPAddressPool
		svc       string
		available uint64
		retiring  int
		invalid   bool
	}{
		{"grows", []v1alpha1.IPAddressPool{*poolOf("lan", 0, "192.0.2.0/29")}, "192.0.2.0 of lan", 7, 0, false},
		{"invalid", []v1alpha1.IPAddressPool{*poolOf("lan", 0, "192.0.2.0/99")}, "192.0.2.0 of lan", 7, 0, true},
		{"retires it", []v1alpha1.IPAddressPool{*poolOf("lan", 0, "192.0.2.8/30")}, "192.0.2.0 of lan", 4, 1, false},
		{"has it again", []v1alpha1.IPAddressPool{*poolOf("lan", 0, "192.0.2.0/30")}, "192.0.2.0 of lan", 3, 0, false},
	} {
		b.SetPools(step.pools)
		u, invalid, ok := b.Usage("lan")
		if got := b.decide(svc); got != step.svc || u.Available[lb.IPv4] != step.available || len(u.Retiring) != step.retiring || (invalid != nil) != step.invalid || !ok {
			t.Errorf("%s: the Service has %q; the pool %+v, %v", step.name, got, u, invalid)
		}
	}
	if !slices.Contains(b.used, "lan") {
		t.Errorf("the pools whose use changed are %v", b.used)
	}
	if _, invalid, ok := b.Usage("never"); ok || invalid != nil {
		t.Error("there is a pool that never was")
	}
	b.SetPools([]v1alpha1.IPAddressPool{*poolOf("bad", 0, "nonsense")})
	if _, invalid, ok := b.Usage("bad"); ok || invalid == nil {
		t.Error("a pool that could never be parsed is in force")
	}
	if got := b.has(svc); got != "192.0.2.0 of lan" {
		t.Errorf("after its pool is gone, the Service has %q", got)
	}
}

// A Service whose request cannot be understood keeps what it has, and is given nothing.
func TestKeep(t *testing.T) {
	has, lacks, other := serviceOf("has", 0, "192.0.2.1"), serviceOf("lacks", 0), serviceOf("unmanaged", 0, "198.51.100.1")
	b := open(t, poolOf("lan", 0, "192.0.2.0/24"), has, lacks, other)
	b.Release(kube.Key(lacks).Holder())
	keep := func(svc *corev1.Service) (string, bool) {
		req, _ := kube.Request(svc, nil)
		d, isUnmanaged := b.Keep(svc, req)
		return grants(d.Grants), isUnmanaged
	}
	if got, isUnmanaged := keep(has); got != "192.0.2.1 of lan" || isUnmanaged {
		t.Errorf("it keeps %q, unmanaged: %v", got, isUnmanaged)
	}
	if got, isUnmanaged := keep(lacks); got != "" || isUnmanaged {
		t.Errorf("it is given %q, unmanaged: %v", got, isUnmanaged)
	}
	if got, isUnmanaged := keep(other); got != "" || !isUnmanaged {
		t.Errorf("what is not ours has %q, unmanaged: %v", got, isUnmanaged)
	}
	if n := b.Census().Waiting[Lack{lb.KindService, lb.ReasonInvalidRequest}]; n != 1 {
		t.Errorf("%d Services wait for want of a valid request, want 1", n)
	}
}

// A claim keeps its addresses, and lends them to one Service of its namespace.
func TestClaims(t *testing.T) {
	claim := &v1alpha1.IPAddressClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "kept"},
		Status:     v1alpha1.IPAddressClaimStatus{Addresses: []string{"192.0.2.9"}, Pools: []string{"lan"}},
	}
	fresh := &v1alpha1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "fresh"}}
	user := annotate(serviceOf("web", 0), v1alpha1.AnnotationClaim, "kept")
	b := open(t, poolOf("lan", 0, "192.0.2.128/25"), claim, fresh, user)
	if got := b.decide(user); got != "192.0.2.9 of lan" {
		t.Errorf("the Service has %q", got)
	}
	req, _ := kube.ClaimRequest(claim, nil)
	d, bound := b.DecideClaim(claim, req)
	if got := grants(d.Grants); got != "192.0.2.9 of lan" || bound != "web" {
		t.Errorf("the claim has %q, bound to %q", got, bound)
	}
	b.woken = nil
	b.Gone(kube.Key(user))
	if !slices.Contains(b.woken, "kept") {
		t.Errorf("woken are %v, want the claim", b.woken)
	}
	if d, bound = b.DecideClaim(claim, req); grants(d.Grants) != "192.0.2.9 of lan" || bound != "" {
		t.Errorf("afterwards the claim has %q, bound to %q", grants(d.Grants), bound)
	}
	later := &v1alpha1.IPAddressClaim{ // that the watch brings, with a status of before
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "later"},
		Status:     v1alpha1.IPAddressClaimStatus{Addresses: []string{"192.0.2.200"}, Pools: []string{"lan"}},
	}
	req, _ = kube.ClaimRequest(later, nil)
	if d, _ := b.DecideClaim(later, req); grants(d.Grants) != "192.0.2.200 of lan" {
		t.Errorf("the later claim has %q", grants(d.Grants))
	}
}

// What nodes, routers and other Services have is assigned to nobody.
func TestAddressesInUse(t *testing.T) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.0"}},
	}}
	gone := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n0"}, Status: v1alpha1.SpeakerStatus{
		Interfaces: []v1alpha1.SpeakerInterface{{Name: "eth0", Addresses: []string{"192.0.2.3/32"}}},
	}}
	router := &v1alpha1.BGPPeer{ObjectMeta: metav1.ObjectMeta{Name: "r1"}, Spec: v1alpha1.BGPPeerSpec{PeerAddress: "192.0.2.1"}}
	internal := serviceOf("internal", 0)
	internal.Spec.Type, internal.Spec.ExternalIPs = corev1.ServiceTypeClusterIP, []string{"192.0.2.2"}
	b := open(t, poolOf("lan", 0, "192.0.2.0/29"), node, gone, router, internal)
	web := serviceOf("web", 0)
	if got := b.decide(web); got != "192.0.2.4 of lan" {
		t.Errorf("the Service has %q; withheld is %v", got, b.Withheld("lan"))
	}
	if n := len(b.Withheld("lan")); n != 4 {
		t.Errorf("withheld are %v", b.Withheld("lan"))
	}
	if got := b.BlocksOf(netip.MustParseAddr("192.0.2.1")); len(got) != 1 || got[0].Reason != lb.ReasonAddressOfRouter {
		t.Errorf("the router's address: %v", got)
	}
	b.ObservePeer("r1", nil)
	b.ObserveNode("n1", nil, nil)
	if n := len(b.Withheld("lan")); n != 2 {
		t.Errorf("after node and router are gone, withheld are %v", b.Withheld("lan"))
	}
	b.ObserveNode("n1", &corev1.Node{ObjectMeta: node.ObjectMeta, Status: corev1.NodeStatus{
		Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: "192.0.2.4"}},
	}}, nil)
	if got := b.Blocked(kube.Key(web).Holder()); len(got) != 1 || got[0].Reason != lb.ReasonAddressOfNode {
		t.Errorf("a node has come with the Service's address: %v", got)
	}
	if got := b.decide(web); got != "192.0.2.4 of lan" {
		t.Errorf("the Service has %q, want what it had", got)
	}
	b.ObserveService(internal)
	b.Gone(kube.Key(internal))
	if n := len(b.Withheld("lan")); n != 1 {
		t.Errorf("withheld are %v", b.Withheld("lan"))
	}
}

// A new address that a foreign host has is exchanged, and blocked for an hour.
func TestConflictWithAForeignHost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		svc := serviceOf("web", 0)
		b := open(t, poolOf("lan", 0, "192.0.2.0/24"))
		if got := b.decide(svc); got != "192.0.2.0 of lan" {
			t.Fatalf("it has %q", got)
		}
		taken := netip.MustParseAddr("192.0.2.0")
		if c := b.Conflict(taken, macA); !c.Blocked {
			t.Errorf("the conflict is %+v", c)
		}
		if got := b.decide(svc); got != "192.0.2.1 of lan" {
			t.Errorf("instead it has %q", got)
		}
		time.Sleep(conflictBlockTime - time.Second)
		synctest.Wait()
		if n := len(b.Withheld("lan")); n != 1 {
			t.Errorf("withheld are %v", b.Withheld("lan"))
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n := len(b.Withheld("lan")); n != 0 {
			t.Errorf("an hour later withheld are %v", b.Withheld("lan"))
		}
	})
}

// An address is also new to a Service that waited for it: while no controller ran, or until
// another Service released it.
func TestConflictAboutAnAddressThatWasWaitedFor(t *testing.T) {
	conflict := func(b *book, svc *corev1.Service, addr string) {
		t.Helper()
		if got := b.decide(svc); got != addr+" of lan" {
			t.Fatalf("%s has %q", svc.Name, got)
		}
		if c := b.Conflict(netip.MustParseAddr(addr), macA); !c.Blocked {
			t.Errorf("the conflict of %s is %+v", svc.Name, c)
		}
	}
	waited := serviceOf("waited", 0)
	conflict(open(t, poolOf("lan", 0, "192.0.2.1/32"), waited), waited, "192.0.2.1")

	first, second := serviceOf("first", 0), serviceOf("second", 0)
	b := open(t, poolOf("lan", 0, "192.0.2.1/32"))
	b.decide(first)
	if got := b.decide(second); got != "Exhausted" {
		t.Fatalf("the second has %q", got)
	}
	b.Gone(kube.Key(first))
	conflict(b, second, "192.0.2.1")
}

// A block that ended early does not shorten the next one of the same address.
func TestAddressIsBlockedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, poolOf("lan", 0, "192.0.2.0/24"))
		taken := netip.MustParseAddr("192.0.2.0")
		block := func(name string) {
			t.Helper()
			if got := b.decide(annotate(serviceOf(name, 0), v1alpha1.AnnotationLoadBalancerIPs, "192.0.2.0")); got != "192.0.2.0 of lan" {
				t.Fatalf("%s has %q", name, got)
			}
			if c := b.Conflict(taken, macA); !c.Blocked {
				t.Fatalf("the conflict of %s is %+v", name, c)
			}
			b.decide(serviceOf(name, 0)) // it no longer asks for this one, and is given another
		}
		block("first")
		time.Sleep(conflictBlockTime - time.Minute)
		b.ConflictEnded(taken)
		block("second")
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		if n := len(b.Withheld("lan")); n != 1 {
			t.Errorf("two minutes later withheld are %v, want %v", b.Withheld("lan"), taken)
		}
		time.Sleep(conflictBlockTime)
		synctest.Wait()
		if n := len(b.Withheld("lan")); n != 0 {
			t.Errorf("an hour later withheld are %v", b.Withheld("lan"))
		}
	})
}

// An address that a Service came with is not exchanged because of a foreign host, also
// where it was new to another Service before.
func TestConflictAboutAnAdoptedAddress(t *testing.T) {
	first, second := serviceOf("first", 0), serviceOf("second", 0, "192.0.2.0")
	b := open(t, poolOf("lan", 0, "192.0.2.0/24"))
	if got := b.decide(first); got != "192.0.2.0 of lan" {
		t.Fatalf("the first has %q", got)
	}
	if got := b.decide(annotate(first, v1alpha1.AnnotationLoadBalancerIPs, "192.0.2.7")); got != "192.0.2.7 of lan" {
		t.Fatalf("the first has %q, want what it asks for", got)
	}
	if got := b.decide(second); got != "192.0.2.0 of lan" {
		t.Fatalf("the second has %q, want what it came with", got)
	}
	if c := b.Conflict(netip.MustParseAddr("192.0.2.0"), macA); c != (Conflict{}) {
		t.Errorf("the conflict is %+v, want the Service to keep the address", c)
	}
	if got := b.decide(second); got != "192.0.2.0 of lan" {
		t.Errorf("after the conflict the second has %q", got)
	}
}

// What is not urgent is deferred while many addresses are assigned, but not for ever.
func TestWaitForBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t, poolOf("lan", 0, "10.0.0.0/16"))
		waited := func() time.Duration {
			before := time.Now()
			b.WaitForBurst(t.Context())
			return time.Since(before)
		}
		if w := waited(); w != 0 {
			t.Errorf("at rest it waits for %v", w)
		}
		for i := range 3 * burstSize {
			b.decide(serviceOf(fmt.Sprint("svc-", i), 0))
		}
		if w := waited(); w != deferFor {
			t.Errorf("in a burst it waits for %v, want %v", w, deferFor)
		}
		b.now = b.now.Add(2 * deferFor)
		if w := waited(); w != 0 {
			t.Errorf("after the burst it waits for %v", w)
		}
		for i := range 3 * burstSize {
			b.decide(serviceOf(fmt.Sprint("more-", i), 0))
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		before := time.Now()
		b.WaitForBurst(ctx)
		if w := time.Since(before); w != 0 {
			t.Errorf("when its context has ended it waits for %v", w)
		}
	})
}

func TestCensus(t *testing.T) {
	b := open(t, poolOf("lan", 0, "192.0.2.1/32"))
	first, second := serviceOf("first", 0), serviceOf("second", 0)
	b.decide(first)
	b.decide(second)
	c := b.Census()
	if diff := cmp.Diff(map[Lack]int{{lb.KindService, lb.ReasonExhausted}: 1}, c.Waiting); diff != "" {
		t.Errorf("waiting (-want +got):\n%s", diff)
	}
	if got := c.Pools["lan"].Assigned[lb.IPv4]; got != 1 {
		t.Errorf("assigned are %d", got)
	}
	if got := b.Users("lan"); len(got) != 1 || got[0].Name != "first" {
		t.Errorf("users are %v", got)
	}
}

// Before the API server was read nothing is known, and an error leaves it so.
func TestRestoreFails(t *testing.T) {
	away := errors.New("away")
	l := New(failing{away}, kube.Class{Classless: true}, func() time.Time { return begin })
	if err := l.Restore(t.Context()); !errors.Is(err, away) {
		t.Errorf("the error is %v", err)
	}
	l.SetPools([]v1alpha1.IPAddressPool{*poolOf("lan", 0, "192.0.2.0/24")})
	if _, _, ok := l.Usage("lan"); ok {
		t.Error("a pool is in force before what is assigned was read")
	}
}

type failing struct{ err error }

func (f failing) Get(context.Context, client.ObjectKey, client.Object, ...client.GetOption) error {
	return f.err
}
func (f failing) List(context.Context, client.ObjectList, ...client.ListOption) error { return f.err }
