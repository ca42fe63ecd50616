// Package layer2 answers ARP and NDP for the addresses that this node owns, and sends
// gratuitous ARP and unsolicited advertisements when the node takes an address over.
//
// Announcer.Apply takes the desired rows and changes only what differs from the rows before.
// No other package imports the ARP and NDP libraries.
package layer2
