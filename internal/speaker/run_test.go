package speaker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/prometheus/client_golang/prometheus"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/kube/apiconn"
	"github.com/fairlead-lb/fairlead/internal/layer2"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

const namespace = "fairlead-system"

var (
	vip  = netip.MustParseAddr("192.0.2.100")
	key1 = []byte("0123456789abcdef0123456789abcde1")
	key2 = []byte("0123456789abcdef0123456789abcde2")
)

// site is a cluster in memory: an API server, a network, and speakers on nodes. It lives in
// a synctest bubble.
type site struct {
	t    *testing.T
	api  client.WithWatch
	net  *fakeNetwork
	down atomic.Bool // the API server refuses requests
}

// inSite runs a test in a bubble, in a cluster of these nodes with one Service, whose
// endpoint is ready on each.
func inSite(t *testing.T, nodes []string, test func(*testing.T, *site)) {
	synctest.Test(t, func(t *testing.T) {
		c := &site{t: t, net: newFakeNetwork()}
		refuse := func() error {
			if c.down.Load() {
				return errors.New("the API server is down")
			}
			return nil
		}
		c.api = fake.NewClientBuilder().WithScheme(kube.NewScheme()).WithObjects(objects(nodes)...).WithStatusSubresource(&v1alpha1.Speaker{}).
			WithInterceptorFuncs(interceptor.Funcs{
				List: func(ctx context.Context, api client.WithWatch, list client.ObjectList, o ...client.ListOption) error {
					if err := refuse(); err != nil {
						return err
					}
					if _, ok := list.(*corev1.SecretList); ok {
						o = []client.ListOption{client.InNamespace(namespace)} // the client in memory has no field selectors
					}
					return api.List(ctx, list, o...)
				},
				Create: func(ctx context.Context, api client.WithWatch, o client.Object, opts ...client.CreateOption) error {
					if at := o.GetCreationTimestamp(); at.IsZero() {
						o.SetCreationTimestamp(metav1.Now())
					}
					return api.Create(ctx, o, opts...)
				},
				Watch: func(ctx context.Context, api client.WithWatch, list client.ObjectList, o ...client.ListOption) (watch.Interface, error) {
					for _, option := range o {
						if raw, ok := option.(*client.ListOptions); ok && raw.Raw != nil && ptr.Deref(raw.Raw.SendInitialEvents, false) {
							// The client in memory has no streaming lists; so the reflector lists.
							return nil, apierrors.NewInvalid(schema.GroupKind{}, "", nil)
						}
					}
					if _, ok := list.(*corev1.SecretList); ok {
						o = []client.ListOption{client.InNamespace(namespace)}
					}
					return api.Watch(ctx, list, o...)
				},
			}).Build()
		test(t, c)
	})
}

func objects(nodes []string) (out []client.Object) {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "web", UID: "web"},
		Spec:       corev1.ServiceSpec{Type: corev1.ServiceTypeLoadBalancer},
		Status:     corev1.ServiceStatus{LoadBalancer: corev1.LoadBalancerStatus{Ingress: []corev1.LoadBalancerIngress{{IP: vip.String()}}}},
	}
	slice := &discoveryv1.EndpointSlice{
		ObjectMeta:  metav1.ObjectMeta{Namespace: "shop", Name: "web-1", Labels: map[string]string{discoveryv1.LabelServiceName: "web"}},
		AddressType: discoveryv1.AddressTypeIPv4,
	}
	for _, n := range nodes {
		slice.Endpoints = append(slice.Endpoints, discoveryv1.Endpoint{
			Addresses: []string{"10.0.0.1"}, NodeName: ptr.To(n), Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true)},
		})
		out = append(out, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n, UID: types.UID(n)}, Status: corev1.NodeStatus{
			Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: addressOf(n).String()}},
		}})
	}
	return append(out, svc, slice,
		&v1alpha1.IPAddressPool{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1alpha1.IPAddressPoolSpec{Addresses: []v1alpha1.AddressRange{"192.0.2.100-192.0.2.110"}}},
		&v1alpha1.L2Advertisement{ObjectMeta: metav1.ObjectMeta{Name: "lan"}},
		&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: kube.GossipSecret}, Data: map[string][]byte{kube.GossipSecretKey: key1}},
	)
}

