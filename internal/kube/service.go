package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Class says which Services are Fairlead's.
type Class struct {
	Name      string // the spec.loadBalancerClass that is ours
	Classless bool   // Services without a class are ours too
}

// Handles reports whether the Service is Fairlead's: of type LoadBalancer and
// of our class, and not on its way out.
func (c Class) Handles(svc *corev1.Service) bool {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer || svc.DeletionTimestamp != nil {
		return false
	}
	if svc.Spec.LoadBalancerClass == nil {
		return c.Classless
	}
	return *svc.Spec.LoadBalancerClass == c.Name
}

// Key returns the Service's key.
func Key(svc *corev1.Service) lb.ServiceKey {
	return lb.ServiceKey{Namespace: svc.Namespace, Name: svc.Name}
}

// Twins of our annotations, in the order in which they are honoured.
var (
	annotationsIPs = []string{
		v1alpha1.AnnotationLoadBalancerIPs,
		v1alpha1.AnnotationMetalLBLoadBalancerIPs,
		v1alpha1.AnnotationMetalLBUniverseLoadBalancerIPs,
	}
	annotationsPool = []string{
		v1alpha1.AnnotationAddressPool,
		v1alpha1.AnnotationMetalLBAddressPool,
		v1alpha1.AnnotationMetalLBUniverseAddressPool,
	}
	annotationsShare = []string{
		v1alpha1.AnnotationAllowSharedIP,
		v1alpha1.AnnotationMetalLBAllowSharedIP,
		v1alpha1.AnnotationMetalLBUniverseAllowSharedIP,
	}
)

// annotation returns the first of the annotations that says something. An empty one is as
// if absent: templates write those, and "" is not a wish.
func annotation(svc *corev1.Service, names ...string) (name, value string) {
	for _, n := range names {
		if v := strings.TrimSpace(svc.Annotations[n]); strings.Trim(v, ", \t\r\n") != "" {
			return n, v
		}
	}
	return "", ""
}

// Request returns what the Service asks for. The error names the annotation or
// field that cannot be understood.
func Request(svc *corev1.Service, namespaceLabels map[string]string) (lb.Request, error) {
	r := lb.Request{
		Holder:          Key(svc).Holder(),
		Created:         svc.CreationTimestamp.Time,
		Labels:          lb.LabelsOf(svc.Labels),
		NamespaceLabels: lb.LabelsOf(namespaceLabels),
		RequireAll:      ptr.Deref(svc.Spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack) != corev1.IPFamilyPolicyPreferDualStack,
	}
	r.Families = Families(svc)
	_, r.Claim = annotation(svc, v1alpha1.AnnotationClaim)
	_, r.Pool = annotation(svc, annotationsPool...)
	if _, r.ShareKey = annotation(svc, annotationsShare...); r.ShareKey != "" {
		r.Ports, r.Backends = ports(svc), backends(svc)
	}
	what, addrs, err := exactAddresses(svc)
	if err != nil {
		return r, fmt.Errorf("%s: %w", what, err)
	}
	r.Addresses = addrs
	return r, claimAlone(svc, &r, what)
}

// exactAddresses returns the addresses that the Service names, and the
// annotation or field where it does.
func exactAddresses(svc *corev1.Service) (where string, addrs []netip.Addr, err error) {
	if name, ips := annotation(svc, annotationsIPs...); name != "" {
		addrs, err = config.Addresses(ips)
		return "annotation " + name, addrs, err
	}
	if ip := strings.TrimSpace(svc.Spec.LoadBalancerIP); ip != "" {
		addr, err := config.Address(ip)
		return "spec.loadBalancerIP", []netip.Addr{addr}, err
	}
	return "", nil, nil
}

// claimAlone refuses what contradicts a claim, which says all there is to say of
// the Service's addresses. where is where the Service names addresses, or "".
func claimAlone(svc *corev1.Service, r *lb.Request, where string) error {
	if r.Claim == "" {
		return nil
	}
	if where == "" && r.Pool != "" {
		name, _ := annotation(svc, annotationsPool...)
		where = "annotation " + name
	}
	if where == "" && r.ShareKey != "" {
		name, _ := annotation(svc, annotationsShare...)
		where = "annotation " + name
	}
	if where == "" {
		return nil
	}
	return fmt.Errorf("annotation %s: the Service has what IPAddressClaim %s keeps, so %s means nothing; remove one of them",
		v1alpha1.AnnotationClaim, lb.Quote(r.Claim), where)
}

