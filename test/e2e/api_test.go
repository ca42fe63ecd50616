// Package e2e proves Fairlead from the outside: on real API servers, on built
// binaries, on the wire.
package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// admin returns a client with all rights to an API server that has Fairlead's kinds. It refuses unknown fields, as
// kubectl does.
func admin(t testing.TB) client.Client {
	t.Helper()
	control.start(t)
	return client.WithFieldValidation(control.api, metav1.FieldValidationStrict)
}

// validSpecs are what the cases below change.
var validSpecs = map[string]string{
	"IPAddressPool":    `{addresses: ["192.0.2.0/24"]}`,
	"IPAddressClaim":   `{pool: public}`,
	"L2Advertisement":  `{}`,
	"BGPAdvertisement": `{}`,
	"BGPPeer":          `{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1}`,
	"BFDProfile":       `{}`,
	"Community":        `{communities: [{name: backup, value: "65000:80"}]}`,
}

// object returns an object of a kind whose spec is the valid one with the changes merged over it; null takes a field away.
func object(t *testing.T, kind, changes string) *unstructured.Unstructured {
	t.Helper()
	var spec, over map[string]any
	if err := errors.Join(yaml.Unmarshal([]byte(validSpecs[kind]), &spec), yaml.Unmarshal([]byte(changes), &over)); err != nil {
		t.Fatalf("the case is no YAML: %v", err)
	}
	for k, v := range over {
		if spec == nil {
			spec = map[string]any{}
		}
		spec[k] = v
		if v == nil {
			delete(spec, k)
		}
	}
	o := &unstructured.Unstructured{Object: map[string]any{}}
	o.SetGroupVersionKind(v1alpha1.GroupVersion.WithKind(kind))
	o.SetName("case")
	if kind == "IPAddressClaim" {
		o.SetNamespace("default")
	}
	if spec != nil {
		o.Object["spec"] = spec
	}
	return o
}

type refusal struct {
	kind, changes string

	field string // the field that the answer must name
	words string // what its message must contain
}

