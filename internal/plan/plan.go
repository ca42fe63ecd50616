// Package plan decides what one node announces.
//
// Make is pure: the same snapshot gives the same plan, on every node the same
// owner for every address. Effects (gossip, ARP, status) are elsewhere.
package plan

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// Snapshot is all that a plan depends on.
type Snapshot struct {
	// Version changes whenever Assignments, Advertisements, Nodes, Speakers, BGPAdvertisements
	// or Peers change; 0 means that changes are not tracked.
	Version uint64
	// Moved has at least all addresses whose claim differs from the last snapshot, if Version
	// is not 0.
	Moved          []netip.Addr
	Node           string          // this node
	Joined         bool            // this speaker has joined the others, or there are none
	Assignments    []lb.Assignment // sorted by Service
	Advertisements []lb.L2Advertisement
	Nodes          map[string]lb.Node // by name
	Speakers       map[string]Speaker // by node, those alive in the gossip
	Claims         map[netip.Addr]election.Claim
	Fresh          map[netip.Addr]bool     // addresses with a claim so recent that its owner may be alive although Speakers lacks it
	Known          int                     // number of speakers known to this one, alive or not
	CutOff         bool                    // this speaker misses most of those that it watches, so it may be isolated itself
	Severed        bool                    // the interface of the gossip is down: the others are unreachable, not dead
	Announced      map[netip.Addr]bool     // addresses that this node announces already
	AnnouncedOn    map[netip.Addr][]string // the interfaces on which it announces them
	Disputed       map[netip.Addr]bool     // addresses that their owner does not announce because a foreign host uses them
	Take           netip.Addr              // to be taken over by this node at a user's request; not valid if none

	BGPAdvertisements []lb.BGPAdvertisement // oldest first
	Peers             map[string][]string   // node -> the sorted names of the peers to which it advertises
}

// Speaker has the facts that a live speaker published.
type Speaker struct {
	Interfaces []netif.Interface
	Joined     bool // it may own addresses
	Late       bool // it has not joined for so long that others take over its addresses
	Leaving    bool
	Avoid      []lb.Reason // reasons, published by the speaker, to prefer other nodes
}

// Equal reports whether the speakers published the same facts.
func (s Speaker) Equal(o Speaker) bool {
	return s.Joined == o.Joined && s.Late == o.Late && s.Leaving == o.Leaving && slices.Equal(s.Avoid, o.Avoid) && slices.EqualFunc(s.Interfaces, o.Interfaces, netif.Interface.Equal)
}

// Plan has the actions of this node.
type Plan struct {
	Announcements []lb.L2Announcement            // sorted by address; it and Users must not be modified
	Users         map[netip.Addr][]lb.ServiceKey // of the addresses in Announcements
	Standby       []string                       // interfaces on which this node could announce an IPv4 address, sorted
	Claims        map[netip.Addr]election.Claim  // to be published before announcing
	Outcomes      []Outcome                      // one per assigned address, in the order of the assignments; valid until the next plan

	// Routes are the routes that this node advertises by BGP, sorted by prefix. Those with
	// Drain are withdrawn once routers had time to prefer other nodes. The slice is the same
	// as long as the snapshot's version is.
	Routes []lb.BGPRoute
}

// Outcome is the decision about one assigned address. There may be tens of thousands.
type Outcome struct {
	Addr    netip.Addr
	Reason  lb.Reason   // ReasonAnnounced if this node announces it
	Owner   string      // the node that announces it, "" if none can
	Avoided []Rejection // the deprioritized nodes that could announce it, sorted by node
	Best    []string    // the preferred candidates, sorted
}

// Rejection says why a node does not announce an address.
type Rejection struct {
	Node   string
	Reason lb.Reason
}

// LacksInterface reports whether the node has no interface to announce the address on.
func (r Rejection) LacksInterface() bool { return r.Reason == lb.ReasonNoInterface }

// Make decides what this node announces. The node with the highest claim announces the
// address as long as it can: an owner that is only deprioritized continues until it receives
// its successor's claim.
func Make(s Snapshot) Plan { return new(Planner).Make(s) }

