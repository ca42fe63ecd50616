package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// L2Advertisement has addresses announced on the local network, by ARP (IPv4,
// RFC 826) and NDP (IPv6, RFC 4861): one node at a time answers for an
// address. An empty spec announces every address on every node and interface.
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

	// spec is which addresses are announced, where.
	//
	// +optional
	Spec L2AdvertisementSpec `json:"spec,omitempty"`

	// status is whether the advertisement is in effect.
	//
	// +optional
	Status L2AdvertisementStatus `json:"status,omitempty"`
}

// L2AdvertisementSpec is which addresses are announced, where.
type L2AdvertisementSpec struct {
	// ipAddressPools are the names of the pools whose addresses are announced.
	// Default: with no ipAddressPoolSelectors either, all pools.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	IPAddressPools []ObjectName `json:"ipAddressPools,omitempty"`

	// ipAddressPoolSelectors choose pools by their labels, in addition to
	// ipAddressPools; one that matches is enough.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	IPAddressPoolSelectors []LabelSelector `json:"ipAddressPoolSelectors,omitempty"`

	// serviceSelectors choose the Services to announce by their labels; one that
	// matches is enough. Default: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`

	// nodeSelectors choose the nodes that may announce by their labels; one that
	// matches is enough. Default: all.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NodeSelectors []LabelSelector `json:"nodeSelectors,omitempty"`

	// preferredNodeSelectors say which of these nodes come first. The weights of
	// those that match a node are added up, and of the nodes that can announce one
	// with the highest sum does. It never moves an address that already is
	// announced.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	PreferredNodeSelectors []PreferredNodeSelector `json:"preferredNodeSelectors,omitempty"`

	// interfaces are the network interfaces to announce on: names, or patterns
	// with * ? and [a-z]. Examples: ["eth1"], ["bond*"]. Default: those with an
	// address in the subnet of the announced one. One that has no address at all
	// must be named in full.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=32
	Interfaces []InterfacePattern `json:"interfaces,omitempty"`
}

// PreferredNodeSelector gives the nodes it chooses a weight.
type PreferredNodeSelector struct {
	// weight is how much a node that matches is preferred, 1 to 100.
	//
	// +required
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=100
	Weight int32 `json:"weight"`

	// preference chooses nodes by their labels.
	//
	// +required
	Preference LabelSelector `json:"preference"`
}

// L2AdvertisementStatus is whether an advertisement is in effect.
type L2AdvertisementStatus struct {
	// conditions: Ready is True when the advertisement is in effect as written,
	// and otherwise says why not.
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
