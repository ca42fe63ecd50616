package e2e

import (
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

// metricsAt is where each program of this test tells its metrics, on its own host.
const metricsAt = "127.0.0.1:7480"

// scrape returns the metrics of a host's program, as text.
func scrape(h *lab.Host) (string, error) {
	web := &http.Client{Transport: &http.Transport{DialContext: h.Dial, DisableKeepAlives: true}, Timeout: 2 * time.Second}
	res, err := web.Get("http://" + metricsAt + "/metrics")
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	return string(b), err
}

// value adds up the samples of a metric that have these labels, on these hosts.
func value(t *testing.T, hosts []*lab.Host, name string, labels ...string) (sum float64) {
	t.Helper()
	for _, h := range hosts {
		text, err := scrape(h)
		must(t, err)
		for line := range strings.Lines(text) {
			series, number, ok := strings.Cut(strings.TrimSpace(line), " ")
			if metric, _, _ := strings.Cut(series, "{"); !ok || metric != name {
				continue
			}
			matches := true
			for _, l := range labels {
				matches = matches && strings.Contains(series, l)
			}
			if matches {
				var v float64
				_, err := fmt.Sscan(number, &v)
				must(t, err)
				sum += v
			}
		}
	}
	return sum
}

// untilValue waits until a metric has a value.
func untilValue(t *testing.T, hosts []*lab.Host, want float64, name string, labels ...string) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		if got := value(t, hosts, name, labels...); got != want {
			return fmt.Errorf("%s%v is %v, want %v", name, labels, got, want)
		}
		return nil
	})
}

// TestMetrics: what the alerts stand on is told as it is.
func TestMetrics(t *testing.T) {
	c := bare.corner(t)
	f := &fairlead{corner: c}
	flags := []string{"--metrics-bind-address=" + metricsAt}
	f.start(t, flags)
	t.Cleanup(func() { f.stopSpeakers(t) })
	t.Cleanup(func() { f.stopController(t) })
	leader := []*lab.Host{c.ControlPlane}

	c.pool(t, "small", "172.30.0.170-172.30.0.172")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("all")})
	web := c.service(t, "web")
	c.backends(t, web)
	a := c.addresses(t, web)[0]
	c.service(t, "lost", annotated("fairlead.dev/address-pool", "nowhere"))
	c.service(t, "hollow") // without endpoints
	untilValue(t, leader, 2, "fairlead_pool_assigned_addresses", `pool="small"`, `family="IPv4"`)
	untilValue(t, leader, 1, "fairlead_pool_available_addresses", `pool="small"`)
	untilValue(t, leader, 1, "fairlead_waiting_for_address", `kind="Service"`, `reason="UnknownPool"`)
	untilValue(t, leader, 1, "fairlead_services_not_announced", `reason="NoEndpoints"`)
	untilValue(t, leader, 1, "fairlead_services_not_announced")
	untilValue(t, leader, 3, "fairlead_speakers")
	untilValue(t, leader, 2, "fairlead_allocation_seconds_count")
	untilValue(t, c.Nodes, 1, "fairlead_layer2_addresses")
	untilValue(t, c.Nodes, 9, "fairlead_speaker_members") // each sees three

	served(t, c.Client, a)
	before := value(t, c.Nodes, "fairlead_layer2_replies_total", `protocol="arp"`)
	owner := c.owner(t, a) // asks again and again
	if after := value(t, c.Nodes, "fairlead_layer2_replies_total", `protocol="arp"`); after <= before {
		t.Errorf("%v questions were answered before, and %v after more were asked", before, after)
	}

	for _, move := range []struct {
		reason string
		lose   func(*lab.Process)
	}{
		{"leaving", func(p *lab.Process) { stopAll(t, p) }},
		{"dead", func(p *lab.Process) { must(t, p.Kill()) }},
	} {
		c.moved(t, f, flags, a, owner, move.reason, move.lose)
		owner = c.owner(t, a)
	}
	untilValue(t, c.Nodes, 1, "fairlead_layer2_failover_seconds_count")
	if took := value(t, c.Nodes, "fairlead_layer2_failover_seconds_sum"); took < 0.3 || took > soon.Seconds() {
		t.Errorf("the fail-over took %v s, as is counted; want a little more than 0.4", took)
	}
	quiet(t, c.Nodes)
	lint(t, c.ControlPlane, c.Nodes[0])
}

// quiet waits until no rival claims come any more: those that go on raise
// FairleadTwoOwners.
func quiet(t *testing.T, hosts []*lab.Host) {
	t.Helper()
	last, since := -1.0, time.Now()
	lab.Eventually(t, 2*soon, func() error {
		if n := value(t, hosts, "fairlead_layer2_rival_claims_total"); n != last {
			last, since = n, time.Now()
		}
		if time.Since(since) < soon/2 {
			return fmt.Errorf("%v rival claims so far, the last %v ago", last, time.Since(since))
		}
		return nil
	})
}

// moved has the owner's speaker lost, checks that the take-over is counted by its
// reason, and starts the speaker again.
func (c *corner) moved(t *testing.T, f *fairlead, flags []string, a netip.Addr, owner, reason string, lose func(*lab.Process)) {
	t.Helper()
	var others []*lab.Host
	for n, h := range c.Nodes {
		if h.Name != owner {
			others = append(others, h)
			continue
		}
		defer func() {
			p, err := c.StartSpeaker(t.Context(), owner, flags...)
			must(t, err)
			must(t, p.Ready(t.Context()))
			f.speakers[n] = p
		}()
	}
	label := fmt.Sprintf("reason=%q", reason)
	before := value(t, others, "fairlead_layer2_takeovers_total", label)
	lose(c.Process("speaker-" + owner))
	untilValue(t, others, before+1, "fairlead_layer2_takeovers_total", label)
}

// lint has Prometheus's own tool look at the metrics.
func lint(t *testing.T, hosts ...*lab.Host) {
	t.Helper()
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		t.Log("there is no promtool to look at the metrics; Debian's package prometheus brings it (make deps)")
		return
	}
	for _, h := range hosts {
		text, err := scrape(h)
		must(t, err)
		cmd := exec.Command(promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(strings.Join(lines(text, "fairlead_"), "\n") + "\n")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s: %v\n%s", h.Name, err, out)
		}
	}
}
