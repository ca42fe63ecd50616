package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2Advertisement announces addresses on the local network, by ARP (IPv4, RFC
// 826) and NDP (IPv6, RFC 4861): one node at a time answers for an address. An
// empty spec announces every address, on any node and interface.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=l2adv,categories=fairlead
// +kubebuilder:printcolumn:name="Pools",type=string,JSONPath=`.spec.ipAddressPools`
// +kubebuilder:printcolumn:name="Interfaces",type=string,JSONPath=`.spec.interfaces`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Pool Selectors",type=string,JSONPath=`.spec.ipAddressPoolSelectors`,priority=1
// +kubebuilder:printcolumn:name="Service Selectors",type=string,JSONPath=`.spec.serviceSelectors`,priority=1
// +kubebuilder:printcolumn:name="Node Selectors",type=string,JSONPath=`.spec.nodeSelectors`,priority=1
type L2Advertisement struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec defines the addresses, nodes and interfaces.
	//
	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`

	// status says whether the advertisement is in effect.
	//
	// +optional
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementSpec defines the addresses, nodes and interfaces.
type L2AdvertisementSpec struct {
	// ipAddressPools are the names of the pools whose addresses are announced.
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

	// serviceSelectors select the Services to announce by their labels; a Service
	// must match at least one. Default: all Services.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`

	// nodeSelectors select the nodes that can announce by their labels; a node must
	// match at least one. Default: all nodes.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// preferredNodeSelectors set which of these nodes are preferred. The weights of
	// the selectors that match a node are summed, and a node with the highest sum
	// among the candidates announces the address. They never move an address that
	// is already announced.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// interfaces are the network interfaces on which to announce: names, or
	// patterns with * ? and [a-z]. Examples: ["eth1"], ["bond*"]. Default: the
	// interfaces with an address in the subnet of the announced address. To use an
	// interface without any address, write its full name.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Interfaces []InterfacePattern `json:"interfaces,omitempty"`
}

// PreferredNodeSelector adds a weight to the nodes that it selects.
type PreferredNodeSelector struct {
	// weight is added for each node that matches, 1 to 100.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// preference selects nodes by their labels.
	//
	// +required
	Preference LabelSelector `json:"preference"`
}

// L2AdvertisementStatus says whether an advertisement is in effect.
type L2AdvertisementStatus struct {
	// conditions has the condition Ready: True if the advertisement is in effect as
	// written, otherwise with the reason.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// L2AdvertisementList is a list of advertisements.
//
// +kubebuilder:object:root=true
type L2AdvertisementList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []L2Advertisement `json:"items"`
}
