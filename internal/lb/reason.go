package lb

import "fmt"

// Reason is why a Service has no address, or why a node does not announce one.
// The zero Reason is none.
type Reason uint8

// Reasons of the allocator.
const (
	ReasonAssigned            Reason = iota + 1
	ReasonNoPool                     // there is no pool at all
	ReasonNoPoolFits                 // each pool refused for a reason of its own
	ReasonUnknownPool                // the Service names a pool that does not exist
	ReasonPoolDisabled               // spec.disabled
	ReasonPoolDeleting               // the pool waits for its last address
	ReasonPoolOverlap                // an older pool has some of the same addresses
	ReasonNotAutoAssign              // the pool serves only Services that name it
	ReasonNamespaceNotAllowed        // serviceAllocation.namespaces, namespaceSelectors
	ReasonServiceNotSelected         // serviceAllocation.serviceSelectors
	ReasonFamilyAbsent               // the pool has no addresses of the family
	ReasonExhausted                  // all addresses of the family are in use
	ReasonAddressInUse               // the exact address is another Service's
	ReasonAddressNotInPool           // the exact address is not the pool's to give
	ReasonFamilyMismatch             // the exact address is of a family not wanted
	ReasonInvalidRequest             // an annotation or field cannot be understood
	ReasonQuota                      // maxPerNamespace
	ReasonPortConflict               // who has the address uses one of the ports too
	ReasonKeyDiffers                 // who has the address shares it by another key
	ReasonSharingNotAllowed          // the pool's sharing
	ReasonBackendsDiffer             // externalTrafficPolicy Local and not the same pods
	ReasonClaimNotFound              // the Service names an IPAddressClaim that does not exist
	ReasonClaimInUse                 // another Service has the claim's addresses
	ReasonClaimPending               // the claim itself waits for an address
	ReasonClaimDeleting              // the claim is on its way out
	ReasonClaimLacksFamily           // the claim keeps no address of the family
)

// Why the allocator gave this address and no other.
const (
	ReasonKept         Reason = iota + 40 // the holder had it
	ReasonLowest                          // the lowest free address
	ReasonFreedLongest                    // none was free for a minute; this one was for longest
	ReasonNamed                           // the request names the address
	ReasonShared                          // others of the same key have it, and the ports differ
	ReasonClaimed                         // the claim keeps it
)

// Reasons of the speaker, about one node and one address.
const (
	ReasonAnnounced       Reason = iota + 64
	ReasonNoAdvertisement        // no advertisement selects the Service's pool and labels
	ReasonNotOwner               // another node announces the address
	ReasonNodeNotSelected        // the advertisements' nodeSelectors leave the node out
	ReasonNodeExcluded           // label exclude-from-external-load-balancers
	ReasonNodeNoNetwork          // node condition NetworkUnavailable
	ReasonNodeCordoned           // spec.unschedulable
	ReasonNodeShutdown           // taint out-of-service or shutdown
	ReasonNodeNotMember          // no speaker of the node is alive in the gossip
	ReasonNodeLeaving            // the node's speaker is shutting down
	ReasonNoInterface            // no interface that is up has the address's subnet
	ReasonNoReadyEndpoint        // externalTrafficPolicy Local without an endpoint here
	ReasonNoEndpoints            // no endpoint of the Service is ready anywhere
	ReasonNoCandidate            // every node is rejected for a reason of its own
	ReasonNotJoined              // the speaker has not found the others yet
	ReasonConflict               // a host outside of the cluster has the address
	ReasonNodeDrained            // a user drained the node's speaker
	ReasonProxyUnhealthy         // the node's kube-proxy says so, or says nothing any more
	ReasonNotAssigned            // no Service has the address
	ReasonNoPeer                 // no BGPPeer that the advertisements name is for the node
	ReasonNotEstablished         // no BGP session of the node that should announce it is up
)

