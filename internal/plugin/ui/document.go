package ui

import (
	"net/netip"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/addresses"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/doctor"
	"github.com/fairlead-lb/fairlead/internal/plugin/status"
)

// Document is all that the page shows. It knows times and no ages, so that it
// changes only when the cluster does.
type Document struct {
	Cluster   string           `json:"cluster"` // the kubeconfig's name for it
	Class     string           `json:"class"`   // which Services are Fairlead's
	Leader    string           `json:"leader,omitempty"`
	Services  int              `json:"services"`
	Addresses int              `json:"addresses"`
	Problems  []doctor.Finding `json:"problems"` // the gravest first, without evidence
	Pools     []Pool           `json:"pools"`
	Tellers   [][]string       `json:"tellers"` // sets of nodes that tell routers of an address; the first is of none
	Nodes     []status.Speaker `json:"nodes"`
	Peers     []Peer           `json:"peers"`
	Moves     []Move           `json:"moves"`
	Unread    []string         `json:"unread,omitempty"` // what could not be read, and why
}

// Pool is a pool's addresses of one family, as a map of cells, or as runs where
// there are too many for that.
type Pool struct {
	status.Pool
	Columns   int       `json:"columns,omitempty"` // of the map
	Rows      []Row     `json:"rows,omitempty"`
	Avoided   []int     `json:"avoided,omitempty"` // cells that spec.avoidBuggyIPs keeps from being given
	Runs      []Run     `json:"runs,omitempty"`
	Addresses []Address `json:"held,omitempty"` // those that are not just free, sorted
}

// Address is an address that somebody has. There are thousands: so names are short.
type Address struct {
	Cell     int        `json:"i"` // in the map
	Address  netip.Addr `json:"a"`
	State    State      `json:"st"`
	Services []string   `json:"s,omitempty"` // as namespace/name
	Claim    string     `json:"k,omitempty"` // the IPAddressClaim that keeps it
	Since    int64      `json:"t,omitempty"` // when it was given, in Unix time
	Node     string     `json:"n,omitempty"` // that announces it by layer 2
	Owned    int64      `json:"o,omitempty"` // since when, in Unix time
	Tellers  int        `json:"b,omitempty"` // the nodes that tell routers: their place in Document.Tellers
	Why      string     `json:"w,omitempty"` // why nobody announces it, or what else is the matter
}

// State is what has become of an address. The zero State is none; of two, the higher
// is the one to look at first.
type State uint8

// The states of an address that is not free.
const (
	Used     State = iota + 1 // a Service has it, and it is announced
	Claimed                   // a claim keeps it, and no Service uses it
	Withheld                  // a pool has it and gives it to nobody, or it is another's
	Retiring                  // a Service has it, and no pool any more
	Silent                    // a Service has it, and nobody announces it
	Conflict                  // a host outside of the cluster has it
)

// String returns the state's name, which is its class in the style sheet too.
func (s State) String() string {
	return [...]string{"", "used", "claimed", "withheld", "retiring", "silent", "conflict"}[s]
}

// MarshalText writes the state's name.
func (s State) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Peer is a router, with what each node has to do with it.
type Peer struct {
	status.Peer
	Sessions []Session `json:"sessions"`
}

// Session is a node's session with a router.
type Session struct {
	Node   string `json:"node"`
	Wanted bool   `json:"wanted"`
	State  string `json:"state,omitempty"`
	Since  int64  `json:"since,omitempty"` // in Unix time
	Routes int32  `json:"routes"`
	BFD    string `json:"bfd,omitempty"`
	Says   string `json:"says,omitempty"` // why it is not up, or what it lacks
}

