package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"
)

var allRouters = netip.MustParseAddr("ff02::2")

// patience is how long routers are given to answer. RFC 4861 (6.2.6) allows
// them half a second before they advertise themselves.
const patience = 700 * time.Millisecond

// acquaintance is how long a router is given to pass on what it was told from
// one of its programs to another.
const acquaintance = 100 * time.Millisecond

// discover returns the link-local address of the one router behind an interface,
// and makes this node known to it.
//
// It asks for router advertisements (RFC 4861, 4.1), as routers with unnumbered
// sessions send them; and, as not all do, which router answers a ping to all of
// them. Kernel and other programs are not asked: a node that forwards, as
// Kubernetes' do, ignores router advertisements.
func discover(ctx context.Context, name string) (netip.Addr, error) {
	i, err := interfaceNamed(name)
	if err != nil {
		return netip.Addr{}, err
	}
	if i.Flags&net.FlagUp == 0 {
		return netip.Addr{}, &plainError{fmt.Sprintf("interface %s is down", name)}
	}
	c, err := openICMP(i)
	if err != nil {
		return netip.Addr{}, fmt.Errorf("look for a router on %s: %w", name, err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(patience))
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	id := byte(time.Now().UnixNano())
	for _, m := range [][]byte{
		{byte(ipv6.ICMPTypeRouterSolicitation), 0, 0, 0, 0, 0, 0, 0},
		{byte(ipv6.ICMPTypeEchoRequest), 0, 0, 0, 0xfa, id, 0, 1},
	} {
		// The kernel fills in the checksum.
		if _, err := c.WriteTo(m, nil, &net.IPAddr{IP: allRouters.AsSlice(), Zone: strconv.Itoa(i.Index)}); err != nil {
			return netip.Addr{}, &plainError{fmt.Sprintf("cannot ask for routers on %s: %v; has it an IPv6 link-local address?", name, errors.Unwrap(err))}
		}
	}
	router, err := listenForRouters(c, name, id)
	if err != nil {
		return netip.Addr{}, err
	}
	return router, introduce(ctx, c, router, i.Index)
}

// introduce advertises this node to the router alone, as one that is not a router
// for anybody (lifetime 0; RFC 4861, 4.2): FRR and others know a neighbour without
// an address by nothing else.
func introduce(ctx context.Context, c *ipv6.PacketConn, router netip.Addr, index int) error {
	advertisement := make([]byte, 16)
	advertisement[0] = byte(ipv6.ICMPTypeRouterAdvertisement)
	if _, err := c.WriteTo(advertisement, nil, &net.IPAddr{IP: router.AsSlice(), Zone: strconv.Itoa(index)}); err != nil {
		return &plainError{fmt.Sprintf("cannot reach %s: %v", router, errors.Unwrap(err))}
	}
	t := time.NewTimer(acquaintance)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listenForRouters returns who advertises itself, or else the only one that
// answered the ping.
func listenForRouters(c *ipv6.PacketConn, name string, id byte) (netip.Addr, error) {
	var answered []netip.Addr
	buf := make([]byte, 1500)
	for {
		n, cm, from, err := c.ReadFrom(buf)
		if err != nil { // time is up
			return theOnly(answered, name)
		}
		addr, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if !ok || n < 8 || !addr.IsLinkLocalUnicast() {
			continue
		}
		addr = addr.WithZone(name)
		switch ipv6.ICMPType(buf[0]) {
		case ipv6.ICMPTypeRouterAdvertisement:
			if cm != nil && cm.HopLimit == 255 { // RFC 4861, 6.1.2
				return addr, nil
			}
		case ipv6.ICMPTypeEchoReply:
			if buf[4] == 0xfa && buf[5] == id && !slices.Contains(answered, addr) {
				answered = append(answered, addr)
			}
		}
	}
}

func theOnly(routers []netip.Addr, name string) (netip.Addr, error) {
	switch len(routers) {
	case 0:
		return netip.Addr{}, &plainError{fmt.Sprintf("no router answers on %s; is it there, and does it send router advertisements?", name)}
	case 1:
		return routers[0], nil
	default:
		texts := make([]string, len(routers))
		for i, r := range routers {
			texts[i] = r.WithZone("").String()
		}
		slices.Sort(texts)
		return netip.Addr{}, &plainError{fmt.Sprintf("%d routers answer on %s (%s), and none advertises itself; let the one that is meant send router advertisements, or write peerAddress instead of interface", len(routers), name, strings.Join(texts, ", "))}
	}
}

func openICMP(i *net.Interface) (*ipv6.PacketConn, error) {
	raw, err := net.ListenPacket("ip6:ipv6-icmp", "::")
	if err != nil {
		return nil, err
	}
	c := ipv6.NewPacketConn(raw)
	var filter ipv6.ICMPFilter
	filter.SetAll(true)
	filter.Accept(ipv6.ICMPTypeRouterAdvertisement)
	filter.Accept(ipv6.ICMPTypeEchoReply)
	rc, err := raw.(*net.IPConn).SyscallConn()
	if err == nil {
		err = errors.Join(
			control(rc, func(fd int) error { return unix.BindToDevice(fd, i.Name) }),
			c.SetICMPFilter(&filter),
			c.SetMulticastInterface(i),
			c.SetMulticastHopLimit(255), // RFC 4861, 6.1.1 and 6.1.2
			c.SetHopLimit(255),
			c.SetMulticastLoopback(false),
			c.SetControlMessage(ipv6.FlagHopLimit, true),
		)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
