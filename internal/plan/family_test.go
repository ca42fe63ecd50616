package plan

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

var vip6 = netip.MustParseAddr("2001:db8::100")

// dual is cluster with a second address, of IPv6, for the same Service.
func dual(policy lb.TrafficPolicy, on lb.ReadyNodes) Snapshot {
	return cluster(func(s *Snapshot) {
		as := &s.Assignments[0]
		as.Policy, as.Ready = policy, on
		as.Grants = append(as.Grants, lb.Grant{Addr: vip6, Pool: "lan"})
		for name, prefixes := range map[string][]string{
			"n1": {"192.0.2.1/24", "2001:db8::1/64"}, "n2": {"192.0.2.2/24", "2001:db8::2/64"}, "n3": {"192.0.2.3/24", "2001:db8::3/64"},
		} {
			s.Speakers[name] = eth0(prefixes...)
		}
		s.Claims = map[netip.Addr]election.Claim{}
	})
}

// The endpoints of one address family say nothing about the other family's address.
func TestEachFamilyHasItsOwnCandidates(t *testing.T) {
	type result struct {
		Able   []string // nodes
		Reason lb.Reason
	}
	unassigned := lb.Assignment{Service: lb.ServiceKey{Namespace: "default", Name: "z"}, Policy: lb.TrafficLocal}
	for _, tt := range []struct {
		name   string
		policy lb.TrafficPolicy
		on     lb.ReadyNodes
		change func(*Snapshot)
		v4, v6 result
	}{
		{
			"Local, on different nodes", lb.TrafficLocal, lb.ReadyNodes{IPv4: []string{"n1"}, IPv6: []string{"n2"}}, nil,
			result{Able: []string{"n1"}}, result{Able: []string{"n2"}},
		},
		{
			"Local, one family only", lb.TrafficLocal, lb.ReadyNodes{IPv6: []string{"n2"}}, nil,
			result{Reason: lb.ReasonNoEndpoints}, result{Able: []string{"n2"}},
		},
		{
			"Local, one family only outside of the cluster", lb.TrafficLocal, lb.ReadyNodes{IPv4: []string{"", "n9"}, IPv6: []string{"n2"}}, nil,
			result{Reason: lb.ReasonNoCandidate}, result{Able: []string{"n2"}},
		},
		{
			"Cluster, one family only", lb.TrafficCluster, lb.ReadyNodes{IPv4: []string{lb.AnyNode}}, nil,
			result{Able: []string{"n1", "n2", "n3"}}, result{Reason: lb.ReasonNoEndpoints},
		},
		{
			"Cluster, on different nodes", lb.TrafficCluster, lb.ReadyNodes{IPv4: []string{"n1"}, IPv6: []string{"n2"}}, nil,
			result{Able: []string{"n1", "n2", "n3"}}, result{Able: []string{"n1", "n2", "n3"}},
		},
		{
			"shared with a Service that has the other family", lb.TrafficLocal, lb.ReadyNodes{IPv4: []string{"n1"}}, func(s *Snapshot) {
				as := unassigned
				as.Grants, as.Ready = s.Assignments[0].Grants, lb.ReadyNodes{IPv4: []string{"n3"}, IPv6: []string{"n2"}}
				s.Assignments = append(s.Assignments, as)
			},
			result{Able: []string{"n1", "n3"}}, result{Able: []string{"n2"}},
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := dual(tt.policy, tt.on)
			if tt.change != nil {
				tt.change(&s)
			}
			targets, _ := s.targets()
			s.findCandidates(targets)
			for _, want := range []struct {
				addr netip.Addr
				result
			}{{vip, tt.v4}, {vip6, tt.v6}} {
				i := slices.IndexFunc(targets, func(sp target) bool { return sp.Addr == want.addr })
				whole := s.Candidates(append([]lb.Assignment{*targets[i].first}, targets[i].others...), targets[i].Grant)
				for _, c := range []*Candidates{targets[i].candidates, &whole} {
					if got := (result{c.Good, c.Reason}); cmp.Diff(want.result, got) != "" {
						t.Errorf("%s: %+v, not %+v", want.addr, got, want.result)
					}
				}
			}
		})
	}
}

// A node advertises by BGP the family that it serves, and not the other.
func TestBGPAdvertisesTheFamilyThatIsServed(t *testing.T) {
	for _, tt := range []struct {
		name   string
		policy lb.TrafficPolicy
		on     lb.ReadyNodes
		want   []netip.Addr
	}{
		{"Local, on different nodes", lb.TrafficLocal, lb.ReadyNodes{IPv4: []string{"n1"}, IPv6: []string{"n2"}}, []netip.Addr{vip}},
		{"Local, IPv6 here", lb.TrafficLocal, lb.ReadyNodes{IPv4: []string{"n2"}, IPv6: []string{"n1"}}, []netip.Addr{vip6}},
		{"Cluster, IPv6 only", lb.TrafficCluster, lb.ReadyNodes{IPv6: []string{"n3"}}, []netip.Addr{vip6}},
		{"Cluster, both", lb.TrafficCluster, ready(lb.AnyNode), []netip.Addr{vip, vip6}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := dual(tt.policy, tt.on)
			s.BGPAdvertisements = []lb.BGPAdvertisement{advert("all", func(*lb.BGPAdvertisement) {})}
			s.Peers = map[string][]string{"n1": {"r1"}, "n2": {"r1"}, "n3": {"r1"}}
			var got []netip.Addr
			for _, r := range Make(s).Routes {
				got = append(got, r.Prefix.Addr())
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("n1 advertises %v, not %v", got, tt.want)
			}
			for _, g := range s.Assignments[0].Grants {
				whole := s.Announcers(s.Assignments, g)
				if here := slices.Contains(whole.Nodes, "n1"); here != slices.Contains(tt.want, g.Addr) {
					t.Errorf("Announcers of %s: %v (%s)", g.Addr, whole.Nodes, whole.Reason)
				}
			}
		})
	}
}
