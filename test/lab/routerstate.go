package lab

import (
	"context"
	"fmt"
	"net/netip"
	"time"
)

// BGPSession is a session as the router sees it.
type BGPSession struct {
	Name        string     // what the router calls it: an address, an interface, a protocol of BIRD
	Peer        netip.Addr // not valid as long as an unnumbered one is unknown
	PeerASN     uint32
	State       string // in the router's word: Established, Active, Idle, …
	Established bool
	Since       time.Time // when it was established; to the second
	Resets      int       // how often it was lost
	Received4   int       // prefixes of IPv4 that were received and accepted
	Received6   int
	LastError   string // in the router's words; "" if there was none
}

// BGPPath is one way to a prefix, with the attributes that came with it.
type BGPPath struct {
	Peer             netip.Addr // not valid if it is the router's own
	NextHop          netip.Addr // the global one, if there are two
	ASPath           string     // "64513 64513"
	Origin           string     // IGP, EGP or incomplete
	LocalPref        *uint32    // nil where the router has none to show
	MED              *uint32
	Communities      []string // "65000:1", also for well-known ones; in the router's order
	LargeCommunities []string // "65000:1:2"
	Best             bool
	Stale            bool // kept for a peer that is restarting; BIRD tells it of long-lived ones only (RFC 9494)
}

// Route is what the router knows of a prefix.
type Route struct {
	NextHops []netip.Addr // in the kernel; none if the route is not there
	Paths    []BGPPath
}

// BFDSession is a session as the router sees it.
type BFDSession struct {
	Peer       netip.Addr
	Interface  string
	State      string // Up, Down, Init, AdminDown
	Up         bool
	Since      time.Time     // of this state; to the second
	Interval   time.Duration // between the packets that the router sends
	Detect     time.Duration // of silence, after which the peer is down
	Diagnostic string        // why it went down last; only FRR tells
	Downs      int           // how often it went down
}

// Sessions are the BGP sessions that are configured or came up by themselves.
func (r *Router) Sessions(ctx context.Context) ([]BGPSession, error) {
	s, err := r.software.sessions(ctx)
	if err != nil {
		return nil, fmt.Errorf("sessions of %s: %w", r.Name, err)
	}
	return s, nil
}

// Session is the one with that peer.
func (r *Router) Session(ctx context.Context, peer netip.Addr) (BGPSession, error) {
	all, err := r.Sessions(ctx)
	if err != nil {
		return BGPSession{}, err
	}
	for _, s := range all {
		if s.Peer == peer {
			return s, nil
		}
	}
	return BGPSession{}, fmt.Errorf("%s has no session with %s", r.Name, peer)
}

// Routes are what the router has learned by BGP, and what came of it in the
// kernel. FIB alone is much quicker where there are thousands.
func (r *Router) Routes(ctx context.Context) (map[netip.Prefix]Route, error) {
	routes := map[netip.Prefix]Route{}
	paths, err := r.software.paths(ctx)
	if err != nil {
		return nil, fmt.Errorf("routes of %s: %w", r.Name, err)
	}
	for to, p := range paths {
		routes[to] = Route{Paths: p}
	}
	installed, err := r.FIB()
	if err != nil {
		return nil, err
	}
	for to, via := range installed {
		routes[to] = Route{NextHops: via, Paths: paths[to]}
	}
	return routes, nil
}

// BFD are the router's BFD sessions.
func (r *Router) BFD(ctx context.Context) ([]BFDSession, error) {
	s, err := r.software.bfd(ctx)
	if err != nil {
		return nil, fmt.Errorf("BFD of %s: %w", r.Name, err)
	}
	return s, nil
}
