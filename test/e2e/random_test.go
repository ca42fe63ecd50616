package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	operations = 500
	// checkEvery is after how many operations all must come to rest and be right.
	checkEvery = 50
	// rest is how long nothing changes before all is taken to be done: a pool's
	// status is due a second after its last, and a busy machine takes longer.
	rest = 3 * time.Second
	// seedEnv is for other operations than those of the first seed. A seed repeats
	// operations, not the moments at which they meet: each run is another.
	seedEnv = "FAIRLEAD_SEED"
)

// Whatever is asked for, in whatever order, and whichever controller dies
// meanwhile: no address is in two hands that do not share it (A1), nobody loses
// an address but by what was asked of it (A2, A3), and the API server's objects
// agree with each other whenever all has come to rest. A controller that takes
// over then finds nothing to change.
func TestRandomOperations(t *testing.T) {
	s := newStorm(t)
	for i := range operations {
		s.step(t, i)
		if (i+1)%checkEvery == 0 {
			s.thaw(t)
			s.settle(t)
			s.checkTakeOver(t)
		}
	}
	s.seen.stop(t)
	t.Logf("%d operations: %v", operations, s.counts)
}

// storm is a run of random operations.
type storm struct {
	*corner
	seed       uint64
	namespaces []string
	seen       *witness
	pair       *pair
	frozen     *lab.Process
	counts     map[string]int // operation -> how often
}

func newStorm(t *testing.T) *storm {
	s := &storm{corner: control.corner(t), seed: 1, counts: map[string]int{}}
	if v := os.Getenv(seedEnv); v != "" {
		var err error
		s.seed, err = strconv.ParseUint(v, 10, 64)
		must(t, err)
	}
	t.Logf("%s=%d", seedEnv, s.seed)
	other := s.namespace + "-b"
	must(t, s.api.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: other}}))
	s.namespaces = []string{s.namespace, other}
	t.Cleanup(func() { s.clear(t) })
	s.seen = newWitness(t, s.corner, s.namespaces)
	t.Cleanup(func() {
		for i := range poolNames {
			if t.Failed() { // most of what goes wrong begins with a pool
				t.Log(s.seen.story(fmt.Sprintf("p%d", i)))
			}
		}
	})
	s.pair = newPair(t, s.corner)
	return s
}

// clear removes everything that the run made.
func (s *storm) clear(t *testing.T) {
	s.thaw(t)
	ctx := context.Background()
	state, err := s.state(ctx)
	must(t, err)
	for i := range state.services {
		svc := &state.services[i]
		must(t, client.IgnoreNotFound(s.api.Delete(ctx, svc)))
		patch := client.RawPatch("application/merge-patch+json", []byte(`{"metadata":{"finalizers":null}}`))
		must(t, client.IgnoreNotFound(s.api.Patch(ctx, svc, patch)))
	}
	for i := range state.claims {
		must(t, client.IgnoreNotFound(s.api.Delete(ctx, &state.claims[i])))
	}
	for i := range state.pools {
		must(t, client.IgnoreNotFound(s.api.Delete(ctx, &state.pools[i])))
	}
	for i := range state.pools {
		s.untilGone(t, &state.pools[i])
	}
}

// settle waits until nothing changes any more, and then all must be right.
func (s *storm) settle(t *testing.T) {
	t.Helper()
	s.pair.leader(t)
	lab.Eventually(t, 20*time.Second, func() error {
		if err := s.seen.idle(rest); err != nil {
			return err
		}
		state, err := s.state(t.Context())
		if err != nil {
			return err
		}
		if err := s.seen.knows(state.services); err != nil {
			return err
		}
		return s.seen.explain(state.wrong(s.seen.scopes()))
	})
	for _, wrong := range s.seen.violations() {
		t.Error(wrong)
	}
	if t.Failed() {
		t.FailNow()
	}
	s.seen.close()
}

