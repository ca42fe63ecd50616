package bgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// encoding has the parameters of UPDATE messages to one router.
type encoding struct {
	asn          uint32 // this node's AS number in the session
	internal     bool
	fourOctetASN bool
}

// update is one UPDATE message and the number of its prefixes, for counters.
type update struct {
	message
	announced, withdrawn int // prefixes
}

// group has changes that fit into the same UPDATE: prefixes of one family with the same
// attributes, or prefixes to withdraw.
type group struct {
	announce announcement
	withdraw bool
	prefixes []netip.Prefix
}

// groupChanges groups changes that fit into the same UPDATE, in the order of the first change of
// each group.
func groupChanges(changes []change) []*group {
	type key struct {
		announcement
		withdraw, v4 bool
	}
	groups := map[key]*group{}
	var out []*group
	for _, c := range changes {
		k := key{c.announce, c.withdraw, c.prefix.Addr().Is4()}
		g := groups[k]
		if g == nil {
			g = &group{announce: c.announce, withdraw: c.withdraw}
			groups[k] = g
			out = append(out, g)
		}
		g.prefixes = append(g.prefixes, c.prefix)
	}
	return out
}

// encode returns the UPDATEs for a group: one, or as many as the prefixes need.
func (e encoding) encode(g *group) ([]update, error) {
	var attrs []gobgp.PathAttributeInterface
	if !g.withdraw {
		attrs = e.attributes(g.announce)
	}
	chunks, err := chunk(attrs, g.prefixes)
	if err != nil {
		return nil, err
	}
	out := make([]update, len(chunks))
	for i, prefixes := range chunks {
		m, err := newUpdate(g.announce.nextHop, attrs, prefixes).Serialize()
		if err != nil {
			return nil, fmt.Errorf("encode UPDATE: %w", err)
		}
		out[i] = update{message: m, announced: len(prefixes)}
		if g.withdraw {
			out[i] = update{message: m, withdrawn: len(prefixes)}
		}
	}
	return out, nil
}

// chunk splits prefixes into lists, each of which fits into one UPDATE with the attributes.
func chunk(attrs []gobgp.PathAttributeInterface, prefixes []netip.Prefix) ([][]netip.Prefix, error) {
	// The other parts of an UPDATE: header, two lengths, and of MP_REACH_NLRI (RFC 4760, 3)
	// header, family, next hop with its length, and one reserved octet. NEXT_HOP, which IPv4
	// has instead, is smaller.
	room := maxMessage - headerLen - 4 - (4 + 3 + 1 + 16 + 1)
	for _, a := range attrs {
		b, err := a.Serialize()
		if err != nil {
			return nil, fmt.Errorf("encode attribute %s: %w", a.GetType(), err)
		}
		room -= len(b)
	}
	var out [][]netip.Prefix
	left := 0
	for _, p := range prefixes {
		size := 1 + (p.Bits()+7)/8
		if left < size {
			if room < size {
				return nil, fmt.Errorf("the attributes of %s do not fit into an UPDATE; use fewer communities", p)
			}
			out, left = append(out, nil), room
		}
		out[len(out)-1] = append(out[len(out)-1], p)
		left -= size
	}
	return out, nil
}

// newUpdate returns an UPDATE for prefixes of one family; without attributes it withdraws them.
// IPv4 prefixes are in the message's base fields unless their next hop is an IPv6 address (RFC
// 8950).
func newUpdate(nextHop netip.Addr, attrs []gobgp.PathAttributeInterface, prefixes []netip.Prefix) *gobgp.BGPMessage {
	v4 := prefixes[0].Addr().Is4()
	var plain []*gobgp.IPAddrPrefix
	var multi []gobgp.AddrPrefixInterface
	for _, p := range prefixes {
		addr, bits := p.Addr().String(), uint8(p.Bits())
		switch {
		case !v4:
			multi = append(multi, gobgp.NewIPv6AddrPrefix(bits, addr))
		case nextHop.Is6():
			multi = append(multi, gobgp.NewIPAddrPrefix(bits, addr))
		default:
			plain = append(plain, gobgp.NewIPAddrPrefix(bits, addr))
		}
	}
	hop := nextHop.WithZone("").String()
	switch withdraw := attrs == nil; {
	case withdraw && v4:
		return gobgp.NewBGPUpdateMessage(plain, nil, nil)
	case withdraw:
		return gobgp.NewBGPUpdateMessage(nil, []gobgp.PathAttributeInterface{gobgp.NewPathAttributeMpUnreachNLRI(multi)}, nil)
	case multi != nil: // first of all attributes (RFC 7606, 5.1)
		attrs = append([]gobgp.PathAttributeInterface{gobgp.NewPathAttributeMpReachNLRI(hop, multi)}, attrs...)
		return gobgp.NewBGPUpdateMessage(nil, attrs, nil)
	default: // by type, after ORIGIN and AS_PATH (RFC 4271, 5)
		attrs = append(attrs[:2:2], append([]gobgp.PathAttributeInterface{gobgp.NewPathAttributeNextHop(hop)}, attrs[2:]...)...)
		return gobgp.NewBGPUpdateMessage(nil, attrs, plain)
	}
}

