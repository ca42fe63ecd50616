package view

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

var (
	address = netip.MustParseAddr("192.0.2.1")
	grant   = lb.Grant{Addr: address, Pool: "lan"}
)

// scene is a cluster of two nodes with the pool "lan". Both announce by layer 2 and have a
// session with the router "r1", as far as its advertisements say so.
type scene struct{ Objects }

func newScene(layer2, bgp bool) *scene {
	s := &scene{}
	s.Pools = []v1alpha1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1alpha1.IPAddressPoolSpec{Addresses: []v1alpha1.AddressRange{"192.0.2.0/29"}}}}
	s.BGPPeers = []v1alpha1.BGPPeer{routerNamed("r1")}
	if layer2 {
		s.L2Advertisements = []v1alpha1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "l2"}}}
	}
	if bgp {
		s.BGPAdvertisements = []v1alpha1.BGPAdvertisement{{ObjectMeta: metav1.ObjectMeta{Name: "bgp"}}}
	}
	for _, name := range []string{"n1", "n2"} {
		s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}})
		s.Speakers = append(s.Speakers, v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.SpeakerStatus{
			Interfaces:  []v1alpha1.SpeakerInterface{{Name: "eth0", Addresses: []string{"192.0.2.11/24", "not an address"}, Up: true}},
			BGPSessions: []v1alpha1.SpeakerBGPSession{{Peer: "r1", State: v1alpha1.BGPSessionEstablished}},
			Conditions:  []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
		}})
	}
	return s
}

// own has n1 announce the address by layer 2.
func (s *scene) own() {
	s.Speakers[0].Status.Layer2 = []v1alpha1.SpeakerAddress{{Address: address.String(), Interfaces: []string{"eth0"}, Since: metav1.NewTime(start)}}
}

func (s *scene) conflict(node int, iface string) {
	s.Speakers[node].Status.Conflicts = []v1alpha1.SpeakerConflict{{Address: address.String(), Interface: iface, MAC: "02:00:00:00:00:99"}}
}

func (s *scene) disconnect(node int) {
	s.Speakers[node].Status.BGPSessions[0].State = v1alpha1.BGPSessionIdle
}

func (s *scene) stop(node int) {
	s.Speakers[node].Status.Conditions[0] = metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonStopping}
}

func TestAnnouncement(t *testing.T) {
	for name, tt := range map[string]struct {
		layer2, bgp bool
		edit        func(*scene)
		why         lb.Reason
		owner       string
		from        []string
		conflicts   int
		because     string
	}{
		"layer 2":               {true, false, (*scene).own, 0, "n1", nil, 0, "n1 reports it"},
		"layer 2, no owner yet": {true, false, func(*scene) {}, lb.ReasonNotOwner, "", nil, 0, "both can, and none reports it"},
		"layer 2, owner that cannot": {true, false, func(s *scene) {
			s.own()
			s.Speakers[0].Status.Interfaces[0].Addresses = []string{"198.51.100.1/24"}
		}, lb.ReasonNotOwner, "", nil, 0, "n1 has lost the subnet, and n2 takes over"},
		"layer 2, owner stops": {true, false, func(s *scene) { s.own(); s.stop(0) }, lb.ReasonNotOwner, "", nil, 0, "its status is outdated in a moment"},
		"layer 2, conflict":    {true, false, func(s *scene) { s.conflict(1, "eth0") }, lb.ReasonConflict, "", nil, 1, "n2 can announce it there"},
		"layer 2, contested":   {true, false, func(s *scene) { s.own(); s.conflict(1, "eth0") }, 0, "n1", nil, 1, "it is announced all the same"},
		"layer 2, conflict elsewhere": {
			true, false, func(s *scene) { s.conflict(1, "eth1") }, lb.ReasonNotOwner, "", nil, 0, "no node announces it on eth1, so none asked there",
		},
		"layer 2, no subnet": {true, false, func(s *scene) {
			for i := range s.Speakers {
				s.Speakers[i].Status.Interfaces[0].Addresses = []string{"198.51.100.1/24"}
			}
		}, lb.ReasonNoSubnet, "", nil, 0, "no node has a subnet with it"},
		"BGP":                      {false, true, func(*scene) {}, 0, "", []string{"n1", "n2"}, 0, "both have their session"},
		"BGP, from one":            {false, true, func(s *scene) { s.disconnect(0) }, 0, "", []string{"n2"}, 0, "n1 has no session"},
		"BGP, from none":           {false, true, func(s *scene) { s.disconnect(0); s.disconnect(1) }, lb.ReasonNotEstablished, "", nil, 0, "no session is established"},
		"BGP, speaker stops":       {false, true, func(s *scene) { s.stop(0) }, 0, "", []string{"n2"}, 0, "the sessions of n1 end with it"},
		"BGP, no peer":             {false, true, func(s *scene) { s.BGPPeers = nil }, lb.ReasonNoCandidate, "", nil, 0, "no node has a BGPPeer"},
		"both":                     {true, true, (*scene).own, 0, "n1", []string{"n1", "n2"}, 0, "all is well"},
		"both, only BGP":           {true, true, func(*scene) {}, 0, "", []string{"n1", "n2"}, 0, "one way is enough"},
		"both, only layer 2":       {true, true, func(s *scene) { s.own(); s.disconnect(0); s.disconnect(1) }, 0, "n1", nil, 0, "one way is enough"},
		"both fail":                {true, true, func(s *scene) { s.conflict(0, "eth0"); s.disconnect(0); s.disconnect(1) }, lb.ReasonConflict, "", nil, 1, "layer 2 is named first"},
		"no advertisement":         {false, false, func(*scene) {}, lb.ReasonNoAdvertisement, "", nil, 0, "nothing selects it"},
		"advertisement of another": {true, false, func(s *scene) { s.L2Advertisements[0].Spec.IPAddressPools = []v1alpha1.ObjectName{"other"} }, lb.ReasonNoAdvertisement, "", nil, 0, "it is for another pool"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(tt.layer2, tt.bgp)
			tt.edit(s)
			v := New(s.Objects)
			users := []lb.Assignment{{Grants: []lb.Grant{grant}, Ready: lb.ReadyNodes{IPv4: []string{lb.AnyNode}}}}
			a := v.Announcement(users, grant)
			if a.Why() != tt.why || a.Layer2.Owner.Node != tt.owner || !slices.Equal(a.BGP.From, tt.from) || len(a.Layer2.Conflicts) != tt.conflicts {
				t.Errorf("reason %v, owner %q, by BGP from %v, %d conflicts; want %v, %q, %v, %d, as %s",
					a.Why(), a.Layer2.Owner.Node, a.BGP.From, len(a.Layer2.Conflicts), tt.why, tt.owner, tt.from, tt.conflicts, tt.because)
			}
			if (len(a.BGP.To) > 0) != (len(a.BGP.From) > 0) || len(a.BGP.From)+len(a.BGP.Silent) != len(a.BGP.Nodes) {
				t.Errorf("by BGP from %v, not from %v, of %v, to %v", a.BGP.From, a.BGP.Silent, a.BGP.Nodes, a.BGP.To)
			}
		})
	}
}

