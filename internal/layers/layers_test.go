// Package layers holds the directions in which knowledge points in this
// repository: a package imports only what is in a line below it.
package layers

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fairlead-lb/fairlead/"

// lines are the packages from the bottom up. A package imports only lines
// below its own: so that what decides stays pure, and can be tested as a table.
var lines = [][]string{
	{"internal/lb", "internal/version", "internal/notify", "internal/retry"},
	{"api/v1alpha1", "internal/config", "internal/clockcheck", "internal/allocator", "internal/election", "internal/netif", "internal/bfd/session"},
	{"internal/kube", "internal/kube/apiconn", "internal/plan", "internal/layer2", "internal/bfd", "internal/bgp", "internal/members", "internal/metrics", "internal/nodecheck", "internal/dhcpwatch"},
	{"internal/controller/controllertest", "internal/controller/ledger", "internal/view", "internal/kubeproxy", "internal/mirror", "internal/routing", "internal/speakerstatus"},
	{
		"internal/controller/assign", "internal/controller/claims", "internal/controller/gossipkey", "internal/speaker", "internal/controller/eventqueue",
		"internal/controller/blocked", "internal/controller/peerstatus", "internal/controller/poolstatus", "internal/controller/advertisementstatus", "internal/controller/servicestatus",
	},
	{"cmd/internal/program", "internal/plugin/cluster", "internal/plugin/reach", "internal/plugin/term"},
	{"internal/plugin/cli", "internal/plugin/clustertest"},
	{"internal/plugin/addresses", "internal/plugin/doctor", "internal/plugin/explain", "internal/plugin/importer", "internal/plugin/moves"},
	{"internal/plugin/status"},
	{"internal/plugin/bundle", "internal/plugin/ui"},
	{"internal/plugin"},
	{"cmd/controller", "cmd/kubectl-fairlead", "cmd/speaker", "hack/docs"},
}

// onlyIn says which packages may import a library: the one that hides it.
var onlyIn = map[string][]string{
	"github.com/mdlayher/arp":                        {"internal/layer2"},
	"github.com/osrg/gobgp":                          {"internal/bgp"},
	"github.com/mdlayher/ndp":                        {"internal/bgp", "internal/layer2"},
	"github.com/mdlayher/packet":                     {"internal/dhcpwatch", "internal/layer2"},
	"github.com/hashicorp/memberlist":                {"internal/members"},
	"github.com/vishvananda/netlink":                 {"internal/netif"},
	"github.com/prometheus/client_golang/prometheus": {"cmd/controller", "cmd/speaker", "internal/metrics"},
	"github.com/chromedp":                            {"test/e2e"},
	"go4.org/netipx":                                 {"internal/config"},
	"github.com/google/btree":                        {"internal/allocator"},
	"golang.org/x/sys/unix":                          {"internal/bfd", "internal/bgp", "test/bfd", "test/lab"},
}

// kubernetes may be known to these and what is below them.
var kubernetes = []string{"api/", "internal/speaker", "internal/mirror", "internal/routing", "internal/kube", "internal/view", "internal/controller/", "internal/plugin", "cmd/", "hack/docs", "test/"}

// pure packages know no clock but the times they are given, and do no I/O.
var pure = map[string][]string{
	"internal/lb":          {"net", "os", "io", "context", "sync"},
	"internal/allocator":   {"net", "os", "io", "context", "sync"},
	"internal/bfd/session": {"net", "os", "io", "context", "sync", "math/rand/v2"},
	"internal/election":    {"net", "os", "io", "context", "sync", "time"},
	"internal/plan":        {"net", "os", "io", "context", "sync", "time"},
}

func TestImportsPointDown(t *testing.T) {
	for pkg, imports := range packages(t) {
		own := lineOf(pkg)
		if own < 0 && !strings.HasPrefix(pkg, "test/") && pkg != "internal/layers" {
			t.Errorf("%s is in no line; put it into the one where it belongs (internal/layers)", pkg)
		}
		for _, i := range imports {
			local, isLocal := strings.CutPrefix(i, module)
			if line := lineOf(local); isLocal && own >= 0 && (line < 0 || line >= own) {
				t.Errorf("%s imports %s, which is not in a line below it: what it needs from there belongs further down", pkg, local)
			}
			checkLibrary(t, pkg, i)
		}
	}
}

func checkLibrary(t *testing.T, pkg, imported string) {
	t.Helper()
	for library, owners := range onlyIn {
		if (imported == library || strings.HasPrefix(imported, library+"/")) && !slices.Contains(owners, pkg) {
			t.Errorf("%s imports %s; only %v may, so that it can be replaced in one place", pkg, library, owners)
		}
	}
	isKubernetes := strings.HasPrefix(imported, "k8s.io/") || strings.HasPrefix(imported, "sigs.k8s.io/")
	if isKubernetes && !slices.ContainsFunc(kubernetes, func(p string) bool { return strings.HasPrefix(pkg, p) }) {
		t.Errorf("%s imports %s; translate Kubernetes' types in internal/kube, and speak internal/lb here", pkg, imported)
	}
	if slices.Contains(pure[pkg], imported) {
		t.Errorf("%s imports %s; it decides and must stay pure: hand it in", pkg, imported)
	}
}

func lineOf(pkg string) int {
	return slices.IndexFunc(lines, func(l []string) bool { return slices.Contains(l, pkg) })
}

// packages returns this module's packages with what their code, not their
// tests, imports.
func packages(t *testing.T) map[string][]string {
	cmd := exec.Command("go", "list", "-f", `{{.ImportPath}} {{join .Imports " "}}`, "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	found := map[string][]string{}
	for line := range strings.Lines(string(out)) {
		fields := strings.Fields(line)
		if pkg, ok := strings.CutPrefix(fields[0], module); ok {
			found[pkg] = fields[1:]
		}
	}
	if len(found) < 10 {
		t.Fatalf("found only %d packages", len(found))
	}
	return found
}
