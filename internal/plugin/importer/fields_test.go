package importer

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
)

// field is a field of MetalLB's and what becomes of it.
type field struct {
	kind, path string
	spec       string // with the field set
	want       string // what is in Fairlead's spec, as `path: JSON`; or
	remark     string // the words of the remark
	nothing    bool   // it is Fairlead's default: there is neither
}

const selecting = `[{matchLabels: {a: b}}]`

// metallbFields says of every field of MetalLB's kinds what becomes of it.
var metallbFields = []field{
	{kind: "IPAddressPool", path: "spec.addresses", spec: `{addresses: [192.0.2.0/24]}`, want: `addresses: ["192.0.2.0/24"]`},
	{kind: "IPAddressPool", path: "spec.autoAssign", spec: `{addresses: [192.0.2.0/24], autoAssign: false}`, want: `autoAssign: false`},
	{kind: "IPAddressPool", path: "spec.avoidBuggyIPs", spec: `{addresses: [192.0.2.0/24], avoidBuggyIPs: true}`, want: `avoidBuggyIPs: true`},
	{kind: "IPAddressPool", path: "spec.serviceAllocation.priority", spec: `{addresses: [192.0.2.0/24], serviceAllocation: {priority: 7}}`,
		want: `serviceAllocation: {"priority":7}`},
	{kind: "IPAddressPool", path: "spec.serviceAllocation.namespaces", spec: `{addresses: [192.0.2.0/24], serviceAllocation: {namespaces: [shop]}}`,
		want: `serviceAllocation: {"namespaces":["shop"]}`},
	{kind: "IPAddressPool", path: "spec.serviceAllocation.namespaceSelectors", spec: `{addresses: [192.0.2.0/24], serviceAllocation: {namespaceSelectors: ` + selecting + `}}`,
		want: `serviceAllocation: {"namespaceSelectors":[{"matchLabels":{"a":"b"}}]}`},
	{kind: "IPAddressPool", path: "spec.serviceAllocation.serviceSelectors", spec: `{addresses: [192.0.2.0/24], serviceAllocation: {serviceSelectors: ` + selecting + `}}`,
		want: `serviceAllocation: {"serviceSelectors":[{"matchLabels":{"a":"b"}}]}`},

	{kind: "L2Advertisement", path: "spec.ipAddressPools", spec: `{ipAddressPools: [lan]}`, want: `ipAddressPools: ["lan"]`},
	{kind: "L2Advertisement", path: "spec.ipAddressPoolSelectors", spec: `{ipAddressPoolSelectors: ` + selecting + `}`, want: `ipAddressPoolSelectors: [{"matchLabels":{"a":"b"}}]`},
	{kind: "L2Advertisement", path: "spec.nodeSelectors", spec: `{nodeSelectors: ` + selecting + `}`, want: `nodeSelectors: [{"matchLabels":{"a":"b"}}]`},
	{kind: "L2Advertisement", path: "spec.interfaces", spec: `{interfaces: [eth1]}`, want: `interfaces: ["eth1"]`},

	{kind: "BGPAdvertisement", path: "spec.aggregationLength", spec: `{aggregationLength: 24}`, want: `aggregationLength: 24`},
	{kind: "BGPAdvertisement", path: "spec.aggregationLengthV6", spec: `{aggregationLengthV6: 64}`, want: `aggregationLengthV6: 64`},
	{kind: "BGPAdvertisement", path: "spec.communities", spec: `{communities: ["65000:1"]}`, want: `communities: ["65000:1"]`},
	{kind: "BGPAdvertisement", path: "spec.ipAddressPools", spec: `{ipAddressPools: [lan]}`, want: `ipAddressPools: ["lan"]`},
	{kind: "BGPAdvertisement", path: "spec.ipAddressPoolSelectors", spec: `{ipAddressPoolSelectors: ` + selecting + `}`, want: `ipAddressPoolSelectors: [{"matchLabels":{"a":"b"}}]`},
	{kind: "BGPAdvertisement", path: "spec.localPref", spec: `{localPref: 4294967295}`, want: `localPref: 4294967295`},
	{kind: "BGPAdvertisement", path: "spec.nodeSelectors", spec: `{nodeSelectors: ` + selecting + `}`, want: `nodeSelectors: [{"matchLabels":{"a":"b"}}]`},
	{kind: "BGPAdvertisement", path: "spec.peers", spec: `{peers: [tor]}`, want: `peers: ["tor"]`},

	{kind: "BFDProfile", path: "spec.receiveInterval", spec: `{receiveInterval: 100}`, want: `receiveInterval: 100`},
	{kind: "BFDProfile", path: "spec.transmitInterval", spec: `{transmitInterval: 100}`, want: `transmitInterval: 100`},
	{kind: "BFDProfile", path: "spec.detectMultiplier", spec: `{detectMultiplier: 5}`, want: `detectMultiplier: 5`},
	{kind: "BFDProfile", path: "spec.echoInterval", spec: `{echoInterval: 50}`, remark: "spec.echoInterval: left out"},
	{kind: "BFDProfile", path: "spec.echoMode", spec: `{echoMode: true}`, remark: "spec.echoMode: left out"},
	{kind: "BFDProfile", path: "spec.passiveMode", spec: `{passiveMode: true}`, want: `passiveMode: true`},
	{kind: "BFDProfile", path: "spec.minimumTtl", spec: `{minimumTtl: 250}`, want: `minimumTTL: 250`},

	{kind: "Community", path: "spec.communities[].name", spec: `{communities: [{name: a, value: "1:2"}]}`, want: `communities: [{"name":"a","value":"1:2"}]`},
	{kind: "Community", path: "spec.communities[].value", spec: `{communities: [{name: a, value: "large:1:2:3"}]}`, want: `communities: [{"name":"a","value":"large:1:2:3"}]`},

	{kind: "BGPPeer", path: "spec.myASN", spec: peering(`myASN: 4200000000`), want: `myASN: 4200000000`},
	{kind: "BGPPeer", path: "spec.peerASN", spec: peering(`peerASN: 4200000001`), want: `peerASN: 4200000001`},
	{kind: "BGPPeer", path: "spec.dynamicASN", spec: `{myASN: 64512, dynamicASN: internal, peerAddress: 192.0.2.1}`, want: `dynamicASN: "internal"`},
	{kind: "BGPPeer", path: "spec.peerAddress", spec: peering(`peerAddress: "2001:DB8::1"`), want: `peerAddress: "2001:db8::1"`},
	{kind: "BGPPeer", path: "spec.interface", spec: `{myASN: 64512, peerASN: 64513, interface: eth1}`, want: `interface: "eth1"`},
	{kind: "BGPPeer", path: "spec.sourceAddress", spec: peering(`sourceAddress: 192.0.2.11`), want: `sourceAddress: "192.0.2.11"`},
	{kind: "BGPPeer", path: "spec.peerPort", spec: peering(`peerPort: 1179`), want: `peerPort: 1179`},
	{kind: "BGPPeer", path: "spec.holdTime", spec: peering(`holdTime: 2m`), want: `holdTime: "2m0s"`},
	{kind: "BGPPeer", path: "spec.keepaliveTime", spec: peering(`keepaliveTime: 20s`), want: `holdTime: "1m0s"`},
	{kind: "BGPPeer", path: "spec.connectTime", spec: peering(`connectTime: 1m`), want: `connectTime: "1m0s"`},
	{kind: "BGPPeer", path: "spec.routerID", spec: peering(`routerID: 192.0.2.11`), want: `routerID: "192.0.2.11"`},
	{kind: "BGPPeer", path: "spec.nodeSelectors", spec: peering(`nodeSelectors: ` + selecting), want: `nodeSelectors: [{"matchLabels":{"a":"b"}}]`},
	{kind: "BGPPeer", path: "spec.password", spec: peering(`password: secret`), want: `passwordSecret: {"name":"bgppeer-x"}`},
	{kind: "BGPPeer", path: "spec.passwordSecret.name", spec: peering(`passwordSecret: {name: pw}`), want: `passwordSecret: {"name":"pw"}`},
	{kind: "BGPPeer", path: "spec.passwordSecret.namespace", spec: peering(`passwordSecret: {name: pw, namespace: other}`), remark: "spec.passwordSecret.namespace: other is left out"},
	{kind: "BGPPeer", path: "spec.bfdProfile", spec: peering(`bfdProfile: fast`), want: `bfdProfile: "fast"`},
	{kind: "BGPPeer", path: "spec.enableGracefulRestart", spec: peering(`enableGracefulRestart: false`), want: `gracefulRestart: false`},
	{kind: "BGPPeer", path: "spec.ebgpMultiHop", spec: peering(`ebgpMultiHop: true`), want: `ebgpMultiHop: true`},
	{kind: "BGPPeer", path: "spec.vrf", spec: peering(`vrf: red`), want: `vrf: "red"`},
	{kind: "BGPPeer", path: "spec.disableMP", spec: peering(`disableMP: true`), remark: "spec.disableMP: left out"},
	{kind: "BGPPeer", path: "spec.dualStackAddressFamily", spec: peering(`dualStackAddressFamily: true, enableGracefulRestart: true`), nothing: true},
}

