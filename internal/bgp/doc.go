// Package bgp maintains BGP sessions with routers (RFC 4271) and advertises routes in them.
//
// [Engine.Apply] takes the desired peers and routes and changes only what differs from those
// before. The package advertises only: it counts and drops a router's routes as they arrive,
// so that it needs no prefix limit. No other package imports GoBGP, of which this one uses
// the codec to encode OPEN and UPDATE messages.
//
// An [Engine] has a session per peer. Its layers, from the outside in:
//
//   - session: connects, retries, and describes failures. An established session has two
//     goroutines: one reads, one advertises.
//   - listeners: accept connections of routers. A connection is a candidate until its TTL,
//     password and OPEN prove that it is the router's; the session gets only proven ones.
//   - connection: one TCP connection, which executes the decisions of the state machine.
//   - fsm: the state machine, pure: its input is a message or an expired timer, its output
//     an action or an error.
//   - message: the header. Only messages whose length and type RFC 4271 allows reach the
//     state machine, and no message of a router reaches the codec.
//   - table: the desired routes and those that were sent; the difference is sent.
//
// A message of a router ends at most its own connection, by the NOTIFICATION that the RFCs
// define or, if this package has a bug, by a recovered panic. docs/adr/0001 says why this
// package does not use GoBGP's server.
//
// # Effect of a changed peer
//
//	connectTime, passive          used by the next attempt to connect
//	next hops                     the routes are advertised again, as replacements
//	routes                        one UPDATE with the difference
//	everything else               this session is reset, no other
//
// If a session with graceful restart (RFC 4724) is reset, the router keeps the routes until
// the new session has advertised them.
package bgp
