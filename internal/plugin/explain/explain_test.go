package explain

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
)

// web is the Service that is explained.
var web = lb.ServiceKey{Namespace: "shop", Name: "web"}

// pending takes the address of shop/web away.
func pending(c *clustertest.Cluster, reason, message string) {
	c.Announce("", "172.30.0.100")
	svc := c.Service("shop", "web")
	svc.Status.LoadBalancer.Ingress = nil
	c.Refuse("shop", "web", reason, message)
}

// Each is one thing that can be wrong, and what is said of it.
func TestService(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *clustertest.Cluster)
		state  State
		says   string // part of the cause
		do     string // part of what to do
	}{
		"well": {func(*clustertest.Cluster) {}, Healthy, "172.30.0.100 is announced by layer 2 from n1", "nothing"},
		"not a load balancer": {func(c *clustertest.Cluster) {
			c.Service("shop", "web").Spec.Type = corev1.ServiceTypeClusterIP
		}, NotOurs, "only a Service of type LoadBalancer", "spec.type: LoadBalancer"},
		"another class": {func(c *clustertest.Cluster) {
			c.Service("shop", "web").Spec.LoadBalancerClass = ptr.To("example.com/other")
		}, NotOurs, `"example.com/other"`, "without spec.loadBalancerClass"},
		"no pool": {func(c *clustertest.Cluster) {
			pending(c, "NoPool", "")
			c.Pools = nil
		}, Pending, "there is no IPAddressPool", "create an IPAddressPool"},
		"full pool": {func(c *clustertest.Cluster) {
			pending(c, "Exhausted", "")
			c.Pools[0].Spec.Addresses = []v1alpha1.AddressRange{"172.30.0.101-172.30.0.101"}
			c.AddService("shop", "db", "172.30.0.101")
		}, Pending, "no free IPv4 address (1 in use)", "add addresses"},
		"pool not for the namespace": {func(c *clustertest.Cluster) {
			pending(c, "NamespaceNotAllowed", "")
			c.Pools[0].Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{"blog"}}
		}, Pending, "not for this namespace", "add the namespace"},
		"unknown pool": {func(c *clustertest.Cluster) {
			pending(c, "UnknownPool", "")
			metav1.SetMetaDataAnnotation(&c.Service("shop", "web").ObjectMeta, v1alpha1.AnnotationAddressPool, "lna")
		}, Pending, `pool "lna": there is no such IPAddressPool`, "correct its name"},
		"several pools refuse": {func(c *clustertest.Cluster) {
			pending(c, "NoPoolFits", "")
			c.Pools[0].Spec.Disabled = true
			c.AddPool("six", "fd30::100-fd30::1ff")
		}, Pending, `pool "lan": disabled; pool "six": has no IPv4 addresses`, "spec.disabled"},
		"annotation not understood": {func(c *clustertest.Cluster) {
			pending(c, "InvalidRequest", "")
			metav1.SetMetaDataAnnotation(&c.Service("shop", "web").ObjectMeta, v1alpha1.AnnotationLoadBalancerIPs, "172.30.0.300")
		}, Pending, `annotation fairlead.dev/loadBalancerIPs: "172.30.0.300" is not an IP address`, "correct the field"},
		"exact address taken": {func(c *clustertest.Cluster) {
			pending(c, "AddressInUse", "")
			c.AddService("shop", "db", "172.30.0.105")
			metav1.SetMetaDataAnnotation(&c.Service("shop", "web").ObjectMeta, v1alpha1.AnnotationLoadBalancerIPs, "172.30.0.105")
		}, Pending, "shop/db", "another address"},
		"controller slow": {func(c *clustertest.Cluster) {
			pending(c, "", "")
			c.Service("shop", "web").Status.Conditions = nil
		}, Pending, "the controller has not assigned it yet", "the log of the active controller, cp_1"},
		"controller away": {func(c *clustertest.Cluster) {
			pending(c, "", "")
			c.Service("shop", "web").Status.Conditions = nil
			c.Lease.Spec.HolderIdentity = nil
		}, Pending, "a pool has an address for it, and no controller is active (the last one stopped)", "check that the controller runs"},
		"claim of another namespace": {func(c *clustertest.Cluster) {
			pending(c, "ClaimNotFound", "")
			metav1.SetMetaDataAnnotation(&c.Service("shop", "web").ObjectMeta, v1alpha1.AnnotationClaim, "kept")
			c.Claims = []v1alpha1.IPAddressClaim{{ObjectMeta: metav1.ObjectMeta{Namespace: "blog", Name: "kept"}}}
		}, Pending, `there is no IPAddressClaim "kept" in the namespace`, "create the IPAddressClaim"},
		"kept address that nobody announces": {func(c *clustertest.Cluster) {
			metav1.SetMetaDataAnnotation(&c.Service("shop", "web").ObjectMeta, v1alpha1.AnnotationLoadBalancerIPs, "172.30.0.300")
			c.L2Advertisements = nil
			c.Announce("", "172.30.0.100")
		}, NotAnnounced, `"172.30.0.300" is not an IP address; 172.30.0.100 is not announced: no L2Advertisement`, "correct the field"},
		"no advertisement": {func(c *clustertest.Cluster) {
			c.L2Advertisements = nil
			c.Announce("", "172.30.0.100")
		}, NotAnnounced, "no L2Advertisement or BGPAdvertisement selects the Service", "create an L2Advertisement"},
		"selector without match": {func(c *clustertest.Cluster) {
			c.L2Advertisements[0].Spec.ServiceSelectors = []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "public"}}}
			c.Announce("", "172.30.0.100")
		}, NotAnnounced, "no L2Advertisement or BGPAdvertisement selects the Service", "have the selectors of one select"},
		"no endpoints": {func(c *clustertest.Cluster) {
			c.Serve("shop", "web")
			c.Announce("", "172.30.0.100")
		}, NotAnnounced, "the Service has no ready IPv4 endpoint", "pods are ready"},
		"local without endpoint on the owner": {func(c *clustertest.Cluster) {
			c.Service("shop", "web").Spec.ExternalTrafficPolicy = corev1.ServiceExternalTrafficPolicyLocal
			c.Serve("shop", "web", "n3")
			c.Announce("n3", "172.30.0.100", "shop/web")
		}, Healthy, "from n3", "nothing"},
		"no candidate": {func(c *clustertest.Cluster) {
			c.Announce("", "172.30.0.100")
			c.L2Advertisements[0].Spec.NodeSelectors = []v1alpha1.LabelSelector{{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{
				Key: corev1.LabelHostname, Operator: v1alpha1.LabelSelectorOpNotIn, Values: []v1alpha1.LabelValue{"n1"},
			}}}}
			c.Speaker("n2").Status.Interfaces[0].Up = false
			c.Speaker("n3").Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonStopping, "the speaker has stopped")
		}, NotAnnounced, "n1 not selected by the advertisement's nodeSelectors; n2 has an interface for the address, but it is down; n3 its speaker is not alive",
			"n2: connect the cable"},
		"excluded node": {func(c *clustertest.Cluster) {
			c.Node("n3").Labels[corev1.LabelNodeExcludeBalancers] = ""
		}, Healthy, "from n1", "nothing"},
		"all nodes excluded": {func(c *clustertest.Cluster) {
			for i := range c.Nodes {
				c.Nodes[i].Labels[corev1.LabelNodeExcludeBalancers] = ""
			}
		}, Healthy, "from n1", "kubectl label node n1 "},
		"moved by hand": {func(c *clustertest.Cluster) {
			s := &c.Speaker("n1").Status
			s.Conditions = append(s.Conditions, clustertest.Condition(v1alpha1.ConditionMoved, true, v1alpha1.ReasonMoved, "took over 172.30.0.100 from n2"))
			s.MovedAddresses = []string{"172.30.0.100"}
		}, Healthy, "from n1", "nothing"},
		"drained": {func(c *clustertest.Cluster) {
			metav1.SetMetaDataAnnotation(&c.Speaker("n2").ObjectMeta, v1alpha1.AnnotationDrain, "disk swap")
		}, Healthy, "from n1", "nothing"},
		"foreign host": {func(c *clustertest.Cluster) {
			c.Announce("", "172.30.0.100")
			c.Speaker("n1").Status.Conflicts = []v1alpha1.SpeakerConflict{{Address: "172.30.0.100", Interface: "eth0", MAC: "02:00:5e:00:53:99"}}
		}, NotAnnounced, "02:00:5e:00:53:99, seen by n1 on eth0", "find the host by its MAC"},
		"owner dead and nobody else yet": {func(c *clustertest.Cluster) {
			c.Announce("", "172.30.0.100")
		}, NotAnnounced, "no node reports yet that it announces it", "wait a few seconds"},
		"retiring": {func(c *clustertest.Cluster) {
			c.Pools[0].Spec.Addresses = []v1alpha1.AddressRange{"172.30.0.101-172.30.0.149"}
			c.Pools[0].Status.Retiring = []v1alpha1.RetiringAddress{{Address: "172.30.0.100", Service: "shop/web"}}
		}, Healthy, "from n1", ""},
		"by BGP": {func(c *clustertest.Cluster) {
			c.Peer("router", "n1", "n2", "n3")
		}, Healthy, "by layer 2 from n1 and by BGP from n1, n2, n3", "nothing"},
		"BGP session down": {func(c *clustertest.Cluster) {
			c.L2Advertisements = nil
			c.Announce("", "172.30.0.100")
			c.Peer("router", "n1", "n2", "n3")
			for i := range c.Speakers {
				c.Speakers[i].Status.BGPSessions[0].State = v1alpha1.BGPSessionActive
			}
		}, NotAnnounced, "n1, n2, n3 router: connecting", "kubectl fairlead explain peer"},
		"one BGP session down": {func(c *clustertest.Cluster) {
			c.L2Advertisements = nil
			c.Announce("", "172.30.0.100")
			c.Peer("router", "n1", "n2", "n3")
			c.Speaker("n2").Status.BGPSessions[0].State = v1alpha1.BGPSessionActive
		}, Healthy, "by BGP from n1, n3", ""},
		"address of nobody's pool": {func(c *clustertest.Cluster) {
			svc := c.Service("shop", "web")
			svc.Status.LoadBalancer.Ingress[0].IP = "198.51.100.7"
			svc.Status.Conditions = nil
			c.Announce("", "172.30.0.100")
		}, NotOurs, "is in no pool", "add the address to a pool"},
		"shared": {func(c *clustertest.Cluster) {
			other := c.AddService("shop", "dns", "172.30.0.100")
			other.Spec.Ports[0].Port = 53
			metav1.SetMetaDataAnnotation(&other.ObjectMeta, v1alpha1.AnnotationAllowSharedIP, "edge")
			metav1.SetMetaDataAnnotation(&c.Service("shop", "web").ObjectMeta, v1alpha1.AnnotationAllowSharedIP, "edge")
			c.Serve("shop", "dns", "n3")
		}, Healthy, "from n1", "nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			c.change(objects)
			r, err := Service(objects.New(), web, assigned)
			if err != nil {
				t.Fatal(err)
			}
			if r.State != c.state || !strings.Contains(r.Cause, c.says) {
				t.Errorf("it is %s, as %q; want %s, as %q", r.State, r.Cause, c.state, c.says)
			}
			if !strings.Contains(strings.Join(r.Next, "; "), c.do) {
				t.Errorf("it says to do %q, want %q", r.Next, c.do)
			}
			clustertest.Golden(t, "service "+name, r.Text, true)
		})
	}
}

