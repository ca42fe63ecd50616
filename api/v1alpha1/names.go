package v1alpha1

// LoadBalancerClass is the spec.loadBalancerClass of the Services that Fairlead
// handles. By default it also handles Services without a class.
const LoadBalancerClass = "fairlead.dev/fairlead"

// FinalizerPoolInUse blocks the deletion of a pool until no Service uses an
// address of it.
const FinalizerPoolInUse = "fairlead.dev/pool-in-use"

// FinalizerClaimInUse blocks the deletion of a claim until no Service uses its
// addresses.
const FinalizerClaimInUse = "fairlead.dev/claim-in-use"

// Annotations on a Service.
const (
	// AnnotationLoadBalancerIPs requests exact addresses, comma-separated, at most
	// one of each family: "192.0.2.10" or "192.0.2.10,2001:db8::10".
	AnnotationLoadBalancerIPs = "fairlead.dev/loadBalancerIPs"

	// AnnotationAddressPool requests an address of the pool with this name.
	AnnotationAddressPool = "fairlead.dev/address-pool"

	// AnnotationAllowSharedIP is a key: Services with the same key can share an
	// address if the pool's sharing policy allows it and their ports differ.
	AnnotationAllowSharedIP = "fairlead.dev/allow-shared-ip"

	// AnnotationClaim requests the addresses of the IPAddressClaim with this name in
	// the Service's namespace.
	AnnotationClaim = "fairlead.dev/claim"

	// AnnotationAssignment is the controller's record of the addresses that it
	// assigned to the Service, with their pools and claims, as JSON. The controller
	// writes it together with status.loadBalancer. Users must not write it: addresses
	// in it that are not in the status are ignored.
	AnnotationAssignment = "fairlead.dev/assignment"
)

// Annotations on a Speaker, written by users.
const (
	// AnnotationDrain moves the addresses of this speaker to the other speakers, as
	// long as the annotation exists. Any value: "true", or the reason.
	AnnotationDrain = "fairlead.dev/drain"

	// AnnotationTake makes the speaker take over these addresses, comma-separated,
	// one after the other: "192.0.2.10,2001:db8::10". The speaker then removes the
	// annotation and reports the result in the condition Moved.
	AnnotationTake = "fairlead.dev/take"

	// AnnotationRebalance, with any value, makes the speaker take over addresses from
	// speakers with more addresses, one after the other, until it has its share. The
	// speaker then removes the annotation.
	AnnotationRebalance = "fairlead.dev/rebalance"
)

// The same annotations with MetalLB's present and former prefix. They have the
// same effect; if several are set, Fairlead's own annotation is used.
const (
	AnnotationMetalLBLoadBalancerIPs = "metallb.io/loadBalancerIPs"
	AnnotationMetalLBAddressPool     = "metallb.io/address-pool"
	AnnotationMetalLBAllowSharedIP   = "metallb.io/allow-shared-ip"

	AnnotationMetalLBUniverseLoadBalancerIPs = "metallb.universe.tf/loadBalancerIPs"
	AnnotationMetalLBUniverseAddressPool     = "metallb.universe.tf/address-pool"
	AnnotationMetalLBUniverseAllowSharedIP   = "metallb.universe.tf/allow-shared-ip"
)

// Condition types.
const (
	// ConditionReady says whether an object of this package is in effect. Every kind
	// with conditions has it.
	ConditionReady = "Ready"

	// ConditionAddressAssigned says whether a Service has the addresses that it
	// requests.
	ConditionAddressAssigned = "fairlead.dev/AddressAssigned"

	// ConditionAnnounced says whether the addresses of a Service are announced, and by
	// which nodes.
	ConditionAnnounced = "fairlead.dev/Announced"
)

