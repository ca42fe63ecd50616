package e2e

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	eventsv1 "k8s.io/api/events/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/util/intstr"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// Two labs serve all tests, one after the other. Each is started by the first
// test that asks for it, so that a run of other tests does not pay for it.
var (
	// control has an API server and Fairlead's kinds; controllers are up to the test.
	control = shared{options: lab.Options{ControlPlaneOnly: true}, prepare: (*lab.Lab).Install}
	// cluster has three nodes with Fairlead running.
	cluster = shared{prepare: func(l *lab.Lab, ctx context.Context) error {
		if err := l.Install(ctx); err != nil {
			return err
		}
		return l.StartFairlead(ctx)
	}}
)

const (
	// soon is for what takes milliseconds on an idle machine, and shall not fail
	// on a busy one.
	soon = 10 * time.Second
	// layer2 is what a newcomer applies.
	layer2 = "../../examples/layer2.yaml"
	// mostLogLines is what a process may log at info level in a run of all tests.
	mostLogLines = 200
)

func TestMain(m *testing.M) {
	if args := os.Getenv(thiefEnv); args != "" {
		if err := steal(args); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	for _, s := range []*shared{&cluster, &control, &routed, &bare, &seen} {
		if err := s.stop(code != 0); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}

// shared is a lab that many tests use.
type shared struct {
	options lab.Options
	prepare func(*lab.Lab, context.Context) error

	once sync.Once
	lab  *lab.Lab
	api  client.WithWatch
	err  error
}

// start starts the lab, unless a test before did.
func (s *shared) start(t testing.TB) {
	t.Helper()
	lab.Require(t)
	s.once.Do(func() { s.err = s.bringUp() })
	if s.err != nil {
		t.Fatal(s.err)
	}
}

func (s *shared) bringUp() error {
	ctx := context.Background() // the lab would end with it
	l, err := lab.Start(ctx, s.options)
	if err != nil {
		return err
	}
	s.lab = l
	scheme := runtime.NewScheme()
	if err := errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return err
	}
	cfg := l.REST(lab.Admin)
	cfg.QPS = -1
	if s.api, err = client.NewWithWatch(cfg, client.Options{Scheme: scheme}); err != nil {
		return err
	}
	return s.prepare(l, ctx)
}

// stop ends the lab. An error says that it could not, or that a process of
// Fairlead wrote more than a person would read.
func (s *shared) stop(failed bool) error {
	if s.lab == nil {
		return nil
	}
	var errs []error
	for _, log := range logs(s.lab) {
		b, err := os.ReadFile(log)
		if n := bytes.Count(b, []byte("\n")); n > mostLogLines {
			err = fmt.Errorf("%s has %d lines, at most %d are wanted at info level", filepath.Base(log), n, mostLogLines)
		}
		errs = append(errs, err)
	}
	if to := os.Getenv("FAIRLEAD_LAB_LOGS"); to != "" && (failed || errors.Join(errs...) != nil) {
		errs = append(errs, os.CopyFS(filepath.Join(to, s.lab.ID), os.DirFS(filepath.Join(s.lab.Dir, "logs"))))
	}
	return errors.Join(append(errs, s.lab.Close())...)
}

// logs are the logs of Fairlead's processes.
func logs(l *lab.Lab) []string {
	controllers, _ := filepath.Glob(filepath.Join(l.Dir, "logs", "controller*.log"))
	speakers, _ := filepath.Glob(filepath.Join(l.Dir, "logs", "speaker-*.log"))
	return append(controllers, speakers...)
}

// corner is a test's place in a shared lab: what it makes is gone when it ends.
type corner struct {
	*lab.Lab
	api         client.WithWatch
	namespace   string
	controllers []*lab.Process // those that the test started

	apiStarted bool // during the test
}

// StartAPI starts the API server. Until it has read the roles, it forbids what they grant.
func (c *corner) StartAPI(ctx context.Context) error {
	c.apiStarted = true
	return c.Lab.StartAPI(ctx)
}

func (s *shared) corner(t *testing.T) *corner {
	t.Helper()
	s.start(t)
	c := &corner{Lab: s.lab, api: s.api, namespace: "e2e-" + strings.ToLower(rand.Text()[:5])}
	// Nobody in the lab ends namespaces that are deleted, so it stays.
	must(t, c.api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: c.namespace}}))
	before := map[string]int64{}
	for _, log := range logs(s.lab) {
		if info, err := os.Stat(log); err == nil {
			before[log] = info.Size()
		}
	}
	t.Cleanup(func() {
		for _, log := range logs(s.lab) {
			c.checkLog(t, log, before[log])
		}
	})
	// Not before pools are gone, which takes a controller.
	t.Cleanup(func() {
		for _, p := range c.controllers {
			must(t, p.Stop(context.Background()))
		}
	})
	return c
}

