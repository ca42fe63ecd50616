package importer

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

const metallbGroup = "metallb.io"

// The specs of MetalLB's kinds, as far as versions 0.13 to 0.15 have fields. Those
// of BGPPeer are v1beta2's, of which v1beta1's are a part.
type (
	metallbPool struct {
		Addresses         []string           `json:"addresses,omitempty"`
		AutoAssign        *bool              `json:"autoAssign,omitempty"`
		AvoidBuggyIPs     bool               `json:"avoidBuggyIPs,omitempty"`
		ServiceAllocation *metallbAllocation `json:"serviceAllocation,omitempty"`
	}
	metallbAllocation struct {
		Priority           int32                  `json:"priority,omitempty"`
		Namespaces         []string               `json:"namespaces,omitempty"`
		NamespaceSelectors []metav1.LabelSelector `json:"namespaceSelectors,omitempty"`
		ServiceSelectors   []metav1.LabelSelector `json:"serviceSelectors,omitempty"`
	}
	metallbScope struct {
		IPAddressPools         []string               `json:"ipAddressPools,omitempty"`
		IPAddressPoolSelectors []metav1.LabelSelector `json:"ipAddressPoolSelectors,omitempty"`
		NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors,omitempty"`
	}
	metallbL2 struct {
		metallbScope `json:",inline"`
		Interfaces   []string `json:"interfaces,omitempty"`
	}
	metallbBGP struct {
		metallbScope        `json:",inline"`
		AggregationLength   *int32   `json:"aggregationLength,omitempty"`
		AggregationLengthV6 *int32   `json:"aggregationLengthV6,omitempty"`
		LocalPref           uint32   `json:"localPref,omitempty"`
		Communities         []string `json:"communities,omitempty"`
		Peers               []string `json:"peers,omitempty"`
	}
	metallbPeer struct {
		MyASN                  uint32                 `json:"myASN,omitempty"`
		PeerASN                uint32                 `json:"peerASN,omitempty"`
		DynamicASN             string                 `json:"dynamicASN,omitempty"`
		PeerAddress            string                 `json:"peerAddress,omitempty"`
		Interface              string                 `json:"interface,omitempty"`
		SourceAddress          string                 `json:"sourceAddress,omitempty"`
		PeerPort               int32                  `json:"peerPort,omitempty"`
		HoldTime               *metav1.Duration       `json:"holdTime,omitempty"`
		KeepaliveTime          *metav1.Duration       `json:"keepaliveTime,omitempty"`
		ConnectTime            *metav1.Duration       `json:"connectTime,omitempty"`
		RouterID               string                 `json:"routerID,omitempty"`
		NodeSelectors          []metav1.LabelSelector `json:"nodeSelectors,omitempty"`
		Password               string                 `json:"password,omitempty"`
		PasswordSecret         metallbSecret          `json:"passwordSecret,omitempty"`
		BFDProfile             string                 `json:"bfdProfile,omitempty"`
		EnableGracefulRestart  *bool                  `json:"enableGracefulRestart,omitempty"`
		EBGPMultiHop           bool                   `json:"ebgpMultiHop,omitempty"`
		VRF                    string                 `json:"vrf,omitempty"`
		DisableMP              bool                   `json:"disableMP,omitempty"`
		DualStackAddressFamily bool                   `json:"dualStackAddressFamily,omitempty"`
	}
	metallbSecret struct {
		Name      string `json:"name,omitempty"`
		Namespace string `json:"namespace,omitempty"`
	}
	metallbBFD struct {
		ReceiveInterval  *int32 `json:"receiveInterval,omitempty"`
		TransmitInterval *int32 `json:"transmitInterval,omitempty"`
		DetectMultiplier *int32 `json:"detectMultiplier,omitempty"`
		EchoInterval     *int32 `json:"echoInterval,omitempty"`
		EchoMode         bool   `json:"echoMode,omitempty"`
		PassiveMode      bool   `json:"passiveMode,omitempty"`
		MinimumTTL       *int32 `json:"minimumTtl,omitempty"`
	}
	metallbCommunity struct {
		Communities []metallbAlias `json:"communities,omitempty"`
	}
	metallbAlias struct {
		Name  string `json:"name,omitempty"`
		Value string `json:"value,omitempty"`
	}
)

