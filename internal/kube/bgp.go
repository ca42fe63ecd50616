package kube

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// Fault is why an object is not in effect, or not as it is written.
type Fault struct {
	Reason  string // of the Ready condition
	Message string // names the field, and the fix
}

func (f *Fault) Error() string { return f.Message }

func faultf(reason, format string, args ...any) *Fault {
	return &Fault{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// Oldest sorts objects by age, then namespace and name: of two that exclude each other,
// the older one is in effect.
func Oldest[T any, P interface {
	*T
	GetCreationTimestamp() metav1.Time
	GetNamespace() string
	GetName() string
}](list []T) {
	slices.SortFunc(list, func(x, y T) int {
		a, b := P(&x), P(&y)
		return cmp.Or(a.GetCreationTimestamp().Compare(b.GetCreationTimestamp().Time),
			cmp.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetName(), b.GetName()))
	})
}

// Aliases returns the communities by the names that the Community objects give
// them. Of two that give one name the older is right.
func Aliases(objects []v1alpha1.Community) map[string]lb.Community {
	objects = slices.Clone(objects)
	Oldest(objects)
	out := map[string]lb.Community{}
	for i := range objects {
		for _, a := range objects[i].Spec.Communities {
			c, err := config.Community(string(a.Value))
			if _, given := out[string(a.Name)]; err == nil && !given {
				out[string(a.Name)] = c
			}
		}
	}
	return out
}

// BGPAdvertisement returns the advertisement, parsed, with the pools that it
// chooses by label resolved to names. One that names a community by an alias
// that is not there is used without it; missing are such aliases. The error
// names the field.
func BGPAdvertisement(a *v1alpha1.BGPAdvertisement, pools []v1alpha1.IPAddressPool, aliases map[string]lb.Community) (out lb.BGPAdvertisement, missing []string, err error) {
	out = lb.BGPAdvertisement{
		Name: a.Name, Peers: texts(a.Spec.Peers),
		Length4: int(ptr.Deref(a.Spec.AggregationLength, 32)), Length6: int(ptr.Deref(a.Spec.AggregationLengthV6, 128)),
	}
	slices.Sort(out.Peers)
	out.Prepend = uint8(min(max(a.Spec.ASPathPrepend, 0), 255))
	for _, n := range []struct {
		from *int64
		to   *lb.Optional[uint32]
	}{{a.Spec.LocalPref, &out.LocalPref}, {a.Spec.MED, &out.MED}} {
		if n.from != nil {
			*n.to = lb.Some(uint32(*n.from))
		}
	}
	named := slices.DeleteFunc(texts(a.Spec.Communities), func(s string) bool {
		_, there := aliases[s]
		if there || !isAlias(s) {
			return false
		}
		missing = append(missing, s)
		return true
	})
	if out.Communities, err = config.Communities(named, aliases); err != nil {
		return out, missing, fmt.Errorf("spec.communities%w", err)
	}
	out.Scope, err = scope(pools, texts(a.Spec.IPAddressPools), a.Spec.IPAddressPoolSelectors, a.Spec.ServiceSelectors, a.Spec.NodeSelectors)
	return out, missing, err
}

// isAlias reports whether a reference to a community is neither numbers nor a
// well-known name.
func isAlias(s string) bool {
	_, known := lb.WellKnownCommunities[s]
	return !known && !strings.Contains(s, ":")
}

// scope parses what an advertisement chooses by.
func scope(pools []v1alpha1.IPAddressPool, names []string, poolSelectors, services, nodes []v1alpha1.LabelSelector) (out lb.Scope, err error) {
	out = lb.Scope{AllPools: len(names)+len(poolSelectors) == 0, Pools: names}
	bySelector, err := selectors(poolSelectors)
	if err != nil {
		return out, fmt.Errorf("spec.ipAddressPoolSelectors%w", err)
	}
	for _, p := range pools {
		if lb.MatchesAny(bySelector, lb.LabelsOf(p.Labels)) {
			out.Pools = append(out.Pools, p.Name)
		}
	}
	slices.Sort(out.Pools)
	out.Pools = slices.Compact(out.Pools)
	if out.ServiceSelectors, err = selectors(services); err != nil {
		return out, fmt.Errorf("spec.serviceSelectors%w", err)
	}
	if out.NodeSelectors, err = selectors(nodes); err != nil {
		return out, fmt.Errorf("spec.nodeSelectors%w", err)
	}
	return out, nil
}

// BGPAdvertisements returns those that can be understood, the oldest first.
func BGPAdvertisements(list []v1alpha1.BGPAdvertisement, pools []v1alpha1.IPAddressPool, aliases map[string]lb.Community) (out []lb.BGPAdvertisement) {
	list = slices.Clone(list)
	Oldest(list)
	for i := range list {
		if a, _, err := BGPAdvertisement(&list[i], pools, aliases); err == nil {
			out = append(out, a)
		}
	}
	return out
}

// Peer is a BGPPeer, with all that does not depend on the node.
type Peer struct {
	lb.BGPPeer
	Nodes  []lb.Selector // empty: all
	Secret *v1alpha1.PasswordSecret
	BFD    string // the name of the BFDProfile, or ""
}

// SelectsNode reports whether nodes with these labels have the peer.
func (p *Peer) SelectsNode(labels lb.Labels) bool {
	return len(p.Nodes) == 0 || lb.MatchesAny(p.Nodes, labels)
}

// What the API gives a BGPPeer that does not say.
const (
	defaultHoldTime    = 90 * time.Second
	defaultConnectTime = 10 * time.Second
	defaultPasswordKey = "password"
)

// BGPPeer returns the peer, parsed. The error names the field.
func BGPPeer(p *v1alpha1.BGPPeer) (Peer, error) {
	s := &p.Spec
	out := Peer{Secret: s.PasswordSecret, BFD: string(s.BFDProfile), BGPPeer: lb.BGPPeer{
		Name: p.Name, MyASN: uint32(s.MyASN), PeerASN: uint32(s.PeerASN), LocalASN: uint32(s.LocalASN),
		Interface: string(s.Interface), VRF: string(s.VRF), Port: uint16(s.PeerPort),
		HoldTime: duration(s.HoldTime, defaultHoldTime), KeepaliveTime: duration(s.KeepaliveTime, 0), ConnectTime: duration(s.ConnectTime, defaultConnectTime),
		GracefulRestart: ptr.Deref(s.GracefulRestart, true), Multihop: s.EBGPMultiHop, TTLSecurity: s.TTLSecurity, Passive: s.Passive,
	}}
	switch s.DynamicASN {
	case v1alpha1.DynamicASNInternal:
		out.Dynamic = lb.DynamicInternal
	case v1alpha1.DynamicASNExternal:
		out.Dynamic = lb.DynamicExternal
	}
	for _, f := range []struct {
		name, text string
		to         *netip.Addr
	}{
		{"peerAddress", string(s.PeerAddress), &out.Address},
		{"sourceAddress", string(s.SourceAddress), &out.Source},
		{"routerID", s.RouterID, &out.RouterID},
	} {
		if f.text == "" {
			continue
		}
		a, err := config.Address(f.text)
		if err != nil {
			return out, fmt.Errorf("spec.%s: %w", f.name, err)
		}
		*f.to = a
	}
	var err error
	if out.Nodes, err = selectors(s.NodeSelectors); err != nil {
		return out, fmt.Errorf("spec.nodeSelectors%w", err)
	}
	return out, nil
}

func duration(d *metav1.Duration, otherwise time.Duration) time.Duration {
	if d == nil {
		return otherwise
	}
	return d.Duration
}

// Peers are the BGPPeers that can be understood, the oldest first.
type Peers []Peer

// NewPeers returns the peers that can be understood, and why the others cannot, by
// name.
func NewPeers(list []v1alpha1.BGPPeer) (Peers, map[string]*Fault) {
	list = slices.Clone(list)
	Oldest(list)
	var out Peers
	faults := map[string]*Fault{}
	for i := range list {
		p, err := BGPPeer(&list[i])
		if err != nil {
			faults[list[i].Name] = &Fault{Reason: v1alpha1.ReasonInvalid, Message: err.Error()}
			continue
		}
		out = append(out, p)
	}
	return out, faults
}

// Of returns the peers that a node with these labels has, and why it has not those
// that it should: of two that are the same router the older one is had.
func (ps Peers) Of(labels lb.Labels) ([]Peer, map[string]*Fault) {
	var out []Peer
	faults, routers := map[string]*Fault{}, lb.BGPRouters{}
	for i := range ps {
		p := &ps[i]
		if !p.SelectsNode(labels) {
			continue
		}
		if older, taken := routers.Take(&p.BGPPeer); taken {
			field := "spec.peerAddress"
			if p.Interface != "" {
				field = "spec.interface"
			}
			faults[p.Name] = faultf(v1alpha1.ReasonPeerConflict,
				"%s: the older BGPPeer %q is the same router; %s", field, older, ReasonFix(v1alpha1.ReasonPeerConflict))
			continue
		}
		out = append(out, *p)
	}
	return out, faults
}

// Selects reports whether the peer selects a node with these labels, and why the node has
// no session with it all the same.
func (ps Peers) Selects(peer string, labels map[string]string) (bool, *Fault) {
	i := slices.IndexFunc(ps, func(p Peer) bool { return p.Name == peer })
	of := lb.LabelsOf(labels)
	if i < 0 || !ps[i].SelectsNode(of) {
		return false, nil
	}
	_, faults := ps.Of(of)
	return true, faults[peer]
}

// Names returns the sorted names of the peers that a node with these labels has.
func (ps Peers) Names(labels lb.Labels) (out []string) {
	of, _ := ps.Of(labels)
	for i := range of {
		out = append(out, of[i].Name)
	}
	slices.Sort(out)
	return out
}

// Secrets are what the Secrets of the install's namespace have, by name and key.
type Secrets struct {
	Namespace string
	Data      map[string]map[string][]byte
}

// On returns the peer as a node has it. addrs are the node's addresses, from which
// its router ID is made if the peer has none.
func (p Peer) On(node string, addrs []netip.Addr, secrets Secrets) (lb.BGPPeer, *Fault) {
	out := p.BGPPeer
	if !out.RouterID.IsValid() {
		out.RouterID = lb.RouterID(node, addrs)
	}
	if p.Secret == nil {
		return out, nil
	}
	name, key := string(p.Secret.Name), cmp.Or(p.Secret.Key, defaultPasswordKey)
	data, ok := secrets.Data[name]
	password := data[key]
	switch {
	case !ok:
		return out, faultf(v1alpha1.ReasonSecretNotFound, "spec.passwordSecret.name: there is no Secret %s/%s; create it with the key %q, or leave passwordSecret out",
			secrets.Namespace, name, key)
	case len(password) == 0:
		return out, faultf(v1alpha1.ReasonSecretNotFound, "spec.passwordSecret.key: Secret %s/%s has no key %q with a password, but %s; write one that it has",
			secrets.Namespace, name, key, cmp.Or(strings.Join(slices.Sorted(maps.Keys(data)), ", "), "nothing"))
	}
	if problem := passwordProblem(password); problem != "" {
		return out, faultf(v1alpha1.ReasonInvalid, "spec.passwordSecret: the password in Secret %s/%s, key %q, %s, which no router has in its configuration; write the Secret again without it, by kubectl create secret generic %s --from-literal=%s=PASSWORD",
			secrets.Namespace, name, key, problem, name, key)
	}
	out.Password = lb.Secret(password)
	return out, nil
}

// passwordProblem returns why a password cannot be the router's; "" if it can. Editors
// and echo put a newline behind it, and TCP MD5 has no way to say that it differs.
func passwordProblem(password []byte) string {
	switch i := bytes.IndexFunc(password, unicode.IsControl); {
	case i < 0:
		return ""
	case len(bytes.TrimRight(password, "\r\n")) == i:
		return "ends with a newline"
	default:
		return fmt.Sprintf("has a control character as character %d", utf8.RuneCount(password[:i])+1)
	}
}

// ProfileFault says that a peer's BFDProfile is not there; nil if it is, or none
// is wanted.
func (p Peer) ProfileFault(profiles map[string]BFDProfile) *Fault {
	if _, ok := profiles[p.BFD]; ok || p.BFD == "" {
		return nil
	}
	return faultf(v1alpha1.ReasonBFDProfileNotFound, "spec.bfdProfile: there is no BFDProfile %q; create it, or leave bfdProfile out; until then nothing watches the path", p.BFD)
}

// BFDProfile is how closely a path is watched. What is zero is the default.
type BFDProfile struct {
	Receive, Transmit time.Duration
	DetectMultiplier  uint8
	Passive           bool
	MinimumTTL        uint8
}

// Profile returns the BFDProfile, parsed.
func Profile(p *v1alpha1.BFDProfile) BFDProfile {
	ms := func(n int32) time.Duration { return time.Duration(n) * time.Millisecond }
	return BFDProfile{
		Receive: ms(p.Spec.ReceiveInterval), Transmit: ms(p.Spec.TransmitInterval),
		DetectMultiplier: uint8(p.Spec.DetectMultiplier), Passive: p.Spec.PassiveMode, MinimumTTL: uint8(p.Spec.MinimumTTL),
	}
}
