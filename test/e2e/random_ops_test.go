package e2e

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// There are few names, pools and addresses of each kind, so that much is wanted
// by several, and is wanted again soon after it is gone.
const (
	serviceNames = 24 // in each namespace
	claimNames   = 5  // in each namespace
	poolNames    = 4
	blocks       = 6 // of 8 addresses, of each family
)

// step does one random operation. It depends on the seed and the number alone,
// not on what became of those before.
func (s *storm) step(t *testing.T, number int) {
	t.Helper()
	r := rand.New(rand.NewPCG(s.seed, uint64(number)))
	at := fmt.Sprintf("operation %d:", number)
	dice := r.IntN(100)
	if number < poolNames {
		dice = 80
	}
	switch {
	case dice < 70:
		s.someService(t, r, at)
	case dice < 79:
		s.someClaim(t, r, at)
	case dice < 93:
		s.somePool(t, r, at, number)
	case dice < 96:
		s.count("freeze")
		s.freeze(t)
	case dice < 98:
		s.count("thaw")
		s.thaw(t)
	default:
		s.count("kill")
		s.kill(t)
	}
}

func (s *storm) count(operation string) { s.counts[operation]++ }

// oneIn is true once in n times.
func oneIn(r *rand.Rand, n int) bool { return r.IntN(n) == 0 }

func oneOf[T any](r *rand.Rand, list ...T) T { return list[r.IntN(len(list))] }

// tolerated fails the test for an error other than those that are an answer to
// the random request: that the object is gone, or cannot be changed like this.
func tolerated(t *testing.T, err error) {
	t.Helper()
	if !apierrors.IsNotFound(err) && !apierrors.IsInvalid(err) && !apierrors.IsAlreadyExists(err) {
		must(t, err)
	}
}

// edit reads the object, changes and writes it, until nobody came in between.
func (s *storm) edit(t *testing.T, r *rand.Rand, o client.Object, change func(*rand.Rand)) {
	t.Helper()
	x, y := r.Uint64(), r.Uint64() // each attempt makes the same change
	lab.Eventually(t, soon, func() error {
		if err := s.api.Get(t.Context(), client.ObjectKeyFromObject(o), o); err != nil {
			return client.IgnoreNotFound(err)
		}
		change(rand.New(rand.NewPCG(x, y)))
		err := s.api.Update(t.Context(), o)
		if !apierrors.IsConflict(err) {
			tolerated(t, err)
			return nil
		}
		return err
	})
}

// someService creates, changes or deletes a Service.
func (s *storm) someService(t *testing.T, r *rand.Rand, at string) {
	t.Helper()
	svc := s.newService(fmt.Sprintf("s%d", r.IntN(serviceNames)))
	svc.Namespace = oneOf(r, s.namespaces...)
	key := keyOf(svc)
	err := s.api.Get(t.Context(), client.ObjectKeyFromObject(svc), svc)
	switch {
	case err != nil:
		tolerated(t, err)
		s.count("create Service")
		s.seen.did(key, "%s create", at)
		randomize(r, svc)
		tolerated(t, s.api.Create(t.Context(), svc))
	case svc.DeletionTimestamp != nil:
		s.count("let a deleted Service go")
		s.seen.did(key, "%s remove its finalizers", at)
		s.edit(t, r, svc, func(*rand.Rand) { svc.Finalizers = nil })
	case oneIn(r, 4):
		s.count("delete Service")
		s.seen.did(key, "%s delete", at)
		tolerated(t, s.api.Delete(t.Context(), svc))
	default:
		name, change := someEdit(r)
		s.count(name)
		s.seen.did(key, "%s %s", at, name)
		s.edit(t, r, svc, func(r *rand.Rand) { change(r, svc) })
	}
}

// randomize makes a new Service a random one.
func randomize(r *rand.Rand, svc *corev1.Service) {
	switch r.IntN(6) {
	case 0, 1:
		svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicySingleStack)
	case 2:
		svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv6Protocol}
	case 3:
		svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyRequireDualStack)
	default:
		svc.Spec.IPFamilyPolicy = ptr.To(corev1.IPFamilyPolicyPreferDualStack)
	}
	if oneIn(r, 10) {
		svc.Finalizers = []string{"example.com/cleanup"}
	}
	askAnew(r, svc)
	otherPorts(r, svc)
}

