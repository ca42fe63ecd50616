package mirror

import (
	"math"
	"net/netip"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plan"
)

// gossipPlaces is where the speakers take part in the gossip.
type gossipPlaces struct {
	family lb.Family                // preferred
	own    netip.Addr               // that this node should use, as its Node says
	down   map[string]bool          // nodes
	places map[string]plan.Endpoint // by node; Away says that the speaker has stopped
}

func newGossipPlaces(family lb.Family) gossipPlaces {
	return gossipPlaces{family: family, down: map[string]bool{}, places: map[string]plan.Endpoint{}}
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

// Standing returns whether the speaker of this node, with this endpoint, may take part.
func (w *Cluster) Standing(endpoint netip.AddrPort) plan.Standing {
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

// GossipAddress returns the address that this node should use for the gossip, or none.
func (w *Cluster) GossipAddress() netip.Addr {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.gossip.own
}
