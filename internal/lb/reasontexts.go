package lb

import "strings"

// ReasonText is what there is to say of a reason, for the messages of conditions, the
// plugin and docs/reasons.md.
type ReasonText struct {
	Name    string // as conditions and events have it
	On      string // the objects and conditions with the reason; "" is what the section has
	Meaning string // without the last full stop
	Words   string // what a message says of a node, or of the choice of an address; "" is the name
	Fix     string // an imperative, in which NAME is the node and PEER the BGPPeer; "" is nothing to do
}

// FixOn is Fix for a node, or several, separated by spaces.
func (t ReasonText) FixOn(node string) string { return strings.ReplaceAll(t.Fix, "NAME", node) }

// ReasonSection is a table of docs/reasons.md.
type ReasonSection struct {
	Title   string
	On      string // the objects and conditions with these reasons
	Reasons []ReasonText
}

// reasonEntry is the text of one Reason.
type reasonEntry struct {
	reason Reason
	ReasonText
}

// reasonTable has the texts of every Reason. Those of the reasons that only the API's own
// kinds have are in package kube.
var reasonTable = []struct {
	title, on string
	entries   []reasonEntry
}{
	{"Reasons of the allocator: why a Service or a claim lacks an address", "Service fairlead.dev/AddressAssigned, IPAddressClaim Ready", []reasonEntry{
		{ReasonAssigned, ReasonText{
			Name:    "Assigned",
			Meaning: "the Service has what it asked for",
		}},
		{ReasonNoPool, ReasonText{
			Name:    "NoPool",
			Meaning: "there is no IPAddressPool",
			Fix:     "create an IPAddressPool with addresses of your network that nothing else assigns",
		}},
		{ReasonNoPoolFits, ReasonText{
			Name:    "NoPoolFits",
			Meaning: "each pool refuses the request, for a reason of its own",
			Fix:     "change what the Service asks for, or one of the pools: the message has the reason of each pool",
		}},
		{ReasonUnknownPool, ReasonText{
			Name:    "UnknownPool",
			Meaning: "the Service names a pool that does not exist",
			Fix:     "create the pool, or correct its name in the Service's annotation fairlead.dev/address-pool",
		}},
		{ReasonPoolDisabled, ReasonText{
			Name:    "PoolDisabled",
			Meaning: "spec.disabled of the pool is set, so the pool assigns nothing new",
			Fix:     "remove spec.disabled of the pool, or ask for another pool",
		}},
		{ReasonPoolDeleting, ReasonText{
			Name:    "PoolDeleting",
			Meaning: "the pool is being deleted, and waits until its last address is released",
			Fix:     "ask for another pool, or create one with other addresses",
		}},
		{ReasonPoolOverlap, ReasonText{
			Name:    "PoolOverlap",
			Meaning: "an older pool has some of the same addresses",
			Fix:     "change spec.addresses of one of the two pools",
		}},
		{ReasonNotAutoAssign, ReasonText{
			Name:    "NotAutoAssign",
			Meaning: "the pool serves only Services that name it",
			Fix:     "name the pool in the Service's annotation fairlead.dev/address-pool, or set spec.autoAssign of the pool",
		}},
		{ReasonNamespaceNotAllowed, ReasonText{
			Name:    "NamespaceNotAllowed",
			Meaning: "the pool is not for Services of this namespace",
			Fix:     "add the namespace to the pool's spec.serviceAllocation, or create a pool for it",
		}},
		{ReasonServiceNotSelected, ReasonText{
			Name:    "ServiceNotSelected",
			Meaning: "the pool is not for Services with these labels",
			Fix:     "give the Service the labels that the pool's spec.serviceAllocation.serviceSelectors select, or change those selectors",
		}},
		{ReasonFamilyAbsent, ReasonText{
			Name:    "FamilyAbsent",
			Meaning: "the pool has no addresses of the family",
			Fix:     "add addresses of the family to a pool, or change spec.ipFamilies of the Service",
		}},
		{ReasonExhausted, ReasonText{
			Name:    "Exhausted",
			Meaning: "all addresses of the family are in use",
			Fix:     "add addresses to spec.addresses of the pool; the Service that has waited longest gets the next free address",
		}},
		{ReasonAddressInUse, ReasonText{
			Name:    "AddressInUse",
			Meaning: "another Service or claim has the address that the Service asks for",
			Fix:     "ask for another address, or delete the Service or claim that has this one",
		}},
		{ReasonAddressNotInPool, ReasonText{
			Name:    "AddressNotInPool",
			Meaning: "the address that the Service asks for is in no pool that may assign it",
			Fix:     "ask for an address that a pool has, or add this one to spec.addresses of a pool",
		}},
		{ReasonFamilyMismatch, ReasonText{
			Name:    "FamilyMismatch",
			Meaning: "the Service asks for an address of a family that is not in its spec.ipFamilies",
			Fix:     "ask for an address of a family in spec.ipFamilies of the Service",
		}},
		{ReasonInvalidRequest, ReasonText{
			Name:    "InvalidRequest",
			Meaning: "an annotation or field of the Service is not valid; the Service keeps the addresses that it has",
			Fix:     "correct the field or annotation that the message names",
		}},
		{ReasonStatusOverwritten, ReasonText{
			Name:    "StatusOverwritten",
			Meaning: "another controller overwrites status.loadBalancer of the Service again and again. Speakers keep announcing the address; kube-proxy serves what the status has, so traffic may fail",
			Fix:     "stop the other controller (k3s: --disable=servicelb), or set spec.loadBalancerClass so that only one of the two handles the Service",
		}},
		{ReasonForeignAddress, ReasonText{
			Name:    "ForeignAddress",
			Meaning: "the Service asks for Fairlead and has an address in its status that Fairlead did not assign and no pool has. Fairlead does not touch it",
			Fix:     "add the address to a pool, or remove it from status.loadBalancer; then Fairlead assigns one",
		}},
		{ReasonQuota, ReasonText{
			Name:    "NamespaceQuota",
			Meaning: "the namespace has as many addresses of the pool as it can have",
			Fix:     "delete a Service of the namespace, or raise spec.maxPerNamespace of the pool",
		}},
		{ReasonPortConflict, ReasonText{
			Name:    "PortConflict",
			Meaning: "the Service that has the address uses one of the ports too",
			Fix:     "use another port, or another fairlead.dev/allow-shared-ip key",
		}},
		{ReasonKeyDiffers, ReasonText{
			Name:    "SharingKeyDiffers",
			Meaning: "the Service that has the address has another sharing key, or none",
			Fix:     "give both Services the same fairlead.dev/allow-shared-ip key, or ask for another address",
		}},
		{ReasonSharingNotAllowed, ReasonText{
			Name:    "SharingNotAllowed",
			Meaning: "the pool's sharing does not allow it",
			Fix:     "change spec.sharing of the pool, or ask for an address of its own",
		}},
		{ReasonBackendsDiffer, ReasonText{
			Name:    "BackendsDiffer",
			Meaning: "externalTrafficPolicy is Local, and the Services do not have the same pods",
			Fix:     "give both Services the same externalTrafficPolicy and selector, or separate addresses",
		}},
		{ReasonClaimNotFound, ReasonText{
			Name:    "ClaimNotFound",
			Meaning: "the Service names an IPAddressClaim that does not exist",
			Fix:     "create the IPAddressClaim in the Service's namespace, or correct its name in the annotation fairlead.dev/claim",
		}},
		{ReasonClaimInUse, ReasonText{
			Name:    "ClaimInUse",
			Meaning: "another Service has the claim's addresses",
			Fix:     "remove the annotation fairlead.dev/claim from the other Service, or create another claim",
		}},
		{ReasonClaimPending, ReasonText{
			Name:    "ClaimPending",
			Meaning: "the claim has no address itself yet",
			Fix:     "read why the claim has no address: kubectl describe ipclaim",
		}},
		{ReasonClaimDeleting, ReasonText{
			Name:    "ClaimDeleting",
			Meaning: "the claim is being deleted",
			Fix:     "name another claim, or none",
		}},
		{ReasonClaimLacksFamily, ReasonText{
			Name:    "ClaimLacksFamily",
			Meaning: "the claim has no address of the family",
			Fix:     "name a claim that has an address of each family in spec.ipFamilies of the Service",
		}},
		{ReasonAddressOfNode, ReasonText{
			Name:    "AddressOfNode",
			Meaning: "a node of the cluster has the address that the Service asks for",
			Fix:     "ask for another address, and add this one to spec.excludes of the pool",
		}},
		{ReasonAddressOfRouter, ReasonText{
			Name:    "AddressOfRouter",
			Meaning: "a router has the address that the Service asks for: a default gateway of nodes, or a BGP peer",
			Fix:     "ask for another address, and add this one to spec.excludes of the pool",
		}},
		{ReasonSubnetAddress, ReasonText{
			Name:    "SubnetAddress",
			Meaning: "no host can use the address that the Service asks for: it is the network or broadcast address of a subnet of the nodes, or its Subnet-Router anycast address (RFC 4291, 2.6.1)",
			Fix:     "ask for another address, and add this one to spec.excludes of the pool",
		}},
		{ReasonAddressOfService, ReasonText{
			Name:    "AddressOfService",
			Meaning: "a Service has the address in a field that Fairlead does not assign: clusterIPs, externalIPs, or what another controller wrote",
			Fix:     "ask for another address, or remove it from the Service that has it",
		}},
	}},
	{"Why the allocator assigned this address and no other", "the event Assigned of a Service", []reasonEntry{
		{ReasonKept, ReasonText{
			Name:    "Kept",
			Meaning: "the Service or claim already had it",
		}},
		{ReasonLowest, ReasonText{
			Name:    "LowestFree",
			Meaning: "it is the lowest free address",
			Words:   "the lowest that is free",
		}},
		{ReasonFreedLongest, ReasonText{
			Name:    "FreedLongest",
			Meaning: "no address was free for a minute or more, and this one was free for the longest time; with a larger pool, clients that still know the last Service with this address are spared",
			Words:   "the one that has been free for longest",
		}},
		{ReasonNamed, ReasonText{
			Name:    "Named",
			Meaning: "the request names the address",
			Words:   "as asked for",
		}},
		{ReasonShared, ReasonText{
			Name:    "Shared",
			Meaning: "other Services with the same sharing key have it, and the ports differ",
			Words:   "shared by its key",
		}},
		{ReasonClaimed, ReasonText{
			Name:    "Claimed",
			Meaning: "the claim reserves it",
		}},
	}},
	{"Reasons of the speakers: why an address is not announced, by any node or by one that the message names", "Service fairlead.dev/Announced", []reasonEntry{
		{ReasonAnnounced, ReasonText{
			Name:    "Announced",
			Meaning: "the address is announced",
		}},
		{ReasonNoAdvertisement, ReasonText{
			Name:    "NoAdvertisement",
			Meaning: "no advertisement selects the Service's pool and labels",
			Words:   "no L2Advertisement or BGPAdvertisement selects the Service",
			Fix:     "create an L2Advertisement or a BGPAdvertisement for the pool, or have the selectors of one select the pool and the Service",
		}},
		{ReasonNotOwner, ReasonText{
			Name:    "NotOwner",
			Meaning: "another node announces the address; on a Service, no node has reported yet that it does",
			Words:   "another node announces it",
			Fix:     "wait a few seconds; if no node announces the address then, read the logs of the speakers",
		}},
		{ReasonNodeNotSelected, ReasonText{
			Name:    "NodeNotSelected",
			Meaning: "the advertisements' nodeSelectors leave the node out",
			Words:   "not selected by the advertisement's nodeSelectors",
			Fix:     "have nodeSelectors of the advertisement select the node, or label the node",
		}},
		{ReasonNodeExcluded, ReasonText{
			Name:    "NodeExcluded",
			Meaning: "the node has the label node.kubernetes.io/exclude-from-external-load-balancers",
			Words:   "has the label node.kubernetes.io/exclude-from-external-load-balancers",
			Fix:     "kubectl label node NAME node.kubernetes.io/exclude-from-external-load-balancers-",
		}},
		{ReasonNodeNoNetwork, ReasonText{
			Name:    "NodeNetworkUnavailable",
			Meaning: "the node has the condition NetworkUnavailable",
			Words:   "has the condition NetworkUnavailable",
			Fix:     "read the log of the CNI plugin's pod on the node",
		}},
		{ReasonNodeCordoned, ReasonText{
			Name:    "NodeCordoned",
			Meaning: "the node is cordoned; it announces only if no other node can",
			Words:   "is cordoned",
			Fix:     "kubectl uncordon NAME",
		}},
		{ReasonNodeShutdown, ReasonText{
			Name:    "NodeShutdown",
			Meaning: "the node is shut down or being shut down",
			Words:   "is shut down or being shut down",
			Fix:     "start the node, or delete its Node object if it does not come back",
		}},
		{ReasonNodeNotMember, ReasonText{
			Name:    "NodeNotMember",
			Meaning: "no speaker of the node is alive in the gossip",
			Words:   "its speaker is not alive",
			Fix:     "check that the speaker on the node runs and is ready, and open port 7946 (TCP and UDP) between all nodes",
		}},
		{ReasonNodeLeaving, ReasonText{
			Name:    "NodeLeaving",
			Meaning: "the node's speaker is shutting down",
			Words:   "its speaker is shutting down",
		}},
		{ReasonNoInterface, ReasonText{
			Name:    "NoInterface",
			Meaning: "no interface of the node is in the address's subnet or named by the advertisement",
			Words:   "has no interface in the address's subnet, or that the advertisement names",
			Fix:     "use addresses of the node's subnets, or name the interface in spec.interfaces of the L2Advertisement",
		}},
		{ReasonInterfaceFails, ReasonText{
			Name:    "InterfaceFails",
			Meaning: "the node cannot open its interface for ARP, or for NDP; its Speaker has the error",
			Words:   "cannot open its interface; its Speaker has the error",
			Fix:     "read the condition Ready of the node's Speaker: IPv6 may be disabled on the interface",
		}},
		{ReasonNoReadyEndpoint, ReasonText{
			Name:    "NoReadyEndpoint",
			Meaning: "the Service has no ready endpoint of the address's family on the node, and externalTrafficPolicy is Local",
			Fix:     "run a ready pod of the Service on the node, or set externalTrafficPolicy: Cluster",
		}},
		{ReasonNoEndpoints, ReasonText{
			Name:    "NoEndpoints",
			Meaning: "no endpoint of the Service in the address's family is ready anywhere",
			Fix:     "check that the Service's pods are ready, and that its spec.selector selects them: kubectl get endpointslices; if only one address family has endpoints, give the pods addresses of both, or remove the other family from spec.ipFamilies",
		}},
		{ReasonNoCandidate, ReasonText{
			Name:    "NoCandidate",
			Meaning: "no node can announce the address, each for a reason of its own",
			Words:   "no node can announce it",
			Fix:     "fix the reason that the message has for one of the nodes",
		}},
		{ReasonNotJoined, ReasonText{
			Name:    "NotJoined",
			Meaning: "the node's speaker has not joined the other speakers yet",
			Words:   "its speaker has not found the others yet",
			Fix:     "wait a few seconds; if the speaker does not join then, open port 7946 (TCP and UDP) between all nodes",
		}},
		{ReasonConflict, ReasonText{
			Name:    "Conflict",
			Meaning: "a host outside of the cluster uses the address; the message has its MAC address",
			Words:   "a host outside of the cluster has the address",
			Fix:     "find the host by its MAC address and remove the address from it, or add the address to spec.excludes of the pool",
		}},
		{ReasonNodeDrained, ReasonText{
			Name:    "NodeDrained",
			Meaning: "a user drained the node's speaker",
			Words:   "is drained by the annotation fairlead.dev/drain of its Speaker",
			Fix:     "kubectl fairlead undrain NAME",
		}},
		{ReasonProxyUnhealthy, ReasonText{
			Name:    "KubeProxyUnhealthy",
			Meaning: "the node's kube-proxy reports that it is not healthy, or no longer answers",
			Words:   "its kube-proxy is not healthy",
			Fix:     "read the log of kube-proxy on the node",
		}},
		{ReasonNotAssigned, ReasonText{
			Name:    "NotAssigned",
			Meaning: "no Service has the address",
			Words:   "no Service has it",
			Fix:     "correct the address in the annotation",
		}},
		{ReasonNoPeer, ReasonText{
			Name:    "NoPeer",
			Meaning: "the node has no BGPPeer that the advertisements name",
			Words:   "has no BGPPeer that the advertisement selects",
			Fix:     "have nodeSelectors of a BGPPeer select the node, and spec.peers of the BGPAdvertisement name that peer",
		}},
		{ReasonNotEstablished, ReasonText{
			Name:    "NotEstablished",
			Meaning: "no BGP session is established on a node that should announce the address",
			Words:   "has no established BGP session with a router that the advertisement selects",
			Fix:     "read why the sessions are not established: kubectl fairlead explain peer PEER",
		}},
		{ReasonNoSubnet, ReasonText{
			Name:    "NoSubnet",
			Meaning: "no node has a subnet with the address, and the L2Advertisement names no interfaces; the message lists the subnets",
			Words:   "no node has a subnet with the address",
			Fix:     "use addresses of a subnet of the nodes; or name spec.interfaces in the L2Advertisement, if the addresses are routed to the nodes' network",
		}},
		{ReasonInterfaceDown, ReasonText{
			Name:    "InterfaceDown",
			Meaning: "the node's interface in the address's subnet, or that the advertisement names, is down",
			Words:   "has an interface for the address, but it is down",
			Fix:     "connect the cable of the node's interface, or bring the interface up",
		}},
	}},
}

// reasonTexts has the entries of reasonTable by their Reason.
var reasonTexts = func() (out [256]ReasonText) {
	for _, s := range reasonTable {
		for _, e := range s.entries {
			out[e.reason] = e.ReasonText
		}
	}
	return out
}()

// ReasonSections returns the texts of every Reason.
func ReasonSections() (out []ReasonSection) {
	for _, s := range reasonTable {
		section := ReasonSection{Title: s.title, On: s.on}
		for _, e := range s.entries {
			section.Reasons = append(section.Reasons, e.ReasonText)
		}
		out = append(out, section)
	}
	return out
}

// ReasonFrom returns the Reason with a name, or 0.
func ReasonFrom(name string) Reason {
	for r := range reasonTexts {
		if name != "" && reasonTexts[r].Name == name {
			return Reason(r)
		}
	}
	return 0
}
