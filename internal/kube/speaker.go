package kube

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// SpeakerOrders are what a user wants of a speaker.
type SpeakerOrders struct {
	Drain     bool
	Take      []netip.Addr
	Rebalance bool
	Invalid   error             // names the annotation that cannot be understood
	Once      map[string]string // the annotations that are to be removed when they were heeded, by name
}

// Orders returns what the Speaker's annotations say.
func Orders(s *v1alpha1.Speaker) SpeakerOrders {
	o := SpeakerOrders{Once: map[string]string{}}
	_, o.Drain = s.Annotations[v1alpha1.AnnotationDrain]
	if v, ok := s.Annotations[v1alpha1.AnnotationRebalance]; ok {
		o.Rebalance, o.Once[v1alpha1.AnnotationRebalance] = true, v
	}
	list, ok := s.Annotations[v1alpha1.AnnotationTake]
	if !ok {
		return o
	}
	o.Once[v1alpha1.AnnotationTake] = list
	for part := range strings.SplitSeq(list, ",") {
		if part = strings.TrimSpace(part); part == "" {
			continue // a trailing comma, or an empty annotation
		}
		a, err := config.Address(part)
		if err != nil {
			o.Invalid = fmt.Errorf("annotation %s: %w; write addresses, comma-separated", v1alpha1.AnnotationTake, err)
			continue
		}
		o.Take = append(o.Take, a)
	}
	return o
}

// SpeakerAvoid returns why a speaker's node is better left out, as its Speaker says.
func SpeakerAvoid(s *v1alpha1.Speaker) (out []lb.Reason) {
	if Orders(s).Drain {
		out = append(out, lb.ReasonNodeDrained)
	}
	if meta.IsStatusConditionFalse(s.Status.Conditions, v1alpha1.ConditionKubeProxyHealthy) {
		out = append(out, lb.ReasonProxyUnhealthy)
	}
	return out
}

// NewSpeakerGossip returns what a speaker knows from gossip: how many speakers are in touch,
// itself included, the nodes whose speakers only others hear, and why not all gossip keys
// are in use ("" if they are).
func NewSpeakerGossip(inTouch int, unheard []string, keyFault string) *v1alpha1.SpeakerGossip {
	return &v1alpha1.SpeakerGossip{
		ConnectedSpeakers: int32(inTouch),                                                                                            //nolint:gosec // a cluster has fewer nodes
		UnheardSpeakers:   slices.Clone(unheard[:min(len(unheard), v1alpha1.MaxUnheard)]), UnheardSpeakersCount: int32(len(unheard)), //nolint:gosec // likewise
		KeyFault: keyFault,
	}
}

// GossipMessage says it in words, for the speaker's Ready condition.
func GossipMessage(g *v1alpha1.SpeakerGossip) string {
	words := fmt.Sprintf("%d speakers connected", g.ConnectedSpeakers)
	if g.UnheardSpeakersCount > 0 {
		words += "; no heartbeats, although others receive them, from " + Unheard(g)
	}
	if g.KeyFault != "" {
		words += "; not all gossip keys are in use: " + g.KeyFault
	}
	return words
}

// Unheard names the nodes whose speakers only others hear, for people.
func Unheard(g *v1alpha1.SpeakerGossip) string {
	return lb.FewOf(g.UnheardSpeakers, int(g.UnheardSpeakersCount))
}

// ClockOffMessage says in words, for a speaker's ClockInSync condition, that the node's
// clock is that far ahead of the API server's, or behind.
func ClockOffMessage(ahead time.Duration) string {
	return "the node's clock is " + clockcheck.Words(ahead) + " the API server's; announcing does not depend on it, " +
		"but TLS, tokens and all times in logs and status do: fix NTP on the node (chronyc tracking, timedatectl)"
}
