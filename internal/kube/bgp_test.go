package kube

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/lb"
)

// bgpPeer returns a peer that is as many seconds old as age says.
func bgpPeer(name string, age int, change func(*v1alpha1.BGPPeerSpec)) v1alpha1.BGPPeer {
	p := v1alpha1.BGPPeer{
		ObjectMeta: metav1.ObjectMeta{Name: name, CreationTimestamp: metav1.NewTime(time.Unix(int64(1000-age), 0))},
		Spec:       v1alpha1.BGPPeerSpec{MyASN: 64513, PeerASN: 64512, PeerAddress: "192.0.2.1"},
	}
	if change != nil {
		change(&p.Spec)
	}
	return p
}

func TestBGPPeer(t *testing.T) {
	router := netip.MustParseAddr("192.0.2.1")
	node := []netip.Addr{netip.MustParseAddr("2001:db8::11"), netip.MustParseAddr("192.0.2.11")}
	base := lb.BGPPeer{
		Name: "r1", MyASN: 64513, PeerASN: 64512, Address: router, HoldTime: 90 * time.Second, ConnectTime: 10 * time.Second,
		GracefulRestart: true, RouterID: node[1],
	}
	secrets := Secrets{Namespace: "fairlead-system", Data: map[string]map[string][]byte{"r1": {"password": []byte("hush"), "empty": nil, "newline": []byte("hush\n")}}}
	for _, tt := range []struct {
		name   string
		change func(*v1alpha1.BGPPeerSpec)
		want   func(*lb.BGPPeer)
		fault  *Fault
		err    string
	}{
		{name: "what it does not say", change: func(*v1alpha1.BGPPeerSpec) {}, want: func(*lb.BGPPeer) {}},
		{
			name: "all that it says",
			change: func(s *v1alpha1.BGPPeerSpec) {
				s.LocalASN, s.PeerPort, s.VRF, s.SourceAddress, s.RouterID = 64600, 1179, "red", "192.0.2.99", "10.0.0.1"
				s.HoldTime, s.KeepaliveTime, s.ConnectTime = &metav1.Duration{}, &metav1.Duration{Duration: time.Second}, &metav1.Duration{Duration: 2 * time.Second}
				s.GracefulRestart, s.EBGPMultiHop, s.TTLSecurity, s.Passive = ptr.To(false), true, true, true
				s.PasswordSecret = &v1alpha1.PasswordSecret{Name: "r1"}
			},
			want: func(p *lb.BGPPeer) {
				p.LocalASN, p.Port, p.VRF, p.Source, p.RouterID = 64600, 1179, "red", netip.MustParseAddr("192.0.2.99"), netip.MustParseAddr("10.0.0.1")
				p.HoldTime, p.KeepaliveTime, p.ConnectTime = 0, time.Second, 2*time.Second
				p.GracefulRestart, p.Multihop, p.TTLSecurity, p.Passive = false, true, true, true
				p.Password = "hush"
			},
		},
		{
			name: "a router that is found by interface, with any external number",
			change: func(s *v1alpha1.BGPPeerSpec) {
				s.PeerAddress, s.Interface, s.PeerASN, s.DynamicASN = "", "eth1", 0, v1alpha1.DynamicASNExternal
			},
			want: func(p *lb.BGPPeer) {
				p.Address, p.Interface, p.PeerASN, p.Dynamic = netip.Addr{}, "eth1", 0, lb.DynamicExternal
			},
		},
		{
			name:   "a Secret that is not there",
			change: func(s *v1alpha1.BGPPeerSpec) { s.PasswordSecret = &v1alpha1.PasswordSecret{Name: "r2"} },
			fault: &Fault{
				v1alpha1.ReasonSecretNotFound,
				`spec.passwordSecret.name: there is no Secret fairlead-system/r2; create it with the key "password", or leave passwordSecret out`,
			},
		},
		{
			name:   "a Secret without the key",
			change: func(s *v1alpha1.BGPPeerSpec) { s.PasswordSecret = &v1alpha1.PasswordSecret{Name: "r1", Key: "empty"} },
			fault: &Fault{
				v1alpha1.ReasonSecretNotFound,
				`spec.passwordSecret.key: Secret fairlead-system/r1 has no key "empty" with a password, but empty, newline, password; write one that it has`,
			},
		},
		{
			name:   "a password with a newline at its end",
			change: func(s *v1alpha1.BGPPeerSpec) { s.PasswordSecret = &v1alpha1.PasswordSecret{Name: "r1", Key: "newline"} },
			fault: &Fault{
				v1alpha1.ReasonInvalid,
				`spec.passwordSecret: the password in Secret fairlead-system/r1, key "newline", ends with a newline, which no router has in its configuration; write the Secret again without it, by kubectl create secret generic r1 --from-literal=newline=PASSWORD`,
			},
		},
		{name: "no address", change: func(s *v1alpha1.BGPPeerSpec) { s.PeerAddress = "router" }, err: `spec.peerAddress: "router" is not an IP address`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := bgpPeer("r1", 0, tt.change)
			p, err := BGPPeer(&o)
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %q", err, tt.err)
				}
				return
			}
			got, fault := p.On("n1", node, secrets)
			if diff := cmp.Diff(tt.fault, fault); diff != "" || err != nil {
				t.Fatalf("%v; fault (-want +got):\n%s", err, diff)
			}
			if tt.fault != nil {
				return
			}
			want := base
			tt.want(&want)
			if got != want {
				t.Errorf("got  %+v\nwant %+v", got, want)
			}
		})
	}
}

