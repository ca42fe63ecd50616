package bgp

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// A plainError is an error whose text is already complete for users.
type plainError struct{ text string }

func (e *plainError) Error() string { return e.text }

// refusedToListen describes why listening for a passive peer's router failed.
func refusedToListen(at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &plainError{fmt.Sprintf("another program already listens on %s, such as the BGP of a CNI; set passive to false, or set sourceAddress to another address of the node", at)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &plainError{fmt.Sprintf("this node does not have the address %s (yet), to which the router should connect", at.Addr())}
	}
	return fmt.Errorf("listen on %s: %w", at, err)
}

// attempt has the facts from which describe explains a failure of a session.
type attempt struct {
	peer   lb.BGPPeer
	router string    // address and port
	local  string    // this node's address, once there is a connection
	opened *openInfo // the router's OPEN, if it was received
}

// setConnection records the facts of the connection; nil if there was none.
func (a *attempt) setConnection(c *connection) {
	if c == nil {
		return
	}
	a.local = c.local.WithZone("").String()
	if o := c.fsm.router; o != (openInfo{}) {
		a.opened = &o
	}
}

// describe returns why an attempt failed or a session ended, with the likely fix. The text has
// no times or ephemeral ports, so that it is the same for repeated failures.
func (a attempt) describe(err error) string {
	var n *notifiedError
	var plain *plainError
	var fault *panicError
	switch {
	case errors.As(err, &plain):
		return plain.text
	case errors.As(err, &n) && n.sent:
		return a.describeSent(n.unwrap())
	case errors.As(err, &n):
		return a.describeReceived(n.unwrap())
	case errors.Is(err, errNoOpen):
		return fmt.Sprintf("%s accepted the TCP connection but sent no OPEN for %v: check that it runs BGP and is not overloaded", a.router, openTimeout)
	case errors.Is(err, errNoKeepalive):
		return fmt.Sprintf("%s sent an OPEN but no KEEPALIVE: it may drop this node's packets, as a router with TTL security does if ttlSecurity is not set", a.router)
	case errors.Is(err, errRouterClosed) && a.opened == nil:
		return fmt.Sprintf("%s closed the connection before it sent an OPEN: %s may not be configured there as a neighbour, or may be shut down there; check its log", a.router, a.local)
	case errors.Is(err, errRouterClosed):
		return fmt.Sprintf("%s closed the connection without a NOTIFICATION; check its log", a.router)
	case errors.Is(err, errStuck):
		return fmt.Sprintf("%s accepted no data for twice the hold time: check its load", a.router)
	case errors.As(err, &fault):
		return "the session failed because of a bug in the speaker; please report it with the speaker's log"
	}
	return a.describeConnect(err)
}

// describeConnect describes why connecting failed.
func (a attempt) describeConnect(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused by %s: BGP does not run there, or does not listen on this address", a.router)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		text := fmt.Sprintf("no route to %s: check the address, and that the router is up", a.router)
		if a.oneHop() { // a router on the path may have reported that the TTL expired
			text += " (" + moreHops + ")"
		}
		return text
	case errors.Is(err, syscall.EADDRNOTAVAIL) && a.peer.Source.IsValid():
		return fmt.Sprintf("this node does not have the address %s; correct sourceAddress, or select the nodes that have it with nodeSelectors", a.peer.Source)
	case errors.Is(err, syscall.ENODEV) && a.peer.VRF != "":
		return fmt.Sprintf("this node has no VRF %q; correct vrf, or select the nodes that have it with nodeSelectors", a.peer.VRF)
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("%s reset the connection: this node may not be configured there as a neighbour", a.router)
	case errors.Is(err, syscall.ENOENT) && a.peer.Password != "", errors.Is(err, syscall.ENOPROTOOPT):
		return "this node's kernel does not support TCP MD5 or GTSM, which the session needs: " + err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, syscall.ETIMEDOUT):
		return a.describeTimeout()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil && !errors.Is(err, io.EOF) {
		err = op.Err // without the ephemeral port
	}
	return err.Error()
}

// moreHops is the fix if this node's packets do not reach the router.
const moreHops = "if the router is more than one hop away, set ebgpMultiHop"

// oneHop reports whether this node's packets reach only directly connected routers.
func (a attempt) oneHop() bool {
	return !a.peer.Internal() && !a.peer.Multihop && !a.peer.TTLSecurity
}

