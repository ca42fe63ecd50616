package session

import "fmt"

// State is the state of a session (RFC 5880, 4.1). The numbers are those on the
// wire, hence the zero that means something.
type State uint8

// States (RFC 5880, 4.1 and 6.2).
const (
	AdminDown State = 0 // held down by an operator; says nothing about the path
	Down      State = 1
	Init      State = 2 // packets of the other side arrive, but it has not received ours yet
	Up        State = 3
)

func (s State) String() string {
	switch s {
	case AdminDown:
		return "AdminDown"
	case Down:
		return "Down"
	case Init:
		return "Init"
	case Up:
		return "Up"
	default:
		return fmt.Sprintf("State(%d)", uint8(s))
	}
}

// Diag is why a session last went down, as a side tells the other (RFC 5880,
// 4.1). Five bits on the wire; those that are not here are reserved.
type Diag uint8

// Diagnostics (RFC 5880, 4.1).
const (
	DiagNone                    Diag = 0
	DiagTimeout                 Diag = 1 // no packet arrived within the detection time
	DiagEchoFailed              Diag = 2
	DiagNeighborDown            Diag = 3 // the other side said that it is down
	DiagForwardingReset         Diag = 4
	DiagPathDown                Diag = 5
	DiagConcatenatedPathDown    Diag = 6
	DiagAdminDown               Diag = 7
	DiagReverseConcatenatedDown Diag = 8
)

// String gives the RFC's own words.
func (d Diag) String() string {
	switch d {
	case DiagNone:
		return "No Diagnostic"
	case DiagTimeout:
		return "Control Detection Time Expired"
	case DiagEchoFailed:
		return "Echo Function Failed"
	case DiagNeighborDown:
		return "Neighbor Signaled Session Down"
	case DiagForwardingReset:
		return "Forwarding Plane Reset"
	case DiagPathDown:
		return "Path Down"
	case DiagConcatenatedPathDown:
		return "Concatenated Path Down"
	case DiagAdminDown:
		return "Administratively Down"
	case DiagReverseConcatenatedDown:
		return "Reverse Concatenated Path Down"
	default:
		return fmt.Sprintf("Reserved (%d)", uint8(d))
	}
}

// Fault is why a packet is discarded.
type Fault uint8

// Faults. The first are those of the packet alone, in the order in which they
// are looked for (RFC 5880, 6.8.6); the last are for who knows the sessions.
const (
	FaultShort             Fault = iota + 1 // shorter than any packet
	FaultVersion                            // not version 1
	FaultLength                             // Length too small, or larger than the payload
	FaultDetectMult                         // Detect Mult is zero
	FaultMultipoint                         // the M bit is set
	FaultMyDiscriminator                    // My Discriminator is zero
	FaultYourDiscriminator                  // Your Discriminator is zero in Init or Up
	FaultAuthenticated                      // it has an authentication section, and no session uses one
	FaultTTL                                // too many hops away (RFC 5881, 5; RFC 5883, 5)
	FaultNoSession                          // no session that it could be for
)

func (f Fault) Error() string {
	switch f {
	case FaultShort:
		return "too short for a BFD packet"
	case FaultVersion:
		return "not BFD version 1"
	case FaultLength:
		return "wrong length field"
	case FaultDetectMult:
		return "detect multiplier is zero"
	case FaultMultipoint:
		return "multipoint bit is set"
	case FaultMyDiscriminator:
		return "my discriminator is zero"
	case FaultYourDiscriminator:
		return "your discriminator is zero in state Init or Up"
	case FaultAuthenticated:
		return "authenticated, which is not supported"
	case FaultTTL:
		return "came over too many hops"
	case FaultNoSession:
		return "belongs to no session"
	default:
		return fmt.Sprintf("Fault(%d)", uint8(f))
	}
}
