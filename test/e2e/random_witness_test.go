package e2e

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// wish is what a Service asks for, as far as its addresses depend on it.
type wish struct {
	ours                   bool // a LoadBalancer, and not being deleted
	families               string
	ips, pool, key, claim  string
	ports, policy, chooses string
}

func wishOf(svc *corev1.Service) wish {
	w := wish{
		ours:     svc.Spec.Type == corev1.ServiceTypeLoadBalancer && svc.DeletionTimestamp == nil,
		families: fmt.Sprint(svc.Spec.IPFamilies),
		ips:      svc.Annotations[v1alpha1.AnnotationLoadBalancerIPs],
		pool:     svc.Annotations[v1alpha1.AnnotationAddressPool],
		key:      svc.Annotations[v1alpha1.AnnotationAllowSharedIP],
		claim:    svc.Annotations[v1alpha1.AnnotationClaim],
		policy:   string(svc.Spec.ExternalTrafficPolicy),
	}
	var ports []string
	for _, p := range svc.Spec.Ports {
		ports = append(ports, fmt.Sprintf("%s/%d", p.Protocol, p.Port))
	}
	w.ports = strings.Join(ports, " ")
	if svc.Spec.ExternalTrafficPolicy == corev1.ServiceExternalTrafficPolicyLocal {
		w.chooses = svc.Namespace + " " + labels.FormatLabels(svc.Spec.Selector)
	}
	return w
}

// clashes says why two Services with these wishes cannot share an address,
// whatever the pool allows.
func (w wish) clashes(o wish) string {
	switch {
	case w.key == "" || w.key != o.key:
		return fmt.Sprintf("the keys are %q and %q", w.key, o.key)
	case w.policy != o.policy || w.chooses != o.chooses:
		return fmt.Sprintf("their backends are %q %q and %q %q", w.policy, w.chooses, o.policy, o.chooses)
	}
	for _, p := range strings.Fields(w.ports) {
		if slices.Contains(strings.Fields(o.ports), p) {
			return "both use " + p
		}
	}
	return ""
}

// forgoes reports whether the wish can be the reason to give the address up.
func (w wish) forgoes(a netip.Addr) bool {
	family := string(corev1.IPv6Protocol)
	if a.Is4() {
		family = string(corev1.IPv4Protocol)
	}
	switch {
	case !w.ours, !strings.Contains(w.families, family), w.pool != "":
		return true
	default:
		return w.ips != "" && !slices.Contains(strings.Split(w.ips, ","), a.String())
	}
}

// life is what has been seen of a Service, from its creation to its end.
type life struct {
	uid types.UID
	now *corev1.Service // nil when it is gone
	// wishes are those since it last had what it asked for, the present one last.
	wishes []wish
	// open says that it may have what it asks for still to come.
	open bool
	had  []netip.Addr // what it was seen with since all was at rest
}

// mayLose reports whether what was asked of the Service itself lets it lose the
// address. Its last wish decides: the loss was written to just that version. It
// gives back what a claim lent it when it does not name the claim any more, and
// what it shares when it cannot share it any more.
func (l *life) mayLose(a netip.Addr) bool {
	last := l.wishes[len(l.wishes)-1]
	if !last.ours {
		return true
	}
	shares := func(w wish) bool { return w.key != "" || w.claim != "" }
	return l.open && (last.forgoes(a) || slices.ContainsFunc(l.wishes, shares))
}

// mayShare reports whether the two could share an address by what they asked
// for, where so many wishes of the first count: who is given it may be judged by
// one that is not its last.
func (l *life) mayShare(o *life, last int) bool {
	return slices.ContainsFunc(l.wishes[max(0, len(l.wishes)-last):], func(w wish) bool {
		return slices.ContainsFunc(o.wishes, func(v wish) bool { return w.clashes(v) == "" })
	})
}

