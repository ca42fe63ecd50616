package lb

import (
	"cmp"
	"fmt"
)

// Reason is why a Service has no address, or why a node does not announce one.
// The zero Reason is none. What each means, and what to do about it, is in reasonTable.
type Reason uint8

// Reasons of the allocator: why a Service or a claim lacks an address.
const (
	ReasonAssigned Reason = iota + 1
	ReasonNoPool
	ReasonNoPoolFits
	ReasonUnknownPool
	ReasonPoolDisabled
	ReasonPoolDeleting
	ReasonPoolOverlap
	ReasonNotAutoAssign
	ReasonNamespaceNotAllowed
	ReasonServiceNotSelected
	ReasonFamilyAbsent
	ReasonExhausted
	ReasonAddressInUse
	ReasonAddressNotInPool
	ReasonFamilyMismatch
	ReasonInvalidRequest
	ReasonStatusOverwritten
	ReasonForeignAddress
	ReasonQuota
	ReasonPortConflict
	ReasonKeyDiffers
	ReasonSharingNotAllowed
	ReasonBackendsDiffer
	ReasonClaimNotFound
	ReasonClaimInUse
	ReasonClaimPending
	ReasonClaimDeleting
	ReasonClaimLacksFamily
	ReasonAddressOfNode
	ReasonAddressOfRouter
	ReasonSubnetAddress
	ReasonAddressOfService
)

// Why the allocator gave this address and no other.
const (
	ReasonKept Reason = iota + 40
	ReasonLowest
	ReasonFreedLongest
	ReasonNamed
	ReasonShared
	ReasonClaimed
)

// Reasons of the speakers: why an address is not announced, by any node or by one
// that the message names.
const (
	ReasonAnnounced Reason = iota + 64
	ReasonNoAdvertisement
	ReasonNotOwner
	ReasonNodeNotSelected
	ReasonNodeExcluded
	ReasonNodeNoNetwork
	ReasonNodeCordoned
	ReasonNodeShutdown
	ReasonNodeNotMember
	ReasonNodeLeaving
	ReasonNoInterface
	ReasonInterfaceFails
	ReasonNoReadyEndpoint
	ReasonNoEndpoints
	ReasonNoCandidate
	ReasonNotJoined
	ReasonConflict
	ReasonNodeDrained
	ReasonProxyUnhealthy
	ReasonNotAssigned
	ReasonNoPeer
	ReasonNotEstablished
	ReasonNoSubnet
	ReasonInterfaceDown
)

// String returns the reason in the form of a Kubernetes condition's reason.
func (r Reason) String() string {
	if s := reasonTexts[r].Name; s != "" {
		return s
	}
	return fmt.Sprintf("Reason%d", uint8(r))
}

// Fix returns what to do about the reason, or "" when that is nothing. NAME in it is the
// node, and PEER the BGPPeer.
func (r Reason) Fix() string { return reasonTexts[r].Fix }

// FixOn is Fix for a node, or several, separated by spaces.
func (r Reason) FixOn(node string) string { return reasonTexts[r].FixOn(node) }

// Text returns the reason's entry in the table.
func (r Reason) Text() ReasonText { return reasonTexts[r] }

// WordsFor is as Words, and names the address family where the reason depends on it.
func (r Reason) WordsFor(f Family) string {
	of := "ready"
	if f != 0 {
		of += " " + f.String()
	}
	switch r {
	case ReasonNoReadyEndpoint:
		return "has no " + of + " endpoint (externalTrafficPolicy: Local)"
	case ReasonNoEndpoints:
		return "the Service has no " + of + " endpoint"
	default:
		return r.Words()
	}
}

// Words says a speaker's reason about a node, or the allocator's about a choice, in words.
// Nothing is said of a choice that was none.
func (r Reason) Words() string {
	switch r {
	case ReasonKept, ReasonClaimed:
		return ""
	case ReasonNoReadyEndpoint, ReasonNoEndpoints:
		return r.WordsFor(0)
	default:
		return cmp.Or(reasonTexts[r].Words, r.String())
	}
}