// load returns the bound for the number of addresses of one node.
func (s *Snapshot) load(assigned int) election.Load {
	joined := 0
	for _, sp := range s.Speakers {
		if sp.Joined {
			joined++
		}
	}
	return election.NewLoad(assigned, joined)
}

// firstEpoch is the epoch of the first owner of an address that no node of the cluster has
// announced before.
const firstEpoch = 1

// place decides about one unsettled address with this claim, and adds the result to the plan.
func (s *Snapshot) place(sp *target, claim election.Claim, load election.Load, p *Plan) Outcome {
	if !s.Joined {
		return s.outcome(sp, claim, "", p)
	}
	elected := election.Owner(sp.Addr, sp.candidates.Good, sp.candidates.Best, claim, load)
	mustClaim := s.mustClaim(sp, claim)
	if mustClaim {
		elected = s.Node
	}
	if elected != claim.Owner {
		load.Of[claim.Owner]--
		load.Of[elected]++ // every speaker predicts the takeovers of all
	}
	if elected == s.Node && claim.Owner != s.Node && (mustClaim || !s.awaited(sp.Addr) && !s.isolated()) {
		claim = claim.Next(s.Node, s.claimsMinor(claim))
		p.Claims[sp.Addr] = claim
		if s.Disputed[sp.Addr] {
			sp.introduced = claim.Epoch
		}
	}
	return s.outcome(sp, claim, elected, p)
}

// outcome returns the outcome for one address with this claim and elected owner, and adds an
// announcement to the plan if this node makes it.
func (s *Snapshot) outcome(sp *target, claim election.Claim, elected string, p *Plan) Outcome {
	c := sp.candidates
	out := Outcome{Addr: sp.Addr, Avoided: c.Avoided, Best: c.Best}
	switch {
	case c.Reason != 0:
		out.Reason = c.Reason
		return out
	case !s.Joined:
		out.Reason, out.Owner = lb.ReasonNotJoined, claim.Owner
		return out
	}
	out.Reason, out.Owner = lb.ReasonNotOwner, claim.Owner
	names, able := c.Able[claim.Owner]
	if !able {
		out.Owner = elected // its claim will arrive
	}
	if able && claim.Owner == s.Node {
		out.Reason = lb.ReasonAnnounced
		p.announce(sp, lb.L2Announcement{Addr: sp.Addr, Interfaces: s.onePerSubnet(names, c.Pinned, sp.Addr), Probe: claim.Epoch <= sp.introduced})
	}
	return out
}

func (p *Plan) sort() {
	slices.SortFunc(p.Announcements, func(x, y lb.L2Announcement) int { return x.Addr.Compare(y.Addr) })
}

// add adds another plan's announcements. Usually there are none: other nodes claim the addresses.
func (p *Plan) add(more *Plan) {
	if len(more.Announcements) == 0 {
		return
	}
	p.Announcements = slices.Concat(p.Announcements, more.Announcements)
	p.sort()
	users := make(map[netip.Addr][]lb.ServiceKey, len(p.Announcements))
	maps.Copy(users, p.Users)
	maps.Copy(users, more.Users)
	p.Users = users
}

func (p *Plan) announce(sp *target, a lb.L2Announcement) {
	p.Announcements = append(p.Announcements, a)
	if p.Users == nil {
		p.Users = map[netip.Addr][]lb.ServiceKey{}
	}
	p.Users[sp.Addr] = append([]lb.ServiceKey{sp.first.Service}, sp.sharers...)
}

// minority reports whether this speaker sees less than half of the known speakers: it may be on
// the smaller side of a partition.
func (s *Snapshot) minority() bool { return 2*len(s.Speakers) < s.Known }

// claimsMinor reports whether a claim by which this node replaces another one is minor. A claim
// that replaces a minor one is not, unless this node is in the minority: otherwise two nodes
// would replace each other's claims forever.
func (s *Snapshot) claimsMinor(replaced election.Claim) bool {
	return s.minority() || s.CutOff && !replaced.Minor
}

// mustClaim reports whether this node claims the address regardless of its owner: at a user's
// request, or because it announces the address and an isolated node, which took the others for
// dead, has claimed it. So the address stays on the majority's side.
func (s *Snapshot) mustClaim(sp *target, claim election.Claim) bool {
	wanted := s.Take == sp.Addr || claim.Minor && s.Announced[sp.Addr] && !s.minority()
	return wanted && claim.Owner != s.Node && slices.Contains(sp.candidates.Good, s.Node)
}

