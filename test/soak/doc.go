// Package soak breaks a lab at random, round after round, and checks after each round
// that Fairlead recovers completely.
//
// A round is a few faults that overlap; then all of them are healed, and within a limit
// every invariant must hold again, as seen on the wire and in the routers. The faults
// are a pure function of a seed, so a run can be repeated. The moments at which they
// meet what the programs do are not: a seed repeats the faults, not each packet.
//
// A Fault is what can be broken, Planner decides what breaks when, observe gathers what
// can be seen, and the invariants are pure functions of that.
package soak