// checkLog looks for what no test may cause: a right that a role does not
// grant, two goroutines in each other's way, an end that nobody asked for.
func (c *corner) checkLog(t *testing.T, log string, from int64) {
	t.Helper()
	b, err := os.ReadFile(log)
	must(t, err)
	for line := range bytes.Lines(b[from:]) {
		for _, bad := range []string{"forbidden", "DATA RACE", "panic:"} {
			if bytes.Contains(line, []byte(bad)) && (bad != "forbidden" || !c.apiStarted) {
				t.Errorf("%s: %s", filepath.Base(log), line[:min(len(line), 300)])
			}
		}
	}
	if t.Failed() {
		end := bytes.Split(bytes.TrimSpace(b[from:]), []byte("\n"))
		t.Logf("the end of %s:\n%s", filepath.Base(log), bytes.Join(end[max(0, len(end)-8):], []byte("\n")))
	}
}

// create creates an object that goes when the test ends.
func (c *corner) create(t *testing.T, o client.Object) {
	t.Helper()
	must(t, c.api.Create(t.Context(), o))
	t.Cleanup(func() { c.remove(t, o) })
}

// remove deletes an object, if it is still there, and waits until it is gone.
func (c *corner) remove(t *testing.T, o client.Object) {
	t.Helper()
	ctx := context.Background() // that of the test has ended in a cleanup
	must(t, client.IgnoreNotFound(c.api.Delete(ctx, o)))
	c.untilGone(t, o)
}

// untilGone waits until the object is gone.
func (c *corner) untilGone(t *testing.T, o client.Object) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		err := c.api.Get(context.Background(), client.ObjectKeyFromObject(o), o)
		if err == nil {
			return fmt.Errorf("%T %s is still there", o, o.GetName())
		}
		return client.IgnoreNotFound(err)
	})
}

// apply applies a file as a user would; what it made goes when the test ends.
func (c *corner) apply(t *testing.T, file string) {
	t.Helper()
	_, err := c.Kubectl(t.Context(), "apply", "-f", file)
	t.Cleanup(func() {
		if _, err := c.Kubectl(context.Background(), "delete", "--ignore-not-found", "-f", file); err != nil {
			t.Error(err)
		}
	})
	must(t, err)
}

// pool creates a pool, and waits until the controller has heard of it, if one runs:
// then one that was there before, maybe with the same addresses, gives no more.
func (c *corner) pool(t *testing.T, name string, addresses ...v1alpha1.AddressRange) *v1alpha1.IPAddressPool {
	t.Helper()
	return c.poolWith(t, name, func(*v1alpha1.IPAddressPoolSpec) {}, addresses...)
}

// poolWith does so with a pool that has more to its spec than addresses.
func (c *corner) poolWith(t *testing.T, name string, change func(*v1alpha1.IPAddressPoolSpec), addresses ...v1alpha1.AddressRange) *v1alpha1.IPAddressPool {
	t.Helper()
	p := &v1alpha1.IPAddressPool{ObjectMeta: meta1(name), Spec: v1alpha1.IPAddressPoolSpec{Addresses: addresses}}
	change(&p.Spec)
	c.create(t, p)
	if controller := c.Process("controller"); controller != nil && controller.Signal(0) == nil {
		c.settled(t, p)
	}
	return p
}

// newService returns a LoadBalancer Service with a TCP and a UDP port, changed as told.
func (c *corner) newService(name string, changes ...func(*corev1.Service)) *corev1.Service {
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name, Annotations: map[string]string{}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer,
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(8080)},
				{Name: "echo", Port: 80, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(8080)},
			},
		},
	}
	for _, change := range changes {
		change(svc)
	}
	return svc
}

// service creates a LoadBalancer Service, changed as told.
func (c *corner) service(t *testing.T, name string, changes ...func(*corev1.Service)) *corev1.Service {
	t.Helper()
	svc := c.newService(name, changes...)
	c.create(t, svc)
	return svc
}

func dualStack(svc *corev1.Service) {
	svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
}

func localTraffic(svc *corev1.Service) {
	svc.Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
}

func annotated(key, value string) func(*corev1.Service) {
	return func(svc *corev1.Service) { metav1.SetMetaDataAnnotation(&svc.ObjectMeta, key, value) }
}

// freshName is a name that no object had: a pool remembers what was freed a
// moment ago, also when it was deleted and created anew.
func (c *corner) freshName(kind string) string { return kind + "-" + strings.ToLower(rand.Text()[:5]) }

