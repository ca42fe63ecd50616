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

// Config is what an Engine is made from.
type Config struct {
	Log logr.Logger
	// ListenPort is where passive peers' routers connect to. 0 is 179.
	ListenPort uint16
}

// Engine has the sessions it was last given, and announces the routes it was
// last given.
type Engine struct {
	log       logr.Logger
	listeners listeners
	changed   notify.Signal
	ctx       context.Context
	stop      context.CancelFunc
	wg        sync.WaitGroup

	mu       sync.Mutex // guards the fields below
	sessions map[string]*session
	lost     map[string]string // peer -> why it is held down
	draining bool
	closed   bool
}

// New returns an Engine that has no sessions.
func New(c Config) *Engine {
	e := &Engine{
		log: c.Log, changed: notify.New(), sessions: map[string]*session{}, lost: map[string]string{},
		listeners: listeners{port: cmp.Or(c.ListenPort, bgpPort), open: map[listenKey]*listener{}},
	}
	e.ctx, e.stop = context.WithCancel(context.Background())
	return e
}

// Changed receives when something in Sessions has changed that a person would
// see: not when counters do. It has room for one.
func (e *Engine) Changed() <-chan struct{} { return e.changed }

// A Refusal is a peer or a row that cannot be had.
type Refusal struct {
	Peer   string
	Prefix netip.Prefix // not valid when it is the peer
	Err    error
}

func (r Refusal) Error() string {
	if r.Prefix.IsValid() {
		return fmt.Sprintf("route %s to peer %q: %v", r.Prefix, r.Peer, r.Err)
	}
	return fmt.Sprintf("peer %q: %v", r.Peer, r.Err)
}

// Apply makes peers the sessions that are had, and routes what is announced in
// them. It does not wait: a peer that is new is connected to at once, and an
// UPDATE for what changed leaves at once. What is equal to what was applied
// before is left alone.
//
// Routes must be complete from the first call on: a router that kept the routes
// of the speaker's previous life forgets those that are not among them.
//
// It returns what it cannot have, sorted; the rest is in force.
func (e *Engine) Apply(peers []lb.BGPPeer, routes []lb.BGPRoute) []Refusal {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.closed {
		return nil
	}
	wanted, refusals := e.admit(peers)
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
			s.table.want(rows[name], e.draining)
			e.start(name, s)
			continue
		}
		if s.table.want(rows[name], e.draining) {
			s.dirty.Poke()
		}
		s.change(wanted[name])
	}
	return append(refusals, refused...)
}

// Readdress says that the node's addresses have changed: routes may have to point to
// others.
func (e *Engine) Readdress() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for _, s := range e.sessions {
		s.moved.Poke()
	}
}

func (e *Engine) start(name string, s *session) {
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(e.ctx)
	e.sessions[name] = s
	e.wg.Go(func() { s.run(ctx) })
	e.changed.Poke()
}

// admit returns the peers that can be had together: one session with each router.
// Who has a session already keeps it.
func (e *Engine) admit(peers []lb.BGPPeer) (map[string]lb.BGPPeer, []Refusal) {
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
				err = fmt.Errorf("peer %q is the same router, %s; delete one of them, or let nodeSelectors give each its own nodes", other, routerName(&p))
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

// validate reports what the API cannot check, because it is not in the object.
func validate(p *lb.BGPPeer) error {
	switch {
	case !p.Address.IsValid() && p.Interface == "":
		return fmt.Errorf("set peerAddress or interface")
	case !p.RouterID.Is4() || p.RouterID.IsUnspecified():
		return fmt.Errorf("this node has no router ID; write routerID, such as \"192.0.2.11\"")
	case len(p.Password) > maxPassword:
		return fmt.Errorf("the password has %d characters, and TCP MD5 has room for %d; choose a shorter one", len(p.Password), maxPassword)
	case p.ConnectTime < time.Second:
		return fmt.Errorf("connectTime is %v; write at least 1s", p.ConnectTime)
	}
	return nil
}

// byPeer sorts rows by peer.
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
			case !ok: // the peer's own refusal says why, or it is not on this node
			case r.Prefix != r.Prefix.Masked() || r.Prefix.Addr().Is4In6():
				refusals = append(refusals, Refusal{name, r.Prefix, fmt.Errorf("this is no prefix; it should be %s", r.Prefix.Masked())})
			case twice && !old.Equal(r.BGPAttributes):
				refusals = append(refusals, Refusal{name, r.Prefix, fmt.Errorf("it is there twice, with different attributes")})
			default:
				mine[r.Prefix] = r.BGPAttributes
			}
		}
	}
	return rows, refusals
}

// Sessions returns how the sessions are, sorted by peer.
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

// Lost takes the session with a peer down at once, and keeps it down until
// Restored: somebody, such as BFD (RFC 5882), knows that the router cannot be
// reached. reason is what LastError says. The peer need not exist yet.
func (e *Engine) Lost(peer, reason string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.lost[peer] = reason
	if s := e.sessions[peer]; s != nil {
		s.hold(reason)
	}
}

// Restored lets the session with a peer come up again, at once. It must also be
// called for a peer that was lost and is no longer watched.
func (e *Engine) Restored(peer string) {
	e.mu.Lock()
	defer e.mu.Unlock()
	delete(e.lost, peer)
	if s := e.sessions[peer]; s != nil {
		s.hold("")
	}
}

// Drain says goodbye (RFC 8326): it asks the routers to prefer others, waits for
// them to have done so, withdraws all routes and shuts the sessions down with a
// message for the routers' logs (RFC 9003). When ctx ends it hurries. The
// Engine is closed then.
func (e *Engine) Drain(ctx context.Context, wait time.Duration, message string) {
	e.mu.Lock()
	e.draining = true
	sessions := slices.Collect(maps.Values(e.sessions))
	for _, s := range sessions {
		s.table.drainAll()
		s.dirty.Poke()
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
	e.closed = true // nothing new is announced from here on
	sessions = slices.Collect(maps.Values(e.sessions))
	e.mu.Unlock()
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Second)
	defer cancel()
	var wg sync.WaitGroup
	for _, s := range sessions {
		wg.Go(func() {
			s.retire(last)
			s.end(shutdown(message), losesRoutes)
		})
	}
	wg.Wait()
	e.finish()
}

// Close ends all sessions in a way that lets routers keep the routes for the
// process that follows (RFC 4724): those with graceful restart are not told.
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
