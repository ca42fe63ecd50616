package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPPeer is a router with which the nodes have BGP sessions (RFC 4271).
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=bgppeer,categories=fairlead
// +kubebuilder:printcolumn:name="Address",type=string,JSONPath=`.spec.peerAddress`
// +kubebuilder:printcolumn:name="Interface",type=string,JSONPath=`.spec.interface`
// +kubebuilder:printcolumn:name="My ASN",type=integer,JSONPath=`.spec.myASN`
// +kubebuilder:printcolumn:name="Peer ASN",type=integer,JSONPath=`.spec.peerASN`
// +kubebuilder:printcolumn:name="Established",type=integer,JSONPath=`.status.sessionsEstablished`
// +kubebuilder:printcolumn:name="Wanted",type=integer,JSONPath=`.status.sessionsWanted`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Dynamic ASN",type=string,JSONPath=`.spec.dynamicASN`,priority=1
// +kubebuilder:printcolumn:name="BFD",type=string,JSONPath=`.spec.bfdProfile`,priority=1
// +kubebuilder:printcolumn:name="Hold",type=string,JSONPath=`.spec.holdTime`,priority=1
// +kubebuilder:printcolumn:name="VRF",type=string,JSONPath=`.spec.vrf`,priority=1
type BGPPeer struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec defines the router's address and the parameters of the sessions.
	//
	// +required
	Spec BGPPeerSpec `json:"spec"`

	// status is the state of the sessions.
	//
	// +optional
	Status BGPPeerStatus `json:"status,omitempty"`
}

