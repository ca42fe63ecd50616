package importer

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

const (
	ciliumGroup = "cilium.io"

	// ciliumNamespace is where the Secrets with passwords are, unless Cilium was told
	// otherwise.
	ciliumNamespace = "kube-system"

	// A selector of Services can have these in place of labels.
	ciliumServiceNamespace = "io.kubernetes.service.namespace"
	ciliumServiceName      = "io.kubernetes.service.name"

	// namespaceName is a label that every namespace has.
	namespaceName = "kubernetes.io/metadata.name"

	// longestConnect is the longest time between attempts to connect.
	longestConnect = 65535 * time.Second
	// restartTime is how long Fairlead asks routers to keep routes.
	restartTime = 120
)

// ciliumWork is the translation of Cilium's objects with what they have to know of
// each other.
type ciliumWork struct {
	translation
	namespace string // of Fairlead
	secrets   map[string]map[string][]byte
	configs   map[string]ciliumPeerConfig
	users     []ciliumUser
}

// ciliumUser is a peer that comes out, and which advertisements it asks for.
type ciliumUser struct {
	name     v1alpha1.ObjectName
	families []ciliumFamily
}

// cilium translates Cilium's objects, and Secrets that they name.
func cilium(objects []unstructured.Unstructured, namespace string) translation {
	w := &ciliumWork{namespace: namespace, secrets: secretsOf(objects), configs: map[string]ciliumPeerConfig{}}
	w.remarks = []string{
		"Cilium's annotations on Services (lbipam.cilium.io/…, io.cilium/lb-ipam-…) are not heeded. Services keep the addresses that they have; write Fairlead's own where one asks for an address or shares one.",
	}
	for _, k := range []struct {
		kind      string
		translate func(*unstructured.Unstructured)
	}{
		{"CiliumLoadBalancerIPPool", w.pool},
		{"CiliumL2AnnouncementPolicy", w.l2},
		{"CiliumBGPPeerConfig", w.peerConfig}, // before those that refer to it
		{"CiliumBGPClusterConfig", w.cluster},
		{"CiliumBGPAdvertisement", w.bgp}, // after the peers that choose it
		{"CiliumBGPNodeConfigOverride", w.override},
		{"CiliumBGPPeeringPolicy", w.policy},
	} {
		for o := range ofKind(objects, ciliumGroup, k.kind) {
			k.translate(o)
		}
	}
	w.sort()
	return w.translation
}

func (w *ciliumWork) pool(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[ciliumPool](o, i)
	if !ok {
		return
	}
	pool := &v1alpha1.IPAddressPool{Spec: v1alpha1.IPAddressPoolSpec{Disabled: from.Disabled}}
	pool.TypeMeta, pool.ObjectMeta = named("IPAddressPool", o.GetName())
	var blocks []string
	for _, b := range slices.Concat(from.Blocks, from.CIDRs) {
		blocks = append(blocks, b.text())
	}
	pool.Spec.Addresses = addressRanges(blocks, "spec.blocks", i)
	if len(pool.Spec.Addresses) == 0 {
		i.refuse("spec.blocks", "it has no address that can be assigned; write an IPAddressPool with one")
	}
	if from.AllowFirstLastIPs == "No" {
		for _, r := range pool.Spec.Addresses {
			pool.Spec.Excludes = append(pool.Spec.Excludes, ends(r)...)
		}
	}
	w.forServices(from.ServiceSelector, &pool.Spec, i)
	i.give(pool)
}

// text writes a block as a network, a range, or one address.
func (b ciliumBlock) text() string {
	if b.CIDR != "" || b.Stop == "" {
		return b.CIDR + b.Start
	}
	return b.Start + "-" + b.Stop
}