// Each case is one mistake, and so must be answered once.
var refusals = []refusal{
	// Ranges of addresses.
	{"IPAddressPool", `addresses: null`, "spec.addresses", "Required value"},
	{"IPAddressPool", `addresses: []`, "spec.addresses", "should have at least 1 items"},
	{"IPAddressPool", `addresses: ["192.0.2.0/24", "192.0.2.0/24"]`, "spec.addresses[1]", "Duplicate value"},
	{"IPAddressPool", `addresses: [""]`, "spec.addresses[0]", `"" is neither a network nor a range`},
	{"IPAddressPool", `addresses: ["all of them"]`, "spec.addresses[0]", `"all of them" has a space in it`},
	{"IPAddressPool", `addresses: ["192.0.2.1 - 192.0.2.9"]`, "spec.addresses[0]", `write "192.0.2.1-192.0.2.9"`},
	{"IPAddressPool", `addresses: [public]`, "spec.addresses[0]", `"public" is neither a network nor a range of addresses; write one like "192.0.2.0/24", "192.0.2.10-192.0.2.20" or "2001:db8::/64"`},
	{"IPAddressPool", `addresses: ["192.0.2.0/33"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.0/255.255.255.0"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.0/024"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.010/32"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2/24"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["2001:db8::/129"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.1-9"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.1-192.0.2.9-192.0.2.12"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.1-"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.0/28-192.0.2.16/28"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["fe80::1%eth0/64"]`, "spec.addresses[0]", "neither a network nor a range"},
	{"IPAddressPool", `addresses: ["192.0.2.1"]`, "spec.addresses[0]", `"192.0.2.1" is a single address; write "192.0.2.1/32"`},
	{"IPAddressPool", `addresses: ["2001:db8::1"]`, "spec.addresses[0]", `write "2001:db8::1/128"`},
	{"IPAddressPool", `addresses: ["::ffff:192.0.2.0/120"]`, "spec.addresses[0]", "write the IPv4 address"},
	{"IPAddressPool", `addresses: ["::ffff:192.0.2.1-::FFFF:192.0.2.9"]`, "spec.addresses[0]", "write the IPv4 address"},
	{"IPAddressPool", `addresses: ["192.0.2.5/24"]`, "spec.addresses[0]", `"192.0.2.5/24" has host bits set; write the network "192.0.2.0/24", or the one address "192.0.2.5/32"`},
	{"IPAddressPool", `addresses: ["2001:DB8::5/64"]`, "spec.addresses[0]", `write the network "2001:db8::/64", or the one address "2001:db8::5/128"`},
	{"IPAddressPool", `addresses: ["192.0.2.1-2001:db8::1"]`, "spec.addresses[0]", "begins in one family and ends in the other"},
	{"IPAddressPool", `addresses: ["2001:db8::1-192.0.2.1"]`, "spec.addresses[0]", "begins in one family and ends in the other"},
	{"IPAddressPool", `addresses: ["64:ff9b::192.0.2.1-64:ff9b::192.0.2.9"]`, "spec.addresses[0]", `write "64:ff9b::c000:201-64:ff9b::c000:209"`},
	{"IPAddressPool", `addresses: ["10.0.0.9-10.0.0.1"]`, "spec.addresses[0]", `"10.0.0.9-10.0.0.1" ends before it starts; write the lower address first: "10.0.0.1-10.0.0.9"`},
	{"IPAddressPool", `addresses: ["10.0.0.10-10.0.0.9"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["10.0.1.0-10.0.0.255"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["192.0.2.0-10.0.0.255"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["2001:db8::10-2001:db8::9"]`, "spec.addresses[0]", `write the lower address first: "2001:db8::9-2001:db8::10"`},
	{"IPAddressPool", `addresses: ["2001:db8::1:0-2001:db8::ffff"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["2001:DB8::B-2001:db8::a"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["2001:db8:1::-2001:db8:0:ffff::"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["2001:db8:0:0:1::-2001:0db8::1"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["fd00:0:0:0:0:0:0:2-fd00::1"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["fd00::-2001:db8::"]`, "spec.addresses[0]", "ends before it starts"},
	{"IPAddressPool", `addresses: ["0.0.0.0/0"]`, "spec.addresses[0]", "write addresses outside of 0.0.0.0/8"},
	{"IPAddressPool", `addresses: ["0.1.0.0/16"]`, "spec.addresses[0]", "write addresses outside of 0.0.0.0/8"},
	{"IPAddressPool", `addresses: ["127.0.0.1/32"]`, "spec.addresses[0]", "127.0.0.0/8 (loopback)"},
	{"IPAddressPool", `addresses: ["126.0.0.0/7"]`, "spec.addresses[0]", "127.0.0.0/8 (loopback)"},
	{"IPAddressPool", `addresses: ["169.254.1.0/24"]`, "spec.addresses[0]", "169.254.0.0/16 (link-local)"},
	{"IPAddressPool", `addresses: ["239.0.0.0/24"]`, "spec.addresses[0]", "224.0.0.0/4 (multicast)"},
	{"IPAddressPool", `addresses: ["255.255.255.255/32"]`, "spec.addresses[0]", "255.255.255.255 (broadcast)"},
	{"IPAddressPool", `addresses: ["0.0.0.0-10.0.0.1"]`, "spec.addresses[0]", "write addresses outside of 0.0.0.0/8"},
	{"IPAddressPool", `addresses: ["126.255.255.0-128.0.0.1"]`, "spec.addresses[0]", "127.0.0.0/8 (loopback)"},
	{"IPAddressPool", `addresses: ["169.254.9.1-169.254.9.2"]`, "spec.addresses[0]", "169.254.0.0/16 (link-local)"},
	{"IPAddressPool", `addresses: ["223.255.255.250-224.0.0.1"]`, "spec.addresses[0]", "224.0.0.0/4 (multicast)"},
	{"IPAddressPool", `addresses: ["223.0.0.0-241.0.0.0"]`, "spec.addresses[0]", "224.0.0.0/4 (multicast)"},
	{"IPAddressPool", `addresses: ["250.0.0.0-255.255.255.255"]`, "spec.addresses[0]", "255.255.255.255 (broadcast)"},
	{"IPAddressPool", `addresses: ["::/0"]`, "spec.addresses[0]", "write addresses outside of ::/64"},
	{"IPAddressPool", `addresses: ["::1/128"]`, "spec.addresses[0]", "::/64 (unspecified, loopback, IPv4-mapped)"},
	{"IPAddressPool", `addresses: ["fe80::/64"]`, "spec.addresses[0]", "fe80::/10 (link-local)"},
	{"IPAddressPool", `addresses: ["ff05::/64"]`, "spec.addresses[0]", "ff00::/8 (multicast)"},
	{"IPAddressPool", `addresses: ["::1-::9"]`, "spec.addresses[0]", "write addresses outside of ::/64"},
	{"IPAddressPool", `addresses: ["fe80::1-fe80::9"]`, "spec.addresses[0]", "fe80::/10 (link-local)"},
	{"IPAddressPool", `addresses: ["fd00::1-ff02::1"]`, "spec.addresses[0]", "ff00::/8 (multicast)"},
	{"IPAddressPool", `addresses: ["fd00::1-fec0::1"]`, "spec.addresses[0]", "fe80::/10 (link-local)"},
	{"IPAddressPool", `excludes: ["192.0.2.9-192.0.2.1"]`, "spec.excludes[0]", "ends before it starts"},
	{"IPAddressPool", `excludes: ["192.0.2.1/32", router]`, "spec.excludes[1]", "neither a network nor a range"},
	{"IPAddressPool", `excludes: ["192.0.2.1/32", "192.0.2.1/32"]`, "spec.excludes[1]", "Duplicate value"},

	// The rest of a pool.
	{"IPAddressPool", `autoAssign: "yes"`, "spec.autoAssign", `must be of type boolean: "string"`},
	{"IPAddressPool", `maxPerNamespace: -1`, "spec.maxPerNamespace", "greater than or equal to 0"},
	{"IPAddressPool", `sharing: Always`, "spec.sharing", `supported values: "Namespace", "Cluster", "Never"`},
	{"IPAddressPool", `serviceAllocation: {priority: -1}`, "spec.serviceAllocation.priority", "greater than or equal to 0"},
	{"IPAddressPool", `serviceAllocation: {namespaces: ["team-*"]}`, "spec.serviceAllocation.namespaces[0]", `"team-*" cannot be the name of a namespace; write lower-case letters, digits and "-"`},
	{"IPAddressPool", `serviceAllocation: {namespaces: [shop, shop]}`, "spec.serviceAllocation.namespaces[1]", "Duplicate value"},
	{"IPAddressPool", `serviceAllocation: {namespaceSelectors: [{matchLabels: {tier: "a b"}}]}`, "spec.serviceAllocation.namespaceSelectors[0].matchLabels[tier]", "cannot be the value of a label"},
	{"IPAddressPool", `serviceAllocation: {serviceSelectors: [{matchExpressions: [{key: tier, operator: In}]}]}`, "spec.serviceAllocation.serviceSelectors[0].matchExpressions[0].values", "write at least one in values"},

	// Selectors.
	{"L2Advertisement", `nodeSelectors: [{matchLabels: {tier: "-a"}}]`, "spec.nodeSelectors[0].matchLabels[tier]", `"-a" cannot be the value of a label; write letters, digits`},
	{"L2Advertisement", `nodeSelectors: [{matchLabels: {"my tier": a}}]`, "spec.nodeSelectors[0].matchLabels", `write keys like "tier" or "example.com/tier"`},
	{"L2Advertisement", `nodeSelectors: [{matchLabels: {"-tier": a}}]`, "spec.nodeSelectors[0].matchLabels", "cannot be the name of a label"},
	{"L2Advertisement", `nodeSelectors: [{matchLabels: {"": a}}]`, "spec.nodeSelectors[0].matchLabels", "cannot be the name of a label"},
	{"L2Advertisement", `nodeSelectors: [{matchLabels: {"example.com/abcdefghijklmnopqrstuvwxyz=": a}}]`, "spec.nodeSelectors[0].matchLabels", "cannot be the name of a label"},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: "my tier", operator: Exists}]}]`, "spec.nodeSelectors[0].matchExpressions[0].key", `"my tier" cannot be the name of a label; write one like "tier" or "example.com/tier"`},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: a/b/c, operator: Exists}]}]`, "spec.nodeSelectors[0].matchExpressions[0].key", "cannot be the name of a label"},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: tier, operator: Equals, values: [a]}]}]`, "spec.nodeSelectors[0].matchExpressions[0].operator", `supported values: "In", "NotIn", "Exists", "DoesNotExist"`},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: tier, operator: In}]}]`, "spec.nodeSelectors[0].matchExpressions[0].values", "operator In needs values; write at least one in values, or operator Exists for any"},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: tier, operator: NotIn, values: []}]}]`, "spec.nodeSelectors[0].matchExpressions[0].values", "write at least one in values, or operator DoesNotExist"},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: tier, operator: Exists, values: [a]}]}]`, "spec.nodeSelectors[0].matchExpressions[0].values", "operator Exists takes no values; leave values out, or write operator In"},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: tier, operator: DoesNotExist, values: [a]}]}]`, "spec.nodeSelectors[0].matchExpressions[0].values", "leave values out, or write operator NotIn"},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{key: tier, operator: In, values: [a, "b c"]}]}]`, "spec.nodeSelectors[0].matchExpressions[0].values[1]", `"b c" cannot be the value of a label`},
	{"L2Advertisement", `nodeSelectors: [{matchExpressions: [{operator: Exists}]}]`, "spec.nodeSelectors[0].matchExpressions[0].key", "Required value"},
	{"L2Advertisement", `nodeSelectors: [{tier: a}]`, "spec.nodeSelectors[0].tier", `unknown field`},

	// Layer 2.
	{"L2Advertisement", `ipAddressPools: ["Public Pool"]`, "spec.ipAddressPools[0]", `"Public Pool" cannot be the name of an object; write the one in its metadata.name`},
	{"L2Advertisement", `ipAddressPools: [public, public]`, "spec.ipAddressPools[1]", "Duplicate value"},
	{"L2Advertisement", `ipAddressPoolSelectors: [{matchExpressions: [{key: tier, operator: In}]}]`, "spec.ipAddressPoolSelectors[0].matchExpressions[0].values", "write at least one"},
	{"L2Advertisement", `serviceSelectors: [{matchExpressions: [{key: tier, operator: In}]}]`, "spec.serviceSelectors[0].matchExpressions[0].values", "write at least one"},
	{"L2Advertisement", `preferredNodeSelectors: [{weight: 0, preference: {}}]`, "spec.preferredNodeSelectors[0].weight", "greater than or equal to 1"},
	{"L2Advertisement", `preferredNodeSelectors: [{weight: 101, preference: {}}]`, "spec.preferredNodeSelectors[0].weight", "less than or equal to 100"},
	{"L2Advertisement", `preferredNodeSelectors: [{preference: {}}]`, "spec.preferredNodeSelectors[0].weight", "Required value"},
	{"L2Advertisement", `preferredNodeSelectors: [{weight: 1}]`, "spec.preferredNodeSelectors[0].preference", "Required value"},
	{"L2Advertisement", `preferredNodeSelectors: [{weight: 1, preference: {matchLabels: {a: "b c"}}}]`, "spec.preferredNodeSelectors[0].preference.matchLabels[a]", "cannot be the value of a label"},
	{"L2Advertisement", `interfaces: ["eth0/1"]`, "spec.interfaces[0]", `"eth0/1" is not a pattern for interface names; write a name such as "eth0", or a pattern`},
	{"L2Advertisement", `interfaces: ["eth 0"]`, "spec.interfaces[0]", "is not a pattern"},
	{"L2Advertisement", `interfaces: ["bond[01"]`, "spec.interfaces[0]", "is not a pattern"},
	{"L2Advertisement", `interfaces: ["bond[]"]`, "spec.interfaces[0]", "is not a pattern"},
	{"L2Advertisement", `interfaces: ["bond[a-]"]`, "spec.interfaces[0]", "is not a pattern"},
	{"L2Advertisement", `interfaces: ["bond]"]`, "spec.interfaces[0]", "is not a pattern"},
	{"L2Advertisement", `interfaces: ['bond\']`, "spec.interfaces[0]", "is not a pattern"},
	{"L2Advertisement", `interfaces: [enx001122334455667]`, "spec.interfaces[0]", "longer than the 15 characters that Linux allows"},
	{"L2Advertisement", `interfaces: [eth0, eth0]`, "spec.interfaces[1]", "Duplicate value"},

	// BGP advertisements.
	{"BGPAdvertisement", `ipAddressPools: [a/b]`, "spec.ipAddressPools[0]", "cannot be the name of an object"},
	{"BGPAdvertisement", `peers: [router_1]`, "spec.peers[0]", "cannot be the name of an object"},
	{"BGPAdvertisement", `peers: [a, a]`, "spec.peers[1]", "Duplicate value"},
	{"BGPAdvertisement", `ipAddressPoolSelectors: [{matchExpressions: [{key: tier, operator: In}]}]`, "spec.ipAddressPoolSelectors[0].matchExpressions[0].values", "write at least one"},
	{"BGPAdvertisement", `serviceSelectors: [{matchExpressions: [{key: tier, operator: In}]}]`, "spec.serviceSelectors[0].matchExpressions[0].values", "write at least one"},
	{"BGPAdvertisement", `nodeSelectors: [{matchExpressions: [{key: tier, operator: In}]}]`, "spec.nodeSelectors[0].matchExpressions[0].values", "write at least one"},
	{"BGPAdvertisement", `aggregationLength: 33`, "spec.aggregationLength", "less than or equal to 32"},
	{"BGPAdvertisement", `aggregationLength: -1`, "spec.aggregationLength", "greater than or equal to 0"},
	{"BGPAdvertisement", `aggregationLengthV6: 129`, "spec.aggregationLengthV6", "less than or equal to 128"},
	{"BGPAdvertisement", `aggregationLengthV6: -1`, "spec.aggregationLengthV6", "greater than or equal to 0"},
	{"BGPAdvertisement", `localPref: -1`, "spec.localPref", "greater than or equal to 0"},
	{"BGPAdvertisement", `localPref: 4294967296`, "spec.localPref", "less than or equal to 4294967295"},
	{"BGPAdvertisement", `med: -1`, "spec.med", "greater than or equal to 0"},
	{"BGPAdvertisement", `med: 4294967296`, "spec.med", "less than or equal to 4294967295"},
	{"BGPAdvertisement", `asPathPrepend: 17`, "spec.asPathPrepend", "less than or equal to 16"},
	{"BGPAdvertisement", `asPathPrepend: -1`, "spec.asPathPrepend", "greater than or equal to 0"},
	{"BGPAdvertisement", `communities: ["65000"]`, "spec.communities[0]", `"65000" is not a community; write two numbers like "65000:1", three like "large:65000:1:2", a well-known name like "no-export", or an alias that a Community defines`},
	{"BGPAdvertisement", `communities: ["65000:1:2"]`, "spec.communities[0]", "is not a community"},
	{"BGPAdvertisement", `communities: ["large:1:2"]`, "spec.communities[0]", "is not a community"},
	{"BGPAdvertisement", `communities: ["65000:x"]`, "spec.communities[0]", "is not a community"},
	{"BGPAdvertisement", `communities: ["No Export"]`, "spec.communities[0]", "is not a community"},
	{"BGPAdvertisement", `communities: ["65536:1"]`, "spec.communities[0]", `"65536:1" has a number above 65535, the maximum of each half; write a large community instead, such as "large:65536:1:0"`},
	{"BGPAdvertisement", `communities: ["1:65536"]`, "spec.communities[0]", "has a number above 65535"},
	{"BGPAdvertisement", `communities: ["large:1:2:4294967296"]`, "spec.communities[0]", "has a number above 4294967295"},
	{"BGPAdvertisement", `communities: ["65000:1", "65000:1"]`, "spec.communities[1]", "Duplicate value"},

	// Community aliases.
	{"Community", `communities: null`, "spec.communities", "Required value"},
	{"Community", `communities: []`, "spec.communities", "should have at least 1 items"},
	{"Community", `communities: [{name: backup}]`, "spec.communities[0].value", "Required value"},
	{"Community", `communities: [{name: "65000", value: "1:1"}]`, "spec.communities[0].name", `"65000" cannot be an alias; write lower-case letters, digits and "-", a letter first, such as "backup"`},
	{"Community", `communities: [{name: no-export, value: "1:1"}]`, "spec.communities[0].name", "is already the name of a well-known community; write another name"},
	{"Community", `communities: [{name: a, value: b}]`, "spec.communities[0].value", `"b" is not a community; write two numbers like "65000:1", three like "large:65000:1:2" or a well-known name like "no-export"`},
	{"Community", `communities: [{name: a, value: "99999:1"}]`, "spec.communities[0].value", "has a number above 65535"},
	{"Community", `communities: [{name: a, value: "large:4294967296:0:0"}]`, "spec.communities[0].value", "has a number above 4294967295"},
	{"Community", `communities: [{name: a, value: "1:1"}, {name: a, value: "1:2"}]`, "spec.communities[1]", "Duplicate value"},

	// Peers: who.
	{"BGPPeer", `peerAddress: null`, "spec.peerAddress", `write peerAddress, such as "192.0.2.1", or interface`},
	{"BGPPeer", `interface: eth1`, "spec.interface", "both peerAddress and interface are set; set only one of them"},
	{"BGPPeer", `myASN: null`, "spec.myASN", "Required value"},
	{"BGPPeer", `peerASN: null`, "spec.peerASN", "write peerASN, such as 64513, or dynamicASN: external"},
	{"BGPPeer", `dynamicASN: external`, "spec.dynamicASN", "both peerASN and dynamicASN are set; set only one of them"},
	{"BGPPeer", `{peerASN: null, dynamicASN: auto}`, "spec.dynamicASN", `supported values: "internal", "external"`},
	{"BGPPeer", `myASN: 0`, "spec.myASN", "0 is a reserved AS number; write your own, or a private one: 64512 to 65534, or 4200000000 to 4294967294"},
	{"BGPPeer", `myASN: 23456`, "spec.myASN", "23456 is a reserved AS number"},
	{"BGPPeer", `myASN: 4294967296`, "spec.myASN", "less than or equal to 4294967295"},
	{"BGPPeer", `myASN: -1`, "spec.myASN", "greater than or equal to 0"},
	{"BGPPeer", `myASN: "64512"`, "spec.myASN", "must be of type integer"},
	{"BGPPeer", `peerASN: 65535`, "spec.peerASN", "65535 is a reserved AS number"},
	{"BGPPeer", `peerASN: 4294967295`, "spec.peerASN", "4294967295 is a reserved AS number"},
	{"BGPPeer", `localASN: 23456`, "spec.localASN", "23456 is a reserved AS number"},
	{"BGPPeer", `localASN: 64512`, "spec.localASN", "localASN is the same as myASN; leave localASN out"},
	{"BGPPeer", `localASN: 64513`, "spec.localASN", "localASN is the same as peerASN; leave localASN out"},
	{"BGPPeer", `{peerASN: 64512, localASN: 64600}`, "spec.localASN", "this one is internal; leave localASN out"},
	{"BGPPeer", `{peerASN: null, dynamicASN: internal, localASN: 64600}`, "spec.localASN", "this one is internal; leave localASN out"},
	{"BGPPeer", `peerAddress: router`, "spec.peerAddress", `"router" is not an IP address; write one like "192.0.2.10" or "2001:db8::10"`},
	{"BGPPeer", `peerAddress: 192.0.2.1/24`, "spec.peerAddress", `write the address alone, without "/"`},
	{"BGPPeer", `peerAddress: "::ffff:192.0.2.1"`, "spec.peerAddress", "write the IPv4 address"},
	{"BGPPeer", `peerAddress: 224.0.0.1`, "spec.peerAddress", "write a unicast address"},
	{"BGPPeer", `peerAddress: "ff02::1"`, "spec.peerAddress", "write a unicast address"},
	{"BGPPeer", `peerAddress: 0.0.0.0`, "spec.peerAddress", "write a unicast address"},
	{"BGPPeer", `peerAddress: "::"`, "spec.peerAddress", "write a unicast address"},
	{"BGPPeer", `peerAddress: 255.255.255.255`, "spec.peerAddress", "write a unicast address"},
	{"BGPPeer", `peerAddress: "fe80::1"`, "spec.peerAddress", "write interface instead of peerAddress"},
	{"BGPPeer", `peerAddress: "fe80::1%eth0"`, "spec.peerAddress", "has a zone, as only link-local addresses have; write an address of another kind, or for a router interface: eth0 instead of peerAddress"},
	{"BGPPeer", `{peerAddress: null, interface: "eth 0"}`, "spec.interface", `"eth 0" cannot be the name of an interface; write the name as "ip link" shows it`},
	{"BGPPeer", `{peerAddress: null, interface: "eth*"}`, "spec.interface", "cannot be the name of an interface"},
	{"BGPPeer", `{peerAddress: null, interface: enx0011223344556}`, "spec.interface", "longer than the 15 characters that Linux allows"},
	{"BGPPeer", `sourceAddress: node`, "spec.sourceAddress", "is not an IP address"},
	{"BGPPeer", `sourceAddress: 0.0.0.0`, "spec.sourceAddress", "write a unicast address"},
	{"BGPPeer", `sourceAddress: "2001:db8::5"`, "spec.sourceAddress", "sourceAddress 2001:db8::5 and peerAddress 192.0.2.1 are of different families; write an IPv4 sourceAddress, or leave it out"},
	{"BGPPeer", `{peerAddress: "2001:db8::1", sourceAddress: 192.0.2.5}`, "spec.sourceAddress", "write an IPv6 sourceAddress"},
	{"BGPPeer", `sourceAddress: 192.0.2.1`, "spec.sourceAddress", "is the router's address; write the node's own"},
	{"BGPPeer", `{peerAddress: null, interface: eth1, sourceAddress: 192.0.2.5}`, "spec.sourceAddress", "leave sourceAddress out"},
	{"BGPPeer", `peerPort: 0`, "spec.peerPort", "greater than or equal to 1"},
	{"BGPPeer", `peerPort: 65536`, "spec.peerPort", "less than or equal to 65535"},

	// Peers: times.
	{"BGPPeer", `holdTime: 2s`, "spec.holdTime", `"2s" is shorter than the 3 s that RFC 4271 allows; write at least "3s", or "0s" for a session that never times out; to notice a dead router sooner use bfdProfile`},
	{"BGPPeer", `holdTime: 65536s`, "spec.holdTime", `write at most "65535s"`},
	{"BGPPeer", `holdTime: 100h`, "spec.holdTime", `write at most "65535s"`},
	{"BGPPeer", `holdTime: 90`, "spec.holdTime", "must be of type string"},
	{"BGPPeer", `holdTime: "90"`, "spec.holdTime", `"90" is not a whole number of seconds; write one like "90s", "1m30s" or "2h"`},
	{"BGPPeer", `holdTime: ""`, "spec.holdTime", "is not a whole number of seconds"},
	{"BGPPeer", `holdTime: -9s`, "spec.holdTime", "is not a whole number of seconds"},
	{"BGPPeer", `holdTime: 3500ms`, "spec.holdTime", "is not a whole number of seconds"},
	{"BGPPeer", `holdTime: 3.5s`, "spec.holdTime", "is not a whole number of seconds"},
	{"BGPPeer", `holdTime: forever`, "spec.holdTime", "is not a whole number of seconds"},
	{"BGPPeer", `{holdTime: "90", keepaliveTime: 10s}`, "spec.holdTime", "is not a whole number of seconds"},
	{"BGPPeer", `keepaliveTime: 500ms`, "spec.keepaliveTime", "is not a whole number of seconds"},
	{"BGPPeer", `keepaliveTime: 0s`, "spec.keepaliveTime", `write at least "1s", or leave keepaliveTime out`},
	{"BGPPeer", `keepaliveTime: 90s`, "spec.keepaliveTime", `keepaliveTime "90s" is not less than holdTime "90s"; write at most a third of holdTime, or leave keepaliveTime out`},
	{"BGPPeer", `{holdTime: 1m, keepaliveTime: 61s}`, "spec.keepaliveTime", "is not less than holdTime"},
	{"BGPPeer", `{holdTime: 0s, keepaliveTime: 10s}`, "spec.keepaliveTime", "no KEEPALIVE is sent; leave keepaliveTime out"},
	{"BGPPeer", `connectTime: 0s`, "spec.connectTime", `write "1s" to "65535s"`},
	{"BGPPeer", `connectTime: 20h`, "spec.connectTime", `write "1s" to "65535s"`},
	{"BGPPeer", `connectTime: 1.5s`, "spec.connectTime", "is not a whole number of seconds"},

	// Peers: the rest.
	{"BGPPeer", `routerID: "0.0.0.0"`, "spec.routerID", `"0.0.0.0" is not a router ID; write one like an IPv4 address other than 0.0.0.0`},
	{"BGPPeer", `routerID: "2001:db8::1"`, "spec.routerID", "is not a router ID"},
	{"BGPPeer", `routerID: "1"`, "spec.routerID", "is not a router ID"},
	{"BGPPeer", `nodeSelectors: [{matchExpressions: [{key: tier, operator: In}]}]`, "spec.nodeSelectors[0].matchExpressions[0].values", "write at least one"},
	{"BGPPeer", `passwordSecret: {}`, "spec.passwordSecret.name", "Required value"},
	{"BGPPeer", `passwordSecret: {name: "My Secret"}`, "spec.passwordSecret.name", "cannot be the name of an object"},
	{"BGPPeer", `passwordSecret: {name: bgp, key: "pass word"}`, "spec.passwordSecret.key", `"pass word" cannot be a key of a Secret; write letters, digits`},
	{"BGPPeer", `passwordSecret: {name: bgp, namespace: default}`, "spec.passwordSecret.namespace", "unknown field"},
	{"BGPPeer", `bfdProfile: Fast`, "spec.bfdProfile", "cannot be the name of an object"},
	{"BGPPeer", `{ebgpMultiHop: true, ttlSecurity: true}`, "spec.ttlSecurity", "leave one of them out"},
	{"BGPPeer", `{ebgpMultiHop: true, peerASN: 64512}`, "spec.ebgpMultiHop", "this one is internal, which may have any number of hops; leave ebgpMultiHop out"},
	{"BGPPeer", `{ebgpMultiHop: true, peerASN: null, dynamicASN: internal}`, "spec.ebgpMultiHop", "this one is internal"},
	{"BGPPeer", `{ebgpMultiHop: true, peerAddress: null, interface: eth1}`, "spec.ebgpMultiHop", "write peerAddress instead of interface"},
	{"BGPPeer", `vrf: red/blue`, "spec.vrf", "cannot be the name of an interface"},
	{"BGPPeer", `vrf: a-rather-long-name`, "spec.vrf", "longer than the 15 characters that Linux allows"},
	{"BGPPeer", `password: secret`, "spec.password", "unknown field"},

	// BFD.
	{"BFDProfile", `receiveInterval: 9`, "spec.receiveInterval", "greater than or equal to 10"},
	{"BFDProfile", `receiveInterval: 60001`, "spec.receiveInterval", "less than or equal to 60000"},
	{"BFDProfile", `receiveInterval: 300ms`, "spec.receiveInterval", "must be of type integer"},
	{"BFDProfile", `transmitInterval: 9`, "spec.transmitInterval", "greater than or equal to 10"},
	{"BFDProfile", `transmitInterval: 60001`, "spec.transmitInterval", "less than or equal to 60000"},
	{"BFDProfile", `detectMultiplier: 1`, "spec.detectMultiplier", "greater than or equal to 2"},
	{"BFDProfile", `detectMultiplier: 256`, "spec.detectMultiplier", "less than or equal to 255"},
	{"BFDProfile", `minimumTTL: 0`, "spec.minimumTTL", "greater than or equal to 1"},
	{"BFDProfile", `minimumTTL: 255`, "spec.minimumTTL", "less than or equal to 254"},

	// Claims.
	{"IPAddressClaim", `pool: Public`, "spec.pool", "cannot be the name of an object"},
	{"IPAddressClaim", `families: [ipv4]`, "spec.families[0]", `supported values: "IPv4", "IPv6"`},
	{"IPAddressClaim", `families: [IPv4, IPv4]`, "spec.families[1]", "Duplicate value"},
	{"IPAddressClaim", `addresses: [web]`, "spec.addresses[0]", "is not an IP address"},
	{"IPAddressClaim", `addresses: ["192.0.2.1/32"]`, "spec.addresses[0]", "write the address alone"},
	{"IPAddressClaim", `addresses: [224.0.0.9]`, "spec.addresses[0]", "write a unicast address"},
	{"IPAddressClaim", `addresses: [127.0.0.1]`, "spec.addresses[0]", `"127.0.0.1" is an address that no Service can have; write one of a pool, such as "192.0.2.10"`},
	{"IPAddressClaim", `addresses: ["fe80::1"]`, "spec.addresses[0]", "is an address that no Service can have"},
	{"IPAddressClaim", `addresses: [192.0.2.1, 192.0.2.1]`, "spec.addresses[1]", "Duplicate value"},
	{"IPAddressClaim", `addresses: [192.0.2.1, 192.0.2.2]`, "spec.addresses", "addresses has two of one family; write at most one IPv4 and one IPv6 address, and another claim for the rest"},
	{"IPAddressClaim", `addresses: ["2001:db8::1", "2001:db8::2"]`, "spec.addresses", "addresses has two of one family"},
	{"IPAddressClaim", `{families: [IPv4], addresses: ["2001:db8::1"]}`, "spec.addresses", "write families: [IPv6], or leave families out"},
	{"IPAddressClaim", `{families: [IPv4], addresses: [192.0.2.1, "2001:db8::1"]}`, "spec.addresses", "write families: [IPv4, IPv6], or leave families out"},
	{"IPAddressClaim", `{families: [IPv4, IPv6], addresses: [192.0.2.1]}`, "spec.families", "write an address of each family, or leave addresses out"},
	{"IPAddressClaim", `ttlAfterRelease: 1 day`, "spec.ttlAfterRelease", "is not a whole number of seconds"},
	{"IPAddressClaim", `ttlAfterRelease: 1d`, "spec.ttlAfterRelease", "is not a whole number of seconds"},
	{"IPAddressClaim", `ttlAfterRelease: 100ms`, "spec.ttlAfterRelease", "is not a whole number of seconds"},

	// A Speaker has nothing to configure.
	{"Speaker", `a: b`, "spec", "unknown field"},
}