// metallbWork is the translation of a MetalLB with what its objects have to know of
// each other.
type metallbWork struct {
	translation
	namespace string // of Fairlead
	objects   []unstructured.Unstructured
	labels    map[string]bool              // of pools that advertisements select by
	renamed   map[string]string            // an alias -> its name in Fairlead, if that is another
	secrets   map[string]map[string][]byte // name -> data
	v4, v6    bool                         // which families the pools have
}

// metallbKinds are the kinds that are translated, in the order in which they have to
// be. The others of the group are MetalLB's own reports.
var metallbKinds = []struct {
	kind      string
	translate func(*metallbWork, *unstructured.Unstructured)
}{
	{"Community", (*metallbWork).community},
	{"IPAddressPool", (*metallbWork).pool},
	{"L2Advertisement", (*metallbWork).l2},
	{"BGPAdvertisement", (*metallbWork).bgp},
	{"BFDProfile", (*metallbWork).bfd},
	{"BGPPeer", (*metallbWork).peer},
}

// metallbReports are kinds that MetalLB writes about itself.
var metallbReports = []string{"ServiceL2Status", "ServiceBGPStatus", "ConfigurationState"}

// metallb translates MetalLB's objects, and Secrets that they name.
func metallb(objects []unstructured.Unstructured, namespace string) translation {
	w := &metallbWork{namespace: namespace, objects: objects, renamed: map[string]string{}, secrets: secretsOf(objects)}
	w.labels = w.labelsOfSelectors()
	w.remarks = []string{
		"MetalLB lets Services of any namespace share an address, so the pools have sharing: Cluster. Take it out for Fairlead's default, Namespace.",
	}
	for _, k := range metallbKinds {
		for o := range ofKind(objects, metallbGroup, k.kind) {
			k.translate(w, o)
		}
	}
	w.others()
	w.sort()
	return w.translation
}

// ofKind goes over the objects of a kind.
func ofKind(objects []unstructured.Unstructured, group, kind string) func(func(*unstructured.Unstructured) bool) {
	return func(yield func(*unstructured.Unstructured) bool) {
		for n := range objects {
			o := &objects[n]
			if gvk := o.GroupVersionKind(); gvk.Group == group && gvk.Kind == kind && !yield(o) {
				return
			}
		}
	}
}

func secretsOf(objects []unstructured.Unstructured) map[string]map[string][]byte {
	out := map[string]map[string][]byte{}
	for o := range ofKind(objects, "", "Secret") {
		data := map[string][]byte{}
		texts, _, _ := unstructured.NestedStringMap(o.Object, "data")
		for k, v := range texts {
			if b, err := base64.StdEncoding.DecodeString(v); err == nil {
				data[k] = b
			}
		}
		plain, _, _ := unstructured.NestedStringMap(o.Object, "stringData")
		for k, v := range plain {
			data[k] = []byte(v)
		}
		out[o.GetName()] = data
	}
	return out
}

// labelsOfSelectors returns the labels of pools that advertisements select by. Only
// those are taken along: others may be those of a tool that would take the pool
// for one of its own, and remove it.
func (w *metallbWork) labelsOfSelectors() map[string]bool {
	out := map[string]bool{}
	for _, kind := range []string{"L2Advertisement", "BGPAdvertisement"} {
		for o := range ofKind(w.objects, metallbGroup, kind) {
			scope, _ := decode[metallbScope](o, &item{})
			for _, s := range scope.IPAddressPoolSelectors {
				for k := range s.MatchLabels {
					out[k] = true
				}
				for _, e := range s.MatchExpressions {
					out[e.Key] = true
				}
			}
		}
	}
	return out
}

func (w *metallbWork) others() {
	for n := range w.objects {
		o := &w.objects[n]
		known := slices.Contains(metallbReports, o.GetKind())
		for _, k := range metallbKinds {
			known = known || k.kind == o.GetKind()
		}
		if o.GroupVersionKind().Group == metallbGroup && !known {
			w.add(o).refuse("kind", "this importer does not know it; for an AddressPool of MetalLB 0.12 or older, upgrade MetalLB to 0.13 first, which has IPAddressPool")
		}
	}
}

