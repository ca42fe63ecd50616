package main

import (
	"fmt"
	"strings"

	"github.com/fairlead-lb/fairlead/internal/metrics"
)

// metricsPage returns docs/metrics.md.
func metricsPage(string) (string, error) {
	var out strings.Builder
	out.WriteString(`# Metrics

What Fairlead counts. Written by ` + "`make generate`" + ` from internal/metrics.

The controller has them on port 7472, each speaker on port 7474, at ` + "`/metrics`" + `. The chart has PodMonitors, ServiceMonitors and a
PrometheusRule for the Prometheus operator (` + "`monitoring`" + ` in its values); the rules are in
[charts/fairlead/files/rules.yaml](../charts/fairlead/files/rules.yaml), to be loaded without the operator too.
Two dashboards for Grafana, an overview and one of a node, are in [charts/fairlead/dashboards](../charts/fairlead/dashboards), to be imported
by hand; with ` + "`monitoring.dashboards.enabled`" + ` the chart puts them into ConfigMaps where Grafana's sidecar finds them. They too need
the label ` + "`node`" + ` on the speakers' metrics.

No label has an address or a Service in it, of which there may be thousands: those are in the Services' conditions and events, and in the
status of pools and Speakers.
`)
	controller, speaker := metrics.Descriptions()
	table(&out, "The controller that leads", controller)
	table(&out, "Each speaker", speaker)
	out.WriteString(`
## Both

What controller-runtime, client-go and the Go runtime tell; most useful of these:

| metric | type | labels | what it is |
|---|---|---|---|
| ` + "`leader_election_master_status`" + ` | gauge | ` + "`name`" + ` | whether this controller leads (` + "`fairlead-controller`" + `) |
| ` + "`workqueue_depth`" + ` | gauge | ` + "`name`" + ` | objects that wait to be looked at, for each part of the controller |
| ` + "`workqueue_queue_duration_seconds`" + ` | histogram | ` + "`name`" + ` | how long they wait |
| ` + "`controller_runtime_reconcile_errors_total`" + ` | counter | ` + "`controller`" + ` | looks that failed, and are repeated |
| ` + "`controller_runtime_reconcile_time_seconds`" + ` | histogram | ` + "`controller`" + ` | how long a look takes |
| ` + "`rest_client_requests_total`" + ` | counter | ` + "`code`, `method`" + ` | requests to the API server |
`)
	return out.String(), nil
}

func table(out *strings.Builder, title string, list []metrics.Description) {
	fmt.Fprintf(out, "\n## %s\n\n| metric | type | labels | what it is |\n|---|---|---|---|\n", title)
	for _, d := range list {
		var labels []string
		for _, l := range d.Labels {
			labels = append(labels, "`"+l+"`")
		}
		fmt.Fprintf(out, "| `%s` | %s | %s | %s |\n", d.Name, d.Kind, strings.Join(labels, ", "), d.Help)
	}
}
