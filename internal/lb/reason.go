package lb

import "fmt"

// Reason is why a Service has no address, or why a node does not announce one.
// The zero Reason is none.
type Reason uint8

// Reasons of the allocator: why a Service or a claim lacks an address.
//
// On: Service fairlead.dev/AddressAssigned, IPAddressClaim Ready
const (
	// ReasonAssigned: the Service has what it asked for.
	//
	// Fix: nothing to do.
	ReasonAssigned Reason = iota + 1

	// ReasonNoPool: there is no pool at all.
	//
	// Fix: create an IPAddressPool.
	ReasonNoPool

	// ReasonNoPoolFits: each pool refused for a reason of its own.
	//
	// Fix: read the message: it has the reason of each pool.
	ReasonNoPoolFits

	// ReasonUnknownPool: the Service names a pool that does not exist.
	//
	// Fix: correct the name in the annotation fairlead.dev/address-pool, or create the
	// pool.
	ReasonUnknownPool

	// ReasonPoolDisabled: the pool gives nothing new.
	//
	// Fix: take spec.disabled out of the pool, or ask for another one.
	ReasonPoolDisabled

	// ReasonPoolDeleting: the pool is being deleted, and waits for its last address.
	//
	// Fix: ask for another pool, or create one with other addresses.
	ReasonPoolDeleting

	// ReasonPoolOverlap: an older pool has some of the same addresses.
	//
	// Fix: change spec.addresses of one of the two.
	ReasonPoolOverlap

	// ReasonNotAutoAssign: the pool serves only Services that name it.
	//
	// Fix: name it in the annotation fairlead.dev/address-pool, or take autoAssign: false
	// out of the pool.
	ReasonNotAutoAssign

	// ReasonNamespaceNotAllowed: the pool is not for Services of this namespace.
	//
	// Fix: add the namespace to serviceAllocation.namespaces or namespaceSelectors of the
	// pool.
	ReasonNamespaceNotAllowed

	// ReasonServiceNotSelected: the pool is not for Services with these labels.
	//
	// Fix: label the Service, or change serviceAllocation.serviceSelectors of the pool.
	ReasonServiceNotSelected

	// ReasonFamilyAbsent: the pool has no addresses of the family.
	//
	// Fix: add some to the pool, or change spec.ipFamilies of the Service.
	ReasonFamilyAbsent

	// ReasonExhausted: all addresses of the family are in use.
	//
	// Fix: add addresses to the pool; who has waited longest gets the next that is freed.
	ReasonExhausted

	// ReasonAddressInUse: the exact address is another's.
	//
	// Fix: ask for another address, or free this one; the message says who has it.
	ReasonAddressInUse

	// ReasonAddressNotInPool: the exact address is not the pool's to give.
	//
	// Fix: add it to a pool, or ask for another address.
	ReasonAddressNotInPool

	// ReasonFamilyMismatch: the exact address is of a family that the Service does not ask for.
	//
	// Fix: ask for one of spec.ipFamilies, or change those.
	ReasonFamilyMismatch

	// ReasonInvalidRequest: an annotation or field of the Service cannot be understood.
	//
	// Fix: correct it; the message names it. What the Service has it keeps.
	ReasonInvalidRequest

	// ReasonStatusOverwritten: another controller overwrites status.loadBalancer of the
	// Service again and again. Speakers keep announcing the address; kube-proxy serves what
	// the status has, so traffic may fail.
	//
	// Fix: stop the other controller, or set spec.loadBalancerClass so that only one of the two handles the Service; the message names its field manager.
	ReasonStatusOverwritten

	// ReasonForeignAddress: the Service asks for Fairlead and has an address in its status
	// that Fairlead did not assign and no pool has. Fairlead does not touch it.
	//
	// Fix: add the address to a pool, or remove it from status.loadBalancer; then Fairlead assigns one.
	ReasonForeignAddress

	// ReasonQuota: the namespace has as many addresses of the pool as it can have.
	//
	// Fix: raise maxPerNamespace of the pool, or delete a Service.
	ReasonQuota

	// ReasonPortConflict: who has the address uses one of the ports too.
	//
	// Fix: use another port, or another address.
	ReasonPortConflict

	// ReasonKeyDiffers: who has the address shares it by another key, or not at all.
	//
	// Fix: write the same fairlead.dev/allow-shared-ip on both.
	ReasonKeyDiffers

	// ReasonSharingNotAllowed: the pool's sharing does not allow it.
	//
	// Fix: change sharing of the pool, or use another address.
	ReasonSharingNotAllowed

	// ReasonBackendsDiffer: externalTrafficPolicy is Local, and the Services do not have the same pods.
	//
	// Fix: give both the same selector and externalTrafficPolicy.
	ReasonBackendsDiffer

	// ReasonClaimNotFound: the Service names an IPAddressClaim that does not exist.
	//
	// Fix: create it in the Service's namespace, or correct the annotation
	// fairlead.dev/claim.
	ReasonClaimNotFound

	// ReasonClaimInUse: another Service has the claim's addresses.
	//
	// Fix: take the annotation off the other Service, or make a claim of its own.
	ReasonClaimInUse

	// ReasonClaimPending: the claim itself waits for an address.
	//
	// Fix: see the claim's condition Ready.
	ReasonClaimPending

	// ReasonClaimDeleting: the claim is on its way out.
	//
	// Fix: create another one.
	ReasonClaimDeleting

	// ReasonClaimLacksFamily: the claim keeps no address of the family.
	//
	// Fix: make a claim with the families of the Service; the spec of a claim cannot be
	// changed.
	ReasonClaimLacksFamily

	// ReasonAddressOfNode: a node of the cluster holds the exact address.
	//
	// Fix: ask for another address, and add this one to spec.excludes of the pool; the
	// message names the node.
	ReasonAddressOfNode

	// ReasonAddressOfRouter: a router holds the exact address: a default gateway of nodes, or a BGP peer.
	//
	// Fix: ask for another address, and add this one to spec.excludes of the pool.
	ReasonAddressOfRouter

	// ReasonSubnetAddress: no host can use the exact address: it is the network or broadcast address of a
	// subnet of the nodes, or its Subnet-Router anycast address (RFC 4291, 2.6.1).
	//
	// Fix: ask for another address, and add this one to spec.excludes of the pool.
	ReasonSubnetAddress

	// ReasonAddressOfService: a Service has the exact address in a field that Fairlead does not assign:
	// clusterIPs, externalIPs, or what another controller wrote.
	//
	// Fix: ask for another address, or remove it from that Service; the message names it.
	ReasonAddressOfService
)

