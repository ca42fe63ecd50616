package session

import (
	"encoding/binary"
	"math"
	"time"
)

// Packet is a BFD Control packet without authentication (RFC 5880, 4.1). The
// intervals are carried in microseconds.
type Packet struct {
	Diag                    Diag
	State                   State
	Poll                    bool
	Final                   bool
	ControlPlaneIndependent bool
	Demand                  bool
	DetectMult              uint8
	MyDiscriminator         uint32
	YourDiscriminator       uint32
	DesiredMinTx            time.Duration
	RequiredMinRx           time.Duration
	RequiredMinEchoRx       time.Duration
}

// PacketLen is the length of a packet without authentication.
const PacketLen = 24

const (
	version         = 1 // RFC 5880, 4.1: this is version 1
	authHeaderLen   = 2 // RFC 5880, 4.1: type and length
	maxMicroseconds = math.MaxUint32

	flagPoll           = 1 << 5
	flagFinal          = 1 << 4
	flagIndependent    = 1 << 3
	flagAuthentication = 1 << 2
	flagDemand         = 1 << 1
	flagMultipoint     = 1 << 0
)

// Parse parses the payload of a UDP packet, and checks all that can be checked
// without knowing the session (RFC 5880, 6.8.6). The error is a Fault.
func Parse(b []byte) (Packet, error) {
	if fault := check(b); fault != 0 {
		return Packet{}, fault
	}
	flags := b[1]
	return Packet{
		Diag:                    Diag(b[0] & 0x1f),
		State:                   State(flags >> 6),
		Poll:                    flags&flagPoll != 0,
		Final:                   flags&flagFinal != 0,
		ControlPlaneIndependent: flags&flagIndependent != 0,
		Demand:                  flags&flagDemand != 0,
		DetectMult:              b[2],
		MyDiscriminator:         binary.BigEndian.Uint32(b[4:]),
		YourDiscriminator:       binary.BigEndian.Uint32(b[8:]),
		DesiredMinTx:            microseconds(b[12:]),
		RequiredMinRx:           microseconds(b[16:]),
		RequiredMinEchoRx:       microseconds(b[20:]),
	}, nil
}

// check goes through the reasons to discard a packet in the order of RFC 5880,
// 6.8.6. What it does not name is no reason.
func check(b []byte) Fault {
	if len(b) < PacketLen {
		return FaultShort
	}
	if b[0]>>5 != version {
		return FaultVersion
	}
	flags, length := b[1], int(b[3])
	least := PacketLen
	if flags&flagAuthentication != 0 {
		least += authHeaderLen
	}
	switch {
	case length < least, length > len(b): // what follows the length is padding
		return FaultLength
	case b[2] == 0:
		return FaultDetectMult
	case flags&flagMultipoint != 0:
		return FaultMultipoint
	case binary.BigEndian.Uint32(b[4:]) == 0:
		return FaultMyDiscriminator
	case binary.BigEndian.Uint32(b[8:]) == 0 && State(flags>>6) > Down:
		return FaultYourDiscriminator
	case flags&flagAuthentication != 0: // and bfd.AuthType is zero
		return FaultAuthenticated
	default:
		return 0
	}
}

// Append appends the packet as it is on the wire. Intervals that do not fit are
// made to.
func (p Packet) Append(b []byte) []byte {
	flags := byte(p.State) << 6
	flags |= flag(p.Poll, flagPoll) | flag(p.Final, flagFinal) | flag(p.ControlPlaneIndependent, flagIndependent) | flag(p.Demand, flagDemand)
	b = append(b, version<<5|byte(p.Diag)&0x1f, flags, p.DetectMult, PacketLen)
	b = binary.BigEndian.AppendUint32(b, p.MyDiscriminator)
	b = binary.BigEndian.AppendUint32(b, p.YourDiscriminator)
	b = appendMicroseconds(b, p.DesiredMinTx)
	b = appendMicroseconds(b, p.RequiredMinRx)
	return appendMicroseconds(b, p.RequiredMinEchoRx)
}

func flag(set bool, bit byte) byte {
	if set {
		return bit
	}
	return 0
}

func microseconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Microsecond
}

func appendMicroseconds(b []byte, d time.Duration) []byte {
	return binary.BigEndian.AppendUint32(b, uint32(min(max(d.Microseconds(), 0), maxMicroseconds)))
}
