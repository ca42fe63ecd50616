package speaker

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
	"github.com/fairlead-lb/fairlead/internal/retry"
	"github.com/fairlead-lb/fairlead/internal/speakerstatus"
)

// ErrAddressChanged is returned by Start when the Node has another address for the
// gossip, and this machine has that address. What the speaker announced is handed over
// then; it is to be started again.
var ErrAddressChanged = errors.New("the Node has another InternalIP")

// addressInterval is how often a speaker without a usable address looks for one.
const addressInterval = time.Second

// assess decides again whether this speaker may take part.
func (s *Speaker) assess(ctx context.Context) {
	standing := s.cluster.Standing(s.cfg.endpoint())
	if standing.Equal(s.membership.standing) {
		return
	}
	wasOut := s.membership.standing.Out
	s.membership.standing = standing
	switch {
	case standing.Out:
		s.log.Info("this speaker does not participate", "cause", standingFault(s.cfg.endpoint(), standing).Message)
		s.membership.joined.Store(false)
		s.publishFacts()
	case wasOut:
		s.log.Info("this speaker participates again")
		s.rejoin(ctx)
	}
}

// checkAddress returns ErrAddressChanged if own, which the Node has for the gossip, is another
// address than the one in use, and this machine has it. As long as it has not, the speaker
// uses its own.
func (s *Speaker) checkAddress(own netip.Addr) error {
	s.membership.misplaced = speakerstatus.EndpointFault{}
	switch {
	case !s.cfg.Follow || !own.IsValid() || own == s.cfg.Bind:
		return nil
	case !s.Interfaces.Has(own):
		s.membership.misplaced = notLocal(s.cfg.Node, own)
		s.membership.misplaced.Message += fmt.Sprintf("; the speaker still uses %s", s.cfg.Bind)
		return nil
	}
	return fmt.Errorf("%w: %s instead of %s", ErrAddressChanged, own, s.cfg.Bind)
}

// endpointFault returns what is wrong with the endpoint in use.
func (s *Speaker) endpointFault() speakerstatus.EndpointFault {
	if f := standingFault(s.cfg.endpoint(), s.membership.standing); f.Reason != "" {
		return f
	}
	return s.membership.misplaced
}

func standingFault(endpoint netip.AddrPort, s plan.Standing) speakerstatus.EndpointFault {
	const few = 5
	consequence := "this node announces, and they do not"
	if s.Out {
		consequence = "this node does not announce"
	}
	switch {
	case len(s.Same) > 0:
		return speakerstatus.EndpointFault{Reason: v1alpha1.ReasonDuplicateEndpoint, Message: fmt.Sprintf(
			"the endpoint %s is also that of node %s, so that the speakers cannot talk to each other; of these, only the one with the oldest Speaker announces: %s; "+
				"set kubelet's --node-ip on each of them to an address that the others reach, or the speaker's --gossip-bind-address",
			endpoint, kube.Some(s.Same, few), consequence)}
	case len(s.Unreachable) > 0:
		return speakerstatus.EndpointFault{Reason: v1alpha1.ReasonAddressFamilyDiffers, Message: fmt.Sprintf(
			"the endpoint %s is %s, and the speakers of these nodes cannot reach it with theirs: %s; only the family of more speakers announces: %s; "+
				"give all nodes an InternalIP of one family (kubelet's --node-ip), or set the speakers' --gossip-ip-family to one that all have",
			endpoint, lb.FamilyOf(endpoint.Addr()), kube.Some(s.Unreachable, few), consequence)}
	}
	return speakerstatus.EndpointFault{}
}

func notLocal(node string, addr netip.Addr) speakerstatus.EndpointFault {
	return speakerstatus.EndpointFault{Reason: v1alpha1.ReasonAddressNotLocal, Message: fmt.Sprintf(
		"the InternalIP %s of Node %s is on no interface of this machine; set kubelet's --node-ip to an address that it has, or the speaker's --gossip-bind-address", addr, node)}
}

func noUsableAddress(node string) speakerstatus.EndpointFault {
	return speakerstatus.EndpointFault{Reason: v1alpha1.ReasonNoUsableAddress, Message: fmt.Sprintf(
		"Node %s has no InternalIP on which other nodes can reach it (loopback and link-local addresses do not count); set kubelet's --node-ip, or the speaker's --gossip-bind-address", node)}
}

// AwaitAddress returns the address of this node for the gossip, as its Node says. While
// there is none that can be used, the Speaker says why.
func AwaitAddress(ctx context.Context, cfg Config) (netip.Addr, error) {
	return awaitAddress(ctx, cfg, isLocal)
}

func awaitAddress(ctx context.Context, cfg Config, isLocal func(netip.Addr) bool) (netip.Addr, error) {
	log := cfg.Log
	status := newStatusWriter(cfg)
	var last speakerstatus.EndpointFault
	var unread string // why the Node cannot be read, logged once
	for {
		addr, fault, err := usableAddress(ctx, cfg, isLocal)
		switch {
		case err != nil:
			if unread != err.Error() {
				log.Error(err, "cannot read the Node; retrying")
			}
			unread = err.Error()
		case fault.Reason == "":
			return addr, nil
		case fault != last:
			log.Info("waiting for an address for the gossip", "cause", fault.Message)
			if err := status.Write(ctx, speakerstatus.Report{Reason: fault.Reason, Message: fault.Message, Endpoint: fault}); err != nil {
				log.Error(err, "cannot write the Speaker's status; retrying")
				fault = speakerstatus.EndpointFault{}
			}
			last = fault
		}
		if err := retry.Sleep(ctx, addressInterval); err != nil {
			return netip.Addr{}, err
		}
	}
}

func usableAddress(ctx context.Context, cfg Config, isLocal func(netip.Addr) bool) (netip.Addr, speakerstatus.EndpointFault, error) {
	var node corev1.Node
	if err := cfg.API.Get(ctx, client.ObjectKey{Name: cfg.Node}, &node); err != nil {
		return netip.Addr{}, speakerstatus.EndpointFault{}, fmt.Errorf("get Node %s (is --node-name right?): %w", cfg.Node, err)
	}
	addr, ok := kube.GossipAddress(&node, cfg.Family)
	switch {
	case !ok:
		return addr, noUsableAddress(cfg.Node), nil
	case !isLocal(addr):
		return addr, notLocal(cfg.Node, addr), nil
	}
	return addr, speakerstatus.EndpointFault{}, nil
}
