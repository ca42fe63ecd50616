package bgp

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const (
	bgpVersion = 4
	// minHoldTime is the minimum hold time other than 0, which is none (RFC 4271, 4.2).
	minHoldTime = 3 * time.Second
	// restartTime is how long routers should keep the routes of a speaker that restarts (RFC
	// 4724, 3). A rolling upgrade takes seconds; pulling the image over a slow connection
	// takes up to a minute.
	restartTime = 120 * time.Second
)

// Flags of the graceful restart capability (RFC 4724, 3; RFC 8538, 2).
const (
	restartState        = 0x8
	restartNotification = 0x4
	forwardingPreserved = 0x80
)

// openInfo is the content of a router's OPEN message, as far as it is used.
type openInfo struct {
	asn      uint32
	routerID netip.Addr
	hold     time.Duration
	ipv4     bool // IPv4 unicast routes are taken
	ipv6     bool
	// fourOctetASN says that AS numbers have four octets in this session (RFC 6793).
	fourOctetASN bool
	// extendedNextHop says that IPv4 routes may have IPv6 next hops (RFC 8950).
	extendedNextHop bool
	// restart says that routes are kept while the other side restarts (RFC 4724),
	// and restartNotified also after a NOTIFICATION (RFC 8538).
	restart, restartNotified bool
}

// newOpen returns this node's OPEN. restarted says that no session with this router was
// established since the process started. kube-proxy forwards the traffic independently of
// BGP, so the forwarding state is always preserved.
//
// A router that treats notifications as restarts treats an expired hold timer as a restart too
// (RFC 8538, 4.1), and then sends traffic to a failed node during the restart time. So this
// capability is advertised only if BFD detects the failure.
func newOpen(p *lb.BGPPeer, restarted bool) (message, error) {
	caps := []gobgp.ParameterCapabilityInterface{
		gobgp.NewCapMultiProtocol(gobgp.RF_IPv4_UC), gobgp.NewCapMultiProtocol(gobgp.RF_IPv6_UC),
		gobgp.NewCapRouteRefresh(), gobgp.NewCapFourOctetASNumber(p.ShownASN()),
		gobgp.NewCapExtendedNexthop([]*gobgp.CapExtendedNexthopTuple{gobgp.NewCapExtendedNexthopTuple(gobgp.RF_IPv4_UC, gobgp.AFI_IP6)}),
	}
	if p.GracefulRestart {
		caps = append(caps, gobgp.NewCapGracefulRestart(restarted, p.Watched, uint16(restartTime/time.Second), []*gobgp.CapGracefulRestartTuple{
			gobgp.NewCapGracefulRestartTuple(gobgp.RF_IPv4_UC, true), gobgp.NewCapGracefulRestartTuple(gobgp.RF_IPv6_UC, true),
		}))
	}
	m, err := gobgp.NewBGPOpenMessage(twoOctets(p.ShownASN()), uint16(p.HoldTime/time.Second), p.RouterID.String(),
		[]gobgp.OptionParameterInterface{gobgp.NewOptionParameterCapability(caps)}).Serialize()
	if err != nil {
		return nil, fmt.Errorf("encode OPEN: %w", err)
	}
	return m, nil
}

// parseOpen parses a router's OPEN. It does not use the codec, which does not support RFC 9072,
// decodes capabilities that are not needed, and is not robust against hostile input.
func parseOpen(m message) (openInfo, error) {
	b := m.body()
	if b[0] != bgpVersion {
		return openInfo{}, refuseOpen(gobgp.BGP_ERROR_SUB_UNSUPPORTED_VERSION_NUMBER, 0, bgpVersion)
	}
	o := openInfo{
		asn:      uint32(binary.BigEndian.Uint16(b[1:])),
		hold:     time.Duration(binary.BigEndian.Uint16(b[3:])) * time.Second,
		routerID: netip.AddrFrom4([4]byte(b[5:9])),
	}
	if o.hold != 0 && o.hold < minHoldTime {
		return o, refuseOpen(gobgp.BGP_ERROR_SUB_UNACCEPTABLE_HOLD_TIME)
	}
	params, width, ok := optionalParameters(b[9:])
	multiprotocol := false
	for ok && len(params) > 0 {
		var kind uint8
		var value []byte
		if kind, value, params, ok = typeLengthValue(params, width); !ok {
			break
		}
		if kind != gobgp.BGP_OPT_CAPABILITY {
			return o, refuseOpen(gobgp.BGP_ERROR_SUB_UNSUPPORTED_OPTIONAL_PARAMETER)
		}
		for ok && len(value) > 0 {
			var code uint8
			var capability []byte
			if code, capability, value, ok = typeLengthValue(value, 1); ok {
				ok = o.add(code, capability)
				multiprotocol = multiprotocol || code == uint8(gobgp.BGP_CAP_MULTIPROTOCOL)
			}
		}
	}
	if !ok { // "recognized, but malformed" (RFC 4271, 6.2)
		return o, refuseOpen(unspecific)
	}
	o.ipv4 = o.ipv4 || !multiprotocol // the default of RFC 4271
	return o, nil
}

