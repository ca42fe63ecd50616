package bfd

import (
	"encoding/binary"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// batchSize is how many packets one system call reads.
const batchSize = 32

// batch reads packets by recvmmsg(2), and allocates nothing: who allocates while
// Go collects garbage is made to help, and may be made to wait.
type batch struct {
	headers  [batchSize]mmsghdr
	messages [batchSize]message
	read, n  int // of the headers, those handed out and those filled
}

// mmsghdr is struct mmsghdr of <sys/socket.h>.
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
}

// message is where the kernel puts a packet. Longer ones than a BFD packet can be
// (RFC 5880, 4.1: the length is a byte) are cut.
type message struct {
	header *mmsghdr
	iov    unix.Iovec
	name   unix.RawSockaddrInet6 // the larger of the two
	data   [256]byte
	oob    [256]byte
}

func (b *batch) init() {
	for i := range b.messages {
		m := &b.messages[i]
		m.header = &b.headers[i]
		m.iov.Base = &m.data[0]
		m.iov.SetLen(len(m.data))
		m.header.hdr.Name = (*byte)(unsafe.Pointer(&m.name))
		m.header.hdr.Iov = &m.iov
		m.header.hdr.SetIovlen(1)
		m.header.hdr.Control = &m.oob[0]
	}
}

// next returns the next packet that waits in the socket. It is good until the
// next call.
func (b *batch) next(fd int) (*message, bool) {
	if b.read == b.n && !b.fill(fd) {
		return nil, false
	}
	b.read++
	return &b.messages[b.read-1], true
}

func (b *batch) fill(fd int) bool {
	for i := range b.headers {
		h := &b.headers[i].hdr
		h.Namelen = unix.SizeofSockaddrInet6
		h.SetControllen(len(b.messages[i].oob))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, uintptr(fd), uintptr(unsafe.Pointer(&b.headers[0])), batchSize, unix.MSG_DONTWAIT, 0, 0)
	b.read, b.n = 0, int(n)
	if errno != 0 {
		b.n = 0
	}
	return b.n > 0
}

func (m *message) payload() []byte { return m.data[:m.header.len] }
func (m *message) control() []byte { return m.oob[:m.header.hdr.Controllen] }

// from returns the sender's address, without its zone.
func (m *message) from() netip.Addr {
	if m.name.Family == unix.AF_INET6 {
		return netip.AddrFrom16(m.name.Addr)
	}
	// In struct sockaddr_in the address is where sockaddr_in6 has its flow label.
	var a [4]byte
	binary.NativeEndian.PutUint32(a[:], m.name.Flowinfo)
	return netip.AddrFrom4(a)
}
