package layer2

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"slices"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// The parsers accept exactly the packets that hosts accept: a packet that neighbours ignore
// does not change their caches, and so is not a conflict.

// frame is the content of one received ARP or NDP packet.
type frame struct {
	// MAC is the hardware address that neighbours put into their caches: in ARP the
	// sender's hardware address; in NDP that of the link-layer address option, or without
	// the option that of the Ethernet frame.
	MAC     net.HardwareAddr
	Source  net.HardwareAddr // source address of the Ethernet frame
	Sender  netip.Addr       // the sender's address; unspecified in a probe
	Target  netip.Addr       // the address that is queried; not valid if the packet is not a query
	Claimed netip.Addr       // the address that the sender claims; not valid without a claim
	Reply   bool             // it is a reply to a query of this interface, sent to it alone
}

// ethernetARP are the first bytes of an ARP packet for IPv4 over Ethernet: the types and
// lengths of the addresses (RFC 826).
var ethernetARP = []byte{0, 1, 0x08, 0x00, 6, 4}

const lenARP = 28 // the rest of the frame is padding

// parseARP parses an ARP packet that an interface with the Ethernet address self received
// from the Ethernet address source. A request for the sender's own address is an
// announcement, not a query. Every packet claims its sender's address (RFC 5227, 2.4),
// except a probe, whose sender address is 0.0.0.0.
func parseARP(b []byte, source, self net.HardwareAddr) (frame, bool) {
	if len(b) < lenARP || !bytes.HasPrefix(b, ethernetARP) {
		return frame{}, false
	}
	op := arp.Operation(binary.BigEndian.Uint16(b[6:]))
	mac, targetMAC := net.HardwareAddr(slices.Clone(b[8:14])), net.HardwareAddr(b[18:24])
	sender, target := netip.AddrFrom4([4]byte(b[14:18])), netip.AddrFrom4([4]byte(b[24:28]))
	known := op == arp.OperationRequest || op == arp.OperationReply
	if !known || !isUnicastMAC(mac) || !isHostOrUnspecified(sender) || !isHostOrUnspecified(target) {
		return frame{}, false
	}
	f := frame{MAC: mac, Source: source, Sender: sender}
	if op == arp.OperationRequest && sender != target {
		f.Target = target
	}
	if !sender.IsUnspecified() {
		f.Claimed = sender
		f.Reply = op == arp.OperationReply && bytes.Equal(targetMAC, self)
	}
	return f, f.Target.IsValid() || f.Claimed.IsValid()
}

// isUnicastMAC reports whether a network interface can have the Ethernet address.
func isUnicastMAC(m net.HardwareAddr) bool {
	return len(m) == 6 && m[0]&1 == 0 && !bytes.Equal(m, make([]byte, 6))
}

// isHostOrUnspecified reports whether the IPv4 address can belong to a neighbour, or is
// 0.0.0.0. Hosts drop packets with other addresses (Linux: arp_process).
func isHostOrUnspecified(a netip.Addr) bool {
	return !a.IsMulticast() && !a.IsLoopback() && a != netip.AddrFrom4([4]byte{255, 255, 255, 255})
}

const (
	lenNeighbour = 24 // of a solicitation or advertisement without options (RFC 4861, 4.3, 4.4)
	solicited    = 0x40
)

// parseNDP parses an IPv6 packet that may be a Neighbor Solicitation or Advertisement. An
// interface with the link-local address self received it from the Ethernet address source.
// The conditions are those of RFC 4861, 7.1.1 and 7.1.2.
func parseNDP(b []byte, source net.HardwareAddr, self netip.Addr) (frame, bool) {
	from, to, message, ok := icmpv6(b)
	if !ok || len(message) < lenNeighbour || message[1] != 0 {
		return frame{}, false
	}
	target := netip.AddrFrom16([16]byte(message[8:24]))
	if target.IsMulticast() {
		return frame{}, false
	}
	f := frame{MAC: source, Source: source, Sender: from}
	switch ipv6.ICMPType(message[0]) {
	case ipv6.ICMPTypeNeighborSolicitation:
		mac, ok := linkLayerAddress(message[lenNeighbour:], ndp.Source)
		if !ok || from.IsUnspecified() && (mac != nil || !isSolicitedNode(to, target)) {
			return frame{}, false
		}
		f.setMAC(mac)
		f.Target = target
		if !from.IsUnspecified() {
			f.Claimed = from
		}
	case ipv6.ICMPTypeNeighborAdvertisement:
		mac, ok := linkLayerAddress(message[lenNeighbour:], ndp.Target)
		isSolicited := message[4]&solicited != 0
		if !ok || isSolicited && to.IsMulticast() {
			return frame{}, false
		}
		f.setMAC(mac)
		f.Claimed = target
		f.Reply = isSolicited && to == self
	default:
		return frame{}, false
	}
	return f, isUnicastMAC(f.MAC)
}

