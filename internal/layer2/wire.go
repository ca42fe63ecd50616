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

// wire is one protocol on one interface.
type wire interface {
	// Next waits for the next packet that says something about addresses.
	Next() (heard, error)
	// Answer tells who asked that the address is here.
	Answer(heard) error
	// Announce tells all neighbours that the address is here now.
	Announce(netip.Addr) error
	// Probe asks whether anybody has the address, without saying that it is here.
	Probe(netip.Addr) error
	// Verify asks the interface with this hardware address alone whether it has the
	// address.
	Verify(netip.Addr, net.HardwareAddr) error
	// Listen and Ignore say for which addresses questions are to be heard.
	Listen(netip.Addr) error
	Ignore(netip.Addr) error
	Close() error
}

// dial opens the wire of a family on an interface.
func dial(ifi netif.Interface, f lb.Family) (wire, error) {
	nif, err := net.InterfaceByIndex(ifi.Index)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", ifi.Name, err)
	}
	if f == lb.IPv6 {
		return dialNDP(nif)
	}
	return dialARP(nif)
}

// arpWire speaks ARP (RFC 826) over a packet socket that gets no other packets.
type arpWire struct {
	conn *packet.Conn
	mac  net.HardwareAddr
	buf  []byte // owned by Next
}

const etherTypeARP = 0x0806

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// broadcasts lets through what was sent to more than this host.
var broadcasts = []bpf.Instruction{
	bpf.LoadExtension{Num: bpf.ExtType},
	bpf.JumpIf{Cond: bpf.JumpEqual, Val: syscall.PACKET_HOST, SkipTrue: 1},
	bpf.RetConstant{Val: maxPacket},
}

