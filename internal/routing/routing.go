// Package routing keeps BGP sessions and routes, and the BFD sessions beside them, as a plan wants them.
package routing

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/go-logr/logr"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/bfd"
	"github.com/fairlead-lb/fairlead/internal/bgp"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/metrics"
	"github.com/fairlead-lb/fairlead/internal/netif"
	"github.com/fairlead-lb/fairlead/internal/retry"
)

// Config says how routers are dealt with.
type Config struct {
	// DrainWait is how long routers are asked to prefer other nodes before a route is
	// withdrawn (RFC 8326).
	DrainWait time.Duration
	// ListenPort is where the routers of passive peers connect to. 0 is 179.
	ListenPort uint16
	// BFD is a command that calls bfd.Serve.
	BFD []string
}

// Wanted is what this node is to have with routers.
type Wanted struct {
	Peers  []lb.BGPPeer
	BFD    map[string]kube.BFDProfile // by peer: how its path is watched
	Faults map[string]*kube.Fault     // by peer: why this node has no session, or not as written
}

// engine has the BGP sessions; bgp.Engine documents the methods.
type engine interface {
	Apply(peers []lb.BGPPeer, routes []lb.BGPRoute) []bgp.Refusal
	Sessions() []bgp.Session
	Changed() <-chan struct{}
	Readdress()
	Drain(ctx context.Context, wait time.Duration, message string)
	Close()
}

// Routes has the sessions with routers and what is advertised in them. Without peers it does
// nothing. Its methods are for one goroutine, but for Measure, Changed and Run.
type Routes struct {
	cfg    Config
	log    logr.Logger
	now    func() time.Time
	engine engine
	paths  *paths

	drains  drains
	version uint64        // of wanted and of the plan
	due     time.Time     // when a route is to be withdrawn; zero: none is
	rows    []lb.BGPRoute // that are announced
	wanted  Wanted
	refused map[string]string     // peers that the engine cannot have -> why
	routers map[string]netip.Addr // peer -> where an unnumbered one was found
	errors  map[string]string     // peer -> the last error of its session
	up      map[string]bool       // peer -> its session was up when last looked at
}

// New returns Routes without a session.
func New(cfg Config, log logr.Logger) *Routes {
	e := bgp.New(bgp.Config{Log: log.WithName("bgp"), ListenPort: cfg.ListenPort})
	return &Routes{
		cfg: cfg, log: log, now: time.Now, engine: e, paths: newPaths(log.WithName("bfd"), cfg.BFD, e), drains: drains{wait: cfg.DrainWait},
		routers: map[string]netip.Addr{}, errors: map[string]string{}, up: map[string]bool{},
	}
}

// Run keeps the process that watches paths by BFD running while there are any, until ctx ends.
func (r *Routes) Run(ctx context.Context) { r.paths.run(ctx) }

// Changed receives after the state of a BGP session has changed.
func (r *Routes) Changed() <-chan struct{} { return r.engine.Changed() }

// PathsChanged receives after the state of a BFD session has changed.
func (r *Routes) PathsChanged() <-chan struct{} { return r.paths.changed }

// Readdress has sessions use the addresses that the interfaces have now.
func (r *Routes) Readdress() { r.engine.Readdress() }

// Apply makes the sessions and routes what they should be. It returns after which time it is
// to be called again, to withdraw a drained route; 0 is none. version is another number
// whenever wanted or plan changed.
func (r *Routes) Apply(wanted Wanted, plan []lb.BGPRoute, version uint64, interfaces []netif.Interface) time.Duration {
	var wait time.Duration
	if now := r.now(); version != r.version || !r.due.IsZero() && !now.Before(r.due) {
		var again time.Duration
		r.rows, again = r.drains.step(plan, now)
		r.version, r.wanted, r.due = version, wanted, time.Time{}
		if again > 0 {
			r.due, wait = now.Add(again), again
		}
		r.refused = map[string]string{}
		for _, refusal := range r.engine.Apply(wanted.Peers, r.rows) {
			if refusal.Prefix.IsValid() {
				r.log.Error(refusal.Err, "cannot announce a route", "peer", refusal.Peer, "prefix", refusal.Prefix.String())
				continue
			}
			r.refused[refusal.Peer] = refusal.Err.Error()
		}
	}
	r.paths.want(r.watched(interfaces))
	return wait
}

