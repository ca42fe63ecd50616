package kube

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// What speakers of v0.1 wrote, word for word.
func TestUpgradeSpeaker(t *testing.T) {
	offset := func(d time.Duration) *metav1.Duration { return &metav1.Duration{Duration: d} }
	const off = " the API server's; announcing does not depend on it, but TLS, tokens and all times in logs and status do: mend NTP on the node (chronyc tracking, timedatectl)"
	for _, tt := range []struct {
		name, ready, clock string
		gossip             *v1alpha1.SpeakerGossip
		offset             *metav1.Duration
	}{
		{"all is well", "17 speakers in touch", "the node's clock is that of the API server, within 5s", &v1alpha1.SpeakerGossip{ConnectedSpeakers: 17}, nil},
		{"joining", "looking for the other speakers", "", nil, nil},
		{"nothing", "", "", nil, nil},
		{"ahead", "3 speakers in touch", "the node's clock is 1m30s ahead of" + off, &v1alpha1.SpeakerGossip{ConnectedSpeakers: 3}, offset(90 * time.Second)},
		{"behind", "3 speakers in touch", "the node's clock is 6s behind" + off, &v1alpha1.SpeakerGossip{ConnectedSpeakers: 3}, offset(-6 * time.Second)},
		{
			"unheard", "3 speakers in touch; only others hear n2, n4; not all gossip keys are in use: data.next is short", "",
			&v1alpha1.SpeakerGossip{ConnectedSpeakers: 3, UnheardSpeakers: []string{"n2, n4"}, UnheardSpeakersCount: 1, KeyFault: "data.next is short"}, nil,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := &v1alpha1.Speaker{}
			SetCondition(&s.Status.Conditions, v1alpha1.ConditionReady, true, v1alpha1.ReasonAnnouncing, tt.ready, 0)
			SetCondition(&s.Status.Conditions, v1alpha1.ConditionClockInSync, true, v1alpha1.ReasonInSync, tt.clock, 0)
			got := UpgradeSpeaker(s)
			if diff := cmp.Diff(tt.gossip, got.Status.Gossip); diff != "" {
				t.Errorf("gossip (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(tt.offset, got.Status.ClockOffset); diff != "" {
				t.Errorf("clock offset (-want +got):\n%s", diff)
			}
			if s.Status.Gossip != nil || s.Status.ClockOffset != nil {
				t.Error("the Speaker that was read is changed")
			}
		})
	}
}

func TestUpgradeNetworkCondition(t *testing.T) {
	s := &v1alpha1.Speaker{}
	SetCondition(&s.Status.Conditions, "NetworkSound", true, "Sound", "fine", 0)
	got := UpgradeSpeaker(s)
	if c := meta.FindStatusCondition(got.Status.Conditions, v1alpha1.ConditionNetworkReady); c == nil || c.Reason != v1alpha1.ReasonChecksPassed || len(got.Status.Conditions) != 1 {
		t.Errorf("the conditions are %+v", got.Status.Conditions)
	}
	now := &v1alpha1.Speaker{Status: v1alpha1.SpeakerStatus{Gossip: NewSpeakerGossip(3, nil, "")}}
	if UpgradeSpeaker(now) != now {
		t.Error("a Speaker of this version is copied")
	}
}

func TestGossipMessage(t *testing.T) {
	for want, g := range map[string]*v1alpha1.SpeakerGossip{
		"3 speakers connected": NewSpeakerGossip(3, nil, ""),
		"9 speakers connected; no heartbeats, although others receive them, from n2":                       NewSpeakerGossip(9, []string{"n2"}, ""),
		"9 speakers connected; no heartbeats, although others receive them, from 1, 2, 3, 4, 5 and 2 more": NewSpeakerGossip(9, []string{"1", "2", "3", "4", "5", "6", "7"}, ""),
		"3 speakers connected; not all gossip keys are in use: x":                                          NewSpeakerGossip(3, nil, "x"),
	} {
		if got := GossipMessage(g); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
