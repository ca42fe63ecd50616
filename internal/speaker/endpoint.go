package speaker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// ErrAddressChanged is returned by Start when the Node has another address for the
// gossip, and this machine has that address. What the speaker announced is handed over
// then; it is to be started again.
var ErrAddressChanged = errors.New("the Node has another InternalIP")

// addressInterval is how often a speaker without a usable address looks for one.
const addressInterval = time.Second

// gossipPlaces is where the speakers take part in the gossip.
type gossipPlaces struct {
	family lb.Family                // preferred
	own    netip.Addr               // that this node should use, as its Node says
	down   map[string]bool          // nodes
	places map[string]plan.Endpoint // by node; Away says that the speaker has stopped
}

func newGossipPlaces() gossipPlaces {
	return gossipPlaces{family: lb.IPv4, down: map[string]bool{}, places: map[string]plan.Endpoint{}}
}

func (g *gossipPlaces) setNode(n *corev1.Node, gone bool) (matters bool) {
	down := !gone && kube.NodeDown(n)
	matters = g.down[n.Name] != down
	g.down[n.Name] = down
	if gone {
		delete(g.down, n.Name)
	}
	return matters
}

func (g *gossipPlaces) setSpeaker(s *v1alpha1.Speaker, gone bool) (matters bool) {
	before, had := g.places[s.Name]
	addr, err := netip.ParseAddrPort(s.Status.GossipEndpoint)
	if gone || err != nil {
		delete(g.places, s.Name)
		return had
	}
	e := plan.Endpoint{Node: s.Name, Addr: netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port()), Created: s.CreationTimestamp.Unix()}
	if c := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady); c != nil {
		e.Away = c.Reason == v1alpha1.ReasonStopping
	}
	g.places[s.Name] = e
	return e != before
}

// standing returns whether the speaker of this node, with this endpoint, may take part.
func (w *world) standing(endpoint netip.AddrPort) plan.Standing {
	w.mu.Lock()
	defer w.mu.Unlock()
	self := plan.Endpoint{Node: w.node, Addr: endpoint, Created: math.MaxInt64}
	if known, ok := w.gossip.places[w.node]; ok {
		self.Created = known.Created
	}
	all := make([]plan.Endpoint, 0, len(w.gossip.places))
	for node, e := range w.gossip.places {
		e.Away = e.Away || w.gossip.down[node]
		all = append(all, e)
	}
	return plan.StandingOf(self, all)
}

// ownGossipAddress returns the address that this node should use for the gossip, or none.
func (w *world) ownGossipAddress() netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gossip.own
}

// assess decides again whether this speaker may take part.
func (a *Speaker) assess(ctx context.Context) {
	s := a.world.standing(a.cfg.endpoint())
	if s.Equal(a.standing) {
		return
	}
	wasOut := a.standing.Out
	a.standing = s
	switch {
	case s.Out:
		a.log.Info("this speaker takes no part", "cause", standingFault(a.cfg.endpoint(), s).message)
		a.joined.Store(false)
		a.tellFacts()
	case wasOut:
		a.log.Info("this speaker takes part again")
		a.rejoin(ctx)
	}
}

// hasMoved reports whether this speaker is to be started again with another address. As
// long as the machine does not have that one, the speaker keeps using its own.
func (a *Speaker) hasMoved() bool {
	own := a.world.ownGossipAddress()
	a.misplaced = endpointFault{}
	if !a.cfg.Follow || !own.IsValid() || own == a.cfg.Bind {
		return false
	}
	if !isLocal(own) {
		a.misplaced = notLocal(a.cfg.Node, own)
		a.misplaced.message += fmt.Sprintf("; the speaker still uses %s", a.cfg.Bind)
		return false
	}
	return true
}

// endpointFault is what is wrong with a speaker's endpoint; reason is "" for nothing.
type endpointFault struct{ reason, message string }

// endpointFault returns what is wrong with the endpoint in use.
func (a *Speaker) endpointFault() endpointFault {
	if f := standingFault(a.cfg.endpoint(), a.standing); f.reason != "" {
		return f
	}
	return a.misplaced
}

