package e2e

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"testing"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// rules are the chart's alerts, which fire here as soon as there is a reason.
func rules(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../charts/fairlead/files/rules.yaml")
	must(t, err)
	return regexp.MustCompile(`(?m)^ +for: .*\n`).ReplaceAllString(string(text), "")
}

// TestAlerts makes the faults for which there are alerts, and wants each alert to be
// raised by what Prometheus reads of the programs, and by nothing before. How long each
// waits, promtool tests (hack/chart).
func TestAlerts(t *testing.T) {
	f, p := monitored(t, rules(t))
	c := f.corner
	p.finds(t, `count(fairlead_speaker_members) == 3`)
	p.finds(t, `sum(leader_election_master_status) == 1`)

	c.pool(t, "small", "172.30.0.180-172.30.0.187")
	advert := &v1alpha1.L2Advertisement{ObjectMeta: meta1("all")}
	c.create(t, advert)
	web := c.service(t, "web")
	c.backends(t, web)
	owner := c.owner(t, c.addresses(t, web)[0])
	p.quiet(t, "PoolNearlyFull", "PoolFull", "ServiceWaiting", "ServiceNotAnnounced", "NoCandidate", "Conflict", "TwoOwners", "SessionDown", "BFDFlapping",
		"NoLeader", "SpeakerMissing", "OwnersUneven")
	t.Run("gossip cut", func(t *testing.T) { // before anything moves, which makes rivals for a moment
		c.filterGossip(t, owner, slices.DeleteFunc(slices.Clone(allNodes), func(n string) bool { return n == owner })...)
		p.raises(t, "TwoOwners", "")
		p.raises(t, "SpeakerMissing", "")
	})
	p.calms(t, "SpeakerMissing")

	for _, name := range []string{"b", "c", "d", "e", "f"} {
		svc := c.service(t, name)
		c.backends(t, svc)
		c.addresses(t, svc)
	}
	c.addresses(t, c.service(t, "hollow"))
	p.raises(t, "ServiceNotAnnounced", `reason="NoEndpoints"`)
	p.raises(t, "PoolNearlyFull", `pool="small"`)

	const taken = "172.30.0.187"
	_, leave := c.occupy(t, taken)
	stubborn := c.service(t, "stubborn", annotated(v1alpha1.AnnotationLoadBalancerIPs, taken))
	c.backends(t, stubborn)
	p.raises(t, "Conflict", "")
	p.raises(t, "PoolFull", `pool="small"`)
	late := c.service(t, "late")
	p.raises(t, "ServiceWaiting", `reason="Exhausted"`)
	c.remove(t, late)
	p.calms(t, "ServiceWaiting")
	leave()
	p.calms(t, "Conflict")

	c.change(t, advert, func() {
		advert.Spec.NodeSelectors = []v1alpha1.LabelSelector{{MatchLabels: map[string]v1alpha1.LabelValue{"no": "node"}}}
	})
	p.raises(t, "NoCandidate", "")
	c.change(t, advert, func() { advert.Spec.NodeSelectors = nil })
	p.calms(t, "NoCandidate")

	b := &bgpCorner{corner: c}
	c.create(t, &v1alpha1.BGPAdvertisement{ObjectMeta: meta1("all")})
	c.create(t, &v1alpha1.BFDProfile{ObjectMeta: meta1("fast")})
	peer := b.peer(t, "r2", c.Routers()[0].IPv4, watchedByBFD)
	b.untilPeer(t, peer, true, v1alpha1.ReasonEstablished, "Established 3/3")
	p.calms(t, "SessionDown")
	const paths = `count(fairlead_bfd_session_up{peer="r2"} == %d) == 3`
	p.finds(t, fmt.Sprintf(paths, 1)) // what Prometheus has not seen was no change
	for range 2 {
		must(t, c.Routers()[0].PullCable())
		p.finds(t, fmt.Sprintf(paths, 0))
		must(t, c.Routers()[0].PlugCable())
		p.finds(t, fmt.Sprintf(paths, 1))
	}
	p.raises(t, "BFDFlapping", `peer="r2"`)
	p.calms(t, "SessionDown")
	c.change(t, peer, func() { peer.Spec.PeerASN = 64999 })
	p.raises(t, "SessionDown", `peer="r2"`)

	t.Cleanup(func() { f.undrain(t, "n1", "n3") })
	for _, n := range []string{"n1", "n3"} {
		c.annotate(t, n, v1alpha1.AnnotationDrain+"=maintenance")
	}
	p.raises(t, "OwnersUneven", "")

	n2 := f.speakers[slices.IndexFunc(c.Nodes, func(h *lab.Host) bool { return h.Name == "n2" })]
	must(t, n2.Kill())
	p.raises(t, "SpeakerMissing", "")

	f.stopController(t)
	p.raises(t, "NoLeader", "")
	var err error
	f.controller, err = c.StartController(t.Context(), metricsToOthers...)
	must(t, err)
	p.calms(t, "NoLeader")
}

// raises waits until an alert with this label fires.
func (p *prometheus) raises(t *testing.T, alert, label string) {
	t.Helper()
	if label != "" {
		label = ", " + label
	}
	p.finds(t, `ALERTS{alertname="Fairlead`+alert+`", alertstate="firing"`+label+`}`)
}

// calms waits until an alert does not fire.
func (p *prometheus) calms(t *testing.T, alert string) {
	t.Helper()
	p.finds(t, `absent(ALERTS{alertname="Fairlead`+alert+`", alertstate="firing"})`)
}

// quiet waits until none of the alerts fires.
func (p *prometheus) quiet(t *testing.T, alerts ...string) {
	t.Helper()
	for _, a := range alerts {
		p.calms(t, a)
	}
}
