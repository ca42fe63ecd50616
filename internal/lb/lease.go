package lb

import "net/netip"

// Lease is an address of a pool that a DHCP server gives to a host, as was heard on
// the network.
type Lease struct {
	Addr      netip.Addr
	Pool      string     // that has the address
	Server    netip.Addr // not valid where only the host was heard, and did not name it
	Client    string     // the host's hardware address, in the form of net.HardwareAddr.String
	Interface string     // of the node, on which it was heard
}
