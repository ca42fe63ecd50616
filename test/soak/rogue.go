package soak

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// misbehaviour is what a rogue router does with each connection that it accepts.
type misbehaviour struct {
	name string
	act  func(c *net.TCPConn, rng *rand.Rand)
}

// misbehaviours are the ways in which a rogue router does not keep to BGP.
var misbehaviours = []misbehaviour{
	{"garbage", func(c *net.TCPConn, rng *rand.Rand) { write(c, randomBytes(rng, 1+rng.IntN(4096))); drain(c) }},
	{"unknown message type", func(c *net.TCPConn, rng *rand.Rand) {
		write(c, message(byte(6+rng.IntN(250)), nil))
		drain(c)
	}},
	{"second OPEN", func(c *net.TCPConn, _ *rand.Rand) {
		write(c, open(), message(bgpKeepalive, nil), open())
		drain(c)
	}},
	{"random bodies", func(c *net.TCPConn, rng *rand.Rand) {
		write(c, open(), message(bgpKeepalive, nil))
		for range 50 {
			write(c, message(byte(1+rng.IntN(5)), randomBytes(rng, rng.IntN(200))))
		}
		drain(c)
	}},
	{"truncated UPDATE", func(c *net.TCPConn, _ *rand.Rand) {
		write(c, open(), message(bgpKeepalive, nil), message(bgpUpdate, []byte{0xff, 0xff, 0, 0}))
		drain(c)
	}},
	{"never reads", func(c *net.TCPConn, _ *rand.Rand) { write(c, open(), message(bgpKeepalive, nil)) }},
	{"half-open", func(*net.TCPConn, *rand.Rand) {}},
	{"reset", func(c *net.TCPConn, _ *rand.Rand) { _ = c.SetLinger(0); _ = c.Close() }},
	{"reset after OPEN", func(c *net.TCPConn, _ *rand.Rand) {
		write(c, open())
		_ = c.SetLinger(0)
		_ = c.Close()
	}},
}

// The types of BGP messages (RFC 4271, 4.1) that a rogue sends.
const (
	bgpOpen      = 1
	bgpUpdate    = 2
	bgpKeepalive = 4
	bgpPort      = 179
)

// message is a BGP message with a correct header.
func message(kind byte, body []byte) []byte {
	m := slices.Repeat([]byte{0xff}, 16)
	m = binary.BigEndian.AppendUint16(m, uint16(19+len(body)))
	return append(append(m, kind), body...)
}

// open is an OPEN of a router without any capability.
func open() []byte {
	body := []byte{4}
	body = binary.BigEndian.AppendUint16(body, lab.RouterASN)
	body = binary.BigEndian.AppendUint16(body, 90)
	return message(bgpOpen, append(body, 172, 30, 0, 1, 0))
}

func randomBytes(rng *rand.Rand, n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// A rogue does not care whether what it sends arrives.
func write(c net.Conn, parts ...[]byte) {
	_, _ = c.Write(slices.Concat(parts...))
}

// drain reads until the peer closes the connection.
func drain(c net.Conn) { _, _ = io.Copy(io.Discard, c) }

// rogue is a BGP router that misbehaves until it is stopped.
type rogue struct {
	listener net.Listener
	running  sync.WaitGroup

	mu    sync.Mutex // guards the field below
	conns []net.Conn
}

// startRogue has the host listen for BGP.
func startRogue(h *lab.Host, name string, seed uint64) (*rogue, error) {
	i := slices.IndexFunc(misbehaviours, func(m misbehaviour) bool { return m.name == name })
	if i < 0 {
		return nil, fmt.Errorf("no misbehaviour is called %q", name)
	}
	r := &rogue{}
	if err := h.Do(func() (err error) {
		r.listener, err = net.Listen("tcp", netip.AddrPortFrom(h.IPv4, bgpPort).String())
		return err
	}); err != nil {
		return nil, err
	}
	r.running.Go(func() { r.accept(misbehaviours[i].act, seed) })
	return r, nil
}

func (r *rogue) accept(act func(*net.TCPConn, *rand.Rand), seed uint64) {
	for n := uint64(0); ; n++ {
		c, err := r.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue
		}
		r.mu.Lock()
		r.conns = append(r.conns, c)
		r.mu.Unlock()
		r.running.Go(func() { act(c.(*net.TCPConn), rand.New(rand.NewPCG(seed, n))) })
	}
}

// stop ends all connections.
func (r *rogue) stop() {
	_ = r.listener.Close()
	r.mu.Lock()
	for _, c := range r.conns {
		_ = c.Close()
	}
	r.mu.Unlock()
	r.running.Wait()
}

// gossipPort is where speakers listen for each other.
const gossipPort = 7946

// junk is a host that sends random bytes to gossip ports until it is stopped.
type junk struct {
	done    chan struct{}
	running sync.WaitGroup
}

// junkEvery is how often each node gets a junk packet.
const junkEvery = 2 * time.Millisecond

func startJunk(from *lab.Host, nodes []*lab.Host, seed uint64) *junk {
	j := &junk{done: make(chan struct{})}
	for i, n := range nodes {
		to := netip.AddrPortFrom(n.IPv4, gossipPort).String()
		j.running.Go(func() { j.send(from, "udp", to, rand.New(rand.NewPCG(seed, uint64(2*i)))) })
		j.running.Go(func() { j.send(from, "tcp", to, rand.New(rand.NewPCG(seed, uint64(2*i+1)))) })
	}
	return j
}

func (j *junk) send(from *lab.Host, network, to string, rng *rand.Rand) {
	ticker := time.NewTicker(junkEvery)
	defer ticker.Stop()
	var conn net.Conn
	defer func() {
		if conn != nil {
			_ = conn.Close()
		}
	}()
	for {
		select {
		case <-j.done:
			return
		case <-ticker.C:
		}
		if conn == nil {
			// Dial timeouts are the junk's own: a node may be off the network.
			_ = from.Do(func() (err error) {
				conn, err = net.DialTimeout(network, to, 100*time.Millisecond)
				return err
			})
			continue
		}
		_ = conn.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)) // a frozen speaker does not read
		if _, err := conn.Write(randomBytes(rng, 1+rng.IntN(1400))); err != nil {
			_ = conn.Close()
			conn = nil
		}
	}
}

func (j *junk) stop() {
	close(j.done)
	j.running.Wait()
}
