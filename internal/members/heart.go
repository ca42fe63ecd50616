package members

import (
	"context"
	"encoding/binary"
	"slices"
	"time"
)

// keepBeating beats until ctx ends.
func (m *Members) keepBeating(ctx context.Context) {
	tick := time.NewTicker(m.timers.beat())
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			m.beat()
		}
	}
}

// beat sends a pulse if it is time, and says whom this speaker does not hear, if
// that has changed.
func (m *Members) beat() {
	now := time.Now()
	m.mu.Lock()
	send, lapsed := m.pulses.beat(now, m.roster.ring())
	p, again := m.pulses, m.outbox.repeats(now)
	changed := !p.opinion.equal(m.facts.opinion)
	m.mu.Unlock()
	switch {
	case lapsed:
		m.cfg.Log.Info("this speaker stood still, and others may have taken over; looking for them", "longer than", m.timers.silence.String())
		m.beating.Store(-1)
		m.lapsed.Poke()
	case m.beating.Load() >= 0:
		m.beatNow()
	}
	if changed {
		m.say(func(f *versioned) { f.opinion = p.opinion })
	}
	if send {
		m.sendEach(p.watchers, kindHeartbeat, m.heartbeat(p.beats))
	}
	for _, r := range again {
		m.sendEach([]string{r.to}, kindNews, newsBody(r.number, r.msg.encode()))
	}
	if len(p.back) > 0 { // each has missed what the other said
		m.tasks.start(func(context.Context) { m.syncWith(p.back...) })
	}
}

// Beating reports whether this speaker's heart beats. While it does not, as when
// the process was stopped for a while, the others take it for dead, and it must not
// answer for anything.
func (m *Members) Beating() bool {
	last := m.beating.Load()
	return last >= 0 && time.Since(m.born)-time.Duration(last) < m.timers.silence
}

// Lapsed receives when the heart has missed so many beats that others may have
// taken over. It does not beat again before Revive. It has room for one.
func (m *Members) Lapsed() <-chan struct{} { return m.lapsed }

// Revive lets the heart beat again, after the others were found. Those whom this
// speaker did not hear, as it was itself cut off or stood still, are given the
// benefit of the doubt, unless they have left the cluster for good.
func (m *Members) Revive(gone func(node string) bool) {
	known := slices.DeleteFunc(m.state.nodes(), gone)
	m.mu.Lock()
	m.pulses.forgive(time.Now())
	for _, node := range known {
		m.roster.vouch(node)
	}
	m.mu.Unlock()
	m.tasks.after(m.timers.silence, m.notify)
	m.beatNow()
}

func (m *Members) beatNow() { m.beating.Store(int64(time.Since(m.born))) }

// heartbeat is the body of a heartbeat. It is as long as that of a challenge, which may be the
// reply.
func (m *Members) heartbeat(number uint64) []byte {
	return binary.BigEndian.AppendUint64(make([]byte, 8, 16), number)
}

// hearHeartbeat takes in a heartbeat. A node is where its last one came from: memberlist does
// not believe that one has another address now before it takes the old one for dead.
func (m *Members) hearHeartbeat(d delivery) {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, known := m.nodes[d.node]
	if m.pulses.hear(d.node, time.Now()) && known {
		m.nodes[d.node] = d.from
	}
}
