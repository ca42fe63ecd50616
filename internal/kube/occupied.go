package kube

import (
	"cmp"
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Occupied returns the addresses that the Service has in fields which Fairlead does not
// assign, sorted: its own ClusterIPs, what a user wrote, and what another controller gave.
func (c Class) Occupied(svc *corev1.Service) (out []lb.Blocked) {
	key := Key(svc)
	add := func(field, text string) {
		if a, err := config.Address(text); err == nil {
			out = append(out, lb.Blocked{Addr: a, Block: lb.Block{
				Reason: lb.ReasonAddressOfService, Holder: "Service " + key.String() + " (" + field + ")", Service: key,
			}})
		}
	}
	for _, ip := range svc.Spec.ClusterIPs {
		add("spec.clusterIPs", ip) // "None" is no address
	}
	for _, ip := range svc.Spec.ExternalIPs {
		add("spec.externalIPs", ip)
	}
	// One with our condition has what we assigned, or is about to give it back.
	if svc.Spec.Type == corev1.ServiceTypeLoadBalancer && !c.Handles(svc) && AssignedCondition(svc) == nil {
		for _, in := range svc.Status.LoadBalancer.Ingress {
			add("status.loadBalancer", in.IP)
		}
		if svc.DeletionTimestamp == nil {
			add("spec.loadBalancerIP", svc.Spec.LoadBalancerIP)
		}
	}
	return sortedBlocks(out)
}

// NodeOccupied returns the addresses that a node has, by its Node and its Speaker, each of
// which may be nil; those of its default gateways; and those of its subnets that no host can
// use. They are sorted.
func NodeOccupied(name string, n *corev1.Node, s *v1alpha1.Speaker) (out []lb.Blocked) {
	add := func(a netip.Addr, reason lb.Reason, holder string) {
		out = append(out, lb.Blocked{Addr: a, Block: lb.Block{Reason: reason, Holder: holder}})
	}
	held := map[netip.Addr]bool{}
	hold := func(a netip.Addr, on string) {
		if !held[a] {
			held[a] = true
			add(a, lb.ReasonAddressOfNode, "node "+name+" ("+on+")")
		}
	}
	if s != nil {
		for _, i := range s.Status.Interfaces {
			for _, text := range i.Addresses {
				if p, err := netip.ParsePrefix(text); err == nil {
					hold(p.Addr().Unmap(), i.Name)
				}
			}
			if !i.Internal {
				subnetAddresses(i, add)
			}
			for _, text := range i.Gateways {
				if a, err := config.Address(text); err == nil && !a.IsLinkLocalUnicast() {
					add(a, lb.ReasonAddressOfRouter, "the default gateway of node "+name)
				}
			}
		}
		for _, h := range s.Status.HostAddresses {
			if a, err := config.Address(h.Address); err == nil {
				hold(a, h.Interface)
			}
		}
	}
	if n != nil {
		for _, x := range n.Status.Addresses {
			if a, err := config.Address(x.Address); err == nil && x.Type != corev1.NodeHostName {
				hold(a, string(x.Type))
			}
		}
	}
	return sortedBlocks(out)
}

// subnetAddresses adds the addresses of the interface's subnets that no host can use.
func subnetAddresses(i v1alpha1.SpeakerInterface, add func(netip.Addr, lb.Reason, string)) {
	reserve := func(p netip.Prefix, on bool) {
		for _, r := range lb.SubnetReserved(p) {
			if on || p.Addr().Is6() {
				add(r.Addr, lb.ReasonSubnetAddress, r.Name+" of the nodes' subnet "+p.Masked().String())
			}
		}
	}
	for _, text := range i.Addresses {
		if p, err := netip.ParsePrefix(text); err == nil {
			reserve(p, true)
		}
	}
	for _, text := range i.OnLink { // of IPv4 it is a block that is routed here, whose every address is of use
		if p, err := netip.ParsePrefix(text); err == nil {
			reserve(p, false)
		}
	}
}

// PeerOccupied returns the address of the router that a BGPPeer names, which may be nil.
func PeerOccupied(p *v1alpha1.BGPPeer) []lb.Blocked {
	if p == nil {
		return nil
	}
	a, err := config.Address(string(p.Spec.PeerAddress))
	if err != nil || a.IsLinkLocalUnicast() {
		return nil
	}
	return []lb.Blocked{{Addr: a, Block: lb.Block{Reason: lb.ReasonAddressOfRouter, Holder: "the router of BGPPeer " + p.Name}}}
}

func sortedBlocks(list []lb.Blocked) []lb.Blocked {
	slices.SortFunc(list, func(x, y lb.Blocked) int { return cmp.Or(x.Addr.Compare(y.Addr), x.Compare(y.Block)) })
	return slices.Compact(list)
}
