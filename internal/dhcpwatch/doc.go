// Package dhcpwatch hears which addresses of pools DHCP servers give to hosts. A pool
// that overlaps a server's range works until a phone gets the address of a Service.
//
// It listens and never sends: hosts ask for their addresses by broadcast, which every
// node of the network hears (RFC 2131). What is said of other addresses than those of
// pools is not kept.
package dhcpwatch
