package bgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	api "github.com/osrg/gobgp/v3/api"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/lb"
)

// maxPrepend is how many AS numbers fit into the one segment of the AS_PATH that
// GoBGP writes, besides the one it adds.
const maxPrepend = 254

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
		out.localPref = a.LocalPref
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

// attributes returns the path attributes as GoBGP takes them (RFC 4271, 5.1).
// GoBGP adds our AS number to the path of an external peer.
func (a announcement) attributes(asn uint32) ([]*anypb.Any, error) {
	messages := []proto.Message{
		&api.OriginAttribute{Origin: 0}, // IGP: from inside our AS
		&api.NextHopAttribute{NextHop: a.nextHop.WithZone("").String()},
	}
	if a.path > 0 {
		messages = append(messages, &api.AsPathAttribute{Segments: []*api.AsSegment{
			{Type: api.AsSegment_AS_SEQUENCE, Numbers: slices.Repeat([]uint32{asn}, a.path)},
		}})
	}
	if a.localPref.Set {
		messages = append(messages, &api.LocalPrefAttribute{LocalPref: a.localPref.Value})
	}
	if a.med.Set {
		messages = append(messages, &api.MultiExitDiscAttribute{Med: a.med.Value})
	}
	var standard []uint32
	var large []*api.LargeCommunity
	for _, c := range unpack(a.communities) {
		if c.Large {
			large = append(large, &api.LargeCommunity{GlobalAdmin: c.A, LocalData1: c.B, LocalData2: c.C})
		} else {
			standard = append(standard, c.Number())
		}
	}
	if len(standard) > 0 {
		messages = append(messages, &api.CommunitiesAttribute{Communities: standard})
	}
	if len(large) > 0 {
		messages = append(messages, &api.LargeCommunitiesAttribute{Communities: large})
	}
	out := make([]*anypb.Any, len(messages))
	for i, m := range messages {
		var err error
		if out[i], err = anypb.New(m); err != nil {
			return nil, fmt.Errorf("pack attributes: %w", err)
		}
	}
	return out, nil
}