func TestAPIRefusals(t *testing.T) {
	api := admin(t)
	for _, c := range refusals {
		t.Run(c.kind+" "+c.changes, func(t *testing.T) {
			t.Parallel()
			err := api.Create(t.Context(), object(t, c.kind, c.changes), client.DryRunAll)
			wantRefusal(t, err, c.field, c.words)
		})
	}
}

// wantRefusal checks that the answer is about one field and has these words.
func wantRefusal(t *testing.T, err error, field, words string) {
	t.Helper()
	if err == nil {
		t.Fatal("it was accepted")
	}
	if strings.Contains(words, "unknown field") { // found while decoding, before there is a list of causes
		if want := fmt.Sprintf("unknown field %q", field); !strings.Contains(err.Error(), want) {
			t.Errorf("the answer is %q, want %q", err, want)
		}
		return
	}
	var status apierrors.APIStatus
	if !errors.As(err, &status) || !apierrors.IsInvalid(err) {
		t.Fatalf("the answer is no refusal of a field: %v", err)
	}
	var about []string
	for _, cause := range status.Status().Details.Causes {
		// The API server adds this one where it could not run the rules for want of a well-formed object.
		if strings.Contains(cause.Message, "some validation rules were not checked") {
			continue
		}
		about = append(about, cause.Field+": "+cause.Message)
		if cause.Field == field && strings.Contains(cause.Message, words) {
			continue
		}
		t.Errorf("the answer has\n\t%s: %s\nwant\n\t%s: … %s …", cause.Field, cause.Message, field, words)
	}
	if len(about) != 1 {
		t.Errorf("one mistake has %d answers:\n\t%s", len(about), strings.Join(about, "\n\t"))
	}
}

