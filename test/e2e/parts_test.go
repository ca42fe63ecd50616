package e2e

import (
	"context"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/test/lab"
)

// bare has three nodes and Fairlead's kinds. Tests start and stop Fairlead in it.
var bare = shared{prepare: (*lab.Lab).Install}

// fairlead is a Fairlead that is started and stopped by parts, as Deployment and
// DaemonSet are.
type fairlead struct {
	*corner
	controller *lab.Process
	speakers   []*lab.Process // by node
}

// start starts a controller and a speaker on each node, with these flags and, for the
// speakers, some more.
func (f *fairlead) start(t *testing.T, flags []string, more ...string) {
	t.Helper()
	var err error
	f.controller, err = f.StartController(t.Context(), flags...)
	must(t, err)
	f.speakers = nil
	for _, n := range f.Nodes {
		p, err := f.StartSpeaker(t.Context(), n.Name, slices.Concat(flags, more)...)
		must(t, err)
		f.speakers = append(f.speakers, p)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 2*soon)
	defer cancel()
	for _, p := range append([]*lab.Process{f.controller}, f.speakers...) {
		must(t, p.Ready(ctx))
	}
}

func (f *fairlead) stopController(t *testing.T) { stopAll(t, f.controller) }

func (f *fairlead) stopSpeakers(t *testing.T) { stopAll(t, f.speakers...) }

// stopAll stops processes, all at the same time.
func stopAll(t *testing.T, processes ...*lab.Process) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), soon)
	defer cancel()
	done := make(chan error, len(processes))
	for _, p := range processes {
		go func() { done <- p.Stop(ctx) }()
	}
	for range processes {
		must(t, <-done)
	}
}
