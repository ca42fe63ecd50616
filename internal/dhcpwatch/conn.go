package dhcpwatch

import (
	"fmt"
	"net"
	"slices"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"github.com/fairlead-lb/fairlead/internal/netif"
)

// conn receives DHCP messages on one interface.
type conn interface {
	// Next waits for the next message about an address.
	Next() (message, error)
	Close() error
}

const (
	etherTypeIPv4 = 0x0800
	maxPacket     = 1500
	serverPort    = 67
	clientPort    = 68
)

// dhcpFilter accepts UDP packets to the ports of DHCP that are not fragmented. Offsets start at
// the IPv4 header.
var dhcpFilter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 9, Size: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolUDP, SkipTrue: 7},
	bpf.LoadAbsolute{Off: 6, Size: 2}, // flags and offset of the fragment
	bpf.JumpIf{Cond: bpf.JumpBitsSet, Val: 0x3fff, SkipTrue: 5},
	bpf.LoadMemShift{Off: 0}, // X: length of the IPv4 header
	bpf.LoadIndirect{Off: 2, Size: 2},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: serverPort, SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: clientPort, SkipTrue: 1},
	bpf.RetConstant{Val: maxPacket},
	bpf.RetConstant{Val: 0},
}

// packetConn receives by a packet socket, which gets packets for ports on which no program of
// the node listens.
type packetConn struct {
	socket *packet.Conn
	buf    []byte // owned by Next
}

func dial(i netif.Interface) (conn, error) {
	filter, err := bpf.Assemble(slices.Concat(netif.DropOtherHosts(), dhcpFilter))
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", i.Name, err)
	}
	nif, err := net.InterfaceByIndex(i.Index)
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", i.Name, err)
	}
	socket, err := packet.Listen(nif, packet.Datagram, etherTypeIPv4, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", i.Name, err)
	}
	return &packetConn{socket: socket, buf: make([]byte, maxPacket)}, nil
}

func (c *packetConn) Next() (message, error) {
	for {
		n, _, err := c.socket.ReadFrom(c.buf)
		if err != nil {
			return message{}, err
		}
		if m, ok := parse(c.buf[:n]); ok {
			return m, nil
		}
	}
}

func (c *packetConn) Close() error { return c.socket.Close() }
