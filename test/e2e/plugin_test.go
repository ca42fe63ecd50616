package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// namedWithin is how long the plugin may take to name the cause of a fault that
// objects show.
const namedWithin = 2 * time.Second

// plugin runs the kubectl plugin and returns what it printed.
func (c *corner) plugin(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.Plugin(t.Context(), args...)
	must(t, err)
	t.Logf("kubectl fairlead %s\n%s", strings.Join(args, " "), out)
	return string(out)
}

// explanation is what the tests read of a report.
type explanation struct {
	State string   `json:"state"`
	Cause string   `json:"cause"`
	Next  []string `json:"next"`
}

// answer reads what the plugin prints as JSON. One that comes too late is an error.
func (c *corner) answer(t *testing.T, into any, args ...string) error {
	t.Helper()
	began := time.Now()
	out, err := c.Plugin(t.Context(), append(args, "-o", "json")...)
	took := time.Since(began)
	if err != nil {
		return err
	}
	if took > namedWithin { // a busy machine may be slow once
		return fmt.Errorf("%v took %v, at most %v is wanted", args, took, namedWithin)
	}
	return json.Unmarshal(out, into)
}

// explain waits until the plugin names the cause, and returns what it says.
func (c *corner) explain(t *testing.T, svc *corev1.Service, state string, words ...string) explanation {
	t.Helper()
	var e explanation
	lab.Eventually(t, soon, func() error {
		e = explanation{}
		if err := c.answer(t, &e, "explain", "service", svc.Name, "-n", svc.Namespace); err != nil {
			return err
		}
		if e.State != state || !hasAll(e.Cause, words...) {
			return fmt.Errorf("it says %s: %q, want %s, %q", e.State, e.Cause, state, words)
		}
		return nil
	})
	t.Logf("explain: %q", e.Cause)
	if len(e.Next) == 0 {
		t.Errorf("it says nothing to do about %q", e.Cause)
	}
	return e
}

// doctor waits until the doctor says these words about an object.
func (c *corner) doctor(t *testing.T, about string, words ...string) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		var r struct {
			Findings []struct {
				About    []string `json:"about"`
				Says     string   `json:"says"`
				Evidence []string `json:"evidence"`
				Fix      string   `json:"fix"`
			} `json:"findings"`
		}
		if err := c.answer(t, &r, "doctor"); err != nil {
			return err
		}
		for _, f := range r.Findings {
			said := fmt.Sprintf("%s: %s (%s) → %s", strings.Join(f.About, ", "), f.Says, strings.Join(f.Evidence, "; "), f.Fix)
			if hasAll(said, append(words, about)...) {
				t.Logf("doctor: %s", said)
				return nil
			}
		}
		return fmt.Errorf("the doctor does not say %q of %s: %+v", words, about, r.Findings)
	})
}

// hasAll reports whether the text has all the words.
func hasAll(text string, words ...string) bool {
	return !slices.ContainsFunc(words, func(w string) bool { return !strings.Contains(text, w) })
}

