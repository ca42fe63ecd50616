package doctor

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// The checks of what a person wrote: pools, claims, advertisements.

// objects finds those that are not in effect as written. Of peers another check
// tells.
func objects(c *cluster.Cluster) (out []Finding) {
	add := func(kind, name string, o client.Object, conditions []metav1.Condition) {
		ready, known := cluster.Ready(conditions)
		if !known || ready.Status == metav1.ConditionTrue || waitsForController(c, o) {
			return
		}
		f := Finding{
			Severity: Problem, About: []string{kind + " " + name}, Says: ready.Message, Fix: kube.ReasonFix(ready.Reason),
			Evidence: []string{fmt.Sprintf("Ready is False, %s, for %s", ready.Reason, c.Age(ready.LastTransitionTime))},
		}
		if ready.Reason == v1alpha1.ReasonDisabled || ready.Reason == v1alpha1.ReasonInUse {
			f.Severity = Note // as was wanted
		}
		out = append(out, f)
	}
	for i := range c.Pools {
		add("IPAddressPool", c.Pools[i].Name, &c.Pools[i], c.Pools[i].Status.Conditions)
	}
	for i := range c.Claims {
		add("IPAddressClaim", c.Claims[i].Namespace+"/"+c.Claims[i].Name, &c.Claims[i], c.Claims[i].Status.Conditions)
	}
	for i := range c.L2Advertisements {
		add("L2Advertisement", c.L2Advertisements[i].Name, &c.L2Advertisements[i], c.L2Advertisements[i].Status.Conditions)
	}
	for i := range c.BGPAdvertisements {
		add("BGPAdvertisement", c.BGPAdvertisements[i].Name, &c.BGPAdvertisements[i], c.BGPAdvertisements[i].Status.Conditions)
	}
	return out
}

// network is one whose addresses are no pool's to give.
type network struct {
	rng  lb.Range
	what string
	fix  string
}

// overlaps finds pools with addresses that are somebody else's already.
func overlaps(c *cluster.Cluster) []Finding {
	var g gathered
	taken := networks(c)
	for i := range c.Pools {
		pool, err := kube.Pool(&c.Pools[i])
		if err != nil {
			continue // it has a condition
		}
		for _, n := range taken {
			for _, r := range pool.Ranges {
				if r.Overlaps(n.rng) {
					g.add(Finding{
						Severity: Problem, About: []string{"IPAddressPool " + pool.Name}, Says: fmt.Sprintf("has addresses of %s", n.what),
						Evidence: []string{fmt.Sprintf("spec.addresses has %s, and that is %s", r, n.rng)}, Fix: n.fix,
					})
				}
			}
		}
	}
	return g.list
}

func networks(c *cluster.Cluster) (out []network) {
	prefix := func(text, what, fix string) {
		if r, err := config.Range(text); err == nil {
			out = append(out, network{r, what, fix})
		}
	}
	for i := range c.Nodes {
		n := &c.Nodes[i]
		for _, cidr := range n.Spec.PodCIDRs {
			prefix(cidr, "the pods of the cluster", "choose addresses that are not in the nodes' spec.podCIDRs")
		}
	}
	const services = "the cluster's Services (ClusterIP)"
	for i := range c.ServiceCIDRs {
		for _, cidr := range c.ServiceCIDRs[i].Spec.CIDRs {
			prefix(cidr, services, "choose addresses that are not in the ServiceCIDRs")
		}
	}
	if len(c.ServiceCIDRs) == 0 { // the API server does not tell, but what it gave does
		for i := range c.Services {
			if ip := c.Services[i].Spec.ClusterIP; ip != "" && ip != corev1.ClusterIPNone {
				prefix(ip, services, "choose addresses outside of the network of Services")
			}
		}
	}
	return out
}

// withheld finds pools with addresses that are not assigned, as something else has them.
func withheld(c *cluster.Cluster) (out []Finding) {
	for i := range c.Pools {
		list := c.Withheld(c.Pools[i].Name)
		if len(list) == 0 {
			continue
		}
		f := Finding{
			Severity: Note, About: []string{"IPAddressPool " + c.Pools[i].Name}, Says: term.Count(len(list), "address is", "addresses are") + " not assigned, as something else has them",
			Fix: "nothing has to be done; to make that explicit, add them to spec.excludes",
		}
		for _, b := range list[:min(few, len(list))] {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s", b.Addr, b.Block))
		}
		out = append(out, f)
	}
	return out
}

