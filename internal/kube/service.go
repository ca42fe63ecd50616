package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/lb"
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
)

// annotation returns the first of the annotations that the Service has.
func annotation(svc *corev1.Service, names []string) (name, value string) {
	for _, n := range names {
		if v, ok := svc.Annotations[n]; ok {
			return n, v
		}
	}
	return "", ""
}

// Request returns what the Service asks for. The error names the annotation or
// field that cannot be understood.
func Request(svc *corev1.Service, namespaceLabels map[string]string) (lb.Request, error) {
	r := lb.Request{
		Service:         Key(svc),
		Created:         svc.CreationTimestamp.Time,
		Labels:          svc.Labels,
		NamespaceLabels: namespaceLabels,
		RequireAll:      ptr.Deref(svc.Spec.IPFamilyPolicy, corev1.IPFamilyPolicySingleStack) != corev1.IPFamilyPolicyPreferDualStack,
	}
	for _, f := range svc.Spec.IPFamilies {
		if f == corev1.IPv6Protocol {
			r.Families = append(r.Families, lb.IPv6)
		} else {
			r.Families = append(r.Families, lb.IPv4)
		}
	}
	_, r.Pool = annotation(svc, annotationsPool)
	if name, ips := annotation(svc, annotationsIPs); name != "" {
		addrs, err := config.Addresses(ips)
		if err != nil {
			return r, fmt.Errorf("annotation %s: %w", name, err)
		}
		r.Addresses = addrs
	} else if ip := svc.Spec.LoadBalancerIP; ip != "" {
		addr, err := config.Address(ip)
		if err != nil {
			return r, fmt.Errorf("spec.loadBalancerIP: %w", err)
		}
		r.Addresses = []netip.Addr{addr}
	}
	return r, nil
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

// SetIngress makes addrs the addresses in the Service's status, leaving it alone
// when they are that already.
func SetIngress(svc *corev1.Service, addrs []netip.Addr) {
	if slices.Equal(IngressAddresses(svc), addrs) {
		return
	}
	svc.Status.LoadBalancer.Ingress = nil
	for _, a := range addrs {
		svc.Status.LoadBalancer.Ingress = append(svc.Status.LoadBalancer.Ingress, corev1.LoadBalancerIngress{
			IP: a.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP),
		})
	}
}

// AssignedCondition returns what we said of the Service's address, or nil when
// we said nothing yet.
func AssignedCondition(svc *corev1.Service) *metav1.Condition {
	return meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAddressAssigned)
}

// unsupported are the annotations that this version does not act on yet.
var unsupported = []string{
	v1alpha1.AnnotationAllowSharedIP,
	v1alpha1.AnnotationMetalLBAllowSharedIP,
	v1alpha1.AnnotationMetalLBUniverseAllowSharedIP,
	v1alpha1.AnnotationClaim,
}

// Unsupported returns the Service's annotations that nothing comes of.
func Unsupported(svc *corev1.Service) []string {
	return slices.DeleteFunc(slices.Clone(unsupported), func(name string) bool {
		_, has := svc.Annotations[name]
		return !has
	})
}

// InVain says that nothing comes in this version of what a user wrote, as the end
// of a condition's message; "" when there is nothing to say. what goes before
// the names.
func InVain(what string, names []string) string {
	if len(names) == 0 {
		return ""
	}
	return "; not supported by this version of Fairlead, nothing comes of it: " + what + strings.Join(names, ", ")
}

// TrafficPolicy returns the Service's externalTrafficPolicy.
func TrafficPolicy(svc *corev1.Service) lb.TrafficPolicy {
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		return lb.TrafficLocal
	}
	return lb.TrafficCluster
}
