package plan

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

var (
	vip      = netip.MustParseAddr("192.0.2.100")
	compared = cmp.Options{
		cmp.Comparer(func(x, y netip.Addr) bool { return x == y }),
		cmp.Comparer(func(x, y lb.Reason) bool { return x == y }),
		cmpopts.IgnoreFields(Plan{}, "Standby"), // follows from the others
		cmpopts.IgnoreFields(Outcome{}, "Best"), // follows from the others, and is told in TestNextMove
	}
)

func eth0(prefixes ...string) Speaker {
	i := netif.Interface{Name: "eth0", Up: true}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
	}
	return Speaker{Interfaces: []netif.Interface{i}, Joined: true}
}

// ready says that a Service has endpoints of both families on the nodes.
func ready(nodes ...string) lb.ReadyNodes { return lb.ReadyNodes{IPv4: nodes, IPv6: nodes} }

// cluster is three nodes on the address's subnet, a Service with endpoints on
// all of them, and an advertisement for everything. change makes it a case.
func cluster(change func(*Snapshot)) Snapshot {
	s := Snapshot{
		Node: "n1", Joined: true,
		Assignments: []lb.Assignment{{
			Service: lb.ServiceKey{Namespace: "default", Name: "web"}, Policy: lb.TrafficCluster,
			Grants: []lb.Grant{{Addr: vip, Pool: "lan"}}, Ready: ready("n1", "n2", "n3"),
		}},
		Advertisements: []lb.L2Advertisement{{Name: "all", Scope: lb.Scope{AllPools: true}}},
		Nodes:          map[string]lb.Node{"n1": {Name: "n1"}, "n2": {Name: "n2"}, "n3": {Name: "n3"}},
		Speakers:       map[string]Speaker{"n1": eth0("192.0.2.1/24"), "n2": eth0("192.0.2.2/24"), "n3": eth0("192.0.2.3/24")},
		Claims:         map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 3}},
	}
	if change != nil {
		change(&s)
	}
	return s
}

