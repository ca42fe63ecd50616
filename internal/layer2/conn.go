package layer2

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"syscall"

	"github.com/mdlayher/arp"
	"github.com/mdlayher/ndp"
	"github.com/mdlayher/packet"
	"golang.org/x/net/bpf"
	"golang.org/x/net/ipv6"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// conn sends and receives one protocol on one interface.
type conn interface {
	// Next waits for the next valid packet.
	Next() (frame, error)
	// Answer sends a reply to the query.
	Answer(frame) error
	// Announce tells all neighbours that this interface has the address.
	Announce(netip.Addr) error
	// Probe asks all hosts whether one uses the address, without claiming it.
	Probe(netip.Addr) error
	// Verify asks only the host with this hardware address whether it uses the address.
	Verify(netip.Addr, net.HardwareAddr) error
	// Listen and Ignore add and remove an address whose queries are received.
	Listen(netip.Addr) error
	Ignore(netip.Addr) error
	Close() error
}

// dial opens the connection of a family on an interface.
func dial(ifi netif.Interface, f lb.Family) (conn, error) {
	nif, err := net.InterfaceByIndex(ifi.Index)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", ifi.Name, err)
	}
	if f == lb.IPv6 {
		return dialNDP(nif)
	}
	return dialARP(nif)
}

// arpConn sends and receives ARP (RFC 826) by a packet socket.
type arpConn struct {
	socket *packet.Conn
	mac    net.HardwareAddr
	buf    []byte // owned by Next
}

const etherTypeARP = 0x0806

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// broadcastFilter accepts packets that were not sent to this host alone, and leaves the
// others to the next filter.
var broadcastFilter = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: syscall.PACKET_HOST, SkipTrue: 1},
	bpf.RetConstant{Val: maxPacket},
}

// arpFilter accepts ARP packets, except replies to the kernel's own queries for other hosts.
// The reply to a probe has the target 0.0.0.0 (RFC 5227, 2.1.1); the reply to an
// announcement has the address in conflict as its sender and its target.
var arpFilter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 2}, // operation
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(arp.OperationReply), SkipTrue: 5},
	bpf.LoadAbsolute{Off: 14, Size: 4}, // sender's address
	bpf.TAX{},
	bpf.LoadAbsolute{Off: 24, Size: 4}, // target's
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: 0, SkipTrue: 1},
	bpf.JumpIfX{Cond: bpf.JumpNotEqual, SkipTrue: 1},
	bpf.RetConstant{Val: maxPacket},
	bpf.RetConstant{Val: 0},
}

func dialARP(ifi *net.Interface) (conn, error) {
	filter, err := bpf.Assemble(slices.Concat(netif.DropOtherHosts(), broadcastFilter, arpFilter))
	if err != nil {
		return nil, fmt.Errorf("open ARP on %s: %w", ifi.Name, err)
	}
	socket, err := packet.Listen(ifi, packet.Datagram, etherTypeARP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open ARP on %s: %w", ifi.Name, err)
	}
	return &arpConn{socket: socket, mac: ifi.HardwareAddr, buf: make([]byte, maxPacket)}, nil
}

func (c *arpConn) Next() (frame, error) {
	for {
		n, from, err := c.socket.ReadFrom(c.buf)
		if err != nil {
			return frame{}, err
		}
		if f, ok := parseARP(c.buf[:n], sourceOf(from), c.mac); ok {
			return f, nil
		}
	}
}

// sourceOf returns the Ethernet address that a frame came from.
func sourceOf(from net.Addr) net.HardwareAddr {
	if a, ok := from.(*packet.Addr); ok {
		return a.HardwareAddr
	}
	return nil
}

func (c *arpConn) Answer(f frame) error {
	return c.send(arp.OperationReply, f.Target, f.MAC, f.Sender, f.MAC)
}

// Probe sends an ARP probe (RFC 5227, 1.1), which has no sender address.
func (c *arpConn) Probe(a netip.Addr) error {
	return c.send(arp.OperationRequest, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a, broadcast)
}

