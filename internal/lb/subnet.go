package lb

import "net/netip"

// Reserved is an address of a subnet that no host can use.
type Reserved struct {
	Addr netip.Addr
	Name string // "the broadcast address"
}

// SubnetReserved returns the addresses of a subnet that no host can use: of IPv4 that of the
// network and that for broadcasts (RFC 919), except in subnets of two addresses (RFC 3021) and
// of one; of IPv6 the Subnet-Router anycast address (RFC 4291, 2.6.1), to which every router
// of the subnet answers, except where it is between two routers (RFC 6164).
func SubnetReserved(p netip.Prefix) []Reserved {
	if !p.IsValid() || p.Bits() == 0 || p.Addr().BitLen()-p.Bits() < 2 {
		return nil
	}
	first := p.Masked().Addr()
	if first.Is6() {
		return []Reserved{{first, "the Subnet-Router anycast address"}}
	}
	return []Reserved{{first, "the network address"}, {lastOf(p.Masked()), "the broadcast address"}}
}

// lastOf returns the last address of an IPv4 subnet.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().As4()
	for bit := p.Bits(); bit < 32; bit++ {
		b[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(b)
}
