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
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr("ff02::1")
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

func TestParseNDP(t *testing.T) {
	vip6, from := netip.MustParseAddr("2001:db8::100"), netip.MustParseAddr("fe80::1")
	good := ndpPacket(t, solicitation, "fe80::1", "2001:db8::100", 255)
	for name, tt := range map[string]struct {
		packet []byte
		want   heard
	}{
		"a solicitation, padded as in a short frame": {append(bytes.Clone(good), 0, 0, 0, 0), heard{From: from, Target: vip6, Has: from}},
		"a probe":          {ndpPacket(t, solicitation, "::", "2001:db8::100", 255), heard{From: netip.IPv6Unspecified(), Target: vip6}},
		"an advertisement": {ndpPacket(t, advertisement, "fe80::1", "2001:db8::100", 255), heard{From: from, Has: vip6}},
	} {
		if got, ok := parseNDP(tt.packet); !ok || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %t, want %+v", name, got, ok, tt.want)
		}
	}
	for name, b := range map[string][]byte{
		"crossed a router": ndpPacket(t, solicitation, "fe80::1", "2001:db8::100", 254),
		"cut short":        good[:len(good)-5],
		"no header":        good[:12],
		"nothing":          nil,
	} {
		if h, ok := parseNDP(b); ok {
			t.Errorf("%s: taken for %+v", name, h)
		}
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
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	good := arpPacket(t, arp.OperationRequest, "192.0.2.50", "192.0.2.100")
	for name, tt := range map[string]struct {
		packet []byte
		want   heard
	}{
		"a request, padded as in a short frame": {append(bytes.Clone(good), 0, 0, 0, 0), heard{MAC: mac, From: asker, Target: vip, Has: asker}},
		"a probe":                               {arpPacket(t, arp.OperationRequest, "0.0.0.0", "192.0.2.100"), heard{MAC: mac, From: netip.IPv4Unspecified(), Target: vip}},
		"a reply":                               {arpPacket(t, arp.OperationReply, "192.0.2.100", "192.0.2.50"), heard{MAC: mac, From: vip, Has: vip}},
		"an announcement":                       {arpPacket(t, arp.OperationRequest, "192.0.2.100", "192.0.2.100"), heard{MAC: mac, From: vip, Has: vip}},
	} {
		if got, ok := parseARP(tt.packet); !ok || !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: got %+v, %t, want %+v", name, got, ok, tt.want)
		}
	}
	wrongLength := bytes.Clone(good)
	wrongLength[4] = 255 // of hardware addresses
	for name, b := range map[string][]byte{
		"another operation":               arpPacket(t, 3, "192.0.2.50", "192.0.2.100"),
		"hardware addresses of 255 bytes": wrongLength,
		"cut short":                       good[:20],
		"nothing":                         nil,
	} {
		if h, ok := parseARP(b); ok {
			t.Errorf("%s: taken for %+v", name, h)
		}
	}
}

// Of what is said to this host alone, the answers to the kernel's own questions wake
// nobody; whoever has an address that is to be announced is heard.
func TestTellingARP(t *testing.T) {
	filter, err := bpf.NewVM(telling)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name           string
		op             arp.Operation
		sender, target string
		want           bool
	}{
		{"a question", arp.OperationRequest, "10.0.0.7", "10.0.0.9", true},
		{"a probe", arp.OperationRequest, "0.0.0.0", "10.0.0.9", true},
		{"the answer to the kernel's question", arp.OperationReply, "10.0.0.7", "10.0.0.1", false},
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
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseARP(b)
		if ok && (!h.From.Is4() || h.Target.IsValid() && !h.Target.Is4() || len(h.MAC) != 6) {
			t.Errorf("%x: %+v", b, h)
		}
	})
}

func FuzzParseNDP(f *testing.F) {
	f.Add(ndpPacket(f, solicitation, "fe80::1", "2001:db8::100", 255))
	f.Add(ndpPacket(f, solicitation, "::", "2001:db8::100", 255))
	f.Add(ndpPacket(f, advertisement, "fe80::1", "2001:db8::100", 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, ok := parseNDP(b)
		if ok && (!h.From.IsValid() || !h.Target.IsValid() && !h.Has.IsValid()) {
			t.Errorf("%x: %+v", b, h)
		}
	})
}
