package kube

import (
	"net/http"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// RESTMapper knows the kinds that programs read and write. It does not ask the API server, so that a
// program starts while the API server is away; it has the form of manager.Options.
func RESTMapper(*rest.Config, *http.Client) (meta.RESTMapper, error) {
	m := meta.NewDefaultRESTMapper([]schema.GroupVersion{corev1.SchemeGroupVersion, discoveryv1.SchemeGroupVersion, v1alpha1.GroupVersion})
	for _, kind := range []string{"Node", "Namespace"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeRoot)
	}
	for _, kind := range []string{"Service", "Secret", "Event"} {
		m.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	m.Add(discoveryv1.SchemeGroupVersion.WithKind("EndpointSlice"), meta.RESTScopeNamespace)
	for kind, scope := range ownKinds {
		m.Add(v1alpha1.GroupVersion.WithKind(kind), scope)
	}
	return m, nil
}

var ownKinds = map[string]meta.RESTScope{
	"IPAddressPool": meta.RESTScopeRoot, "IPAddressClaim": meta.RESTScopeNamespace,
	"L2Advertisement": meta.RESTScopeRoot, "BGPAdvertisement": meta.RESTScopeRoot,
	"BGPPeer": meta.RESTScopeRoot, "BFDProfile": meta.RESTScopeRoot, "Community": meta.RESTScopeRoot, "Speaker": meta.RESTScopeRoot,
}
