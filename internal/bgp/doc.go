// Package bgp has sessions with routers (RFC 4271) and announces routes to them.
//
// It is given the peers and the rows that should be announced, and makes it so;
// what it holds already costs nothing. It announces only: a router's routes are
// counted and dropped as they arrive, so no limit on prefixes is needed. It is the
// only package that imports GoBGP, and of that only the codec, to write OPEN and
// UPDATE messages.
//
// An [Engine] has a session per peer. From the outside in:
//
//   - session: who connects and how often, and in words what is wrong. Two
//     goroutines per established session: one reads, one advertises.
//   - listeners: routers that connect. A connection is a candidate until TTL,
//     password and OPEN have proved that it is the router's; the session hears
//     of no other.
//   - connection: one TCP connection; carries out what the state machine decides.
//   - fsm: the state machine, pure: a message or an expired timer in, an action
//     or an error out.
//   - message: the header. Only what RFC 4271 allows by its length and type gets
//     to the state machine, and nothing from a router gets to the codec.
//   - table: what a router is to have and what it has; the difference is sent.
//
// Whatever a router sends ends its own connection at most: with the NOTIFICATION
// that the RFCs have for it, or, should this package be at fault, by a recovered
// panic. docs/adr/0001 says why this is not GoBGP's server.
//
// # What a change of a peer does
//
//	connectTime, passive          used at the next attempt to connect
//	next hops                     routes are announced again, as replacements
//	routes                        the UPDATE that is needed
//	everything else               this session is reset, no other
//
// A reset of a session with graceful restart (RFC 4724) keeps the routes in the
// router until the new session has announced them.
package bgp
