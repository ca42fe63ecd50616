package doctor

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// Each is one fault, what is found, and nothing else.
func TestExamine(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *clustertest.Cluster)
		want   []string // severity, check and words of each finding
	}{
		"well": {func(*clustertest.Cluster) {}, nil},
		"no controller": {func(c *clustertest.Cluster) { c.Lease = nil },
			[]string{"Problem controller no controller has ever been active"}},
		"no right to see the lease": {func(c *clustertest.Cluster) {
			c.Lease, c.Unread = nil, []string{"Lease fairlead-system/fairlead-controller: forbidden"}
		}, nil},
		"controller dead": {func(c *clustertest.Cluster) {
			c.Lease.Spec.RenewTime = ptr.To(metav1.NewMicroTime(clustertest.Now.Add(-time.Minute)))
		}, []string{"Problem controller the last one is gone"}},
		"deletions after the controller is gone": {func(c *clustertest.Cluster) {
			c.Lease = nil
			c.Pools[0].DeletionTimestamp, c.Pools[0].Finalizers = ptr.To(clustertest.Ago(time.Minute)), []string{v1alpha1.FinalizerPoolInUse}
			c.Pools[0].Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonInUse, "being deleted; waits for "+v1alpha1.FinalizerPoolInUse)
			for name, finalizers := range map[string][]string{"a": {v1alpha1.FinalizerClaimInUse}, "b": {v1alpha1.FinalizerClaimInUse}, "backup": {"example.com/backup", v1alpha1.FinalizerClaimInUse}, "other": {"example.com/backup"}} {
				c.Claims = append(c.Claims, v1alpha1.IPAddressClaim{ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: name, DeletionTimestamp: ptr.To(clustertest.Ago(time.Minute)), Finalizers: finalizers}})
			}
			slices.SortFunc(c.Claims, func(x, y v1alpha1.IPAddressClaim) int { return strings.Compare(x.Name, y.Name) })
		}, []string{"Problem controller no controller has ever been active", "Problem deletion the deletion does not end", "Problem deletion the deletion does not end", "Problem deletion the deletion does not end"}},
		"a deletion that an active controller completes": {func(c *clustertest.Cluster) {
			c.Pools[0].DeletionTimestamp, c.Pools[0].Finalizers = ptr.To(clustertest.Ago(time.Minute)), []string{v1alpha1.FinalizerPoolInUse}
			c.Pools[0].Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonInUse, "being deleted; waits for "+v1alpha1.FinalizerPoolInUse)
		}, []string{"Note object being deleted"}},
		"node without a speaker": {func(c *clustertest.Cluster) {
			c.AddNode("n4")
			c.Speakers = c.Speakers[:3]
			for i := range c.Speakers {
				clustertest.Gossip(&c.Speakers[i], 3, nil, "")
			}
		}, []string{"Warning speaker no speaker has ever run on it"}},
		"speaker stopped": {func(c *clustertest.Cluster) {
			c.Speaker("n3").Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonStopping, "the speaker has stopped")
			for _, n := range []string{"n1", "n2"} {
				clustertest.Gossip(c.Speaker(n), 2, nil, "")
			}
		}, []string{"Problem speaker its speaker is not ready: the speaker has stopped"}},
		"node dead": {func(c *clustertest.Cluster) {
			c.Node("n3").Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionUnknown}}
			for _, n := range []string{"n1", "n2"} {
				clustertest.Gossip(c.Speaker(n), 2, nil, "")
			}
		}, []string{"Problem speaker Kubernetes takes it for dead"}},
		"gossip cut": {func(c *clustertest.Cluster) {
			clustertest.Gossip(c.Speaker("n3"), 1, nil, "")
		}, []string{"Problem gossip is connected to 1 speaker, itself included, of 3 that are ready"}},
		"speaker killed": {func(c *clustertest.Cluster) {
			for _, n := range []string{"n1", "n2"} {
				clustertest.Gossip(c.Speaker(n), 2, nil, "")
			}
		}, []string{"Problem gossip the other speakers receive nothing from it, and it did not report a shutdown"}},
		"gossip filtered between two": {func(c *clustertest.Cluster) {
			for node, other := range map[string]string{"n1": "n2", "n2": "n1"} {
				clustertest.Gossip(c.Speaker(node), 3, []string{other}, "")
			}
		}, []string{"Warning gossip receives no heartbeats from n2, and others do", "Warning gossip receives no heartbeats from n1, and others do"}},
		"gossip key too short": {func(c *clustertest.Cluster) {
			for i := range c.Speakers {
				s := &c.Speakers[i].Status
				s.Gossip.KeyFault = "data.next has 5 bytes; write 32 random ones"
				s.GossipKeys = []string{"3f9a0c51"}
			}
		}, []string{"Problem gossip-keys not all gossip keys are in use: data.next has 5 bytes"}},
		"interfaces that no node has": {func(c *clustertest.Cluster) {
			c.L2Advertisements[0].Spec.Interfaces = []v1alpha1.InterfacePattern{"bond*"}
			c.Announce("", "172.30.0.100")
		}, []string{"Problem announced no node can announce it", "Problem advertisement spec.interfaces: no node has an interface bond*"}},
		"advertisements of no node": {func(c *clustertest.Cluster) {
			c.Peer("router", "n1", "n2", "n3")
			rack := []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"rack": "9"}}}
			c.L2Advertisements[0].Spec.NodeSelectors, c.BGPAdvertisements[0].Spec.NodeSelectors = rack, rack
			c.Announce("", "172.30.0.100")
		}, []string{"Problem announced no node can announce it", "Problem advertisement spec.nodeSelectors: no node matches", "Problem advertisement spec.nodeSelectors: no node matches"}},
		"interface down": {func(c *clustertest.Cluster) { c.Speaker("n3").Status.Interfaces[0].Up = false },
			[]string{"Warning interfaces its interface eth0 is down"}},
		"kube-proxy hangs": {func(c *clustertest.Cluster) {
			s := &c.Speaker("n3").Status
			s.Conditions = append(s.Conditions, clustertest.Condition(v1alpha1.ConditionKubeProxyHealthy, false, v1alpha1.ReasonNoAnswer, "kube-proxy, which answered before, does not answer"))
		}, []string{"Problem kube-proxy does not answer"}},
		"IPVS without strictARP": {func(c *clustertest.Cluster) {
			s := &c.Speaker("n3").Status
			s.Conditions = append(s.Conditions, clustertest.Condition(v1alpha1.ConditionNetworkReady, false, v1alpha1.ReasonStrictARPMissing, "kube-proxy in IPVS mode has 192.0.2.100"))
		}, []string{"Problem kernel kube-proxy in IPVS mode has 192.0.2.100"}},
		"clock of a node": {func(c *clustertest.Cluster) {
			clockOff(c, map[string]time.Duration{"n1": 0, "n2": 0, "n3": 90 * time.Second})
			conditions := c.Speaker("n3").Status.Conditions
			conditions[len(conditions)-1].LastTransitionTime = clustertest.Ago(-80 * time.Second) // by its own clock
		}, []string{"Warning clock the node's clock is 1m30s ahead of the API server's; announcing does not depend on it"}},
		"clocks of nodes, each its own way": {func(c *clustertest.Cluster) {
			clockOff(c, map[string]time.Duration{"n2": -time.Hour, "n3": 90 * time.Second})
		}, []string{"Warning clock 1h behind the API server's", "Warning clock 1m30s ahead of the API server's"}},
		"clock of the API server": {func(c *clustertest.Cluster) {
			clockOff(c, map[string]time.Duration{"n1": 90 * time.Second, "n2": 95 * time.Second, "n3": 90 * time.Second})
		}, []string{"Warning clock its clock is 1m30s behind those of all 3 nodes, which agree"}},
		"clock of this machine": {func(c *clustertest.Cluster) { c.Ahead = -time.Hour },
			[]string{"Note clock its clock is 1h behind the API server's"}},
		"DHCP server in a pool": {func(c *clustertest.Cluster) {
			for i := range c.Speakers {
				s := &c.Speakers[i].Status
				s.Conditions = append(s.Conditions, clustertest.Condition(v1alpha1.ConditionNetworkReady, false, v1alpha1.ReasonDHCPInPool, "the DHCP server 172.30.0.1 gives 172.30.0.115"))
			}
		}, []string{"Problem kernel the DHCP server 172.30.0.1 gives 172.30.0.115"}},
		"two machines with one name": {func(c *clustertest.Cluster) {
			s := &c.Speaker("n2").Status
			s.Conditions = append(s.Conditions, clustertest.Condition(v1alpha1.ConditionNetworkReady, false, v1alpha1.ReasonDuplicateNodeName,
				"another machine, at 172.30.0.77:7946, runs a speaker with this node's name; this one, at 172.30.0.12:7946, was there first"))
		}, []string{"Problem kernel another machine, at 172.30.0.77:7946, runs a speaker with this node's name; this one, at 172.30.0.12:7946, was there first"}},
		"foreign host": {func(c *clustertest.Cluster) {
			c.Announce("", "172.30.0.100")
			c.Speaker("n1").Status.Conflicts = []v1alpha1.SpeakerConflict{{Address: "172.30.0.100", Interface: "eth0", MAC: "02:00:5e:00:53:99"}}
		}, []string{"Problem conflict a host outside of the cluster has it too"}},
		"two owners": {func(c *clustertest.Cluster) {
			c.Speaker("n2").Status.Layer2 = c.Speaker("n1").Status.Layer2
		}, []string{"Problem two-owners more than one speaker"}},
		"a move a moment ago": {func(c *clustertest.Cluster) {
			c.Speaker("n2").Status.Layer2 = slices.Clone(c.Speaker("n1").Status.Layer2)
			c.Speaker("n2").Status.Layer2[0].Since = clustertest.Ago(time.Second)
		}, nil},
		"pending": {func(c *clustertest.Cluster) {
			for i := range 3 {
				svc := fmt.Sprintf("late-%d", i)
				c.AddService("shop", svc)
				c.Refuse("shop", svc, "Exhausted", `no address: pool "lan": no free IPv4 address (50 in use)`)
			}
		}, []string{`Problem pending no free IPv4 address`}},
		"nobody looked at it": {func(c *clustertest.Cluster) { c.AddService("shop", "late") },
			[]string{"Warning pending the controller has not looked at it yet"}},
		"left by another load balancer": {func(c *clustertest.Cluster) {
			for _, name := range []string{"old", "older"} {
				svc := c.AddService("shop", name)
				svc.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.77"}, {Hostname: "lb.example.com"}}
				svc.ManagedFields = []metav1.ManagedFieldsEntry{{
					Manager: "klipper-lb-controller", Subresource: "status", Time: ptr.To(clustertest.Ago(time.Minute)),
					FieldsV1: metav1.NewFieldsV1(`{"f:status":{"f:loadBalancer":{"f:ingress":{}}}}`),
				}}
			}
			other := c.AddService("shop", "of-another-class")
			other.Spec.LoadBalancerClass = ptr.To("example.com/other")
			other.Status.LoadBalancer.Ingress = []corev1.LoadBalancerIngress{{IP: "192.0.2.78"}}
		}, []string{`Warning unassigned status.loadBalancer.ingress has an entry that Fairlead did not write, and does not announce; field manager "klipper-lb-controller" wrote it`}},
		"no endpoints": {func(c *clustertest.Cluster) { c.Serve("shop", "web"); c.Announce("", "172.30.0.100") },
			[]string{"Problem announced is not announced: the Service has no ready IPv4 endpoint"}},
		"session down": {func(c *clustertest.Cluster) {
			c.Peer("router", "n1", "n2", "n3")
			c.Speaker("n2").Status.BGPSessions[0].State = v1alpha1.BGPSessionActive
			c.Speaker("n2").Status.BGPSessions[0].LastError = "connection refused by 172.30.0.2:179: BGP does not run there"
		}, []string{"Problem peer connection refused by 172.30.0.2:179"}},
		"peer of no node": {func(c *clustertest.Cluster) {
			c.Peer("router").Spec.NodeSelectors = []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"rack": "9"}}}
		}, []string{"Warning peer no node with a speaker has a session with it"}},
		"pool not found": {func(c *clustertest.Cluster) {
			c.L2Advertisements[0].Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonPoolNotFound, `spec.ipAddressPools: there is no "lna"`)
		}, []string{`Problem object there is no "lna"`}},
		"disabled pool": {func(c *clustertest.Cluster) {
			c.Pools[0].Spec.Disabled = true
			c.Pools[0].Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonDisabled, "spec.disabled is true")
		}, []string{"Note object spec.disabled is true"}},
		"pool has a node": {func(c *clustertest.Cluster) { c.AddPool("wide", "172.30.0.10-172.30.0.20") },
			[]string{"Note withheld 3 addresses are not assigned, as something else has them"}},
		"a node gets a Service's address": {func(c *clustertest.Cluster) {
			c.Speaker("n2").Status.HostAddresses = []v1alpha1.SpeakerHostAddress{{Address: "172.30.0.100", Interface: "lo"}}
		}, []string{"Problem blocked 172.30.0.100 cannot be used: node n2 (lo) has the address"}},
		"a Service names another's address": {func(c *clustertest.Cluster) {
			c.AddService("shop", "late").Spec.ExternalIPs = []string{"172.30.0.100"}
			c.Refuse("shop", "late", "Exhausted", "no address")
		}, []string{"Problem pending no address", "Warning blocked 172.30.0.100 is in use elsewhere too: Service shop/late (spec.externalIPs) has the address"}},
		"pool in nobody's subnet": {func(c *clustertest.Cluster) { c.AddPool("far", "192.168.1.200-192.168.1.210") },
			[]string{"Problem pool-subnet 192.168.1.200 of 192.168.1.200-192.168.1.210 cannot be announced: no node has a subnet with the address (the nodes have 172.30.0.0/24)"}},
		"pool that leaves the subnet": {func(c *clustertest.Cluster) { c.AddPool("edge", "172.30.0.200-172.30.1.10") },
			[]string{"Problem pool-subnet 172.30.1.10 of 172.30.0.200-172.30.1.10 cannot be announced", "Note withheld 1 address is not assigned"}},
		"pool in nobody's subnet, interfaces are named": {func(c *clustertest.Cluster) {
			c.AddPool("far", "192.168.1.200-192.168.1.210")
			c.L2Advertisements[0].Spec.Interfaces = []v1alpha1.InterfacePattern{"eth0"}
		}, nil},
		"address in nobody's subnet": {func(c *clustertest.Cluster) {
			c.Announce("", "172.30.0.100")
			for i := range c.Speakers {
				c.Speakers[i].Status.Interfaces[0].Addresses = []string{fmt.Sprintf("198.51.100.%d/24", i+1)}
			}
		}, []string{"Problem announced is not announced: no node has a subnet with the address (the nodes have 198.51.100.0/24)", "Problem pool-subnet 172.30.0.100 of"}},
		"pool has pods": {func(c *clustertest.Cluster) { c.AddPool("pods", "10.244.2.0/25") },
			[]string{"Problem overlap has addresses of the pods of the cluster", "Problem pool-subnet 10.244.2.0 of"}},
		"pool has Services": {func(c *clustertest.Cluster) { c.AddPool("services", "10.96.0.0/16") },
			[]string{"Problem overlap has addresses of the cluster's Services", "Problem pool-subnet 10.96.0.0 of"}},
		"pool has the broadcast address": {func(c *clustertest.Cluster) { c.AddPool("edge", "172.30.0.250-172.30.0.255") },
			[]string{"Note withheld 1 address is not assigned, as something else has them"}},
		"nearly full": {func(c *clustertest.Cluster) { c.Pools[0].Status.AssignedIPv4, c.Pools[0].Status.AvailableIPv4 = 45, 5 },
			[]string{"Warning pool-use 45 of 50 IPv4 addresses are in use"}},
		"pool nobody announces": {func(c *clustertest.Cluster) {
			c.L2Advertisements[0].Spec.IPAddressPools = []v1alpha1.ObjectName{"lan"}
			c.AddPool("spare", "198.51.100.0/25")
		}, []string{"Warning pool-announced no advertisement selects it"}},
		"excluded control plane": {func(c *clustertest.Cluster) { c.Node("n3").Labels[corev1.LabelNodeExcludeBalancers] = "" },
			[]string{"Note excluded only while no better node is available"}},
		"drained": {func(c *clustertest.Cluster) {
			metav1.SetMetaDataAnnotation(&c.Speaker("n3").ObjectMeta, v1alpha1.AnnotationDrain, "disk swap")
		}, []string{`Note drained is drained ("disk swap")`}},
		"uneven": {func(c *clustertest.Cluster) {
			for i := range 8 {
				a := fmt.Sprintf("172.30.0.%d", 110+i)
				c.AddService("shop", fmt.Sprint("s", i), a)
				c.Serve("shop", fmt.Sprint("s", i), "n1")
				c.Announce("n1", a, fmt.Sprint("shop/s", i))
			}
		}, []string{"Note balance announces 9 of 9 addresses by layer 2; an even share is at most 4"}},
		"half upgraded": {func(c *clustertest.Cluster) { c.Speaker("n3").Status.Version = "v0.2.0" },
			[]string{"Note versions they are of different versions"}},
		"retiring": {func(c *clustertest.Cluster) {
			c.Pools[0].Status.Retiring = []v1alpha1.RetiringAddress{{Address: "172.30.0.7", Service: "shop/web"}}
		}, []string{"Note retiring 1 address in use is no longer in spec.addresses"}},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			c.change(objects)
			r := New(objects.New())
			var got []string
			for _, f := range r.Findings {
				got = append(got, fmt.Sprint(f.Severity, " ", f.Check, " ", f.Says))
				if f.Fix == "" && f.Check != "peer" {
					t.Errorf("%s has no fix", got[len(got)-1])
				}
			}
			if len(got) != len(c.want) {
				t.Fatalf("it found %q, want %q", got, c.want)
			}
			for i, want := range c.want {
				severity, rest, _ := strings.Cut(want, " ")
				check, words, _ := strings.Cut(rest, " ")
				if !strings.HasPrefix(got[i], severity+" "+check+" ") || !strings.Contains(got[i], words) {
					t.Errorf("it found %q, want %q", got[i], want)
				}
			}
			clustertest.Golden(t, name, r.Text, false)
		})
	}
}

