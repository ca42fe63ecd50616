package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// IPAddressClaim reserves addresses for a Service in its namespace, also while
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

	// spec defines the addresses to reserve.
	//
	// +optional
	// +kubebuilder:default={}
	Spec IPAddressClaimSpec `json:"spec,omitempty"`

	// status has the reserved addresses and the Service that uses them.
	//
	// +optional
	Status IPAddressClaimStatus `json:"status,omitempty"`
}

// IPAddressClaimSpec defines the addresses to reserve.
// +kubebuilder:validation:XValidation:rule=`!has(self.addresses) || self.addresses.size() == 2 && self.addresses[0] == self.addresses[1] || self.addresses.filter(a, isIP(a) && ip(a).family() == 4).size() < 2 && self.addresses.filter(a, isIP(a) && ip(a).family() == 6).size() < 2`,fieldPath=`.addresses`,message=`addresses has two of one family; write at most one IPv4 and one IPv6 address, and another claim for the rest`
// +kubebuilder:validation:XValidation:rule=`!has(self.addresses) || !has(self.families) || self.addresses.all(a, !isIP(a) || (ip(a).family() == 4 ? 'IPv4' : 'IPv6') in self.families)`,fieldPath=`.addresses`,messageExpression=`'addresses has an address whose family is not in families; write families: [%s], or leave families out'.format([self.addresses.all(a, ip(a).family() == 4) ? 'IPv4' : self.addresses.all(a, ip(a).family() == 6) ? 'IPv6' : 'IPv4, IPv6'])`
// +kubebuilder:validation:XValidation:rule=`!has(self.addresses) || !has(self.families) || self.addresses.size() == 0 || self.addresses.exists(a, isIP(a) && !((ip(a).family() == 4 ? 'IPv4' : 'IPv6') in self.families)) || self.families.all(f, self.addresses.exists(a, !isIP(a) || (ip(a).family() == 4 ? 'IPv4' : 'IPv6') == f))`,fieldPath=`.families`,message=`families has a family without an address in addresses; write an address of each family, or leave addresses out`
// +kubebuilder:validation:XValidation:rule=`has(self.pool) == has(oldSelf.pool) && (!has(self.pool) || self.pool == oldSelf.pool)`,fieldPath=`.pool`,message=`pool of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim`
// +kubebuilder:validation:XValidation:rule=`has(self.families) == has(oldSelf.families) && (!has(self.families) || self.families == oldSelf.families)`,fieldPath=`.families`,message=`families of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim`
// +kubebuilder:validation:XValidation:rule=`has(self.addresses) == has(oldSelf.addresses) && (!has(self.addresses) || self.addresses == oldSelf.addresses)`,fieldPath=`.addresses`,message=`addresses of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim`
type IPAddressClaimSpec struct {
	// pool is the name of the IPAddressPool. Default: any pool from which a Service
	// of this namespace is assigned an address automatically.
	//
	// +optional
	Pool ObjectName `json:"pool,omitempty"`

	// families are the IP families to reserve, one address of each. Example:
	// ["IPv4", "IPv6"]. Default: the families of spec.addresses; without these,
	// IPv4.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Families []IPFamily `json:"families,omitempty"`

	// addresses are the exact addresses to reserve, at most one of each family.
	// Example: ["192.0.2.10", "2001:db8::10"]. Default: any free address.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	// +kubebuilder:validation:items:XValidation:rule=`!isIP(self) || !['127.0.0.0/8', '169.254.0.0/16', '0.0.0.0/8', '::/64', 'fe80::/10'].exists(n, cidr(n).containsIP(self)) || ip(self).isUnspecified()`,messageExpression=`'"' + self + '" is an address that no Service can have; write one of a pool, such as "192.0.2.10"'`
	Addresses []IPAddress `json:"addresses,omitempty"`

	// ttlAfterRelease is how long the addresses stay reserved after the Service
	// that used them was deleted; then the claim is deleted. Whole seconds.
	// Example: "24h". "0s" deletes the claim at once. Default: they stay reserved
	// until you delete the claim.
	//
	// +optional
	// +kubebuilder:validation:Type=string
	// +kubebuilder:validation:MaxLength=16
	// +kubebuilder:validation:XValidation:rule=`self.matches('^([0-9]{1,4}h)?([0-9]{1,5}m)?([0-9]{1,6}s)?$') && self != ""`,messageExpression=`'"%s" is not a whole number of seconds; write one like "90s", "1m30s" or "2h"'.format([self])`
	TTLAfterRelease *metav1.Duration `json:"ttlAfterRelease,omitempty"`
}

// IPFamily is an IP family: IPv4 or IPv6.
//
// +kubebuilder:validation:Enum=IPv4;IPv6
type IPFamily string

// The IP families, in the notation of Kubernetes.
const (
	IPv4 IPFamily = "IPv4"
	IPv6 IPFamily = "IPv6"
)

// IPAddressClaimStatus has the reserved addresses and the Service that uses them.
type IPAddressClaimStatus struct {
	// addresses are the reserved addresses.
	//
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=2
	Addresses []string `json:"addresses,omitempty"`

	// pools are the names of the pools of the addresses, in the order of addresses.
	//
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=2
	Pools []string `json:"pools,omitempty"`

	// pool has the distinct names in pools, separated by commas, for kubectl get.
	//
	// +optional
	Pool string `json:"pool,omitempty"`

	// boundTo is the name of the Service that uses the addresses.
	//
	// +optional
	BoundTo string `json:"boundTo,omitempty"`

	// releasedAt is when the last Service released the addresses; the time of
	// spec.ttlAfterRelease starts here.
	//
	// +optional
	ReleasedAt *metav1.Time `json:"releasedAt,omitempty"`

	// conditions has the condition Ready: True if the addresses are reserved,
	// otherwise with the reason.
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
