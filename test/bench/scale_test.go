package bench

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	deaths    = 8                // members that die, one after the other
	aftermath = 15 * time.Second // what a death leads to is over then
)

// BenchmarkScale runs one speaker among 10,000 Services, which have addresses and
// endpoints, and 99 other members, and reports its memory, how much of one
// processor it takes with nothing to do, and how much processor time when
// another member dies, with what it takes to move a hundred addresses. Of that it is
// the mean, as the garbage collector's work falls to one death or another, or to none.
//
// The other members are real ones in one process; they announce nothing. All are
// relaxed, or the crowd would not be run in time while the speaker starts; what
// the default costs tells BenchmarkIdle. There is no controller: what it would
// write is written once.
func BenchmarkScale(b *testing.B) {
	l, c := installed(b, lab.Options{Nodes: 1})
	if err := l.Process("kube-proxy-n1").Kill(); err != nil { // it would write rules for all Services
		b.Fatal(err)
	}
	key := bytes.Repeat([]byte{7}, 32)
	populate(b, c, key)
	startCrowd(b, l, key)
	var all []metrics
	victim := crowdSize
	for b.Loop() {
		p, err := l.StartSpeaker(b.Context(), "n1", "--failover", "relaxed")
		if err != nil {
			b.Fatal(err)
		}
		lab.Eventually(b, time.Minute, func() error { return p.Ready(b.Context()) })
		lab.Eventually(b, time.Minute, func() error { return owns(b, c, crowdServices/(crowdSize+1)) })
		start := cpuTime(b, p.PID)
		m := atRest(b, p)
		m["start-cpu-ms"] = float64(start.Milliseconds())
		var with, without time.Duration // a death, in as long a time each
		for range deaths {
			without += spent(b, p, aftermath)
			victim--
			cut(b, l, victim)
			with += spent(b, p, aftermath)
		}
		m["death-cpu-ms"] = float64((with - without).Milliseconds()) / deaths
		m["rss-after-MB"] = memory(b, p.PID, "VmRSS")
		m["taken"] = float64(owned(b, c) - crowdServices/(crowdSize+1))
		all = append(all, m)
		if err := p.Stop(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	reportMedians(b, all)
}

// BenchmarkIdle reports how much of one processor a speaker takes that announces a
// few of 30 addresses among five nodes: as many packets as in a cluster of any size.
func BenchmarkIdle(b *testing.B) {
	l, c := up(b, 5)
	for i := range 30 {
		svc := service(fmt.Sprint("idle-", i))
		for _, o := range []client.Object{svc, endpoint(svc.Name, "n1")} {
			if err := c.Create(b.Context(), o); err != nil {
				b.Fatal(err)
			}
		}
	}
	lab.Eventually(b, time.Minute, func() error {
		if n := said(b, l, `"announcing"`); n < 30 {
			return fmt.Errorf("%d of 30 addresses are announced", n)
		}
		return nil
	})
	var all []metrics
	for b.Loop() {
		all = append(all, atRest(b, l.Process("speaker-n2")))
	}
	reportMedians(b, all)
}

// populate writes what a cluster of this size has in the API server.
func populate(b *testing.B, c client.Client, key []byte) {
	b.Helper()
	giveKey(b, c, key)
	each(crowdSize, func(i int) {
		node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: crowdName(i), Labels: map[string]string{corev1.LabelHostname: crowdName(i)}}}
		sp := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: crowdName(i)}}
		err := errors.Join(c.Create(b.Context(), node), c.Create(b.Context(), sp))
		before := sp.DeepCopy()
		sp.Status.GossipEndpoint = fmt.Sprintf("%s:%d", crowdAddr(i), crowdPort)
		if err = errors.Join(err, c.Status().Patch(b.Context(), sp, client.MergeFrom(before))); err != nil {
			b.Error(err)
		}
	})
	each(crowdServices, func(i int) {
		svc := service(fmt.Sprint("scale-", i))
		svc.Labels = map[string]string{"app.kubernetes.io/name": svc.Name}
		svc.Spec.AllocateLoadBalancerNodePorts = ptr.To(false)
		err := createWith(b.Context(), c, svc, vipOf(i))
		if err = errors.Join(err, c.Create(b.Context(), endpointsOf(svc, i))); err != nil {
			b.Error(err)
		}
	})
	if b.Failed() {
		b.FailNow()
	}
}

// giveKey writes the gossip key, where there is no controller to make one.
func giveKey(b *testing.B, c client.Client, key []byte) {
	b.Helper()
	secret := &corev1.Secret{
		ObjectMeta: metav1.ObjectMeta{Namespace: lab.Namespace, Name: kube.GossipSecret}, Data: map[string][]byte{kube.GossipSecretKey: key},
	}
	if err := c.Create(b.Context(), secret); err != nil {
		b.Fatal(err)
	}
}

