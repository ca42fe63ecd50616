package moves

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/plugin/reach"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
	"github.com/fairlead-lb/fairlead/internal/retry"
)

const (
	// lead is how long the address is asked before the order, so that a loss that
	// was there before is seen as one.
	lead = 500 * time.Millisecond
	// settling is how long it is asked after the move: neighbours are told of it
	// again for some time.
	settling = 2 * time.Second
)

// Measured is what a client, where the plugin runs, saw of a move.
type Measured struct {
	Address  netip.Addr `json:"address"`
	Port     int32      `json:"port"`
	From     string     `json:"from"`
	To       string     `json:"to"`
	Asked    int        `json:"asked"`
	Answered int        `json:"answered"`
	Gap      string     `json:"longestGap"`
}

// Drill returns the command that has an address change its owner on purpose, and
// measures what clients lose.
func Drill(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	back := false
	cmd := command(flags, streams, &cobra.Command{
		Use: "drill SERVICE", Args: cobra.ExactArgs(1),
		Short: "Have a Service's address fail over on purpose, and measure the outage",
		Long: "Have a Service's address fail over on purpose, to the node that would take it if its own were gone,\n" +
			"and measure the outage by TCP connections from where this runs. It is a hand-over, so nothing should be\n" +
			"lost: what is lost shows who on the way does not heed that an address moves.",
		Example: "  kubectl fairlead drill web -n shop --back",
	}, func(ctx context.Context, r *runner, args []string) error {
		namespace, err := r.o.Namespace()
		if err != nil {
			return err
		}
		d, err := rehearse(r.cluster, lb.ServiceKey{Namespace: namespace, Name: args[0]})
		if err != nil {
			return err
		}
		return r.drill(ctx, d, back)
	})
	cmd.Flags().BoolVar(&back, "back", false, "move the address back in the end, and measure that, too")
	cmd.ValidArgsFunction = cli.New(flags, streams).Names(func() client.ObjectList { return &corev1.ServiceList{} }, true)
	return cmd
}

// drill is what is to be tried out.
type drill struct {
	plan Plan
	at   netip.AddrPort // where clients connect to; invalid where the Service has no TCP port
}

// rehearse finds out which address of the Service goes where, or why none can.
func rehearse(c *cluster.Cluster, key lb.ServiceKey) (drill, error) {
	svc := c.Service(key)
	if svc == nil {
		return drill{}, fmt.Errorf("there is no Service %s; name its namespace by -n", key)
	}
	why := fmt.Errorf("no address of Service %s is announced by layer 2, so there is nothing to fail over; see kubectl fairlead explain service %s -n %s", key, key.Name, key.Namespace)
	for _, a := range kube.IngressAddresses(svc) {
		owner := c.View.Claims[a].Owner
		if owner == "" {
			continue
		}
		to, stays := successor(c, a, owner)
		if to == "" {
			why = fmt.Errorf("no other node than %s can announce %s: %s", owner, a, stays)
			continue
		}
		plan, err := take(c, to, []netip.Addr{a})
		return drill{plan: plan, at: tcp(svc, a)}, err
	}
	return drill{}, why
}

// successor returns the node that takes the address when its owner is gone, or why
// nobody does.
func successor(c *cluster.Cluster, a netip.Addr, owner string) (node, why string) {
	without := drain(c, owner)
	if i := slices.IndexFunc(without.Moves, func(m Move) bool { return m.Address == a }); i >= 0 {
		return without.Moves[i].To, ""
	}
	if i := slices.IndexFunc(without.Stays, func(s Stay) bool { return s.Address == a }); i >= 0 {
		return "", without.Stays[i].Why
	}
	return "", "the speaker of " + owner + " is not alive"
}

// tcp is where clients connect to the Service's first TCP port.
func tcp(svc *corev1.Service, a netip.Addr) netip.AddrPort {
	for _, p := range svc.Spec.Ports {
		if p.Protocol == corev1.ProtocolTCP || p.Protocol == "" {
			return netip.AddrPortFrom(a, uint16(p.Port)) //nolint:gosec // the API server allows 1 to 65535
		}
	}
	return netip.AddrPort{}
}

// drill says what will happen, asks, and has it happen: there, and back if that is
// wanted.
func (r *runner) drill(ctx context.Context, d drill, back bool) error {
	there := d.plan.Moves[0]
	reached := r.probe(ctx, d.at)
	what := fmt.Sprintf("%s, which comes next after %s, is to take over", there.To, there.From)
	if back {
		what += " and then to give back"
	}
	if goOn, err := r.propose(headline(what, d.plan), d.plan); err != nil || !goOn {
		return err
	}
	if err := r.leg(ctx, there, d.at, reached); err != nil || !back {
		return err
	}
	return r.leg(ctx, Move{Address: there.Address, From: there.To, To: there.From, Services: there.Services}, d.at, reached)
}

// probe reports whether the address takes connections from here, and says so.
func (r *runner) probe(ctx context.Context, at netip.AddrPort) bool {
	const instead = "only the duration of the move, as the speakers report it, is shown"
	if !at.IsValid() {
		r.page.Line(term.In(term.Warn, "The Service has no TCP port to connect to: %s", instead))
		return false
	}
	if err := reach.Once(ctx, r.dialer, at); err != nil {
		r.page.Line(term.In(term.Warn, "It cannot be reached from here (%v): %s", err, instead))
		return false
	}
	r.page.Line(term.Say("%s takes connections from here; it is asked for one every %s", at, reach.Every))
	return true
}

// leg has one move made, and tells what became of connections meanwhile.
func (r *runner) leg(ctx context.Context, m Move, at netip.AddrPort, reached bool) error {
	if !reached {
		return r.take(ctx, m.To, []Move{m})
	}
	asking, stop := context.WithCancel(ctx)
	defer stop()
	seen := make(chan reach.Report, 1)
	go func() { seen <- reach.Measure(asking, r.dialer, at) }()
	_ = retry.Sleep(ctx, lead)
	err := r.take(ctx, m.To, []Move{m})
	if err == nil {
		_ = retry.Sleep(ctx, settling)
	}
	stop()
	r.measured(m, at, <-seen)
	return err
}

// measured tells what was seen of a move.
func (r *runner) measured(m Move, at netip.AddrPort, seen reach.Report) {
	r.result.Measured = append(r.result.Measured, Measured{
		Address: m.Address, Port: int32(at.Port()), From: m.From, To: m.To, Asked: seen.Asked, Answered: seen.Answered, Gap: seen.Gap.String(),
	})
	if seen.Asked == seen.Answered {
		r.page.Line(term.In(term.Good, "✓"), term.Say("from %s to %s, all %d connections were taken", m.From, m.To, seen.Asked))
		return
	}
	r.page.Line(term.In(term.Bad, "✗"), term.Say("from %s to %s, %d of %d connections were not taken; the longest time without was %s",
		m.From, m.To, seen.Asked-seen.Answered, seen.Asked, seen.Gap.Round(time.Millisecond)))
}
