package speaker

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/dhcpwatch"
	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/layer2"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
	"github.com/fairlead-lb/fairlead/internal/notify"
	"github.com/fairlead-lb/fairlead/internal/routing"
)

// locked returns what f reads under the lock.
func locked[T any](mu *sync.Mutex, f func() T) T {
	mu.Lock()
	defer mu.Unlock()
	return f()
}

// fakeNetwork is the LAN of all nodes in memory: the gossip between them, and who answers for
// which address. Messages arrive at once; who is cut off from whom is alive to neither.
type fakeNetwork struct {
	mu      sync.Mutex
	members map[string]*fakeGossip
	cut     map[string]bool // nodes that reach no other
	answers map[netip.Addr]map[string]bool
	history map[netip.Addr][]answer
}

// answer is which nodes answer for an address from a moment on, sorted.
type answer struct {
	at    time.Time
	nodes []string
}

func newFakeNetwork() *fakeNetwork {
	return &fakeNetwork{
		members: map[string]*fakeGossip{}, cut: map[string]bool{},
		answers: map[netip.Addr]map[string]bool{}, history: map[netip.Addr][]answer{},
	}
}

// owners returns which nodes answer for the address now, sorted.
func (n *fakeNetwork) owners(a netip.Addr) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Sorted(maps.Keys(n.answers[a]))
}

// since returns who answered for the address from a moment on, beginning with who did then.
func (n *fakeNetwork) since(a netip.Addr, from time.Time) (out []answer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, x := range n.history[a] {
		if !x.at.After(from) {
			out = nil
		}
		out = append(out, x)
	}
	return out
}

// setCut separates a node from all others, or connects it again.
func (n *fakeNetwork) setCut(node string, cut bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.cut[node] = cut
	n.pokeAll()
}

// The lock is held in those below.

func (n *fakeNetwork) pokeAll() {
	for _, m := range n.members {
		m.changed.Poke()
	}
}

func (n *fakeNetwork) reaches(from, to *fakeGossip) bool {
	return from == to || !n.cut[from.node] && !n.cut[to.node] && from.running && to.running
}

// fakeGossip is one member. It knows what it was told, and what it read by Join.
type fakeGossip struct {
	net      *fakeNetwork
	node     string
	endpoint netip.AddrPort
	changed  notify.Signal
	lapsed   notify.Signal

	// The network's lock guards these.
	running   bool
	stalled   bool
	facts     map[string]members.Facts
	version   uint64
	claims    map[netip.Addr]election.Claim
	moved     []netip.Addr
	known     map[string]bool // members that it has joined
	keys      [][]byte
	rekeyed   int
	term      uint64
	revived   int
	unheard   []string
	duplicate netip.AddrPort // of the machine that was there first; none if this one was
}

func (n *fakeNetwork) gossip(node string, endpoint netip.AddrPort) *fakeGossip {
	n.mu.Lock()
	defer n.mu.Unlock()
	g := &fakeGossip{
		net: n, node: node, endpoint: endpoint, changed: notify.New(), lapsed: notify.New(),
		facts: map[string]members.Facts{}, claims: map[netip.Addr]election.Claim{}, known: map[string]bool{node: true},
	}
	n.members[node] = g
	return g
}

func (g *fakeGossip) Start() error {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.running = true
	return nil
}

func (g *fakeGossip) Stop(context.Context) error {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.running = false
	g.net.pokeAll()
	return nil
}

func (g *fakeGossip) SetKeys(keys [][]byte) error {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.keys = keys
	g.rekeyed++
	return nil
}

func (g *fakeGossip) SetTerm(term uint64) {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.term = term
}

func (g *fakeGossip) Drops() map[string]uint64 { return nil }

// Join exchanges everything with the members at these endpoints that can be reached.
func (g *fakeGossip) Join(_ context.Context, endpoints []netip.AddrPort) bool {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	found := false
	for _, o := range g.net.members {
		if o == g || !slices.Contains(endpoints, o.endpoint) || !g.net.reaches(g, o) || g.stalled || o.stalled {
			continue
		}
		found = true
		g.known[o.node], o.known[g.node] = true, true
		g.learn(o.facts, o.claims)
		o.learn(g.facts, g.claims)
	}
	return found
}

// learn takes over facts and claims that another one told.
func (g *fakeGossip) learn(facts map[string]members.Facts, claims map[netip.Addr]election.Claim) {
	for node, f := range facts {
		if node != g.node {
			g.facts[node] = f
		}
	}
	for a, c := range claims {
		if c.Compare(g.claims[a]) > 0 {
			g.claims[a] = c
			g.moved = append(g.moved, a)
		}
	}
	g.version++
	g.changed.Poke()
}

func (g *fakeGossip) Alive() []string {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	return g.alive()
}

func (g *fakeGossip) alive() (out []string) {
	for node := range g.known {
		if o := g.net.members[node]; g.net.reaches(g, o) && (o == g || !o.stalled) {
			out = append(out, node)
		}
	}
	slices.Sort(out)
	return out
}

