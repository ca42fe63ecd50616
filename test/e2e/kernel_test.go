package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead/fairlead/api/v1alpha1"
)

// What in a node's kernel defeats announcing is said of the node, and no more when it
// is mended.
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
			got := meta.FindStatusCondition(sp.Status.Conditions, v1alpha1.ConditionNetworkSound)
			if got == nil || got.Reason != reason || (got.Status == metav1.ConditionTrue) != (reason == v1alpha1.ReasonSound) {
				return fmt.Errorf("NetworkSound is %+v, want %s", got, reason)
			}
			for _, w := range words {
				if !strings.Contains(got.Message, w) {
					return fmt.Errorf("NetworkSound says %q, want %q in it", got.Message, w)
				}
			}
			return nil
		})
	}
	says(v1alpha1.ReasonSound)

	// As kube-proxy does in IPVS mode, which has a dummy; not every kernel has those.
	run("ip", "link", "add", "kube-ipvs0", "type", "bridge")
	t.Cleanup(func() { run("ip", "link", "del", "kube-ipvs0") })
	run("ip", "addr", "add", a.String()+"/32", "dev", "kube-ipvs0")
	says(v1alpha1.ReasonStrictARPMissing, a.String(), "ipvs.strictARP: true")
	run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=1")
	t.Cleanup(func() { run("sysctl", "-w", "net.ipv4.conf.all.arp_ignore=0") })
	says(v1alpha1.ReasonSound)

	run("ip", "addr", "add", a.String()+"/32", "dev", "lo")
	t.Cleanup(func() { run("ip", "addr", "del", a.String()+"/32", "dev", "lo") })
	run("ip", "addr", "del", a.String()+"/32", "dev", "kube-ipvs0")
	says(v1alpha1.ReasonAddressHeld, "ip addr del "+a.String()+"/32 dev lo")

	run("sysctl", "-w", "net.ipv4.ip_forward=0")
	t.Cleanup(func() { run("sysctl", "-w", "net.ipv4.ip_forward=1") })
	says(v1alpha1.ReasonAddressHeld, "sysctl -w net.ipv4.ip_forward=1")
}
