package members

import (
	"net"
	"sync"
)

// connections are the open connections of a transport, which closes all when it is shut down.
type connections struct {
	mu     sync.Mutex // guards the fields below
	open   map[*connection]struct{}
	closed bool
}

// connection is one of them. Close removes it.
type connection struct {
	net.Conn
	all *connections
}

// add adds a connection. After close it closes the connection instead.
func (c *connections) add(conn net.Conn) (added net.Conn, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		_ = conn.Close()
		return nil, false
	}
	if c.open == nil {
		c.open = map[*connection]struct{}{}
	}
	one := &connection{conn, c}
	c.open[one] = struct{}{}
	return one, true
}

func (c *connection) Close() error {
	c.all.mu.Lock()
	delete(c.all.open, c)
	c.all.mu.Unlock()
	return c.Conn.Close()
}

// close closes all.
func (c *connections) close() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	for one := range c.open {
		_ = one.Conn.Close()
	}
	clear(c.open)
}