func (g *fakeGossip) Revive(func(string) bool) {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.revived++
}

func (g *fakeGossip) Duplicate() (netip.AddrPort, bool) {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	return g.duplicate, g.duplicate.IsValid()
}

func (g *fakeGossip) LastSign(string) time.Time { return time.Time{} }

func (g *fakeGossip) View() members.View {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	moved := g.moved
	g.moved = nil
	return members.View{
		Alive: g.alive(), Facts: maps.Clone(g.facts), FactsVersion: g.version, Claims: maps.Clone(g.claims), Moved: moved,
		Unheard: g.unheard, Duplicate: g.duplicate.IsValid(),
	}
}

func (g *fakeGossip) SetFacts(f members.Facts) {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.facts[g.node] = f
	g.version++
	g.tell()
}

func (g *fakeGossip) Claim(claims map[netip.Addr]election.Claim) {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	for a, c := range claims {
		if c.Compare(g.claims[a]) > 0 { // a higher one may have arrived since the View
			g.claims[a] = c
			g.moved = append(g.moved, a)
		}
	}
	g.tell()
}

// tell tells all others what this one knows.
func (g *fakeGossip) tell() {
	for _, o := range g.net.members {
		if o != g && g.known[o.node] && g.net.reaches(g, o) && !o.stalled && !g.stalled {
			o.learn(map[string]members.Facts{g.node: g.facts[g.node]}, g.claims)
		}
	}
}

func (g *fakeGossip) Contested() []netip.Addr  { return nil }
func (g *fakeGossip) Changed() <-chan struct{} { return g.changed }
func (g *fakeGossip) Lapsed() <-chan struct{}  { return g.lapsed }

func (g *fakeGossip) Beating() bool {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	return !g.stalled
}

// stall has the process stand still, as far as the others and layer 2 can tell, until resume.
func (g *fakeGossip) stall() {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.stalled = true
	g.net.pokeAll()
}

func (g *fakeGossip) resume() {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.stalled = false
	g.lapsed.Poke()
	g.net.pokeAll()
}

func (g *fakeGossip) setDuplicate(first netip.AddrPort) {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	g.duplicate = first
	g.changed.Poke()
}

func (g *fakeGossip) usedKeys() [][]byte {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	return g.keys
}

// fakeLayer2 answers on the fake network.
type fakeLayer2 struct {
	net     *fakeNetwork
	gossip  *fakeGossip
	changed notify.Signal

	mu        sync.Mutex
	conflicts []layer2.Conflict
	claimed   []netip.Addr // by other nodes
	fails     map[string][]lb.Family
	macs      map[string]bool
	closed    bool
}

func (l *fakeLayer2) Apply(rows []lb.L2Announcement, _ []string, interfaces []netif.Interface) ([]lb.L2Announcement, error) {
	l.mu.Lock()
	fails := l.fails
	l.mu.Unlock()
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	var inForce []lb.L2Announcement
	now := map[netip.Addr]bool{}
	for _, r := range rows {
		up := slices.ContainsFunc(interfaces, func(i netif.Interface) bool {
			return i.Up && slices.Contains(r.Interfaces, i.Name) && fails[i.Name] == nil
		})
		if up && !l.gossip.stalled {
			now[r.Addr] = true
			inForce = append(inForce, r)
		}
	}
	l.set(now)
	return inForce, nil
}

// set makes these the addresses that the node answers for. The network's lock is held.
func (l *fakeLayer2) set(now map[netip.Addr]bool) {
	for a := range now {
		if l.net.answers[a] == nil {
			l.net.answers[a] = map[string]bool{}
		}
	}
	for a, nodes := range l.net.answers {
		if nodes[l.gossip.node] == now[a] {
			continue
		}
		if nodes[l.gossip.node] = true; !now[a] {
			delete(nodes, l.gossip.node)
		}
		l.net.history[a] = append(l.net.history[a], answer{time.Now(), slices.Sorted(maps.Keys(nodes))})
	}
}

func (l *fakeLayer2) Close() {
	l.mu.Lock()
	l.closed = true
	l.mu.Unlock()
	l.net.mu.Lock()
	defer l.net.mu.Unlock()
	l.set(nil)
}

func (l *fakeLayer2) Reannounce([]netip.Addr) {}
func (l *fakeLayer2) RetryInterfaces()        {}

func (l *fakeLayer2) SetClusterMACs(macs map[string]bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.macs = macs
}

func (l *fakeLayer2) Changed() <-chan struct{} { return l.changed }

func (l *fakeLayer2) Conflicts() []layer2.Conflict {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.conflicts
}

func (l *fakeLayer2) ClaimedByNodes() []netip.Addr {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.claimed
}

