package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/test/lab"
)

const (
	dashboards   = "../../charts/fairlead/dashboards"
	prometheusAt = "127.0.0.1:9090"
	metricsPort  = "7480"
)

// seen has three nodes with Fairlead, which tells its metrics to others, and a router.
var seen = shared{prepare: func(l *lab.Lab, ctx context.Context) error {
	if err := l.Install(ctx); err != nil {
		return err
	}
	_, err := l.AddRouter(ctx, lab.RouterSpec{Kind: lab.FRR})
	return err
}}

// metricsToOthers has a program tell them.
var metricsToOthers = []string{"--metrics-bind-address=:" + metricsPort}

// monitored starts Fairlead, and a Prometheus that watches it and goes by these rules.
func monitored(t *testing.T, rules string) (*fairlead, *prometheus) {
	t.Helper()
	if _, err := exec.LookPath("prometheus"); err != nil {
		t.Skip("there is no prometheus; Debian's package of that name brings it (make deps)")
	}
	f := &fairlead{corner: seen.corner(t)}
	f.start(t, metricsToOthers)
	t.Cleanup(func() { f.stopSpeakers(t) })
	t.Cleanup(func() { f.stopController(t) })
	return f, f.prometheus(t, rules)
}

// TestDashboards: every query of the dashboards finds something in what Prometheus
// has read of a cluster in which there is something of everything.
func TestDashboards(t *testing.T) {
	f, p := monitored(t, "")
	c := f.corner

	c.pool(t, "small", "172.30.0.170-172.30.0.172")
	c.create(t, &v1alpha1.L2Advertisement{ObjectMeta: meta1("all")})
	c.create(t, &v1alpha1.BGPAdvertisement{ObjectMeta: meta1("all")})
	c.create(t, &v1alpha1.BFDProfile{ObjectMeta: meta1("fast")})
	b := &bgpCorner{corner: c}
	r2 := c.Routers()[0]
	peer := b.peer(t, "r2", r2.IPv4, watchedByBFD)
	b.untilPeer(t, peer, true, v1alpha1.ReasonEstablished, "Established 3/3")
	web := c.service(t, "web")
	c.backends(t, web)
	c.service(t, "lost", annotated("fairlead.dev/address-pool", "nowhere"))
	c.service(t, "hollow") // without endpoints
	c.untilService(t, web, announced, true, "Announced", "by layer 2 from", "by BGP from n1, n2, n3")

	queries := queriesOf(t)
	if len(queries) < 30 {
		t.Errorf("found only %d queries", len(queries))
	}
	for _, q := range queries {
		p.finds(t, q)
		for _, name := range regexp.MustCompile(`\b(fairlead|leader_election|process)_[a-z0-9_]+`).FindAllString(q, -1) {
			p.finds(t, name)
		}
	}
}

// queriesOf returns the queries of all panels of all dashboards, and the metrics
// that their variables are made of, as Grafana would send them for node n1.
func queriesOf(t *testing.T) (queries []string) {
	t.Helper()
	files, err := filepath.Glob(dashboards + "/*.json")
	must(t, err)
	for _, file := range files {
		var d struct {
			Templating struct {
				List []struct{ Type, Query string }
			}
			Panels []struct{ Targets []struct{ Expr string } }
		}
		text, err := os.ReadFile(file)
		must(t, err)
		must(t, json.Unmarshal(text, &d))
		for _, p := range d.Panels {
			if len(p.Targets) == 0 {
				t.Errorf("%s has a panel without a query", file)
			}
			for _, target := range p.Targets {
				queries = append(queries, target.Expr)
			}
		}
		for _, v := range d.Templating.List {
			if metric, ok := strings.CutPrefix(v.Query, "label_values("); ok {
				metric, label, _ := strings.Cut(strings.TrimSuffix(metric, ")"), ", ")
				queries = append(queries, fmt.Sprintf(`%s{%s!=""}`, metric, label))
			}
		}
	}
	for i, q := range queries {
		queries[i] = strings.NewReplacer("$node", "n1", "$__rate_interval", "1m", "$__range", "1h").Replace(q)
	}
	slices.Sort(queries)
	return slices.Compact(queries)
}

// prometheus is a Prometheus that runs on the control plane.
type prometheus struct{ web *http.Client }

// prometheus starts one that reads all of Fairlead's metrics every second, with the
// labels that the chart's monitors give them, and goes by these rules as often.
func (c *corner) prometheus(t *testing.T, rules string) *prometheus {
	t.Helper()
	dir := t.TempDir()
	must(t, os.WriteFile(dir+"/rules.yml", []byte(rules), 0o644))
	config := fmt.Sprintf("global: {scrape_interval: 1s, evaluation_interval: 1s}\nrule_files: [rules.yml]\nscrape_configs:\n  - job_name: controller\n    static_configs: [{targets: [%q]}]\n"+
		"  - job_name: speaker\n    static_configs:\n", c.ControlPlane.IPv4.String()+":"+metricsPort)
	for _, n := range c.Nodes {
		config += fmt.Sprintf("      - {targets: [%q], labels: {node: %s}}\n", n.IPv4.String()+":"+metricsPort, n.Name)
	}
	must(t, os.WriteFile(dir+"/prometheus.yml", []byte(config), 0o644))
	process, err := c.ControlPlane.Start("prometheus", "prometheus", "--config.file="+dir+"/prometheus.yml",
		"--storage.tsdb.path="+dir+"/data", "--web.listen-address="+prometheusAt, "--log.level=error")
	must(t, err)
	t.Cleanup(func() { stopAll(t, process) })
	transport := &http.Transport{DialContext: c.ControlPlane.Dial, DisableKeepAlives: true}
	return &prometheus{&http.Client{Transport: transport, Timeout: 2 * time.Second}}
}

// finds waits until a query has a result.
func (p *prometheus) finds(t *testing.T, query string) {
	t.Helper()
	lab.Eventually(t, soon, func() error {
		res, err := p.web.Get("http://" + prometheusAt + "/api/v1/query?query=" + url.QueryEscape(query))
		if err != nil {
			return err
		}
		defer res.Body.Close()
		text, err := io.ReadAll(res.Body)
		if err != nil {
			return err
		}
		var answer struct {
			Error string
			Data  struct{ Result []any }
		}
		if err := json.Unmarshal(text, &answer); err != nil {
			return fmt.Errorf("%w in %s", err, text)
		}
		if answer.Error != "" || len(answer.Data.Result) == 0 {
			return fmt.Errorf("%s finds nothing %s", query, answer.Error)
		}
		return nil
	})
}
