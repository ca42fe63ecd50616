package bfd

import (
	"context"
	"encoding/gob"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime/debug"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead-lb/fairlead/internal/notify"
)

// Child is an Engine in a process of its own, with the same methods.
//
// In a program that does other things too, on a machine that has no time, even a
// thread of the highest priority waits now and then for a tenth of a second: for
// Go's collector, for a lock of Go's scheduler, for one of its processors; that
// is, for another thread of the program, which waits for a core. In a process
// that does nothing else, all threads can have that priority. Besides, when
// the parent dies and the child is left to itself, it says goodbye to the peers,
// so that what was a crash of a program is not taken for that of a host.
type Child struct {
	command []string
	tell    func(item)
	wanted  atomic.Pointer[[]SessionSpec]
	wake    notify.Signal
	queries chan chan Status
	running atomic.Bool
	done    chan struct{} // closed when Run returns
}

// ask is what the parent tells the child; answer is the other way round.
type ask struct {
	Apply  bool
	Specs  []SessionSpec
	Status bool
}

type answer struct {
	Item   *item
	Status *Status
}

// childPatience is how long a child may take to end: ten times what it should.
const childPatience = 3 * time.Second

// NewChild returns a Child without sessions. The command must call Serve.
func NewChild(c Config, command ...string) *Child {
	child := &Child{
		command: command, tell: c.tell, wake: notify.New(), queries: make(chan chan Status), done: make(chan struct{}),
	}
	child.wanted.Store(&[]SessionSpec{})
	return child
}

// Apply is as that of Engine.
func (c *Child) Apply(specs []SessionSpec) error {
	accepted, err := accept(specs)
	wanted := make([]SessionSpec, 0, len(accepted))
	for k, s := range accepted {
		s.Key = k // in the caller's words
		wanted = append(wanted, s)
	}
	c.wanted.Store(&wanted)
	c.wake.Poke()
	return err
}

// Run is as that of Engine. It returns early, with an error, should the child
// end by itself; then the sessions are gone.
func (c *Child) Run(ctx context.Context) error {
	defer close(c.done)
	cmd := exec.Command(c.command[0], c.command[1:]...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return fmt.Errorf("start BFD: %w", err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return fmt.Errorf("start BFD: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start BFD: %w", err)
	}
	c.running.Store(true)

	news := newNews(c.tell)
	delivery, stop := context.WithCancel(context.Background())
	statuses := make(chan Status, 1)
	ended := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() { news.deliver(delivery) })
	wg.Go(func() {
		defer close(ended)
		listen(out, news, statuses)
	})
	// A child that hangs does not read either, and a write to a full pipe returns only when the
	// pipe is closed.
	unblock := context.AfterFunc(ctx, func() { _ = in.Close() })
	c.talk(ctx, gob.NewEncoder(in), statuses, ended)
	unblock()
	_ = in.Close() // the child says goodbye, and ends
	select {
	case <-ended:
	case <-time.After(childPatience):
		_ = cmd.Process.Kill()
		<-ended
	}
	stop()
	wg.Wait()
	if err := cmd.Wait(); err != nil || ctx.Err() == nil {
		return fmt.Errorf("the BFD process ended: %w", errors.Join(err, errEnded))
	}
	return nil
}

var errEnded = errors.New("its sessions are gone")

// talk tells the child what is wanted, until ctx is done or the child is gone.
func (c *Child) talk(ctx context.Context, to *gob.Encoder, statuses <-chan Status, ended <-chan struct{}) {
	for err := error(nil); err == nil; {
		select {
		case <-ctx.Done():
			return
		case <-ended:
			return
		case <-c.wake:
			err = to.Encode(ask{Apply: true, Specs: *c.wanted.Load()})
		case query := <-c.queries:
			if err = to.Encode(ask{Status: true}); err != nil {
				return
			}
			select {
			case s := <-statuses:
				query <- s
			case <-ctx.Done(): // a child that hangs does not answer; Run ends it
				return
			case <-ended:
			}
		}
	}
}

// listen hears the child until it ends.
func listen(out io.Reader, news *news, statuses chan<- Status) {
	from := gob.NewDecoder(out)
	for {
		var a answer
		if from.Decode(&a) != nil {
			return
		}
		if a.Item != nil {
			news.add(*a.Item)
		}
		if a.Status != nil {
			statuses <- *a.Status
		}
	}
}

// Status is as that of Engine.
func (c *Child) Status() Status {
	if !c.running.Load() {
		return Status{}
	}
	query := make(chan Status, 1)
	select {
	case c.queries <- query:
	case <-c.done:
		return Status{}
	}
	select {
	case s := <-query:
		return s
	case <-c.done:
		return Status{}
	}
}

// childMemory is how much may lie about before Go's collector runs: in a day
// without changes it never does.
const childMemory = 64 << 20

// Serve is the child's side, by its standard input and output. It returns when
// the parent wants no more, or is no more, and the peers know.
func Serve(in io.Reader, out io.Writer) error {
	// Who stops the parent by its group means the parent; and to write to one that
	// is no more must not be the end.
	signal.Ignore(syscall.SIGINT, syscall.SIGTERM, syscall.SIGPIPE)
	debug.SetGCPercent(-1)
	debug.SetMemoryLimit(childMemory)
	hastenAll()
	var mu sync.Mutex // guards to
	to := gob.NewEncoder(out)
	tell := func(a answer) {
		mu.Lock()
		defer mu.Unlock()
		_ = to.Encode(a) // a parent that is no more is noticed below
	}
	e := newEngine(func(i item) { tell(answer{Item: &i}) }, newKernel())
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() {
		defer cancel()
		from := gob.NewDecoder(in)
		for {
			var a ask
			if from.Decode(&a) != nil {
				return
			}
			if a.Apply {
				_ = e.Apply(a.Specs) // the parent has said what is wrong with them
			}
			if a.Status {
				s := e.Status()
				tell(answer{Status: &s})
			}
		}
	})
	if err := e.Run(ctx); err != nil {
		return err
	}
	wg.Wait()
	return nil
}