// checkTakeOver kills the leader while all is at rest. What the other reads
// from the API server must lead it to the same answers.
func (s *storm) checkTakeOver(t *testing.T) {
	t.Helper()
	before, err := s.state(t.Context())
	must(t, err)
	s.kill(t)
	s.settle(t)
	after, err := s.state(t.Context())
	must(t, err)
	was, is := before.digest(), after.digest()
	for _, key := range slices.Sorted(maps.Keys(was)) {
		if was[key] != is[key] {
			t.Errorf("another controller has led since, and nothing else happened:\n%s\nwas %s\nis  %s\n%s", key, was[key], is[key], s.seen.story(key))
		}
	}
	if t.Failed() {
		t.FailNow()
	}
}

// kill ends the leader as a crash would, and makes the lease free if it still has
// it: it would be so after some seconds anyway. Another controller starts in its place.
func (s *storm) kill(t *testing.T) {
	t.Helper()
	s.thaw(t)
	must(t, s.pair.leader(t).Kill())
	lease, err := s.leadership()
	must(t, err)
	if ptr.Deref(lease.Spec.HolderIdentity, "") == s.pair.holder {
		must(t, client.IgnoreNotFound(s.api.Delete(t.Context(), lease)))
	}
	s.pair.replace(t)
}

// freeze lets changes gather, for the leader to see all at once when it thaws.
func (s *storm) freeze(t *testing.T) {
	if s.frozen == nil {
		s.frozen = s.pair.leader(t)
		must(t, s.frozen.Freeze())
	}
}

func (s *storm) thaw(t *testing.T) {
	if s.frozen != nil {
		must(t, s.frozen.Thaw())
		s.frozen = nil
	}
}

// state is what the API server has.
type state struct {
	services []corev1.Service
	claims   []v1alpha1.IPAddressClaim
	pools    []v1alpha1.IPAddressPool
}

func (s *storm) state(ctx context.Context) (*state, error) {
	var claims v1alpha1.IPAddressClaimList
	var pools v1alpha1.IPAddressPoolList
	out := &state{}
	for _, ns := range s.namespaces {
		var services corev1.ServiceList
		if err := s.api.List(ctx, &services, client.InNamespace(ns)); err != nil {
			return nil, err
		}
		out.services = append(out.services, services.Items...)
	}
	err := errors.Join(s.api.List(ctx, &claims), s.api.List(ctx, &pools))
	out.claims, out.pools = claims.Items, pools.Items
	return out, err
}

// problem is something wrong with an object.
type problem struct{ key, text string }

// wrong is all that is wrong with the state while nothing changes. scopes are
// the sharing policies that each address has ever been under.
func (s *state) wrong(scopes map[netip.Addr]map[v1alpha1.SharingPolicy]bool) []problem {
	return slices.Concat(s.doubles(scopes), s.claimedTwice(), s.silent(), s.miscounted())
}

// doubles are addresses of Services that have no right to share them.
func (s *state) doubles(scopes map[netip.Addr]map[v1alpha1.SharingPolicy]bool) (out []problem) {
	users := map[netip.Addr][]*corev1.Service{}
	for i := range s.services {
		svc := &s.services[i]
		for _, a := range ingress(svc) {
			for _, other := range users[a] {
				why := wishOf(svc).clashes(wishOf(other))
				switch {
				case refused(svc) || refused(other):
					why = ""
				case why != "":
				case svc.Namespace != other.Namespace && !scopes[a][v1alpha1.SharingCluster]:
					why = "no pool lets namespaces share it"
				case !scopes[a][v1alpha1.SharingCluster] && !scopes[a][v1alpha1.SharingNamespace]:
					why = "no pool lets Services share it"
				}
				if why != "" {
					out = append(out, problem{keyOf(svc), fmt.Sprintf("%s is also %s's: %s", a, keyOf(other), why)})
				}
			}
			users[a] = append(users[a], svc)
		}
	}
	return out
}

// refused reports whether nobody can tell what the Service asks for. It keeps
// what it has by what it asked for before.
func refused(svc *corev1.Service) bool {
	c := meta.FindStatusCondition(svc.Status.Conditions, assigned)
	return c != nil && c.Reason == "InvalidRequest"
}

