package bfd

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// receiveBuffer is how much may wait in a socket: ten thousand packets and more,
// as the kernel counts them.
const receiveBuffer = 8 << 20

// kernelListener receives all sessions' packets of one family, over one hop or
// several, in one VRF.
type kernelListener struct {
	kernel *kernel
	key    socketKey
	fd     int
	index  int // of the VRF's device
	batch  batch
}

// Listen opens the socket. It shares its port with our sockets of other VRFs only,
// and only if there are some: another program would get packets that are ours.
func (k *kernel) Listen(key socketKey) (listener, error) {
	index, err := indexOf(key.vrf)
	if err != nil {
		return nil, err
	}
	s := newSocket(key.ipv6)
	s.set("timestamps", unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 1)
	if key.ipv6 {
		s.set("IPv6 only", unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 1)
		s.set("hop limits", unix.IPPROTO_IPV6, unix.IPV6_RECVHOPLIMIT, 1)
		s.set("packet info", unix.IPPROTO_IPV6, unix.IPV6_RECVPKTINFO, 1)
	} else {
		s.set("TTLs", unix.IPPROTO_IP, unix.IP_RECVTTL, 1)
		s.set("packet info", unix.IPPROTO_IP, unix.IP_PKTINFO, 1)
	}
	s.device(key.vrf)
	if s.err == nil && unix.SetsockoptInt(s.fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, receiveBuffer) != nil {
		s.set("receive buffer", unix.SOL_SOCKET, unix.SO_RCVBUF, receiveBuffer)
	}
	address := sockaddr(netip.Addr{}, key.ipv6, 0, key.port())
	err = s.bind(address)
	if errors.Is(err, unix.EADDRINUSE) && k.share(s) {
		err = s.bind(address)
	}
	if err != nil {
		s.refuse(err, key)
		return nil, s.close()
	}
	k.polled = append(k.polled, unix.PollFd{Fd: int32(s.fd), Events: unix.POLLIN})
	l := &kernelListener{kernel: k, key: key, fd: s.fd, index: index}
	l.batch.init()
	return l, nil
}

// share lets the socket share its port with our others, if there are any.
func (k *kernel) share(s *socket) bool {
	for _, p := range k.polled[1:] {
		own := &socket{fd: int(p.Fd)}
		own.set("reuse address", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	}
	s.set("reuse address", unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	return len(k.polled) > 1
}

func (s *socket) refuse(err error, key socketKey) {
	if s.err != nil {
		return
	}
	if errors.Is(err, unix.EADDRINUSE) {
		err = fmt.Errorf("another BFD daemon runs on this host: %w", err)
	}
	s.err = fmt.Errorf("listen on UDP port %d: %w", key.port(), err)
}

func (l *kernelListener) Next(since, now time.Time) (datagram, bool) {
	m, ok := l.batch.next(l.fd)
	if !ok {
		return datagram{}, false
	}
	d := datagram{Payload: m.payload(), From: m.from(), At: now}
	for rest := m.control(); len(rest) > 0; {
		hdr, data, r, err := unix.ParseOneSocketControlMessage(rest)
		if err != nil {
			break
		}
		rest = r
		d.control(hdr, data, since, now)
	}
	return d, true
}

// control reads one of the things that the kernel says about a packet.
func (d *datagram) control(hdr unix.Cmsghdr, data []byte, since, now time.Time) {
	is := func(level, kind int32, size int) bool {
		return hdr.Level == level && hdr.Type == kind && len(data) >= size
	}
	number := func(at int) int { return int(int32(binary.NativeEndian.Uint32(data[at:]))) }
	switch {
	case is(unix.IPPROTO_IP, unix.IP_TTL, 4), is(unix.IPPROTO_IPV6, unix.IPV6_HOPLIMIT, 4):
		d.TTL = number(0)
	case is(unix.IPPROTO_IP, unix.IP_PKTINFO, unix.SizeofInet4Pktinfo): // index, local address, destination
		d.Interface, d.To = number(0), netip.AddrFrom4([4]byte(data[8:]))
	case is(unix.IPPROTO_IPV6, unix.IPV6_PKTINFO, unix.SizeofInet6Pktinfo): // destination, index
		d.Interface, d.To = number(16), netip.AddrFrom16([16]byte(data))
	case is(unix.SOL_SOCKET, unix.SO_TIMESTAMPNS, 16):
		seconds, nanoseconds := binary.NativeEndian.Uint64(data), binary.NativeEndian.Uint64(data[8:])
		d.At = arrival(time.Unix(int64(seconds), int64(nanoseconds)), since, now)
	}
}

// arrival turns the kernel's time of an arrival, which is by the wall clock, into
// one by the clock that is never set. Should the wall clock have been set in
// between, the result is still within what is possible: after the socket was
// last read, and not in the future.
func arrival(stamp, since, now time.Time) time.Time {
	at := now.Add(-now.Round(0).Sub(stamp)) // Round strips what is not of the wall clock
	if at.Before(since) {
		return since
	}
	if at.After(now) {
		if read := time.Now(); at.After(read) {
			return read
		}
	}
	return at
}

// Stale is whether the VRF is gone, or another one by the same name.
func (l *kernelListener) Stale() bool {
	index, err := indexOf(l.key.vrf)
	return err != nil || index != l.index
}

func (l *kernelListener) Close() {
	l.kernel.unpoll(l.fd)
	_ = unix.Close(l.fd)
}
