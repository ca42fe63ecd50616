package lab

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
)

// defaultBackendPort is used where a Service names its target port.
const defaultBackendPort = 8080

// BackendSpec describes a backend of a Service.
type BackendSpec struct {
	Namespace string // of the Service; empty means "default"
	Service   string
	Name      string // unique in the namespace
	Node      string

	// Families are those that the backend has endpoints of; by default, those of the Service.
	Families []corev1.IPFamily

	// Ports are what the endpoints say. By default they follow from the
	// Service, which must exist then.
	Ports []discoveryv1.EndpointPort
}

// Backend is a pod without a kubelet: a namespace routed from its node, with a
// program that tells who asked it and where it is. It has EndpointSlices of
// its own, one per family, which is as good to a reader as shared ones.
type Backend struct {
	Spec    BackendSpec
	Pod     *Host
	Process *Process

	families []corev1.IPFamily
}

// AddBackend starts a backend, and adds it to its Service once it listens.
func (l *Lab) AddBackend(ctx context.Context, spec BackendSpec) (*Backend, error) {
	if l.opts.Pods {
		return nil, fmt.Errorf("add backend %s: nodes of this lab run pods: use a Deployment with PodImage", spec.Name)
	}
	if spec.Namespace == "" {
		spec.Namespace = metav1.NamespaceDefault
	}
	b, err := l.addBackend(ctx, spec)
	if err != nil {
		return nil, fmt.Errorf("add backend %s/%s: %w", spec.Namespace, spec.Name, err)
	}
	return b, nil
}

func (l *Lab) addBackend(ctx context.Context, spec BackendSpec) (*Backend, error) {
	bin, err := l.build(ctx, "lab-backend", "test/lab/cmd/backend")
	if err != nil {
		return nil, err
	}
	b := &Backend{Spec: spec, families: []corev1.IPFamily{corev1.IPv4Protocol, corev1.IPv6Protocol}}
	if err := b.askService(ctx, l); err != nil {
		return nil, err
	}
	if len(spec.Families) > 0 {
		b.families = spec.Families
	}
	if b.Pod, err = l.makePod(ctx, l.Node(spec.Node), spec.Namespace+"-"+spec.Name); err != nil {
		return nil, err
	}
	args := []string{bin, "--node", spec.Node, "--name", spec.Name}
	for _, p := range b.Spec.Ports {
		args = append(args, fmt.Sprintf("%s/%d", strings.ToLower(string(*p.Protocol)), *p.Port))
	}
	if b.Process, err = b.Pod.Start("backend-"+spec.Namespace+"-"+spec.Name, args...); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if err := b.Process.wait(ctx, "listening", func(context.Context) error { return b.Process.said("listening") }); err != nil {
		return nil, err
	}
	return b, b.SetReady(ctx, true)
}

// askService takes the families and the ports from the Service.
func (b *Backend) askService(ctx context.Context, l *Lab) error {
	api, err := l.API()
	if err != nil {
		return err
	}
	var svc corev1.Service
	err = api.Get(ctx, client.ObjectKey{Namespace: b.Spec.Namespace, Name: b.Spec.Service}, &svc)
	if len(b.Spec.Ports) > 0 {
		if err == nil {
			b.families = svc.Spec.IPFamilies
		}
		return client.IgnoreNotFound(err)
	}
	if err != nil {
		return err
	}
	b.families = svc.Spec.IPFamilies
	for _, p := range svc.Spec.Ports {
		port := p.TargetPort.IntVal
		if p.TargetPort.Type == intstr.String {
			port = defaultBackendPort
		}
		b.Spec.Ports = append(b.Spec.Ports, discoveryv1.EndpointPort{Name: &p.Name, Protocol: &p.Protocol, Port: &port, AppProtocol: p.AppProtocol})
	}
	return nil
}

// SetReady writes whether the backend may get traffic.
func (b *Backend) SetReady(ctx context.Context, ready bool) error {
	return b.write(ctx, discoveryv1.EndpointConditions{Ready: &ready, Serving: &ready, Terminating: new(bool)})
}

// SetTerminating writes that the backend is being deleted, and whether it still
// serves while it is. It goes on answering all the same.
func (b *Backend) SetTerminating(ctx context.Context, serving bool) error {
	terminating := true
	return b.write(ctx, discoveryv1.EndpointConditions{Ready: new(bool), Serving: &serving, Terminating: &terminating})
}

// Remove takes the backend out of its Service and then stops it.
func (b *Backend) Remove(ctx context.Context) error {
	l := b.Pod.lab
	api, err := l.API()
	if err != nil {
		return err
	}
	for _, f := range b.families {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: b.sliceMeta(f)}
		if err := client.IgnoreNotFound(api.Delete(ctx, slice)); err != nil {
			return fmt.Errorf("remove backend %s/%s: %w", b.Spec.Namespace, b.Spec.Name, err)
		}
	}
	if err := b.Process.Kill(); err != nil {
		return err
	}
	_, err = run(ctx, "ip", "netns", "delete", b.Pod.NS)
	return err
}