func TestMake(t *testing.T) {
	announced := []lb.L2Announcement{{Addr: vip, Interfaces: []string{"eth0"}}}
	tests := []struct {
		name     string
		change   func(*Snapshot)
		announce []lb.L2Announcement
		claims   map[netip.Addr]election.Claim
		reason   lb.Reason
		owner    string
		rejected []Rejection
		avoided  []Rejection
	}{
		{name: "the owner announces", announce: announced, reason: lb.ReasonAnnounced, owner: "n1"},
		{
			name:   "another's claim",
			change: func(s *Snapshot) { s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 1} },
			reason: lb.ReasonNotOwner, owner: "n2",
		},
		{
			name: "a dead owner's address goes to the elected node, here this one, with the next epoch",
			change: func(s *Snapshot) {
				s.Node = "n2"
				delete(s.Speakers, "n3")
				s.Claims[vip] = election.Claim{Owner: "n3", Epoch: 7}
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n2", Epoch: 8}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n2", rejected: []Rejection{{"n3", lb.ReasonNodeNotMember}},
		},
		{
			name: "an owner that is not known to be alive, whose claim has just come, is waited for",
			change: func(s *Snapshot) {
				s.Node = "n2"
				delete(s.Speakers, "n3")
				s.Claims[vip] = election.Claim{Owner: "n3", Epoch: 7}
				s.Fresh = map[netip.Addr]bool{vip: true}
			},
			reason: lb.ReasonNotOwner, owner: "n2", rejected: []Rejection{{"n3", lb.ReasonNodeNotMember}},
		},
		{
			name: "who was cut off with a few claimed what this node announces all the time: it is claimed back",
			change: func(s *Snapshot) {
				s.Known, s.Announced = 3, map[netip.Addr]bool{vip: true}
				s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 4, Minor: true}
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 5}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n1",
		},
		{
			name: "the same, and this node misses most of those it watches: its claim is not minor all the same, or both would defend it for ever",
			change: func(s *Snapshot) {
				s.Known, s.CutOff, s.Announced = 3, true, map[netip.Addr]bool{vip: true}
				s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 4, Minor: true}
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 5}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n1",
		},
		{
			name: "the same, but this node does not announce it any more: nothing moves back",
			change: func(s *Snapshot) {
				s.Known = 3
				s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 4, Minor: true}
			},
			reason: lb.ReasonNotOwner, owner: "n2",
		},
		{
			name: "the same, but this node sees less than half itself",
			change: func(s *Snapshot) {
				s.Known, s.Announced = 7, map[netip.Addr]bool{vip: true}
				s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 4, Minor: true}
			},
			reason: lb.ReasonNotOwner, owner: "n2",
		},
		{
			name: "who sees less than half says so in its claim",
			change: func(s *Snapshot) {
				s.Node, s.Known = "n2", 3
				delete(s.Speakers, "n1")
				delete(s.Speakers, "n3")
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n2", Epoch: 4, Minor: true}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n2", rejected: []Rejection{{"n1", lb.ReasonNodeNotMember}, {"n3", lb.ReasonNodeNotMember}},
		},
		{
			name: "what its owner did not announce, as a foreign host has it, is probed by who takes over",
			change: func(s *Snapshot) {
				s.Node = "n2"
				delete(s.Speakers, "n3")
				s.Claims[vip] = election.Claim{Owner: "n3", Epoch: 7}
				s.Disputed = map[netip.Addr]bool{vip: true}
			},
			claims:   map[netip.Addr]election.Claim{vip: {Owner: "n2", Epoch: 8}},
			announce: []lb.L2Announcement{{Addr: vip, Interfaces: []string{"eth0"}, Probe: true}},
			reason:   lb.ReasonAnnounced, owner: "n2", rejected: []Rejection{{"n3", lb.ReasonNodeNotMember}},
		},
		{
			name: "an owner that cannot open its interface",
			change: func(s *Snapshot) {
				delete(s.Speakers, "n3")
				own := s.Speakers["n1"].Interfaces[0]
				own.Fails = []lb.Family{lb.IPv4}
				s.Speakers["n1"] = Speaker{Interfaces: []netif.Interface{own}, Joined: true}
			},
			reason: lb.ReasonNotOwner, owner: "n2", rejected: []Rejection{{"n1", lb.ReasonInterfaceFails}, {"n3", lb.ReasonNodeNotMember}},
		},
		{
			name: "one that cannot open it for the other family",
			change: func(s *Snapshot) {
				own := s.Speakers["n1"].Interfaces[0]
				own.Fails = []lb.Family{lb.IPv6}
				s.Speakers["n1"] = Speaker{Interfaces: []netif.Interface{own}, Joined: true}
			},
			announce: announced, reason: lb.ReasonAnnounced, owner: "n1",
		},
		{
			name: "who knows that it is itself out of the others' reach does not take them for dead",
			change: func(s *Snapshot) {
				s.Node, s.Known, s.Severed = "n2", 3, true
				delete(s.Speakers, "n1")
				delete(s.Speakers, "n3")
			},
			reason: lb.ReasonNotOwner, owner: "n2", rejected: []Rejection{{"n1", lb.ReasonNodeNotMember}, {"n3", lb.ReasonNodeNotMember}},
		},
		{
			name: "the same, and there are no others",
			change: func(s *Snapshot) {
				s.Known, s.Severed = 1, true
				delete(s.Claims, vip)
				delete(s.Speakers, "n2")
				delete(s.Speakers, "n3")
			},
			claims:   map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 1}},
			announce: []lb.L2Announcement{{Addr: vip, Interfaces: []string{"eth0"}, Probe: true}},
			reason:   lb.ReasonAnnounced, owner: "n1", rejected: []Rejection{{"n2", lb.ReasonNodeNotMember}, {"n3", lb.ReasonNodeNotMember}},
		},
		{
			name: "an owner that is looking for the others for too long loses what it owns",
			change: func(s *Snapshot) {
				s.Node = "n2"
				delete(s.Speakers, "n3")
				s.Speakers["n1"] = Speaker{Interfaces: s.Speakers["n1"].Interfaces, Late: true}
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n2", Epoch: 4}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n2",
			rejected: []Rejection{{"n3", lb.ReasonNodeNotMember}}, avoided: []Rejection{{"n1", lb.ReasonNotJoined}},
		},
		{
			name:   "a speaker that has not joined owns nothing",
			change: func(s *Snapshot) { s.Joined = false; delete(s.Claims, vip) },
			reason: lb.ReasonNotJoined,
		},
		{
			name: "no advertisement for the pool",
			change: func(s *Snapshot) {
				s.Advertisements = []lb.L2Advertisement{{Name: "x", Scope: lb.Scope{Pools: []string{"other"}}}}
			},
			reason: lb.ReasonNoAdvertisement,
		},
		{
			name:   "no endpoint",
			change: func(s *Snapshot) { s.Assignments[0].Ready = lb.ReadyNodes{} },
			reason: lb.ReasonNoEndpoints,
		},
		{
			name: "Local: only nodes with a ready endpoint; an owner without one stops at once",
			change: func(s *Snapshot) {
				s.Assignments[0].Policy, s.Assignments[0].Ready = lb.TrafficLocal, ready("n2")
			},
			reason: lb.ReasonNotOwner, owner: "n2",
			rejected: []Rejection{{"n1", lb.ReasonNoReadyEndpoint}, {"n3", lb.ReasonNoReadyEndpoint}},
		},
		{
			name: "an interface that is down",
			change: func(s *Snapshot) {
				s.Speakers["n1"].Interfaces[0].Up = false
				s.Speakers["n2"].Interfaces[0].Up = false
			},
			reason: lb.ReasonNotOwner, owner: "n3",
			rejected: []Rejection{{"n1", lb.ReasonInterfaceDown}, {"n2", lb.ReasonInterfaceDown}},
		},
		{
			name: "only the node in the subnet",
			change: func(s *Snapshot) {
				s.Speakers["n2"], s.Speakers["n3"] = eth0("198.51.100.2/24"), eth0("198.51.100.3/24")
			},
			announce: announced, reason: lb.ReasonAnnounced, owner: "n1",
			rejected: []Rejection{{"n2", lb.ReasonNoInterface}, {"n3", lb.ReasonNoInterface}},
		},
		{
			name: "no node in the subnet: no host asks for the address there",
			change: func(s *Snapshot) {
				for n := range s.Speakers {
					s.Speakers[n] = eth0("198.51.100.2/24")
				}
			},
			reason: lb.ReasonNoSubnet, rejected: []Rejection{{"n1", lb.ReasonNoInterface}, {"n2", lb.ReasonNoInterface}, {"n3", lb.ReasonNoInterface}},
		},
		{
			name: "no node in the subnet, and the advertisement names the interface: the address is routed here",
			change: func(s *Snapshot) {
				for n := range s.Speakers {
					s.Speakers[n] = eth0("198.51.100.2/24")
				}
				s.Advertisements[0].Interfaces = []string{"eth*"}
			},
			announce: announced, reason: lb.ReasonAnnounced, owner: "n1",
		},
		{
			name:   "interfaces chosen by glob",
			change: func(s *Snapshot) { s.Advertisements[0].Interfaces = []string{"bond*"} },
			reason: lb.ReasonNoCandidate,
			rejected: []Rejection{
				{"n1", lb.ReasonNoInterface}, {"n2", lb.ReasonNoInterface}, {"n3", lb.ReasonNoInterface},
			},
		},
		{
			name: "node selectors",
			change: func(s *Snapshot) {
				s.Advertisements[0].NodeSelectors = []lb.Selector{{{Key: "edge", Operator: lb.Exists}}}
				s.Nodes["n2"] = lb.Node{Name: "n2", Labels: lb.LabelsOf(map[string]string{"edge": ""})}
			},
			reason: lb.ReasonNotOwner, owner: "n2",
			rejected: []Rejection{{"n1", lb.ReasonNodeNotSelected}, {"n3", lb.ReasonNodeNotSelected}},
		},
		{
			name: "preferred nodes come first, but move nothing",
			change: func(s *Snapshot) {
				s.Advertisements[0].Preferred = []lb.Preference{{Weight: 10, Selector: lb.Selector{{Key: "fast", Operator: lb.Exists}}}}
				s.Nodes["n2"] = lb.Node{Name: "n2", Labels: lb.LabelsOf(map[string]string{"fast": ""})}
			},
			announce: announced, reason: lb.ReasonAnnounced, owner: "n1",
		},
		{
			name: "preferred nodes come first",
			change: func(s *Snapshot) {
				s.Advertisements[0].Preferred = []lb.Preference{{Weight: 10, Selector: lb.Selector{{Key: "fast", Operator: lb.Exists}}}}
				s.Nodes["n2"] = lb.Node{Name: "n2", Labels: lb.LabelsOf(map[string]string{"fast": ""})}
				s.Claims[vip] = election.Claim{}
			},
			reason: lb.ReasonNotOwner, owner: "n2",
		},
		{
			name: "an owner that is leaving goes on until its successor claims",
			change: func(s *Snapshot) {
				s.Speakers["n1"] = Speaker{Interfaces: s.Speakers["n1"].Interfaces, Joined: true, Leaving: true}
			},
			announce: announced, reason: lb.ReasonAnnounced, owner: "n1", avoided: []Rejection{{"n1", lb.ReasonNodeLeaving}},
		},
		{
			name: "an owner that is leaving is worse than those that are only to be avoided",
			change: func(s *Snapshot) {
				s.Node = "n2"
				s.Speakers["n1"] = Speaker{Interfaces: s.Speakers["n1"].Interfaces, Joined: true, Leaving: true}
				s.Nodes["n2"] = lb.Node{Name: "n2", Avoid: []lb.Reason{lb.ReasonNodeExcluded}}
				delete(s.Nodes, "n3")
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n2", Epoch: 4}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n2", avoided: []Rejection{{"n1", lb.ReasonNodeLeaving}},
		},
		{
			name: "a speaker that has not joined is not elected",
			change: func(s *Snapshot) {
				s.Node = "n3"
				s.Speakers["n2"] = Speaker{Interfaces: s.Speakers["n2"].Interfaces}
				delete(s.Speakers, "n1")
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n3", Epoch: 4}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n3", rejected: []Rejection{{"n1", lb.ReasonNodeNotMember}},
		},
		{
			name: "an owner that is joining again stays the owner",
			change: func(s *Snapshot) {
				s.Node = "n3"
				s.Speakers["n1"] = Speaker{Interfaces: s.Speakers["n1"].Interfaces}
			},
			reason: lb.ReasonNotOwner, owner: "n1",
		},
		{
			name: "the successor of a cordoned owner claims",
			change: func(s *Snapshot) {
				s.Nodes["n2"] = lb.Node{Name: "n2", Avoid: []lb.Reason{lb.ReasonNodeCordoned}}
				delete(s.Speakers, "n3")
				s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 1}
			},
			claims: map[netip.Addr]election.Claim{vip: {Owner: "n1", Epoch: 2}}, announce: announced,
			reason: lb.ReasonAnnounced, owner: "n1",
			rejected: []Rejection{{"n3", lb.ReasonNodeNotMember}}, avoided: []Rejection{{"n2", lb.ReasonNodeCordoned}},
		},
		{
			name: "when all are to be avoided, none is",
			change: func(s *Snapshot) {
				for n := range s.Nodes {
					s.Nodes[n] = lb.Node{Name: n, Avoid: []lb.Reason{lb.ReasonNodeExcluded}}
				}
			},
			announce: announced, reason: lb.ReasonAnnounced, owner: "n1",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := cluster(tt.change)
			p := Make(s)
			if tt.claims == nil {
				tt.claims = map[netip.Addr]election.Claim{}
			}
			want := Plan{Announcements: tt.announce, Claims: tt.claims, Outcomes: []Outcome{{
				Addr: vip, Reason: tt.reason, Owner: tt.owner, Avoided: tt.avoided,
			}}}
			for _, a := range tt.announce {
				want.Users = map[netip.Addr][]lb.ServiceKey{a.Addr: {s.Assignments[0].Service}}
			}
			if diff := cmp.Diff(want, p, compared); diff != "" {
				t.Errorf("plan differs (-want +got):\n%s", diff)
			}
			c := s.Candidates(s.Assignments, s.Assignments[0].Grants[0])
			if diff := cmp.Diff(tt.rejected, c.Rejected, compared); diff != "" {
				t.Errorf("rejected nodes differ (-want +got):\n%s", diff)
			}
		})
	}
}

