package importer

import metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

// The specs of Cilium's kinds, of cilium.io/v2 and, where they are older,
// v2alpha1.
type (
	ciliumPool struct {
		Blocks            []ciliumBlock         `json:"blocks,omitempty"`
		CIDRs             []ciliumBlock         `json:"cidrs,omitempty"` // before 1.15
		ServiceSelector   *metav1.LabelSelector `json:"serviceSelector,omitempty"`
		AllowFirstLastIPs string                `json:"allowFirstLastIPs,omitempty"`
		Disabled          bool                  `json:"disabled,omitempty"`
	}
	ciliumBlock struct {
		CIDR  string `json:"cidr,omitempty"`
		Start string `json:"start,omitempty"`
		Stop  string `json:"stop,omitempty"`
	}
	ciliumL2 struct {
		NodeSelector    *metav1.LabelSelector `json:"nodeSelector,omitempty"`
		ServiceSelector *metav1.LabelSelector `json:"serviceSelector,omitempty"`
		LoadBalancerIPs bool                  `json:"loadBalancerIPs,omitempty"`
		ExternalIPs     bool                  `json:"externalIPs,omitempty"`
		Interfaces      []string              `json:"interfaces,omitempty"`
	}
	ciliumCluster struct {
		NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
		BGPInstances []ciliumInstance      `json:"bgpInstances,omitempty"`
	}
	ciliumInstance struct {
		Name      string       `json:"name"`
		LocalASN  int64        `json:"localASN,omitempty"`
		LocalPort int32        `json:"localPort,omitempty"`
		Peers     []ciliumPeer `json:"peers,omitempty"`
	}
	ciliumPeer struct {
		Name          string         `json:"name"`
		PeerAddress   string         `json:"peerAddress,omitempty"`
		PeerASN       int64          `json:"peerASN,omitempty"`
		PeerConfigRef ciliumRef      `json:"peerConfigRef,omitempty"`
		AutoDiscovery map[string]any `json:"autoDiscovery,omitempty"`
	}
	ciliumRef struct {
		Group string `json:"group,omitempty"`
		Kind  string `json:"kind,omitempty"`
		Name  string `json:"name,omitempty"`
	}
	ciliumPeerConfig struct {
		Transport       ciliumTransport `json:"transport,omitempty"`
		Timers          *ciliumTimers   `json:"timers,omitempty"`
		AuthSecretRef   string          `json:"authSecretRef,omitempty"`
		GracefulRestart *ciliumGraceful `json:"gracefulRestart,omitempty"`
		EBGPMultihop    int32           `json:"ebgpMultihop,omitempty"`
		Families        []ciliumFamily  `json:"families,omitempty"`
	}
	ciliumTransport struct {
		PeerPort        int32  `json:"peerPort,omitempty"`
		SourceInterface string `json:"sourceInterface,omitempty"`
	}
	ciliumTimers struct {
		ConnectRetryTimeSeconds *int32 `json:"connectRetryTimeSeconds,omitempty"`
		HoldTimeSeconds         *int32 `json:"holdTimeSeconds,omitempty"`
		KeepAliveTimeSeconds    *int32 `json:"keepAliveTimeSeconds,omitempty"`
	}
	ciliumGraceful struct {
		Enabled            bool   `json:"enabled,omitempty"`
		RestartTimeSeconds *int32 `json:"restartTimeSeconds,omitempty"`
	}
	ciliumFamily struct {
		AFI            string                `json:"afi,omitempty"`
		SAFI           string                `json:"safi,omitempty"`
		Advertisements *metav1.LabelSelector `json:"advertisements,omitempty"`
	}
	ciliumAdvertisements struct {
		Advertisements []ciliumAdvertisement `json:"advertisements,omitempty"`
	}
	ciliumAdvertisement struct {
		AdvertisementType string                `json:"advertisementType,omitempty"`
		Service           ciliumServiceOptions  `json:"service,omitempty"`
		Selector          *metav1.LabelSelector `json:"selector,omitempty"`
		Attributes        ciliumAttributes      `json:"attributes,omitempty"`
		Interface         map[string]any        `json:"interface,omitempty"`
	}
	ciliumServiceOptions struct {
		Addresses             []string `json:"addresses,omitempty"`
		AggregationLengthIPv4 *int32   `json:"aggregationLengthIPv4,omitempty"`
		AggregationLengthIPv6 *int32   `json:"aggregationLengthIPv6,omitempty"`
	}
	ciliumAttributes struct {
		Communities     ciliumCommunities `json:"communities,omitempty"`
		LocalPreference *int64            `json:"localPreference,omitempty"`
	}
	ciliumCommunities struct {
		Standard  []string `json:"standard,omitempty"`
		WellKnown []string `json:"wellKnown,omitempty"`
		Large     []string `json:"large,omitempty"`
	}
)
