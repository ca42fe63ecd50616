package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"sync"
	"time"
)

// watchInterval is how often a watch asks, and so the grain of what it sees.
const watchInterval = 20 * time.Millisecond

// packetConn sends and receives whole Ethernet frames on one interface.
type packetConn = io.ReadWriteCloser

// NeighbourWatch asks the network over and over who has an address, and keeps
// all that is said about it.
type NeighbourWatch struct {
	IP netip.Addr

	lab    *Lab
	cancel context.CancelFunc
	idle   sync.WaitGroup

	mu      sync.Mutex // guards the fields below
	queries []query
	sayings []saying
	err     error
}

// query is one question, and the distinct MACs that answered before the next.
type query struct {
	at       time.Time
	answered time.Time // first
	macs     []string
}

// saying is one claim to have the address.
type saying struct {
	at         time.Time
	mac        string
	gratuitous bool
}

// Change is a moment from which on another machine claimed the address.
type Change struct {
	At         time.Time
	MAC        string
	Node       string // "" if it is no node's MAC
	Gratuitous bool   // it was announced, and not an answer to a question
}

// WatchNeighbour asks by ARP or by NDP, as the address demands, every 20 ms. The
// answers reach the kernel of the host as well and refresh its neighbour cache,
// so watch from l.Observer and not from the client whose outage is measured.
func (h *Host) WatchNeighbour(ip netip.Addr) (*NeighbourWatch, error) {
	ctx, cancel := context.WithCancel(context.Background())
	w := &NeighbourWatch{IP: ip, lab: h.lab, cancel: cancel}
	question, protocol := solicit(h, ip)
	var conn packetConn
	err := h.Do(func() (err error) {
		conn, err = listenPacket("eth0", protocol)
		return err
	})
	if err != nil {
		cancel()
		return nil, fmt.Errorf("watch %s from %s: %w", ip, h.Name, err)
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	w.idle.Go(func() { w.ask(ctx, conn, question) })
	w.idle.Go(func() { w.listen(ctx, conn, h.MAC) })
	return w, nil
}

// Stop ends the watch; what it saw remains.
func (w *NeighbourWatch) Stop() {
	w.cancel()
	w.idle.Wait()
}

// Err is why the watch could not ask or hear, or nil.
func (w *NeighbourWatch) Err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// Answers counts the answers to questions by the node that gave them, or by
// MAC if that is no node's.
func (w *NeighbourWatch) Answers() map[string]int {
	w.mu.Lock()
	defer w.mu.Unlock()
	count := map[string]int{}
	for _, s := range w.sayings {
		if !s.gratuitous {
			count[w.who(s.mac)]++
		}
	}
	return count
}

// Changes are the first claim, and each that came from another MAC than the one
// before it.
func (w *NeighbourWatch) Changes() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	var changes []Change
	last := ""
	for _, s := range w.sayings {
		if s.mac != last {
			changes = append(changes, w.change(s))
		}
		last = s.mac
	}
	return changes
}

// Announcements are the claims that nobody had asked for.
func (w *NeighbourWatch) Announcements() []Change {
	w.mu.Lock()
	defer w.mu.Unlock()
	var list []Change
	for _, s := range w.sayings {
		if s.gratuitous {
			list = append(list, w.change(s))
		}
	}
	return list
}

// Answering is who has answered a question within that time until now, sorted:
// nodes by name, others by MAC.
func (w *NeighbourWatch) Answering(within time.Duration) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var who []string
	for _, s := range slices.Backward(w.sayings) {
		if time.Since(s.at) > within {
			break
		}
		if !s.gratuitous {
			who = append(who, w.who(s.mac))
		}
	}
	slices.Sort(who)
	return slices.Compact(who)
}

// Gap is the longest time since then without an answer.
func (w *NeighbourWatch) Gap(since time.Time) (longest time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	last := since
	for _, s := range w.sayings {
		if !s.gratuitous && s.at.After(last) {
			longest, last = max(longest, s.at.Sub(last)), s.at
		}
	}
	return max(longest, time.Since(last))
}

// RoundTrips are the times from questions to their first answers.
func (w *NeighbourWatch) RoundTrips() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []time.Duration
	for _, q := range w.queries {
		if !q.answered.IsZero() {
			out = append(out, q.answered.Sub(q.at))
		}
	}
	return out
}

// Doubt is how long after a moment another node than the owner last claimed the
// address, until the next claim; 0 if none did.
func (w *NeighbourWatch) Doubt(since time.Time, owner string) time.Duration {
	var last time.Duration
	changes := w.Changes()
	for i, c := range changes {
		end := c.At
		if i+1 < len(changes) {
			end = changes[i+1].At
		}
		if c.Node != owner {
			last = max(last, end.Sub(since))
		}
	}
	return last
}

// Overlap is the longest time during which two machines answered one and the
// same question; 0 if they never did. It is a multiple of the interval, but for
// the unevenness of clocks.
func (w *NeighbourWatch) Overlap() time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return overlap(w.queries)
}

func overlap(queries []query) time.Duration {
	var longest time.Duration
	var since time.Time
	for _, q := range queries {
		switch {
		case len(q.macs) < 2:
			since = time.Time{}
			continue
		case since.IsZero():
			since = q.at
		}
		longest = max(longest, q.at.Add(watchInterval).Sub(since))
	}
	return longest
}

// String tells the changes, one per line.
func (w *NeighbourWatch) String() string {
	var b strings.Builder
	for _, c := range w.Changes() {
		how := "answers"
		if c.Gratuitous {
			how = "announces"
		}
		fmt.Fprintf(&b, "%s %s %s %s\n", c.At.Format("15:04:05.000"), w.who(c.MAC), how, w.IP)
	}
	return b.String()
}

func (w *NeighbourWatch) change(s saying) Change {
	return Change{At: s.at, MAC: s.mac, Node: w.lab.NodeByMAC(s.mac), Gratuitous: s.gratuitous}
}

func (w *NeighbourWatch) who(mac string) string {
	if node := w.lab.NodeByMAC(mac); node != "" {
		return node
	}
	return mac
}

func (w *NeighbourWatch) ask(ctx context.Context, conn packetConn, question []byte) {
	ticker := time.NewTicker(watchInterval)
	defer ticker.Stop()
	for {
		w.mu.Lock()
		w.queries = append(w.queries, query{at: time.Now()})
		w.mu.Unlock()
		if _, err := conn.Write(question); err != nil && !errors.Is(err, os.ErrClosed) {
			w.note(err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (w *NeighbourWatch) listen(ctx context.Context, conn packetConn, self net.HardwareAddr) {
	buf := make([]byte, 2048)
	for {
		n, err := conn.Read(buf)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			// The interface went down, for one. Hearing may come back.
			w.note(err)
			if errors.Is(err, os.ErrClosed) {
				return
			}
			continue
		}
		if c, ok := parseClaim(buf[:n]); ok && c.ip == w.IP {
			w.heard(c, self)
		}
	}
}

func (w *NeighbourWatch) heard(c claim, self net.HardwareAddr) {
	s := saying{at: time.Now(), mac: c.mac.String(), gratuitous: c.to.String() != self.String()}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.sayings = append(w.sayings, s)
	if s.gratuitous || len(w.queries) == 0 {
		return
	}
	if q := &w.queries[len(w.queries)-1]; !slices.Contains(q.macs, s.mac) {
		if q.macs = append(q.macs, s.mac); q.answered.IsZero() {
			q.answered = s.at
		}
	}
}

func (w *NeighbourWatch) note(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}
