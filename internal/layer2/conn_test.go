package layer2

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"reflect"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"
)

func solicitation(target netip.Addr) ndp.Message {
	return &ndp.NeighborSolicitation{TargetAddress: target}
}

func advertisement(target netip.Addr) ndp.Message {
	return &ndp.NeighborAdvertisement{TargetAddress: target}
}

// ndpPacket returns an IPv6 packet with a message about the target.
func ndpPacket(t testing.TB, message func(netip.Addr) ndp.Message, from, target string, hopLimit byte) []byte {
	return ndpPacketTo(t, message, from, "ff02::1:ff00:100", target, hopLimit)
}

func ndpPacketTo(t testing.TB, message func(netip.Addr) ndp.Message, from, to, target string, hopLimit byte) []byte {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr(to)
	msg, err := ndp.MarshalMessageChecksum(message(netip.MustParseAddr(target)), src, dst)
	if err != nil {
		t.Fatal(err)
	}
	b := make([]byte, ipv6.HeaderLen, ipv6.HeaderLen+len(msg))
	b[0] = 6 << 4
	binary.BigEndian.PutUint16(b[4:], uint16(len(msg)))
	b[6], b[7] = protocolICMPv6, hopLimit
	copy(b[8:], src.AsSlice())
	copy(b[24:], dst.AsSlice())
	return append(b, msg...)
}

func solicitationFrom(mac net.HardwareAddr) func(netip.Addr) ndp.Message {
	return func(target netip.Addr) ndp.Message {
		return &ndp.NeighborSolicitation{TargetAddress: target, Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: mac}}}
	}
}

func advertisementOf(mac net.HardwareAddr, solicited, override bool) func(netip.Addr) ndp.Message {
	return func(target netip.Addr) ndp.Message {
		return &ndp.NeighborAdvertisement{
			TargetAddress: target, Solicited: solicited, Override: override,
			Options: []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: mac}},
		}
	}
}

// withChecksum changes a packet and corrects its checksum.
func withChecksum(packet []byte, change func(message []byte) []byte) []byte {
	b := bytes.Clone(packet)
	b = append(b[:ipv6.HeaderLen], change(bytes.Clone(b[ipv6.HeaderLen:]))...)
	message := b[ipv6.HeaderLen:]
	binary.BigEndian.PutUint16(b[4:], uint16(len(message)))
	message[2], message[3] = 0, 0
	sum := checksumICMPv6(netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), message)
	binary.BigEndian.PutUint16(message[2:], sum)
	return b
}

