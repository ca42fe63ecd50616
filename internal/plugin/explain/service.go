package explain

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// State is how far a Service has come.
type State string

// How far a Service has come.
const (
	NotOurs      State = "NotOurs"      // Fairlead has nothing to do with it
	Pending      State = "Pending"      // it lacks an address
	NotAnnounced State = "NotAnnounced" // it has one, and the network does not hear of it
	Healthy      State = "Announced"
)

// tones are those of the states.
var tones = map[State]term.Tone{NotOurs: term.Warn, Pending: term.Bad, NotAnnounced: term.Bad, Healthy: term.Good}

// PoolVerdict is what a pool has to do with a Service's request.
type PoolVerdict struct {
	Pool  string `json:"pool"`
	Gives bool   `json:"gives"`
	Asked bool   `json:"asked"`
	Words string `json:"words"`
}

// ServiceReport is the whole chain from a Service's class to who announces its
// addresses.
type ServiceReport struct {
	Service   string        `json:"service"`
	State     State         `json:"state"`
	Class     string        `json:"class"`
	Asks      string        `json:"asks,omitempty"`
	Pools     []PoolVerdict `json:"pools,omitempty"`
	Addresses []AddressPart `json:"addresses,omitempty"`
	Endpoints string        `json:"endpoints,omitempty"`
	History   []string      `json:"history,omitempty"` // what was said of it, latest first
	Cause     string        `json:"cause"`             // why it is not announced, or that it is
	Next      []string      `json:"next,omitempty"`    // what to do
	Notes     []string      `json:"notes,omitempty"`   // what is not as it could be
}

// Kind names the report.
func (r *ServiceReport) Kind() string { return "ServiceExplanation" }

// Service explains a Service. events are those about it.
func Service(c *cluster.Cluster, key lb.ServiceKey, events []corev1.Event) (*ServiceReport, error) {
	svc := c.Service(key)
	if svc == nil {
		return nil, fmt.Errorf("there is no Service %s; name its namespace by -n", key)
	}
	r := &ServiceReport{Service: key.String(), History: history(c, events), Notes: c.Unread}
	if !r.class(c, svc) {
		return r, nil
	}
	d, err := c.Decide(svc)
	if err != nil {
		return nil, err
	}
	r.Asks = asks(&d.Request)
	r.Pools = pools(c, svc, &d)
	for _, as := range c.View.Assignments {
		if as.Service != key {
			continue
		}
		for _, g := range as.Grants {
			part := addressPart(c, g)
			part.Why = whyThis(&d.Request, g.Addr, kube.RecordOf(svc))
			r.Addresses = append(r.Addresses, part)
			if part.Layer2.Moved != "" {
				r.History = append([]string{part.Layer2.Moved}, r.History...)
			}
		}
	}
	r.Endpoints = endpoints(c, svc)
	r.conclude(c, svc, &d)
	return r, nil
}

// class says whose the Service is, and reports whether it is ours.
func (r *ServiceReport) class(c *cluster.Cluster, svc *corev1.Service) bool {
	r.State = NotOurs
	class := svc.Spec.LoadBalancerClass
	switch {
	case svc.Spec.Type != corev1.ServiceTypeLoadBalancer:
		r.Class = fmt.Sprintf("none of ours: spec.type is %s", cmp.Or(svc.Spec.Type, corev1.ServiceTypeClusterIP))
		r.Cause = "only a Service of type LoadBalancer gets an address"
		r.Next = []string{"set spec.type: LoadBalancer, if it is to be reached from outside of the cluster"}
	case svc.DeletionTimestamp != nil:
		r.Class = "being deleted"
		r.Cause = "it is on its way out; waits for " + strings.Join(svc.Finalizers, ", ")
	case class == nil && !c.Class.Classless:
		r.Class = "none, and Services without spec.loadBalancerClass are not Fairlead's here"
		r.Cause = "its class is not Fairlead's"
		r.Next = []string{"recreate the Service with spec.loadBalancerClass: " + c.Class.Name + "; the field cannot be changed"}
	case class == nil:
		r.Class = "none: Services without spec.loadBalancerClass are Fairlead's"
		return true
	case *class != c.Class.Name:
		r.Class = fmt.Sprintf("%q, which is not Fairlead's (%q)", *class, c.Class.Name)
		r.Cause = fmt.Sprintf("spec.loadBalancerClass is %q: the Service is another controller's", *class)
		r.Next = []string{"recreate the Service without spec.loadBalancerClass, or with " + c.Class.Name + "; the field cannot be changed"}
	default:
		r.Class = fmt.Sprintf("%q: Fairlead's", *class)
		return true
	}
	return false
}

