package plan

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead-lb/fairlead/internal/election"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/netif"
)

func nic(name string, up bool, prefixes ...string) netif.Interface {
	i := netif.Interface{Name: name, MAC: "02:00:00:00:00:" + fmt.Sprintf("%02x", len(name)), Up: up}
	for _, p := range prefixes {
		i.Prefixes = append(i.Prefixes, netip.MustParsePrefix(p))
	}
	return i
}

// Each address is announced on one interface of a subnet, the same for as long as that can
// serve.
func TestOneInterfacePerSubnet(t *testing.T) {
	const v4, w4, v6 = "192.0.2.11/24", "192.0.2.12/24", "2001:db8::11/64"
	fails := nic("eth0", true, v4)
	fails.Fails = []lb.Family{lb.IPv4}
	for _, tt := range []struct {
		name       string
		addr       string
		interfaces []netif.Interface
		adverts    [][]string // the interfaces of each; none for all
		on         []string   // where it is announced already
		want       []string
	}{
		{"the first by name", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4)}, nil, nil, []string{"eth0"}},
		{"in whatever order", "192.0.2.100", []netif.Interface{nic("eth1", true, w4), nic("eth0", true, v4)}, nil, nil, []string{"eth0"}},
		{"it stays", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4)}, nil, []string{"eth1"}, []string{"eth1"}},
		{"no carrier", "192.0.2.100", []netif.Interface{nic("eth0", false, v4), nic("eth1", true, w4)}, nil, []string{"eth0"}, []string{"eth1"}},
		{"back again", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4)}, nil, []string{"eth1"}, []string{"eth1"}},
		{"address removed", "192.0.2.100", []netif.Interface{nic("eth0", true), nic("eth1", true, w4)}, nil, []string{"eth0"}, []string{"eth1"}},
		{"cannot be opened", "192.0.2.100", []netif.Interface{fails, nic("eth1", true, w4)}, nil, []string{"eth0"}, []string{"eth1"}},
		{"renamed", "192.0.2.100", []netif.Interface{nic("lan0", true, v4), nic("lan1", true, w4)}, nil, []string{"eth1"}, []string{"lan0"}},
		{"both fail", "192.0.2.100", []netif.Interface{nic("eth0", false, v4), nic("eth1", false, w4)}, nil, []string{"eth0"}, nil},
		{"three", "192.0.2.100", []netif.Interface{nic("a", true, v4), nic("b", true, w4), nic("c", true, "192.0.2.13/24")}, nil, []string{"c"}, []string{"c"}},
		{"IPv6", "2001:db8::100", []netif.Interface{nic("eth0", true, v6), nic("eth1", true, "2001:db8::12/64")}, nil, []string{"eth1"}, []string{"eth1"}},
		{"a pattern names both", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4)}, [][]string{{"eth*"}}, nil, []string{"eth0"}},
		{"both are named: two networks", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4)}, [][]string{{"eth0", "eth1"}}, nil, []string{"eth0", "eth1"}},
		{"one is named", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4)}, [][]string{{"eth1"}}, nil, []string{"eth1"}},
		{"two advertisements name one each", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4)}, [][]string{{"eth0"}, {"eth1"}}, nil, []string{"eth0"}},
		{"other subnets too, by a pattern", "192.0.2.100", []netif.Interface{nic("eth0", true, v4), nic("eth1", true, w4), nic("eth2", true, "198.51.100.1/24")}, [][]string{{"eth*"}}, nil, []string{"eth0", "eth2"}},
		{"without an address, by a pattern", "192.0.2.100", []netif.Interface{nic("eth0", true), nic("eth1", true)}, [][]string{{"eth*"}}, nil, []string{"eth0", "eth1"}},
		{"subnets of two lengths", "10.1.0.100", []netif.Interface{nic("eth0", true, "10.0.0.1/8"), nic("eth1", true, "10.1.0.1/16")}, nil, nil, []string{"eth0", "eth1"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			addr := netip.MustParseAddr(tt.addr)
			if tt.adverts == nil {
				tt.adverts = [][]string{nil}
			}
			s := Snapshot{
				Node: "n1", Joined: true, Known: 1,
				Assignments: []lb.Assignment{{
					Service: lb.ServiceKey{Namespace: "default", Name: "web"}, Grants: []lb.Grant{{Addr: addr, Pool: "lan"}}, Ready: ready("n1"),
				}},
				Nodes:       map[string]lb.Node{"n1": {Name: "n1"}},
				Speakers:    map[string]Speaker{"n1": {Joined: true, Interfaces: tt.interfaces}},
				Claims:      map[netip.Addr]election.Claim{addr: {Owner: "n1", Epoch: 2}},
				AnnouncedOn: map[netip.Addr][]string{addr: tt.on},
			}
			for _, names := range tt.adverts {
				s.Advertisements = append(s.Advertisements, lb.L2Advertisement{Scope: lb.Scope{AllPools: true}, Interfaces: names})
			}
			var got []string
			for _, row := range Make(s).Announcements {
				got = append(got, row.Interfaces...)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("interfaces (-want +got):\n%s", diff)
			}
		})
	}
}

// Who asks on the other interface is remembered too, so that they can be told when the
// address moves there.
func TestStandbyHasAllInterfacesOfASubnet(t *testing.T) {
	addr := netip.MustParseAddr("192.0.2.100")
	s := Snapshot{
		Node: "n1", Joined: true, Known: 1,
		Assignments:    []lb.Assignment{{Service: lb.ServiceKey{Name: "web"}, Grants: []lb.Grant{{Addr: addr, Pool: "lan"}}, Ready: ready("n1")}},
		Advertisements: []lb.L2Advertisement{{Scope: lb.Scope{AllPools: true}}},
		Nodes:          map[string]lb.Node{"n1": {Name: "n1"}},
		Speakers:       map[string]Speaker{"n1": {Joined: true, Interfaces: []netif.Interface{nic("eth0", true, "192.0.2.11/24"), nic("eth1", true, "192.0.2.12/24")}}},
	}
	if diff := cmp.Diff([]string{"eth0", "eth1"}, Make(s).Standby); diff != "" {
		t.Errorf("standby (-want +got):\n%s", diff)
	}
}
