package bgp

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

// NOTIFICATIONs for a connection that gets no session (RFC 4486).
var (
	rejected = cease(gobgp.BGP_ERROR_SUB_CONNECTION_REJECTED)
	collided = cease(gobgp.BGP_ERROR_SUB_CONNECTION_COLLISION_RESOLUTION)
)

// await waits until the router has connected and sent a good OPEN, wherever on this
// node it can connect to now.
func (s *session) await(ctx context.Context, p *lb.BGPPeer) (*connection, error) {
	for {
		if err := s.joinListener(p); err != nil {
			return nil, err
		}
		if p.Interface != "" {
			// The router must know this node before it can connect to it.
			if _, err := discover(ctx, p.Interface); err != nil {
				return nil, err
			}
		}
		if c, err := s.nextProven(ctx, p); c != nil || err != nil {
			return c, err
		}
	}
}

// nextProven returns the next connection that has proved to be the router's; nil: the
// node's addresses have changed.
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
			a.learn(f.conn)
			s.afterConnection(f.err)
			s.setFailing(s.remember(f.err, a.describe(f.err), a.opened != nil))
		case <-s.moved:
			return nil, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// exchange has OPENs exchanged on a connection that the router has begun, if it has
// come from as near as it must. After an error the connection is closed.
func (s *session) exchange(conn *net.TCPConn) (c *connection, err error) {
	s.mu.Lock()
	p, restarted := s.peer, !s.everEstablished
	s.mu.Unlock()
	err = contain(s.log, func() error {
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

// watchWaiter looks at what else the router connects with while a connection has the
// session. Only what has proved to be the router's comes here.
func (s *session) watchWaiter(c *connection, w *waiter) error {
	for {
		select {
		case candidate := <-w.proven:
			if isClosed(c.done) { // no collision: the next attempt takes it
				s.listeners.giveBack(w, candidate)
				return nil
			}
			state := OpenConfirm
			if isClosed(c.established) {
				state = Established
			}
			restart, _ := c.fsm.restarts()
			if collide(state, restart) == keepOld {
				// A router that has lost the old connection resets it when it gets something
				// there.
				s.probe.Poke()
				s.listeners.dismiss(candidate, collided)
				continue
			}
			var n *notification // none for a router that has restarted (RFC 4724, 4.2)
			if state != Established {
				n = &collided
			}
			c.end(errEnded, n)
			s.listeners.giveBack(w, candidate)
			return nil
		case <-w.failed: // says nothing about this session
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

// joinListener lets the router connect. Where it can do so may be another place than
// the last time: an address may be new, and an interface be created again.
func (s *session) joinListener(p *lb.BGPPeer) error {
	at, err := placeOf(p)
	if err != nil {
		s.leaveListener()
		return err
	}
	if s.waiter == nil || s.waiter.wants != wantsOf(p) || s.waiter.place != at {
		s.leaveListener()
		if s.waiter, err = s.listeners.add(p, at, s.exchange); err != nil {
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
			st.LastError = fmt.Sprintf("%s has not connected yet to %s", router, netip.AddrPortFrom(at.key.addr, s.listeners.port))
			if p.TTLSecurity {
				st.LastError += "; with ttlSecurity it must have TTL security for this node too"
			}
		}
	})
	return nil
}

func (s *session) leaveListener() {
	if s.waiter != nil {
		s.listeners.remove(s.waiter)
		s.waiter = nil
	}
}
