package lab

import (
	"fmt"
	"net"
	"os"
	"os/exec"

	"golang.org/x/sys/unix"
)

// mayMakeNamespaces reports whether this process has what that takes. Root in a
// container mostly has not.
func mayMakeNamespaces() bool {
	var caps [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	if err := unix.Capget(&header, &caps[0]); err != nil {
		return true // trying says more
	}
	const want = 1<<unix.CAP_SYS_ADMIN | 1<<unix.CAP_NET_ADMIN
	return caps[0].Effective&want == want
}

// enterNetns moves the calling thread, which must be locked to its goroutine.
func enterNetns(path string) error {
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open %s: %w", path, err)
	}
	defer unix.Close(fd)
	if err := unix.Setns(fd, unix.CLONE_NEWNET); err != nil {
		return fmt.Errorf("enter %s: %w", path, err)
	}
	return nil
}

// newNamespaces has a command start as the first process of a namespace of
// process ids, with mounts of its own.
func newNamespaces(cmd *exec.Cmd) {
	cmd.SysProcAttr.Cloneflags |= unix.CLONE_NEWPID | unix.CLONE_NEWNS
}

// enterMachine moves the calling thread, which must be locked to its goroutine, to
// the mounts of a process, and its future children among the process ids as well.
func enterMachine(pid int) error {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return fmt.Errorf("process %d: %w", pid, err)
	}
	defer unix.Close(fd)
	// Mounts cannot be changed while another thread has the same root.
	if err := unix.Unshare(unix.CLONE_FS); err != nil {
		return err
	}
	return unix.Setns(fd, unix.CLONE_NEWNS|unix.CLONE_NEWPID)
}

// waitForExit blocks until a process that need not be a child has ended.
func waitForExit(pid int) {
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return // it has ended already
	}
	defer unix.Close(fd)
	for {
		_, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, -1)
		if err != unix.EINTR {
			return
		}
	}
}

// listenPacket opens a raw socket in the calling thread's namespace, for whole
// Ethernet frames of one protocol.
func listenPacket(device string, protocol uint16) (packetConn, error) {
	iface, err := net.InterfaceByName(device)
	if err != nil {
		return nil, err
	}
	wire := protocol<<8 | protocol>>8 // in network byte order
	// Protocol 0 at first: nothing is to come in from other interfaces before
	// the socket is bound.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("packet socket: %w", err)
	}
	if err := unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: wire, Ifindex: iface.Index}); err != nil {
		_ = unix.Close(fd)
		return nil, fmt.Errorf("packet socket on %s: %w", device, err)
	}
	return os.NewFile(uintptr(fd), "packet:"+device), nil
}