func (w *metallbWork) pool(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[metallbPool](o, i)
	if !ok {
		return
	}
	pool := &v1alpha1.IPAddressPool{Spec: v1alpha1.IPAddressPoolSpec{AvoidBuggyIPs: from.AvoidBuggyIPs, Sharing: v1alpha1.SharingCluster}}
	pool.TypeMeta, pool.ObjectMeta = named("IPAddressPool", o.GetName())
	labels := maps.Clone(o.GetLabels())
	maps.DeleteFunc(labels, func(k, _ string) bool { return !w.labels[k] })
	pool.Labels = labels
	pool.Spec.Addresses = addressRanges(from.Addresses, "spec.addresses", i)
	if len(pool.Spec.Addresses) == 0 {
		i.refuse("spec.addresses", "it has no address that can be assigned; write an IPAddressPool with one")
	}
	v4, v6 := families(pool.Spec.Addresses)
	w.v4, w.v6 = w.v4 || v4, w.v6 || v6
	if !ptr.Deref(from.AutoAssign, true) {
		pool.Spec.AutoAssign = ptr.To(false)
	}
	if a := from.ServiceAllocation; a != nil {
		pool.Spec.ServiceAllocation = a.translate(i)
	}
	i.give(pool)
}

func (a *metallbAllocation) translate(i *item) *v1alpha1.ServiceAllocation {
	if a.Priority < 0 {
		i.note("spec.serviceAllocation.priority", "%d is left out, Fairlead's begin with 1, which comes first; renumber the pools", a.Priority)
	}
	out := v1alpha1.ServiceAllocation{
		Priority: max(a.Priority, 0), Namespaces: texts[v1alpha1.NamespaceName](a.Namespaces),
		NamespaceSelectors: selectors(a.NamespaceSelectors), ServiceSelectors: selectors(a.ServiceSelectors),
	}
	if equality.Semantic.DeepEqual(out, v1alpha1.ServiceAllocation{}) {
		return nil
	}
	return &out
}

func (w *metallbWork) l2(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[metallbL2](o, i)
	if !ok {
		return
	}
	l2 := &v1alpha1.L2Advertisement{Spec: v1alpha1.L2AdvertisementSpec{
		IPAddressPools:         texts[v1alpha1.ObjectName](from.IPAddressPools),
		IPAddressPoolSelectors: selectors(from.IPAddressPoolSelectors),
		NodeSelectors:          selectors(from.NodeSelectors),
		Interfaces:             texts[v1alpha1.InterfacePattern](from.Interfaces),
	}}
	l2.TypeMeta, l2.ObjectMeta = named("L2Advertisement", o.GetName())
	if len(from.Interfaces) == 0 {
		i.note("spec.interfaces", "not set; MetalLB then answers on every interface, Fairlead on those with an address in the subnet of the announced one. If no interface has, name those to answer on")
	}
	i.give(l2)
}

func (w *metallbWork) bgp(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[metallbBGP](o, i)
	if !ok {
		return
	}
	bgp := &v1alpha1.BGPAdvertisement{Spec: v1alpha1.BGPAdvertisementSpec{
		IPAddressPools:         texts[v1alpha1.ObjectName](from.IPAddressPools),
		IPAddressPoolSelectors: selectors(from.IPAddressPoolSelectors),
		NodeSelectors:          selectors(from.NodeSelectors),
		Peers:                  texts[v1alpha1.ObjectName](from.Peers),
		AggregationLength:      unless(from.AggregationLength, 32),
		AggregationLengthV6:    unless(from.AggregationLengthV6, 128),
	}}
	bgp.TypeMeta, bgp.ObjectMeta = named("BGPAdvertisement", o.GetName())
	if from.LocalPref != 0 {
		bgp.Spec.LocalPref = ptr.To(int64(from.LocalPref))
	}
	for n, c := range from.Communities {
		bgp.Spec.Communities = append(bgp.Spec.Communities, w.reference(c, fmt.Sprintf("spec.communities[%d]", n), i)...)
	}
	i.give(bgp)
}