// asks says what the Service asks for.
func asks(req *lb.Request) string {
	var families []string
	for _, f := range req.Families {
		families = append(families, "an "+f.String())
	}
	joint := " and "
	if !req.RequireAll {
		joint = " and, if it can be had, "
	}
	s := strings.Join(families, joint) + " address"
	for _, a := range req.Addresses {
		s += ", " + a.String()
	}
	if req.Pool != "" {
		s += fmt.Sprintf(", from pool %q", req.Pool)
	}
	if req.Claim != "" {
		s += fmt.Sprintf(", what IPAddressClaim %q keeps", req.Claim)
	}
	if req.ShareKey != "" {
		s += fmt.Sprintf(", shared by the key %q", req.ShareKey)
	}
	return s
}

// pools says of each pool what it has to do with the request, those asked first.
func pools(c *cluster.Cluster, svc *corev1.Service, d *cluster.Decision) (out []PoolVerdict) {
	mentioned := map[string]bool{}
	add := func(v PoolVerdict) {
		if !slices.Contains(out, v) {
			out = append(out, v)
		}
		mentioned[v.Pool] = true
	}
	for _, r := range slices.Concat(d.FromScratch.Passed, d.FromScratch.Refusals) {
		if r.Pool != "" {
			add(PoolVerdict{Pool: r.Pool, Asked: true, Words: refusal(r)})
		}
	}
	given := map[string][]string{}
	for _, a := range kube.IngressAddresses(svc) {
		if pool, ok := c.PoolSet.OfService(svc, a); ok {
			given[pool] = append(given[pool], a.String())
		}
	}
	for i := range c.Pools {
		name := c.Pools[i].Name
		gives := slices.ContainsFunc(d.FromScratch.Grants, func(g lb.Grant) bool { return g.Pool == name })
		switch {
		case given[name] != nil:
			add(PoolVerdict{Pool: name, Asked: true, Gives: true, Words: "assigned " + strings.Join(given[name], ", ")})
		case gives && len(given) == 0:
			add(PoolVerdict{Pool: name, Asked: true, Gives: true, Words: "has a free address"})
		case gives:
			add(PoolVerdict{Pool: name, Words: "comes first now; the Service keeps what it has"})
		}
	}
	for i := range c.Pools {
		if name := c.Pools[i].Name; !mentioned[name] {
			add(PoolVerdict{Pool: name, Words: "is not asked: " + notAsked(&d.Request)})
		}
	}
	return out
}

func notAsked(req *lb.Request) string {
	switch {
	case req.Claim != "":
		return "the Service has what its claim keeps"
	case req.Pool != "":
		return fmt.Sprintf("the Service names pool %q", req.Pool)
	default:
		return "another comes first"
	}
}

// refusal is the words of a refusal without the pool's name.
func refusal(r lb.Refusal) string {
	return strings.TrimPrefix(r.String(), fmt.Sprintf("pool %q: ", r.Pool))
}

// whyThis says why the Service has this address and no other.
func whyThis(req *lb.Request, a netip.Addr, record kube.Record) string {
	if want, named := req.Exact(lb.FamilyOf(a)); named && want == a {
		return lb.ReasonNamed.Words()
	}
	if req.Claim != "" {
		return fmt.Sprintf("kept by IPAddressClaim %q", req.Claim)
	}
	assigned, _ := record.Of(a)
	if picked := lb.ReasonFrom(assigned.Picked); picked != 0 {
		return picked.Words()
	}
	return ""
}

