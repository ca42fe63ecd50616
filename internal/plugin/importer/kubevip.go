package importer

import (
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// The ConfigMap of kube-vip's cloud provider, and its keys. A key that ends in a
// namespace is about that namespace's Services; one that ends in "global", about
// those of all namespaces without a key of their own.
const (
	kubevipName      = "kubevip"
	kubevipNamespace = "kube-system"
	kubevipGlobal    = "global"

	kubevipCIDR      = "cidr-"
	kubevipRange     = "range-"
	kubevipInterface = "interface-"
	kubevipShare     = "allow-share-"
	kubevipSkipEnds  = "skip-end-ips-in-cidr"
	kubevipOrder     = "search-order"

	// kubevipDHCP stands for an address that kube-vip gets by DHCP.
	kubevipDHCP = "0.0.0.0/32"
)

// kubevipWork is the translation of kube-vip's ConfigMap.
type kubevipWork struct {
	translation
	from *unstructured.Unstructured
	data map[string]string
}

// kubevip translates the ConfigMap of kube-vip's cloud provider.
func kubevip(objects []unstructured.Unstructured, _ string) translation {
	w := &kubevipWork{}
	w.remarks = []string{
		"The ConfigMap does not say whether kube-vip announces by ARP or by BGP. This is for ARP; for BGP, write BGPPeers and a BGPAdvertisement in place of the L2Advertisements.",
	}
	for o := range ofKind(objects, "", "ConfigMap") {
		if o.GetName() != kubevipName {
			continue
		}
		w.from = o
		w.data, _, _ = unstructured.NestedStringMap(o.Object, "data")
		w.pools()
		w.settings()
	}
	w.sort()
	return w.translation
}

// pools makes a pool of each key with addresses, and an advertisement beside it. kube-vip
// looks for addresses as a network first, in the namespace's key and then in the
// global one, and only then for ranges.
func (w *kubevipWork) pools() {
	_, everywhere := w.data[kubevipCIDR+kubevipGlobal]
	for _, key := range slices.Sorted(maps.Keys(w.data)) {
		namespace, cidr := strings.CutPrefix(key, kubevipCIDR)
		if !cidr {
			var ranged bool
			if namespace, ranged = strings.CutPrefix(key, kubevipRange); !ranged {
				continue
			}
		}
		i := w.add(w.from)
		_, own := w.data[kubevipCIDR+namespace]
		switch {
		case w.data[key] == kubevipDHCP:
			i.refuse(entry(key), "Fairlead has no addresses by DHCP; take a range out of the DHCP server's, and write an IPAddressPool of it")
		case !cidr && own:
			i.refuse(entry(key), "kube-vip does not use it, as there is %s too; add it to that pool if it is meant", kubevipCIDR+namespace)
		case !cidr && everywhere:
			i.refuse(entry(key), "kube-vip does not use it, as there is %s, which it asks before any range; add it if it is meant", kubevipCIDR+kubevipGlobal)
		default:
			w.pool(i, key, namespace)
		}
	}
}

func entry(key string) string { return "data." + key }

func (w *kubevipWork) pool(i *item, key, namespace string) {
	name := kubevipName + "-" + namespace
	pool := &v1alpha1.IPAddressPool{}
	pool.TypeMeta, pool.ObjectMeta = named("IPAddressPool", name)
	pool.Spec.Addresses = addressRanges(strings.Split(w.data[key], ","), entry(key), i)
	if len(pool.Spec.Addresses) == 0 {
		i.refuse(entry(key), "it has no address that can be assigned; write an IPAddressPool with one")
	}
	if w.data[kubevipSkipEnds] == "true" {
		for _, r := range pool.Spec.Addresses {
			if v4, _ := families([]v1alpha1.AddressRange{r}); v4 && strings.Contains(string(r), "/") {
				pool.Spec.Excludes = append(pool.Spec.Excludes, ends(r)...)
			}
		}
	}
	if namespace != kubevipGlobal {
		pool.Spec.ServiceAllocation = &v1alpha1.ServiceAllocation{Priority: 1, Namespaces: []v1alpha1.NamespaceName{v1alpha1.NamespaceName(namespace)}}
		if w.hasGlobal() {
			i.note(entry(key), "when these addresses are used up, Fairlead assigns addresses of the global pool, which kube-vip does not; to prevent that, list the other namespaces in that pool's serviceAllocation")
		}
	}
	i.give(pool)
	if !i.refused {
		w.advertise(name, namespace)
	}
}

func (w *kubevipWork) hasGlobal() bool {
	return w.data[kubevipCIDR+kubevipGlobal] != "" || w.data[kubevipRange+kubevipGlobal] != ""
}

// advertise announces a pool, on the interface that kube-vip uses for it.
func (w *kubevipWork) advertise(pool, namespace string) {
	l2 := &v1alpha1.L2Advertisement{Spec: v1alpha1.L2AdvertisementSpec{IPAddressPools: []v1alpha1.ObjectName{v1alpha1.ObjectName(pool)}}}
	l2.TypeMeta, l2.ObjectMeta = named("L2Advertisement", pool)
	for _, key := range []string{kubevipInterface + namespace, kubevipInterface + kubevipGlobal} {
		if name := w.data[key]; name != "" {
			l2.Spec.Interfaces = []v1alpha1.InterfacePattern{v1alpha1.InterfacePattern(name)}
			break
		}
	}
	w.add(w.from).give(l2)
}

// settings remarks on what is no addresses.
func (w *kubevipWork) settings() {
	for _, key := range slices.Sorted(maps.Keys(w.data)) {
		value := w.data[key]
		i := &item{from: title(w.from)}
		namespace, ofInterface := strings.CutPrefix(key, kubevipInterface)
		switch {
		case key == kubevipOrder:
			if value == "desc" {
				i.note(entry(key), "left out, Fairlead assigns the lowest free address; nothing to do, Services keep what they have")
			}
		case strings.HasPrefix(key, kubevipShare):
			if value == "true" {
				i.note(entry(key), "left out, in Fairlead Services share an address only if they request it: annotate those with %s", v1alpha1.AnnotationAllowSharedIP)
			}
		case ofInterface:
			if !w.hasPool(namespace) && namespace != kubevipGlobal {
				i.note(entry(key), "left out, as the namespace has no addresses of its own; write an L2Advertisement with interfaces and serviceSelectors")
			}
		case key == kubevipSkipEnds, strings.HasPrefix(key, kubevipCIDR), strings.HasPrefix(key, kubevipRange):
		default:
			i.note(entry(key), "not known to this importer; see kube-vip's documentation for what it does")
		}
		if len(i.remarks) > 0 {
			w.items = append(w.items, i)
		}
	}
}

func (w *kubevipWork) hasPool(namespace string) bool {
	return w.data[kubevipCIDR+namespace] != "" || w.data[kubevipRange+namespace] != ""
}
