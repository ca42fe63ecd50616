package members

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"

	"github.com/fairlead-lb/fairlead/internal/retry"
)

const (
	// largestPacket is the most that UDP carries.
	largestPacket = 1 << 16
	// receiveBuffer holds the packets that arrive while this process does not run, in bytes.
	receiveBuffer = 2 << 20
	// acceptAgain is the pause after accepting a connection failed, as with too many open files.
	acceptAgain = 100 * time.Millisecond
	// packetQueue is how many packets wait for memberlist, and messageQueue for the handler of
	// messages. More are dropped: the reader must not block, as the next packet may be a heartbeat.
	packetQueue  = 256
	messageQueue = 1024
	// streamDeadline ends a connection on which nothing sets another deadline.
	streamDeadline = 5 * time.Second
)

// transport carries memberlist's packets and streams, and packets that memberlist does not know, on
// one port. It delivers only packets that a speaker of this cluster sends now, to this one.
type transport struct {
	log       logr.Logger
	udp       *net.UDPConn
	tcp       *net.TCPListener
	self      identity
	keys      *keyring
	sealer    *sealer
	sessions  *sessions
	open      connections
	admission admission
	handlers  handlers
	packets   chan *memberlist.Packet
	messages  chan delivery
	streams   chan net.Conn
	drops     [dropEnd]atomic.Uint64 // by cause
	ctx       context.Context        // ends with Shutdown
	stop      context.CancelFunc
	wg        sync.WaitGroup
}

// handlers handle the packets that memberlist does not know.
type handlers struct {
	heartbeat func(delivery) // called by the reader: it must not block
	message   func(delivery) // called by one goroutine
	duplicate func()         // another machine uses a node name
}

var _ memberlist.Transport = (*transport)(nil)

// listen opens the port. Shutdown must follow.
func listen(self identity, keys *keyring, h handlers, log logr.Logger) (*transport, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(self.endpoint))
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(self.endpoint))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	if err := udp.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(err, tcp.Close(), udp.Close())
	}
	t := &transport{
		log: log, udp: udp, tcp: tcp, self: self, keys: keys, sealer: newSealer(keys, self.session), handlers: h,
		packets: make(chan *memberlist.Packet, packetQueue), messages: make(chan delivery, messageQueue), streams: make(chan net.Conn),
	}
	t.sessions = newSessions(time.Now, self, keys, t.sealer)
	t.ctx, t.stop = context.WithCancel(context.Background())
	return t, nil
}

// receiveAll starts to receive.
func (t *transport) receiveAll() {
	t.wg.Go(t.readPackets)
	t.wg.Go(t.handleMessages)
	t.wg.Go(t.acceptStreams)
}

// readPackets receives packets until the transport is shut down.
func (t *transport) readPackets() {
	buffer := make([]byte, largestPacket)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buffer)
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.log.V(1).Info("receiving a packet failed", "error", err.Error())
		default:
			t.receive(buffer[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	}
}

// receive handles one packet.
func (t *transport) receive(packet []byte, from netip.AddrPort) {
	defer t.recoverPanic()
	r := t.sessions.receive(packet, from)
	if r.drop != dropNone {
		t.drops[r.drop].Add(1)
	}
	if r.drop == dropDuplicate {
		t.handlers.duplicate()
	}
	t.sendAll(r.replies)
	for _, d := range r.deliveries {
		t.deliver(d)
	}
}

func (t *transport) deliver(d delivery) {
	switch d.kind {
	case kindHeartbeat:
		t.handlers.heartbeat(d)
	case kindMemberlist:
		if !wellFormed(d.body) {
			t.drops[dropInvalid].Add(1)
			return
		}
		select {
		case t.packets <- &memberlist.Packet{Buf: d.body, From: net.UDPAddrFromAddrPort(d.from), Timestamp: time.Now()}:
		default:
			t.drops[dropFull].Add(1)
		}
	default:
		select {
		case t.messages <- d:
		default:
			t.drops[dropFull].Add(1)
		}
	}
}

// handleMessages calls the handler of messages until the transport is shut down.
func (t *transport) handleMessages() {
	for {
		select {
		case d := <-t.messages:
			func() {
				defer t.recoverPanic()
				t.handlers.message(d)
			}()
		case <-t.ctx.Done():
			return
		}
	}
}

// recoverPanic drops a packet whose handler panics.
func (t *transport) recoverPanic() {
	if cause := recover(); cause != nil {
		t.drops[dropPanic].Add(1)
		t.log.Error(errors.New("panic"), "handling a gossip packet failed, and it was dropped; please report this", "cause", cause)
	}
}

