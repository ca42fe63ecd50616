package lb

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"
)

// BGPPeer is a router as one node is to have a session with it: all that a
// BGPPeer object leaves open is filled in. Peers that are equal need nothing
// done, so the type is comparable.
type BGPPeer struct {
	Name string // of the object, unique

	MyASN    uint32
	PeerASN  uint32     // 0 with Dynamic
	Dynamic  DynamicASN // which number the router may say instead of PeerASN
	LocalASN uint32     // shown instead of MyASN; 0 is MyASN

	Address   netip.Addr // the router, or
	Interface string     // the interface behind which it is found
	VRF       string     // device that the connection is bound to
	Source    netip.Addr // to connect from; for a passive peer also to listen on
	Port      uint16     // of the router; 0 is 179

	HoldTime      time.Duration // 0 is for ever
	KeepaliveTime time.Duration // 0 is a third of what is agreed on
	ConnectTime   time.Duration // between attempts to connect

	RouterID netip.Addr // see RouterID
	Password Secret     // TCP MD5 (RFC 2385); empty is none

	GracefulRestart bool
	Watched         bool // by BFD, which tells a node that died from a speaker that restarts
	Multihop        bool // an external router more than one hop away
	TTLSecurity     bool // GTSM (RFC 5082)
	Passive         bool // the router connects

	// NextHop4 and NextHop6 are what routes of a family point to; not valid is
	// the address of the session, or one of the same interface for the other
	// family.
	NextHop4, NextHop6 netip.Addr
}

// ShownASN returns the AS number that the router is told.
func (p *BGPPeer) ShownASN() uint32 { return cmp.Or(p.LocalASN, p.MyASN) }

// Internal reports whether the session is within the AS (iBGP).
func (p *BGPPeer) Internal() bool {
	return p.Dynamic == DynamicInternal || p.Dynamic == DynamicNone && p.PeerASN == p.ShownASN()
}

// BGPPort is the port of a router whose peer names none (RFC 4271, section 8.2.1).
const BGPPort = 179

// bgpRouter identifies a router. A router tells the sessions of one node apart by the
// address that they come from.
type bgpRouter struct {
	address, source netip.Addr
	iface, vrf      string
	port            uint16
}

// BGPRouters are routers, each with the name of the peer that has the one session that a
// node can have with it.
type BGPRouters map[bgpRouter]string

// Take gives the peer's router to the peer, unless another peer has it: then it returns
// the name of that one.
func (r BGPRouters) Take(p *BGPPeer) (other string, taken bool) {
	key := bgpRouter{p.Address, p.Source, p.Interface, p.VRF, cmp.Or(p.Port, BGPPort)}
	if other, taken = r[key]; !taken {
		r[key] = p.Name
	}
	return other, taken
}

// DynamicASN is which AS numbers are taken from a router's OPEN. The zero
// DynamicASN takes none: it must be the one that is configured.
type DynamicASN uint8

// Which AS numbers are taken from a router's OPEN.
const (
	DynamicNone     DynamicASN = iota
	DynamicInternal            // our own
	DynamicExternal            // any other
)

// String returns the name that the API has for it.
func (d DynamicASN) String() string {
	switch d {
	case DynamicNone:
		return "none"
	case DynamicInternal:
		return "internal"
	case DynamicExternal:
		return "external"
	default:
		return fmt.Sprintf("DynamicASN(%d)", uint8(d))
	}
}

// Secret is a text that is not printed.
type Secret string

// String hides the secret.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "(secret)"
}

// GoString hides the secret.
func (s Secret) GoString() string { return fmt.Sprintf("%q", s.String()) }

// MarshalText hides the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// RouterID returns the BGP identifier (RFC 6286) of a node: its first IPv4
// address or, where it has none, a number made from its name, which is the same
// after every restart.
func RouterID(node string, addrs []netip.Addr) netip.Addr {
	for _, a := range addrs {
		if a.Is4() && !a.IsUnspecified() {
			return a
		}
	}
	h := fnv.New32a()
	h.Write([]byte(node)) // never fails
	n := h.Sum32()
	// The upper bit keeps clear of what people give routers: 0.0.0.0 and small numbers.
	return netip.AddrFrom4([4]byte{byte(n>>24) | 0x80, byte(n >> 16), byte(n >> 8), byte(n)})
}

