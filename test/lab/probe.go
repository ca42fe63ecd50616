package lab

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// usualPatience is long enough for a busy machine and short against a failover.
const usualPatience = 250 * time.Millisecond

// ProbeOptions change how a Probe asks. The zero value is what tests want.
type ProbeOptions struct {
	// Interval between probes; 0 means 5 ms.
	Interval time.Duration

	// Patience is how long an answer may take. What comes later counts as an
	// outage: a client that waited that long was not served. 0 means usualPatience.
	Patience time.Duration

	// FreshPort asks from a new source port each time, so that each probe is a
	// new connection to kube-proxy. ProbeHTTP always does.
	FreshPort bool

	// OneByOne has ProbeHTTP ask only after the question before was answered, or
	// given up, so that no more than one connection is open at a time.
	OneByOne bool
}

// Probe is a client that asks again and again until it is stopped.
type Probe struct {
	opts   ProbeOptions
	cancel context.CancelFunc
	idle   sync.WaitGroup // everything that the probe has started

	mu    sync.Mutex // guards the fields below
	shots []shot     // by sequence number
	err   error
}

// shot is one question and what became of it.
type shot struct {
	sent    time.Time
	took    time.Duration
	answers int
	node    string
	source  netip.Addr // of the question, as the backend saw it
}

// ProbeReport is what a client has seen.
type ProbeReport struct {
	Sent     int
	Answered int // within Patience
	Late     int // answered, but after that

	// Duplicated counts questions that were answered more than once: two nodes
	// had let them in.
	Duplicated int

	// LongestOutage is the longest time without service: from the sending of a
	// probe that was not answered in time to the sending of the next one that
	// was. It began at From and ended at To; all are zero if nothing was lost.
	LongestOutage time.Duration
	From, To      time.Time

	// Standstill is the longest time between two questions. More than the interval
	// says that the client itself had no time.
	Standstill time.Duration

	Slowest time.Duration // of the answers in time
	Nodes   map[string]int
	Sources map[netip.Addr]int

	Err error // why probes could not be sent, the first time; a cable that is out is no reason
}

// String is the report in one line.
func (r ProbeReport) String() string {
	s := fmt.Sprintf("%d sent, %d answered, %d late, %d twice; longest outage %d ms; nodes %v; sources %v",
		r.Sent, r.Answered, r.Late, r.Duplicated, r.LongestOutage.Milliseconds(), r.Nodes, r.Sources)
	if r.Err != nil {
		s += fmt.Sprintf("; %v", r.Err)
	}
	return s
}

// ProbeUDP asks the backend behind an address, from one socket unless told otherwise.
func (h *Host) ProbeUDP(to netip.AddrPort, opts ...ProbeOptions) *Probe {
	p, ctx := newProbe(opts)
	p.idle.Go(func() {
		if err := h.Do(func() error { return p.askUDP(ctx, to) }); err != nil {
			p.fail(err)
		}
	})
	return p
}

// ProbeHTTP makes a TCP connection and a request each time.
func (h *Host) ProbeHTTP(to netip.AddrPort, opts ...ProbeOptions) *Probe {
	p, ctx := newProbe(opts)
	p.idle.Go(func() {
		p.tick(ctx, func(seq int) {
			if p.opts.OneByOne {
				p.askHTTP(h, to, seq)
				return
			}
			p.idle.Go(func() { p.askHTTP(h, to, seq) })
		})
	})
	return p
}

func newProbe(opts []ProbeOptions) (*Probe, context.Context) {
	p := &Probe{}
	if len(opts) > 0 {
		p.opts = opts[0]
	}
	if p.opts.Interval == 0 {
		p.opts.Interval = 5 * time.Millisecond
	}
	if p.opts.Patience == 0 {
		p.opts.Patience = usualPatience
	}
	ctx, cancel := context.WithCancel(context.Background())
	p.cancel = cancel
	return p, ctx
}

// Stop ends the probe, gives its last questions time to be answered, and reports.
func (p *Probe) Stop() ProbeReport {
	p.cancel()
	p.idle.Wait()
	return p.Report()
}

// Report is what has been seen so far. The questions of the last moment, which
// may still be answered, are left out.
func (p *Probe) Report() ProbeReport {
	p.mu.Lock()
	defer p.mu.Unlock()
	shots := p.shots
	for len(shots) > 0 && shots[len(shots)-1].answers == 0 && time.Since(shots[len(shots)-1].sent) < p.opts.Patience {
		shots = shots[:len(shots)-1]
	}
	r := report(shots, p.opts.Patience)
	r.Err = p.err
	return r
}

