package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// The gossip key is replaced while the speakers run: docs/security.md, "Rotate the gossip key".
func TestGossipKeyIsReplaced(t *testing.T) {
	f := newFailover(t)
	w := f.begin(t, f.addresses[0])
	secret := &corev1.Secret{ObjectMeta: meta1(kube.GossipSecret)}
	secret.Namespace = lab.Namespace
	must(t, f.api.Get(t.Context(), client.ObjectKeyFromObject(secret), secret))
	before, after := secret.Data[kube.GossipSecretKey], bytes.Repeat([]byte{7}, 32)
	text := base64.StdEncoding.EncodeToString
	t.Cleanup(func() { f.patchKeys(t, `{"next": null, "previous": null}`) })

	// After a test that replaced all keys at once, the old one is understood for a minute.
	lab.Eventually(t, time.Minute+soon, func() error { return f.speakersSay(t, "3 speakers connected", before) })
	f.patchKeys(t, `{"next": "`+text([]byte("short"))+`"}`)
	f.untilSpeakersSay(t, "data.next has 5 bytes; write 32 random ones", before)
	f.patchKeys(t, `{"next": "`+text(after)+`"}`)
	f.untilSpeakersSay(t, "3 speakers connected", before, after)
	f.patchKeys(t, `{"key": "`+text(after)+`", "next": null, "previous": "`+text(before)+`"}`)
	f.untilSpeakersSay(t, "3 speakers connected", after, before)
	f.patchKeys(t, `{"previous": null}`)
	f.untilSpeakersSay(t, "3 speakers connected", after)

	if got := onlyOwner(t, w.seen, settled); got != w.owner {
		t.Errorf("%s owns %s, %s did", got, w.seen.IP, w.owner)
	}
	w.lostNothing(t)
	must(t, f.speaker(f.other(w.owner)).Kill())
	must(t, f.reviveSpeaker(t.Context(), f.other(w.owner)))
	f.untilWhole(t)
}

func (c *corner) patchKeys(t *testing.T, data string) {
	t.Helper()
	_, err := c.Kubectl(context.Background(), "-n", lab.Namespace, "patch", "secret", kube.GossipSecret, "-p", `{"data": `+data+`}`)
	must(t, err)
}

// untilSpeakersSay waits until each speaker is ready with these words, and uses
// these gossip keys.
func (c *corner) untilSpeakersSay(t *testing.T, words string, keys ...[]byte) {
	t.Helper()
	lab.Eventually(t, soon, func() error { return c.speakersSay(t, words, keys...) })
}

// speakersSay returns an error unless each speaker is ready with these words, and uses
// these gossip keys.
func (c *corner) speakersSay(t *testing.T, words string, keys ...[]byte) error {
	var want []string
	for _, k := range keys {
		want = append(want, kube.Fingerprint(k))
	}
	var list v1alpha1.SpeakerList
	if err := c.api.List(t.Context(), &list); err != nil {
		return err
	}
	for _, s := range list.Items {
		if !slices.Equal(s.Status.GossipKeys, want) {
			return fmt.Errorf("%s uses the keys %s, want %s", s.Name, strings.Join(s.Status.GossipKeys, ", "), strings.Join(want, ", "))
		}
		if err := says(s.Status.Conditions, v1alpha1.ConditionReady, true, v1alpha1.ReasonAnnouncing, words); err != nil {
			return fmt.Errorf("%s: %w", s.Name, err)
		}
	}
	return nil
}