// endpoints says where the Service is served.
func endpoints(c *cluster.Cluster, svc *corev1.Service) string {
	slices := c.EndpointsOf(kube.Key(svc))
	all := 0
	for i := range slices {
		all += len(slices[i].Endpoints)
	}
	ready := readyOn(svc, kube.ReadyNodes(slices))
	switch {
	case ready != "":
		s := ready
		if kube.TrafficPolicy(svc) == lb.TrafficLocal {
			s += "; externalTrafficPolicy: Local, so only these nodes can announce it"
		}
		return s
	case all > 0:
		return fmt.Sprintf("%d, and none is ready", all)
	case len(svc.Spec.Selector) == 0:
		return "none: the Service has no spec.selector, and there is no EndpointSlice for it"
	default:
		return fmt.Sprintf("none: no pod has the labels of spec.selector (%s)", labels.FormatLabels(svc.Spec.Selector))
	}
}

// readyOn names the nodes with ready endpoints, by address family where the families of
// the Service differ; "" when there are none.
func readyOn(svc *corev1.Service, ready lb.ReadyNodes) string {
	families := kube.Families(svc)
	alike, served := true, false
	for _, f := range families {
		alike = alike && slices.Equal(ready.Of(f), ready.Of(families[0]))
		served = served || len(ready.Of(f)) > 0
	}
	switch {
	case !served:
		return ""
	case alike:
		return "ready on " + some(ready.Of(families[0]))
	}
	var parts []string
	for _, f := range families {
		if nodes := ready.Of(f); len(nodes) > 0 {
			parts = append(parts, fmt.Sprintf("%s ready on %s", f, some(nodes)))
		} else {
			parts = append(parts, fmt.Sprintf("%s: none is ready", f))
		}
	}
	return strings.Join(parts, "; ")
}

// conclude says what is in the way, the first thing first, and what to do.
func (r *ServiceReport) conclude(c *cluster.Cluster, svc *corev1.Service, d *cluster.Decision) {
	condition := kube.AssignedCondition(svc)
	switch {
	case d.Invalid != nil:
		r.pending(d.Invalid.Error(), lb.ReasonInvalidRequest)
	case d.Foreign:
		r.State = NotOurs
		r.Cause = fmt.Sprintf("it has %v, which is in no pool: another controller assigned it, or its pool is gone", kube.IngressAddresses(svc))
		r.Next = []string{"add the address to a pool, and Fairlead continues to serve it; or let the other controller serve it"}
	case !d.Now.Met:
		r.pending(d.Now.String(), refusals(d.Now.Refusals)...)
		r.claimElsewhere(c, &d.Request, svc.Namespace)
	case len(r.Addresses) == 0 && condition != nil && condition.Status == metav1.ConditionFalse:
		r.pending("the controller reports: "+condition.Message, lb.ReasonFrom(condition.Reason))
	case len(r.Addresses) == 0:
		r.State, r.Cause = Pending, "a pool has an address for it, and "+cmp.Or(leaderless(c), "the controller has not assigned it yet")
		r.Next = []string{controllerFix(c)}
	default:
		r.announcement()
	}
	if r.State != Pending && len(d.Now.Refusals) > 0 { // as a second family that is only preferred
		r.Notes = append(r.Notes, d.Now.String())
	}
}

func (r *ServiceReport) pending(cause string, reasons ...lb.Reason) {
	r.State, r.Cause = Pending, cause
	if len(r.Addresses) > 0 { // it keeps what it has
		r.announcement()
		r.Cause = cause + "; " + r.Cause
	}
	for _, reason := range reasons {
		r.do(reason.Fix())
	}
}

