package plan

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Announcers are the nodes that announce an address by BGP, and why others do not.
type Announcers struct {
	Nodes    []string            // that announce it, sorted
	Peers    map[string][]string // node -> whom it tells, sorted; also of those that are avoided
	Avoided  []Rejection         // able, but better left out, sorted by node
	Strained []Rejection         // those of Nodes that announce only because no better node can, sorted
	Rejected []Rejection         // the nodes that cannot, sorted
	Reason   lb.Reason           // why there is none at all, or 0

	Contradictions []lb.Contradiction // between the advertisements of one node for one peer
}

// Announcers finds who announces the address by BGP for the Services that have it.
func (s *Snapshot) Announcers(users []lb.Assignment, g lb.Grant) Announcers {
	adverts := s.bgpAdverts(users, g)
	a := s.announcers(slices.Sorted(maps.Keys(s.Nodes)), union(users), lb.FamilyOf(g.Addr), adverts)
	for _, node := range slices.Sorted(maps.Keys(a.Peers)) {
		mine := s.onNode(adverts, node)
		for _, peer := range a.Peers[node] {
			for _, c := range contradictions(mine, peer, lb.FamilyOf(g.Addr)) {
				if !slices.Contains(a.Contradictions, c) {
					a.Contradictions = append(a.Contradictions, c)
				}
			}
		}
	}
	return a
}

// contradictions are those of advertisements that are for one prefix and peer.
func contradictions(adverts []*lb.BGPAdvertisement, peer string, f lb.Family) (out []lb.Contradiction) {
	lengths := byLength(adverts, f)
	for _, bits := range slices.Sorted(maps.Keys(lengths)) {
		_, wrong := lb.Merge(forPeer(lengths[bits], peer))
		out = append(out, wrong...)
	}
	return out
}

// bgpAdverts returns the advertisements that are for one of the Services, oldest
// first.
func (s *Snapshot) bgpAdverts(users []lb.Assignment, g lb.Grant) (out []*lb.BGPAdvertisement) {
	for i := range s.BGPAdvertisements {
		a := &s.BGPAdvertisements[i]
		if slices.ContainsFunc(users, func(as lb.Assignment) bool { return a.Selects(g, as.Labels) }) {
			out = append(out, a)
		}
	}
	return out
}

// announcers finds among these nodes, which are sorted, who announces the address:
// all that can, but those that others are better than.
func (s *Snapshot) announcers(among []string, as lb.Assignment, f lb.Family, adverts []*lb.BGPAdvertisement) Announcers {
	switch {
	case len(adverts) == 0:
		return Announcers{Reason: lb.ReasonNoAdvertisement}
	case len(as.Ready.Of(f)) == 0:
		return Announcers{Reason: lb.ReasonNoEndpoints}
	}
	a := Announcers{Peers: map[string][]string{}}
	var able []string
	least := farOff
	for _, name := range among {
		if _, known := s.Nodes[name]; !known {
			continue // an endpoint outside of the cluster
		}
		peers, reason := s.tells(name, as, f, adverts)
		if reason != 0 {
			a.Rejected = append(a.Rejected, Rejection{name, reason})
			continue
		}
		able = append(able, name)
		a.Peers[name] = peers
		rank, _ := s.distance(name)
		least = min(least, rank)
	}
	for _, name := range able {
		rank, reason := s.distance(name)
		switch {
		case rank > least:
			a.Avoided = append(a.Avoided, Rejection{name, reason})
			continue
		case rank > 0:
			a.Strained = append(a.Strained, Rejection{name, reason})
		}
		a.Nodes = append(a.Nodes, name)
	}
	if len(able) == 0 {
		a.Reason = lb.ReasonNoCandidate
	}
	return a
}

// farOff is more than any distance.
const farOff = 9

// distance is how much there is reason to avoid a node, as avoid says. One that
// has not joined does not announce yet: others must not withdraw in its favour.
func (s *Snapshot) distance(node string) (int, lb.Reason) {
	if !s.Speakers[node].Joined {
		return 3, lb.ReasonNotJoined
	}
	return s.avoid(node)
}

