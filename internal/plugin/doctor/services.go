package doctor

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// The checks of Services and routers.

// pending finds Services that wait for an address.
func pending(c *cluster.Cluster) []Finding {
	var g gathered
	for i := range c.Services {
		svc := &c.Services[i]
		if !c.Class.Handles(svc) {
			continue
		}
		condition := kube.AssignedCondition(svc)
		about := "Service " + kube.Key(svc).String()
		switch {
		case condition == nil && len(kube.IngressAddresses(svc)) == 0:
			g.add(Finding{
				Severity: Warning, About: []string{about}, Says: "the controller has not looked at it yet",
				Evidence: []string{fmt.Sprintf("%s is %s old and has no condition", about, c.Age(svc.CreationTimestamp))},
				Fix:      "check that the controller runs",
			})
		case condition != nil && condition.Status == metav1.ConditionFalse:
			g.add(Finding{
				Severity: Problem, About: []string{about}, Says: condition.Message, Fix: lb.ReasonFrom(condition.Reason).Fix(),
				Evidence: []string{fmt.Sprintf("%s: %s for %s", about, condition.Reason, c.Age(condition.LastTransitionTime))},
			})
		}
	}
	return g.list
}

// unassigned finds Services of ours with an ingress entry that Fairlead did not write, as
// one that another load balancer left behind: Fairlead leaves it alone, and no speaker
// announces it.
func unassigned(c *cluster.Cluster) []Finding {
	var g gathered
	for i := range c.Services {
		svc := &c.Services[i]
		if !c.Class.Handles(svc) {
			continue
		}
		var foreign []string
		for _, in := range svc.Status.LoadBalancer.Ingress {
			if !assignedTo(c, svc, in.IP) {
				foreign = append(foreign, cmp.Or(in.IP, in.Hostname))
			}
		}
		if len(foreign) == 0 {
			continue
		}
		about := "Service " + kube.Key(svc).String()
		f := Finding{
			Severity: Warning, About: []string{about}, Says: "status.loadBalancer.ingress has an entry that Fairlead did not write, and does not announce",
			Evidence: []string{fmt.Sprintf("%s: %s", about, kube.Some(foreign, few))},
			Fix: "if another load balancer serves the Service, let only one of the two handle it (spec.loadBalancerClass, or handleClassless=false); if not, remove the entry, and Fairlead assigns an address: " +
				`kubectl patch service NAME -n NAMESPACE --subresource=status --type=merge -p '{"status":{"loadBalancer":{"ingress":null}}}'`,
		}
		if manager, at := kube.IngressWriter(svc); manager != "" {
			f.Says += fmt.Sprintf("; field manager %q wrote it", manager)
			f.Evidence[0] += fmt.Sprintf(", written %s ago", c.Age(at))
		}
		g.add(f)
	}
	return g.list
}

// assignedTo reports whether Fairlead assigned the address, as an ingress entry has it, to
// the Service.
func assignedTo(c *cluster.Cluster, svc *corev1.Service, ip string) bool {
	addr, err := netip.ParseAddr(ip)
	return err == nil && slices.ContainsFunc(c.Users[addr.Unmap()], func(u lb.Assignment) bool { return u.Service == kube.Key(svc) })
}

// blocked finds addresses of Services that something else has too, since they were assigned.
func blocked(c *cluster.Cluster) []Finding {
	var g gathered
	for _, as := range c.View.Assignments {
		for _, b := range c.Blocked(as.Service) {
			f := Finding{Severity: Problem, About: []string{"Service " + as.Service.String()}, Says: b.Words(), Fix: b.Fix()}
			if !b.Unusable() {
				f.Severity = Warning
			}
			g.add(f)
		}
	}
	return g.list
}

// announced finds addresses that nobody announces, or a node that should not.
func announced(c *cluster.Cluster) []Finding {
	var g gathered
	for _, a := range c.Addresses() {
		grant, _ := c.Grant(a)
		found := c.Announcement(grant)
		var about []string
		for _, u := range found.Users {
			about = append(about, "Service "+u.Service.String())
		}
		why := found.Why()
		switch {
		case why == 0:
			for _, s := range strained(&found) {
				g.add(Finding{
					Severity: Note, About: about, Says: fmt.Sprintf("is announced by %s, which %s: no better node is available", s.Node, s.Reason.Words()),
					Evidence: []string{a.String()}, Fix: s.Reason.FixOn(s.Node),
				})
			}
		case why == lb.ReasonConflict, why == lb.ReasonNotOwner && c.Read.Sub(assignedAt(c, found.Users)) < patience:
			// The first is told of by another check, the second is a matter of a moment.
		default:
			g.add(Finding{
				Severity: Problem, About: about, Says: "is not announced: " + joined(c.View.WhyWords(&found), rejections(told(&found), lb.FamilyOf(a))),
				Evidence: evidence(a, &found), Fix: fix(&found),
			})
		}
	}
	return g.list
}

