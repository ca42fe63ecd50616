package bgp

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"
	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

// Config configures an Engine.
type Config struct {
	Log logr.Logger
	// ListenPort is the port to which the routers of passive peers connect; 0 is 179.
	ListenPort uint16
}

// Engine maintains the sessions, and advertises the routes, of the last Apply.
type Engine struct {
	log       logr.Logger
	listeners listeners
	changed   notify.Signal
	ctx       context.Context
	stop      context.CancelFunc
	wg        sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	sessions map[string]*session
	lost     map[string]string // peer -> why its session is kept down
	draining bool
	closed   bool
}

// New returns an Engine without sessions.
func New(c Config) *Engine {
	e := &Engine{
		log: c.Log, changed: notify.New(), sessions: map[string]*session{}, lost: map[string]string{},
		listeners: listeners{port: cmp.Or(c.ListenPort, bgpPort), open: map[listenKey]*listener{}},
	}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

// Changed receives when a field in Sessions other than a counter has changed. Its capacity is
// one.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

// A Refusal is a peer or a route that Apply refused.
type Refusal struct {
	Peer   string
	Prefix netip.Prefix // of the route; not valid if the peer was refused
	Err    error
}

func (r Refusal) Error() string {
	if r.Prefix.IsValid() {
		return fmt.Sprintf("route %s to peer %q: %v", r.Prefix, r.Peer, r.Err)
	}
	return fmt.Sprintf("peer %q: %v", r.Peer, r.Err)
}

// Apply sets the peers and routes. It does not wait: it connects to new peers immediately, and
// sends one UPDATE with the changes immediately. Peers and routes that are equal to those of
// the last call are not touched.
//
// The routes must be complete from the first call on: a router with graceful restart removes
// the routes of the former process that are not among them.
//
// Apply returns the peers and routes that it refused, sorted; all others are in effect.
func (e *Engine) Apply(peers []lb.BGPPeer, routes []lb.BGPRoute) []Refusal {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	wanted, refusals := e.acceptPeers(peers)
	for name, s := range e.sessions {
		if _, ok := wanted[name]; !ok {
			s.end(cease(gobgp.BGP_ERROR_SUB_PEER_DECONFIGURED), losesRoutes)
			delete(e.sessions, name)
		}
	}
	rows, refused := byPeer(routes, wanted)
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		s := e.sessions[name]
		if s == nil {
			s = newSession(wanted[name], e.lost[name], &e.listeners, e.changed.Poke, e.log)
			s.table.setRows(rows[name], e.draining)
			e.start(name, s)
			continue
		}
		if s.table.setRows(rows[name], e.draining) {
			s.routesChanged.Poke()
		}
		s.change(wanted[name])
	}
	return append(refusals, refused...)
}

// Readdress must be called when the node's addresses have changed, as they may be next hops.
func (e *Engine) Readdress() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sessions {
		s.addressesChanged.Poke()
	}
}

func (e *Engine) start(name string, s *session) {
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(e.ctx)
	e.sessions[name] = s
	e.wg.Go(func() { s.run(ctx) })
	e.changed.Poke()
}

// acceptPeers returns the valid peers, at most one for each router, and the refusals. Of two
// peers for the same router, the one with a session keeps it.
func (e *Engine) acceptPeers(peers []lb.BGPPeer) (map[string]lb.BGPPeer, []Refusal) {
	isNew := func(p lb.BGPPeer) int {
		if e.sessions[p.Name] != nil {
			return 0
		}
		return 1
	}
	peers = slices.SortedFunc(slices.Values(peers), func(a, b lb.BGPPeer) int {
		return cmp.Or(cmp.Compare(isNew(a), isNew(b)), cmp.Compare(a.Name, b.Name))
	})
	wanted, routers := map[string]lb.BGPPeer{}, lb.BGPRouters{}
	var refusals []Refusal
	for _, p := range peers {
		err := validate(&p)
		if err == nil {
			if other, taken := routers.Take(&p); taken {
				err = fmt.Errorf("peer %q is the same router, %s; delete one of them, or select different nodes with nodeSelectors", other, routerName(&p))
			}
		}
		if err != nil {
			refusals = append(refusals, Refusal{Peer: p.Name, Err: err})
			continue
		}
		wanted[p.Name] = p
	}
	slices.SortFunc(refusals, func(a, b Refusal) int { return cmp.Compare(a.Peer, b.Peer) })
	return wanted, refusals
}

