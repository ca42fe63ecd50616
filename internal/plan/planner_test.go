package plan

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// large draws a cluster in which addresses are of many kinds.
func large(t *rapid.T) Snapshot {
	s := fleet{services: 20, nodes: 5, local: 50, dual: true, pools: rapid.IntRange(0, 3).Draw(t, "pools")}.snapshot()
	for i := range s.Assignments {
		as := &s.Assignments[i]
		as.Labels = lb.Labels{{Key: "tier", Value: rapid.SampledFrom([]string{"web", "0", "1", "other"}).Draw(t, "tier")}}
		as.Policy = rapid.SampledFrom([]lb.TrafficPolicy{lb.TrafficCluster, lb.TrafficLocal}).Draw(t, "policy")
		for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
			as.Ready.Set(f, rapid.SampledFrom([][]string{nil, {""}, {"node-001"}, {"", "node-002", "node-004"}, {"node-000", "node-003"}}).Draw(t, "ready"))
		}
		switch rapid.IntRange(0, 5).Draw(t, "address") {
		case 0: // shared
			as.Grants[0] = s.Assignments[0].Grants[0]
		case 1: // in the subnet of one node
			as.Grants[0].Addr = netip.AddrFrom4([4]byte{192, 168, 3, byte(i)})
		case 2: // in nobody's
			as.Grants[0].Addr = netip.AddrFrom4([4]byte{198, 51, 100, byte(i)})
		}
	}
	for n := range s.Nodes {
		switch rapid.IntRange(0, 9).Draw(t, "node") {
		case 0:
			delete(s.Speakers, n)
		case 1:
			s.Speakers[n] = Speaker{Interfaces: s.Speakers[n].Interfaces, Late: rapid.Bool().Draw(t, "late")}
		case 2:
			s.Speakers[n] = Speaker{Interfaces: s.Speakers[n].Interfaces, Joined: true, Leaving: true}
		case 3:
			s.Nodes[n] = lb.Node{Name: n, Labels: s.Nodes[n].Labels, Avoid: []lb.Reason{lb.ReasonNodeCordoned}}
		case 4:
			own := rapid.SampledFrom([]string{"10.0.9.9/32", "198.51.100.1/32", "192.168.9.9/32"}).Draw(t, "own")
			s.Speakers[n] = Speaker{Interfaces: []netif.Interface{link("eth0", has(own), uplink(lb.IPv4))}, Joined: true}
		}
	}
	return s
}

// Looking for candidates once for each kind of address finds the same ones.
func TestOneKindHasTheSameCandidates(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := large(t)
		users := map[netip.Addr][]lb.Assignment{}
		grants := map[netip.Addr]lb.Grant{}
		s.grants(func(as *lb.Assignment, g lb.Grant) {
			users[g.Addr] = append(users[g.Addr], *as)
			if _, known := grants[g.Addr]; !known {
				grants[g.Addr] = g
			}
		})
		got := map[netip.Addr]Candidates{}
		targets, _ := s.targets()
		s.findCandidates(targets)
		for _, sp := range targets {
			got[sp.Addr] = *sp.candidates
		}
		if len(got) != len(users) {
			t.Fatalf("%d targets of %d addresses", len(got), len(users))
		}
		for a := range users {
			want := s.Candidates(users[a], grants[a])
			want.Rejected = nil
			if diff := cmp.Diff(want, got[a], compared, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("candidates for %s differ (-want +got):\n%s", a, diff)
			}
		}
	})
}