// Each is a set-up that is broken, made for real, and what the plugin names as the
// cause.
func TestPluginNamesTheCause(t *testing.T) {
	c := cluster.corner(t)
	c.plugin(t, "version") // which builds it: that takes longer than any answer
	served := func(t *testing.T, svc *corev1.Service) *corev1.Service {
		c.backend(t, svc, "n1")
		return svc
	}
	lan := func(t *testing.T, addresses ...v1alpha1.AddressRange) *v1alpha1.IPAddressPool {
		return c.pool(t, c.freshName("lan"), addresses...)
	}
	advert := func(t *testing.T, spec v1alpha1.L2AdvertisementSpec) {
		c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1(c.freshName("lan")), Spec: spec})
	}
	const some = "172.30.0.40-172.30.0.49"

	t.Run("nothing", func(t *testing.T) {
		lan(t, some)
		advert(t, v1alpha1.L2AdvertisementSpec{})
		svc := served(t, c.service(t, "well"))
		a := c.addresses(t, svc)[0]
		owner := c.owner(t, a)
		c.untilService(t, svc, announced, true, "Announced")
		e := c.explain(t, svc, "Announced", a.String()+" is announced by layer 2 from "+owner)
		if !strings.HasPrefix(e.Next[0], "nothing") {
			t.Errorf("it says to do %q", e.Next)
		}
	})
	t.Run("another class", func(t *testing.T) {
		lan(t, some)
		svc := c.service(t, "class", func(svc *corev1.Service) { svc.Spec.LoadBalancerClass = ptr.To("example.com/other") })
		c.explain(t, svc, "NotOurs", `spec.loadBalancerClass is "example.com/other"`)
	})
	t.Run("no pool", func(t *testing.T) {
		svc := c.service(t, "poor")
		c.explain(t, svc, "Pending", "there is no IPAddressPool")
		c.doctor(t, "Service "+c.namespace+"/poor", "there is no IPAddressPool")
	})
	t.Run("full pool", func(t *testing.T) {
		lan(t, "172.30.0.40-172.30.0.40")
		c.addresses(t, c.service(t, "first"))
		svc := c.service(t, "second")
		c.explain(t, svc, "Pending", "no free IPv4 address (1 in use)")
		c.doctor(t, "IPAddressPool", "1 of 1 IPv4 addresses are in use")
	})
	t.Run("pool for others", func(t *testing.T) {
		p := lan(t, some)
		c.edit(t, p, func(s *v1alpha1.IPAddressPoolSpec) {
			s.ServiceAllocation = &v1alpha1.ServiceAllocation{Namespaces: []v1alpha1.NamespaceName{"blog"}}
		})
		c.explain(t, c.service(t, "stranger"), "Pending", "not for this namespace")
	})
	t.Run("name of the pool mistyped", func(t *testing.T) {
		lan(t, some)
		svc := c.service(t, "typo", annotated(v1alpha1.AnnotationAddressPool, "lna"))
		c.explain(t, svc, "Pending", `pool "lna": there is no such IPAddressPool`)
	})
	t.Run("address mistyped", func(t *testing.T) {
		lan(t, some)
		svc := c.service(t, "typo", annotated(v1alpha1.AnnotationLoadBalancerIPs, "172.30.0.360"))
		c.explain(t, svc, "Pending", `"172.30.0.360" is not an IP address`)
	})
	t.Run("address taken", func(t *testing.T) {
		lan(t, some)
		c.addresses(t, c.service(t, "has", annotated(v1alpha1.AnnotationLoadBalancerIPs, "172.30.0.45")))
		svc := c.service(t, "wants", annotated(v1alpha1.AnnotationLoadBalancerIPs, "172.30.0.45"))
		c.explain(t, svc, "Pending", "the address is in use (by "+c.namespace+"/has)")
	})
	t.Run("no advertisement", func(t *testing.T) {
		p := lan(t, some)
		svc := served(t, c.service(t, "quiet"))
		c.addresses(t, svc)
		c.explain(t, svc, "NotAnnounced", "no L2Advertisement or BGPAdvertisement selects the Service")
		c.doctor(t, "IPAddressPool "+p.Name, "no advertisement selects it")
	})
	t.Run("selector without match", func(t *testing.T) {
		lan(t, some)
		advert(t, v1alpha1.L2AdvertisementSpec{ServiceSelectors: []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"tier": "public"}}}})
		svc := served(t, c.service(t, "private"))
		c.addresses(t, svc)
		c.explain(t, svc, "NotAnnounced", "no L2Advertisement or BGPAdvertisement selects the Service")
		if text := c.plugin(t, "explain", "service", "private", "-n", c.namespace); !strings.Contains(text, "its serviceSelectors do not match the Service's labels") {
			t.Errorf("it says\n%s", text)
		}
	})
	t.Run("no endpoints", func(t *testing.T) {
		lan(t, some)
		advert(t, v1alpha1.L2AdvertisementSpec{})
		svc := c.service(t, "idle")
		c.addresses(t, svc)
		c.explain(t, svc, "NotAnnounced", "the Service has no ready IPv4 endpoint")
		c.doctor(t, "Service "+c.namespace+"/idle", "the Service has no ready IPv4 endpoint", "kubectl get endpointslices")
	})
	t.Run("no node chosen", func(t *testing.T) {
		lan(t, some)
		advert(t, v1alpha1.L2AdvertisementSpec{NodeSelectors: []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"rack": "9"}}}})
		svc := served(t, c.service(t, "nowhere"))
		c.addresses(t, svc)
		c.explain(t, svc, "NotAnnounced", "no node can announce it: n1, n2, n3 not selected by the advertisement's nodeSelectors")
	})
	t.Run("served where it cannot be announced", func(t *testing.T) {
		lan(t, some)
		advert(t, v1alpha1.L2AdvertisementSpec{NodeSelectors: []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{corev1.LabelHostname: "n3"}}}})
		svc := served(t, c.service(t, "local", localTraffic))
		c.addresses(t, svc)
		c.explain(t, svc, "NotAnnounced", "n1 not selected by the advertisement's nodeSelectors", "n3 has no ready IPv4 endpoint (externalTrafficPolicy: Local)")
	})
	t.Run("interface down", func(t *testing.T) {
		c.darkNetwork(t, "192.168.77")
		lan(t, "192.168.77.100-192.168.77.109")
		advert(t, v1alpha1.L2AdvertisementSpec{})
		svc := served(t, c.service(t, "dark"))
		c.addresses(t, svc)
		c.explain(t, svc, "NotAnnounced", "n1, n2, n3 has an interface for the address, but it is down")
		c.doctor(t, "node n2", "its interface dark0 is down")
	})
	t.Run("excluded control plane", func(t *testing.T) {
		lan(t, some)
		advert(t, v1alpha1.L2AdvertisementSpec{})
		c.labelNode(t, "n1", corev1.LabelNodeExcludeBalancers)
		svc := served(t, c.service(t, "avoids"))
		c.untilService(t, svc, announced, true, "Announced")
		c.explain(t, svc, "Announced", "is announced by layer 2")
		c.doctor(t, "node n1", "exclude-from-external-load-balancers", "kubectl label node n1")
		if text := c.plugin(t, "explain", "service", "avoids", "-n", c.namespace); !strings.Contains(text, "n1 (eth0) can, and others are better: has the label") {
			t.Errorf("it says\n%s", text)
		}
	})
	t.Run("foreign host", func(t *testing.T) {
		lan(t, some)
		advert(t, v1alpha1.L2AdvertisementSpec{})
		mac, _ := c.occupy(t, "172.30.0.46")
		svc := served(t, c.service(t, "taken", annotated(v1alpha1.AnnotationLoadBalancerIPs, "172.30.0.46")))
		c.untilService(t, svc, announced, false, "Conflict")
		c.explain(t, svc, "NotAnnounced", "a host outside of the cluster has the address", mac)
		c.doctor(t, "address 172.30.0.46", "a host outside of the cluster has it too", "by its MAC")
	})
	t.Run("pool with a node's address", func(t *testing.T) {
		p := lan(t, "172.30.0.12-172.30.0.14")
		c.doctor(t, "IPAddressPool "+p.Name, "not assigned, as something else has them", "node n2 (eth0) has the address", "spec.excludes")
	})
}