// addressOf returns the address of node "n1", "n2", ….
func addressOf(node string) netip.Addr { return netip.MustParseAddr("192.0.2." + node[1:]) }

// running is a speaker on a node.
type running struct {
	*Speaker
	c      *site
	node   string
	gossip *fakeGossip
	layer2 *fakeLayer2
	host   *fakeHost
	cancel context.CancelFunc
	ended  chan error
}

// start starts the speaker of a node.
func (c *site) start(node string) *running {
	cfg := Config{
		Node: node, Bind: addressOf(node), Follow: true, Family: lb.IPv4, Port: 7946, Keys: [][]byte{key1}, Term: 1, Version: "test",
		Class: kube.Class{Name: v1alpha1.LoadBalancerClass, Classless: true}, Metrics: metrics.NewSpeaker(prometheus.NewRegistry()),
		Clock: clockcheck.New(), Namespace: namespace, API: c.api, Conn: apiconn.New(logr.Discard()), Log: logr.Discard(),
	}
	gossip := c.net.gossip(node, cfg.endpoint())
	host := newFakeHost(cfg.Bind)
	r := &running{
		c: c, node: node, gossip: gossip, host: host, layer2: &fakeLayer2{net: c.net, gossip: gossip, changed: notify.New()}, ended: make(chan error, 1),
	}
	r.Speaker = New(cfg, Deps{
		Gossip: gossip, Layer2: r.layer2, Routes: fakeRoutes{host}, DHCP: fakeDHCP{host}, Proxy: fakeProxy{host},
		Interfaces: fakeInterfaces{host}, Kernel: fakeKernel{host},
	})
	ctx, cancel := context.WithCancel(c.t.Context())
	r.cancel = cancel
	go func() { r.ended <- r.Start(ctx) }()
	c.t.Cleanup(func() { r.stop() })
	return r
}

// stop ends the speaker, and returns its error.
func (r *running) stop() error {
	r.cancel()
	err := <-r.ended
	r.ended <- err // for whoever asks again
	return err
}