// Condition types of a Speaker, beside ConditionReady.
const (
	// ConditionMoved is the result of the last requested move of addresses: False
	// while it is in progress, and if an address could not be moved.
	ConditionMoved = "Moved"

	// ConditionKubeProxyHealthy says whether the node's kube-proxy is healthy. It is
	// absent on nodes whose kube-proxy never answered.
	ConditionKubeProxyHealthy = "KubeProxyHealthy"

	// ConditionNetworkReady says whether no kernel setting or network condition
	// interferes with announcing.
	ConditionNetworkReady = "NetworkReady"

	// ConditionEndpointValid says whether the speaker's endpoint is unique and reachable by all
	// other speakers. It is absent until the speaker detects a problem.
	ConditionEndpointValid = "EndpointValid"

	// ConditionClockInSync says whether the node's clock agrees with the API server's,
	// according to the dates of its responses. Announcing does not depend on it.
	ConditionClockInSync = "ClockInSync"
)

// Reasons of the condition Ready on the kinds of this API. A claim without an
// address has the reason that a Service would have (internal/lb).
const (
	// ReasonAccepted: the object is in effect as written.
	//
	// On: IPAddressPool, L2Advertisement, BGPAdvertisement Ready
	//
	// Fix: nothing to do.
	ReasonAccepted = "Accepted"

	// ReasonInvalid: the object cannot be understood. The rules of this API refuse such
	// objects on entry, so this is one that was stored before the rule existed.
	//
	// On: IPAddressPool, IPAddressClaim, L2Advertisement, BGPAdvertisement, BGPPeer Ready
	//
	// Fix: correct the field that the message names.
	ReasonInvalid = "Invalid"

	// ReasonOverlap: a pool has addresses that an older pool has too.
	//
	// On: IPAddressPool Ready
	//
	// Fix: change spec.addresses of one of the two.
	ReasonOverlap = "Overlap"

	// ReasonHostAnswersAll: a host outside of the cluster answers for every address of the
	// pool that was tried, before it was announced. Services keep the addresses that they
	// have.
	//
	// On: IPAddressPool Ready
	//
	// Fix: find the host by its MAC, and turn off proxy ARP, an NDP proxy, or the other
	// load balancer on it; or take the range that it answers for out of the pool.
	ReasonHostAnswersAll = "HostAnswersAll"

	// ReasonDisabled: a pool gives nothing new, because its spec says so.
	//
	// On: IPAddressPool Ready
	//
	// Fix: take spec.disabled out, if it is to give addresses again.
	ReasonDisabled = "Disabled"

	// ReasonInUse: a pool or claim is being deleted, and waits for the Services that have
	// its addresses.
	//
	// On: IPAddressPool, IPAddressClaim Ready
	//
	// Fix: delete those Services, or have them ask for other addresses; the message names
	// them.
	ReasonInUse = "InUse"

	// ReasonPoolNotFound: no pool has a name that the object mentions.
	//
	// On: L2Advertisement, BGPAdvertisement Ready
	//
	// Fix: correct spec.ipAddressPools, or create the pool.
	ReasonPoolNotFound = "PoolNotFound"

	// ReasonPeerNotFound: no BGPPeer has a name that the object mentions.
	//
	// On: BGPAdvertisement Ready
	//
	// Fix: correct spec.peers, or create the BGPPeer.
	ReasonPeerNotFound = "PeerNotFound"

	// ReasonCommunityNotFound: no Community has an alias that the object mentions.
	//
	// On: BGPAdvertisement Ready
	//
	// Fix: correct spec.communities, or create a Community with the alias.
	ReasonCommunityNotFound = "CommunityNotFound"

	// ReasonBFDProfileNotFound: no BFDProfile has the name that the peer mentions.
	//
	// On: BGPPeer Ready
	//
	// Fix: correct spec.bfdProfile, or create the BFDProfile. The session goes on without
	// BFD.
	ReasonBFDProfileNotFound = "BFDProfileNotFound"

	// ReasonSecretNotFound: the peer's password Secret, or its key, is not there.
	//
	// On: BGPPeer Ready
	//
	// Fix: create the Secret in the namespace of Fairlead, with the key that
	// spec.passwordSecret names.
	ReasonSecretNotFound = "SecretNotFound"

	// ReasonPeerConflict: an older BGPPeer is the same router for some node.
	//
	// On: BGPPeer Ready
	//
	// Fix: delete one of the two, or choose different nodes by nodeSelectors.
	ReasonPeerConflict = "PeerConflict"

	// ReasonContradiction: another advertisement says something else of the same routes.
	//
	// On: BGPAdvertisement Ready
	//
	// Fix: let both say the same, or choose other pools, peers or nodes.
	ReasonContradiction = "Contradiction"

	// ReasonNoNodes: no node matches the object's node selectors.
	//
	// On: BGPPeer Ready
	//
	// Fix: change nodeSelectors, or label nodes.
	ReasonNoNodes = "NoNodes"

	// ReasonEstablished: every session that is wanted with the peer is up.
	//
	// On: BGPPeer Ready
	//
	// Fix: nothing to do.
	ReasonEstablished = "Established"

	// ReasonNotEstablished: a session that is wanted with the peer is not up.
	//
	// On: BGPPeer Ready
	//
	// Fix: read the message: it has what each node says of its session.
	ReasonNotEstablished = "NotEstablished"

	// ReasonBound: the claim's addresses are in use by a Service.
	//
	// On: IPAddressClaim Ready
	//
	// Fix: nothing to do.
	ReasonBound = "Bound"

	// ReasonReserved: the claim has its addresses, and no Service uses them now.
	//
	// On: IPAddressClaim Ready
	//
	// Fix: nothing to do.
	ReasonReserved = "Reserved"

	// ReasonAnnouncing: the speaker is a member among its peers, and announces what it
	// should.
	//
	// On: Speaker Ready
	//
	// Fix: nothing to do.
	ReasonAnnouncing = "Announcing"

	// ReasonCannotAnnounce: the speaker cannot open an interface on which it should
	// announce.
	//
	// On: Speaker Ready
	//
	// Fix: read the message; the speaker needs the capability NET_RAW, and IPv6 must not be
	// disabled on the interface. Meanwhile other nodes announce what it cannot.
	ReasonCannotAnnounce = "CannotAnnounce"

	// ReasonJoining: the speaker looks for the others before it may own anything.
	//
	// On: Speaker Ready
	//
	// Fix: nothing to do for a few seconds; then see that port 7946, UDP and TCP, is open
	// between the nodes.
	ReasonJoining = "Joining"

	// ReasonStopping: the speaker hands over what it owns before it stops.
	//
	// On: Speaker Ready
	//
	// Fix: nothing to do.
	ReasonStopping = "Stopping"
)