// claimedTwice are addresses of a claim that another claim has, or a Service that
// it is not bound to.
func (s *state) claimedTwice() (out []problem) {
	keeper := map[netip.Addr]*v1alpha1.IPAddressClaim{}
	for i := range s.claims {
		c := &s.claims[i]
		for _, a := range kept(c) {
			if other := keeper[a]; other != nil {
				out = append(out, problem{claimKey(c), fmt.Sprintf("%s is also kept by %s", a, claimKey(other))})
			}
			keeper[a] = c
		}
	}
	for i := range s.services {
		svc := &s.services[i]
		for _, a := range ingress(svc) {
			if c := keeper[a]; c != nil && (c.Namespace != svc.Namespace || c.Status.BoundTo != svc.Name) {
				out = append(out, problem{keyOf(svc), fmt.Sprintf("%s is kept by %s, which is bound to %q", a, claimKey(c), c.Status.BoundTo)})
			}
		}
	}
	return out
}

// silent are the Services whose conditions do not tell what is so.
func (s *state) silent() (out []problem) {
	for i := range s.services {
		svc := &s.services[i]
		if err := tells(svc); err != nil {
			out = append(out, problem{keyOf(svc), err.Error()})
		}
	}
	for i := range s.claims {
		c := &s.claims[i]
		state := meta.FindStatusCondition(c.Status.Conditions, ready)
		switch {
		case state == nil || state.ObservedGeneration != c.Generation || state.Reason == "" || state.Message == "":
			out = append(out, problem{claimKey(c), fmt.Sprintf("generation %d has %s", c.Generation, told(c.Status.Conditions))})
		case state.Status == metav1.ConditionTrue && len(kept(c)) == 0:
			out = append(out, problem{claimKey(c), "is Ready and keeps nothing"})
		}
	}
	return out
}

// tells says whether the Service's condition is up to date and fits what it has.
func tells(svc *corev1.Service) error {
	has := ingress(svc)
	state := meta.FindStatusCondition(svc.Status.Conditions, assigned)
	switch {
	case !wishOf(svc).ours:
		if state != nil || len(has) > 0 {
			return fmt.Errorf("is not ours any more and has %v, %s", has, told(svc.Status.Conditions))
		}
	case state == nil || state.ObservedGeneration != svc.Generation || state.Reason == "" || state.Message == "":
		return fmt.Errorf("generation %d has %s", svc.Generation, told(svc.Status.Conditions))
	case state.Status == metav1.ConditionTrue && len(has) == 0, state.Status != metav1.ConditionTrue && state.Reason == "Assigned":
		return fmt.Errorf("has %v, %s", has, told(svc.Status.Conditions))
	case state.Status == metav1.ConditionTrue && *svc.Spec.IPFamilyPolicy != corev1.IPFamilyPolicyPreferDualStack && len(has) != len(svc.Spec.IPFamilies):
		return fmt.Errorf("wants %v and has %v, %s", svc.Spec.IPFamilies, has, told(svc.Status.Conditions))
	}
	return nil
}

// counts are the numbers in a pool's status.
type counts struct{ assigned4, assigned6, available4, available6 int64 }

// miscounted are pools whose status does not say what Services and claims have.
func (s *state) miscounted() (out []problem) {
	inUse := s.inUse()
	want, sure, lost := s.count(inUse)
	for _, a := range lost {
		out = append(out, problem{a.String(), "is in use, in no pool and in no status.retiring"})
	}
	for i := range s.pools {
		p, got := &s.pools[i], s.pools[i].Status
		is := counts{got.AssignedIPv4, got.AssignedIPv6, got.AvailableIPv4, got.AvailableIPv6}
		if sure && is != *want[p.Name] {
			out = append(out, problem{p.Name, fmt.Sprintf("the status says %+v, Services and claims say %+v", is, *want[p.Name])})
		}
		for _, r := range got.Retiring {
			if a := netip.MustParseAddr(r.Address); !inUse[a] {
				out = append(out, problem{p.Name, fmt.Sprintf("%s is retiring, and nobody has it", a)})
			}
		}
		if c := meta.FindStatusCondition(got.Conditions, ready); c == nil || c.ObservedGeneration != p.Generation {
			out = append(out, problem{p.Name, fmt.Sprintf("generation %d has %s", p.Generation, told(got.Conditions))})
		}
	}
	return out
}

// inUse is every address that a Service or a claim has.
func (s *state) inUse() map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for i := range s.services {
		for _, a := range ingress(&s.services[i]) {
			out[a] = true
		}
	}
	for i := range s.claims {
		for _, a := range kept(&s.claims[i]) {
			out[a] = true
		}
	}
	return out
}

