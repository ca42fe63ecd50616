package bfd

import (
	"time"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

// nothing is what is wanted in the end.
var nothing = map[Key]SessionSpec{}

// reconcile makes some of the sessions what they should be.
func (l *loop) reconcile(now time.Time, ending bool) {
	want := l.wanted.Load()
	if ending {
		want = &nothing
	}
	if want != l.current {
		l.current, l.todo = want, l.differences(*want)
	}
	n := min(len(l.todo), changesPerTurn)
	if ending {
		n = len(l.todo)
	}
	for _, k := range l.todo[:n] {
		l.settle(k, now)
	}
	l.todo = l.todo[n:]
}

func (l *loop) differences(want map[Key]SessionSpec) (todo []Key) {
	for k := range l.peers {
		if _, wanted := want[k]; !wanted {
			todo = append(todo, k) // first, so that addresses and ports are free
		}
	}
	for k, spec := range want {
		if p := l.peers[k]; p == nil || p.spec != spec {
			todo = append(todo, k)
		}
	}
	return todo
}

// settle makes one session what it should be.
func (l *loop) settle(k Key, now time.Time) {
	spec, wanted := (*l.current)[k]
	p := l.peers[k]
	switch {
	case p == nil && wanted:
		l.add(k, spec, now)
	case p != nil && !wanted:
		l.remove(p, now)
	case p != nil:
		l.change(p, spec, now)
	}
}

func (l *loop) add(k Key, spec SessionSpec, now time.Time) {
	if old := l.leaving[k]; old != nil {
		l.forget(old) // what it still wants to say would be taken to be from this one
	}
	path, err := spec.path()
	if err != nil {
		return // was accepted by Apply, and cannot fail now
	}
	p := &peer{key: k, spec: spec, path: path, session: l.newSession(spec), since: now, index: -1}
	l.peers[k] = p
	l.directory.add(p)
	l.open(p, now)
	if spec.AdminDown {
		l.handle(p, p.session.Disable(now, session.DiagAdminDown), now)
		return
	}
	l.handle(p, p.session.Tick(now), now)
}

func (l *loop) change(p *peer, spec SessionSpec, now time.Time) {
	was := p.spec.AdminDown
	p.spec = spec
	p.session.SetParams(spec.params())
	switch {
	case spec.AdminDown && !was:
		l.handle(p, p.session.Disable(now, session.DiagAdminDown), now)
	case !spec.AdminDown && was:
		l.handle(p, p.session.Enable(now), now)
	default:
		l.handle(p, session.Output{}, now)
	}
}

// remove ends a session, and begins to tell the peer.
func (l *loop) remove(p *peer, now time.Time) {
	l.directory.remove(p)
	delete(l.peers, p.key)
	l.leaving[p.key] = p
	out := p.session.Disable(now, session.DiagAdminDown)
	if !out.Send { // the peer knows, or has never been spoken to
		l.forget(p)
		return
	}
	p.farewells, p.goodbye = farewells, out.Packet.Append(nil)
	l.bid(p, now)
}

// bid says goodbye once more.
func (l *loop) bid(p *peer, now time.Time) {
	l.send(p, p.goodbye, now)
	if p.farewells--; p.farewells == 0 || p.sender == nil {
		l.forget(p)
		return
	}
	at, ok := p.next(now)
	l.schedule.set(p, at, ok)
}

// forget frees all that a session that is over still has.
func (l *loop) forget(p *peer) {
	delete(l.leaving, p.key)
	l.schedule.drop(p)
	if p.sender != nil {
		p.sender.Close()
	}
	for key, listener := range l.listeners {
		if !l.listens(key) {
			listener.Close()
			delete(l.listeners, key)
		}
	}
}

// listens is whether any session needs that socket.
func (l *loop) listens(key socketKey) bool {
	for k := range l.directory.byAddress {
		if k.socket == key {
			return true
		}
	}
	return false
}

// open opens what a session needs of the kernel; if it cannot, that is tried
// again a little later.
func (l *loop) open(p *peer, now time.Time) {
	if p.sender != nil {
		p.sender.Close()
		p.sender = nil
	}
	err := l.listen(p.path.socket)
	if err == nil {
		p.sender, err = l.net.Dial(p.path, p.port)
	}
	if err != nil {
		p.sender = nil
		p.retryAt = now.Add(retry)
		l.fail(p, err, now)
		return
	}
	p.port, p.ifindex = p.sender.Port(), p.sender.Interface()
	p.retryAt, p.broken = time.Time{}, time.Time{}
}

func (l *loop) listen(key socketKey) error {
	listener := l.listeners[key]
	if listener != nil && !listener.Stale() {
		return nil
	}
	if listener != nil {
		listener.Close()
		delete(l.listeners, key)
	}
	listener, err := l.net.Listen(key)
	if err == nil {
		l.listeners[key] = listener
	}
	return err
}

// send sends a packet. A socket that has failed for a while is reopened: the
// interface or address that it is bound to may be another one by the same name.
func (l *loop) send(p *peer, b []byte, now time.Time) {
	if p.sender == nil {
		return // open has said why
	}
	if err := p.sender.Send(b); err != nil {
		p.SendErrors++
		if !p.broken.IsZero() && now.Sub(p.broken) >= retry && p.farewells == 0 {
			p.retryAt = now
		}
		l.fail(p, err, now)
		return
	}
	p.Sent++
	p.err, p.broken = nil, time.Time{}
}

// fail notes what is wrong with a session, and says it once.
func (l *loop) fail(p *peer, err error, now time.Time) {
	if p.broken.IsZero() {
		p.broken = now
	}
	if p.err == nil || p.err.Error() != err.Error() {
		l.news.add(item{Event: Event{Key: p.key}, Err: err.Error()})
	}
	p.err = err
}
