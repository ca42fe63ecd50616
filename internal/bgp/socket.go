package bgp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strconv"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

const (
	gtsmTTL = 255 // RFC 5082: only packets from a direct neighbour arrive with it
	// maxPassword is the kernel's TCP_MD5SIG_MAXKEYLEN.
	maxPassword = 80
	// internetControl is the precedence of routing protocols (RFC 4271, appendix E), so that
	// a congested link does not end the session.
	internetControl = 0xc0
	// ipv6MinHopCount is IPV6_MINHOPCOUNT, which x/sys does not have.
	ipv6MinHopCount = 73
)

// dial connects to the router by a socket with the options that the peer needs.
func dial(ctx context.Context, p *lb.BGPPeer, router netip.AddrPort) (*net.TCPConn, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		return control(c, func(fd int) error { return prepareDial(fd, p, router.Addr()) })
	}}
	source, err := indexed(p.Source)
	if err != nil {
		return nil, err
	}
	if source.IsValid() {
		d.LocalAddr = net.TCPAddrFromAddrPort(netip.AddrPortFrom(source, 0))
	}
	to, err := indexed(router.Addr())
	if err != nil {
		return nil, err
	}
	c, err := d.DialContext(ctx, "tcp", netip.AddrPortFrom(to, router.Port()).String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}

// indexed returns an address with the index of its interface as the zone instead of the name:
// package net caches the index of a name for a minute, also after the interface was recreated.
func indexed(a netip.Addr) (netip.Addr, error) {
	if a.Zone() == "" {
		return a, nil
	}
	i, err := interfaceNamed(a.Zone())
	if err != nil {
		return a, err
	}
	return a.WithZone(strconv.Itoa(i.Index)), nil
}

func interfaceNamed(name string) (*net.Interface, error) {
	i, err := net.InterfaceByName(name)
	if err != nil {
		return nil, &plainError{fmt.Sprintf("this node has no interface %q; correct interface, or select the nodes that have it with nodeSelectors", name)}
	}
	return i, nil
}

func prepareDial(fd int, p *lb.BGPPeer, router netip.Addr) error {
	if p.VRF != "" {
		if err := unix.BindToDevice(fd, p.VRF); err != nil {
			return fmt.Errorf("bind to %s: %w", p.VRF, err)
		}
	}
	if p.Password != "" {
		if err := setPassword(fd, netip.PrefixFrom(router.WithZone(""), router.BitLen()), p.Password); err != nil {
			return err
		}
	}
	return setHops(fd, p, router)
}

// setHops sets the TTL of sent packets and the minimum TTL of received ones.
func setHops(fd int, p *lb.BGPPeer, router netip.Addr) error {
	level, hops, minHops, class := unix.IPPROTO_IP, unix.IP_TTL, unix.IP_MINTTL, unix.IP_TOS
	if router.Is6() {
		level, hops, minHops, class = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, ipv6MinHopCount, unix.IPV6_TCLASS
	}
	var errs []error
	set := func(name, value int) {
		errs = append(errs, os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, name, value)))
	}
	set(class, internetControl)
	switch {
	case p.TTLSecurity:
		set(hops, gtsmTTL)
		set(minHops, gtsmTTL)
	case !p.Internal() && !p.Multihop:
		set(hops, 1) // not in RFC 4271, but common practice
	}
	return errors.Join(errs...)
}

// setPassword makes the kernel sign packets to these addresses and drop unsigned packets from
// them (RFC 2385). An empty password removes the setting.
func setPassword(fd int, to netip.Prefix, password lb.Secret) error {
	if len(password) > maxPassword {
		return fmt.Errorf("the password has %d characters, and TCP MD5 allows %d", len(password), maxPassword)
	}
	sig := unix.TCPMD5Sig{Keylen: uint16(len(password))}
	copy(sig.Key[:], password)
	option := unix.TCP_MD5SIG
	if !to.IsSingleIP() {
		option, sig.Flags, sig.Prefixlen = unix.TCP_MD5SIG_EXT, unix.TCP_MD5SIG_FLAG_PREFIX, uint8(to.Bits())
	}
	if a := to.Addr(); a.Is4() {
		sig.Addr.Family = unix.AF_INET
		copy(sig.Addr.Data[2:], a.AsSlice()) // after the port
	} else {
		sig.Addr.Family = unix.AF_INET6
		copy(sig.Addr.Data[6:], a.AsSlice()) // after port and flow
	}
	err := unix.SetsockoptTCPMD5Sig(fd, unix.IPPROTO_TCP, option, &sig)
	if password == "" && errors.Is(err, unix.ENOENT) {
		return nil // no password was set
	}
	return os.NewSyscallError("TCP_MD5SIG", err)
}

