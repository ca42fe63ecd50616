package bgp

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"slices"
	"testing"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// stage is how far a session has come when a router sends what it should not.
type stage string

const (
	onAccept  stage = "on accept"
	inConfirm stage = "OpenConfirm"
	inSession stage = "Established"
)

// raw returns a message of any type with any body, and a length that is true.
func raw(kind uint8, body ...byte) []byte {
	b := append(bytes.Repeat([]byte{0xff}, 16), 0, 0, kind)
	b = append(b, body...)
	binary.BigEndian.PutUint16(b[16:], uint16(len(b)))
	return b
}

// claiming returns the message with another length in its header.
func claiming(n uint16, b []byte) []byte {
	b = bytes.Clone(b)
	binary.BigEndian.PutUint16(b[16:], n)
	return b
}

// rawOpen returns an OPEN of the router in AS 64513, with these optional parameters.
func rawOpen(params ...byte) []byte {
	return raw(gobgp.BGP_MSG_OPEN, append([]byte{4, 64513 >> 8, 64513 & 0xff, 0, 90, 192, 0, 2, 1, byte(len(params))}, params...)...)
}

// with returns the bytes with one of them changed.
func with(b []byte, i int, v byte) []byte {
	b = bytes.Clone(b)
	b[i] = v
	return b
}

// extendedOpen returns an OPEN whose optional parameters are of the longer form (RFC
// 9072): one with an unknown capability, which makes it needed, and one for each family.
func extendedOpen() []byte {
	unknown := append([]byte{2, 1, 1, 77, 255}, make([]byte, 255)...)
	four, six := []byte{2, 0, 6, 1, 4, 0, 1, 0, 1}, []byte{2, 0, 6, 1, 4, 0, 2, 0, 1}
	params := slices.Concat(unknown, four, six)
	b := []byte{4, 64513 >> 8, 64513 & 0xff, 0, 90, 192, 0, 2, 1, 255, 255}
	return raw(gobgp.BGP_MSG_OPEN, append(binary.BigEndian.AppendUint16(b, uint16(len(params))), params...)...)
}

// mpReachTwice is an UPDATE that has MP_REACH_NLRI two times, which leaves open what the
// routes are.
func mpReachTwice() []byte {
	reach := append([]byte{0x80, 14, 4 + 16 + 1 + 1, 0, 2, 1, 16}, make([]byte, 18)...)
	return update2(nil, append(bytes.Clone(reach), reach...), nil)
}

// update2 returns an UPDATE of these three fields.
func update2(withdrawn, attrs, nlri []byte) []byte {
	b := append(binary.BigEndian.AppendUint16(nil, uint16(len(withdrawn))), withdrawn...)
	b = append(binary.BigEndian.AppendUint16(b, uint16(len(attrs))), attrs...)
	return raw(gobgp.BGP_MSG_UPDATE, append(b, nlri...)...)
}