func (a attempt) describeTimeout() string {
	hint := "if the router requires a TCP MD5 password, set passwordSecret"
	if a.peer.Password != "" {
		hint = "a wrong password has the same effect: the router drops packets that are not signed with its password"
	}
	if a.peer.TTLSecurity {
		hint += "; with ttlSecurity the router needs TTL security too, and must be one hop away"
	} else if a.oneHop() {
		hint += "; " + moreHops
	}
	return fmt.Sprintf("no answer from %s: check that it is up and that nothing filters TCP to it (%s)", a.router, hint)
}

// describeSent describes why this node sent the NOTIFICATION.
func (a attempt) describeSent(n notification) string {
	const header, open, holdTimer = 1, 2, 4
	switch {
	case n.code == header && n.subcode == 1 && a.opened == nil:
		return fmt.Sprintf("%s does not speak BGP: check peerPort", a.router)
	case n.code == open && n.subcode == 2 && a.opened != nil:
		return a.describeForeignASN()
	case n.code == open && n.subcode == 3 && a.opened != nil && a.opened.routerID == a.peer.RouterID:
		return fmt.Sprintf("the router has the router ID %s too; set routerID to another", a.peer.RouterID)
	case n.code == open && n.subcode == 3 && a.opened != nil:
		return fmt.Sprintf("the router's BGP identifier is %s, which is not valid", a.opened.routerID)
	case n.code == open && n.subcode == 6 && a.opened != nil:
		return fmt.Sprintf("the router proposes a hold time of %v, and less than 3 s is not allowed (RFC 4271, 4.2); set its hold time to 3 s or more", a.opened.hold)
	case n.code == holdTimer:
		return "hold timer expired: no message from the router for the hold time; check the path to it, and its load"
	}
	return fmt.Sprintf("the router violated the BGP protocol: %s; check its log and its software", n.name())
}

func (a attempt) describeForeignASN() string {
	switch a.peer.Dynamic {
	case lb.DynamicExternal:
		return fmt.Sprintf("the router is in AS %d, which is this node's AS, and dynamicASN is external; set it to internal, or correct myASN", a.opened.asn)
	case lb.DynamicInternal:
		return fmt.Sprintf("the router is in AS %d, and dynamicASN internal accepts only myASN, %d; set dynamicASN to external, or correct the router", a.opened.asn, a.peer.ShownASN())
	}
	return fmt.Sprintf("the router is in AS %d, and %d is expected; set peerASN to %d, or correct the router", a.opened.asn, a.peer.PeerASN, a.opened.asn)
}

// describeReceived describes why the router sent the NOTIFICATION.
func (a attempt) describeReceived(n notification) string {
	const open, update, holdTimer, fsm, cease = 2, 3, 4, 5, 6
	text := "the router says: " + n.name()
	switch {
	case n.code == open && n.subcode == 2:
		field := "myASN"
		if a.peer.LocalASN != 0 {
			field = "localASN"
		}
		text += fmt.Sprintf(": it expects another AS number than %d, which this node sent; set %s to the number that is configured there, or correct the router", a.peer.ShownASN(), field)
		if len(n.data) == 2 { // some routers send what they expected
			text += fmt.Sprintf(" (it expects %d)", binary.BigEndian.Uint16(n.data))
		}
	case n.code == open && n.subcode == 3:
		text += fmt.Sprintf(": the router, or another neighbour of it, has the router ID %s too; set routerID to another", a.peer.RouterID)
	case n.code == open && n.subcode == 6:
		text += fmt.Sprintf(": it does not accept a hold time of %v; set holdTime to a value that it accepts", a.peer.HoldTime)
	case n.code == open && n.subcode == 5:
		text += ": the passwords differ; correct the Secret of passwordSecret"
	case n.code == holdTimer:
		text += ": it received nothing from this node for the hold time; check the path to it, and this node's load"
	case n.code == update || n.code == fsm:
		text += ": it did not accept a message of this node; please report this with the router's log"
	case n.code == cease:
		text += a.describeCease(n)
	}
	return text
}

func (a attempt) describeCease(n notification) string {
	if text := n.text(); text != "" {
		return fmt.Sprintf(": %q", text)
	}
	switch n.subcode {
	case 1:
		return ": this node advertises more routes than the router's limit; raise the limit, or advertise fewer with aggregationLength"
	case 2:
		return ": the session was shut down on the router; enable it there"
	case 3:
		return ": this node is no longer configured there as a neighbour"
	case 5:
		return fmt.Sprintf(": it does not accept a session with %s; check that this node is configured there as a neighbour with AS %d", a.local, a.peer.ShownASN())
	case 7:
		return ": it already has another connection with this node"
	case 8:
		return ": the router is out of resources"
	case 10:
		return ": BFD on the router reported this node as down"
	}
	return ""
}
