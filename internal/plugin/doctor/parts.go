package doctor

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// The checks of Fairlead's own parts: controller, speakers, and what they stand on.

// controller finds that no controller assigns addresses.
func controller(c *cluster.Cluster) []Finding {
	why, evidence := c.Leaderless()
	if why == "" {
		return nil
	}
	return []Finding{{
		Severity: Problem, About: []string{"controller"}, Says: why + ": new Services get no address; existing addresses keep working",
		Evidence: []string{evidence}, Fix: c.ControllerFix(),
	}}
}

// speakers finds nodes without a speaker that works.
func speakers(c *cluster.Cluster) []Finding {
	var g gathered
	for i := range c.Nodes {
		n := &c.Nodes[i]
		f := Finding{Severity: Warning, About: []string{"node " + n.Name}}
		sp := c.Speaker(n.Name)
		var ready metav1.Condition
		if sp != nil {
			ready, _ = cluster.Ready(sp.Status.Conditions)
		}
		switch {
		case kube.NodeDown(n):
			f.Severity, f.Says, f.Fix = Problem, "Kubernetes takes it for dead, and so do we", "see the node, and its kubelet's log"
		case sp == nil:
			f.Says = "no speaker has ever run on it; it announces nothing"
			f.Fix = fmt.Sprintf("kubectl get pods -n %s -o wide; check the nodeSelector and the tolerations of the DaemonSet", c.Install.Namespace)
		case ready.Status == metav1.ConditionTrue:
			continue
		case meta.IsStatusConditionFalse(sp.Status.Conditions, v1alpha1.ConditionEndpointValid):
			continue // endpoints says why
		case ready.Reason == v1alpha1.ReasonCannotAnnounce:
			f.Severity, f.Says, f.Fix = Problem, "its speaker cannot announce: "+ready.Message, "the speaker needs NET_RAW and the host's network, and IPv6 must not be disabled on the interface where it announces IPv6 addresses; see its log"
		default:
			f.Severity, f.Says = Problem, "its speaker is not ready: "+cmp.Or(ready.Message, "it has no status yet")
			f.Fix = "see the speaker's log on the node"
			f.Evidence = []string{fmt.Sprintf("Speaker %s says %s, for %s", n.Name, cmp.Or(ready.Reason, "nothing"), c.Age(ready.LastTransitionTime))}
		}
		g.add(f)
	}
	return g.list
}

// gossip finds speakers that do not hear all others.
func gossip(c *cluster.Cluster) []Finding {
	var g gathered
	hears := inTouch(c)
	gone := wordless(hears, len(c.View.Speakers))
	for i := range c.Speakers {
		s := &c.Speakers[i]
		ready, _ := cluster.Ready(s.Status.Conditions)
		evidence := []string{fmt.Sprintf("Speaker %s (%s): %s", s.Name, s.Status.GossipEndpoint, ready.Message)}
		n, says := hears[s.Name]
		switch {
		case slices.Contains(gone, s.Name):
			g.add(Finding{
				Severity: Problem, About: []string{"speaker " + s.Name},
				Says:     "the other speakers receive nothing from it, and it did not report a shutdown: it was killed, or hangs",
				Evidence: evidence,
				Fix:      fmt.Sprintf("see whether it runs: kubectl get pods -n %s -o wide --field-selector spec.nodeName=%s, and its log", c.Install.Namespace, s.Name),
			})
		case says && n < len(c.View.Speakers) && len(gone) == 0:
			g.add(Finding{
				Severity: Problem, About: []string{"speaker " + s.Name},
				Says:     fmt.Sprintf("is connected to %s, itself included, of %d that are ready", term.Count(n, "speaker", "speakers"), len(c.View.Speakers)),
				Evidence: evidence,
				Fix:      "open port 7946 (TCP and UDP) between all nodes; a speaker that was killed a moment ago still counts as ready",
			})
		}
		if says && s.Status.Gossip.UnheardSpeakersCount > 0 {
			g.add(Finding{
				Severity: Warning, About: []string{"speaker " + s.Name}, Says: "receives no heartbeats from " + kube.Unheard(s.Status.Gossip) + ", and others do: a firewall or the network drops them",
				Evidence: evidence, Fix: "open port 7946 (TCP and UDP) between these nodes, in both directions; until then, a third node must report that they are alive",
			})
		}
	}
	return append(g.list, endpoints(c)...)
}

// inTouch returns how many speakers each that is alive says it is in touch with.
func inTouch(c *cluster.Cluster) map[string]int {
	out := map[string]int{}
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if _, alive := c.View.Speakers[s.Name]; alive && s.Status.Gossip != nil {
			out[s.Name] = int(s.Status.Gossip.ConnectedSpeakers)
		}
	}
	return out
}

