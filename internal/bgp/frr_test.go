package bgp

import (
	"testing"

	"github.com/fairlead/fairlead/internal/lb"
)

const frrBoth = `
router bgp 64513
 bgp router-id 192.0.2.1
 no bgp ebgp-requires-policy
 no bgp default ipv4-unicast
 bgp graceful-restart
 neighbor 192.0.2.11 remote-as 64512
 address-family ipv4 unicast
  neighbor 192.0.2.11 activate
 exit-address-family
 address-family ipv6 unicast
  neighbor 192.0.2.11 activate
 exit-address-family
`

func TestFRRSmoke(t *testing.T) {
	f := newRouter(t).frr(frrBoth)
	e := newEngine(t)
	e.Apply([]lb.BGPPeer{peer(nil)}, []lb.BGPRoute{route("198.51.100.1/32", nil), route("2001:db8:1::1/128", nil)})
	s := established(t, e, "tor")
	t.Logf("%+v", s)
	eventually(t, "routes", func() bool {
		return len(f.vtysh("show bgp ipv4 unicast 198.51.100.1/32 json")) > 50 && len(f.vtysh("show bgp ipv6 unicast 2001:db8:1::1/128 json")) > 50
	})
	t.Log(f.vtysh("show bgp ipv4 unicast 198.51.100.1/32"))
	t.Log(f.vtysh("show bgp ipv6 unicast 2001:db8:1::1/128"))
	t.Log(f.vtysh("show bgp neighbors 192.0.2.11 graceful-restart"))
}