// ports gives the Service these ports and no others, written as "TCP/80".
func ports(list ...string) func(*corev1.Service) {
	return func(svc *corev1.Service) {
		svc.Spec.Ports = nil
		for _, s := range list {
			protocol, number, _ := strings.Cut(s, "/")
			n, _ := strconv.ParseInt(number, 10, 32)
			svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
				Name: strings.ToLower(protocol) + "-" + number, Port: int32(n), Protocol: corev1.Protocol(protocol), TargetPort: intstr.FromInt32(8080),
			})
		}
	}
}

// neighbour is the corner in another namespace.
func (c *corner) neighbour(t *testing.T, labels map[string]string) *corner {
	t.Helper()
	n := *c
	n.namespace = "e2e-" + strings.ToLower(rand.Text()[:5])
	must(t, c.api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: n.namespace, Labels: labels}}))
	return &n
}

// backend adds a backend to a Service; it goes when the test ends.
func (c *corner) backend(t *testing.T, svc *corev1.Service, node string) *lab.Backend {
	t.Helper()
	b, err := c.AddBackend(t.Context(), lab.BackendSpec{
		Namespace: svc.Namespace, Service: svc.Name, Name: svc.Name + "-" + node, Node: node,
	})
	must(t, err)
	t.Cleanup(func() { must(t, b.Remove(context.Background())) })
	return b
}

// backendOf adds a backend that has endpoints of one address family.
func (c *corner) backendOf(t *testing.T, f corev1.IPFamily, svc *corev1.Service, node string) *lab.Backend {
	t.Helper()
	b, err := c.AddBackend(t.Context(), lab.BackendSpec{
		Namespace: svc.Namespace, Service: svc.Name, Name: svc.Name + "-" + node + "-" + strings.ToLower(string(f)), Node: node, Families: []corev1.IPFamily{f},
	})
	must(t, err)
	t.Cleanup(func() { must(t, b.Remove(context.Background())) })
	return b
}

// backends adds a backend on each node, all ready.
func (c *corner) backends(t *testing.T, svc *corev1.Service) map[string]*lab.Backend {
	t.Helper()
	all := map[string]*lab.Backend{}
	for _, node := range c.Nodes {
		all[node.Name] = c.backend(t, svc, node.Name)
	}
	return all
}

// until reads the object again and again until f is content with it.
func (c *corner) until(t *testing.T, o client.Object, f func() error) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		return f()
	})
}

// change reads the object, changes and writes it, until nobody came in between.
func (c *corner) change(t *testing.T, o client.Object, f func()) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return err
		}
		f()
		err := c.api.Update(t.Context(), o)
		if err != nil && !apierrors.IsConflict(err) {
			t.Fatal(err)
		}
		return err
	})
}

// addresses waits until the Service has an address per family and returns them.
func (c *corner) addresses(t *testing.T, svc *corev1.Service) []netip.Addr {
	t.Helper()
	c.until(t, svc, func() error {
		if got := ingress(svc); len(got) != len(svc.Spec.IPFamilies) {
			return fmt.Errorf("%s has the addresses %v, conditions %s", svc.Name, got, told(svc.Status.Conditions))
		}
		return nil
	})
	return ingress(svc)
}

// ingress is the addresses in the Service's status.
func ingress(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, i := range svc.Status.LoadBalancer.Ingress {
		out = append(out, netip.MustParseAddr(i.IP))
	}
	return out
}

// untilService waits for a condition of a Service.
func (c *corner) untilService(t *testing.T, svc *corev1.Service, typ string, ok bool, reason string, words ...string) {
	t.Helper()
	c.until(t, svc, func() error { return says(svc.Status.Conditions, typ, ok, reason, words...) })
}

// says checks a condition; its message must have all the words.
func says(conditions []metav1.Condition, typ string, ok bool, reason string, words ...string) error {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	got := meta.FindStatusCondition(conditions, typ)
	if got != nil && got.Status == status && got.Reason == reason &&
		!slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(got.Message, w) }) {
		return nil
	}
	return fmt.Errorf("want %s %s %s %q, have %s", typ, status, reason, words, told(conditions))
}

// told is conditions in one line.
func told(conditions []metav1.Condition) string {
	if len(conditions) == 0 {
		return "no conditions"
	}
	var out []string
	for _, c := range conditions {
		out = append(out, fmt.Sprintf("%s=%s %s %q", c.Type, c.Status, c.Reason, c.Message))
	}
	return strings.Join(out, ", ")
}

