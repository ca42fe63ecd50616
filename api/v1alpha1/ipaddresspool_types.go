package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressPool is a set of addresses that Services can be given.
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

	// spec is which addresses there are, and who may have them.
	//
	// +required
	Spec IPAddressPoolSpec `json:"spec"`

	// status is how much of the pool is in use.
	//
	// +optional
	Status IPAddressPoolStatus `json:"status,omitempty"`
}

// IPAddressPoolSpec is which addresses there are, and who may have them.
type IPAddressPoolSpec struct {
	// addresses are the pool's addresses, IPv4, IPv6 or both: networks in CIDR
	// notation, or the first and the last address with a dash between them.
	// Example: ["192.0.2.0/28", "192.0.2.100-192.0.2.120", "2001:db8:0:1::/64"].
	// An address that is taken out while a Service has it stays with that Service,
	// and is listed in status.retiring.
	//
	// +required
	// +listType=set
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=64
	Addresses []AddressRange `json:"addresses"`

	// excludes are addresses that are never given although they are in addresses:
	// a router's, for example. They are written in the same way. Example:
	// ["192.0.2.1-192.0.2.5"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=64
	Excludes []AddressRange `json:"excludes,omitempty"`

	// autoAssign lets a Service that asks for no pool be given an address of this
	// one. Default: true.
	//
	// +optional
	// +kubebuilder:default=true
	AutoAssign *bool `json:"autoAssign,omitempty"`

	// avoidBuggyIPs leaves out IPv4 addresses that end in .0 or .255, which some
	// old clients cannot talk to. Default: false.
	//
	// +optional
	AvoidBuggyIPs bool `json:"avoidBuggyIPs,omitempty"`

	// disabled keeps what is assigned, and gives nothing new. Default: false.
	//
	// +optional
	Disabled bool `json:"disabled,omitempty"`

	// maxPerNamespace is how many addresses of this pool the Services of one
	// namespace can have together. Default: 0, which is no limit.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	MaxPerNamespace int32 `json:"maxPerNamespace,omitempty"`

	// sharing is who may share one address, given the same
	// fairlead.dev/allow-shared-ip key and different ports: Services of the same
	// Namespace, of the whole Cluster, or Never anyone. Default: Namespace.
	//
	// +optional
	// +kubebuilder:default=Namespace
	Sharing SharingPolicy `json:"sharing,omitempty"`

	// serviceAllocation says which Services the pool is for, and which pool comes
	// first where several would do. Default: it is for all.
	//
	// +optional
	ServiceAllocation *ServiceAllocation `json:"serviceAllocation,omitempty"`
}

// SharingPolicy is who may share one address by key.
//
// +kubebuilder:validation:Enum=Namespace;Cluster;Never
type SharingPolicy string

// Who may share one address by key.
const (
	SharingNamespace SharingPolicy = "Namespace"
	SharingCluster   SharingPolicy = "Cluster"
	SharingNever     SharingPolicy = "Never"
)

// ServiceAllocation says which Services a pool is for. A Service must be in
// one of namespaces or in one that namespaceSelectors choose, and be chosen by
// one of serviceSelectors; a list that is empty asks for nothing.
type ServiceAllocation struct {
	// priority is the order among pools that would all do: 1 comes first, then 2,
	// and so on; 0 comes last. Default: 0.
	//
	// +optional
	// +kubebuilder:validation:Minimum=0
	Priority int32 `json:"priority,omitempty"`

	// namespaces are the names of namespaces whose Services can have an address of
	// the pool. Example: ["shop", "blog"].
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=256
	Namespaces []NamespaceName `json:"namespaces,omitempty"`

	// namespaceSelectors choose such namespaces by their labels; one that matches
	// is enough.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=16
	NamespaceSelectors []LabelSelector `json:"namespaceSelectors,omitempty"`

	// serviceSelectors choose Services by their labels; one that matches is
	// enough.
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

// IPAddressPoolStatus is how much of a pool is in use. A count too large for
// the field (a /64 has 2^64 addresses) says 9223372036854775807.
type IPAddressPoolStatus struct {
	// assignedIPv4 is how many of the pool's IPv4 addresses Services have.
	//
	// +optional
	// +kubebuilder:default=0
	AssignedIPv4 int64 `json:"assignedIPv4"`

	// assignedIPv6 is how many of the pool's IPv6 addresses Services have.
	//
	// +optional
	// +kubebuilder:default=0
	AssignedIPv6 int64 `json:"assignedIPv6"`

	// availableIPv4 is how many of the pool's IPv4 addresses are free.
	//
	// +optional
	// +kubebuilder:default=0
	AvailableIPv4 int64 `json:"availableIPv4"`

	// availableIPv6 is how many of the pool's IPv6 addresses are free.
	//
	// +optional
	// +kubebuilder:default=0
	AvailableIPv6 int64 `json:"availableIPv6"`

	// retiring are addresses that a Service has although spec.addresses no longer
	// does. They stay, and are announced, until the Service gives them back; then
	// they are gone. The first 1000 are listed.
	//
	// +optional
	// +listType=map
	// +listMapKey=address
	// +listMapKey=service
	// +kubebuilder:validation:MaxItems=1000
	Retiring []RetiringAddress `json:"retiring,omitempty"`

	// conditions: Ready is True when the pool gives addresses as written, and
	// otherwise says why not.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// RetiringAddress is an address that is in use but no longer in a pool's spec.
type RetiringAddress struct {
	// address is the address. Example: "192.0.2.10".
	//
	// +required
	Address string `json:"address"`

	// service is the Service that has it, as namespace/name. Example: "shop/web".
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