// telling lets ARP through but for the answers to what the kernel asked for itself: where
// another host is. Who answers a probe does so to no address (RFC 5227, 2.1.1), and
// who answers an announcement, to the address that it has too.
var telling = []bpf.Instruction{
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

func dialARP(ifi *net.Interface) (wire, error) {
	filter, err := bpf.Assemble(slices.Concat(netif.Ours(), broadcasts, telling))
	if err != nil {
		return nil, fmt.Errorf("open ARP on %s: %w", ifi.Name, err)
	}
	conn, err := packet.Listen(ifi, packet.Datagram, etherTypeARP, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open ARP on %s: %w", ifi.Name, err)
	}
	return &arpWire{conn: conn, mac: ifi.HardwareAddr, buf: make([]byte, maxPacket)}, nil
}

func (w *arpWire) Next() (heard, error) {
	for {
		n, from, err := w.conn.ReadFrom(w.buf)
		if err != nil {
			return heard{}, err
		}
		if h, ok := parseARP(w.buf[:n], sourceOf(from), w.mac); ok {
			return h, nil
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

func (w *arpWire) Answer(h heard) error {
	return w.send(arp.OperationReply, h.Target, h.MAC, h.From, h.MAC)
}

// Probe sends an ARP probe (RFC 5227, 1.1), which has no sender address.
func (w *arpWire) Probe(a netip.Addr) error {
	return w.send(arp.OperationRequest, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a, broadcast)
}

// Verify sends an ARP probe to one host: its sender address is 0.0.0.0 too, so that
// the host does not learn from it that the address is here.
func (w *arpWire) Verify(a netip.Addr, mac net.HardwareAddr) error {
	return w.send(arp.OperationRequest, netip.IPv4Unspecified(), make(net.HardwareAddr, 6), a, mac)
}

// Announce sends both forms of a gratuitous ARP, as there are systems that heed
// only one: a request for the address itself (RFC 5227, 3) and a reply.
func (w *arpWire) Announce(a netip.Addr) error {
	return errors.Join(
		w.send(arp.OperationRequest, a, make(net.HardwareAddr, 6), a, broadcast),
		w.send(arp.OperationReply, a, broadcast, a, broadcast),
	)
}

// send says that address is here, to target, in a frame to the MAC to.
func (w *arpWire) send(op arp.Operation, address netip.Addr, targetMAC net.HardwareAddr, target netip.Addr, to net.HardwareAddr) error {
	p, err := arp.NewPacket(op, w.mac, address, targetMAC, target)
	if err != nil {
		return err
	}
	b, err := p.MarshalBinary()
	if err != nil {
		return err
	}
	_, err = w.conn.WriteTo(b, &packet.Addr{HardwareAddr: to})
	return err
}

func (w *arpWire) Listen(netip.Addr) error { return nil } // requests are broadcast
func (w *arpWire) Ignore(netip.Addr) error { return nil }
func (w *arpWire) Close() error            { return w.conn.Close() }

// ndpWire speaks NDP's solicitations and advertisements (RFC 4861, 7.2).
//
// It hears solicitations through a packet socket: those that verify an entry
// are sent to the address itself (RFC 4861, 7.3.3), which is not the node's own,
// so that the kernel would not hand them to an ICMPv6 socket.
type ndpWire struct {
	ifi    *net.Interface
	self   netip.Addr   // the interface's link-local address, without a zone
	conns  []*ndp.Conn  // the first sends. All join groups: how many one may join the kernel bounds (net.core.optmem_max)
	heard  *packet.Conn // IPv6 packets that are solicitations or advertisements
	buf    []byte       // owned by Next
	groups map[netip.Addr]membership
}

// membership is that of a solicited-node group.
type membership struct {
	conn  *ndp.Conn // that joined it
	addrs int       // that need it
}

// neighbours lets neighbor solicitations and advertisements through that did not
// cross a router (hop limit 255; RFC 4861, 7.1.1). It sees packets from the IPv6
// header on.
var neighbours = []bpf.Instruction{
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
	maxPacket      = 1500 // a solicitation is 72 bytes with its usual option
)

func dialNDP(ifi *net.Interface) (wire, error) {
	conn, self, err := mute(ifi)
	if err != nil {
		return nil, fmt.Errorf("open NDP on %s: %w", ifi.Name, err)
	}
	filter, err := bpf.Assemble(slices.Concat(netif.Ours(), neighbours))
	if err != nil {
		return nil, fmt.Errorf("open NDP on %s: %w", ifi.Name, errors.Join(err, conn.Close()))
	}
	packets, err := packet.Listen(ifi, packet.Datagram, etherTypeIPv6, &packet.Config{Filter: filter})
	if err != nil {
		return nil, fmt.Errorf("open NDP on %s: %w", ifi.Name, errors.Join(err, conn.Close()))
	}
	return &ndpWire{ifi: ifi, self: self, conns: []*ndp.Conn{conn}, heard: packets, buf: make([]byte, maxPacket), groups: map[netip.Addr]membership{}}, nil
}

// mute opens a socket that only sends, from the link-local address that it returns,
// and joins groups.
func mute(ifi *net.Interface) (*ndp.Conn, netip.Addr, error) {
	conn, self, err := ndp.Listen(ifi, ndp.LinkLocal)
	if err != nil {
		return nil, self, err
	}
	var none ipv6.ICMPFilter
	none.SetAll(true)
	if err := conn.SetICMPFilter(&none); err != nil {
		return nil, self, errors.Join(err, conn.Close())
	}
	return conn, self.WithZone(""), nil
}

func (w *ndpWire) Next() (heard, error) {
	for {
		n, from, err := w.heard.ReadFrom(w.buf)
		if err != nil {
			return heard{}, err
		}
		if h, ok := parseNDP(w.buf[:n], sourceOf(from), w.self); ok {
			return h, nil
		}
	}
}

// Answer advertises to who asked, or to all nodes when the question was a probe
// for a duplicate, which has no sender (RFC 4861, 7.2.4).
func (w *ndpWire) Answer(h heard) error {
	if h.From.IsUnspecified() {
		return w.advertise(h.Target, false, netip.IPv6LinkLocalAllNodes())
	}
	return w.advertise(h.Target, true, h.From)
}

// Probe solicits the address. It does so from this node's link-local address, not
// from none (RFC 4862, 5.4.2): who has the address answers either, and who only
// probes for it as well must not take this for a probe and give up.
func (w *ndpWire) Probe(a netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return err
	}
	return w.conns[0].WriteTo(&ndp.NeighborSolicitation{
		TargetAddress: a,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Source, Addr: w.ifi.HardwareAddr}},
	}, nil, group)
}

// Verify solicits the address from one host. The kernel would resolve the address by
// its own cache, so the packet is made here.
func (w *ndpWire) Verify(a netip.Addr, mac net.HardwareAddr) error {
	b, err := marshalSolicitation(w.self, w.ifi.HardwareAddr, a)
	if err != nil {
		return err
	}
	_, err = w.heard.WriteTo(b, &packet.Addr{HardwareAddr: mac})
	return err
}

// Announce sends an unsolicited advertisement (RFC 4861, 7.2.6).
func (w *ndpWire) Announce(a netip.Addr) error {
	return w.advertise(a, false, netip.IPv6LinkLocalAllNodes())
}

func (w *ndpWire) advertise(a netip.Addr, solicited bool, to netip.Addr) error {
	return w.conns[0].WriteTo(&ndp.NeighborAdvertisement{
		Solicited:     solicited,
		Override:      true,
		TargetAddress: a,
		Options:       []ndp.Option{&ndp.LinkLayerAddress{Direction: ndp.Target, Addr: w.ifi.HardwareAddr}},
	}, nil, to)
}

func (w *ndpWire) Listen(a netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return err
	}
	m := w.groups[group]
	if m.addrs == 0 {
		if m.conn, err = w.join(group); err != nil {
			return fmt.Errorf("join %s: %w", group, err)
		}
	}
	m.addrs++
	w.groups[group] = m
	return nil
}

// join joins the group by a socket that has room for it.
func (w *ndpWire) join(group netip.Addr) (*ndp.Conn, error) {
	for _, c := range slices.Backward(w.conns) {
		if err := c.JoinGroup(group); !errors.Is(err, syscall.ENOMEM) {
			return c, err
		}
	}
	another, _, err := mute(w.ifi)
	if err != nil {
		return nil, err
	}
	w.conns = append(w.conns, another)
	return another, another.JoinGroup(group)
}

func (w *ndpWire) Ignore(a netip.Addr) error {
	group, err := ndp.SolicitedNodeMulticast(a)
	if err != nil {
		return err
	}
	m := w.groups[group]
	if m.addrs--; m.addrs > 0 {
		w.groups[group] = m
		return nil
	}
	delete(w.groups, group)
	return m.conn.LeaveGroup(group)
}

func (w *ndpWire) Close() error {
	errs := []error{w.heard.Close()}
	for _, c := range w.conns {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}