// BGPRoute is a prefix that a node announces to peers. Rows of one prefix for
// different peers may differ in their attributes.
type BGPRoute struct {
	Prefix netip.Prefix
	Peers  []string // names; each has at most one row of a prefix
	BGPAttributes
}

// BGPAttributes are what an announcement says besides prefix and next hop.
type BGPAttributes struct {
	LocalPref Optional[uint32] // told to internal peers only (RFC 4271, 5.1.5)
	MED       Optional[uint32]
	// Prepend is how many times our AS number is there besides the one time that
	// it must be. Only for external peers: an internal one would see a loop.
	Prepend     uint8
	Communities []Community // sorted, each once
	// Drain asks routers to prefer others before the route goes away (RFC 8326).
	Drain bool
}

// Equal reports whether the attributes are the same.
func (a BGPAttributes) Equal(o BGPAttributes) bool {
	return a.LocalPref == o.LocalPref && a.MED == o.MED && a.Prepend == o.Prepend && a.Drain == o.Drain &&
		slices.Equal(a.Communities, o.Communities)
}

// Optional is a value that may be missing.
type Optional[T comparable] struct {
	Value T
	Set   bool
}

// Some returns an Optional that has the value.
func Some[T comparable](v T) Optional[T] { return Optional[T]{Value: v, Set: true} }

// Community is a mark on a route: a standard community of two 16-bit numbers (RFC
// 1997) in A and B, or a large one of three 32-bit numbers (RFC 8092).
type Community struct {
	Large   bool
	A, B, C uint32
}

// Standard returns the standard community of this number.
func Standard(n uint32) Community { return Community{A: n >> 16, B: n & 0xffff} }

// Number returns the number of a standard community.
func (c Community) Number() uint32 { return c.A<<16 | c.B }

// String returns "65000:1" or "large:65000:1:2", as the API has it.
func (c Community) String() string {
	if c.Large {
		return fmt.Sprintf("large:%d:%d:%d", c.A, c.B, c.C)
	}
	return fmt.Sprintf("%d:%d", c.A, c.B)
}

// Compare orders standard communities before large ones, then by number.
func (c Community) Compare(o Community) int {
	if c.Large != o.Large {
		if c.Large {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(c.A, o.A), cmp.Compare(c.B, o.B), cmp.Compare(c.C, o.C))
}

// UniteCommunities returns the communities of all lists, sorted, each once.
func UniteCommunities(lists ...[]Community) []Community {
	all := slices.Concat(lists...)
	slices.SortFunc(all, Community.Compare)
	return slices.Compact(all)
}

// GracefulShutdown asks routers to prefer other routes, as this one is about to
// go away (RFC 8326, 4.1).
var GracefulShutdown = Standard(0xffff0000)

// WellKnownCommunities are the names that mean the same everywhere, as IANA
// lists them; "internet" is routers' name for no limit at all.
var WellKnownCommunities = map[string]Community{
	"graceful-shutdown":   GracefulShutdown,
	"accept-own":          Standard(0xffff0001), // RFC 7611
	"llgr-stale":          Standard(0xffff0006), // RFC 9494
	"no-llgr":             Standard(0xffff0007), // RFC 9494
	"blackhole":           Standard(0xffff029a), // RFC 7999
	"no-export":           Standard(0xffffff01), // RFC 1997
	"no-advertise":        Standard(0xffffff02), // RFC 1997
	"no-export-subconfed": Standard(0xffffff03), // RFC 1997
	"local-as":            Standard(0xffffff03), // routers' name for the one above
	"no-peer":             Standard(0xffffff04), // RFC 3765
	"internet":            Standard(0),
}