// assigned are the events of shop/web.
var assigned = []corev1.Event{{
	Reason: "Assigned", Message: `Assigned 172.30.0.100 from pool "lan", the lowest that is free`, LastTimestamp: clustertest.Ago(10 * time.Minute),
}}

func TestNoSuchService(t *testing.T) {
	_, err := Service(clustertest.Small().New(), lb.ServiceKey{Namespace: "shop", Name: "wbe"}, nil)
	if err == nil || !strings.Contains(err.Error(), "shop/wbe") {
		t.Errorf("got %v, want an error that names the Service", err)
	}
}

func TestAddress(t *testing.T) {
	for name, c := range map[string]struct {
		address string
		change  func(c *clustertest.Cluster)
		state   State
		says    string
	}{
		"announced":  {"172.30.0.100", func(*clustertest.Cluster) {}, Healthy, "by layer 2 from n1"},
		"free":       {"172.30.0.120", func(*clustertest.Cluster) {}, Free, `of pool "lan"`},
		"of no pool": {"192.0.2.1", func(*clustertest.Cluster) {}, NotOurs, "no pool has it"},
		"of a node":  {"172.30.0.12", func(*clustertest.Cluster) {}, NotOurs, "node n2 (eth0) has the address"},
		"buggy":      {"10.0.0.255", func(c *clustertest.Cluster) { c.AddPool("old", "10.0.0.0/24").Spec.AvoidBuggyIPs = true }, Withheld, "avoidBuggyIPs"},
		"of a claim": {"172.30.0.130", claim, Kept, "IPAddressClaim shop/later keeps it"},
		"of a stranger": {"172.30.0.131", func(c *clustertest.Cluster) {
			c.AddService("shop", "other", "172.30.0.131").Spec.LoadBalancerClass = ptr.To("example.com/other")
		}, NotOurs, "another controller's"},
		"of a disabled pool": {"172.30.0.120", func(c *clustertest.Cluster) {
			c.Pools[0].Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonDisabled, "spec.disabled is true: the pool assigns nothing new; Services keep their addresses")
		}, Withheld, "assigns nothing new"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			c.change(objects)
			a, err := config.Address(c.address)
			if err != nil {
				t.Fatal(err)
			}
			r := Address(objects.New(), a)
			if r.State != c.state || !strings.Contains(r.Cause, c.says) {
				t.Errorf("it is %s, as %q; want %s, as %q", r.State, r.Cause, c.state, c.says)
			}
			clustertest.Golden(t, "address "+name, r.Text, false)
		})
	}
}

