package explain

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// Beside the states of a Service, an address may have one of these.
const (
	Free     State = "Free"     // a pool can give it
	Kept     State = "Kept"     // a claim keeps it for a Service to come
	Withheld State = "Withheld" // a pool has it, and does not give it
)

// AddressReport is what an address is to Fairlead.
type AddressReport struct {
	Address  netip.Addr   `json:"address"`
	State    State        `json:"state"`
	Services []string     `json:"services,omitempty"`
	Part     *AddressPart `json:"announcement,omitempty"`
	Cause    string       `json:"cause"`
	Next     []string     `json:"next,omitempty"`
	Notes    []string     `json:"notes,omitempty"`
}

// Kind names the report.
func (r *AddressReport) Kind() string { return "AddressExplanation" }

// Address explains an address.
func Address(c *cluster.Cluster, a netip.Addr) *AddressReport {
	r := &AddressReport{Address: a, Notes: c.Unread}
	if g, ok := c.Grant(a); ok {
		part := addressPart(c, g)
		r.Part = &part
		for _, u := range c.Users[a] {
			r.Services = append(r.Services, u.Service.String())
		}
		told := ServiceReport{Addresses: []AddressPart{part}, Notes: c.Unread}
		told.announcement()
		r.State, r.Cause, r.Next, r.Notes = told.State, told.Cause, told.Next, told.Notes
		return r
	}
	r.unused(c)
	for _, f := range c.View.Conflicts[a.String()] {
		r.Notes = append(r.Notes, fmt.Sprintf("a host outside of the cluster has it: %s, seen by %s on %s", f.MAC, f.Node, f.Interface))
	}
	return r
}

// unused tells of an address that no Service of ours has.
func (r *AddressReport) unused(c *cluster.Cluster) {
	pool, inPool := c.PoolSet.Of(r.Address)
	other, blocks, claim := stranger(c, r.Address), c.BlocksOf(r.Address), c.ClaimOf(r.Address)
	switch {
	case other != nil:
		r.State, r.Services = NotOurs, []string{kube.Key(other).String()}
		r.Cause = fmt.Sprintf("Service %s has it, which is another controller's", kube.Key(other))
		if inPool {
			r.Notes = append(r.Notes, fmt.Sprintf("pool %q has it too, and does not assign it", pool))
		}
	case claim != nil:
		r.State, r.Cause = Kept, fmt.Sprintf("IPAddressClaim %s/%s keeps it, and no Service uses it now", claim.Namespace, claim.Name)
		r.Next = []string{"use it for a Service of the namespace by the annotation fairlead.dev/claim: " + claim.Name}
	case len(blocks) > 0:
		r.State, r.Cause = NotOurs, blocks[0].String()
		if inPool {
			r.Notes = append(r.Notes, fmt.Sprintf("pool %q has it too, and does not assign it", pool))
		}
	case !inPool:
		r.State, r.Cause = NotOurs, "no pool has it, and no Service"
	default:
		r.free(c, pool)
	}
}

// free tells of an address that a pool has and nobody else.
func (r *AddressReport) free(c *cluster.Cluster, pool string) {
	r.State, r.Cause = Free, fmt.Sprintf("it is free, and of pool %q", pool)
	p := c.Pool(pool)
	ready, known := cluster.Ready(p.Status.Conditions)
	switch {
	case p.Spec.AvoidBuggyIPs && lb.Buggy(r.Address):
		r.State, r.Cause = Withheld, fmt.Sprintf("pool %q has it, and does not assign it, as spec.avoidBuggyIPs is true", pool)
	case known && ready.Status != "True":
		r.State, r.Cause = Withheld, fmt.Sprintf("pool %q has it, and does not assign it: %s", pool, ready.Message)
	}
}

// stranger returns a Service that has the address and is not ours, or nil.
func stranger(c *cluster.Cluster, a netip.Addr) *corev1.Service {
	for i := range c.Services {
		svc := &c.Services[i]
		if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && slices.Contains(kube.IngressAddresses(svc), a) {
			return svc
		}
	}
	return nil
}

// Text writes the report.
func (r *AddressReport) Text(p *term.Page, _ bool) {
	tone, known := tones[r.State]
	if !known {
		tone = term.Plain
	}
	p.Line(term.In(term.Strong, "Address %s", r.Address), term.In(tone, "%s", r.State))
	p.Line()
	if len(r.Services) > 0 {
		p.Field("Service", term.Say("%s", strings.Join(r.Services, ", ")))
	}
	if r.Part != nil {
		r.Part.text(p)
	}
	if len(r.Services) > 0 {
		p.Line()
	}
	p.Field("Status", term.In(tone, "%s", r.Cause))
	list(p, "Note", r.Notes)
	list(p, "Next step", r.Next)
}
