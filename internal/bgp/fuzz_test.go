package bgp

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"testing"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

// seeds are all that TestHostileRouter sends, and what routers really send.
func seeds(f *testing.F) {
	stages := map[stage]uint8{onAccept: 0, inConfirm: 1, inSession: 2}
	for _, h := range hostile {
		f.Add(stages[h.at], h.send)
	}
	real, _ := gobgp.NewBGPOpenMessage(64513, 90, "192.0.2.1", []gobgp.OptionParameterInterface{gobgp.NewOptionParameterCapability([]gobgp.ParameterCapabilityInterface{
		gobgp.NewCapMultiProtocol(gobgp.RF_IPv4_UC), gobgp.NewCapMultiProtocol(gobgp.RF_IPv6_UC), gobgp.NewCapRouteRefresh(), gobgp.NewCapFourOctetASNumber(64513),
		gobgp.NewCapGracefulRestart(true, true, 120, []*gobgp.CapGracefulRestartTuple{gobgp.NewCapGracefulRestartTuple(gobgp.RF_IPv4_UC, true)}),
		gobgp.NewCapExtendedNexthop([]*gobgp.CapExtendedNexthopTuple{gobgp.NewCapExtendedNexthopTuple(gobgp.RF_IPv4_UC, gobgp.AFI_IP6)}),
	})}).Serialize()
	f.Add(uint8(0), append(bytes.Clone(real), keepalive...))
	six := []gobgp.AddrPrefixInterface{gobgp.NewIPv6AddrPrefix(128, "2001:db8::1"), gobgp.NewIPv6AddrPrefix(64, "2001:db8:1::")}
	attrs := []gobgp.PathAttributeInterface{gobgp.NewPathAttributeMpReachNLRI("2001:db8::11", six), gobgp.NewPathAttributeOrigin(0), gobgp.NewPathAttributeMpUnreachNLRI(six[:1])}
	update, _ := gobgp.NewBGPUpdateMessage([]*gobgp.IPAddrPrefix{gobgp.NewIPAddrPrefix(24, "198.51.100.0")}, attrs, nil).Serialize()
	f.Add(uint8(2), update)
	f.Add(uint8(2), []byte(shutdown("bye").hard().message()))
}

// FuzzSession sends bytes into a real session over TCP, as a router that connects, in
// each of its states. Whatever they are, the session ends, and what it has sent until
// then is BGP, as the codec reads it; and the next session is as good as any.
func FuzzSession(f *testing.F) {
	seeds(f)
	e := newPassive(f, nil)
	f.Fuzz(func(t *testing.T, at uint8, b []byte) {
		stages := [...]stage{onAccept, inConfirm, inSession}
		send(t, e, stages[int(at)%len(stages)], b)
		send(t, e, inSession, shutdown("bye").message())
	})
}

// send brings a session so far, sends bytes, and returns when the session has ended.
func send(t *testing.T, e *passive, at stage, b []byte) {
	t.Helper()
	conn, err := net.DialTCP("tcp4", nil, &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: int(e.port)})
	if err != nil {
		t.Fatalf("%v: %+v", err, sessionOf(e.Engine, "tor"))
	}
	defer conn.Close()
	_ = conn.SetLinger(0) // a fuzzer would run out of ports
	c := newRawConn(t, conn, at)
	if at == inSession {
		c.await(t, gobgp.BGP_MSG_UPDATE)
	}
	_, _ = conn.Write(b) // it may have ended the session before its last byte
	_ = conn.CloseWrite()
	for {
		m, err := readMessage(c.r)
		switch {
		case errors.Is(err, os.ErrDeadlineExceeded):
			t.Fatal("the session does not end")
		case err != nil:
			return
		}
		if _, err := gobgp.ParseBGPMessage(m); err != nil {
			t.Fatalf("the router gets %x: %v", []byte(m), err)
		}
	}
}

// FuzzFSM gives bytes to the state machine itself, which is faster than FuzzSession by
// far. It never panics, and an error is a NOTIFICATION that can be sent or was received.
func FuzzFSM(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, at uint8, b []byte) {
		m := newFSM(peer(nil))
		for _, first := range [][]byte{rawOpen(), keepalive}[:at%3] {
			if _, err := m.receive(first); err != nil {
				t.Fatal(err)
			}
		}
		r := bufio.NewReaderSize(bytes.NewReader(b), maxMessage)
		for {
			before := m.state
			msg, err := readMessage(r)
			if errors.Is(err, io.EOF) {
				return
			}
			if err == nil {
				_, err = m.receive(msg)
			}
			var n *notifiedError
			switch {
			case err != nil && !errors.As(err, &n):
				t.Fatalf("%v is no NOTIFICATION", err)
			case err != nil && n.sent && (n.code < 1 || n.code > 5 || len(n.message()) > maxMessage):
				t.Fatalf("the router would get %d/%d, %d bytes", n.code, n.subcode, len(n.data))
			case err == nil && m.state < before, m.state < OpenSent, m.state > Established:
				t.Fatalf("the state was %v and is %v", before, m.state)
			}
			if err != nil {
				_ = attempt{peer: m.peer, router: "192.0.2.1:179", opened: &m.router}.describe(err)
				return
			}
			if d := m.holdTimer(); m.state != Established && (d <= 0 || d > openTimeout) {
				t.Fatalf("the hold timer is %v in %v", d, m.state)
			}
		}
	})
}
