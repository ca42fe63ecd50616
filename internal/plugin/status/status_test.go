package status

import (
	"fmt"
	"math"
	"testing"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

func TestStatus(t *testing.T) {
	for name, change := range map[string]func(c *clustertest.Cluster){
		"well":  func(*clustertest.Cluster) {},
		"empty": func(c *clustertest.Cluster) { *c = clustertest.Cluster{}; c.Read = clustertest.Now },
		"routers": func(c *clustertest.Cluster) {
			c.Peer("router", "n1", "n2", "n3")
			c.Speaker("n2").Status.BGPSessions[0].State = v1alpha1.BGPSessionActive
			c.Speaker("n2").Status.BGPSessions[0].LastError = "connection refused by 172.30.0.2:179: BGP does not run there"
			c.BGPPeers[0].Status.SessionsEstablished = 2
		},
		"trouble": func(c *clustertest.Cluster) {
			p := c.AddPool("six", "fd30::/64")
			p.Status.AssignedIPv4, p.Status.AvailableIPv4, p.Status.AssignedIPv6, p.Status.AvailableIPv6 = 0, 0, 3, math.MaxInt64
			c.Pools[0].Status.AssignedIPv4, c.Pools[0].Status.AvailableIPv4 = 50, 0
			metav1.SetMetaDataAnnotation(&c.Speaker("n2").ObjectMeta, v1alpha1.AnnotationDrain, "disk swap")
			c.Speaker("n3").Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonStopping, "the speaker has stopped")
			for i := range 12 {
				name := fmt.Sprintf("late-%d", i)
				c.AddService("shop", name)
				c.Refuse("shop", name, "AddressInUse", fmt.Sprintf("cannot assign 172.30.0.%d: in use", i))
			}
			c.Unread = []string{"Namespaces: forbidden"}
		},
		"many nodes": func(c *clustertest.Cluster) {
			for i := 4; i <= 30; i++ {
				c.AddNode(fmt.Sprintf("n%d", i))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			change(objects)
			clustertest.Golden(t, name, New(objects.New()).Text, false)
			clustertest.Golden(t, name+" wide", New(objects.New()).Text, true)
		})
	}
}