// count is what the pools must say. It is not sure when an address is only in
// pools that overlap: it counts to the one that it was given from. Addresses of
// no pool are lost.
func (s *state) count(inUse map[netip.Addr]bool) (want map[string]*counts, sure bool, lost []netip.Addr) {
	from, overlapping := inForce(s.pools)
	want, sure = map[string]*counts{}, true
	for i := range s.pools {
		want[s.pools[i].Name] = &counts{}
	}
	for a, name := range from {
		if !inUse[a] {
			*pick(a, &want[name].available4, &want[name].available6)++
		}
	}
	for a := range inUse {
		name := from[a]
		for i := range s.pools {
			if name == "" && isRetiring(&s.pools[i], a) {
				name = s.pools[i].Name
			}
		}
		switch c := want[name]; {
		case c != nil:
			*pick(a, &c.assigned4, &c.assigned6)++
		case overlapping[a]:
			sure = false
		default:
			lost = append(lost, a)
		}
	}
	return want, sure, lost
}

// digest is what a restart may not change.
func (s *state) digest() map[string]string {
	out := map[string]string{}
	for i := range s.services {
		svc := &s.services[i]
		out[keyOf(svc)] = fmt.Sprint(ingress(svc), " ", told(svc.Status.Conditions))
	}
	for i := range s.claims {
		c := &s.claims[i]
		out[claimKey(c)] = fmt.Sprint(kept(c), " bound to ", c.Status.BoundTo, " ", told(c.Status.Conditions))
	}
	for i := range s.pools {
		p := &s.pools[i]
		out[p.Name] = fmt.Sprint(p.Status.AssignedIPv4, p.Status.AssignedIPv6, p.Status.AvailableIPv4, p.Status.AvailableIPv6,
			p.Status.Retiring, told(p.Status.Conditions))
	}
	return out
}

func keyOf(svc *corev1.Service) string { return svc.Namespace + "/" + svc.Name }

func claimKey(c *v1alpha1.IPAddressClaim) string {
	return "IPAddressClaim " + c.Namespace + "/" + c.Name
}

// kept is the addresses in the claim's status.
func kept(c *v1alpha1.IPAddressClaim) (out []netip.Addr) {
	for _, a := range c.Status.Addresses {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}

func pick(a netip.Addr, four, six *int64) *int64 {
	if a.Is4() {
		return four
	}
	return six
}

func isRetiring(p *v1alpha1.IPAddressPool, a netip.Addr) bool {
	return slices.ContainsFunc(p.Status.Retiring, func(r v1alpha1.RetiringAddress) bool { return r.Address == a.String() })
}

// addressesOf is all addresses of a pool of this test.
func addressesOf(p *v1alpha1.IPAddressPool) map[netip.Addr]bool {
	out := map[netip.Addr]bool{}
	for _, text := range p.Spec.Addresses {
		net := netip.MustParsePrefix(string(text))
		for a := net.Addr(); net.Contains(a); a = a.Next() {
			out[a] = true
		}
	}
	return out
}

// inForce is the pool that each address can be had from: of those that overlap
// the oldest. The addresses of the others are in overlapping.
func inForce(pools []v1alpha1.IPAddressPool) (of map[netip.Addr]string, overlapping map[netip.Addr]bool) {
	of, overlapping = map[netip.Addr]string{}, map[netip.Addr]bool{}
	oldest := slices.SortedFunc(slices.Values(pools), func(x, y v1alpha1.IPAddressPool) int {
		if xGoes, yGoes := x.DeletionTimestamp != nil, y.DeletionTimestamp != nil; xGoes != yGoes {
			if xGoes { // it makes way
				return 1
			}
			return -1
		}
		if c := x.CreationTimestamp.Compare(y.CreationTimestamp.Time); c != 0 {
			return c
		}
		return strings.Compare(x.Name, y.Name)
	})
	for i := range oldest {
		all := addressesOf(&oldest[i])
		taken := false
		for a := range all {
			taken = taken || of[a] != ""
		}
		for a := range all {
			if taken {
				overlapping[a] = true
			} else {
				of[a] = oldest[i].Name
			}
		}
	}
	return of, overlapping
}
