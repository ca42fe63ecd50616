package e2e

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/test/lab"
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
			account := serviceAccount{lab.Namespace, program}
			granted := grantsOf(t, c.api, account)
			if len(granted) == 0 {
				t.Fatalf("no role is bound to %s", account.user())
			}
			// The last requests may be still on their way.
			lab.Eventually(t, soon, func() error { return compare(granted, requestsOf(t, c.Lab, account.user())) })
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

// serviceAccount is whom roles are bound to.
type serviceAccount struct{ namespace, name string }

func (a serviceAccount) user() string { return "system:serviceaccount:" + a.namespace + ":" + a.name }

func (a serviceAccount) among(subjects []rbacv1.Subject) bool {
	return slices.ContainsFunc(subjects, func(s rbacv1.Subject) bool {
		return s.Kind == rbacv1.ServiceAccountKind && s.Namespace == a.namespace && s.Name == a.name
	})
}

// right is to do one thing with one kind of resource. As a grant, a name and a
// namespace that are empty stand for all; as a request, for none in particular.
type right struct {
	verb, group, resource, name, namespace string
}

func (r right) String() string {
	s := r.verb + " " + strings.TrimSuffix(r.resource+"."+r.group, ".")
	if r.name != "" {
		s += " " + r.name
	}
	return s + " in " + cmp.Or(r.namespace, "all namespaces")
}

// covers reports whether the grant allows the request.
func (r right) covers(req right) bool {
	return r.verb == req.verb && r.group == req.group && r.resource == req.resource &&
		(r.name == "" || r.name == req.name) && (r.namespace == "" || r.namespace == req.namespace)
}

// needs reports whether the request is a reason for the grant. One for all
// namespaces is not needed for what the install's own has.
func (r right) needs(req right) bool {
	return r.covers(req) && (r.namespace != "" || req.namespace != lab.Namespace)
}

// grantsOf returns what the roles that are bound to the account grant.
func grantsOf(t *testing.T, api client.Client, account serviceAccount) (out []right) {
	t.Helper()
	var everywhere rbacv1.ClusterRoleBindingList
	must(t, api.List(t.Context(), &everywhere))
	for _, b := range everywhere.Items {
		if account.among(b.Subjects) {
			out = append(out, grants(rulesOf(t, api, b.RoleRef, ""), "")...)
		}
	}
	var local rbacv1.RoleBindingList
	must(t, api.List(t.Context(), &local))
	for _, b := range local.Items {
		if account.among(b.Subjects) {
			out = append(out, grants(rulesOf(t, api, b.RoleRef, b.Namespace), b.Namespace)...)
		}
	}
	return out
}

// rulesOf returns the rules of the role that a binding in the namespace refers to.
func rulesOf(t *testing.T, api client.Client, ref rbacv1.RoleRef, namespace string) []rbacv1.PolicyRule {
	t.Helper()
	if ref.Kind == "ClusterRole" {
		var role rbacv1.ClusterRole
		must(t, api.Get(t.Context(), client.ObjectKey{Name: ref.Name}, &role))
		return role.Rules
	}
	var role rbacv1.Role
	must(t, api.Get(t.Context(), client.ObjectKey{Namespace: namespace, Name: ref.Name}, &role))
	return role.Rules
}

// grants spells rules out.
func grants(rules []rbacv1.PolicyRule, namespace string) (out []right) {
	for _, rule := range rules {
		names := rule.ResourceNames
		if len(names) == 0 {
			names = []string{""}
		}
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				for _, verb := range rule.Verbs {
					for _, name := range names {
						out = append(out, right{verb, group, resource, name, namespace})
					}
				}
			}
		}
	}
	return out
}

// auditEvent is what matters of a line of the API server's audit log.
type auditEvent struct {
	Verb string `json:"verb"`
	User struct {
		Username string `json:"username"`
	} `json:"user"`
	RequestURI string `json:"requestURI"`
	ObjectRef  *struct {
		APIGroup    string `json:"apiGroup"`
		Resource    string `json:"resource"`
		Subresource string `json:"subresource"`
		Namespace   string `json:"namespace"`
		Name        string `json:"name"`
	} `json:"objectRef"`
	ResponseStatus struct {
		Code int `json:"code"`
	} `json:"responseStatus"`
}

// request returns what was asked for.
func (e *auditEvent) request() right {
	o := e.ObjectRef
	r := right{verb: e.Verb, group: o.APIGroup, resource: o.Resource, name: o.Name, namespace: o.Namespace}
	if o.Subresource != "" {
		r.resource += "/" + o.Subresource
	}
	return r
}

// streams reports whether the watch began with all there is, in place of a list.
// Against an API server that does not offer this the same client lists, so it
// needs that right too.
func (e *auditEvent) streams() bool {
	return e.Verb == "watch" && strings.Contains(e.RequestURI, "sendInitialEvents=true")
}

// requestsOf returns what the user asked the API server for, and whether it was
// allowed. What needs no right of a role, such as which kinds there are, is left
// out.
func requestsOf(t *testing.T, l *lab.Lab, user string) map[right]bool {
	t.Helper()
	log, err := os.ReadFile(filepath.Join(l.Dir, "logs", "audit.log"))
	must(t, err)
	out := map[right]bool{}
	for line := range bytes.Lines(log) {
		var e auditEvent
		if !bytes.HasSuffix(line, []byte("\n")) {
			break // it is being written
		}
		must(t, json.Unmarshal(line, &e))
		allowed := e.ResponseStatus.Code != http.StatusForbidden
		switch {
		case e.User.Username != user:
		case e.ObjectRef != nil && e.ObjectRef.Resource != "":
			out[e.request()] = allowed
			if r := e.request(); e.streams() {
				r.verb = "list"
				out[r] = allowed
			}
		case !allowed:
			t.Errorf("%s %s is forbidden to %s", e.Verb, e.RequestURI, user)
		}
	}
	return out
}

// seldom is granted for what no test brings about: client-go patches an event when
// it is to tell the same of the same version of an object once more.
const seldom = "patch events.events.k8s.io in all namespaces"

// compare says what is used and not granted, or granted and not used.
func compare(granted []right, requests map[right]bool) error {
	var wrong []string
	for r, allowed := range requests {
		switch {
		case !allowed:
			wrong = append(wrong, "forbidden: "+r.String())
		case !slices.ContainsFunc(granted, func(g right) bool { return g.covers(r) }):
			wrong = append(wrong, "used and not granted by its roles: "+r.String())
		}
	}
	used := slices.Collect(maps.Keys(requests))
	for _, g := range granted {
		if !slices.ContainsFunc(used, g.needs) && g.String() != seldom {
			wrong = append(wrong, "granted and not used: "+g.String())
		}
	}
	slices.Sort(wrong)
	if len(wrong) > 0 {
		return fmt.Errorf("of %d kinds of request and %d grants:\n%s", len(used), len(granted), strings.Join(wrong, "\n"))
	}
	return nil
}