// forServices has a pool be for the Services that a selector chooses.
func (w *ciliumWork) forServices(s *metav1.LabelSelector, spec *v1alpha1.IPAddressPoolSpec, i *item) {
	if s == nil {
		return
	}
	rest, namespaces, names := splitSelector(s)
	if names {
		spec.AutoAssign = ptr.To(false)
		i.note("spec.serviceSelector", "Fairlead's pools do not select Services by name, so this one assigns addresses only to Services that request it: annotate them with %s: %s",
			v1alpha1.AnnotationAddressPool, i.from[strings.LastIndex(i.from, " ")+1:])
	}
	a := v1alpha1.ServiceAllocation{}
	if namespaces != nil {
		if r := namespaces.MatchExpressions; len(r) == 1 && r[0].Operator == metav1.LabelSelectorOpIn {
			a.Namespaces = texts[v1alpha1.NamespaceName](r[0].Values)
		} else {
			a.NamespaceSelectors = []v1alpha1.LabelSelector{selector(namespaces)}
		}
	}
	if len(rest.MatchLabels)+len(rest.MatchExpressions) > 0 {
		a.ServiceSelectors = []v1alpha1.LabelSelector{selector(rest)}
	}
	if a.Namespaces != nil || a.NamespaceSelectors != nil || a.ServiceSelectors != nil {
		spec.ServiceAllocation = &a
	}
}

// splitSelector takes what a selector says of a Service's namespace out of it, as a
// selector of namespaces, which is nil if it says nothing. It reports whether the
// selector says something of the Service's name, and leaves that out.
func splitSelector(s *metav1.LabelSelector) (rest, namespaces *metav1.LabelSelector, names bool) {
	rest = &metav1.LabelSelector{}
	requirements := slices.Clone(s.MatchExpressions)
	for k, v := range s.MatchLabels {
		if k == ciliumServiceNamespace || k == ciliumServiceName {
			requirements = append(requirements, metav1.LabelSelectorRequirement{Key: k, Operator: metav1.LabelSelectorOpIn, Values: []string{v}})
			continue
		}
		metav1.AddLabelToSelector(rest, k, v)
	}
	for _, r := range requirements {
		switch r.Key {
		case ciliumServiceName:
			names = true
		case ciliumServiceNamespace:
			if namespaces == nil {
				namespaces = &metav1.LabelSelector{}
			}
			r.Key = namespaceName
			namespaces.MatchExpressions = append(namespaces.MatchExpressions, r)
		default:
			rest.MatchExpressions = append(rest.MatchExpressions, r)
		}
	}
	return rest, namespaces, names
}

// services returns the selector of an advertisement, which in Fairlead chooses by
// labels alone. A wider one would announce what was not to be.
func services(s *metav1.LabelSelector, field string, i *item) []v1alpha1.LabelSelector {
	if s == nil {
		return nil
	}
	rest, namespaces, names := splitSelector(s)
	if namespaces != nil || names {
		i.refuse(field, "Fairlead's advertisements select Services by label, not by namespace or name; label those Services and select them, or give them a pool of their own and name that in ipAddressPools")
	}
	if len(rest.MatchLabels)+len(rest.MatchExpressions) == 0 {
		return nil
	}
	return []v1alpha1.LabelSelector{selector(rest)}
}

func nodes(s *metav1.LabelSelector) []v1alpha1.LabelSelector {
	if s == nil || len(s.MatchLabels)+len(s.MatchExpressions) == 0 {
		return nil
	}
	return []v1alpha1.LabelSelector{selector(s)}
}

func (w *ciliumWork) l2(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[ciliumL2](o, i)
	if !ok {
		return
	}
	l2 := &v1alpha1.L2Advertisement{Spec: v1alpha1.L2AdvertisementSpec{
		NodeSelectors: nodes(from.NodeSelector), ServiceSelectors: services(from.ServiceSelector, "spec.serviceSelector", i),
	}}
	l2.TypeMeta, l2.ObjectMeta = named("L2Advertisement", o.GetName())
	if from.ExternalIPs {
		i.note("spec.externalIPs", "left out, Fairlead announces the addresses of Services of type LoadBalancer only; leave a policy for these to Cilium")
	}
	if !from.LoadBalancerIPs {
		i.refuse("spec.loadBalancerIPs", "it is not true, so nothing that is Fairlead's is announced; nothing to do")
	}
	w.interfaces(from.Interfaces, l2, i)
	i.give(l2)
}

