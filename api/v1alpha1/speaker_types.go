package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Speaker is the state of the speaker on one node. It has the node's name, and
// only that speaker writes it; the other speakers read its endpoint. It has no
// configuration. Annotations on it drain the speaker or move addresses to it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=fairlead
// +kubebuilder:printcolumn:name="Endpoint",type=string,JSONPath=`.status.gossipEndpoint`
// +kubebuilder:printcolumn:name="Version",type=string,JSONPath=`.status.version`
// +kubebuilder:printcolumn:name="L2",type=integer,JSONPath=`.status.ownedAddresses`
// +kubebuilder:printcolumn:name="BGP",type=string,JSONPath=`.status.sessions`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
type Speaker struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// status is the state of the speaker.
	//
	// +optional
	Status SpeakerStatus `json:"status,omitempty"`
}

// SpeakerStatus is the state of a speaker.
type SpeakerStatus struct {
	// gossipEndpoint is the address and port at which the other speakers reach this
	// one. Examples: "192.0.2.11:7946", "[2001:db8::11]:7946".
	//
	// +optional
	GossipEndpoint string `json:"gossipEndpoint,omitempty"`

	// gossipKeys are the fingerprints of the gossip keys of this speaker, from
	// Secret fairlead-gossip: first data.key, with which it encrypts, then the
	// others, which it also accepts, by name. Example: "3f9a0c51".
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	// +kubebuilder:validation:items:MaxLength=64
	GossipKeys []string `json:"gossipKeys,omitempty"`

	// version is the speaker's version. Example: "v0.1.0".
	//
	// +optional
	Version string `json:"version,omitempty"`

	// interfaces are the network interfaces on which the speaker can announce.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=1024
	Interfaces []SpeakerInterface `json:"interfaces,omitempty"`

	// hostAddresses are the node's addresses on other interfaces, such as a loopback
	// interface, a tunnel or a container bridge. They are not assigned to Services.
	// The first 256 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	HostAddresses []SpeakerHostAddress `json:"hostAddresses,omitempty"`

	// ownedAddresses is the number of addresses that this speaker announces by ARP
	// and NDP.
	//
	// +optional
	// +kubebuilder:default=0
	OwnedAddresses int32 `json:"ownedAddresses"`

	// layer2 are the addresses that this speaker announces by ARP and NDP. The first
	// 4096 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=4096
	Layer2 []SpeakerAddress `json:"layer2,omitempty"`

	// conflicts are addresses of this speaker that a host outside of the cluster
	// uses too. The first 256 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +listMapKey=interface
	// +kubebuilder:validation:MaxItems=256
	Conflicts []SpeakerConflict `json:"conflicts,omitempty"`

	// sessions is the number of established BGP sessions and the number of
	// configured ones. Example: "2/2".
	//
	// +optional
	Sessions string `json:"sessions,omitempty"`

	// bgpSessions are the BGP sessions that are configured for this speaker.
	//
	// +optional
	// +listType=map
	// +listMapKey=peer
	// +kubebuilder:validation:MaxItems=1024
	BGPSessions []SpeakerBGPSession `json:"bgpSessions,omitempty"`

	// gossip is the state of the gossip with the other speakers. Absent until the
	// speaker has joined them.
	//
	// +optional
	Gossip *SpeakerGossip `json:"gossip,omitempty"`

	// clockOffset is the offset of the node's clock from the API server's: positive
	// if it is ahead, negative if it is behind, "0s" within 5 seconds. Absent until
	// it is known. Example: "-1m30s".
	//
	// +optional
	ClockOffset *metav1.Duration `json:"clockOffset,omitempty"`

	// movedAddresses are the addresses that this speaker took over at the last
	// request of a user (annotations fairlead.dev/take and fairlead.dev/rebalance).
	// The last 64 are listed.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	MovedAddresses []string `json:"movedAddresses,omitempty"`

	// conditions: Ready is True if the speaker has joined the other speakers and
	// announces its addresses. Moved is the result of the last requested move,
	// KubeProxyHealthy whether the node's kube-proxy works, NetworkReady whether no
	// kernel setting or network condition interferes with announcing, ClockInSync
	// whether the node's clock agrees with the API server's.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpeakerGossip is the state of a speaker's gossip with the other speakers.
type SpeakerGossip struct {
	// connectedSpeakers is the number of speakers in this speaker's group, including
	// itself.
	//
	// +required
	ConnectedSpeakers int32 `json:"connectedSpeakers"`

	// unheardSpeakers are the nodes from whose speakers this one has received
	// nothing for 5 seconds although other speakers report them as alive. The first
	// 5 are listed.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	UnheardSpeakers []string `json:"unheardSpeakers,omitempty"`

	// unheardSpeakersCount is the number of such speakers.
	//
	// +optional
	UnheardSpeakersCount int32 `json:"unheardSpeakersCount,omitempty"`

	// keyFault is why the speaker does not use all gossip keys in the Secret; empty
	// if it uses all.
	//
	// +optional
	KeyFault string `json:"keyFault,omitempty"`
}

// SpeakerInterface is a network interface on which a speaker can announce.
type SpeakerInterface struct {
	// name is the interface's name. Example: "eth0".
	//
	// +required
	Name string `json:"name"`

	// mac is the interface's hardware address. Example: "02:00:5e:00:53:01".
	//
	// +optional
	MAC string `json:"mac,omitempty"`

	// addresses are the interface's addresses with the prefix lengths of their
	// subnets. Example: ["192.0.2.11/24"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	Addresses []string `json:"addresses,omitempty"`

	// onLink are further networks whose hosts are reached directly on the interface:
	// the node has a route to them without a gateway. Example: ["2001:db8::/64"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	OnLink []string `json:"onLink,omitempty"`

	// uplinkFor are the IP families whose default route leaves by the interface.
	// Example: ["IPv4"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	UplinkFor []IPFamily `json:"uplinkFor,omitempty"`

	// gateways are the routers of these default routes. Example: ["192.0.2.1"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=16
	Gateways []string `json:"gateways,omitempty"`

	// internal says that, according to its name or kind, the interface leads to
	// containers or into a tunnel: addresses are announced on it only by
	// L2Advertisements that name it.
	//
	// +optional
	Internal bool `json:"internal,omitempty"`

	// up says that the interface is administratively up and has a carrier.
	//
	// +optional
	Up bool `json:"up"`

	// fails are the IP families for which the speaker could not open the interface;
	// see the condition Ready. Other nodes announce their addresses. Example:
	// ["IPv6"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Fails []IPFamily `json:"fails,omitempty"`
}

// SpeakerHostAddress is an address of a node.
type SpeakerHostAddress struct {
	// address is the address. Example: "192.0.2.10".
	//
	// +required
	Address string `json:"address"`

	// interface is the name of the network interface of the address. Example: "lo".
	//
	// +required
	Interface string `json:"interface"`
}

// SpeakerAddress is an address that a speaker announces.
type SpeakerAddress struct {
	// address is the address. Example: "192.0.2.100".
	//
	// +required
	Address string `json:"address"`

	// interfaces are the names of the network interfaces on which it is announced.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	Interfaces []string `json:"interfaces,omitempty"`

	// services are the first few of the Services that use the address, as
	// namespace/name; serviceCount is the number of all. Example: ["shop/web"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	Services []string `json:"services,omitempty"`

	// serviceCount is the number of Services that use the address.
	//
	// +optional
	ServiceCount int32 `json:"serviceCount,omitempty"`

	// since is when this speaker became the owner of the address.
	//
	// +optional
	Since metav1.Time `json:"since,omitzero"`
}

// SpeakerConflict is a host outside of the cluster that uses an address of the
// speaker.
type SpeakerConflict struct {
	// address is the address. Example: "192.0.2.100".
	//
	// +required
	Address string `json:"address"`

	// interface is the name of the network interface on which the host was detected.
	//
	// +required
	Interface string `json:"interface"`

	// mac is the host's hardware address. Example: "02:00:5e:00:53:99".
	//
	// +optional
	MAC string `json:"mac,omitempty"`

	// defended says that the speaker announces the address nevertheless. Otherwise it
	// does not announce it, and probes every ten seconds whether the address is free.
	//
	// +optional
	Defended bool `json:"defended,omitempty"`

	// answers says that the host replied to a unicast query for the address. If it
	// did not, the frames with its MAC may be forged.
	//
	// +optional
	Answers bool `json:"answers,omitempty"`

	// announced says that this speaker announced the address before the host was
	// detected. Otherwise the host used it first, and a Service that did not request
	// this address is assigned another one.
	//
	// +optional
	Announced bool `json:"announced,omitempty"`

	// services are the first few of the Services that use the address, as
	// namespace/name; serviceCount is the number of all.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	Services []string `json:"services,omitempty"`

	// serviceCount is the number of Services that use the address.
	//
	// +optional
	ServiceCount int32 `json:"serviceCount,omitempty"`
}

// SpeakerBGPSession is a BGP session that is configured for a speaker.
type SpeakerBGPSession struct {
	// peer is the name of the BGPPeer.
	//
	// +required
	Peer string `json:"peer"`

	// state is the state of the session (RFC 4271, 8.2.2).
	//
	// +required
	State BGPSessionState `json:"state"`

	// since is when the session entered this state.
	//
	// +optional
	Since metav1.Time `json:"since,omitzero"`

	// prefixes is the number of routes that this speaker advertises in the session.
	//
	// +optional
	Prefixes int32 `json:"prefixes"`

	// bfd is the state of the BFD session that monitors the path (RFC 5880, 6.2);
	// absent without BFD.
	//
	// +optional
	BFD BFDSessionState `json:"bfd,omitempty"`

	// lastError is why the session last failed or could not be established. It stays
	// after the session is established again.
	//
	// +optional
	LastError string `json:"lastError,omitempty"`

	// reason is a CamelCase reason, as in conditions, why there is no session, or why
	// the session differs from the BGPPeer's spec. Example: "SecretNotFound".
	//
	// +optional
	Reason string `json:"reason,omitempty"`

	// note is what an established session lacks, such as the routes of a family that
	// the router does not accept.
	//
	// +optional
	Note string `json:"note,omitempty"`
}

// BGPSessionState is the state of a BGP session (RFC 4271, 8.2.2).
//
// +kubebuilder:validation:Enum=Idle;Connect;Active;OpenSent;OpenConfirm;Established
type BGPSessionState string

// The states of a BGP session.
const (
	BGPSessionIdle        BGPSessionState = "Idle"
	BGPSessionConnect     BGPSessionState = "Connect"
	BGPSessionActive      BGPSessionState = "Active"
	BGPSessionOpenSent    BGPSessionState = "OpenSent"
	BGPSessionOpenConfirm BGPSessionState = "OpenConfirm"
	BGPSessionEstablished BGPSessionState = "Established"
)

// BFDSessionState is the state of a BFD session (RFC 5880, 6.2).
//
// +kubebuilder:validation:Enum=AdminDown;Down;Init;Up
type BFDSessionState string

// The states of a BFD session.
const (
	BFDSessionAdminDown BFDSessionState = "AdminDown"
	BFDSessionDown      BFDSessionState = "Down"
	BFDSessionInit      BFDSessionState = "Init"
	BFDSessionUp        BFDSessionState = "Up"
)

// SpeakerList is a list of speakers.
//
// +kubebuilder:object:root=true
type SpeakerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Speaker `json:"items"`
}
