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
// address has the reason that a Service would have (internal/lb). What each means, and what
// to do about it, is in docs/reasons.md.
const (
	ReasonAccepted           = "Accepted"
	ReasonInvalid            = "Invalid"
	ReasonOverlap            = "Overlap"
	ReasonHostAnswersAll     = "HostAnswersAll"
	ReasonDisabled           = "Disabled"
	ReasonInUse              = "InUse"
	ReasonPoolNotFound       = "PoolNotFound"
	ReasonPeerNotFound       = "PeerNotFound"
	ReasonCommunityNotFound  = "CommunityNotFound"
	ReasonBFDProfileNotFound = "BFDProfileNotFound"
	ReasonSecretNotFound     = "SecretNotFound"
	ReasonPeerConflict       = "PeerConflict"
	ReasonContradiction      = "Contradiction"
	ReasonNoNodes            = "NoNodes"
	ReasonEstablished        = "Established"
	ReasonNotEstablished     = "NotEstablished"
	ReasonBound              = "Bound"
	ReasonReserved           = "Reserved"
	ReasonAnnouncing         = "Announcing"
	ReasonCannotAnnounce     = "CannotAnnounce"
	ReasonJoining            = "Joining"
	ReasonStopping           = "Stopping"
)

// Reasons of the condition EndpointValid on a Speaker, and of Ready while the speaker
// takes no part for such a reason.
const (
	ReasonValid                = "Valid"
	ReasonDuplicateEndpoint    = "DuplicateEndpoint"
	ReasonAddressFamilyDiffers = "AddressFamilyDiffers"
	ReasonNoUsableAddress      = "NoUsableAddress"
	ReasonAddressNotLocal      = "AddressNotLocal"
)

// Reasons of the conditions Moved and KubeProxyHealthy on a Speaker.
const (
	ReasonMoving    = "Moving"
	ReasonMoved     = "Moved"
	ReasonRefused   = "Refused"
	ReasonHealthy   = "Healthy"
	ReasonUnhealthy = "Unhealthy"
	ReasonNoAnswer  = "NoAnswer"
)

// Reasons of the condition NetworkReady on a Speaker.
const (
	ReasonChecksPassed      = "ChecksPassed"
	ReasonStrictARPMissing  = "StrictARPMissing"
	ReasonAddressHeld       = "AddressHeld"
	ReasonDHCPInPool        = "DHCPInPool"
	ReasonDuplicateNodeName = "DuplicateNodeName"
	ReasonNotForwarding     = "NotForwarding"
	ReasonStrictReversePath = "StrictReversePath"
	ReasonBridgeKeepsARP    = "BridgeKeepsARP"
	ReasonWireless          = "Wireless"
)

// Reasons of the condition ClockInSync on a Speaker.
const (
	ReasonInSync   = "InSync"
	ReasonClockOff = "ClockOff"
)

// Reasons of the events that are recorded about Services.
const (
	EventAssigned         = "Assigned"
	EventAssignmentFailed = "AssignmentFailed"
	EventReleased         = "Released"
	EventRetiring         = "Retiring"
	EventConflict         = "Conflict"
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
