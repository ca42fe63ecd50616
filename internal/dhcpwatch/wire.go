package dhcpwatch

import (
	"fmt"
	"net"
	"slices"

	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"

	"github.com/fairlead-lb/fairlead/internal/netif"
)

// wire is DHCP on one interface.
type wire interface {
	// Next waits for the next message that says something about an address.
	Next() (message, error)
	Close() error
}

const (
	etherTypeIPv4 = 0x0800
	maxPacket     = 1500
	serverPort    = 67
	clientPort    = 68
)

// dhcp lets whole UDP packets to DHCP's ports through. It sees packets from the IPv4
// header on.
var dhcp = []bpf.Instruction{
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

// packetWire hears DHCP by a packet socket, which gets also what no program of the node
// asked for.
type packetWire struct {
	conn *packet.Conn
	buf  []byte // owned by Next
}

func dial(i netif.Interface) (wire, error) {
	filter, err := bpf.Assemble(slices.Concat(netif.DropOtherHosts(), dhcp))
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", i.Name, err)
	}
	nif, err := net.InterfaceByIndex(i.Index)
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", i.Name, err)
	}
	conn, err := packet.Listen(nif, packet.Datagram, etherTypeIPv4, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("listen for DHCP on %s: %w", i.Name, err)
	}
	return &packetWire{conn: conn, buf: make([]byte, maxPacket)}, nil
}

func (w *packetWire) Next() (message, error) {
	for {
		n, _, err := w.conn.ReadFrom(w.buf)
		if err != nil {
			return message{}, err
		}
		if m, ok := parse(w.buf[:n]); ok {
			return m, nil
		}
	}
}

func (w *packetWire) Close() error { return w.conn.Close() }
