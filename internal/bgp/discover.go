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

	"github.com/mdlayher/ndp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv6"
	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/internal/retry"
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
	echo := icmp.Echo{ID: 0xfa00 | int(byte(time.Now().UnixNano())), Seq: 1}
	solicitation, err1 := ndp.MarshalMessage(&ndp.RouterSolicitation{})
	request, err2 := (&icmp.Message{Type: ipv6.ICMPTypeEchoRequest, Body: &echo}).Marshal(nil)
	if err := errors.Join(err1, err2); err != nil {
		return netip.Addr{}, err
	}
	for _, m := range [][]byte{solicitation, request} {
		if err := writeICMP(c, m, allRouters, i.Index); err != nil {
			return netip.Addr{}, &plainError{fmt.Sprintf("sending router solicitations on %s failed: %v; check that it has an IPv6 link-local address", name, errors.Unwrap(err))}
		}
	}
	router, err := awaitRouter(c, i, echo.ID)
	if err != nil {
		return netip.Addr{}, err
	}
	return router, advertiseSelf(ctx, c, router, i.Index)
}

// writeICMP sends a message whose checksum the kernel fills in.
func writeICMP(c *ipv6.PacketConn, message []byte, to netip.Addr, index int) error {
	_, err := c.WriteTo(message, nil, &net.IPAddr{IP: to.AsSlice(), Zone: strconv.Itoa(index)})
	return err
}

// advertiseSelf sends a router advertisement to the router, with lifetime 0, as this node is
// not a default router (RFC 4861, 4.2). FRR and other routers discover unnumbered neighbours
// only by it.
func advertiseSelf(ctx context.Context, c *ipv6.PacketConn, router netip.Addr, index int) error {
	advertisement, err := ndp.MarshalMessage(&ndp.RouterAdvertisement{})
	if err != nil {
		return err
	}
	if err := writeICMP(c, advertisement, router, index); err != nil {
		return &plainError{fmt.Sprintf("cannot reach %s: %v", router, errors.Unwrap(err))}
	}
	return retry.Sleep(ctx, settleDelay)
}

// awaitRouter returns the first router that sends an advertisement, otherwise the only one that
// replied to the ping.
func awaitRouter(c *ipv6.PacketConn, i *net.Interface, echoID int) (netip.Addr, error) {
	var answered []netip.Addr
	buf := make([]byte, maxICMP)
	for {
		n, cm, from, err := c.ReadFrom(buf)
		if err != nil { // the deadline has passed
			return onlyRouter(answered, i.Name)
		}
		// What other interfaces received before the socket was bound to this one is in its queue.
		if cm == nil || cm.IfIndex != i.Index {
			continue
		}
		addr, ok := netip.AddrFromSlice(from.(*net.IPAddr).IP)
		if !ok || !addr.IsLinkLocalUnicast() {
			continue
		}
		addr = addr.WithZone(i.Name)
		switch {
		case isRouterAdvertisement(buf[:n], cm.HopLimit):
			return addr, nil
		case isEchoReply(buf[:n], echoID) && !slices.Contains(answered, addr):
			answered = append(answered, addr)
		}
	}
}

const (
	maxICMP                = 1500
	lenRouterAdvertisement = 16 // without options (RFC 4861, 4.2)
)

// isRouterAdvertisement reports whether a message is a router advertisement that RFC 4861 (6.1.2)
// lets a host believe. The kernel has checked its checksum. What is in its options is not
// parsed: a router with an option that is new, or unusual, is a router. So is one with lifetime 0:
// it is no default router (RFC 4861, 4.2), which says nothing about BGP.
func isRouterAdvertisement(message []byte, hopLimit int) bool {
	const code = 1
	if hopLimit != ndp.HopLimit || len(message) < lenRouterAdvertisement || message[code] != 0 {
		return false
	}
	m, err := ndp.ParseMessage(message[:lenRouterAdvertisement])
	if _, ok := m.(*ndp.RouterAdvertisement); err != nil || !ok {
		return false
	}
	for options := message[lenRouterAdvertisement:]; len(options) > 0; {
		if len(options) < 2 || options[1] == 0 || int(options[1])*8 > len(options) {
			return false
		}
		options = options[int(options[1])*8:]
	}
	return true
}

// isEchoReply reports whether a message answers the echo request with this identifier.
func isEchoReply(message []byte, id int) bool {
	m, err := icmp.ParseMessage(ipv6.ICMPTypeEchoReply.Protocol(), message)
	if err != nil || m.Type != ipv6.ICMPTypeEchoReply {
		return false
	}
	echo, ok := m.Body.(*icmp.Echo)
	return ok && echo.ID == id
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
			c.SetMulticastHopLimit(ndp.HopLimit), // RFC 4861, 6.1.1 and 6.1.2
			c.SetHopLimit(ndp.HopLimit),
			c.SetMulticastLoopback(false),
			c.SetControlMessage(ipv6.FlagHopLimit|ipv6.FlagInterface, true),
		)
	}
	if err != nil {
		c.Close()
		return nil, err
	}
	return c, nil
}
