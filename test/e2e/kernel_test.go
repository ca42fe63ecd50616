package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// What in a node's kernel defeats announcing is said of the node, and no more when it
// is fixed.
func TestNodesKernel(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "web", "172.30.0.70-172.30.0.70")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("web")})
	web := c.service(t, "web")
	a := c.addresses(t, web)[0]
	c.backends(t, web)
	c.owner(t, a)
	n2 := c.Node("n2")
	run := func(argv ...string) {
		t.Helper()
		_, err := n2.Exec(context.Background(), argv...) // also after the test
		must(t, err)
	}
	says := func(reason string, words ...string) {
		t.Helper()
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(n2.Name)}
		c.until(t, sp, func() error {
			got := meta.FindStatusCondition(sp.Status.Conditions, v1alpha1.ConditionNetworkReady)
			if got == nil || got.Reason != reason || (got.Status == metav1.ConditionTrue) != (reason == v1alpha1.ReasonChecksPassed) {
				return fmt.Errorf("NetworkReady is %+v, want %s", got, reason)
			}
			for _, w := range words {
				if !strings.Contains(got.Message, w) {
					return fmt.Errorf("NetworkReady says %q, want %q in it", got.Message, w)
				}
			}
			return nil
		})
	}
	says(v1alpha1.ReasonChecksPassed)

	// As kube-proxy does in IPVS mode, which has a dummy; not every kernel has those.
	run("ip", "link", "add", "kube-ipvs0", "type", "bridge")
	t.Cleanup(func() { run("ip", "link", "del", "kube-ipvs0") })
	run("ip", "addr", "add", a.String()+"/32", "dev", "kube-ipvs0")
	says(v1alpha1.ReasonStrictARPMissing, a.String(), "ipvs.strictARP: true")
	run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=1")
	t.Cleanup(func() { run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=0") })
	says(v1alpha1.ReasonChecksPassed)

	run("ip", "addr", "add", a.String()+"/32", "dev", "lo")
	t.Cleanup(func() { run("ip", "addr", "flush", "dev", "lo", "to", a.String()+"/32") })
	run("ip", "addr", "del", a.String()+"/32", "dev", "kube-ipvs0")
	says(v1alpha1.ReasonAddressHeld, "ip addr del "+a.String()+"/32 dev lo")

	// A network that only n2 is in, by a bridge.
	const bridged = "172.31.77."
	run("ip", "link", "add", "br77", "type", "bridge")
	t.Cleanup(func() { run("ip", "link", "del", "br77") })
	run("ip", "link", "add", "port77", "type", "veth", "peer", "name", "port77-peer")
	t.Cleanup(func() { run("ip", "link", "del", "port77") })
	for _, i := range []string{"port77-peer", "port77", "br77"} {
		run("ip", "link", "set", i, "up")
	}
	run("ip", "link", "set", "port77", "master", "br77")
	run("ip", "addr", "add", bridged+"1/24", "dev", "br77")
	c.pool(t, "bridged", bridged+"100-"+bridged+"100")
	c.backends(t, c.service(t, "bridged", annotated(v1alpha1.AnnotationAddressPool, "bridged")))
	run("ip", "addr", "del", a.String()+"/32", "dev", "lo")
	says(v1alpha1.ReasonChecksPassed)
	run("bridge", "link", "set", "dev", "port77", "neigh_suppress", "on")
	says(v1alpha1.ReasonBridgeKeepsARP, "bridge link set dev port77 neigh_suppress off")
	run("bridge", "link", "set", "dev", "port77", "neigh_suppress", "off")
	says(v1alpha1.ReasonChecksPassed)

	run("sysctl", "-w", "net.ipv4.ip_forward=0")
	t.Cleanup(func() { run("sysctl", "-w", "net.ipv4.ip_forward=1") })
	says(v1alpha1.ReasonNotForwarding, "sysctl -w net.ipv4.ip_forward=1")
}