// Why the allocator gave this address and no other.
//
// On: the event Assigned of a Service
const (
	// ReasonKept: the Service, or claim, had it.
	//
	// Fix: nothing to do.
	ReasonKept Reason = iota + 40

	// ReasonLowest: it is the lowest that is free.
	//
	// Fix: nothing to do.
	ReasonLowest

	// ReasonFreedLongest: none was free for a minute; this one was for longest.
	//
	// Fix: nothing to do; a larger pool would have spared clients that still know the
	// address from its last user.
	ReasonFreedLongest

	// ReasonNamed: the request names the address.
	//
	// Fix: nothing to do.
	ReasonNamed

	// ReasonShared: others of the same key have it, and the ports differ.
	//
	// Fix: nothing to do.
	ReasonShared

	// ReasonClaimed: the claim keeps it.
	//
	// Fix: nothing to do.
	ReasonClaimed
)

// Reasons of the speakers: why an address is not announced, by any node or by one
// that the message names.
//
// On: Service fairlead.dev/Announced
const (
	// ReasonAnnounced: the address is announced.
	//
	// Fix: nothing to do.
	ReasonAnnounced Reason = iota + 64

	// ReasonNoAdvertisement: no advertisement selects the Service's pool and labels.
	//
	// Fix: create an L2Advertisement or a BGPAdvertisement, or change the selectors of
	// one.
	ReasonNoAdvertisement

	// ReasonNotOwner: another node announces the address; on a Service, no node has said yet that it does.
	//
	// Fix: nothing to do; if it stays, see the Speakers of the nodes that the message
	// names.
	ReasonNotOwner

	// ReasonNodeNotSelected: the advertisements' nodeSelectors leave the node out.
	//
	// Fix: label the node, or change nodeSelectors.
	ReasonNodeNotSelected

	// ReasonNodeExcluded: the node has the label node.kubernetes.io/exclude-from-external-load-balancers.
	//
	// Fix: take the label off the node, if it is to announce.
	ReasonNodeExcluded

	// ReasonNodeNoNetwork: the node has the condition NetworkUnavailable.
	//
	// Fix: see to the network plugin of the node.
	ReasonNodeNoNetwork

	// ReasonNodeCordoned: the node is cordoned.
	//
	// Fix: kubectl uncordon it; it announces only while no better node is available.
	ReasonNodeCordoned

	// ReasonNodeShutdown: the node is shut down or being shut down.
	//
	// Fix: start it; or delete the Node, if it is gone for good.
	ReasonNodeShutdown

	// ReasonNodeNotMember: no speaker of the node is alive in the gossip.
	//
	// Fix: see to the speaker's pod, and that port 7946, UDP and TCP, is open between the
	// nodes.
	ReasonNodeNotMember

	// ReasonNodeLeaving: the node's speaker is shutting down.
	//
	// Fix: nothing to do.
	ReasonNodeLeaving

	// ReasonNoInterface: no interface of the node is in the address's subnet, or is one that the
	// advertisement names.
	//
	// Fix: name the interface in the advertisement's interfaces, or use addresses of the
	// subnet.
	ReasonNoInterface

	// ReasonInterfaceFails: the node cannot open its interface for ARP, or for NDP, as its
	// Speaker says.
	//
	// Fix: read the Speaker's condition Ready; IPv6 may be disabled on the interface.
	ReasonInterfaceFails

	// ReasonNoReadyEndpoint: the Service has no ready endpoint of the address's family on the node, and externalTrafficPolicy is Local.
	//
	// Fix: run a pod there, or set externalTrafficPolicy: Cluster.
	ReasonNoReadyEndpoint

	// ReasonNoEndpoints: no endpoint of the Service in the address's family is ready anywhere.
	//
	// Fix: see to its pods, and to the Service's selector; if the message names IPv4 or
	// IPv6 and the other works, give the pods addresses of both families, or take the
	// family out of spec.ipFamilies of the Service.
	ReasonNoEndpoints

	// ReasonNoCandidate: every node is rejected for a reason of its own.
	//
	// Fix: read the message: it has the reason of each node.
	ReasonNoCandidate

	// ReasonNotJoined: the node's speaker has not found the others yet.
	//
	// Fix: nothing to do for a few seconds; then see that port 7946, UDP and TCP, is open
	// between the nodes.
	ReasonNotJoined

	// ReasonConflict: a host outside of the cluster has the address.
	//
	// Fix: take the address from that host, or out of the pool; the message has its MAC
	// address.
	ReasonConflict

	// ReasonNodeDrained: a user drained the node's speaker.
	//
	// Fix: take the annotation fairlead.dev/drain off the Speaker.
	ReasonNodeDrained

	// ReasonProxyUnhealthy: the node's kube-proxy says so, or says nothing any more.
	//
	// Fix: see to kube-proxy on the node.
	ReasonProxyUnhealthy

	// ReasonNotAssigned: no Service has the address.
	//
	// Fix: correct the address in the annotation.
	ReasonNotAssigned

	// ReasonNoPeer: the node has no BGPPeer that the advertisements name.
	//
	// Fix: change nodeSelectors of the BGPPeer, or peers of the BGPAdvertisement.
	ReasonNoPeer

	// ReasonNotEstablished: no BGP session of the node that should announce the address is up.
	//
	// Fix: see the condition Ready of the BGPPeers.
	ReasonNotEstablished

	// ReasonNoSubnet: no node has a subnet with the address, and the L2Advertisement names no interfaces.
	//
	// Fix: use addresses of one of the nodes' subnets, which the message lists; or name
	// interfaces in the L2Advertisement, if the address is routed to the nodes' network.
	ReasonNoSubnet

	// ReasonInterfaceDown: the node's interface in the address's subnet, or that the advertisement names, is down.
	//
	// Fix: plug the cable in, or bring the interface up.
	ReasonInterfaceDown
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
	ReasonStatusOverwritten:   "StatusOverwritten",
	ReasonForeignAddress:      "ForeignAddress",
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
	ReasonAddressOfNode:       "AddressOfNode",
	ReasonAddressOfRouter:     "AddressOfRouter",
	ReasonSubnetAddress:       "SubnetAddress",
	ReasonAddressOfService:    "AddressOfService",

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
	ReasonInterfaceFails:  "InterfaceFails",
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
	ReasonNoPeer:          "NoPeer",
	ReasonNotEstablished:  "NotEstablished",
	ReasonNoSubnet:        "NoSubnet",
	ReasonInterfaceDown:   "InterfaceDown",
}

// String returns the reason in the form of a Kubernetes condition's reason.
func (r Reason) String() string {
	if s, ok := reasonNames[r]; ok {
		return s
	}
	return fmt.Sprintf("Reason%d", uint8(r))
}

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
		return "has no interface in the address's subnet, or that the advertisement names"
	case ReasonInterfaceDown:
		return "has an interface for the address, but it is down"
	case ReasonNoSubnet:
		return "no node has a subnet with the address"
	case ReasonInterfaceFails:
		return "cannot open its interface, as its Speaker says"
	case ReasonNoReadyEndpoint, ReasonNoEndpoints:
		return r.WordsFor(0)
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
