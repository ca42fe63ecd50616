// Package clustertest has clusters for tests of reports, and compares their text
// with golden files.
package clustertest

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	coordinationv1 "k8s.io/api/coordination/v1"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

var update = flag.Bool("update", false, "write the golden files again")

// Now is when the clusters were read.
var Now = time.Date(2026, 1, 2, 15, 4, 5, 0, time.UTC)

// Ago returns the time that long before Now.
func Ago(d time.Duration) metav1.Time { return metav1.NewTime(Now.Add(-d)) }

// Install is the default one.
var Install = cluster.Install{Namespace: "fairlead-system", Class: kube.Class{Name: v1alpha1.LoadBalancerClass, Classless: true}}

// Small returns a cluster of three nodes that is well: pool "lan" is announced by
// layer 2, and n1 announces 172.30.0.100 of Service shop/web, which is served on n1
// and n2.
func Small() *Cluster {
	c := &Cluster{Objects: cluster.Objects{Read: Now}}
	for i := 1; i <= 3; i++ {
		c.AddNode(fmt.Sprintf("n%d", i))
	}
	c.AddPool("lan", "172.30.0.100-172.30.0.149")
	c.L2Advertisements = []v1alpha1.L2Advertisement{{ObjectMeta: named("lan"), Status: v1alpha1.L2AdvertisementStatus{Conditions: Ready(true, v1alpha1.ReasonAccepted, "active")}}}
	c.Namespaces = []corev1.Namespace{{ObjectMeta: named("shop")}}
	c.Lease = &coordinationv1.Lease{
		ObjectMeta: metav1.ObjectMeta{Namespace: Install.Namespace, Name: "fairlead-controller"},
		Spec: coordinationv1.LeaseSpec{
			HolderIdentity: ptr.To("cp_1"), LeaseDurationSeconds: ptr.To[int32](8), RenewTime: ptr.To(metav1.NewMicroTime(Now.Add(-time.Second))),
		},
	}
	c.AddService("shop", "web", "172.30.0.100")
	c.Serve("shop", "web", "n1", "n2")
	c.Announce("n1", "172.30.0.100", "shop/web")
	return c
}

// Cluster is objects, with what tests do to them.
type Cluster struct{ cluster.Objects }

// New returns what follows from the objects.
func (c *Cluster) New() *cluster.Cluster { return cluster.New(c.Objects, Install) }

func named(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: name, CreationTimestamp: Ago(time.Hour)}
}

// Ready returns conditions with Ready alone, since ten minutes.
func Ready(ok bool, reason, message string) []metav1.Condition {
	return []metav1.Condition{Condition(v1alpha1.ConditionReady, ok, reason, message)}
}

// Condition returns a condition that is so since ten minutes.
func Condition(typ string, ok bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: typ, Status: status, Reason: reason, Message: message, LastTransitionTime: Ago(10 * time.Minute)}
}

// AddNode adds a node with a speaker that is well. n1 has 172.30.0.11.
func (c *Cluster) AddNode(name string) {
	i := len(c.Nodes) + 1
	c.Nodes = append(c.Nodes, corev1.Node{
		ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}},
		Spec:       corev1.NodeSpec{PodCIDRs: []string{fmt.Sprintf("10.244.%d.0/24", i)}},
		Status:     corev1.NodeStatus{Addresses: []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: fmt.Sprintf("172.30.0.%d", 10+i)}}},
	})
	c.Speakers = append(c.Speakers, v1alpha1.Speaker{ObjectMeta: named(name), Status: v1alpha1.SpeakerStatus{
		GossipEndpoint: fmt.Sprintf("172.30.0.%d:7946", 10+i), Version: "v0.1.0",
		Interfaces: []v1alpha1.SpeakerInterface{{Name: "eth0", MAC: fmt.Sprintf("02:00:00:00:00:%02x", i), Addresses: []string{fmt.Sprintf("172.30.0.%d/24", 10+i)}, Up: true}},
	}})
	for j := range c.Speakers {
		Gossip(&c.Speakers[j], len(c.Speakers), nil, "")
	}
}

// Gossip has a speaker be ready, and in touch with so many, itself included. Others hear
// those that are unheard.
func Gossip(s *v1alpha1.Speaker, inTouch int, unheard []string, keyFault string) {
	s.Status.Gossip = kube.NewSpeakerGossip(inTouch, unheard, keyFault)
	s.Status.Conditions = Ready(true, v1alpha1.ReasonAnnouncing, kube.GossipMessage(s.Status.Gossip))
}

// AddPool adds a pool of these addresses.
func (c *Cluster) AddPool(name string, addresses ...v1alpha1.AddressRange) *v1alpha1.IPAddressPool {
	p := v1alpha1.IPAddressPool{ObjectMeta: named(name), Spec: v1alpha1.IPAddressPoolSpec{Addresses: addresses}}
	p.Status.Conditions = Ready(true, v1alpha1.ReasonAccepted, "active")
	p.Status.AssignedIPv4, p.Status.AvailableIPv4 = 1, 49
	c.Pools = append(c.Pools, p)
	return &c.Pools[len(c.Pools)-1]
}

