package importer

import (
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// system is a load balancer whose configuration can be imported.
type system struct {
	command string // its name on the command line
	name    string // as its makers write it
	example string

	// kinds are read whole, each in the first of its versions that is served.
	kinds [][]schema.GroupVersionResource
	// named are then read by name. The namespace is the user's choice, or empty.
	named func(objects []unstructured.Unstructured, namespace string) []reference
	// check refuses what cannot be translated as a whole.
	check func([]unstructured.Unstructured) error
	// relevant reports whether an object is the system's own.
	relevant func(*unstructured.Unstructured) bool
	// translate is given Fairlead's namespace.
	translate func(objects []unstructured.Unstructured, namespace string) translation
}

// reference is an object that is read by name.
type reference struct {
	resource        schema.GroupVersionResource
	namespace, name string
}

var (
	secrets    = schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	configMaps = schema.GroupVersionResource{Version: "v1", Resource: "configmaps"}
)

// systems are all there are.
var systems = []*system{
	{
		command: "metallb", name: "MetalLB",
		example: `  kubectl fairlead import metallb > fairlead.yaml     # look at it first
  kubectl fairlead import metallb --apply
  kubectl fairlead import metallb -f metallb.yaml -n metallb-system`,
		kinds: versions(metallbGroup, "ipaddresspools v1beta1", "l2advertisements v1beta1", "bgpadvertisements v1beta1",
			"bgppeers v1beta2 v1beta1", "bfdprofiles v1beta1", "communities v1beta1"),
		named:     metallbSecrets,
		check:     func(all []unstructured.Unstructured) error { return oneNamespace(all, metallbGroup, "MetalLB") },
		relevant:  func(o *unstructured.Unstructured) bool { return o.GroupVersionKind().Group == metallbGroup },
		translate: metallb,
	},
	{
		command: "kube-vip", name: "kube-vip",
		example: `  kubectl fairlead import kube-vip > fairlead.yaml     # reads the ConfigMap kubevip in kube-system
  kubectl fairlead import kube-vip -f configmap.yaml --apply`,
		named: func(_ []unstructured.Unstructured, namespace string) []reference {
			if namespace == "" {
				namespace = kubevipNamespace
			}
			return []reference{{configMaps, namespace, kubevipName}}
		},
		check: func([]unstructured.Unstructured) error { return nil },
		relevant: func(o *unstructured.Unstructured) bool {
			return o.GetKind() == "ConfigMap" && o.GetName() == kubevipName
		},
		translate: kubevip,
	},
	{
		command: "cilium", name: "Cilium",
		example: `  kubectl fairlead import cilium > fairlead.yaml     # look at it first
  kubectl fairlead import cilium -f pools.yaml -f bgp.yaml`,
		kinds: versions(ciliumGroup, "ciliumloadbalancerippools v2 v2alpha1", "ciliuml2announcementpolicies v2alpha1",
			"ciliumbgpclusterconfigs v2 v2alpha1", "ciliumbgppeerconfigs v2 v2alpha1", "ciliumbgpadvertisements v2 v2alpha1",
			"ciliumbgpnodeconfigoverrides v2 v2alpha1", "ciliumbgppeeringpolicies v2alpha1"),
		named:     ciliumSecrets,
		check:     func([]unstructured.Unstructured) error { return nil },
		relevant:  func(o *unstructured.Unstructured) bool { return o.GroupVersionKind().Group == ciliumGroup },
		translate: cilium,
	},
}

// versions returns resources of a group from lines of a name and its versions, the
// best first.
func versions(group string, lines ...string) (out [][]schema.GroupVersionResource) {
	for _, l := range lines {
		words := strings.Fields(l)
		var all []schema.GroupVersionResource
		for _, v := range words[1:] {
			all = append(all, schema.GroupVersionResource{Group: group, Version: v, Resource: words[0]})
		}
		out = append(out, all)
	}
	return out
}

// metallbSecrets returns the Secrets that peers name.
func metallbSecrets(objects []unstructured.Unstructured, _ string) (out []reference) {
	for o := range ofKind(objects, metallbGroup, "BGPPeer") {
		if name, _, _ := unstructured.NestedString(o.Object, "spec", "passwordSecret", "name"); name != "" {
			out = append(out, reference{secrets, o.GetNamespace(), name})
		}
	}
	return out
}

// ciliumSecrets returns the Secrets that configs of peers name.
func ciliumSecrets(objects []unstructured.Unstructured, namespace string) (out []reference) {
	if namespace == "" {
		namespace = ciliumNamespace
	}
	for o := range ofKind(objects, ciliumGroup, "CiliumBGPPeerConfig") {
		if name, _, _ := unstructured.NestedString(o.Object, "spec", "authSecretRef"); name != "" {
			out = append(out, reference{secrets, namespace, name})
		}
	}
	return out
}
