package bgp

import (
	"fmt"
	"strings"
	"unicode"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// notification is the content of a NOTIFICATION message (RFC 4271, 4.5).
type notification struct {
	code, subcode uint8
	data          []byte
}

// Subcodes of Cease for which the codec has no name, or only a long one.
const (
	ceaseHardReset = gobgp.BGP_ERROR_SUB_HARD_RESET // RFC 8538
	ceaseBFDDown   = 10                             // RFC 9384
)

// A notifiedError is a NOTIFICATION that ends a connection.
type notifiedError struct {
	notification
	sent bool // by this node
}

func (e *notifiedError) Error() string { return e.unwrap().name() }

// refuse returns the error for a protocol violation of the router, with the NOTIFICATION to
// send.
func refuse(code, subcode uint8, data ...byte) error {
	return &notifiedError{notification{code, subcode, append([]byte(nil), data...)}, true}
}

// newNotification returns the content of a NOTIFICATION message.
func newNotification(m message) notification {
	b := m.body()
	return notification{b[0], b[1], append([]byte(nil), b[2:]...)}
}

func (n notification) message() message {
	const room = maxMessage - headerLen - 2
	return newMessage(gobgp.BGP_MSG_NOTIFICATION, append([]byte{n.code, n.subcode}, n.data[:min(len(n.data), room)]...))
}

// hard returns the notification as a hard reset, after which the peer removes the routes even
// if both sides treat notifications as restarts (RFC 8538, 3.1).
func (n notification) hard() notification {
	if n.code == gobgp.BGP_ERROR_CEASE && n.subcode == ceaseHardReset {
		return n
	}
	return notification{gobgp.BGP_ERROR_CEASE, ceaseHardReset, append([]byte{n.code, n.subcode}, n.data...)}
}

// unwrap returns the notification inside a hard reset.
func (n notification) unwrap() notification {
	if n.code == gobgp.BGP_ERROR_CEASE && n.subcode == ceaseHardReset && len(n.data) >= 2 {
		return notification{n.data[0], n.data[1], n.data[2:]}
	}
	return n
}

// cease returns a NOTIFICATION that ends a session without a protocol error (RFC 4486).
func cease(subcode uint8) notification {
	return notification{code: gobgp.BGP_ERROR_CEASE, subcode: subcode}
}

// shutdown returns the notification of an administrative shutdown, with a message for the
// router's log (RFC 9003).
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

// codes are the names of NOTIFICATION codes and subcodes (RFC 4271, 4.5; RFC 4486; RFC 8538;
// RFC 9384), as in the manuals of routers.
var codes = map[uint8]struct {
	name     string
	subcodes map[uint8]string
}{
	1: {"message header error", map[uint8]string{1: "connection not synchronized", 2: "bad message length", 3: "bad message type"}},
	2: {"OPEN message error", map[uint8]string{
		1: "unsupported version", 2: "bad peer AS", 3: "bad BGP identifier", 4: "unsupported optional parameter",
		5: "authentication failure", 6: "unacceptable hold time", 7: "unsupported capability", 11: "role mismatch",
	}},
	3: {"UPDATE message error", map[uint8]string{
		1: "malformed attribute list", 2: "unrecognized well-known attribute", 3: "missing well-known attribute", 4: "attribute flags error",
		5: "attribute length error", 6: "invalid ORIGIN", 8: "invalid NEXT_HOP", 9: "optional attribute error", 10: "invalid network field", 11: "malformed AS_PATH",
	}},
	4: {"hold timer expired", nil},
	5: {"finite state machine error", map[uint8]string{1: "unexpected message in OpenSent", 2: "unexpected message in OpenConfirm", 3: "unexpected message in Established"}},
	6: {"cease", map[uint8]string{
		1: "maximum number of prefixes reached", 2: "administrative shutdown", 3: "peer de-configured", 4: "administrative reset", 5: "connection rejected",
		6: "other configuration change", 7: "connection collision resolution", 8: "out of resources", 9: "hard reset", 10: "BFD down",
	}},
	7: {"ROUTE-REFRESH message error", map[uint8]string{1: "invalid message length"}},
	8: {"send hold timer expired", nil}, // RFC 9687
}

// name returns the names of code and subcode: "cease, administrative shutdown".
func (n notification) name() string {
	c, ok := codes[n.code]
	if !ok {
		return fmt.Sprintf("code %d, subcode %d", n.code, n.subcode)
	}
	if s, ok := c.subcodes[n.subcode]; ok {
		return c.name + ", " + s
	}
	if n.subcode != 0 {
		return fmt.Sprintf("%s, subcode %d", c.name, n.subcode)
	}
	return c.name
}

// text returns the message in a shutdown notification (RFC 9003) without characters that are
// unsafe to print.
func (n notification) text() string {
	if n.code != 6 || n.subcode != 2 && n.subcode != 4 || len(n.data) < 2 || len(n.data) < 1+int(n.data[0]) {
		return ""
	}
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return -1
		}
		return r
	}, string(n.data[1:1+int(n.data[0])]))
}