func TestParseNDP(t *testing.T) {
	vip6, from, self := netip.MustParseAddr("2001:db8::100"), netip.MustParseAddr("fe80::1"), netip.MustParseAddr("fe80::99")
	none, mac := netip.IPv6Unspecified(), net.HardwareAddr{2, 0, 0, 0, 0, 1}
	const target = "2001:db8::100"
	good := ndpPacket(t, solicitation, "fe80::1", target, 255)
	goodNA := ndpPacketTo(t, advertisementOf(ghost, false, true), "fe80::1", "ff02::1", target, 255)
	for name, tt := range map[string]struct {
		packet []byte
		want   frame
	}{
		"a solicitation, padded as in a short frame": {append(bytes.Clone(good), 0, 0, 0, 0), frame{MAC: mac, Source: mac, Sender: from, Target: vip6, Claimed: from}},
		"a solicitation by another frame's sender":   {ndpPacket(t, solicitationFrom(ghost), "fe80::1", target, 255), frame{MAC: ghost, Source: mac, Sender: from, Target: vip6, Claimed: from}},
		"a solicitation to the address itself":       {ndpPacketTo(t, solicitation, "fe80::1", target, target, 255), frame{MAC: mac, Source: mac, Sender: from, Target: vip6, Claimed: from}},
		"a probe":                                    {ndpPacket(t, solicitation, "::", target, 255), frame{MAC: mac, Source: mac, Sender: none, Target: vip6}},
		"a probe with a nonce":                       {withChecksum(ndpPacket(t, solicitation, "::", target, 255), func(m []byte) []byte { return append(m, 14, 1, 1, 2, 3, 4, 5, 6) }), frame{MAC: mac, Source: mac, Sender: none, Target: vip6}},
		"an advertisement":                           {goodNA, frame{MAC: ghost, Source: mac, Sender: from, Claimed: vip6}},
		"an advertisement without override":          {ndpPacketTo(t, advertisementOf(ghost, false, false), "fe80::1", "ff02::1", target, 255), frame{MAC: ghost, Source: mac, Sender: from, Claimed: vip6}},
		"an advertisement without an option":         {ndpPacketTo(t, advertisement, "fe80::1", "ff02::1", target, 255), frame{MAC: mac, Source: mac, Sender: from, Claimed: vip6}},
		"an answer":                                  {ndpPacketTo(t, advertisementOf(ghost, true, true), "fe80::1", "fe80::99", target, 255), frame{MAC: ghost, Source: mac, Sender: from, Claimed: vip6, Reply: true}},
		"an answer to another host":                  {ndpPacketTo(t, advertisementOf(ghost, true, true), "fe80::1", "fe80::98", target, 255), frame{MAC: ghost, Source: mac, Sender: from, Claimed: vip6}},
		"an unknown option before the address":       {withChecksum(goodNA, func(m []byte) []byte { return append(append(bytes.Clone(m[:24]), 99, 1, 0, 0, 0, 0, 0, 0), m[24:]...) }), frame{MAC: ghost, Source: mac, Sender: from, Claimed: vip6}},
	} {
		if got, ok := parseNDP(tt.packet, mac, self); !ok || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %t, want %+v", name, got, ok, tt.want)
		}
	}
	option := func(kind, length byte, rest ...byte) []byte {
		return withChecksum(good, func(m []byte) []byte { return append(append(m, kind, length), rest...) })
	}
	change := func(at int, to byte) []byte { b := bytes.Clone(good); b[at] = to; return b }
	for name, b := range map[string][]byte{
		"crossed a router":                       ndpPacket(t, solicitation, "fe80::1", target, 254),
		"cut short":                              good[:len(good)-5],
		"no header":                              good[:12],
		"nothing":                                nil,
		"not IPv6":                               change(0, 4<<4),
		"another protocol":                       change(6, 17),
		"a payload longer than the packet":       change(5, 200),
		"a wrong checksum":                       change(ipv6.HeaderLen+2, good[ipv6.HeaderLen+2]^1),
		"another code":                           withChecksum(good, func(m []byte) []byte { m[1] = 1; return m }),
		"another type":                           withChecksum(good, func(m []byte) []byte { m[0] = 134; return m }),
		"shorter than a solicitation":            withChecksum(good, func(m []byte) []byte { return m[:20] }),
		"a multicast target":                     ndpPacket(t, solicitation, "fe80::1", "ff02::1", 255),
		"a multicast sender":                     withChecksum(change(8, 0xff), func(m []byte) []byte { return m }),
		"a probe that is not for the group":      ndpPacketTo(t, solicitation, "::", "ff02::1", target, 255),
		"a probe that names the sender":          ndpPacket(t, solicitationFrom(ghost), "::", target, 255),
		"a solicited advertisement to all":       ndpPacketTo(t, advertisementOf(ghost, true, true), "fe80::1", "ff02::1", target, 255),
		"an option of length 0":                  option(1, 0, 0, 0, 0, 0, 0, 0),
		"an option that is cut short":            option(1, 2, 0, 0, 0, 0, 0, 0),
		"one byte of an option":                  withChecksum(good, func(m []byte) []byte { return append(m, 1) }),
		"a link-layer address of 14 bytes":       option(1, 2, make([]byte, 14)...),
		"a link-layer address that is multicast": ndpPacket(t, solicitationFrom(broadcast), "fe80::1", target, 255),
		"a link-layer address that is zero":      ndpPacket(t, solicitationFrom(make(net.HardwareAddr, 6)), "fe80::1", target, 255),
	} {
		if h, ok := parseNDP(b, mac, self); ok {
			t.Errorf("%s: taken for %+v", name, h)
		}
	}
}