// unspecific is the subcode of an error without a specific subcode.
const unspecific = 0

func refuseOpen(subcode uint8, data ...byte) error {
	return refuse(gobgp.BGP_ERROR_OPEN_MESSAGE_ERROR, subcode, data...)
}

// optionalParameters returns the optional parameters of an OPEN and the width of each
// parameter's length in octets: one, or two if all parameters together have more than 255
// octets (RFC 9072, 2). b begins with the length field; the parameters must fill the message.
func optionalParameters(b []byte) (params []byte, width int, ok bool) {
	const extended = 255
	if len(b) >= 2 && b[0] != 0 && b[1] == extended {
		params, rest, ok := lengthPrefixed(b[2:])
		return params, 2, ok && len(rest) == 0
	}
	return b[1:], 1, int(b[0]) == len(b)-1
}

// typeLengthValue splits off a type of one octet, a length of width octets, and the value.
func typeLengthValue(b []byte, width int) (kind uint8, value, rest []byte, ok bool) {
	if len(b) < 1+width {
		return 0, nil, nil, false
	}
	n := int(b[1])
	if width == 2 {
		n = int(binary.BigEndian.Uint16(b[1:]))
	}
	kind, b = b[0], b[1+width:]
	if len(b) < n {
		return 0, nil, nil, false
	}
	return kind, b[:n], b[n:], true
}

// add puts a capability (RFC 5492) into the openInfo, and reports whether it is well
// formed. Those that this node does not have are none of its business.
func (o *openInfo) add(code uint8, value []byte) bool {
	switch gobgp.BGPCapabilityCode(code) {
	case gobgp.BGP_CAP_MULTIPROTOCOL: // RFC 4760, 8
		if len(value) != 4 {
			return false
		}
		switch familyOf(value) {
		case gobgp.RF_IPv4_UC:
			o.ipv4 = true
		case gobgp.RF_IPv6_UC:
			o.ipv6 = true
		}
	case gobgp.BGP_CAP_FOUR_OCTET_AS_NUMBER: // RFC 6793, 3
		if len(value) != 4 {
			return false
		}
		o.asn, o.fourOctetASN = binary.BigEndian.Uint32(value), true
	case gobgp.BGP_CAP_EXTENDED_NEXTHOP: // RFC 8950, 4
		if len(value)%6 != 0 {
			return false
		}
		for ; len(value) > 0; value = value[6:] {
			if familyOf(value) == gobgp.RF_IPv4_UC && binary.BigEndian.Uint16(value[4:]) == gobgp.AFI_IP6 {
				o.extendedNextHop = true
			}
		}
	case gobgp.BGP_CAP_GRACEFUL_RESTART: // RFC 4724, 3
		if len(value) < 2 || len(value)%4 != 2 {
			return false
		}
		o.restart, o.restartNotified = true, value[0]>>4&restartNotification != 0
	}
	return true
}

// familyOf returns the address family in four octets: AFI, one octet that is reserved or the
// upper half of a two-octet SAFI, and SAFI.
func familyOf(b []byte) gobgp.RouteFamily {
	return gobgp.AfiSafiToRouteFamily(binary.BigEndian.Uint16(b), b[3])
}

// accept returns the NOTIFICATION to send if the OPEN does not match the configured peer (RFC
// 4271, 6.2); nil if it matches.
func (o *openInfo) accept(p *lb.BGPPeer) error {
	internal := o.asn == p.ShownASN()
	expected := o.asn == p.PeerASN
	switch p.Dynamic {
	case lb.DynamicInternal:
		expected = internal
	case lb.DynamicExternal:
		expected = !internal
	}
	switch {
	case !expected || o.asn == 0: // RFC 7607
		return refuseOpen(gobgp.BGP_ERROR_SUB_BAD_PEER_AS)
	case o.routerID.IsUnspecified() || internal && o.routerID == p.RouterID: // RFC 6286, 2.2
		return refuseOpen(gobgp.BGP_ERROR_SUB_BAD_BGP_IDENTIFIER)
	}
	return nil
}
