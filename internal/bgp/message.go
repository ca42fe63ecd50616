package bgp

import (
	"bufio"
	"encoding/binary"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// A message is an encoded BGP message with its header (RFC 4271, 4.1).
type message []byte

const (
	headerLen = 19
	// maxMessage is the limit without Extended Messages (RFC 8654), which this speaker
	// does not offer.
	maxMessage = 4096
)

func (m message) kind() uint8  { return m[18] }
func (m message) body() []byte { return m[headerLen:] }

// lengths are the minimum and maximum length of each message type (RFC 4271, 6.1; RFC 2918,
// 3). Other types are not valid.
var lengths = map[uint8]struct{ shortest, longest int }{
	gobgp.BGP_MSG_OPEN:          {29, maxMessage},
	gobgp.BGP_MSG_UPDATE:        {23, maxMessage},
	gobgp.BGP_MSG_NOTIFICATION:  {21, maxMessage},
	gobgp.BGP_MSG_KEEPALIVE:     {headerLen, headerLen},
	gobgp.BGP_MSG_ROUTE_REFRESH: {23, 23},
}

// readMessage returns the next message, after it checked its header. The message is valid until
// the next call. The reader's buffer must hold at least maxMessage.
func readMessage(r *bufio.Reader) (message, error) {
	head, err := r.Peek(headerLen)
	if err != nil {
		return nil, err
	}
	n, err := checkHeader(head)
	if err != nil {
		return nil, err
	}
	m, err := r.Peek(n)
	if err != nil {
		return nil, err
	}
	_, err = r.Discard(n)
	return m, err
}

// checkHeader returns the length of the message with this header, or the NOTIFICATION for an
// invalid header (RFC 4271, 6.1).
func checkHeader(head []byte) (int, error) {
	for _, b := range head[:16] {
		if b != 0xff {
			return 0, refuse(gobgp.BGP_ERROR_MESSAGE_HEADER_ERROR, gobgp.BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED)
		}
	}
	n, kind := int(binary.BigEndian.Uint16(head[16:])), head[18]
	limits, known := lengths[kind]
	switch {
	case n < headerLen || n > maxMessage, known && (n < limits.shortest || n > limits.longest):
		return 0, refuse(gobgp.BGP_ERROR_MESSAGE_HEADER_ERROR, gobgp.BGP_ERROR_SUB_BAD_MESSAGE_LENGTH, head[16:18]...)
	case !known:
		return 0, refuse(gobgp.BGP_ERROR_MESSAGE_HEADER_ERROR, gobgp.BGP_ERROR_SUB_BAD_MESSAGE_TYPE, kind)
	}
	return n, nil
}

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

// lengthPrefixed splits off a field that begins with its length in two octets.
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
