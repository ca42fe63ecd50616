package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses for Services.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,shortName=pool;pools,categories=fairlead
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.spec.addresses`
// +kubebuilder:printcolumn:name="Auto",type=boolean,JSONPath=`.spec.autoAssign`
// +kubebuilder:printcolumn:name="Assigned v4",type=integer,JSONPath=`.status.assignedIPv4`
// +kubebuilder:printcolumn:name="Free v4",type=integer,JSONPath=`.status.availableIPv4`
// +kubebuilder:printcolumn:name="Assigned v6",type=integer,JSONPath=`.status.assignedIPv6`
// +kubebuilder:printcolumn:name="Free v6",type=integer,JSONPath=`.status.availableIPv6`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="Disabled",type=boolean,JSONPath=`.spec.disabled`,priority=1
// +kubebuilder:printcolumn:name="Sharing",type=string,JSONPath=`.spec.sharing`,priority=1
// +kubebuilder:printcolumn:name="Excludes",type=string,JSONPath=`.spec.excludes`,priority=1
type IPAddressPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec defines the addresses of the pool and which Services can use them.
	//
	// +required
	Spec IPAddressPoolSpec `json:"spec"`

	// status is the usage of the pool.
	//
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec defines the addresses of a pool and which Services can use
// them.
type IPAddressPoolSpec struct {
	// addresses are the pool's addresses, IPv4, IPv6 or both: networks in CIDR
	// notation, or the first and the last address with a dash between them.
	// Example: ["192.0.2.0/28", "192.0.2.100-192.0.2.120", "2001:db8:0:1::/64"].
	// If you remove an address that a Service uses, the Service keeps it, and
	// status.retiring lists it.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Addresses []AddressRange `json:"addresses"`

	// excludes are addresses in spec.addresses that are never assigned, such as a
	// router's address, in the same notation. Example: ["192.0.2.1-192.0.2.5"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Excludes []AddressRange `json:"excludes,omitempty"`

	// autoAssign allows the pool to be used for Services that do not request a
	// pool. Default: true.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs excludes IPv4 addresses that end in .0 or .255, with which
	// some old clients cannot communicate. Default: false.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// disabled stops new assignments; Services keep the addresses that they have.
	// Default: false.
	//
	// +optional
	Disabled bool `json:"disabled,omitempty"`

	// maxPerNamespace is the maximum number of addresses of this pool for all
	// Services of one namespace together. Default: 0, no limit.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxPerNamespace int32 `json:"maxPerNamespace,omitempty"`

	// sharing is which Services with the same fairlead.dev/allow-shared-ip key and
	// different ports can share an address: those of the same Namespace, of the
	// whole Cluster, or none (Never). Default: Namespace.
	//
	// +optional
	// +kubebuilder:default=Namespace
	Sharing SharingPolicy `json:"sharing,omitempty"`

	// serviceAllocation restricts the pool to some Services, and sets its priority
	// among the pools that a Service can use. Default: all Services can use it.
	//
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// SharingPolicy is which Services can share an address.
//
// +kubebuilder:validation:Enum=Namespace;Cluster;Never
type SharingPolicy string

// The sharing policies.
const (
	SharingNamespace SharingPolicy = "Namespace"
	SharingCluster   SharingPolicy = "Cluster"
	SharingNever     SharingPolicy = "Never"
)

// ServiceAllocation selects the Services that can use a pool. The Service's
// namespace must be in namespaces or match one of namespaceSelectors, and the
// Service must match one of serviceSelectors. An empty list has no effect.
type ServiceAllocation struct {
	// priority is the order among the pools that a Service can use: 1 is used
	// first, then 2, and so on; 0 is used last. Default: 0.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority int32 `json:"priority,omitempty"`

	// namespaces are the names of namespaces whose Services can use the pool.
	// Example: ["shop", "blog"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	Namespaces []NamespaceName `json:"namespaces,omitempty"`

	// namespaceSelectors select such namespaces by their labels; a namespace must
	// match at least one.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NamespaceSelectors []LabelSelector `json:"namespaceSelectors,omitempty"`

	// serviceSelectors select Services by their labels; a Service must match at
	// least one.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	ServiceSelectors []LabelSelector `json:"serviceSelectors,omitempty"`
}

// NamespaceName is the name of a namespace.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z0-9]([-a-z0-9]*[a-z0-9])?$')`,messageExpression=`'"' + self + '" cannot be the name of a namespace; write lower-case letters, digits and "-"; to choose by label use namespaceSelectors'`
type NamespaceName string

// IPAddressPoolStatus is the usage of a pool. A count that is too large for its
// field (a /64 has 2^64 addresses) is 9223372036854775807.
type IPAddressPoolStatus struct {
	// assignedIPv4 is the number of IPv4 addresses that are assigned.
	//
	// +optional
	// +kubebuilder:default=0
	AssignedIPv4 int64 `json:"assignedIPv4"`

	// assignedIPv6 is the number of IPv6 addresses that are assigned.
	//
	// +optional
	// +kubebuilder:default=0
	AssignedIPv6 int64 `json:"assignedIPv6"`

	// availableIPv4 is the number of IPv4 addresses that are free.
	//
	// +optional
	// +kubebuilder:default=0
	AvailableIPv4 int64 `json:"availableIPv4"`

	// availableIPv6 is the number of IPv6 addresses that are free.
	//
	// +optional
	// +kubebuilder:default=0
	AvailableIPv6 int64 `json:"availableIPv6"`

	// retiring are addresses that Services use and that are no longer in
	// spec.addresses. They stay assigned and announced until the Service releases
	// them; they are not assigned again. The first 1000 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +listMapKey=service
	// +kubebuilder:validation:MaxItems=1000
	Retiring []RetiringAddress `json:"retiring,omitempty"`

	// conditions has the condition Ready: True if the pool is in effect as written,
	// otherwise with the reason.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RetiringAddress is an address that a Service uses and that is no longer in the
// pool's spec.
type RetiringAddress struct {
	// address is the address. Example: "192.0.2.10".
	//
	// +required
	Address string `json:"address"`

	// service is the Service that uses the address, as namespace/name. Example:
	// "shop/web".
	//
	// +required
	Service string `json:"service"`
}

// IPAddressPoolList is a list of pools.
//
// +kubebuilder:object:root=true
type IPAddressPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressPool `json:"items"`
}
