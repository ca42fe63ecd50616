package lab

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
)

// The few frames that a NeighbourWatch sends and understands. The product has
// its own code for them, which must not be what judges it.

const (
	etherARP  = 0x0806
	etherIPv6 = 0x86dd

	arpRequest = 1
	arpReply   = 2

	protocolICMPv6        = 58
	neighbourSolicitation = 135 // RFC 4861, 4.3
	neighbourAdvert       = 136 // RFC 4861, 4.4
	optionSourceAddress   = 1
	optionTargetAddress   = 2
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// claim says that a MAC has an address.
type claim struct {
	ip  netip.Addr
	mac net.HardwareAddr
	to  net.HardwareAddr // whom the frame was for
}

// solicit is the frame by which a host asks for an address, and the EtherType
// of what comes back.
func solicit(h *Host, ip netip.Addr) (frame []byte, protocol uint16) {
	if ip.Is4() {
		return arpQuestion(h, ip), etherARP
	}
	return ndpQuestion(h, ip), etherIPv6
}

// arpQuestion is a request by RFC 826.
func arpQuestion(h *Host, ip netip.Addr) []byte {
	b := ethernet(broadcast, h.MAC, etherARP)
	b = append(b, 0, 1, 0x08, 0x00, 6, 4, 0, arpRequest)
	b = append(b, h.MAC...)
	b = append(b, h.IPv4.AsSlice()...)
	b = append(b, make([]byte, 6)...)
	return append(b, ip.AsSlice()...)
}

// ndpQuestion is a multicast Neighbor Solicitation with the source's link-layer
// address, as a host sends that knows nothing yet.
func ndpQuestion(h *Host, ip netip.Addr) []byte {
	target := ip.As16()
	group := netip.AddrFrom16([16]byte{0: 0xff, 1: 0x02, 11: 1, 12: 0xff, 13: target[13], 14: target[14], 15: target[15]})
	mac := net.HardwareAddr{0x33, 0x33, 0xff, target[13], target[14], target[15]}

	icmp := []byte{neighbourSolicitation, 0, 0, 0, 0, 0, 0, 0}
	icmp = append(icmp, target[:]...)
	icmp = append(icmp, optionSourceAddress, 1) // length in units of 8 bytes
	icmp = append(icmp, h.MAC...)
	binary.BigEndian.PutUint16(icmp[2:], checksumICMPv6(h.IPv6, group, icmp))

	b := ethernet(mac, h.MAC, etherIPv6)
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(len(icmp)))
	b = append(b, protocolICMPv6, 255) // the hop limit proves that no router was between
	b = append(b, h.IPv6.AsSlice()...)
	b = append(b, group.AsSlice()...)
	return append(b, icmp...)
}

func ethernet(to, from net.HardwareAddr, protocol uint16) []byte {
	b := append([]byte{}, to...)
	b = append(b, from...)
	return binary.BigEndian.AppendUint16(b, protocol)
}

// checksumICMPv6 is that of RFC 8200, 8.1, over the pseudo-header as well.
func checksumICMPv6(from, to netip.Addr, message []byte) uint16 {
	sum := uint32(len(message)) + protocolICMPv6
	add := func(b []byte) {
		for i := 0; i+1 < len(b); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(b[i:]))
		}
		if len(b)%2 == 1 {
			sum += uint32(b[len(b)-1]) << 8
		}
	}
	add(from.AsSlice())
	add(to.AsSlice())
	add(message)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// parseClaim understands ARP replies, gratuitous ARP requests and Neighbor
// Advertisements.
func parseClaim(frame []byte) (claim, bool) {
	if len(frame) < 14 {
		return claim{}, false
	}
	to, from, body := net.HardwareAddr(bytes.Clone(frame[:6])), net.HardwareAddr(bytes.Clone(frame[6:12])), frame[14:]
	var c claim
	var ok bool
	switch binary.BigEndian.Uint16(frame[12:]) {
	case etherARP:
		c, ok = parseARP(body)
	case etherIPv6:
		c, ok = parseAdvertisement(body, from)
	}
	c.to = to
	return c, ok
}

func parseARP(b []byte) (claim, bool) {
	if len(b) < 28 || !bytes.Equal(b[:6], []byte{0, 1, 0x08, 0x00, 6, 4}) {
		return claim{}, false
	}
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	operation := binary.BigEndian.Uint16(b[6:])
	if operation != arpReply && (operation != arpRequest || sender != target) {
		return claim{}, false
	}
	return claim{ip: sender, mac: bytes.Clone(b[8:14])}, true
}

func parseAdvertisement(b []byte, from net.HardwareAddr) (claim, bool) {
	const header = 40
	if len(b) < header+24 || b[6] != protocolICMPv6 || b[header] != neighbourAdvert {
		return claim{}, false
	}
	message := b[header:]
	// Without the option, which a unicast answer may omit, the frame's sender it is.
	c := claim{ip: netip.AddrFrom16([16]byte(message[8:24])), mac: from}
	for options := message[24:]; len(options) >= 8; {
		length := int(options[1]) * 8
		if length == 0 || length > len(options) {
			return claim{}, false
		}
		if options[0] == optionTargetAddress {
			c.mac = bytes.Clone(options[2:8])
		}
		options = options[length:]
	}
	return c, true
}