// Reasons of the condition EndpointValid on a Speaker, and of Ready while the speaker
// takes no part for such a reason.
const (
	// ReasonValid: the endpoint is the speaker's own, and of the family of the others'.
	//
	// On: Speaker EndpointValid
	//
	// Fix: nothing to do.
	ReasonValid = "Valid"

	// ReasonDuplicateEndpoint: another speaker has the same endpoint, as where every machine
	// reports the address of its NAT interface as InternalIP (Vagrant: 10.0.2.15). Only the
	// one whose Speaker object is the oldest announces.
	//
	// On: Speaker EndpointValid, Ready
	//
	// Fix: set kubelet's --node-ip on each of the nodes that the message names to an address
	// that the others reach, or the speaker's --gossip-bind-address. The speakers then take
	// part by themselves.
	ReasonDuplicateEndpoint = "DuplicateEndpoint"

	// ReasonAddressFamilyDiffers: some speakers have an IPv4 endpoint and some an IPv6 one, and
	// these cannot talk to each other. Only the family of more speakers announces.
	//
	// On: Speaker EndpointValid, Ready
	//
	// Fix: give all nodes an InternalIP of one family (kubelet's --node-ip); the order of
	// InternalIPs does not matter. If all have IPv6 and only some IPv4, set
	// --gossip-ip-family=IPv6 on all speakers.
	ReasonAddressFamilyDiffers = "AddressFamilyDiffers"

	// ReasonNoUsableAddress: the Node has no InternalIP on which other nodes can reach it:
	// none at all, or only loopback and link-local addresses.
	//
	// On: Speaker EndpointValid, Ready
	//
	// Fix: set kubelet's --node-ip, or the speaker's --gossip-bind-address.
	ReasonNoUsableAddress = "NoUsableAddress"

	// ReasonAddressNotLocal: no interface of the machine has the Node's InternalIP, as behind
	// NAT.
	//
	// On: Speaker EndpointValid, Ready
	//
	// Fix: set kubelet's --node-ip to an address of the machine, or the speaker's
	// --gossip-bind-address.
	ReasonAddressNotLocal = "AddressNotLocal"
)

