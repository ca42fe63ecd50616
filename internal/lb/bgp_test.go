package lb

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// A password is in no log and no dump.
func TestSecretIsNotPrinted(t *testing.T) {
	p := BGPPeer{Name: "tor", Password: "hunter2"}
	for _, verb := range []string{"%v", "%+v", "%#v"} {
		if s := fmt.Sprintf(verb, p); strings.Contains(s, "hunter2") || !strings.Contains(s, "(secret)") {
			t.Errorf("%s prints %s", verb, s)
		}
	}
	if b, err := json.Marshal(p); err != nil || strings.Contains(string(b), "hunter2") {
		t.Errorf("JSON has %s, %v", b, err)
	}
	if s := Secret("").String(); s != "" {
		t.Errorf("no secret prints %q", s)
	}
}

func TestRouterID(t *testing.T) {
	v4, v6 := netip.MustParseAddr("192.0.2.11"), netip.MustParseAddr("2001:db8::11")
	if id := RouterID("n1", []netip.Addr{v6, v4}); id != v4 {
		t.Errorf("got %v", id)
	}
	one, two := RouterID("n1", []netip.Addr{v6}), RouterID("n2", nil)
	if one == two || !one.Is4() || one != RouterID("n1", nil) {
		t.Errorf("got %v and %v: want two that differ and stay", one, two)
	}
}

func TestUniteCommunities(t *testing.T) {
	large := Community{Large: true, A: 1, B: 2, C: 3}
	got := UniteCommunities([]Community{large, {A: 65000, B: 2}}, nil, []Community{{A: 65000, B: 1}, large})
	if s := fmt.Sprint(got); s != "[65000:1 65000:2 large:1:2:3]" {
		t.Errorf("got %s", s)
	}
}

// A router tells sessions apart by the address that they come from, so two peers of one
// node are the same router unless one of these differs.
func TestBGPRouters(t *testing.T) {
	base := BGPPeer{Name: "first", Address: netip.MustParseAddr("192.0.2.1")}
	for name, tt := range map[string]struct {
		edit func(*BGPPeer)
		same bool
	}{
		"equal":                     {func(*BGPPeer) {}, true},
		"the default port by name":  {func(p *BGPPeer) { p.Port = 179 }, true},
		"another password and ASN":  {func(p *BGPPeer) { p.Password, p.PeerASN = "secret", 64513 }, true},
		"another port":              {func(p *BGPPeer) { p.Port = 1179 }, false},
		"another address":           {func(p *BGPPeer) { p.Address = netip.MustParseAddr("192.0.2.2") }, false},
		"another source":            {func(p *BGPPeer) { p.Source = netip.MustParseAddr("192.0.2.9") }, false},
		"another VRF":               {func(p *BGPPeer) { p.VRF = "red" }, false},
		"found behind an interface": {func(p *BGPPeer) { p.Interface = "eth0" }, false},
	} {
		routers := BGPRouters{}
		first, second := base, base
		second.Name = "second"
		tt.edit(&second)
		if other, taken := routers.Take(&first); taken {
			t.Fatalf("%s: the router of the first peer is taken by %q", name, other)
		}
		if other, taken := routers.Take(&second); taken != tt.same || taken && other != "first" {
			t.Errorf("%s: taken %v by %q, want %v", name, taken, other, tt.same)
		}
	}
}
