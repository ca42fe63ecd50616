package soak

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	namespace   = "default"
	controllers = 2
	services    = 4 // of each kind: layer 2, BGP
	layer2Pool  = "lan"
	bgpPool     = "routed"
	rogueName   = "rogue"

	// The last parts of the addresses of the pool for layer 2.
	firstLayer2, lastLayer2 = 100, 123

	backendPort     = 8080
	speakerMetrics  = "127.0.0.1:7474"
	metricsBasePort = 7471 // of controller number 0, if there were one
)

// world is a lab with Fairlead, and what a run of the soak test keeps of it.
type world struct {
	*lab.Lab
	api      client.Client
	backends []*lab.Backend
	rogue    *rogue
	junk     *junk

	mu    sync.Mutex // guards the field below
	known map[string]netip.Addr
}

// prepare starts Fairlead in a lab, with routers, peers, pools and Services.
func prepare(ctx context.Context, l *lab.Lab) (*world, error) {
	api, err := client.New(l.REST(lab.Admin), client.Options{Scheme: kube.NewScheme()})
	if err != nil {
		return nil, err
	}
	w := &world{Lab: l, api: api, known: map[string]netip.Addr{}}
	for _, do := range []func(context.Context) error{w.addRouters, w.install, w.startAll, w.configure, w.createServices} {
		if err := do(ctx); err != nil {
			return nil, err
		}
	}
	return w, nil
}

func (w *world) addRouters(ctx context.Context) error {
	for _, kind := range []lab.RouterKind{lab.FRR, lab.BIRD} {
		recipe, err := lab.Recipe(kind)
		if err != nil {
			return err
		}
		if _, err := w.AddRouter(ctx, lab.RouterSpec{Kind: kind, Config: withAllNodes(kind, recipe, len(w.Nodes))}); err != nil {
			return err
		}
	}
	return nil
}

// withAllNodes adds peers to a recipe, which has the first three nodes.
func withAllNodes(kind lab.RouterKind, recipe string, nodes int) string {
	const inRecipe = 3
	var four, six, bird strings.Builder
	for n := inRecipe + 1; n <= nodes; n++ {
		fmt.Fprintf(&four, " neighbor 172.30.0.%d peer-group fairlead\n", 10+n)
		fmt.Fprintf(&six, " neighbor fd30::%d peer-group fairlead6\n", 10+n)
		fmt.Fprintf(&bird, "protocol bgp n%d_4 from node4 { neighbor 172.30.0.%d as 64513; }\n", n, 10+n)
		fmt.Fprintf(&bird, "protocol bgp n%d_6 from node6 { neighbor fd30::%d as 64513; }\n", n, 10+n)
	}
	if kind == lab.BIRD {
		return recipe + bird.String()
	}
	recipe = strings.Replace(recipe, " neighbor 172.30.0.13 peer-group fairlead\n", " neighbor 172.30.0.13 peer-group fairlead\n"+four.String(), 1)
	return strings.Replace(recipe, " neighbor fd30::13 peer-group fairlead6\n", " neighbor fd30::13 peer-group fairlead6\n"+six.String(), 1)
}

// install installs what config/default does, with a token for each speaker that is
// bound to its node. Nothing runs the pods that the manifests ask for.
func (w *world) install(ctx context.Context) error {
	if err := w.Install(ctx); err != nil {
		return err
	}
	if err := w.Apply(ctx, "../../config/deploy"); err != nil {
		return err
	}
	for _, n := range w.Nodes {
		if err := w.BoundSpeaker(ctx, "speaker@"+n.Name, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: n.Name}}); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startAll(ctx context.Context) error {
	if err := w.reviveControllers(ctx); err != nil {
		return err
	}
	for _, n := range w.Nodes {
		if err := w.startSpeaker(ctx, n.Name); err != nil {
			return err
		}
	}
	return nil
}