// witness watches everything during a run, and notes what may never be, not even
// for a moment.
type witness struct {
	cancel context.CancelFunc
	idling sync.WaitGroup

	mu     sync.Mutex // guards the fields below
	lives  map[string]*life
	tales  map[string][]string // of claims and pools
	shared map[netip.Addr]map[v1alpha1.SharingPolicy]bool
	last   time.Time // when something changed last
	wrong  []string
	ended  error // why a watch ended
}

func newWitness(t *testing.T, c *corner, namespaces []string) *witness {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &witness{
		cancel: cancel, last: time.Now(), lives: map[string]*life{}, tales: map[string][]string{},
		shared: map[netip.Addr]map[v1alpha1.SharingPolicy]bool{},
	}
	for _, kind := range []client.ObjectList{&corev1.ServiceList{}, &v1alpha1.IPAddressClaimList{}, &v1alpha1.IPAddressPoolList{}} {
		events, err := c.api.Watch(ctx, kind)
		must(t, err)
		w.idling.Go(func() {
			for e := range events.ResultChan() {
				if e.Type != watch.Error {
					w.see(e, namespaces)
				}
			}
			w.mu.Lock()
			defer w.mu.Unlock()
			if ctx.Err() == nil {
				w.ended = fmt.Errorf("the watch of %T has ended", kind)
			}
		})
	}
	t.Cleanup(func() { w.stop(t) })
	return w
}

// stop ends the watches. What they missed nobody saw.
func (w *witness) stop(t *testing.T) {
	w.cancel()
	w.idling.Wait()
	if w.ended != nil {
		t.Error(w.ended)
	}
}

// did notes an operation on the object before it is done.
func (w *witness) did(key, format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.note(key, fmt.Sprintf(format, args...))
}

func (w *witness) note(key, text string) {
	w.tales[key] = append(w.tales[key], text)
}

func (w *witness) see(e watch.Event, namespaces []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	gone := e.Type == watch.Deleted
	switch o := e.Object.(type) {
	case *corev1.Service:
		if slices.Contains(namespaces, o.Namespace) {
			w.last = time.Now()
			w.seeService(o, gone)
		}
	case *v1alpha1.IPAddressClaim:
		w.last = time.Now()
		w.note(claimKey(o), fmt.Sprintf("  %s: gone %v, deleting %v, %v bound to %q, %s",
			o.ResourceVersion, gone, o.DeletionTimestamp != nil, kept(o), o.Status.BoundTo, told(o.Status.Conditions)))
	case *v1alpha1.IPAddressPool:
		w.last = time.Now()
		w.seePool(o, gone)
	}
}

func (w *witness) seePool(p *v1alpha1.IPAddressPool, gone bool) {
	w.note(p.Name, fmt.Sprintf("  %s: gone %v, deleting %v, %v, assigned %d and %d, %d retiring, %s", p.ResourceVersion, gone,
		p.DeletionTimestamp != nil, p.Spec.Addresses, p.Status.AssignedIPv4, p.Status.AssignedIPv6, len(p.Status.Retiring), told(p.Status.Conditions)))
	for a := range addressesOf(p) {
		if w.shared[a] == nil {
			w.shared[a] = map[v1alpha1.SharingPolicy]bool{}
		}
		w.shared[a][p.Spec.Sharing] = true
	}
}

// seeService takes in a version of a Service. Versions come one after the other,
// of all Services in the order in which the API server took them.
func (w *witness) seeService(svc *corev1.Service, gone bool) {
	key := keyOf(svc)
	l := w.lives[key]
	if l == nil || l.uid != svc.UID {
		l = &life{uid: svc.UID, open: true}
		w.lives[key] = l
	}
	var had []netip.Addr
	if l.now != nil {
		had = ingress(l.now)
	}
	l.now, l.had = svc, append(l.had, ingress(svc)...)
	asks := wishOf(svc)
	if len(l.wishes) == 0 || l.wishes[len(l.wishes)-1] != asks {
		l.wishes, l.open = append(l.wishes, asks), true
	}
	w.note(key, fmt.Sprintf("  %s: %+v has %v, %s", svc.ResourceVersion, asks, ingress(svc), told(svc.Status.Conditions)))
	if gone {
		w.note(key, "  gone")
		l.now = nil
		return
	}
	for _, a := range had {
		if !slices.Contains(ingress(svc), a) && !l.mayLose(a) && !w.yields(key, a) {
			w.object(key, fmt.Sprintf("%s lost %s, which nothing asked it to", key, a))
			w.objectMates(key, a)
		}
	}
	for _, a := range ingress(svc) {
		if !slices.Contains(had, a) {
			w.seeGain(key, l, a)
		}
	}
}

