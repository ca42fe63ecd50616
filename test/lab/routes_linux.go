package lab

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// routeBuffer takes the news of some ten thousand routes while nobody reads.
const routeBuffer = 16 << 20

// rtaNHID is the kernel's RTA_NH_ID: the route's next hops are an object of
// their own, shared with other routes.
const rtaNHID = 30

// listenRoutes opens a socket, in the calling thread's namespace, that is told
// of every change of a route.
func listenRoutes() (io.ReadCloser, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, routeBuffer)
	if err == nil {
		err = unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: unix.RTMGRP_IPV4_ROUTE | unix.RTMGRP_IPV6_ROUTE})
	}
	if err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("netlink socket: %w", err)
	}
	return os.NewFile(uintptr(fd), "netlink:routes"), nil
}

// dumpRoutes reads the routes that routing daemons have installed in the
// calling thread's namespace.
func dumpRoutes() ([]routeNews, error) {
	names := interfaceNames()
	var all []routeNews
	for _, family := range []int{unix.AF_INET, unix.AF_INET6} {
		b, err := syscall.NetlinkRIB(unix.RTM_GETROUTE, family)
		if err != nil {
			return nil, fmt.Errorf("read routes: %w", err)
		}
		routes, err := parseRoutes(b, names)
		if err != nil {
			return nil, err
		}
		all = append(all, routes...)
	}
	return all, nil
}

// interfaceNames are the calling thread's, by index.
func interfaceNames() map[uint32]string {
	names := map[uint32]string{}
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		names[uint32(i.Index)] = i.Name
	}
	return names
}

// parseRoutes picks the routes of routing daemons out of what the kernel says.
func parseRoutes(b []byte, names map[uint32]string) ([]routeNews, error) {
	messages, err := syscall.ParseNetlinkMessage(b)
	if err != nil {
		return nil, fmt.Errorf("netlink: %w", err)
	}
	var all []routeNews
	for i := range messages {
		m := &messages[i]
		if m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE || len(m.Data) < unix.SizeofRtMsg {
			continue
		}
		attributes, err := syscall.ParseNetlinkRouteAttr(m)
		if err != nil {
			return nil, fmt.Errorf("netlink: %w", err)
		}
		if r, ok := parseRoute(m, attributes, names); ok {
			all = append(all, r)
		}
	}
	return all, nil
}

func parseRoute(m *syscall.NetlinkMessage, attributes []syscall.NetlinkRouteAttr, names map[uint32]string) (routeNews, bool) {
	// struct rtmsg: family, dst_len, src_len, tos, table, protocol, scope, type, flags
	family, bits, table, protocol, kind := m.Data[0], int(m.Data[1]), m.Data[4], m.Data[5], m.Data[7]
	switch protocol {
	case unix.RTPROT_ZEBRA, unix.RTPROT_BIRD, unix.RTPROT_BGP:
	default:
		return routeNews{}, false
	}
	if table != unix.RT_TABLE_MAIN || kind != unix.RTN_UNICAST {
		return routeNews{}, false
	}
	to := netip.IPv4Unspecified()
	if family == unix.AF_INET6 {
		to = netip.IPv6Unspecified()
	}
	// To remove a route of IPv6 is to remove its paths, which may come one by
	// one; everything else is about the whole route.
	r := routeNews{gone: m.Header.Type == unix.RTM_DELROUTE, partly: family == unix.AF_INET6}
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.RTA_DST:
			if ip, ok := netip.AddrFromSlice(a.Value); ok {
				to = ip
			}
		case rtaNHID:
			r.partly = false
		case unix.RTA_MULTIPATH:
			r.via = append(r.via, parseMultipath(a.Value, names)...)
		}
	}
	if via := parseGateway(attributes, 0, names); via.IsValid() {
		r.via = append(r.via, via)
	}
	r.to = netip.PrefixFrom(to, bits)
	return r, true
}

// parseMultipath reads a list of struct rtnexthop (len, flags, hops, ifindex),
// each with attributes of its own.
func parseMultipath(b []byte, names map[uint32]string) []netip.Addr {
	var all []netip.Addr
	for len(b) >= unix.SizeofRtNexthop {
		size := int(binary.NativeEndian.Uint16(b))
		if size < unix.SizeofRtNexthop || size > len(b) {
			break
		}
		index := binary.NativeEndian.Uint32(b[4:])
		// The parser wants a message: a header and a struct rtmsg before them.
		m := syscall.NetlinkMessage{Header: syscall.NlMsghdr{Type: unix.RTM_NEWROUTE}, Data: make([]byte, unix.SizeofRtMsg)}
		m.Data = append(m.Data, b[unix.SizeofRtNexthop:size]...)
		if attributes, err := syscall.ParseNetlinkRouteAttr(&m); err == nil {
			if via := parseGateway(attributes, index, names); via.IsValid() {
				all = append(all, via)
			}
		}
		b = b[min(len(b), (size+3)&^3):]
	}
	return all
}

// parseGateway finds the next hop, of the route's own family or of IPv6 for a
// route of IPv4 (RFC 8950).
func parseGateway(attributes []syscall.NetlinkRouteAttr, index uint32, names map[uint32]string) netip.Addr {
	var via netip.Addr
	for _, a := range attributes {
		switch a.Attr.Type {
		case unix.RTA_GATEWAY:
			via, _ = netip.AddrFromSlice(a.Value)
		case unix.RTA_VIA: // the family in two bytes, then the address
			if len(a.Value) > 2 {
				via, _ = netip.AddrFromSlice(a.Value[2:])
			}
		case unix.RTA_OIF:
			index = binary.NativeEndian.Uint32(a.Value)
		}
	}
	if via.IsLinkLocalUnicast() && via.Is6() {
		via = via.WithZone(names[index])
	}
	return via
}
