package bgp

import (
	"bufio"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead/fairlead/internal/lb"
	"github.com/fairlead/fairlead/internal/wake"
)

// line carries messages between a router and GoBGP, for as long as their
// connections live. See the package's comment for why.
type line struct {
	peer      lb.BGPPeer
	restarted bool // say so in OPEN
	router    *net.TCPConn
	inner     net.Conn
	counters  *counters
	// opened is called with the router's OPEN before GoBGP hears of it: only after
	// it has returned can the session be established. An error ends the line.
	opened func(opening) error

	forever atomic.Bool   // no hold time was agreed on
	done    chan struct{} // closed when the line ends
	// withdrew receives when withdrawals have been sent. It has room for one.
	withdrew wake.Signal

	mu    sync.Mutex // guards the field below
	cause error      // why the line ended; the first counts
}

// counters are of a session, whatever lines it had.
type counters struct {
	updatesSent, updatesReceived atomic.Uint64
	announced, withdrawn         atomic.Uint64 // prefixes
}

const (
	// openTimeout is how long a router that took the connection may take to have
	// a session. RFC 4271 (8.2.2) suggests 4 minutes, for the links of its time.
	openTimeout = 20 * time.Second
	// farewell is how long a NOTIFICATION may take to leave: a router that is gone
	// does not read it, and nobody should wait for that.
	farewell = 200 * time.Millisecond
	// writeTimeout is how long a router without a hold time may take no data.
	writeTimeout = 90 * time.Second
	bufferSize   = 64 << 10
)

// What ends a line, when neither side said why.
var (
	errRouterClosed = errors.New("closed by the router")
	errInnerClosed  = errors.New("closed by GoBGP")
	errNoOpen       = errors.New("no OPEN in time")
	errNoKeepalive  = errors.New("no KEEPALIVE in time")
)

// A notifiedError is a NOTIFICATION that ended a line.
type notifiedError struct {
	notification
	sent bool // by us
}

func (e *notifiedError) Error() string { return e.unwrap().name() }

func newLine(p lb.BGPPeer, restarted bool, router *net.TCPConn, inner net.Conn, c *counters, opened func(opening) error) *line {
	return &line{
		peer: p, restarted: restarted, router: router, inner: inner, counters: c, opened: opened,
		done: make(chan struct{}), withdrew: wake.New(),
	}
}

// run carries messages until either side closes or end is called, and returns
// why. Both connections are closed then.
func (l *line) run() error {
	var wg sync.WaitGroup
	wg.Go(func() {
		err := l.inward()
		var n *notification
		if errors.Is(err, errNotBGP) {
			n = &notification{code: gobgp.BGP_ERROR_MESSAGE_HEADER_ERROR, subcode: gobgp.BGP_ERROR_SUB_CONNECTION_NOT_SYNCHRONIZED}
		}
		l.end(err, n)
		// What the router still sends is read until it closes too: closing with unread
		// data would reset the connection, and take a NOTIFICATION along.
		_, _ = io.Copy(io.Discard, l.router)
	})
	wg.Go(func() { l.end(l.outward(), nil) })
	wg.Go(l.keepInnerAlive)
	wg.Wait()
	l.router.Close()
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.cause
}

// end ends the line for a cause, and tells the router with a NOTIFICATION, if
// there is one. It does not wait for the end.
func (l *line) end(cause error, n *notification) {
	deadline := time.Now().Add(farewell)
	l.mu.Lock()
	first := l.cause == nil
	if first {
		l.cause = cause
		close(l.done)
		_ = l.router.SetDeadline(deadline) // for run, which reads until the router closes
	}
	l.mu.Unlock()
	if !first {
		return
	}
	if n != nil {
		_, _ = l.router.Write(n.message())
	}
	_ = l.router.CloseWrite()
	l.inner.Close()
}

// readUntil sets when the router must have said something, unless the line has
// ended.
func (l *line) readUntil(t time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cause == nil {
		_ = l.router.SetReadDeadline(t)
	}
}

