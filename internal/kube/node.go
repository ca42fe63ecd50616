package kube

import (
	"net/netip"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// taintShutdown is set by cloud providers on a node that was switched off; the
// out-of-service taint is set by people.
const taintShutdown = "node.cloudprovider.kubernetes.io/shutdown"

// Node returns the node as a place to announce from.
func Node(n *corev1.Node) lb.Node {
	out := lb.Node{Name: n.Name, Labels: lb.LabelsOf(n.Labels)}
	if _, ok := n.Labels[corev1.LabelNodeExcludeBalancers]; ok {
		out.Avoid = append(out.Avoid, lb.ReasonNodeExcluded)
	}
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeNetworkUnavailable && c.Status == corev1.ConditionTrue {
			out.Avoid = append(out.Avoid, lb.ReasonNodeNoNetwork)
		}
	}
	for _, t := range n.Spec.Taints {
		if t.Key == corev1.TaintNodeOutOfService || t.Key == taintShutdown {
			out.Avoid = append(out.Avoid, lb.ReasonNodeShutdown)
		}
	}
	if n.Spec.Unschedulable {
		out.Avoid = append(out.Avoid, lb.ReasonNodeCordoned)
	}
	return out
}

// NodeDown reports whether Kubernetes takes the node for dead: its Ready
// condition is there and not True.
func NodeDown(n *corev1.Node) bool {
	for _, c := range n.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status != corev1.ConditionTrue
		}
	}
	return false
}

// GossipAddress returns the InternalIP on which a node's speaker talks to the others: the
// first of the preferred family, else the first of the other. The order in which a node
// lists its families does not matter, as it differs between nodes. Loopback and link-local
// addresses do not reach other nodes.
func GossipAddress(n *corev1.Node, prefer lb.Family) (netip.Addr, bool) {
	var other netip.Addr
	for _, ip := range InternalIPs(n) {
		switch {
		case !ip.IsGlobalUnicast():
		case lb.FamilyOf(ip) == prefer:
			return ip, true
		case !other.IsValid():
			other = ip
		}
	}
	return other, other.IsValid()
}

// InternalIPs returns all InternalIPs of the node.
func InternalIPs(n *corev1.Node) (out []netip.Addr) {
	for _, a := range n.Status.Addresses {
		if ip, err := config.Address(a.Address); err == nil && a.Type == corev1.NodeInternalIP {
			out = append(out, ip)
		}
	}
	return out
}