// peering returns the spec of a peer with a field set.
func peering(set string) string {
	spec := ""
	for _, f := range []string{"myASN: 64512", "peerASN: 64513", "peerAddress: 192.0.2.1"} {
		if name, _, _ := strings.Cut(f, ":"); !strings.HasPrefix(set, name+":") {
			spec += f + ", "
		}
	}
	return "{" + spec + set + "}"
}

// TestEveryFieldOfMetalLB: none is dropped in silence.
func TestEveryFieldOfMetalLB(t *testing.T) {
	for _, f := range metallbFields {
		t.Run(f.kind+"."+f.path, func(t *testing.T) {
			in := objects(t, "apiVersion: metallb.io/v1beta2\nkind: "+f.kind+"\nmetadata: {name: x, namespace: metallb-system}\nspec: "+f.spec+"\n")
			result := metallb(in, "fairlead-system")
			out, remarks := specOf(t, result)
			if f.want != "" {
				name, want, _ := strings.Cut(f.want, ": ")
				got, err := json.Marshal(out[name])
				if err != nil {
					t.Fatal(err)
				}
				if string(got) != want {
					t.Errorf("%s is %s, want %s", name, got, want)
				}
			}
			if !strings.Contains(remarks, f.remark) {
				t.Errorf("%q is not in the remarks:\n%s", f.remark, remarks)
			}
			if f.nothing && remarks != "" {
				t.Errorf("want no remark, got:\n%s", remarks)
			}
			if f.want == "" && f.remark == "" && !f.nothing {
				t.Error("the case expects nothing")
			}
			if strings.Contains(remarks, "not known to this importer") {
				t.Errorf("the field is not known:\n%s", remarks)
			}
		})
	}
}

// specOf returns the spec of what came out, beside Secrets, and all remarks.
func specOf(t *testing.T, r translation) (spec map[string]any, remarks string) {
	t.Helper()
	for _, i := range r.items {
		remarks += strings.Join(i.remarks, "\n")
		if i.object == nil || kindOf(i.object) == "Secret" {
			continue
		}
		o, err := bare(i.object)
		if err != nil {
			t.Fatal(err)
		}
		spec, _, _ = unstructured.NestedMap(o.Object, "spec")
	}
	return spec, remarks
}

// TestFieldsAreAll compares the table with the fields that MetalLB's CRDs have.
func TestFieldsAreAll(t *testing.T) {
	text, err := os.ReadFile("testdata/metallb-fields.txt")
	if err != nil {
		t.Fatal(err)
	}
	want, got := map[string]bool{}, map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			want[strings.TrimSpace(line)] = true
		}
	}
	for _, f := range metallbFields {
		got[fmt.Sprint(f.kind, " ", f.path)] = true
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-MetalLB +table):\n%s", diff)
	}
}
