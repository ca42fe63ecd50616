package layer2

import (
	"bytes"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"golang.org/x/net/ipv6"
)

// solicitation returns an IPv6 packet with a neighbor solicitation.
func solicitation(t testing.TB, from, target string, hopLimit byte) []byte {
	src, dst := netip.MustParseAddr(from), netip.MustParseAddr("ff02::1")
	msg, err := ndp.MarshalMessageChecksum(&ndp.NeighborSolicitation{TargetAddress: netip.MustParseAddr(target)}, src, dst)
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

func TestParseSolicitation(t *testing.T) {
	good := solicitation(t, "fe80::1", "2001:db8::100", 255)
	q, ok := parseSolicitation(append(good, 0, 0, 0, 0)) // padding of a short frame
	if !ok || q.Target != netip.MustParseAddr("2001:db8::100") || q.From != netip.MustParseAddr("fe80::1") {
		t.Errorf("got %+v, %t", q, ok)
	}
	for name, b := range map[string][]byte{
		"crossed a router": solicitation(t, "fe80::1", "2001:db8::100", 254),
		"cut short":        good[:len(good)-5],
		"no header":        good[:12],
		"nothing":          nil,
	} {
		if q, ok := parseSolicitation(b); ok {
			t.Errorf("%s: taken for %+v", name, q)
		}
	}
}

func request(t testing.TB, op arp.Operation, from, target string) []byte {
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

func TestParseRequest(t *testing.T) {
	good := request(t, arp.OperationRequest, "192.0.2.50", "192.0.2.100")
	q, ok := parseRequest(append(good, 0, 0, 0, 0)) // padding of a short frame
	if !ok || q.Target != vip || q.From != asker || q.MAC.String() != "02:00:00:00:00:01" {
		t.Errorf("got %+v, %t", q, ok)
	}
	wrongLength := bytes.Clone(good)
	wrongLength[4] = 255 // of hardware addresses
	for name, b := range map[string][]byte{
		"a reply":                         request(t, arp.OperationReply, "192.0.2.50", "192.0.2.100"),
		"an announcement":                 request(t, arp.OperationRequest, "192.0.2.100", "192.0.2.100"),
		"hardware addresses of 255 bytes": wrongLength,
		"cut short":                       good[:20],
		"nothing":                         nil,
	} {
		if q, ok := parseRequest(b); ok {
			t.Errorf("%s: taken for %+v", name, q)
		}
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(request(f, arp.OperationRequest, "192.0.2.50", "192.0.2.100"))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, ok := parseRequest(b)
		if ok && (!q.Target.Is4() || !q.From.Is4() || len(q.MAC) != 6) {
			t.Errorf("%x: %+v", b, q)
		}
	})
}

func FuzzParseSolicitation(f *testing.F) {
	f.Add(solicitation(f, "fe80::1", "2001:db8::100", 255))
	f.Add(solicitation(f, "::", "2001:db8::100", 255))
	f.Fuzz(func(t *testing.T, b []byte) {
		q, ok := parseSolicitation(b)
		if ok && (!q.Target.Is6() || !q.From.IsValid()) {
			t.Errorf("%x: %+v", b, q)
		}
	})
}
