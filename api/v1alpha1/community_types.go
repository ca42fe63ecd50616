package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// Community defines aliases of BGP communities for use in BGPAdvertisements.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=bgpcommunity,categories=fairlead
// +kubebuilder:printcolumn:name="Communities",type=string,JSONPath=`.spec.communities`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type Community struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec defines the aliases.
	//
	// +required
	Spec CommunitySpec `json:"spec"`
}

// CommunitySpec defines aliases of BGP communities.
type CommunitySpec struct {
	// communities are the aliases. Example: [{"name": "backup", "value":
	// "65000:80"}].
	//
	// +required
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MinItems=1
	// +kubebuilder:validation:MaxItems=128
	Communities []CommunityAlias `json:"communities"`
}

// CommunityAlias is an alias of a BGP community.
type CommunityAlias struct {
	// name is the alias: lower-case letters, digits and '-'. Example: "backup".
	//
	// +required
	Name CommunityAliasName `json:"name"`

	// value is the community: two 16-bit numbers ("65000:80", RFC 1997), a large
	// community of three 32-bit numbers ("large:65000:1:2", RFC 8092), or a
	// well-known name such as "no-export".
	//
	// +required
	Value CommunityValue `json:"value"`
}

// CommunityAliasName is the name of an alias.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule=`self.matches('^[a-z]([-a-z0-9]*[a-z0-9])?$')`,messageExpression=`'"' + self + '" cannot be an alias; write lower-case letters, digits and "-", a letter first, such as "backup"'`
// +kubebuilder:validation:XValidation:rule=`!(self in ['no-export', 'no-advertise', 'no-export-subconfed', 'local-as', 'no-peer', 'blackhole', 'graceful-shutdown', 'accept-own', 'llgr-stale', 'no-llgr', 'internet'])`,messageExpression=`'"' + self + '" is already the name of a well-known community; write another name'`
type CommunityAliasName string

// CommunityValue is a BGP community.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:XValidation:rule=`self in ['no-export', 'no-advertise', 'no-export-subconfed', 'local-as', 'no-peer', 'blackhole', 'graceful-shutdown', 'accept-own', 'llgr-stale', 'no-llgr', 'internet'] || self.matches('^[0-9]{1,10}:[0-9]{1,10}$') || self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$')`,messageExpression=`'"' + self + '" is not a community; write two numbers like "65000:1", three like "large:65000:1:2" or a well-known name like "no-export"'`
// +kubebuilder:validation:XValidation:rule=`!self.matches('^[0-9]{1,10}:[0-9]{1,10}$') || self.split(':', 3).all(n, int(n) <= 65535)`,messageExpression=`'"' + self + '" has a number above 65535, the maximum of each half; write a large community instead, such as "large:' + self + ':0"'`
// +kubebuilder:validation:XValidation:rule=`!self.matches('^large:[0-9]{1,10}:[0-9]{1,10}:[0-9]{1,10}$') || self.replace('large:', "").split(':', 4).all(n, int(n) <= 4294967295)`,messageExpression=`'"' + self + '" has a number above 4294967295, the maximum of each part; write smaller numbers'`
type CommunityValue string

// CommunityList is a list of Community objects.
//
// +kubebuilder:object:root=true
type CommunityList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []Community `json:"items"`
}