// wordless returns the speakers, fewer than the others, that have ended and could not
// say so: they still say that they hear all, and the others hear all but them.
func wordless(hears map[string]int, all int) (gone []string) {
	for node, n := range hears {
		if n == all {
			gone = append(gone, node)
		}
	}
	for _, n := range hears {
		if n != all && n != all-len(gone) {
			return nil
		}
	}
	if 2*len(gone) >= len(hears) { // nobody misses anybody; or the few do not hear the many
		return nil
	}
	return gone
}

// gossipKeys finds speakers that cannot use what is in the gossip Secret.
func gossipKeys(c *cluster.Cluster) []Finding {
	var g gathered
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if s.Status.Gossip != nil && s.Status.Gossip.KeyFault != "" {
			g.add(Finding{
				Severity: Problem, About: []string{"speaker " + s.Name}, Says: "not all gossip keys are in use: " + s.Status.Gossip.KeyFault,
				Evidence: []string{fmt.Sprintf("Speaker %s: it keeps %s", s.Name, strings.Join(s.Status.GossipKeys, ", "))},
				Fix:      fmt.Sprintf("correct Secret %s/%s; a speaker that starts now cannot join", c.Install.Namespace, kube.GossipSecret),
			})
		}
	}
	return g.list
}

// interfaces finds nodes that could announce, but for a cable.
func interfaces(c *cluster.Cluster) []Finding {
	var g gathered
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if _, alive := c.View.Speakers[s.Name]; !alive {
			continue
		}
		for _, n := range s.Status.Interfaces {
			if !n.Up {
				g.add(Finding{
					Severity: Warning, About: []string{"node " + s.Name}, Says: fmt.Sprintf("its interface %s is down", n.Name),
					Evidence: []string{fmt.Sprintf("Speaker %s: %s %s %s", s.Name, n.Name, n.MAC, strings.Join(n.Addresses, ", "))},
					Fix:      "plug the cable in, or bring the interface up; or leave it out by the L2Advertisement's spec.interfaces",
				})
			}
		}
	}
	return g.list
}

// endpoints finds speakers that others cannot reach, or cannot tell from another one.
func endpoints(c *cluster.Cluster) []Finding {
	return unwell(c, Problem, v1alpha1.ConditionEndpointValid, func(node, _ string) string {
		return fmt.Sprintf("kubectl get nodes -o wide: correct the INTERNAL-IP of node %s and of those that are named (kubelet's --node-ip), or set the speaker's --gossip-bind-address; the speakers take it up by themselves", node)
	})
}

// kubeProxy finds nodes that would announce addresses and serve nobody.
func kubeProxy(c *cluster.Cluster) []Finding {
	return unwell(c, Problem, v1alpha1.ConditionKubeProxyHealthy, kube.ReasonFixOn)
}

// kernels finds nodes whose kernels or networks defeat announcing, as their speakers
// say. What all of them heard on the network is one finding.
func kernels(c *cluster.Cluster) []Finding {
	var g gathered
	for _, f := range unwell(c, Problem, v1alpha1.ConditionNetworkReady, kube.ReasonFixOn) {
		g.add(f)
	}
	return g.list
}

// unwell finds nodes of which the speaker says that a condition is False. The fix is
// by the node and the condition's reason.
func unwell(c *cluster.Cluster, severity Severity, condition string, fix func(node, reason string) string) (out []Finding) {
	for i := range c.Speakers {
		s := &c.Speakers[i]
		said := meta.FindStatusCondition(s.Status.Conditions, condition)
		if said != nil && said.Status == metav1.ConditionFalse {
			out = append(out, Finding{
				Severity: severity, About: []string{"node " + s.Name}, Says: said.Message,
				Evidence: []string{fmt.Sprintf("Speaker %s: %s is False, %s, for %s", s.Name, said.Type, said.Reason, c.Age(said.LastTransitionTime))},
				Fix:      fix(s.Name, said.Reason),
			})
		}
	}
	return out
}

// conflicts finds hosts outside of the cluster that have addresses of ours.
func conflicts(c *cluster.Cluster) (out []Finding) {
	for _, address := range slices.Sorted(maps.Keys(c.View.Conflicts)) {
		f := Finding{
			Severity: Problem, About: []string{"address " + address}, Says: "a host outside of the cluster has it too, so Fairlead is quiet about it",
			Fix: lb.ReasonConflict.Fix(),
		}
		for _, x := range c.View.Conflicts[address] {
			switch {
			case x.Defended && x.Answers:
				f.Says = "a host outside of the cluster has it too; Fairlead announces it all the same, so some clients may reach that host"
			case x.Defended:
				f.Says = "frames claim it for a host outside of the cluster, but that host does not answer; they may be forged. Fairlead keeps announcing the address"
			}
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s, seen by %s on %s; Services %s", x.MAC, x.Node, x.Interface, cmp.Or(strings.Join(x.Services, ", "), "none")))
		}
		out = append(out, f)
	}
	return out
}