// until waits for a condition, at most ten seconds of the bubble's time.
func (c *site) until(what string, condition func() bool) {
	c.t.Helper()
	for range 1000 {
		synctest.Wait()
		if condition() {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	c.t.Fatalf("not within ten seconds: %s; owners of %s are %v", what, vip, c.net.owners(vip))
}

// always fails when the condition does not hold for so long.
func (c *site) always(what string, d time.Duration, condition func() bool) {
	c.t.Helper()
	for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
		if synctest.Wait(); !condition() {
			c.t.Fatalf("not for %v: %s; owners of %s are %v", d, what, vip, c.net.owners(vip))
		}
	}
}

func (c *site) ownedBy(nodes ...string) func() bool {
	return func() bool { return slices.Equal(c.net.owners(vip), nodes) }
}

// startAll starts the speakers of these nodes, and waits until one announces the address.
func (c *site) startAll(nodes ...string) (all map[string]*running, owner *running, others []*running) {
	c.t.Helper()
	all = map[string]*running{}
	for _, n := range nodes {
		all[n] = c.start(n)
	}
	c.until("all have joined, and one announces the address", func() bool {
		for _, r := range all {
			if !r.Joined() || len(r.gossip.Alive()) != len(nodes) {
				return false
			}
		}
		return len(c.net.owners(vip)) == 1
	})
	time.Sleep(10 * time.Second) // all at rest
	synctest.Wait()
	for _, n := range nodes {
		if c.ownedBy(n)() {
			owner = all[n]
		} else {
			others = append(others, all[n])
		}
	}
	if owner == nil {
		c.t.Fatalf("owners are %v, want one", c.net.owners(vip))
	}
	return all, owner, others
}

// condition returns a condition of a node's Speaker, nil if it has none, or there is none.
func (c *site) condition(node, kind string) *metav1.Condition {
	var s v1alpha1.Speaker
	if err := c.api.Get(c.t.Context(), client.ObjectKey{Name: node}, &s); client.IgnoreNotFound(err) != nil {
		c.t.Fatal(err)
	}
	return meta.FindStatusCondition(s.Status.Conditions, kind)
}

// status returns the Ready condition of a node's Speaker: "True Announcing: text".
func (c *site) status(node string) string {
	cond := c.condition(node, v1alpha1.ConditionReady)
	if cond == nil {
		return ""
	}
	return fmt.Sprintf("%s %s: %s", cond.Status, cond.Reason, cond.Message)
}

func (c *site) says(node, text string) func() bool {
	return func() bool { return strings.Contains(c.status(node), text) }
}

// change changes an object as a user does.
func change[T client.Object](c *site, o T, name types.NamespacedName, f func(T)) {
	c.t.Helper()
	if err := c.api.Get(c.t.Context(), name, o); err != nil {
		c.t.Fatal(err)
	}
	f(o)
	if err := c.api.Update(c.t.Context(), o); err != nil {
		c.t.Fatal(err)
	}
}

func (c *site) annotate(node, name, value string) {
	c.t.Helper()
	change(c, &v1alpha1.Speaker{}, types.NamespacedName{Name: node}, func(s *v1alpha1.Speaker) {
		if s.Annotations == nil {
			s.Annotations = map[string]string{}
		}
		s.Annotations[name] = value
		if value == "" {
			delete(s.Annotations, name)
		}
	})
}

// handedOver fails unless the address was moved from one node to the other without a moment in
// which nobody answered, since from.
func (c *site) handedOver(from time.Time, old, next string) {
	c.t.Helper()
	for _, x := range c.net.since(vip, from) {
		if len(x.nodes) == 0 {
			c.t.Errorf("nobody answered from %v on", x.at.Sub(from))
		}
	}
	if !c.ownedBy(next)() {
		c.t.Errorf("owners are %v, want %s, which took over from %s", c.net.owners(vip), next, old)
	}
}

// A speaker owns nothing before it has read the cluster and searched for the others.
func TestJoin(t *testing.T) {
	inSite(t, []string{"n1"}, func(t *testing.T, c *site) {
		c.down.Store(true)
		r := c.start("n1")
		c.always("it owns nothing while the API server is away", 3*time.Second, func() bool { return c.ownedBy()() && !r.Joined() })
		c.down.Store(false)
		c.until("it announces", c.ownedBy("n1"))
		c.until("its Speaker says so", c.says("n1", "True Announcing"))
		if n := locked(&c.net.mu, func() int { return r.gossip.revived }); n != 1 {
			t.Errorf("members were revived %d times", n)
		}
		if err := r.stop(); err != nil {
			t.Error(err)
		}
		if !c.says("n1", "False Stopping: the speaker has stopped")() {
			t.Errorf("in the end it says %s", c.status("n1"))
		}
	})
}

// Of speakers that start together one announces the address: where two have claimed it before
// they knew of each other, one gives it up at its next turn.
func TestJoinTogether(t *testing.T) {
	inSite(t, []string{"n1", "n2", "n3"}, func(t *testing.T, c *site) {
		began := time.Now()
		c.startAll("n1", "n2", "n3")
		history := append(c.net.since(vip, began), answer{at: time.Now()})
		for i, x := range history[:len(history)-1] {
			if d := history[i+1].at.Sub(x.at); len(x.nodes) > 1 && d > minTurnInterval {
				t.Errorf("after %v %v answered for %v", x.at.Sub(began), x.nodes, d)
			}
		}
	})
}

// A speaker that is stopped while it joins ends.
func TestStopWhileJoining(t *testing.T) {
	inSite(t, []string{"n1"}, func(t *testing.T, c *site) {
		c.down.Store(true)
		r := c.start("n1")
		time.Sleep(time.Second)
		if err := r.stop(); !errors.Is(err, context.Canceled) {
			t.Errorf("it ended with %v", err)
		}
		if r.gossip.running || !r.layer2.closed {
			t.Error("it still gossips, or answers")
		}
	})
}

// On shutdown the address is handed over without a gap; without a successor it is announced
// until the end.
func TestShutdown(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		began := time.Now()
		if err := owner.stop(); err != nil {
			t.Error(err)
		}
		c.handedOver(began, owner.node, others[0].node)
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %v", took)
		}
		if owner.host.left != "for a moment" {
			t.Errorf("its routes were left %q", owner.host.left)
		}

		last := others[0]
		if err := last.stop(); err != nil {
			t.Error(err)
		}
		if !c.ownedBy()() || last.gossip.running {
			t.Errorf("owners are %v, gossip runs: %v", c.net.owners(vip), last.gossip.running)
		}
	})
}

