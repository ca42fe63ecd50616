package bgp

import (
	"encoding/binary"
	"net/netip"
	"slices"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const (
	// maxPrepend is how many AS numbers fit into one segment of the AS_PATH, besides the
	// one that must be there.
	maxPrepend = 254
	// defaultLocalPref is for rows that have none. An internal router must be told one
	// (RFC 4271, 5.1.5).
	defaultLocalPref = 100
)

// announcement is what is said about a prefix to one router: two that are equal
// need no UPDATE.
type announcement struct {
	nextHop     netip.Addr
	localPref   lb.Optional[uint32]
	med         lb.Optional[uint32]
	path        int    // our AS number so many times more
	communities string // packed, so that announcements compare with ==
}

// announcementOf returns how the row is announced to the peer. internal is
// whether the router is in our AS.
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
		// RFC 8326, 4.2: the community tells other ASes. In our own nobody needs to be
		// told what it means when the preference says it.
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

// attributes returns the path attributes but those that have prefixes or the next hop
// (RFC 4271, 5.1), by their types.
func (e encoding) attributes(a announcement) []gobgp.PathAttributeInterface {
	path, four := e.path(a.path)
	out := []gobgp.PathAttributeInterface{
		gobgp.NewPathAttributeOrigin(gobgp.BGP_ORIGIN_ATTR_TYPE_IGP), // from inside our AS
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

// path returns AS_PATH: nothing for an internal peer, else our AS number, and as many
// times more. A router whose AS numbers have two octets gets AS_TRANS for one that
// does not fit, and the true one in AS4_PATH (RFC 6793, 4.2.2).
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

// twoOctets returns an AS number where two octets are for it.
func twoOctets(asn uint32) uint16 {
	if asn > 0xffff {
		return gobgp.AS_TRANS
	}
	return uint16(asn)
}
