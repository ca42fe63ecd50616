// Package layer2 answers ARP and NDP for the addresses that this node owns, and
// tells the network when it becomes the owner of one.
//
// It is given the rows that should be announced and makes it so; what it holds
// already costs nothing. It is the only package that imports the ARP and NDP
// libraries.
package layer2