// unless returns n, or nil if it is the default.
func unless(n *int32, byDefault int32) *int32 {
	if ptr.Deref(n, byDefault) == byDefault {
		return nil
	}
	return n
}

// reference returns what an advertisement calls a community: its value, or an alias
// by its name in Fairlead.
func (w *metallbWork) reference(s, field string, i *item) []v1alpha1.CommunityReference {
	if name, ok := w.renamed[s]; ok {
		return []v1alpha1.CommunityReference{v1alpha1.CommunityReference(name)}
	}
	if strings.Contains(s, ":") {
		if _, err := community(s); err != nil {
			i.note(field, "%v", err)
			return nil
		}
	} else {
		i.note(field, "no Community here has the alias %q; write one that has %q", s, aliasName(s))
		s = aliasName(s)
	}
	return []v1alpha1.CommunityReference{v1alpha1.CommunityReference(s)}
}

// aliasName returns an alias in the form that Fairlead takes: lower-case letters,
// digits and '-', a letter first, and no well-known name.
func aliasName(s string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r - 'A' + 'a'
		}
		return '-'
	}, s)
	name = strings.Trim(name, "-")
	if name == "" || name[0] < 'a' {
		name = "c-" + name
	}
	if slices.Contains(v1alpha1.WellKnownCommunities, name) {
		name += "-alias"
	}
	return strings.TrimRight(name, "-")
}

func (w *metallbWork) community(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[metallbCommunity](o, i)
	if !ok {
		return
	}
	out := &v1alpha1.Community{}
	out.TypeMeta, out.ObjectMeta = named("Community", o.GetName())
	for n, c := range from.Communities {
		field := fmt.Sprintf("spec.communities[%d]", n)
		value, err := community(c.Value)
		if err != nil {
			i.note(field+".value", "%v", err)
			continue
		}
		name := aliasName(c.Name)
		if name != c.Name {
			i.note(field+".name", "%q is %q in Fairlead, where an alias has lower-case letters, digits and \"-\", and is no well-known name", c.Name, name)
		}
		w.renamed[c.Name] = name
		out.Spec.Communities = append(out.Spec.Communities, v1alpha1.CommunityAlias{Name: v1alpha1.CommunityAliasName(name), Value: value})
	}
	if len(out.Spec.Communities) == 0 {
		i.refuse("spec.communities", "it has no alias, and a Community of Fairlead needs one at least; nothing to do")
	}
	i.give(out)
}

func (w *metallbWork) bfd(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[metallbBFD](o, i)
	if !ok {
		return
	}
	value := func(n *int32, byDefault int32) int32 { return ptr.Deref(unless(n, byDefault), 0) }
	bfd := &v1alpha1.BFDProfile{Spec: v1alpha1.BFDProfileSpec{
		ReceiveInterval: value(from.ReceiveInterval, 300), TransmitInterval: value(from.TransmitInterval, 300),
		DetectMultiplier: value(from.DetectMultiplier, 3), PassiveMode: from.PassiveMode, MinimumTTL: value(from.MinimumTTL, 254),
	}}
	bfd.TypeMeta, bfd.ObjectMeta = named("BFDProfile", o.GetName())
	if from.EchoMode {
		i.note("spec.echoMode", "left out, Fairlead's BFD has no echo packets; shorten receiveInterval and transmitInterval if a dead path has to be noticed sooner")
	}
	if from.EchoInterval != nil {
		i.note("spec.echoInterval", "left out, Fairlead's BFD has no echo packets; nothing to do")
	}
	i.give(bfd)
}

