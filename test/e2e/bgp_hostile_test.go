package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// message is a BGP message of a type, without a body.
func message(kind byte) []byte {
	return append(bytes.Repeat([]byte{0xff}, 16), 0, 19, kind)
}

// One BGP message once killed the speakers, and with them layer 2 and all other peers.
// Now it costs the session of the router that sends it.
func TestBGPHostileRouter(t *testing.T) {
	c := peered(t)
	c.advertise(t, "all")
	_, a := c.web(t)
	r2, before := c.Routers()[0], c.resets(t)
	open := append(message(1), 4, 64512>>8, 64512&0xff, 0, 9, 172, 30, 0, 2, 0)
	open[17] = byte(len(open))
	for i, tt := range []struct {
		name string
		send []byte
		says string
	}{
		{"type 6", message(6), "message header error, bad message type"},
		{"type 255", message(255), "message header error, bad message type"},
		{"KEEPALIVE before OPEN", message(4), "finite state machine error, unexpected message in OpenSent"},
		{"a second OPEN", bytes.Join([][]byte{open, message(4), open}, nil), "finite state machine error, unexpected message in Established"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			port := uint16(1790 + i)
			sendOnAccept(t, r2.Host, netip.AddrPortFrom(r2.IPv4, port), tt.send)
			p := c.peer(t, c.freshName("hostile"), r2.IPv4, func(p *v1alpha1.BGPPeer) { p.Spec.PeerPort = int32(port) })
			c.untilPeer(t, p, false, v1alpha1.ReasonNotEstablished, "Established 0/3: n1, n2, n3", "the router violated the BGP protocol", tt.says)
			c.remove(t, p)
		})
	}
	if after := c.resets(t); !maps.Equal(before, after) {
		t.Errorf("sessions of other routers were lost: %v, then %v", before, after)
	}
	c.untilVia(t, soon, c.Routers(), host(a), allNodes...)
}

// sendOnAccept sends the same bytes to each client that connects to a host, until the test ends.
func sendOnAccept(t *testing.T, h *lab.Host, at netip.AddrPort, b []byte) {
	t.Helper()
	var l net.Listener
	must(t, h.Do(func() (err error) { l, err = net.Listen("tcp", at.String()); return err }))
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				_, _ = conn.Write(b)
				buf := make([]byte, 4096)
				for err = nil; err == nil; { // until the speaker closes
					_, err = conn.Read(buf)
				}
			}()
		}
	}()
}

// A connection to a passive peer's port does nothing to the session that is there,
// unless it comes from as near as ttlSecurity asks for.
func TestBGPPassiveTTLSecurity(t *testing.T) {
	c := unpeered(t)
	c.advertise(t, "all")
	r2, n1 := c.Routers()[0], c.Node("n1")
	t.Cleanup(func() {
		c.tellFRR(t, "no neighbor 172.30.0.11 ttl-security hops 1", "no neighbor 172.30.0.11 timers connect")
	})
	c.tellFRR(t, "neighbor 172.30.0.11 ttl-security hops 1", "neighbor 172.30.0.11 timers connect 1")
	p := c.peer(t, "passive", r2.IPv4, ofNodes("n1"), func(p *v1alpha1.BGPPeer) { p.Spec.Passive, p.Spec.TTLSecurity = true, true })
	c.untilPeer(t, p, true, v1alpha1.ReasonEstablished, "Established 1/1")
	untilSession(t, r2, n1.IPv4)
	before := c.resets(t)
	for range 20 {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		conn, err := r2.Dial(ctx, "tcp", netip.AddrPortFrom(n1.IPv4, 179).String())
		cancel()
		if err == nil {
			conn.Close()
		}
		if !errors.Is(err, context.DeadlineExceeded) && !isTimeout(err) {
			t.Fatalf("the router connects with TTL 64: %v; want no answer", err)
		}
	}
	if after := c.resets(t); !maps.Equal(before, after) {
		t.Errorf("the session was lost: %v, then %v", before, after)
	}
	s, err := r2.Session(t.Context(), n1.IPv4)
	if err == nil && !s.Established {
		err = fmt.Errorf("it is %s", s.State)
	}
	must(t, err)
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}
