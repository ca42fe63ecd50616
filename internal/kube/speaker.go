package kube

import (
	"fmt"
	"net/netip"
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

// InTouchMessage is what a speaker says in its Ready condition when all is well:
// how many speakers are alive, as far as it knows, itself included. InTouch reads
// it.
func InTouchMessage(alive int) string { return fmt.Sprintf("%d speakers in touch", alive) }

// InTouch returns how many speakers the message of a Ready condition says are
// alive; ok is false when it says something else.
func InTouch(message string) (alive int, ok bool) {
	_, err := fmt.Sscanf(message, "%d speakers in touch", &alive)
	return alive, err == nil
}

// unheard stands before the speakers that only others hear.
const unheard = "; only others hear "

// WithUnheard adds to such a message which speakers, if any, only others hear. Unheard
// reads it.
func WithUnheard(message string, nodes []string) string {
	if len(nodes) == 0 {
		return message
	}
	const few = 5
	return message + unheard + Some(nodes, few)
}

// Unheard returns the speakers that the message of a Ready condition says only others
// hear, in words; ok is false when it says of none.
func Unheard(message string) (nodes string, ok bool) {
	_, after, ok := strings.Cut(message, unheard)
	nodes, _, _ = strings.Cut(after, ";")
	return nodes, ok
}

// keyFault stands before what is wrong with the gossip keys.
const keyFault = "; not all gossip keys are in use: "

// WithKeyFault adds to such a message that not all gossip keys are in use, and why.
// KeyFault reads it.
func WithKeyFault(message, why string) string { return message + keyFault + why }

// KeyFault returns why the message of a Ready condition says that not all gossip keys
// are in use; ok is false when it does not.
func KeyFault(message string) (why string, ok bool) {
	_, why, ok = strings.Cut(message, keyFault)
	return why, ok
}

// ClockOffMessage is what a speaker says in its ClockInSync condition when the node's
// clock is that far ahead of the API server's, or behind. ClockOff reads it.
func ClockOffMessage(ahead time.Duration) string {
	return "the node's clock is " + clockcheck.Words(ahead) + " the API server's; announcing does not depend on it, " +
		"but TLS, tokens and all times in logs and status do: fix NTP on the node (chronyc tracking, timedatectl)"
}

// ClockOff returns how far the message of a ClockInSync condition says that the node's
// clock is ahead of the API server's, or behind; ok is false when it says something
// else.
func ClockOff(message string) (ahead time.Duration, ok bool) {
	var amount, way string
	if _, err := fmt.Sscanf(message, "the node's clock is %s %s", &amount, &way); err != nil {
		return 0, false
	}
	ahead, err := time.ParseDuration(amount)
	if way == "behind" {
		ahead = -ahead
	}
	return ahead, err == nil
}