func (w *metallbWork) peer(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[metallbPeer](o, i)
	if !ok {
		return
	}
	peer := &v1alpha1.BGPPeer{Spec: v1alpha1.BGPPeerSpec{
		MyASN: asn(int64(from.MyASN), "spec.myASN", i), PeerASN: asn(int64(from.PeerASN), "spec.peerASN", i),
		DynamicASN: v1alpha1.DynamicASN(from.DynamicASN),
		Interface:  v1alpha1.InterfaceName(from.Interface), SourceAddress: v1alpha1.IPAddress(from.SourceAddress),
		RouterID: from.RouterID, NodeSelectors: selectors(from.NodeSelectors), BFDProfile: v1alpha1.ObjectName(from.BFDProfile),
		EBGPMultiHop: from.EBGPMultiHop, VRF: v1alpha1.InterfaceName(from.VRF),
	}}
	peer.TypeMeta, peer.ObjectMeta = named("BGPPeer", o.GetName())
	spec := &peer.Spec
	if from.MyASN == 0 {
		i.refuse("spec.myASN", "it is missing; write the cluster's own AS number")
	}
	if from.PeerAddress != "" {
		spec.PeerAddress = peerAddress(from.PeerAddress, "spec.peerAddress", i)
	}
	if from.PeerPort != defaultPort {
		spec.PeerPort = from.PeerPort
	}
	if o.GroupVersionKind().Version == "v1beta1" {
		from.HoldTime, from.KeepaliveTime = unlessZero(from.HoldTime), unlessZero(from.KeepaliveTime)
	}
	timers(&from, spec, i)
	graceful(spec, from.EnableGracefulRestart, "spec.enableGracefulRestart", i)
	w.secret(&from, spec, o, i)
	w.sessionFamilies(&from, i)
	i.give(peer)
}

// unlessZero returns d, or nil for 0, by which v1beta1 says that a time is not set.
func unlessZero(d *metav1.Duration) *metav1.Duration {
	if d == nil || d.Duration == 0 {
		return nil
	}
	return d
}

// timers follows MetalLB's rule that a keepalive time alone stands for a hold time of
// three times as much.
func timers(from *metallbPeer, spec *v1alpha1.BGPPeerSpec, i *item) {
	var t times
	if from.HoldTime != nil {
		t.hold = &from.HoldTime.Duration
	}
	if from.KeepaliveTime != nil {
		t.keepalive = &from.KeepaliveTime.Duration
		if t.hold == nil {
			t.hold = ptr.To(3 * from.KeepaliveTime.Duration)
		}
	}
	t.set(spec, "spec.holdTime", "spec.keepaliveTime", i)
	if from.ConnectTime != nil {
		spec.ConnectTime = duration(from.ConnectTime.Duration, defaultConnect, "spec.connectTime", i)
	}
}

// secret has the password in a Secret in Fairlead's namespace, where it is looked for.
func (w *metallbWork) secret(from *metallbPeer, spec *v1alpha1.BGPPeerSpec, o *unstructured.Unstructured, i *item) {
	switch {
	case from.Password != "":
		w.password(spec, "bgppeer-"+o.GetName(), w.namespace, []byte(from.Password), i)
		i.note("spec.password", "it goes into Secret %s/%s, as Fairlead's peers have no password in plain text", w.namespace, "bgppeer-"+o.GetName())
	case from.PasswordSecret.Name != "":
		name := from.PasswordSecret.Name
		value, known := w.secrets[name][passwordKey]
		w.password(spec, name, w.namespace, value, i)
		if !known {
			i.note("spec.passwordSecret", "Secret %s, or its key %q, was not found or could not be read; create it in namespace %s", name, passwordKey, w.namespace)
		}
		if ns := from.PasswordSecret.Namespace; ns != "" && ns != o.GetNamespace() {
			i.note("spec.passwordSecret.namespace", "%s is left out, as MetalLB does: it looks in its own namespace, and Fairlead in its own", ns)
		}
	}
}

// sessionFamilies remarks on what is announced in a session beyond what MetalLB does.
func (w *metallbWork) sessionFamilies(from *metallbPeer, i *item) {
	switch {
	case from.DisableMP:
		i.note("spec.disableMP", "left out, a session of Fairlead's carries both families; for one only, have the router take only that one")
	case !from.DualStackAddressFamily && w.v4 && w.v6:
		i.note("spec.dualStackAddressFamily", "not set, and the pools have both families: Fairlead announces both in each session, if the router takes them. To have one only, have the router take only that one")
	}
}