func claim(c *clustertest.Cluster) {
	c.Claims = []v1alpha1.IPAddressClaim{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "later"},
		Status: v1alpha1.IPAddressClaimStatus{Addresses: []string{"172.30.0.130"}, Pool: "lan",
			Conditions: clustertest.Ready(true, v1alpha1.ReasonReserved, `172.30.0.130 from pool "lan"; for the Service with the annotation fairlead.dev/claim: later`)},
	}}
}

func TestPool(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *clustertest.Cluster)
		do     string
	}{
		"well": {func(*clustertest.Cluster) {}, "nothing"},
		"full": {func(c *clustertest.Cluster) {
			c.Pools[0].Spec.Addresses = []v1alpha1.AddressRange{"172.30.0.100/32"}
			c.Pools[0].Status.AvailableIPv4, c.Pools[0].Status.AssignedIPv4 = 0, 1
			c.AddService("shop", "late")
			c.Refuse("shop", "late", "Exhausted", `no address: pool "lan": no free IPv4 address (1 in use)`)
		}, "add addresses"},
		"not announced": {func(c *clustertest.Cluster) {
			c.L2Advertisements[0].Spec.IPAddressPools = []v1alpha1.ObjectName{"other"}
		}, "create an L2Advertisement"},
		"for few": {func(c *clustertest.Cluster) {
			c.Pools[0].Spec.AutoAssign = ptr.To(false)
			c.Pools[0].Spec.MaxPerNamespace = 2
			c.Pools[0].Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{
				Priority: 1, Namespaces: []v1alpha1.NamespaceName{"shop"},
				NamespaceSelectors: []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"team": "web"}}},
				ServiceSelectors:   []v1alpha1.LabelSelector{{}},
			}
		}, "nothing"},
		"overlaps": {func(c *clustertest.Cluster) {
			c.Pools[0].Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonOverlap, `has addresses that the older pool "old" has too`)
		}, "change spec.addresses of one"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			c.change(objects)
			r, err := Pool(objects.New(), "lan")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(r.Next, "; "), c.do) {
				t.Errorf("it says to do %q, want %q", r.Next, c.do)
			}
			clustertest.Golden(t, "pool "+name, r.Text, false)
		})
	}
}