// BGPPeerSpec defines a router's address and the parameters of the sessions.
// +kubebuilder:validation:XValidation:rule=`has(self.peerAddress) || has(self.interface)`,fieldPath=`.peerAddress`,message=`neither peerAddress nor interface is set; write peerAddress, such as "192.0.2.1", or interface, such as "eth1", for an unnumbered session`
// +kubebuilder:validation:XValidation:rule=`!has(self.peerAddress) || !has(self.interface)`,fieldPath=`.interface`,message=`both peerAddress and interface are set; set only one of them: peerAddress, or interface for an unnumbered session`
// +kubebuilder:validation:XValidation:rule=`has(self.peerASN) || has(self.dynamicASN)`,fieldPath=`.peerASN`,message=`the router's AS number is missing; write peerASN, such as 64513, or dynamicASN: external (or internal)`
// +kubebuilder:validation:XValidation:rule=`!has(self.peerASN) || !has(self.dynamicASN)`,fieldPath=`.dynamicASN`,message=`both peerASN and dynamicASN are set; set only one of them: peerASN, or dynamicASN to accept the number in the router's OPEN message`
// +kubebuilder:validation:XValidation:rule=`!has(self.localASN) || self.localASN != self.myASN`,fieldPath=`.localASN`,message=`localASN is the same as myASN; leave localASN out, or write another number`
// +kubebuilder:validation:XValidation:rule=`!has(self.localASN) || !has(self.peerASN) || self.localASN != self.peerASN`,fieldPath=`.localASN`,message=`localASN is the same as peerASN; leave localASN out, and write that number in myASN for an internal session`
// +kubebuilder:validation:XValidation:rule=`!has(self.localASN) || !(has(self.peerASN) && self.peerASN == self.myASN || has(self.dynamicASN) && self.dynamicASN == 'internal')`,fieldPath=`.localASN`,message=`localASN is for external sessions, and this one is internal; leave localASN out`
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || has(self.peerAddress)`,fieldPath=`.sourceAddress`,message=`sourceAddress needs peerAddress; an unnumbered session uses the interface's link-local address, so leave sourceAddress out`
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !has(self.peerAddress) || !isIP(self.sourceAddress) || !isIP(self.peerAddress) || ip(self.sourceAddress).family() == ip(self.peerAddress).family()`,fieldPath=`.sourceAddress`,messageExpression=`'sourceAddress %s and peerAddress %s are of different families; write an %s sourceAddress, or leave it out'.format([self.sourceAddress, self.peerAddress, ip(self.peerAddress).family() == 4 ? 'IPv4' : 'IPv6'])`
// +kubebuilder:validation:XValidation:rule=`!has(self.sourceAddress) || !has(self.peerAddress) || self.sourceAddress != self.peerAddress`,fieldPath=`.sourceAddress`,message=`sourceAddress is the router's address; write the node's own, or leave it out`
// +kubebuilder:validation:XValidation:rule=`!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.ttlSecurity) || !self.ttlSecurity`,fieldPath=`.ttlSecurity`,message=`ttlSecurity accepts only routers one hop away, and ebgpMultiHop is for routers more hops away; leave one of them out`
// +kubebuilder:validation:XValidation:rule=`!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !(has(self.peerASN) && self.peerASN == self.myASN || has(self.dynamicASN) && self.dynamicASN == 'internal')`,fieldPath=`.ebgpMultiHop`,message=`ebgpMultiHop is for external sessions, and this one is internal, which may have any number of hops; leave ebgpMultiHop out`
// +kubebuilder:validation:XValidation:rule=`!has(self.ebgpMultiHop) || !self.ebgpMultiHop || !has(self.interface)`,fieldPath=`.ebgpMultiHop`,message=`ebgpMultiHop is for a router several hops away, and a router found by interface is a direct neighbour; leave ebgpMultiHop out, or write peerAddress instead of interface`
// +kubebuilder:validation:XValidation:rule=`!has(self.keepaliveTime) || !has(self.holdTime) || ![self.holdTime, self.keepaliveTime].all(d, d != "" && d.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$')) || duration(self.holdTime) != duration('0s')`,fieldPath=`.keepaliveTime`,message=`with holdTime "0s" no KEEPALIVE is sent; leave keepaliveTime out`
// +kubebuilder:validation:XValidation:rule=`!has(self.keepaliveTime) || !has(self.holdTime) || ![self.holdTime, self.keepaliveTime].all(d, d != "" && d.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$')) || duration(self.holdTime) == duration('0s') || duration(self.keepaliveTime) < duration(self.holdTime)`,fieldPath=`.keepaliveTime`,messageExpression=`'keepaliveTime "%s" is not less than holdTime "%s"; write at most a third of holdTime, or leave keepaliveTime out'.format([self.keepaliveTime, self.holdTime])`
type BGPPeerSpec struct {
	// myASN is the cluster's own AS number. Example: 64512.
	//
	// +required
	MyASN ASN `json:"myASN"`

	// peerASN is the router's AS number. Set either peerASN or dynamicASN.
	//
	// +optional
	PeerASN ASN `json:"peerASN,omitempty"`

	// dynamicASN takes the router's AS number from its OPEN message: internal
	// accepts only myASN, external any other. Set either peerASN or dynamicASN.
	//
	// +optional
	DynamicASN DynamicASN `json:"dynamicASN,omitempty"`

	// localASN is the AS number to use instead of myASN in an external session with
	// this router (RFC 7705). Default: myASN.
	//
	// +optional
	LocalASN ASN `json:"localASN,omitempty"`

	// peerAddress is the router's address. Example: "192.0.2.1". Set either
	// peerAddress or interface.
	//
	// +optional
	// +kubebuilder:validation:XValidation:rule=`!isIP(self) || !cidr('fe80::/10').containsIP(self)`,messageExpression=`'"' + self + '" is a link-local address, which needs an interface; write interface instead of peerAddress'`
	PeerAddress IPAddress `json:"peerAddress,omitempty"`

	// interface is the network interface of the nodes on which the router is
	// discovered by its IPv6 link-local address (an unnumbered session). Example:
	// "eth1". Set either peerAddress or interface.
	//
	// +optional
	Interface InterfaceName `json:"interface,omitempty"`

	// sourceAddress is the node's address from which to connect, of the same family
	// as peerAddress. As it belongs to one node, nodeSelectors should select that
	// node. Default: the source address according to the node's routes.
	//
	// +optional
	SourceAddress IPAddress `json:"sourceAddress,omitempty"`

	// peerPort is the TCP port of the router, 1 to 65535. Default: 179.
	//
	// +optional
	// +kubebuilder:default=179
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=65535
	PeerPort int32 `json:"peerPort,omitempty"`

	// holdTime is the proposed hold time: the session ends if no message arrives
	// from the router for this time; the lower value of both sides is used. "0s"
	// (no limit) or 3 s to 65535 s, whole seconds (RFC 4271, 4.2). Default: "90s".
	//
	// +optional
	// +kubebuilder:default="90s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != ""`,messageExpression=`'"%s" is not a whole number of seconds; write one like "90s", "1m30s" or "2h"'.format([self])`
	// +kubebuilder:validation:XValidation:rule=`!(self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != "") || duration(self) >= duration('3s') || duration(self) == duration('0s')`,messageExpression=`'"%s" is shorter than the 3 s that RFC 4271 allows; write at least "3s", or "0s" for a session that never times out; to notice a dead router sooner use bfdProfile'.format([self])`
	// +kubebuilder:validation:XValidation:rule=`!(self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != "") || duration(self) <= duration('65535s')`,messageExpression=`'"%s" is longer than the maximum of 65535 s (RFC 4271); write at most "65535s", or "0s" for a session that never times out'.format([self])`
	HoldTime *metav1.Duration `json:"holdTime,omitempty"`

	// keepaliveTime is the interval of KEEPALIVE messages, in whole seconds, less
	// than holdTime. Default: a third of the negotiated hold time (RFC 4271, 4.4),
	// which is also the recommended maximum.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != ""`,messageExpression=`'"%s" is not a whole number of seconds; write one like "90s", "1m30s" or "2h"'.format([self])`
	// +kubebuilder:validation:XValidation:rule=`!(self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != "") || duration(self) >= duration('1s')`,messageExpression=`'"%s" is shorter than the 1 s that RFC 4271 allows; write at least "1s", or leave keepaliveTime out for a third of the hold time'.format([self])`
	KeepaliveTime *metav1.Duration `json:"keepaliveTime,omitempty"`

	// connectTime is the time between attempts to connect (RFC 4271, 8:
	// ConnectRetryTime), 1 s to 65535 s, whole seconds. Default: "10s".
	//
	// +optional
	// +kubebuilder:default="10s"
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != ""`,messageExpression=`'"%s" is not a whole number of seconds; write one like "90s", "1m30s" or "2h"'.format([self])`
	// +kubebuilder:validation:XValidation:rule=`!(self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != "") || duration(self) >= duration('1s') && duration(self) <= duration('65535s')`,messageExpression=`'"%s" is out of range; write "1s" to "65535s"'.format([self])`
	ConnectTime *metav1.Duration `json:"connectTime,omitempty"`

	// routerID is the BGP identifier (RFC 6286), in the notation of an IPv4
	// address. It must differ between nodes, so nodeSelectors should select one
	// node. Example: "192.0.2.11". Default: the node's IPv4 address or, without
	// one, a number derived from the node's name.
	//
	// +optional
	// +kubebuilder:validation:MaxLength=45
	// +kubebuilder:validation:XValidation:rule=`isIP(self) && ip(self).family() == 4 && self != '0.0.0.0'`,messageExpression=`'"' + self + '" is not a router ID; write one like an IPv4 address other than 0.0.0.0, such as "192.0.2.11", or leave routerID out'`
	RouterID string `json:"routerID,omitempty"`

	// nodeSelectors select the nodes that have a session with the router by their
	// labels; a node must match at least one. Default: all nodes.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// passwordSecret is the Secret with the password of the session (TCP MD5, RFC
	// 2385). Default: no password.
	//
	// +optional
	PasswordSecret *PasswordSecret `json:"passwordSecret,omitempty"`

	// bfdProfile is the name of the BFDProfile that monitors the path to the router
	// (RFC 5880). Default: no BFD.
	//
	// +optional
	BFDProfile ObjectName `json:"bfdProfile,omitempty"`

	// gracefulRestart requests that the router keeps the routes while the speaker
	// restarts (RFC 4724), so that an upgrade loses no packets. Default: true.
	//
	// +optional
	// +kubebuilder:default=true
	GracefulRestart *bool `json:"gracefulRestart,omitempty"`

	// ebgpMultiHop allows an external router to be more than one hop away.
	// Default: false.
	//
	// +optional
	EBGPMultiHop bool `json:"ebgpMultiHop,omitempty"`

	// ttlSecurity drops packets whose TTL shows that they do not come from a
	// directly connected router (GTSM, RFC 5082). The router must be configured for
	// it too. Default: false.
	//
	// +optional
	TTLSecurity bool `json:"ttlSecurity,omitempty"`

	// vrf is the name of the VRF on the nodes by which the router is reached.
	// Default: the main routing table.
	//
	// +optional
	VRF InterfaceName `json:"vrf,omitempty"`

	// passive waits for the router to connect instead of connecting to it. Default:
	// false.
	//
	// +optional
	Passive bool `json:"passive,omitempty"`
}

// DynamicASN is which AS numbers are accepted in the router's OPEN message.
//
// +kubebuilder:validation:Enum=internal;external
type DynamicASN string

// Which AS numbers are accepted in the router's OPEN message.
const (
	DynamicASNInternal DynamicASN = "internal"
	DynamicASNExternal DynamicASN = "external"
)

// PasswordSecret is a key of a Secret in the namespace in which Fairlead is
// installed.
type PasswordSecret struct {
	// name is the Secret's name.
	//
	// +required
	Name ObjectName `json:"name"`

	// key is the key in the Secret whose value is the password. Default:
	// "password".
	//
	// +optional
	// +kubebuilder:default=password
	// +kubebuilder:validation:MaxLength=253
	// +kubebuilder:validation:XValidation:rule=`self.matches('^[-._A-Za-z0-9]+$')`,messageExpression=`'"' + self + '" cannot be a key of a Secret; write letters, digits, "-", "_" and "."'`
	Key string `json:"key,omitempty"`
}

// BGPPeerStatus is the state of the sessions with a router.
type BGPPeerStatus struct {
	// sessionsWanted is the number of nodes that should have a session with the
	// router.
	//
	// +optional
	SessionsWanted int32 `json:"sessionsWanted"`

	// sessionsEstablished is the number of these sessions that are established.
	//
	// +optional
	SessionsEstablished int32 `json:"sessionsEstablished"`

	// conditions has the condition Ready: True if all these sessions are
	// established, otherwise with the reason and the sessions that are not.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPPeerList is a list of peers.
//
// +kubebuilder:object:root=true
type BGPPeerList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPPeer `json:"items"`
}
