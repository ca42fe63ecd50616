package bfd

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/bfd/session"
)

// State and Diag are those of RFC 5880, 4.1.
type (
	State = session.State
	Diag  = session.Diag
)

// The states, for those who need no more of a session.
const (
	AdminDown = session.AdminDown
	Down      = session.Down
	Init      = session.Init
	Up        = session.Up
)

// Config is what an Engine is made with.
type Config struct {
	Log logr.Logger
	// Notify is called with each change of a session's state, in order, one at a time.
	// It may take its time: the timers do not wait for it. Sessions that are
	// removed are not reported again, nor are any once Run's context is done.
	Notify func(Event)
}

// Event is a change of a session's state.
//
// When RemoteState is AdminDown, the peer's operator has switched the session
// off: that says nothing about the path, and who uses BFD should go on as without
// it (RFC 5882, 3.2).
type Event struct {
	Key         Key
	State       State
	Diag        Diag // why, in our own words
	RemoteState State
	RemoteDiag  Diag
	Since       time.Time
}

// Engine runs sessions.
type Engine struct {
	net     network
	wanted  atomic.Pointer[map[Key]SessionSpec]
	queries chan chan Status
	running atomic.Bool
	done    chan struct{} // closed when Run returns
	news    *news
}

// New returns an Engine without sessions.
func New(c Config) *Engine { return newEngine(c.tell, newKernel()) }

func newEngine(tell func(item), n network) *Engine {
	e := &Engine{net: n, queries: make(chan chan Status, 16), done: make(chan struct{}), news: newNews(tell)}
	e.wanted.Store(&map[Key]SessionSpec{})
	return e
}

// Apply makes these the sessions that there are; those that are the same stay as
// they are, and those whose numbers differ stay up. It says what is wrong with
// specs, which are then left out, and returns without waiting for anything: what
// keeps a session from being had, for now, is in Status, and is tried again.
//
// A session that is removed tells its peer that it is administratively down.
func (e *Engine) Apply(specs []SessionSpec) error {
	accepted, err := accept(specs)
	e.wanted.Store(&accepted)
	e.net.Wake()
	return err
}

// Run runs the sessions until ctx is done; then it tells the peers that they are
// administratively down, so that they need not take it for a failure, and
// returns. It takes its goroutine, and that one's thread, for itself. It can be
// called once.
func (e *Engine) Run(ctx context.Context) error {
	defer close(e.done)
	priority, err := e.net.Open()
	if err != nil {
		return fmt.Errorf("start BFD: %w", err)
	}
	defer e.net.Close()
	defer context.AfterFunc(ctx, e.net.Wake)()
	e.running.Store(true)
	delivery, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	wg.Go(func() { e.news.deliver(delivery) })
	newLoop(e, priority).run(ctx)
	return nil
}

// Status returns how the sessions are. It is empty unless Run runs.
func (e *Engine) Status() Status {
	if !e.running.Load() {
		return Status{}
	}
	answer := make(chan Status, 1)
	select {
	case e.queries <- answer:
		e.net.Wake()
	case <-e.done:
		return Status{}
	}
	select {
	case s := <-answer:
		slices.SortFunc(s.Sessions, func(a, b SessionStatus) int { return a.Key.compare(b.Key) })
		return s
	case <-e.done:
		return Status{}
	}
}
