package ledger

import (
	"context"
	"time"
)

// More addresses a second than crowd, after the first few, and everything that
// can wait gives way to them; but not for longer than pause each time, so that it
// goes on at a walk.
const (
	crowd = 100
	few   = 20
	pause = 500 * time.Millisecond
)

// GiveWay returns when few addresses are being given, or after a short pause. What
// has time calls it before it writes to the API server.
func (l *Ledger) GiveWay(ctx context.Context) {
	l.mu.Lock()
	wait := l.crowded.Add(pause).Sub(l.now())
	l.mu.Unlock()
	if wait <= 0 {
		return
	}
	select {
	case <-ctx.Done():
	case <-time.After(pause):
	}
}
