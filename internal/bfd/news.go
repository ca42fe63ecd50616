package bfd

import (
	"context"
	"sync"

	"github.com/go-logr/logr"
)

// news carries what happened from the timers' goroutine to who may be slow: the
// one that is notified, and the log.
type news struct {
	log    logr.Logger
	notify func(Event)
	ready  chan struct{} // has room for one

	mu    sync.Mutex // guards the field below; held only to append and to swap
	items []item
}

// item is an event, or what is wrong with a session.
type item struct {
	event Event
	err   error
}

func (n *news) init(log logr.Logger, notify func(Event)) {
	n.log, n.notify, n.ready = log, notify, make(chan struct{}, 1)
}

func (n *news) add(i item) {
	n.mu.Lock()
	n.items = append(n.items, i)
	n.mu.Unlock()
	select {
	case n.ready <- struct{}{}:
	default: // one is waiting already
	}
}

func (n *news) deliver(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-n.ready:
		}
		n.mu.Lock()
		items := n.items
		n.items = nil
		n.mu.Unlock()
		for _, i := range items {
			n.tell(i)
		}
	}
}

func (n *news) tell(i item) {
	if i.err != nil {
		n.log.Info("cannot run BFD session", "peer", i.event.Key.String(), "error", i.err.Error())
		return
	}
	n.log.V(1).Info("BFD session changed", "peer", i.event.Key.String(), "state", i.event.State.String(),
		"diagnostic", i.event.Diag.String(), "remoteState", i.event.RemoteState.String())
	if n.notify != nil {
		n.notify(i.event)
	}
}
