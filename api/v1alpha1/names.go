package v1alpha1

// LoadBalancerClass is the spec.loadBalancerClass of the Services that are
// Fairlead's by name. By default so are those without a class.
const LoadBalancerClass = "fairlead.dev/fairlead"

// FinalizerPoolInUse holds a pool that is being deleted until no Service has
// an address of it.
const FinalizerPoolInUse = "fairlead.dev/pool-in-use"

// FinalizerClaimInUse holds a claim that is being deleted until no Service has
// its addresses.
const FinalizerClaimInUse = "fairlead.dev/claim-in-use"

// Annotations that a user writes on a Service.
const (
	// AnnotationLoadBalancerIPs asks for exact addresses, comma-separated, at most
	// one of each family: "192.0.2.10" or "192.0.2.10,2001:db8::10".
	AnnotationLoadBalancerIPs = "fairlead.dev/loadBalancerIPs"

	// AnnotationAddressPool asks for an address of the pool of this name.
	AnnotationAddressPool = "fairlead.dev/address-pool"

	// AnnotationAllowSharedIP is a key: Services with the same key may share an
	// address, if the pool's sharing says so and their ports differ.
	AnnotationAllowSharedIP = "fairlead.dev/allow-shared-ip"

	// AnnotationClaim asks for the addresses of the IPAddressClaim of this name in
	// the Service's namespace.
	AnnotationClaim = "fairlead.dev/claim"
)

// Annotations that a user writes on a Speaker.
const (
	// AnnotationDrain has the other speakers take over what this one announces, for
	// as long as it is there. Its value is the user's to choose: "true", or why.
	AnnotationDrain = "fairlead.dev/drain"

	// AnnotationTake has the speaker take these addresses over, comma-separated,
	// one after the other: "192.0.2.10,2001:db8::10". It then removes the annotation,
	// and says in the condition Moved what became of them.
	AnnotationTake = "fairlead.dev/take"

	// AnnotationRebalance, with any value, has the speaker take over addresses of
	// those that announce more, one after the other, until it has its share. It then
	// removes the annotation.
	AnnotationRebalance = "fairlead.dev/rebalance"
)

// The same annotations by MetalLB's names, its present and its former prefix.
// They are honoured; where both are there, Fairlead's own wins.
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
	// ConditionReady says whether an object of this package is in effect; every
	// kind with conditions has it.
	ConditionReady = "Ready"

	// ConditionAddressAssigned says, on a Service, whether it has the addresses it
	// asked for.
	ConditionAddressAssigned = "fairlead.dev/AddressAssigned"

	// ConditionAnnounced says, on a Service, whether the network is told about its
	// addresses, and by whom.
	ConditionAnnounced = "fairlead.dev/Announced"
)

// Condition types of a Speaker, beside ConditionReady.
const (
	// ConditionMoved says what became of the last order to take addresses over: False
	// while it goes on, and when one could not be taken.
	ConditionMoved = "Moved"

	// ConditionKubeProxyHealthy says whether the node's kube-proxy is healthy. It is
	// not there on nodes whose kube-proxy was never heard of.
	ConditionKubeProxyHealthy = "KubeProxyHealthy"
)

// Reasons of ConditionReady on the objects of this package. A claim that lacks an
// address has the reason that a Service in its place would have (internal/lb).
const (
	// ReasonAccepted: the object is in effect as written.
	ReasonAccepted = "Accepted"

	// ReasonInvalid: the object cannot be understood. The rules of this API refuse
	// such objects on entry, so this is one that was stored before the rule
	// existed.
	ReasonInvalid = "Invalid"

	// ReasonOverlap: a pool has addresses that an older pool has too.
	ReasonOverlap = "Overlap"

	// ReasonDisabled: a pool gives nothing new, because its spec says so.
	ReasonDisabled = "Disabled"

	// ReasonInUse: a pool or claim is being deleted, and waits for the Services
	// that have its addresses.
	ReasonInUse = "InUse"

	// ReasonPoolNotFound: no pool has a name that the object mentions.
	ReasonPoolNotFound = "PoolNotFound"

	// ReasonPeerNotFound: no BGPPeer has a name that the object mentions.
	ReasonPeerNotFound = "PeerNotFound"

	// ReasonCommunityNotFound: no Community has an alias that the object mentions.
	ReasonCommunityNotFound = "CommunityNotFound"

	// ReasonBFDProfileNotFound: no BFDProfile has the name that the peer mentions.
	ReasonBFDProfileNotFound = "BFDProfileNotFound"

	// ReasonSecretNotFound: the peer's password Secret, or its key, is not there.
	ReasonSecretNotFound = "SecretNotFound"

	// ReasonPeerConflict: an older BGPPeer is the same router for some node.
	ReasonPeerConflict = "PeerConflict"

	// ReasonContradiction: another advertisement says something else of the same
	// routes.
	ReasonContradiction = "Contradiction"

	// ReasonNoNodes: no node matches the object's node selectors.
	ReasonNoNodes = "NoNodes"

	// ReasonEstablished: every session that is wanted with the peer is up.
	ReasonEstablished = "Established"

	// ReasonNotEstablished: a session that is wanted with the peer is not up.
	ReasonNotEstablished = "NotEstablished"

	// ReasonBound: the claim's addresses are in use by a Service.
	ReasonBound = "Bound"

	// ReasonReserved: the claim has its addresses, and no Service uses them now.
	ReasonReserved = "Reserved"

	// ReasonAnnouncing: the speaker is a member among its peers, and announces
	// what it should.
	ReasonAnnouncing = "Announcing"

	// ReasonCannotAnnounce: the speaker cannot open an interface on which it should announce.
	ReasonCannotAnnounce = "CannotAnnounce"

	// ReasonJoining: the speaker looks for the others before it may own anything.
	ReasonJoining = "Joining"

	// ReasonStopping: the speaker hands over what it owns before it stops.
	ReasonStopping = "Stopping"
)

// Reasons of ConditionMoved and ConditionKubeProxyHealthy on a Speaker.
const (
	// ReasonMoving: the speaker takes addresses over.
	ReasonMoving = "Moving"

	// ReasonMoved: the speaker has taken over what it was to.
	ReasonMoved = "Moved"

	// ReasonRefused: the speaker could not take over all that it was to.
	ReasonRefused = "Refused"

	// ReasonHealthy: kube-proxy says that it is healthy.
	ReasonHealthy = "Healthy"

	// ReasonUnhealthy: kube-proxy says that it is not healthy.
	ReasonUnhealthy = "Unhealthy"

	// ReasonNoAnswer: kube-proxy, which answered before, does not answer.
	ReasonNoAnswer = "NoAnswer"
)

// How long the lists in a status may be. Who writes the status lists the first
// of them and gives the total beside it.
const (
	// MaxRetiring is how many addresses status.retiring of a pool lists.
	MaxRetiring = 1000

	// MaxSpeakerLayer2 is how many addresses status.layer2 of a Speaker lists;
	// status.ownedAddresses counts all.
	MaxSpeakerLayer2 = 4096

	// MaxSpeakerSessions is how many sessions status.bgpSessions of a Speaker lists.
	MaxSpeakerSessions = 1024

	// MaxSpeakerConflicts is how many foreign hosts status.conflicts of a Speaker
	// lists.
	MaxSpeakerConflicts = 256
)