// validate checks what the API's validation rules cannot, as it is not in the BGPPeer.
func validate(p *lb.BGPPeer) error {
	switch {
	case !p.Address.IsValid() && p.Interface == "":
		return fmt.Errorf("set peerAddress or interface")
	case !p.RouterID.Is4() || p.RouterID.IsUnspecified():
		return fmt.Errorf("this node has no router ID; write routerID, such as \"192.0.2.11\"")
	case len(p.Password) > maxPassword:
		return fmt.Errorf("the password has %d characters, and TCP MD5 allows %d; choose a shorter one", len(p.Password), maxPassword)
	case p.ConnectTime < time.Second:
		return fmt.Errorf("connectTime is %v; write at least 1s", p.ConnectTime)
	}
	return nil
}

// byPeer groups routes by peer.
func byPeer(routes []lb.BGPRoute, peers map[string]lb.BGPPeer) (map[string]map[netip.Prefix]lb.BGPAttributes, []Refusal) {
	rows := make(map[string]map[netip.Prefix]lb.BGPAttributes, len(peers))
	for name := range peers {
		rows[name] = map[netip.Prefix]lb.BGPAttributes{}
	}
	var refusals []Refusal
	for _, r := range routes {
		for _, name := range r.Peers {
			mine, ok := rows[name]
			switch old, twice := mine[r.Prefix]; {
			case !ok: // the peer was refused, or is not configured on this node
			case r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6():
				refusals = append(refusals, Refusal{name, r.Prefix, fmt.Errorf("host bits are set; the prefix is %s", r.Prefix.Masked())})
			case twice && !old.Equal(r.BGPAttributes):
				refusals = append(refusals, Refusal{name, r.Prefix, fmt.Errorf("two rows for it have different attributes")})
			default:
				mine[r.Prefix] = r.BGPAttributes
			}
		}
	}
	return rows, refusals
}

// Sessions returns the state of the sessions, sorted by peer.
func (e *Engine) Sessions() []Session {
	e.mu.Lock()
	sessions := slices.Collect(maps.Values(e.sessions))
	e.mu.Unlock()
	out := make([]Session, len(sessions))
	for i, s := range sessions {
		out[i] = s.status.get(&s.counters)
	}
	slices.SortFunc(out, func(a, b Session) int { return cmp.Compare(a.Peer, b.Peer) })
	return out
}

// Lost takes the session with a peer down immediately, and keeps it down until Restored. It is
// called when the router is unreachable according to BFD (RFC 5882). reason becomes the
// session's LastError. The peer need not exist yet.
func (e *Engine) Lost(peer, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost[peer] = reason
	if s := e.sessions[peer]; s != nil {
		s.setDown(reason)
	}
}

// Restored allows the session with a peer to come up again, immediately. It must also be
// called for a lost peer that BFD no longer monitors.
func (e *Engine) Restored(peer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.lost, peer)
	if s := e.sessions[peer]; s != nil {
		s.setDown("")
	}
}

// Drain shuts down gracefully (RFC 8326): it advertises all routes with GRACEFUL_SHUTDOWN,
// waits, withdraws them, and shuts the sessions down with a message for the routers' logs (RFC
// 9003). When ctx ends it stops waiting. The Engine is closed afterwards.
func (e *Engine) Drain(ctx context.Context, wait time.Duration, message string) {
	e.mu.Lock()
	e.draining = true
	sessions := slices.Collect(maps.Values(e.sessions))
	for _, s := range sessions {
		s.table.drainAll()
		s.routesChanged.Poke()
	}
	e.mu.Unlock()
	t := time.NewTimer(wait)
	defer t.Stop()
	if slices.ContainsFunc(sessions, func(s *session) bool { return s.status.get(&s.counters).State == Established }) {
		select {
		case <-t.C:
		case <-ctx.Done():
		}
	}
	e.mu.Lock()
	e.closed = true // Apply has no effect from here on
	sessions = slices.Collect(maps.Values(e.sessions))
	e.mu.Unlock()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() {
			s.withdrawAll(last)
			s.end(shutdown(message), losesRoutes)
		})
	}
	wg.Wait()
	e.finish()
}

// Close ends all sessions so that routers with graceful restart (RFC 4724) keep the routes for
// the next process: these get no NOTIFICATION.
func (e *Engine) Close() {
	e.mu.Lock()
	e.closed = true
	for _, s := range e.sessions {
		s.end(shutdown("restart"), keepsRoutes)
	}
	e.mu.Unlock()
	e.finish()
}

func (e *Engine) finish() {
	e.stop()
	e.wg.Wait()
	e.listeners.wg.Wait()
}
