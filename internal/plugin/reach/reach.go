// Package reach asks an address again and again whether it takes TCP connections, and
// tells for how long it did not: what a client sees of a fail-over.
package reach

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// Every is how often the address is asked, whatever became of the attempts before.
	Every = 20 * time.Millisecond
	// Patience is how long an answer may take. TCP repeats what was lost after a second:
	// an attempt that is answered only then was without service.
	Patience = 500 * time.Millisecond
)

// Dialer opens connections; a net.Dialer does.
type Dialer interface {
	DialContext(ctx context.Context, network, address string) (net.Conn, error)
}

// Report is what became of the attempts.
type Report struct {
	Asked    int
	Answered int
	Gap      time.Duration // the longest time from an attempt without an answer to the next one with
}

// Once asks one time. The error says why there is no connection.
func Once(ctx context.Context, d Dialer, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, Patience)
	defer cancel()
	conn, err := d.DialContext(ctx, "tcp", to.String())
	if err != nil {
		return fmt.Errorf("connect to %s: %w", to, err)
	}
	return conn.Close()
}

// shot is one attempt.
type shot struct {
	at       time.Time
	answered bool
}

// Measure asks until ctx ends, and waits for what was asked by then.
func Measure(ctx context.Context, d Dialer, to netip.AddrPort) Report {
	var shots []*shot
	var asked sync.WaitGroup
	tick := time.NewTicker(Every)
	defer tick.Stop()
	for ctx.Err() == nil {
		s := &shot{at: time.Now()}
		shots = append(shots, s)
		asked.Go(func() { s.answered = Once(context.WithoutCancel(ctx), d, to) == nil })
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	asked.Wait()
	return report(shots)
}

// report sums up. Where the last attempts have no answer, the gap lasts until one
// would have been asked next.
func report(shots []*shot) Report {
	r := Report{Asked: len(shots)}
	var lost time.Time // the first attempt without an answer since the last with one
	for _, s := range shots {
		switch {
		case s.answered:
			r.Answered++
			if !lost.IsZero() {
				r.Gap, lost = max(r.Gap, s.at.Sub(lost)), time.Time{}
			}
		case lost.IsZero():
			lost = s.at
		}
	}
	if !lost.IsZero() {
		r.Gap = max(r.Gap, shots[len(shots)-1].at.Add(Every).Sub(lost))
	}
	return r
}
