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

// discoverTimeout is how long discover waits for replies. RFC 4861 (6.2.6) allows routers half
// a second until they send an advertisement.
const discoverTimeout = 700 * time.Millisecond

// settleDelay is how long a router may need to pass the advertisement from one of its processes
// to the BGP process.
const settleDelay = 100 * time.Millisecond

// discover returns the link-local address of the only router on an interface, and advertises
// this node to it.
//
// It solicits router advertisements (RFC 4861, 4.1), which routers with unnumbered sessions
// send. As not all do, it also pings all routers. It cannot read the router from the kernel:
// a host that forwards packets, as Kubernetes nodes do, ignores router advertisements.
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
		return netip.Addr{}, fmt.Errorf("discover the router on %s: %w", name, err)
	}
	defer c.Close()
	_ = c.SetReadDeadline(time.Now().Add(discoverTimeout))
	defer context.AfterFunc(ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })()
	id := byte(time.Now().UnixNano())
	for _, m := range [][]byte{
		{byte(ipv6.ICMPTypeRouterSolicitation), 0, 0, 0, 0, 0, 0, 0},
		{byte(ipv6.ICMPTypeEchoRequest), 0, 0, 0, 0xfa, id, 0, 1},
	} {
		// The kernel fills in the checksum.
		if _, err := c.WriteTo(m, nil, &net.IPAddr{IP: allRouters.AsSlice(), Zone: strconv.Itoa(i.Index)}); err != nil {
			return netip.Addr{}, &plainError{fmt.Sprintf("sending router solicitations on %s failed: %v; check that it has an IPv6 link-local address", name, errors.Unwrap(err))}
		}
	}
	router, err := listenForRouters(c, name, id)
	if err != nil {
		return netip.Addr{}, err
	}
	return router, advertiseSelf(ctx, c, router, i.Index)
}

// advertiseSelf sends a router advertisement to the router, with lifetime 0, as this node is
// not a default router (RFC 4861, 4.2). FRR and other routers discover unnumbered neighbours
// only by it.
func advertiseSelf(ctx context.Context, c *ipv6.PacketConn, router netip.Addr, index int) error {
	advertisement := make([]byte, 16)
	advertisement[0] = byte(ipv6.ICMPTypeRouterAdvertisement)
	if _, err := c.WriteTo(advertisement, nil, &net.IPAddr{IP: router.AsSlice(), Zone: strconv.Itoa(index)}); err != nil {
		return &plainError{fmt.Sprintf("cannot reach %s: %v", router, errors.Unwrap(err))}
	}
	t := time.NewTimer(settleDelay)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// listenForRouters returns the first router that sends an advertisement, otherwise the only one
// that replied to the ping.
func listenForRouters(c *ipv6.PacketConn, name string, id byte) (netip.Addr, error) {
	var answered []netip.Addr
	buf := make([]byte, 1500)
	for {
		n, cm, from, err := c.ReadFrom(buf)
		if err != nil { // the deadline has passed
			return onlyRouter(answered, name)
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

func onlyRouter(routers []netip.Addr, name string) (netip.Addr, error) {
	switch len(routers) {
	case 0:
		return netip.Addr{}, &plainError{fmt.Sprintf("no router answers on %s; check that it is connected and sends router advertisements", name)}
	case 1:
		return routers[0], nil
	default:
		texts := make([]string, len(routers))
		for i, r := range routers {
			texts[i] = r.WithZone("").String()
		}
		slices.Sort(texts)
		return netip.Addr{}, &plainError{fmt.Sprintf("%d routers answer on %s (%s), and none sends router advertisements; enable them on one router, or write peerAddress instead of interface", len(routers), name, strings.Join(texts, ", "))}
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