func (w *ciliumWork) interfaces(expressions []string, l2 *v1alpha1.L2Advertisement, i *item) {
	var found []string
	for n, e := range expressions {
		field := fmt.Sprintf("spec.interfaces[%d]", n)
		patterns, ok := globs(e)
		if !ok {
			i.note(field, "%q is left out, it has no counterpart among patterns of *, ? and [a-z]; add the interfaces that it is for to interfaces", e)
		}
		if len(patterns) > 1 {
			i.note(field, "%q repeats a set of characters, which is written up to %d times; add a pattern if there are longer names", e, mostRepeated)
		}
		found = append(found, patterns...)
	}
	l2.Spec.Interfaces = texts[v1alpha1.InterfacePattern](found)
	if len(expressions) > 0 && len(found) == 0 {
		i.refuse("spec.interfaces", "without interfaces it would announce on others than it does now; write an L2Advertisement with interfaces")
	}
	if len(expressions) == 0 {
		i.note("spec.interfaces", "not set; Cilium then answers on every interface, Fairlead on those with an address in the subnet of the announced one. If no interface has, name those to answer on")
	}
}

// peerConfig keeps a config for the peers that refer to it. What is said of it is
// said once, here.
func (w *ciliumWork) peerConfig(o *unstructured.Unstructured) {
	i := w.add(o)
	from, ok := decode[ciliumPeerConfig](o, i)
	if !ok {
		return
	}
	w.configs[o.GetName()] = from
	if name := from.Transport.SourceInterface; name != "" {
		i.note("spec.transport.sourceInterface", "left out; if the nodes' routes do not lead there by themselves, write a BGPPeer for each node, with the address of %s as sourceAddress", name)
	}
	if from.GracefulRestart == nil {
		graceful(&v1alpha1.BGPPeerSpec{}, nil, "spec.gracefulRestart", i)
	} else if g := from.GracefulRestart; g.Enabled && ptr.Deref(g.RestartTimeSeconds, restartTime) != restartTime {
		i.note("spec.gracefulRestart.restartTimeSeconds", "%d is left out, Fairlead asks routers to keep its routes for %d seconds; nothing to do", *g.RestartTimeSeconds, restartTime)
	}
	if from.EBGPMultihop > 1 {
		i.note("spec.ebgpMultihop", "%d becomes ebgpMultiHop: true, which sets no number of hops; nothing to do", from.EBGPMultihop)
	}
	w.families(from.Families, i)
	if len(i.remarks) == 0 {
		w.items = w.items[:len(w.items)-1] // all of it is in the peers
	}
}

func (w *ciliumWork) families(list []ciliumFamily, i *item) {
	v4, v6 := false, false
	for n, f := range list {
		switch {
		case f.SAFI == "unicast" && f.AFI == "ipv4":
			v4 = true
		case f.SAFI == "unicast" && f.AFI == "ipv6":
			v6 = true
		default:
			i.note(fmt.Sprintf("spec.families[%d]", n), "%s/%s is left out, Fairlead announces IPv4 and IPv6 unicast routes; leave it to Cilium", f.AFI, f.SAFI)
		}
	}
	if v4 != v6 {
		i.note("spec.families", "only one family is listed, and a session of Fairlead's carries both; for one only, have the router take only that one")
	}
}

func (w *ciliumWork) cluster(o *unstructured.Unstructured) {
	whole := w.add(o)
	from, ok := decode[ciliumCluster](o, whole)
	if !ok {
		return
	}
	for n, instance := range from.BGPInstances {
		if instance.LocalPort != 0 {
			whole.note(fmt.Sprintf("spec.bgpInstances[%d].localPort", n),
				"%d is left out, Fairlead connects by itself; for a router that connects to the nodes, write passive: true in its BGPPeer, and the speaker's flag --bgp-listen-port if it is not port 179", instance.LocalPort)
		}
		for k := range instance.Peers {
			i := &item{from: title(o)}
			w.items = append(w.items, i)
			w.peer(o, from.NodeSelector, &instance, &instance.Peers[k], fmt.Sprintf("spec.bgpInstances[%d].peers[%d]", n, k), i)
		}
	}
	if len(whole.remarks) == 0 {
		w.items = slices.DeleteFunc(w.items, func(i *item) bool { return i == whole })
	}
}

