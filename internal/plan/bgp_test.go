package plan

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

var (
	prefixes = cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })
	hostRow  = netip.PrefixFrom(vip, 32)
)

func advert(name string, changes ...func(*lb.BGPAdvertisement)) lb.BGPAdvertisement {
	a := lb.BGPAdvertisement{Name: name, Scope: lb.Scope{AllPools: true}, Length4: 32, Length6: 128}
	for _, change := range changes {
		change(&a)
	}
	return a
}

func label(key, value string) []lb.Selector {
	return []lb.Selector{{{Key: key, Operator: lb.In, Values: []string{value}}}}
}

// routed is cluster with routers r1 and r2 that all nodes tell of everything.
func routed(change func(*Snapshot)) Snapshot {
	return cluster(func(s *Snapshot) {
		s.BGPAdvertisements = []lb.BGPAdvertisement{advert("all")}
		s.Peers = map[string][]string{"n1": {"r1", "r2"}, "n2": {"r1", "r2"}, "n3": {"r1", "r2"}}
		if change != nil {
			change(s)
		}
	})
}

func avoided(s *Snapshot, reason lb.Reason, nodes ...string) {
	for _, n := range nodes {
		s.Nodes[n] = lb.Node{Name: n, Labels: s.Nodes[n].Labels, Avoid: []lb.Reason{reason}}
	}
}

func row(p netip.Prefix, peers ...string) lb.BGPRoute { return lb.BGPRoute{Prefix: p, Peers: peers} }

func draining(r lb.BGPRoute) lb.BGPRoute {
	r.Drain = true
	return r
}

