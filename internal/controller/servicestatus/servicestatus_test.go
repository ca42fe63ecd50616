package servicestatus

import (
	"net/netip"
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/view"
)

// A Service gets another address only if a node that can announce the present one
// reports that a foreign host has it.
func TestConflictThatMovesAnAddress(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.100")
	grant := lb.Grant{Addr: addr, Pool: "lan"}
	service := lb.Assignment{Grants: []lb.Grant{grant}, Ready: lb.ReadyNodes{IPv4: []string{lb.AnyNode}}}
	conflict := func(node, iface string, announced bool) view.Objects {
		o := view.Objects{
			Pools: []v1alpha1.IPAddressPool{{ObjectMeta: metav1.ObjectMeta{Name: "lan"}, Spec: v1alpha1.IPAddressPoolSpec{Addresses: []v1alpha1.AddressRange{"192.0.2.100/32"}}}},
			L2Advertisements: []v1alpha1.L2Advertisement{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Spec: v1alpha1.L2AdvertisementSpec{
				NodeSelectors: []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{corev1.LabelHostname: "n1"}}},
			}}},
		}
		for _, name := range []string{"n1", "n2"} {
			o.Nodes = append(o.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}})
			s := v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.SpeakerStatus{
				Interfaces: []v1alpha1.SpeakerInterface{{Name: "eth0", Addresses: []string{"192.0.2.11/24"}, Up: true}, {Name: "eth1", Addresses: []string{"198.51.100.1/24"}, Up: true}},
				Conditions: []metav1.Condition{{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue}},
			}}
			if name == node {
				s.Status.Conflicts = []v1alpha1.SpeakerConflict{{Address: addr.String(), Interface: iface, MAC: "02:00:00:00:00:99", Announced: announced}}
			}
			o.Speakers = append(o.Speakers, s)
		}
		return o
	}
	for _, tt := range []struct {
		why     string
		objects view.Objects
		reason  lb.Reason
		moves   bool
	}{
		{"n1 is to announce it, and heard the host first", conflict("n1", "eth0", false), lb.ReasonConflict, true},
		{"n1 had announced it already", conflict("n1", "eth0", true), lb.ReasonConflict, false},
		{"n1 reports it of an interface where the address is not announced", conflict("n1", "eth1", false), lb.ReasonNotOwner, false},
		{"no advertisement selects n2, which never asks for the address", conflict("n2", "eth0", false), lb.ReasonNotOwner, false},
		{"nobody reports anything", conflict("", "", false), lb.ReasonNotOwner, false},
	} {
		t.Run(tt.why, func(t *testing.T) {
			v := serviceView{View: view.New(tt.objects), sharers: map[netip.Addr][]lb.Assignment{addr: {service}}}
			found := v.announcementOf(grant)
			got, why := found.layer2, found.announcement.Layer2.Why()
			if moves := slices.Equal(got.taken, []taken{{addr, "02:00:00:00:00:99"}}); why != tt.reason || moves != tt.moves {
				t.Errorf("reason %v, moves %v: %s; want %v, %v", why, got.taken, got.text, tt.reason, tt.moves)
			}
		})
	}
}