// Of two peers that are the same router a node has the older one, and of others
// all that select it.
func TestPeersOfANode(t *testing.T) {
	zone := func(z string) func(*v1alpha1.BGPPeerSpec) {
		return func(s *v1alpha1.BGPPeerSpec) {
			s.NodeSelectors = []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"zone": v1alpha1.LabelValue(z)}}}
		}
	}
	peers, faults := NewPeers([]v1alpha1.BGPPeer{
		bgpPeer("young", 1, nil), bgpPeer("old", 9, nil), bgpPeer("zone-a", 20, zone("a")),
		bgpPeer("from-another-address", 1, func(s *v1alpha1.BGPPeerSpec) { s.SourceAddress = "192.0.2.50" }),
		bgpPeer("in-a-vrf", 1, func(s *v1alpha1.BGPPeerSpec) { s.VRF = "red" }),
		bgpPeer("broken", 1, func(s *v1alpha1.BGPPeerSpec) { s.RouterID = "x" }),
	})
	if f := faults["broken"]; f == nil || f.Reason != v1alpha1.ReasonInvalid || !strings.Contains(f.Message, "spec.routerID") {
		t.Errorf("broken: %v", f)
	}
	for _, tt := range []struct {
		zone        string
		want, wrong []string
	}{
		{"a", []string{"from-another-address", "in-a-vrf", "zone-a"}, []string{"old", "young"}},
		{"b", []string{"from-another-address", "in-a-vrf", "old"}, []string{"young"}},
	} {
		labels := lb.LabelsOf(map[string]string{"zone": tt.zone})
		if diff := cmp.Diff(tt.want, peers.Names(labels)); diff != "" {
			t.Errorf("zone %s (-want +got):\n%s", tt.zone, diff)
		}
		_, faults := peers.Of(labels)
		for _, name := range tt.wrong {
			if f := faults[name]; f == nil || f.Reason != v1alpha1.ReasonPeerConflict {
				t.Errorf("zone %s: %s has %v", tt.zone, name, f)
			}
		}
		if len(faults) != len(tt.wrong) {
			t.Errorf("zone %s: faults %v", tt.zone, faults)
		}
	}
}

func TestBGPAdvertisement(t *testing.T) {
	aliases := Aliases([]v1alpha1.Community{
		{ObjectMeta: metav1.ObjectMeta{Name: "new", CreationTimestamp: metav1.NewTime(time.Unix(9, 0))}, Spec: v1alpha1.CommunitySpec{
			Communities: []v1alpha1.CommunityAlias{{Name: "backup", Value: "65000:99"}, {Name: "nothing", Value: "internet"}},
		}},
		{ObjectMeta: metav1.ObjectMeta{Name: "old", CreationTimestamp: metav1.NewTime(time.Unix(1, 0))}, Spec: v1alpha1.CommunitySpec{
			Communities: []v1alpha1.CommunityAlias{{Name: "backup", Value: "65000:80"}},
		}},
	})
	a := &v1alpha1.BGPAdvertisement{ObjectMeta: metav1.ObjectMeta{Name: "a"}}
	got, missing, err := BGPAdvertisement(a, nil, aliases)
	if err != nil || missing != nil || !got.AllPools || got.Length4 != 32 || got.Length6 != 128 || got.LocalPref.Set || got.MED.Set {
		t.Errorf("an empty one is %+v, %v, %v", got, missing, err)
	}
	a.Spec = v1alpha1.BGPAdvertisementSpec{
		IPAddressPools: []v1alpha1.ObjectName{"lan"}, Peers: []v1alpha1.ObjectName{"r2", "r1"}, AggregationLength: ptr.To[int32](24), AggregationLengthV6: ptr.To[int32](0),
		LocalPref: ptr.To[int64](4294967295), MED: ptr.To[int64](0), ASPathPrepend: 3,
		Communities: []v1alpha1.CommunityReference{"large:1:2:3", "backup", "no-export", "lost", "nothing"},
	}
	got, missing, err = BGPAdvertisement(a, nil, aliases)
	want := lb.BGPAdvertisement{
		Name: "a", Scope: lb.Scope{Pools: []string{"lan"}}, Peers: []string{"r1", "r2"}, Length4: 24,
		BGPAttributes: lb.BGPAttributes{
			LocalPref: lb.Some[uint32](4294967295), MED: lb.Some[uint32](0), Prepend: 3,
			Communities: []lb.Community{{}, {A: 65000, B: 80}, {A: 65535, B: 65281}, {Large: true, A: 1, B: 2, C: 3}},
		},
	}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}
	if diff := cmp.Diff([]string{"lost"}, missing); diff != "" {
		t.Errorf("missing (-want +got):\n%s", diff)
	}
	a.Spec.Communities = []v1alpha1.CommunityReference{"1:2:3"}
	if _, _, err := BGPAdvertisement(a, nil, aliases); err == nil || !strings.Contains(err.Error(), `spec.communities[0]: "1:2:3" has three numbers`) {
		t.Errorf("%v", err)
	}
}

func TestPasswordProblem(t *testing.T) {
	for password, want := range map[string]string{
		"hush":       "",
		"hu sh":      "",
		"hüsh":       "",
		"hush\n":     "ends with a newline",
		"hush\r\n":   "ends with a newline",
		"hush\n\n":   "ends with a newline",
		"\n":         "ends with a newline",
		"hü\nsh":     "has a control character as character 3",
		"hush\x00":   "has a control character as character 5",
		"hush\x00\n": "has a control character as character 5",
	} {
		if got := passwordProblem([]byte(password)); got != want {
			t.Errorf("%q: %q, want %q", password, got, want)
		}
	}
}
