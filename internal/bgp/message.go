package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead/fairlead/internal/lb"
)

// A message is a BGP message as it is on the wire, header included (RFC 4271, 4.1).
type message []byte

const (
	headerLen  = 19
	maxMessage = 4096
)

func (m message) kind() uint8 { return m[18] }
func (m message) body() []byte {
	return m[headerLen:]
}

// readMessage returns the next message. It is good until the next call with the
// same buffer, which must have room for maxMessage.
func readMessage(r io.Reader, buf []byte) (message, error) {
	if _, err := io.ReadFull(r, buf[:headerLen]); err != nil {
		return nil, err
	}
	for _, b := range buf[:16] {
		if b != 0xff {
			return nil, errNotBGP
		}
	}
	n := int(binary.BigEndian.Uint16(buf[16:]))
	if n < headerLen || n > maxMessage {
		return nil, errNotBGP
	}
	if _, err := io.ReadFull(r, buf[headerLen:n]); err != nil {
		return nil, err
	}
	return buf[:n], nil
}

var errNotBGP = errors.New("what came is not BGP")

var keepalive = newMessage(gobgp.BGP_MSG_KEEPALIVE, nil)

func newMessage(kind uint8, body []byte) message {
	m := make(message, headerLen, headerLen+len(body))
	for i := range 16 {
		m[i] = 0xff
	}
	binary.BigEndian.PutUint16(m[16:], uint16(headerLen+len(body)))
	m[18] = kind
	return append(m, body...)
}

// notification is the content of a NOTIFICATION message (RFC 4271, 4.5).
type notification struct {
	code, subcode uint8
	data          []byte
}

func newNotification(m message) (notification, bool) {
	b := m.body()
	if m.kind() != gobgp.BGP_MSG_NOTIFICATION || len(b) < 2 {
		return notification{}, false
	}
	return notification{b[0], b[1], append([]byte(nil), b[2:]...)}, true
}

func (n notification) message() message {
	return newMessage(gobgp.BGP_MSG_NOTIFICATION, append([]byte{n.code, n.subcode}, n.data...))
}

const (
	ceaseBFDDown   = 10 // RFC 9384
	ceaseHardReset = gobgp.BGP_ERROR_SUB_HARD_RESET
)

// hard makes the notification one after which the peer keeps no routes, although
// both understand notifications as restarts (RFC 8538, 3.1).
func (n notification) hard() notification {
	if n.code == gobgp.BGP_ERROR_CEASE && n.subcode == ceaseHardReset {
		return n
	}
	return notification{gobgp.BGP_ERROR_CEASE, ceaseHardReset, append([]byte{n.code, n.subcode}, n.data...)}
}

// unwrap undoes hard.
func (n notification) unwrap() notification {
	if n.code == gobgp.BGP_ERROR_CEASE && n.subcode == ceaseHardReset && len(n.data) >= 2 {
		return notification{n.data[0], n.data[1], n.data[2:]}
	}
	return n
}

// shutdown returns the notification of an administrative shutdown, with a
// message for the router's log (RFC 9003).
func shutdown(text string) notification {
	text = truncate(text, 255)
	return notification{gobgp.BGP_ERROR_CEASE, gobgp.BGP_ERROR_SUB_ADMINISTRATIVE_SHUTDOWN, append([]byte{byte(len(text))}, text...)}
}

// truncate cuts a text to n bytes between two characters.
func truncate(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && s[n]&0xc0 == 0x80 {
		n--
	}
	return s[:n]
}

// opening is what an OPEN message says that matters here.
type opening struct {
	asn      uint32
	routerID netip.Addr
	hold     time.Duration
	ipv4     bool // IPv4 unicast routes are taken
	ipv6     bool
	// extendedNextHop says that IPv4 routes may have IPv6 next hops (RFC 8950).
	extendedNextHop bool
	// restart says that routes are kept while the other side restarts (RFC 4724),
	// and restartNotified also after a NOTIFICATION, where we asked for it (RFC 8538).
	restart, restartNotified bool
}

func parseOpen(m message) (*gobgp.BGPMessage, *gobgp.BGPOpen, error) {
	parsed, err := gobgp.ParseBGPMessage(m)
	if err != nil {
		return nil, nil, err
	}
	open, ok := parsed.Body.(*gobgp.BGPOpen)
	if !ok {
		return nil, nil, fmt.Errorf("message %d is no OPEN", m.kind())
	}
	return parsed, open, nil
}

// capabilities calls each with every capability of an OPEN (RFC 5492).
func capabilities(open *gobgp.BGPOpen, each func(gobgp.ParameterCapabilityInterface)) {
	for _, p := range open.OptParams {
		if list, ok := p.(*gobgp.OptionParameterCapability); ok {
			for _, c := range list.Capability {
				each(c)
			}
		}
	}
}

