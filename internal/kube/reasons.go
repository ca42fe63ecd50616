package kube

import (
	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// ReasonSections has the texts of the reasons that only the API's own kinds and events
// have. Those that the allocator and the speakers decide on are in package lb.
var ReasonSections = []lb.ReasonSection{
	{Title: "Reasons of the condition Ready on the kinds of this API", Reasons: []lb.ReasonText{
		{
			Name:    v1alpha1.ReasonAccepted,
			On:      "IPAddressPool, L2Advertisement, BGPAdvertisement Ready",
			Meaning: "the object is in effect as written",
		},
		{
			Name:    v1alpha1.ReasonInvalid,
			On:      "IPAddressPool, IPAddressClaim, L2Advertisement, BGPAdvertisement, BGPPeer Ready",
			Meaning: "the object is not valid. The API refuses such objects, so it was stored before the rule existed",
			Fix:     "correct the field that the message names",
		},
		{
			Name:    v1alpha1.ReasonOverlap,
			On:      "IPAddressPool Ready",
			Meaning: "a pool has addresses that an older pool has too",
			Fix:     "change spec.addresses of one of the two pools",
		},
		{
			Name:    v1alpha1.ReasonHostAnswersAll,
			On:      "IPAddressPool Ready",
			Meaning: "a host outside of the cluster answers for every address of the pool that was tried, before it was announced. Services keep the addresses that they have",
			Fix:     "find the host by its MAC address and turn off proxy ARP, an NDP proxy or the other load balancer on it, or remove the range that it answers for from spec.addresses",
		},
		{
			Name:    v1alpha1.ReasonDisabled,
			On:      "IPAddressPool Ready",
			Meaning: "spec.disabled of the pool is set, so the pool assigns nothing new",
			Fix:     "remove spec.disabled when the pool should assign addresses again",
		},
		{
			Name:    v1alpha1.ReasonInUse,
			On:      "IPAddressPool, IPAddressClaim Ready",
			Meaning: "the pool or claim is being deleted, and waits until Services have released its addresses",
			Fix:     "delete the Services that the message names, or have them ask for other addresses; the object is deleted when its last address is released",
		},
		{
			Name:    v1alpha1.ReasonPoolNotFound,
			On:      "L2Advertisement, BGPAdvertisement Ready",
			Meaning: "no pool has a name that the object mentions",
			Fix:     "create the pool, or correct its name in spec.ipAddressPools",
		},
		{
			Name:    v1alpha1.ReasonPeerNotFound,
			On:      "BGPAdvertisement Ready",
			Meaning: "no BGPPeer has a name that the object mentions",
			Fix:     "create the BGPPeer, or correct its name in spec.peers",
		},
		{
			Name:    v1alpha1.ReasonCommunityNotFound,
			On:      "BGPAdvertisement Ready",
			Meaning: "no Community has an alias that the object mentions",
			Fix:     "create a Community with the alias, or correct the alias in spec.communities",
		},
		{
			Name:    v1alpha1.ReasonBFDProfileNotFound,
			On:      "BGPPeer Ready",
			Meaning: "no BFDProfile has the name that the peer mentions",
			Fix:     "create the BFDProfile, or correct its name in spec.bfdProfile; the session continues without BFD",
		},
		{
			Name:    v1alpha1.ReasonSecretNotFound,
			On:      "BGPPeer Ready",
			Meaning: "the peer's password Secret, or its key, is not there",
			Fix:     "create the Secret in the namespace of Fairlead, with the key that spec.passwordSecret names",
		},
		{
			Name:    v1alpha1.ReasonPeerConflict,
			On:      "BGPPeer Ready",
			Meaning: "an older BGPPeer is the same router for some node",
			Fix:     "delete one of them, or select different nodes with nodeSelectors",
		},
		{
			Name:    v1alpha1.ReasonContradiction,
			On:      "BGPAdvertisement Ready",
			Meaning: "another advertisement has other attributes for the same routes",
			Fix:     "set the same value in both, or select other pools, peers or nodes",
		},
		{
			Name:    v1alpha1.ReasonNoNodes,
			On:      "BGPPeer Ready",
			Meaning: "no node with a speaker matches the node selectors of the object",
			Fix:     "have spec.nodeSelectors select nodes that run a speaker, or label nodes",
		},
		{
			Name:    v1alpha1.ReasonEstablished,
			On:      "BGPPeer Ready",
			Meaning: "every session with the peer that should be established is",
		},
		{
			Name:    v1alpha1.ReasonNotEstablished,
			On:      "BGPPeer Ready",
			Meaning: "a session with the peer that should be established is not",
			Fix:     "read the message: it has the reason of each node",
		},
		{
			Name:    v1alpha1.ReasonBound,
			On:      "IPAddressClaim Ready",
			Meaning: "the claim's addresses are in use by a Service",
		},
		{
			Name:    v1alpha1.ReasonReserved,
			On:      "IPAddressClaim Ready",
			Meaning: "the claim has its addresses, and no Service uses them now",
		},
		{
			Name:    v1alpha1.ReasonAnnouncing,
			On:      "Speaker Ready",
			Meaning: "the speaker is a member among its peers, and announces what it should",
		},
		{
			Name:    v1alpha1.ReasonCannotAnnounce,
			On:      "Speaker Ready",
			Meaning: "the speaker cannot open an interface on which it should announce",
			Fix:     "give the speaker the capability NET_RAW and the host's network, and do not disable IPv6 on interfaces that announce IPv6 addresses; until then, other nodes announce what this one cannot",
		},
		{
			Name:    v1alpha1.ReasonJoining,
			On:      "Speaker Ready",
			Meaning: "the speaker joins the other speakers; until then it owns nothing",
			Fix:     "wait a few seconds; if the speaker does not join then, open port 7946 (TCP and UDP) between all nodes",
		},
		{
			Name:    v1alpha1.ReasonStopping,
			On:      "Speaker Ready",
			Meaning: "the speaker hands over what it owns before it stops",
		},
	}},
	{Title: "Reasons of the condition EndpointValid on a Speaker, and of Ready while the speaker does not participate for such a reason", Reasons: []lb.ReasonText{
		{
			Name:    v1alpha1.ReasonValid,
			On:      "Speaker EndpointValid",
			Meaning: "the endpoint is the speaker's own, and of the family of the others'",
		},
		{
			Name:    v1alpha1.ReasonDuplicateEndpoint,
			On:      "Speaker EndpointValid, Ready",
			Meaning: "another speaker has the same endpoint, as where every machine reports the address of its NAT interface as InternalIP (Vagrant: 10.0.2.15). Only the one whose Speaker object is the oldest announces",
			Fix:     "set kubelet's --node-ip on each node that the message names to an address that the other nodes reach, or set the speaker's --gossip-bind-address; the speakers then participate without a restart",
		},
		{
			Name:    v1alpha1.ReasonAddressFamilyDiffers,
			On:      "Speaker EndpointValid, Ready",
			Meaning: "some speakers have an IPv4 endpoint and some an IPv6 one, and these cannot talk to each other. Only the family of more speakers announces",
			Fix:     "give all nodes an InternalIP of one family (kubelet's --node-ip); the order of InternalIPs does not matter. If all nodes have IPv6 and only some have IPv4, set --gossip-ip-family=IPv6 on all speakers",
		},
		{
			Name:    v1alpha1.ReasonNoUsableAddress,
			On:      "Speaker EndpointValid, Ready",
			Meaning: "the Node has no InternalIP on which other nodes can reach it: none at all, or only loopback and link-local addresses",
			Fix:     "set kubelet's --node-ip on node NAME, or the speaker's --gossip-bind-address",
		},
		{
			Name:    v1alpha1.ReasonAddressNotLocal,
			On:      "Speaker EndpointValid, Ready",
			Meaning: "no interface of the machine has the Node's InternalIP, as behind NAT",
			Fix:     "set kubelet's --node-ip on node NAME to an address of the machine, or set the speaker's --gossip-bind-address",
		},
	}},
	{Title: "Reasons of the conditions Moved and KubeProxyHealthy on a Speaker", Reasons: []lb.ReasonText{
		{
			Name:    v1alpha1.ReasonMoving,
			On:      "Speaker Moved",
			Meaning: "the speaker takes addresses over",
		},
		{
			Name:    v1alpha1.ReasonMoved,
			On:      "Speaker Moved",
			Meaning: "the speaker has taken over the addresses that a user moved to it",
		},
		{
			Name:    v1alpha1.ReasonRefused,
			On:      "Speaker Moved",
			Meaning: "the speaker could not take over all addresses that a user moved to it",
			Fix:     "read the message: it has the reason of each address",
		},
		{
			Name:    v1alpha1.ReasonHealthy,
			On:      "Speaker KubeProxyHealthy",
			Meaning: "kube-proxy reports that it is healthy",
		},
		{
			Name:    v1alpha1.ReasonUnhealthy,
			On:      "Speaker KubeProxyHealthy",
			Meaning: "kube-proxy reports that it is not healthy; other nodes are preferred",
			Fix:     "read the log of kube-proxy: kubectl get pods -n kube-system -o wide --field-selector spec.nodeName=NAME",
		},
		{
			Name:    v1alpha1.ReasonNoAnswer,
			On:      "Speaker KubeProxyHealthy",
			Meaning: "kube-proxy, which answered before, no longer answers; other nodes are preferred",
			Fix:     "check that kube-proxy runs: kubectl get pods -n kube-system -o wide --field-selector spec.nodeName=NAME",
		},
	}},
	{Title: "Reasons of the condition NetworkReady on a Speaker", On: "Speaker NetworkReady", Reasons: []lb.ReasonText{
		{
			Name:    v1alpha1.ReasonChecksPassed,
			Meaning: "nothing was found in the node's kernel, or seen on its network, that prevents announcing",
		},
		{
			Name:    v1alpha1.ReasonStrictARPMissing,
			Meaning: "kube-proxy in IPVS mode has the Services' addresses on an interface, and the kernel answers for all of them",
			Fix:     "set ipvs.strictARP: true in the configuration of kube-proxy, and restart kube-proxy",
		},
		{
			Name:    v1alpha1.ReasonAddressHeld,
			Meaning: "an interface of the node has a Service's address itself",
			Fix:     "remove the address from the interface that the message names",
		},
		{
			Name:    v1alpha1.ReasonDHCPInPool,
			Meaning: "a DHCP server assigns addresses that a pool has, so a host can get the address of a Service",
			Fix:     "remove the pool's addresses from the range of the DHCP server, or add them to spec.excludes of the pool; the speaker forgets an address of the DHCP server a day after it was last seen, and when the speaker restarts",
		},
		{
			Name:    v1alpha1.ReasonDuplicateNodeName,
			Meaning: "another machine runs a speaker with this node's name. The machine that was there first announces, the other one does not",
			Fix:     "give the other machine, whose address the message has, a hostname of its own, and restart its kubelet and its speaker",
		},
		{
			Name:    v1alpha1.ReasonNotForwarding,
			Meaning: "the node does not forward packets",
			Fix:     "set the sysctl that the message names on node NAME",
		},
		{
			Name:    v1alpha1.ReasonStrictReversePath,
			Meaning: "the node drops packets that come in by another interface than its route back (rp_filter)",
			Fix:     "set rp_filter of the interface to 2 on node NAME",
		},
		{
			Name:    v1alpha1.ReasonBridgeKeepsARP,
			Meaning: "the node announces on a bridge with a port that drops gratuitous ARP",
			Fix:     "set the option of the bridge port that the message names on node NAME",
		},
		{
			Name:    v1alpha1.ReasonWireless,
			Meaning: "the node announces on Wi-Fi",
			Fix:     "announce on a wired interface: name it in spec.interfaces of the L2Advertisement",
		},
	}},
	{Title: "Reasons of the condition ClockInSync on a Speaker", On: "Speaker ClockInSync", Reasons: []lb.ReasonText{
		{
			Name:    v1alpha1.ReasonInSync,
			Meaning: "the node's clock is that of the API server, within five seconds",
		},
		{
			Name:    v1alpha1.ReasonClockOff,
			Meaning: "the node's clock is more than five seconds from the API server's",
			Fix:     "fix NTP on node NAME: chronyc tracking, timedatectl; NTP servers must be able to answer it (UDP port 123). If all nodes have this reason, fix the clock of the API server. Speakers announce all the same",
		},
	}},
	{Title: "Reasons of the events that are recorded about Services", On: "events of Services", Reasons: []lb.ReasonText{
		{
			Name:    v1alpha1.EventAssigned,
			Meaning: "addresses were assigned to the Service; the message says why these",
		},
		{
			Name:    v1alpha1.EventAssignmentFailed,
			Meaning: "the Service cannot have the addresses that it asks for",
			Fix:     "read the condition fairlead.dev/AddressAssigned of the Service",
		},
		{
			Name:    v1alpha1.EventReleased,
			Meaning: "the Service has released addresses",
		},
		{
			Name:    v1alpha1.EventRetiring,
			Meaning: "an address of the Service is no longer in its pool; the Service keeps it until it releases it. To get another address, delete the Service and create it again",
		},
		{
			Name:    v1alpha1.EventConflict,
			Meaning: "the Service cannot keep an address, because another Service or a host outside of the cluster has it",
			Fix:     "read the message: it names the host or Service that has the address",
		},
	}},
}

// reasonText returns the text of the reason of a condition on an object of this API.
func reasonText(name string) lb.ReasonText {
	for _, s := range ReasonSections {
		for i := range s.Reasons {
			if s.Reasons[i].Name == name {
				return s.Reasons[i]
			}
		}
	}
	return lb.ReasonFrom(name).Text()
}

// ReasonFix returns what to do about the reason of a condition on an object of this API, ""
// for nothing.
func ReasonFix(name string) string { return reasonText(name).Fix }

// ReasonFixOn is ReasonFix for a node.
func ReasonFixOn(node, name string) string { return reasonText(name).FixOn(node) }