// twoOwners finds addresses that two speakers say they announce. Each writes its
// object at most once a second, so for a moment that is no trouble.
func twoOwners(c *cluster.Cluster) (out []Finding) {
	const settled = 5 * time.Second
	type owner struct {
		node  string
		since metav1.Time
	}
	of := map[string][]owner{}
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if _, alive := c.View.Speakers[s.Name]; !alive {
			continue
		}
		for _, a := range s.Status.Layer2 {
			of[a.Address] = append(of[a.Address], owner{s.Name, a.Since})
		}
	}
	for _, address := range slices.Sorted(maps.Keys(of)) {
		owners := of[address]
		recent := slices.ContainsFunc(owners, func(o owner) bool { return c.Read.Sub(o.since.Time) < settled })
		if len(owners) < 2 || recent {
			continue
		}
		f := Finding{
			Severity: Problem, About: []string{"address " + address}, Says: "more than one speaker reports that it announces it",
			Fix: "one of them is down or isolated: check the nodes, and port 7946 (TCP and UDP) between them",
		}
		for _, o := range owners {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s, since %s", o.node, c.Age(o.since)))
		}
		out = append(out, f)
	}
	return out
}

// excluded finds nodes that Kubernetes says are not for load balancers: by default
// kubeadm says so of control planes, which surprises who has no other nodes.
func excluded(c *cluster.Cluster) (out []Finding) {
	var names []string
	for i := range c.Nodes {
		n := kube.Node(&c.Nodes[i])
		if slices.Contains(n.Avoid, lb.ReasonNodeExcluded) {
			names = append(names, n.Name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	f := Finding{
		Severity: Note, Says: "announces only while no better node is available: " + lb.ReasonNodeExcluded.Words(),
		Fix: "if that is not wanted: " + lb.ReasonNodeExcluded.FixOn(strings.Join(names, " ")),
	}
	for _, n := range names {
		f.About = append(f.About, "node "+n)
	}
	if len(names) == len(c.Nodes) {
		f.Severity = Warning
	}
	return []Finding{f}
}

// drained finds nodes that somebody has taken out of service.
func drained(c *cluster.Cluster) (out []Finding) {
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if why, is := s.Annotations[v1alpha1.AnnotationDrain]; is {
			out = append(out, Finding{
				Severity: Note, About: []string{"node " + s.Name}, Says: fmt.Sprintf("is drained (%q); others announce in its place", why),
				Fix: "when it is done: kubectl fairlead undrain " + s.Name,
			})
		}
	}
	return out
}

// balance finds nodes that announce more than their share, as after others were
// away.
func balance(c *cluster.Cluster) (out []Finding) {
	total := 0
	for i := range c.Speakers {
		total += int(c.Speakers[i].Status.OwnedAddresses)
	}
	load := election.NewLoad(total, len(c.View.Speakers))
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if _, alive := c.View.Speakers[s.Name]; alive && int(s.Status.OwnedAddresses) > load.Most {
			out = append(out, Finding{
				Severity: Note, About: []string{"node " + s.Name},
				Says: fmt.Sprintf("announces %d of %d addresses by layer 2; an even share is at most %d", s.Status.OwnedAddresses, total, load.Most),
				Fix:  "addresses do not move by themselves; to spread them: kubectl fairlead rebalance",
			})
		}
	}
	return out
}

// versions finds that an upgrade has stopped half-way.
func versions(c *cluster.Cluster) []Finding {
	nodes := map[string][]string{}
	for i := range c.Speakers {
		if _, alive := c.View.Speakers[c.Speakers[i].Name]; alive {
			v := c.Speakers[i].Status.Version
			nodes[v] = append(nodes[v], c.Speakers[i].Name)
		}
	}
	if len(nodes) < 2 {
		return nil
	}
	f := Finding{Severity: Note, About: []string{"speakers"}, Says: "they are of different versions, as in the middle of an upgrade", Fix: "kubectl rollout status daemonset -n " + c.Install.Namespace}
	for _, v := range slices.Sorted(maps.Keys(nodes)) {
		f.Evidence = append(f.Evidence, fmt.Sprintf("%s: %s", v, kube.Some(nodes[v], few)))
	}
	return []Finding{f}
}
