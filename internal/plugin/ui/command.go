// Package ui shows Fairlead as a page in a browser, which follows the cluster while
// it changes.
//
// The page is served to the machine that it runs on, by its user's rights, and can
// change nothing. What it says is what other commands say, by the same code.
package ui

import (
	"context"
	"fmt"
	"net"
	"os/exec"
	"runtime"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/cli-runtime/pkg/genericclioptions"
	"k8s.io/cli-runtime/pkg/genericiooptions"
	"k8s.io/klog/v2"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/fairlead-lb/fairlead/internal/plugin/cli"
)

// Command returns the command.
func Command(flags *genericclioptions.ConfigFlags, streams genericiooptions.IOStreams) *cobra.Command {
	o := cli.New(flags, streams)
	port, open := 0, true
	cmd := &cobra.Command{
		Use: "ui", Args: cobra.NoArgs,
		Short: "Show it as a page in a browser: maps of the pools, nodes, sessions, what moved",
		Long: "Show Fairlead as a page in a browser, which follows the cluster while it changes.\n\n" +
			"The page is served on 127.0.0.1 until the command ends. It shows what your kubeconfig\nmay read, to every program that can reach that port on this machine, and changes nothing.",
		RunE: func(cmd *cobra.Command, _ []string) error { return run(cmd.Context(), o, port, open) },
	}
	o.Register(cmd)
	cmd.Flags().IntVar(&port, "port", port, "the port to serve on; 0 is any that is free")
	cmd.Flags().BoolVar(&open, "open", open, "open the page in the browser of this machine, if it has one")
	return cmd
}

// run serves the page until ctx ends.
func run(ctx context.Context, o *cli.Options, port int, open bool) error {
	log.SetLogger(logr.Discard()) // what goes wrong is said on the page
	klog.SetLogger(logr.Discard())
	cfg, err := o.Config()
	if err != nil {
		return err
	}
	cluster, err := newLive(cfg)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return fmt.Errorf("--port %d: %w; without --port, a free one is taken", port, err)
	}
	defer listener.Close()
	p := newPage(o.Context(), o.Install)
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return cluster.watches.Start(ctx) })
	g.Go(func() error {
		if err := p.look(ctx, cluster); ctx.Err() != nil || err != nil {
			return err
		}
		url := fmt.Sprintf("http://%s/", listener.Addr())
		fmt.Fprintf(o.Out, "%s shows %s, until Ctrl-C\n", url, o.Context())
		if open {
			browse(url)
		}
		g.Go(func() error { return serve(ctx, listener, handler(p, listener.Addr().(*net.TCPAddr).Port)) })
		return p.follow(ctx, cluster, cluster.changed)
	})
	return g.Wait()
}

// browse opens the page. Without a browser the user has the address to open elsewhere.
func browse(url string) {
	argv := []string{"xdg-open", url}
	switch runtime.GOOS {
	case "darwin":
		argv = []string{"open", url}
	case "windows":
		argv = []string{"rundll32", "url.dll,FileProtocolHandler", url}
	}
	cmd := exec.Command(argv[0], argv[1:]...) // it stays when the command ends
	if cmd.Start() == nil {
		_ = cmd.Process.Release() // nobody waits for it
	}
}