// poolSubnet finds pools for layer 2 with addresses that no node can announce, as they are in
// nobody's subnet: before a Service has one of them.
func poolSubnet(c *cluster.Cluster) (out []Finding) {
	for i := range c.Pools {
		pool, err := kube.Pool(&c.Pools[i])
		if err != nil || len(c.View.Speakers) == 0 || !bySubnetAlone(c, pool.Name) {
			continue
		}
		for _, r := range pool.Ranges {
			end := r.From
			if c.View.InReach(end) {
				end = r.To
			}
			if c.View.InReach(end) {
				continue
			}
			out = append(out, Finding{
				Severity: Problem, About: []string{"IPAddressPool " + pool.Name}, Says: fmt.Sprintf("%s of %s cannot be announced: %s", end, r, c.View.NoSubnet(end)),
				Evidence: []string{"no L2Advertisement of the pool names interfaces, and no BGPAdvertisement selects it"}, Fix: lb.ReasonNoSubnet.Fix(),
			})
		}
	}
	return out
}

// bySubnetAlone reports whether the pool's addresses are announced by layer 2, on interfaces
// that are found by their subnets, and in no other way.
func bySubnetAlone(c *cluster.Cluster, pool string) bool {
	chosen := false
	for i := range c.View.Advertisements {
		if a := &c.View.Advertisements[i]; a.SelectsPool(pool) {
			if len(a.Interfaces) > 0 {
				return false
			}
			chosen = true
		}
	}
	return chosen && !slices.ContainsFunc(c.View.BGPAdvertisements, func(a lb.BGPAdvertisement) bool { return a.SelectsPool(pool) })
}

// NearlyFull is the use of a pool from which on a person should know.
const NearlyFull = 0.85

// poolUse finds pools that have few addresses left.
func poolUse(c *cluster.Cluster) (out []Finding) {
	for i := range c.Pools {
		p := &c.Pools[i]
		s := &p.Status
		for _, u := range []struct {
			family     lb.Family
			used, free int64
		}{{lb.IPv4, s.AssignedIPv4, s.AvailableIPv4}, {lb.IPv6, s.AssignedIPv6, s.AvailableIPv6}} {
			whole := float64(u.used) + float64(u.free)
			if p.Spec.Disabled || u.used == 0 || float64(u.used) < NearlyFull*whole {
				continue
			}
			f := Finding{
				Severity: Warning, About: []string{"IPAddressPool " + p.Name}, Fix: lb.ReasonExhausted.Fix(),
				Says: fmt.Sprintf("%d of %.0f %s addresses are in use", u.used, whole, u.family),
			}
			out = append(out, f)
		}
	}
	return out
}

// poolAnnounced finds pools whose addresses nobody will announce.
func poolAnnounced(c *cluster.Cluster) (out []Finding) {
	if len(c.Pools) == 0 {
		return []Finding{{Severity: Note, Says: "there is no IPAddressPool, so no Service gets an address", Fix: lb.ReasonNoPool.Fix()}}
	}
	for i := range c.Pools {
		name := c.Pools[i].Name
		chosen := false
		for j := range c.View.Advertisements {
			chosen = chosen || c.View.Advertisements[j].SelectsPool(name)
		}
		for j := range c.View.BGPAdvertisements {
			chosen = chosen || c.View.BGPAdvertisements[j].SelectsPool(name)
		}
		if !chosen {
			out = append(out, Finding{
				Severity: Warning, About: []string{"IPAddressPool " + name}, Says: "no advertisement selects it: its addresses are assigned, but not announced",
				Fix: "create an L2Advertisement or a BGPAdvertisement for it",
			})
		}
	}
	return out
}

// retiring finds addresses that stay only until their Services give them back.
func retiring(c *cluster.Cluster) (out []Finding) {
	for i := range c.Pools {
		p := &c.Pools[i]
		if len(p.Status.Retiring) == 0 {
			continue
		}
		f := Finding{
			Severity: Note, About: []string{"IPAddressPool " + p.Name}, Says: term.Count(len(p.Status.Retiring), "address in use is", "addresses in use are") + " no longer in spec.addresses; Services keep them until they release them",
			Fix: "nothing has to be done; to be rid of one, let its Service ask for another address",
		}
		for _, r := range p.Status.Retiring[:min(few, len(p.Status.Retiring))] {
			f.Evidence = append(f.Evidence, r.Address+" of "+r.Service)
		}
		out = append(out, f)
	}
	return out
}
