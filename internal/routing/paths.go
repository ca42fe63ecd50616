package routing

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/go-logr/logr"

	"github.com/fairlead-lb/fairlead/internal/bfd"
	"github.com/fairlead-lb/fairlead/internal/notify"
	"github.com/fairlead-lb/fairlead/internal/retry"
)

// again is how long to wait after the process that watches paths has ended by
// itself.
const again = time.Second

// holder is called when paths are lost: the sessions over them.
type holder interface {
	Lost(peer, reason string)
	Restored(peer string)
}

// watched is what is wanted of a path: who uses it, and how closely it is watched.
type watched struct {
	spec  bfd.SessionSpec
	peers []string
}

// paths watches the paths to routers by BFD, in a process of its own that is there
// only while there are any. Who uses a path is held down from the moment at which
// it is lost until it is back; as long as BFD has never come up, nothing is held,
// as the router may not have it yet (RFC 5882, 4.1).
type paths struct {
	log     logr.Logger
	command []string // which calls bfd.Serve
	holder  holder
	changed notify.Signal // a state did
	wake    notify.Signal // what is wanted did

	mu     sync.Mutex // guards the fields below
	wanted map[bfd.Key]watched
	states map[bfd.Key]bfd.State
	child  *bfd.Child // while it runs
	end    context.CancelFunc
}

func newPaths(log logr.Logger, command []string, h holder) *paths {
	return &paths{
		log: log, command: command, holder: h, changed: notify.New(), wake: notify.New(),
		wanted: map[bfd.Key]watched{}, states: map[bfd.Key]bfd.State{},
	}
}

// want makes these the paths that are watched. It is cheap when they are the same.
func (p *paths) want(list []watched) {
	p.mu.Lock()
	defer p.mu.Unlock()
	after := make(map[bfd.Key]watched, len(list))
	for _, w := range list {
		if had, twice := after[w.spec.Key]; twice { // two peers of one path: the first says how it is watched
			had.peers = append(slices.Clone(had.peers), w.peers...)
			w = had
		}
		after[w.spec.Key] = w
	}
	same := len(after) == len(p.wanted)
	for key, w := range p.wanted {
		now, still := after[key]
		same = same && still && now.spec == w.spec && slices.Equal(now.peers, w.peers)
		for _, peer := range w.peers {
			if !slices.Contains(now.peers, peer) {
				p.holder.Restored(peer)
			}
		}
		if !still {
			delete(p.states, key)
		}
	}
	if same {
		return
	}
	p.wanted = after
	if p.child != nil && len(after) == 0 {
		p.end()
	} else if p.child != nil {
		p.apply()
	}
	p.wake.Poke()
}

// apply tells the child what is wanted.
func (p *paths) apply() {
	specs := make([]bfd.SessionSpec, 0, len(p.wanted))
	for _, w := range p.wanted {
		specs = append(specs, w.spec)
	}
	if err := p.child.Apply(specs); err != nil {
		p.log.Error(err, "cannot watch every path by BFD")
	}
}

// run has the process while there is something to watch, until ctx ends.
func (p *paths) run(ctx context.Context) {
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
			return
		case <-p.wake:
		}
		for ctx.Err() == nil && p.runChild(ctx) {
			_ = retry.Sleep(ctx, again)
		}
	}
}

// runChild has one process, if there is something to watch, and reports whether it
// ended by itself.
func (p *paths) runChild(ctx context.Context) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	p.mu.Lock()
	if len(p.wanted) == 0 {
		p.mu.Unlock()
		return false
	}
	child := bfd.NewChild(bfd.Config{Log: p.log, Notify: p.onEvent}, p.command...)
	p.child, p.end = child, cancel
	p.apply()
	p.mu.Unlock()
	err := child.Run(ctx)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.child = nil
	clear(p.states)
	for _, w := range p.wanted { // these are not watched now
		for _, peer := range w.peers {
			p.holder.Restored(peer)
		}
	}
	if len(p.wanted) > 0 {
		p.wake.Poke() // what was wanted since its end was
	}
	if err != nil && ctx.Err() == nil {
		p.log.Error(err, "the process that watches paths by BFD has ended; starting another")
		return true
	}
	return false
}

// onEvent records what became of a path. What the router switches off itself says
// nothing about the path (RFC 5882, 3.2).
func (p *paths) onEvent(e bfd.Event) {
	p.mu.Lock()
	defer p.mu.Unlock()
	w, ok := p.wanted[e.Key]
	if !ok {
		return
	}
	before := p.states[e.Key]
	p.states[e.Key] = e.State
	switch {
	case e.State == bfd.Up || e.RemoteState == bfd.AdminDown:
		for _, peer := range w.peers {
			p.holder.Restored(peer)
		}
	case before == bfd.Up:
		for _, peer := range w.peers {
			p.holder.Lost(peer, fmt.Sprintf("BFD reports that %s cannot be reached (%s); reconnecting when BFD is up", e.Key.Peer, e.Diag))
		}
	}
	p.changed.Poke()
}

// stateOf returns the state of the path that a peer uses; the zero State when it
// is not watched.
func (p *paths) stateOf(peer string) (bfd.State, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, w := range p.wanted {
		if slices.Contains(w.peers, peer) {
			if state, ok := p.states[key]; ok {
				return state, true
			}
			return bfd.Down, true
		}
	}
	return 0, false
}