// How routers are told of the end: for good where another node has the routes and this one is
// drained or leaves the cluster.
func TestLeaveForGood(t *testing.T) {
	for _, tt := range []struct {
		name    string
		prepare func(*site, *running)
		want    string
	}{
		{"drained", func(c *site, r *running) { c.annotate("n1", v1alpha1.AnnotationDrain, "disk swap") }, "for good: n1 is drained"},
		{"drained, and the only one", func(c *site, r *running) {
			c.annotate("n1", v1alpha1.AnnotationDrain, "disk swap")
			r.host.change(func(h *fakeHost) { h.only = true })
		}, "for a moment"},
		{"the Node is removed", func(c *site, r *running) {
			if err := c.api.Delete(c.t.Context(), &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}); err != nil {
				c.t.Fatal(err)
			}
		}, "for good: n1 is leaving the cluster"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
				all, _, _ := c.startAll("n1", "n2")
				tt.prepare(c, all["n1"])
				time.Sleep(5 * time.Second)
				if err := all["n1"].stop(); err != nil {
					t.Error(err)
				}
				if got := all["n1"].host.left; got != tt.want {
					t.Errorf("left %q, want %q", got, tt.want)
				}
			})
		})
	}
}

// A drained node hands over, and so does one whose kube-proxy fails; with no better node it
// keeps the address.
func TestDrain(t *testing.T) {
	for _, tt := range []struct {
		name       string
		begin, end func(*site, *running)
	}{
		{
			"drained", func(c *site, r *running) { c.annotate(r.node, v1alpha1.AnnotationDrain, "disk swap") },
			func(c *site, r *running) { c.annotate(r.node, v1alpha1.AnnotationDrain, "") },
		},
		{
			"kube-proxy fails", func(c *site, r *running) { r.host.change(func(h *fakeHost) { h.health = v1alpha1.ReasonUnhealthy }) },
			func(c *site, r *running) { r.host.change(func(h *fakeHost) { h.health = v1alpha1.ReasonHealthy }) },
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
				_, owner, others := c.startAll("n1", "n2")
				other := others[0]
				began := time.Now()
				tt.begin(c, owner)
				c.until("the other takes over", c.ownedBy(other.node))
				c.handedOver(began, owner.node, other.node)
				tt.begin(c, other)
				c.always("none is better, so it stays", 5*time.Second, c.ownedBy(other.node))
				tt.end(c, owner)
				c.until("the first is better again", c.ownedBy(owner.node))
				tt.end(c, other)
				c.always("it stays", 5*time.Second, c.ownedBy(owner.node))
			})
		})
	}
}

// While its cable is out, a node's addresses are another's. When it is back, the node
// searches for the others before it owns anything, and does not take its addresses back.
func TestSeveredLink(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		pull := func(out bool) {
			c.net.setCut(owner.node, out)
			owner.host.change(func(h *fakeHost) { h.list[0].Up = !out })
		}
		pull(true)
		c.until("the other took over", c.ownedBy(others[0].node))
		time.Sleep(5 * time.Second)
		back := time.Now()
		pull(false)
		c.until("it has joined again", func() bool { return owner.Joined() && len(owner.gossip.Alive()) == 2 })
		c.always("the other keeps the address", 5*time.Second, c.ownedBy(others[0].node))
		for _, x := range c.net.since(vip, back) {
			if len(x.nodes) != 1 {
				t.Errorf("%v after the cable was back %v answered", x.at.Sub(back), x.nodes)
			}
		}
	})
}

