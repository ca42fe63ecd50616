package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
	"github.com/fairlead-lb/fairlead/internal/retry"
)

// Two machines may have one node name, such as clones of a disk. The one that was there first announces
// and writes the Speaker object; the other one has not joined, and says why in its log.

// claimNodeName waits until no other machine has this node's name, as far as the endpoint in the Speaker
// object leads to one.
func (s *Speaker) claimNodeName(ctx context.Context) error {
	for {
		var published v1alpha1.Speaker
		err := s.cfg.API.Get(ctx, client.ObjectKey{Name: s.cfg.Node}, &published)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			before, parseErr := netip.ParseAddrPort(published.Status.GossipEndpoint)
			if parseErr != nil || before == s.cfg.endpoint() {
				return nil
			}
			s.Gossip.Join(ctx, []netip.AddrPort{before})
			if !s.isDuplicate() {
				return nil
			}
		} else {
			s.log.Error(err, "reading this node's Speaker failed; retrying")
		}
		if err := retry.Sleep(ctx, tickInterval); err != nil {
			return err
		}
	}
}

// isDuplicate reports whether another machine was there first with this node's name.
func (s *Speaker) isDuplicate() bool {
	first, duplicate := s.Gossip.Duplicate()
	if duplicate && !s.membership.duplicate {
		s.log.Error(errors.New("duplicate node name"), fmt.Sprintf(
			"another machine, at %s, has run a speaker with this node's name before; this one, at %s, announces nothing; give it a hostname of its own, and restart its kubelet and its speaker",
			first, s.cfg.endpoint()), "node", s.cfg.Node)
	}
	s.membership.duplicate = duplicate
	return duplicate
}

// yieldNodeName has this speaker own nothing while another machine was there first with its name, and look
// for the others when that is over.
func (s *Speaker) yieldNodeName(ctx context.Context) {
	switch was := s.membership.duplicate; {
	case s.isDuplicate() && !was:
		s.membership.joined.Store(false)
		s.publishFacts()
	case was && !s.membership.duplicate:
		s.rejoin(ctx)
	}
}

// rivalOf returns the other machine with this node's name, if this one was there first.
func rivalOf(v members.View, cfg Config) nodecheck.Rival {
	if r, rivals := v.Duplicates[cfg.Node]; rivals && !v.Duplicate {
		return nodecheck.Rival{Own: r.First.String(), Other: r.Later.String()}
	}
	return nodecheck.Rival{}
}
