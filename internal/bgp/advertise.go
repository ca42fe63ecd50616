package bgp

import (
	"errors"
	"time"

	gobgp "github.com/osrg/gobgp/v3/pkg/packet/bgp"
)

const (
	// refreshInterval limits how often all routes are sent again: the router's request for
	// it costs only 23 bytes.
	refreshInterval = time.Second
	// writeSize is the maximum size of a write.
	writeSize = 64 << 10
)

// advertise sends all messages after the OPEN until the connection ends: KEEPALIVEs, all routes
// once the session is established, and then the changes. An error ends the connection.
func (s *session) advertise(c *connection) error {
	var tick <-chan time.Time
	if d := c.fsm.keepaliveTimer(); d != 0 {
		t := time.NewTicker(d)
		defer t.Stop()
		tick = t.C
	}
	if err := c.send(keepalive); err != nil { // confirms the router's OPEN
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
		case <-s.keepaliveNow:
			err = c.send(keepalive)
		case <-established:
			established = nil
			err = s.advertiseAll(c)
		case <-s.routesChanged:
			err = s.sync(c)
		case <-s.addressesChanged:
			s.updateSiblings(c.local)
			err = s.sync(c)
		case <-c.refresh:
			if later == nil {
				later = time.After(time.Until(refreshed.Add(refreshInterval)))
			}
		case <-later:
			later, refreshed = nil, time.Now()
			s.table.invalidate()
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

// advertiseAll sends the routes of a new session and then, if the router supports graceful
// restart, End-of-RIB, after which it removes stale routes of the former session (RFC 4724,
// 4.1).
func (s *session) advertiseAll(c *connection) error {
	updates := s.plan(c)
	s.setEstablished()
	if o := c.fsm.router; o.restart {
		for family, accepted := range map[gobgp.RouteFamily]bool{gobgp.RF_IPv4_UC: o.ipv4, gobgp.RF_IPv6_UC: o.ipv6} {
			if !accepted {
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

// sync sends the difference between the desired routes and those that the router has. Before
// the session is established it sends nothing.
func (s *session) sync(c *connection) error {
	if !isClosed(c.established) {
		return nil
	}
	return c.sendUpdates(s.plan(c))
}

// plan returns the UPDATEs that the router needs, and publishes the resulting number of routes.
func (s *session) plan(c *connection) []update {
	hops := s.nextHops(c)
	updates, err := s.table.sync(hops, c.encoding())
	if err != nil {
		s.log.Error(err, "advertising some routes failed")
	}
	s.publishRoutes(hops.note)
	return updates
}

// encoding returns the encoding of UPDATEs in this session.
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

// runAdvertise runs advertise and ends the connection when that fails.
func (s *session) runAdvertise(c *connection) {
	err := recoverPanic(s.log, func() error { return s.advertise(c) })
	if errors.Is(err, errRouterClosed) {
		c.awaitNotification() // the router may have sent a NOTIFICATION
	}
	c.end(err, lastNotification(err))
}
