// Package dhcpwatch detects DHCP leases of addresses that are in pools. A pool that overlaps
// a DHCP server's range works until a host gets the address of a Service.
//
// It receives and never sends: hosts request their addresses by broadcast, which every node
// of the network receives (RFC 2131). Leases of other addresses are not kept.
package dhcpwatch