// tells returns the peers that the node can tell of the address, or why none.
func (s *Snapshot) tells(node string, as lb.Assignment, f lb.Family, adverts []*lb.BGPAdvertisement) ([]string, lb.Reason) {
	if _, alive := s.Speakers[node]; !alive {
		return nil, lb.ReasonNodeNotMember
	}
	if _, ready := slices.BinarySearch(as.Ready.Of(f), node); as.Policy == lb.TrafficLocal && !ready {
		return nil, lb.ReasonNoReadyEndpoint
	}
	mine := s.onNode(adverts, node)
	if len(mine) == 0 {
		return nil, lb.ReasonNodeNotSelected
	}
	var peers []string
	for _, p := range s.Peers[node] {
		if slices.ContainsFunc(mine, func(a *lb.BGPAdvertisement) bool { return a.SelectsPeer(p) }) {
			peers = append(peers, p)
		}
	}
	if len(peers) == 0 {
		return nil, lb.ReasonNoPeer
	}
	return peers, 0
}

// onNode returns the advertisements that the node is to announce by.
func (s *Snapshot) onNode(adverts []*lb.BGPAdvertisement, node string) (out []*lb.BGPAdvertisement) {
	labels := s.Nodes[node].Labels
	for _, a := range adverts {
		if a.SelectsNode(labels) {
			out = append(out, a)
		}
	}
	return out
}

func forPeer(adverts []*lb.BGPAdvertisement, peer string) (out []*lb.BGPAdvertisement) {
	for _, a := range adverts {
		if a.SelectsPeer(peer) {
			out = append(out, a)
		}
	}
	return out
}

// byLength sorts advertisements by the length of their prefixes.
func byLength(adverts []*lb.BGPAdvertisement, f lb.Family) map[int][]*lb.BGPAdvertisement {
	out := map[int][]*lb.BGPAdvertisement{}
	for _, a := range adverts {
		out[a.Length(f)] = append(out[a.Length(f)], a)
	}
	return out
}

// portion is what this node announces of an address.
type portion struct {
	drain bool // others do, and this node is better left out
	parts [2][]part
}

// part is the advertisements with prefixes of one length.
type part struct {
	bits    int
	adverts *bgpSet
}

// bgpSet is a set of advertisements and the rows that come of them for one
// prefix. There is one of each, so that pointers can be compared.
type bgpSet struct {
	list []*lb.BGPAdvertisement // oldest first
	rows []lb.BGPRoute          // without prefix
}

// bgpKind is all that the share of an address depends on, within one snapshot.
type bgpKind struct {
	adverts *bgpSet
	policy  lb.TrafficPolicy
	served  bool   // there are nodes with a ready endpoint of the address's family
	ready   string // with policy Local, which
}

// bgpKinds finds the shares of addresses, once for each kind.
type bgpKinds struct {
	s       *Snapshot
	nodes   []string // sorted
	known   map[bgpKind]*portion
	last    bgpKind // most addresses are of the same kind as the one before
	lastFor *portion
	begun   bool

	sets  bgpSets
	pools map[string]*bgpSet // of pools none of whose advertisements chooses among Services; nil: some does
}

// newBGPKinds returns nil when there is nobody to tell.
func newBGPKinds(s *Snapshot) *bgpKinds {
	if len(s.BGPAdvertisements) == 0 || len(s.Peers[s.Node]) == 0 {
		return nil
	}
	return &bgpKinds{
		s: s, nodes: slices.Sorted(maps.Keys(s.Nodes)), known: map[bgpKind]*portion{},
		sets: bgpSets{peers: s.Peers[s.Node], known: map[string]*bgpSet{}}, pools: map[string]*bgpSet{},
	}
}

// portion returns what this node announces of the address for the Services that have
// it; nil when that is nothing.
func (k *bgpKinds) portion(users []lb.Assignment, g lb.Grant) *portion {
	if k == nil {
		return nil
	}
	as, f := union(users), lb.FamilyOf(g.Addr)
	ready := as.Ready.Of(f)
	of := bgpKind{adverts: k.adverts(users, g), policy: as.Policy, served: len(ready) > 0}
	among := k.nodes
	if as.Policy == lb.TrafficLocal {
		if _, here := slices.BinarySearch(ready, k.s.Node); !here {
			return nil
		}
		of.ready = strings.Join(ready, "\x00")
		among = ready
	}
	if k.begun && of == k.last {
		return k.lastFor
	}
	found, known := k.known[of]
	if !known {
		found = k.find(among, as, f, of.adverts.list)
		k.known[of] = found
	}
	k.last, k.lastFor, k.begun = of, found, true
	return found
}

func (k *bgpKinds) find(among []string, as lb.Assignment, f lb.Family, adverts []*lb.BGPAdvertisement) *portion {
	a := k.s.announcers(among, as, f, adverts)
	if a.Peers[k.s.Node] == nil {
		return nil
	}
	out := &portion{drain: !slices.Contains(a.Nodes, k.s.Node)}
	mine := k.s.onNode(adverts, k.s.Node)
	for i, f := range []lb.Family{lb.IPv4, lb.IPv6} {
		lengths := byLength(mine, f)
		for _, bits := range slices.Sorted(maps.Keys(lengths)) {
			out.parts[i] = append(out.parts[i], part{bits, k.sets.of(lengths[bits])})
		}
	}
	return out
}

