package ui

import (
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/clustertest"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// eventful is a cluster in which every state occurs, with its events.
func eventful() (*clustertest.Cluster, []corev1.Event) {
	c := clustertest.Small()
	pool := c.AddPool("odd", "10.30.0.250-10.30.1.2")
	pool.Spec.AvoidBuggyIPs = true
	c.Peer("router", "n1", "n2")
	c.Speaker("n2").Status.BGPSessions[0] = v1alpha1.SpeakerBGPSession{
		Peer: "router", State: v1alpha1.BGPSessionActive, Since: clustertest.Ago(time.Minute), LastError: "connection refused", BFD: v1alpha1.BFDSessionDown,
	}
	c.AddService("shop", "idle", "172.30.0.101")
	c.AddService("shop", "old", "172.30.0.200")
	c.Serve("shop", "old", "n3")
	c.Announce("n3", "172.30.0.200", "shop/old")
	c.Pools[0].Status.Retiring = []v1alpha1.RetiringAddress{{Address: "172.30.0.200"}}
	c.AddService("shop", "fought", "172.30.0.102")
	c.Serve("shop", "fought", "n1")
	c.Speaker("n2").Status.Conflicts = []v1alpha1.SpeakerConflict{{Address: "172.30.0.102", Interface: "eth0", MAC: "02:00:5e:00:53:99", Services: []string{"shop/fought"}}}
	c.AddService("other", "foreign", "172.30.0.103").Spec.LoadBalancerClass = ptr.To("example.com/other")
	c.AddService("shop", "poor")
	c.Refuse("shop", "poor", "UnknownPool", `pool "lna": there is no such IPAddressPool`)
	c.Claims = []v1alpha1.IPAddressClaim{{
		ObjectMeta: metav1.ObjectMeta{Namespace: "shop", Name: "kept"},
		Status: v1alpha1.IPAddressClaimStatus{
			Pool: "lan", Addresses: []string{"172.30.0.104"}, Conditions: clustertest.Ready(true, v1alpha1.ReasonAccepted, "reserved"),
		},
	}}
	return c, []corev1.Event{{
		InvolvedObject: corev1.ObjectReference{Kind: "Service", Namespace: "shop", Name: "web"}, Type: corev1.EventTypeNormal,
		Reason: v1alpha1.EventAssigned, Message: `Assigned 172.30.0.100 from pool "lan"`, EventTime: metav1.NewMicroTime(clustertest.Now.Add(-10 * time.Minute)),
	}}
}

func TestDocument(t *testing.T) {
	c, events := eventful()
	body, err := json.MarshalIndent(New(c.New(), "lab", events), "", " ")
	if err != nil {
		t.Fatal(err)
	}
	clustertest.Golden(t, "document", func(p *term.Page, _ bool) {
		for line := range strings.Lines(string(body)) {
			p.Line(term.Say("%s", strings.TrimSuffix(line, "\n")))
		}
	}, false)
}

// A document that told ages would be another each second.
func TestDocumentHasNoClock(t *testing.T) {
	c, events := eventful()
	write := func() string {
		body, err := json.Marshal(New(c.New(), "lab", events))
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	before := write()
	c.Read = c.Read.Add(3 * time.Second)
	if diff := cmp.Diff(before, write()); diff != "" {
		t.Errorf("three seconds later it is another (-before +after):\n%s", diff)
	}
}

// The page goes through lists, of which each may be empty.
func TestDocumentHasNoNull(t *testing.T) {
	for name, c := range map[string]*clustertest.Cluster{"well": clustertest.Small(), "empty": {}} {
		body, err := json.Marshal(New(c.New(), name, nil))
		if err != nil {
			t.Fatal(err)
		}
		if strings.Contains(string(body), "null") {
			t.Errorf("%s: %s", name, body)
		}
	}
}

func TestStates(t *testing.T) {
	c, events := eventful()
	d := New(c.New(), "lab", events)
	got := map[string]string{}
	for _, p := range d.Pools {
		for _, a := range p.Addresses {
			got[a.Address.String()] = a.State.String()
		}
	}
	want := map[string]string{
		"172.30.0.100": "used",
		"172.30.0.101": "silent",   // no endpoint
		"172.30.0.102": "conflict", // heard by n2
		"172.30.0.103": "withheld", // another controller's
		"172.30.0.104": "claimed",
		"172.30.0.200": "retiring", // the pool ends before it
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("states (-want +got):\n%s", diff)
	}
}

// ranges are written "first-last".
func ranges(t *testing.T, texts ...string) (out []lb.Range) {
	t.Helper()
	for _, text := range texts {
		r, err := config.Range(text)
		if err != nil {
			t.Fatal(err)
		}
		out = append(out, r)
	}
	return out
}

func usedAt(texts ...string) (out []Address) {
	for _, text := range texts {
		out = append(out, Address{Address: netip.MustParseAddr(text), State: Used})
	}
	return out
}

func TestRows(t *testing.T) {
	for name, c := range map[string]struct {
		ranges  []string
		buggy   bool
		held    []Address
		rows    string
		cells   []int
		avoided []int
	}{
		"one block":             {ranges: []string{"192.0.2.32-192.0.2.63"}, rows: "192.0.2.32 0+32"},
		"blocks begin anywhere": {ranges: []string{"192.0.2.60-192.0.2.70"}, held: usedAt("192.0.2.60", "192.0.2.65"), rows: "192.0.2.32 28+4, 192.0.2.64 0+7", cells: []int{0, 5}},
		"two in a block":        {ranges: []string{"192.0.2.1-192.0.2.2", "192.0.2.8-192.0.2.8"}, held: usedAt("192.0.2.8"), rows: "192.0.2.0 1+2, 192.0.2.0 8+1", cells: []int{2}},
		"IPv6":                  {ranges: []string{"fd00::fe-fd00::101"}, held: usedAt("fd00::100"), rows: "fd00::e0 30+2, fd00::100 0+2", cells: []int{2}},
		".0 and .255":           {ranges: []string{"192.0.2.254-192.0.3.1"}, buggy: true, held: usedAt("192.0.3.0"), rows: "192.0.2.224 30+2, 192.0.3.0 0+2", cells: []int{2}, avoided: []int{1}},
		"the last there is":     {ranges: []string{"255.255.255.254-255.255.255.255"}, rows: "255.255.255.224 30+2"},
	} {
		t.Run(name, func(t *testing.T) {
			p := Pool{Columns: 32, Addresses: c.held}
			p.rows(ranges(t, c.ranges...), c.buggy)
			var rows []string
			for _, r := range p.Rows {
				rows = append(rows, fmt.Sprintf("%s %d+%d", r.At, r.From, r.Count))
			}
			if got := strings.Join(rows, ", "); got != c.rows {
				t.Errorf("the rows are %s, want %s", got, c.rows)
			}
			var cells []int
			for _, a := range p.Addresses {
				cells = append(cells, a.Cell)
			}
			if diff := cmp.Diff(c.cells, cells); diff != "" {
				t.Errorf("cells (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(c.avoided, p.Avoided); diff != "" {
				t.Errorf("avoided (-want +got):\n%s", diff)
			}
		})
	}
}

func TestRuns(t *testing.T) {
	for name, c := range map[string]struct {
		ranges []string
		held   []Address
		want   string
	}{
		"nothing used":       {ranges: []string{"fd00::/64"}, want: "fd00::-fd00::ffff:ffff:ffff:ffff 0/1.8e+19"},
		"the first":          {ranges: []string{"10.0.0.0/8"}, held: usedAt("10.0.0.0", "10.0.0.1"), want: "10.0.0.0-10.0.0.1 2/2, 10.0.0.2-10.255.255.255 0/1.7e+07"},
		"in the middle":      {ranges: []string{"10.0.0.0-10.0.0.9"}, held: usedAt("10.0.0.4", "10.0.0.6"), want: "10.0.0.0-10.0.0.3 0/4, 10.0.0.4-10.0.0.4 1/1, 10.0.0.5-10.0.0.5 0/1, 10.0.0.6-10.0.0.6 1/1, 10.0.0.7-10.0.0.9 0/3"},
		"all":                {ranges: []string{"10.0.0.0-10.0.0.1"}, held: usedAt("10.0.0.0", "10.0.0.1"), want: "10.0.0.0-10.0.0.1 2/2"},
		"ranges":             {ranges: []string{"10.0.0.0-10.0.0.1", "10.0.1.0-10.0.1.1"}, held: usedAt("10.0.1.1"), want: "10.0.0.0-10.0.0.1 0/2, 10.0.1.0-10.0.1.0 0/1, 10.0.1.1-10.0.1.1 1/1"},
		"the last there are": {ranges: []string{"255.255.255.254-255.255.255.255"}, held: usedAt("255.255.255.255"), want: "255.255.255.254-255.255.255.254 0/1, 255.255.255.255-255.255.255.255 1/1"},
	} {
		var got []string
		for _, r := range runs(ranges(t, c.ranges...), c.held) {
			got = append(got, fmt.Sprintf("%s-%s %d/%.2g", r.From, r.To, r.Used, r.Size))
		}
		if got := strings.Join(got, ", "); got != c.want {
			t.Errorf("%s: got  %s\nwant %s", name, got, c.want)
		}
	}
}

// However the addresses of a large pool lie, there are not more runs than can be seen,
// and each address is in one of them.
func TestRunsAreFew(t *testing.T) {
	for name, step := range map[string]int{"all alike": 2, "many sizes": 0} {
		var held []Address
		a := netip.MustParseAddr("10.0.0.0")
		for i := range 5000 {
			held = append(held, Address{Address: a, State: Used})
			gap := step
			if gap == 0 {
				gap = 1 + i%97
			}
			for range gap {
				a = a.Next()
			}
		}
		found, next := runs(ranges(t, "10.0.0.0/8"), held), 0
		for _, r := range found {
			if r.Used > 0 && r.First != next {
				t.Errorf("%s: the run from %s begins with address %d, want %d", name, r.From, r.First, next)
			}
			next += r.Used
		}
		if len(found) > mostRuns+2 || next != len(held) {
			t.Errorf("%s: %d runs have %d addresses, want at most %d with %d", name, len(found), next, mostRuns+2, len(held))
		}
	}
}

// many is a cluster of 50 nodes, three routers and 10,000 Services with an address.
func many() *clustertest.Cluster {
	c := clustertest.Small()
	for i := 4; i <= 50; i++ {
		c.AddNode(fmt.Sprintf("n%d", i))
	}
	c.AddPool("large", "10.30.0.0/18")
	a := netip.MustParseAddr("10.30.0.0")
	for i := range 10_000 {
		name, node := fmt.Sprintf("s%d", i), fmt.Sprintf("n%d", 1+i%50)
		c.AddService("shop", name, a.String())
		c.Serve("shop", name, node)
		s := &c.Speakers[i%50].Status
		s.Layer2 = append(s.Layer2, v1alpha1.SpeakerAddress{Address: a.String(), Interfaces: []string{"eth0"}, Services: []string{"shop/" + name}, Since: clustertest.Ago(time.Minute)})
		a = a.Next()
	}
	return c
}

// BenchmarkDocument concludes from what was read, and writes the document, of 10,000
// addresses on 50 nodes.
func BenchmarkDocument(b *testing.B) {
	c := many()
	var size int
	for b.Loop() {
		body, err := json.Marshal(New(c.New(), "lab", nil))
		if err != nil {
			b.Fatal(err)
		}
		size = len(body)
	}
	b.ReportMetric(float64(size), "B/document")
}
