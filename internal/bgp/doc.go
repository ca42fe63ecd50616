// Package bgp has sessions with routers (RFC 4271) and announces routes to them.
//
// It is given the peers and the rows that should be announced, and makes it so;
// what it holds already costs nothing. It is the only package that imports
// GoBGP.
//
// Work is shared like this. A session is one peer: it owns the connection (who
// dials, with which socket options, how often) and says in words what is wrong
// with it. GoBGP speaks the protocol: capabilities, timers, the routing table,
// UPDATE messages. Between the two is a line, which carries messages from
// the router's connection to a GoBGP server on the loopback interface and back.
//
// Why a line: GoBGP itself waits 5 to 10 s before it first connects and 5 s
// after each loss, tells nobody why a session failed, has one router ID and one
// table for all peers, and keeps all that a router sends in memory even when
// policy rejects it. On the line nothing of this is so: what a router announces
// is counted and dropped as it arrives, so no limit on prefixes is needed.
//
// # What a change of a peer does
//
//	connectTime, passive          used at the next attempt to connect
//	next hops                     routes are announced anew, as replacements
//	routes                        the UPDATE that is needed
//	everything else               this session is reset, no other
//
// A reset of a session with graceful restart (RFC 4724) keeps the routes in the
// router until the new session has announced them.
package bgp