// adverts returns the advertisements that are for one of the Services.
func (k *bgpKinds) adverts(users []lb.Assignment, g lb.Grant) *bgpSet {
	all, known := k.pools[g.Pool]
	if !known {
		var list []*lb.BGPAdvertisement
		selective := false
		for i := range k.s.BGPAdvertisements {
			if a := &k.s.BGPAdvertisements[i]; a.SelectsPool(g.Pool) {
				list, selective = append(list, a), selective || len(a.ServiceSelectors) > 0
			}
		}
		if !selective {
			all = k.sets.of(list)
		}
		k.pools[g.Pool] = all
	}
	if all != nil {
		return all
	}
	return k.sets.of(k.s.bgpAdverts(users, g))
}

// bgpSets has one of each set.
type bgpSets struct {
	peers []string // of this node
	known map[string]*bgpSet
}

// of returns the one set of these advertisements, which are there oldest first.
func (b *bgpSets) of(list []*lb.BGPAdvertisement) *bgpSet {
	var name strings.Builder
	for _, a := range list {
		name.WriteString(a.Name)
		name.WriteByte(0)
	}
	set := b.known[name.String()]
	if set == nil {
		set = &bgpSet{list: list, rows: rowsOf(list, b.peers)}
		b.known[name.String()] = set
	}
	return set
}

// rowsOf returns what each of the peers is told of a prefix that the advertisements
// are for; those that are told the same are in one row.
func rowsOf(adverts []*lb.BGPAdvertisement, peers []string) (rows []lb.BGPRoute) {
	for _, p := range peers {
		mine := forPeer(adverts, p)
		if len(mine) == 0 {
			continue
		}
		attributes, _ := lb.Merge(mine)
		if i := slices.IndexFunc(rows, func(r lb.BGPRoute) bool { return r.Equal(attributes) }); i >= 0 {
			rows[i].Peers = append(rows[i].Peers, p)
			continue
		}
		rows = append(rows, lb.BGPRoute{Peers: []string{p}, BGPAttributes: attributes})
	}
	return rows
}

// claimOn is what announces one prefix.
type claimOn struct {
	adverts *bgpSet
	drain   bool // no address of it needs this node
}

// routes returns what this node announces by BGP, sorted. A prefix of several
// addresses is announced as long as one of them is.
func (s *Snapshot) routes(targets []target) []lb.BGPRoute {
	if len(s.BGPAdvertisements) == 0 || len(s.Peers[s.Node]) == 0 {
		return nil
	}
	sets := bgpSets{peers: s.Peers[s.Node], known: map[string]*bgpSet{}}
	found := make(map[netip.Prefix]claimOn, len(targets))
	prefixes := make([]netip.Prefix, 0, len(targets))
	for i := range targets {
		sh := targets[i].portion
		if sh == nil {
			continue
		}
		for _, p := range sh.parts[lb.FamilyOf(targets[i].Addr)-lb.IPv4] {
			prefix := lb.PrefixOf(targets[i].Addr, p.bits)
			c, there := found[prefix]
			switch {
			case !there:
				prefixes = append(prefixes, prefix)
				c = claimOn{p.adverts, sh.drain}
			case c.drain && !sh.drain:
				c = claimOn{p.adverts, false}
			case c.drain == sh.drain && c.adverts != p.adverts:
				c.adverts = sets.of(s.union(c.adverts.list, p.adverts.list))
			}
			found[prefix] = c
		}
	}
	slices.SortFunc(prefixes, netip.Prefix.Compare)
	rows := make([]lb.BGPRoute, 0, len(prefixes))
	for _, prefix := range prefixes {
		c := found[prefix]
		for _, r := range c.adverts.rows {
			r.Prefix, r.Drain = prefix, c.drain
			rows = append(rows, r)
		}
	}
	return rows
}

// union returns the advertisements that are in one of the lists, oldest first.
func (s *Snapshot) union(x, y []*lb.BGPAdvertisement) (out []*lb.BGPAdvertisement) {
	for i := range s.BGPAdvertisements {
		if a := &s.BGPAdvertisements[i]; slices.Contains(x, a) || slices.Contains(y, a) {
			out = append(out, a)
		}
	}
	return out
}