// Whoever saw whom while they made their claims, once all have heard all, one
// node announces the address, and goes on doing so (invariant L1).
func TestOneOwnerOnceAllHaveHeardAll(t *testing.T) {
	nodes := []string{"n1", "n2", "n3"}
	rapid.Check(t, func(t *rapid.T) {
		claims := map[string]election.Claim{} // by the node that believes it
		plan := func(node string, sees func(string) bool) Plan {
			return Make(cluster(func(s *Snapshot) {
				s.Node, s.Claims = node, map[netip.Addr]election.Claim{vip: claims[node]}
				for _, n := range nodes {
					if n != node && !sees(n) {
						delete(s.Speakers, n)
					}
				}
			}))
		}
		for range rapid.IntRange(0, 6).Draw(t, "claims made apart") {
			node := rapid.SampledFrom(nodes).Draw(t, "node")
			p := plan(node, func(string) bool { return rapid.Bool().Draw(t, "sees") })
			if c, ok := p.Claims[vip]; ok {
				claims[node] = c
			}
			from := rapid.SampledFrom(nodes).Draw(t, "heard")
			if claims[from].Compare(claims[node]) > 0 {
				claims[node] = claims[from]
			}
		}
		var last string
		for round := range 3 {
			var highest election.Claim
			for _, c := range claims {
				if c.Compare(highest) > 0 {
					highest = c
				}
			}
			var owners []string
			for _, node := range nodes {
				claims[node] = highest
				p := plan(node, func(string) bool { return true })
				if c, ok := p.Claims[vip]; ok {
					claims[node] = c
				}
				if len(p.Announcements) > 0 {
					owners = append(owners, node)
				}
			}
			if len(owners) != 1 {
				t.Fatalf("round %d: %v announce; the highest claim is %v", round, owners, highest)
			}
			if last != "" && owners[0] != last {
				t.Fatalf("round %d: the address moved from %s to %s though nothing changed", round, last, owners[0])
			}
			last = owners[0]
		}
	})
}