// Verify sends an ARP probe to one host: its sender address is 0.0.0.0 too, so that
// the host does not learn from it that the address is here.
func (c *arpConn) Verify(a netip.Addr, mac net.HardwareAddr) error {
	return c.send(arp.OperationRequest, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a, mac)
}

// Announce sends both forms of gratuitous ARP, a request for the address itself (RFC 5227,
// 3) and a reply, as some systems accept only one of them.
func (c *arpConn) Announce(a netip.Addr) error {
	return errors.Join(
		c.send(arp.OperationRequest, a, make(net.HardwareAddr, 6), a, broadcast),
		c.send(arp.OperationReply, a, broadcast, a, broadcast),
	)
}

// send sends an ARP packet with the sender address and this interface's MAC, for target, to
// the MAC to.
func (c *arpConn) send(op arp.Operation, sender netip.Addr, targetMAC net.HardwareAddr, target netip.Addr, to net.HardwareAddr) error {
	p, err := arp.NewPacket(op, c.mac, sender, targetMAC, target)
	if err != nil {
		return err
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = c.socket.WriteTo(b, &packet.Addr{HardwareAddr: to})
	return err
}

func (c *arpConn) Listen(netip.Addr) error { return nil } // requests are broadcast
func (c *arpConn) Ignore(netip.Addr) error { return nil }
func (c *arpConn) Close() error            { return c.socket.Close() }

// ndpConn sends and receives NDP solicitations and advertisements (RFC 4861, 7.2).
//
// It receives by a packet socket: a solicitation that verifies a cache entry is sent to the
// address itself (RFC 4861, 7.3.3), which is not assigned to the node, so the kernel does not
// deliver it to an ICMPv6 socket.
type ndpConn struct {
	ifi     *net.Interface
	self    netip.Addr   // the interface's link-local address, without a zone
	sockets []*ndp.Conn  // the first one sends; all join groups, as the kernel limits the groups of one socket (net.core.optmem_max)
	packets *packet.Conn // IPv6 packets that are solicitations or advertisements
	buf     []byte       // owned by Next
	groups  map[netip.Addr]membership
}

// membership is the membership in one solicited-node group.
type membership struct {
	socket *ndp.Conn // that joined the group
	addrs  int       // that need the group
}

// ndpFilter accepts neighbor solicitations and advertisements that no router forwarded (hop
// limit 255; RFC 4861, 7.1.1). Offsets start at the IPv6 header.
var ndpFilter = []bpf.Instruction{
	bpf.LoadAbsolute{Off: 6, Size: 2}, // next header, hop limit
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: protocolICMPv6<<8 | ndp.HopLimit, SkipTrue: 4},
	bpf.LoadAbsolute{Off: ipv6.HeaderLen, Size: 1}, // ICMPv6 type
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(ipv6.ICMPTypeNeighborSolicitation), SkipTrue: 1},
	bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: uint32(ipv6.ICMPTypeNeighborAdvertisement), SkipTrue: 1},
	bpf.RetConstant{Val: maxPacket},
	bpf.RetConstant{Val: 0},
}

const (
	protocolICMPv6 = 58
	etherTypeIPv6  = 0x86dd
	maxPacket      = 1500 // a solicitation with its usual option has 72 bytes
)

func dialNDP(ifi *net.Interface) (conn, error) {
	socket, self, err := openSender(ifi)
	if err != nil {
		return nil, fmt.Errorf("open NDP on %s: %w", ifi.Name, err)
	}
	filter, err := bpf.Assemble(slices.Concat(netif.DropOtherHosts(), ndpFilter))
	if err != nil {
		return nil, fmt.Errorf("open NDP on %s: %w", ifi.Name, errors.Join(err, socket.Close()))
	}
	packets, err := packet.Listen(ifi, packet.Datagram, etherTypeIPv6, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open NDP on %s: %w", ifi.Name, errors.Join(err, socket.Close()))
	}
	return &ndpConn{ifi: ifi, self: self, sockets: []*ndp.Conn{socket}, packets: packets, buf: make([]byte, maxPacket), groups: map[netip.Addr]membership{}}, nil
}