// darkNetwork gives each node an interface in a network of its own that is down.
func (c *corner) darkNetwork(t *testing.T, network string) {
	t.Helper()
	for i, n := range c.Nodes {
		for _, args := range []string{"link add dark0 type veth peer name dark1", fmt.Sprintf("address add %s.%d/24 dev dark0", network, 11+i)} {
			_, err := n.Exec(t.Context(), append([]string{"ip"}, strings.Fields(args)...)...)
			must(t, err)
		}
		t.Cleanup(func() {
			_, err := n.Exec(context.Background(), "ip", "link", "del", "dark0")
			must(t, err)
		})
	}
	for _, n := range c.Nodes {
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(n.Name)}
		c.until(t, sp, func() error {
			for _, i := range sp.Status.Interfaces {
				if i.Name == "dark0" && !i.Up && len(i.Addresses) == 1 {
					return nil
				}
			}
			return fmt.Errorf("speaker %s has %+v", n.Name, sp.Status.Interfaces)
		})
	}
}

// labelNode gives a node a label until the test ends.
func (c *corner) labelNode(t *testing.T, node, label string) {
	t.Helper()
	_, err := c.Kubectl(t.Context(), "label", "node", node, label+"=")
	must(t, err)
	t.Cleanup(func() {
		_, err := c.Kubectl(context.Background(), "label", "node", node, label+"-")
		must(t, err)
	})
}

