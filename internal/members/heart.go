package members

import (
	"context"
	"encoding/binary"
	"slices"
	"sync/atomic"
	"time"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

// heart is whether this process has run lately, so that others can have heard it.
type heart struct {
	born    time.Time
	silence time.Duration
	last    atomic.Int64  // when after born it last beat; -1 while it does not
	lapsed  notify.Signal // that it has stopped
}

func newHeart(silence time.Duration) *heart {
	return &heart{born: time.Now(), silence: silence, lapsed: notify.New()}
}

func (h *heart) beat() { h.last.Store(int64(time.Since(h.born))) }

// stop lets it not beat until beat is called.
func (h *heart) stop() {
	h.last.Store(-1)
	h.lapsed.Poke()
}

func (h *heart) stopped() bool { return h.last.Load() < 0 }

// beats reports whether it has beaten lately.
func (h *heart) beats() bool {
	last := h.last.Load()
	return last >= 0 && time.Since(h.born)-time.Duration(last) < h.silence
}

// Beating reports whether this speaker's heart beats. While it does not, as when
// the process was stopped for a while, the others take it for dead, and it must not
// answer for anything.
func (m *Members) Beating() bool { return m.heart.beats() }

// Lapsed receives when the heart has missed so many beats that others may have
// taken over. It does not beat again before Revive. It has room for one.
func (m *Members) Lapsed() <-chan struct{} { return m.heart.lapsed }

// Revive lets the heart beat again, after the others were found. Those whom this
// speaker did not hear, as it was itself cut off or stood still, are given the
// benefit of the doubt, unless they have left the cluster for good.
func (m *Members) Revive(gone func(node string) bool) {
	m.membership.forgive(slices.DeleteFunc(m.state.nodes(), gone))
	m.changed.in(m.timers.silence)
	m.heart.beat()
}

// keepBeating beats until ctx ends.
func (m *Members) keepBeating(ctx context.Context) {
	tick := time.NewTicker(m.timers.beat())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.beat(time.Now())
		}
	}
}

// beat sends a heartbeat if it is time, publishes which speakers this one hears and misses, if that
// has changed, and repeats what others have not acknowledged.
func (m *Members) beat(now time.Time) {
	r := m.membership.beat(now)
	switch {
	case r.stalled:
		m.cfg.Log.Info("this process did not run, and other speakers may have taken over; rejoining them", "longer than", m.timers.silence.String())
		m.heart.stop()
	case !m.heart.stopped():
		m.heart.beat()
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
	if len(r.back) > 0 { // each has missed what the other said
		m.tasks.start(func(context.Context) { m.syncWith(r.back...) })
	}
}

// heartbeat is the body of a heartbeat. It is as long as that of a challenge, which may be the
// reply.
func heartbeat(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 8, 16), number)
}