// acceptStreams accepts connections until the transport is shut down.
func (t *transport) acceptStreams() {
	for {
		accepted, err := t.tcp.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.log.V(1).Info("accepting a connection failed", "error", err.Error())
			if retry.Sleep(t.ctx, acceptAgain) != nil {
				return
			}
		default:
			conn, ok := t.open.add(accepted)
			if !ok {
				return
			}
			source := accepted.RemoteAddr().(*net.TCPAddr).AddrPort().Addr().Unmap()
			_ = conn.SetDeadline(time.Now().Add(handshakeTimeout))
			t.admission.enter(guest{conn, source, t.sessions.isPlace(source)})
			t.wg.Go(func() { t.acceptStream(conn) })
		}
	}
}

// acceptStream passes a connection to memberlist after its client has proved the key.
func (t *transport) acceptStream(conn net.Conn) {
	s, client, err := acceptHandshake(conn, t.keys, t.self)
	t.admission.leave(conn)
	if err == nil {
		err = t.welcome(s, client)
	}
	if err != nil {
		t.drops[dropForged].Add(1)
		t.log.V(1).Info("refused a connection", "from", conn.RemoteAddr().String(), "error", err.Error())
		_ = conn.Close()
		return
	}
	select {
	case t.streams <- s:
	case <-t.ctx.Done():
		_ = conn.Close()
	}
}

// welcome sends the server's last record of a handshake.
func (t *transport) welcome(s *stream, client identity) error {
	if replies, ok := t.sessions.met(client); !ok {
		t.sendAll(replies)
		t.handlers.duplicate()
		first := t.sessions.firstOf(client)
		_, err := s.Write(append([]byte{statusDuplicate}, first.String()...))
		return errors.Join(duplicateError{first}, err)
	} else {
		t.sendAll(replies)
	}
	_ = s.SetDeadline(time.Now().Add(streamDeadline))
	_, err := s.Write(append([]byte{statusWelcome}, t.self.marshal()...))
	return err
}

func (t *transport) sendAll(packets []outgoing) {
	for _, p := range packets {
		if err := t.write(p.packet, p.to); err != nil {
			t.log.V(2).Info("sending a packet failed", "to", p.to.String(), "error", err.Error())
		}
	}
}

func (t *transport) write(packet []byte, to netip.AddrPort) error {
	_, err := t.udp.WriteToUDPAddrPort(packet, to)
	return err
}

// send sends one body.
func (t *transport) send(k kind, body []byte, to netip.AddrPort) error {
	return t.write(t.sealer.seal(k, body, to), to)
}

func (t *transport) FinalAdvertiseAddr(ip string, port int) (net.IP, int, error) {
	addr, err := netip.ParseAddr(ip)
	return addr.AsSlice(), port, err
}

func (t *transport) WriteTo(b []byte, addr string) (time.Time, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return time.Time{}, err
	}
	err = t.send(kindMemberlist, b, to)
	return time.Now(), err
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

// DialTimeout connects to another speaker, and both prove that they have a key. The connection's
// source is the address at which the others know this speaker.
func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	to, err := netip.ParseAddrPort(addr)
	if err != nil {
		return nil, err
	}
	deadline := time.Now().Add(timeout)
	d := net.Dialer{Deadline: deadline, LocalAddr: &net.TCPAddr{IP: t.self.endpoint.Addr().AsSlice(), Zone: t.self.endpoint.Addr().Zone()}}
	dialed, err := d.DialContext(t.ctx, "tcp", addr)
	if err != nil {
		return nil, err
	}
	conn, ok := t.open.add(dialed)
	if !ok {
		return nil, net.ErrClosed
	}
	_ = conn.SetDeadline(deadline)
	s, server, err := dialHandshake(conn, t.keys, t.self, to)
	if dup := (duplicateError{}); errors.As(err, &dup) { // of this speaker's name
		t.sessions.refused(to, dup.first)
		t.handlers.duplicate()
	}
	if err == nil {
		replies, ok := t.sessions.met(server)
		if t.sendAll(replies); !ok { // a duplicate of the other's name, or both are of one name
			t.handlers.duplicate()
			err = duplicateError{t.sessions.firstOf(server)}
		}
	}
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	t.sessions.admitted(to)
	_ = conn.SetDeadline(time.Now().Add(streamDeadline))
	return s, nil
}

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

// Shutdown closes all connections, also those that memberlist uses, so that no goroutine waits for an
// answer.
func (t *transport) Shutdown() error {
	t.stop()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.open.close()
	t.wg.Wait()
	return err
}

var dropNames = [dropEnd]string{
	dropMalformed: "malformed", dropLimited: "limited", dropForged: "forged", dropReplayed: "replayed", dropUnproven: "unproven",
	dropDuplicate: "duplicate", dropFull: "full", dropInvalid: "invalid", dropPanic: "panic",
}