// A router that refuses is named with what it says.
func TestPluginExplainsRouters(t *testing.T) {
	c := routed.corner(t)
	c.plugin(t, "version") // which builds it
	c.pool(t, c.freshName("bgp"), "10.30.0.0/16")
	c.create(t, &v1alpha1.BGPAdvertisement{ObjectMeta: meta1(c.freshName("all"))})
	b := &bgpCorner{corner: c}
	r := c.Routers()[0]
	svc := c.service(t, "web")
	c.backends(t, svc)
	c.addresses(t, svc)
	for name, f := range map[string]struct {
		change func(*v1alpha1.BGPPeer)
		says   string
	}{
		"wrong AS":     {func(p *v1alpha1.BGPPeer) { p.Spec.PeerASN = 64999 }, "the router is in AS 64512, and 64999 is expected; set peerASN to 64512"},
		"wrong own AS": {func(p *v1alpha1.BGPPeer) { p.Spec.MyASN = 64998 }, "bad peer AS: it expects another AS number than 64998"},
		"nobody there": {func(p *v1alpha1.BGPPeer) { p.Spec.PeerPort = 1790 }, "connection refused by 172.30.0.2:1790"},
		"no Secret":    {func(p *v1alpha1.BGPPeer) { p.Spec.PasswordSecret = &v1alpha1.PasswordSecret{Name: "nowhere"} }, "there is no Secret"},
	} {
		t.Run(name, func(t *testing.T) {
			p := b.peer(t, c.freshName("router"), r.IPv4, f.change)
			lab.Eventually(t, established, func() error {
				if err := c.api.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil {
					return err
				}
				if said := meta.FindStatusCondition(p.Status.Conditions, ready); said == nil || !strings.Contains(said.Message, f.says) {
					return fmt.Errorf("want %q, have %s", f.says, told(p.Status.Conditions))
				}
				return nil
			})
			c.explain(t, svc, "NotAnnounced", "no BGP session is up", p.Name, f.says)
			c.doctor(t, "BGPPeer "+p.Name, f.says)
			if text := c.plugin(t, "explain", "peer", p.Name); !strings.Contains(text, f.says) || !strings.Contains(text, "0 of 3 are up") {
				t.Errorf("it says\n%s", text)
			}
		})
	}
}

