package bgp

import (
	"errors"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

const (
	// refreshInterval is how often a router may have all its routes again: asking for
	// them costs it 23 bytes.
	refreshInterval = time.Second
	// writeSize is how much is written at a time.
	writeSize = 64 << 10
)

// advertise sends a router all that it is to have, as long as the connection lives:
// KEEPALIVEs from its OPEN on, routes once the session is established, and then what
// changes. An error ends the connection.
func (s *session) advertise(c *connection) error {
	var tick <-chan time.Time
	if d := c.fsm.keepaliveTimer(); d != 0 {
		t := time.NewTicker(d)
		defer t.Stop()
		tick = t.C
	}
	if err := c.send(keepalive); err != nil { // the answer to its OPEN
		return err
	}
	established := c.established
	var refreshed time.Time
	var later <-chan time.Time
	for {
		var err error
		select {
		case <-c.done:
			return errEnded
		case <-tick:
			err = c.send(keepalive)
		case <-s.probe:
			err = c.send(keepalive)
		case <-established:
			established = nil
			err = s.advertiseAll(c)
		case <-s.dirty:
			err = s.sync(c)
		case <-s.moved:
			s.updateSiblings(c.local)
			err = s.sync(c)
		case <-c.refresh:
			if later == nil {
				later = time.After(time.Until(refreshed.Add(refreshInterval)))
			}
		case <-later:
			later, refreshed = nil, time.Now()
			s.table.forget()
			err = s.sync(c)
		case sent := <-s.flush:
			err = s.sync(c)
			close(sent)
		}
		if err != nil {
			return err
		}
	}
}

// advertiseAll sends the first routes of a session, and after all of them End-of-RIB to
// a router that knows graceful restart: it forgets then what is left of the last
// session (RFC 4724, 4.1).
func (s *session) advertiseAll(c *connection) error {
	updates := s.plan(c)
	s.setEstablished()
	if o := c.fsm.router; o.restart {
		for family, taken := range map[gobgp.RouteFamily]bool{gobgp.RF_IPv4_UC: o.ipv4, gobgp.RF_IPv6_UC: o.ipv6} {
			if !taken {
				continue
			}
			end, err := endOfRIB(family)
			if err != nil {
				return err
			}
			updates = append(updates, end)
		}
	}
	return c.sendUpdates(updates)
}

// sync sends what makes the router's routes those that are wanted. Before the session
// is established there is nothing to send.
func (s *session) sync(c *connection) error {
	if !isClosed(c.established) {
		return nil
	}
	return c.sendUpdates(s.plan(c))
}

// plan returns the UPDATEs that the router needs, and publishes what it will have then.
func (s *session) plan(c *connection) []update {
	hops := s.nextHops(c)
	updates, err := s.table.sync(hops, c.encoding())
	if err != nil {
		s.log.Error(err, "cannot advertise some routes")
	}
	s.publishRoutes(hops.note)
	return updates
}

// encoding returns how UPDATEs in this session are written.
func (c *connection) encoding() encoding {
	asn := c.fsm.peer.ShownASN()
	return encoding{asn: asn, internal: c.fsm.router.asn == asn, fourOctetASN: c.fsm.router.fourOctetASN}
}

// sendUpdates sends UPDATEs, several at a time, and counts them.
func (c *connection) sendUpdates(updates []update) error {
	for len(updates) > 0 {
		var b []byte
		n := 0
		for n < len(updates) && len(b)+len(updates[n].message) <= writeSize {
			b = append(b, updates[n].message...)
			n++
		}
		for _, u := range updates[:n] {
			c.counters.updatesSent.Add(1)
			c.counters.announced.Add(uint64(u.announced))
			c.counters.withdrawn.Add(uint64(u.withdrawn))
		}
		if err := c.send(b); err != nil {
			return err
		}
		updates = updates[n:]
	}
	return nil
}

// runAdvertise runs advertise, and ends the connection when that has failed.
func (s *session) runAdvertise(c *connection) {
	err := contain(s.log, func() error { return s.advertise(c) })
	if errors.Is(err, errRouterClosed) {
		c.listenForReason() // it may have said why
	}
	c.end(err, lastNotification(err))
}
