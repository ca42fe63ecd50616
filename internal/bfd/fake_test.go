package bfd

import (
	"errors"
	"net/netip"
	"sync"
	"time"
)

// fakeNetwork is a host with one address, and a cable to another one.
type fakeNetwork struct {
	addr  netip.Addr
	wake  chan struct{}
	other *fakeNetwork

	mu      sync.Mutex // guards the fields below
	waiting map[socketKey][]datagram
	sent    []fakePacket
	ttl     int
	cut     bool
	refuse  error // of Dial
	broken  error // of Send
	dials   int
}

type fakePacket struct {
	At      time.Time
	Payload string
}

func newFakes() (a, b *fakeNetwork) {
	a = &fakeNetwork{addr: hostA, wake: make(chan struct{}, 1), waiting: map[socketKey][]datagram{}, ttl: maxTTL}
	b = &fakeNetwork{addr: hostB, wake: make(chan struct{}, 1), waiting: map[socketKey][]datagram{}, ttl: maxTTL}
	a.other, b.other = b, a
	return a, b
}

func (n *fakeNetwork) Open() (Priority, error) { return PriorityNormal, nil }
func (n *fakeNetwork) Close()                  {}

func (n *fakeNetwork) Wake() {
	select {
	case n.wake <- struct{}{}:
	default:
	}
}

func (n *fakeNetwork) Wait(until time.Time) {
	var timer <-chan time.Time
	if !until.IsZero() {
		timer = time.After(time.Until(until))
	}
	select {
	case <-n.wake:
	case <-timer:
	}
}

func (n *fakeNetwork) set(f func()) {
	n.mu.Lock()
	defer n.mu.Unlock()
	f()
}

// arrive puts a packet into the socket's buffer.
func (n *fakeNetwork) arrive(k socketKey, d datagram) {
	n.set(func() {
		if q, open := n.waiting[k]; open {
			n.waiting[k] = append(q, d)
		}
	})
	n.Wake()
}

func (n *fakeNetwork) Listen(k socketKey) (listener, error) {
	n.set(func() { n.waiting[k] = []datagram{} })
	return &fakeListener{net: n, key: k}, nil
}

func (n *fakeNetwork) Dial(p path, port uint16) (sender, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.dials++; n.refuse != nil {
		return nil, n.refuse
	}
	if port == 0 {
		port = uint16(firstSourcePort + n.dials)
	}
	return &fakeSender{net: n, path: p, port: port}, nil
}

type fakeListener struct {
	net *fakeNetwork
	key socketKey
}

func (l *fakeListener) Next(since, now time.Time) (d datagram, ok bool) {
	l.net.set(func() {
		if q := l.net.waiting[l.key]; len(q) > 0 {
			d, ok = q[0], true
			l.net.waiting[l.key] = q[1:]
		}
	})
	if d.At.Before(since) {
		d.At = since
	}
	return d, ok
}

func (l *fakeListener) Stale() bool { return false }
func (l *fakeListener) Close()      { l.net.set(func() { delete(l.net.waiting, l.key) }) }

type fakeSender struct {
	net  *fakeNetwork
	path path
	port uint16
}

func (s *fakeSender) Send(b []byte) error {
	n := s.net
	n.mu.Lock()
	broken, cut := n.broken, n.cut
	d := datagram{Payload: append([]byte(nil), b...), From: n.addr, To: s.path.peer, TTL: n.ttl, At: time.Now()}
	if broken == nil {
		n.sent = append(n.sent, fakePacket{d.At, string(b)})
	}
	n.mu.Unlock()
	if broken != nil {
		return broken
	}
	if !cut {
		n.other.arrive(s.path.socket, d)
	}
	return nil
}

func (s *fakeSender) Port() uint16   { return s.port }
func (s *fakeSender) Interface() int { return 0 }
func (s *fakeSender) Close()         {}

var errFake = errors.New("no such device")
