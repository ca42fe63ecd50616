package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/internal/nodecheck"
)

// Two machines may have one node name, such as clones of a disk. The one that was there first announces
// and writes the Speaker object; the other one has not joined, and says why in its log.

// claimNodeName waits until no other machine has this node's name, as far as the endpoint in the Speaker
// object leads to one.
func (a *Speaker) claimNodeName(ctx context.Context) error {
	for {
		var s v1alpha1.Speaker
		err := a.cfg.API.Get(ctx, client.ObjectKey{Name: a.cfg.Node}, &s)
		if apierrors.IsNotFound(err) {
			return nil
		}
		if err == nil {
			before, parseErr := netip.ParseAddrPort(s.Status.GossipEndpoint)
			if parseErr != nil || before == a.cfg.endpoint() {
				return nil
			}
			a.members.Join(ctx, []netip.AddrPort{before})
			if !a.isDuplicate() {
				return nil
			}
		} else {
			a.log.Error(err, "reading this node's Speaker failed; retrying")
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(tryAgain):
		}
	}
}

// isDuplicate reports whether another machine was there first with this node's name.
func (a *Speaker) isDuplicate() bool {
	first, duplicate := a.members.Duplicate()
	if duplicate && !a.duplicate {
		a.log.Error(errors.New("duplicate node name"), fmt.Sprintf(
			"another machine, at %s, has run a speaker with this node's name before; this one, at %s, announces nothing; give it a hostname of its own, and restart its kubelet and its speaker",
			first, a.cfg.endpoint()), "node", a.cfg.Node)
	}
	a.duplicate = duplicate
	return duplicate
}

// yieldNodeName has this speaker own nothing while another machine was there first with its name, and look
// for the others when that is over.
func (a *Speaker) yieldNodeName(ctx context.Context) {
	switch was := a.duplicate; {
	case a.isDuplicate() && !was:
		a.joined.Store(false)
		a.tellFacts()
	case was && !a.duplicate:
		a.rejoin(ctx)
	}
}

// rivalOf returns the other machine with this node's name, if this one was there first.
func rivalOf(v members.View, cfg Config) nodecheck.Rival {
	if r, rivals := v.Duplicates[cfg.Node]; rivals && !v.Duplicate {
		return nodecheck.Rival{Own: r.First.String(), Other: r.Later.String()}
	}
	return nodecheck.Rival{}
}