// control runs f on the socket.
func control(c syscall.RawConn, f func(fd int) error) error {
	var inner error
	if err := c.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

// setMinTTL makes the kernel drop packets that arrive with a lower TTL; 0 drops nothing.
func setMinTTL(fd int, v6 bool, ttl int) error {
	level, option := minTTLOption(v6)
	return os.NewSyscallError("setsockopt", unix.SetsockoptInt(fd, level, option, ttl))
}

func minTTLOption(v6 bool) (level, option int) {
	if v6 {
		return unix.IPPROTO_IPV6, ipv6MinHopCount
	}
	return unix.IPPROTO_IP, unix.IP_MINTTL
}

// checkTTL checks that an accepted connection comes from a direct neighbour, as TTL security
// requires (RFC 5082). When it is accepted, a complete OPEN may have arrived already.
// Therefore either the kernel checked all packets for the listener, or the TTL of the saved
// SYN is checked.
func checkTTL(c *net.TCPConn, security bool) error {
	if !security {
		return nil
	}
	rc, err := c.SyscallConn()
	if err != nil {
		return err
	}
	router, ttl := addrPort(c.RemoteAddr()).Addr(), 0
	if err := control(rc, func(fd int) error {
		level, option := minTTLOption(router.Is6())
		if ttl, err = unix.GetsockoptInt(fd, level, option); err != nil || ttl == gtsmTTL {
			return os.NewSyscallError("getsockopt", err)
		}
		syn, err := savedSYN(fd)
		ttl = ttlOf(syn)
		return err
	}); err != nil {
		return err
	}
	if ttl < gtsmTTL {
		return &plainError{fmt.Sprintf("%s connects with TTL %d, and ttlSecurity accepts only 255; set TTL security for this node on the router, or ttlSecurity to false", router, ttl)}
	}
	return nil
}

// savedSYN returns the headers of a connection's SYN; nothing if the kernel did not save it (SYN
// cookies). It does not use x/sys, whose function for strings stops at a zero byte.
func savedSYN(fd int) ([]byte, error) {
	b := make([]byte, 512)
	n := uint32(len(b))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, unix.TCP_SAVED_SYN,
		uintptr(unsafe.Pointer(&b[0])), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return nil, os.NewSyscallError("TCP_SAVED_SYN", errno)
	}
	return b[:n], nil
}

// ttlOf returns the TTL or hop limit of a packet; 0 if there is none.
func ttlOf(packet []byte) int {
	const ipv4TTL, ipv6HopLimit = 8, 7 // RFC 791, 3.1; RFC 8200, 3
	switch {
	case len(packet) > ipv4TTL && packet[0]>>4 == 4:
		return int(packet[ipv4TTL])
	case len(packet) > ipv6HopLimit && packet[0]>>4 == 6:
		return int(packet[ipv6HopLimit])
	}
	return 0
}

// listen opens a socket to which routers connect, at one address of the node. It calls prepare
// before the socket listens.
func listen(at netip.AddrPort, vrf string, prepare func(fd int) error) (*net.TCPListener, error) {
	var c net.ListenConfig
	c.SetMultipathTCP(false) // does not support MD5
	c.Control = func(_, _ string, rc syscall.RawConn) error {
		return control(rc, func(fd int) error {
			// The SYN-ACK is sent before the peer is known, so its TTL must be enough for all.
			level, hops := unix.IPPROTO_IP, unix.IP_TTL
			if at.Addr().Is6() {
				level, hops = unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS
			}
			if err := unix.SetsockoptInt(fd, level, hops, gtsmTTL); err != nil {
				return os.NewSyscallError("setsockopt", err)
			}
			if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_SAVE_SYN, 1); err != nil {
				return os.NewSyscallError("TCP_SAVE_SYN", err)
			}
			if vrf != "" {
				if err := unix.BindToDevice(fd, vrf); err != nil {
					return os.NewSyscallError("SO_BINDTODEVICE", err)
				}
			}
			return prepare(fd)
		})
	}
	local, err := indexed(at.Addr())
	if err != nil {
		return nil, err
	}
	l, err := c.Listen(context.Background(), "tcp", netip.AddrPortFrom(local, at.Port()).String())
	if err != nil {
		return nil, err
	}
	return l.(*net.TCPListener), nil
}

// sourceTo returns the node's address from which the kernel would connect to the router.
func sourceTo(router netip.Addr, vrf string) (netip.Addr, error) {
	d := net.Dialer{Control: func(_, _ string, c syscall.RawConn) error {
		if vrf == "" {
			return nil
		}
		return control(c, func(fd int) error { return unix.BindToDevice(fd, vrf) })
	}}
	to, err := indexed(router)
	if err != nil {
		return netip.Addr{}, err
	}
	c, err := d.Dial("udp", netip.AddrPortFrom(to, 9).String()) // sends nothing
	if err != nil {
		return netip.Addr{}, err
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap(), nil
}