// openSender opens a socket that sends from the link-local address that it returns, and
// joins groups, but receives nothing.
func openSender(ifi *net.Interface) (*ndp.Conn, netip.Addr, error) {
	socket, self, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, self, err
	}
	var none ipv6.ICMPFilter
	none.SetAll(true)
	if err := socket.SetICMPFilter(&none); err != nil {
		return nil, self, errors.Join(err, socket.Close())
	}
	return socket, self.WithZone(""), nil
}

func (c *ndpConn) Next() (frame, error) {
	for {
		n, from, err := c.packets.ReadFrom(c.buf)
		if err != nil {
			return frame{}, err
		}
		if f, ok := parseNDP(c.buf[:n], sourceOf(from), c.self); ok {
			return f, nil
		}
	}
}

// Answer sends the advertisement to the querier, or to all nodes if the query was for
// duplicate address detection, which has no sender address (RFC 4861, 7.2.4).
func (c *ndpConn) Answer(f frame) error {
	if f.Sender.IsUnspecified() {
		return c.advertise(f.Target, false, netip.IPv6LinkLocalAllNodes())
	}
	return c.advertise(f.Target, true, f.Sender)
}

// Probe solicits the address, from this node's link-local address instead of the unspecified
// one (RFC 4862, 5.4.2). A host that uses the address replies to both. A host that is just
// probing for it must not take this for duplicate address detection and give it up.
func (c *ndpConn) Probe(a netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return err
	}
	return c.sockets[0].WriteTo(&ndp.NeighborSolicitation{
		TargetAddress: a,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: c.ifi.HardwareAddr}},
	}, nil, group)
}

// Verify solicits the address from one host. It builds the packet itself, as the kernel would
// resolve the address by its own cache.
func (c *ndpConn) Verify(a netip.Addr, mac net.HardwareAddr) error {
	b, err := marshalSolicitation(c.self, c.ifi.HardwareAddr, a)
	if err != nil {
		return err
	}
	_, err = c.packets.WriteTo(b, &packet.Addr{HardwareAddr: mac})
	return err
}

// Announce sends an unsolicited advertisement (RFC 4861, 7.2.6).
func (c *ndpConn) Announce(a netip.Addr) error {
	return c.advertise(a, false, netip.IPv6LinkLocalAllNodes())
}

func (c *ndpConn) advertise(a netip.Addr, solicited bool, to netip.Addr) error {
	return c.sockets[0].WriteTo(&ndp.NeighborAdvertisement{
		Solicited:     solicited,
		Override:      true,
		TargetAddress: a,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: c.ifi.HardwareAddr}},
	}, nil, to)
}

func (c *ndpConn) Listen(a netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return err
	}
	m := c.groups[group]
	if m.addrs == 0 {
		if m.socket, err = c.join(group); err != nil {
			return fmt.Errorf("join %s: %w", group, err)
		}
	}
	m.addrs++
	c.groups[group] = m
	return nil
}

// join joins the group by a socket that has not reached the limit of groups.
func (c *ndpConn) join(group netip.Addr) (*ndp.Conn, error) {
	for _, s := range slices.Backward(c.sockets) {
		if err := s.JoinGroup(group); !errors.Is(err, syscall.ENOMEM) {
			return s, err
		}
	}
	another, _, err := openSender(c.ifi)
	if err != nil {
		return nil, err
	}
	c.sockets = append(c.sockets, another)
	return another, another.JoinGroup(group)
}

func (c *ndpConn) Ignore(a netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return err
	}
	m := c.groups[group]
	if m.addrs--; m.addrs > 0 {
		c.groups[group] = m
		return nil
	}
	delete(c.groups, group)
	return m.socket.LeaveGroup(group)
}

func (c *ndpConn) Close() error {
	errs := []error{c.packets.Close()}
	for _, s := range c.sockets {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}
