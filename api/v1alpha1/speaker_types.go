package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Speaker is what the speaker on one node says about itself. It has the node's
// name and is written only by that speaker, which also finds the others by it.
// There is nothing to configure in it; by annotations a user can have it drained,
// or take addresses over.
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

	// status is what the speaker says about itself.
	//
	// +optional
	Status SpeakerStatus `json:"status,omitempty"`
}

// SpeakerStatus is what a speaker says about itself.
type SpeakerStatus struct {
	// gossipEndpoint is where the other speakers reach this one. Examples:
	// "192.0.2.11:7946", "[2001:db8::11]:7946".
	//
	// +optional
	GossipEndpoint string `json:"gossipEndpoint,omitempty"`

	// gossipKeys are fingerprints of the gossip keys that this speaker understands:
	// of Secret fairlead-gossip, first data.key, with which it encrypts, then the
	// others by name. Example: "3f9a0c51".
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

	// interfaces are the network interfaces that the speaker can announce on.
	//
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=1024
	Interfaces []SpeakerInterface `json:"interfaces,omitempty"`

	// hostAddresses are the addresses of the node that are on none of these
	// interfaces, such as on a loopback, a tunnel or a bridge of containers. They are
	// assigned to no Service. The first 256 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=256
	HostAddresses []SpeakerHostAddress `json:"hostAddresses,omitempty"`

	// ownedAddresses is how many addresses this speaker answers for by ARP and
	// NDP.
	//
	// +optional
	// +kubebuilder:default=0
	OwnedAddresses int32 `json:"ownedAddresses"`

	// layer2 are the addresses that this speaker answers for by ARP and NDP. The
	// first 4096 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +kubebuilder:validation:MaxItems=4096
	Layer2 []SpeakerAddress `json:"layer2,omitempty"`

	// conflicts are addresses that this speaker should announce and that a host
	// outside of the cluster says it has. The first 256 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +listMapKey=interface
	// +kubebuilder:validation:MaxItems=256
	Conflicts []SpeakerConflict `json:"conflicts,omitempty"`

	// sessions is how many BGP sessions are established, of how many that are
	// wanted. Example: "2/2".
	//
	// +optional
	Sessions string `json:"sessions,omitempty"`

	// bgpSessions are the BGP sessions that this speaker should have.
	//
	// +optional
	// +listType=map
	// +listMapKey=peer
	// +kubebuilder:validation:MaxItems=1024
	BGPSessions []SpeakerBGPSession `json:"bgpSessions,omitempty"`

	// gossip is what the speaker knows from gossip with the other speakers. Absent while
	// the speaker looks for them.
	//
	// +optional
	Gossip *SpeakerGossip `json:"gossip,omitempty"`

	// clockOffset is how far the node's clock is ahead of the API server's; negative if
	// it is behind, "0s" within 5 seconds. Absent until it is known. Example: "-1m30s".
	//
	// +optional
	ClockOffset *metav1.Duration `json:"clockOffset,omitempty"`

	// movedAddresses are the addresses that this speaker took over by the last order
	// of a user (annotations fairlead.dev/take and fairlead.dev/rebalance). The last 64
	// are listed.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=64
	MovedAddresses []string `json:"movedAddresses,omitempty"`

	// conditions: Ready is True when the speaker is a member among the others and
	// announces what it should. Moved says what became of the last order to take
	// addresses over, KubeProxyHealthy whether the node's kube-proxy works, ClockInSync
	// whether the node's clock is that of the API server.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// SpeakerGossip is what a speaker knows from gossip with the other speakers.
type SpeakerGossip struct {
	// speakersInTouch is how many speakers, this one included, are in touch.
	//
	// +required
	SpeakersInTouch int32 `json:"speakersInTouch"`

	// unheardSpeakers are nodes whose speakers are alive according to others, and from
	// which this speaker has received nothing for 5 seconds. The first 5 are listed.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=5
	UnheardSpeakers []string `json:"unheardSpeakers,omitempty"`

	// unheardSpeakersCount is how many there are.
	//
	// +optional
	UnheardSpeakersCount int32 `json:"unheardSpeakersCount,omitempty"`

	// keyFault is why the speaker does not use all gossip keys in the Secret. Empty if
	// it does.
	//
	// +optional
	KeyFault string `json:"keyFault,omitempty"`
}

// SpeakerInterface is a network interface that a speaker can announce on.
type SpeakerInterface struct {
	// name is the interface's name. Example: "eth0".
	//
	// +required
	Name string `json:"name"`

	// mac is its hardware address. Example: "02:00:5e:00:53:01".
	//
	// +optional
	MAC string `json:"mac,omitempty"`

	// addresses are its own addresses with the lengths of their subnets. Example:
	// ["192.0.2.11/24"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	Addresses []string `json:"addresses,omitempty"`

	// onLink are networks beside those of its addresses whose hosts are reached on it
	// directly: the node has a route without a gateway. Example: ["2001:db8::/64"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	OnLink []string `json:"onLink,omitempty"`

	// uplinkFor are the kinds of addresses for which the node's default route leaves by
	// it. Example: ["IPv4"].
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

	// internal is whether it leads to containers or into a tunnel, as its name or kind
	// says: addresses are announced on it only by L2Advertisements that name it.
	//
	// +optional
	Internal bool `json:"internal,omitempty"`

	// up is whether it is switched on and has a carrier.
	//
	// +optional
	Up bool `json:"up"`

	// fails are the kinds of addresses for which the speaker could not open it, as the
	// condition Ready says: other nodes announce these. Example: ["IPv6"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Fails []IPFamily `json:"fails,omitempty"`
}

// SpeakerHostAddress is an address that a node has itself.
type SpeakerHostAddress struct {
	// address is the address. Example: "192.0.2.10".
	//
	// +required
	Address string `json:"address"`

	// interface is the name of the network interface that has it. Example: "lo".
	//
	// +required
	Interface string `json:"interface"`
}

// SpeakerAddress is an address that a speaker answers for.
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

	// services are the first few of the Services that have the address, as
	// namespace/name; serviceCount is how many there are. Example: ["shop/web"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	Services []string `json:"services,omitempty"`

	// serviceCount is how many Services have the address.
	//
	// +optional
	ServiceCount int32 `json:"serviceCount,omitempty"`

	// since is when this speaker became its owner.
	//
	// +optional
	Since metav1.Time `json:"since,omitzero"`
}

