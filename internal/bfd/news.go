package bfd

import (
	"context"
	"sync"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

// news carries what happened from the timers' goroutine to who may be slow: the
// one that is notified, and the log.
type news struct {
	tell  func(item)
	ready notify.Signal

	mu    sync.Mutex // guards the field below; held only to append and to swap
	items []item
}

// item is an event, or what is wrong with the session of the event's key.
type item struct {
	Event Event
	Err   string
}

func newNews(tell func(item)) *news { return &news{tell: tell, ready: notify.New()} }

func (n *news) add(i item) {
	n.mu.Lock()
	n.items = append(n.items, i)
	n.mu.Unlock()
	n.ready.Poke()
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

// tell tells whom the Config names.
func (c Config) tell(i item) {
	if i.Err != "" {
		c.Log.Info("cannot run BFD session", "peer", i.Event.Key.String(), "error", i.Err)
		return
	}
	c.Log.V(1).Info("BFD session changed", "peer", i.Event.Key.String(), "state", i.Event.State.String(),
		"diagnostic", i.Event.Diag.String(), "remoteState", i.Event.RemoteState.String())
	if c.Notify != nil {
		c.Notify(i.Event)
	}
}