// Every rule in config/crd must be proven by one of the cases above: each text that a rule can answer with, each branch
// of a conditional one too, must be among the answers.
func TestAPIRulesAreAllProven(t *testing.T) {
	api := admin(t)
	var answers strings.Builder
	for _, c := range refusals {
		if err := api.Create(t.Context(), object(t, c.kind, c.changes), client.DryRunAll); err != nil {
			fmt.Fprintln(&answers, err)
		}
	}
	for _, c := range refusedChanges {
		fmt.Fprintln(&answers, tryChange(t, api, c))
	}
	files, err := filepath.Glob("../../config/crd/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("config/crd: %d files, %v", len(files), err)
	}
	rules := 0
	for _, file := range files {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var crd map[string]any
		if err := yaml.Unmarshal(b, &crd); err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		forEachRule(crd, func(rule map[string]any) {
			rules++
			for _, text := range ruleTexts(rule) {
				if !strings.Contains(answers.String(), text) {
					t.Errorf("%s: no case is answered with %q, by the rule\n\t%s", filepath.Base(file), text, rule["rule"])
				}
			}
		})
	}
	if rules == 0 {
		t.Error("config/crd has no rules")
	}
}

func forEachRule(v any, f func(rule map[string]any)) {
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			forEachRule(e, f)
		}
	case map[string]any:
		for k, e := range v {
			if list, ok := e.([]any); ok && k == "x-kubernetes-validations" {
				for _, rule := range list {
					f(rule.(map[string]any))
				}
				continue
			}
			forEachRule(e, f)
		}
	}
}