// A node that loses the gossip address is severed too, although the interface is up and has
// another address in the subnet.
func TestGossipAddressIsLost(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		with := owner.host.list[0].Prefixes
		c.net.setCut(owner.node, true)
		owner.host.change(func(h *fakeHost) { h.list[0].Prefixes = []netip.Prefix{netip.MustParsePrefix("192.0.2.99/24")} })
		c.until("it announces nothing there", c.ownedBy(others[0].node))
		c.net.setCut(owner.node, false)
		owner.host.change(func(h *fakeHost) { h.list[0].Prefixes = with })
		c.until("it has joined again", func() bool { return owner.Joined() && len(owner.gossip.Alive()) == 2 })
		c.always("the other keeps the address", 5*time.Second, c.ownedBy(others[0].node))
	})
}

// A node that finds nobody when its cable is back owns addresses again after a while.
func TestRejoinAlone(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		others[0].gossip.stall() // it is there by its object, and does not answer
		owner.host.change(func(h *fakeHost) { h.list[0].Up = false })
		c.until("it announces on no interface", c.ownedBy())
		back := time.Now()
		owner.host.change(func(h *fakeHost) { h.list[0].Up = true })
		c.until("it announces again", c.ownedBy(owner.node))
		if took := time.Since(back); took < rejoinTimeout || took > rejoinTimeout+time.Second {
			t.Errorf("it searched for %v, want %v", took, rejoinTimeout)
		}
	})
}

// A process that stood still has lost its addresses, and does not take them back.
func TestStall(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		owner.gossip.stall()
		c.until("the other took over", c.ownedBy(others[0].node))
		time.Sleep(time.Minute)
		awake := time.Now()
		owner.gossip.resume()
		c.always("the other keeps the address", 10*time.Second, c.ownedBy(others[0].node))
		for _, x := range c.net.since(vip, awake) {
			if len(x.nodes) != 1 {
				t.Errorf("%v after it went on %v answered", x.at.Sub(awake), x.nodes)
			}
		}
		if !owner.Joined() {
			t.Error("it has not joined again")
		}
	})
}

// Members of a partition find each other again when it ends, and one of them has the address.
func TestPartitionEnds(t *testing.T) {
	inSite(t, []string{"n1", "n2", "n3"}, func(t *testing.T, c *site) {
		_, owner, _ := c.startAll("n1", "n2", "n3")
		c.net.setCut(owner.node, true)
		c.until("one of the others announces too", func() bool { return len(c.net.owners(vip)) == 2 })
		owner.gossip.forget()
		for _, r := range c.net.members { // some time later
			r.forget()
		}
		c.net.setCut(owner.node, false)
		c.until("they have found each other", func() bool { return len(owner.gossip.Alive()) == 3 && len(c.net.owners(vip)) == 1 })
		c.always("one has it", 5*time.Second, func() bool { return len(c.net.owners(vip)) == 1 })
	})
}

