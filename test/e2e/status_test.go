package e2e

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
)

// A Service says who announces it, or why nobody does.
func TestServiceSaysWhoAnnounces(t *testing.T) {
	c := cluster.corner(t)
	c.pool(t, "web", "172.30.0.60-172.30.0.69")
	web := c.service(t, "web")
	a := c.addresses(t, web)[0]

	c.untilService(t, web, announced, false, "NoAdvertisement", a.String(), "no L2Advertisement or BGPAdvertisement selects the Service")
	advert := &v1alpha1.L2Advertisement{ObjectMeta: meta1("web")}
	c.create(t, advert)
	c.untilService(t, web, announced, false, "NoEndpoints", a.String(), "no ready IPv4 endpoint")

	backends := c.backends(t, web)
	owner := c.owner(t, a)
	c.untilService(t, web, announced, true, "Announced", fmt.Sprintf("%s by layer 2 from %s (eth0)", a, owner))
	c.untilSpeakersOwn(t, map[string]string{owner: a.String()})

	// What a node lacks is said of each node.
	c.change(t, web, func() { localTraffic(web) })
	for node, b := range backends {
		must(t, b.SetReady(t.Context(), node == "n1"))
	}
	c.untilService(t, web, announced, true, "Announced", "from n1 (eth0)")
	c.change(t, advert, func() {
		advert.Spec.NodeSelectors = []v1alpha1.LabelSelector{{MatchExpressions: []v1alpha1.LabelSelectorRequirement{{
			Key: "kubernetes.io/hostname", Operator: v1alpha1.LabelSelectorOpNotIn, Values: []v1alpha1.LabelValue{"n1"},
		}}}}
	})
	c.untilService(t, web, announced, false, "NoCandidate", a.String(),
		"n1 not selected by the advertisement's nodeSelectors", "n2, n3 has no ready IPv4 endpoint (externalTrafficPolicy: Local)")
	c.untilSpeakersOwn(t, nil)
	must(t, backends["n1"].SetReady(t.Context(), false))
	c.untilService(t, web, announced, false, "NoEndpoints")

	c.remove(t, advert)
	c.untilService(t, web, announced, false, "NoAdvertisement")
}

// untilSpeakersOwn waits until the Speakers say that they have these addresses
// and no others, to a person with kubectl too.
func (c *corner) untilSpeakersOwn(t *testing.T, want map[string]string) {
	t.Helper()
	for _, node := range c.Nodes {
		sp := &v1alpha1.Speaker{ObjectMeta: meta1(node.Name)}
		addr, owns := want[node.Name]
		c.until(t, sp, func() error {
			got := sp.Status.Layer2
			if !owns && len(got) == 0 || len(got) == 1 && got[0].Address == addr && slices.Equal(got[0].Interfaces, []string{"eth0"}) &&
				len(got[0].Services) == 1 && strings.HasPrefix(got[0].Services[0], c.namespace+"/") {
				return nil
			}
			return fmt.Errorf("speaker %s says it has %+v, want %q", node.Name, got, addr)
		})
	}
	out, err := c.Kubectl(t.Context(), "get", "speakers")
	must(t, err)
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	if head := strings.Fields(lines[0]); !slices.Equal(head, []string{"NAME", "ENDPOINT", "VERSION", "L2", "BGP", "READY", "AGE"}) {
		t.Errorf("the columns are %v", head)
	}
	for i, node := range c.Nodes {
		n := "0"
		if _, owns := want[node.Name]; owns {
			n = "1"
		}
		// BGP has nothing to say yet, and an empty column has no word.
		f := strings.Fields(lines[1+i])
		if len(f) != 6 || f[0] != node.Name || f[1] != node.IPv4.String()+":7946" || f[3] != n || f[4] != "True" {
			t.Errorf("kubectl says %q, want %s to have %s", lines[1+i], node.Name, n)
		}
	}
}