// claimElsewhere notes that another namespace has the claim which the Service's own
// lacks.
func (r *ServiceReport) claimElsewhere(c *cluster.Cluster, req *lb.Request, namespace string) {
	var elsewhere []string
	for i := range c.Claims {
		switch claim := &c.Claims[i]; {
		case claim.Name != req.Claim:
		case claim.Namespace == namespace:
			return
		default:
			elsewhere = append(elsewhere, claim.Namespace)
		}
	}
	if len(elsewhere) > 0 {
		r.Notes = append(r.Notes, fmt.Sprintf("there is an IPAddressClaim %q in %s; a Service can only name one of its own namespace", req.Claim, some(elsewhere)))
	}
}

// do adds what is to be done, each once.
func (r *ServiceReport) do(fixes ...string) {
	for _, fix := range fixes {
		if fix != "" && !slices.Contains(r.Next, fix) {
			r.Next = append(r.Next, fix)
		}
	}
}

func refusals(list []lb.Refusal) (out []lb.Reason) {
	elsewhere := slices.ContainsFunc(list, func(r lb.Refusal) bool { return r.Reason != lb.ReasonAddressNotInPool })
	for _, r := range list {
		if r.Reason != lb.ReasonAddressNotInPool || !elsewhere { // that a pool has not an exact address matters only if none has
			out = append(out, r.Reason)
		}
	}
	return out
}

// leaderless says why no controller is active, or "".
func leaderless(c *cluster.Cluster) string {
	why, _ := c.Leaderless()
	return why
}

// controllerFix says what to do when the controller does not act.
func controllerFix(c *cluster.Cluster) string {
	if leaderless(c) != "" {
		return c.ControllerFix()
	}
	return fmt.Sprintf("wait a second; if nothing happens, see the log of the active controller, %s", leader(c))
}

func leader(c *cluster.Cluster) string {
	if c.Lease == nil || c.Lease.Spec.HolderIdentity == nil {
		return "which is not known"
	}
	return *c.Lease.Spec.HolderIdentity
}

// announcement says who announces the addresses, or why none does.
func (r *ServiceReport) announcement() {
	r.State = Healthy
	var fine, wrong []string
	for i := range r.Addresses {
		a := &r.Addresses[i]
		if a.block != nil && a.block.Unusable() {
			r.State = NotAnnounced
			wrong = append(wrong, a.Blocked)
			r.do(a.block.Fix())
		}
		if a.announced() {
			fine = append(fine, a.summary())
			r.Notes = append(r.Notes, a.notes()...)
			r.do(a.remedies()...)
			continue
		}
		r.State = NotAnnounced
		for _, w := range a.ways() {
			cause := fmt.Sprintf("%s is not announced: %s", a.Address, w.cause())
			if !slices.Contains(wrong, cause) { // both ways may lack the same
				wrong = append(wrong, cause)
			}
			r.do(w.fixes()...)
		}
	}
	r.Cause = strings.Join(append(wrong, fine...), "; ")
	if r.State == Healthy && len(r.Notes) == 0 {
		r.Next = []string{"nothing; if clients cannot reach it, see kubectl fairlead doctor"}
	}
}

// summary says who announces the address.
func (a *AddressPart) summary() string {
	var parts []string
	for _, w := range []struct {
		name string
		way  *Way
	}{{"layer 2", &a.Layer2}, {"BGP", &a.BGP}} {
		var from []string
		for _, c := range w.way.Candidates {
			if c.Verdict == Announces {
				from = append(from, c.Node)
			}
		}
		if w.way.Announced {
			parts = append(parts, "by "+w.name+" from "+some(from))
		}
	}
	return a.Address.String() + " is announced " + strings.Join(parts, " and ")
}