func TestRoutes(t *testing.T) {
	both := row(hostRow, "r1", "r2")
	c1, c2 := lb.Community{A: 65000, B: 1}, lb.Community{A: 65000, B: 2}
	other := netip.MustParseAddr("192.0.2.101")
	wide := netip.MustParsePrefix("192.0.2.0/24")
	second := func(s *Snapshot, change func(*lb.Assignment)) {
		as := s.Assignments[0]
		as.Service.Name, as.Grants = "web2", []lb.Grant{{Addr: other, Pool: "lan"}}
		change(&as)
		s.Assignments = append(s.Assignments, as)
	}
	for _, tt := range []struct {
		name   string
		change func(*Snapshot)
		want   []lb.BGPRoute
	}{
		{"every node tells every peer", nil, []lb.BGPRoute{both}},
		{"no peer", func(s *Snapshot) { delete(s.Peers, "n1") }, nil},
		{"no advertisement", func(s *Snapshot) { s.BGPAdvertisements = nil }, nil},
		{"of another pool", func(s *Snapshot) {
			s.BGPAdvertisements[0].AllPools, s.BGPAdvertisements[0].Pools = false, []string{"other"}
		}, nil},
		{"of other Services", func(s *Snapshot) { s.BGPAdvertisements[0].ServiceSelectors = label("app", "x") }, nil},
		{"from other nodes", func(s *Snapshot) { s.BGPAdvertisements[0].NodeSelectors = label("zone", "x") }, nil},
		{"to one of the peers", func(s *Snapshot) { s.BGPAdvertisements[0].Peers = []string{"r2"} }, []lb.BGPRoute{row(hostRow, "r2")}},
		{"nothing serves", func(s *Snapshot) { s.Assignments[0].Ready = lb.ReadyNodes{} }, nil},
		{"policy Cluster, served elsewhere", func(s *Snapshot) { s.Assignments[0].Ready = ready("n2") }, []lb.BGPRoute{both}},
		{"policy Local, served elsewhere", func(s *Snapshot) {
			s.Assignments[0].Policy, s.Assignments[0].Ready = lb.TrafficLocal, ready("n2")
		}, nil},
		{"policy Local, served here", func(s *Snapshot) {
			s.Assignments[0].Policy, s.Assignments[0].Ready = lb.TrafficLocal, ready("n1")
		}, []lb.BGPRoute{both}},
		{"cordoned, and others announce", func(s *Snapshot) { avoided(s, lb.ReasonNodeCordoned, "n1") }, []lb.BGPRoute{draining(both)}},
		{"drained by its Speaker", func(s *Snapshot) {
			sp := s.Speakers["n1"]
			sp.Avoid = []lb.Reason{lb.ReasonNodeDrained}
			s.Speakers["n1"] = sp
		}, []lb.BGPRoute{draining(both)}},
		{"all are cordoned or excluded", func(s *Snapshot) {
			avoided(s, lb.ReasonNodeCordoned, "n1", "n2")
			avoided(s, lb.ReasonNodeExcluded, "n3")
		}, []lb.BGPRoute{both}},
		{"cordoned, and the last with an endpoint", func(s *Snapshot) {
			avoided(s, lb.ReasonNodeCordoned, "n1")
			s.Assignments[0].Policy, s.Assignments[0].Ready = lb.TrafficLocal, ready("n1")
		}, []lb.BGPRoute{both}},
		{"cordoned, and the others have no peer", func(s *Snapshot) {
			avoided(s, lb.ReasonNodeCordoned, "n1")
			s.Peers = map[string][]string{"n1": {"r1", "r2"}}
		}, []lb.BGPRoute{both}},
		{"cordoned, and the others are dead, starting or leaving", func(s *Snapshot) {
			avoided(s, lb.ReasonNodeCordoned, "n1")
			delete(s.Speakers, "n2")
			s.Speakers["n3"] = Speaker{}
		}, []lb.BGPRoute{both}},
		{"a prefix of two addresses, of which one is served", func(s *Snapshot) {
			s.BGPAdvertisements[0].Length4 = 24
			second(s, func(as *lb.Assignment) { as.Ready = lb.ReadyNodes{} })
		}, []lb.BGPRoute{row(wide, "r1", "r2")}},
		{"a prefix of two addresses, of which one needs the cordoned node", func(s *Snapshot) {
			s.BGPAdvertisements[0].Length4 = 24
			avoided(s, lb.ReasonNodeCordoned, "n1")
			second(s, func(as *lb.Assignment) { as.Policy, as.Ready = lb.TrafficLocal, ready("n1") })
		}, []lb.BGPRoute{row(wide, "r1", "r2")}},
		{"one by one and together", func(s *Snapshot) {
			s.BGPAdvertisements = append(s.BGPAdvertisements, advert("wide", func(a *lb.BGPAdvertisement) { a.Length4 = 24 }))
		}, []lb.BGPRoute{row(wide, "r1", "r2"), both}},
		{"communities are united, for who is told both", func(s *Snapshot) {
			s.BGPAdvertisements = []lb.BGPAdvertisement{
				advert("old", func(a *lb.BGPAdvertisement) { a.Communities, a.MED = []lb.Community{c2}, lb.Some[uint32](5) }),
				advert("new", func(a *lb.BGPAdvertisement) {
					a.Communities, a.MED, a.Peers = []lb.Community{c1}, lb.Some[uint32](6), []string{"r2"}
				}),
			}
		}, []lb.BGPRoute{
			{Prefix: hostRow, Peers: []string{"r1"}, BGPAttributes: lb.BGPAttributes{MED: lb.Some[uint32](5), Communities: []lb.Community{c2}}},
			{Prefix: hostRow, Peers: []string{"r2"}, BGPAttributes: lb.BGPAttributes{MED: lb.Some[uint32](5), Communities: []lb.Community{c1, c2}}},
		}},
		{"two Services of one prefix, each with an advertisement", func(s *Snapshot) {
			s.BGPAdvertisements = []lb.BGPAdvertisement{
				advert("a", func(a *lb.BGPAdvertisement) {
					a.Length4, a.Communities, a.ServiceSelectors = 24, []lb.Community{c1}, label("app", "a")
				}),
				advert("b", func(a *lb.BGPAdvertisement) {
					a.Length4, a.Communities, a.ServiceSelectors = 24, []lb.Community{c2}, label("app", "b")
				}),
			}
			s.Assignments[0].Labels = lb.LabelsOf(map[string]string{"app": "b"})
			second(s, func(as *lb.Assignment) { as.Labels = lb.LabelsOf(map[string]string{"app": "a"}) })
		}, []lb.BGPRoute{{Prefix: wide, Peers: []string{"r1", "r2"}, BGPAttributes: lb.BGPAttributes{Communities: []lb.Community{c1, c2}}}}},
		{"both families", func(s *Snapshot) {
			s.Assignments[0].Grants = append(s.Assignments[0].Grants, lb.Grant{Addr: netip.MustParseAddr("2001:db8::1"), Pool: "lan"})
		}, []lb.BGPRoute{both, row(netip.MustParsePrefix("2001:db8::1/128"), "r1", "r2")}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Make(routed(tt.change)).Routes
			if diff := cmp.Diff(tt.want, got, prefixes, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("routes differ (-want +got):\n%s", diff)
			}
		})
	}
}

