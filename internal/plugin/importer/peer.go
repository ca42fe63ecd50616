package importer

import (
	"fmt"
	"net/netip"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
)

// passwordKey is the key of the password in a Secret, for all three.
const passwordKey = "password"

// defaults of a BGPPeer, which need not be written.
const (
	defaultPort    = 179
	defaultHold    = 90 * time.Second
	defaultConnect = 10 * time.Second
)

// asn checks an AS number. Fairlead has no reserved ones.
func asn(n int64, field string, i *item) v1alpha1.ASN {
	switch n {
	case 23456, 65535, 4294967295:
		i.refuse(field, "%d is a reserved AS number; agree on another one with the router", n)
	}
	return v1alpha1.ASN(n)
}

// peerAddress checks the address of a router.
func peerAddress(s, field string, i *item) v1alpha1.IPAddress {
	a, err := netip.ParseAddr(s)
	switch {
	case err != nil:
		i.refuse(field, "%q is no IP address", s)
	case a.IsLinkLocalUnicast() && a.Is6():
		i.refuse(field, "%s is a link-local address; write a BGPPeer with interface, the nodes' interface towards the router, instead of peerAddress", s)
	}
	return v1alpha1.IPAddress(a.Unmap().WithZone("").String())
}

// duration returns a time in whole seconds, as Fairlead has them; nil for one that
// is Fairlead's default.
func duration(d, byDefault time.Duration, field string, i *item) *metav1.Duration {
	whole := d.Truncate(time.Second)
	if whole != d {
		i.note(field, "%s is not in whole seconds; %s is written", d, whole)
	}
	if whole == byDefault {
		return nil
	}
	return &metav1.Duration{Duration: whole}
}

// times are the timers of a session; 0 is not set, but for a hold time, which
// then never ends.
type times struct {
	hold, keepalive *time.Duration
}

// set writes the timers into a peer. In Fairlead a keepalive time is less than the
// hold time.
func (t times) set(spec *v1alpha1.BGPPeerSpec, holdField, keepaliveField string, i *item) {
	hold := defaultHold
	if t.hold != nil {
		hold = *t.hold
		spec.HoldTime = duration(hold, defaultHold, holdField, i)
	}
	if t.keepalive == nil || *t.keepalive == 0 {
		return
	}
	if keepalive := *t.keepalive; keepalive.Truncate(time.Second) == 0 || keepalive >= hold {
		i.note(keepaliveField, "%s is left out, it has to be whole seconds and less than the hold time, %s; Fairlead sends one after a third of that", keepalive, hold)
		return
	}
	spec.KeepaliveTime = duration(*t.keepalive, 0, keepaliveField, i)
}

// graceful says what becomes of graceful restart where it was not asked for.
func graceful(spec *v1alpha1.BGPPeerSpec, asked *bool, field string, i *item) {
	if asked == nil {
		i.note(field, "graceful restart is not asked for, and Fairlead does so by default; write gracefulRestart: false to be without")
		return
	}
	if !*asked {
		spec.GracefulRestart = asked
	}
}

// keepPeersOn has all peers on nodes with a label only, beside what they select by.
func (t *translation) keepPeersOn(key, value string) {
	for _, i := range t.items {
		peer, ok := i.object.(*v1alpha1.BGPPeer)
		if !ok {
			continue
		}
		if len(peer.Spec.NodeSelectors) == 0 {
			peer.Spec.NodeSelectors = make([]v1alpha1.LabelSelector, 1)
		}
		for n := range peer.Spec.NodeSelectors {
			s := &peer.Spec.NodeSelectors[n]
			s.MatchExpressions = append(s.MatchExpressions, v1alpha1.LabelSelectorRequirement{
				Key: v1alpha1.LabelKey(key), Operator: v1alpha1.LabelSelectorOpIn, Values: []v1alpha1.LabelValue{v1alpha1.LabelValue(value)},
			})
		}
	}
}

// password has a peer use a Secret in Fairlead's namespace, and adds that Secret if
// its content is known.
func (t *translation) password(spec *v1alpha1.BGPPeerSpec, name, namespace string, value []byte, i *item) {
	spec.PasswordSecret = &v1alpha1.PasswordSecret{Name: v1alpha1.ObjectName(name)}
	if value == nil || t.hasSecret(name) {
		return
	}
	t.items = append(t.items, &item{from: "the password of " + i.from, object: &corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace},
		Type:       corev1.SecretTypeBasicAuth,
		Data:       map[string][]byte{passwordKey: value},
	}})
}

func (t *translation) hasSecret(name string) bool {
	for _, i := range t.items {
		if s, ok := i.object.(*corev1.Secret); ok && s.Name == name {
			return true
		}
	}
	return false
}

// community returns a community in Fairlead's form. It is one of numbers, or a
// well-known name.
func community(s string) (v1alpha1.CommunityValue, error) {
	if _, err := config.Community(s); err != nil {
		return "", fmt.Errorf("left out: %w", err)
	}
	return v1alpha1.CommunityValue(s), nil
}
