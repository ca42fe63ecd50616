// Package explain says why an address is where it is, or is not: the whole chain
// from a Service's class to who announces it, and what to do next.
package explain

import (
	"context"
	"fmt"
	"slices"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/config"
	"github.com/fairlead-lb/fairlead/internal/lb"
	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
)

// Command returns the command.
func Command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say why an address is where it is, or is not, and what to do",
		Example: `  kubectl fairlead explain service web -n shop
  kubectl fairlead explain address 192.0.2.10
  kubectl fairlead explain pool lan
  kubectl fairlead explain peer router`,
	}
	cmd.AddCommand(
		one(flags, streams, "service NAME", "The whole chain: class, pools, address, advertisements, nodes", []string{"svc"},
			func() client.ObjectList { return &corev1.ServiceList{} }, explainService),
		one(flags, streams, "address IP", "Who has an address, and who announces it", []string{"ip"},
			nil, explainAddress),
		one(flags, streams, "pool NAME", "The addresses of a pool, for which Services, and which Services have them", nil,
			func() client.ObjectList { return &v1alpha1.IPAddressPoolList{} }, explainPool),
		one(flags, streams, "peer NAME", "What each node has to do with a router", nil,
			func() client.ObjectList { return &v1alpha1.BGPPeerList{} }, explainPeer),
	)
	return cmd
}

// subject makes the report about one object.
type subject func(ctx context.Context, o *cli.Options, name string) (cli.Report, error)

// one returns the command that explains one kind of object.
func one(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams, use, short string, aliases []string, kind func() client.ObjectList, about subject) *cobra.Command {
	o := cli.New(flags, streams)
	cmd := &cobra.Command{
		Use: use, Short: short, Aliases: aliases, Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			report, err := about(cmd.Context(), o, args[0])
			if err != nil {
				return err
			}
			return o.Print(report)
		},
	}
	if kind != nil {
		_, namespaced := kind().(*corev1.ServiceList)
		cmd.ValidArgsFunction = o.Names(kind, namespaced)
	}
	o.Register(cmd)
	o.RegisterFormat(cmd)
	return cmd
}

func explainService(ctx context.Context, o *cli.Options, name string) (cli.Report, error) {
	namespace, err := o.Namespace()
	if err != nil {
		return nil, err
	}
	c, err := o.Client()
	if err != nil {
		return nil, err
	}
	read, err := o.Read(ctx, c)
	if err != nil {
		return nil, err
	}
	key := lb.ServiceKey{Namespace: namespace, Name: name}
	events, err := eventsOf(ctx, c, key)
	if err != nil {
		read.Unread = append(read.Unread, err.Error())
	}
	return Service(read, key, events)
}

func explainAddress(ctx context.Context, o *cli.Options, text string) (cli.Report, error) {
	a, err := config.Address(text)
	if err != nil {
		return nil, err
	}
	c, err := o.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	return Address(c, a), nil
}

func explainPool(ctx context.Context, o *cli.Options, name string) (cli.Report, error) {
	c, err := o.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	return Pool(c, name)
}

func explainPeer(ctx context.Context, o *cli.Options, name string) (cli.Report, error) {
	c, err := o.Cluster(ctx)
	if err != nil {
		return nil, err
	}
	return Peer(c, name)
}

// eventsOf returns the events about a Service, latest first.
func eventsOf(ctx context.Context, c client.Reader, key lb.ServiceKey) ([]corev1.Event, error) {
	var list corev1.EventList
	err := c.List(ctx, &list, client.InNamespace(key.Namespace), client.MatchingFields{
		"involvedObject.kind": "Service", "involvedObject.name": key.Name,
	})
	if err != nil {
		return nil, fmt.Errorf("Events: %w", err)
	}
	slices.SortStableFunc(list.Items, func(x, y corev1.Event) int { return LastSeen(&y).Compare(LastSeen(&x).Time) })
	return list.Items, nil
}

// LastSeen is when the event happened last. Events have changed how they say that.
func LastSeen(e *corev1.Event) metav1.Time {
	switch {
	case e.Series != nil:
		return metav1.NewTime(e.Series.LastObservedTime.Time)
	case !e.EventTime.IsZero():
		return metav1.NewTime(e.EventTime.Time)
	default:
		return e.LastTimestamp
	}
}