// has waits until the Service has these addresses and no others, and its
// condition says so.
func (c *corner) has(t *testing.T, svc *corev1.Service, want ...string) {
	t.Helper()
	c.until(t, svc, func() error {
		if got := fmt.Sprint(ingress(svc)); got != fmt.Sprint(want) {
			return fmt.Errorf("%s has %v, want %v, %s", svc.Name, got, want, told(svc.Status.Conditions))
		}
		return says(svc.Status.Conditions, assigned, true, "Assigned", want...)
	})
}

// refused waits until the Service says why it has no address, and checks that it
// has none.
func (c *corner) refused(t *testing.T, svc *corev1.Service, reason string, words ...string) {
	t.Helper()
	c.untilService(t, svc, assigned, false, reason, words...)
	if got := ingress(svc); len(got) > 0 {
		t.Errorf("%s is refused and has %v", svc.Name, got)
	}
}

// touch changes a Service so that it is decided anew.
func (c *corner) touch(t *testing.T, svc *corev1.Service) {
	t.Helper()
	c.change(t, svc, func() { metav1.SetMetaDataAnnotation(&svc.ObjectMeta, "example.com/touched", rand.Text()) })
}

// noted is the Services as they are, once the report of each is complete.
func (c *corner) noted(t *testing.T, services ...*corev1.Service) *notes {
	t.Helper()
	n := &notes{c: c}
	for _, svc := range services {
		if len(ingress(svc)) > 0 {
			c.untilService(t, svc, announced, false, "NoAdvertisement", fmt.Sprint(ingress(svc)[0]))
		}
		must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc))
		n.had = append(n.had, svc.DeepCopy())
	}
	return n
}

// notes is what some Services were like.
type notes struct {
	c   *corner
	had []*corev1.Service
}

// same checks that nobody wrote any of the Services since.
func (n *notes) same(t *testing.T) {
	t.Helper()
	for _, had := range n.had {
		now := &corev1.Service{}
		must(t, n.c.api.Get(t.Context(), client.ObjectKeyFromObject(had), now))
		if now.ResourceVersion != had.ResourceVersion {
			t.Errorf("%s was written: it had %v, %s, and has %v, %s",
				had.Name, ingress(had), told(had.Status.Conditions), ingress(now), told(now.Status.Conditions))
		}
	}
}

// crash kills a controller, the only one that runs, and starts another, which
// leads when crash returns. What happens meanwhile happens without a controller.
func (c *corner) crash(t *testing.T, running *lab.Process, meanwhile func()) *lab.Process {
	t.Helper()
	must(t, running.Kill())
	if meanwhile != nil {
		meanwhile()
	}
	led := timesLed(t, running)
	running = c.controller(t) // its log goes on where that of the last one ended
	lab.Eventually(t, 30*time.Second, func() error {
		if timesLed(t, running) == led {
			return errors.New("the controller does not lead yet")
		}
		return nil
	})
	return running
}

// leadership is the lease that says which controller leads; if there is none, it has no holder.
func (c *corner) leadership() (*coordinationv1.Lease, error) {
	lease := &coordinationv1.Lease{ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: "fairlead-controller"}}
	return lease, client.IgnoreNotFound(c.api.Get(context.Background(), client.ObjectKeyFromObject(lease), lease))
}

// reviveController waits until the controller says anew that it leads, and starts
// another if it ends, as one does that could not say so for too long.
func (c *corner) reviveController(t *testing.T) {
	t.Helper()
	p, since := c.Process("controller"), time.Now()
	lab.Eventually(t, 2*soon, func() error {
		if p.Signal(0) != nil {
			var err error
			p, err = c.StartController(context.Background()) // cleanups do it, too
			must(t, err)
		}
		lease, err := c.leadership()
		if err == nil && (ptr.Deref(lease.Spec.HolderIdentity, "") == "" || !lease.Spec.RenewTime.After(since)) {
			err = fmt.Errorf("no controller leads since %v: %+v", since, lease.Spec)
		}
		return err
	})
	must(t, p.Ready(context.Background()))
}

// settled waits until the controller has answered the last change of the pool.
func (c *corner) settled(t *testing.T, p *v1alpha1.IPAddressPool) {
	t.Helper()
	c.until(t, p, func() error {
		if got := meta.FindStatusCondition(p.Status.Conditions, ready); got == nil || got.ObservedGeneration != p.Generation {
			return fmt.Errorf("pool %s of generation %d says %s", p.Name, p.Generation, told(p.Status.Conditions))
		}
		return nil
	})
}