// ports returns the ports by which clients reach the Service.
func ports(svc *corev1.Service) (out []lb.Port) {
	for _, p := range svc.Spec.Ports {
		out = append(out, lb.Port{Protocol: string(p.Protocol), Number: uint16(p.Port)}) //nolint:gosec // validated by the API server
	}
	return out
}

// backends tells apart the pods that serve, where that matters for sharing (see
// lb.Request). Without a selector only the Service knows them.
func backends(svc *corev1.Service) string {
	switch {
	case TrafficPolicy(svc) != lb.TrafficLocal:
		return ""
	case len(svc.Spec.Selector) == 0:
		return "those of " + Key(svc).String()
	default:
		return svc.Namespace + "/" + labels.FormatLabels(svc.Spec.Selector)
	}
}

// Families returns the address families that the Service asks for, the first one first.
func Families(svc *corev1.Service) (out []lb.Family) {
	for _, f := range svc.Spec.IPFamilies {
		out = append(out, family(string(f)))
	}
	return out
}

func family(name string) lb.Family {
	if name == string(corev1.IPv6Protocol) {
		return lb.IPv6
	}
	return lb.IPv4
}

// IngressAddresses returns the addresses in the Service's status, in order.
func IngressAddresses(svc *corev1.Service) []netip.Addr {
	var out []netip.Addr
	for _, in := range svc.Status.LoadBalancer.Ingress {
		if a, err := config.Address(in.IP); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// SetIngress makes addrs the ingress of the Service's status, and reports whether that
// changed something. The entries are written whole: kube-proxy ignores an address whose
// ipMode another load balancer left at Proxy. With no address to write, entries without
// addresses, such as another load balancer's host name, are left alone.
func SetIngress(svc *corev1.Service, addrs []netip.Addr) bool {
	if IngressIs(svc, addrs) || len(addrs) == 0 && len(IngressAddresses(svc)) == 0 {
		return false
	}
	svc.Status.LoadBalancer.Ingress = nil
	for _, a := range addrs {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{
			IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP),
		})
	}
	return true
}

// IngressIs reports whether the ingress of the Service's status is as we write it for
// these addresses.
func IngressIs(svc *corev1.Service, addrs []netip.Addr) bool {
	return slices.EqualFunc(svc.Status.LoadBalancer.Ingress, addrs, func(in corev1.LoadBalancerIngress, a netip.Addr) bool {
		written, err := netip.ParseAddr(in.IP)
		return err == nil && written.Unmap() == a && in.Hostname == "" && len(in.Ports) == 0 &&
			ptr.Deref(in.IPMode, corev1.LoadBalancerIPModeVIP) == corev1.LoadBalancerIPModeVIP
	})
}

// RemoveIngress removes the entries whose addresses are ours, and leaves the others as
// they are.
func RemoveIngress(svc *corev1.Service, ours func(netip.Addr) bool) {
	svc.Status.LoadBalancer.Ingress = slices.DeleteFunc(svc.Status.LoadBalancer.Ingress, func(in corev1.LoadBalancerIngress) bool {
		a, err := config.Address(in.IP)
		return err == nil && ours(a)
	})
}

// AssignedCondition returns the AddressAssigned condition of a Service that Fairlead
// serves; nil if there is none, or if it says that the Service's address is another's.
func AssignedCondition(svc *corev1.Service) *metav1.Condition {
	c := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAddressAssigned)
	if c != nil && c.Reason == lb.ReasonForeignAddress.String() {
		return nil
	}
	return c
}

// AsksForFairlead reports whether the Service names Fairlead: by its class, or by an
// annotation that no other load balancer understands.
func (c Class) AsksForFairlead(svc *corev1.Service) bool {
	name, _ := annotation(svc, v1alpha1.AnnotationLoadBalancerIPs, v1alpha1.AnnotationAddressPool, v1alpha1.AnnotationAllowSharedIP, v1alpha1.AnnotationClaim)
	return name != "" || svc.Spec.LoadBalancerClass != nil && c.Handles(svc)
}

// TrafficPolicy returns the Service's externalTrafficPolicy.
func TrafficPolicy(svc *corev1.Service) lb.TrafficPolicy {
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		return lb.TrafficLocal
	}
	return lb.TrafficCluster
}