// SpeakerConflict is a host outside of the cluster that has an address which a
// speaker should announce.
type SpeakerConflict struct {
	// address is the address. Example: "192.0.2.100".
	//
	// +required
	Address string `json:"address"`

	// interface is the name of the network interface on which the host was heard.
	//
	// +required
	Interface string `json:"interface"`

	// mac is the host's hardware address. Example: "02:00:5e:00:53:99".
	//
	// +optional
	MAC string `json:"mac,omitempty"`

	// defended is whether the speaker announces the address all the same. Otherwise
	// it does not, and probes again every ten seconds whether the address is free.
	//
	// +optional
	Defended bool `json:"defended,omitempty"`

	// answers is whether the host answered when the speaker asked it alone for the
	// address. If not, the frames that name its MAC may be forged.
	//
	// +optional
	Answers bool `json:"answers,omitempty"`

	// announced is whether this speaker had announced the address before the host
	// was heard. If not, the host was there first, and a Service that did not ask
	// for this very address is given another.
	//
	// +optional
	Announced bool `json:"announced,omitempty"`

	// services are the first few of the Services that have the address, as
	// namespace/name; serviceCount is how many there are.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1024
	Services []string `json:"services,omitempty"`

	// serviceCount is how many Services have the address.
	//
	// +optional
	ServiceCount int32 `json:"serviceCount,omitempty"`
}

// SpeakerBGPSession is a BGP session that a speaker should have.
type SpeakerBGPSession struct {
	// peer is the name of the BGPPeer.
	//
	// +required
	Peer string `json:"peer"`

	// state is the state of the session (RFC 4271, 8.2.2).
	//
	// +required
	State BGPSessionState `json:"state"`

	// since is when the session came into this state.
	//
	// +optional
	Since metav1.Time `json:"since,omitzero"`

	// prefixes is how many routes this speaker announces in the session.
	//
	// +optional
	Prefixes int32 `json:"prefixes"`

	// bfd is the state of the BFD session that watches the path (RFC 5880, 6.2);
	// absent without one.
	//
	// +optional
	BFD BFDSessionState `json:"bfd,omitempty"`

	// lastError is why the session last failed or could not be made. It stays
	// after the session came back.
	//
	// +optional
	LastError string `json:"lastError,omitempty"`

	// reason is why there is no session, or not one as the BGPPeer has it, in a
	// word of Kubernetes' conditions. Example: "SecretNotFound".
	//
	// +optional
	Reason string `json:"reason,omitempty"`

	// note is what a session lacks that is up, such as the routes of a family that
	// the router does not take.
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
