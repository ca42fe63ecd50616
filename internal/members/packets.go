package members

import (
	"encoding/binary"
	"hash/crc32"
)

// The first byte of memberlist's messages. Compression, encryption and labels are not used, and
// refused.
const (
	msgPing byte = iota
	msgIndirectPing
	msgAck
	msgSuspect
	msgAlive
	msgDead
	msgPushPull
	msgCompound
	msgUser
	msgCompress
	msgEncrypt
	msgNack
	msgCRC
	msgErr
)

// wellFormed reports whether memberlist may parse a packet: it is one message, or several in a
// compound one, of kinds that memberlist sends, and none is empty.
func wellFormed(packet []byte) bool {
	if len(packet) > 5 && packet[0] == msgCRC {
		if binary.BigEndian.Uint32(packet[1:]) != crc32.ChecksumIEEE(packet[5:]) {
			return false
		}
		packet = packet[5:]
	}
	if len(packet) < 2 || packet[0] != msgCompound {
		return wellFormedMessage(packet)
	}
	parts, rest := int(packet[1]), packet[2:]
	if parts == 0 || len(rest) < 2*parts {
		return false
	}
	sizes, rest := rest[:2*parts], rest[2*parts:]
	for ; len(sizes) > 0; sizes = sizes[2:] {
		size := int(binary.BigEndian.Uint16(sizes))
		if size > len(rest) || !wellFormedMessage(rest[:size]) {
			return false
		}
		rest = rest[size:]
	}
	return len(rest) == 0
}

func wellFormedMessage(b []byte) bool {
	if len(b) < 2 {
		return false
	}
	switch b[0] {
	case msgPing, msgIndirectPing, msgAck, msgSuspect, msgAlive, msgDead, msgUser, msgNack:
		return true
	default:
		return false
	}
}

// opensStream reports whether a message of this kind begins a stream's one direction.
func opensStream(first byte) bool {
	switch first {
	case msgPing, msgAck, msgPushPull, msgUser, msgErr:
		return true
	default:
		return false
	}
}
