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
	// Version is another one whenever Assignments, Advertisements, Nodes, Speakers
	// or what is about BGP are not what they were; 0 when nobody keeps account.
	Version uint64
	// Moved are, of the addresses whose claim was another one in the last snapshot, at
	// least all, where somebody keeps account.
	Moved          []netip.Addr
	Node           string          // this node
	Joined         bool            // this speaker has found the others, or that there are none
	Assignments    []lb.Assignment // sorted by Service
	Advertisements []lb.L2Advertisement
	Nodes          map[string]lb.Node // by name
	Speakers       map[string]Speaker // by node, those alive in the gossip
	Claims         map[netip.Addr]election.Claim
	Fresh          map[netip.Addr]bool     // addresses whose claim came so lately that its owner may be alive all the same
	Known          int                     // how many speakers there are, alive or not, as far as this one knows
	CutOff         bool                    // this speaker misses most of those it watches: it may be cut off itself
	Severed        bool                    // the interface by which it talks to the others is down: they are not dead, they are out of reach
	Announced      map[netip.Addr]bool     // what this node announces already
	AnnouncedOn    map[netip.Addr][]string // the interfaces on which it does
	Disputed       map[netip.Addr]bool     // what its owner has not announced, as a foreign host has it
	Take           netip.Addr              // to be taken over now by this node, as a user wants; or none

	BGPAdvertisements []lb.BGPAdvertisement // oldest first
	Peers             map[string][]string   // node -> the sorted names of the routers that it is to tell
}

// Speaker is what a live speaker told the others.
type Speaker struct {
	Interfaces []netif.Interface
	Joined     bool // it may own addresses
	Late       bool // it has not joined for so long that others take over what it owns
	Leaving    bool
	Avoid      []lb.Reason // why others are better, as it says itself
}

// Equal reports whether the speakers told the same.
func (s Speaker) Equal(o Speaker) bool {
	return s.Joined == o.Joined && s.Late == o.Late && s.Leaving == o.Leaving && slices.Equal(s.Avoid, o.Avoid) && slices.EqualFunc(s.Interfaces, o.Interfaces, netif.Interface.Equal)
}

// Plan is what this node is to do.
type Plan struct {
	Announcements []lb.L2Announcement            // sorted by address; nobody may write to it, or to Users
	Users         map[netip.Addr][]lb.ServiceKey // of the addresses in Announcements
	Standby       []string                       // interfaces on which this node could announce an IPv4 address, sorted
	Claims        map[netip.Addr]election.Claim  // to be made now, before announcing
	Outcomes      []Outcome                      // one per assigned address, in the order of the assignments; until the next plan

	// Routes are what this node announces by BGP, sorted by prefix. Those with
	// Drain are to go as soon as routers had time to prefer other nodes. They are
	// the same slice for as long as the snapshot's version is the same.
	Routes []lb.BGPRoute
}

// Outcome says what became of one assigned address. There may be ten thousand.
type Outcome struct {
	Addr    netip.Addr
	Reason  lb.Reason   // ReasonAnnounced when this node announces it
	Owner   string      // the node that announces it, "" when none can
	Avoided []Rejection // the nodes that can but are better left out, sorted by node
	Best    []string    // those to choose an owner from, sorted
}

// Rejection says why a node does not announce an address.
type Rejection struct {
	Node   string
	Reason lb.Reason
}

// LacksInterface reports whether the node has no interface to announce the address on.
func (r Rejection) LacksInterface() bool { return r.Reason == lb.ReasonNoInterface }

// Make decides what this node announces. An address is announced by the node
// whose claim on it is the highest, as long as that node can: an owner that is
// only better left out goes on until it hears its successor's claim.
func Make(s Snapshot) Plan { return new(Planner).Make(s) }

// load returns how many of the assigned addresses are enough for a node.
func (s *Snapshot) load(assigned int) election.Load {
	joined := 0
	for _, sp := range s.Speakers {
		if sp.Joined {
			joined++
		}
	}
	return election.NewLoad(assigned, joined)
}

// firstEpoch is that of the first owner of an address that was given out: nobody
// of the cluster has announced it before.
const firstEpoch = 1

// place decides for one address that is not settled, on which this is the claim, and
// adds what follows to the plan.
func (s *Snapshot) place(sp *spot, claim election.Claim, load election.Load, p *Plan) Outcome {
	if !s.Joined {
		return s.outcome(sp, claim, "", p)
	}
	elected := election.Owner(sp.Addr, sp.candidates.Good, sp.candidates.Best, claim, load)
	insists := s.insists(sp, claim)
	if insists {
		elected = s.Node
	}
	if elected != claim.Owner {
		load.Of[claim.Owner]--
		load.Of[elected]++ // each speaker counts what each is about to take
	}
	if elected == s.Node && claim.Owner != s.Node && (insists || !s.awaited(sp.Addr) && !s.apart()) {
		claim = claim.Next(s.Node, s.claimsMinor(claim))
		p.Claims[sp.Addr] = claim
		if s.Disputed[sp.Addr] {
			sp.debut = claim.Epoch
		}
	}
	return s.outcome(sp, claim, elected, p)
}

