// Package plugin is `kubectl fairlead`: it shows, explains and operates Fairlead
// with nothing but a person's kubeconfig.
package plugin

import (
	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"

	"github.com/fairlead-lb/fairlead/internal/plugin/addresses"
	"github.com/fairlead-lb/fairlead/internal/plugin/bundle"
	"github.com/fairlead-lb/fairlead/internal/plugin/doctor"
	"github.com/fairlead-lb/fairlead/internal/plugin/explain"
	"github.com/fairlead-lb/fairlead/internal/plugin/importer"
	"github.com/fairlead-lb/fairlead/internal/plugin/moves"
	"github.com/fairlead-lb/fairlead/internal/plugin/status"
	"github.com/fairlead-lb/fairlead/internal/plugin/ui"
)

// commands are all there are, in the order in which help lists them.
var commands = []func(*genericclioptions.ConfigFlags, genericiooptions.IOStreams) *cobra.Command{
	status.Command,
	addresses.Command,
	explain.Command,
	doctor.Command,
	ui.Command,
	moves.Drain,
	moves.Undrain,
	moves.MoveTo,
	moves.Rebalance,
	moves.Drill,
	importer.Command,
	bundle.Command,
	versionCommand,
}

// Command returns the plugin's root command.
func Command(streams genericiooptions.IOStreams) *cobra.Command {
	cobra.EnableCommandSorting = false
	flags := genericclioptions.NewConfigFlags(true)
	root := &cobra.Command{
		Use:   "kubectl-fairlead",
		Short: "See, explain and operate Fairlead, the LoadBalancer of this cluster",
		Long: "See, explain and operate Fairlead, the LoadBalancer of this cluster.\n\n" +
			"It needs nothing but your kubeconfig, and the right to read; drain, undrain, move,\nrebalance and drill change annotations of Speakers.",
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl fairlead"},
		SilenceUsage:  true, // an error about the cluster is none about the command line
		SilenceErrors: true, // main prints it
	}
	root.SetOut(streams.Out)
	root.SetErr(streams.ErrOut)
	flags.AddFlags(root.PersistentFlags())
	for _, command := range commands {
		root.AddCommand(command(flags, streams))
	}
	return root
}