// AddService adds a LoadBalancer Service with these addresses of pool "lan"; one
// without any has no conditions either.
func (c *Cluster) AddService(namespace, name string, addrs ...string) *corev1.Service {
	svc := corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, CreationTimestamp: Ago(20 * time.Minute)},
		Spec: corev1.ServiceSpec{
			Type: corev1.ServiceTypeLoadBalancer, Selector: map[string]string{"app": name}, IPFamilies: []corev1.IPFamily{corev1.IPv4Protocol},
			ClusterIP: fmt.Sprintf("10.96.0.%d", 10+len(c.Services)), Ports: []corev1.ServicePort{{Port: 80, Protocol: corev1.ProtocolTCP}},
		},
	}
	var said []string
	var d lb.Decision
	for _, a := range addrs {
		d.Grants, d.Picked = append(d.Grants, lb.Grant{Addr: netip.MustParseAddr(a), Pool: "lan"}), append(d.Picked, lb.ReasonLowest)
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{IP: a})
		said = append(said, a+` from pool "lan"`)
	}
	if len(addrs) > 0 {
		svc.Status.Conditions = []metav1.Condition{Condition(v1alpha1.ConditionAddressAssigned, true, "Assigned", strings.Join(said, ", "))}
		kube.SetRecord(&svc, d)
	}
	c.Services = append(c.Services, svc)
	return &c.Services[len(c.Services)-1]
}

// Refuse has a Service say why it has no address.
func (c *Cluster) Refuse(namespace, name, reason, message string) {
	c.Service(namespace, name).Status.Conditions = []metav1.Condition{Condition(v1alpha1.ConditionAddressAssigned, false, reason, message)}
}

// Serve gives a Service a ready IPv4 endpoint on each of these nodes, and none elsewhere.
func (c *Cluster) Serve(namespace, name string, nodes ...string) {
	s := discoveryv1.EndpointSlice{AddressType: discoveryv1.AddressTypeIPv4, ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name, Labels: map[string]string{discoveryv1.LabelServiceName: name}}}
	for _, n := range nodes {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{NodeName: ptr.To(n)})
	}
	c.Endpoints = slices.DeleteFunc(c.Endpoints, func(e discoveryv1.EndpointSlice) bool { return e.Namespace == namespace && e.Name == name })
	c.Endpoints = append(c.Endpoints, s)
}

// Announce has a speaker, and no other, say that it announces an address by layer 2.
func (c *Cluster) Announce(node, address string, services ...string) {
	for i := range c.Speakers {
		s := &c.Speakers[i].Status
		s.Layer2 = slices.DeleteFunc(s.Layer2, func(a v1alpha1.SpeakerAddress) bool { return a.Address == address })
		if c.Speakers[i].Name == node {
			s.Layer2 = append(s.Layer2, v1alpha1.SpeakerAddress{Address: address, Interfaces: []string{"eth0"}, Services: services, Since: Ago(10 * time.Minute)})
		}
		s.OwnedAddresses = int32(len(s.Layer2))
	}
}

// Peer adds a router with a session on each of these nodes, and an advertisement
// that tells it everything.
func (c *Cluster) Peer(name string, nodes ...string) *v1alpha1.BGPPeer {
	p := v1alpha1.BGPPeer{ObjectMeta: named(name), Spec: v1alpha1.BGPPeerSpec{MyASN: 64513, PeerASN: 64512, PeerAddress: "172.30.0.2"}}
	up := int32(len(nodes))
	p.Status = v1alpha1.BGPPeerStatus{SessionsWanted: up, SessionsEstablished: up, Conditions: Ready(true, v1alpha1.ReasonEstablished, fmt.Sprintf("Established %d/%d", up, up))}
	c.BGPPeers = append(c.BGPPeers, p)
	c.BGPAdvertisements = append(c.BGPAdvertisements, v1alpha1.BGPAdvertisement{ObjectMeta: named("all"), Status: v1alpha1.BGPAdvertisementStatus{Conditions: Ready(true, v1alpha1.ReasonAccepted, "active")}})
	for _, n := range nodes {
		s := &c.Speaker(n).Status
		s.Sessions = "1/1"
		s.BGPSessions = append(s.BGPSessions, v1alpha1.SpeakerBGPSession{Peer: name, State: v1alpha1.BGPSessionEstablished, Since: Ago(10 * time.Minute), Prefixes: 1})
	}
	return &c.BGPPeers[len(c.BGPPeers)-1]
}

// Service returns a Service to change.
func (c *Cluster) Service(namespace, name string) *corev1.Service {
	i := slices.IndexFunc(c.Services, func(s corev1.Service) bool { return s.Namespace == namespace && s.Name == name })
	return &c.Services[i]
}

// Node returns a Node to change.
func (c *Cluster) Node(name string) *corev1.Node {
	return &c.Nodes[slices.IndexFunc(c.Nodes, func(n corev1.Node) bool { return n.Name == name })]
}

// Speaker returns a Speaker to change.
func (c *Cluster) Speaker(name string) *v1alpha1.Speaker {
	return &c.Speakers[slices.IndexFunc(c.Speakers, func(s v1alpha1.Speaker) bool { return s.Name == name })]
}

// Addr parses an address.
func Addr(s string) netip.Addr { return netip.MustParseAddr(s) }

// Golden compares a report's text with testdata/NAME.txt.
func Golden(t *testing.T, name string, text func(p *term.Page, wide bool), wide bool) {
	t.Helper()
	var b strings.Builder
	text(term.NewPage(&b), wide)
	file := filepath.Join("testdata", strings.ReplaceAll(name, " ", "-")+".txt")
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatalf("%v; go test -update writes it", err)
	}
	if diff := cmp.Diff(string(want), b.String()); diff != "" {
		t.Errorf("%s differs (-want +got); if that is right, go test -update:\n%s", file, diff)
	}
}
