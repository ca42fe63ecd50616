package speaker

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/speakerstatus"
)

const (
	// handOverTimeout bounds the wait for successors on shutdown. It is within the 30 s
	// that Kubernetes gives a pod to end.
	handOverTimeout = 3 * time.Second
	// stopTimeout bounds the last messages to the other speakers and the API server.
	stopTimeout = time.Second
)

// leave hands over what this node announces, by layer 2 and by BGP at the same time.
func (s *Speaker) leave(ctx context.Context) {
	forGood, why := s.leavesForGood()
	var sessions sync.WaitGroup
	sessions.Go(func() { s.Routes.Leave(ctx, forGood, why) })
	s.handOver(ctx)
	sessions.Wait() // before BFD ends, which routers would take for a fault
}

// leavesForGood reports whether routers are to remove this node's routes when the speaker
// ends, and why, for their logs: not when another speaker will follow on the same node, and not
// when no other node advertises the routes.
func (s *Speaker) leavesForGood() (bool, string) {
	switch {
	case s.cluster.NodeLeaving():
		return true, s.cfg.Node + " is leaving the cluster"
	case (s.health.drained || s.cluster.NodeDeprioritized()) && !s.Routes.OnlyAdvertiser():
		return true, s.cfg.Node + " is drained"
	default:
		return false, ""
	}
}

// handOver hands over what this node announces, make before break: the others elect a successor
// for each address, and this node stops when it receives the successor's claim. An address
// without a successor it announces until the end.
func (s *Speaker) handOver(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, handOverTimeout)
	defer cancel()
	s.membership.leaving = true
	s.publishFacts()
	for s.hasSuccessor(s.turn()) && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-s.Gossip.Changed():
		}
	}
}

// hasSuccessor reports whether another node can take over something that this one still
// announces.
func (s *Speaker) hasSuccessor(p plan.Plan) bool {
	return slices.ContainsFunc(p.Outcomes, func(o plan.Outcome) bool {
		return o.Reason == lb.ReasonAnnounced && slices.ContainsFunc(o.Avoided, func(r plan.Rejection) bool {
			return r.Node == s.cfg.Node // avoided only while there is a better one
		})
	})
}

// stop stops answering, and informs the other speakers and the API server, at the same time:
// where all stop, there is nobody who would confirm it.
func (s *Speaker) stop(ctx context.Context) {
	s.Layer2.Close()
	s.DHCP.Close()
	ctx, cancel := context.WithTimeout(ctx, stopTimeout)
	defer cancel()
	var informed sync.WaitGroup
	defer informed.Wait()
	informed.Go(func() {
		if err := s.Gossip.Stop(ctx); err != nil {
			s.log.Error(err, "cannot leave the gossip")
		}
	})
	if s.membership.duplicate {
		return
	}
	last := speakerstatus.Report{Interfaces: s.host.interfaces, HostAddresses: s.host.others, Reason: v1alpha1.ReasonStopping, Message: "the speaker has stopped"}
	if err := s.status.Write(ctx, last); err != nil {
		s.log.Error(err, "cannot write the Speaker's last status")
	}
}
