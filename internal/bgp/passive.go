package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// NOTIFICATIONs for a connection that is not used (RFC 4486).
var (
	rejected = cease(gobgp.BGP_ERROR_SUB_CONNECTION_REJECTED)
	collided = cease(gobgp.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION)
)

// await waits until the router has connected and sent an acceptable OPEN. It follows changes
// of the node's addresses to which the router can connect.
func (s *session) await(ctx context.Context, p *lb.BGPPeer) (*connection, error) {
	for {
		if err := s.joinListener(p); err != nil {
			return nil, err
		}
		if p.Interface != "" {
			// The router must learn this node's address before it can connect.
			if _, err := discover(ctx, p.Interface); err != nil {
				return nil, err
			}
		}
		if c, err := s.nextProven(ctx, p); c != nil || err != nil {
			return c, err
		}
	}
}

// nextProven returns the next proven connection; nil if the node's addresses have changed.
func (s *session) nextProven(ctx context.Context, p *lb.BGPPeer) (*connection, error) {
	for {
		select {
		case c := <-s.waiter.proven:
			if c.fsm.peer == *p {
				return c, nil
			}
			s.listeners.dismiss(c, cease(gobgp.BGP_ERROR_SUB_OTHER_CONFIGURATION_CHANGE))
		case f := <-s.waiter.failed:
			a := attempt{peer: *p, router: routerName(p)}
			a.setConnection(f.conn)
			s.clearConnection(f.err)
			s.setFailing(s.explainFailure(f.err, a.describe(f.err), a.opened != nil))
		case <-s.addressesChanged:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// exchange checks the TTL of a connection that the router initiated, and exchanges OPENs.
// After an error the connection is closed.
func (s *session) exchange(conn *net.TCPConn) (c *connection, err error) {
	s.mu.Lock()
	p, restarted := s.peer, !s.everEstablished
	s.mu.Unlock()
	err = recoverPanic(s.log, func() error {
		if err := checkTTL(conn, p.TTLSecurity); err != nil {
			return err
		}
		c = newConnection(p, conn, &s.counters, s.log)
		rc, err := conn.SyscallConn()
		if err != nil {
			return err
		}
		if err := control(rc, func(fd int) error { return setHops(fd, &p, c.router.Addr()) }); err != nil {
			return err
		}
		return c.exchangeOpen(restarted)
	})
	if err != nil {
		conn.Close()
	}
	return c, err
}

// watchWaiter handles further proven connections of the router while the session has one.
func (s *session) watchWaiter(c *connection, w *waiter) error {
	for {
		select {
		case candidate := <-w.proven:
			if isClosed(c.done) { // not a collision: the next attempt uses the candidate
				s.listeners.redeliver(w, candidate)
				return nil
			}
			state := OpenConfirm
			if isClosed(c.established) {
				state = Established
			}
			restart, _ := c.fsm.restarts()
			if collide(state, restart) == keepOld {
				// A router that has lost the old connection resets it when it receives a
				// message on it.
				s.keepaliveNow.Poke()
				s.listeners.dismiss(candidate, collided)
				continue
			}
			var n *notification // nil for a router that has restarted (RFC 4724, 4.2)
			if state != Established {
				n = &collided
			}
			c.end(errEnded, n)
			s.listeners.redeliver(w, candidate)
			return nil
		case <-w.failed: // does not concern this session
		case <-c.done:
			return nil
		}
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// joinListener accepts connections of the router. The local address may differ from the last
// time, as addresses change and interfaces are recreated.
func (s *session) joinListener(p *lb.BGPPeer) error {
	at, err := placeOf(p)
	if err != nil {
		s.leaveListener()
		return err
	}
	if s.waiter == nil || s.waiter.settings != settingsOf(p) || s.waiter.place != at {
		s.leaveListener()
		if s.waiter, err = s.listeners.addWaiter(p, at, s.exchange); err != nil {
			return err
		}
	}
	router := p.Address.String()
	if p.Interface != "" {
		router = routerName(p)
	}
	s.status.edit(func(st *Session) {
		st.State = Active
		if st.LastError == "" {
			st.LastError = fmt.Sprintf("%s has not connected to %s yet", router, netip.AddrPortFrom(at.key.addr, s.listeners.port))
			if p.TTLSecurity {
				st.LastError += "; with ttlSecurity the router needs TTL security for this node too"
			}
		}
	})
	return nil
}

func (s *session) leaveListener() {
	if s.waiter != nil {
		s.listeners.removeWaiter(s.waiter)
		s.waiter = nil
	}
}
