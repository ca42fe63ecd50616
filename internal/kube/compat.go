package kube

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// This file reads what earlier versions wrote for people because there was no field for
// it. It is the only place that may, and can be deleted one release after the fields exist.

// grantPattern matches an address in the message of an AddressAssigned condition, or of a
// claim's Ready condition, before there was a record (v0.1).
var grantPattern = regexp.MustCompile(`([0-9a-f.:]+) (?:of IPAddressClaim "[^"]*", )?from pool "([^"]+)"`)

// assignmentInMessage returns the pools of the addresses that the Service's AddressAssigned
// condition names.
func assignmentInMessage(svc *corev1.Service) map[netip.Addr]string {
	c := AssignedCondition(svc)
	if c == nil {
		return nil
	}
	return poolsInMessage(c.Message)
}

// poolsInMessage returns the pools of the addresses that a condition's message names.
func poolsInMessage(message string) map[netip.Addr]string {
	out := map[netip.Addr]string{}
	for _, m := range grantPattern.FindAllStringSubmatch(message, -1) {
		if a, err := netip.ParseAddr(m[1]); err == nil {
			out[a] = m[2]
		}
	}
	return out
}

// UpgradeSpeaker returns the Speaker with the fields and conditions of this version: what a
// speaker of v0.1 wrote into messages is in fields, and its condition NetworkSound is
// NetworkReady. It returns s itself if this version wrote it.
func UpgradeSpeaker(s *v1alpha1.Speaker) *v1alpha1.Speaker {
	ready := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionReady)
	network := meta.FindStatusCondition(s.Status.Conditions, formerNetworkCondition)
	clock := meta.FindStatusCondition(s.Status.Conditions, v1alpha1.ConditionClockInSync)
	var gossip *v1alpha1.SpeakerGossip
	if ready != nil && s.Status.Gossip == nil {
		gossip = gossipInMessage(ready.Message)
	}
	var offset *metav1.Duration
	if clock != nil && s.Status.ClockOffset == nil {
		offset = clockOffsetInMessage(clock.Message)
	}
	if network == nil && gossip == nil && offset == nil {
		return s
	}
	out := s.DeepCopy()
	if gossip != nil {
		out.Status.Gossip = gossip
	}
	if offset != nil {
		out.Status.ClockOffset = offset
	}
	if network != nil {
		renamed := *network
		renamed.Type = v1alpha1.ConditionNetworkReady
		if renamed.Reason == "Sound" {
			renamed.Reason = v1alpha1.ReasonChecksPassed
		}
		RemoveFormerConditions(&out.Status)
		out.Status.Conditions = append(out.Status.Conditions, renamed)
	}
	return out
}

// formerNetworkCondition is what the condition NetworkReady was called.
const formerNetworkCondition = "NetworkSound"

// RemoveFormerConditions removes the conditions that have another name now.
func RemoveFormerConditions(s *v1alpha1.SpeakerStatus) {
	meta.RemoveStatusCondition(&s.Conditions, formerNetworkCondition)
}

// gossipInMessage returns what the message of a Ready condition says of gossip; nil if it
// says nothing.
func gossipInMessage(message string) *v1alpha1.SpeakerGossip {
	var g v1alpha1.SpeakerGossip
	if _, err := fmt.Sscanf(message, "%d speakers in touch", &g.ConnectedSpeakers); err != nil {
		return nil
	}
	message, g.KeyFault, _ = strings.Cut(message, "; not all gossip keys are in use: ")
	if _, nodes, some := strings.Cut(message, "; only others hear "); some {
		g.UnheardSpeakers, g.UnheardSpeakersCount = []string{nodes}, 1
	}
	return &g
}

// clockOffsetInMessage returns the offset that the message of a ClockInSync condition
// names; nil if it names none.
func clockOffsetInMessage(message string) *metav1.Duration {
	var amount, direction string
	if _, err := fmt.Sscanf(message, "the node's clock is %s %s", &amount, &direction); err != nil {
		return nil
	}
	ahead, err := time.ParseDuration(amount)
	if err != nil {
		return nil
	}
	if direction == "behind" {
		ahead = -ahead
	}
	return &metav1.Duration{Duration: ahead}
}