// New gossip keys are understood first and used later; an invalid Secret changes nothing, and
// the Speaker says so.
func TestKeyChange(t *testing.T) {
	inSite(t, []string{"n1"}, func(t *testing.T, c *site) {
		_, owner, _ := c.startAll("n1")
		write := func(key []byte, term string) {
			change(c, &corev1.Secret{}, types.NamespacedName{Namespace: namespace, Name: kube.GossipSecret}, func(s *corev1.Secret) {
				s.Data = map[string][]byte{kube.GossipSecretKey: key}
				s.Annotations = map[string]string{kube.GossipTermAnnotation: term}
			})
		}
		uses := func(keys ...[]byte) func() bool {
			return func() bool { return slices.EqualFunc(owner.gossip.usedKeys(), keys, bytes.Equal) }
		}
		write([]byte("short"), "1")
		c.until("the Speaker says what is wrong", func() bool { return strings.Contains(c.status("n1"), "has 5 bytes") })
		if n := locked(&c.net.mu, func() int { return owner.gossip.rekeyed }); n != 0 {
			t.Errorf("the keys were changed %d times", n)
		}
		replaced := time.Now()
		write(key2, "2")
		c.until("both are understood, and the old one is used", uses(key1, key2))
		if term := locked(&c.net.mu, func() uint64 { return owner.gossip.term }); term != 2 {
			t.Errorf("the term is %d", term)
		}
		c.until("the new one is used", uses(key2, key1))
		if age := time.Since(replaced); age < encryptWithOldFor {
			t.Errorf("the new key was used after %v", age)
		}
		time.Sleep(understandOldFor)
		c.until("the old one is no longer understood", uses(key2))
		c.until("the Speaker says that all is well", c.says("n1", "True Announcing"))
	})
}

// Of two machines with one node name, the one that was there first announces and writes the
// Speaker.
func TestDuplicateNodeName(t *testing.T) {
	first := netip.MustParseAddrPort("192.0.2.9:7946")
	inSite(t, []string{"n1"}, func(t *testing.T, c *site) {
		if err := c.api.Create(t.Context(), &v1alpha1.Speaker{
			ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: v1alpha1.SpeakerStatus{GossipEndpoint: first.String()},
		}); err != nil {
			t.Fatal(err)
		}
		var published v1alpha1.Speaker
		if err := c.api.Get(t.Context(), client.ObjectKey{Name: "n1"}, &published); err != nil {
			t.Fatal(err)
		}
		published.Status.GossipEndpoint = first.String()
		if err := c.api.Status().Update(t.Context(), &published); err != nil {
			t.Fatal(err)
		}
		r := c.start("n1")
		r.gossip.setDuplicate(first)
		c.always("the later machine has not joined", 10*time.Second, func() bool { return !r.Joined() && c.ownedBy()() && c.status("n1") == "" })
		r.gossip.setDuplicate(netip.AddrPort{})
		c.until("the first machine is gone", c.ownedBy("n1"))

		r.gossip.setDuplicate(first) // a partition ends
		c.until("another was there first", func() bool { return c.ownedBy()() && !r.Joined() })
		before := c.status("n1")
		c.always("it writes nothing", 5*time.Second, func() bool { return c.status("n1") == before })
		r.gossip.setDuplicate(netip.AddrPort{})
		c.until("that one is gone", c.ownedBy("n1"))
	})
}

// When its Node has another address that the machine has, the speaker hands over and ends, to be
// started with that address. One that the machine does not have is only reported.
func TestAddressChanges(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		setAddress := func(a string) {
			var n corev1.Node
			if err := c.api.Get(t.Context(), client.ObjectKey{Name: owner.node}, &n); err != nil {
				t.Fatal(err)
			}
			n.Status.Addresses[0].Address = a
			if err := c.api.Status().Update(t.Context(), &n); err != nil {
				t.Fatal(err)
			}
		}
		setAddress("192.0.2.77")
		c.always("it still announces", 5*time.Second, c.ownedBy(owner.node))
		if endpoint := c.condition(owner.node, v1alpha1.ConditionEndpointValid); endpoint == nil || endpoint.Reason != v1alpha1.ReasonAddressNotLocal {
			t.Errorf("the Speaker says of its endpoint %+v", endpoint)
		}
		owner.host.change(func(h *fakeHost) { h.has[netip.MustParseAddr("192.0.2.78")] = true })
		began := time.Now()
		setAddress("192.0.2.78")
		c.until("it has handed over", c.ownedBy(others[0].node))
		c.handedOver(began, owner.node, others[0].node)
		if err := <-owner.ended; !errors.Is(err, ErrAddressChanged) {
			t.Errorf("it ended with %v", err)
		}
		owner.ended <- nil
	})
}