// celString is a string in CEL, in the one of its notations that the rules use for texts.
var celString = regexp.MustCompile(`'((?:[^'\\]|\\.)*)'`)

// ruleTexts returns what a rule can answer with, in the pieces that are there word for word.
func ruleTexts(rule map[string]any) []string {
	if message, ok := rule["message"].(string); ok {
		return []string{message}
	}
	expression, _ := rule["messageExpression"].(string)
	var texts []string
	for _, m := range celString.FindAllStringSubmatch(expression, -1) {
		for piece := range strings.FieldsFuncSeq(m[1], func(r rune) bool { return r == '%' }) {
			piece = strings.TrimLeft(strings.ReplaceAll(piece, `\"`, `"`), "sd")
			if len(piece) > 8 { // what is shorter are quotes, dashes, and arguments of functions
				texts = append(texts, piece)
			}
		}
	}
	if len(texts) == 0 {
		texts = append(texts, expression) // it says nothing that a person can read
	}
	return texts
}

// accepted has what looks unusual and is right, near each of the refusals.
var accepted = []struct{ kind, changes string }{
	{"IPAddressPool", `{}`},
	{"IPAddressPool", `addresses: ["192.0.2.0/24", "192.0.2.1/32", "198.51.100.7-198.51.100.7", "2001:db8::/64", "2001:db8:1::1-2001:db8:1::ff"]`},
	{"IPAddressPool", `addresses: ["10.0.0.9-10.0.0.10", "9.255.255.255-10.0.0.0", "10.0.0.0-10.255.255.255"]`},
	{"IPAddressPool", `addresses: ["2001:db8::9-2001:db8::10", "2001:db8::f-2001:DB8::1F", "2001:0db8:0:0::1-2001:db8::2", "2001:db8::-2001:db8:ffff::"]`},
	{"IPAddressPool", `addresses: ["2001:db8::ffff-2001:db8::1:0", "2001:db8:0:ffff::-2001:db8:1::", "2001:db8:1:2:3:4:5:6-2001:db8:1:2:3:4:5:7", "fd00::2-fd00:0:0:0:0:0:0:2"]`},
	{"IPAddressPool", `addresses: ["2000::/3", "fd00::/8", "64:ff9b::192.0.2.0/120", "64:ff9b::/96", "100::1-200::"]`},
	{"IPAddressPool", `addresses: ["240.0.0.0/8", "128.0.0.0-169.253.255.255", "1.0.0.0-126.255.255.255", "169.255.0.0-223.255.255.255"]`},
	{"IPAddressPool", `{excludes: ["192.0.2.0/32", "192.0.2.250-192.0.2.255"], autoAssign: false, avoidBuggyIPs: true, disabled: true, maxPerNamespace: 3, sharing: Never}`},
	{"IPAddressPool", `serviceAllocation: {priority: 1, namespaces: [shop], namespaceSelectors: [{matchLabels: {kubernetes.io/metadata.name: blog}}], serviceSelectors: [{}]}`},
	{"L2Advertisement", `nodeSelectors: [{matchLabels: {a: "", example.com/Tier_1.x: A.b_c-1}, matchExpressions: [{key: a, operator: Exists}, {key: b.c/d, operator: NotIn, values: ["", x]}]}]`},
	{"L2Advertisement", `{ipAddressPools: [public, public.v6], ipAddressPoolSelectors: [{}], serviceSelectors: [{}], preferredNodeSelectors: [{weight: 100, preference: {}}]}`},
	{"L2Advertisement", `interfaces: [eth0, "en*", "bond[01]", "bond[^0-9a]", "eth?", br-lan, eth0.100, "enx00112233445[56]", "*"]`},
	{"BGPAdvertisement", `communities: ["0:0", "65535:65535", "large:0:0:0", "large:4294967295:4294967295:4294967295", no-export, local-as, graceful-shutdown, internet, backup, dc-1]`},
	{"BGPAdvertisement", `{aggregationLength: 0, aggregationLengthV6: 0, localPref: 0, med: 4294967295, asPathPrepend: 16, peers: [a, b.c]}`},
	{"Community", `communities: [{name: a, value: "65535:666"}, {name: b-2, value: "large:4200000000:0:1"}, {name: c, value: blackhole}]`},
	{"BGPPeer", `{peerAddress: "2001:db8::1", sourceAddress: "2001:db8::5", peerPort: 1179, routerID: 10.0.0.1, vrf: red, passive: true, bfdProfile: fast, gracefulRestart: false}`},
	{"BGPPeer", `{peerAddress: null, peerASN: null, interface: eth1.100, dynamicASN: external, localASN: 64600}`},
	{"BGPPeer", `{peerAddress: null, peerASN: null, interface: eth1, dynamicASN: internal, ebgpMultiHop: false, ttlSecurity: true}`},
	{"BGPPeer", `{myASN: 4294967294, peerASN: 1, ebgpMultiHop: true, ttlSecurity: false, passwordSecret: {name: bgp, key: .pass_word-1}}`},
	{"BGPPeer", `{peerAddress: 169.254.0.1}`},
	{"BGPPeer", `{peerAddress: 127.0.0.1}`}, // a router on the node itself
	{"BGPPeer", `{holdTime: 0s, connectTime: 1s}`},
	{"BGPPeer", `{holdTime: 3s, keepaliveTime: 1s, connectTime: 65535s}`},
	{"BGPPeer", `{holdTime: 18h12m15s, keepaliveTime: 2m59s}`},
	{"BGPPeer", `{holdTime: 1h0m0s}`}, // as Go prints it
	{"BFDProfile", `{receiveInterval: 10, transmitInterval: 60000, detectMultiplier: 255, passiveMode: true, minimumTTL: 1}`},
	{"IPAddressClaim", `pool: null`},
	{"IPAddressClaim", `{families: [IPv6, IPv4], addresses: [192.0.2.1, "2001:db8::1"], ttlAfterRelease: 24h}`},
	{"IPAddressClaim", `{addresses: ["2001:db8::1"], ttlAfterRelease: 0s}`},
	{"Speaker", `{}`},
}