// report is a pure function of what happened.
func report(shots []shot, patience time.Duration) ProbeReport {
	r := ProbeReport{Sent: len(shots), Nodes: map[string]int{}, Sources: map[netip.Addr]int{}}
	var since time.Time // of the outage that the loop is in; zero if it is in none
	end := func(at time.Time) {
		if !since.IsZero() && at.Sub(since) > r.LongestOutage {
			r.LongestOutage, r.From, r.To = at.Sub(since), since, at
		}
		since = time.Time{}
	}
	for i, s := range shots {
		if i > 0 {
			r.Standstill = max(r.Standstill, s.sent.Sub(shots[i-1].sent))
		}
		if s.answers > 1 {
			r.Duplicated++
		}
		if s.answers > 0 {
			r.Nodes[s.node]++
			r.Sources[s.source]++
		}
		if s.answers > 0 && s.took <= patience {
			r.Answered++
			r.Slowest = max(r.Slowest, s.took)
			end(s.sent)
			continue
		}
		if s.answers > 0 {
			r.Late++
		}
		if since.IsZero() {
			since = s.sent
		}
	}
	if len(shots) > 0 {
		end(shots[len(shots)-1].sent)
	}
	return r
}

// tick takes a shot per interval. One that is late because the machine was busy
// is not made up for: a burst would measure something else.
func (p *Probe) tick(ctx context.Context, ask func(seq int)) {
	ticker := time.NewTicker(p.opts.Interval)
	defer ticker.Stop()
	for {
		p.mu.Lock()
		seq := len(p.shots)
		p.shots = append(p.shots, shot{sent: time.Now()})
		p.mu.Unlock()
		ask(seq)
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// answered notes an answer, whose text is the backend's line.
func (p *Probe) answered(seq int, line string) {
	var node string
	var source netip.AddrPort
	for _, word := range strings.Fields(line) {
		switch key, value, _ := strings.Cut(word, "="); key {
		case "node":
			node = value
		case "client":
			source, _ = netip.ParseAddrPort(value)
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if seq < 0 || seq >= len(p.shots) {
		return
	}
	s := &p.shots[seq]
	if s.answers++; s.answers == 1 {
		s.took, s.node, s.source = time.Since(s.sent), node, source.Addr()
	}
}

func (p *Probe) fail(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
}

// askUDP sends from the goroutine that is in the host's namespace, and has each
// socket read by another.
func (p *Probe) askUDP(ctx context.Context, to netip.AddrPort) error {
	var conn *net.UDPConn
	p.tick(ctx, func(seq int) {
		if conn == nil || p.opts.FreshPort {
			c, err := net.ListenUDP("udp", nil)
			if err != nil {
				p.fail(err)
				return
			}
			conn = c
			p.idle.Go(func() { p.readUDP(ctx, c) })
		}
		// That there is no route or no carrier is part of an outage.
		_, _ = conn.WriteToUDPAddrPort(fmt.Appendf(nil, "seq=%d", seq), to)
	})
	return nil
}

// readUDP reads answers: one within the patience from a socket that asked once,
// and from one that asks until ctx is done all, and then those under way. Even
// the first stays a moment for a second answer, which would be news.
func (p *Probe) readUDP(ctx context.Context, c *net.UDPConn) {
	defer c.Close()
	lastCall := func() { _ = c.SetReadDeadline(time.Now().Add(p.opts.Patience)) }
	if p.opts.FreshPort {
		lastCall()
	} else {
		defer context.AfterFunc(ctx, lastCall)()
	}
	buf := make([]byte, 2048)
	for {
		n, _, err := c.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		line, number, ok := strings.Cut(string(buf[:n]), " seq=")
		var seq int
		if _, err := fmt.Sscan(number, &seq); ok && err == nil {
			p.answered(seq, line)
			if p.opts.FreshPort {
				_ = c.SetReadDeadline(time.Now().Add(usualPatience))
			}
		}
	}
}

func (p *Probe) askHTTP(h *Host, to netip.AddrPort, seq int) {
	web := &http.Client{
		Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true},
		Timeout:   p.opts.Patience,
	}
	res, err := web.Get("http://" + to.String() + "/")
	if err != nil {
		return // a question without an answer
	}
	defer res.Body.Close()
	if line, err := io.ReadAll(res.Body); err == nil && res.StatusCode == http.StatusOK {
		p.answered(seq, string(line))
	}
}