// What a user asks for is taken over, once, and the Speaker says so.
func TestTake(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		began := time.Now()
		c.annotate(others[0].node, v1alpha1.AnnotationTake, vip.String())
		c.until("it is taken over", c.ownedBy(others[0].node))
		c.handedOver(began, owner.node, others[0].node)
		c.until("the order is carried out", func() bool {
			cond := c.condition(others[0].node, v1alpha1.ConditionMoved)
			return cond != nil && cond.Reason == v1alpha1.ReasonMoved
		})
		c.always("it stays", 5*time.Second, c.ownedBy(others[0].node))
	})
}

// A foreign host that has an address is told to the other speakers and in the Speaker; an
// interface that cannot be opened makes another node the owner.
func TestTrouble(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		_, owner, others := c.startAll("n1", "n2")
		owner.layer2.change(func(l *fakeLayer2) {
			l.conflicts = []layer2.Conflict{{Addr: vip, Interface: "eth0", MAC: "02:00:00:00:00:99"}}
		})
		c.until("the others know it", func() bool {
			return slices.Equal(others[0].gossip.View().Facts[owner.node].Disputed, []netip.Addr{vip})
		})
		owner.layer2.change(func(l *fakeLayer2) { l.conflicts = nil })
		c.until("it has ended", func() bool { return others[0].gossip.View().Facts[owner.node].Disputed == nil })
		if macs := locked(&owner.layer2.mu, func() map[string]bool { return owner.layer2.macs }); !macs["02:00:00:00:00:01"] {
			t.Errorf("the cluster's hardware addresses are %v", macs)
		}

		owner.layer2.change(func(l *fakeLayer2) { l.fails = map[string][]lb.Family{"eth0": {lb.IPv4, lb.IPv6}} })
		c.until("another node announces", c.ownedBy(others[0].node))
		c.until("the Speaker says why", c.says(owner.node, "False CannotAnnounce: open eth0: no permission"))
		owner.layer2.change(func(l *fakeLayer2) { l.fails = nil })
		c.until("it can announce again", c.says(owner.node, "True Announcing"))

		owner.host.change(func(h *fakeHost) { h.err = errors.New("netlink: no buffer space") })
		c.always("what was read before stays", 20*time.Second, c.ownedBy(others[0].node))
		owner.host.change(func(h *fakeHost) { h.err = nil })
		count := func() int { return locked(&owner.host.mu, func() int { return owner.host.reads }) }
		reads := count()
		c.until("the kernel is read again", func() bool { return count() > reads })
	})
}

// A severed node with another interface in the address's subnet yields what another node is
// seen to announce.
func TestYielded(t *testing.T) {
	o := newOwnership(logr.Discard())
	rows := []lb.L2Announcement{{Addr: vip}, {Addr: vip.Next()}}
	none := func() []netip.Addr { return nil }
	one := func() []netip.Addr { return []netip.Addr{vip} }
	for _, step := range []struct {
		name    string
		severed bool
		claimed func() []netip.Addr
		want    int
	}{
		{"connected", false, one, 2},
		{"severed, and nobody is seen", true, none, 2},
		{"another is seen", true, one, 1},
		{"it is silent for a while", true, none, 1},
		{"connected again", false, none, 2},
		{"severed again", true, none, 2},
	} {
		if got := o.withoutYielded(rows, step.severed, step.claimed); len(got) != step.want {
			t.Errorf("%s: %v, want %d rows", step.name, got, step.want)
		}
	}
	if len(rows) != 2 {
		t.Error("the rows were changed")
	}
}

