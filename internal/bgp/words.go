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

// A plainError is one whose text is all that a person needs.
type plainError struct{ text string }

func (e *plainError) Error() string { return e.text }

// refusedToListen says why a passive peer's router cannot be waited for.
func refusedToListen(at netip.AddrPort, err error) error {
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return &plainError{fmt.Sprintf("another program listens on %s already, such as a CNI's BGP; let the peer not be passive, or set sourceAddress to another address of the node", at)}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return &plainError{fmt.Sprintf("this node does not have the address %s (yet), which the router should connect to", at.Addr())}
	}
	return fmt.Errorf("listen on %s: %w", at, err)
}

// attempt is what is known about a session when it fails.
type attempt struct {
	peer   lb.BGPPeer
	router string   // address and port
	local  string   // our address, once there is a connection
	opened *opening // the router's OPEN, if it came
}

// learn keeps what is known of the connection; nil: there was none.
func (a *attempt) learn(c *connection) {
	if c == nil {
		return
	}
	a.local = c.local.WithZone("").String()
	if o := c.fsm.router; o != (opening{}) {
		a.opened = &o
	}
}

// describe says in words why an attempt failed or a session ended, with the
// likely fix. It holds no times or ports that differ between two equal
// failures.
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
		return fmt.Sprintf("%s took the connection and then said nothing for %v: is it a BGP router, and is it well?", a.router, openTimeout)
	case errors.Is(err, errNoKeepalive):
		return fmt.Sprintf("%s said who it is, and did not answer when this node did: it may drop what this node sends, as a router with TTL security does when ttlSecurity is not set", a.router)
	case errors.Is(err, errRouterClosed) && a.opened == nil:
		return fmt.Sprintf("%s closed the connection before it said who it is: it may not have %s as a neighbour, or have it shut down; look into its log", a.router, a.local)
	case errors.Is(err, errRouterClosed):
		return fmt.Sprintf("%s closed the connection without a word; look into its log", a.router)
	case errors.Is(err, errStuck):
		return fmt.Sprintf("%s did not read what this node sent for twice the hold time: is it overloaded?", a.router)
	case errors.As(err, &fault):
		return "the session failed by a fault of this speaker; please report this with the speaker's log"
	}
	return a.describeConnect(err)
}