// hostile are messages that a router must not send, and the NOTIFICATION for each; no
// code: it is right, or not worth a session.
var hostile = []struct {
	name          string
	at            stage
	send          []byte
	code, subcode uint8
	data          []byte
}{
	// RFC 4271, 6.1. The first one is what killed a speaker: 19 bytes.
	{"type 6", onAccept, raw(6), 1, 3, []byte{6}},
	{"type 6", inConfirm, raw(6), 1, 3, []byte{6}},
	{"type 6", inSession, raw(6), 1, 3, []byte{6}},
	{"type 0", onAccept, raw(0), 1, 3, []byte{0}},
	{"type 255 with a body", inSession, raw(255, 1, 2, 3), 1, 3, []byte{255}},
	{"no marker", onAccept, []byte("GET / HTTP/1.1\r\nHost: router\r\n\r\n"), 1, 1, nil},
	{"no marker", inSession, with(raw(4), 15, 0), 1, 1, nil},
	{"length 0", onAccept, claiming(0, raw(4)), 1, 2, []byte{0, 0}},
	{"length 18", onAccept, claiming(18, raw(4)), 1, 2, []byte{0, 18}},
	{"length 4097", onAccept, claiming(4097, raw(2)), 1, 2, []byte{0x10, 0x01}},
	{"length 65535", inSession, claiming(65535, raw(2)), 1, 2, []byte{0xff, 0xff}},
	{"OPEN of 28 bytes", onAccept, raw(1, make([]byte, 9)...), 1, 2, []byte{0, 28}},
	{"UPDATE of 22 bytes", inSession, raw(2, 0, 0, 0), 1, 2, []byte{0, 22}},
	{"NOTIFICATION of 20 bytes", onAccept, raw(3, 6), 1, 2, []byte{0, 20}},
	{"KEEPALIVE of 20 bytes", inSession, raw(4, 0), 1, 2, []byte{0, 20}},
	{"ROUTE-REFRESH of 24 bytes", inSession, raw(5, 0, 1, 0, 1, 0), 1, 2, []byte{0, 24}},
	// RFC 6608.
	{"KEEPALIVE", onAccept, raw(4), 5, 1, []byte{4}},
	{"UPDATE", onAccept, update2(nil, nil, nil), 5, 1, []byte{2}},
	{"ROUTE-REFRESH", onAccept, raw(5, 0, 1, 0, 1), 5, 1, []byte{5}},
	{"OPEN", inConfirm, rawOpen(), 5, 2, []byte{1}},
	{"UPDATE", inConfirm, update2(nil, nil, nil), 5, 2, []byte{2}},
	{"OPEN", inSession, rawOpen(), 5, 3, []byte{1}},
	// RFC 4271, 6.2.
	{"OPEN of version 3", onAccept, with(rawOpen(), 19, 3), 2, 1, []byte{0, 4}},
	{"OPEN of another AS", onAccept, with(rawOpen(), 21, 99), 2, 2, nil},
	{"OPEN of AS 0", onAccept, with(with(rawOpen(), 20, 0), 21, 0), 2, 2, nil},
	{"OPEN with router ID 0.0.0.0", onAccept, raw(1, 4, 64513>>8, 64513&0xff, 0, 90, 0, 0, 0, 0, 0), 2, 3, nil},
	{"OPEN with another parameter", onAccept, rawOpen(1, 1, 0), 2, 4, nil},
	{"OPEN with hold time 2", onAccept, with(rawOpen(), 23, 2), 2, 6, nil},
	{"OPEN with parameters longer than it", onAccept, with(rawOpen(), 28, 9), 2, 0, nil},
	{"OPEN with a byte after its parameters", onAccept, raw(1, append(rawOpen()[headerLen:], 0)...), 2, 0, nil},
	{"OPEN with extended parameters longer than it", onAccept, rawOpen(255, 0, 9), 2, 0, nil},
	{"OPEN with half a parameter", onAccept, rawOpen(2), 2, 0, nil},
	{"OPEN with a capability longer than its parameter", onAccept, rawOpen(2, 2, 1, 4), 2, 0, nil},
	{"OPEN with a short multiprotocol capability", onAccept, rawOpen(2, 5, 1, 3, 0, 1, 0), 2, 0, nil},
	{"OPEN with a short AS number capability", onAccept, rawOpen(2, 4, 65, 2, 0, 1), 2, 0, nil},
	{"OPEN with a graceful restart capability of 3", onAccept, rawOpen(2, 5, 64, 3, 0, 0, 0), 2, 0, nil},
	{"OPEN with an extended next hop capability of 5", onAccept, rawOpen(2, 7, 5, 5, 0, 1, 0, 1, 0), 2, 0, nil},
	// RFC 4271, 6.3, as RFC 7606 has it.
	{"UPDATE with withdrawn routes longer than it", inSession, raw(2, 0, 9, 0, 0), 3, 1, nil},
	{"UPDATE with attributes longer than it", inSession, raw(2, 0, 0, 0, 9), 3, 1, nil},
	{"UPDATE that withdraws a prefix of 33 bits", inSession, update2([]byte{33, 1, 2, 3, 4, 5}, nil, nil), 3, 10, nil},
	{"UPDATE with half a prefix", inSession, update2(nil, nil, []byte{24, 1, 2}), 3, 10, nil},
	{"UPDATE with MP_REACH_NLRI twice", inSession, mpReachTwice(), 3, 1, nil},
	{"UPDATE with MP_UNREACH_NLRI of 2 bytes", inSession, update2(nil, []byte{0x80, 15, 2, 0, 2}, nil), 3, 9, nil},
	{"UPDATE with MP_REACH_NLRI and a prefix of 129 bits", inSession, update2(nil, append([]byte{0x80, 14, 6, 0, 2, 1, 0, 0, 129}, make([]byte, 17)...), nil), 3, 9, nil},
	// What ends no session.
	{"OPEN with extended parameters", onAccept, append(extendedOpen(), raw(4)...), 0, 0, nil},
	{"UPDATE with an attribute longer than the rest", inSession, update2(nil, []byte{0x40, 1, 9, 0}, nil), 0, 0, nil},
	{"UPDATE with an unknown attribute", inSession, update2(nil, []byte{0xc0, 200, 1, 0}, nil), 0, 0, nil},
	{"UPDATE of a family that was not agreed on", inSession, update2(nil, []byte{0x80, 15, 4, 0, 25, 70, 255}, nil), 0, 0, nil},
	{"ROUTE-REFRESH for a family that was not agreed on", inSession, raw(5, 0, 25, 0, 70), 0, 0, nil},
	{"1,000 KEEPALIVEs", inSession, bytes.Repeat(raw(4), 1000), 0, 0, nil},
	{"1,000 ROUTE-REFRESHes", inSession, bytes.Repeat(raw(5, 0, 1, 0, 1), 1000), 0, 0, nil},
}

