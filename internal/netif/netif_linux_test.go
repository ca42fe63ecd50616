package netif

import (
	"net"
	"net/netip"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/vishvananda/netlink"

	"github.com/fairlead-lb/fairlead/internal/lb"
)

func TestIsInternal(t *testing.T) {
	const broadcast = 0x2
	for _, tt := range []struct {
		name, kind string
		flags      uint32
		want       bool
	}{
		{"eth0", "device", broadcast, false},
		{"eth0", "veth", broadcast, false}, // a node that is a container
		{"br0", "bridge", broadcast, false},
		{"vmbr0", "bridge", broadcast, false},
		{"bond0", "bond", broadcast, false},
		{"eth0.12", "vlan", broadcast, false},
		{"enp3s0", "device", broadcast, false},
		{"br-lan", "bridge", broadcast, false},
		{"br-0123456789ab", "bridge", broadcast, true},
		{"docker0", "bridge", broadcast, true},
		{"cni0", "bridge", broadcast, true},
		{"cali0123456789a", "veth", broadcast, true},
		{"lxc_health", "veth", broadcast, true},
		{"flannel.1", "vxlan", broadcast, true},
		{"overlay", "vxlan", broadcast, true},
		{"kube-ipvs0", "dummy", broadcast, true},
		{"mesh", "wireguard", pointToPoint | noARP, true},
		{"noarp", "device", broadcast | noARP, true},
	} {
		if got := isInternal(tt.name, tt.kind, tt.flags); got != tt.want {
			t.Errorf("%s, %s: %t", tt.name, tt.kind, got)
		}
	}
}

// Networks without a gateway are on the link; the default route with the lowest metric
// determines the uplink.
func TestRoutes(t *testing.T) {
	const eth0, eth1 = 2, 3
	dst := func(s string) *net.IPNet {
		_, n, err := net.ParseCIDR(s)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	r := Routes{onLink: map[int][]netip.Prefix{}, defaults: map[lb.Family]defaultRoute{}}
	for _, route := range []netlink.Route{
		{LinkIndex: eth0, Dst: dst("172.30.0.0/24")},                                  // of its own address
		{LinkIndex: eth0, Dst: dst("203.0.113.0/28")},                                 // routed to the link
		{LinkIndex: eth0, Dst: dst("172.31.1.1/32")},                                  // the gateway alone
		{LinkIndex: eth0, Dst: dst("10.0.0.0/8"), Gw: net.ParseIP("172.30.0.1")},      // behind a router
		{LinkIndex: eth0, Dst: dst("198.51.100.0/24"), Type: syscall.RTN_UNREACHABLE}, // nowhere
		{LinkIndex: eth0, Dst: dst("fe80::/64"), Family: netlink.FAMILY_V6},           // on every link
		{LinkIndex: eth0, Dst: dst("2001:db8::/64"), Family: netlink.FAMILY_V6},       // of a router advertisement
		{LinkIndex: eth1, Gw: net.ParseIP("192.0.2.1"), Priority: 200, Family: netlink.FAMILY_V4},
		{LinkIndex: eth0, Gw: net.ParseIP("172.31.1.1"), Priority: 100, Family: netlink.FAMILY_V4},
		{LinkIndex: eth1, Dst: dst("::/0"), Gw: net.ParseIP("fe80::1"), Priority: 1024, Family: netlink.FAMILY_V6},
	} {
		if route.Type == 0 {
			route.Type = syscall.RTN_UNICAST
		}
		r.add(&route)
	}
	got := []Interface{{Name: "eth0", Index: eth0, Prefixes: prefixes("172.30.0.11/24")}, {Name: "eth1", Index: eth1}}
	r.Apply(got)
	want := []Interface{
		{Name: "eth0", Index: eth0, Prefixes: prefixes("172.30.0.11/24"), OnLink: prefixes("203.0.113.0/28", "2001:db8::/64"), Uplink: []lb.Family{lb.IPv4}, Gateways: addrs("172.31.1.1")},
		{Name: "eth1", Index: eth1, Uplink: []lb.Family{lb.IPv6}, Gateways: addrs("fe80::1")},
	}
	equal := cmp.Options{cmp.Comparer(func(x, y netip.Prefix) bool { return x == y }), cmp.Comparer(func(x, y netip.Addr) bool { return x == y })}
	if diff := cmp.Diff(want, got, equal); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func prefixes(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func addrs(list ...string) (out []netip.Addr) {
	for _, s := range list {
		out = append(out, netip.MustParseAddr(s))
	}
	return out
}

// A prefix of one address has no subnet.
func TestSubnets(t *testing.T) {
	i := Interface{Prefixes: prefixes("192.0.2.11/32", "198.51.100.1/24", "2001:db8::11/128"), OnLink: prefixes("2001:db8::/64")}
	var got []netip.Prefix
	for p := range i.Subnets {
		got = append(got, p)
	}
	if diff := cmp.Diff(prefixes("198.51.100.0/24", "2001:db8::/64"), got, cmp.Comparer(func(x, y netip.Prefix) bool { return x == y })); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	for a, want := range map[string]bool{"192.0.2.11": false, "198.51.100.77": true, "2001:db8::77": true, "2001:db8:1::1": false} {
		if got := i.Has(netip.MustParseAddr(a)); got != want {
			t.Errorf("Has(%s) is %t", a, got)
		}
	}
	if got := i.Single(lb.IPv4); got != nil {
		t.Errorf("Single is %v beside a subnet", got)
	}
	if got := i.Single(lb.IPv6); got != nil {
		t.Errorf("Single is %v beside a network on the link", got)
	}
	if got := (Interface{Prefixes: i.Prefixes}).Single(lb.IPv6); len(got) != 1 {
		t.Errorf("Single is %v, want its one IPv6 address", got)
	}
}

// The routes and interfaces of this machine can be read.
func TestListRoutes(t *testing.T) {
	r, err := ListRoutes()
	if err != nil {
		t.Fatal(err)
	}
	list, _, err := List()
	if err != nil {
		t.Fatal(err)
	}
	r.Apply(list)
	t.Logf("%d routes; %+v", r.Count, list)
}
