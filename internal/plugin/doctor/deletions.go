package doctor

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
)

// waitsForController reports whether the object's deletion waits for a controller to remove
// a finalizer, and no controller is active.
func waitsForController(c *cluster.Cluster, o client.Object) bool {
	why, _ := c.Leaderless()
	return why != "" && o.GetDeletionTimestamp() != nil && slices.ContainsFunc(o.GetFinalizers(), isOurs)
}

func isOurs(finalizer string) bool {
	return finalizer == v1alpha1.FinalizerPoolInUse || finalizer == v1alpha1.FinalizerClaimInUse
}

// hanging is objects that one kubectl command can release.
type hanging struct {
	kind, namespace, patch string
	objects                []client.Object
}

// deletions finds objects whose deletion does not end, as after an uninstallation that
// removed the controller first. The deletion of their namespace and of their CRD waits too.
func deletions(c *cluster.Cluster) (out []Finding) {
	var groups []*hanging
	add := func(kind string, o client.Object) {
		if !waitsForController(c, o) {
			return
		}
		h := &hanging{kind: kind, namespace: o.GetNamespace(), patch: patchOf(o)}
		i := slices.IndexFunc(groups, func(g *hanging) bool {
			return g.kind == h.kind && g.namespace == h.namespace && g.patch == h.patch
		})
		if i < 0 {
			i, groups = len(groups), append(groups, h)
		}
		groups[i].objects = append(groups[i].objects, o)
	}
	for i := range c.Pools {
		add("IPAddressPool", &c.Pools[i])
	}
	for i := range c.Claims {
		add("IPAddressClaim", &c.Claims[i])
	}
	for _, g := range groups {
		out = append(out, g.finding(c))
	}
	return out
}

func (h *hanging) finding(c *cluster.Cluster) Finding {
	f := Finding{Severity: Problem, Says: "the deletion does not end: it waits for a controller, and none is active"}
	var names []string
	for _, o := range h.objects {
		name := o.GetName()
		names = append(names, name)
		if h.namespace != "" {
			name = h.namespace + "/" + name
		}
		f.About = append(f.About, h.kind+" "+name)
		if len(f.Evidence) < few {
			f.Evidence = append(f.Evidence, fmt.Sprintf("%s %s was deleted %s ago and has the finalizer %s",
				h.kind, name, c.Age(*o.GetDeletionTimestamp()), strings.Join(o.GetFinalizers(), ", ")))
		}
	}
	resource := strings.ToLower(h.kind)
	if h.namespace != "" {
		resource += " -n " + h.namespace
	}
	f.Fix = fmt.Sprintf("start a controller, which completes the deletion. If Fairlead is uninstalled, remove the finalizer: kubectl patch %s %s --type=merge -p '%s'",
		resource, strings.Join(names, " "), h.patch)
	return f
}

// patchOf returns the merge patch that removes our finalizers and keeps all others.
func patchOf(o client.Object) string {
	others := append([]string{}, slices.DeleteFunc(slices.Clone(o.GetFinalizers()), isOurs)...)
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"finalizers": others}})
	if err != nil {
		panic(err) // strings always encode
	}
	return string(patch)
}