// What the plugin shows of a cluster that is well.
func TestPluginShows(t *testing.T) {
	f := newFailover(t)
	a := f.addresses[0].String()
	owner := f.owner(t, f.addresses[0])
	f.untilService(t, f.web, announced, true, "Announced")
	f.counts(t, &v1alpha1.IPAddressPool{ObjectMeta: meta1("lan")}, 1, 49) // told once a second
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"status"}, []string{"3 nodes, 1 pool", "2 addresses", "lan   IPv4", "n1", "3 speakers connected"}},
		{[]string{"addresses"}, []string{a, f.namespace + "/web", "lan", owner}},
		{[]string{"addresses", "-n", "nowhere"}, []string{"No Service of Fairlead's has an address."}},
		{[]string{"addresses", "--sort-by", "node", "-o", "jsonpath={.addresses[0].pool}"}, []string{"lan"}},
		{[]string{"explain", "address", a}, []string{f.namespace + "/web", owner + " (eth0) announces it"}},
		{[]string{"explain", "pool", "lan"}, []string{"172.30.0.100-172.30.0.149", "1 used, 49 free", "lan announces it"}},
		{[]string{"version"}, []string{"Plugin", "devel on n1, n2, n3"}},
	} {
		text := f.plugin(t, c.args...)
		for _, w := range c.want {
			if !strings.Contains(text, w) {
				t.Errorf("%v does not say %q:\n%s", c.args, w, text)
			}
		}
	}
	archive := t.TempDir() + "/bundle.tar.gz"
	if text := f.plugin(t, "bundle", "-f", archive); !strings.Contains(text, "without Secrets") {
		t.Errorf("it says %s", text)
	}
	list, err := f.ControlPlane.Exec(t.Context(), "tar", "tzf", archive)
	must(t, err)
	for _, w := range []string{"status.txt", "doctor.txt", "objects/speakers.yaml", "objects/services.yaml", "objects/secrets-names-only.txt"} {
		if !strings.Contains(string(list), w) {
			t.Errorf("the archive has no %s:\n%s", w, list)
		}
	}
	secret, err := f.ControlPlane.Exec(t.Context(), "sh", "-c", "tar xzOf "+archive+" | grep -c 'kind: Secret' || true")
	must(t, err)
	if n := strings.TrimSpace(string(secret)); n != "0" {
		t.Errorf("the archive has %s Secrets", n)
	}
}

// What is said to happen happens, on the network, and a client loses nothing.
func TestPluginMoves(t *testing.T) {
	f := newFailover(t)
	a := f.addresses[0]
	t.Cleanup(func() { f.undrain(t, "n1", "n2", "n3") })

	t.Run("move", func(t *testing.T) {
		w := f.begin(t, a)
		f.untilTold(t, a, w.owner) // by that the plugin plans
		to := f.other(w.owner)
		if text := f.plugin(t, "move", a.String(), "--to", to, "--dry-run"); !strings.Contains(text, w.owner+" → "+to) {
			t.Errorf("it says\n%s", text)
		}
		if got := onlyOwner(t, w.seen, settled); got != w.owner {
			t.Errorf("a dry run moved it to %s", got)
		}
		text := f.plugin(t, "move", a.String(), "--to", to, "--yes")
		for _, want := range []string{w.owner + " → " + to, fmt.Sprintf("%s is announced by %s, after ", a, to), "took over " + a.String() + " from " + w.owner} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q:\n%s", want, text)
			}
		}
		if got := onlyOwner(t, w.seen, settled); got != to {
			t.Errorf("%s answers, want %s", got, to)
		}
		w.lostNothing(t)
		_, err := f.Plugin(t.Context(), "move", "172.30.0.149", "--to", to, "--yes")
		if err == nil || !strings.Contains(err.Error(), "no Service of Fairlead's has it") {
			t.Errorf("to move an address that nobody has says %v", err)
		}
	})
	t.Run("drain and undrain", func(t *testing.T) {
		w := f.begin(t, a)
		f.untilTold(t, a, w.owner) // by that the plugin plans
		_, err := f.Plugin(t.Context(), "drain", w.owner)
		if err == nil || !strings.Contains(err.Error(), "--yes") {
			t.Errorf("without anybody to ask it says %v", err)
		}
		text := f.plugin(t, "drain", w.owner, "--yes", "--reason", "disk swap")
		next := onlyOwner(t, w.seen, settled, w.owner)
		for _, want := range []string{w.owner + " → " + next, fmt.Sprintf("%s is announced by %s, after ", a, next), w.owner + " is drained, after "} {
			if !strings.Contains(text, want) {
				t.Errorf("it does not say %q:\n%s", want, text)
			}
		}
		f.doctor(t, "node "+w.owner, `is drained ("disk swap")`, "undrain "+w.owner)
		if text := f.plugin(t, "undrain", w.owner, "--yes"); !strings.Contains(text, "participates again") {
			t.Errorf("it says\n%s", text)
		}
		if got := onlyOwner(t, w.seen, settled); got != next {
			t.Errorf("undrained, and %s answers, want %s", got, next)
		}
		w.lostNothing(t)
	})
	t.Run("rebalance", func(t *testing.T) {
		f.plugin(t, "drain", "n3", "--yes")
		for i := range 5 {
			svc := f.service(t, fmt.Sprint("more-", i), func(svc *corev1.Service) { svc.Spec.IPFamilies = []corev1.IPFamily{corev1.IPv4Protocol} })
			f.backend(t, svc, "n1")
			f.corner.addresses(t, svc)
			f.untilService(t, svc, announced, true, "Announced")
		}
		f.plugin(t, "undrain", "n3", "--yes")
		f.untilOwns(t, "n3", func(n int) bool { return n == 0 })
		text := f.plugin(t, "rebalance", "--yes")
		if !strings.Contains(text, "→ n3") || !strings.Contains(text, "n3 says: took over") {
			t.Errorf("it says\n%s", text)
		}
		f.untilOwns(t, "n3", func(n int) bool { return n == 2 })
		if text := f.plugin(t, "rebalance", "--yes"); !strings.Contains(text, "Nothing to do") {
			t.Errorf("once more, it says\n%s", text)
		}
	})
}

