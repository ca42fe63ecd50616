package importer

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/client-go/dynamic"
)

// options are the command line of one import.
type options struct {
	flags   *genericclioptions.ConfigFlags
	streams genericiooptions.IOStreams

	files     []string
	apply     bool
	force     bool
	passwords bool
	namespace string // Fairlead's
	peersOn   string // a label of nodes
}

// Command returns the command "import", with one below it for each load balancer
// that it knows. The flags say which cluster, as kubectl's own do.
func Command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	c := &cobra.Command{
		Use:   "import",
		Short: "Write Fairlead's configuration from another load balancer's",
		Long: `Writes Fairlead's configuration from another load balancer's: reads its objects from the cluster, or from files,
and prints Fairlead's, with comments for what has no counterpart. Nothing is changed without --apply.`,
	}
	for _, s := range systems {
		c.AddCommand(command(s, flags, streams))
	}
	return c
}

func command(s *system, flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := &options{flags: flags, streams: streams}
	c := &cobra.Command{
		Use:          s.command,
		Short:        "Write Fairlead's configuration from " + s.name + "'s",
		Example:      s.example,
		Args:         cobra.NoArgs,
		SilenceUsage: true,
		RunE:         func(c *cobra.Command, _ []string) error { return o.run(c.Context(), s) },
	}
	f := c.Flags()
	f.StringArrayVarP(&o.files, "filename", "f", nil, `read this file in place of the cluster; "-" is stdin; may be repeated`)
	f.BoolVar(&o.apply, "apply", false, "write the objects to the cluster by server-side apply, in place of printing them")
	f.BoolVar(&o.force, "force-conflicts", false, "with --apply: overwrite what others have written of the same objects")
	f.BoolVar(&o.passwords, "passwords", false, "print Secrets with passwords too")
	f.StringVar(&o.peersOn, "peers-on", "", "have BGPPeers on nodes with this `label` only, \"key=value\", to move node by node; import again without it at the end")
	f.StringVar(&o.namespace, "fairlead-namespace", "fairlead-system", "the namespace of Fairlead, where Secrets with passwords go")
	return c
}

func (o *options) run(ctx context.Context, s *system) error {
	var api dynamic.Interface
	if o.apply || len(o.files) == 0 {
		config, err := o.flags.ToRESTConfig()
		if err != nil {
			return err
		}
		config.QPS, config.Burst = 50, 300 // as kubectl does: the default is for controllers
		if api, err = dynamic.NewForConfig(config); err != nil {
			return err
		}
	}
	objects, err := o.read(ctx, api, s)
	if err != nil {
		return err
	}
	t := s.translate(objects, o.namespace)
	if o.peersOn != "" {
		key, value, ok := strings.Cut(o.peersOn, "=")
		if !ok || key == "" {
			return fmt.Errorf("--peers-on: %q is no label; write one like fairlead.dev/moved=true", o.peersOn)
		}
		t.keepPeersOn(key, value)
	}
	if o.apply {
		return t.apply(ctx, api, o.force, o.streams.Out)
	}
	return t.write(o.streams.Out, s, o.passwords)
}

// read reads the objects of a system. Files may have others too, which are passed
// over.
func (o *options) read(ctx context.Context, api dynamic.Interface, s *system) (objects []unstructured.Unstructured, err error) {
	where := "the cluster"
	if len(o.files) > 0 {
		where = strings.Join(o.files, ", ")
		objects, err = readFiles(o.files, o.streams.In)
		objects = o.chosen(objects)
	} else {
		objects, err = readCluster(ctx, api, s, o.sourceNamespace())
	}
	if err != nil {
		return nil, err
	}
	for n := range objects {
		if s.relevant(&objects[n]) {
			return objects, s.check(objects)
		}
	}
	return nil, fmt.Errorf("nothing of %s is in %s", s.name, where)
}

// sourceNamespace is the namespace that the user named, if any. That of the context
// does not count: it is rarely the one of a load balancer.
func (o *options) sourceNamespace() string {
	if o.flags.Namespace == nil {
		return ""
	}
	return *o.flags.Namespace
}

// chosen leaves out objects of other namespaces than that which the user named.
func (o *options) chosen(all []unstructured.Unstructured) (out []unstructured.Unstructured) {
	for _, object := range all {
		if ns := o.sourceNamespace(); ns == "" || object.GetNamespace() == "" || object.GetNamespace() == ns {
			out = append(out, object)
		}
	}
	return out
}
