package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"time"
)

// ClaimWatch hears, without asking, who says of which IPv4 addresses that he has
// them: for many addresses at once, where a NeighbourWatch of each would be too much.
type ClaimWatch struct {
	lab  *Lab
	conn packetConn
	idle sync.WaitGroup

	mu   sync.Mutex // guards the field below
	last map[netip.Addr]map[string]time.Time
}

// WatchClaims listens on the host's interface until Stop.
func (h *Host) WatchClaims() (*ClaimWatch, error) {
	w := &ClaimWatch{lab: h.lab, last: map[netip.Addr]map[string]time.Time{}}
	err := h.Do(func() (err error) {
		w.conn, err = listenPacket("eth0", etherARP)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("watch claims from %s: %w", h.Name, err)
	}
	w.idle.Go(w.listen)
	return w, nil
}

func (w *ClaimWatch) listen() {
	buf := make([]byte, 2048)
	for {
		n, err := w.conn.Read(buf)
		if errors.Is(err, os.ErrClosed) {
			return
		}
		c, ok := parseClaim(buf[:max(n, 0)])
		if err != nil || !ok {
			continue
		}
		w.mu.Lock()
		if w.last[c.ip] == nil {
			w.last[c.ip] = map[string]time.Time{}
		}
		w.last[c.ip][c.mac.String()] = time.Now()
		w.mu.Unlock()
	}
}

// Since returns the addresses that somebody has claimed since that time, with the
// time and the node of the last claim, "" for who is none.
func (w *ClaimWatch) Since(t time.Time) map[netip.Addr]Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	out := map[netip.Addr]Change{}
	for ip, macs := range w.last {
		for mac, at := range macs {
			if at.After(t) && at.After(out[ip].At) {
				out[ip] = Change{At: at, MAC: mac, Node: w.lab.NodeByMAC(mac), Gratuitous: true}
			}
		}
	}
	return out
}

// Stop ends the watch; what it heard remains.
func (w *ClaimWatch) Stop() {
	_ = w.conn.Close()
	w.idle.Wait()
}
