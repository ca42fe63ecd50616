package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BGPAdvertisement advertises addresses to BGP peers (RFC 4271) as routes. An
// empty spec advertises every address from every node to every peer, as host
// routes.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=bgpadv,categories=fairlead
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Peers",type=string,JSONPath=`.spec.peers`
// +kubebuilder:printcolumn:name="Communities",type=string,JSONPath=`.spec.communities`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Pool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`,priority=1
// +kubebuilder:printcolumn:name="Service Selectors",type=string,JSONPath=`.spec.serviceSelectors`,priority=1
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=1
type BGPAdvertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec defines the addresses, nodes and peers, and the attributes of the routes.
	//
	// +optional
	// +kubebuilder:default={}
	Spec BGPAdvertisementSpec `json:"spec,omitempty"`

	// status says whether the advertisement is in effect.
	//
	// +optional
	Status BGPAdvertisementStatus `json:"status,omitempty"`
}

// BGPAdvertisementSpec defines the addresses, nodes and peers, and the
// attributes of the routes.
type BGPAdvertisementSpec struct {
	// ipAddressPools are the names of the pools whose addresses are advertised.
	// Default: all pools, unless ipAddressPoolSelectors is set.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	IPAddressPools []ObjectName `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors select pools by their labels, in addition to
	// ipAddressPools; a pool must match at least one.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	IPAddressPoolSelectors []LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// serviceSelectors select the Services to advertise by their labels; a Service
	// must match at least one. Default: all Services.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`

	// nodeSelectors select the nodes that advertise by their labels; a node must
	// match at least one. Default: all nodes.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// peers are the names of the BGPPeers to which the routes are advertised.
	// Default: all BGPPeers.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Peers []ObjectName `json:"peers,omitempty"`

	// aggregationLength is the prefix length of the advertised IPv4 routes, 0 to
	// 32: with 24, all addresses in one /24 are advertised as that /24. Default:
	// 32, a route for each address.
	//
	// +optional
	// +kubebuilder:default=32
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=32
	AggregationLength *int32 `json:"aggregationLength,omitempty"`

	// aggregationLengthV6 is the prefix length of the advertised IPv6 routes, 0 to
	// 128. Default: 128, a route for each address.
	//
	// +optional
	// +kubebuilder:default=128
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=128
	AggregationLengthV6 *int32 `json:"aggregationLengthV6,omitempty"`

	// localPref is the LOCAL_PREF attribute (RFC 4271, 5.1.5), 0 to 4294967295;
	// routers prefer a higher value. It is sent to internal peers only. Default:
	// 100.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	LocalPref *int64 `json:"localPref,omitempty"`

	// med is the MULTI_EXIT_DISC attribute (RFC 4271, 5.1.4), 0 to 4294967295;
	// routers prefer a lower value. Default: it is not sent.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=4294967295
	MED *int64 `json:"med,omitempty"`

	// asPathPrepend is how many additional times the own AS number is prepended to
	// the AS path for external peers, 0 to 16; routers prefer a shorter path.
	// Default: 0.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=16
	ASPathPrepend int32 `json:"asPathPrepend,omitempty"`

	// communities are attached to the routes. Each is two 16-bit numbers
	// ("65000:1", RFC 1997), a large community of three 32-bit numbers
	// ("large:65000:1:2", RFC 8092), a well-known name (no-export, no-advertise,
	// no-export-subconfed or local-as, no-peer, blackhole, graceful-shutdown,
	// accept-own, llgr-stale, no-llgr, internet), or an alias that a Community
	// object defines.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Communities []CommunityReference `json:"communities,omitempty"`
}

// CommunityReference is a BGP community or an alias.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$') || self.matches('^[0-9]{1,10}:[0-9]{1,10}$') || self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$')`,messageExpression=`'"' + self + '" is not a community; write two numbers like "65000:1", three like "large:65000:1:2", a well-known name like "no-export", or an alias that a Community defines'`
// +kubebuilder:validation:XValidation:rule=`!self.matches('^[0-9]{1,10}:[0-9]{1,10}$') || self.split(':', 3).all(n, int(n) <= 65535)`,messageExpression=`'"' + self + '" has a number above 65535, the maximum of each half; write a large community instead, such as "large:' + self + ':0"'`
// +kubebuilder:validation:XValidation:rule=`!self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') || self.replace('large:', "").split(':', 4).all(n, int(n) <= 4294967295)`,messageExpression=`'"' + self + '" has a number above 4294967295, the maximum of each part; write smaller numbers'`
type CommunityReference string

// BGPAdvertisementStatus says whether an advertisement is in effect.
type BGPAdvertisementStatus struct {
	// conditions has the condition Ready: True if the advertisement is in effect as
	// written, otherwise with the reason.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// BGPAdvertisementList is a list of advertisements.
//
// +kubebuilder:object:root=true
type BGPAdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BGPAdvertisement `json:"items"`
}
