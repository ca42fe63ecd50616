package bgp

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// decode returns UPDATEs as the codec reads them: per prefix its attributes, in order of
// their types on the wire, or "withdrawn"; and the bytes of the largest.
func decode(t *testing.T, updates []update) (map[string]string, int) {
	t.Helper()
	out, largest := map[string]string{}, 0
	for _, u := range updates {
		largest = max(largest, len(u.message))
		if err := checkUpdate(u.message); err != nil {
			t.Errorf("it would refuse its own UPDATE: %v", err)
		}
		parsed, err := gobgp.ParseBGPMessage(u.message)
		if err != nil {
			t.Fatal(err)
		}
		m := parsed.Body.(*gobgp.BGPUpdate)
		var text string
		reach, unreach := list(m.NLRI), list(m.WithdrawnRoutes)
		for _, a := range m.PathAttributes {
			switch a := a.(type) {
			case *gobgp.PathAttributeMpReachNLRI:
				reach = append(reach, list(a.Value)...)
				text += fmt.Sprintf("MP(%v) ", a.Nexthop)
			case *gobgp.PathAttributeMpUnreachNLRI:
				unreach = append(unreach, list(a.Value)...)
			case *gobgp.PathAttributeAs4Path:
				text += fmt.Sprintf("{As4Path: %v} ", a.Value[0].AS)
			default:
				text += a.String() + " "
			}
		}
		for _, p := range reach {
			out[p.String()] = text
		}
		for _, p := range unreach {
			out[p.String()] = "withdrawn"
		}
		if len(reach) != u.announced || len(unreach) != u.withdrawn {
			t.Errorf("%d and %d prefixes are counted as %d and %d", len(reach), len(unreach), u.announced, u.withdrawn)
		}
	}
	return out, largest
}

func TestEncode(t *testing.T) {
	four, six := prefix("198.51.100.1/32"), prefix("2001:db8:1::1/128")
	communities := pack([]lb.Community{{A: 65000, B: 1}, {Large: true, A: 64512, B: 1, C: 2}})
	tests := []struct {
		name   string
		e      encoding
		change change
		want   string
	}{
		{
			name: "IPv4", e: encoding{asn: 64512, fourOctetASN: true}, change: change{prefix: four, announce: announcement{nextHop: node4}},
			want: "{Origin: i} {AsPath: 64512} {Nexthop: 192.0.2.11} ",
		},
		{
			name: "IPv4 with an IPv6 next hop", e: encoding{asn: 64512, fourOctetASN: true}, change: change{prefix: four, announce: announcement{nextHop: node6}},
			want: "MP(2001:db8::11) {Origin: i} {AsPath: 64512} ",
		},
		{
			name: "everything", e: encoding{asn: 64512, fourOctetASN: true},
			change: change{prefix: six, announce: announcement{nextHop: node6, med: lb.Some[uint32](50), path: 1, communities: communities}},
			want:   "MP(2001:db8::11) {Origin: i} {AsPath: 64512 64512} {Med: 50} {Communities: 65000:1} {LargeCommunity: [ 64512:1:2]} ",
		},
		{
			name: "internal", e: encoding{asn: 64512, internal: true, fourOctetASN: true},
			change: change{prefix: four, announce: announcement{nextHop: node4, localPref: lb.Some[uint32](200)}},
			want:   "{Origin: i} {AsPath: } {Nexthop: 192.0.2.11} {LocalPref: 200} ",
		},
		{
			name: "a long AS number", e: encoding{asn: 4200000002, fourOctetASN: true}, change: change{prefix: four, announce: announcement{nextHop: node4, path: 1}},
			want: "{Origin: i} {AsPath: 4200000002 4200000002} {Nexthop: 192.0.2.11} ",
		},
		{
			name: "AS numbers of two octets", e: encoding{asn: 64512}, change: change{prefix: four, announce: announcement{nextHop: node4, path: 1}},
			want: "{Origin: i} {AsPath: 64512 64512} {Nexthop: 192.0.2.11} ",
		},
		{
			name: "a long AS number where two octets fit", e: encoding{asn: 4200000002}, change: change{prefix: four, announce: announcement{nextHop: node4, path: 1}},
			want: "{Origin: i} {AsPath: 23456 23456} {Nexthop: 192.0.2.11} {As4Path: [4200000002 4200000002]} ",
		},
		{name: "IPv4 withdrawn", change: change{prefix: four, withdraw: true}, want: "withdrawn"},
		{name: "IPv6 withdrawn", change: change{prefix: six, withdraw: true}, want: "withdrawn"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			updates, err := tt.e.encode(groupChanges([]change{tt.change})[0])
			if err != nil {
				t.Fatal(err)
			}
			got, _ := decode(t, updates)
			if d := cmp.Diff(map[string]string{tt.change.prefix.String(): tt.want}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

// Prefixes with the same attributes share UPDATEs, which are as full as they may be.
func TestPacking(t *testing.T) {
	e := encoding{asn: 64512, fourOctetASN: true}
	for _, tt := range []struct {
		name    string
		hop     netip.Addr
		prefix  func(i int) netip.Prefix
		n, want int
	}{
		{"IPv4", node4, func(i int) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 32)
		}, 10_000, 13},
		{"IPv6", node6, func(i int) netip.Prefix {
			return netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 14: byte(i >> 8), 15: byte(i)}), 128)
		}, 10_000, 43},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var changes []change
			for i := range tt.n {
				changes = append(changes, change{prefix: tt.prefix(i), announce: announcement{nextHop: tt.hop}})
			}
			updates, err := e.encode(groupChanges(changes)[0])
			if err != nil {
				t.Fatal(err)
			}
			got, largest := decode(t, updates)
			if len(got) != tt.n || largest > maxMessage || len(updates) != tt.want {
				t.Errorf("%d prefixes in %d UPDATEs of at most %d bytes; want %d in %d", len(got), len(updates), largest, tt.n, tt.want)
			}
		})
	}
	// Attributes that leave no room for a prefix are an error, not an UPDATE that is too long.
	var many []lb.Community
	for i := range 1100 {
		many = append(many, lb.Community{A: 65000, B: uint32(i)})
	}
	if _, err := e.encode(groupChanges([]change{{prefix: prefix("10.0.0.1/32"), announce: announcement{nextHop: node4, communities: pack(many)}}})[0]); err == nil {
		t.Error("1,100 communities fit into an UPDATE")
	}
}