// objectMates tells of those who had the address too.
func (w *witness) objectMates(key string, a netip.Addr) {
	for other, o := range w.lives {
		if other != key && slices.Contains(o.had, a) {
			w.object(other, fmt.Sprintf("%s had it too (changed since it was last decided: %t)", other, o.open))
		}
	}
}

// yields reports whether the Service gives the address up to one that it shared
// it with, and that was changed when no controller looked: who leads after that
// cannot know which of the two was changed, and the older one keeps it (A2).
func (w *witness) yields(key string, a netip.Addr) bool {
	mine := w.lives[key]
	for other, o := range w.lives {
		if other != key && o.open && slices.Contains(o.had, a) && !o.mayShare(mine, 1) {
			return true
		}
	}
	return false
}

// seeGain checks that nobody has the address who cannot share it.
func (w *witness) seeGain(key string, l *life, a netip.Addr) {
	for other, o := range w.lives {
		if other != key && o.now != nil && slices.Contains(ingress(o.now), a) && !l.mayShare(o, len(l.wishes)) {
			w.object(key, fmt.Sprintf("%s was given %s, which %s has", key, a, other))
			w.object(other, "that is")
		}
	}
}

// object notes what is wrong, with what led to it.
func (w *witness) object(key, text string) {
	w.wrong = append(w.wrong, text+"\n"+w.tell(key))
}

// tell is the end of the tale of an object.
func (w *witness) tell(key string) string {
	const most = 14
	tale := w.tales[key]
	return key + ":\n" + strings.Join(tale[max(0, len(tale)-most):], "\n")
}

func (w *witness) story(key string) string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.tell(key)
}

// explain is the first problems, with what led to them.
func (w *witness) explain(problems []problem) error {
	const most = 3
	w.mu.Lock()
	defer w.mu.Unlock()
	var errs []error
	for _, p := range problems[:min(most, len(problems))] {
		errs = append(errs, fmt.Errorf("%s: %s\n%s", p.key, p.text, w.tell(p.key)))
	}
	if more := len(problems) - most; more > 0 {
		errs = append(errs, fmt.Errorf("and %d more", more))
	}
	return errors.Join(errs...)
}

func (w *witness) violations() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.wrong
}

// scopes are the sharing policies that each address has ever been under.
func (w *witness) scopes() map[netip.Addr]map[v1alpha1.SharingPolicy]bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[netip.Addr]map[v1alpha1.SharingPolicy]bool{}
	for a, policies := range w.shared {
		out[a] = maps.Clone(policies)
	}
	return out
}

// idle says whether nothing has changed for that long.
func (w *witness) idle(long time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if since := time.Since(w.last); since < long {
		return fmt.Errorf("something changed %v ago", since)
	}
	return w.ended
}

// knows says whether the watch has seen these very versions.
func (w *witness) knows(services []corev1.Service) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range services {
		l := w.lives[keyOf(&services[i])]
		if l == nil || l.now == nil || l.now.ResourceVersion != services[i].ResourceVersion {
			return fmt.Errorf("the watch has not seen the last version of %s", keyOf(&services[i]))
		}
	}
	return nil
}

// close says that all is done. A Service that has what it asks for has no reason
// to change any more, until something else is asked of it.
func (w *witness) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.lives {
		if l.now == nil {
			continue
		}
		l.had = ingress(l.now)
		if meta.IsStatusConditionTrue(l.now.Status.Conditions, assigned) {
			l.wishes, l.open = l.wishes[len(l.wishes)-1:], false
		}
	}
}
