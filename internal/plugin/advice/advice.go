// Package advice says what to do next about each reason for which an address is
// missing, or is not announced.
package advice

import (
	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// fixes are what to do about a reason of the allocator or of the speakers.
var fixes = map[lb.Reason]string{
	lb.ReasonNoPool:              "create an IPAddressPool with addresses of your network that nobody else gives out",
	lb.ReasonNoPoolFits:          "change what the Service asks for, or one of the pools: each line above says what is in the way",
	lb.ReasonUnknownPool:         "create the pool, or correct its name in the Service's annotation " + v1alpha1.AnnotationAddressPool,
	lb.ReasonPoolDisabled:        "remove spec.disabled of the pool, or ask for another pool",
	lb.ReasonPoolDeleting:        "ask for another pool; this one is on its way out",
	lb.ReasonPoolOverlap:         "change spec.addresses of one of the two pools",
	lb.ReasonNotAutoAssign:       "name the pool in the Service's annotation " + v1alpha1.AnnotationAddressPool + ", or set the pool's spec.autoAssign",
	lb.ReasonNamespaceNotAllowed: "add the namespace to the pool's spec.serviceAllocation, or make a pool for it",
	lb.ReasonServiceNotSelected:  "give the Service the labels that the pool's spec.serviceAllocation.serviceSelectors choose, or change those",
	lb.ReasonFamilyAbsent:        "add addresses of the family to a pool, or change the Service's spec.ipFamilies",
	lb.ReasonExhausted:           "add addresses to the pool's spec.addresses; who has waited longest gets the next that is freed",
	lb.ReasonAddressInUse:        "ask for another address, or let the one who has it give it up",
	lb.ReasonAddressNotInPool:    "ask for an address that a pool has, or add it to a pool's spec.addresses",
	lb.ReasonFamilyMismatch:      "ask for an address of a family in the Service's spec.ipFamilies",
	lb.ReasonInvalidRequest:      "correct the field or annotation that is named",
	lb.ReasonQuota:               "free an address of the namespace, or raise the pool's spec.maxPerNamespace",
	lb.ReasonPortConflict:        "use another port, or another " + v1alpha1.AnnotationAllowSharedIP + " key",
	lb.ReasonKeyDiffers:          "give both Services the same " + v1alpha1.AnnotationAllowSharedIP + " key, or ask for another address",
	lb.ReasonSharingNotAllowed:   "change the pool's spec.sharing, or ask for an address of its own",
	lb.ReasonBackendsDiffer:      "give both Services the same externalTrafficPolicy and selector, or separate addresses",
	lb.ReasonClaimNotFound:       "create the IPAddressClaim, or correct its name in the annotation " + v1alpha1.AnnotationClaim,
	lb.ReasonClaimInUse:          "let the other Service give the claim up, or make a claim of its own",
	lb.ReasonClaimPending:        "see why the claim waits: kubectl describe ipclaim",
	lb.ReasonClaimDeleting:       "name another claim, or none",
	lb.ReasonClaimLacksFamily:    "name a claim that keeps an address of each of the Service's spec.ipFamilies",

	lb.ReasonAddressOfNode:    "ask for another address, and add this one to spec.excludes of the pool",
	lb.ReasonAddressOfRouter:  "ask for another address, and add this one to spec.excludes of the pool",
	lb.ReasonSubnetAddress:    "ask for another address, and add this one to spec.excludes of the pool",
	lb.ReasonAddressOfService: "ask for another address, or remove it from the Service that has it",

	lb.ReasonNoAdvertisement: "create an L2Advertisement or a BGPAdvertisement for the pool, or let the selectors of one choose pool and Service",
	lb.ReasonNoEndpoints:     "see whether the Service's pods are ready, and whether its spec.selector chooses them: kubectl get endpointslices; if only one address family has endpoints, give the pods addresses of both or take the other family out of spec.ipFamilies",
	lb.ReasonNoCandidate:     "fix what is said of one of the nodes",
	lb.ReasonConflict:        "find the host by its MAC and take the address from it, or take it out of the pool (spec.excludes)",
	lb.ReasonNotEstablished:  "see why the sessions are not up: kubectl fairlead explain peer NAME",
	lb.ReasonNotOwner:        "wait a few seconds; if nobody takes it, see the speakers' logs",

	lb.ReasonNodeNotSelected:   "let the advertisement's nodeSelectors choose the node, or label the node",
	lb.ReasonNodeExcluded:      "kubectl label node NAME node.kubernetes.io/exclude-from-external-load-balancers-",
	lb.ReasonNodeNoNetwork:     "see why the node's network is not there: the CNI's pod on it",
	lb.ReasonNodeNotMember:     "see whether the speaker runs on the node, is ready, and reaches the others on port 7946, UDP and TCP",
	lb.ReasonNoInterface:       "use addresses of the node's subnets, or name the interface in the L2Advertisement's spec.interfaces",
	lb.ReasonStatusOverwritten: "stop the other controller (k3s: --disable=servicelb), or set spec.loadBalancerClass so that only one of the two handles the Service",
	lb.ReasonForeignAddress:    "add the address to a pool, or remove it from status.loadBalancer; then Fairlead assigns one",
	lb.ReasonInterfaceDown:     "plug the cable of the node's interface in, or bring the interface up",
	lb.ReasonNoSubnet:          "use addresses of a subnet of the nodes; or name spec.interfaces in the L2Advertisement, if the addresses are routed to the nodes' network",
	lb.ReasonInterfaceFails:    "see the condition Ready of the node's Speaker: is IPv6 disabled on the interface?",
	lb.ReasonNoReadyEndpoint:   "run a ready pod of the Service on the node, or set externalTrafficPolicy: Cluster",
	lb.ReasonNoPeer:            "let a BGPPeer's nodeSelectors choose the node, and spec.peers of the BGPAdvertisement name it",
	lb.ReasonNodeCordoned:      "kubectl uncordon NAME",
	lb.ReasonNodeDrained:       "kubectl fairlead undrain NAME",
	lb.ReasonProxyUnhealthy:    "see the log of kube-proxy on the node",
}

// For returns what to do about the reason, or "" when that is nothing.
func For(r lb.Reason) string { return fixes[r] }

// Reason returns the reason that a condition names, or 0.
func Reason(name string) lb.Reason {
	for r := lb.Reason(1); r != 0; r++ { // it is a byte
		if r.String() == name {
			return r
		}
	}
	return 0
}
