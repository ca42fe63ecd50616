package e2e

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/members"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// thiefEnv has this program be a thief of the gossip key, for whom it names the key, the thief's address, one
// to claim that is in use, one that never was, and the speakers' endpoints.
const thiefEnv = "FAIRLEAD_E2E_THIEF"

// steal joins the speakers with a stolen key, and claims addresses for a node that does not exist.
func steal(args string) error {
	words := strings.Fields(args)
	key, err := hex.DecodeString(words[0])
	if err != nil {
		return err
	}
	m := members.New(members.Config{
		Node: "thief", Bind: netip.MustParseAddr(words[1]), Port: gossipPort, Keys: [][]byte{key}, Generation: 1, Log: logr.Discard(),
	})
	if err := m.Start(); err != nil {
		return err
	}
	m.Claim(map[netip.Addr]election.Claim{
		netip.MustParseAddr(words[2]): {Owner: "aaa", Epoch: 1 << 15}, netip.MustParseAddr(words[3]): {Owner: "aaa", Epoch: election.MaxEpoch},
	})
	for _, at := range words[4:] {
		if !m.Join(context.Background(), []netip.AddrPort{netip.MustParseAddrPort(at)}) {
			return fmt.Errorf("the speaker at %s does not believe the thief", at)
		}
	}
	return nil
}

const gossipPort = 7946

// attack runs a thief with this key on a host of the LAN that is no node.
func (f *failover) attack(ctx context.Context, key []byte, used, unused netip.Addr) error {
	words := []string{hex.EncodeToString(key), f.Observer.IPv4.String(), used.String(), unused.String()}
	for _, n := range f.Nodes {
		words = append(words, netip.AddrPortFrom(n.IPv4, gossipPort).String())
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	_, err = f.Observer.Exec(ctx, "env", thiefEnv+"="+strings.Join(words, " "), self)
	return err
}

func (c *corner) gossipSecret(t *testing.T) *corev1.Secret {
	t.Helper()
	secret := &corev1.Secret{ObjectMeta: meta1(kube.GossipSecret)}
	secret.Namespace = lab.Namespace
	must(t, c.api.Get(t.Context(), client.ObjectKeyFromObject(secret), secret))
	return secret
}

// A thief of the key poisons what the speakers hold; docs/security.md, "Rotate the gossip key" and "Reset the gossip
// state after a key was stolen", undo that, and no client notices.
func TestGossipIsPoisoned(t *testing.T) {
	f := newFailover(t)
	f.untilWhole(t)
	unused := f.addresses[0]
	for range 7 {
		unused = unused.Next()
	}
	stolen, after := f.gossipSecret(t).Data[kube.GossipSecretKey], bytes.Repeat([]byte{9}, 32)
	must(t, f.attack(t.Context(), stolen, f.addresses[0], unused))
	w := f.begin(t, f.addresses[0]) // the thief is gone, and a speaker has taken the address over from the ghost

	text := base64.StdEncoding.EncodeToString
	f.patchKeys(t, `{"next": "`+text(after)+`"}`)
	f.untilSpeakersSay(t, "3 speakers connected", stolen, after)
	f.patchKeys(t, `{"key": "`+text(after)+`", "next": null, "previous": "`+text(stolen)+`"}`)
	f.untilSpeakersSay(t, "3 speakers connected", after, stolen)
	f.patchKeys(t, `{"previous": null}`)
	f.untilSpeakersSay(t, "3 speakers connected", after)
	if err := f.attack(t.Context(), stolen, f.addresses[0], unused); err == nil {
		t.Error("the stolen key still counts")
	}
	_, err := f.Kubectl(t.Context(), "-n", lab.Namespace, "annotate", "--overwrite", "secret", kube.GossipSecret,
		fmt.Sprintf("%s=%d", kube.GossipTermAnnotation, time.Now().Unix()+1))
	must(t, err)
	more := f.service(t, "more", annotated(v1alpha1.AnnotationLoadBalancerIPs, unused.String()))
	f.corner.backends(t, more)
	seen, err := f.Observer.WatchNeighbour(unused)
	must(t, err)
	defer seen.Stop()
	onlyOwner(t, seen, soon)
	if got := onlyOwner(t, w.seen, settled); got != w.owner {
		t.Errorf("%s owns %s, %s did", got, w.seen.IP, w.owner)
	}
	w.lostNothing(t)
	// Who starts now hears the new term from all.
	other := f.other(w.owner)
	must(t, f.speaker(other).Kill())
	must(t, f.reviveSpeaker(t.Context(), other))
	f.untilWhole(t)
	onlyOwner(t, seen, settled)
}

// The gossip Secret is deleted. The controller makes it again, and the speakers change all keys at once.
func TestGossipSecretIsDeleted(t *testing.T) {
	f := newFailover(t)
	w := f.begin(t, f.addresses[0])
	before := f.gossipSecret(t)
	must(t, f.api.Delete(t.Context(), before))
	lab.Eventually(t, soon, func() error {
		return f.api.Get(t.Context(), client.ObjectKeyFromObject(before), &corev1.Secret{})
	})
	old, now := before.Data[kube.GossipSecretKey], f.gossipSecret(t).Data[kube.GossipSecretKey]
	if bytes.Equal(old, now) {
		t.Fatal("the Secret has the same key")
	}
	f.untilSpeakersSay(t, "3 speakers connected", now, old) // after some seconds of old, now
	other := f.other(w.owner)
	must(t, f.speaker(other).Kill())
	must(t, f.reviveSpeaker(t.Context(), other))
	f.untilWhole(t)
	if got := onlyOwner(t, w.seen, settled); got != w.owner {
		t.Errorf("%s owns %s, %s did", got, w.seen.IP, w.owner)
	}
	w.lostNothing(t)
}

// Another machine has the name of a node. It stays out, and the node's Speaker names both, until it is gone.
func TestTwoMachinesHaveOneNodeName(t *testing.T) {
	f := newFailover(t)
	w := f.begin(t, f.addresses[0])
	bin, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", f.speaker(w.owner).PID))
	must(t, err)
	second, err := f.Observer.Start("speaker-second", bin, "--kubeconfig", f.Kubeconfig(lab.Speaker), "--namespace", lab.Namespace, "--node-name", w.owner,
		"--metrics-bind-address", "0", "--health-probe-bind-address", "0", "--gossip-bind-address", f.Observer.IPv4.String())
	must(t, err)
	t.Cleanup(func() { _ = second.Kill() })
	sp := &v1alpha1.Speaker{ObjectMeta: meta1(w.owner)}
	f.until(t, sp, func() error {
		c := meta.FindStatusCondition(sp.Status.Conditions, v1alpha1.ConditionNetworkReady)
		if c == nil || c.Reason != v1alpha1.ReasonDuplicateNodeName || !strings.Contains(c.Message, f.Observer.IPv4.String()) || !strings.Contains(c.Message, sp.Status.GossipEndpoint) {
			return fmt.Errorf("Speaker %s says %+v", sp.Name, c)
		}
		return nil
	})
	must(t, second.Kill())
	f.until(t, sp, func() error {
		if c := meta.FindStatusCondition(sp.Status.Conditions, v1alpha1.ConditionNetworkReady); c == nil || c.Reason == v1alpha1.ReasonDuplicateNodeName {
			return errors.New("it still says that its name is another machine's, too")
		}
		return nil
	})
	if got := onlyOwner(t, w.seen, settled); got != w.owner {
		t.Errorf("%s owns %s, %s did", got, w.seen.IP, w.owner)
	}
	w.lostNothing(t)
}