// A planner that keeps what it knows decides as one that knows nothing.
func TestPlannerDecidesAsIfItKeptNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := large(t)
		s.Version, s.Known = 1, rapid.IntRange(0, 12).Draw(t, "known")
		var all []netip.Addr
		s.grants(func(_ *lb.Assignment, g lb.Grant) { all = append(all, g.Addr) })
		var p Planner
		for range rapid.IntRange(1, 10).Draw(t, "plans") {
			s.Moved, s.Claims = nil, maps.Clone(s.Claims)
			for range rapid.IntRange(0, 5).Draw(t, "claims") {
				a := rapid.SampledFrom(all).Draw(t, "addr")
				s.Moved = append(s.Moved, a)
				s.Claims[a] = election.Claim{Owner: fmt.Sprintf("node-%03d", rapid.IntRange(0, 6).Draw(t, "owner")), Epoch: s.Claims[a].Epoch + 1, Minor: rapid.Bool().Draw(t, "minor")}
			}
			s.Take = rapid.SampledFrom(append(all, netip.Addr{}, netip.Addr{})).Draw(t, "take")
			s.CutOff = rapid.Bool().Draw(t, "cut off")
			s.Fresh = map[netip.Addr]bool{rapid.SampledFrom(all).Draw(t, "fresh"): true}
			s.Joined = rapid.IntRange(0, 5).Draw(t, "joined") > 0
			if rapid.IntRange(0, 5).Draw(t, "ground moves") == 0 {
				s.Version++
				if rapid.Bool().Draw(t, "endpoints") {
					s.Assignments = slices.Clone(s.Assignments)
					s.Assignments[3].Ready = ready("node-002")
				}
				s.Speakers = maps.Clone(s.Speakers)
				delete(s.Speakers, fmt.Sprintf("node-%03d", rapid.IntRange(1, 4).Draw(t, "dies")))
			}
			want, got := Make(s), p.Make(s)
			if diff := cmp.Diff(want, got, compared, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("plan differs (-want +got):\n%s", diff)
			}
			s.Announced = map[netip.Addr]bool{}
			for _, a := range got.Announcements {
				s.Announced[a.Addr] = true
			}
			maps.Copy(s.Claims, got.Claims)
			// The next snapshot says that these have moved, as the gossip does.
			for a := range got.Claims {
				p.setClaim(&s, p.indexOf[a], s.Claims[a])
			}
		}
	})
}

// An address that is given out again may have been somebody's meanwhile: it is probed,
// whatever claims there were, but never on a take-over.
func TestAddressGivenOutAgainIsProbed(t *testing.T) {
	for _, tt := range []struct {
		name  string
		after func(s *Snapshot, appears func()) // the first snapshot
		want  bool
	}{
		{"it was there when this speaker started", func(*Snapshot, func()) {}, false},
		{"it is given again, and this node had it last", func(_ *Snapshot, appears func()) { appears() }, true},
		{"this node takes it over from who had it last and is dead", func(s *Snapshot, appears func()) {
			s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 6}
			delete(s.Speakers, "n2")
			delete(s.Speakers, "n3")
			appears()
		}, true},
		{"the same, and it got its endpoints later", func(s *Snapshot, appears func()) {
			was := s.Assignments[0].Ready
			s.Claims[vip] = election.Claim{}
			s.Assignments[0].Ready = lb.ReadyNodes{}
			appears()
			s.Assignments = slices.Clone(s.Assignments)
			s.Assignments[0].Ready = was
			delete(s.Speakers, "n2")
			delete(s.Speakers, "n3")
			s.Version++
		}, true},
		{"this node takes it over later from who had it last", func(s *Snapshot, appears func()) {
			s.Claims[vip] = election.Claim{Owner: "n2", Epoch: 6}
			appears()
			delete(s.Speakers, "n2")
			delete(s.Speakers, "n3")
			s.Version++
		}, false},
		{"this node has it, and another Service comes", func(s *Snapshot, appears func()) {
			s.Assignments = append(slices.Clone(s.Assignments), lb.Assignment{
				Service: lb.ServiceKey{Namespace: "default", Name: "zoo"}, Policy: lb.TrafficCluster,
				Grants: []lb.Grant{{Addr: vip.Next(), Pool: "lan"}}, Ready: ready(lb.AnyNode),
			})
			s.Version++
		}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var p Planner
			s := cluster(func(s *Snapshot) { s.Version = 1 })
			appears := func() {
				with := s.Assignments
				s.Assignments = nil
				p.Make(s)
				s.Assignments = with
				s.Version++
				p.Make(s)
			}
			tt.after(&s, appears)
			s.Claims = maps.Clone(s.Claims)
			plan := p.Make(s)
			maps.Copy(s.Claims, plan.Claims)
			s.Moved = slices.Collect(maps.Keys(plan.Claims))
			for range 2 { // the plan with the claim, and one in which it has been heard
				i := slices.IndexFunc(plan.Announcements, func(a lb.L2Announcement) bool { return a.Addr == vip })
				if i < 0 || plan.Announcements[i].Probe != tt.want {
					t.Fatalf("it announces %+v, want %s, probed: %v", plan.Announcements, vip, tt.want)
				}
				plan = p.Make(s)
			}
		})
	}
}