// What a router sends ends its own session at most: with the NOTIFICATION that the RFCs
// have for it, and the next session is as good as any. Another router's session does not
// notice.
func TestHostileRouter(t *testing.T) {
	for _, tt := range hostile {
		t.Run(fmt.Sprintf("%s, %s", tt.at, tt.name), func(t *testing.T) {
			bystander, r := newSink(t, nil), newRawRouter(t)
			e := newEngine(t)
			p, other := r.peer(nil), bystander.peer(func(p *lb.BGPPeer) { p.Name = "bystander" })
			rows := []lb.BGPRoute{route("198.51.100.1/32", nil)}
			e.Apply([]lb.BGPPeer{p, other}, rows)
			established(t, e, "bystander")
			c := r.accept(t, tt.at)
			c.write(t, tt.send)
			if tt.code == 0 {
				c.write(t, raw(5, 0, 1, 0, 1))
				c.await(t, gobgp.BGP_MSG_UPDATE)
				established(t, e, "tor")
			} else if got := newNotification(c.await(t, gobgp.BGP_MSG_NOTIFICATION)); got.code != tt.code || got.subcode != tt.subcode || !bytes.Equal(got.data, tt.data) {
				t.Errorf("the router gets NOTIFICATION %d/%d %v, want %d/%d %v", got.code, got.subcode, got.data, tt.code, tt.subcode, tt.data)
			}
			p.HoldTime = 30 * time.Second // is tried at once
			e.Apply([]lb.BGPPeer{p, other}, rows)
			c.conn.Close()
			r.accept(t, inSession).await(t, gobgp.BGP_MSG_UPDATE)
			established(t, e, "tor")
			if s := sessionOf(e, "bystander"); s.State != Established || s.TimesLost != 0 {
				t.Errorf("the other session is %+v", s)
			}
		})
	}
}

// rawRouter is a router that sends what a test wants.
type rawRouter struct{ listener *net.TCPListener }

func newRawRouter(t testing.TB) *rawRouter {
	t.Helper()
	l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &rawRouter{l}
}

func (r *rawRouter) peer(edit func(*lb.BGPPeer)) lb.BGPPeer {
	return (&sink{listener: r.listener}).peer(edit)
}

// accept returns the node's next connection, when it has come so far.
func (r *rawRouter) accept(t testing.TB, at stage) *rawConn {
	t.Helper()
	_ = r.listener.SetDeadline(time.Now().Add(10 * time.Second))
	conn, err := r.listener.AcceptTCP()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return newRawConn(t, conn, at)
}

// rawConn is the router's end of a connection.
type rawConn struct {
	conn net.Conn
	r    *bufio.Reader
}

func newRawConn(t testing.TB, conn net.Conn, at stage) *rawConn {
	t.Helper()
	c := &rawConn{conn, bufio.NewReaderSize(conn, maxMessage)}
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if at == onAccept {
		return c
	}
	c.await(t, gobgp.BGP_MSG_OPEN)
	c.write(t, rawOpen())
	c.await(t, gobgp.BGP_MSG_KEEPALIVE)
	if at == inSession {
		c.write(t, raw(gobgp.BGP_MSG_KEEPALIVE))
	}
	return c
}

func (c *rawConn) write(t testing.TB, b []byte) {
	t.Helper()
	if _, err := c.conn.Write(b); err != nil {
		t.Fatal(err)
	}
}

// await returns the next message of a type, and lets others pass.
func (c *rawConn) await(t testing.TB, kind uint8) message {
	t.Helper()
	for {
		m, err := readMessage(c.r)
		if err != nil {
			t.Fatalf("waiting for a message of type %d: %v", kind, err)
		}
		if m.kind() == kind {
			return m
		}
	}
}
