package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"
)

// Names completes the first argument with the names of the objects of a kind. Those of
// a kind that has namespaces are of the namespace that the flags say.
func (o *Options) Names(list func() client.ObjectList, namespaced bool) cobra.CompletionFunc {
	return func(cmd *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		names, err := o.names(cmd, list(), namespaced)
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		var out []string
		for _, name := range names {
			if strings.HasPrefix(name, begun) {
				out = append(out, name)
			}
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func (o *Options) names(cmd *cobra.Command, list client.ObjectList, namespaced bool) (names []string, err error) {
	c, err := o.Client()
	if err != nil {
		return nil, err
	}
	var in []client.ListOption
	if namespaced {
		namespace, err := o.Namespace()
		if err != nil {
			return nil, err
		}
		in = append(in, client.InNamespace(namespace))
	}
	if err := c.List(cmd.Context(), list, in...); err != nil {
		return nil, err
	}
	objects, err := meta.ExtractList(list)
	if err != nil {
		return nil, err
	}
	for _, object := range objects {
		if o, err := meta.Accessor(object); err == nil {
			names = append(names, o.GetName())
		}
	}
	return names, nil
}
