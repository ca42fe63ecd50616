package plan

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// fleet is what a large cluster looks like: its nodes own all addresses.
type fleet struct {
	services, nodes int
	local           int  // of a hundred Services, with externalTrafficPolicy Local
	dual            bool // each Service has an IPv6 address too
	pools           int  // each with an advertisement that has selectors
	own             int  // addresses that this node owns; 0 is its share
}

func (f fleet) snapshot() Snapshot {
	r := rand.New(rand.NewPCG(1, 2))
	s := Snapshot{
		Node: "node-000", Joined: true,
		Nodes: map[string]lb.Node{}, Speakers: map[string]Speaker{}, Claims: map[netip.Addr]election.Claim{},
	}
	var names []string
	for i := range f.nodes {
		name := fmt.Sprintf("node-%03d", i)
		names = append(names, name)
		s.Nodes[name] = lb.Node{Name: name, Labels: lb.LabelsOf(map[string]string{"zone": fmt.Sprint(i % 3), "kubernetes.io/hostname": name})}
		s.Speakers[name] = eth0(fmt.Sprintf("10.0.%d.%d/8", i/200, 1+i%200), fmt.Sprintf("fd00::%x/64", 1+i), fmt.Sprintf("192.168.%d.1/24", i))
	}
	for i := range max(f.pools, 1) {
		a := lb.L2Advertisement{Name: fmt.Sprint("l2-", i), Scope: lb.Scope{AllPools: f.pools == 0}}
		if f.pools > 0 {
			a.Pools = []string{fmt.Sprint("pool-", i)}
			a.ServiceSelectors = []lb.Selector{{{Key: "tier", Operator: lb.In, Values: []string{"web", fmt.Sprint(i)}}}}
			a.NodeSelectors = []lb.Selector{{{Key: "zone", Operator: lb.In, Values: []string{fmt.Sprint(i % 3), fmt.Sprint((i + 1) % 3)}}}}
		}
		s.Advertisements = append(s.Advertisements, a)
	}
	for i := range f.services {
		as := lb.Assignment{
			Service: lb.ServiceKey{Namespace: fmt.Sprintf("ns-%02d", i*100/f.services), Name: fmt.Sprintf("svc-%05d", i)}, Policy: lb.TrafficCluster,
			Labels: lb.LabelsOf(map[string]string{"app": fmt.Sprint(i), "tier": "web"}),
		}
		var on []string
		for range 2 {
			on = append(on, names[r.IntN(len(names))])
		}
		slices.Sort(on)
		as.Ready = ready(slices.Compact(on)...)
		if i%100 < f.local {
			as.Policy = lb.TrafficLocal
		}
		pool := fmt.Sprint("pool-", i%max(f.pools, 1))
		as.Grants = append(as.Grants, lb.Grant{Addr: netip.AddrFrom4([4]byte{10, 200, byte(i >> 8), byte(i)}), Pool: pool})
		if f.dual {
			a := netip.MustParseAddr(fmt.Sprintf("fd00::1:%x", i))
			as.Grants = append(as.Grants, lb.Grant{Addr: a, Pool: pool})
		}
		s.Assignments = append(s.Assignments, as)
	}
	settle(&s)
	for _, as := range s.Assignments[:f.own] {
		s.Claims[as.Grants[0].Addr] = election.Claim{Owner: s.Node, Epoch: 5}
	}
	return s
}

// settle lets each address have the owner that all elect.
func settle(s *Snapshot) {
	for _, o := range Make(*s).Outcomes {
		s.Claims[o.Addr] = election.Claim{Owner: o.Owner, Epoch: 2}
	}
}

// BenchmarkMake is one plan, in a cluster in which nothing has changed since the
// last one, or in which something has.
func BenchmarkMake(b *testing.B) {
	for _, tc := range []struct {
		name string
		fleet
	}{
		{"Cluster", fleet{services: 10000, nodes: 100}},
		{"Local10", fleet{services: 10000, nodes: 100, local: 10}},
		{"Local100", fleet{services: 10000, nodes: 100, local: 100}},
		{"DualStack", fleet{services: 10000, nodes: 100, dual: true}},
		{"Selectors20", fleet{services: 10000, nodes: 100, pools: 20}},
		{"Own1000", fleet{services: 10000, nodes: 100, own: 1000}},
	} {
		s := tc.snapshot()
		dead := s
		dead.Speakers = maps.Clone(s.Speakers)
		delete(dead.Speakers, "node-042")
		added := s
		last := s.Assignments[len(s.Assignments)-1]
		last.Service.Name, last.Grants = "svc-new", []lb.Grant{{Addr: netip.MustParseAddr("10.201.0.0"), Pool: "pool-0"}}
		added.Assignments = append(slices.Clone(s.Assignments), last)
		moved := s
		moved.Assignments = slices.Clone(s.Assignments)
		moved.Assignments[0].Ready = ready("node-007")
		claimed := s // a few addresses move
		for _, as := range s.Assignments[:12] {
			claimed.Moved = append(claimed.Moved, as.Grants[0].Addr)
		}
		for _, change := range []struct {
			name string
			to   Snapshot
		}{{"nothing", s}, {"claims", claimed}, {"dead", dead}, {"service", added}, {"endpoint", moved}} {
			b.Run(tc.name+"/"+change.name, func(b *testing.B) {
				b.ReportAllocs()
				var p Planner
				for version := uint64(1); b.Loop(); version++ {
					change.to.Version = version
					switch change.name {
					case "nothing", "claims":
						change.to.Version = 1
					case "service", "endpoint":
						change.to.Assignments = slices.Clone(change.to.Assignments)
					}
					p.Make(change.to)
				}
			})
		}
	}
}
