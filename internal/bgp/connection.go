package bgp

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/notify"
)

// connection is one TCP connection with a router, and its state machine. One goroutine reads
// from it, first in exchangeOpen and then in run, and ends it; another one sends the routes.
type connection struct {
	log      logr.Logger
	conn     net.Conn
	local    netip.Addr
	router   netip.AddrPort
	counters *counters
	refresh  notify.Signal // the router requested the routes again (ROUTE-REFRESH)

	// The reading goroutine owns these. Other goroutines read fsm.peer and fsm.router after
	// exchangeOpen has returned.
	fsm    fsm
	reader *bufio.Reader

	established chan struct{} // closed when the session is established
	done        chan struct{} // closed when the connection ends

	writing      sync.Mutex // held while bytes are written; guards the field below
	partialWrite bool       // a message was written incompletely

	mu       sync.Mutex // guards the fields below
	cause    error      // why the connection ends; only the first one is kept
	last     *notification
	deadline time.Time // of all further reads; the zero value is none
}

// counters count over all connections of a session.
type counters struct {
	updatesSent, updatesReceived atomic.Uint64
	announced, withdrawn         atomic.Uint64 // prefixes
	notificationsSent            atomic.Uint64
}

const (
	// closeTimeout is how long sending the last NOTIFICATION may take. It is short, as a
	// router that is down does not read it.
	closeTimeout = 200 * time.Millisecond
	readBuffer   = 4 * maxMessage
)

// Errors that end a connection without a NOTIFICATION from the router.
var (
	errRouterClosed = errors.New("closed by the router")
	errNoOpen       = errors.New("no OPEN in time")
	errNoKeepalive  = errors.New("no KEEPALIVE in time")
	errStuck        = errors.New("the router accepts no data")
	errEnded        = errors.New("ended by this node") // its caller knows the reason
)

// A panicError is a recovered panic of one session's goroutine.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// recoverPanic calls f and converts a panic to an error: a bug in handling a router's message
// must end only its session, never the process.
func recoverPanic(log logr.Logger, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			p := &panicError{v, debug.Stack()}
			log.Error(p, "a BGP session was ended because of a panic; please report this", "stack", string(p.stack))
			err = p
		}
	}()
	return f()
}

func newConnection(p lb.BGPPeer, conn net.Conn, c *counters, log logr.Logger) *connection {
	return &connection{
		log: log, conn: conn, local: addrPort(conn.LocalAddr()).Addr(), router: addrPort(conn.RemoteAddr()), counters: c, refresh: notify.New(),
		fsm: newFSM(p), reader: bufio.NewReaderSize(conn, readBuffer), established: make(chan struct{}), done: make(chan struct{}),
	}
}

func addrPort(a net.Addr) netip.AddrPort {
	if tcp, ok := a.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{} // not a TCP connection: only in tests
}

// exchangeOpen sends this node's OPEN and returns after an acceptable one was received from
// the router. After an error the connection is closed.
func (c *connection) exchangeOpen(restarted bool) error {
	err := recoverPanic(c.log, func() error {
		m, err := newOpen(&c.fsm.peer, restarted)
		if err == nil {
			err = c.send(m)
		}
		for err == nil && c.fsm.state == OpenSent {
			_, err = c.next()
		}
		return err
	})
	if err != nil {
		return c.finish(err)
	}
	return nil
}

// run serves the connection until it ends and returns why. The connection is closed then.
func (c *connection) run() error {
	return c.finish(recoverPanic(c.log, func() error {
		for {
			a, err := c.next()
			if err != nil {
				return err
			}
			switch a {
			case advertiseAll:
				close(c.established)
			case advertiseAgain:
				c.refresh.Poke()
			case countUpdate:
				c.counters.updatesReceived.Add(1)
			}
		}
	}))
}

// next reads a message and passes it to the state machine.
func (c *connection) next() (action, error) {
	c.startHoldTimer()
	m, err := readMessage(c.reader)
	var n *notifiedError
	switch {
	case errors.As(err, &n):
		return nothing, err
	case errors.Is(err, os.ErrDeadlineExceeded):
		return nothing, c.fsm.expire()
	case err != nil:
		return nothing, errors.Join(errRouterClosed, err)
	}
	return c.fsm.receive(m)
}

// startHoldTimer sets the deadline for the next message.
func (c *connection) startHoldTimer() {
	var at time.Time
	if d := c.fsm.holdTimer(); d != 0 {
		at = time.Now().Add(d)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.deadline.IsZero() {
		at = c.deadline
	}
	_ = c.conn.SetReadDeadline(at)
}

// readUntil sets the deadline of all further reads. The caller holds c.mu.
func (c *connection) readUntil(t time.Time) {
	c.deadline = t
	_ = c.conn.SetReadDeadline(t)
}

// end ends the connection for a cause. The reading goroutine then sends the NOTIFICATION, if
// there is one, and closes the connection; end does not wait for it.
func (c *connection) end(cause error, n *notification) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != nil {
		return
	}
	c.cause, c.last = cause, n
	close(c.done)
	now := time.Now()
	_ = c.conn.SetWriteDeadline(now.Add(closeTimeout))
	c.readUntil(now)
}

// finish ends the connection for an error of the reading goroutine, unless it was ended
// already, sends the last NOTIFICATION, closes the connection, and returns the cause.
func (c *connection) finish(err error) error {
	c.end(err, lastNotification(err))
	c.mu.Lock()
	cause, last := c.cause, c.last
	c.mu.Unlock()
	deadline := time.Now().Add(closeTimeout)
	c.writing.Lock() // waits for a running write, at most until its deadline
	_ = c.conn.SetDeadline(deadline)
	if last != nil && !c.partialWrite {
		if _, err := c.conn.Write(last.message()); err == nil {
			c.counters.notificationsSent.Add(1)
		}
	}
	c.writing.Unlock()
	if t, ok := c.conn.(interface{ CloseWrite() error }); ok {
		_ = t.CloseWrite()
		// Read until the router closes too: closing a socket with unread data would reset the
		// connection and discard the NOTIFICATION.
		_, _ = io.Copy(io.Discard, c.conn)
	}
	c.conn.Close()
	return cause
}

// lastNotification returns the NOTIFICATION for the router if a connection ends with this
// error; nil for none.
func lastNotification(err error) *notification {
	var n *notifiedError
	var p *panicError
	switch {
	case errors.As(err, &n) && n.sent:
		return &n.notification
	case errors.Is(err, errNoOpen), errors.Is(err, errNoKeepalive):
		return &notification{code: gobgp.BGP_ERROR_HOLD_TIMER_EXPIRED}
	case errors.As(err, &p):
		n := cease(gobgp.BGP_ERROR_SUB_OUT_OF_RESOURCES)
		return &n
	}
	return nil
}

// send writes to the router.
func (c *connection) send(b []byte) error {
	c.writing.Lock()
	defer c.writing.Unlock()
	c.mu.Lock()
	ended := c.cause != nil
	if !ended {
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.fsm.sendHoldTimer()))
	}
	c.mu.Unlock()
	if ended {
		return errEnded
	}
	if _, err := c.conn.Write(b); err != nil {
		c.partialWrite = true
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return errStuck
		}
		return errors.Join(errRouterClosed, err)
	}
	return nil
}

// awaitNotification waits until the connection has ended. It leaves the reading goroutine a
// short time to receive the NOTIFICATION of a router that accepts no more data.
func (c *connection) awaitNotification() {
	c.mu.Lock()
	if c.cause == nil {
		c.readUntil(time.Now().Add(closeTimeout))
	}
	c.mu.Unlock()
	<-c.done
}