func (b *Backend) sliceMeta(f corev1.IPFamily) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Namespace: b.Spec.Namespace,
		Name:      b.Spec.Service + "-" + b.Spec.Name + "-" + strings.ToLower(string(f)),
		Labels: map[string]string{
			discoveryv1.LabelServiceName: b.Spec.Service,
			discoveryv1.LabelManagedBy:   "lab.fairlead.dev",
		},
	}
}

func (b *Backend) write(ctx context.Context, conditions discoveryv1.EndpointConditions) error {
	api, err := b.Pod.lab.API()
	if err != nil {
		return err
	}
	for _, f := range b.families {
		slice := &discoveryv1.EndpointSlice{ObjectMeta: b.sliceMeta(f)}
		labels := slice.Labels
		_, err := controllerutil.CreateOrUpdate(ctx, api, slice, func() error {
			slice.Labels = labels
			slice.AddressType = discoveryv1.AddressType(f)
			slice.Ports = b.Spec.Ports
			slice.Endpoints = []discoveryv1.Endpoint{{
				Addresses:  []string{b.Pod.address(f)},
				NodeName:   &b.Spec.Node,
				Conditions: conditions,
			}}
			return nil
		})
		if err != nil {
			return fmt.Errorf("write endpoints of backend %s/%s: %w", b.Spec.Namespace, b.Spec.Name, err)
		}
	}
	return nil
}

func (h *Host) address(f corev1.IPFamily) string {
	if f == corev1.IPv6Protocol {
		return h.IPv6.String()
	}
	return h.IPv4.String()
}

// makePod makes a namespace that hangs off a node by a cable of its own. There
// is no bridge on the node: whatever a pod sends goes through the node's
// network stack and so through kube-proxy's rules.
func (l *Lab) makePod(ctx context.Context, node *Host, name string) (*Host, error) {
	pod := &Host{Name: name, NS: l.namespace("pod-" + name), machine: node.Name, lab: l}
	if err := l.addNamespaces(ctx, []*Host{pod}); err != nil {
		return nil, err
	}
	if err := pod.setSysctls(hostSysctls); err != nil {
		return nil, err
	}
	k, err := l.plugPod(ctx, node, pod)
	if err != nil {
		return nil, err
	}
	pod.IPv4, pod.IPv6, pod.MAC = pod4(node.node, k), pod6(node.node, k), mac(0x10+node.node, k)
	dev, here, there := podPort(k), mac(0x80+node.node, k), pod.MAC

	// Both ends know each other's MAC, so the first packet waits for nobody,
	// and the node needs no address on this cable.
	err = ipBatch(ctx, pod.NS, []string{
		"link set lo up",
		"link set eth0 up",
		fmt.Sprintf("addr add %s/32 dev eth0", pod.IPv4),
		fmt.Sprintf("addr add %s/128 dev eth0 nodad", pod.IPv6),
		fmt.Sprintf("neigh add 169.254.1.1 lladdr %s dev eth0 nud permanent", here),
		fmt.Sprintf("neigh add fe80::1 lladdr %s dev eth0 nud permanent", here),
		"route add 0.0.0.0/0 via 169.254.1.1 dev eth0 onlink",
		"route add ::/0 via fe80::1 dev eth0 onlink",
	})
	if err != nil {
		return nil, err
	}
	return pod, ipBatch(ctx, node.NS, []string{
		fmt.Sprintf("link set %s up", dev),
		fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", pod.IPv4, there, dev),
		fmt.Sprintf("neigh add %s lladdr %s dev %s nud permanent", pod.IPv6, there, dev),
		fmt.Sprintf("route add %s/32 dev %s src %s", pod.IPv4, dev, node.IPv4),
		fmt.Sprintf("route add %s/128 dev %s src %s", pod.IPv6, dev, node.IPv6),
	})
}

// plugPod makes the cable and thereby finds the pod's number: that of the first
// port which the node does not have yet.
func (l *Lab) plugPod(ctx context.Context, node, pod *Host) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	out, err := run(ctx, "ip", "-n", node.NS, "-o", "link", "show", "type", "veth")
	if err != nil {
		return 0, err
	}
	var taken []int
	for _, line := range strings.Split(string(out), "\n") {
		if _, rest, ok := strings.Cut(line, ": pod"); ok {
			number, _, _ := strings.Cut(rest, "@")
			if n, err := strconv.Atoi(number); err == nil {
				taken = append(taken, n)
			}
		}
	}
	for k := 2; k < 255; k++ {
		if slices.Contains(taken, k) {
			continue
		}
		return k, ipBatch(ctx, node.NS, []string{fmt.Sprintf("link add %s address %s type veth peer name eth0 address %s netns %s",
			podPort(k), mac(0x80+node.node, k), mac(0x10+node.node, k), pod.NS)})
	}
	return 0, fmt.Errorf("%s has no room for another pod", node.Name)
}

func podPort(k int) string { return fmt.Sprintf("pod%d", k) }