// Of the way that no advertisement chose, nothing is said.
func TestRejected(t *testing.T) {
	elsewhere := []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"rack": "b"}}}
	for name, tt := range map[string]struct{ layer2, bgp bool }{"layer 2": {true, false}, "BGP": {false, true}} {
		s := newScene(tt.layer2, tt.bgp)
		for i := range s.L2Advertisements {
			s.L2Advertisements[i].Spec.NodeSelectors = elsewhere
		}
		for i := range s.BGPAdvertisements {
			s.BGPAdvertisements[i].Spec.NodeSelectors = elsewhere
		}
		v := New(s.Objects)
		a := v.Announcement([]lb.Assignment{{Grants: []lb.Grant{grant}, Ready: lb.ReadyNodes{IPv4: []string{lb.AnyNode}}}}, grant)
		got := a.Rejected()
		if len(got) != 2 || got[0].Node != "n1" || got[0].Reason != lb.ReasonNodeNotSelected {
			t.Errorf("%s: rejected are %v, want n1 and n2 for the nodeSelectors", name, got)
		}
		if words := v.WhyWords(&a); words != lb.ReasonNoCandidate.Words() {
			t.Errorf("%s: %q, want %q", name, words, lb.ReasonNoCandidate.Words())
		}
	}
}

func TestNoSubnet(t *testing.T) {
	s := newScene(true, false)
	v := New(s.Objects)
	for a, want := range map[string]string{
		"198.51.100.1": "(the nodes have 192.0.2.0/24): no host asks for it by ARP",
		"2001:db8::1":  "(the nodes have no IPv6 subnets): no host asks for it by NDP",
	} {
		outside := lb.Grant{Addr: netip.MustParseAddr(a), Pool: "lan"}
		found := v.Announcement([]lb.Assignment{{Grants: []lb.Grant{outside}, Ready: lb.ReadyNodes{IPv4: []string{lb.AnyNode}, IPv6: []string{lb.AnyNode}}}}, outside)
		if got := v.WhyWords(&found); found.Why() != lb.ReasonNoSubnet || !strings.HasSuffix(got, want) {
			t.Errorf("%s: %v, %q; want it to end with %q", a, found.Why(), got, want)
		}
	}
}

// Of two speakers that report the address, the one that took it over last has it.
func TestAnnouncementOfTwoOwners(t *testing.T) {
	s := newScene(true, false)
	s.own()
	s.Speakers[1].Status.Layer2 = []v1alpha1.SpeakerAddress{{Address: address.String(), Since: metav1.NewTime(start.Add(time.Second))}}
	v := New(s.Objects)
	a := v.Announcement([]lb.Assignment{{Grants: []lb.Grant{grant}, Ready: lb.ReadyNodes{IPv4: []string{lb.AnyNode}}}}, grant)
	if a.Layer2.Owner.Node != "n2" {
		t.Errorf("the owner is %q, want n2", a.Layer2.Owner.Node)
	}
}
