package members

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/go-logr/logr"
	"github.com/hashicorp/memberlist"
)

const (
	// largestPacket is the most that UDP carries.
	largestPacket = 1 << 16
	// receiveBuffer holds what comes while this process is not run, in bytes.
	receiveBuffer = 2 << 20
	// acceptAgain is the pause after a connection could not be accepted, as when
	// there are too many open files.
	acceptAgain = 100 * time.Millisecond
)

// transport carries memberlist's packets and streams, and those that are not its own, on
// one port. These do not wait behind what memberlist has to do first, and cost little:
// memberlist hands each packet from goroutine to goroutine, makes its cipher anew for
// each, and in its own transport takes 64 KiB of memory for each.
type transport struct {
	log     logr.Logger
	udp     *net.UDPConn
	tcp     *net.TCPListener
	own     handlers
	packets chan *memberlist.Packet
	streams chan net.Conn
	ctx     context.Context // ends with Shutdown
	stop    context.CancelFunc
	wg      sync.WaitGroup
}

// handlers are called with packets that are not memberlist's, by their first byte, and
// where each came from. They must not keep it.
type handlers map[byte]func(packet []byte, from netip.AddrPort)

var _ memberlist.Transport = (*transport)(nil)

// listen opens the port and begins to receive. Shutdown must follow.
func listen(on netip.AddrPort, own handlers, log logr.Logger) (*transport, error) {
	tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(on))
	if err != nil {
		return nil, err
	}
	udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(on))
	if err != nil {
		return nil, errors.Join(err, tcp.Close())
	}
	if err := udp.SetReadBuffer(receiveBuffer); err != nil {
		return nil, errors.Join(err, tcp.Close(), udp.Close())
	}
	t := &transport{
		log: log, udp: udp, tcp: tcp, own: own,
		packets: make(chan *memberlist.Packet, 1), streams: make(chan net.Conn),
	}
	t.ctx, t.stop = context.WithCancel(context.Background())
	t.wg.Go(t.receive)
	t.wg.Go(t.accept)
	return t, nil
}

// receive passes packets on until the transport is shut down.
func (t *transport) receive() {
	buffer := make([]byte, largestPacket)
	for {
		n, from, err := t.udp.ReadFromUDPAddrPort(buffer)
		own := t.own[buffer[0]]
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.log.V(1).Info("cannot receive", "error", err.Error())
		case n == 0:
		case own != nil:
			own(buffer[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		default:
			p := &memberlist.Packet{Buf: append([]byte(nil), buffer[:n]...), From: net.UDPAddrFromAddrPort(from), Timestamp: time.Now()}
			select {
			case t.packets <- p:
			case <-t.ctx.Done():
				return
			}
		}
	}
}

// accept passes connections on until the transport is shut down.
func (t *transport) accept() {
	for {
		conn, err := t.tcp.AcceptTCP()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil:
			t.log.V(1).Info("cannot accept a connection", "error", err.Error())
			select {
			case <-time.After(acceptAgain):
			case <-t.ctx.Done():
				return
			}
		default:
			select {
			case t.streams <- conn:
			case <-t.ctx.Done():
				_ = conn.Close()
				return
			}
		}
	}
}

// send sends one packet.
func (t *transport) send(packet []byte, to netip.AddrPort) error {
	_, err := t.udp.WriteToUDPAddrPort(packet, to)
	return err
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
	err = t.send(b, to)
	return time.Now(), err
}

func (t *transport) PacketCh() <-chan *memberlist.Packet { return t.packets }

func (t *transport) DialTimeout(addr string, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", addr, timeout)
}

func (t *transport) StreamCh() <-chan net.Conn { return t.streams }

func (t *transport) Shutdown() error {
	t.stop()
	err := errors.Join(t.tcp.Close(), t.udp.Close())
	t.wg.Wait()
	return err
}