// patience is how long nobody need have said that he announces an address: speakers
// write at most once a second.
const patience = 3 * time.Second

// assignedAt is when the last of the Services got its address.
func assignedAt(c *cluster.Cluster, users []lb.Assignment) (last time.Time) {
	for _, u := range users {
		if condition := kube.AssignedCondition(c.Service(u.Service)); condition != nil && condition.LastTransitionTime.After(last) {
			last = condition.LastTransitionTime.Time
		}
	}
	return last
}

// strained are the nodes that announce because no better node is available.
func strained(a *view.Announcement) (out []plan.Rejection) {
	for _, s := range a.Layer2.Strained {
		if s.Node == a.Layer2.Owner.Node {
			out = append(out, s)
		}
	}
	for _, s := range a.BGP.Strained {
		if slices.Contains(a.BGP.From, s.Node) {
			out = append(out, s)
		}
	}
	return out
}

func evidence(addr netip.Addr, a *view.Announcement) (out []string) {
	s := fmt.Sprintf("%s of pool %q", addr, a.Grant.Pool)
	if names := slices.Concat(a.Layer2.Adverts, a.BGP.Adverts); len(names) > 0 {
		s += ", selected by " + kube.Some(names, few)
	}
	if n := a.Layer2.Good; len(n) > 0 {
		s += "; could: " + kube.Some(n, few)
	}
	if n := a.BGP.Silent; len(n) > 0 {
		s += "; without a session: " + kube.Some(n, few)
	}
	return []string{s}
}

// told are the rejections that the reason does not say of all nodes already.
func told(a *view.Announcement) []plan.Rejection {
	list := a.Rejected()
	if a.Why() == lb.ReasonNoSubnet {
		list = slices.DeleteFunc(slices.Clone(list), plan.Rejection.LacksInterface)
	}
	return list
}

// rejections names the nodes that cannot announce an address of the family, by reason.
func rejections(list []plan.Rejection, f lb.Family) string {
	var parts []string
	for _, reason := range reasons(list) {
		var nodes []string
		for _, r := range list {
			if r.Reason == reason {
				nodes = append(nodes, r.Node)
			}
		}
		parts = append(parts, kube.Some(nodes, few)+" "+reason.WordsFor(f))
	}
	return strings.Join(parts, "; ")
}

func reasons(list []plan.Rejection) (out []lb.Reason) {
	for _, r := range list {
		if !slices.Contains(out, r.Reason) {
			out = append(out, r.Reason)
		}
	}
	return out
}

// fix says what to do so that the address is announced.
func fix(a *view.Announcement) string {
	if a.Why() != lb.ReasonNoCandidate {
		return a.Why().Fix()
	}
	var out []string
	for _, r := range reasons(a.Rejected()) {
		out = append(out, r.Fix())
	}
	return joined(out...)
}

// peers finds routers that are not told what they should be.
func peers(c *cluster.Cluster) (out []Finding) {
	for i := range c.BGPPeers {
		name := c.BGPPeers[i].Name
		about := []string{"BGPPeer " + name}
		sessions := slices.DeleteFunc(c.Sessions(name), func(s view.Session) bool { return !s.Wanted })
		if len(sessions) == 0 {
			out = append(out, Finding{Severity: Warning, About: about, Says: "no node with a speaker has a session with it", Fix: "have spec.nodeSelectors select nodes that run a speaker"})
		}
		for _, words := range said(sessions) {
			f := Finding{Severity: Warning, About: about}
			var nodes []string
			for _, s := range sessions {
				if s.Words != words {
					continue
				}
				nodes = append(nodes, s.Node)
				if !s.Up() {
					f.Severity = Problem
				}
				if s.State != "" && len(f.Evidence) < few {
					f.Evidence = append(f.Evidence, fmt.Sprintf("Speaker %s: %s, for %s", s.Node, s.State, c.Age(s.Since)))
				}
			}
			f.Says = kube.Some(nodes, few) + ": " + words // which name the fix
			out = append(out, f)
		}
	}
	return out
}

// said returns what is said of sessions, each once.
func said(sessions []view.Session) (out []string) {
	for _, s := range sessions {
		if s.Words != "" && !slices.Contains(out, s.Words) {
			out = append(out, s.Words)
		}
	}
	return out
}
