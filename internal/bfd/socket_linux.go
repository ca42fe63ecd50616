package bfd

import (
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// tos is the class of packets that hold the network together (CS6, RFC 2474,
// 4.2.2.2): the last to be dropped.
const tos = 0xc0

// attempts is how many source ports are tried that others have.
const attempts = 64

// socket is one of the kernel's, with the first error that was met in setting
// it up.
type socket struct {
	fd  int
	err error
}

func newSocket(ipv6 bool) *socket {
	domain := unix.AF_INET
	if ipv6 {
		domain = unix.AF_INET6
	}
	fd, err := unix.Socket(domain, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	s := &socket{fd: fd}
	if err != nil {
		s.err = fmt.Errorf("socket: %w", err)
	}
	return s
}

func (s *socket) set(what string, level, option, value int) {
	if s.err == nil {
		if err := unix.SetsockoptInt(s.fd, level, option, value); err != nil {
			s.err = fmt.Errorf("%s: %w", what, err)
		}
	}
}

func (s *socket) device(name string) {
	if s.err == nil && name != "" {
		if err := unix.BindToDevice(s.fd, name); err != nil {
			s.err = fmt.Errorf("bind to device %s: %w", name, err)
		}
	}
}

func (s *socket) bind(a unix.Sockaddr) error {
	if s.err != nil {
		return s.err
	}
	return unix.Bind(s.fd, a)
}

// close gives the socket up and returns why.
func (s *socket) close() error {
	if s.fd >= 0 {
		_ = unix.Close(s.fd)
	}
	return s.err
}

func sockaddr(a netip.Addr, ipv6 bool, zone int, port uint16) unix.Sockaddr {
	if ipv6 {
		to := &unix.SockaddrInet6{Port: int(port)}
		if a.IsValid() {
			to.Addr = a.As16()
		}
		if a.IsLinkLocalUnicast() {
			to.ZoneId = uint32(zone)
		}
		return to
	}
	to := &unix.SockaddrInet4{Port: int(port)}
	if a.IsValid() {
		to.Addr = a.As4()
	}
	return to
}

// kernelSender sends one session's packets.
type kernelSender struct {
	kernel *kernel
	fd     int
	to     unix.Sockaddr
	port   uint16
	index  int
}

func (k *kernel) Dial(p path, port uint16) (sender, error) {
	index, err := indexOf(p.device)
	if err != nil {
		return nil, err
	}
	s := newSocket(p.socket.ipv6)
	if p.socket.ipv6 {
		s.set("hop limit", unix.IPPROTO_IPV6, unix.IPV6_UNICAST_HOPS, maxTTL)
		s.set("traffic class", unix.IPPROTO_IPV6, unix.IPV6_TCLASS, tos)
		s.set("IPv6 only", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
	} else {
		s.set("TTL", unix.IPPROTO_IP, unix.IP_TTL, maxTTL)
		s.set("TOS", unix.IPPROTO_IP, unix.IP_TOS, tos)
	}
	if p.device != "" {
		s.device(p.device)
	} else {
		s.device(p.socket.vrf)
	}
	s.deaf()
	if s.err == nil {
		port, s.err = k.bindSource(s, p, index, port)
	}
	if s.err != nil {
		return nil, s.close()
	}
	k.ports[port] = true
	return &kernelSender{kernel: k, fd: s.fd, to: sockaddr(p.peer, p.socket.ipv6, index, p.socket.port()), port: port, index: index}, nil
}

func (k socketKey) port() uint16 {
	if k.multiHop {
		return multiHopPort
	}
	return singleHopPort
}

// bindSource binds to that port, or else to any that is free.
func (k *kernel) bindSource(s *socket, p path, index int, port uint16) (uint16, error) {
	if port == 0 || k.ports[port] {
		port = k.freePort()
	}
	var err error
	for range attempts {
		if err = s.bind(sockaddr(p.local, p.socket.ipv6, index, port)); !errors.Is(err, unix.EADDRINUSE) {
			break
		}
		port = k.freePort()
	}
	if err != nil {
		from := "no address"
		if p.local.IsValid() {
			from = p.local.String()
		}
		return 0, fmt.Errorf("send from %s: %w", from, err)
	}
	return port, nil
}

// deaf lets nothing into a socket that is only for sending.
func (s *socket) deaf() {
	if s.err != nil {
		return
	}
	drop := unix.SockFilter{Code: unix.BPF_RET | unix.BPF_K, K: 0}
	if err := unix.SetsockoptSockFprog(s.fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &unix.SockFprog{Len: 1, Filter: &drop}); err != nil {
		s.err = fmt.Errorf("attach filter: %w", err)
	}
}

func (s *kernelSender) Send(b []byte) error {
	err := unix.Sendto(s.fd, b, unix.MSG_DONTWAIT, s.to)
	if err != nil {
		return fmt.Errorf("send: %w", err)
	}
	return nil
}

func (s *kernelSender) Port() uint16   { return s.port }
func (s *kernelSender) Interface() int { return s.index }

func (s *kernelSender) Close() {
	_ = unix.Close(s.fd)
	delete(s.kernel.ports, s.port)
}