// someEdit is a random change of a Service, and its name.
func someEdit(r *rand.Rand) (string, func(*rand.Rand, *corev1.Service)) {
	switch r.IntN(10) {
	case 0, 1, 2, 3:
		return "ask for something else", askAnew
	case 4, 5:
		return "change ports", otherPorts
	case 6:
		return "change type", otherType
	case 7:
		return "change families", otherFamilies
	case 8:
		return "change traffic policy", otherTraffic
	default:
		return "change labels", func(r *rand.Rand, svc *corev1.Service) {
			svc.Labels = map[string]string{"color": oneOf(r, "red", "green")}
		}
	}
}

// askAnew makes the Service ask for something by its annotations, or for nothing.
func askAnew(r *rand.Rand, svc *corev1.Service) {
	svc.Annotations = map[string]string{}
	pool := func() { svc.Annotations[v1alpha1.AnnotationAddressPool] = poolName(r) }
	exact := func() { svc.Annotations[v1alpha1.AnnotationLoadBalancerIPs] = someAddresses(r) }
	switch r.IntN(12) {
	case 0, 1, 2, 3:
	case 4:
		exact()
	case 5, 6:
		pool()
	case 7, 8, 9:
		svc.Annotations[v1alpha1.AnnotationAllowSharedIP] = oneOf(r, "k", "l")
		if oneIn(r, 3) {
			exact()
		} else if oneIn(r, 3) {
			pool()
		}
	default:
		svc.Annotations[v1alpha1.AnnotationClaim] = claimName(r)
		if oneIn(r, 10) {
			pool() // which is refused
		}
	}
}

func poolName(r *rand.Rand) string  { return fmt.Sprintf("p%d", r.IntN(poolNames)) }
func claimName(r *rand.Rand) string { return fmt.Sprintf("c%d", r.IntN(claimNames)) }

func address4(r *rand.Rand) string {
	return fmt.Sprintf("10.50.%d.%d", r.IntN(blocks), oneOf(r, 0, 1, 2, 3, 7))
}

func address6(r *rand.Rand) string {
	return fmt.Sprintf("fd50:%d::%d", r.IntN(blocks)+1, oneOf(r, 1, 2, 3, 7))
}

// someAddresses is one address, or one of each family.
func someAddresses(r *rand.Rand) string {
	switch r.IntN(4) {
	case 0, 1:
		return address4(r)
	case 2:
		return address6(r)
	default:
		return address4(r) + "," + address6(r)
	}
}

// otherPorts are one or two of a few, so that they are often those of another.
func otherPorts(r *rand.Rand, svc *corev1.Service) {
	svc.Spec.Ports = nil
	first := r.IntN(6)
	for i := range 1 + r.IntN(2) {
		port := int32(80 + (first+i)%6) //nolint:gosec // it is small
		svc.Spec.Ports = append(svc.Spec.Ports, corev1.ServicePort{
			Name: fmt.Sprintf("p%d", port), Port: port, Protocol: oneOf(r, corev1.ProtocolTCP, corev1.ProtocolTCP, corev1.ProtocolUDP),
			TargetPort: intstr.FromInt32(8080),
		})
	}
}

func otherType(_ *rand.Rand, svc *corev1.Service) {
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer {
		svc.Spec.Type = corev1.ServiceTypeClusterIP
		svc.Spec.ExternalTrafficPolicy = ""
		return
	}
	svc.Spec.Type = corev1.ServiceTypeLoadBalancer
}

func otherFamilies(r *rand.Rand, svc *corev1.Service) {
	svc.Spec.IPFamilyPolicy = ptr.To(oneOf(r,
		corev1.IPFamilyPolicySingleStack, corev1.IPFamilyPolicyPreferDualStack, corev1.IPFamilyPolicyRequireDualStack))
}

func otherTraffic(r *rand.Rand, svc *corev1.Service) {
	if svc.Spec.Type != corev1.ServiceTypeLoadBalancer {
		return
	}
	svc.Spec.ExternalTrafficPolicy = oneOf(r, corev1.ServiceExternalTrafficPolicyCluster, corev1.ServiceExternalTrafficPolicyLocal)
	svc.Spec.Selector = map[string]string{"app": oneOf(r, "a", "b")}
}