// The packet that asks a host is one that hosts accept.
func TestMarshalSolicitation(t *testing.T) {
	from, vip6 := netip.MustParseAddr("fe80::99"), netip.MustParseAddr("2001:db8::100")
	b, err := marshalSolicitation(from, own, vip6)
	if err != nil {
		t.Fatal(err)
	}
	want := frame{MAC: own, Source: ghost, Sender: from, Target: vip6, Claimed: from}
	if got, ok := parseNDP(b, ghost, vip6); !ok || !reflect.DeepEqual(got, want) {
		t.Errorf("got %+v, %t, want %+v", got, ok, want)
	}
}

func arpPacket(t testing.TB, op arp.Operation, from, target string) []byte {
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	p, err := arp.NewPacket(op, mac, netip.MustParseAddr(from), make(net.HardwareAddr, 6), netip.MustParseAddr(target))
	if err != nil {
		t.Fatal(err)
	}
	b, err := p.MarshalBinary()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestParseARP(t *testing.T) {
	mac, self := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 0x77}
	good := arpPacket(t, arp.OperationRequest, "192.0.2.50", "192.0.2.100")
	changed := func(b []byte, at int, to ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], to)
		return b
	}
	reply := arpPacket(t, arp.OperationReply, "192.0.2.100", "0.0.0.0")
	for name, tt := range map[string]struct {
		packet []byte
		want   frame
	}{
		"a request, padded as in a short frame": {append(bytes.Clone(good), make([]byte, 18)...), frame{Sender: querier, Target: vip, Claimed: querier}},
		"a probe":                               {arpPacket(t, arp.OperationRequest, "0.0.0.0", "192.0.2.100"), frame{Sender: netip.IPv4Unspecified(), Target: vip}},
		"a reply to another":                    {arpPacket(t, arp.OperationReply, "192.0.2.100", "192.0.2.50"), frame{Sender: vip, Claimed: vip}},
		"a reply to this host":                  {changed(reply, 18, self...), frame{Sender: vip, Claimed: vip, Reply: true}},
		"an announcement":                       {arpPacket(t, arp.OperationRequest, "192.0.2.100", "192.0.2.100"), frame{Sender: vip, Claimed: vip}},
		"a gratuitous reply":                    {changed(arpPacket(t, arp.OperationReply, "192.0.2.100", "192.0.2.100"), 18, broadcast...), frame{Sender: vip, Claimed: vip}},
		"a request from none":                   {arpPacket(t, arp.OperationRequest, "192.0.2.50", "0.0.0.0"), frame{Sender: querier, Target: netip.IPv4Unspecified(), Claimed: querier}},
	} {
		tt.want.MAC, tt.want.Source = mac, ghost
		if got, ok := parseARP(tt.packet, ghost, self); !ok || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %t, want %+v", name, got, ok, tt.want)
		}
	}
	for name, b := range map[string][]byte{
		"another operation":                arpPacket(t, 3, "192.0.2.50", "192.0.2.100"),
		"hardware addresses of 255 bytes":  changed(good, 4, 255),
		"hardware that is not Ethernet":    changed(good, 0, 0, 6),
		"another protocol than IPv4":       changed(good, 2, 0x86, 0xdd),
		"protocol addresses of 16 bytes":   changed(good, 5, 16),
		"a sender's MAC of zero":           changed(good, 8, 0, 0, 0, 0, 0, 0),
		"a sender's MAC that is broadcast": changed(good, 8, broadcast...),
		"a sender's MAC that is multicast": changed(good, 8, 1, 0, 0x5e, 0, 0, 1),
		"a sender that is multicast":       arpPacket(t, arp.OperationRequest, "224.0.0.1", "192.0.2.100"),
		"a sender that is broadcast":       arpPacket(t, arp.OperationRequest, "255.255.255.255", "192.0.2.100"),
		"a sender that is loopback":        arpPacket(t, arp.OperationRequest, "127.0.0.1", "192.0.2.100"),
		"a target that is loopback":        arpPacket(t, arp.OperationRequest, "192.0.2.50", "127.0.0.1"),
		"a reply from no address":          arpPacket(t, arp.OperationReply, "0.0.0.0", "192.0.2.100"),
		"about no address":                 arpPacket(t, arp.OperationRequest, "0.0.0.0", "0.0.0.0"),
		"cut short":                        good[:lenARP-1],
		"nothing":                          nil,
	} {
		if h, ok := parseARP(b, ghost, self); ok {
			t.Errorf("%s: taken for %+v", name, h)
		}
	}
}