// apart reports whether there are others who have, or will take, what this speaker
// cannot hear about.
func (s *Snapshot) isolated() bool { return s.Severed && s.Known > 1 }

// awaited reports whether the owner is not known to be alive, but its claim is so recent that
// this may change: after a partition, speakers receive claims before heartbeats.
func (s *Snapshot) awaited(a netip.Addr) bool {
	_, alive := s.Speakers[s.Claims[a].Owner]
	return s.Fresh[a] && !alive
}

// Candidates are the nodes that can announce an address.
type Candidates struct {
	Able     map[string][]string // node -> the interfaces to announce on, sorted
	Good     []string            // those of Able with the least reason to avoid them, sorted; an owner among them stays
	Best     []string            // those of Good with the highest preference of the advertisements, for election
	Rejected []Rejection         // the nodes that cannot announce it, sorted
	Avoided  []Rejection         // those of Able that are not Good, sorted
	Strained []Rejection         // those of Good that are so only because no better node can announce, sorted
	Reason   lb.Reason           // why there is no candidate, or 0

	Pinned map[string]bool // interfaces of this node that are used even if they share a subnet
}

// Candidates returns the nodes that can announce the address for the Services that have it.
func (s *Snapshot) Candidates(users []lb.Assignment, g lb.Grant) Candidates {
	var adverts []*lb.L2Advertisement
	for i := range s.Advertisements {
		if a := &s.Advertisements[i]; selects(a, users, g) {
			adverts = append(adverts, a)
		}
	}
	return s.candidates(slices.Sorted(maps.Keys(s.Nodes)), union(users), g.Addr, adverts, s.subnetsWith(g.Addr))
}

// selects reports whether the advertisement selects one of the Services that have the address.
func selects(a *lb.L2Advertisement, users []lb.Assignment, g lb.Grant) bool {
	return slices.ContainsFunc(users, func(as lb.Assignment) bool { return a.Selects(g, as.Labels) })
}

// candidates returns which of these nodes, which are sorted, can announce the address. subnets
// are the live nodes' subnets that contain it.
func (s *Snapshot) candidates(among []string, as lb.Assignment, addr netip.Addr, adverts []*lb.L2Advertisement, subnets []netip.Prefix) Candidates {
	switch {
	case len(adverts) == 0:
		return Candidates{Reason: lb.ReasonNoAdvertisement}
	case len(as.Ready.Of(lb.FamilyOf(addr))) == 0:
		return Candidates{Reason: lb.ReasonNoEndpoints}
	}
	c := Candidates{Able: map[string][]string{}}
	for _, name := range among {
		node, known := s.Nodes[name]
		if !known {
			continue // an endpoint outside of the cluster
		}
		interfaces, reason := s.able(node, as, addr, adverts, subnets)
		if reason != 0 {
			c.Rejected = append(c.Rejected, Rejection{name, reason})
			continue
		}
		c.Able[name] = interfaces
	}
	if len(c.Able[s.Node]) > 1 {
		c.Pinned = pinned(adverts, s.Nodes[s.Node])
	}
	s.choose(&c, adverts)
	if len(c.Able) == 0 {
		c.Reason = lb.ReasonNoCandidate
		if len(subnets) == 0 && bySubnet(adverts) && slices.ContainsFunc(c.Rejected, Rejection.LacksInterface) {
			c.Reason = lb.ReasonNoSubnet
		}
	}
	return c
}

// together returns the Services that share an address as if they were one: a
// node that can serve any of them can announce it. Under externalTrafficPolicy
// Local those that share have the same pods. A tenant chooses how many share, so that
// the cost is linear in their number.
func union(users []lb.Assignment) lb.Assignment {
	all := users[0]
	if len(users) == 1 {
		return all
	}
	for i := range users {
		if users[i].Policy == lb.TrafficLocal {
			all.Policy = lb.TrafficLocal
		}
	}
	for _, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		all.Ready.Set(f, readyFor(users, f))
	}
	return all
}

