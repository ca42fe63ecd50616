// Package bfd watches the paths to other systems by BFD (RFC 5880), over one hop
// (RFC 5881) or several (RFC 5883), and tells within a fraction of a second when
// one breaks.
//
// It is given the sessions that should exist, and creates and removes sessions to match. It
// knows nothing of its users; BGP is one. What a session does is decided in
// internal/bfd/session; here are its clock, its sockets and its neighbours.
//
// # How the timers hold on a busy machine
//
// A packet that is sent late takes the session down on the other side, and one
// that is read late takes it down here. Against that:
//
//   - All sessions are the work of one goroutine that owns all their state: there
//     is no lock that it could wait for while its holder does not run.
//   - The goroutine is locked to its thread, and the thread runs before all that
//     is not real-time (SCHED_FIFO at its lowest priority, or else the best nice
//     value, or else as it is; Status says which). It waits in ppoll(2), with the
//     sockets and the next deadline, and not in Go's poller, which would be served
//     by threads of ordinary priority.
//   - It allocates nothing while sessions stay as they are, as who allocates while
//     Go collects garbage is made to help, and to wait.
//   - The kernel notes when each packet arrived (SO_TIMESTAMPNS). A packet that
//     waited in the socket's buffer counts from when it arrived.
//   - Before any detection time is declared over, all that had arrived by then is
//     read. A silence is one of the network, never one of ours.
//   - Events are handed over to another goroutine, which may take its time.
//
// What is left is Go itself: its collector, and the threads that its processors
// are on. In a program that has a lot to do, use Child, which is an Engine in a
// process of its own, where nothing else delays it.
package bfd