// outcome is what follows for one address from the claim and from who is elected to own
// it, and adds it to the plan if this node announces it.
func (s *Snapshot) outcome(sp *spot, claim election.Claim, elected string, p *Plan) Outcome {
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
		out.Owner = elected // its claim is on its way
	}
	if able && claim.Owner == s.Node {
		out.Reason = lb.ReasonAnnounced
		p.announce(sp, lb.L2Announcement{Addr: sp.Addr, Interfaces: s.onePerSubnet(names, c.Pinned, sp.Addr), Probe: claim.Epoch <= sp.debut})
	}
	return out
}

func (p *Plan) sort() {
	slices.SortFunc(p.Announcements, func(x, y lb.L2Announcement) int { return x.Addr.Compare(y.Addr) })
}

// add adds what another plan announces. Mostly, others claim what this node does not have.
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

func (p *Plan) announce(sp *spot, a lb.L2Announcement) {
	p.Announcements = append(p.Announcements, a)
	if p.Users == nil {
		p.Users = map[netip.Addr][]lb.ServiceKey{}
	}
	p.Users[sp.Addr] = append([]lb.ServiceKey{sp.first.Service}, sp.sharers...)
}

// minority reports whether this speaker sees less than half of those that there
// are: the network may be cut in two, with the larger part on the other side.
func (s *Snapshot) minority() bool { return 2*len(s.Speakers) < s.Known }

// claimsMinor reports whether a claim that this node makes in place of another is
// minor. One made against a minor claim is not, where this node sees enough to make
// it: or two would defend the address against each other for ever.
func (s *Snapshot) claimsMinor(replaced election.Claim) bool {
	return s.minority() || s.CutOff && !replaced.Minor
}

// insists reports whether this node is to claim the address whoever owns it:
// because a user wants it to, or because it announces the address and one claimed
// it who was cut off with a few, and thought that the others were dead. So an
// address stays where most of the cluster saw it.
func (s *Snapshot) insists(sp *spot, claim election.Claim) bool {
	wanted := s.Take == sp.Addr || claim.Minor && s.Announced[sp.Addr] && !s.minority()
	return wanted && claim.Owner != s.Node && slices.Contains(sp.candidates.Good, s.Node)
}

// apart reports whether there are others who have, or will take, what this speaker
// cannot hear about.
func (s *Snapshot) apart() bool { return s.Severed && s.Known > 1 }

// awaited reports whether the address's owner is not known to be alive, and its
// claim so fresh that this may be about to change: speakers that meet again hear
// of claims first.
func (s *Snapshot) awaited(a netip.Addr) bool {
	_, alive := s.Speakers[s.Claims[a].Owner]
	return s.Fresh[a] && !alive
}

// Candidates are the nodes that can announce an address.
type Candidates struct {
	Able     map[string][]string // node -> the interfaces to announce on, sorted
	Good     []string            // those of them that there is least reason to avoid, sorted; an owner among them stays
	Best     []string            // those of Good that the advertisements prefer, to choose from
	Rejected []Rejection         // the nodes that cannot, sorted
	Avoided  []Rejection         // able, but not good, sorted
	Strained []Rejection         // those of Good that are so only because no better node can announce, sorted
	Reason   lb.Reason           // why there is none at all, or 0

	Pinned map[string]bool // interfaces of this node that are all used, whatever their subnets
}

// Candidates finds who can announce the address for the Services that have it.
func (s *Snapshot) Candidates(users []lb.Assignment, g lb.Grant) Candidates {
	var adverts []*lb.L2Advertisement
	for i := range s.Advertisements {
		if a := &s.Advertisements[i]; selects(a, users, g) {
			adverts = append(adverts, a)
		}
	}
	return s.candidates(slices.Sorted(maps.Keys(s.Nodes)), together(users), g.Addr, adverts, s.subnetsWith(g.Addr))
}

// selects reports whether the advertisement is for one of the Services that have
// the address.
func selects(a *lb.L2Advertisement, users []lb.Assignment, g lb.Grant) bool {
	return slices.ContainsFunc(users, func(as lb.Assignment) bool { return a.Selects(g, as.Labels) })
}

// candidates finds among these nodes, which are sorted, who can announce the
// address, which is in these of the live nodes' subnets.
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
func together(users []lb.Assignment) lb.Assignment {
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
		return all // the rule: those that share have the same pods, or it does not matter which nodes are ready
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

// avoid returns how much there is reason to avoid a node, and the reason: not at
// all, because of what Kubernetes says of it, because it is about to go, or
// because it does not even announce what it owns.
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

// choose fills Good, Best, Avoided and Strained from the able nodes. One that has
// not joined would not act, so it is not chosen anew.
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

// weight adds up the preferences for the node.
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