// readyFor returns the nodes, sorted, that are ready for one of the Services.
func readyFor(users []lb.Assignment, f lb.Family) []string {
	all := users[0].Ready.Of(f)
	alike := func(as lb.Assignment) bool { return slices.Equal(as.Ready.Of(f), all) }
	if !slices.ContainsFunc(users, func(as lb.Assignment) bool { return !alike(as) }) {
		return all // the usual case: the same pods, or a policy for which ready nodes do not matter
	}
	nodes := map[string]bool{}
	for i := range users {
		for _, n := range users[i].Ready.Of(f) {
			nodes[n] = true
		}
	}
	return slices.Sorted(maps.Keys(nodes))
}

// able returns the interfaces on which the node can announce the address, or
// why it cannot.
func (s *Snapshot) able(node lb.Node, as lb.Assignment, addr netip.Addr, adverts []*lb.L2Advertisement, subnets []netip.Prefix) ([]string, lb.Reason) {
	sp, alive := s.Speakers[node.Name]
	if !alive {
		return nil, lb.ReasonNodeNotMember
	}
	if _, ready := slices.BinarySearch(as.Ready.Of(lb.FamilyOf(addr)), node.Name); as.Policy == lb.TrafficLocal && !ready {
		return nil, lb.ReasonNoReadyEndpoint
	}
	selected, fails, down := false, false, false
	var names []string
	for _, a := range adverts {
		if !a.SelectsNode(node.Labels) {
			continue
		}
		selected = true
		for _, i := range sp.Interfaces {
			switch {
			case !chosen(i, a, sp.Interfaces, addr, subnets):
			case !i.Up:
				down = true
			case slices.Contains(i.Fails, lb.FamilyOf(addr)):
				fails = true
			default:
				names = append(names, i.Name)
			}
		}
	}
	switch {
	case !selected:
		return nil, lb.ReasonNodeNotSelected
	case len(names) == 0 && fails:
		return nil, lb.ReasonInterfaceFails
	case len(names) == 0 && down:
		return nil, lb.ReasonInterfaceDown
	case len(names) == 0:
		return nil, lb.ReasonNoInterface
	}
	slices.Sort(names)
	return slices.Compact(names), 0
}

// avoid returns how strongly other nodes are preferred, and why: 0 not at all, 1 because of the
// Node's or the Speaker's state, 2 because the speaker is leaving, 3 because it has not joined.
func (s *Snapshot) avoid(node string) (int, lb.Reason) {
	switch sp := s.Speakers[node]; {
	case sp.Late:
		return 3, lb.ReasonNotJoined
	case sp.Leaving:
		return 2, lb.ReasonNodeLeaving
	case len(s.Nodes[node].Avoid) > 0:
		return 1, s.Nodes[node].Avoid[0]
	case len(sp.Avoid) > 0:
		return 1, sp.Avoid[0]
	default:
		return 0, 0
	}
}

// choose sets Good, Best, Avoided and Strained from Able. A node that has not joined would not
// act, so it is not elected.
func (s *Snapshot) choose(c *Candidates, adverts []*lb.L2Advertisement) {
	names := slices.Sorted(maps.Keys(c.Able))
	least := 4
	for _, name := range names {
		rank, _ := s.avoid(name)
		least = min(least, rank)
	}
	heaviest := -1
	for _, name := range names {
		rank, reason := s.avoid(name)
		if rank > least {
			c.Avoided = append(c.Avoided, Rejection{name, reason})
			continue
		}
		c.Good = append(c.Good, name)
		if rank > 0 {
			c.Strained = append(c.Strained, Rejection{name, reason})
		}
		if !s.Speakers[name].Joined {
			continue
		}
		switch w := weight(s.Nodes[name], adverts); cmp.Compare(w, heaviest) {
		case 1:
			heaviest, c.Best = w, []string{name}
		case 0:
			c.Best = append(c.Best, name)
		}
	}
}

// weight returns the sum of the preferences for the node.
func weight(n lb.Node, adverts []*lb.L2Advertisement) int {
	w := 0
	for _, a := range adverts {
		for _, p := range a.Preferred {
			if p.Selector.Matches(n.Labels) {
				w += p.Weight
			}
		}
	}
	return w
}
