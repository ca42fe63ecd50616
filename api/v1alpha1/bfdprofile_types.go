package v1alpha1

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// BFDProfile has the parameters with which BFD monitors the path to a router
// (RFC 5880). BGPPeers refer to it in spec.bfdProfile.
//
// +kubebuilder:object:root=true
// +kubebuilder:resource:scope=Cluster,shortName=bfdprofile,categories=fairlead
// +kubebuilder:printcolumn:name="Receive ms",type=integer,JSONPath=`.spec.receiveInterval`
// +kubebuilder:printcolumn:name="Transmit ms",type=integer,JSONPath=`.spec.transmitInterval`
// +kubebuilder:printcolumn:name="Multiplier",type=integer,JSONPath=`.spec.detectMultiplier`
// +kubebuilder:printcolumn:name="Passive",type=boolean,JSONPath=`.spec.passiveMode`,priority=1
// +kubebuilder:printcolumn:name="Minimum TTL",type=integer,JSONPath=`.spec.minimumTTL`,priority=1
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type BFDProfile struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// spec defines the timing and the mode.
	//
	// +optional
	// +kubebuilder:default={}
	Spec BFDProfileSpec `json:"spec,omitempty"`
}

// BFDProfileSpec defines the timing and the mode of BFD sessions.
type BFDProfileSpec struct {
	// receiveInterval is the minimum interval between received packets that this
	// side supports, in milliseconds, 10 to 60000 (RFC 5880, 4.1: Required Min RX
	// Interval). Default: 300.
	//
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	ReceiveInterval int32 `json:"receiveInterval,omitempty"`

	// transmitInterval is the minimum interval between packets that this side
	// sends, in milliseconds, 10 to 60000 (RFC 5880, 4.1: Desired Min TX Interval).
	// Default: 300.
	//
	// +optional
	// +kubebuilder:default=300
	// +kubebuilder:validation:Minimum=10
	// +kubebuilder:validation:Maximum=60000
	TransmitInterval int32 `json:"transmitInterval,omitempty"`

	// detectMultiplier is the number of consecutive missing packets after which the
	// path is down, 2 to 255 (RFC 5880, 4.1: Detect Mult). Default: 3.
	//
	// +optional
	// +kubebuilder:default=3
	// +kubebuilder:validation:Minimum=2
	// +kubebuilder:validation:Maximum=255
	DetectMultiplier int32 `json:"detectMultiplier,omitempty"`

	// passiveMode sends no packets until the router's first packet has arrived (RFC
	// 5880, 6.1). Default: false.
	//
	// +optional
	PassiveMode bool `json:"passiveMode,omitempty"`

	// minimumTTL is the minimum TTL, or hop limit, of packets that are accepted from
	// a router several hops away, 1 to 254 (RFC 5883, 5). For a router on the same
	// network it is always 255 (RFC 5881, 5). Default: 254.
	//
	// +optional
	// +kubebuilder:default=254
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=254
	MinimumTTL int32 `json:"minimumTTL,omitempty"`
}

// BFDProfileList is a list of profiles.
//
// +kubebuilder:object:root=true
type BFDProfileList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BFDProfile `json:"items"`
}