func standingFault(endpoint netip.AddrPort, s plan.Standing) endpointFault {
	const few = 5
	consequence := "this node announces, and they do not"
	if s.Out {
		consequence = "this node does not announce"
	}
	switch {
	case len(s.Same) > 0:
		return endpointFault{v1alpha1.ReasonDuplicateEndpoint, fmt.Sprintf(
			"the endpoint %s is also that of node %s, so that the speakers cannot talk to each other; of these, only the one with the oldest Speaker announces: %s; "+
				"set kubelet's --node-ip on each of them to an address that the others reach, or the speaker's --gossip-bind-address",
			endpoint, kube.Some(s.Same, few), consequence)}
	case len(s.Unreachable) > 0:
		return endpointFault{v1alpha1.ReasonAddressFamilyDiffers, fmt.Sprintf(
			"the endpoint %s is %s, and the speakers of these nodes cannot reach it with theirs: %s; only the family of more speakers announces: %s; "+
				"give all nodes an InternalIP of one family (kubelet's --node-ip), or set the speakers' --gossip-ip-family to one that all have",
			endpoint, lb.FamilyOf(endpoint.Addr()), kube.Some(s.Unreachable, few), consequence)}
	}
	return endpointFault{}
}

func notLocal(node string, addr netip.Addr) endpointFault {
	return endpointFault{v1alpha1.ReasonAddressNotLocal, fmt.Sprintf(
		"the InternalIP %s of Node %s is on no interface of this machine; set kubelet's --node-ip to an address that it has, or the speaker's --gossip-bind-address", addr, node)}
}

func noUsableAddress(node string) endpointFault {
	return endpointFault{v1alpha1.ReasonNoUsableAddress, fmt.Sprintf(
		"Node %s has no InternalIP on which other nodes can reach it (loopback and link-local addresses do not count); set kubelet's --node-ip, or the speaker's --gossip-bind-address", node)}
}

// isLocal reports whether an interface of this machine has the address.
func isLocal(a netip.Addr) bool {
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, 0)))
	if err != nil {
		return false
	}
	_ = conn.Close()
	return true
}

// AwaitAddress returns the address of this node for the gossip, as its Node says. While
// there is none that can be used, the Speaker says why.
func AwaitAddress(ctx context.Context, cfg Config) (netip.Addr, error) {
	log := cfg.Log
	status := newStatusWriter(cfg, log)
	var last endpointFault
	var unread string // why the Node cannot be read, logged once
	for {
		addr, fault, err := usableAddress(ctx, cfg)
		switch {
		case err != nil:
			if unread != err.Error() {
				log.Error(err, "cannot read the Node; retrying")
			}
			unread = err.Error()
		case fault.reason == "":
			return addr, nil
		case fault != last:
			log.Info("waiting for an address for the gossip", "cause", fault.message)
			if err := status.write(ctx, report{reason: fault.reason, message: fault.message, endpoint: fault}); err != nil {
				log.Error(err, "cannot write the Speaker's status; retrying")
				fault = endpointFault{}
			}
			last = fault
		}
		select {
		case <-ctx.Done():
			return netip.Addr{}, ctx.Err()
		case <-time.After(addressInterval):
		}
	}
}

func usableAddress(ctx context.Context, cfg Config) (netip.Addr, endpointFault, error) {
	var node corev1.Node
	if err := cfg.API.Get(ctx, client.ObjectKey{Name: cfg.Node}, &node); err != nil {
		return netip.Addr{}, endpointFault{}, fmt.Errorf("get Node %s (is --node-name right?): %w", cfg.Node, err)
	}
	addr, ok := kube.GossipAddress(&node, cfg.Family)
	switch {
	case !ok:
		return addr, noUsableAddress(cfg.Node), nil
	case !isLocal(addr):
		return addr, notLocal(cfg.Node, addr), nil
	}
	return addr, endpointFault{}, nil
}
