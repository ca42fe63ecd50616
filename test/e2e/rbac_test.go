package e2e

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/audit"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// Each program's roles grant what it asks the API server for, and no more: all
// that it can do is done, and then the API server's own log of it is compared
// with the roles.
func TestRolesGrantWhatIsUsed(t *testing.T) {
	own := &shared{options: lab.Options{Nodes: 2, Audit: true}, prepare: (*lab.Lab).Install}
	t.Cleanup(func() { must(t, own.stop(t.Failed())) })
	c := own.corner(t)
	changeLeader(t, c)
	for _, n := range c.Nodes {
		p, err := c.StartSpeaker(t.Context(), n.Name)
		must(t, err)
		must(t, p.Ready(t.Context()))
	}
	useServices(t, c)
	useClaims(t, c)
	useOrders(t, c)
	useBGP(t, c)

	for _, program := range []string{"fairlead-controller", "fairlead-speaker"} {
		t.Run(program, func(t *testing.T) {
			account := audit.Account{Namespace: lab.Namespace, Name: program}
			granted, err := audit.Granted(t.Context(), c.api, account)
			must(t, err)
			lab.Eventually(t, soon, func() error { // the last requests may be still on their way
				asked, err := audit.Asked(c.Lab, account)
				return errors.Join(err, audit.Missing(granted, asked), audit.Unused(granted, asked))
			})
		})
	}
}

// changeLeader starts two controllers and ends the one that leads.
func changeLeader(t *testing.T, c *corner) {
	t.Helper()
	pair := newPair(t, c)
	leader := pair.leader(t)
	must(t, leader.Stop(t.Context()))
	pair.running = slices.DeleteFunc(pair.running, func(p *lab.Process) bool { return p == leader })
	pair.leader(t)
}

// useServices gives Services addresses, refuses and takes them back, announces
// them, and takes their pool away from under them.
func useServices(t *testing.T, c *corner) {
	t.Helper()
	pool := c.pool(t, "used", "172.30.0.100-172.30.0.109", "fd30::100-fd30::109")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("used")})
	web := c.service(t, "web", dualStack, annotated(v1alpha1.AnnotationAddressPool, "missing"))
	c.untilService(t, web, assigned, false, "UnknownPool")
	c.change(t, web, func() { delete(web.Annotations, v1alpha1.AnnotationAddressPool) })
	had := c.addresses(t, web)[0]
	c.backend(t, web, "n1")
	c.untilService(t, web, announced, true, "Announced", had.String())
	c.change(t, web, func() { web.Spec.Type = corev1.ServiceTypeClusterIP })
	c.until(t, web, func() error { return without(web) })
	c.change(t, web, func() { web.Spec.Type = corev1.ServiceTypeLoadBalancer })
	c.addresses(t, web)
	// Two events of one version of the Service: the second is a patch of the first.
	c.change(t, pool, func() { pool.Spec.Addresses = []v1alpha1.AddressRange{"172.30.0.110-172.30.0.119"} })
	c.until(t, pool, func() error { return retires(pool, ingress(web)...) })
	must(t, c.api.Delete(t.Context(), pool))
	c.until(t, pool, func() error { return says(pool.Status.Conditions, ready, false, v1alpha1.ReasonInUse) })
	// Its backend needs it to the end of the test, the pool must not.
	c.change(t, web, func() { web.Spec.Type = corev1.ServiceTypeClusterIP })
	c.untilGone(t, pool)
}

// without says whether a Service has nothing of ours.
func without(svc *corev1.Service) error {
	if len(ingress(svc))+len(svc.Status.Conditions) > 0 {
		return fmt.Errorf("%s has %v, %s", svc.Name, ingress(svc), told(svc.Status.Conditions))
	}
	return nil
}

// retires says whether just these addresses of the pool are retiring.
func retires(pool *v1alpha1.IPAddressPool, addrs ...netip.Addr) error {
	var got []netip.Addr
	for _, r := range pool.Status.Retiring {
		got = append(got, netip.MustParseAddr(r.Address))
	}
	if !slices.Equal(got, addrs) {
		return fmt.Errorf("retiring is %v, want %v", got, addrs)
	}
	return nil
}

// useClaims reserves addresses, lends them, deletes a claim in use, and lets
// another expire.
func useClaims(t *testing.T, c *corner) {
	t.Helper()
	c.pool(t, "claimed", "172.30.0.120-172.30.0.129")
	claim := func(name string, change func(*v1alpha1.IPAddressClaim)) *v1alpha1.IPAddressClaim {
		o := &v1alpha1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: c.namespace, Name: name}}
		change(o)
		c.create(t, o)
		return o
	}
	is := func(o *v1alpha1.IPAddressClaim, ok bool, reason string) {
		t.Helper()
		c.until(t, o, func() error { return says(o.Status.Conditions, ready, ok, reason) })
	}
	brief := claim("brief", func(o *v1alpha1.IPAddressClaim) { o.Spec.TTLAfterRelease = &metav1.Duration{} })
	is(brief, true, v1alpha1.ReasonReserved)
	user := c.service(t, "user", annotated(v1alpha1.AnnotationClaim, brief.Name))
	c.addresses(t, user)
	is(brief, true, v1alpha1.ReasonBound)
	c.remove(t, user)
	c.untilGone(t, brief)

	inUse := claim("in-use", func(*v1alpha1.IPAddressClaim) {})
	heir := c.service(t, "heir", annotated(v1alpha1.AnnotationClaim, inUse.Name))
	is(inUse, true, v1alpha1.ReasonBound)
	must(t, c.api.Delete(t.Context(), inUse))
	is(inUse, false, v1alpha1.ReasonInUse)
	c.remove(t, heir)
	c.untilGone(t, inUse)
}

// useOrders has a speaker take its share, after which it takes the order off its
// object.
func useOrders(t *testing.T, c *corner) {
	t.Helper()
	sp := &v1alpha1.Speaker{ObjectMeta: meta1("n1")}
	c.change(t, sp, func() { metav1.SetMetaDataAnnotation(&sp.ObjectMeta, v1alpha1.AnnotationRebalance, "now") })
	c.until(t, sp, func() error {
		if _, there := sp.Annotations[v1alpha1.AnnotationRebalance]; there {
			return errors.New("it has not heeded the order yet")
		}
		return nil
	})
}

// useBGP makes one object of each kind that has to do with BGP.
func useBGP(t *testing.T, c *corner) {
	t.Helper()
	for _, kind := range []string{"BFDProfile", "Community"} {
		c.create(t, object(t, kind, `{}`))
	}
	peer, advert := &v1alpha1.BGPPeer{}, &v1alpha1.BGPAdvertisement{}
	for kind, o := range map[string]client.Object{"BGPPeer": peer, "BGPAdvertisement": advert} {
		u := object(t, kind, `{}`)
		c.create(t, u)
		o.SetName(u.GetName())
	}
	judged := func(conditions []metav1.Condition) error {
		if meta.FindStatusCondition(conditions, ready) == nil {
			return errors.New("it has no condition yet")
		}
		return nil
	}
	c.until(t, peer, func() error { return judged(peer.Status.Conditions) })
	c.until(t, advert, func() error { return judged(advert.Status.Conditions) })
}