// Of two nodes with one gossip address, only the one with the older Speaker takes part; the
// other one says why it does not, and takes part when the fault is over.
func TestSameEndpoint(t *testing.T) {
	inSite(t, []string{"n1", "n2"}, func(t *testing.T, c *site) {
		twin := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "n2", CreationTimestamp: metav1.NewTime(time.Now().Add(-time.Hour))}}
		if err := c.api.Create(t.Context(), twin); err != nil {
			t.Fatal(err)
		}
		setEndpoint := func(e string) {
			if err := c.api.Get(t.Context(), client.ObjectKey{Name: "n2"}, twin); err != nil {
				t.Fatal(err)
			}
			twin.Status.GossipEndpoint = e
			if err := c.api.Status().Update(t.Context(), twin); err != nil {
				t.Fatal(err)
			}
		}
		setEndpoint(netip.AddrPortFrom(addressOf("n1"), 7946).String())
		r := c.start("n1")
		c.until("it says why it takes no part", c.says("n1", "False DuplicateEndpoint: the endpoint 192.0.2.1:7946 is also that of node n2"))
		c.always("it announces nothing", 5*time.Second, func() bool { return c.ownedBy()() && !r.Joined() })
		if locked(&r.host.mu, func() int { return r.host.applied }) == 0 {
			t.Error("it does not serve its routers")
		}
		setEndpoint("192.0.2.2:7946")
		c.until("it takes part", c.ownedBy("n1"))
		setEndpoint(netip.AddrPortFrom(addressOf("n1"), 7946).String())
		c.until("it takes no part any more", func() bool { return c.ownedBy()() && !r.Joined() })
	})
}

// A speaker waits for an address of its Node that the machine has, and says so meanwhile.
func TestAwaitAddress(t *testing.T) {
	inSite(t, nil, func(t *testing.T, c *site) {
		cfg := Config{Node: "n1", Family: lb.IPv4, Port: 7946, API: c.api, Log: logr.Discard()}
		setAddresses := func(addrs ...string) {
			n := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}
			if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(n), n); err != nil {
				if err := c.api.Create(t.Context(), n); err != nil {
					t.Fatal(err)
				}
			}
			n.Status.Addresses = nil
			for _, a := range addrs {
				n.Status.Addresses = append(n.Status.Addresses, corev1.NodeAddress{Type: corev1.NodeInternalIP, Address: a})
			}
			if err := c.api.Status().Update(t.Context(), n); err != nil {
				t.Fatal(err)
			}
		}
		local := map[netip.Addr]bool{netip.MustParseAddr("192.0.2.8"): true}
		got := make(chan netip.Addr, 1)
		go func() {
			a, err := awaitAddress(t.Context(), cfg, func(a netip.Addr) bool { return local[a] })
			if err != nil {
				t.Error(err)
			}
			got <- a
		}()
		time.Sleep(5 * time.Second) // there is no Node
		setAddresses()
		c.until("the Node has no address", c.says("n1", "False NoUsableAddress"))
		setAddresses("192.0.2.7")
		c.until("the machine has another", c.says("n1", "False AddressNotLocal"))
		setAddresses("192.0.2.8")
		if a := <-got; a.String() != "192.0.2.8" {
			t.Errorf("got %v", a)
		}

		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		setAddresses()
		if _, err := awaitAddress(ctx, cfg, func(netip.Addr) bool { return true }); !errors.Is(err, context.Canceled) {
			t.Errorf("when it is stopped: %v", err)
		}
	})
}

// DHCP leases of a pool's addresses are in the Speaker's condition NetworkReady.
func TestLeases(t *testing.T) {
	inSite(t, []string{"n1"}, func(t *testing.T, c *site) {
		_, owner, _ := c.startAll("n1")
		if cond := c.condition("n1", v1alpha1.ConditionNetworkReady); cond == nil || cond.Status != metav1.ConditionTrue {
			t.Fatalf("at first the condition is %+v", cond)
		}
		owner.host.change(func(h *fakeHost) {
			h.leases = []lb.Lease{{Addr: vip, Pool: "lan", Server: netip.MustParseAddr("192.0.2.254"), Interface: "eth0"}}
		})
		owner.host.dhcp.Poke()
		c.until("the condition says so", func() bool {
			cond := c.condition("n1", v1alpha1.ConditionNetworkReady)
			return cond.Status == metav1.ConditionFalse && strings.Contains(cond.Message, "192.0.2.254")
		})
	})
}