func (w *world) startSpeaker(ctx context.Context, node string) error {
	// Of a flag that is given twice the second counts.
	_, err := w.StartSpeaker(ctx, node, "--kubeconfig", w.Kubeconfig("speaker@"+node), "--metrics-bind-address", speakerMetrics)
	return err
}

func (w *world) speaker(node string) *lab.Process { return w.Process("speaker-" + node) }

func (w *world) controller(number int) *lab.Process { return w.Process(controllerName(number)) }

func controllerName(number int) string {
	if number == 1 {
		return "controller"
	}
	return fmt.Sprintf("controller-%d", number)
}

// reviveControllers starts the controllers that do not run, as a kubelet would: one
// that could not renew its lease for too long ends by itself.
func (w *world) reviveControllers(ctx context.Context) error {
	for n := 1; n <= controllers; n++ {
		if runs(w.controller(n)) {
			continue
		}
		if _, err := w.StartController(ctx, "--metrics-bind-address", fmt.Sprintf("127.0.0.1:%d", metricsBasePort+n)); err != nil {
			return err
		}
	}
	return nil
}

func runs(p *lab.Process) bool {
	if p == nil {
		return false
	}
	select {
	case <-p.Done():
		return false
	default:
		return true
	}
}

func (w *world) router(name string) *lab.Router {
	for _, r := range w.Routers() {
		if r.Name == name {
			return r
		}
	}
	panic("soak: there is no router " + name)
}

// configure creates pools, advertisements and peers. The rogue is a peer all the time.
func (w *world) configure(ctx context.Context) error {
	pool := func(name string, addresses ...v1alpha1.AddressRange) client.Object {
		return &v1alpha1.IPAddressPool{ObjectMeta: named(name), Spec: v1alpha1.IPAddressPoolSpec{Addresses: addresses}}
	}
	objects := []client.Object{
		pool(layer2Pool, v1alpha1.AddressRange(fmt.Sprintf("172.30.0.%d-172.30.0.%d", firstLayer2, lastLayer2)),
			v1alpha1.AddressRange(fmt.Sprintf("fd30::%d-fd30::%d", firstLayer2, lastLayer2))),
		pool(bgpPool, "10.30.0.0/24", "fd10:30::/120"),
		&v1alpha1.L2Advertisement{ObjectMeta: named(layer2Pool), Spec: v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{layer2Pool}}},
		&v1alpha1.BGPAdvertisement{ObjectMeta: named(bgpPool), Spec: v1alpha1.BGPAdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{bgpPool}}},
		&v1alpha1.BFDProfile{ObjectMeta: named("fast")},
		peer(rogueName, w.Router.IPv4, ""),
	}
	for _, r := range w.Routers() {
		objects = append(objects, peer(r.Name, r.IPv4, "fast"), peer(r.Name+"-6", r.IPv6, "fast"))
	}
	for _, o := range objects {
		if err := w.api.Create(ctx, o); err != nil {
			return err
		}
	}
	return nil
}

func named(name string) metav1.ObjectMeta { return metav1.ObjectMeta{Name: name} }

func peer(name string, a netip.Addr, bfd v1alpha1.ObjectName) client.Object {
	return &v1alpha1.BGPPeer{ObjectMeta: named(name), Spec: v1alpha1.BGPPeerSpec{
		MyASN: lab.ClusterASN, PeerASN: lab.RouterASN, PeerAddress: v1alpha1.IPAddress(a.String()), BFDProfile: bfd,
		HoldTime: &metav1.Duration{Duration: 9 * time.Second}, ConnectTime: &metav1.Duration{Duration: time.Second},
	}}
}

// createServices creates the Services that are there for the whole run, and their
// backends: one on each node, which all Services have in common.
func (w *world) createServices(ctx context.Context) error {
	ports := []discoveryv1.EndpointPort{
		{Name: new("http"), Protocol: new(corev1.ProtocolTCP), Port: new(int32(backendPort))},
		{Name: new("echo"), Protocol: new(corev1.ProtocolUDP), Port: new(int32(backendPort))},
	}
	for _, n := range w.Nodes {
		b, err := w.AddBackend(ctx, lab.BackendSpec{Service: "backends", Name: "backend-" + n.Name, Node: n.Name, Ports: ports})
		if err != nil {
			return err
		}
		w.backends = append(w.backends, b)
	}
	for i := range services {
		for _, bgp := range []bool{false, true} {
			if err := w.createService(ctx, serviceName(i, bgp), bgp); err != nil {
				return err
			}
		}
	}
	return nil
}