// setMAC sets the hardware address of the link-layer address option, if there is one.
func (f *frame) setMAC(mac net.HardwareAddr) {
	if mac != nil {
		f.MAC = mac
	}
}

// icmpv6 returns the ICMPv6 message of an IPv6 packet that no router forwarded and whose
// checksum is correct.
func icmpv6(b []byte) (from, to netip.Addr, message []byte, ok bool) {
	if len(b) < ipv6.HeaderLen || b[0]>>4 != 6 || b[6] != protocolICMPv6 || b[7] != ndp.HopLimit {
		return from, to, nil, false
	}
	end := ipv6.HeaderLen + int(binary.BigEndian.Uint16(b[4:])) // the rest of the frame is padding
	if end > len(b) {
		return from, to, nil, false
	}
	from, to = netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40]))
	message = b[ipv6.HeaderLen:end]
	if from.IsMulticast() || from.IsLoopback() || checksumICMPv6(from, to, message) != 0 {
		return from, to, nil, false
	}
	return from, to, message, true
}

// checksumICMPv6 returns the checksum of a message whose checksum field is zero, and zero
// for a message with a correct checksum (RFC 8200, 8.1; RFC 4443, 2.3).
func checksumICMPv6(from, to netip.Addr, message []byte) uint16 {
	sum := uint64(len(message)) + protocolICMPv6
	add := func(b []byte) {
		for ; len(b) >= 2; b = b[2:] {
			sum += uint64(binary.BigEndian.Uint16(b))
		}
		if len(b) == 1 {
			sum += uint64(b[0]) << 8
		}
	}
	src, dst := from.As16(), to.As16()
	add(src[:])
	add(dst[:])
	add(message)
	for sum>>16 != 0 {
		sum = sum&0xffff + sum>>16
	}
	return ^uint16(sum)
}

// linkLayerAddress returns the Ethernet address of the option, nil if there is none. ok is
// false for malformed options: of length 0, truncated, or longer than an Ethernet address
// needs.
func linkLayerAddress(options []byte, kind ndp.Direction) (mac net.HardwareAddr, ok bool) {
	for len(options) > 0 {
		if len(options) < 2 {
			return nil, false
		}
		n := 8 * int(options[1])
		if n == 0 || n > len(options) {
			return nil, false
		}
		if options[0] == byte(kind) && mac == nil {
			if n != 8 {
				return nil, false
			}
			mac = slices.Clone(options[2:8])
		}
		options = options[n:]
	}
	return mac, true
}

// isSolicitedNode reports whether group is the solicited-node group of the address.
func isSolicitedNode(group, a netip.Addr) bool {
	want, err := ndp.SolicitedNodeMulticast(a)
	return err == nil && group == want
}

// marshalSolicitation returns a unicast Neighbor Solicitation as an IPv6 packet, as a host
// sends it to verify a cache entry (RFC 4861, 7.3.3).
func marshalSolicitation(from netip.Addr, mac net.HardwareAddr, target netip.Addr) ([]byte, error) {
	message, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{
		TargetAddress: target,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}},
	}, from, target)
	if err != nil {
		return nil, err
	}
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(message))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(message)))
	b[6], b[7] = protocolICMPv6, ndp.HopLimit
	src, dst := from.As16(), target.As16()
	copy(b[8:], src[:])
	copy(b[24:], dst[:])
	return append(b, message...), nil
}
