package plan

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestStanding(t *testing.T) {
	at := func(node, addr string, created int64) Endpoint {
		return Endpoint{Node: node, Addr: netip.MustParseAddrPort(addr), Created: created}
	}
	away := func(e Endpoint) Endpoint {
		e.Away = true
		return e
	}
	tests := []struct {
		name string
		all  []Endpoint
		want map[string]Standing // of those that do not simply take part
	}{
		{"each has its own", []Endpoint{at("n1", "192.0.2.1:7946", 1), at("n2", "192.0.2.2:7946", 1)}, nil},
		{
			"Vagrant: all have one",
			[]Endpoint{at("n1", "10.0.2.15:7946", 7), at("n2", "10.0.2.15:7946", 5), at("n3", "10.0.2.15:7946", 6)},
			map[string]Standing{
				"n1": {Out: true, Same: []string{"n2", "n3"}},
				"n2": {Same: []string{"n1", "n3"}},
				"n3": {Out: true, Same: []string{"n1", "n2"}},
			},
		},
		{
			"created in the same second: the name decides",
			[]Endpoint{at("n2", "10.0.2.15:7946", 5), at("n1", "10.0.2.15:7946", 5)},
			map[string]Standing{"n1": {Same: []string{"n2"}}, "n2": {Out: true, Same: []string{"n1"}}},
		},
		{"a port of its own is another endpoint", []Endpoint{at("n1", "10.0.2.15:7946", 1), at("n2", "10.0.2.15:7947", 2)}, nil},
		{
			"left over from a renamed node",
			[]Endpoint{away(at("old", "192.0.2.1:7946", 1)), at("new", "192.0.2.1:7946", 2)},
			map[string]Standing{"old": {Same: []string{"new"}}},
		},
		{
			"one of four is of another family",
			[]Endpoint{at("n1", "[2001:db8::1]:7946", 1), at("n2", "192.0.2.2:7946", 2), at("n3", "192.0.2.3:7946", 3), at("n4", "192.0.2.4:7946", 4)},
			map[string]Standing{
				"n1": {Out: true, Unreachable: []string{"n2", "n3", "n4"}},
				"n2": {Unreachable: []string{"n1"}},
				"n3": {Unreachable: []string{"n1"}},
				"n4": {Unreachable: []string{"n1"}},
			},
		},
		{
			"as many of each family: the oldest decides",
			[]Endpoint{at("n1", "192.0.2.1:7946", 2), at("n2", "[2001:db8::2]:7946", 1)},
			map[string]Standing{"n1": {Out: true, Unreachable: []string{"n2"}}, "n2": {Unreachable: []string{"n1"}}},
		},
		{
			"two swap addresses, and one has not heard of it",
			[]Endpoint{at("n1", "192.0.2.2:7946", 1), at("n2", "192.0.2.2:7946", 2)},
			map[string]Standing{"n1": {Same: []string{"n2"}}, "n2": {Out: true, Same: []string{"n1"}}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			for _, e := range tt.all {
				if diff := cmp.Diff(tt.want[e.Node], StandingOf(e, tt.all)); diff != "" {
					t.Errorf("%s (-want +got)\n%s", e.Node, diff)
				}
			}
		})
	}
}

// Whatever the endpoints are, those that take part can talk to each other.
func TestOnlyOneSideTakesPart(t *testing.T) {
	addrs := []string{"192.0.2.1:7946", "192.0.2.2:7946", "[2001:db8::1]:7946", "[2001:db8::2]:7946"}
	const nodes = 4
	for n := range 1 << (2 * nodes) {
		var all []Endpoint
		for i := range nodes {
			all = append(all, Endpoint{Node: string(rune('a' + i)), Addr: netip.MustParseAddrPort(addrs[n>>(2*i)&3]), Created: int64(i * n % 3)})
		}
		var in []Endpoint
		for _, e := range all {
			if !StandingOf(e, all).Out {
				in = append(in, e)
			}
		}
		if len(in) == 0 {
			t.Fatalf("%v: none takes part", all)
		}
		for i, e := range in {
			apart := slices.ContainsFunc(in[i+1:], func(o Endpoint) bool { return o.Addr == e.Addr || o.Addr.Addr().Is4() != e.Addr.Addr().Is4() })
			if apart {
				t.Fatalf("%v: both sides take part: %v", all, in)
			}
		}
	}
}
