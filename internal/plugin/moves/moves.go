package moves

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
	"github.com/fairlead-lb/fairlead/internal/plugin/term"
)

// once is the value of annotations that need none.
const once = "now"

// command returns a command that moves addresses.
func command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams, cmd *cobra.Command, run func(context.Context, *runner, []string) error) *cobra.Command {
	r := &runner{o: cli.New(flags, streams), dialer: &net.Dialer{}}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := r.begin(cmd.Context()); err != nil {
			return err
		}
		if err := run(cmd.Context(), r, args); err != nil {
			return err
		}
		return errors.Join(r.page.Err(), r.o.Print(&r.result))
	}
	cmd.ValidArgsFunction = r.o.Names(func() client.ObjectList { return &v1alpha1.SpeakerList{} }, false)
	r.o.Register(cmd)
	r.o.RegisterFormat(cmd)
	cmd.Flags().BoolVarP(&r.yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&r.dry, "dry-run", false, "print what would happen, and change nothing")
	cmd.Flags().DurationVar(&r.timeout, "timeout", time.Minute, "how long to watch it happen")
	return cmd
}

// Drain returns the command that has others announce what a node does.
func Drain(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	reason := "by kubectl fairlead drain"
	cmd := command(flags, streams, &cobra.Command{
		Use: "drain NODE", Args: cobra.ExactArgs(1),
		Short: "Have the other nodes announce what this one does, until undrain",
		Long: "Have the other nodes announce what this one does, until undrain. Each address is announced\n" +
			"by its next owner before this node stops; routers are asked to prefer other nodes before its routes go.",
		Example: `  kubectl fairlead drain n2 --reason "disk swap"`,
	}, func(ctx context.Context, r *runner, args []string) error {
		node := args[0]
		switch sp := r.cluster.Speaker(node); {
		case sp == nil:
			return fmt.Errorf("node %s has no Speaker; those there are: %s", node, nodes(r))
		case kube.Orders(sp).Drain:
			r.page.Line(term.Say("%s is drained already.", node))
			return nil
		}
		plan := drain(r.cluster, node)
		if goOn, err := r.propose(headline(node+" is to announce nothing more", plan), plan); err != nil || !goOn {
			return err
		}
		if err := r.annotate(ctx, node, v1alpha1.AnnotationDrain, &reason); err != nil {
			return err
		}
		if err := r.follow(ctx, plan.Moves, gone(node, plan)); err != nil {
			return err
		}
		r.page.Line(term.Say("%s is drained, after %s; when it is back: kubectl fairlead undrain %s", node, r.result.Took, node))
		return nil
	})
	cmd.Flags().StringVar(&reason, "reason", reason, "why, for those who look at it later")
	return cmd
}

// headline says how many addresses will move.
func headline(what string, plan Plan) string {
	switch n := len(plan.Moves); n {
	case 0:
		return what + "; no address moves"
	case 1:
		return what + "; one address moves:"
	default:
		return fmt.Sprintf("%s; %d addresses move:", what, n)
	}
}

func nodes(r *runner) string {
	var names []string
	for i := range r.cluster.Speakers {
		names = append(names, r.cluster.Speakers[i].Name)
	}
	return kube.Some(names, 10)
}

// Undrain returns the command that ends Drain.
func Undrain(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	return command(flags, streams, &cobra.Command{
		Use: "undrain NODE", Args: cobra.ExactArgs(1),
		Short: "Let a node that was drained announce again",
	}, func(ctx context.Context, r *runner, args []string) error {
		node := args[0]
		sp := r.cluster.Speaker(node)
		switch {
		case sp == nil:
			return fmt.Errorf("node %s has no Speaker; those there are: %s", node, nodes(r))
		case !kube.Orders(sp).Drain:
			r.page.Line(term.Say("%s is not drained.", node))
			return nil
		}
		plan := Plan{Moves: []Move{}}
		says := node + " may announce again. No address moves back by itself; for its share: kubectl fairlead rebalance " + node
		if goOn, err := r.propose(says, plan); err != nil || !goOn {
			return err
		}
		if err := r.annotate(ctx, node, v1alpha1.AnnotationDrain, nil); err != nil {
			return err
		}
		r.page.Line(term.In(term.Good, "✓"), term.Say("%s participates again", node))
		return nil
	})
}

// MoveTo returns the command that moves addresses to a node.
func MoveTo(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	to := ""
	cmd := command(flags, streams, &cobra.Command{
		Use: "move ADDRESS... --to NODE", Args: cobra.MinimumNArgs(1),
		Short:   "Have a node announce an address, in place of the one that does",
		Example: `  kubectl fairlead move 192.0.2.10 --to n3`,
	}, func(ctx context.Context, r *runner, args []string) error {
		var addrs []netip.Addr
		for _, arg := range args {
			a, err := config.Address(arg)
			if err != nil {
				return err
			}
			addrs = append(addrs, a)
		}
		plan, err := take(r.cluster, to, addrs)
		if err != nil {
			return err
		}
		if len(plan.Moves) == 0 {
			r.page.Line(term.Say("%s announces %s already.", to, strings.Join(args, ", ")))
			return nil
		}
		if goOn, err := r.propose(headline(to+" is to take over", plan), plan); err != nil || !goOn {
			return err
		}
		return r.take(ctx, to, plan.Moves)
	})
	cmd.Flags().StringVar(&to, "to", "", "the node that is to announce it")
	_ = cmd.MarkFlagRequired("to") // fails only for a flag that is not there
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	return cmd
}

// take has a node take addresses over, and waits until it has.
func (r *runner) take(ctx context.Context, node string, moves []Move) error {
	return r.order(ctx, node, v1alpha1.AnnotationTake, list(moves), moves)
}

// order has the speaker of a node do something by an annotation, and waits until these
// moves are made.
func (r *runner) order(ctx context.Context, node, annotation, value string, moves []Move) error {
	if err := r.annotate(ctx, node, annotation, &value); err != nil {
		return err
	}
	return r.obeyed(ctx, node, annotation, moves)
}

// list joins the addresses as the annotation has them.
func list(moves []Move) string {
	var out []string
	for _, m := range moves {
		out = append(out, m.Address.String())
	}
	return strings.Join(out, ",")
}

// Rebalance returns the command that gives nodes their share.
func Rebalance(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	return command(flags, streams, &cobra.Command{
		Use: "rebalance [NODE...]", Args: cobra.ArbitraryArgs,
		Short: "Have nodes that announce little take some from those that announce much",
		Long: "Have nodes that announce little take some from those that announce much, until each has its share;\n" +
			"by default all nodes. It is one address a second, and each is announced by its next owner first.",
	}, func(ctx context.Context, r *runner, args []string) error {
		for _, node := range args {
			if _, alive := r.cluster.View.Speakers[node]; !alive {
				return fmt.Errorf("the speaker of node %s is not alive; those there are: %s", node, nodes(r))
			}
		}
		if len(args) == 0 {
			for node := range r.cluster.View.Speakers {
				args = append(args, node)
			}
		}
		plan, order := rebalance(r.cluster, args)
		if len(plan.Moves) == 0 {
			r.page.Line(term.Say("Nothing to do: no node has less than its share."))
			return nil
		}
		if goOn, err := r.propose(headline("nodes take their share", plan), plan); err != nil || !goOn {
			return err
		}
		for _, node := range order {
			mine := slices.DeleteFunc(slices.Clone(plan.Moves), func(m Move) bool { return m.To != node })
			if err := r.order(ctx, node, v1alpha1.AnnotationRebalance, once, mine); err != nil {
				return err
			}
		}
		return nil
	})
}