// Reasons of the conditions Moved and KubeProxyHealthy on a Speaker.
const (
	// ReasonMoving: the speaker takes addresses over.
	//
	// On: Speaker Moved
	//
	// Fix: nothing to do.
	ReasonMoving = "Moving"

	// ReasonMoved: the speaker has taken over what it was to.
	//
	// On: Speaker Moved
	//
	// Fix: nothing to do.
	ReasonMoved = "Moved"

	// ReasonRefused: the speaker could not take over all that it was to.
	//
	// On: Speaker Moved
	//
	// Fix: read the message: it says of each address why not.
	ReasonRefused = "Refused"

	// ReasonHealthy: kube-proxy says that it is healthy.
	//
	// On: Speaker KubeProxyHealthy
	//
	// Fix: nothing to do.
	ReasonHealthy = "Healthy"

	// ReasonUnhealthy: kube-proxy says that it is not healthy.
	//
	// On: Speaker KubeProxyHealthy
	//
	// Fix: see kube-proxy's log; other nodes are preferred meanwhile.
	ReasonUnhealthy = "Unhealthy"

	// ReasonNoAnswer: kube-proxy, which answered before, does not answer.
	//
	// On: Speaker KubeProxyHealthy
	//
	// Fix: see whether kube-proxy runs on the node.
	ReasonNoAnswer = "NoAnswer"
)

// Reasons of the condition NetworkReady on a Speaker.
const (
	// ReasonChecksPassed: nothing was found in the node's kernel, or heard on its network, that
	// defeats announcing.
	//
	// On: Speaker NetworkReady
	//
	// Fix: nothing to do.
	ReasonChecksPassed = "ChecksPassed"

	// ReasonStrictARPMissing: kube-proxy in IPVS mode has the Services' addresses on an
	// interface, and the kernel answers for all of them.
	//
	// On: Speaker NetworkReady
	//
	// Fix: set ipvs.strictARP: true in kube-proxy's configuration, and restart it.
	ReasonStrictARPMissing = "StrictARPMissing"

	// ReasonAddressHeld: an interface of the node has a Service's address itself.
	//
	// On: Speaker NetworkReady
	//
	// Fix: take the address from the interface; the message says which.
	ReasonAddressHeld = "AddressHeld"

	// ReasonDHCPInPool: a DHCP server gives out addresses that a pool holds. One day a
	// host has the address of a Service.
	//
	// On: Speaker NetworkReady
	//
	// Fix: take the pool's addresses out of the server's range, or add them to the pool's spec.excludes; the message names them.
	ReasonDHCPInPool = "DHCPInPool"

	// ReasonDuplicateNodeName: another machine runs a speaker with this node's name. The machine
	// that was there first announces, the other one does not.
	//
	// On: Speaker NetworkReady
	//
	// Fix: give the other machine, whose address the message has, a hostname of its own, and restart its kubelet and its speaker.
	ReasonDuplicateNodeName = "DuplicateNodeName"

	// ReasonNotForwarding: the node does not forward packets.
	//
	// On: Speaker NetworkReady
	//
	// Fix: set the sysctl that the message names.
	ReasonNotForwarding = "NotForwarding"

	// ReasonStrictReversePath: the node drops what comes from where it would not answer to.
	//
	// On: Speaker NetworkReady
	//
	// Fix: set rp_filter of the interface to 2.
	ReasonStrictReversePath = "StrictReversePath"

	// ReasonBridgeKeepsARP: the node announces on a bridge of which a port lets no gratuitous
	// ARP out.
	//
	// On: Speaker NetworkReady
	//
	// Fix: set the port's option that the message names.
	ReasonBridgeKeepsARP = "BridgeKeepsARP"

	// ReasonWireless: the node announces on Wi-Fi.
	//
	// On: Speaker NetworkReady
	//
	// Fix: announce on a cable: spec.interfaces of the L2Advertisement.
	ReasonWireless = "Wireless"
)