func (l *fakeLayer2) FailedInterfaces() (map[string][]lb.Family, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.fails) > 0 {
		return l.fails, errors.New("open eth0: no permission")
	}
	return nil, nil
}

func (l *fakeLayer2) Counts() map[lb.Family]layer2.Counts {
	return map[lb.Family]layer2.Counts{lb.IPv4: {Answered: 1}, lb.IPv6: {Answered: 2}}
}

// change changes what the network shows this node.
func (l *fakeLayer2) change(f func(*fakeLayer2)) {
	l.mu.Lock()
	f(l)
	l.mu.Unlock()
	l.changed.Poke()
}

// fakeHost is a node's interfaces, kernel and kube-proxy, and its DHCP and BGP.
type fakeHost struct {
	links, paths, dhcp, sessions, proxy notify.Signal

	mu          sync.Mutex
	list        []netif.Interface
	has         map[netip.Addr]bool // further addresses
	err         error               // of reading anything
	reads       int                 // full checks of the kernel
	health      string
	leases      []lb.Lease
	routes      []lb.BGPRoute
	only        bool
	left        string        // how routes were left at the end
	retry       time.Duration // until routes are to be applied again
	applied     int
	readdressed int
	changed     func()
}

func newFakeHost(own netip.Addr) *fakeHost {
	return &fakeHost{
		links: notify.New(), paths: notify.New(), dhcp: notify.New(), sessions: notify.New(), proxy: notify.New(), has: map[netip.Addr]bool{},
		list: []netif.Interface{{Name: "eth0", Index: 2, MAC: "02:00:00:00:00:01", Up: true, Prefixes: []netip.Prefix{netip.PrefixFrom(own, 24)}}},
	}
}

// change changes the node, and has its kernel say so.
func (h *fakeHost) change(f func(*fakeHost)) {
	h.mu.Lock()
	f(h)
	changed := h.changed
	h.mu.Unlock()
	if changed != nil {
		changed()
	}
	h.proxy.Poke()
}

type fakeInterfaces struct{ *fakeHost }

func (h fakeInterfaces) List() ([]netif.Interface, []netif.Address, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.list), nil, h.err
}

func (h fakeInterfaces) Routes() (netif.Routes, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return netif.Routes{}, h.err
}

func (h fakeInterfaces) Watch(ctx context.Context, changed func()) error {
	h.mu.Lock()
	h.changed = changed
	h.mu.Unlock()
	<-ctx.Done()
	return nil
}

func (h fakeInterfaces) Has(a netip.Addr) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.has[a] || slices.ContainsFunc(h.list, func(i netif.Interface) bool { return i.Holds(a) })
}

type fakeKernel struct{ *fakeHost }

func (h fakeKernel) Read([]string) (nodecheck.Facts, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.reads++
	return nodecheck.Facts{Forwarding: map[lb.Family]bool{lb.IPv4: true, lb.IPv6: true}}, h.err
}

func (fakeKernel) ReadSettings(*nodecheck.Facts, []string) {}

type fakeProxy struct{ *fakeHost }

func (fakeProxy) Run(ctx context.Context)    { <-ctx.Done() }
func (h fakeProxy) Changed() <-chan struct{} { return h.proxy }

func (h fakeProxy) Health() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.health
}

func (h fakeProxy) Failing() bool { return h.Health() == v1alpha1.ReasonUnhealthy }

type fakeDHCP struct{ *fakeHost }

func (h fakeDHCP) Changed() <-chan struct{} { return h.dhcp }
func (fakeDHCP) Close()                     {}

func (h fakeDHCP) Follow([]netif.Interface, dhcpwatch.Pools) ([]lb.Lease, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.leases, nil
}

type fakeRoutes struct{ *fakeHost }

func (fakeRoutes) Run(ctx context.Context)                { <-ctx.Done() }
func (h fakeRoutes) Changed() <-chan struct{}             { return h.sessions }
func (h fakeRoutes) PathsChanged() <-chan struct{}        { return h.paths }
func (fakeRoutes) Sessions() []v1alpha1.SpeakerBGPSession { return nil }
func (fakeRoutes) Measure() []metrics.Session             { return nil }

func (h fakeRoutes) Apply(_ routing.Wanted, routes []lb.BGPRoute, _ uint64, _ []netif.Interface) time.Duration {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.routes = routes
	h.applied++
	return h.retry
}

func (h fakeRoutes) Readdress() {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.readdressed++
}

func (h fakeRoutes) OnlyAdvertiser() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.only
}

func (h fakeRoutes) Leave(_ context.Context, forGood bool, why string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.left = "for a moment"
	if forGood {
		h.left = "for good: " + why
	}
}

// forget has the member forget those that it cannot reach, as it does some time after they died.
func (g *fakeGossip) forget() {
	g.net.mu.Lock()
	defer g.net.mu.Unlock()
	for node := range g.known {
		if !g.net.reaches(g, g.net.members[node]) {
			delete(g.known, node)
		}
	}
}