// endOfRIB returns the marker that follows the initial routes of a family (RFC 4724, 2).
func endOfRIB(family gobgp.RouteFamily) (update, error) {
	m, err := gobgp.NewEndOfRib(family).Serialize()
	return update{message: m}, err
}

const extendedLength = 0x10 // flag of an attribute (RFC 4271, 4.3)

// checkUpdate returns the NOTIFICATION for an UPDATE whose routes cannot be parsed, the only
// error that ends a session since RFC 7606 (3 and 5.3). Other errors make routes unusable,
// which does not matter, as this node uses none of the router's routes.
func checkUpdate(m message) error {
	withdrawn, b, ok := lengthPrefixed(m.body())
	if !ok {
		return refuseUpdate(gobgp.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST)
	}
	attrs, nlri, ok := lengthPrefixed(b)
	if !ok {
		return refuseUpdate(gobgp.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST)
	}
	if !arePrefixes(withdrawn, 32) || !arePrefixes(nlri, 32) {
		return refuseUpdate(gobgp.BGP_ERROR_SUB_INVALID_NETWORK_FIELD)
	}
	var reach, unreach int
	for kind, value := range attributes(attrs) {
		switch kind {
		case gobgp.BGP_ATTR_TYPE_MP_REACH_NLRI:
			reach++
		case gobgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI:
			unreach++
		default:
			continue
		}
		if reach > 1 || unreach > 1 { // RFC 7606, 3 (g)
			return refuseUpdate(gobgp.BGP_ERROR_SUB_MALFORMED_ATTRIBUTE_LIST)
		}
		if !isMultiprotocol(kind, value) {
			return refuseUpdate(gobgp.BGP_ERROR_SUB_OPTIONAL_ATTRIBUTE_ERROR)
		}
	}
	return nil
}

func refuseUpdate(subcode uint8) error {
	return refuse(gobgp.BGP_ERROR_UPDATE_MESSAGE_ERROR, subcode)
}

// attributes iterates over path attributes. It ends at an attribute that is longer than the
// rest: its routes are unusable, but can be parsed (RFC 7606, 4).
func attributes(b []byte) func(yield func(gobgp.BGPAttrType, []byte) bool) {
	return func(yield func(gobgp.BGPAttrType, []byte) bool) {
		for len(b) >= 3 {
			kind, n, head := gobgp.BGPAttrType(b[1]), int(b[2]), 3
			if b[0]&extendedLength != 0 {
				if len(b) < 4 {
					return
				}
				n, head = int(binary.BigEndian.Uint16(b[2:])), 4
			}
			if len(b) < head+n || !yield(kind, b[head:head+n]) {
				return
			}
			b = b[head+n:]
		}
	}
}

// isMultiprotocol reports whether the value of MP_REACH_NLRI or MP_UNREACH_NLRI is well formed
// (RFC 4760, 3 and 4). It does not check prefixes of families that this session does not have.
func isMultiprotocol(kind gobgp.BGPAttrType, value []byte) bool {
	if len(value) < 3 {
		return false
	}
	family := gobgp.AfiSafiToRouteFamily(binary.BigEndian.Uint16(value), value[2])
	nlri := value[3:]
	if kind == gobgp.BGP_ATTR_TYPE_MP_REACH_NLRI {
		if len(nlri) < 1 || len(nlri) < 1+int(nlri[0])+1 {
			return false
		}
		nlri = nlri[1+int(nlri[0])+1:]
	}
	switch family {
	case gobgp.RF_IPv4_UC:
		return arePrefixes(nlri, 32)
	case gobgp.RF_IPv6_UC:
		return arePrefixes(nlri, 128)
	}
	return true
}

// arePrefixes reports whether b is a list of prefixes (RFC 4271, 4.3).
func arePrefixes(b []byte, maxBits int) bool {
	for len(b) > 0 {
		bits := int(b[0])
		size := 1 + (bits+7)/8
		if bits > maxBits || len(b) < size {
			return false
		}
		b = b[size:]
	}
	return true
}