// held waits until the pool is kept while it is in use: its first address is in a
// Service's status a moment before.
func (c *corner) held(t *testing.T, p *v1alpha1.IPAddressPool) {
	t.Helper()
	c.until(t, p, func() error {
		if !controllerutil.ContainsFinalizer(p, v1alpha1.FinalizerPoolInUse) {
			return fmt.Errorf("pool %s has the finalizers %v", p.Name, p.Finalizers)
		}
		return nil
	})
}

// edit changes the pool's spec and waits until the controller has answered.
func (c *corner) edit(t *testing.T, p *v1alpha1.IPAddressPool, f func(*v1alpha1.IPAddressPoolSpec)) {
	t.Helper()
	c.change(t, p, func() { f(&p.Spec) })
	c.settled(t, p)
}

// events are the notes of the events of a reason about the Service, oldest
// first; one that stands for several is there as often.
func (c *corner) events(t *testing.T, svc *corev1.Service, reason string) (found []string) {
	t.Helper()
	var list eventsv1.EventList
	must(t, c.api.List(t.Context(), &list, client.InNamespace(svc.Namespace)))
	slices.SortFunc(list.Items, func(x, y eventsv1.Event) int { return x.EventTime.Compare(y.EventTime.Time) })
	for _, e := range list.Items {
		if e.Regarding.UID != svc.UID || e.Reason != reason {
			continue
		}
		found = append(found, e.Note)
		for n := int32(1); e.Series != nil && n < e.Series.Count; n++ {
			found = append(found, e.Note)
		}
	}
	return found
}

// untilEvents waits until the Service has as many events of the reason as there
// are words, and each has its words.
func (c *corner) untilEvents(t *testing.T, svc *corev1.Service, reason string, words ...string) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		got := c.events(t, svc, reason)
		if len(got) != len(words) {
			return fmt.Errorf("%s has the events %s %q, want %q", svc.Name, reason, got, words)
		}
		for i, w := range words {
			if !strings.Contains(got[i], w) {
				return fmt.Errorf("%s: event %s %d says %q, want %q", svc.Name, reason, i, got[i], w)
			}
		}
		return nil
	})
}

// nextSecond waits until the API server gives another time of creation: they
// have whole seconds, and names decide between equal ones.
func nextSecond(t *testing.T, o client.Object) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		if time.Now().Unix() <= o.GetCreationTimestamp().Unix() {
			return errors.New("it is the same second")
		}
		return nil
	})
}

// owner waits until one node alone answers for the address and returns it.
func (c *corner) owner(t *testing.T, a netip.Addr) string {
	t.Helper()
	w, err := c.Observer.WatchNeighbour(a)
	must(t, err)
	defer w.Stop()
	return onlyOwner(t, w, soon)
}

// onlyOwner waits until one node alone has answered for a while, though not one
// of others.
func onlyOwner(t *testing.T, w *lab.NeighbourWatch, within time.Duration, others ...string) string {
	t.Helper()
	var who []string
	lab.Eventually(t, within, func() error {
		who = w.Answering(100 * time.Millisecond)
		if len(who) != 1 || slices.Contains(others, who[0]) {
			return fmt.Errorf("%v answer for %s, want one, not of %v\n%v", who, w.IP, others, w)
		}
		return nil
	})
	return who[0]
}

// ask makes one HTTP request and returns the node that answered it.
func ask(from *lab.Host, to netip.Addr) (node string, err error) {
	web := &http.Client{Transport: &http.Transport{DialContext: from.Dial, DisableKeepAlives: true}, Timeout: time.Second}
	res, err := web.Get("http://" + netip.AddrPortFrom(to, 80).String())
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	node, _, _ = strings.Cut(strings.TrimPrefix(string(b), "node="), " ")
	return node, err
}

// served waits until a client gets answers from the address: kube-proxy may need
// a second to hear of it.
func served(t *testing.T, from *lab.Host, to netip.Addr) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		_, err := ask(from, to)
		return err
	})
}

// answered waits until a probe has got that many more answers.
func answered(t *testing.T, p *lab.Probe, more int) {
	t.Helper()
	before := p.Report().Answered
	lab.Eventually(t, 20*time.Second, func() error {
		if r := p.Report(); r.Answered < before+more {
			return fmt.Errorf("want %d more answers than %d: %v", more, before, r)
		}
		return nil
	})
}

// Two ways to ask that even a machine without time for it answers, and that still see
// what is lost: TCP repeats its first packet after a second, and UDP none.
var (
	calmly    = lab.ProbeOptions{Interval: 20 * time.Millisecond, Patience: 900 * time.Millisecond}
	patiently = lab.ProbeOptions{Patience: 3 * time.Second, FreshPort: true}
)

// lost is how many questions of a client were never answered.
func lost(r lab.ProbeReport) int { return r.Sent - r.Answered - r.Late }

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