func (w *ciliumWork) peer(o *unstructured.Unstructured, onNodes *metav1.LabelSelector, instance *ciliumInstance, from *ciliumPeer, field string, i *item) {
	peer := &v1alpha1.BGPPeer{Spec: v1alpha1.BGPPeerSpec{
		MyASN: asn(instance.LocalASN, field, i), PeerASN: asn(from.PeerASN, field+".peerASN", i), NodeSelectors: nodes(onNodes),
	}}
	peer.TypeMeta, peer.ObjectMeta = named("BGPPeer", string(w.peerName(o.GetName(), instance.Name, from.Name)))
	spec := &peer.Spec
	if instance.LocalASN == 0 {
		i.refuse(field, "its instance has no localASN; write the cluster's own AS number")
	}
	if from.PeerASN == 0 {
		spec.DynamicASN = v1alpha1.DynamicASNExternal
		i.note(field+".peerASN", "not set, so that any number will do; dynamicASN: external takes any but %d. If the router has that one, write internal", instance.LocalASN)
	}
	switch {
	case from.AutoDiscovery != nil:
		i.refuse(field+".autoDiscovery", "Fairlead does not look for the default gateway; write a BGPPeer with peerAddress, or with interface for an unnumbered session")
	case from.PeerAddress == "":
		i.refuse(field+".peerAddress", "it is missing; write the router's address")
	default:
		spec.PeerAddress = peerAddress(strings.TrimSpace(from.PeerAddress), field+".peerAddress", i)
	}
	config, known := w.configs[from.PeerConfigRef.Name]
	if name := from.PeerConfigRef.Name; name == "" {
		graceful(spec, nil, field+".peerConfigRef", i)
	} else if !known {
		i.note(field+".peerConfigRef", "CiliumBGPPeerConfig %s is not among what was read; import it together with this", name)
	}
	w.configure(spec, &config, from.PeerConfigRef.Name, i)
	i.give(peer)
	if !i.refused {
		w.users = append(w.users, ciliumUser{v1alpha1.ObjectName(peer.Name), config.Families})
	}
}

// peerName makes a name of those of an instance and a peer, which may be anything.
func (w *ciliumWork) peerName(config, instance, peer string) v1alpha1.ObjectName {
	name := v1alpha1.ObjectName(aliasName(instance + "-" + peer))
	if slices.ContainsFunc(w.users, func(u ciliumUser) bool { return u.name == name }) {
		name = v1alpha1.ObjectName(aliasName(config + "-" + instance + "-" + peer))
	}
	return name
}

// configure writes what a config says into a peer.
func (w *ciliumWork) configure(spec *v1alpha1.BGPPeerSpec, from *ciliumPeerConfig, name string, i *item) {
	config := fmt.Sprintf("CiliumBGPPeerConfig %s: spec", name)
	if from.Transport.PeerPort != defaultPort {
		spec.PeerPort = from.Transport.PeerPort
	}
	if spec.PeerASN != spec.MyASN {
		spec.EBGPMultiHop = from.EBGPMultihop > 1
	}
	if t := from.Timers; t != nil {
		times{hold: seconds(t.HoldTimeSeconds), keepalive: seconds(t.KeepAliveTimeSeconds)}.set(spec, config+".timers.holdTimeSeconds", config+".timers.keepAliveTimeSeconds", i)
		if d := seconds(t.ConnectRetryTimeSeconds); d != nil {
			spec.ConnectTime = duration(min(*d, longestConnect), defaultConnect, config+".timers.connectRetryTimeSeconds", i)
		}
	}
	if g := from.GracefulRestart; g != nil {
		graceful(spec, &g.Enabled, config+".gracefulRestart", i)
	}
	if secret := from.AuthSecretRef; secret != "" {
		value, known := w.secrets[secret][passwordKey]
		w.password(spec, secret, w.namespace, value, i)
		if !known {
			i.note(config+".authSecretRef", "Secret %s, or its key %q, was not found or could not be read; create it in namespace %s", secret, passwordKey, w.namespace)
		}
	}
}

func seconds(n *int32) *time.Duration {
	if n == nil {
		return nil
	}
	return ptr.To(time.Duration(*n) * time.Second)
}

func (w *ciliumWork) bgp(o *unstructured.Unstructured) {
	whole := w.add(o)
	from, ok := decode[ciliumAdvertisements](o, whole)
	if !ok {
		return
	}
	peers, err := w.peersFor(o.GetLabels())
	if err != nil {
		whole.refuse("metadata.labels", "%v", err)
		return
	}
	for n := range from.Advertisements {
		name := o.GetName()
		if len(from.Advertisements) > 1 {
			name += "-" + strconv.Itoa(n)
		}
		i := &item{from: title(o)}
		w.items = append(w.items, i)
		w.advertise(name, &from.Advertisements[n], peers, fmt.Sprintf("spec.advertisements[%d]", n), i)
	}
	if len(whole.remarks) == 0 {
		w.items = slices.DeleteFunc(w.items, func(i *item) bool { return i == whole })
	}
}