// watched returns the paths that are to be watched.
func (r *Routes) watched(interfaces []netif.Interface) (out []watched) {
	if len(r.wanted.BFD) == 0 {
		return nil
	}
	for _, s := range r.engine.Sessions() {
		if s.Router.IsValid() {
			r.routers[s.Peer] = s.Router.Addr().WithZone("")
		}
	}
	for i := range r.wanted.Peers {
		p := &r.wanted.Peers[i]
		profile, ok := r.wanted.BFD[p.Name]
		if !ok || r.refused[p.Name] != "" {
			continue
		}
		key := bfd.Key{Peer: p.Address, Local: p.Source, Interface: p.Interface, VRF: p.VRF, MultiHop: severalHops(p, interfaces)}
		if p.Interface != "" {
			if key.Peer = r.routers[p.Name]; !key.Peer.IsValid() {
				continue // not found yet
			}
		}
		out = append(out, watched{peers: []string{p.Name}, spec: bfd.SessionSpec{
			Key: key, TransmitInterval: profile.Transmit, ReceiveInterval: profile.Receive, DetectMultiplier: profile.DetectMultiplier,
			Passive: profile.Passive, MinimumTTL: profile.MinimumTTL,
		}})
	}
	return out
}

// severalHops reports whether the router is not on a network of this node: BFD has
// a form of its own for that (RFC 5883).
func severalHops(p *lb.BGPPeer, interfaces []netif.Interface) bool {
	if p.Interface != "" || !p.Internal() {
		return p.Multihop
	}
	return !slices.ContainsFunc(interfaces, func(i netif.Interface) bool { return i.Has(p.Address) })
}

// OnlyAdvertiser reports whether this node announces what no better node does.
func (r *Routes) OnlyAdvertiser() bool {
	return slices.ContainsFunc(r.rows, func(row lb.BGPRoute) bool { return !row.Drain })
}

// Leave ends all sessions. Of a node that goes for good routers are asked to prefer
// others, and then that its routes are gone. Else the routes are to be there until
// the speaker is back, with the routers that can do that (RFC 4724).
func (r *Routes) Leave(ctx context.Context, forGood bool, why string) {
	if len(r.wanted.Peers) == 0 {
		r.engine.Close()
		return
	}
	if forGood {
		wait := r.cfg.DrainWait
		if len(r.rows) == 0 {
			wait = 0
		}
		r.engine.Drain(ctx, wait, why)
		return
	}
	var lose []string // which peers forget the routes
	for _, s := range r.engine.Sessions() {
		if s.State == bgp.Established && !s.GracefulRestart {
			lose = append(lose, s.Peer)
		}
	}
	if len(lose) > 0 && len(r.rows) > 0 {
		r.engine.Apply(r.wanted.Peers, drained(r.rows, lose))
		_ = retry.Sleep(ctx, r.cfg.DrainWait)
	}
	r.engine.Close()
}

// drained returns the rows with those for some of the peers drained.
func drained(rows []lb.BGPRoute, peers []string) []lb.BGPRoute {
	out := make([]lb.BGPRoute, 0, 2*len(rows))
	for _, row := range rows {
		soft := row
		soft.Drain, soft.Peers, row.Peers = true, nil, slices.Clone(row.Peers)
		row.Peers = slices.DeleteFunc(row.Peers, func(p string) bool {
			if slices.Contains(peers, p) {
				soft.Peers = append(soft.Peers, p)
				return true
			}
			return false
		})
		for _, r := range []lb.BGPRoute{row, soft} {
			if len(r.Peers) > 0 {
				out = append(out, r)
			}
		}
	}
	return out
}

