// Package session is one BFD session, as RFC 5880 has it: the packets, and the
// state machine in asynchronous mode, in either role.
//
// It has no clock and does no I/O: a Session is given the time and what
// arrived, and says what to send and when it wants to be woken.
//
// Not supported, as nothing here needs it: the echo function (RFC 5880, 6.4; we
// say so by a Required Min Echo RX Interval of zero), demand mode for ourselves
// (6.6; the other side may ask for it), authentication (6.7), point to
// multipoint, and independence of the control plane (the C bit).
package session