var reasonNames = map[Reason]string{
	ReasonAssigned:            "Assigned",
	ReasonNoPool:              "NoPool",
	ReasonNoPoolFits:          "NoPoolFits",
	ReasonUnknownPool:         "UnknownPool",
	ReasonPoolDisabled:        "PoolDisabled",
	ReasonPoolDeleting:        "PoolDeleting",
	ReasonPoolOverlap:         "PoolOverlap",
	ReasonNotAutoAssign:       "NotAutoAssign",
	ReasonNamespaceNotAllowed: "NamespaceNotAllowed",
	ReasonServiceNotSelected:  "ServiceNotSelected",
	ReasonFamilyAbsent:        "FamilyAbsent",
	ReasonExhausted:           "Exhausted",
	ReasonAddressInUse:        "AddressInUse",
	ReasonAddressNotInPool:    "AddressNotInPool",
	ReasonFamilyMismatch:      "FamilyMismatch",
	ReasonInvalidRequest:      "InvalidRequest",
	ReasonQuota:               "NamespaceQuota",
	ReasonPortConflict:        "PortConflict",
	ReasonKeyDiffers:          "SharingKeyDiffers",
	ReasonSharingNotAllowed:   "SharingNotAllowed",
	ReasonBackendsDiffer:      "BackendsDiffer",
	ReasonClaimNotFound:       "ClaimNotFound",
	ReasonClaimInUse:          "ClaimInUse",
	ReasonClaimPending:        "ClaimPending",
	ReasonClaimDeleting:       "ClaimDeleting",
	ReasonClaimLacksFamily:    "ClaimLacksFamily",

	ReasonKept:         "Kept",
	ReasonLowest:       "LowestFree",
	ReasonFreedLongest: "FreedLongest",
	ReasonNamed:        "Named",
	ReasonShared:       "Shared",
	ReasonClaimed:      "Claimed",

	ReasonAnnounced:       "Announced",
	ReasonNoAdvertisement: "NoAdvertisement",
	ReasonNotOwner:        "NotOwner",
	ReasonNodeNotSelected: "NodeNotSelected",
	ReasonNodeExcluded:    "NodeExcluded",
	ReasonNodeNoNetwork:   "NodeNetworkUnavailable",
	ReasonNodeNotMember:   "NodeNotMember",
	ReasonNodeLeaving:     "NodeLeaving",
	ReasonNoInterface:     "NoInterface",
	ReasonNoReadyEndpoint: "NoReadyEndpoint",
	ReasonNoEndpoints:     "NoEndpoints",
	ReasonNodeCordoned:    "NodeCordoned",
	ReasonNodeShutdown:    "NodeShutdown",
	ReasonNoCandidate:     "NoCandidate",
	ReasonNotJoined:       "NotJoined",
	ReasonConflict:        "Conflict",
	ReasonNodeDrained:     "NodeDrained",
	ReasonProxyUnhealthy:  "KubeProxyUnhealthy",
	ReasonNotAssigned:     "NotAssigned",
}

// String returns the reason in the form of a Kubernetes condition's reason.
func (r Reason) String() string {
	if s, ok := reasonNames[r]; ok {
		return s
	}
	return fmt.Sprintf("Reason%d", uint8(r))
}

// Words says a speaker's reason about a node, or the allocator's about a
// choice, in words.
func (r Reason) Words() string {
	switch r {
	case ReasonKept, ReasonClaimed:
		return ""
	case ReasonLowest:
		return "the lowest that is free"
	case ReasonFreedLongest:
		return "the one that has been free for longest"
	case ReasonNamed:
		return "as asked for"
	case ReasonShared:
		return "shared by its key"
	case ReasonNoAdvertisement:
		return "no L2Advertisement or BGPAdvertisement selects the Service"
	case ReasonNotOwner:
		return "another node announces it"
	case ReasonNodeNotSelected:
		return "not selected by the advertisement's nodeSelectors"
	case ReasonNodeExcluded:
		return "has the label node.kubernetes.io/exclude-from-external-load-balancers"
	case ReasonNodeNoNetwork:
		return "has the condition NetworkUnavailable"
	case ReasonNodeNotMember:
		return "its speaker is not alive"
	case ReasonNodeLeaving:
		return "its speaker is shutting down"
	case ReasonNoInterface:
		return "has no chosen interface that is up in the address's subnet"
	case ReasonNoReadyEndpoint:
		return "has no ready endpoint (externalTrafficPolicy: Local)"
	case ReasonNoEndpoints:
		return "the Service has no ready endpoint"
	case ReasonNodeCordoned:
		return "is cordoned"
	case ReasonNodeShutdown:
		return "is shut down or being shut down"
	case ReasonNoCandidate:
		return "no node can announce it"
	case ReasonConflict:
		return "a host outside of the cluster has the address"
	case ReasonNotJoined:
		return "its speaker has not found the others yet"
	case ReasonNodeDrained:
		return "is drained by the annotation fairlead.dev/drain of its Speaker"
	case ReasonProxyUnhealthy:
		return "its kube-proxy is not healthy"
	case ReasonNotAssigned:
		return "no Service has it"
	case ReasonNoPeer:
		return "has no BGPPeer that is to be told"
	case ReasonNotEstablished:
		return "has no BGP session that is up with a router that is to be told"
	default:
		return r.String()
	}
}