// Sessions returns what the Speaker object says of the sessions, sorted by peer.
func (r *Routes) Sessions() []v1alpha1.SpeakerBGPSession {
	var out []v1alpha1.SpeakerBGPSession
	seen := map[string]bool{}
	for _, s := range r.engine.Sessions() {
		seen[s.Peer] = true
		r.observe(s)
		row := v1alpha1.SpeakerBGPSession{
			Peer: s.Peer, State: v1alpha1.BGPSessionState(s.State.String()), Since: metav1.NewTime(s.Since.Truncate(time.Second)),
			Prefixes: int32(s.PrefixesIPv4 + s.PrefixesIPv6), LastError: r.errors[s.Peer],
		}
		if r.lacks(s) {
			row.Note = s.Note
		}
		if state, watched := r.paths.stateOf(s.Peer); watched {
			row.BFD = v1alpha1.BFDSessionState(state.String())
		}
		if f := r.wanted.Faults[s.Peer]; f != nil { // one that it is had in spite of
			row.Reason, row.Note = f.Reason, strings.Join(nonEmpty(f.Message, row.Note), "; ")
		}
		out = append(out, row)
	}
	idle := func(peer, reason, message string) {
		if !seen[peer] {
			seen[peer] = true
			out = append(out, v1alpha1.SpeakerBGPSession{Peer: peer, State: v1alpha1.BGPSessionIdle, Reason: reason, LastError: message})
		}
	}
	for peer, f := range r.wanted.Faults {
		idle(peer, f.Reason, f.Message)
	}
	for peer, why := range r.refused {
		idle(peer, v1alpha1.ReasonInvalid, why)
	}
	for peer := range r.errors {
		if !seen[peer] {
			delete(r.errors, peer)
			delete(r.up, peer)
			delete(r.routers, peer)
		}
	}
	slices.SortFunc(out, func(a, b v1alpha1.SpeakerBGPSession) int { return cmp.Compare(a.Peer, b.Peer) })
	return out[:min(len(out), v1alpha1.MaxSpeakerSessions)]
}

// lacks reports whether the routes of a family are not announced in the session
// that should be.
func (r *Routes) lacks(s bgp.Session) bool {
	if s.Note == "" {
		return false
	}
	announced := map[bool]int{true: s.PrefixesIPv4, false: s.PrefixesIPv6}
	return slices.ContainsFunc(r.rows, func(row lb.BGPRoute) bool {
		return announced[row.Prefix.Addr().Is4()] == 0 && slices.Contains(row.Peers, s.Peer)
	})
}

// Measure returns what is counted of the sessions. Any goroutine may call it.
func (r *Routes) Measure() []metrics.Session {
	var out []metrics.Session
	for _, s := range r.engine.Sessions() {
		state, watched := r.paths.stateOf(s.Peer)
		out = append(out, metrics.Session{
			Peer: s.Peer, Up: s.State == bgp.Established, Watched: watched, PathUp: state == bfd.Up, Prefixes: s.PrefixesIPv4 + s.PrefixesIPv6,
			UpdatesSent: s.UpdatesSent, UpdatesReceived: s.UpdatesReceived,
			NotificationsSent: s.NotificationsSent, NotificationsReceived: s.NotificationsReceived, Lost: s.TimesLost,
		})
	}
	return out
}

// observe remembers a session's last error, and says in the log when it came up
// or was lost.
func (r *Routes) observe(s bgp.Session) {
	if s.LastError != "" || r.errors[s.Peer] == "" {
		r.errors[s.Peer] = s.LastError
	}
	switch up := s.State == bgp.Established; {
	case up == r.up[s.Peer]:
	case up:
		r.log.Info("session with a router is up", "peer", s.Peer, "router", s.Router.String())
		r.up[s.Peer] = true
	default:
		r.log.Info("session with a router is lost", "peer", s.Peer, "reason", cmp.Or(s.LastError, "ended by this node"))
		r.up[s.Peer] = false
	}
}

func nonEmpty(list ...string) []string {
	return slices.DeleteFunc(list, func(s string) bool { return s == "" })
}
