package bfd

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"runtime"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// kernel is Linux.
type kernel struct {
	mu   sync.Mutex // guards wake, for Wake
	wake int        // an eventfd; -1 when closed

	polled []unix.PollFd   // wake, and the listeners
	ports  map[uint16]bool // source ports in use: unique on this system (RFC 5881, 4)
	sleep  unix.Timespec   // for Wait, so that it allocates nothing
	relax  func()          // undoes what Open did to the thread
}

func newKernel() network { return &kernel{wake: -1, ports: map[uint16]bool{}} }

func (k *kernel) Open() (Priority, error) {
	fd, err := unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC)
	if err != nil {
		return 0, fmt.Errorf("eventfd: %w", err)
	}
	k.mu.Lock()
	k.wake = fd
	k.mu.Unlock()
	k.polled = []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	runtime.LockOSThread()
	priority, relax := hasten()
	k.relax = relax
	return priority, nil
}

func (k *kernel) Close() {
	k.mu.Lock()
	_ = unix.Close(k.wake)
	k.wake = -1
	k.mu.Unlock()
	k.relax()
	runtime.UnlockOSThread()
}

func (k *kernel) Wake() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.wake >= 0 {
		_, _ = unix.Write(k.wake, binary.NativeEndian.AppendUint64(nil, 1)) // full is awake
	}
}

func (k *kernel) Wait(until time.Time) {
	var timeout *unix.Timespec
	if !until.IsZero() {
		k.sleep = unix.NsecToTimespec(max(time.Until(until), 0).Nanoseconds())
		timeout = &k.sleep
	}
	for i := range k.polled {
		k.polled[i].Revents = 0
	}
	// A signal wakes it as well: then it has waited for too short a time, no harm.
	_, _ = unix.Ppoll(k.polled, timeout, nil)
	if k.polled[0].Revents != 0 {
		var b [8]byte
		_, _ = unix.Read(int(k.polled[0].Fd), b[:])
	}
}

// unpoll forgets a listener.
func (k *kernel) unpoll(fd int) {
	for i, p := range k.polled {
		if p.Fd == int32(fd) {
			k.polled = append(k.polled[:i], k.polled[i+1:]...)
			return
		}
	}
}

// freePort returns a source port that no session has (RFC 5881, 4). It is at
// random, as what is guessed less easily is attacked less easily.
func (k *kernel) freePort() uint16 {
	const n = lastSourcePort - firstSourcePort + 1
	if len(k.ports) >= n {
		return uint16(firstSourcePort + rand.IntN(n)) // RFC 5881, 4: then they may be used again
	}
	for {
		if p := uint16(firstSourcePort + rand.IntN(n)); !k.ports[p] {
			return p
		}
	}
}

// indexOf returns the index of an interface; that of no name is zero.
func indexOf(name string) (int, error) {
	if name == "" {
		return 0, nil
	}
	i, err := net.InterfaceByName(name)
	if err != nil {
		return 0, fmt.Errorf("interface %s: %w", name, err)
	}
	return i.Index, nil
}