// New makes the document of a cluster. events are those about Services.
func New(c *cluster.Cluster, name string, events []corev1.Event) *Document {
	r := status.New(c)
	d := &Document{
		Cluster: name, Class: c.Class.Name, Leader: r.Controller, Services: r.Services, Addresses: r.Addresses,
		Problems: append([]doctor.Finding{}, r.Findings...), Nodes: append([]status.Speaker{}, r.Speakers...), Peers: []Peer{}, Pools: []Pool{}, Tellers: [][]string{{}}, Unread: r.Unread,
	}
	if c.Class.Classless {
		d.Class += " and none"
	}
	for i := range d.Problems {
		d.Problems[i].Evidence = nil // it tells ages, and the doctor has it
		d.Problems[i].About = append([]string{}, d.Problems[i].About...)
	}
	list := addresses.New(c, "")
	held := d.held(c, list.Addresses)
	for _, row := range r.Pools {
		d.Pools = append(d.Pools, newPool(c, row, held[poolKey{row.Name, row.Family}]))
	}
	for _, p := range r.Peers {
		d.Peers = append(d.Peers, Peer{p, sessions(c, p.Name)})
	}
	d.Moves = moves(c, d.Peers, list, events)
	return d
}

// poolKey names a row of pools.
type poolKey struct{ pool, family string }

func keyOf(pool string, a netip.Addr) poolKey {
	if a.Is4() {
		return poolKey{pool, string(corev1.IPv4Protocol)}
	}
	return poolKey{pool, string(corev1.IPv6Protocol)}
}

// held sorts into pools what is not free.
func (d *Document) held(c *cluster.Cluster, rows []addresses.Row) map[poolKey][]Address {
	out := map[poolKey][]Address{}
	known := map[netip.Addr]bool{}
	tellers := map[string]int{"": 0}
	for i := range rows {
		r := &rows[i]
		a := Address{
			Address: r.Address, State: stateOf(c, r), Services: r.Services, Claim: r.Claim, Node: r.Layer2, Why: why(c, r),
			Tellers: d.tellers(tellers, r.BGP),
		}
		if !r.Since.IsZero() {
			a.Since = r.Since.Unix()
		}
		if !r.Owned.IsZero() {
			a.Owned = r.Owned.Unix()
		}
		key := keyOf(r.Pool, r.Address)
		out[key], known[r.Address] = append(out[key], a), true
	}
	for _, a := range strange(c) {
		if pool, ok := c.PoolSet.Of(a.Address); ok && !known[a.Address] {
			key := keyOf(pool, a.Address)
			out[key], known[a.Address] = append(out[key], a), true
		}
	}
	for _, list := range out {
		slices.SortFunc(list, func(x, y Address) int { return x.Address.Compare(y.Address) })
	}
	return out
}

// tellers returns the place of a set of nodes, which thousands of addresses share.
func (d *Document) tellers(known map[string]int, nodes []string) int {
	key := strings.Join(nodes, ",")
	i, ok := known[key]
	if !ok {
		i = len(d.Tellers)
		known[key], d.Tellers = i, append(d.Tellers, nodes)
	}
	return i
}

func stateOf(c *cluster.Cluster, r *addresses.Row) State {
	switch {
	case len(c.View.Conflicts[r.Address.String()]) > 0:
		return Conflict
	case r.Why != "":
		return Silent
	case r.Retiring:
		return Retiring
	case len(r.Services) == 0:
		return Claimed
	default:
		return Used
	}
}

// why says what is the matter with an address, if something is.
func why(c *cluster.Cluster, r *addresses.Row) string {
	if f := c.View.Conflicts[r.Address.String()]; len(f) > 0 {
		return foreign(f[0].MAC, f[0].Node)
	}
	return r.Why
}

func foreign(mac, node string) string {
	return "a host outside of the cluster has it: " + mac + ", heard by " + node
}

// sessions returns what each node has to do with a router.
func sessions(c *cluster.Cluster, peer string) []Session {
	out := []Session{}
	for _, s := range c.Sessions(peer) {
		row := Session{Node: s.Node, Wanted: s.Wanted, State: string(s.State), Routes: s.Prefixes, BFD: string(s.BFD), Says: s.Words}
		if !s.Since.IsZero() {
			row.Since = s.Since.Unix()
		}
		out = append(out, row)
	}
	return out
}

// up reports whether the session is established.
func (s *Session) up() bool { return s.State == string(v1alpha1.BGPSessionEstablished) }
