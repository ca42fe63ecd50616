package bgp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const (
	// maxPrepend is how many AS numbers fit into one segment of the AS_PATH in addition to
	// the required one.
	maxPrepend = 254
	// defaultLocalPref is for rows without a value. LOCAL_PREF is mandatory for internal
	// peers (RFC 4271, 5.1.5).
	defaultLocalPref = 100
)

// announcement has the attributes of a prefix for one router. If two are equal, no UPDATE is
// needed.
type announcement struct {
	nextHop     netip.Addr
	localPref   lb.Optional[uint32]
	med         lb.Optional[uint32]
	path        int    // number of prepended AS numbers
	communities string // packed, so that announcements are comparable with ==
}

// announcementOf returns the announcement of a row to a peer. internal says that the router is
// in this node's AS.
func announcementOf(a lb.BGPAttributes, nextHop netip.Addr, internal bool) announcement {
	communities := a.Communities
	out := announcement{nextHop: nextHop, med: a.MED}
	if internal {
		out.localPref = lb.Some[uint32](defaultLocalPref)
		if a.LocalPref.Set {
			out.localPref = a.LocalPref
		}
	} else {
		out.path = min(int(a.Prepend), maxPrepend)
	}
	if a.Drain {
		// RFC 8326, 4.2: the community is for other ASes. Internal routers may not know it,
		// but use LOCAL_PREF.
		communities = lb.UniteCommunities(communities, []lb.Community{lb.GracefulShutdown})
		if internal {
			out.localPref = lb.Some[uint32](0)
		}
	}
	out.communities = pack(communities)
	return out
}

func pack(communities []lb.Community) string {
	var b []byte
	for _, c := range communities {
		n := uint32(0)
		if c.Large {
			n = 1
		}
		for _, v := range [...]uint32{n, c.A, c.B, c.C} {
			b = binary.BigEndian.AppendUint32(b, v)
		}
	}
	return string(b)
}

func unpack(s string) []lb.Community {
	b := []byte(s)
	var out []lb.Community
	for group := range slices.Chunk(b, 16) {
		n := func(i int) uint32 { return binary.BigEndian.Uint32(group[4*i:]) }
		out = append(out, lb.Community{Large: n(0) == 1, A: n(1), B: n(2), C: n(3)})
	}
	return out
}

// attributes returns the path attributes, ordered by type, without those for prefixes and the
// next hop (RFC 4271, 5.1).
func (e encoding) attributes(a announcement) []gobgp.PathAttributeInterface {
	path, four := e.path(a.path)
	out := []gobgp.PathAttributeInterface{
		gobgp.NewPathAttributeOrigin(gobgp.BGP_ORIGIN_ATTR_TYPE_IGP), // originated in this AS
		path,
	}
	if a.med.Set {
		out = append(out, gobgp.NewPathAttributeMultiExitDisc(a.med.Value))
	}
	if a.localPref.Set {
		out = append(out, gobgp.NewPathAttributeLocalPref(a.localPref.Value))
	}
	var standard []uint32
	var large []*gobgp.LargeCommunity
	for _, c := range unpack(a.communities) {
		if c.Large {
			large = append(large, gobgp.NewLargeCommunity(c.A, c.B, c.C))
		} else {
			standard = append(standard, c.Number())
		}
	}
	if len(standard) > 0 {
		out = append(out, gobgp.NewPathAttributeCommunities(standard))
	}
	if four != nil {
		out = append(out, four)
	}
	if len(large) > 0 {
		out = append(out, gobgp.NewPathAttributeLargeCommunities(large))
	}
	return out
}

// path returns AS_PATH: empty for an internal peer, otherwise this node's AS number, repeated
// by prepend. For a router with two-octet AS numbers, a longer number is AS_TRANS, and
// AS4_PATH has the real one (RFC 6793, 4.2.2).
func (e encoding) path(prepend int) (path, four gobgp.PathAttributeInterface) {
	if e.internal {
		return gobgp.NewPathAttributeAsPath(nil), nil
	}
	asns := slices.Repeat([]uint32{e.asn}, 1+prepend)
	all := gobgp.NewAs4PathParam(gobgp.BGP_ASPATH_ATTR_TYPE_SEQ, asns)
	switch {
	case e.fourOctetASN:
		return gobgp.NewPathAttributeAsPath([]gobgp.AsPathParamInterface{all}), nil
	case e.asn > 0xffff:
		four = gobgp.NewPathAttributeAs4Path([]*gobgp.As4PathParam{all})
	}
	short := slices.Repeat([]uint16{twoOctets(e.asn)}, 1+prepend)
	return gobgp.NewPathAttributeAsPath([]gobgp.AsPathParamInterface{gobgp.NewAsPathParam(gobgp.BGP_ASPATH_ATTR_TYPE_SEQ, short)}), four
}

// twoOctets returns an AS number for a field of two octets.
func twoOctets(asn uint32) uint16 {
	if asn > 0xffff {
		return gobgp.AS_TRANS
	}
	return uint16(asn)
}
