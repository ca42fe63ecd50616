// Package cli is what the plugin's commands have in common: the flags that people
// know from kubectl, how the cluster is read, and how a report is printed.
package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/fairlead-lb/fairlead/api/v1alpha1"
	"github.com/fairlead-lb/fairlead/internal/clockcheck"
	"github.com/fairlead-lb/fairlead/internal/kube"
	"github.com/fairlead-lb/fairlead/internal/plugin/cluster"
	"github.com/fairlead-lb/fairlead/internal/version"
)

// Options are the flags of a command that reads the cluster, and what follows from
// them.
type Options struct {
	genericiooptions.IOStreams
	Install cluster.Install
	Format  string // of what is printed: "" and "wide" are text

	flags *genericclioptions.ConfigFlags
	clock *clockcheck.Watch // this machine's
}

// New returns the options of a command, with their defaults.
func New(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *Options {
	return &Options{IOStreams: streams, flags: flags, clock: clockcheck.New()}
}

// Register defines the flags of a command that reads the cluster.
func (o *Options) Register(cmd *cobra.Command) {
	f := cmd.Flags()
	f.StringVar(&o.Install.Namespace, "system-namespace", "fairlead-system", "the namespace that Fairlead is installed in")
	f.StringVar(&o.Install.Class.Name, "load-balancer-class", v1alpha1.LoadBalancerClass, "the spec.loadBalancerClass of Fairlead, if its programs were started with another one")
	f.BoolVar(&o.Install.Class.Classless, "handle-classless", true, "Fairlead handles Services without a class; set as for its programs")
	if cmd.ValidArgsFunction == nil {
		cmd.ValidArgsFunction = cobra.NoFileCompletions
	}
}

// RegisterFormat defines the flag that says how a report is printed.
func (o *Options) RegisterFormat(cmd *cobra.Command) {
	cmd.Flags().StringVarP(&o.Format, "output", "o", "", "json, yaml, wide, or a template as of kubectl get (jsonpath=…, go-template=…)")
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"json", "yaml", "wide"}, cobra.ShellCompDirectiveNoFileComp)) // fails only for a flag that is not there
}

// Config says how to reach the API server that the flags and the kubeconfig say.
func (o *Options) Config() (*rest.Config, error) {
	cfg, err := o.flags.ToRESTConfig()
	if err != nil {
		return nil, err // it names the file and the context
	}
	cfg.QPS = -1 // a report is a dozen lists at once
	cfg.UserAgent = "kubectl-fairlead/" + version.String()
	cfg.Wrap(o.clock.Wrap)
	return cfg, nil
}

// Client returns a client of the API server.
func (o *Options) Client() (client.Client, error) {
	cfg, err := o.Config()
	if err != nil {
		return nil, err
	}
	c, err := client.New(cfg, client.Options{Scheme: kube.NewScheme()})
	if err != nil {
		return nil, fmt.Errorf("reach the API server: %w", err)
	}
	return c, nil
}

// Context returns the name that the kubeconfig has for the cluster and its user; ""
// where there is none.
func (o *Options) Context() string {
	if o.flags.Context != nil && *o.flags.Context != "" {
		return *o.flags.Context
	}
	raw, err := o.flags.ToRawKubeConfigLoader().RawConfig()
	if err != nil {
		return "" // whoever reads the cluster says why
	}
	return raw.CurrentContext
}

// Namespace returns the namespace that the flags and the kubeconfig say.
func (o *Options) Namespace() (string, error) {
	namespace, _, err := o.flags.ToRawKubeConfigLoader().Namespace()
	return namespace, err
}

// Cluster reads the cluster.
func (o *Options) Cluster(ctx context.Context) (*cluster.Cluster, error) {
	c, err := o.Client()
	if err != nil {
		return nil, err
	}
	return o.Read(ctx, c)
}

// Read reads the cluster by a client that is there already.
func (o *Options) Read(ctx context.Context, c client.Reader) (*cluster.Cluster, error) {
	objects, err := cluster.Read(ctx, c, o.Install)
	if err != nil {
		return nil, err
	}
	objects.Ahead = o.clock.Verdict().Ahead
	objects.Read = objects.Read.Add(-objects.Ahead)
	return cluster.New(objects, o.Install), nil
}

// Watch has a report made and printed every so often until ctx ends, on a clear
// screen where there is one.
func (o *Options) Watch(ctx context.Context, every time.Duration, report func() (Report, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		r, err := report()
		if ctx.Err() != nil {
			return nil //nolint:nilerr // the user has seen enough
		}
		if err != nil {
			return err
		}
		o.clear()
		if err := o.Print(r); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
