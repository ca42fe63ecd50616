package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressClaim keeps addresses for a Service of its namespace, also while
// that Service does not exist. The Service names the claim in its annotation
// fairlead.dev/claim.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Namespaced,shortName=ipclaim,categories=fairlead
// +kubebuilder:printcolumn:name="Pool",type=string,JSONPath=`.status.pool`
// +kubebuilder:printcolumn:name="Addresses",type=string,JSONPath=`.status.addresses`
// +kubebuilder:printcolumn:name="Bound To",type=string,JSONPath=`.status.boundTo`
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:printcolumn:name="Reason",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].reason`,priority=1
// +kubebuilder:printcolumn:name="TTL",type=string,JSONPath=`.spec.ttlAfterRelease`,priority=1
type IPAddressClaim struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec is what to keep.
	//
	// +optional
	// +kubebuilder:default={}
	Spec IPAddressClaimSpec `json:"spec,omitempty"`

	// status is what is kept, and for whom.
	//
	// +optional
	Status IPAddressClaimStatus `json:"status,omitempty"`
}

// IPAddressClaimSpec is what to keep.
// +kubebuilder:validation:XValidation:rule=`!has(self.addresses) || self.addresses.size() == 2 && self.addresses[0] == self.addresses[1] || self.addresses.filter(a, isIP(a) && ip(a).family() == 4).size() < 2 && self.addresses.filter(a, isIP(a) && ip(a).family() == 6).size() < 2`,fieldPath=`.addresses`,message=`addresses has two of one family; write at most one IPv4 and one IPv6 address, and another claim for the rest`
// +kubebuilder:validation:XValidation:rule=`!has(self.addresses) || !has(self.families) || self.addresses.all(a, !isIP(a) || (ip(a).family() == 4 ? 'IPv4' : 'IPv6') in self.families)`,fieldPath=`.addresses`,messageExpression=`'addresses has one whose family is not in families; write families: [%s], or leave families out'.format([self.addresses.all(a, ip(a).family() == 4) ? 'IPv4' : self.addresses.all(a, ip(a).family() == 6) ? 'IPv6' : 'IPv4, IPv6'])`
// +kubebuilder:validation:XValidation:rule=`!has(self.addresses) || !has(self.families) || self.addresses.size() == 0 || self.addresses.exists(a, isIP(a) && !((ip(a).family() == 4 ? 'IPv4' : 'IPv6') in self.families)) || self.families.all(f, self.addresses.exists(a, !isIP(a) || (ip(a).family() == 4 ? 'IPv4' : 'IPv6') == f))`,fieldPath=`.families`,message=`families has one that addresses has no address of; write an address of each family, or leave addresses out`
// +kubebuilder:validation:XValidation:rule=`has(self.pool) == has(oldSelf.pool) && (!has(self.pool) || self.pool == oldSelf.pool)`,fieldPath=`.pool`,message=`pool of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim`
// +kubebuilder:validation:XValidation:rule=`has(self.families) == has(oldSelf.families) && (!has(self.families) || self.families == oldSelf.families)`,fieldPath=`.families`,message=`families of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim`
// +kubebuilder:validation:XValidation:rule=`has(self.addresses) == has(oldSelf.addresses) && (!has(self.addresses) || self.addresses == oldSelf.addresses)`,fieldPath=`.addresses`,message=`addresses of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim`
type IPAddressClaimSpec struct {
	// pool is the name of the IPAddressPool to take from. Default: any pool that a
	// Service of this namespace would be given an address of.
	//
	// +optional
	Pool ObjectName `json:"pool,omitempty"`

	// families is which kinds of address to keep, one address of each. Example:
	// ["IPv4", "IPv6"]. Default: the families of addresses; without those, IPv4.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Families []IPFamily `json:"families,omitempty"`

	// addresses are the exact addresses to keep, at most one of each family.
	// Example: ["192.0.2.10", "2001:db8::10"]. Default: any that are free.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:XValidation:rule=`!isIP(self) || !['127.0.0.0/8', '169.254.0.0/16', '0.0.0.0/8', '::/64', 'fe80::/10'].exists(n, cidr(n).containsIP(self)) || ip(self).isUnspecified()`,messageExpression=`'"' + self + '" is an address that no Service can have; write one of a pool, such as "192.0.2.10"'`
	Addresses []IPAddress `json:"addresses,omitempty"`

	// ttlAfterRelease is how long the addresses are kept after the Service that
	// used them is gone; then the claim is deleted. Whole seconds. Example: "24h".
	// "0s" keeps nothing. Default: they are kept until the claim is deleted.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != ""`,messageExpression=`'"%s" is no number of whole seconds; write one like "90s", "1m30s" or "2h"'.format([self])`
	TTLAfterRelease *metav1.Duration `json:"ttlAfterRelease,omitempty"`
}

// IPFamily is a kind of address: IPv4 or IPv6.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type IPFamily string

// The kinds of address, written as Kubernetes writes them.
const (
	IPv4 IPFamily = "IPv4"
	IPv6 IPFamily = "IPv6"
)

// IPAddressClaimStatus is what is kept, and for whom.
type IPAddressClaimStatus struct {
	// addresses are the addresses that are kept.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Addresses []string `json:"addresses,omitempty"`

	// pools are the names of the pools that the addresses are from, in the order of
	// addresses.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	Pools []string `json:"pools,omitempty"`

	// pool is the names in pools, without repetition, separated by commas: for kubectl get.
	//
	// +optional
	Pool string `json:"pool,omitempty"`

	// boundTo is the name of the Service that uses them.
	//
	// +optional
	BoundTo string `json:"boundTo,omitempty"`

	// releasedAt is when the last Service that used them gave them back;
	// spec.ttlAfterRelease counts from here.
	//
	// +optional
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`

	// conditions: Ready is True when the addresses are kept, and otherwise says
	// why not.
	//
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
}

// IPAddressClaimList is a list of claims.
//
// +kubebuilder:object:root=true
type IPAddressClaimList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []IPAddressClaim `json:"items"`
}