func serviceName(index int, bgp bool) string {
	if bgp {
		return fmt.Sprint("bgp-", index)
	}
	return fmt.Sprint("layer2-", index)
}

// createService creates a Service with an address of each family.
func (w *world) createService(ctx context.Context, name string, bgp bool) error {
	pool := layer2Pool
	if bgp {
		pool = bgpPool
	}
	svc := &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Annotations: map[string]string{v1alpha1.AnnotationAddressPool: pool}},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, IPFamilyPolicy: new(corev1.IPFamilyPolicyRequireDualStack),
			Ports: []corev1.ServicePort{
				{Name: "http", Port: 80, Protocol: corev1.ProtocolTCP, TargetPort: intstr.FromInt32(backendPort)},
				{Name: "echo", Port: 80, Protocol: corev1.ProtocolUDP, TargetPort: intstr.FromInt32(backendPort)},
			},
		},
	}
	if err := client.IgnoreAlreadyExists(w.api.Create(ctx, svc)); err != nil {
		return err
	}
	for _, slice := range w.endpoints(name) {
		if err := client.IgnoreAlreadyExists(w.api.Create(ctx, slice)); err != nil {
			return err
		}
	}
	return nil
}

// endpoints are all backends, as endpoints of a Service.
func (w *world) endpoints(service string) []client.Object {
	four, six := w.slice(service, discoveryv1.AddressTypeIPv4), w.slice(service, discoveryv1.AddressTypeIPv6)
	for _, b := range w.backends {
		four.Ports, six.Ports = b.Spec.Ports, b.Spec.Ports
		ready := discoveryv1.EndpointConditions{Ready: new(true)}
		four.Endpoints = append(four.Endpoints, discoveryv1.Endpoint{Addresses: []string{b.Pod.IPv4.String()}, NodeName: &b.Spec.Node, Conditions: ready})
		six.Endpoints = append(six.Endpoints, discoveryv1.Endpoint{Addresses: []string{b.Pod.IPv6.String()}, NodeName: &b.Spec.Node, Conditions: ready})
	}
	return []client.Object{four, six}
}

func (w *world) slice(service string, family discoveryv1.AddressType) *discoveryv1.EndpointSlice {
	return &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: namespace, Name: service + "-" + strings.ToLower(string(family)),
			Labels: map[string]string{discoveryv1.LabelServiceName: service},
		},
		AddressType: family,
	}
}

func (w *world) deleteService(ctx context.Context, name string) error {
	objects := append(w.endpoints(name), &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}})
	var errs []error
	for _, o := range objects {
		errs = append(errs, client.IgnoreNotFound(w.api.Delete(ctx, o)))
	}
	return errors.Join(errs...)
}

func (w *world) merge(ctx context.Context, o client.Object, patch string) error {
	return w.api.Patch(ctx, o, client.RawPatch("application/merge-patch+json", []byte(patch)))
}

func (w *world) startRogue(misbehaviour string, seed uint64) (err error) {
	w.rogue, err = startRogue(w.Router, misbehaviour, seed)
	return err
}

func (w *world) stopRogue() error {
	w.rogue.stop()
	return nil
}

// learn keeps the first address of each Service, for the next round.
func (w *world) learn(o *Observation) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range o.Services {
		if len(s.Addresses) > 0 {
			w.known[s.Name] = s.Addresses[0]
		}
	}
}

// knownAddress is the first address of a Service in the last calm.
func (w *world) knownAddress(service string) netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.known[service]
}

// pause waits for so long, or until ctx ends.
func (w *world) pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}