// Reasons of the condition ClockInSync on a Speaker.
const (
	// ReasonInSync: the node's clock is that of the API server, within five seconds.
	//
	// On: Speaker ClockInSync
	//
	// Fix: nothing to do.
	ReasonInSync = "InSync"

	// ReasonClockOff: the node's clock is more than five seconds from the API server's.
	//
	// On: Speaker ClockInSync
	//
	// Fix: see that NTP works on the node: chronyc tracking, timedatectl. If all nodes say
	// so, it is the API server's clock that is off. Announcing goes on.
	ReasonClockOff = "ClockOff"
)

// Reasons of the events that are recorded about Services.
const (
	// EventAssigned: the Service was given addresses. The message says why these.
	//
	// On: events of Services
	//
	// Fix: nothing to do.
	EventAssigned = "Assigned"

	// EventAssignmentFailed: the Service cannot have what it asks for.
	//
	// On: events of Services
	//
	// Fix: see the condition fairlead.dev/AddressAssigned.
	EventAssignmentFailed = "AssignmentFailed"

	// EventReleased: the Service gave addresses up.
	//
	// On: events of Services
	//
	// Fix: nothing to do.
	EventReleased = "Released"

	// EventRetiring: an address of the Service is no longer in its pool. The Service keeps
	// it until it gives it back.
	//
	// On: events of Services
	//
	// Fix: nothing to do; to have another address, delete the Service and create it anew.
	EventRetiring = "Retiring"

	// EventConflict: the Service cannot keep an address, because another Service or a host
	// outside of the cluster has it.
	//
	// On: events of Services
	//
	// Fix: read the message: it says who has the address.
	EventConflict = "Conflict"
)

// Maximum lengths of the lists in a status. A longer list is truncated, and a
// count beside it has the total.
const (
	// MaxRetiring limits the addresses in status.retiring of a pool.
	MaxRetiring = 1000

	// MaxSpeakerLayer2 limits the addresses in status.layer2 of a Speaker;
	// status.ownedAddresses counts all.
	MaxSpeakerLayer2 = 4096

	// MaxSpeakerSessions limits the sessions in status.bgpSessions of a Speaker.
	MaxSpeakerSessions = 1024

	// MaxSpeakerServices limits the Services in each entry of status.layer2 and
	// status.conflicts of a Speaker.
	MaxSpeakerServices = 16
	// MaxSpeakerConflicts limits the foreign hosts in status.conflicts of a Speaker.
	MaxSpeakerConflicts = 256
	// MaxUnheard limits the speakers in status.gossip.unheardSpeakers of a Speaker.
	MaxUnheard = 5
	// MaxMoved limits the addresses in status.movedAddresses of a Speaker.
	MaxMoved = 64
	// MaxSpeakerHostAddresses limits the addresses in status.hostAddresses of a Speaker.
	MaxSpeakerHostAddresses = 256
	// MaxSpeakerOnLink and MaxSpeakerGateways limit the networks and gateways of an
	// interface of a Speaker.
	MaxSpeakerOnLink   = 64
	MaxSpeakerGateways = 16
)