// A drill moves the address on the network and back again, and what it measures is
// what a client sees.
func TestPluginDrills(t *testing.T) {
	f := newFailover(t)
	a := f.addresses[0]
	w := f.begin(t, a)
	f.untilTold(t, a, w.owner) // by that the plugin plans
	out, err := f.Plugin(t.Context(), "drill", "web", "-n", f.namespace)
	if err == nil || !strings.Contains(err.Error(), "--yes") {
		t.Errorf("without anybody to ask it says %v: %s", err, out)
	}
	served(t, f.ControlPlane, a)
	next, text := "", f.plugin(t, "drill", "web", "-n", f.namespace, "--yes", "--back")
	for _, n := range f.Nodes {
		if strings.Contains(text, fmt.Sprintf("%s is announced by %s, after ", a, n.Name)) && n.Name != w.owner {
			next = n.Name
		}
	}
	for _, want := range []string{
		a.String() + ":80 takes connections from here", next + ", which comes next after " + w.owner + ", is to take over and then to give back",
		w.owner + " → " + next, fmt.Sprintf("%s is announced by %s, after ", a, w.owner),
		fmt.Sprintf("from %s to %s, ", w.owner, next), fmt.Sprintf("from %s to %s, ", next, w.owner),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("it does not say %q:\n%s", want, text)
		}
	}
	if got := onlyOwner(t, w.seen, settled); got != w.owner {
		t.Errorf("the address is back, and %s answers, want %s", got, w.owner)
	}
	f.untilTold(t, a, w.owner)

	var r struct {
		Measured []struct {
			From, To        string
			Asked, Answered int
			LongestGap      string
		} `json:"measured"`
	}
	must(t, json.Unmarshal([]byte(f.plugin(t, "drill", "web", "-n", f.namespace, "--yes", "-o", "json")), &r))
	if len(r.Measured) != 1 || r.Measured[0].From != w.owner || r.Measured[0].To != next {
		t.Fatalf("it measured %+v, want a move from %s to %s", r.Measured, w.owner, next)
	}
	gap, err := time.ParseDuration(r.Measured[0].LongestGap)
	must(t, err)
	if m := r.Measured[0]; m.Asked < 50 || m.Answered < m.Asked/2 || gap >= longestOutage {
		t.Errorf("it measured %+v, want no gap of %v", m, longestOutage)
	}
	if got := onlyOwner(t, w.seen, settled, w.owner); got != next {
		t.Errorf("%s answers, want %s", got, next)
	}
	w.lostNothing(t)

	// A Service that cannot be reached from where the plugin runs moves all the same.
	idle := f.service(t, "udp", ports("UDP/80"))
	f.backend(t, idle, "n1")
	f.untilService(t, idle, announced, true, "Announced")
	if text := f.plugin(t, "drill", "udp", "-n", f.namespace, "--yes"); !hasAll(text, "no TCP port to connect to", " says: took over ") {
		t.Errorf("it says\n%s", text)
	}
}
