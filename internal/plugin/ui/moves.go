package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/addresses"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/explain"
)

// mostMoves is how far the timeline goes back.
const mostMoves = 100

// Move is something that happened: an address got an owner, a session came up or was
// lost, a speaker came or went, a Service was given an address or refused.
type Move struct {
	At    int64  `json:"at"`   // in Unix time
	Kind  string `json:"kind"` // "owner", "session", "speaker" or "service"
	About string `json:"about"`
	Says  string `json:"says"`
	Bad   bool   `json:"bad,omitempty"`
}

// moves returns the last things that happened, as the objects and events tell, the
// latest first.
func moves(c *cluster.Cluster, peers []Peer, list *addresses.Report, events []corev1.Event) []Move {
	out := slices.Concat(owners(list.Addresses), speakers(c), unannounced(c), told(events))
	for _, p := range peers {
		out = append(out, changes(p)...)
	}
	slices.SortStableFunc(out, func(x, y Move) int {
		return cmp.Or(cmp.Compare(y.At, x.At), cmp.Compare(x.About, y.About), cmp.Compare(x.Says, y.Says))
	})
	return append([]Move{}, out[:min(len(out), mostMoves)]...)
}

// owners tells of those that became owners of addresses last.
func owners(rows []addresses.Row) (out []Move) {
	latest := slices.DeleteFunc(slices.Clone(rows), func(r addresses.Row) bool { return r.Owned.IsZero() })
	slices.SortFunc(latest, func(x, y addresses.Row) int {
		return cmp.Or(y.Owned.Compare(x.Owned.Time), x.Address.Compare(y.Address))
	})
	for _, r := range latest[:min(len(latest), mostMoves)] {
		out = append(out, Move{
			At: r.Owned.Unix(), Kind: "owner", About: r.Address.String(),
			Says: fmt.Sprintf("%s announces it, of %s", r.Layer2, strings.Join(r.Services, ", ")),
		})
	}
	return out
}

// changes tells since when sessions with a router are as they are.
func changes(p Peer) (out []Move) {
	for _, s := range p.Sessions {
		if s.Since == 0 {
			continue
		}
		m := Move{At: s.Since, Kind: "session", About: s.Node + " ↔ " + p.Name, Says: s.State, Bad: !s.up()}
		if m.Bad && s.Says != "" {
			m.Says += ": " + s.Says
		}
		out = append(out, m)
	}
	return out
}

// speakers tells of speakers that came or went, and what became of orders to them.
func speakers(c *cluster.Cluster) (out []Move) {
	for i := range c.Speakers {
		s := &c.Speakers[i]
		if r, ok := cluster.Ready(s.Status.Conditions); ok {
			m := Move{At: r.LastTransitionTime.Unix(), Kind: "speaker", About: s.Name, Says: "its speaker is ready"}
			if m.Bad = r.Status != metav1.ConditionTrue; m.Bad {
				m.Says = "its speaker is not ready: " + r.Message
			}
			out = append(out, m)
		}
		if moved := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionMoved); moved != nil {
			out = append(out, Move{
				At: moved.LastTransitionTime.Unix(), Kind: "speaker", About: s.Name, Says: moved.Message, Bad: moved.Status != metav1.ConditionTrue,
			})
		}
	}
	return out
}

// unannounced tells of Services that are announced no longer.
func unannounced(c *cluster.Cluster) (out []Move) {
	for i := range c.Services {
		svc := &c.Services[i]
		said := meta.FindStatusCondition(svc.Status.Conditions, v1alpha1.ConditionAnnounced)
		if said != nil && said.Status != metav1.ConditionTrue {
			out = append(out, Move{At: said.LastTransitionTime.Unix(), Kind: "service", About: kube.Key(svc).String(), Says: said.Message, Bad: true})
		}
	}
	return out
}

// told tells what the controller said of Services.
func told(events []corev1.Event) (out []Move) {
	for i := range events {
		e := &events[i]
		out = append(out, Move{
			At: explain.LastSeen(e).Unix(), Kind: "service", About: e.InvolvedObject.Namespace + "/" + e.InvolvedObject.Name,
			Says: e.Message, Bad: e.Type == corev1.EventTypeWarning,
		})
	}
	return out
}
