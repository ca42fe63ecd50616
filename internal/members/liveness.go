package members

import (
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

// liveness is whether this process has run recently, so that the others can have heard it.
type liveness struct {
	since   time.Time
	silence time.Duration
	last    atomic.Int64  // when after since it was last confirmed; -1 while suspended
	lapsed  notify.Signal // it was suspended
}

func newLiveness(silence time.Duration) *liveness {
	return &liveness{since: time.Now(), silence: silence, lapsed: notify.New()}
}

// confirm records that the process runs now.
func (l *liveness) confirm() { l.last.Store(int64(time.Since(l.since))) }

// suspend ends the liveness until the next confirm.
func (l *liveness) suspend() {
	l.last.Store(-1)
	l.lapsed.Poke()
}

func (l *liveness) suspended() bool { return l.last.Load() < 0 }

// recent reports whether it was confirmed recently.
func (l *liveness) recent() bool {
	last := l.last.Load()
	return last >= 0 && time.Since(l.since)-time.Duration(last) < l.silence
}

// Beating reports whether this speaker sends heartbeats in time. While it does not, as after
// the process was stopped for a while, the others take it for dead, and it must not answer for
// any address.
func (m *Members) Beating() bool { return m.liveness.recent() }

// Lapsed receives when this process has stalled for so long that others may have taken over.
// Beating returns false from then on until Revive. It has room for one.
func (m *Members) Lapsed() <-chan struct{} { return m.liveness.lapsed }

// Revive ends that, after this speaker has rejoined the others. Nodes that it did not hear, as it
// was isolated or stalled itself, count as alive until they had the time to be heard again; not
// so those for which gone returns true, as they have left the cluster.
func (m *Members) Revive(gone func(node string) bool) {
	m.membership.assumeAlive(slices.DeleteFunc(m.state.nodes(), gone))
	m.changed.in(m.timers.silence)
	m.liveness.confirm()
}

// sendHeartbeats calls tick until ctx ends.
func (m *Members) sendHeartbeats(ctx context.Context) {
	tick := time.NewTicker(m.timers.tick())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.tick(time.Now())
		}
	}
}

// tick sends a heartbeat if it is due, publishes which speakers this one hears and misses if that
// has changed, and repeats messages that are not acknowledged.
func (m *Members) tick(now time.Time) {
	r := m.membership.tick(now)
	switch {
	case r.stalled:
		m.cfg.Log.Info("this process stalled, and other speakers may have taken over its addresses; rejoining them", "longer than", m.timers.silence.String())
		m.liveness.suspend()
	case !m.liveness.suspended():
		m.liveness.confirm()
	}
	if !r.opinion.equal(m.own.get().opinion) {
		m.publish(func(f *versioned) { f.opinion = r.opinion })
	}
	if r.send {
		m.sendEach(r.watchers, kindHeartbeat, heartbeat(r.number))
	}
	for _, again := range m.own.repeats(now) {
		m.sendEach([]string{again.to}, kindNews, newsBody(again.number, again.msg.encode()))
	}
	if len(r.back) > 0 { // both have missed what the other published meanwhile
		m.tasks.start(func(context.Context) { m.syncWith(r.back...) })
	}
}

// heartbeat is the body of a heartbeat. It has the length of a challenge's body, so that a
// challenge in reply is not longer.
func heartbeat(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 8, 16), number)
}