func TestAnnouncersSayWhyNot(t *testing.T) {
	s := routed(func(s *Snapshot) {
		s.Nodes["n4"], s.Nodes["n5"] = lb.Node{Name: "n4"}, lb.Node{Name: "n5"}
		s.Speakers["n4"] = eth0()
		delete(s.Speakers, "n3")
		avoided(s, lb.ReasonNodeCordoned, "n2")
		s.BGPAdvertisements = append(s.BGPAdvertisements, advert("other", func(a *lb.BGPAdvertisement) { a.MED = lb.Some[uint32](1) }),
			advert("third", func(a *lb.BGPAdvertisement) { a.MED = lb.Some[uint32](2) }))
	})
	got := s.Announcers(s.Assignments, s.Assignments[0].Grants[0])
	want := Announcers{
		Nodes: []string{"n1"}, Peers: map[string][]string{"n1": {"r1", "r2"}, "n2": {"r1", "r2"}},
		Avoided: []Rejection{{"n2", lb.ReasonNodeCordoned}},
		Rejected: []Rejection{
			{"n3", lb.ReasonNodeNotMember}, {"n4", lb.ReasonNoPeer}, {"n5", lb.ReasonNodeNotMember},
		},
		Contradictions: []lb.Contradiction{{Field: "med", Older: "other", Newer: "third"}},
	}
	if diff := cmp.Diff(want, got, compared, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("announcers differ (-want +got):\n%s", diff)
	}
}

// What a node announces is what everybody who knows the same says that it
// announces; and each served address has a node that announces it undrained.
func TestRoutesAreThoseOfTheAnnouncers(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := large(t)
		s.Peers = map[string][]string{}
		for n := range s.Nodes {
			s.Peers[n] = rapid.SampledFrom([][]string{nil, {"r1"}, {"r1", "r2"}}).Draw(t, "peers")
		}
		for i := range rapid.IntRange(1, 3).Draw(t, "adverts") {
			s.BGPAdvertisements = append(s.BGPAdvertisements, advert(fmt.Sprint("bgp-", i), func(a *lb.BGPAdvertisement) {
				a.Peers = rapid.SampledFrom([][]string{nil, {"r1"}, {"r2"}}).Draw(t, "to")
				if rapid.Bool().Draw(t, "selective") {
					a.ServiceSelectors = label("tier", "web")
				}
				if rapid.Bool().Draw(t, "from some") {
					a.NodeSelectors = label("zone", "1")
				}
			}))
		}
		users := map[netip.Addr][]lb.Assignment{}
		grants := map[netip.Addr]lb.Grant{}
		s.grants(func(as *lb.Assignment, g lb.Grant) {
			users[g.Addr] = append(users[g.Addr], *as)
			if _, known := grants[g.Addr]; !known {
				grants[g.Addr] = g
			}
		})
		routes := map[string][]lb.BGPRoute{}
		for node := range s.Nodes {
			s.Node = node
			routes[node] = Make(s).Routes
		}
		for addr, g := range grants {
			a := s.Announcers(users[addr], g)
			for node := range s.Nodes {
				var told []string
				drained := false
				for _, r := range routes[node] {
					if r.Prefix.Addr() == addr {
						told, drained = append(told, r.Peers...), r.Drain
					}
				}
				slices.Sort(told)
				if !slices.Equal(told, a.Peers[node]) {
					t.Fatalf("%s tells %v of %s, and is said to tell %v", node, told, addr, a.Peers[node])
				}
				if len(told) > 0 && drained == slices.Contains(a.Nodes, node) {
					t.Fatalf("%s drains %s: %v; those that announce it are %v", node, addr, drained, a.Nodes)
				}
			}
			if len(a.Peers) > 0 && len(a.Nodes) == 0 {
				t.Fatalf("nobody announces %s undrained", addr)
			}
		}
	})
}

// BenchmarkRoutes is one plan of a large cluster after an endpoint has moved.
func BenchmarkRoutes(b *testing.B) {
	for _, local := range []int{0, 100} {
		b.Run(fmt.Sprintf("Local%d", local), func(b *testing.B) {
			s := fleet{services: 10000, nodes: 100, local: local}.snapshot()
			s.Advertisements = nil
			s.BGPAdvertisements = []lb.BGPAdvertisement{advert("all")}
			s.Peers = map[string][]string{}
			for n := range s.Nodes {
				s.Peers[n] = []string{"r1", "r2"}
			}
			b.ReportAllocs()
			var p Planner
			for version := uint64(1); b.Loop(); version++ {
				s.Version = version
				p.Make(s)
			}
		})
	}
}
