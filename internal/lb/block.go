package lb

import (
	"cmp"
	"fmt"
	"net/netip"
)

// Block says what has an address already, so that it is assigned to no Service and
// no claim.
type Block struct {
	// Reason is ReasonAddressOfNode, ReasonAddressOfRouter, ReasonAddressOfService,
	// ReasonSubnetAddress, or ReasonConflict for a host outside of the cluster.
	Reason Reason
	Holder string // what has it, for people: "node n1 (eth0)"
	// Service is the Service with a field that has the address; zero where none is. That
	// Service can have the address assigned all the same, and share it.
	Service ServiceKey
}

// Compare orders blocks: those first that leave the address unusable.
func (b Block) Compare(o Block) int {
	return cmp.Or(cmp.Compare(b.Reason, o.Reason), cmp.Compare(b.Holder, o.Holder), b.Service.Compare(o.Service))
}

// String returns a phrase such as "node n1 (eth0) has the address".
func (b Block) String() string {
	if b.Reason == ReasonSubnetAddress {
		return "it is " + b.Holder
	}
	return b.Holder + " has the address"
}

// Fix says what to do so that a Service gets a usable address.
func (b Block) Fix() string { return b.Reason.Fix() }

// Unusable reports whether clients cannot reach a Service at an address with this
// block: a machine with the address answers for it too, or no host can use it. A Service
// that has it in a field only takes the ports that it names.
func (b Block) Unusable() bool { return b.Reason != ReasonAddressOfService }

// Blocked is an address that is assigned and has a block all the same: it came later.
type Blocked struct {
	Addr netip.Addr
	Block
}

// String returns a sentence with the fix.
func (b Blocked) String() string { return b.Words() + "; " + b.Fix() }

// Words returns the sentence without the fix.
func (b Blocked) Words() string {
	if !b.Unusable() {
		return fmt.Sprintf("%s is in use elsewhere too: %s", b.Addr, b.Block)
	}
	return fmt.Sprintf("%s cannot be used: %s", b.Addr, b.Block)
}