func TestAPIAccepts(t *testing.T) {
	api := admin(t)
	for _, c := range accepted {
		t.Run(c.kind+" "+c.changes, func(t *testing.T) {
			t.Parallel()
			if err := api.Create(t.Context(), object(t, c.kind, c.changes), client.DryRunAll); err != nil {
				t.Error(err)
			}
		})
	}
}

// refusedChanges are refused when they change a valid object: what is refused on
// creation, and what cannot be changed at all.
var refusedChanges = []refusal{
	{"IPAddressPool", `addresses: ["192.0.2.9-192.0.2.1"]`, "spec.addresses[0]", "write the lower address first"},
	{"IPAddressClaim", `addresses: [192.0.2.1]`, "spec.addresses", "addresses of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim"},
	{"IPAddressClaim", `families: [IPv6]`, "spec.families", "families of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim"},
	{"IPAddressClaim", `pool: private`, "spec.pool", "pool of a claim cannot be changed: the Service that uses it would move; create another claim and name that in the Service's annotation fairlead.dev/claim"},
	{"IPAddressClaim", `pool: null`, "spec.pool", "create another claim"},
	{"L2Advertisement", `interfaces: ["bond["]`, "spec.interfaces[0]", "is not a pattern"},
	{"BGPAdvertisement", `communities: ["65536:1"]`, "spec.communities[0]", "above 65535"},
	{"BGPPeer", `holdTime: 2s`, "spec.holdTime", `write at least "3s"`},
	{"BGPPeer", `interface: eth1`, "spec.interface", "set only one of them"},
	{"BFDProfile", `detectMultiplier: 1`, "spec.detectMultiplier", "greater than or equal to 2"},
	{"Community", `communities: [{name: a, value: b}]`, "spec.communities[0].value", "is not a community"},
}

