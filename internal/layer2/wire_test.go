package layer2

import (
	"encoding/binary"
	"net/netip"
	"testing"

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
