package speaker

import (
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
	"github.com/fairlead-lb/fairlead/internal/notify"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/retry"
	"github.com/fairlead-lb/fairlead/internal/speakerstatus"
)

const (
	// retryInterval is how often join retries.
	retryInterval = time.Second
	// searchInterval is how often speakers search for others that they lost, as in a
	// partition.
	searchInterval = 500 * time.Millisecond
	// searchers is how many speakers search at a time.
	searchers = 5
	// rejoinTimeout bounds the search for the others after an interface is up again, during
	// which the speaker owns nothing. It is longer than the second after which the kernel
	// repeats an ARP request that was lost.
	rejoinTimeout = 2 * time.Second
	// rejoinInterval is how often it tries to join them then.
	rejoinInterval = 200 * time.Millisecond
)

// joining is what the Speaker says until it has joined.
const joining = "looking for the other speakers"

// membership is this speaker's part among the speakers.
type membership struct {
	joined atomic.Bool // it may own addresses

	// After an interface is up again, or a stall, the others are searched for.
	searches  sync.WaitGroup
	searching atomic.Int32  // searches that have not ended
	searched  notify.Signal // the last of them has ended

	// The loop owns these.
	standing  plan.Standing
	misplaced speakerstatus.EndpointFault // the Node has an address that this machine does not have
	rival     nodecheck.Rival             // another machine with this node's name
	duplicate bool                        // that machine was there first
	leaving   bool                        // the speaker hands over, and stops
	unheard   unheard
	keyring   keyring
}

func newMembership(cfg Config) membership {
	return membership{searched: notify.New(), keyring: newKeyring(cfg.Keys, cfg.Term)}
}

// join reads the cluster, publishes this speaker, and finds the others, before it may own
// anything (invariant L6). Of two that start together at least the later one to publish
// itself finds the other.
func (s *Speaker) join(ctx context.Context) error {
	select {
	case <-s.cluster.Listed():
	case <-ctx.Done():
		return ctx.Err()
	}
	if err := s.claimNodeName(ctx); err != nil {
		return err
	}
	report := speakerstatus.Report{
		Interfaces: s.host.interfaces, HostAddresses: s.host.others, Keys: s.membership.keyring.used, Reason: v1alpha1.ReasonJoining, Message: joining,
	}
	var others []netip.AddrPort
	publish := func(ctx context.Context) (err error) {
		if err = s.status.Write(ctx, report); err == nil {
			others, err = s.publishedEndpoints(ctx)
		}
		return err
	}
	failed := func(err error) { s.log.Error(err, "cannot publish this speaker and find the others; retrying") }
	if err := retry.Until(ctx, retryInterval, publish, failed); err != nil {
		return err
	}
	for s.Gossip.Join(ctx, others); s.isDuplicate(); s.Gossip.Join(ctx, others) {
		if err := retry.Sleep(ctx, tickInterval); err != nil {
			return err
		}
	}
	s.assess(ctx)
	s.hasJoined()
	return nil
}

// publishedEndpoints returns the gossip endpoints of the other speakers, as the API server has
// them.
func (s *Speaker) publishedEndpoints(ctx context.Context) ([]netip.AddrPort, error) {
	var list v1alpha1.SpeakerList
	if err := s.cfg.API.List(ctx, &list); err != nil {
		return nil, fmt.Errorf("list Speakers: %w", err)
	}
	var out []netip.AddrPort
	for _, o := range list.Items {
		if e, err := netip.ParseAddrPort(o.Status.GossipEndpoint); err == nil && o.Name != s.cfg.Node && e != s.cfg.endpoint() {
			out = append(out, e)
		}
	}
	return out, nil
}

// hasJoined records that this node may own addresses, and publishes that: a node that may not
// is not elected.
func (s *Speaker) hasJoined() {
	if s.membership.duplicate {
		return
	}
	s.membership.joined.Store(!s.membership.standing.Out)
	others := s.cluster.Others()
	s.Gossip.Revive(func(node string) bool { _, there := others[node]; return !there })
	s.publishFacts()
}

// rejoin searches for the others after an interface is up again, or this process has stalled:
// they may have taken what this node owned, without its knowledge. It owns nothing until it has
// found them, or the search has ended without success.
func (s *Speaker) rejoin(ctx context.Context) {
	s.membership.joined.Store(false)
	s.publishFacts()
	s.membership.searching.Add(1)
	s.membership.searches.Go(func() {
		ctx, cancel := context.WithTimeout(ctx, rejoinTimeout)
		defer cancel()
		s.find(ctx, slices.Collect(maps.Values(s.cluster.Others())))
		if s.membership.searching.Add(-1) == 0 {
			s.membership.searched.Poke()
		}
	})
}

// find joins one of the others, in several attempts until ctx ends: a port that is up again
// may lose the first packets, and TCP repeats them only after a second.
func (s *Speaker) find(ctx context.Context, others []netip.AddrPort) {
	for len(others) > 0 && ctx.Err() == nil {
		attempt, cancel := context.WithTimeout(ctx, rejoinInterval)
		found := s.Gossip.Join(attempt, others)
		if !found {
			<-attempt.Done()
		}
		cancel()
		if found {
			return
		}
	}
}

// searchLost searches for speakers that exist and are not among the members, until ctx ends:
// gossip alone does not reunite after a long partition. The members take turns, so that a few
// search at a time, however many they are.
func (s *Speaker) searchLost(ctx context.Context) {
	tick := time.NewTicker(searchInterval)
	defer tick.Stop()
	for turn := 0; ; turn++ {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		alive := s.Gossip.Alive()
		if own, _ := slices.BinarySearch(alive, s.cfg.Node); (turn+own)%(1+len(alive)/searchers) != 0 {
			continue
		}
		var lost []netip.AddrPort
		for node, endpoint := range s.cluster.Others() {
			if _, found := slices.BinarySearch(alive, node); !found {
				lost = append(lost, endpoint)
			}
		}
		// One that is away would be waited for, and the others with it.
		attempt, cancel := context.WithTimeout(ctx, searchInterval)
		s.Gossip.Join(attempt, lost)
		cancel()
	}
}