func TestAPIRefusesChanges(t *testing.T) {
	api := admin(t)
	for _, c := range refusedChanges {
		t.Run(c.kind+" "+c.changes, func(t *testing.T) {
			wantRefusal(t, tryChange(t, api, c), c.field, c.words)
		})
	}
}

// tryChange makes a valid object, and tries the change.
func tryChange(t *testing.T, api client.Client, c refusal) error {
	t.Helper()
	o := object(t, c.kind, `{}`)
	must(t, api.Create(t.Context(), o))
	defer func() { must(t, api.Delete(context.WithoutCancel(t.Context()), o)) }()
	changed := object(t, c.kind, c.changes)
	changed.SetResourceVersion(o.GetResourceVersion())
	return api.Update(t.Context(), changed, client.DryRunAll)
}

// The defaults that the doc comments promise, also where there is no spec at all.
func TestAPIDefaults(t *testing.T) {
	const noSpec = ""
	api := admin(t)
	for _, c := range []struct{ kind, changes, want string }{
		{"IPAddressPool", `{}`, `{addresses: ["192.0.2.0/24"], autoAssign: true, sharing: Namespace}`},
		{"IPAddressClaim", noSpec, `{}`},
		{"BGPAdvertisement", `{}`, `{aggregationLength: 32, aggregationLengthV6: 128}`},
		{"BGPAdvertisement", noSpec, `{aggregationLength: 32, aggregationLengthV6: 128}`},
		{"BGPPeer", `passwordSecret: {name: bgp}`, `{myASN: 64512, peerASN: 64513, peerAddress: 192.0.2.1, peerPort: 179, holdTime: 90s, connectTime: 10s, gracefulRestart: true, passwordSecret: {name: bgp, key: password}}`},
		{"BFDProfile", noSpec, `{receiveInterval: 300, transmitInterval: 300, detectMultiplier: 3, minimumTTL: 254}`},
	} {
		t.Run(c.kind+" "+c.changes, func(t *testing.T) {
			o := object(t, c.kind, c.changes)
			if c.changes == noSpec {
				delete(o.Object, "spec")
			}
			if err := api.Create(t.Context(), o, client.DryRunAll); err != nil {
				t.Fatal(err)
			}
			got, err := yaml.Marshal(o.Object["spec"])
			if err != nil {
				t.Fatal(err)
			}
			var gotSpec, wantSpec map[string]any
			if err := errors.Join(yaml.Unmarshal(got, &gotSpec), yaml.Unmarshal([]byte(c.want), &wantSpec)); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(wantSpec, gotSpec); diff != "" {
				t.Errorf("the spec with its defaults (-want +got):\n%s", diff)
			}
		})
	}
}

