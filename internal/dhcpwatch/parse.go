package dhcpwatch

import (
	"encoding/binary"
	"net"
	"net/netip"

	"golang.org/x/net/ipv4"
)

// message is the content of a DHCP message about an address.
type message struct {
	kind   kind
	xid    uint32     // the transaction ID, which is the same in a request and its reply
	client string     // the hardware address of the client
	addr   netip.Addr // the requested, offered or leased address; not valid in a refusal
	server netip.Addr // not valid in a request that does not name the server
}

// kind is the type of a DHCP message (RFC 2132, 9.6).
type kind byte

const (
	offer   kind = 2
	request kind = 3
	ack     kind = 5
	nak     kind = 6
)

// Offsets of the fields that are read (RFC 2131, figure 1).
const (
	opAt      = 0
	htypeAt   = 1
	hlenAt    = 2
	xidAt     = 4
	ciaddrAt  = 12
	yiaddrAt  = 16
	chaddrAt  = 28
	cookieAt  = 236
	optionsAt = 240
)

const (
	bootRequest = 1
	bootReply   = 2
	ethernet    = 1 // htype
	cookie      = 0x63825363
)

// Options that are read (RFC 2132, 9).
const (
	optionRequested = 50
	optionType      = 53
	optionServer    = 54

	optionPad = 0
	optionEnd = 255
)

// parse parses an IPv4 packet. ok is false if it is not a DHCP message about an address.
func parse(packet []byte) (m message, ok bool) {
	b, ok := payload(packet)
	if !ok || len(b) < optionsAt || binary.BigEndian.Uint32(b[cookieAt:]) != cookie || b[htypeAt] != ethernet || b[hlenAt] != 6 {
		return message{}, false
	}
	options, ok := parseOptions(b[optionsAt:])
	if !ok || len(options[optionType]) != 1 {
		return message{}, false
	}
	m = message{
		kind: kind(options[optionType][0]), xid: binary.BigEndian.Uint32(b[xidAt:]),
		client: net.HardwareAddr(b[chaddrAt : chaddrAt+6]).String(), server: address(options[optionServer]),
	}
	switch m.kind {
	case request:
		// A client that selects an offer names the address and the server; a client that
		// restarts names its former address; a client that extends its lease has the
		// address in ciaddr (RFC 2131, 4.3.2).
		if m.addr = address(options[optionRequested]); !m.addr.IsValid() {
			m.addr = address(b[ciaddrAt : ciaddrAt+4])
		}
		return m, b[opAt] == bootRequest && m.addr.IsValid()
	case offer, ack:
		m.addr = address(b[yiaddrAt : yiaddrAt+4])
		return m, b[opAt] == bootReply && m.addr.IsValid() && m.server.IsValid()
	case nak:
		return m, b[opAt] == bootReply
	default:
		return message{}, false
	}
}

const (
	protocolUDP = 17
	udpHeader   = 8
)

// payload returns the UDP payload of a complete IPv4 packet, without the padding of its frame.
func payload(packet []byte) ([]byte, bool) {
	ip, err := ipv4.ParseHeader(packet)
	fragment := err == nil && (ip.Flags&ipv4.MoreFragments != 0 || ip.FragOff != 0)
	if err != nil || fragment || ip.Version != ipv4.Version || ip.Protocol != protocolUDP ||
		ip.TotalLen < ip.Len+udpHeader || ip.TotalLen > len(packet) {
		return nil, false
	}
	udp := packet[ip.Len:ip.TotalLen]
	end := int(binary.BigEndian.Uint16(udp[4:]))
	if end < udpHeader || end > len(udp) {
		return nil, false
	}
	return udp[udpHeader:end], true
}

// parseOptions returns the first option of each code. It ignores options in the fields sname
// and file (option overload), which none of the options that are read needs.
func parseOptions(b []byte) (map[byte][]byte, bool) {
	options := map[byte][]byte{}
	for len(b) > 0 && b[0] != optionEnd {
		if b[0] == optionPad {
			b = b[1:]
			continue
		}
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return nil, false
		}
		code, end := b[0], 2+int(b[1])
		if _, twice := options[code]; !twice {
			options[code] = b[2:end]
		}
		b = b[end:]
	}
	return options, true
}

// address returns the IPv4 address in a field; an invalid one if the field is empty.
func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	if !a.Is4() || a.IsUnspecified() {
		return netip.Addr{}
	}
	return a
}
