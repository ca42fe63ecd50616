package plan

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

// link is an interface of a node that is up, changed as told.
func link(name string, change ...func(*netif.Interface)) netif.Interface {
	i := netif.Interface{Name: name, Up: true}
	for _, c := range change {
		c(&i)
	}
	return i
}

func has(prefixes ...string) func(*netif.Interface) {
	return func(i *netif.Interface) {
		for _, p := range prefixes {
			i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
		}
	}
}

func onLink(prefixes ...string) func(*netif.Interface) {
	return func(i *netif.Interface) {
		for _, p := range prefixes {
			i.OnLink = append(i.OnLink, netip.MustParsePrefix(p))
		}
	}
}

func uplink(families ...lb.Family) func(*netif.Interface) {
	return func(i *netif.Interface) { i.Uplink = families }
}

func internal(i *netif.Interface) { i.Internal = true }
func down(i *netif.Interface)     { i.Up = false }

// Where an address can be announced: by what the nodes' interfaces are, who is able, on
// which of them, and why others are not.
func TestWhereAnAddressCanBeAnnounced(t *testing.T) {
	type nodes map[string][]netif.Interface
	lan := func(n string) netif.Interface { return link("eth0", has("192.0.2."+n+"/24"), uplink(lb.IPv4)) }
	single := func(n string) netif.Interface { return link("eth0", has("192.0.2."+n+"/32"), uplink(lb.IPv4)) }
	for _, tt := range []struct {
		name     string
		addr     string // default 192.0.2.100
		named    []string
		nodes    nodes
		able     map[string][]string
		rejected map[string]lb.Reason
		reason   lb.Reason
	}{
		{
			name: "one subnet for all", nodes: nodes{"n1": {lan("1")}, "n2": {lan("2")}},
			able: map[string][]string{"n1": {"eth0"}, "n2": {"eth0"}},
		},
		{
			name: "one node of three lacks the subnet", nodes: nodes{"n1": {lan("1")}, "n2": {lan("2")}, "n3": {link("eth0", has("198.51.100.3/24"), uplink(lb.IPv4))}},
			able: map[string][]string{"n1": {"eth0"}, "n2": {"eth0"}}, rejected: map[string]lb.Reason{"n3": lb.ReasonNoInterface},
		},
		{
			name: "two subnets on one interface", nodes: nodes{"n1": {link("eth0", has("198.51.100.1/24", "192.0.2.1/24"))}},
			able: map[string][]string{"n1": {"eth0"}},
		},
		{
			name: "a secondary address of one host adds no subnet", nodes: nodes{"n1": {link("eth0", has("198.51.100.1/24", "192.0.2.1/32"), uplink(lb.IPv4))}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "nobody's subnet", addr: "10.77.0.5", nodes: nodes{"n1": {lan("1")}, "n2": {lan("2")}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface, "n2": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "nobody's subnet, the interface is named", addr: "10.77.0.5", named: []string{"eth0"}, nodes: nodes{"n1": {lan("1")}},
			able: map[string][]string{"n1": {"eth0"}},
		},
		{
			name: "the named interface is not there", named: []string{"bond0"}, nodes: nodes{"n1": {lan("1")}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoCandidate,
		},
		{
			name: "the subnet is there, and the interface down", nodes: nodes{"n1": {link("eth0", has("192.0.2.1/24"), down)}, "n2": {link("eth1", has("198.51.100.2/24"))}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonInterfaceDown, "n2": lb.ReasonNoInterface}, reason: lb.ReasonNoCandidate,
		},
		{
			name: "a bridge of containers with the subnet", addr: "10.244.1.9", nodes: nodes{"n1": {lan("1"), link("cni0", has("10.244.1.1/24"), internal)}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "a bridge of containers that is named", addr: "10.244.1.9", named: []string{"cni0"}, nodes: nodes{"n1": {lan("1"), link("cni0", has("10.244.1.1/24"), internal)}},
			able: map[string][]string{"n1": {"cni0"}},
		},
		{
			name: "a bridge of containers beside the subnet", nodes: nodes{"n1": {lan("1"), link("docker0", has("192.0.2.1/16"), internal)}},
			able: map[string][]string{"n1": {"eth0"}},
		},
		{
			name: "single addresses, and nobody knows a subnet", nodes: nodes{"n1": {single("1"), link("eth1", has("192.0.2.9/32"))}, "n2": {single("2")}},
			able: map[string][]string{"n1": {"eth0"}, "n2": {"eth0"}},
		},
		{
			name: "single addresses, and no default route", nodes: nodes{"n1": {link("eth0", has("192.0.2.1/32"))}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "single addresses, an uplink of the other family alone", nodes: nodes{"n1": {link("eth0", has("192.0.2.1/32"), uplink(lb.IPv6))}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "a private address beyond a public uplink", addr: "192.168.77.5", nodes: nodes{"n1": {single("1")}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "a public address beyond a private uplink", nodes: nodes{"n1": {link("eth0", has("10.128.0.2/32"), uplink(lb.IPv4))}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "one node's address has become a single one: it is still in the subnet that the others know", nodes: nodes{"n1": {single("1")}, "n2": {lan("2")}},
			able: map[string][]string{"n1": {"eth0"}, "n2": {"eth0"}},
		},
		{
			name: "a single address outside of the subnet that others know", nodes: nodes{"n1": {link("eth0", has("198.51.100.1/32"), uplink(lb.IPv4))}, "n2": {lan("2")}},
			able: map[string][]string{"n2": {"eth0"}}, rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface},
		},
		{
			name: "the node has the subnet on another interface", nodes: nodes{"n1": {link("eth0", has("203.0.113.1/32"), uplink(lb.IPv4)), link("eth1", has("192.0.2.1/24"))}},
			able: map[string][]string{"n1": {"eth1"}},
		},
		{
			name: "the uplink is a tunnel", nodes: nodes{"n1": {link("wg0", has("192.0.2.1/32"), uplink(lb.IPv4), internal)}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "a route without a gateway", addr: "203.0.113.5", nodes: nodes{"n1": {link("eth0", has("192.0.2.1/32"), onLink("203.0.113.0/28"))}, "n2": {single("2")}},
			able: map[string][]string{"n1": {"eth0"}}, rejected: map[string]lb.Reason{"n2": lb.ReasonNoInterface},
		},
		{
			name: "IPv6: a router advertises the prefix, the node's address is a single one by DHCPv6", addr: "2001:db8::100",
			nodes: nodes{"n1": {link("eth0", has("2001:db8::1/128"), onLink("2001:db8::/64"), uplink(lb.IPv6))}},
			able:  map[string][]string{"n1": {"eth0"}},
		},
		{
			name: "IPv6: a router advertises the prefix, the node has only a link-local address", addr: "2001:db8::100",
			nodes: nodes{"n1": {link("eth0", onLink("2001:db8::/64"), uplink(lb.IPv6))}},
			able:  map[string][]string{"n1": {"eth0"}},
		},
		{
			name: "IPv6: only link-local addresses, and a default route", addr: "2001:db8::100",
			nodes:    nodes{"n1": {link("eth0", uplink(lb.IPv6))}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
		{
			name: "IPv6 in nobody's subnet beside an IPv4 subnet", addr: "fd99::5", nodes: nodes{"n1": {lan("1")}},
			rejected: map[string]lb.Reason{"n1": lb.ReasonNoInterface}, reason: lb.ReasonNoSubnet,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := vip
			if tt.addr != "" {
				addr = netip.MustParseAddr(tt.addr)
			}
			s := Snapshot{
				Joined: true, Nodes: map[string]lb.Node{}, Speakers: map[string]Speaker{},
				Advertisements: []lb.L2Advertisement{{Name: "l2", Scope: lb.Scope{AllPools: true}, Interfaces: tt.named}},
			}
			for name, interfaces := range tt.nodes {
				s.Nodes[name], s.Speakers[name] = lb.Node{Name: name}, Speaker{Interfaces: interfaces, Joined: true}
			}
			g := lb.Grant{Addr: addr, Pool: "p"}
			users := []lb.Assignment{{Policy: lb.TrafficCluster, Ready: lb.ReadyNodes{IPv4: []string{lb.AnyNode}, IPv6: []string{lb.AnyNode}}, Grants: []lb.Grant{g}}}
			c := s.Candidates(users, g)
			if tt.able == nil {
				tt.able = map[string][]string{}
			}
			if diff := cmp.Diff(tt.able, c.Able); diff != "" {
				t.Errorf("able (-want +got):\n%s", diff)
			}
			got := map[string]lb.Reason{}
			for _, r := range c.Rejected {
				got[r.Node] = r.Reason
			}
			if tt.rejected == nil {
				tt.rejected = map[string]lb.Reason{}
			}
			if diff := cmp.Diff(tt.rejected, got); diff != "" || c.Reason != tt.reason {
				t.Errorf("%s; rejected (-want +got):\n%s", c.Reason, diff)
			}
			if k := newKinds(&s).candidates(users, g); !cmp.Equal(k.Able, c.Able) || k.Reason != c.Reason {
				t.Errorf("by its kind: %v, %s", k.Able, k.Reason)
			}
		})
	}
}
