package nodecheck

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

type services []netip.Addr

func (s services) Has(a netip.Addr) bool {
	for _, x := range s {
		if x == a {
			return true
		}
	}
	return false
}

func (s services) HasFamily(f lb.Family) bool {
	for _, x := range s {
		if lb.FamilyOf(x) == f {
			return true
		}
	}
	return false
}

func TestCheck(t *testing.T) {
	vip, vip6, own := netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("2001:db8::100"), netip.MustParseAddr("192.0.2.1")
	ipvs, lo := netif.Held{Interface: ipvsInterface, Bits: 32}, netif.Held{Interface: "lo", Bits: 32}
	tests := []struct {
		name   string
		change func(*Facts)
		want   []Kind
	}{
		{"nothing", func(*Facts) {}, nil},
		{"IPVS, strictARP", func(f *Facts) { f.Held[vip], f.ARPIgnore["eth0"] = ipvs, 1 }, nil},
		{"IPVS", func(f *Facts) { f.Held[vip] = ipvs }, []Kind{StrictARPMissing}},
		{"IPVS, IPv6 alone", func(f *Facts) { f.Held[vip6] = ipvs }, nil},
		{"an address that no Service has", func(f *Facts) { f.Held[netip.MustParseAddr("192.0.2.101")] = lo }, nil},
		{"a Service's address on lo", func(f *Facts) { f.Held[vip] = lo }, []Kind{AddressHeld}},
		{"leases in a pool", func(f *Facts) {
			f.Leases = []lb.Lease{{Addr: vip, Pool: "lan", Server: own, Client: "02:00:5e:00:53:01", Interface: "eth0"}}
		}, []Kind{DHCPInPool}},
		{"two machines with one name", func(f *Facts) { f.Rival = Rival{Own: "192.0.2.1:7946", Other: "192.0.2.9:7946"} }, []Kind{DuplicateNodeName}},
		{"no forwarding", func(f *Facts) { f.Forwarding[lb.IPv4] = false }, []Kind{NotForwarding}},
		{"forwarding unknown", func(f *Facts) { delete(f.Forwarding, lb.IPv4) }, nil},
		{"strict where the default route is", func(f *Facts) { f.ReversePath["eth0"] = 1 }, nil},
		{"strict elsewhere", func(f *Facts) { f.ReversePath["eth1"] = 1 }, []Kind{StrictReversePath}},
		{"loose elsewhere", func(f *Facts) { f.ReversePath["eth1"] = 2 }, nil},
		{"no default route", func(f *Facts) { f.ReversePath["eth1"], f.DefaultRoute = 1, nil }, nil},
		{"Wi-Fi", func(f *Facts) { f.Wireless["eth1"] = true }, []Kind{Wireless}},
		{"a bridge that suppresses ARP", func(f *Facts) { f.Suppressing["eth1"] = []string{"port0", "port1"} }, []Kind{BridgeKeepsARP, BridgeKeepsARP}},
		{"a bridge without addresses of Services", func(f *Facts) { f.Suppressing["docker0"] = []string{"port0"} }, nil},
		{"the worst first", func(f *Facts) {
			f.Wireless["eth0"], f.Held[vip], f.Forwarding[lb.IPv6] = true, ipvs, false
			f.Held[vip6], f.Leases = lo, []lb.Lease{{Addr: vip, Pool: "lan"}}
		}, []Kind{StrictARPMissing, AddressHeld, DHCPInPool, NotForwarding, Wireless}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := Facts{
				Host: netif.Host{
					Held: map[netip.Addr]netif.Held{own: {Interface: "eth0", Bits: 24}}, DefaultRoute: map[string]bool{"eth0": true}, Suppressing: map[string][]string{},
				},
				ARPIgnore: map[string]int{"eth1": 1}, ReversePath: map[string]int{},
				Forwarding: map[lb.Family]bool{lb.IPv4: true, lb.IPv6: true},
				Wireless:   map[string]bool{},
			}
			tt.change(&f)
			var got []Kind
			for _, x := range Check(f, services{vip, vip6}, []string{"eth0", "eth1"}) {
				got = append(got, x.Kind)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// The advice is never to remove an address at which the node is reached.
func TestAdviceAboutAHeldAddress(t *testing.T) {
	vip, other, home := netip.MustParseAddr("192.0.2.100"), netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("127.0.0.1")
	vip6, local6 := netip.MustParseAddr("2001:db8::100"), netip.MustParseAddr("fe80::1")
	const exclude = "add it to spec.excludes of the pool, and request another address for the Service"
	for _, tt := range []struct {
		name string
		addr netip.Addr
		held map[netip.Addr]netif.Held
		own  []netip.Addr
		want string
	}{
		{"left over on lo", vip, map[netip.Addr]netif.Held{vip: {Interface: "lo", Bits: 32}, home: {Interface: "lo", Bits: 8}}, nil, "if no program on the node needs it, remove it: ip addr del 192.0.2.100/32 dev lo; otherwise " + exclude},
		{"of the control plane, beside the node's", vip, map[netip.Addr]netif.Held{vip: {Interface: "eth0", Bits: 32}, other: {Interface: "eth0", Bits: 24}}, nil, "if no program on the node needs it, remove it: ip addr del 192.0.2.100/32 dev eth0; otherwise " + exclude},
		{"with its subnet", vip, map[netip.Addr]netif.Held{vip: {Interface: "eth0", Bits: 24}}, nil, "it is the node's own address: " + exclude},
		{"secondary, with its subnet", vip, map[netip.Addr]netif.Held{vip: {Interface: "eth0", Bits: 24}, other: {Interface: "eth0", Bits: 24}}, nil, "it is the node's own address: " + exclude},
		{"single, the only one", vip, map[netip.Addr]netif.Held{vip: {Interface: "eth0", Bits: 32}, home: {Interface: "lo", Bits: 8}}, nil, "it is the node's own address: " + exclude},
		{"single, known to Kubernetes", vip, map[netip.Addr]netif.Held{vip: {Interface: "lo", Bits: 32}, home: {Interface: "lo", Bits: 8}}, []netip.Addr{vip}, "it is the node's own address: " + exclude},
		{"IPv6, single, beside a link-local one", vip6, map[netip.Addr]netif.Held{vip6: {Interface: "eth0", Bits: 128}, local6: {Interface: "eth0", Bits: 64}}, nil, "it is the node's own address: " + exclude},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := Check(Facts{Host: netif.Host{Held: tt.held}, Own: tt.own}, services{vip, vip6}, nil)
			want := []Finding{{AddressHeld, fmt.Sprintf("%s is configured on %s: the kernel answers for it even if another node announces it; %s", tt.addr, tt.held[tt.addr].Interface, tt.want)}}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Without Services of a family it does not matter whether the node forwards it.
func TestForwardingWithoutServices(t *testing.T) {
	f := Facts{Forwarding: map[lb.Family]bool{lb.IPv6: false}}
	if got := Check(f, services{netip.MustParseAddr("192.0.2.100")}, nil); len(got) > 0 {
		t.Errorf("found %v", got)
	}
}

// The message names the server only if it is known, and at most maxNamedLeases leases.
func TestLeaseMessages(t *testing.T) {
	router := netip.MustParseAddr("192.0.2.1")
	l := lb.Lease{Addr: netip.MustParseAddr("192.0.2.215"), Pool: "lan", Server: router, Client: "02:00:5e:00:53:01", Interface: "eth0"}
	const (
		named = "DHCP server 192.0.2.1 leases 192.0.2.215 of IPAddressPool lan to 02:00:5e:00:53:01 (seen on eth0)"
		fix   = ": remove the pool's addresses from the server's range, or add them to the pool's spec.excludes"
	)
	unnamed := l
	unnamed.Server = netip.Addr{}
	for want, leases := range map[string][]lb.Lease{
		named + fix: {l},
		"a DHCP server leased 192.0.2.215 of IPAddressPool lan to 02:00:5e:00:53:01, according to a request of that host (seen on eth0)" + fix: {unnamed},
		named + "; " + named + "; " + named + fix:                            {l, l, l},
		named + "; " + named + "; " + named + "; and 2 more addresses" + fix: {l, l, l, l, l},
	} {
		got := Check(Facts{Leases: leases}, services{}, nil)
		if diff := cmp.Diff([]Finding{{DHCPInPool, want}}, got); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
	}
}

// A setting for all interfaces applies to each one.
func TestReadSettings(t *testing.T) {
	root := t.TempDir()
	for name, value := range map[string]string{
		"proc/sys/net/ipv4/ip_forward":             "1\n",
		"proc/sys/net/ipv4/conf/all/rp_filter":     "1\n",
		"proc/sys/net/ipv4/conf/eth0/rp_filter":    "0\n",
		"proc/sys/net/ipv4/conf/eth0/arp_ignore":   "2\n",
		"proc/sys/net/ipv4/conf/wlan0/rp_filter":   "2\n",
		"sys/class/net/wlan0/wireless/placeholder": "",
	} {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var got Facts
	got.readSettings(root, []string{"eth0", "wlan0"})
	want := Facts{
		ARPIgnore: map[string]int{"eth0": 2, "wlan0": 0}, ReversePath: map[string]int{"eth0": 1, "wlan0": 2},
		Forwarding: map[lb.Family]bool{lb.IPv4: true}, Wireless: map[string]bool{"eth0": false, "wlan0": true},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}