// createWith creates a Service and gives it an address, as the controller would.
func createWith(ctx context.Context, c client.Client, svc *corev1.Service, addr netip.Addr) error {
	err := c.Create(ctx, svc)
	before := svc.DeepCopy()
	svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: addr.String(), IPMode: ptr.To(corev1.LoadBalancerIPModeVIP)}}
	return errors.Join(err, c.Status().Patch(ctx, svc, client.MergeFrom(before)))
}

// endpointsOf are two pods, as Kubernetes writes it.
func endpointsOf(svc *corev1.Service, i int) *discoveryv1.EndpointSlice {
	s := &discoveryv1.EndpointSlice{
		ObjectMeta: metav1.ObjectMeta{
			Namespace: svc.Namespace, Name: svc.Name + "-xq7pl",
			Labels: map[string]string{discoveryv1.LabelServiceName: svc.Name, discoveryv1.LabelManagedBy: "endpointslice-controller.k8s.io"},
			OwnerReferences: []metav1.OwnerReference{{
				APIVersion: "v1", Kind: "Service", Name: svc.Name, UID: svc.UID, Controller: ptr.To(true), BlockOwnerDeletion: ptr.To(true),
			}},
		},
		AddressType: discoveryv1.AddressTypeIPv4,
		Ports:       []discoveryv1.EndpointPort{{Name: ptr.To("udp"), Port: ptr.To[int32](8080), Protocol: ptr.To(corev1.ProtocolUDP)}},
	}
	for n := range 2 {
		s.Endpoints = append(s.Endpoints, discoveryv1.Endpoint{
			Addresses:  []string{fmt.Sprintf("10.244.%d.%d", i%200, 10+n)},
			Conditions: discoveryv1.EndpointConditions{Ready: ptr.To(true), Serving: ptr.To(true), Terminating: ptr.To(false)},
			NodeName:   ptr.To(crowdName((i + n*31) % crowdSize)),
			TargetRef:  &corev1.ObjectReference{Kind: "Pod", Namespace: svc.Namespace, Name: fmt.Sprintf("%s-7d4b9c6f5d-abc%d", svc.Name, n), UID: svc.UID},
		})
	}
	return s
}

// startCrowd starts the other members on the observer, which the node then
// reaches at their addresses.
func startCrowd(b *testing.B, l *lab.Lab, key []byte) {
	b.Helper()
	for i := range crowdSize {
		if _, err := l.Observer.Exec(b.Context(), "ip", "addr", "add", crowdAddr(i).String()+"/24", "dev", "eth0"); err != nil {
			b.Fatal(err)
		}
	}
	if _, err := l.Node("n1").Exec(b.Context(), "ip", "route", "add", "10.77.0.0/24", "dev", "eth0"); err != nil {
		b.Fatal(err)
	}
	exe, err := os.Executable()
	if err != nil {
		b.Fatal(err)
	}
	p, err := l.Observer.Start("crowd", "env", crowdEnv+"="+hex.EncodeToString(key), exe)
	if err != nil {
		b.Fatal(err)
	}
	lab.Eventually(b, 5*time.Minute, func() error {
		if tail := p.Tail(1); !bytes.Contains([]byte(tail), []byte("all are there")) {
			return fmt.Errorf("the crowd says %q", tail)
		}
		return nil
	})
}

// spent is the processor time that a process takes in such a time.
func spent(b *testing.B, p *lab.Process, within time.Duration) time.Duration {
	b.Helper()
	before := cpuTime(b, p.PID)
	time.Sleep(within)
	return cpuTime(b, p.PID) - before
}

// cut takes away the address of a member: it is dead to the others.
func cut(b *testing.B, l *lab.Lab, i int) {
	b.Helper()
	if _, err := l.Observer.Exec(b.Context(), "ip", "addr", "del", crowdAddr(i).String()+"/24", "dev", "eth0"); err != nil {
		b.Fatal(err)
	}
}

// owns says whether n1's speaker says that it announces so many addresses. On a
// machine that is too busy for the crowd it takes some from members that are not
// run for too long: what follows would be measured wrongly.
func owns(b *testing.B, c client.Client, want int) error {
	b.Helper()
	if got := owned(b, c); got != want {
		return fmt.Errorf("n1 announces %d addresses, not %d", got, want)
	}
	return nil
}

func owned(b *testing.B, c client.Client) int {
	b.Helper()
	var sp v1alpha1.Speaker
	if err := c.Get(b.Context(), client.ObjectKey{Name: "n1"}, &sp); client.IgnoreNotFound(err) != nil {
		b.Fatal(err)
	}
	return int(sp.Status.OwnedAddresses)
}
