// Package view puts together what the objects of a cluster say: the snapshot on
// which speakers decide, and what each speaker says that it does.
//
// Who is no speaker, and wants to know what speakers do and why, asks here.
package view

import (
	"net/netip"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// Objects are what a View is made of.
type Objects struct {
	Pools             []v1alpha1.IPAddressPool
	L2Advertisements  []v1alpha1.L2Advertisement
	BGPAdvertisements []v1alpha1.BGPAdvertisement
	BGPPeers          []v1alpha1.BGPPeer
	Nodes             []corev1.Node
	Speakers          []v1alpha1.Speaker
}

// View is the snapshot that speakers would decide on, without assignments and
// claims, and what they say they do.
type View struct {
	plan.Snapshot
	Owners    map[string]Owner      // by address
	Conflicts map[string][]Conflict // by address
	Up        map[string][]string   // node -> the routers with which its sessions are up, sorted
}

// Conflict is a foreign host that a node detected.
type Conflict struct {
	Node string
	v1alpha1.SpeakerConflict
}

// Owner is who announces an address by layer 2.
type Owner struct {
	Node string
	v1alpha1.SpeakerAddress
}

// New returns what the objects say. Of those that cannot be understood their
// conditions tell. Communities are left out: they do not matter for who announces.
func New(o Objects) View {
	v := View{Owners: map[string]Owner{}, Conflicts: map[string][]Conflict{}, Up: map[string][]string{}}
	v.Nodes, v.Speakers, v.Peers = map[string]lb.Node{}, map[string]plan.Speaker{}, map[string][]string{}
	v.BGPAdvertisements = kube.BGPAdvertisements(o.BGPAdvertisements, o.Pools, nil)
	for i := range o.L2Advertisements {
		if a, err := kube.L2Advertisement(&o.L2Advertisements[i], o.Pools); err == nil {
			v.Advertisements = append(v.Advertisements, a)
		}
	}
	peers, _ := kube.NewPeers(o.BGPPeers)
	down := map[string]bool{}
	for i := range o.Nodes {
		n := &o.Nodes[i]
		v.Nodes[n.Name] = kube.Node(n)
		v.Peers[n.Name] = peers.Names(lb.LabelsOf(n.Labels))
		down[n.Name] = kube.NodeDown(n)
	}
	for i := range o.Speakers {
		if !down[o.Speakers[i].Name] { // its speaker can no longer say what is so
			v.add(&o.Speakers[i])
		}
	}
	return v
}

// add takes in what a speaker says. Of two that say they have an address the
// one that took it later is right: the other is dead and cannot say so.
func (v *View) add(s *v1alpha1.Speaker) {
	if !SpeakerAlive(s) {
		return
	}
	v.Speakers[s.Name] = plan.Speaker{Joined: true, Avoid: kube.SpeakerAvoid(s), Interfaces: interfaces(s)}
	v.Up[s.Name] = SessionsUp(s)
	for _, c := range s.Status.Conflicts {
		v.Conflicts[c.Address] = append(v.Conflicts[c.Address], Conflict{s.Name, c})
	}
	for _, a := range s.Status.Layer2 {
		if o, taken := v.Owners[a.Address]; !taken || o.Since.Before(&a.Since) {
			v.Owners[a.Address] = Owner{Node: s.Name, SpeakerAddress: a}
		}
	}
}

// interfaces returns the interfaces that the speaker says it has.
func interfaces(s *v1alpha1.Speaker) (out []netif.Interface) {
	for _, i := range s.Status.Interfaces {
		out = append(out, netif.Interface{
			Name: i.Name, MAC: i.MAC, Up: i.Up, Internal: i.Internal,
			Prefixes: prefixes(i.Addresses), OnLink: prefixes(i.OnLink),
			Fails: families(i.Fails), Uplink: families(i.UplinkFor),
		})
	}
	return out
}

func prefixes(texts []string) (out []netip.Prefix) {
	for _, text := range texts {
		if p, err := netip.ParsePrefix(text); err == nil {
			out = append(out, p)
		}
	}
	return out
}

func families(named []v1alpha1.IPFamily) (out []lb.Family) {
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		if slices.Contains(named, v1alpha1.IPFamily(f.String())) {
			out = append(out, f)
		}
	}
	return out
}

// fewSubnets is how many subnets a message lists.
const fewSubnets = 5

// NoSubnet says that no node has a subnet with the address (lb.ReasonNoSubnet), and which
// subnets there are.
func (v *View) NoSubnet(a netip.Addr) string {
	f := lb.FamilyOf(a)
	have := "the nodes have no " + f.String() + " subnets"
	if list := v.Subnets(f); len(list) > 0 {
		have = "the nodes have " + kube.Some(list, fewSubnets)
	}
	return lb.ReasonNoSubnet.Words() + " (" + have + "): no host asks for it by " + protocolOf(f)
}

func protocolOf(f lb.Family) string {
	if f == lb.IPv6 {
		return "NDP"
	}
	return "ARP"
}