// peersFor returns the peers whose configs ask for an advertisement with these labels.
func (w *ciliumWork) peersFor(set map[string]string) (out []v1alpha1.ObjectName, err error) {
	for _, u := range w.users {
		for _, f := range u.families {
			s, err := metav1.LabelSelectorAsSelector(f.Advertisements) // nil selects nothing
			if err != nil {
				return nil, fmt.Errorf("a peer's selector of advertisements cannot be read: %w; fix it and import it again", err)
			}
			if s.Matches(labels.Set(set)) && !slices.Contains(out, u.name) {
				out = append(out, u.name)
			}
		}
	}
	return out, nil
}

func (w *ciliumWork) advertise(name string, from *ciliumAdvertisement, peers []v1alpha1.ObjectName, field string, i *item) {
	bgp := &v1alpha1.BGPAdvertisement{Spec: v1alpha1.BGPAdvertisementSpec{
		Peers: peers, ServiceSelectors: services(from.Selector, field+".selector", i), LocalPref: from.Attributes.LocalPreference,
		AggregationLength: unless(from.Service.AggregationLengthIPv4, 32), AggregationLengthV6: unless(from.Service.AggregationLengthIPv6, 128),
	}}
	bgp.TypeMeta, bgp.ObjectMeta = named("BGPAdvertisement", name)
	switch {
	case from.AdvertisementType != "Service":
		i.refuse(field+".advertisementType", "Fairlead announces the addresses of Services only; leave %s to Cilium", from.AdvertisementType)
	case !slices.Contains(from.Service.Addresses, "LoadBalancerIP"):
		i.refuse(field+".service.addresses", "it has no LoadBalancerIP, and Fairlead announces nothing else; leave it to Cilium")
	case from.Selector == nil:
		i.refuse(field+".selector", "it is not set, by which Cilium announces nothing; nothing to do")
	case len(peers) == 0:
		i.refuse("metadata.labels", "no imported peer asks for this advertisement by its labels; write peers in a BGPAdvertisement")
	case len(from.Service.Addresses) > 1:
		i.note(field+".service.addresses", "only LoadBalancerIP is Fairlead's; leave the others to Cilium")
	}
	bgp.Spec.Communities = w.communities(&from.Attributes.Communities, field+".attributes.communities", i)
	i.give(bgp)
}

// ciliumWellKnown are names of communities that Fairlead does not have.
var ciliumWellKnown = map[string]v1alpha1.CommunityReference{
	"planned-shut":               "graceful-shutdown",
	"route-filter-translated-v4": "65535:2",
	"route-filter-v4":            "65535:3",
	"route-filter-translated-v6": "65535:4",
	"route-filter-v6":            "65535:5",
}

func (w *ciliumWork) communities(from *ciliumCommunities, field string, i *item) (out []v1alpha1.CommunityReference) {
	for _, s := range from.Standard {
		if n, err := strconv.ParseUint(s, 10, 32); err == nil { // one number stands for both halves
			s = fmt.Sprintf("%d:%d", n>>16, n&0xffff)
		}
		out = append(out, v1alpha1.CommunityReference(s))
	}
	for _, s := range from.WellKnown {
		c, other := ciliumWellKnown[s]
		if !other {
			c = v1alpha1.CommunityReference(s)
		}
		out = append(out, c)
	}
	for _, s := range from.Large {
		out = append(out, v1alpha1.CommunityReference("large:"+s))
	}
	return slices.DeleteFunc(out, func(c v1alpha1.CommunityReference) bool {
		_, err := community(string(c))
		if err != nil {
			i.note(field, "%v", err)
		}
		return err != nil
	})
}

func (w *ciliumWork) override(o *unstructured.Unstructured) {
	w.add(o).refuse("spec", "it changes the peers of node %s; write BGPPeers for that node alone (nodeSelectors: kubernetes.io/hostname), with routerID, sourceAddress (localAddress) and myASN (localASN), and leave it out of the others", o.GetName())
}

func (w *ciliumWork) policy(o *unstructured.Unstructured) {
	w.add(o).refuse("kind", "it is the older form of Cilium's BGP; write CiliumBGPClusterConfig, CiliumBGPPeerConfig and CiliumBGPAdvertisement instead, and import those, or write BGPPeers by hand")
}