// describeConnect says why there is no connection.
func (a attempt) describeConnect(err error) string {
	var timeout net.Error
	switch {
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Sprintf("connection refused by %s: BGP does not run there, or not for this address", a.router)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		words := fmt.Sprintf("no route to %s: is the address right, and is the router up?", a.router)
		if a.oneHop() { // whoever is in between says that the packet came too far
			words += " (" + moreHops + ")"
		}
		return words
	case errors.Is(err, syscall.EADDRNOTAVAIL) && a.peer.Source.IsValid():
		return fmt.Sprintf("this node does not have the address %s; correct sourceAddress, or choose the nodes that have it by nodeSelectors", a.peer.Source)
	case errors.Is(err, syscall.ENODEV) && a.peer.VRF != "":
		return fmt.Sprintf("this node has no VRF %q; correct vrf, or choose the nodes that have it by nodeSelectors", a.peer.VRF)
	case errors.Is(err, syscall.ECONNRESET):
		return fmt.Sprintf("%s reset the connection: it may not have this node as a neighbour", a.router)
	case errors.Is(err, syscall.ENOENT) && a.peer.Password != "", errors.Is(err, syscall.ENOPROTOOPT):
		return "this node's kernel cannot do what the session needs (TCP MD5 or GTSM): " + err.Error()
	case errors.Is(err, os.ErrDeadlineExceeded), errors.As(err, &timeout) && timeout.Timeout(), errors.Is(err, syscall.ETIMEDOUT):
		return a.describeTimeout()
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Err != nil && !errors.Is(err, io.EOF) {
		err = op.Err // without the ports, which differ each time
	}
	return err.Error()
}

// moreHops is the fix for a router that what this node sends does not reach.
const moreHops = "if the router is more than one hop away, set ebgpMultiHop"

// oneHop reports whether what this node sends gets no further than to a neighbour.
func (a attempt) oneHop() bool {
	return !a.peer.Internal() && !a.peer.Multihop && !a.peer.TTLSecurity
}

func (a attempt) describeTimeout() string {
	hint := "if it wants a password, it answers nobody who does not give one in passwordSecret"
	if a.peer.Password != "" {
		hint = "a wrong password looks like this too: the router drops what does not carry its own"
	}
	if a.peer.TTLSecurity {
		hint += "; so does a router that has no TTL security, or is more than one hop away"
	} else if a.oneHop() {
		hint += "; " + moreHops
	}
	return fmt.Sprintf("no answer from %s: is it up, and does nothing filter TCP to it? (%s)", a.router, hint)
}

// describeSent says what we did not like.
func (a attempt) describeSent(n notification) string {
	const header, open, holdTimer = 1, 2, 4
	switch {
	case n.code == header && n.subcode == 1 && a.opened == nil:
		return fmt.Sprintf("%s does not speak BGP: is peerPort right?", a.router)
	case n.code == open && n.subcode == 2 && a.opened != nil:
		return a.describeForeignASN()
	case n.code == open && n.subcode == 3 && a.opened != nil && a.opened.routerID == a.peer.RouterID:
		return fmt.Sprintf("the router has the router ID %s too; set routerID to another", a.peer.RouterID)
	case n.code == open && n.subcode == 3 && a.opened != nil:
		return fmt.Sprintf("the router says that its BGP identifier is %s, which cannot be", a.opened.routerID)
	case n.code == open && n.subcode == 6 && a.opened != nil:
		return fmt.Sprintf("the router wants a hold time of %v, and less than 3 s is not allowed (RFC 4271, 4.2); set its hold time to 3 s or more", a.opened.hold)
	case n.code == holdTimer:
		return "hold timer expired: the router said nothing for the hold time; is the path to it broken, or the router overloaded?"
	}
	return fmt.Sprintf("the router sent what BGP does not allow here: %s; check its log and its software", n.name())
}

func (a attempt) describeForeignASN() string {
	switch a.peer.Dynamic {
	case lb.DynamicExternal:
		return fmt.Sprintf("the router says it is in AS %d, which is ours, and dynamicASN is external; set it to internal, or correct myASN", a.opened.asn)
	case lb.DynamicInternal:
		return fmt.Sprintf("the router says it is in AS %d, and dynamicASN internal takes only myASN, %d; set dynamicASN to external, or correct the router", a.opened.asn, a.peer.ShownASN())
	}
	return fmt.Sprintf("the router says it is in AS %d, and %d is expected; set peerASN to %d, or correct the router", a.opened.asn, a.peer.PeerASN, a.opened.asn)
}

// describeReceived says what the router did not like.
func (a attempt) describeReceived(n notification) string {
	const open, update, holdTimer, fsm, cease = 2, 3, 4, 5, 6
	said := "the router says: " + n.name()
	switch {
	case n.code == open && n.subcode == 2:
		field := "myASN"
		if a.peer.LocalASN != 0 {
			field = "localASN"
		}
		said += fmt.Sprintf(": it expects another AS than %d, which we sent; set %s to the number that it has for this node, or correct the router", a.peer.ShownASN(), field)
		if len(n.data) == 2 { // some routers send what they expected
			said += fmt.Sprintf(" (it speaks of %d)", binary.BigEndian.Uint16(n.data))
		}
	case n.code == open && n.subcode == 3:
		said += fmt.Sprintf(": another neighbour of it, or itself, has the router ID %s too; set routerID to another", a.peer.RouterID)
	case n.code == open && n.subcode == 6:
		said += fmt.Sprintf(": it does not take a hold time of %v; set holdTime to what it takes", a.peer.HoldTime)
	case n.code == open && n.subcode == 5:
		said += ": it wants another password; correct the Secret of passwordSecret"
	case n.code == holdTimer:
		said += ": it heard nothing from this node for the hold time; is the path from here to it broken, or this node overloaded?"
	case n.code == update || n.code == fsm:
		said += ": it does not understand this node; please report this with its log"
	case n.code == cease:
		said += a.describeCease(n)
	}
	return said
}

func (a attempt) describeCease(n notification) string {
	if text := n.text(); text != "" {
		return fmt.Sprintf(": %q", text)
	}
	switch n.subcode {
	case 1:
		return ": it takes fewer routes than this node announces; raise its limit, or announce fewer by aggregationLength"
	case 2:
		return ": somebody shut the session down there; it stays so until it is enabled again"
	case 3:
		return ": this node is no longer configured there as a neighbour"
	case 5:
		return fmt.Sprintf(": it does not take a session with %s now; does it have this node as a neighbour, with AS %d?", a.local, a.peer.ShownASN())
	case 7:
		return ": it has another connection with this node already"
	case 8:
		return ": the router is short of memory"
	case 10:
		return ": it lost this node by BFD"
	}
	return ""
}