// notes say what is not as it could be with an address that is announced.
func (a *AddressPart) notes() (out []string) {
	for _, w := range a.ways() {
		if !w.Announced {
			out = append(out, fmt.Sprintf("%s: %s", a.Address, w.cause()))
		}
		for _, c := range w.Candidates {
			switch {
			case c.Verdict == Announces && c.Words != "":
				out = append(out, fmt.Sprintf("%s is announced by %s, which %s: no better node is available", a.Address, c.Node, c.Words))
			case c.Verdict == Silent:
				out = append(out, fmt.Sprintf("%s is not announced by %s: no session that is up with %s", a.Address, c.Node, c.Words))
			}
		}
		for _, f := range w.Conflicts {
			out = append(out, fmt.Sprintf("a host outside of the cluster has %s too: %s", a.Address, f))
		}
	}
	if a.block != nil && !a.block.Unusable() {
		out = append(out, a.Blocked)
	}
	if a.Retiring {
		out = append(out, fmt.Sprintf("%s is no longer in pool %q; the Service keeps it until it releases it", a.Address, a.Pool))
	}
	return out
}

// remedies are what to do about the nodes that announce the address only because no
// better one can.
func (a *AddressPart) remedies() (out []string) {
	for _, w := range a.ways() {
		for _, c := range w.Candidates {
			if c.Verdict == Announces {
				out = append(out, lb.ReasonFrom(c.Reason).FixOn(c.Node))
			}
		}
	}
	return out
}

// history tells events, latest first.
func history(c *cluster.Cluster, events []corev1.Event) (out []string) {
	const most = 8
	for _, e := range events[:min(len(events), most)] {
		out = append(out, fmt.Sprintf("%s ago: %s: %s", c.Age(LastSeen(&e)), e.Reason, e.Message))
	}
	return out
}

// few is how much of its history is told of a Service, unless all is wanted.
const few = 3

// Text writes the report.
func (r *ServiceReport) Text(p *term.Page, wide bool) {
	p.Line(term.In(term.Strong, "Service %s", r.Service), term.In(tones[r.State], "%s", r.State))
	p.Line()
	p.Field("Class", term.Say("%s", r.Class))
	if r.Asks != "" {
		p.Field("Asks for", term.Say("%s", r.Asks))
	}
	label := "Pools"
	for _, v := range r.Pools {
		p.Field(label, v.mark(), term.Say("%s %s", v.Pool, v.Words))
		label = ""
	}
	for i := range r.Addresses {
		r.Addresses[i].text(p)
	}
	if r.Endpoints != "" {
		p.Field("Endpoints", term.Say("%s", r.Endpoints))
	}
	shown := r.History
	if !wide {
		shown = shown[:min(len(shown), few)]
	}
	list(p, "History", shown)
	p.Line()
	p.Field("Status", term.In(tones[r.State], "%s", r.Cause))
	list(p, "Note", r.Notes)
	list(p, "Next step", r.Next)
}

func (v PoolVerdict) mark() term.Text {
	switch {
	case v.Gives:
		return term.In(term.Good, "✓")
	case v.Asked:
		return term.In(term.Bad, "✗")
	default:
		return term.In(term.Faint, "·")
	}
}

// text writes an address, where it is from and who announces it.
func (a *AddressPart) text(p *term.Page) {
	words := fmt.Sprintf("from pool %q", a.Pool)
	if a.Why != "" {
		words += ", " + a.Why
	}
	if a.Retiring {
		words += ", retiring: the pool no longer has it"
	}
	p.Field("Address", term.In(term.Strong, "%s", a.Address), term.Say("%s", words))
	if len(a.Shared) > 0 {
		p.Field("", term.Say("shared by %s", strings.Join(a.Shared, ", ")))
	}
	if a.Claim != "" {
		p.Field("", term.Say("kept by IPAddressClaim %s", a.Claim))
	}
	if len(a.Layer2.Adverts)+len(a.BGP.Adverts) == 0 {
		p.Field("", term.In(term.Bad, "✗"), term.Say("there is no L2Advertisement and no BGPAdvertisement"))
	}
	a.Layer2.text(p, "  Layer 2")
	a.BGP.text(p, "  BGP")
}

// list writes a field with a line for each of its values.
func list(p *term.Page, label string, values []string) {
	for _, v := range values {
		p.Field(label, term.Say("%s", v))
		label = ""
	}
}

// some names the first few of many.
func some(names []string) string { return kube.Some(names, 10) }