// inward carries what the router says. Its routes are not wanted, and end here.
func (l *line) inward() error {
	r := bufio.NewReaderSize(l.router, bufferSize)
	buf := make([]byte, maxMessage)
	l.readUntil(time.Now().Add(openTimeout))
	var told time.Time            // when GoBGP last heard from the router
	awaited := gobgp.BGP_MSG_OPEN // until the session is established
	for {
		m, err := readMessage(r, buf)
		switch {
		case errors.Is(err, errNotBGP):
			return err
		case awaited == gobgp.BGP_MSG_OPEN && errors.Is(err, os.ErrDeadlineExceeded):
			return errNoOpen
		case awaited == gobgp.BGP_MSG_KEEPALIVE && errors.Is(err, os.ErrDeadlineExceeded):
			return errNoKeepalive
		case err != nil:
			return errors.Join(errRouterClosed, err)
		}
		switch m.kind() {
		case gobgp.BGP_MSG_OPEN:
			changed, o, err := inwardOpen(m, &l.peer)
			if err != nil {
				break // GoBGP does not understand it either, and tells the router
			}
			m, awaited = changed, gobgp.BGP_MSG_KEEPALIVE
			l.forever.Store(o.hold == 0 || l.peer.HoldTime == 0)
			if err := l.opened(o); err != nil {
				var notified *notifiedError
				if errors.As(err, &notified) {
					l.end(err, &notified.notification)
				}
				return err
			}
		case gobgp.BGP_MSG_KEEPALIVE:
			if awaited == gobgp.BGP_MSG_KEEPALIVE { // from here on GoBGP's hold timer counts
				awaited = 0
				l.readUntil(time.Time{})
			}
		case gobgp.BGP_MSG_NOTIFICATION:
			if n, ok := newNotification(m); ok {
				return &notifiedError{notification: n}
			}
		case gobgp.BGP_MSG_UPDATE:
			l.counters.updatesReceived.Add(1)
			// It is a sign of life like a KEEPALIVE (RFC 4271, 4.4), and GoBGP gets one.
			if time.Since(told) < time.Second {
				continue
			}
			m = keepalive
		}
		told = time.Now()
		if _, err := l.inner.Write(m); err != nil {
			return errInnerClosed
		}
	}
}

// outward carries what GoBGP says.
func (l *line) outward() error {
	r := bufio.NewReaderSize(l.inner, bufferSize)
	buf := make([]byte, maxMessage)
	out, withdrawals := make([]byte, 0, bufferSize), 0 // not sent yet
	timeout := writeTimeout
	if l.peer.HoldTime != 0 {
		timeout = l.peer.HoldTime
	}
	for {
		m, err := readMessage(r, buf)
		if err != nil {
			return errInnerClosed
		}
		var last error
		switch m.kind() {
		case gobgp.BGP_MSG_OPEN:
			if m, err = outwardOpen(m, &l.peer, l.restarted); err != nil {
				return err
			}
		case gobgp.BGP_MSG_UPDATE:
			announced, withdrawn := prefixes(m)
			l.counters.updatesSent.Add(1)
			l.counters.announced.Add(uint64(announced))
			withdrawals += withdrawn
		case gobgp.BGP_MSG_NOTIFICATION:
			if n, ok := newNotification(m); ok {
				last = &notifiedError{notification: n, sent: true}
			}
		}
		out = append(out, m...)
		// Whole messages only: a NOTIFICATION may come between two writes.
		if last == nil && hasMessage(r) && len(out) < bufferSize-maxMessage {
			continue
		}
		if _, err := l.send(out, timeout); err != nil {
			// It may have said why, which inward reads.
			l.readUntil(time.Now().Add(farewell))
			<-l.done
			return errRouterClosed
		}
		if last != nil {
			return last
		}
		if withdrawals > 0 {
			l.counters.withdrawn.Add(uint64(withdrawals))
			l.withdrew.Poke()
		}
		out, withdrawals = out[:0], 0
	}
}

// send writes to the router, unless the line has ended and has little time left.
func (l *line) send(b []byte, timeout time.Duration) (int, error) {
	l.mu.Lock()
	if l.cause == nil {
		_ = l.router.SetWriteDeadline(time.Now().Add(timeout))
	}
	l.mu.Unlock()
	return l.router.Write(b)
}

// hasMessage reports whether a whole message can be read without waiting.
func hasMessage(r *bufio.Reader) bool {
	if r.Buffered() < headerLen {
		return false
	}
	head, err := r.Peek(headerLen)
	return err == nil && r.Buffered() >= int(binary.BigEndian.Uint16(head[16:]))
}

// keepInnerAlive tells GoBGP, which must have a hold time, that a router without
// one is there: GoBGP's is the peer's, or 18 hours when that has none.
func (l *line) keepInnerAlive() {
	every := time.Hour
	if l.peer.HoldTime != 0 {
		every = l.peer.HoldTime / 3
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		select {
		case <-l.done:
			return
		case <-t.C:
			if l.forever.Load() {
				_, _ = l.inner.Write(keepalive)
			}
		}
	}
}