func TestPeer(t *testing.T) {
	for name, c := range map[string]struct {
		change func(c *clustertest.Cluster, p *v1alpha1.BGPPeer)
		do     string
	}{
		"well": {func(*clustertest.Cluster, *v1alpha1.BGPPeer) {}, "nothing"},
		"wrong AS": {func(c *clustertest.Cluster, p *v1alpha1.BGPPeer) {
			const why = "the router is in AS 64999, and 64512 is expected; set peerASN to 64999, or correct the router"
			s := &c.Speaker("n2").Status.BGPSessions[0]
			s.State, s.LastError, s.Prefixes = v1alpha1.BGPSessionActive, why, 0
			p.Status.Conditions = clustertest.Ready(false, v1alpha1.ReasonNotEstablished, "Established 2/3: n2 "+why)
		}, "set peerASN to 64999"},
		"BFD on one side": {func(c *clustertest.Cluster, _ *v1alpha1.BGPPeer) {
			c.Speaker("n1").Status.BGPSessions[0].BFD = v1alpha1.BFDSessionDown
		}, "is it on for this node on the router?"},
		"some nodes": {func(c *clustertest.Cluster, p *v1alpha1.BGPPeer) {
			p.Spec.NodeSelectors = []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{corev1.LabelHostname: "n1"}}}
			c.Speaker("n2").Status.BGPSessions, c.Speaker("n3").Status.BGPSessions = nil, nil
		}, "nothing"},
		"same router twice": {func(c *clustertest.Cluster, p *v1alpha1.BGPPeer) {
			older := *p.DeepCopy()
			older.Name, older.CreationTimestamp = "older", clustertest.Ago(48*time.Hour)
			c.BGPPeers = append(c.BGPPeers, older)
		}, `the older BGPPeer "older" is the same router`},
		"told of nothing": {func(c *clustertest.Cluster, _ *v1alpha1.BGPPeer) {
			c.BGPAdvertisements[0].Spec.Peers = []v1alpha1.ObjectName{"other"}
		}, "create a BGPAdvertisement"},
	} {
		t.Run(name, func(t *testing.T) {
			objects := clustertest.Small()
			c.change(objects, objects.Peer("router", "n1", "n2", "n3"))
			r, err := Peer(objects.New(), "router")
			if err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(strings.Join(r.Next, "; "), c.do) {
				t.Errorf("it says to do %q, want %q", r.Next, c.do)
			}
			clustertest.Golden(t, "peer "+name, r.Text, false)
		})
	}
}