// What a thousand Services have in common is one finding.
func TestOneFindingForManyServices(t *testing.T) {
	c := clustertest.Small()
	for i := range 1000 {
		name := fmt.Sprintf("s%d", i)
		c.AddService("shop", name)
		c.Refuse("shop", name, "NoPool", "no address: there is no IPAddressPool; create one")
	}
	found := Examine(c.New())
	if len(found) != 1 || len(found[0].About) != 1000 || len(found[0].Evidence) > few {
		t.Errorf("it found %d, the first about %d with %d lines of evidence", len(found), len(found[0].About), len(found[0].Evidence))
	}
	if s := found[0].Subject(); !strings.HasSuffix(s, "and 995 more") {
		t.Errorf("it is about %q", s)
	}
}

// clockOff has speakers say how far their nodes' clocks are ahead.
func clockOff(c *clustertest.Cluster, ahead map[string]time.Duration) {
	for node, by := range ahead {
		said := clustertest.Condition(v1alpha1.ConditionClockInSync, true, v1alpha1.ReasonInSync, "the node's clock is that of the API server, within 5s")
		if by != 0 {
			said = clustertest.Condition(v1alpha1.ConditionClockInSync, false, v1alpha1.ReasonClockOff, kube.ClockOffMessage(by))
		}
		s := &c.Speaker(node).Status
		s.Conditions = append(s.Conditions, said)
		s.ClockOffset = &metav1.Duration{Duration: by}
	}
}