// A status goes through the API server and back as it was, and a state that is none is refused.
func TestAPIStatus(t *testing.T) {
	api := admin(t)
	ctx := t.Context()
	since := metav1.NewTime(time.Now().Truncate(time.Second))
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAnnouncing, LastTransitionTime: since}

	speaker := &v1alpha1.Speaker{ObjectMeta: metav1.ObjectMeta{Name: "status"}}
	if err := api.Create(ctx, speaker); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := api.Delete(context.WithoutCancel(ctx), speaker); err != nil {
			t.Error(err)
		}
	}()
	want := v1alpha1.SpeakerStatus{
		GossipEndpoint: "192.0.2.11:7946",
		Version:        "v0.0.0",
		Interfaces:     []v1alpha1.SpeakerInterface{{Name: "eth0", MAC: "02:00:5e:00:53:01", Addresses: []string{"192.0.2.11/24"}, Up: true}, {Name: "eth1"}},
		OwnedAddresses: 2,
		Layer2: []v1alpha1.SpeakerAddress{
			{Address: "192.0.2.100", Interfaces: []string{"eth0"}, Services: []string{"shop/web"}, Since: since},
			{Address: "2001:db8::100"},
		},
		Sessions: "1/2",
		BGPSessions: []v1alpha1.SpeakerBGPSession{
			{Peer: "router", State: v1alpha1.BGPSessionEstablished, Since: since, Prefixes: 2, BFD: v1alpha1.BFDSessionUp},
			{Peer: "spare", State: v1alpha1.BGPSessionActive, LastError: "connection refused"},
		},
	}
	meta.SetStatusCondition(&want.Conditions, ready)
	speaker.Status = want
	if err := api.Status().Update(ctx, speaker); err != nil {
		t.Fatal(err)
	}
	var got v1alpha1.Speaker
	if err := api.Get(ctx, client.ObjectKeyFromObject(speaker), &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got.Status); diff != "" {
		t.Errorf("the status that came back (-want +got):\n%s", diff)
	}

	bad := got.DeepCopy()
	bad.Status.BGPSessions[0].State = "Up"
	wantRefusal(t, api.Status().Update(ctx, bad), "status.bgpSessions[0].state", "Unsupported value")
}

// `kubectl get fairlead` lists every kind, and the short names work.
func TestAPINames(t *testing.T) {
	admin(t)
	out, err := control.lab.Kubectl(t.Context(), "api-resources", "--categories=fairlead", "--no-headers", "--sort-by=name", "-o=wide")
	if err != nil {
		t.Fatal(err)
	}
	type row struct{ Name, ShortName, Kind string }
	var got []row
	for line := range strings.Lines(string(out)) {
		f := strings.Fields(line)
		if len(f) == 6 { // no short name
			f = append([]string{f[0], ""}, f[1:]...)
		}
		if len(f) != 7 {
			t.Fatalf("kubectl says %q", line)
		}
		got = append(got, row{f[0], f[1], f[4]})
	}
	want := []row{
		{"bfdprofiles", "bfdprofile", "BFDProfile"},
		{"bgpadvertisements", "bgpadv", "BGPAdvertisement"},
		{"bgppeers", "bgppeer", "BGPPeer"},
		{"communities", "bgpcommunity", "Community"},
		{"ipaddressclaims", "ipclaim", "IPAddressClaim"},
		{"ipaddresspools", "pool,pools", "IPAddressPool"},
		{"l2advertisements", "l2adv", "L2Advertisement"},
		{"speakers", "", "Speaker"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("kinds (-want +got):\n%s", diff)
	}
}