func newOpening(open *gobgp.BGPOpen) opening {
	id, _ := netip.AddrFromSlice(open.ID.To4())
	o := opening{asn: uint32(open.MyAS), routerID: id, hold: time.Duration(open.HoldTime) * time.Second}
	multiprotocol := false
	capabilities(open, func(c gobgp.ParameterCapabilityInterface) {
		switch c := c.(type) {
		case *gobgp.CapFourOctetASNumber:
			o.asn = c.CapValue
		case *gobgp.CapMultiProtocol:
			multiprotocol = true
			o.ipv4 = o.ipv4 || c.CapValue == gobgp.RF_IPv4_UC
			o.ipv6 = o.ipv6 || c.CapValue == gobgp.RF_IPv6_UC
		case *gobgp.CapExtendedNexthop:
			for _, t := range c.Tuples {
				if t.NLRIAFI == gobgp.AFI_IP && t.NLRISAFI == gobgp.SAFI_UNICAST && t.NexthopAFI == gobgp.AFI_IP6 {
					o.extendedNextHop = true
				}
			}
		case *gobgp.CapGracefulRestart:
			o.restart = true
			o.restartNotified = c.Flags&restartNotification != 0
		}
	})
	o.ipv4 = o.ipv4 || !multiprotocol // what RFC 4271 is for
	return o
}

// Flags of the capability (RFC 4724, 3; RFC 8538, 2).
const (
	restartState        = 0x8
	restartNotification = 0x4
	forwardingPreserved = 0x80
)

// innerHold is what GoBGP is told instead of a hold time of 0, for ever: it would
// let every write time out at once. The line gives it KEEPALIVEs.
const innerHold = 65535 * time.Second

// outwardOpen makes GoBGP's OPEN the peer's: with its router ID and hold time,
// and true words about restarting. Our routes lead to kube-proxy, which forwards
// whatever becomes of BGP: so forwarding state is always preserved.
//
// A router that takes notifications for restarts takes the end of the hold time for
// one, too (RFC 8538, 4.1), and leads to a node that died for as long as a restart may
// take. So this is asked for only where BFD tells it of the death.
func outwardOpen(m message, p *lb.BGPPeer, restarted bool) (message, error) {
	parsed, open, err := parseOpen(m)
	if err != nil {
		return nil, err
	}
	open.ID = p.RouterID.AsSlice()
	open.HoldTime = uint16(p.HoldTime / time.Second)
	capabilities(open, func(c gobgp.ParameterCapabilityInterface) {
		if gr, ok := c.(*gobgp.CapGracefulRestart); ok {
			gr.Flags &^= restartNotification
			if p.Watched {
				gr.Flags |= restartNotification
			}
			if restarted {
				gr.Flags |= restartState
			}
			for _, t := range gr.Tuples {
				t.Flags |= forwardingPreserved
			}
		}
	})
	return parsed.Serialize()
}

// inwardOpen makes the router's OPEN one that GoBGP can work with.
func inwardOpen(m message, p *lb.BGPPeer) (message, opening, error) {
	parsed, open, err := parseOpen(m)
	if err != nil {
		return nil, opening{}, err
	}
	o := newOpening(open)
	o.restartNotified = o.restartNotified && p.Watched
	if o.hold == 0 || p.HoldTime == 0 {
		open.HoldTime = uint16(innerHold / time.Second)
		m, err = parsed.Serialize()
	}
	return m, o, err
}

// prefixes returns how many prefixes an UPDATE announces and withdraws. What is
// malformed counts as nothing: it is GoBGP's own.
func prefixes(m message) (announced, withdrawn int) {
	b := m.body()
	routes, b, ok := lengthPrefixed(b)
	if !ok {
		return 0, 0
	}
	withdrawn = countPrefixes(routes)
	attrs, b, ok := lengthPrefixed(b)
	if !ok {
		return 0, 0
	}
	announced = countPrefixes(b)
	for len(attrs) >= 3 {
		flags, kind := attrs[0], gobgp.BGPAttrType(attrs[1])
		n, head := int(attrs[2]), 3
		if flags&0x10 != 0 { // extended length (RFC 4271, 4.3)
			if len(attrs) < 4 {
				break
			}
			n, head = int(binary.BigEndian.Uint16(attrs[2:])), 4
		}
		if len(attrs) < head+n {
			break
		}
		value := attrs[head : head+n]
		attrs = attrs[head+n:]
		switch kind { // RFC 4760, 3 and 4
		case gobgp.BGP_ATTR_TYPE_MP_REACH_NLRI:
			if len(value) > 4 && len(value) > 5+int(value[3]) {
				announced += countPrefixes(value[5+int(value[3]):])
			}
		case gobgp.BGP_ATTR_TYPE_MP_UNREACH_NLRI:
			if len(value) > 3 {
				withdrawn += countPrefixes(value[3:])
			}
		}
	}
	return announced, withdrawn
}

func lengthPrefixed(b []byte) (value, rest []byte, ok bool) {
	if len(b) < 2 {
		return nil, nil, false
	}
	n := int(binary.BigEndian.Uint16(b))
	if len(b) < 2+n {
		return nil, nil, false
	}
	return b[2 : 2+n], b[2+n:], true
}

func countPrefixes(b []byte) (n int) {
	for len(b) > 0 {
		size := 1 + (int(b[0])+7)/8
		if len(b) < size {
			break
		}
		b = b[size:]
		n++
	}
	return n
}
