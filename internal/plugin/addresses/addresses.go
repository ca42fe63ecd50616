// Package addresses lists who has which address.
package addresses

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// Report is who has which address.
type Report struct {
	Addresses []Row    `json:"addresses"`
	Unread    []string `json:"unread,omitempty"`
}

// Row is an address.
type Row struct {
	Address  netip.Addr  `json:"address"`
	Services []string    `json:"services,omitempty"` // several, if it is shared
	Pool     string      `json:"pool"`
	Claim    string      `json:"claim,omitempty"`
	Retiring bool        `json:"retiring,omitempty"`
	Since    metav1.Time `json:"since,omitzero"` // when the first of the Services got it, or the claim
	Layer2   string      `json:"layer2,omitempty"`
	BGP      []string    `json:"bgp,omitempty"` // the nodes that announce it to routers
	Owned    metav1.Time `json:"ownedSince,omitzero"`
	Why      string      `json:"reason,omitempty"` // why no node announces it

	age, owned string
}

// New makes the report of what Services of the namespace have; "" is all.
func New(c *cluster.Cluster, namespace string) *Report {
	r := &Report{Addresses: []Row{}, Unread: c.Unread}
	for _, a := range c.Addresses() {
		if g, ok := c.Grant(a); ok && inNamespace(c.Users[a], namespace) {
			r.Addresses = append(r.Addresses, row(c, g))
		}
	}
	for i := range c.Claims {
		claim := &c.Claims[i]
		if namespace != "" && claim.Namespace != namespace {
			continue
		}
		addrs, pools := kube.ClaimAddresses(claim)
		ready, _ := cluster.Ready(claim.Status.Conditions)
		for _, a := range addrs {
			if len(c.Users[a]) == 0 { // or it is there already
				r.Addresses = append(r.Addresses, Row{
					Address: a, Pool: cmp.Or(pools[a], claim.Status.Pool), Claim: claim.Namespace + "/" + claim.Name,
					Since: ready.LastTransitionTime, age: c.Age(ready.LastTransitionTime),
				})
			}
		}
	}
	slices.SortFunc(r.Addresses, func(x, y Row) int { return x.Address.Compare(y.Address) })
	return r
}

func inNamespace(users []lb.Assignment, namespace string) bool {
	return namespace == "" || slices.ContainsFunc(users, func(as lb.Assignment) bool { return as.Service.Namespace == namespace })
}

// row tells of an address that Services have.
func row(c *cluster.Cluster, g lb.Grant) Row {
	found := c.Announcement(g)
	r := Row{Address: g.Addr, Pool: g.Pool, Retiring: !c.PoolHas(g.Pool, g.Addr), Layer2: found.Layer2.Owner.Node, BGP: found.BGP.From}
	for _, u := range found.Users {
		r.Services = append(r.Services, u.Service.String())
		if svc := c.Service(u.Service); svc != nil {
			if said := kube.AssignedCondition(svc); said != nil && (r.Since.IsZero() || said.LastTransitionTime.Before(&r.Since)) {
				r.Since = said.LastTransitionTime
			}
		}
	}
	if claim := c.ClaimOf(g.Addr); claim != nil {
		r.Claim = claim.Namespace + "/" + claim.Name
	}
	if found.Layer2.Owner.Node != "" {
		r.Owned, r.owned = found.Layer2.Owner.Since, c.Age(found.Layer2.Owner.Since)
	}
	if why := found.Why(); why != 0 {
		r.Why = why.String()
	}
	r.age = c.Age(r.Since)
	return r
}

// orders are the columns to sort by. Equal ones are sorted by address.
var orders = map[string]func(x, y Row) int{
	"address": func(x, y Row) int { return x.Address.Compare(y.Address) },
	"service": func(x, y Row) int { return slices.Compare(x.Services, y.Services) },
	"pool":    func(x, y Row) int { return cmp.Compare(x.Pool, y.Pool) },
	"node":    func(x, y Row) int { return cmp.Compare(x.Layer2, y.Layer2) },
	"since":   func(x, y Row) int { return y.Since.Compare(x.Since.Time) }, // the latest first
	"moved":   func(x, y Row) int { return y.Owned.Compare(x.Owned.Time) },
}