// The filter drops unicast replies to the kernel's own queries, but accepts packets of a host
// that uses an announced address.
func TestARPFilter(t *testing.T) {
	filter, err := bpf.NewVM(arpFilter)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name           string
		op             arp.Operation
		sender, target string
		want           bool
	}{
		{"a query", arp.OperationRequest, "10.0.0.7", "10.0.0.9", true},
		{"a probe", arp.OperationRequest, "0.0.0.0", "10.0.0.9", true},
		{"the reply to the kernel's query", arp.OperationReply, "10.0.0.7", "10.0.0.1", false},
		{"the answer to a probe", arp.OperationReply, "10.0.0.9", "0.0.0.0", true},
		{"the answer to an announcement", arp.OperationReply, "10.0.0.9", "10.0.0.9", true},
	} {
		b := arpPacket(t, tt.op, tt.sender, tt.target)
		if n, err := filter.Run(b); err != nil || (n >= len(b)) != tt.want {
			t.Errorf("%s: the filter lets %d of %d bytes through (%v), want it through: %t", tt.name, n, len(b), err, tt.want)
		}
	}
}

func FuzzParseARP(f *testing.F) {
	f.Add(arpPacket(f, arp.OperationRequest, "192.0.2.50", "192.0.2.100"))
	f.Add(arpPacket(f, arp.OperationReply, "192.0.2.100", "192.0.2.50"))
	f.Add(arpPacket(f, arp.OperationReply, "192.0.2.100", "0.0.0.0"))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseARP(b, ghost, own)
		if ok && (!h.Sender.Is4() || h.Target.IsValid() && !h.Target.Is4() || h.Claimed.IsUnspecified() || !isUnicastMAC(h.MAC)) {
			t.Errorf("%x: %+v", b, h)
		}
	})
}

func FuzzParseNDP(f *testing.F) {
	for _, from := range []string{"fe80::1", "::"} {
		f.Add(ndpPacket(f, solicitation, from, "2001:db8::100", 255), true)
	}
	f.Add(ndpPacketTo(f, advertisement, "fe80::1", "ff02::1", "2001:db8::100", 255), true)
	f.Add(ndpPacketTo(f, advertisementOf(ghost, true, true), "fe80::1", "fe80::99", "2001:db8::100", 255), false)
	f.Fuzz(func(t *testing.T, b []byte, correct bool) {
		if end := ipv6.HeaderLen; correct && len(b) >= end+8 { // or the fuzzer does not get past the checksum
			b = withChecksum(b, func(m []byte) []byte { return m })
		}
		h, ok := parseNDP(b, ghost, netip.MustParseAddr("fe80::99"))
		if ok && (!h.Sender.IsValid() || h.Target.IsMulticast() || h.Claimed.IsMulticast() || !h.Target.IsValid() && !h.Claimed.IsValid() || !isUnicastMAC(h.MAC)) {
			t.Errorf("%x: %+v", b, h)
		}
	})
}