// someClaim creates or deletes a claim.
func (s *storm) someClaim(t *testing.T, r *rand.Rand, at string) {
	t.Helper()
	c := &v1alpha1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: oneOf(r, s.namespaces...), Name: claimName(r)}}
	err := s.api.Get(t.Context(), client.ObjectKeyFromObject(c), c)
	if err == nil {
		if oneIn(r, 2) {
			s.count("delete claim")
			s.seen.did(claimKey(c), "%s delete", at)
			tolerated(t, s.api.Delete(t.Context(), c))
		}
		return
	}
	tolerated(t, err)
	switch r.IntN(4) {
	case 0:
		for _, a := range strings.Split(someAddresses(r), ",") {
			c.Spec.Addresses = append(c.Spec.Addresses, v1alpha1.IPAddress(a))
		}
	case 1:
		c.Spec.Families = []v1alpha1.IPFamily{v1alpha1.IPv4, v1alpha1.IPv6}
	case 2:
		c.Spec.Families = []v1alpha1.IPFamily{v1alpha1.IPv6}
	}
	if oneIn(r, 3) {
		c.Spec.Pool = v1alpha1.ObjectName(poolName(r))
	}
	if oneIn(r, 2) {
		c.Spec.TTLAfterRelease = &metav1.Duration{Duration: time.Duration(r.IntN(2)) * time.Second}
	}
	s.count("create claim")
	s.seen.did(claimKey(c), "%s create %+v", at, c.Spec)
	tolerated(t, s.api.Create(t.Context(), c))
}

// somePool creates, changes or, seldom, deletes a pool. The first operations make
// them all.
func (s *storm) somePool(t *testing.T, r *rand.Rand, at string, number int) {
	t.Helper()
	p := &v1alpha1.IPAddressPool{ObjectMeta: meta1(poolName(r))}
	if number < poolNames {
		p.Name = fmt.Sprintf("p%d", number)
	}
	err := s.api.Get(t.Context(), client.ObjectKeyFromObject(p), p)
	switch {
	case err != nil:
		tolerated(t, err)
		s.count("create pool")
		s.seen.did(p.Name, "%s create", at)
		respec(r, p)
		tolerated(t, s.api.Create(t.Context(), p))
	case oneIn(r, 6):
		s.count("delete pool")
		s.seen.did(p.Name, "%s delete", at)
		tolerated(t, s.api.Delete(t.Context(), p))
	default:
		s.count("edit pool")
		s.seen.did(p.Name, "%s edit", at)
		s.edit(t, r, p, func(r *rand.Rand) { respec(r, p) })
	}
}

// respec gives a pool a random spec: some of the blocks near its own, which may
// be others' too, whole or half.
func respec(r *rand.Rand, p *v1alpha1.IPAddressPool) {
	var home int
	_, _ = fmt.Sscanf(p.Name, "p%d", &home)
	mine := []int{home}
	if oneIn(r, 3) {
		mine = append(mine, poolNames+r.IntN(blocks-poolNames))
	}
	if oneIn(r, 6) {
		mine = append(mine, (home+1)%poolNames)
	}
	if len(mine) > 1 && oneIn(r, 2) {
		mine = mine[1:]
	}
	p.Spec = v1alpha1.IPAddressPoolSpec{
		AutoAssign: ptr.To(!oneIn(r, 6)), Disabled: oneIn(r, 8),
		Sharing: oneOf(r, v1alpha1.SharingNamespace, v1alpha1.SharingCluster, v1alpha1.SharingNever),
	}
	if oneIn(r, 3) {
		p.Spec.MaxPerNamespace = 1 + r.Int32N(4)
	}
	four, six := oneOf(r, 29, 30), oneOf(r, 125, 126)
	only := r.IntN(6)
	for _, block := range mine {
		if only != 0 {
			p.Spec.Addresses = append(p.Spec.Addresses, v1alpha1.AddressRange(fmt.Sprintf("10.50.%d.0/%d", block, four)))
		}
		if only > 1 {
			p.Spec.Addresses = append(p.Spec.Addresses, v1alpha1.AddressRange(fmt.Sprintf("fd50:%d::/%d", block+1, six)))
		}
	}
	if only == 0 {
		p.Spec.Addresses = []v1alpha1.AddressRange{v1alpha1.AddressRange(fmt.Sprintf("fd50:%d::/%d", home+1, six))}
	}
}