// columns are the names of the orders.
var columns = []string{"address", "service", "pool", "node", "since", "moved"}

// Sort sorts the report by a column.
func (r *Report) Sort(by string) error {
	order, ok := orders[by]
	if !ok {
		return fmt.Errorf("--sort-by %s: write one of %s", by, strings.Join(columns, ", "))
	}
	slices.SortStableFunc(r.Addresses, order)
	return nil
}

// Kind names the report.
func (r *Report) Kind() string { return "AddressList" }

// Text writes the report.
func (r *Report) Text(p *term.Page, wide bool) {
	if len(r.Addresses) == 0 {
		p.Line(term.Say("No Service of Fairlead's has an address."))
	} else {
		var rows [][]term.Text
		for i := range r.Addresses {
			rows = append(rows, r.Addresses[i].cells(wide))
		}
		header := []string{"ADDRESS", "SERVICE", "POOL", "SINCE", "ANNOUNCED BY", "NOTES"}
		if wide {
			header = []string{"ADDRESS", "SERVICE", "POOL", "SINCE", "ANNOUNCED BY", "FOR", "NOTES"}
		}
		p.Table(0, header, rows)
	}
	for _, u := range r.Unread {
		p.Line(term.In(term.Warn, "could not read %s", u))
	}
}

// few is how many nodes a row names.
const few = 3

func (r *Row) cells(wide bool) []term.Text {
	var by []string
	if r.Layer2 != "" {
		by = append(by, r.Layer2)
	}
	if len(r.BGP) > 0 {
		by = append(by, "BGP: "+kube.Some(r.BGP, few))
	}
	announced := term.Say("%s", strings.Join(by, ", "))
	switch {
	case r.Why != "":
		announced = term.In(term.Bad, "no node: %s", r.Why)
	case len(r.Services) == 0:
		announced = term.In(term.Faint, "-")
	}
	cells := []term.Text{
		term.Say("%s", r.Address), term.Say("%s", cmp.Or(strings.Join(r.Services, ","), "-")), term.Say("%s", r.Pool),
		term.Say("%s", r.age), announced,
	}
	if wide {
		cells = append(cells, term.Say("%s", cmp.Or(r.owned, "-")))
	}
	return append(cells, term.In(term.Faint, "%s", strings.Join(r.notes(), ", ")))
}

func (r *Row) notes() (out []string) {
	if len(r.Services) > 1 {
		out = append(out, "shared")
	}
	if r.Claim != "" {
		out = append(out, "claim "+r.Claim)
	}
	if r.Retiring {
		out = append(out, "retiring")
	}
	return out
}

// Command returns the command.
func Command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := cli.New(flags, streams)
	sortBy, all := columns[0], false
	cmd := &cobra.Command{
		Use: "addresses", Aliases: []string{"addrs"}, Args: cobra.NoArgs,
		Short: "List addresses, the Services that have them, and the nodes that announce them",
		Long:  "List addresses with pool, Service, age and announcing node. Without -n, of all namespaces.",
		RunE: func(cmd *cobra.Command, _ []string) error {
			namespace := *flags.Namespace // that of the kubeconfig would hide most
			if all && namespace != "" {
				return errors.New("set only one of --namespace and --all-namespaces")
			}
			c, err := o.Cluster(cmd.Context())
			if err != nil {
				return err
			}
			r := New(c, namespace)
			if err := r.Sort(sortBy); err != nil {
				return err
			}
			return o.Print(r)
		},
	}
	o.Register(cmd)
	o.RegisterFormat(cmd)
	cmd.Flags().BoolVarP(&all, "all-namespaces", "A", false, "of all namespaces, as it is without --namespace")
	cmd.Flags().StringVar(&sortBy, "sort-by", sortBy, strings.Join(columns, ", "))
	_ = cmd.RegisterFlagCompletionFunc("sort-by", cobra.FixedCompletions(columns, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
	return cmd
}
